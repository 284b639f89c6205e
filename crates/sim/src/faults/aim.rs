//! Faults that aim: what they are is drawn before the run like all others, but their victim, or their moment, is chosen when it comes to it,
//! by what members are doing then.

use super::span;
use crate::clock::Micros;
use raft::Body;
use replica::Message;
use std::fmt;

/// A fault that aims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Aim {
    /// Whoever leads is struck.
    Leader(Blow),
    /// Whoever leads loses its office and does not hear of it, while its clients go on writing to it. When a successor has decided something,
    /// that one is struck and the former leader is back.
    Dethrone {
        /// It is asked to hand over and hears nothing from then on; otherwise it is cut off.
        by_handover: bool,
        /// Entries the successor decides first.
        decided: u64,
        /// What becomes of the successor.
        blow: Blow,
    },
    /// Whoever says this next is struck just after.
    Sender(Said, Blow),
    /// All connections of whoever leads break at one moment; they can be made anew at once.
    Disconnect,
    /// All but whoever leads stop for so long and go on at the same moment: whose time is up, stands.
    Race(Micros),
    /// What is said does not arrive for a while; then all of it does.
    Hold(Hold),
}

/// What becomes of a victim, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blow {
    /// What.
    pub strike: Strike,
    /// After so long it is mended.
    pub time: Micros,
}

/// The ways to strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strike {
    /// `kill -9`.
    Kill,
    /// Its machine loses power; nothing unsynced survives.
    Power,
    /// Its process is stopped.
    Pause,
    /// It is cut off from other members, not from its clients.
    Cut(Way),
}

/// How a member is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It neither hears nor is heard.
    Both,
    /// It is not heard.
    Out,
    /// It hears nothing.
    In,
    /// As many others as still make no majority are cut off with it.
    WithMinority,
}

/// Messages that do not arrive for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Of these kinds.
    pub said: &'static [Said],
    /// To or from this member; `None`: everybody's.
    pub member: Option<usize>,
    /// For so long.
    pub time: Micros,
    /// Then they arrive within so long, in the order they were sent or in any.
    pub within: Micros,
}

/// Kinds of messages that a fault may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Requests for votes.
    VoteAsked,
    /// Pre-votes granted.
    PreVoteGranted,
    /// Votes granted.
    VoteGranted,
    /// Entries.
    Append,
    /// Acknowledgements of entries.
    AppendAnswer,
    /// Heartbeats.
    Heartbeat,
    /// Answers to heartbeats.
    HeartbeatAnswer,
    /// Answers to ReadIndex.
    ReadIndexAnswer,
    /// Forwarded commands.
    Forward,
    /// Refusals of forwarded commands.
    ForwardRefused,
    /// Acknowledgements of pieces of a snapshot.
    SnapshotAnswer,
    /// "Stand for election now".
    HandOver,
}

impl Said {
    /// The message is of this kind.
    pub fn is(self, message: &Message) -> bool {
        let Message::Raft(message) = message else {
            return self == Said::SnapshotAnswer && matches!(message, Message::SnapshotAck { .. });
        };
        match (self, &message.body) {
            (Said::VoteAsked, Body::Vote { .. })
            | (Said::Append, Body::Append { .. })
            | (Said::AppendAnswer, Body::AppendReply { .. })
            | (Said::Heartbeat, Body::Heartbeat { .. })
            | (Said::HeartbeatAnswer, Body::HeartbeatReply { .. })
            | (Said::ReadIndexAnswer, Body::ReadIndexReply { .. })
            | (Said::Forward, Body::Forward { .. })
            | (Said::ForwardRefused, Body::ForwardRefused { .. })
            | (Said::HandOver, Body::TimeoutNow) => true,
            (Said::PreVoteGranted, Body::PreVoteReply { granted, .. })
            | (Said::VoteGranted, Body::VoteReply { granted }) => *granted,
            _ => false,
        }
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Aim::Leader(blow) => write!(f, "whoever leads now {blow}"),
            Aim::Dethrone {
                by_handover,
                decided,
                blow,
            } => {
                let how = if *by_handover {
                    "is asked to hand over and hears nothing from then on"
                } else {
                    "is cut off"
                };
                write!(
                    f,
                    "whoever leads now {how}; its successor, with {decided} entries decided, {blow}, and the former leader is back"
                )
            }
            Aim::Sender(said, blow) => write!(f, "whoever sends {said} next {blow}"),
            Aim::Disconnect => write!(f, "all connections of whoever leads now break"),
            Aim::Race(time) => write!(
                f,
                "all but whoever leads stop for {} and go on at the same moment",
                span(*time)
            ),
            Aim::Hold(hold) => write!(f, "{hold}"),
        }
    }
}

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.strike, span(self.time))
    }
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Strike::Kill => "is killed and down",
            Strike::Power => "loses power with all that was not synced, and is down",
            Strike::Pause => "is paused",
            Strike::Cut(Way::Both) => "is cut off",
            Strike::Cut(Way::Out) => "is not heard by the others",
            Strike::Cut(Way::In) => "hears nothing of the others",
            Strike::Cut(Way::WithMinority) => "is cut off with a minority",
        })
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, said) in self.said.iter().enumerate() {
            write!(f, "{}{said}", if nth == 0 { "" } else { ", " })?;
        }
        if let Some(member) = self.member {
            write!(f, " to and from n{}", member + 1)?;
        }
        write!(
            f,
            " will not arrive for {}, and then within {}",
            span(self.time),
            span(self.within)
        )
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Said::VoteAsked => "requests for votes",
            Said::PreVoteGranted => "pre-votes granted",
            Said::VoteGranted => "votes granted",
            Said::Append => "entries",
            Said::AppendAnswer => "acknowledgements of entries",
            Said::Heartbeat => "heartbeats",
            Said::HeartbeatAnswer => "answers to heartbeats",
            Said::ReadIndexAnswer => "confirmations of reads",
            Said::Forward => "forwarded commands",
            Said::ForwardRefused => "refusals of forwarded commands",
            Said::SnapshotAnswer => "acknowledgements of a snapshot",
            Said::HandOver => "a word to stand for election",
        })
    }
}
