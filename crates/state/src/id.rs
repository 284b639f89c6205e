//! What identifiers are made from (PROPERTIES I1): segments of sequences, counters, worker ids with the time in which they may be used.

mod command;

use crate::lock::out_of_bounds;
pub use command::*;
use std::fmt;

/// The answer to an [`IdCommand`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdReply {
    /// A segment.
    Segment {
        /// Its first number.
        first: u64,
        /// How many.
        count: u64,
    },
    /// A counter.
    Counter {
        /// Its value now.
        value: i64,
    },
    /// A worker id and a time in which nobody else uses it.
    Worker {
        /// The worker id.
        worker: u32,
        /// First millisecond, on the wall clock of the log.
        from_ms: u64,
        /// First millisecond after it.
        until_ms: u64,
    },
}

/// Why none is handed out. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdRejection {
    /// The sequence or counter has no numbers left.
    Exhausted,
    /// The session has ended, or never was.
    SessionNotFound,
    /// Every worker id of the pool is taken.
    NoWorker,
    /// A number or a length is out of bounds.
    Limit {
        /// Of what.
        what: &'static str,
        /// As asked for.
        value: u64,
        /// The least allowed.
        min: u64,
        /// The most allowed.
        max: u64,
    },
}

impl fmt::Display for IdRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdRejection::Exhausted => f.write_str("there are no numbers left"),
            IdRejection::SessionNotFound => {
                f.write_str("the session has ended, or never was; open another one")
            }
            IdRejection::NoWorker => f.write_str("every worker id of the pool is taken"),
            IdRejection::Limit {
                what,
                value,
                min,
                max,
            } => out_of_bounds(f, what, *value, *min, *max),
        }
    }
}
