//! What a caller may make of a refusal: a stable word for programs, and whether another try can help.

use state::Rejection;
use state::client::ClientRejection;
use state::id::IdRejection;
use state::lock::{GuardRejection, LockRejection};

/// Whether another try can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Nothing happened; the same request may be sent again.
    Transient,
    /// It may have happened, or still happen.
    Unknown,
    /// The same request will not do better.
    Permanent,
}

impl Class {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Class::Transient => "transient",
            Class::Unknown => "unknown",
            Class::Permanent => "permanent",
        }
    }
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice {
    /// A stable word.
    pub reason: &'static str,
    /// Whether another try can help.
    pub class: Class,
    /// How long to wait at least before it; 0: no longer than after any other failure.
    pub retry_after_ms: u64,
}

impl Advice {
    /// That another try may help.
    pub const fn transient(reason: &'static str) -> Advice {
        Advice {
            reason,
            class: Class::Transient,
            retry_after_ms: 0,
        }
    }

    /// That nobody knows.
    pub const fn unknown(reason: &'static str) -> Advice {
        Advice {
            reason,
            class: Class::Unknown,
            retry_after_ms: 0,
        }
    }

    /// That no other try helps.
    pub const fn permanent(reason: &'static str) -> Advice {
        Advice {
            reason,
            class: Class::Permanent,
            retry_after_ms: 0,
        }
    }
}

/// Of what the state refuses.
pub fn advice(rejection: &Rejection) -> Advice {
    Advice::permanent(match rejection {
        Rejection::KeyNotFound => "key-not-found",
        Rejection::LeaseNotFound => "lease-not-found",
        Rejection::LeaseExists => "lease-exists",
        Rejection::Compacted { .. } => "compacted",
        Rejection::FutureRevision { .. } => return Advice::transient("future-revision"),
        Rejection::NoSpace { .. } => "no-space",
        Rejection::Corrupt => "corrupt",
        Rejection::Auth(_) => "not-allowed",
        Rejection::Lock(reason) => of_lock(reason),
        Rejection::Guard(GuardRejection::NotHeld { .. }) => "guard-not-held",
        Rejection::Guard(GuardRejection::UnknownModel { .. }) => "guard-unknown-model",
        Rejection::Client(reason) => match reason {
            ClientRejection::Unknown => "client-unknown",
            ClientRejection::Freed { .. } => "sequence-freed",
            ClientRejection::Window { .. } => return Advice::transient("sequence-window"),
            ClientRejection::LeaseNotFound => "session-not-found",
            ClientRejection::TooMany { .. } => return Advice::transient("too-many-clients"),
            ClientRejection::Sequence => "sequence-invalid",
        },
        Rejection::Id(reason) => match reason {
            IdRejection::Exhausted => "ids-exhausted",
            IdRejection::SessionNotFound => "session-not-found",
            IdRejection::NoWorker => return Advice::transient("no-worker-free"),
            IdRejection::Limit { .. } => "out-of-bounds",
        },
        Rejection::Invalid(_) => "invalid",
    })
}

fn of_lock(reason: &LockRejection) -> &'static str {
    match reason {
        LockRejection::SessionNotFound => "session-not-found",
        LockRejection::NotHeld => "not-held",
        LockRejection::Rejoined => "acquisition-repeated",
        LockRejection::IdInUse => "id-in-use",
        LockRejection::OtherKind { .. } => "other-kind",
        LockRejection::OtherLimit { .. } => "other-limit",
        LockRejection::Upgrade => "lock-upgrade",
        LockRejection::TimedOut => "lock-timeout",
        LockRejection::Cancelled => "lock-cancelled",
        LockRejection::Forced { .. } => "lock-forced",
        LockRejection::Limit { .. } => "out-of-bounds",
    }
}
