//! What goes into a member.

use crate::bootstrap::Introduction;
use crate::member_change::ChangeRequest;
use crate::message::Message;
use crate::stamp::Stamp;
use crate::watch::WatchRequest;
use bytes::Bytes;
use raft::{Configuration, Entry, Index, Instant, MemberId, PeerId, PersistSequence};
use state::auth::Caller;
use state::{Command, Query};
use std::time::Duration;

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
        /// On whose behalf; authorised in the view that answers it.
        caller: Caller,
        /// How fresh.
        consistency: Consistency,
        /// The question.
        query: Query,
    },
    /// Make a durable snapshot that holds all that was applied here by now.
    Checkpoint(Ticket),
    /// The client of this request is gone: no outcome is wanted. A query is dropped; a change goes its way, and its outcome may still be told.
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
    /// The other answer to [`Effect::Fetch`]: what is stored there is damaged, with all that the same piece of the log holds, up to `through`.
    Unreadable {
        /// The index asked for.
        from: Index,
        /// The last index that may be lost with it.
        through: Index,
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
    /// Change members as an operator wants, on any member: it asks the leader.
    ChangeMembers {
        /// Its name.
        ticket: Ticket,
        /// What is wanted.
        request: ChangeRequest,
    },
    /// A member with an empty directory asked whether there is a cluster ([`crate::BootstrapMessage::Query`]). A leader gives it a place
    /// if there is one, as a learner first; anybody else ignores it. Its later queries show the outcome.
    Join(Introduction),
    /// Bytes of log since the newest snapshot, told by the shell after each sync.
    LogBytes(u64),
    /// The time asked for by [`Effect::SetTimer`] has come.
    TimerFired,
}
