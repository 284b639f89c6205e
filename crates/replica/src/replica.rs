//! The surface of one member of one cell: what goes in, what comes out. No IO behind it.

use crate::{Message, WatchRequest, WatchResponse};
use bytes::Bytes;
use raft::{Configuration, Entry, Index, Instant, MemberId, PeerId, Persist, PersistSequence, Restored, Role, SnapshotMark, Term};
use state::{Answer, Command, Query, Reply};
use std::time::Duration;

/// Limits and timing of a member.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Of consensus.
    pub raft: raft::Settings,
    /// Of the state.
    pub state: state::Settings,
    /// The rest.
    pub limits: Limits,
}

/// Bounds of the queues of a member, each with what happens when it is full.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of one command at most; larger ones are refused ([`Failure::TooLarge`]).
    pub command_bytes_max: usize,
    /// Commands waiting for their outcome at most; more are refused ([`Failure::Overloaded`]).
    pub pending_commands_max: usize,
    /// Queries waiting or running at most; more are refused ([`Failure::Overloaded`]).
    pub pending_queries_max: usize,
    /// Bytes of commands in one batch at most.
    pub batch_bytes_max: usize,
    /// A snapshot is taken when the log since the last one exceeds this and the size of the state.
    pub snapshot_log_bytes: u64,
    /// Entries kept in the log behind a snapshot, for followers a little behind.
    pub snapshot_keep_entries: u64,
    /// Events a watch stream may have waiting unsent; a stream at the limit is parked and fed from history (PROPERTIES W12).
    pub watch_buffer_events: usize,
    /// How often an idle watch that asked for progress hears of it.
    pub watch_progress_interval: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            command_bytes_max: 3 << 19,
            pending_commands_max: 65_536,
            pending_queries_max: 65_536,
            batch_bytes_max: 256 << 10,
            snapshot_log_bytes: 64 << 20,
            snapshot_keep_entries: 10_000,
            watch_buffer_events: 1024,
            watch_progress_interval: Duration::from_secs(600),
        }
    }
}

/// The time of a turn, read once by the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic time of this process.
    pub monotonic: Instant,
    /// Wall time, milliseconds since 1970. Rides along in batches; never ends a time-out.
    pub wall_ms: u64,
}

/// The shell's name for a request; comes back with its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// The shell's name for a connection's watch stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// How fresh a read must be (DESIGN: Reads).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// As if there were one copy; confirmed at a quorum after the read began.
    #[default]
    Linearizable,
    /// Not older than this stamp; waits for it.
    AtLeast(Stamp),
    /// Not older than this; refused if the member has not heard from a quorum for longer.
    Bounded(Duration),
    /// What this member has now.
    Local,
}

/// How much history a reply has seen. Its text form is opaque to clients: `cluster.cell.index` in hexadecimal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// The cluster.
    pub cluster: u64,
    /// The cell.
    pub cell: u64,
    /// The log index.
    pub index: u64,
}

/// What happens to a member.
#[derive(Clone, Debug)]
pub enum Input {
    /// A message from another member.
    Message {
        /// The authenticated sender.
        from: PeerId,
        /// What it says.
        message: Message,
    },
    /// A client's change.
    Propose {
        /// Its name.
        ticket: Ticket,
        /// The change.
        command: Command,
    },
    /// A client's keep-alive.
    KeepAlive {
        /// Its name.
        ticket: Ticket,
        /// The lease.
        lease: i64,
    },
    /// A client's read.
    Read {
        /// Its name.
        ticket: Ticket,
        /// How fresh.
        consistency: Consistency,
        /// The question.
        query: Query,
    },
    /// The client of this request is gone: no outcome is wanted, a running query may be dropped.
    Cancel(Ticket),
    /// A watch stream's request.
    Watch {
        /// The stream.
        stream: StreamId,
        /// What it wants.
        request: WatchRequest,
    },
    /// The stream can take this many more responses (a new stream starts with none).
    WatchCredit {
        /// The stream.
        stream: StreamId,
        /// Responses.
        responses: u32,
    },
    /// The stream is gone.
    WatchClosed(StreamId),
    /// See [`raft::Input::Persisted`].
    Persisted(PersistSequence),
    /// The disk refuses writes beyond its reserve (`true`), or takes them again.
    DiskFull(bool),
    /// See [`raft::Input::Fetched`].
    Fetched {
        /// The index asked for.
        from: Index,
        /// What was found.
        entries: Vec<Entry>,
    },
    /// See [`raft::Input::PeerLost`].
    PeerLost {
        /// Whose connection.
        peer: PeerId,
        /// Its process is gone.
        refused: bool,
    },
    /// The answer to [`Effect::Stage`] or [`Effect::StageFinish`].
    Staged {
        /// The staging file.
        id: u64,
        /// Bytes written so far; `None`: it failed and is gone.
        bytes: Option<u64>,
    },
    /// The answer to [`Effect::ReadSnapshot`].
    SnapshotRead {
        /// Of the snapshot.
        index: Index,
        /// Where.
        offset: u64,
        /// The bytes; empty at the end. `None`: the snapshot is gone or damaged.
        bytes: Option<Bytes>,
    },
    /// Hand leadership over (to a member, or to the best one). The outcome is a [`Effect::RoleChanged`].
    Transfer {
        /// To whom.
        target: Option<MemberId>,
    },
    /// Change the members to these (see [`raft::Raft::change_membership`]).
    ChangeMembership {
        /// Its name.
        ticket: Ticket,
        /// The wanted configuration.
        target: Configuration,
    },
    /// Bytes of log since the newest snapshot, told by the shell after each sync.
    LogBytes(u64),
    /// The time asked for by [`Effect::SetTimer`] has come.
    TimerFired,
}

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
    /// To [`Input::ChangeMembership`]: the change is committed.
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
    MembershipRefused(String),
    /// The member has stopped applying (see [`Effect::Halted`]).
    Halted,
}

/// What a member starts from.
#[derive(Clone, Debug)]
pub struct Boot {
    /// The cluster.
    pub cluster: u64,
    /// The cell.
    pub cell: u64,
    /// For consensus.
    pub restored: Restored,
    /// Feeds every random choice.
    pub seed: u64,
}

/// One member of one cell.
pub struct Replica {}

impl Replica {
    /// Starts a member. If `boot.restored.snapshot.index` is not 0, it first loads that snapshot through [`Effect::ReadSnapshot`].
    pub fn new(_settings: Settings, _boot: Boot, _now: Now) -> Replica {
        todo!()
    }

    /// Takes an input. Cheap: work that can be long is done in [`Replica::work`].
    pub fn handle(&mut self, _now: Now, _input: Input) {
        todo!()
    }

    /// Ends a turn: forms the batch of what was proposed since, applies and reads in slices of at most about a millisecond. `true` while more
    /// work is waiting: take inputs, then call again. The shell calls it after each drain of its queues.
    pub fn work(&mut self, _now: Now) -> bool {
        todo!()
    }

    /// Gives the next effect; `None` when there is none left.
    pub fn poll(&mut self) -> Option<Effect> {
        todo!()
    }

    /// What this member says of itself.
    pub fn status(&self) -> Status {
        todo!()
    }
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
    /// The oldest readable revision.
    pub compacted: i64,
    /// Bytes of live data and history.
    pub state_bytes: u64,
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
