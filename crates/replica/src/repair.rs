//! What a member does about damage on its disk while it runs (PROPERTIES R1, R2).
//!
//! What the state has applied is in memory: if the log is damaged there, the next snapshot makes the damaged part needless, and followers that lack it get
//! the snapshot. What it has not applied can only come from the others: then the member hands leadership over, ends, and starts again from what recovery
//! finds. Recovery sets the damage aside and notes durably that entries may be missing; consensus counts nothing from such a member until it is made good.

use crate::effect::Effect;
use crate::replica::Replica;
use raft::{Index, Instant, Role};

/// Repairs under way.
#[derive(Default)]
pub(crate) struct Repair {
    /// A part of the log up to here is damaged; the next snapshot must reach it. 0: none.
    snapshot_needed: Index,
    /// The member begins anew, once it does not lead or at this time.
    reopening: Option<(String, Instant)>,
}

impl Repair {
    /// A snapshot before this index is of no use to a follower.
    pub(crate) fn snapshot_needed(&self) -> Index {
        self.snapshot_needed
    }

    /// The member is about to begin anew.
    pub(crate) fn is_reopening(&self) -> bool {
        self.reopening.is_some()
    }

    /// When something is to be done.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        self.reopening.as_ref().map(|(_, at)| *at)
    }

    /// A snapshot at `index` is durable; `true` if it makes a damaged part of the log needless.
    pub(crate) fn snapshot_taken(&mut self, index: Index) -> bool {
        let heals = self.snapshot_needed > Index(0) && index >= self.snapshot_needed;
        if heals {
            self.snapshot_needed = Index(0);
        }
        heals
    }
}

impl Replica {
    /// Entries from `from` on cannot be read back; none of those through `through` may be readable.
    pub(crate) fn on_unreadable(&mut self, now: Instant, from: Index, through: Index) {
        if from.0 > self.state.applied() {
            return self.reopen(
                now,
                format!("entry {from} of the log is damaged and not yet applied"),
            );
        }
        self.repair.snapshot_needed = self.repair.snapshot_needed.max(through);
        self.raft.handle(now, raft::Input::Unreadable { from });
    }

    /// Begins anew from the disk; a leader hands over first, if there is anybody.
    pub(crate) fn reopen(&mut self, now: Instant, why: String) {
        if self.is_halted() || self.repair.is_reopening() {
            return;
        }
        let leads = self.role == Role::Leader && self.raft.transfer(now, None).is_ok();
        let patience = if leads {
            self.election_max
        } else {
            Default::default()
        };
        self.repair.reopening = Some((why, now + patience));
    }

    /// Ends this life of the member when it is time to.
    pub(crate) fn tend_reopening(&mut self, now: Instant) {
        let led = self.role == Role::Leader;
        if let Some((why, _)) = self.repair.reopening.take_if(|(_, at)| !led || *at <= now) {
            self.stop(Effect::Reopen(why));
        }
    }
}
