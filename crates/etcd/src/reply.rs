//! Answers of the state as messages, with the headers etcd gives them.

use crate::auth::auth_rejection;
use crate::{Advice, Code, Status, advice};
use proto::etcdserverpb::response_op::Response;
use proto::etcdserverpb::{
    CompactionResponse, DeleteRangeResponse, LeaseGrantResponse, LeaseKeepAliveResponse,
    LeaseLeasesResponse, LeaseRevokeResponse, LeaseStatus, LeaseTimeToLiveResponse, PutResponse,
    RangeResponse, ResponseHeader, ResponseOp, TxnResponse,
};
use proto::mvccpb;
use state::{Answer, KeyValue, LeaseView, RangeReply, Rejection, Reply, StepReply, TxnReply};

/// Who answers, and where in history the answer stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The cluster.
    pub cluster: u64,
    /// The member that answers.
    pub member: u64,
    /// Its term.
    pub term: u64,
    /// The key revision.
    pub revision: i64,
}

impl From<Header> for ResponseHeader {
    fn from(header: Header) -> ResponseHeader {
        ResponseHeader {
            cluster_id: header.cluster,
            member_id: header.member,
            revision: header.revision,
            raft_term: header.term,
        }
    }
}

/// What a client is told when the state refuses.
pub fn rejection(rejection: Rejection) -> Status {
    let advice = advice(&rejection);
    match rejection {
        Rejection::KeyNotFound => Status::KEY_NOT_FOUND,
        Rejection::LeaseNotFound => Status::LEASE_NOT_FOUND,
        Rejection::LeaseExists => Status::LEASE_EXISTS,
        Rejection::Compacted { .. } => Status::COMPACTED,
        Rejection::FutureRevision { .. } => Status::FUTURE_REVISION,
        Rejection::NoSpace { .. } => Status::NO_SPACE,
        Rejection::Corrupt => Status::CORRUPT,
        Rejection::Auth(reason) => auth_rejection(reason),
        // Of our own: no etcd client meets them unless it asks for what etcd does not have.
        Rejection::Lock(reason) => own(&reason, advice),
        Rejection::Guard(reason) => own(&reason, advice),
        Rejection::Client(reason) => own(&reason, advice),
        Rejection::Id(reason) => own(&reason, advice),
        Rejection::Invalid(text) => {
            Status::new(Code::InvalidArgument, format!("etcdserver: {text}"))
        }
    }
}

fn own(reason: &dyn std::fmt::Display, advice: Advice) -> Status {
    Status::new(Code::FailedPrecondition, format!("synod: {reason}")).advised(advice)
}

/// A key as a message. The bytes are shared, not copied.
pub fn key_value(kv: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: kv.value,
        lease: kv.lease,
    }
}

/// The answer to a range.
///
/// # Errors
/// The state refused.
pub fn range_response(header: Header, answer: Answer) -> Result<RangeResponse, Status> {
    match answer {
        Answer::Range(reply) => Ok(range_message(header.into(), reply)),
        Answer::Rejected(reason) => Err(rejection(reason)),
        _ => Err(mismatch("a range")),
    }
}

/// The answer to a put.
///
/// # Errors
/// The state refused.
pub fn put_response(header: Header, reply: Reply) -> Result<PutResponse, Status> {
    match reply {
        Reply::Put { prev } => Ok(put_message(header.into(), prev)),
        Reply::Rejected(reason) => Err(rejection(reason)),
        _ => Err(mismatch("a put")),
    }
}

/// The answer to a delete.
///
/// # Errors
/// The state refused.
pub fn delete_range_response(header: Header, reply: Reply) -> Result<DeleteRangeResponse, Status> {
    match reply {
        Reply::DeleteRange { deleted, prev } => {
            Ok(delete_range_message(header.into(), deleted, prev))
        }
        Reply::Rejected(reason) => Err(rejection(reason)),
        _ => Err(mismatch("a delete")),
    }
}

/// The answer to a transaction that went through the log, or to one that was only read.
///
/// # Errors
/// The state refused.
pub fn txn_response(header: Header, reply: Result<Reply, Answer>) -> Result<TxnResponse, Status> {
    let reply = match reply {
        Ok(Reply::Txn(reply)) | Err(Answer::Txn(reply)) => reply,
        Ok(Reply::Rejected(reason)) | Err(Answer::Rejected(reason)) => {
            return Err(rejection(reason));
        }
        _ => return Err(mismatch("a transaction")),
    };
    let mut response = txn_message(reply);
    response.header = Some(header.into());
    Ok(response)
}

/// The answer to a compaction.
///
/// # Errors
/// The state refused.
pub fn compact_response(header: Header, reply: Reply) -> Result<CompactionResponse, Status> {
    match reply {
        Reply::Compact => Ok(CompactionResponse {
            header: Some(header.into()),
        }),
        Reply::Rejected(reason) => Err(rejection(reason)),
        _ => Err(mismatch("a compaction")),
    }
}

