//! Requests, answers, messages and configurations in a few words each.

mod command;
mod message;
mod outcome;

pub use message::{label, message};
pub use outcome::outcome;

use crate::oracle::Request;
use raft::{Configuration, PeerId};
use replica::Consistency;
use state::Query;
use state::lock::LockQuery;
use std::collections::BTreeSet;

/// Bytes shown of a key, a value or a name.
const BYTES_MAX: usize = 24;

/// What a client asks.
pub fn request(request: &Request) -> String {
    match request {
        Request::Propose(command) => command::command(command),
        Request::KeepAlive(lease) => format!("keep lease {lease:x} alive"),
        Request::Read(consistency, query) => asked(query) + &age(consistency),
    }
}

/// How old the answer may be.
fn age(consistency: &Consistency) -> String {
    match consistency {
        Consistency::Linearizable => String::new(),
        Consistency::AtLeast(stamp) => format!(" (as of index {} or later)", stamp.index),
        Consistency::Bounded(age) => format!(" (not older than {} ms)", age.as_millis()),
        Consistency::Local => " (as it is here)".into(),
    }
}

fn asked(query: &Query) -> String {
    match query {
        Query::Range(read) => format!("read {}", range(&read.key, &read.range_end)),
        Query::Txn(_) => "read in a transaction".into(),
        Query::LeaseTimeToLive { id, .. } => format!("time left of lease {id:x}"),
        Query::Leases => "list leases".into(),
        Query::Sessions { from, .. } => format!("list sessions from {from:x}"),
        Query::HashKv { revision } => format!("hash up to revision {revision}"),
        Query::Alarms => "list alarms".into(),
        Query::Lock(query) => about_lock(query),
        Query::Position => "where are you?".into(),
    }
}

fn about_lock(query: &LockQuery) -> String {
    match query {
        LockQuery::List { from, .. } if from.is_empty() => "list locks".into(),
        LockQuery::List { from, .. } => format!("list locks from {}", text(from)),
        LockQuery::Show { name, .. } => format!("show lock {}", text(name)),
        LockQuery::Claim { claimant } | LockQuery::Own { claimant } => {
            format!("what does session {:x} have?", claimant.session)
        }
        LockQuery::Check { name, token } => {
            format!("does token {token} of {} hold?", text(name))
        }
    }
}

/// Who decides, by the names that `name` gives.
pub fn configuration(configuration: &Configuration, name: impl Fn(PeerId) -> String) -> String {
    let names = |peers: &BTreeSet<PeerId>| {
        peers
            .iter()
            .map(|peer| name(*peer))
            .collect::<BTreeSet<_>>()
    };
    let list = |peers| names(peers).into_iter().collect::<Vec<_>>().join(" ");
    let mut text = format!("voters {}", list(&configuration.voters));
    if !configuration.outgoing.is_empty() {
        text += &format!(" jointly with {}", list(&configuration.outgoing));
    }
    if !configuration.learners.is_empty() {
        text += &format!(", learners {}", list(&configuration.learners));
    }
    text
}

fn range(key: &[u8], end: &[u8]) -> String {
    match end {
        [] => text(key),
        [0] => format!("{} and all after it", text(key)),
        end => format!("{} up to {}", text(key), text(end)),
    }
}

/// Bytes as a reader may see them; of what is long or no text only how much it is.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok("") => "(empty)".into(),
        Ok(text) if text.len() <= BYTES_MAX && !text.contains(char::is_control) => text.into(),
        _ => format!("{} bytes", bytes.len()),
    }
}
