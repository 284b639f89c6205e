//! What else is done with names in use, and what is asked about them.

use crate::acquire::operation;
use crate::call::{Ask, Change, Headed, mismatch};
use crate::observe::observed_leader;
use crate::refusal;
use crate::view::{acquisition, group_member, lock_info};
use etcd::{Advice, Code, Status};
use proto::synod::v1;
use state::lock::{
    Claimant, CountDown, Force, Kind, LockAnswer, LockDetail, LockOperation, LockQuery,
    LockRejection, LockReply, NAME_BYTES_MAX, PAGE_MAX, SetLatch,
};
use state::{Answer, Query, Rejection, Reply};

/// Entries of a page: all that there may be if the caller does not say.
pub(crate) fn page(limit: u32) -> usize {
    match limit as usize {
        0 => PAGE_MAX,
        limit => limit.min(PAGE_MAX),
    }
}

/// Takes a lock from its holder.
///
/// # Errors
/// The request makes no sense; so with all functions here.
pub fn force_release(
    request: v1::ForceReleaseRequest,
) -> Result<Change<v1::ForceReleaseResponse>, Status> {
    let force = Force {
        name: request.name.into(),
        token: request.token,
        reason: request.reason,
    };
    Change::new(
        request.change,
        operation(LockOperation::Force(force)),
        |reply| match reply {
            Reply::Lock(LockReply::Released { .. }) => Ok(v1::ForceReleaseResponse::default()),
            _ => mismatch(),
        },
    )
}

fn latch(reply: Reply) -> Result<v1::LatchResponse, Status> {
    match reply {
        Reply::Lock(LockReply::Latch { count }) => Ok(v1::LatchResponse {
            count,
            ..Default::default()
        }),
        _ => mismatch(),
    }
}

/// Sets a latch.
///
/// # Errors
/// See [`force_release`].
pub fn set_latch(request: v1::SetLatchRequest) -> Result<Change<v1::LatchResponse>, Status> {
    let set = SetLatch {
        name: request.name.into(),
        count: request.count,
    };
    let set = operation(LockOperation::SetLatch(set));
    Change::new(request.change, set, latch)
}

/// Counts a latch down.
///
/// # Errors
/// See [`force_release`].
pub fn count_down(request: v1::CountDownRequest) -> Result<Change<v1::LatchResponse>, Status> {
    // The state takes it for a latch that is open.
    check_name(&request.name)?;
    let count = CountDown {
        name: request.name.into(),
        by: request.by.max(1),
    };
    let count = operation(LockOperation::CountDown(count));
    Change::new(request.change, count, latch)
}

/// Refuses names that nothing can have, in the words of those who would take them.
///
/// # Errors
/// It is one.
pub fn check_name(name: &str) -> Result<(), Status> {
    if (1..=NAME_BYTES_MAX).contains(&name.len()) {
        return Ok(());
    }
    let reason = LockRejection::Limit {
        what: "bytes of the name".into(),
        value: name.len() as u64,
        min: 1,
        max: NAME_BYTES_MAX as u64,
    };
    Err(refusal::refusal(Rejection::Lock(reason)))
}

/// A question about one name. Nothing is known of one that is not in use.
fn about<R: Headed>(
    consistency: Option<v1::Consistency>,
    name: String,
    (skip, limit): (usize, usize),
    answer: impl FnOnce(Option<LockDetail>) -> Result<R, Status> + Send + 'static,
) -> Result<Ask<R>, Status> {
    check_name(&name)?;
    let query = LockQuery::Show {
        name: name.into(),
        skip,
        limit,
    };
    Ask::new(consistency, Query::Lock(query), |reply| match reply {
        Answer::Lock(LockAnswer::Show(detail)) => answer(detail),
        _ => mismatch(),
    })
}

pub(crate) fn of_kind(detail: &LockDetail, wanted: Kind) -> Result<(), Status> {
    let kind = detail.lock.kind;
    if kind == wanted {
        return Ok(());
    }
    let text = format!("the name is in use for a {kind}, not for a {wanted}");
    Err(Status::new(Code::FailedPrecondition, text).advised(Advice::permanent("other-kind")))
}