/// The answer to a grant.
///
/// # Errors
/// The state refused.
pub fn lease_grant_response(header: Header, reply: Reply) -> Result<LeaseGrantResponse, Status> {
    match reply {
        Reply::LeaseGrant { id, ttl_ms } => Ok(LeaseGrantResponse {
            header: Some(header.into()),
            id,
            ttl: seconds(ttl_ms),
            error: String::new(),
        }),
        Reply::Rejected(reason) => Err(rejection(reason)),
        _ => Err(mismatch("a grant")),
    }
}

/// The answer to a revocation.
///
/// # Errors
/// The state refused.
pub fn lease_revoke_response(header: Header, reply: Reply) -> Result<LeaseRevokeResponse, Status> {
    match reply {
        Reply::LeaseRevoke => Ok(LeaseRevokeResponse {
            header: Some(header.into()),
        }),
        Reply::Rejected(reason) => Err(rejection(reason)),
        _ => Err(mismatch("a revocation")),
    }
}

/// The answer to a keep-alive; a lease that is gone is told by a time to live of 0, not by an error.
pub fn keep_alive_response(header: Header, id: i64, ttl_ms: Option<u64>) -> LeaseKeepAliveResponse {
    LeaseKeepAliveResponse {
        header: Some(header.into()),
        id,
        ttl: ttl_ms.map_or(0, seconds),
    }
}

/// The answer to the question for a lease's time; one that is gone is told by a time to live of -1, not by an error.
///
/// # Errors
/// The state refused.
pub fn lease_time_to_live_response(
    header: Header,
    id: i64,
    answer: Answer,
) -> Result<LeaseTimeToLiveResponse, Status> {
    let header = Some(header.into());
    match answer {
        Answer::Lease(None) => Ok(LeaseTimeToLiveResponse {
            header,
            id,
            ttl: -1,
            granted_ttl: 0,
            keys: Vec::new(),
        }),
        Answer::Lease(Some(LeaseView {
            granted_ms,
            remaining_ms,
            keys,
            ..
        })) => Ok(LeaseTimeToLiveResponse {
            header,
            id,
            // The deadline carries an allowance for drift; clients never hear of more than they were granted.
            ttl: seconds(remaining_ms.min(granted_ms)),
            granted_ttl: seconds(granted_ms),
            keys,
        }),
        Answer::Rejected(reason) => Err(rejection(reason)),
        _ => Err(mismatch("a lease's time")),
    }
}

/// The list of leases.
///
/// # Errors
/// The state refused.
pub fn lease_leases_response(
    header: Header,
    answer: Answer,
) -> Result<LeaseLeasesResponse, Status> {
    match answer {
        Answer::Leases(ids) => {
            let leases = ids.into_iter().map(|id| LeaseStatus { id }).collect();
            Ok(LeaseLeasesResponse {
                header: Some(header.into()),
                leases,
            })
        }
        Answer::Rejected(reason) => Err(rejection(reason)),
        _ => Err(mismatch("the leases")),
    }
}

pub(crate) fn mismatch(asked: &str) -> Status {
    Status::new(
        Code::Internal,
        format!("the state answered something else than {asked}"),
    )
}

fn seconds(ms: u64) -> i64 {
    (ms / 1000) as i64
}

fn range_message(header: ResponseHeader, reply: RangeReply) -> RangeResponse {
    // Both structs have the same size, so this collects in place: a million keys are not held twice.
    let kvs = reply.kvs.into_iter().map(key_value).collect();
    RangeResponse {
        header: Some(header),
        kvs,
        more: reply.more,
        count: reply.count,
    }
}

fn put_message(header: ResponseHeader, prev: Option<KeyValue>) -> PutResponse {
    PutResponse {
        header: Some(header),
        prev_kv: prev.map(key_value),
    }
}

fn delete_range_message(
    header: ResponseHeader,
    deleted: i64,
    prev: Vec<KeyValue>,
) -> DeleteRangeResponse {
    DeleteRangeResponse {
        header: Some(header),
        deleted,
        prev_kvs: prev.into_iter().map(key_value).collect(),
    }
}

/// A transaction's answer; the header of a nested one is there and empty, as etcd's.
fn txn_message(reply: TxnReply) -> TxnResponse {
    let steps = reply.steps.into_iter().zip(reply.revisions);
    let responses = steps
        .map(|(step, revision)| ResponseOp {
            response: Some(step_message(step, revision)),
        })
        .collect();
    TxnResponse {
        header: Some(ResponseHeader::default()),
        succeeded: reply.succeeded,
        responses,
    }
}

/// A step's answer; its header names the revision and nothing else.
fn step_message(step: StepReply, revision: i64) -> Response {
    let header = ResponseHeader {
        revision,
        ..Default::default()
    };
    match step {
        StepReply::Range(reply) => Response::ResponseRange(range_message(header, reply)),
        StepReply::Put { prev } => Response::ResponsePut(put_message(header, prev)),
        StepReply::DeleteRange { deleted, prev } => {
            Response::ResponseDeleteRange(delete_range_message(header, deleted, prev))
        }
        StepReply::Txn(txn) => Response::ResponseTxn(txn_message(txn)),
    }
}
