//! Requests for what identifiers are made from.

use crate::call::{Change, mismatch};
use etcd::Status;
use proto::synod::v1;
use state::id::{Add, IdCommand, IdOperation, IdReply, TakeSegment, TakeWorker};
use state::{Operation, Reply};

fn operation(operation: IdOperation) -> Operation {
    Operation::Id(IdCommand {
        operation: Some(operation),
    })
}

/// Lends a worker number.
///
/// # Errors
/// The request makes no sense; so with all functions here.
pub fn worker(request: v1::WorkerRequest) -> Result<Change<v1::WorkerResponse>, Status> {
    let take = TakeWorker {
        pool: request.pool.into(),
        session: request.session,
        workers: request.workers,
        ahead_ms: request.ahead_ms,
    };
    Change::new(
        request.change,
        operation(IdOperation::Worker(take)),
        |reply| match reply {
            Reply::Id(IdReply::Worker {
                worker,
                now_ms,
                from_ms,
                until_ms,
            }) => Ok(v1::WorkerResponse {
                worker,
                now_unix_ms: now_ms,
                from_unix_ms: from_ms,
                until_unix_ms: until_ms,
                ..Default::default()
            }),
            _ => mismatch(),
        },
    )
}

/// Hands out a range of a sequence.
///
/// # Errors
/// See [`worker`].
pub fn segment(request: v1::SegmentRequest) -> Result<Change<v1::SegmentResponse>, Status> {
    let take = TakeSegment {
        name: request.name.into(),
        count: request.count,
    };
    Change::new(
        request.change,
        operation(IdOperation::Segment(take)),
        |reply| match reply {
            Reply::Id(IdReply::Segment { first, count }) => Ok(v1::SegmentResponse {
                first,
                count,
                ..Default::default()
            }),
            _ => mismatch(),
        },
    )
}

/// Adds to a counter.
///
/// # Errors
/// See [`worker`].
pub fn add(request: v1::AddRequest) -> Result<Change<v1::AddResponse>, Status> {
    let add = Add {
        name: request.name.into(),
        delta: request.delta,
    };
    Change::new(
        request.change,
        operation(IdOperation::Add(add)),
        |reply| match reply {
            Reply::Id(IdReply::Counter { value }) => Ok(v1::AddResponse {
                value,
                ..Default::default()
            }),
            _ => mismatch(),
        },
    )
}
