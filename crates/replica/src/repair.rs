//! What a member does about damage on its disk while it runs, and about a state that the others contradict (PROPERTIES R1, R2, KV5).
//!
//! What the state has applied is in memory: if the log is damaged there, the next snapshot makes the damaged part needless, and followers that lack it get
//! the snapshot. What it has not applied can only come from the others: then the member hands leadership over, ends, and starts again from what recovery
//! finds. Recovery sets the damage aside and notes durably that entries may be missing; consensus counts nothing from such a member until it is made good.
//!
//! A state that a majority contradicts is condemned: it serves no more, its snapshot is set aside, and the leader sends another. The log is not the state: the
//! member votes and acknowledges all the while.

use crate::effect::Effect;
use crate::message::Message;
use crate::replica::Replica;
use raft::{Index, Instant, PeerId, Role};
use std::time::Duration;

/// How often a member whose state is wrong asks for another.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// Repairs under way.
#[derive(Default)]
pub(crate) struct Repair {
    /// A part of the log up to here is damaged; a snapshot of that much makes it needless. 0: none.
    snapshot_needed: Index,
    /// The member begins anew, once it does not lead or at this time.
    reopening: Option<(String, Instant)>,
    /// The state is wrong; a snapshot from this index on is to replace it. When to ask for one next.
    condemned: Option<(u64, Instant)>,
}

impl Repair {
    /// A snapshot from this index on makes the damaged part of the log needless.
    pub(crate) fn snapshot_needed(&self) -> Index {
        self.snapshot_needed
    }

    /// The member is about to begin anew.
    pub(crate) fn is_reopening(&self) -> bool {
        self.reopening.is_some()
    }

    /// Nothing is to be applied.
    pub(crate) fn is_stopped(&self) -> bool {
        self.reopening.is_some() || self.condemned.is_some()
    }

    /// Where the state is wrong: whether a snapshot at this index can replace it.
    pub(crate) fn wants_snapshot(&self, index: Index) -> Option<bool> {
        self.condemned.map(|(from, _)| index.0 >= from)
    }

    /// The state was replaced.
    pub(crate) fn state_replaced(&mut self) {
        self.condemned = None;
    }

    /// When something is to be done.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        let reopening = self.reopening.as_ref().map(|(_, at)| *at);
        let asking = self.condemned.map(|(_, at)| at);
        reopening.into_iter().chain(asking).min()
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

    /// A follower that gets a snapshot at `index` needs nothing that is damaged: it ends no earlier than the damage, or has all that is decided. What comes
    /// behind that is in memory, and may wait for this very follower to be decided.
    pub(crate) fn leads_past_damage(&self, index: Index) -> bool {
        index >= self.repair.snapshot_needed.min(self.raft.commit())
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

    /// The state at `index` is wrong: it is given up, and with it the leadership.
    pub(crate) fn condemn(&mut self, now: Instant, index: u64, why: String) {
        if self.is_halted() || self.repair.is_stopped() {
            return;
        }
        let from = self.state.applied().max(index);
        self.repair.condemned = Some((from, now));
        self.serving = false;
        self.raft.forget_state();
        self.applying.reset();
        self.abandon_snapshot(true);
        self.stop_sending();
        self.snapshots.newest = None;
        self.drop_running_queries();
        self.sent_proposals_unknown(Index(u64::MAX));
        self.effects.push_back(Effect::StateDiffers(why.clone()));
        self.effects.push_back(Effect::DiscardSnapshot(why));
    }

    /// Asks for another state; a leader looks for one to take its place first.
    pub(crate) fn tend_condemned(&mut self, now: Instant) {
        let Some((from, at)) = self.repair.condemned else {
            return;
        };
        if at > now {
            return;
        }
        self.repair.condemned = Some((from, now + ASK_INTERVAL));
        match self.leader {
            Some(leader) if leader == self.me => {
                // Without anybody to lead better it stays, and serves nothing.
                let _ = self.raft.transfer(now, None);
            }
            Some(leader) if self.snapshots.receiving.is_none() && !self.snapshots.is_loading() => {
                self.send(leader, Message::StateWanted { from });
            }
            _ => {}
        }
    }

    /// A member whose state is wrong wants a snapshot, not older than `index`.
    pub(crate) fn on_state_wanted(&mut self, now: Instant, from: PeerId, index: u64) {
        let able = self.role == Role::Leader && !self.repair.is_stopped();
        if !able || !self.configuration.contains(from) || self.state.applied() < index {
            return;
        }
        match &self.snapshots.newest {
            Some(file) if file.mark.index.0 >= index => self.send_snapshot(now, from),
            // It asks again when there is one.
            _ => self.snapshots.wanted = true,
        }
    }
}
