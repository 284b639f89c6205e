//! A disk short of space (PROPERTIES R3): its member admits only what frees some, and leads only while no member with room can.
//!
//! Who is short tells the leader, and says it again while it lasts. The leader gives consensus the names; that hands over to another, and to nobody of these.

use crate::message::Message;
use crate::replica::Replica;
use raft::{Instant, PeerId, Role};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How often a member that is short of space says so.
const TELL_INTERVAL: Duration = Duration::from_millis(500);
/// A member that has not said so for this long has room: more than one message was not lost.
const BELIEVED_FOR: Duration = Duration::from_millis(1_600);

/// Who is short of space.
#[derive(Default)]
pub(crate) struct Space {
    /// This member.
    short: bool,
    /// When others said it last. Of the present leadership only.
    others: BTreeMap<PeerId, Instant>,
    /// When to look again.
    look_at: Option<Instant>,
}

impl Space {
    /// This member is short of space.
    pub(crate) fn is_short(&self) -> bool {
        self.short
    }

    /// Looks who is short with the next turn.
    pub(crate) fn look(&mut self, now: Instant) {
        self.look_at = Some(now);
    }

    /// When to look again.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// The leadership these were told to is over; they will be told again to the next.
    pub(crate) fn forget_told(&mut self) {
        self.others.clear();
    }
}

impl Replica {
    /// The shell says whether this member's disk is short of space.
    pub(crate) fn on_disk_full(&mut self, now: Instant, full: bool) {
        if !full && self.space.short {
            // There is room again for the snapshot that failed.
            self.snapshots.failed_at = None;
        }
        self.space.short = full || (self.space.short && mutated!(RoomUnnoticed));
        self.space.look(now);
    }

    /// A member says that it is short of space.
    pub(crate) fn on_short_of_space(&mut self, now: Instant, from: PeerId) {
        if self.role == Role::Leader && self.peer(from.member) == Some(from) {
            self.space.others.insert(from, now);
            self.space.look(now);
        }
    }

    /// Tells the leader that this member is short of space, or consensus who is, if it is time.
    pub(crate) fn tend_space(&mut self, now: Instant) {
        let space = &mut self.space;
        if space.look_at.is_none_or(|at| at > now) {
            return;
        }
        space
            .others
            .retain(|_, told_at| now.since(*told_at) < BELIEVED_FOR);
        let own = space.short.then_some(self.me);
        let short: BTreeSet<PeerId> = space.others.keys().copied().chain(own).collect();
        space.look_at = (!short.is_empty()).then(|| now + TELL_INTERVAL);
        self.raft.set_reluctant(short);
        if let Some(leader) = self.leader.filter(|leader| *leader != self.me)
            && self.space.short
        {
            self.send(leader, Message::ShortOfSpace);
        }
    }
}
