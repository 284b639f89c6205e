//! Why a request to consensus was not taken, by what the caller may do. In every case nothing was appended.

use crate::PeerId;

/// Why a proposal was not taken. Nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposeError {
    /// This member does not lead, or it leads and is handing over.
    NotLeader {
        /// Who does, if known.
        leader: Option<PeerId>,
    },
    /// Too many uncommitted bytes; try again later.
    Overloaded {
        /// Uncommitted now.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
}

/// Why a change of membership was not begun. Nothing was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// This member does not lead.
    NotLeader {
        /// Who does, if known.
        leader: Option<PeerId>,
    },
    /// An earlier change is not finished, or no entry of this term is committed yet.
    Busy,
    /// The change makes no sense; the text says why.
    Invalid(String),
}

/// Why leadership was not handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferError {
    /// This member does not lead.
    NotLeader {
        /// Who does, if known.
        leader: Option<PeerId>,
    },
    /// The target is no voter, is not reachable, or there is no other voter.
    BadTarget,
}
