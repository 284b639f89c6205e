//! What identifiers are made from (PROPERTIES I1): segments of sequences, counters, worker ids with the time in which they may be used.

mod apply;
mod command;
mod rows;

use crate::lock::out_of_bounds;
pub use command::*;
use std::borrow::Cow;
use std::fmt;

pub(crate) use rows::{Ids, Number, Worker};

/// Bytes of a name.
pub const NAME_BYTES_MAX: usize = 1024;
/// Numbers of one segment.
pub const SEGMENT_MAX: u64 = 1 << 40;
/// Sequences, counters and worker ids.
pub const ROWS_MAX: usize = 1_000_000;
/// Worker ids of a pool.
pub const WORKERS_MAX: u32 = 1 << 16;
/// Pools in which one session has a worker id.
pub const POOLS_PER_SESSION_MAX: usize = 64;
/// Longest time handed out at once.
pub const AHEAD_MS_MAX: u64 = 600_000;
/// How far a worker id may be ahead of the wall clock, for bursts.
pub const BORROWED_MS_MAX: u64 = 86_400_000;

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
        /// The wall clock of the log.
        now_ms: u64,
        /// First millisecond, on the wall clock of the log.
        from_ms: u64,
        /// First millisecond after it.
        until_ms: u64,
    },
}

/// Why none is handed out. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
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
        what: Cow<'static, str>,
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