/// What a latch has left.
///
/// # Errors
/// See [`force_release`].
pub fn get_latch(request: v1::GetLatchRequest) -> Result<Ask<v1::LatchResponse>, Status> {
    about(request.consistency, request.name, (0, 0), |detail| {
        let mut answer = v1::LatchResponse::default();
        if let Some(detail) = detail {
            of_kind(&detail, Kind::Latch)?;
            answer.count = detail.lock.limit;
        }
        Ok(answer)
    })
}

/// Lists names in use.
///
/// # Errors
/// See [`force_release`].
pub fn list_locks(request: v1::ListLocksRequest) -> Result<Ask<v1::ListLocksResponse>, Status> {
    let query = LockQuery::List {
        from: request.from.into(),
        limit: page(request.limit),
    };
    Ask::new(
        request.consistency,
        Query::Lock(query),
        |answer| match answer {
            Answer::Lock(LockAnswer::List { locks, more }) => Ok(v1::ListLocksResponse {
                locks: locks.into_iter().map(lock_info).collect(),
                more,
                ..Default::default()
            }),
            _ => mismatch(),
        },
    )
}

/// Tells who holds a name and who waits.
///
/// # Errors
/// See [`force_release`].
pub fn show(request: v1::ShowLockRequest) -> Result<Ask<v1::ShowLockResponse>, Status> {
    let skip = usize::try_from(request.skip).unwrap_or(usize::MAX);
    let range = (skip, page(request.limit));
    about(request.consistency, request.name, range, |detail| {
        Ok(detail.map_or_else(v1::ShowLockResponse::default, |detail| {
            v1::ShowLockResponse {
                header: None,
                lock: Some(lock_info(detail.lock)),
                acquisitions: detail.claims.into_iter().map(acquisition).collect(),
                more: detail.more,
            }
        }))
    })
}

/// Tells about one acquisition.
///
/// # Errors
/// See [`force_release`].
pub fn find(request: v1::FindRequest) -> Result<Ask<v1::FindResponse>, Status> {
    let claimant = Claimant {
        session: request.session,
        id: request.id,
    };
    let query = Query::Lock(LockQuery::Claim { claimant });
    Ask::new(request.consistency, query, |answer| match answer {
        Answer::Lock(LockAnswer::Claim(claim)) => Ok(v1::FindResponse {
            acquisition: claim.map(acquisition),
            ..Default::default()
        }),
        _ => mismatch(),
    })
}

/// Asks whether a token holds.
///
/// # Errors
/// See [`force_release`].
pub fn check(request: v1::CheckRequest) -> Result<Ask<v1::CheckResponse>, Status> {
    let (name, token) = (request.name, request.token);
    if name.is_empty() || token == 0 {
        return Err(refusal::invalid(
            "check: give a name and a token above 0, or a signed token",
        ));
    }
    let query = Query::Lock(LockQuery::Check {
        name: name.clone().into(),
        token,
    });
    Ask::new(request.consistency, query, move |answer| match answer {
        Answer::Lock(LockAnswer::Check { held, newest }) => Ok(v1::CheckResponse {
            header: None,
            held,
            newest: newest <= token,
            newest_token: newest,
            name,
            token,
        }),
        _ => mismatch(),
    })
}

/// Asks who leads.
///
/// # Errors
/// See [`force_release`].
pub fn leader(request: v1::LeaderRequest) -> Result<Ask<v1::LeaderResponse>, Status> {
    about(request.consistency, request.name, (0, 1), observed_leader)
}

/// Lists the members of a group.
///
/// # Errors
/// See [`force_release`].
pub fn group(request: v1::ListGroupRequest) -> Result<Ask<v1::ListGroupResponse>, Status> {
    let skip = usize::try_from(request.skip).unwrap_or(usize::MAX);
    let range = (skip, page(request.limit));
    about(request.consistency, request.name, range, |detail| {
        let Some(detail) = detail else {
            return Ok(v1::ListGroupResponse::default());
        };
        of_kind(&detail, Kind::Group)?;
        Ok(v1::ListGroupResponse {
            header: None,
            members: detail.claims.into_iter().map(group_member).collect(),
            more: detail.more,
            version: detail.lock.version,
        })
    })
}
