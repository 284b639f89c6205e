//! Client records, which make a request take effect once however often it is repeated (PROPERTIES E1-E3).
//!
//! A client id is an ordinal, so it is never used twice. A client numbers its requests from 1 on and says with each of them which is the lowest
//! without a reply. Replies from there on are kept, in whatever order the requests come; those below are freed and never told again. A record
//! belongs to who registered it, and ends with its lease. Too many records: *registration* is refused, never a record dropped.

mod apply;
mod command;
mod kept;
mod records;

pub(crate) use apply::Admission;
pub use command::*;
pub(crate) use records::{Answered, Client, Clients, Request};

/// Client records.
pub const CLIENTS_MAX: usize = 1_000_000;
/// Sequences from the lowest without a reply on that a client may use.
pub const WINDOW: u64 = 1024;
/// A longer reply is kept as "applied at this revision".
pub const REPLY_BYTES_MAX: usize = 64 << 10;
/// So is one of a client that has as much as this kept already.
pub const KEPT_BYTES_MAX: u64 = 1 << 20;
use std::fmt;

/// The answer to a [`ClientCommand`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientReply {
    /// The lease's record.
    Registered {
        /// The client id.
        client: u64,
    },
}

/// Why a request of a client was refused, or none can be let in. It was not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientRejection {
    /// There is no such record any more, or never was: whether an earlier attempt was applied is not known.
    Unknown,
    /// The reply was freed, because the client said that it has it.
    Freed {
        /// The client's lowest sequence whose reply is kept.
        acknowledged_below: u64,
    },
    /// The sequence is too far above the client's lowest one without a reply.
    Window {
        /// The first sequence beyond what is allowed now.
        end: u64,
    },
    /// The lease that the record is to end with does not exist.
    LeaseNotFound,
    /// There are as many records as may be.
    TooMany {
        /// So many.
        max: usize,
    },
    /// The numbers of the envelope make no sense together.
    Sequence,
}

impl fmt::Display for ClientRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientRejection::Unknown => f.write_str(
                "the client record has ended, or never was; whether the request was applied before is not known",
            ),
            ClientRejection::Freed { acknowledged_below } => write!(
                f,
                "the client has said that it has all replies below {acknowledged_below}"
            ),
            ClientRejection::Window { end } => write!(
                f,
                "the client's sequence is not below {end}: too many replies are not acknowledged"
            ),
            ClientRejection::LeaseNotFound => f.write_str("the session has ended, or never was; open another one"),
            ClientRejection::TooMany { max } => {
                write!(f, "there are {max} client records, which is the limit")
            }
            ClientRejection::Sequence => f.write_str(
                "the client's sequence is 0, or below the one it acknowledges",
            ),
        }
    }
}
