//! What goes into consensus and what comes out of it.

use crate::{
    Boot, Configuration, Entry, Index, Instant, Message, PeerId, SnapshotMark, Term, Vote,
};
use bytes::Bytes;

/// What a member is to the cell at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Follows a leader or waits for one.
    Follower,
    /// Asks whether an election could be won, without disturbing anybody (Raft thesis §9.6).
    PreCandidate,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
}

/// Number of a [`Persist`]; rises by one with each.
pub type PersistSequence = u64;

/// Something to make durable, in order. Everything in it is durable together when [`Input::Persisted`] names its sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist {
    /// Its number.
    pub sequence: PersistSequence,
    /// The new vote record, if it changed.
    pub vote: Option<Vote>,
    /// The log starts anew after this snapshot, which is durable already: all entries of before are to be forgotten.
    pub reset: Option<SnapshotMark>,
    /// Entries to append. The first may overwrite: any stored entry at its index or later is dropped.
    pub entries: Vec<Entry>,
    /// The commit index as known when this was gathered: what a restart may count on without asking anybody. In the log, once this is.
    pub commit: Index,
}

/// What happens to a member.
#[derive(Clone, Debug)]
pub enum Input {
    /// A message arrived.
    Message {
        /// The authenticated sender.
        from: PeerId,
        /// What it says.
        message: Message,
    },
    /// Every [`Persist`] up to and including this one is durable.
    Persisted(PersistSequence),
    /// The answer to [`Effect::Fetch`]: entries from `from` on, at least one unless the log no longer has it.
    Fetched {
        /// The index asked for.
        from: Index,
        /// The entries found, contiguous; empty when they were released.
        entries: Vec<Entry>,
    },
    /// The connection from a peer closed.
    PeerLost {
        /// Whose.
        peer: PeerId,
        /// An immediate redial was refused: its process is gone, not only the connection.
        refused: bool,
    },
    /// The other answer to [`Effect::Fetch`]: what is stored there is damaged. It is not needed by this member's own state, which must come to hold a
    /// snapshot past it; followers that lack it get that.
    Unreadable {
        /// The index asked for.
        from: Index,
    },
    /// A snapshot from the leader is complete, verified and durable in the staging place.
    SnapshotStaged(SnapshotMark),
    /// A transfer begun by [`Effect::SendSnapshot`] ended.
    SnapshotSent {
        /// The receiver.
        to: PeerId,
        /// The index it now has; `None` if the transfer failed.
        index: Option<Index>,
    },
    /// The time asked for by [`Effect::SetTimer`] has come (an early call does no harm).
    TimerFired,
}

/// Number of a read, unique within this boot.
pub type ReadSequence = u64;

/// What a member wants done, in this order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Make durable, then answer [`Input::Persisted`]. Messages and commits that depend on it are held back here.
    Persist(Persist),
    /// Send, at most once, in order per peer as far as the connection allows.
    Send {
        /// The receiver.
        to: PeerId,
        /// What to say.
        message: Message,
    },
    /// Read entries back from the durable log, then answer [`Input::Fetched`].
    Fetch {
        /// First index wanted.
        from: Index,
        /// Bytes at most, but at least one entry.
        bytes_max: usize,
    },
    /// The read may be served once the state has applied this index; it was confirmed at a quorum after the read began.
    ReadReady {
        /// Which read.
        read: ReadSequence,
        /// What must be applied before.
        index: Index,
        /// When the confirmed round was sent: the state at `index` was the newest at some time not before this instant.
        asked: Instant,
    },
    /// The read cannot be confirmed now (no leader, or it changed); it may be asked again.
    ReadFailed {
        /// Which read.
        read: ReadSequence,
    },
    /// The leader accepted forwarded bytes, once and in order of the origin's stream. They must be proposed before the next
    /// [`Effect::RoleChanged`], or dropped: the origin counts on it that they are appended in this term or never.
    Forwarded {
        /// Whose.
        origin: PeerId,
        /// The origin's process start.
        boot: Boot,
        /// The origin's sequence.
        sequence: u64,
        /// What was forwarded.
        body: Bytes,
    },
    /// Forwards of this member from `sequence` on, as far as they are sent by now, were refused: none of them was or will be
    /// appended. What is forwarded from now on is not concerned.
    ForwardRefused {
        /// The first refused sequence.
        sequence: u64,
    },
    /// A follower lacks entries that the log no longer has: begin a transfer of the newest snapshot, then report [`Input::SnapshotSent`].
    SendSnapshot {
        /// The receiver.
        to: PeerId,
    },
    /// The log now starts at this staged snapshot: replace the state by it.
    RestoreSnapshot(SnapshotMark),
    /// Role, term or leader changed.
    RoleChanged {
        /// The new role.
        role: Role,
        /// The present term.
        term: Term,
        /// The leader, if known.
        leader: Option<PeerId>,
    },
    /// A configuration took effect (appended, perhaps not yet committed).
    ConfigurationChanged(Configuration),
    /// Call back with [`Input::TimerFired`] at this time; replaces the time asked for before.
    SetTimer(Instant),
}
