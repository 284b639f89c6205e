//! Requests about leases and sessions.

use crate::call::{Ask, Change, Header, mismatch};
use crate::lock::page;
use crate::refusal::{self, no_session, refusal};
use etcd::Status;
use proto::synod::v1;
use state::client::{ClientCommand, ClientOperation, ClientReply, Register};
use state::lock::{ClaimView, LockAnswer, LockQuery};
use state::{Answer, LeaseGrant, LeaseRevoke, Operation, Query, Rejection, Reply};

/// The shortest and the longest time to live.
const TTL_MS_MIN: u64 = 1000;
const TTL_MS_MAX: u64 = 9_000_000_000_000;

fn check_ttl(ttl_ms: u64) -> Result<(), Status> {
    if (TTL_MS_MIN..=TTL_MS_MAX).contains(&ttl_ms) {
        return Ok(());
    }
    Err(refusal::invalid(format!(
        "ttl_ms: {ttl_ms} is not within {TTL_MS_MIN} to {TTL_MS_MAX}"
    )))
}

/// The id of a new lease: the wanted one, or one that the member chose.
fn lease_id(wanted: i64, chosen: i64) -> Result<i64, Status> {
    match wanted {
        0 => Ok(chosen),
        1.. => Ok(wanted),
        _ => Err(refusal::invalid(format!(
            "id: {wanted} is no lease's; a positive number, or 0 to have one chosen"
        ))),
    }
}

/// Makes a lease. `chosen` is its id if the caller leaves it to the member.
///
/// # Errors
/// The request makes no sense; so with all functions here.
pub fn grant(request: v1::GrantRequest, chosen: i64) -> Result<Change<v1::GrantResponse>, Status> {
    check_ttl(request.ttl_ms)?;
    let grant = LeaseGrant {
        id: lease_id(request.id, chosen)?,
        ttl_ms: request.ttl_ms,
    };
    Change::new(
        request.change,
        Operation::LeaseGrant(grant),
        |reply| match reply {
            Reply::LeaseGrant { id, ttl_ms } => Ok(v1::GrantResponse {
                id,
                ttl_ms,
                ..Default::default()
            }),
            _ => mismatch(),
        },
    )
}

/// Ends a lease.
///
/// # Errors
/// See [`grant`].
pub fn revoke(request: v1::RevokeRequest) -> Result<Change<v1::RevokeResponse>, Status> {
    let revoke = Operation::LeaseRevoke(LeaseRevoke { id: request.id });
    Change::new(request.change, revoke, |reply| match reply {
        Reply::LeaseRevoke => Ok(v1::RevokeResponse::default()),
        _ => mismatch(),
    })
}

/// Ends a session.
///
/// # Errors
/// See [`grant`].
pub fn session_revoke(
    request: v1::CloseSessionRequest,
) -> Result<Change<v1::CloseSessionResponse>, Status> {
    let session = request.session;
    let revoke = Operation::LeaseRevoke(LeaseRevoke { id: session });
    let closing = Change::new(None, revoke, |reply| match reply {
        Reply::LeaseRevoke => Ok(v1::CloseSessionResponse::default()),
        _ => mismatch(),
    });
    Ok(closing?.of_session(session))
}

/// The two steps of opening a session, to be proposed one right after the other: its lease, then its client record.
///
/// # Errors
/// See [`grant`].
pub fn open_session(
    request: &v1::OpenSessionRequest,
    chosen: i64,
) -> Result<(Change<v1::GrantResponse>, Change<v1::OpenSessionResponse>), Status> {
    let granting = v1::GrantRequest {
        change: None,
        id: request.session,
        ttl_ms: request.ttl_ms,
    };
    let session = lease_id(request.session, chosen)?;
    Ok((grant(granting, chosen)?, client(session, request.ttl_ms)?))
}

