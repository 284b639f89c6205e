//! Acquisitions: of locks, leadership, permits, barriers, latches and memberships of groups; and their ends.

use crate::call::{Change, Headed, mismatch};
use crate::refusal;
use bytes::Bytes;
use etcd::Status;
use prost::Message;
use proto::synod::v1;
use state::lock::{
    Acquire, Claimant, Leave, LockCommand, LockOperation, LockReply, Mode, Release, SetValue,
};
use state::{Operation, Reply};
use std::collections::BTreeMap;

/// What a wait without an end is in the log.
const FOR_EVER: u64 = u64::MAX;

pub(crate) fn operation(operation: LockOperation) -> Operation {
    Operation::Lock(LockCommand {
        operation: Some(operation),
    })
}

fn wait_ms(asked: Option<u64>) -> u64 {
    asked.map_or(FOR_EVER, |ms| ms.min(FOR_EVER - 1))
}

fn claimant(session: i64, id: u64) -> Claimant {
    Claimant { session, id }
}

/// The name of an acquisition; an id chosen by the member if the caller has none.
fn named(session: i64, id: u64, chosen: u64) -> Claimant {
    claimant(session, if id == 0 { chosen } else { id })
}

/// Asks for something; `granted` makes the answer from token and id.
fn acquiring<R: Headed>(
    change: Option<v1::Change>,
    acquire: Acquire,
    granted: impl FnOnce(u64, u64) -> R + Send + 'static,
) -> Result<Change<R>, Status> {
    let (id, waits) = (acquire.claimant.id, acquire.wait_ms > 0);
    let mode = acquire.mode();
    let asked = Change::new(
        change,
        operation(LockOperation::Acquire(acquire)),
        move |reply| match reply {
            Reply::Lock(LockReply::Granted { token }) => Ok(granted(token, id)),
            // Who passes a latch holds nothing afterwards.
            Reply::Lock(LockReply::Passed) if mode == Mode::Pass => Ok(granted(0, id)),
            Reply::Lock(LockReply::Busy) => Err(refusal::busy(mode)),
            _ => mismatch(),
        },
    )?;
    Ok(asked.waiting(waits))
}

/// Asks for a lock. `chosen` is the acquisition's id if the caller leaves it to the member; so with all that take it.
///
/// # Errors
/// The request makes no sense; so with all functions here.
pub fn acquire(
    request: v1::AcquireRequest,
    chosen: u64,
) -> Result<Change<v1::AcquireResponse>, Status> {
    let mode = match v1::LockMode::try_from(request.mode) {
        Ok(v1::LockMode::Exclusive) => Mode::Exclusive,
        Ok(v1::LockMode::Shared) => Mode::Shared,
        Err(_) => {
            let text = format!("mode: {} is neither 0 nor 1", request.mode);
            return Err(refusal::invalid(text));
        }
    };
    let acquire = Acquire {
        name: request.name.into(),
        claimant: named(request.session, request.id, chosen),
        owner: request.owner,
        mode: mode as i32,
        priority: request.priority,
        wait_ms: wait_ms(request.wait_ms),
        delay_ms: request.lock_delay_ms,
        value: request.text.into(),
        ..Acquire::default()
    };
    acquiring(request.change, acquire, |token, id| v1::AcquireResponse {
        token,
        id,
        ..Default::default()
    })
}

/// Asks to lead.
///
/// # Errors
/// See [`acquire`].
pub fn campaign(
    request: v1::CampaignRequest,
    chosen: u64,
) -> Result<Change<v1::CampaignResponse>, Status> {
    let acquire = Acquire {
        name: request.name.into(),
        claimant: named(request.session, request.id, chosen),
        mode: Mode::Exclusive as i32,
        priority: request.priority,
        wait_ms: wait_ms(request.wait_ms),
        delay_ms: request.lock_delay_ms,
        value: request.text.into(),
        ..Acquire::default()
    };
    acquiring(request.change, acquire, |token, id| v1::CampaignResponse {
        token,
        id,
        ..Default::default()
    })
}

/// Gives a name to a lease: it holds the lock of that name.
///
/// # Errors
/// See [`acquire`].
pub fn register(
    request: v1::RegisterRequest,
    lease: i64,
    ttl_ms: u64,
) -> Result<Change<v1::RegisterResponse>, Status> {
    let acquire = Acquire {
        name: request.name.into(),
        claimant: claimant(lease, 0),
        mode: Mode::Exclusive as i32,
        value: request.text.into(),
        ..Acquire::default()
    };
    acquiring(None, acquire, move |token, _| v1::RegisterResponse {
        id: lease,
        ttl_ms,
        token,
        ..Default::default()
    })
}

/// Takes permits.
///
/// # Errors
/// See [`acquire`].
pub fn acquire_permits(
    request: v1::AcquirePermitsRequest,
    chosen: u64,
) -> Result<Change<v1::AcquirePermitsResponse>, Status> {
    let acquire = Acquire {
        name: request.name.into(),
        claimant: named(request.session, request.id, chosen),
        mode: Mode::Permits as i32,
        permits: request.permits,
        limit: request.limit,
        priority: request.priority,
        wait_ms: wait_ms(request.wait_ms),
        value: request.text.into(),
        ..Acquire::default()
    };
    acquiring(request.change, acquire, |token, id| {
        v1::AcquirePermitsResponse {
            token,
            id,
            ..Default::default()
        }
    })
}

