//! What the log holds.

use crate::{Configuration, Index, PeerId, Term};
use bytes::Bytes;
use std::fmt;

/// One decided (or to be decided) step of the cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Term of the leader that appended it.
    pub term: Term,
    /// Its position.
    pub index: Index,
    /// What it carries.
    pub payload: Payload,
}

/// The content of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The no-op a leader appends at the start of its term (Raft thesis §6.4).
    Noop,
    /// A batch of commands; its bytes are `state`'s and opaque here.
    Batch(Bytes),
    /// A configuration; takes effect when appended (Raft thesis §4.1).
    Configuration(Configuration),
}

/// The durable promise of a member: its term, and whom it voted for in that term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vote {
    /// The newest term seen.
    pub term: Term,
    /// The candidate that got this member's vote in `term`, if any.
    pub candidate: Option<PeerId>,
}

/// The point of history a snapshot stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotMark {
    /// Index of the last entry the snapshot includes.
    pub index: Index,
    /// Term of that entry.
    pub term: Term,
    /// The configuration in force at that index.
    pub configuration: Configuration,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/t{}", self.index, self.term)?;
        match &self.payload {
            Payload::Noop => write!(f, ":noop"),
            Payload::Batch(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) if text.len() <= 12 && text.chars().all(|c| c.is_ascii_graphic()) => {
                    write!(f, ":{text}")
                }
                _ => write!(f, ":{}B", bytes.len()),
            },
            Payload::Configuration(configuration) => write!(f, ":{configuration}"),
        }
    }
}
