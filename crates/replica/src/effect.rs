//! What comes out of a member.

use crate::input::{StreamId, Ticket};
use crate::member_change::Refusal;
use crate::message::Message;
use crate::stamp::Stamp;
use crate::watch::WatchResponse;
use bytes::Bytes;
use raft::{Configuration, Index, Instant, MemberId, PeerId, Persist, Role, SnapshotMark, Term};
use state::{Answer, Reply};

/// What a member wants done, in this order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Make durable, in order; then [`Input::Persisted`].
    Persist(Persist),
    /// Send to another member.
    Send {
        /// To whom.
        to: PeerId,
        /// What.
        message: Message,
    },
    /// The outcome of a request. Exactly one per ticket unless cancelled.
    Reply {
        /// Which.
        ticket: Ticket,
        /// How it ended.
        outcome: Result<Response, Failure>,
    },
    /// Responses for a watch stream; each uses one credit.
    WatchResponses {
        /// The stream.
        stream: StreamId,
        /// In order.
        responses: Vec<WatchResponse>,
    },
    /// Read entries back; then [`Input::Fetched`].
    Fetch {
        /// From.
        from: Index,
        /// Bytes at most, at least one entry.
        bytes_max: usize,
    },
    /// Forget log entries up to and including this index.
    Release(Index),
    /// Write a piece of staging file `id`; then [`Input::Staged`].
    Stage {
        /// The staging file.
        id: u64,
        /// Where; 0 begins it anew.
        offset: u64,
        /// What.
        bytes: Bytes,
    },
    /// Make a staging file the newest durable snapshot; then [`Input::Staged`].
    StageFinish {
        /// The staging file.
        id: u64,
        /// What it stands for.
        mark: SnapshotMark,
        /// Its length.
        bytes: u64,
        /// crc32c over all of it.
        checksum: u32,
    },
    /// Drop a staging file.
    StageAbort {
        /// The staging file.
        id: u64,
    },
    /// Read from a durable snapshot; then [`Input::SnapshotRead`].
    ReadSnapshot {
        /// Which.
        index: Index,
        /// Where.
        offset: u64,
        /// Bytes at most.
        bytes_max: usize,
    },
    /// Role, term or leader changed.
    RoleChanged {
        /// The new role.
        role: Role,
        /// The term.
        term: Term,
        /// The leader, if known.
        leader: Option<PeerId>,
    },
    /// The configuration in force changed: connect to these members.
    ConfigurationChanged(Configuration),
    /// The states of the members differ, as the text says. Where a majority agrees, one that does not replaces its state by theirs.
    StateDiffers(String),
    /// The newest durable snapshot is not to be believed although its checksums match; set it aside. The text says why.
    DiscardSnapshot(String),
    /// What this member needs to go on is gone from its disk, as the text says. End it as a crash would, open the directory again and start from what is
    /// found there: what is damaged is set aside, what is missing comes from the others. It answers nothing from now on.
    Reopen(String),
    /// Who holds these locks changed, or their texts: who follows them looks again.
    LocksChanged(Vec<Vec<u8>>),
    /// A state that came as a snapshot replaced the one before: who follows anything looks again.
    StateReplaced,
    /// This member is none of the cell any more, and never will be again under this identity. It goes on answering what was asked; end it in order.
    Departed,
    /// The member can go on no longer; the text says why and what to do. It answers nothing from now on.
    Halted(String),
    /// Call back with [`Input::TimerFired`] at this time; replaces the earlier one.
    SetTimer(Instant),
}

/// An answer, and where in history it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// What was asked for.
    pub body: Body,
    /// The revision of keys: right after the command, or of the view that was read.
    pub revision: i64,
    /// The term when it was answered.
    pub term: Term,
    /// How much history it has seen.
    pub stamp: Stamp,
}

/// The kinds of answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// To [`Input::Propose`].
    Reply(Reply),
    /// To [`Input::KeepAlive`]: the time to live in milliseconds; `None`: there is no such lease (PROPERTIES L5).
    KeepAlive(Option<u64>),
    /// To [`Input::Read`].
    Answer(Answer),
    /// To [`Input::Checkpoint`]: the durable snapshot at this index, or a later one, will do.
    Checkpoint(Index),
    /// To [`Input::ChangeMembership`] and [`Input::ChangeMembers`]: the change is decided, and this is what came of it.
    MembershipChanged(Configuration),
}

/// Why a request ended without an answer, by what the caller may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No leader is known; nothing happened, try again.
    NoLeader,
    /// The leader changed under the request and it was certainly not applied; try again.
    LeaderChanged,
    /// It may or may not have been applied, once, now or later.
    Unknown,
    /// A queue is full; nothing happened, try again later.
    Overloaded {
        /// Which queue.
        queue: &'static str,
        /// Its limit.
        limit: usize,
    },
    /// The command is larger than allowed; nothing happened.
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// There are as many leases as this member allows; nothing happened.
    TooManyLeases {
        /// How many it allows.
        limit: usize,
    },
    /// The disks are full; only deletes and compaction pass. Nothing happened.
    DiskFull,
    /// The member is staler than the read allows; the leader may serve it.
    TooStale {
        /// Who leads, if known.
        leader: Option<MemberId>,
    },
    /// The stamp is of another cluster or cell.
    ForeignStamp,
    /// The change of membership was refused, with the reason.
    MembershipRefused(Refusal),
    /// The member has stopped applying (see [`Effect::Halted`]).
    Halted,
}

/// What a member says of itself, for status calls, metrics and oracles.
#[derive(Clone, Debug)]
pub struct Status {
    /// Of consensus.
    pub raft: raft::Status,
    /// Index of the last applied entry.
    pub applied: u64,
    /// The newest revision of keys.
    pub revision: i64,
    /// Up to where watches can be told: below `revision` while a large removal is being written down.
    pub complete: i64,
    /// The oldest readable revision.
    pub compacted: i64,
    /// Bytes of live data and history.
    pub state_bytes: u64,
    /// How many there may be.
    pub state_bytes_max: u64,
    /// The alarms that are raised.
    pub alarms: Vec<state::Alarm>,
    /// Live keys.
    pub keys: u64,
    /// Hash of the state at `applied`.
    pub state_hash: u64,
    /// The state is loaded and the member serves.
    pub serving: bool,
    /// Watches open.
    pub watchers: u64,
    /// Commands waiting for their outcome.
    pub pending_commands: u64,
}
