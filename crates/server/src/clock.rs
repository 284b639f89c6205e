//! The two clocks of a member: monotonic, by which everything elapses, and wall, which only rides along.

use raft::Instant;
use replica::Now;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Reads both clocks. The origin is the start of the process; instants of different members are never compared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: std::time::Instant,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock {
            origin: std::time::Instant::now(),
        }
    }

    /// The time of a turn, to be read once per turn.
    pub(crate) fn now(&self) -> Now {
        let wall_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64);
        Now {
            monotonic: self.monotonic(),
            wall_ms,
        }
    }

    /// Monotonic time alone. Starts at a second, so that "a little before the start" can be expressed.
    pub(crate) fn monotonic(&self) -> Instant {
        Instant(1_000_000 + self.origin.elapsed().as_micros() as u64)
    }

    /// The runtime's name for an instant of this clock.
    pub(crate) fn deadline(&self, at: Instant) -> tokio::time::Instant {
        tokio::time::Instant::from_std(
            self.origin + Duration::from_micros(at.0.saturating_sub(1_000_000)),
        )
    }
}
