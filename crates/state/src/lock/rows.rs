//! What is kept of locks: rows as they stand in a snapshot. All else follows from them.

use crate::hash;
use crate::lock::{Claimant, Kind, Mode};
use crate::table::Row;

/// One acquisition.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Claim {
    #[prost(bytes = "vec", tag = "1")]
    pub name: Vec<u8>,
    #[prost(message, required, tag = "2")]
    pub claimant: Claimant,
    #[prost(uint64, tag = "3")]
    pub owner: u64,
    #[prost(enumeration = "Mode", tag = "4")]
    pub mode: i32,
    #[prost(uint64, tag = "5")]
    pub permits: u64,
    #[prost(sint32, tag = "6")]
    pub priority: i32,
    /// Ordinal of its arrival: its place among those of equal priority.
    #[prost(uint64, tag = "7")]
    pub place: u64,
    /// Ordinal of its last repetition.
    #[prost(uint64, tag = "8")]
    pub joined: u64,
    /// The clock at which its wait ends; 0 for never.
    #[prost(uint64, tag = "9")]
    pub deadline_ms: u64,
    #[prost(uint64, tag = "10")]
    pub delay_ms: u64,
    /// The wall clock when it came, or was granted.
    #[prost(uint64, tag = "11")]
    pub since_wall_ms: u64,
    #[prost(bytes = "vec", tag = "12")]
    pub value: Vec<u8>,
    /// The fencing token; 0 while it waits.
    #[prost(uint64, tag = "13")]
    pub token: u64,
    /// Has left its barrier, and stays until all have.
    #[prost(bool, tag = "14")]
    pub leaving: bool,
}

/// Counted for an acquisition besides its name and text.
const CLAIM_BYTES: u64 = 256;
/// Counted for a lock besides its name.
const LOCK_BYTES: u64 = 192;

/// Bytes counted for an acquisition with such a name and text, and for its lock.
pub(crate) fn claim_bytes(name: usize, value: usize) -> u64 {
    CLAIM_BYTES + name as u64 + value as u64
}

pub(crate) fn lock_bytes(name: usize) -> u64 {
    LOCK_BYTES + name as u64
}

impl Claim {
    pub fn holds(&self) -> bool {
        self.token != 0
    }

    /// It waits for something: for the lock, or for others to leave its barrier.
    pub fn waits(&self) -> bool {
        !self.holds() || self.leaving
    }

    pub fn bytes(&self) -> u64 {
        claim_bytes(self.name.len(), self.value.len())
    }
}

impl Row for Claim {
    type Key = Claimant;

    fn key(&self) -> &Claimant {
        &self.claimant
    }

    fn hash(&self) -> u64 {
        hash::message(self)
    }
}

/// A name in use.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Lock {
    #[prost(bytes = "vec", tag = "1")]
    pub name: Vec<u8>,
    #[prost(enumeration = "Kind", tag = "2")]
    pub kind: i32,
    /// Permits of a semaphore, parties of a barrier, what a latch has left.
    #[prost(uint64, tag = "3")]
    pub limit: u64,
    /// The newest token; 0 before the first.
    #[prost(uint64, tag = "4")]
    pub newest: u64,
    /// The clock at which it opens again; 0 if it is not closed.
    #[prost(uint64, tag = "5")]
    pub closed_until_ms: u64,
    /// Ordinal of the last change of its holders and their texts.
    #[prost(uint64, tag = "6")]
    pub version: u64,
}

impl Row for Lock {
    type Key = [u8];

    fn key(&self) -> &[u8] {
        &self.name
    }

    fn hash(&self) -> u64 {
        hash::message(self)
    }
}

impl Mode {
    /// What a name is in use for when it is wanted so.
    pub fn kind(self) -> Kind {
        match self {
            Mode::Exclusive | Mode::Shared => Kind::Lock,
            Mode::Permits => Kind::Semaphore,
            Mode::Member => Kind::Group,
            Mode::Pass => Kind::Latch,
            Mode::Enter => Kind::Barrier,
        }
    }
}
