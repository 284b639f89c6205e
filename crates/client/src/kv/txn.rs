//! Transactions: what is compared, and what is done then.

use super::owned;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::{request_op, response_op};
use proto::mvccpb::KeyValue;
use proto::synod::v1 as api;

/// Something that must hold.
#[derive(Clone, Debug)]
pub struct Compare(pb::Compare);

/// Something to do.
#[derive(Clone, Debug)]
pub struct Op(request_op::Request);

/// Compares, then does one of two lists of things, all or nothing.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    compare: Vec<pb::Compare>,
    then: Vec<pb::RequestOp>,
    otherwise: Vec<pb::RequestOp>,
}

/// What came of a transaction.
#[derive(Clone, Debug)]
pub struct TxnAnswer {
    /// All comparisons held.
    pub succeeded: bool,
    /// The revision of the keys after it.
    pub revision: i64,
    /// One for each thing of the list that was done.
    pub responses: Vec<pb::ResponseOp>,
}

impl Compare {
    /// There is such a key.
    pub fn exists(key: impl AsRef<[u8]>) -> Compare {
        let version = TargetUnion::Version(0);
        Compare::new(key, CompareTarget::Version, CompareResult::Greater, version)
    }

    /// There is no such key.
    pub fn missing(key: impl AsRef<[u8]>) -> Compare {
        Compare::mod_revision(key, 0)
    }

    /// The key was last changed by this revision; 0: there is no such key.
    pub fn mod_revision(key: impl AsRef<[u8]>, revision: i64) -> Compare {
        let revision = TargetUnion::ModRevision(revision);
        Compare::new(key, CompareTarget::Mod, CompareResult::Equal, revision)
    }

    /// The key has this value.
    pub fn value(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Compare {
        let value = TargetUnion::Value(owned(value));
        Compare::new(key, CompareTarget::Value, CompareResult::Equal, value)
    }

    fn new(
        key: impl AsRef<[u8]>,
        target: CompareTarget,
        result: CompareResult,
        with: TargetUnion,
    ) -> Compare {
        Compare(pb::Compare {
            key: owned(key),
            target: target.into(),
            result: result.into(),
            target_union: Some(with),
            ..pb::Compare::default()
        })
    }
}

impl Op {
    /// Reads a key.
    pub fn get(key: impl AsRef<[u8]>) -> Op {
        Op(request_op::Request::RequestRange(pb::RangeRequest {
            key: owned(key),
            ..pb::RangeRequest::default()
        }))
    }

    /// Sets a key.
    pub fn put(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Op {
        Op(request_op::Request::RequestPut(pb::PutRequest {
            key: owned(key),
            value: owned(value),
            ..pb::PutRequest::default()
        }))
    }

    /// Removes a key.
    pub fn delete(key: impl AsRef<[u8]>) -> Op {
        Op(request_op::Request::RequestDeleteRange(
            pb::DeleteRangeRequest {
                key: owned(key),
                ..pb::DeleteRangeRequest::default()
            },
        ))
    }

    fn request(self) -> pb::RequestOp {
        pb::RequestOp {
            request: Some(self.0),
        }
    }
}

impl Txn {
    /// Compares nothing and does nothing so far.
    pub fn new() -> Txn {
        Txn::default()
    }

    /// Compares this, too.
    pub fn when(mut self, compare: Compare) -> Txn {
        self.compare.push(compare.0);
        self
    }

    /// Does this, too, if all comparisons hold.
    pub fn then(mut self, op: Op) -> Txn {
        self.then.push(op.request());
        self
    }

    /// Does this, too, if one does not.
    pub fn otherwise(mut self, op: Op) -> Txn {
        self.otherwise.push(op.request());
        self
    }

    pub(super) fn only_reads(&self) -> bool {
        let reads =
            |op: &pb::RequestOp| matches!(op.request, Some(request_op::Request::RequestRange(_)));
        self.then.iter().chain(&self.otherwise).all(reads)
    }

    pub(super) fn request(
        self,
        change: Option<api::Change>,
        consistency: Option<api::Consistency>,
    ) -> api::TxnRequest {
        api::TxnRequest {
            change,
            compare: self.compare,
            success: self.then,
            failure: self.otherwise,
            consistency,
        }
    }
}

impl TxnAnswer {
    pub(super) fn of(answer: api::TxnResponse) -> TxnAnswer {
        TxnAnswer {
            succeeded: answer.succeeded,
            revision: answer.header.map_or(0, |header| header.revision),
            responses: answer.responses,
        }
    }

    /// What the list's thing of this number read.
    pub fn read(&self, number: usize) -> &[KeyValue] {
        let response = self.responses.get(number);
        match response.and_then(|response| response.response.as_ref()) {
            Some(response_op::Response::ResponseRange(range)) => &range.kvs,
            _ => &[],
        }
    }
}
