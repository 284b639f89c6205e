//! Refusals of the native API: each says by a stable word what is wrong, and whether another try can help.

use etcd::auth::auth_rejection;
use etcd::{Advice, Code, Status, advice};
use state::Rejection;
use state::client::ClientRejection;
use state::id::IdRejection;
use state::lock::{GuardRejection, LockRejection, Mode};
use std::borrow::Cow;

/// What a caller is told when the state refuses.
pub fn refusal(rejection: Rejection) -> Status {
    let advice = advice(&rejection);
    let (code, text): (Code, Cow<'static, str>) = match rejection {
        Rejection::KeyNotFound => (Code::NotFound, "there is no such key".into()),
        Rejection::LeaseNotFound => (
            Code::NotFound,
            "the lease has ended, or never was; grant another one".into(),
        ),
        Rejection::LeaseExists => (
            Code::AlreadyExists,
            "a lease has this id; choose another one, or 0 to have one chosen".into(),
        ),
        Rejection::Compacted { compacted } => (
            Code::OutOfRange,
            format!("the revision is compacted; the oldest one readable is {compacted}").into(),
        ),
        Rejection::FutureRevision { current } => (
            Code::OutOfRange,
            format!("the revision is not reached yet; the newest is {current}").into(),
        ),
        Rejection::NoSpace { bytes, bytes_max } => (
            Code::ResourceExhausted,
            format!("the state has {bytes} bytes of {bytes_max} (state-bytes-max); delete or compact first").into(),
        ),
        Rejection::Corrupt => (
            Code::DataLoss,
            "the states of the members differ; see the alarms".into(),
        ),
        Rejection::Auth(reason) => return auth_rejection(reason).advised(advice),
        Rejection::Lock(reason) => (of_lock(&reason), reason.to_string().into()),
        Rejection::Guard(reason) => (of_guard(&reason), reason.to_string().into()),
        Rejection::Client(reason) => (of_client(&reason), reason.to_string().into()),
        Rejection::Id(reason) => (of_id(&reason), reason.to_string().into()),
        Rejection::Invalid(text) => (Code::InvalidArgument, text.into()),
    };
    Status::new(code, text).advised(advice)
}

fn of_lock(reason: &LockRejection) -> Code {
    match reason {
        LockRejection::SessionNotFound | LockRejection::NotHeld => Code::NotFound,
        LockRejection::IdInUse => Code::AlreadyExists,
        LockRejection::Rejoined | LockRejection::Forced { .. } => Code::Aborted,
        LockRejection::OtherKind { .. }
        | LockRejection::OtherLimit { .. }
        | LockRejection::Upgrade => Code::FailedPrecondition,
        LockRejection::TimedOut => Code::DeadlineExceeded,
        LockRejection::Cancelled => Code::Canceled,
        LockRejection::Limit { .. } => Code::InvalidArgument,
    }
}

fn of_guard(reason: &GuardRejection) -> Code {
    match reason {
        GuardRejection::NotHeld { .. } => Code::FailedPrecondition,
        GuardRejection::UnknownModel { .. } => Code::InvalidArgument,
    }
}

fn of_client(reason: &ClientRejection) -> Code {
    match reason {
        ClientRejection::Unknown | ClientRejection::Freed { .. } => Code::FailedPrecondition,
        ClientRejection::Window { .. } | ClientRejection::TooMany { .. } => Code::ResourceExhausted,
        ClientRejection::LeaseNotFound => Code::NotFound,
        ClientRejection::Sequence => Code::InvalidArgument,
    }
}

fn of_id(reason: &IdRejection) -> Code {
    match reason {
        IdRejection::Exhausted | IdRejection::NoWorker => Code::ResourceExhausted,
        IdRejection::SessionNotFound => Code::NotFound,
        IdRejection::Limit { .. } => Code::InvalidArgument,
    }
}

/// The session of this id is over, or there was none.
pub(crate) fn no_session(session: i64) -> Status {
    let text = format!("session {session} has ended, or never was; open another one");
    Status::new(Code::NotFound, text).advised(Advice::permanent("session-not-found"))
}

/// It is not to be had now, and its caller did not want to wait.
pub(crate) fn busy(mode: Mode) -> Status {
    let text = match mode {
        Mode::Exclusive | Mode::Shared | Mode::Member => "somebody else has it",
        Mode::Permits => "too few permits are left, or others wait for them",
        Mode::Enter => "not all have come, or not all have left",
        Mode::Pass => "the latch is not counted down",
    };
    Status::new(Code::Aborted, text).advised(Advice::permanent("lock-busy"))
}

