//! What commands and queries about locks answer, and what waiters are told later.

use crate::lock::{Claimant, Mode};
use crate::{Rejection, Reply};
use bytes::Bytes;
use std::borrow::Cow;
use std::fmt;

/// The answer to a [`crate::lock::LockCommand`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockReply {
    /// The lock is held, by the grant with this token.
    Granted {
        /// The fencing token.
        token: u64,
    },
    /// The latch is open, or the others have left the barrier.
    Passed,
    /// It waits: a [`Woken`] will tell how it ended.
    Waiting {
        /// Who.
        claimant: Claimant,
        /// What to name in a [`crate::lock::Release`] that is to end this wait and no later repetition of it.
        joined: u64,
    },
    /// It is not free, and waiting was not asked for.
    Busy,
    /// Given up.
    Released {
        /// The token of the grant; 0 if it waited.
        token: u64,
        /// The owner's other acquisitions still hold the lock.
        held: bool,
    },
    /// What a latch has left.
    Latch {
        /// So many times.
        count: u64,
    },
    /// The text is changed.
    ValueSet,
}

/// Why a command about a lock was refused. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockRejection {
    /// The session has ended, or never was.
    SessionNotFound,
    /// There is no such acquisition, or no such grant.
    NotHeld,
    /// The acquisition was repeated since: it goes on.
    Rejoined,
    /// The session used this id for another acquisition.
    IdInUse,
    /// The name is in use for a lock of another kind.
    OtherKind {
        /// The kind it has.
        kind: Kind,
    },
    /// The name is in use with another number of permits or parties.
    OtherLimit {
        /// The number it has.
        limit: u64,
    },
    /// The owner holds the lock together with others, and now wants it alone: it would wait for itself.
    Upgrade,
    /// The wait ended without a grant: its time was over.
    TimedOut,
    /// The wait ended without a grant: it was given up.
    Cancelled,
    /// An operator took the lock away.
    Forced {
        /// Why.
        reason: String,
    },
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

/// What a name is in use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Kind {
    /// Held alone or shared.
    Lock = 0,
    /// Permits.
    Semaphore = 1,
    /// Members with attributes.
    Group = 2,
    /// A latch that counts down.
    Latch = 3,
    /// A barrier that opens when enough wait.
    Barrier = 4,
}

/// How an acquisition that waited ended, or that one was taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Woken {
    /// Whose.
    pub claimant: Claimant,
    /// How.
    pub outcome: Outcome,
}

/// See [`Woken`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds the lock.
    Granted {
        /// The fencing token.
        token: u64,
    },
    /// The latch opened, or all have left the barrier.
    Passed,
    /// Its time was over.
    TimedOut,
    /// It was given up.
    Cancelled,
    /// Its session ended.
    SessionEnded,
    /// An operator took the lock away.
    Forced {
        /// Why.
        reason: String,
    },
}

/// What a waiter is told of the end of its wait.
impl From<Outcome> for Reply {
    fn from(outcome: Outcome) -> Reply {
        let rejection = match outcome {
            Outcome::Granted { token } => return Reply::Lock(LockReply::Granted { token }),
            Outcome::Passed => return Reply::Lock(LockReply::Passed),
            Outcome::TimedOut => LockRejection::TimedOut,
            Outcome::Cancelled => LockRejection::Cancelled,
            Outcome::SessionEnded => LockRejection::SessionNotFound,
            Outcome::Forced { reason } => LockRejection::Forced { reason },
        };
        Reply::Rejected(Rejection::Lock(rejection))
    }
}

/// What may be asked about locks. Lists come in pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockQuery {
    /// Locks in the order of names.
    List {
        /// First name.
        from: Bytes,
        /// At most; bounded by [`crate::lock::PAGE_MAX`].
        limit: usize,
    },
    /// One lock: first holders in the order of tokens, then waiters in the order they will be served.
    Show {
        /// Its name.
        name: Bytes,
        /// Passes over so many of them.
        skip: usize,
        /// At most so many of them.
        limit: usize,
    },
    /// One acquisition.
    Claim {
        /// Whose.
        claimant: Claimant,
    },
    /// The same, for whoever is to speak for it: it needs the right to change the lock.
    Own {
        /// Whose.
        claimant: Claimant,
    },
    /// Whether a grant still holds, and whether it is the newest.
    Check {
        /// The lock.
        name: Bytes,
        /// The token of the grant.
        token: u64,
    },
}

