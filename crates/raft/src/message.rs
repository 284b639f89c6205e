//! What members say to each other about consensus. The wire form is in `codec.rs`.

use crate::{Boot, Entry, Incarnation, Index, Instant, Term};
use bytes::Bytes;
use std::fmt;

/// A message between members. Opaque to the layers above: they carry its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The sender's term.
    pub term: Term,
    /// The incarnation of the receiver it is meant for; another one ignores it.
    pub to: Incarnation,
    /// What it says.
    pub body: Body,
}

/// The kinds of messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// "Would you vote for me in the term `campaign`?" Changes nobody's term (Raft thesis §9.6).
    PreVote {
        /// The term the sender would stand in.
        campaign: Term,
        /// The last index of its log.
        last_index: Index,
        /// The term of that entry.
        last_term: Term,
    },
    /// The answer to [`Body::PreVote`].
    PreVoteReply {
        /// The term asked about.
        campaign: Term,
        /// Yes.
        granted: bool,
    },
    /// "Vote for me in this message's term" (Raft paper §5.2).
    Vote {
        /// The last index of its log.
        last_index: Index,
        /// The term of that entry.
        last_term: Term,
        /// The old leader asked for this election: a live leader is no reason to refuse (Raft thesis §3.10).
        transfer: bool,
    },
    /// The answer to [`Body::Vote`].
    VoteReply {
        /// Yes.
        granted: bool,
    },
    /// Entries that follow `prev` (Raft paper §5.3).
    Append {
        /// The index before the first entry.
        prev_index: Index,
        /// The term there.
        prev_term: Term,
        /// The leader's commit index.
        commit: Index,
        /// The entries, contiguous from `prev_index` + 1; perhaps none.
        entries: Vec<Entry>,
    },
    /// The answer to [`Body::Append`].
    AppendReply {
        /// If not rejected: the log matches the leader's through here, durably.
        matched: Index,
        /// The entry before did not match.
        rejected: Option<Rejection>,
        /// The answering process.
        boot: Boot,
        /// The sender lost entries: this does not count.
        amnesiac: bool,
    },
    /// A round of the leader: shows it lives, carries the commit index, confirms reads.
    Heartbeat {
        /// The leader's round; 0 wants no answer.
        round: u64,
        /// The leader's process.
        boot: Boot,
        /// When the leader sent it, on its clock; given back in the answer.
        sent: Instant,
        /// The leader's commit index.
        commit: Index,
        /// The term there: whoever has that entry has everything before it (Log Matching).
        commit_term: Term,
        /// To a member that lost entries: it may be believed again once it matches there.
        recovery: Option<Recovery>,
    },
    /// The answer to [`Body::Heartbeat`].
    HeartbeatReply {
        /// The round answered.
        round: u64,
        /// The leader's process, as told.
        leader_boot: Boot,
        /// The leader's send time, as told.
        sent: Instant,
        /// The answering process.
        boot: Boot,
        /// The sender lost entries: this does not count.
        amnesiac: bool,
    },
    /// "Confirm that you lead, and tell me your commit index" (Raft thesis §6.4).
    ReadIndex {
        /// The asking process.
        boot: Boot,
        /// Its request.
        request: u64,
    },
    /// The answer to [`Body::ReadIndex`].
    ReadIndexReply {
        /// The asking process, as told.
        boot: Boot,
        /// Its request.
        request: u64,
        /// What must be applied before the read is served.
        index: Index,
    },
    /// Bytes for the leader's replica, in the stream (term, origin, boot, epoch).
    Forward {
        /// The origin's process.
        boot: Boot,
        /// The origin's stream; a refused one is followed by the next.
        epoch: u64,
        /// The place in the stream, from 0.
        position: u64,
        /// The origin's number for it, rising over its boot.
        sequence: u64,
        /// The bytes.
        body: Bytes,
    },
    /// The stream is closed: nothing from `position` on was or will be accepted.
    ForwardRefused {
        /// The origin's process, as told.
        boot: Boot,
        /// The stream.
        epoch: u64,
        /// The first place not accepted.
        position: u64,
    },
    /// "Stand for election now" (Raft thesis §3.10).
    TimeoutNow,
    /// The answer to a leader of an older term: there is a newer one.
    StaleTerm,
}

