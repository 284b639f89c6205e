//! Requests, answers, messages and configurations in a few words each.

use crate::oracle::Request;
use raft::{Configuration, PeerId};
use replica::{Body, Consistency, Failure, Message, Response};
use state::lock::{LockCommand, LockOperation, LockReply};
use state::{Answer, Guard, Operation, Query, Rejection, Reply, TxnOperation, TxnStep};
use std::collections::BTreeSet;

/// Longest text kept of a message; the rest is cut off.
const MESSAGE_CHARS_MAX: usize = 240;

/// What a client asks.
pub fn request(request: &Request) -> String {
    match request {
        Request::Propose(command) => {
            let asked = command.operation.as_ref();
            let guards = command.guards.iter().map(guard);
            asked.map_or("nothing".into(), operation) + &guards.collect::<String>()
        }
        Request::KeepAlive(lease) => format!("keep lease {lease:x} alive"),
        Request::Read(Consistency::Linearizable, query) => asked(query),
        Request::Read(consistency, query) => format!("{} ({consistency:?})", asked(query)),
    }
}

fn operation(operation: &Operation) -> String {
    match operation {
        Operation::Put(put) => format!("put {} = {}", text(&put.key), text(&put.value)),
        Operation::DeleteRange(delete) => {
            format!("delete {}", range(&delete.key, &delete.range_end))
        }
        Operation::Txn(txn) => format!(
            "if {} comparison(s): {}; else: {}",
            txn.compares.len(),
            steps(&txn.success),
            steps(&txn.failure)
        ),
        Operation::Compact(compact) => format!("compact up to revision {}", compact.revision),
        Operation::LeaseGrant(grant) => format!("lease {:x} for {} ms", grant.id, grant.ttl_ms),
        Operation::LeaseRevoke(revoke) => format!("revoke lease {:x}", revoke.id),
        Operation::Lock(LockCommand {
            operation: Some(operation),
        }) => lock(operation),
        other => format!("{other:?}"),
    }
}

fn guard(guard: &Guard) -> String {
    format!(
        ", guarded by token {} of {}",
        guard.token,
        text(&guard.name)
    )
}

fn lock(operation: &LockOperation) -> String {
    match operation {
        LockOperation::Acquire(acquire) => {
            let wait = match acquire.wait_ms {
                0 => "without waiting".into(),
                u64::MAX => "and wait".into(),
                wait_ms => format!("and wait {wait_ms} ms"),
            };
            let (name, session) = (text(&acquire.name), acquire.claimant.session);
            format!("lock {name} for session {session:x} {wait}")
        }
        LockOperation::Release(release) => {
            format!("release what session {:x} has", release.claimant.session)
        }
        other => format!("{other:?}"),
    }
}

fn steps(steps: &[TxnOperation]) -> String {
    let step = |operation: &TxnOperation| match &operation.step {
        Some(TxnStep::Put(put)) => format!("put {}", text(&put.key)),
        Some(TxnStep::DeleteRange(delete)) => {
            format!("delete {}", range(&delete.key, &delete.range_end))
        }
        Some(TxnStep::Range(read)) => format!("read {}", range(&read.key, &read.range_end)),
        _ => "more".into(),
    };
    let words: Vec<String> = steps.iter().take(4).map(step).collect();
    let more = if steps.len() > 4 { " ..." } else { "" };
    if words.is_empty() {
        "nothing".into()
    } else {
        words.join(", ") + more
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
        Query::Lock(query) => format!("{query:?}"),
        Query::Position => "where are you?".into(),
    }
}

/// How a request ended.
pub fn outcome(outcome: &Result<Response, Failure>) -> String {
    let response = match outcome {
        Ok(response) => response,
        Err(failure) => return failure_text(failure),
    };
    let at = format!("at revision {}", response.revision);
    match &response.body {
        Body::Reply(Reply::Rejected(Rejection::Guard(why))) => format!("refused: {why}"),
        Body::Reply(Reply::Rejected(Rejection::Lock(why))) => format!("refused: {why}"),
        Body::Reply(Reply::Rejected(rejection)) => format!("refused: {rejection:?}"),
        Body::Reply(Reply::DeleteRange { deleted, .. }) => format!("{deleted} deleted {at}"),
        Body::Reply(Reply::Txn(txn)) if !txn.succeeded => {
            format!("comparisons did not hold, done {at}")
        }
        Body::Reply(Reply::Lock(LockReply::Granted { token })) => format!("yours, token {token}"),
        Body::Reply(_) => format!("done {at}"),
        Body::KeepAlive(Some(ttl)) => format!("alive for {ttl} ms"),
        Body::KeepAlive(None) => "there is no such lease".into(),
        Body::Answer(Answer::Range(read)) => match read.kvs.as_slice() {
            [] if read.count == 0 => format!("nothing there {at}"),
            [only] if !only.value.is_empty() => {
                format!("{} = {} {at}", text(&only.key), text(&only.value))
            }
            _ => format!("{} key(s) {at}", read.count),
        },
        Body::Answer(_) => format!("answered {at}"),
        Body::Checkpoint(index) => format!("there is a snapshot at {}", index.0),
        Body::MembershipChanged(_) => "the members are changed".into(),
    }
}

