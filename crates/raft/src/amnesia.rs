//! Members that may have forgotten what they acknowledged (PROPERTIES R2).
//!
//! Such a member says so in every answer. The leader replicates to it and counts nothing it says. Once a quorum without it has confirmed the
//! leader after the member's restart, the leader's commit index covers everything the member may have helped to decide; when its log
//! durably matches there, it may be believed again. The vote record is intact: term and vote were never in doubt.
//!
//! What it acknowledged before the loss may still be on its way then. It came from another process, and does not count.

use crate::Boot;
use crate::log::Position;
use crate::message::Recovery;

/// The leader's view of a member that lost entries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suspicion {
    /// The process that declared it.
    boot: Boot,
    /// The leader's first round after it was known.
    since_round: u64,
    /// What it must match before it is believed.
    target: Option<Position>,
}

impl Suspicion {
    pub(crate) fn new(boot: Boot, since_round: u64) -> Suspicion {
        Suspicion {
            boot,
            since_round,
            target: None,
        }
    }

    pub(crate) fn is_about(&self, boot: Boot) -> bool {
        self.boot == boot
    }

    /// A quorum without the member confirmed `round`; everything decided before that is at or before `commit`.
    pub(crate) fn on_confirmed(&mut self, round: u64, commit: Position) {
        if self.target.is_none() && round >= self.since_round {
            self.target = Some(commit);
        }
    }

    pub(crate) fn recovery(&self) -> Option<Recovery> {
        self.target.map(|target| Recovery {
            boot: self.boot,
            index: target.index,
            term: target.term,
        })
    }

    /// An answer to `round` without the declaration: the member is sound again, and it cannot be an answer from before its loss.
    pub(crate) fn ends_at(&self, round: u64) -> bool {
        round >= self.since_round
    }
}

/// A member's own task while it cannot be believed: match the leader there.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Recovering {
    target: Option<Position>,
}

impl Recovering {
    pub(crate) fn on_recovery(&mut self, boot: Boot, recovery: Recovery) {
        if recovery.boot == boot {
            self.target = Some(Position {
                index: recovery.index,
                term: recovery.term,
            });
        }
    }

    pub(crate) fn target(&self) -> Option<Position> {
        self.target
    }
}
