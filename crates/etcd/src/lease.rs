//! Requests about leases.

use crate::Status;
use crate::kv::{Change, Read, change};
use proto::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest};
use state::{Operation, Query};

/// The longest time to live, as etcd's.
const TTL_SECONDS_MAX: i64 = 9_000_000_000;

/// The shortest: etcd raises anything below one and a half election time-outs, rounded up, which is this with its default timing.
const TTL_SECONDS_MIN: i64 = 2;

/// Turns a grant into a command. `chosen` is the lease's id if the client leaves it to the server: random and positive, from the shell.
///
/// # Errors
/// The time to live is too large.
///
/// # Panics
/// `chosen` is not positive.
pub fn lease_grant(request: LeaseGrantRequest, chosen: i64) -> Result<Change, Status> {
    assert!(
        chosen > 0,
        "lease id chosen by the shell must be positive: {chosen}"
    );
    if request.ttl > TTL_SECONDS_MAX {
        return Err(Status::LEASE_TTL_TOO_LARGE);
    }
    let id = if request.id == 0 { chosen } else { request.id };
    let ttl_ms = request.ttl.max(TTL_SECONDS_MIN) as u64 * 1000;
    Ok(change(Operation::LeaseGrant(state::LeaseGrant {
        id,
        ttl_ms,
    })))
}

/// Turns a revocation into a command.
pub fn lease_revoke(request: LeaseRevokeRequest) -> Change {
    change(Operation::LeaseRevoke(state::LeaseRevoke {
        id: request.id,
    }))
}

/// Turns the question for a lease's remaining time into a query.
pub fn lease_time_to_live(request: LeaseTimeToLiveRequest) -> Read {
    Read {
        query: Query::LeaseTimeToLive {
            id: request.id,
            keys: request.keys,
        },
        serializable: false,
    }
}

/// The query for all leases.
pub fn lease_leases() -> Read {
    Read {
        query: Query::Leases,
        serializable: false,
    }
}
