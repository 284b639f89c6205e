//! The timeline as lines of text: time, member, what, in plain words.

use super::{Kind, Moment, Timeline, What};
use crate::clock::Micros;
use raft::Role;
use std::fmt::Write;

/// How much is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// Elections, terms, crashes, partitions, decisions, requests, verdicts.
    Story,
    /// Each message too, heartbeats excepted.
    Messages,
    /// Each message and each sync.
    Everything,
}

/// A time as the timeline shows it: seconds with microseconds.
pub fn clock(at: Micros) -> String {
    format!("{:>3}.{:06}", at / 1_000_000, at % 1_000_000)
}

/// Name of a member in texts and pictures.
pub fn name(member: usize) -> String {
    format!("n{}", member + 1)
}

impl Timeline {
    /// The timeline as text, a line per moment inside the window.
    pub fn text(&self, detail: Detail) -> String {
        let mut lines = String::new();
        let mut decided = 0;
        for moment in &self.moments {
            if !self.window.is_some_and(|window| window.contains(moment.at)) {
                continue;
            }
            if let What::Commits { commit } = moment.what {
                // The first to know is news; that the others learn it is not.
                let news = commit > decided;
                decided = decided.max(commit);
                if !news && detail == Detail::Story {
                    continue;
                }
            }
            if detail_of(&moment.what) <= detail {
                let who = moment.member.map_or(String::new(), name);
                let _ = writeln!(lines, "{} {who:<4} {}", clock(moment.at), sentence(moment));
            }
        }
        if self.left_out > 0 {
            let _ = writeln!(
                lines,
                "({} more messages and requests are left out; see --from and --to)",
                self.left_out
            );
        }
        lines
    }
}

fn detail_of(what: &What) -> Detail {
    match what {
        What::Sends {
            kind: Kind::Heartbeat | Kind::HeartbeatReply,
            ..
        }
        | What::Durable { .. } => Detail::Everything,
        What::Sends { .. } => Detail::Messages,
        _ => Detail::Story,
    }
}

/// A moment in words; the member is named before it.
pub fn sentence(moment: &Moment) -> String {
    match &moment.what {
        What::Starts { last: 0 } => "starts with an empty log".into(),
        What::Starts { last } => format!("starts with a log up to index {last}"),
        What::CannotStart(why) => format!("cannot start: {why}"),
        What::Dies { power: true } => "is without power".into(),
        What::Dies { power: false } => "is dead".into(),
        What::Fault(fault) => format!("** {fault}"),
        What::Role { role, term, leader } => role_text(*role, *term, leader.map(name)),
        What::Sends {
            to, arrivals, text, ..
        } => {
            let to = name(*to);
            match arrivals {
                [None, _] => format!("→ {to} (lost) {text}"),
                [Some(at), None] => format!("→ {to} ({} us) {text}", at - moment.at),
                [Some(_), Some(_)] => format!("→ {to} (twice) {text}"),
            }
        }
        What::Commits { commit } => format!("knows that index {commit} is decided"),
        What::Durable { sequence } => format!("has made write {sequence} durable"),
        What::Snapshot { index } => format!("has a durable snapshot of index {index}"),
        What::Installs { index } => {
            format!("takes over a snapshot of index {index} in place of its log")
        }
        What::Configuration(text) => format!("goes by the configuration: {text}"),
        What::Asked {
            client,
            request,
            text,
        } => format!("is asked by c{client} ({request}): {text}"),
        What::Answers {
            client,
            request,
            text,
            ..
        } => format!("answers c{client} ({request}): {text}"),
        What::Healed => "-- everything is mended".into(),
        What::Note(text) => format!("-- {text}"),
        What::Violation { property, text } => format!("!! VIOLATION of {property}: {text}"),
    }
}

fn role_text(role: Role, term: u64, leader: Option<String>) -> String {
    match (role, leader) {
        (Role::Leader, _) => format!("leads term {term}"),
        (Role::Candidate, _) => format!("stands for election in term {term}"),
        (Role::PreCandidate, _) => {
            format!("asks whether it could win an election (term {term} so far)")
        }
        (Role::Follower, Some(leader)) => format!("follows {leader} in term {term}"),
        (Role::Follower, None) => format!("is in term {term} and knows no leader"),
    }
}
