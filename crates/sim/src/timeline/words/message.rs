//! Messages between members in words.

use raft::{Body, Entry, Payload};
use replica::{MemberChange, Message};

/// Longest text kept of a message; the rest is cut off.
const CHARS_MAX: usize = 240;

/// Entries of an append that are named.
const ENTRIES_MAX: usize = 4;

/// What a message says.
pub fn message(message: &Message) -> String {
    let text = match message {
        Message::Raft(message) => format!("term {}: {}", message.term, consensus(&message.body)),
        Message::SnapshotChunk {
            mark,
            offset,
            bytes_total,
            ..
        } => format!(
            "here is a piece of the snapshot of index {}, from byte {offset} of {bytes_total}",
            mark.index
        ),
        Message::SnapshotAck { index, offset } => {
            format!("I have {offset} bytes of the snapshot of index {index}")
        }
        Message::StateHash { index, .. } => format!("compare the hash at index {index}"),
        Message::StateWanted { from } => {
            format!("send me a snapshot, of index {from} or later")
        }
        Message::Publish(_) => "this is where I am reached".into(),
        Message::ShortOfSpace => "my disk is short of space".into(),
        Message::ChangeAsked { request, .. } => {
            let changes: Vec<String> = request.changes.iter().map(change).collect();
            format!("change the members: {}", changes.join(", "))
        }
        Message::ChangeAnswered { outcome, .. } => match outcome {
            Ok(begun) => format!("the change of members begins at index {}", begun.index),
            Err(why) => format!("the change of members is refused: {why}"),
        },
    };
    match text.char_indices().nth(CHARS_MAX) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text,
    }
}

fn consensus(body: &Body) -> String {
    let yes_no = |granted: bool| if granted { "yes" } else { "no" };
    let uncounted = |amnesiac: bool| if amnesiac { ", uncounted" } else { "" };
    match body {
        Body::PreVote {
            campaign,
            last_index,
            last_term,
        } => format!(
            "would you vote for me in term {campaign}? My log ends with {last_index} of term {last_term}"
        ),
        Body::PreVoteReply { campaign, granted } => {
            format!("{}, in term {campaign}", yes_no(*granted))
        }
        Body::Vote {
            last_index,
            last_term,
            transfer,
        } => {
            let asked = if *transfer { ", as I was asked to" } else { "" };
            format!("vote for me{asked}; my log ends with {last_index} of term {last_term}")
        }
        Body::VoteReply { granted: true } => "you have my vote".into(),
        Body::VoteReply { granted: false } => "you do not have my vote".into(),
        Body::Append {
            prev_index,
            prev_term,
            commit,
            entries,
        } => format!(
            "after {prev_index} of term {prev_term} comes {}; {commit} is decided",
            batch(entries)
        ),
        Body::AppendReply {
            matched,
            rejected: None,
            amnesiac,
            ..
        } => format!("I have {matched}{}", uncounted(*amnesiac)),
        Body::AppendReply {
            rejected: Some(rejected),
            amnesiac,
            ..
        } => format!(
            "{} does not fit, try {} of term {}{}",
            rejected.prev_index,
            rejected.hint_index,
            rejected.hint_term,
            uncounted(*amnesiac)
        ),
        Body::Heartbeat {
            round,
            commit,
            commit_term,
            recovery,
            ..
        } => {
            let believed = recovery.as_ref().map_or(String::new(), |recovery| {
                let (index, term) = (recovery.index, recovery.term);
                format!("; you are believed again with {index} of term {term}")
            });
            format!("round {round}, {commit} of term {commit_term} is decided{believed}")
        }
        Body::HeartbeatReply {
            round, amnesiac, ..
        } => format!("I hear round {round}{}", uncounted(*amnesiac)),
        Body::ReadIndex { request, .. } => format!("what must read {request} wait for?"),
        Body::ReadIndexReply { request, index, .. } => format!("read {request} waits for {index}"),
        Body::Forward { sequence, body, .. } => {
            format!("please decide my command {sequence}, {} bytes", body.len())
        }
        Body::ForwardRefused { position, .. } => {
            format!("your commands from place {position} on are refused")
        }
        Body::TimeoutNow => "stand for election now".into(),
        Body::StaleTerm => "your term is over".into(),
    }
}

fn batch(entries: &[Entry]) -> String {
    let words: Vec<String> = entries.iter().take(ENTRIES_MAX).map(entry).collect();
    match entries.len().saturating_sub(ENTRIES_MAX) {
        0 if words.is_empty() => "nothing new".into(),
        0 => words.join(", "),
        more => format!("{} and {more} more", words.join(", ")),
    }
}

fn entry(entry: &Entry) -> String {
    let what = match &entry.payload {
        Payload::Noop => "nothing".into(),
        Payload::Batch(bytes) => format!("{} bytes", bytes.len()),
        Payload::Configuration(_) => "a configuration".into(),
    };
    format!("{} of term {} ({what})", entry.index, entry.term)
}

fn change(change: &MemberChange) -> String {
    match change {
        MemberChange::Add { peer_addresses, .. } => {
            format!("a place for {}", peer_addresses.join(" "))
        }
        MemberChange::Promote(member) => format!("{member} is to vote"),
        MemberChange::Remove(member) => format!("{member} is to leave"),
        MemberChange::Move {
            member,
            peer_addresses,
        } => format!("{member} is reached at {}", peer_addresses.join(" ")),
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