/// Makes a lease's client record; repeated, it is the same one.
///
/// # Errors
/// See [`grant`].
pub fn client(session: i64, ttl_ms: u64) -> Result<Change<v1::OpenSessionResponse>, Status> {
    let register = ClientOperation::Register(Register { lease: session });
    let operation = Operation::Client(ClientCommand {
        operation: Some(register),
    });
    Change::new(None, operation, move |reply| match reply {
        Reply::Client(ClientReply::Registered { client }) => Ok(v1::OpenSessionResponse {
            header: None,
            session,
            client,
            ttl_ms,
        }),
        _ => mismatch(),
    })
}

/// The answer to a renewal.
///
/// # Errors
/// There is no such lease.
pub fn refreshed(
    header: Header,
    id: i64,
    ttl_ms: Option<u64>,
) -> Result<v1::RefreshResponse, Status> {
    let ttl_ms = ttl_ms.ok_or_else(|| refusal(Rejection::LeaseNotFound))?;
    Ok(header.on(v1::RefreshResponse {
        header: None,
        id,
        ttl_ms,
    }))
}

/// The answer to a session's renewal.
///
/// # Errors
/// There is no such session.
pub fn refreshed_session(
    header: Header,
    session: i64,
    ttl_ms: Option<u64>,
) -> Result<v1::RefreshSessionResponse, Status> {
    Ok(header.on(v1::RefreshSessionResponse {
        header: None,
        session,
        ttl_ms: ttl_ms.ok_or_else(|| no_session(session))?,
    }))
}

/// Asks which lease has a name.
pub fn named(name: &str) -> Query {
    Query::Lock(LockQuery::Show {
        name: name.to_owned().into(),
        skip: 0,
        limit: 1,
    })
}

/// The acquisition that holds a name, of the answer to [`named`].
pub fn holder(answer: Answer) -> Option<ClaimView> {
    match answer {
        Answer::Lock(LockAnswer::Show(detail)) => {
            let first = detail?.claims.into_iter().next();
            first.filter(|claim| claim.token != 0)
        }
        _ => None,
    }
}

/// Tells a lease's remaining time.
///
/// # Errors
/// See [`grant`].
pub fn get_lease(request: v1::GetLeaseRequest) -> Result<Ask<v1::GetLeaseResponse>, Status> {
    let query = Query::LeaseTimeToLive {
        id: request.id,
        keys: request.keys,
    };
    Ask::new(request.consistency, query, |answer| match answer {
        Answer::Lease(Some(lease)) => Ok(v1::GetLeaseResponse {
            header: None,
            id: lease.id,
            ttl_ms: lease.granted_ms,
            remaining_ms: lease.remaining_ms,
            keys: lease.keys,
        }),
        Answer::Lease(None) => Err(refusal(Rejection::LeaseNotFound)),
        _ => mismatch(),
    })
}

/// Lists all leases.
///
/// # Errors
/// See [`grant`].
pub fn leases(request: v1::ListLeasesRequest) -> Result<Ask<v1::ListLeasesResponse>, Status> {
    Ask::new(request.consistency, Query::Leases, |answer| match answer {
        Answer::Leases(ids) => Ok(v1::ListLeasesResponse { header: None, ids }),
        _ => mismatch(),
    })
}

/// Lists sessions.
///
/// # Errors
/// See [`grant`].
pub fn sessions(request: v1::ListSessionsRequest) -> Result<Ask<v1::ListSessionsResponse>, Status> {
    let query = Query::Sessions {
        from: request.from,
        limit: page(request.limit),
    };
    Ask::new(request.consistency, query, |answer| match answer {
        Answer::Sessions { sessions, more } => Ok(v1::ListSessionsResponse {
            header: None,
            sessions: sessions.into_iter().map(session_info).collect(),
            more,
        }),
        _ => mismatch(),
    })
}

fn session_info(view: state::SessionView) -> v1::SessionInfo {
    v1::SessionInfo {
        session: view.id,
        ttl_ms: view.granted_ms,
        remaining_ms: view.remaining_ms,
        client: view.client,
        acquisitions: view.acquisitions as u64,
    }
}
