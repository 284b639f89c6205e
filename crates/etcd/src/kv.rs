//! Requests about keys: checked as etcd checks them, in its order, then turned into commands and queries.

use crate::{Status, compare, overlap};
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use state::{Command, Operation, Query, TxnOperation, TxnStep};

/// Transactions inside one another at most. The log's decoder stops at a depth of 100 messages, two per transaction; what it could not read again must not get in.
const TXN_DEPTH_MAX: usize = 32;

/// A command. Its size is checked by the member that takes it.
pub type Change = Command;

/// A read, and whether what the member has now will do.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// The question.
    pub query: Query,
    /// The client asked for no more than the member's own state.
    pub serializable: bool,
}

/// A transaction goes through the log only if it may write.
#[derive(Clone, Debug, PartialEq)]
pub enum Transaction {
    /// Neither branch writes.
    Read(Read),
    /// It may write.
    Write(Change),
}

/// Turns a range request into a query.
///
/// # Errors
/// The key is empty or the sort option unknown.
pub fn range(request: RangeRequest) -> Result<Read, Status> {
    check_range(&request)?;
    let serializable = request.serializable;
    let mut range = range_of(request);
    range.revision = range.revision.max(0);
    Ok(Read {
        query: Query::Range(range),
        serializable,
    })
}

/// Turns a put request into a command.
///
/// # Errors
/// The key is empty, or a value or lease is given that is to be ignored.
pub fn put(request: PutRequest) -> Result<Change, Status> {
    check_put(&request)?;
    Ok(change(Operation::Put(put_of(request))))
}

/// Turns a delete request into a command.
///
/// # Errors
/// The key is empty.
pub fn delete_range(request: DeleteRangeRequest) -> Result<Change, Status> {
    check_delete_range(&request)?;
    Ok(change(Operation::DeleteRange(delete_range_of(request))))
}

/// Turns a transaction into a command, or into a query if it cannot write.
///
/// # Errors
/// More than `operations_max` in one list, nested lists counted on top; an empty or twice written key, or whatever a step of it is refused for.
pub fn txn(request: TxnRequest, operations_max: usize) -> Result<Transaction, Status> {
    check_txn(&request, operations_max, TXN_DEPTH_MAX)?;
    // After the check above, which bounds the work of this one.
    overlap::check(&request.success)?;
    overlap::check(&request.failure)?;

    if !read_only(&request) {
        return Ok(Transaction::Write(change(Operation::Txn(txn_of(request)?))));
    }
    // Without a single range there is nothing that asked for less than the full promise: the comparisons count.
    let some_range = !ranges_all(&request, &|_| false);
    let serializable = some_range && ranges_all(&request, &|range| range.serializable);
    Ok(Transaction::Read(Read {
        query: Query::Txn(txn_of(request)?),
        serializable,
    }))
}

/// Turns a compaction into a command. `physical` asks nothing more of this server: space is given back in the background.
pub fn compact(request: CompactionRequest) -> Change {
    change(Operation::Compact(state::Compact {
        revision: request.revision,
    }))
}

/// Wraps an operation in its envelope.
pub(crate) fn change(operation: Operation) -> Change {
    Command {
        operation: Some(operation),
        ..Default::default()
    }
}

fn check_range(request: &RangeRequest) -> Result<(), Status> {
    if request.key.is_empty() {
        return Err(Status::EMPTY_KEY);
    }
    if SortOrder::try_from(request.sort_order).is_err()
        || SortTarget::try_from(request.sort_target).is_err()
    {
        return Err(Status::INVALID_SORT_OPTION);
    }
    Ok(())
}

fn check_put(request: &PutRequest) -> Result<(), Status> {
    if request.key.is_empty() {
        return Err(Status::EMPTY_KEY);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Status::VALUE_PROVIDED);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Status::LEASE_PROVIDED);
    }
    Ok(())
}

fn check_delete_range(request: &DeleteRangeRequest) -> Result<(), Status> {
    if request.key.is_empty() {
        Err(Status::EMPTY_KEY)
    } else {
        Ok(())
    }
}

fn check_txn(request: &TxnRequest, operations_max: usize, depth_max: usize) -> Result<(), Status> {
    let operations = request
        .compare
        .len()
        .max(request.success.len())
        .max(request.failure.len());
    if operations > operations_max || depth_max == 0 {
        return Err(Status::TOO_MANY_OPERATIONS);
    }
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Status::EMPTY_KEY);
    }
    for step in request.success.iter().chain(&request.failure) {
        check_step(step, operations_max - operations, depth_max - 1)?;
    }
    Ok(())
}

fn check_step(step: &RequestOp, operations_max: usize, depth_max: usize) -> Result<(), Status> {
    match &step.request {
        Some(Request::RequestRange(range)) => check_range(range),
        Some(Request::RequestPut(put)) => check_put(put),
        Some(Request::RequestDeleteRange(delete)) => check_delete_range(delete),
        Some(Request::RequestTxn(txn)) => check_txn(txn, operations_max, depth_max),
        // So says etcd of a step without content.
        None => Err(Status::KEY_NOT_FOUND),
    }
}

fn read_only(request: &TxnRequest) -> bool {
    request
        .success
        .iter()
        .chain(&request.failure)
        .all(|step| match &step.request {
            Some(Request::RequestRange(_)) => true,
            Some(Request::RequestTxn(txn)) => read_only(txn),
            _ => false,
        })
}

fn ranges_all(request: &TxnRequest, holds: &dyn Fn(&RangeRequest) -> bool) -> bool {
    request
        .success
        .iter()
        .chain(&request.failure)
        .all(|step| match &step.request {
            Some(Request::RequestRange(range)) => holds(range),
            Some(Request::RequestTxn(txn)) => ranges_all(txn, holds),
            _ => true,
        })
}

fn range_of(request: RangeRequest) -> state::Range {
    state::Range {
        key: request.key,
        range_end: request.range_end,
        limit: request.limit.max(0),
        revision: request.revision,
        sort_order: request.sort_order,
        sort_target: request.sort_target,
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
    }
}

fn put_of(request: PutRequest) -> state::Put {
    state::Put {
        key: request.key,
        value: request.value,
        lease: request.lease,
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    }
}

fn delete_range_of(request: DeleteRangeRequest) -> state::DeleteRange {
    state::DeleteRange {
        key: request.key,
        range_end: request.range_end,
        prev_kv: request.prev_kv,
    }
}

fn txn_of(request: TxnRequest) -> Result<state::Txn, Status> {
    let compares = compare::compares(&request)?;
    Ok(state::Txn {
        compares,
        success: steps_of(request.success)?,
        failure: steps_of(request.failure)?,
    })
}

fn steps_of(steps: Vec<RequestOp>) -> Result<Vec<TxnOperation>, Status> {
    steps
        .into_iter()
        .map(|step| step_of(step).map(|step| TxnOperation { step: Some(step) }))
        .collect()
}

fn step_of(step: RequestOp) -> Result<TxnStep, Status> {
    Ok(match step.request {
        Some(Request::RequestRange(range)) => TxnStep::Range(range_of(range)),
        Some(Request::RequestPut(put)) => TxnStep::Put(put_of(put)),
        Some(Request::RequestDeleteRange(delete)) => TxnStep::DeleteRange(delete_range_of(delete)),
        Some(Request::RequestTxn(txn)) => TxnStep::Txn(txn_of(txn)?),
        None => return Err(Status::KEY_NOT_FOUND),
    })
}