/// Enters a barrier.
///
/// # Errors
/// See [`acquire`].
pub fn enter(request: v1::EnterRequest, chosen: u64) -> Result<Change<v1::EnterResponse>, Status> {
    let acquire = Acquire {
        name: request.name.into(),
        claimant: named(request.session, request.id, chosen),
        mode: Mode::Enter as i32,
        limit: request.parties,
        wait_ms: wait_ms(request.wait_ms),
        value: request.text.into(),
        ..Acquire::default()
    };
    acquiring(request.change, acquire, |token, id| v1::EnterResponse {
        token,
        id,
        ..Default::default()
    })
}

/// Waits at a latch.
///
/// # Errors
/// See [`acquire`].
pub fn wait_latch(
    request: v1::WaitLatchRequest,
    chosen: u64,
) -> Result<Change<v1::WaitLatchResponse>, Status> {
    let acquire = Acquire {
        name: request.name.into(),
        claimant: named(request.session, request.id, chosen),
        mode: Mode::Pass as i32,
        wait_ms: wait_ms(request.wait_ms),
        ..Acquire::default()
    };
    acquiring(request.change, acquire, |_, _| {
        v1::WaitLatchResponse::default()
    })
}

/// Joins a group.
///
/// # Errors
/// See [`acquire`].
pub fn join(request: v1::JoinRequest, chosen: u64) -> Result<Change<v1::JoinResponse>, Status> {
    let acquire = Acquire {
        name: request.name.into(),
        claimant: named(request.session, request.id, chosen),
        mode: Mode::Member as i32,
        value: kept(request.attributes),
        ..Acquire::default()
    };
    acquiring(request.change, acquire, |token, id| v1::JoinResponse {
        token,
        id,
        ..Default::default()
    })
}

/// Attributes as the state keeps them.
fn kept(attributes: BTreeMap<String, String>) -> Bytes {
    v1::Attributes { attributes }.encode_to_vec().into()
}

/// Leaves a barrier and waits for the others.
///
/// # Errors
/// See [`acquire`].
pub fn leave(request: v1::LeaveRequest) -> Result<Change<v1::LeaveResponse>, Status> {
    let leave = Leave {
        claimant: claimant(request.session, request.id),
        wait_ms: wait_ms(request.wait_ms),
    };
    let waits = leave.wait_ms > 0;
    let asked = Change::new(
        request.change,
        operation(LockOperation::Leave(leave)),
        |reply| match reply {
            Reply::Lock(LockReply::Passed) => Ok(v1::LeaveResponse::default()),
            Reply::Lock(LockReply::Busy) => Err(refusal::busy(Mode::Enter)),
            _ => mismatch(),
        },
    )?;
    Ok(asked.waiting(waits))
}

fn releasing<R: Headed>(
    change: Option<v1::Change>,
    session: i64,
    id: u64,
    released: impl FnOnce(u64, bool) -> R + Send + 'static,
) -> Result<Change<R>, Status> {
    let release = Release {
        claimant: claimant(session, id),
        joined: 0,
    };
    Change::new(
        change,
        operation(LockOperation::Release(release)),
        move |reply| match reply {
            Reply::Lock(LockReply::Released { token, held }) => Ok(released(token, held)),
            _ => mismatch(),
        },
    )
}

/// Gives an acquisition up.
///
/// # Errors
/// See [`acquire`].
pub fn release(request: v1::ReleaseRequest) -> Result<Change<v1::ReleaseResponse>, Status> {
    releasing(
        request.change,
        request.session,
        request.id,
        |token, held| v1::ReleaseResponse {
            token,
            held,
            ..Default::default()
        },
    )
}

/// Steps down.
///
/// # Errors
/// See [`acquire`].
pub fn resign(request: v1::ResignRequest) -> Result<Change<v1::ResignResponse>, Status> {
    releasing(request.change, request.session, request.id, |_, _| {
        v1::ResignResponse::default()
    })
}

/// Leaves a group.
///
/// # Errors
/// See [`acquire`].
pub fn group_leave(
    request: v1::LeaveGroupRequest,
) -> Result<Change<v1::LeaveGroupResponse>, Status> {
    releasing(request.change, request.session, request.id, |_, _| {
        v1::LeaveGroupResponse::default()
    })
}

fn setting<R: Headed + Send + 'static>(
    change: Option<v1::Change>,
    session: i64,
    id: u64,
    value: Bytes,
) -> Result<Change<R>, Status> {
    let set = SetValue {
        claimant: claimant(session, id),
        value,
    };
    Change::new(
        change,
        operation(LockOperation::SetValue(set)),
        |reply| match reply {
            Reply::Lock(LockReply::ValueSet) => Ok(R::default()),
            _ => mismatch(),
        },
    )
}

/// Changes the text of an acquisition.
///
/// # Errors
/// See [`acquire`].
pub fn set_text(request: v1::SetTextRequest) -> Result<Change<v1::SetTextResponse>, Status> {
    let text = request.text.into();
    setting(request.change, request.session, request.id, text)
}

/// Changes the leader's word.
///
/// # Errors
/// See [`acquire`].
pub fn proclaim(request: v1::ProclaimRequest) -> Result<Change<v1::ProclaimResponse>, Status> {
    let text = request.text.into();
    setting(request.change, request.session, request.id, text)
}

/// Changes a group member's attributes.
///
/// # Errors
/// See [`acquire`].
pub fn update_member(
    request: v1::UpdateMemberRequest,
) -> Result<Change<v1::UpdateMemberResponse>, Status> {
    let attributes = kept(request.attributes);
    setting(request.change, request.session, request.id, attributes)
}