/// What such a query answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockAnswer {
    /// To a list.
    List {
        /// The locks.
        locks: Vec<LockView>,
        /// There are further ones.
        more: bool,
    },
    /// To a question about one lock; `None`: nobody holds it or waits for it.
    Show(Option<LockDetail>),
    /// To a question about one acquisition; `None`: there is none.
    Claim(Option<ClaimView>),
    /// To a check.
    Check {
        /// The grant holds the lock.
        held: bool,
        /// The newest token of the lock; 0 if it is not known any more, because nobody holds the lock or waits for it.
        newest: u64,
    },
}

/// A lock as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockView {
    /// Its name.
    pub name: Bytes,
    /// What it is in use for.
    pub kind: Kind,
    /// Permits of a semaphore, parties of a barrier, what a latch has left.
    pub limit: u64,
    /// Acquisitions that hold it.
    pub holders: usize,
    /// Acquisitions that wait.
    pub waiters: usize,
    /// Permits in use.
    pub used: u64,
    /// The newest token.
    pub newest: u64,
    /// Milliseconds for which it stays closed because a session was lost.
    pub closed_ms: u64,
    /// Raised by every change of its holders and their texts.
    pub version: u64,
}

/// A lock and a page of its acquisitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockDetail {
    /// The lock.
    pub lock: LockView,
    /// Acquisitions.
    pub claims: Vec<ClaimView>,
    /// There are further ones.
    pub more: bool,
}

/// An acquisition as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimView {
    /// The lock.
    pub name: Bytes,
    /// Whose.
    pub claimant: Claimant,
    /// See [`crate::lock::Acquire::owner`].
    pub owner: u64,
    /// How it is wanted.
    pub mode: Mode,
    /// Permits.
    pub permits: u64,
    /// Of a waiter.
    pub priority: i32,
    /// Token of the grant; 0 while it waits.
    pub token: u64,
    /// The wall clock when it came, or when it was granted.
    pub since_wall_ms: u64,
    /// Its text.
    pub value: Bytes,
    /// Why it waits; `None` if it does not.
    pub waits_for: Option<Obstacle>,
}

/// What an acquisition waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The lock is closed because a session was lost.
    Closed {
        /// For so long.
        ms: u64,
    },
    /// Others are before it.
    Queue {
        /// So many.
        ahead: usize,
    },
    /// Others hold it.
    Held {
        /// So many.
        holders: usize,
    },
    /// Not enough permits are left.
    Permits {
        /// So many are missing.
        missing: u64,
    },
    /// The latch is not counted down.
    Latch {
        /// What it has left.
        count: u64,
    },
    /// Others have not come to the barrier, or not left it.
    Barrier {
        /// So many.
        missing: u64,
    },
}

impl fmt::Display for LockRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockRejection::SessionNotFound => {
                f.write_str("the session has ended, or never was; open another one")
            }
            LockRejection::NotHeld => f.write_str("there is no such acquisition or grant"),
            LockRejection::Rejoined => f.write_str("the acquisition was repeated since"),
            LockRejection::IdInUse => {
                f.write_str("the session used this id for another acquisition; choose a new one")
            }
            LockRejection::OtherKind { kind } => {
                write!(f, "the name is in use for a {kind}")
            }
            LockRejection::OtherLimit { limit } => {
                write!(f, "the name is in use with the limit {limit}")
            }
            LockRejection::Upgrade => {
                f.write_str("the owner holds the lock together with others; release it first")
            }
            LockRejection::TimedOut => f.write_str("the lock was not granted in time"),
            LockRejection::Cancelled => f.write_str("the acquisition was given up"),
            LockRejection::Forced { reason } => {
                write!(f, "an operator took the lock away: {reason}")
            }
            LockRejection::Limit {
                what,
                value,
                min,
                max,
            } => out_of_bounds(f, what, *value, *min, *max),
        }
    }
}

/// Says that a number is not within its bounds.
pub(crate) fn out_of_bounds(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    value: u64,
    min: u64,
    max: u64,
) -> fmt::Result {
    write!(f, "{what}: {value} is not within {min} to {max}")
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Lock => "lock",
            Kind::Semaphore => "semaphore",
            Kind::Group => "group",
            Kind::Latch => "latch",
            Kind::Barrier => "barrier",
        })
    }
}
