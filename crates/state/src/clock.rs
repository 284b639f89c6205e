//! The replicated clock and the wall time that rides along.

/// Both are set by batches alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clock {
    /// Milliseconds by which time-outs elapse; never falls.
    pub clock_ms: u64,
    /// Milliseconds since 1970, forced non-decreasing.
    pub wall_ms: u64,
}

impl Clock {
    /// Takes the times of the next batch.
    ///
    /// # Panics
    /// If the clock falls: a leader broke its promise, and leases would end early.
    pub fn advance(&mut self, clock_ms: u64, wall_ms: u64) {
        assert!(
            clock_ms >= self.clock_ms,
            "the replicated clock falls: {} → {clock_ms}",
            self.clock_ms
        );
        self.clock_ms = clock_ms;
        self.wall_ms = self.wall_ms.max(wall_ms);
    }
}
