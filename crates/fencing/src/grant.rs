//! What a signed token says.

use serde::{Deserialize, Serialize};

/// That a cell granted a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The cluster, in hexadecimal.
    #[serde(rename = "iss")]
    pub cluster: String,
    /// The cell.
    pub cell: u64,
    /// The lock.
    #[serde(rename = "sub")]
    pub name: String,
    /// How it was granted.
    pub mode: Mode,
    /// The fencing token: greater than those of all earlier grants of this lock.
    pub token: u64,
    /// When the holder's session ends if nobody renews it: seconds since 1970 by the clock of the member that signed. An advice.
    #[serde(rename = "exp")]
    pub expires_unix_s: u64,
}

/// How a lock was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// To one alone.
    Exclusive,
    /// To all who share.
    Shared,
    /// As permits of a semaphore.
    Permits,
    /// As membership of a group.
    Member,
    /// As a place in a barrier.
    Enter,
}
