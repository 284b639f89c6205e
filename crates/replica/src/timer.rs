//! One timer for everything: consensus, lease deadlines, requests that wait, transfers.

use raft::Instant;

/// What the shell was told, and what consensus wants.
#[derive(Default)]
pub(crate) struct Timer {
    /// When consensus wants to be called.
    pub(crate) consensus: Option<Instant>,
    armed: Option<Instant>,
}

impl Timer {
    /// The shell's timer fired (or another call showed that it is past): it must be set anew.
    pub(crate) fn fired(&mut self) {
        self.armed = None;
    }

    /// Consensus is due: takes its time.
    pub(crate) fn consensus_due(&mut self, now: Instant) -> bool {
        let due = self.consensus.is_some_and(|at| at <= now);
        if due {
            self.consensus = None;
        }
        due
    }

    /// Gives the time to tell the shell, if it changed.
    pub(crate) fn arm(
        &mut self,
        others: impl IntoIterator<Item = Option<Instant>>,
    ) -> Option<Instant> {
        let wanted = others.into_iter().flatten().chain(self.consensus).min()?;
        if self.armed == Some(wanted) {
            return None;
        }
        self.armed = Some(wanted);
        Some(wanted)
    }
}
