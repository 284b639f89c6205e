//! What must hold, checked while the world runs. Each oracle sees only what passes between a member and its shell: persists, messages'
//! effects, replies, watch responses and the member's own status.

mod actions;
mod blame;
mod consensus;
mod history;
mod lease_views;
mod leases;
mod locks;
mod once;
mod replicated_clock;
mod rights;
mod transactions;
mod upkeep;
mod watches;

pub use blame::Blame;
pub use consensus::{Consensus, Recovery, declared_loss, is_quorum};
pub use history::{History, Request, trace_id, value_of};
pub use leases::Leases;
pub use locks::Locks;
pub use once::Once;
pub use replicated_clock::ReplicatedClock;
pub use rights::Rights;
pub use upkeep::{Own, Upkeep};
pub use watches::WatchOracle;

use crate::clock::Micros;
use std::fmt;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// True time when it was seen.
    pub at: Micros,
    /// The promise, by its name in PROPERTIES where it has one.
    pub property: &'static str,
    /// What was seen, and what should have been.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "at {}.{:06} s, {}: {}",
            self.at / 1_000_000,
            self.at % 1_000_000,
            self.property,
            self.text
        )
    }
}

/// A check's result: nothing, or the name of the broken promise and what was seen.
pub type Check = Result<(), (&'static str, String)>;

fn is_batch(entry: &raft::Entry) -> bool {
    matches!(entry.payload, raft::Payload::Batch(_))
}

/// Fails a check.
macro_rules! broken {
    ($property:expr, $($text:tt)*) => {
        return Err(($property, format!($($text)*)))
    };
}
pub(crate) use broken;