/// Why and where an append did not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The `prev_index` that did not fit.
    pub prev_index: Index,
    /// Where the logs may agree at best: the newest entry not past it whose term is not past its term.
    pub hint_index: Index,
    /// The term there.
    pub hint_term: Term,
}

/// Where a member that lost entries may be believed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The process that lost them.
    pub boot: Boot,
    /// A commit index confirmed after its start by a quorum without it.
    pub index: Index,
    /// The term there.
    pub term: Term,
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{} ", self.term)?;
        match &self.body {
            Body::PreVote {
                campaign,
                last_index,
                last_term,
            } => write!(f, "PreVote for t{campaign}, log {last_index}/t{last_term}"),
            Body::PreVoteReply { campaign, granted } => {
                write!(f, "PreVoteReply for t{campaign}: {}", yes_no(*granted))
            }
            Body::Vote {
                last_index,
                last_term,
                transfer,
            } => {
                write!(
                    f,
                    "Vote, log {last_index}/t{last_term}{}",
                    if *transfer { ", transfer" } else { "" }
                )
            }
            Body::VoteReply { granted } => write!(f, "VoteReply: {}", yes_no(*granted)),
            Body::Append {
                prev_index,
                prev_term,
                commit,
                entries,
            } => {
                write!(
                    f,
                    "Append after {prev_index}/t{prev_term}, commit {commit}, entries ["
                )?;
                for (nth, entry) in entries.iter().enumerate() {
                    write!(f, "{}{entry}", if nth == 0 { "" } else { " " })?;
                }
                write!(f, "]")
            }
            Body::AppendReply {
                matched,
                rejected: None,
                amnesiac,
                ..
            } => write!(f, "AppendReply matched {matched}{}", uncounted(*amnesiac)),
            Body::AppendReply {
                rejected: Some(r),
                amnesiac,
                ..
            } => {
                write!(
                    f,
                    "AppendReply rejected {}, hint {}/t{}{}",
                    r.prev_index,
                    r.hint_index,
                    r.hint_term,
                    uncounted(*amnesiac)
                )
            }
            Body::Heartbeat {
                round,
                commit,
                commit_term,
                recovery,
                ..
            } => {
                write!(f, "Heartbeat round {round}, commit {commit}/t{commit_term}")?;
                match recovery {
                    Some(recovery) => {
                        write!(f, ", recovery at {}/t{}", recovery.index, recovery.term)
                    }
                    None => Ok(()),
                }
            }
            Body::HeartbeatReply {
                round, amnesiac, ..
            } => write!(f, "HeartbeatReply round {round}{}", uncounted(*amnesiac)),
            Body::ReadIndex { request, .. } => write!(f, "ReadIndex {request}"),
            Body::ReadIndexReply { request, index, .. } => {
                write!(f, "ReadIndexReply {request}: {index}")
            }
            Body::Forward {
                epoch,
                position,
                sequence,
                body,
                ..
            } => {
                write!(
                    f,
                    "Forward {sequence} (epoch {epoch}, position {position}), {} bytes",
                    body.len()
                )
            }
            Body::ForwardRefused {
                epoch, position, ..
            } => write!(f, "ForwardRefused epoch {epoch} from position {position}"),
            Body::TimeoutNow => write!(f, "TimeoutNow"),
            Body::StaleTerm => write!(f, "StaleTerm"),
        }
    }
}

fn yes_no(granted: bool) -> &'static str {
    if granted { "yes" } else { "no" }
}

fn uncounted(amnesiac: bool) -> &'static str {
    if amnesiac { " (uncounted)" } else { "" }
}
