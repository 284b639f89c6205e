//! Requests about keys. What etcd's door checks of them is checked here too, by the same code.

use crate::call::{Ask, Change, Level, mismatch};
use crate::refusal;
use bytes::Bytes;
use etcd::{Status, Transaction, key_value};
use proto::etcdserverpb;
use proto::synod::v1;
use state::{Answer, DeleteRange, Operation, Put, Query, Range, Reply};

/// Keys of one answer at most; the rest is read page by page.
const PAGE_KEYS_MAX: i64 = 10_000;

/// etcd's number for "from the last to the first".
const DESCENDING: i32 = 2;

fn check_key(key: &Bytes) -> Result<(), Status> {
    if key.is_empty() {
        return Err(refusal::invalid("key: 0 bytes are too few, at least 1"));
    }
    Ok(())
}

/// First key after a range: of one key, of those with a prefix, or as it is given.
///
/// # Errors
/// Both are given.
pub fn range_end(key: &Bytes, end: Bytes, prefix: bool) -> Result<Bytes, Status> {
    match (prefix, end.is_empty()) {
        (false, _) => Ok(end),
        (true, false) => Err(refusal::invalid(
            "range_end and prefix: give one of them, not both",
        )),
        (true, true) => Ok(after_prefix(key)),
    }
}

/// The first key that does not begin so; one zero byte, which stands for no end, if there is none.
fn after_prefix(prefix: &Bytes) -> Bytes {
    let kept = prefix.iter().rposition(|&byte| byte < 0xff);
    let Some(kept) = kept else {
        return Bytes::from_static(&[0]);
    };
    let mut end = prefix[..=kept].to_vec();
    end[kept] += 1;
    end.into()
}

/// Sets a key.
///
/// # Errors
/// The request makes no sense; so with all functions here.
pub fn put(request: v1::PutRequest) -> Result<Change<v1::PutResponse>, Status> {
    check_key(&request.key)?;
    let put = Put {
        key: request.key,
        value: request.value,
        lease: request.lease,
        prev_kv: request.prev_kv,
        ..Put::default()
    };
    Change::new(request.change, Operation::Put(put), |reply| match reply {
        Reply::Put { prev } => Ok(v1::PutResponse {
            prev_kv: prev.map(key_value),
            ..Default::default()
        }),
        _ => mismatch(),
    })
}

/// Reads a key.
///
/// # Errors
/// See [`put`].
pub fn get(request: v1::GetRequest) -> Result<Ask<v1::GetResponse>, Status> {
    check_key(&request.key)?;
    let range = Range {
        key: request.key,
        revision: request.revision.max(0),
        ..Range::default()
    };
    Ask::new(
        request.consistency,
        Query::Range(range),
        |answer| match answer {
            Answer::Range(reply) => Ok(v1::GetResponse {
                kv: reply.kvs.into_iter().next().map(key_value),
                ..Default::default()
            }),
            _ => mismatch(),
        },
    )
}

/// Reads keys.
///
/// # Errors
/// See [`put`].
pub fn range(request: v1::RangeRequest) -> Result<Ask<v1::RangeResponse>, Status> {
    let end = range_end(&request.key, request.range_end, request.prefix)?;
    // All keys have the empty prefix.
    let key = if request.prefix && request.key.is_empty() {
        Bytes::from_static(&[0])
    } else {
        request.key
    };
    check_key(&key)?;
    let limit = match request.limit {
        limit @ 1.. => limit.min(PAGE_KEYS_MAX),
        _ => PAGE_KEYS_MAX,
    };
    let range = Range {
        key,
        range_end: end,
        limit,
        revision: request.revision.max(0),
        sort_order: if request.descending { DESCENDING } else { 0 },
        keys_only: request.keys_only,
        count_only: request.count_only,
        ..Range::default()
    };
    Ask::new(
        request.consistency,
        Query::Range(range),
        |answer| match answer {
            Answer::Range(reply) => Ok(v1::RangeResponse {
                kvs: reply.kvs.into_iter().map(key_value).collect(),
                more: reply.more,
                count: reply.count,
                ..Default::default()
            }),
            _ => mismatch(),
        },
    )
}

/// Removes keys.
///
/// # Errors
/// See [`put`].
pub fn delete(request: v1::DeleteRequest) -> Result<Change<v1::DeleteResponse>, Status> {
    check_key(&request.key)?;
    let delete = DeleteRange {
        range_end: range_end(&request.key, request.range_end, request.prefix)?,
        key: request.key,
        prev_kv: request.prev_kv,
    };
    Change::new(
        request.change,
        Operation::DeleteRange(delete),
        |reply| match reply {
            Reply::DeleteRange { deleted, prev } => Ok(v1::DeleteResponse {
                deleted,
                prev_kvs: prev.into_iter().map(key_value).collect(),
                ..Default::default()
            }),
            _ => mismatch(),
        },
    )
}

/// A transaction goes through the log only if it may write.
pub enum Txn {
    /// Neither branch writes.
    Read(Ask<v1::TxnResponse>),
    /// It may write.
    Write(Change<v1::TxnResponse>),
}

/// Runs a transaction.
///
/// # Errors
/// See [`put`]; or more than `operations_max` in one list.
pub fn txn(request: v1::TxnRequest, operations_max: usize) -> Result<Txn, Status> {
    let inner = etcdserverpb::TxnRequest {
        compare: request.compare,
        success: request.success,
        failure: request.failure,
    };
    match etcd::txn(inner, operations_max)? {
        Transaction::Write(command) => {
            let operation = command.operation.expect("a transaction is an operation");
            let change = Change::new(request.change, operation, |reply| txn_response(Ok(reply)))?;
            Ok(Txn::Write(change))
        }
        Transaction::Read(read) => {
            let mut ask = Ask::new(request.consistency, read.query, |answer| {
                txn_response(Err(answer))
            })?;
            ask.level = ask.level.or(read.serializable.then_some(Level::Local));
            Ok(Txn::Read(ask))
        }
    }
}

fn txn_response(reply: Result<Reply, Answer>) -> Result<v1::TxnResponse, Status> {
    let response = etcd::txn_response(etcd::Header::default(), reply)?;
    Ok(v1::TxnResponse {
        header: None,
        succeeded: response.succeeded,
        responses: response.responses,
    })
}
