//! What a leader proposes of its own accord: its limit on bytes where another one holds, and compaction.

use crate::auto_compaction::{AutoCompaction, AutoCompactor};
use crate::input::Ticket;
use crate::replica::Replica;
use raft::{Instant, Role};
use state::{Command, Compact, Operation, SetBytesMax};
use std::time::Duration;

/// A limit that was proposed and does not hold is proposed again after this: the proposal was lost, or a former leader's came after it.
const LIMIT_RETRY: Duration = Duration::from_secs(1);

/// The request nobody waits for.
pub(crate) const OWN: Ticket = Ticket(u64::MAX);

/// What is done now and then.
pub(crate) struct Upkeep {
    compactor: AutoCompactor,
    /// The limit is not proposed before this.
    limit_from: Instant,
}

impl Upkeep {
    pub(crate) fn new(mode: AutoCompaction, now: Instant) -> Upkeep {
        Upkeep {
            compactor: AutoCompactor::new(mode, now),
            limit_from: now,
        }
    }
}

impl Replica {
    /// Proposes what is due.
    pub(crate) fn tend_upkeep(&mut self, now: Instant) {
        let leads = self.may_propose_own();
        let (revision, compacted) = (self.state.revision(), self.state.compacted());
        if let Some(revision) = self.upkeep.compactor.look(now, leads, revision, compacted) {
            self.propose_own(now, Operation::AutoCompact(Compact { revision }));
        }
        if let Some(bytes_max) = self.limit_to_propose()
            && leads
            && self.upkeep.limit_from <= now
        {
            self.upkeep.limit_from = now + LIMIT_RETRY;
            self.propose_own(now, Operation::SetBytesMax(SetBytesMax { bytes_max }));
        }
    }

    fn may_propose_own(&self) -> bool {
        self.role == Role::Leader && self.clock.is_ready() && self.serving
    }

    fn propose_own(&mut self, now: Instant, operation: Operation) {
        let command = Command {
            operation: Some(operation),
            ..Command::default()
        };
        self.propose(now, OWN, &command);
    }

    /// This member's limit, if another one holds.
    fn limit_to_propose(&self) -> Option<u64> {
        let wanted = self.limits.state_bytes_max?;
        (wanted != self.state.bytes_max()).then_some(wanted)
    }

    /// When something is to be done.
    pub(crate) fn upkeep_at(&self) -> Option<Instant> {
        let limit = self
            .limit_to_propose()
            .filter(|_| self.may_propose_own())
            .map(|_| self.upkeep.limit_from);
        self.upkeep
            .compactor
            .due_at()
            .into_iter()
            .chain(limit)
            .min()
    }
}
