//! What happened, as typed moments: the timeline prints them and the picture draws them. Kept only when asked for, and only inside a window
//! as far as they are many; a run without a timeline pays one branch per moment.

mod text;
pub(crate) mod words;

pub use text::Detail;
pub(crate) use text::{name, sentence};

use crate::clock::Micros;
use crate::faults::Fault;
use raft::{Body, Role};
use replica::Message;

/// Messages and requests kept at most; what comes later is counted and left out.
const BUSY_MOMENTS_MAX: usize = 200_000;

/// From when to when the many moments (messages, requests, commits) are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first true time of it.
    pub from: Micros,
    /// The first true time after it.
    pub to: Micros,
}

impl Window {
    /// All of a run.
    pub const ALL: Window = Window {
        from: 0,
        to: Micros::MAX,
    };

    /// The window has this time in it.
    pub fn contains(self, at: Micros) -> bool {
        (self.from..self.to).contains(&at)
    }
}

/// Something that happened to a member, or to all.
#[derive(Clone, Debug)]
pub struct Moment {
    /// True time.
    pub at: Micros,
    /// The member, unless it happens to all.
    pub member: Option<usize>,
    /// What.
    pub what: What,
}

/// What can happen, as far as a reader wants to know.
#[derive(Clone, Debug)]
pub enum What {
    /// A process starts on a log up to this index.
    Starts {
        /// The last index of its log.
        last: u64,
    },
    /// A process could not start.
    CannotStart(String),
    /// The process is gone; with the power, or without.
    Dies {
        /// The machine lost power: what was not synced may be lost.
        power: bool,
    },
    /// A fault of the schedule, or what mends it.
    Fault(Fault),
    /// The member changed its role, its term or its idea of who leads.
    Role {
        /// Its role.
        role: Role,
        /// Its term.
        term: u64,
        /// Who leads.
        leader: Option<usize>,
    },
    /// It sends a message.
    Sends {
        /// To whom.
        to: usize,
        /// Arrivals: none if it is lost, two if it is doubled.
        arrivals: [Option<Micros>; 2],
        /// Its kind.
        kind: Kind,
        /// The little that has room on an arrow.
        label: String,
        /// What it says.
        text: String,
    },
    /// It knows more entries to be decided.
    Commits {
        /// Decided up to here.
        commit: u64,
    },
    /// Its log is durable up to here.
    Durable {
        /// The number of the persist.
        sequence: u64,
    },
    /// It has a durable snapshot of this index.
    Snapshot {
        /// The index.
        index: u64,
    },
    /// A snapshot of another member replaces its log.
    Installs {
        /// The snapshot's index.
        index: u64,
    },
    /// A configuration is in force at it.
    Configuration(String),
    /// A client asks it.
    Asked {
        /// The client.
        client: usize,
        /// The request's number.
        request: u64,
        /// What.
        text: String,
    },
    /// It answers a client.
    Answers {
        /// The client.
        client: usize,
        /// The request's number.
        request: u64,
        /// It succeeded.
        ok: bool,
        /// What.
        text: String,
    },
    /// Everything is mended: links, disks, pauses.
    Healed,
    /// A phase of the run begins, or somebody who looks on says something.
    Note(String),
    /// A promise is broken.
    Violation {
        /// The promise.
        property: &'static str,
        /// What was seen.
        text: String,
    },
}

/// The kinds of messages, as a picture tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Votes and pre-votes, and what else belongs to an election.
    Election,
    /// Their answers.
    Vote,
    /// Entries.
    Append,
    /// Their answers.
    AppendReply,
    /// Pieces of a snapshot, and their answers.
    Snapshot,
    /// Reads and forwarded commands.
    Request,
    /// Heartbeats and housekeeping.
    Heartbeat,
    /// The answers to heartbeats.
    HeartbeatReply,
}

impl Kind {
    /// The kind of a message.
    pub fn of(message: &Message) -> Kind {
        let Message::Raft(message) = message else {
            return match message {
                Message::SnapshotChunk { .. } | Message::SnapshotAck { .. } => Kind::Snapshot,
                _ => Kind::Heartbeat,
            };
        };
        match &message.body {
            Body::PreVote { .. } | Body::Vote { .. } | Body::TimeoutNow => Kind::Election,
            Body::PreVoteReply { .. } | Body::VoteReply { .. } | Body::StaleTerm => Kind::Vote,
            Body::Append { .. } => Kind::Append,
            Body::AppendReply { .. } => Kind::AppendReply,
            Body::Heartbeat { .. } => Kind::Heartbeat,
            Body::HeartbeatReply { .. } => Kind::HeartbeatReply,
            Body::ReadIndex { .. } | Body::ReadIndexReply { .. } => Kind::Request,
            Body::Forward { .. } | Body::ForwardRefused { .. } => Kind::Request,
        }
    }
}

/// The record of a run.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    window: Option<Window>,
    moments: Vec<Moment>,
    busy: usize,
    left_out: u64,
}

impl Timeline {
    /// An empty timeline; `None` keeps nothing.
    pub fn new(window: Option<Window>) -> Timeline {
        Timeline {
            window,
            ..Timeline::default()
        }
    }

    /// Notes a moment that a reader needs whatever the window: who lives, who leads, what is cut.
    pub fn note(&mut self, at: Micros, member: Option<usize>, what: impl FnOnce() -> What) {
        if self.window.is_some() {
            let what = what();
            self.moments.push(Moment { at, member, what });
        }
    }

    /// Notes one of the many moments, if it is inside the window.
    pub fn note_busy(&mut self, at: Micros, member: usize, what: impl FnOnce() -> What) {
        if !self.window.is_some_and(|window| window.contains(at)) {
            return;
        }
        if self.busy >= BUSY_MOMENTS_MAX {
            self.left_out += 1;
            return;
        }
        self.busy += 1;
        self.note(at, Some(member), what);
    }

    /// The moments, in order.
    pub fn moments(&self) -> &[Moment] {
        &self.moments
    }

    /// The window it was kept for; `None`: nothing was kept.
    pub fn window(&self) -> Option<Window> {
        self.window
    }

    /// Messages and requests inside the window that were too many to keep.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}
