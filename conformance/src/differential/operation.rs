//! One thing that a client does.

use bytes::Bytes;
use proto::etcdserverpb as pb;

/// A call, or a step on the long-lived watch stream.
#[derive(Clone, Debug)]
pub enum Operation {
    /// KV.Range
    Range(pb::RangeRequest),
    /// KV.Put
    Put(pb::PutRequest),
    /// KV.DeleteRange
    Delete(pb::DeleteRangeRequest),
    /// KV.Txn
    Txn(pb::TxnRequest),
    /// KV.Compact
    Compact(pb::CompactionRequest),
    /// Lease.LeaseGrant
    Grant(pb::LeaseGrantRequest),
    /// Lease.LeaseRevoke
    Revoke(pb::LeaseRevokeRequest),
    /// Lease.LeaseTimeToLive
    TimeToLive(pb::LeaseTimeToLiveRequest),
    /// Lease.LeaseLeases
    Leases,
    /// Lease.LeaseKeepAlive, one renewal
    KeepAlive(pb::LeaseKeepAliveRequest),
    /// Maintenance.HashKV; only whether it is an error is compared
    HashKv(pb::HashKvRequest),
    /// Maintenance.Alarm, get
    Alarms,
    /// A watch on a stream of its own, usually of history, until nothing more comes
    WatchHistory(pb::WatchCreateRequest),
    /// A watch on the long-lived stream
    WatchCreate(pb::WatchCreateRequest),
    /// The end of a watch on the long-lived stream
    WatchCancel(i64),
    /// Everything delivered on the long-lived stream so far; `thorough` waits until watches that began in the past have caught up
    WatchSync { thorough: bool },
    /// Waits until a short lease is gone
    Expire(i64),
}

impl Operation {
    /// The keys and ranges it touches, for picking what led to a difference.
    pub fn ranges(&self) -> Vec<(Bytes, Bytes)> {
        match self {
            Operation::Range(r) => vec![(r.key.clone(), r.range_end.clone())],
            Operation::Put(r) => vec![(r.key.clone(), Bytes::new())],
            Operation::Delete(r) => vec![(r.key.clone(), r.range_end.clone())],
            Operation::Txn(r) => txn_ranges(r),
            Operation::WatchHistory(r) | Operation::WatchCreate(r) => {
                vec![(r.key.clone(), r.range_end.clone())]
            }
            _ => Vec::new(),
        }
    }

    /// The lease it names.
    pub fn lease(&self) -> Option<i64> {
        match self {
            Operation::Put(r) => Some(r.lease),
            Operation::Grant(r) => Some(r.id),
            Operation::Revoke(r) => Some(r.id),
            Operation::TimeToLive(r) => Some(r.id),
            Operation::KeepAlive(r) => Some(r.id),
            Operation::Expire(id) => Some(*id),
            _ => None,
        }
        .filter(|id| *id != 0)
    }

    /// Whether it may change something.
    pub fn changes(&self) -> bool {
        use Operation::*;
        matches!(
            self,
            Put(_) | Delete(_) | Txn(_) | Compact(_) | Grant(_) | Revoke(_) | Expire(_)
        )
    }

    /// Whether what it did may matter to the answer to `other`.
    pub fn bears_on(&self, other: &Operation) -> bool {
        if !self.changes() {
            return false;
        }
        if matches!(self, Operation::Compact(_))
            || (self.lease().is_some() && self.lease() == other.lease())
        {
            return true;
        }
        let theirs = other.ranges();
        self.ranges()
            .iter()
            .any(|mine| theirs.iter().any(|their| overlap(mine, their)))
    }
}

fn txn_ranges(request: &pb::TxnRequest) -> Vec<(Bytes, Bytes)> {
    use pb::request_op::Request;
    let mut ranges: Vec<_> = request
        .compare
        .iter()
        .map(|compare| (compare.key.clone(), compare.range_end.clone()))
        .collect();
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Request::RequestRange(r)) => ranges.push((r.key.clone(), r.range_end.clone())),
            Some(Request::RequestPut(r)) => ranges.push((r.key.clone(), Bytes::new())),
            Some(Request::RequestDeleteRange(r)) => {
                ranges.push((r.key.clone(), r.range_end.clone()))
            }
            Some(Request::RequestTxn(r)) => ranges.extend(txn_ranges(r)),
            None => {}
        }
    }
    ranges
}

/// Whether two ranges, each a key and an end as in the API, have a key in common.
pub fn overlap(a: &(Bytes, Bytes), b: &(Bytes, Bytes)) -> bool {
    let starts_before_end = |key: &Bytes, (start, end): &(Bytes, Bytes)| match end.as_ref() {
        [] => key == start,
        [0] => key >= start,
        end => key >= start && key.as_ref() < end,
    };
    starts_before_end(&a.0, b) || starts_before_end(&b.0, a)
}