/// A request that makes no sense, whatever the state.
pub(crate) fn invalid(text: impl Into<Cow<'static, str>>) -> Status {
    Status::new(Code::InvalidArgument, text).advised(Advice::permanent("invalid"))
}

/// A refusal that came from below the native API, in its own words: what it says of other tries, if nothing else from its code.
pub fn advised(status: Status) -> Status {
    if status.advice.is_some() {
        return status;
    }
    if let Some(known) = of_member(&status) {
        return known;
    }
    let advice = match status.code {
        Code::Unavailable => Advice::transient("unavailable"),
        Code::ResourceExhausted => Advice::transient("exhausted"),
        Code::DeadlineExceeded => Advice::unknown("deadline-exceeded"),
        Code::Canceled => Advice::unknown("cancelled"),
        Code::Unauthenticated => Advice::permanent("not-authenticated"),
        Code::PermissionDenied => Advice::permanent("not-allowed"),
        Code::InvalidArgument | Code::OutOfRange => Advice::permanent("invalid"),
        Code::NotFound => Advice::permanent("not-found"),
        Code::AlreadyExists => Advice::permanent("already-exists"),
        Code::FailedPrecondition | Code::Aborted => Advice::permanent("refused"),
        Code::Unimplemented => Advice::permanent("unimplemented"),
        Code::Unknown | Code::Internal | Code::DataLoss => Advice::unknown("internal"),
    };
    status.advised(advice)
}

/// What a member says of itself.
fn of_member(status: &Status) -> Option<Status> {
    let unknown = [
        Status::TIMED_OUT,
        Status::TIMED_OUT_LEADER_FAILURE,
        Status::TIMED_OUT_CONNECTION_LOST,
        Status::TIMED_OUT_APPLY,
    ];
    let (text, advice): (&'static str, Advice) = if *status == Status::NO_LEADER {
        (
            "no leader, retry",
            after(50, Advice::transient("no-leader")),
        )
    } else if *status == Status::LEADER_CHANGED {
        (
            "the leader changed, retry",
            Advice::transient("leader-changed"),
        )
    } else if *status == Status::TOO_MANY_REQUESTS {
        (
            "too many requests, retry later",
            after(100, Advice::transient("overloaded")),
        )
    } else if *status == Status::STOPPED {
        (
            "the member stops; ask another one",
            Advice::unknown("member-stopped"),
        )
    } else if *status == Status::REQUEST_TOO_LARGE {
        (
            "the request is larger than request-bytes-max",
            Advice::permanent("too-large"),
        )
    } else if *status == Status::NO_SPACE {
        (
            "the disks are full; delete or compact first",
            Advice::permanent("no-space"),
        )
    } else if unknown.contains(status) {
        (
            "nobody can say whether it happened; ask again",
            Advice::unknown("outcome-unknown"),
        )
    } else {
        return None;
    };
    Some(Status::new(status.code, text).advised(advice))
}

fn after(retry_after_ms: u64, advice: Advice) -> Advice {
    Advice {
        retry_after_ms,
        ..advice
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etcd::Class;

    #[test]
    fn every_refusal_says_whether_another_try_can_help() {
        let class = |status: Status| advised(status).advice.map(|advice| advice.class);
        assert_eq!(class(Status::NO_LEADER), Some(Class::Transient));
        assert_eq!(class(Status::TIMED_OUT), Some(Class::Unknown));
        assert_eq!(class(Status::PERMISSION_DENIED), Some(Class::Permanent));
        assert_eq!(advised(Status::NO_LEADER).text, "no leader, retry");
        for status in Status::ALL {
            assert!(class(status.clone()).is_some(), "{status}");
        }
    }

    #[test]
    fn stale_guard_is_a_failed_precondition_that_names_the_lock() {
        let refused = refusal(Rejection::Guard(GuardRejection::NotHeld {
            name: bytes::Bytes::from_static(b"nightly"),
            token: 7,
            newest: 9,
        }));
        assert_eq!(refused.code, Code::FailedPrecondition);
        assert_eq!(
            refused.text,
            "guard: lock nightly is not held with token 7, its newest is 9"
        );
        assert_eq!(refused.advice, Some(Advice::permanent("guard-not-held")));
    }
}
