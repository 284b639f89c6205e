//! The surface of consensus: what goes in, what comes out. The roles behind it live in their own files.

use crate::{Boot, Configuration, Entry, Index, Instant, Message, PeerId, SnapshotMark, Term, Vote};
use bytes::Bytes;
use std::time::Duration;

/// Timing and limits. Equal on all members except where said.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Time between heartbeats of a leader.
    pub heartbeat: Duration,
    /// Shortest time of silence after which a follower starts a pre-vote.
    pub election_min: Duration,
    /// Longest such time; each round draws between the two.
    pub election_max: Duration,
    /// Bytes of entries in one append message at most (a single larger entry travels alone).
    pub append_bytes_max: usize,
    /// Bytes of appends sent to one follower and not yet answered, at most.
    pub inflight_bytes_max: usize,
    /// Number of such messages at most.
    pub inflight_count_max: usize,
    /// Bytes of proposals not yet committed at a leader; more are refused as overload.
    pub uncommitted_bytes_max: usize,
    /// Bytes of recent entries kept in memory once they are durable and applied.
    pub cache_bytes_max: usize,
    /// A write to the local disk that takes longer makes a leader hand over, if another voter is timely.
    pub disk_stall: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(500),
            election_max: Duration::from_millis(1000),
            append_bytes_max: 256 << 10,
            inflight_bytes_max: 8 << 20,
            inflight_count_max: 256,
            uncommitted_bytes_max: 64 << 20,
            cache_bytes_max: 16 << 20,
            disk_stall: Duration::from_millis(400),
        }
    }
}

/// What a member knows of itself when it starts: the findings of log recovery.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Who it is.
    pub id: PeerId,
    /// This process start.
    pub boot: Boot,
    /// The durable vote record.
    pub vote: Vote,
    /// Where the log starts: the newest durable snapshot. At bootstrap: index 0, term 0 and the first configuration.
    pub snapshot: SnapshotMark,
    /// First index of each run of equal terms in the log after the snapshot, ascending.
    pub terms: Vec<(Index, Term)>,
    /// Index of the last durable entry; the snapshot's if there is none.
    pub last: Index,
    /// Every configuration entry after the snapshot, ascending.
    pub configurations: Vec<(Index, Configuration)>,
    /// How far the member may be believed.
    pub standing: Standing,
}

/// How far a member's memory may be believed after a restart (PROPERTIES R2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Nothing it acknowledged can be missing.
    #[default]
    Sound,
    /// Entries may be missing, the vote is intact: nothing it says counts until its log matches a commit index
    /// confirmed after this restart by a quorum without it.
    EntriesLost,
}

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
    /// The leader accepted forwarded bytes, once and in order of the origin's stream.
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
    /// Forwards of this member from `sequence` on (this term) were refused: none of them was or will be appended.
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

/// Why a proposal was not taken. Nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposeError {
    /// This member does not lead, or it leads and is handing over.
    NotLeader {
        /// Who does, if known.
        leader: Option<PeerId>,
    },
    /// Too many uncommitted bytes; try again later.
    Overloaded {
        /// Uncommitted now.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
}

/// Why a change of membership was not begun. Nothing was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// This member does not lead.
    NotLeader {
        /// Who does, if known.
        leader: Option<PeerId>,
    },
    /// An earlier change is not finished, or no entry of this term is committed yet.
    Busy,
    /// The change makes no sense; the text says why.
    Invalid(String),
}

/// Why leadership was not handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferError {
    /// This member does not lead.
    NotLeader {
        /// Who does, if known.
        leader: Option<PeerId>,
    },
    /// The target is no voter, is not reachable, or there is no other voter.
    BadTarget,
}

/// What a member says of itself, for status pages and for the layer above.
#[derive(Clone, Debug)]
pub struct Status {
    /// Who it is.
    pub id: PeerId,
    /// Its role.
    pub role: Role,
    /// The present term.
    pub term: Term,
    /// The leader, if known.
    pub leader: Option<PeerId>,
    /// The high-water mark: entries up to here are decided.
    pub commit: Index,
    /// The last index in the log.
    pub last: Index,
    /// The first index the log still has.
    pub first: Index,
    /// How far the member may be believed.
    pub standing: Standing,
    /// The configuration in force.
    pub configuration: Configuration,
    /// A leader's view of the others: how far each one's log is known to match.
    pub progress: Vec<(PeerId, Index)>,
}

/// One member's consensus.
pub struct Raft {}

impl Raft {
    /// Starts a member from what its disk gave back. `seed` feeds election jitter and nothing else.
    pub fn new(_settings: Settings, _restored: Restored, _seed: u64, _now: Instant) -> Raft {
        todo!()
    }

    /// Takes an input.
    pub fn handle(&mut self, _now: Instant, _input: Input) {
        todo!()
    }

    /// Gives the next effect; `None` when there is nothing to do until the next input.
    pub fn poll(&mut self) -> Option<Effect> {
        todo!()
    }

    /// Appends a batch, on the leader.
    ///
    /// # Errors
    /// See [`ProposeError`]; nothing was appended.
    pub fn propose(&mut self, _now: Instant, _batch: Bytes) -> Result<Index, ProposeError> {
        todo!()
    }

    /// Sends bytes to the leader of this very term on this member's forwarding stream, on a follower, and gives the sequence used (rising
    /// over this boot). [`Effect::Forwarded`] on the leader names it, [`Effect::ForwardRefused`] here if it was refused; silence is possible:
    /// a forward of term t was certainly never appended once an entry of a later term is committed.
    ///
    /// # Errors
    /// No leader is known, or this member leads itself: then use [`Raft::propose`].
    pub fn forward(&mut self, _now: Instant, _body: Bytes) -> Result<u64, ProposeError> {
        todo!()
    }

    /// Begins a confirmed read on any member; all reads begun before the next `poll` share one round.
    /// Ends in [`Effect::ReadReady`] or [`Effect::ReadFailed`].
    pub fn read(&mut self, _now: Instant) -> ReadSequence {
        todo!()
    }

    /// Begins a change to the given voters and learners (members included), through a joint configuration if needed, on the leader.
    ///
    /// # Errors
    /// See [`ChangeError`]; nothing was appended.
    pub fn change_membership(&mut self, _now: Instant, _target: Configuration) -> Result<Index, ChangeError> {
        todo!()
    }

    /// Hands leadership over: to `target`, or to the best of the others by priority and log.
    ///
    /// # Errors
    /// See [`TransferError`].
    pub fn transfer(&mut self, _now: Instant, _target: Option<PeerId>) -> Result<(), TransferError> {
        todo!()
    }

    /// Takes the next committed entries in order, each once, up to about `bytes_max` (at least one). Empty if there are none, or while they
    /// are fetched from disk.
    pub fn take_committed(&mut self, _bytes_max: usize) -> Vec<Entry> {
        todo!()
    }

    /// Notes that the state's own snapshot at `mark` is durable: entries up to `keep_from` (exclusive) may be forgotten.
    pub fn compact(&mut self, _mark: SnapshotMark, _keep_from: Index) {
        todo!()
    }

    /// What this member says of itself.
    pub fn status(&self) -> Status {
        todo!()
    }

    /// The term of the entry at `index`; `None` if the log does not reach there, or starts later.
    pub fn term_at(&self, _index: Index) -> Option<Term> {
        todo!()
    }
}