fn failure_text(failure: &Failure) -> String {
    match failure {
        Failure::NoLeader => "no leader is known, nothing happened".into(),
        Failure::LeaderChanged => "the leader changed, certainly not applied".into(),
        Failure::Unknown => "unknown: applied once, or never".into(),
        Failure::Overloaded { queue, .. } => format!("overloaded: {queue}"),
        Failure::DiskFull => "the disk is full".into(),
        Failure::TooManyLeases { limit } => format!("{limit} leases are there already"),
        Failure::MembershipRefused(why) => format!("refused: {why}"),
        other => format!("{other:?}"),
    }
}

/// What a message says.
pub fn message(message: &Message) -> String {
    let text = match message {
        Message::Raft(message) => message.to_string(),
        Message::SnapshotChunk {
            mark,
            offset,
            bytes_total,
            ..
        } => {
            format!(
                "SnapshotChunk of index {}, at {offset} of {bytes_total} bytes",
                mark.index
            )
        }
        Message::SnapshotAck { index, offset } => {
            format!("SnapshotAck of index {index}, has {offset} bytes")
        }
        Message::StateHash { index, .. } => format!("StateHash at index {index}"),
        Message::StateWanted { from } => format!("StateWanted, of index {from} or later"),
        Message::Publish(_) => "Publish: where I am reached".into(),
        Message::ShortOfSpace => "ShortOfSpace: another one should lead".into(),
        Message::ChangeAsked { request, .. } => format!("ChangeAsked: {:?}", request.changes),
        Message::ChangeAnswered { outcome, .. } => match outcome {
            Ok(begun) => format!("ChangeAnswered: begins at index {}", begun.index),
            Err(why) => format!("ChangeAnswered: refused: {why}"),
        },
    };
    match text.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text,
    }
}

/// The little that has room on an arrow.
pub fn label(message: &Message) -> String {
    use raft::Body::*;
    let message = match message {
        Message::Raft(message) => message,
        Message::SnapshotChunk { mark, .. } => return format!("snapshot {}", mark.index),
        Message::SnapshotAck { .. } => return "has a piece".into(),
        Message::StateHash { .. } => return "hash".into(),
        Message::StateWanted { .. } => return "a state, please".into(),
        Message::Publish(_) => return "address".into(),
        Message::ShortOfSpace => return "no room".into(),
        Message::ChangeAsked { .. } => return "change members?".into(),
        Message::ChangeAnswered { .. } => return "members".into(),
    };
    let term = message.term;
    let yes_no = |granted: bool| if granted { "yes" } else { "no" }.to_string();
    match &message.body {
        PreVote { campaign, .. } => format!("pre-vote, term {campaign}"),
        PreVoteReply { granted, .. } | VoteReply { granted } => yes_no(*granted),
        Vote { .. } => format!("vote, term {term}"),
        Append {
            entries, commit, ..
        } => match entries.as_slice() {
            [] => format!("decided to {commit}"),
            [only] => format!("entry {}", only.index),
            [first, .., last] => format!("entries {}-{}", first.index, last.index),
        },
        AppendReply {
            rejected: Some(_), ..
        } => "does not fit".into(),
        AppendReply { matched, .. } => format!("has {matched}"),
        Heartbeat { .. } => "heartbeat".into(),
        HeartbeatReply { .. } => "alive".into(),
        ReadIndex { .. } => "may I read?".into(),
        ReadIndexReply { index, .. } => format!("read at {index}"),
        Forward { .. } => "forward".into(),
        ForwardRefused { .. } => "refused".into(),
        TimeoutNow => "stand now".into(),
        StaleTerm => "newer term".into(),
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
    if end.is_empty() {
        text(key)
    } else {
        format!("[{}, {})", text(key), text(end))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(24)]).into_owned()
}
