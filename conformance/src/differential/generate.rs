//! Random operations that hit something: few keys, real revisions, live leases, and every way to be wrong.

use super::answer::{Answer, Seen};
use super::operation::{Operation, overlap};
use crate::random::Random;
use bytes::Bytes;
use proto::etcdserverpb as pb;
use std::collections::VecDeque;

/// Leases with this many seconds do not end during a run.
const LONG_TTL_S: i64 = 100_000;
/// Operations between two looks at the long-lived watch stream.
const SYNC_EVERY: u64 = 97;
/// Operations between two leases that are let expire.
const EXPIRE_EVERY: u64 = 9_973;
/// Operations between two revisions that need more than one message.
const LARGE_EVERY: u64 = 14_983;

/// Makes operations and learns from the reference's answers what is there.
pub struct Generator {
    random: Random,
    made: u64,
    revision: i64,
    compacted: i64,
    keys: Vec<Bytes>,
    leases: Vec<i64>,
    watches: Vec<i64>,
    lease_next: i64,
    planned: VecDeque<Operation>,
    /// Whether a watch was made since the last thorough sync that begins in the past.
    lagging: bool,
    tame: bool,
}

impl Generator {
    /// Starts from a seed, for stores at revision 1. `tame` leaves out what makes older etcd crash.
    pub fn new(seed: u64, tame: bool) -> Generator {
        Generator {
            random: Random::new(seed),
            made: 0,
            revision: 1,
            compacted: 0,
            keys: keys(),
            leases: Vec::new(),
            watches: Vec::new(),
            lease_next: 1000,
            planned: VecDeque::new(),
            lagging: false,
            tame,
        }
    }

    /// The next operation.
    pub fn next(&mut self) -> Operation {
        self.made += 1;
        if let Some(planned) = self.planned.pop_front() {
            return planned;
        }
        if self.made.is_multiple_of(SYNC_EVERY) {
            return self.sync();
        }
        if self.made.is_multiple_of(EXPIRE_EVERY) {
            self.plan_expiry();
        } else if self.made.is_multiple_of(LARGE_EVERY) {
            self.plan_large();
        }
        match self.random.below(1000) {
            0..300 => Operation::Put(self.put()),
            300..520 => Operation::Range(self.range()),
            520..620 => Operation::Delete(self.delete()),
            620..850 => self.any_txn(),
            850..862 => self.compact(),
            862..890 => self.grant(),
            890..905 => Operation::Revoke(pb::LeaseRevokeRequest { id: self.lease() }),
            905..935 => Operation::TimeToLive(pb::LeaseTimeToLiveRequest {
                id: self.lease(),
                keys: self.random.chance(60),
            }),
            935..945 => Operation::Leases,
            945..965 => Operation::KeepAlive(pb::LeaseKeepAliveRequest { id: self.lease() }),
            965..970 => Operation::HashKv(pb::HashKvRequest {
                revision: self.some_revision(),
            }),
            970..973 => Operation::Alarms,
            973..979 => Operation::WatchHistory(self.watch_create(false)),
            979..991 => {
                let request = self.watch_create(true);
                self.lagging |= request.start_revision != 0;
                Operation::WatchCreate(request)
            }
            _ => self.watch_cancel(),
        }
    }

    /// Takes in what the reference answered.
    pub fn learn(&mut self, operation: &Operation, answer: &Answer) {
        if let Some(revision) = answer.revision() {
            self.revision = self.revision.max(revision);
        }
        match (operation, answer) {
            (Operation::Compact(request), Answer::Compact(_)) => self.compacted = request.revision,
            (Operation::Grant(request), Answer::Grant(_)) if request.id > 0 => {
                self.leases.push(request.id)
            }
            (Operation::Revoke(request), Answer::Revoke(_)) => {
                self.leases.retain(|id| *id != request.id)
            }
            (Operation::Expire(id), _) => self.leases.retain(|lease| lease != id),
            (_, Answer::Watch(seen)) => {
                for (id, seen) in seen {
                    match seen.last() {
                        Some(Seen::Created(_)) => self.watches.push(*id),
                        Some(Seen::Canceled(..)) => self.watches.retain(|watch| watch != id),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }

    fn sync(&mut self) -> Operation {
        Operation::WatchSync {
            thorough: std::mem::take(&mut self.lagging),
        }
    }

    fn key(&mut self) -> Bytes {
        match self.random.below(200) {
            0 => Bytes::new(),
            1 => Bytes::from_static(b"\0"),
            2 => Bytes::from(vec![b'k'; 1024]),
            _ => self.random.pick(&self.keys).clone(),
        }
    }

    fn range_end(&mut self, key: &Bytes) -> Bytes {
        match self.random.below(12) {
            0..4 => Bytes::new(),
            4 => Bytes::from_static(b"\0"),
            5..7 => prefix_end(key),
            7 => key.clone(),
            8 => [key.as_ref(), b"\0"].concat().into(),
            _ => self.random.pick(&self.keys).clone(),
        }
    }

    fn value(&mut self) -> Bytes {
        match self.random.below(40) {
            0..4 => Bytes::new(),
            4 => Bytes::from(vec![b'v'; 3000]),
            5..15 => Bytes::from_static(b"same"),
            // Binary, and in no order with the numbers.
            15..18 => Bytes::from(vec![0xff, self.random.below(256) as u8, 0]),
            _ => Bytes::from(format!("{}", self.random.below(1000))),
        }
    }

    fn lease(&mut self) -> i64 {
        match self.random.below(10) {
            0 => 999_999,
            1 => *self.random.pick(&[0, -1, i64::MAX, i64::MIN, 1000]),
            _ if self.leases.is_empty() => 0,
            _ => *self.random.pick(&self.leases),
        }
    }

    /// A revision as likely wrong as right: old, new, compacted, future, negative.
    fn some_revision(&mut self) -> i64 {
        match self.random.below(20) {
            0..4 => 0,
            4 => -1,
            5 => self.revision + 1 + self.random.below(5) as i64,
            6 => i64::MAX,
            7 => self.compacted,
            8 => self.compacted - 1,
            9 => self.compacted + 1,
            10 => self.revision,
            11 => 1,
            _ => self.live_revision(),
        }
    }

    /// A revision that can be read.
    fn live_revision(&mut self) -> i64 {
        let oldest = self.compacted.max(1).max(self.revision - 300);
        oldest
            + self
                .random
                .below((self.revision - oldest + 1).max(1) as u64) as i64
    }

    fn put(&mut self) -> pb::PutRequest {
        let mut request = pb::PutRequest {
            key: self.key(),
            value: self.value(),
            prev_kv: self.random.chance(30),
            ..Default::default()
        };
        if self.random.chance(25) {
            request.lease = self.lease();
        }
        request.ignore_value = self.random.chance(6);
        request.ignore_lease = self.random.chance(6);
        if request.ignore_value && self.random.chance(80) {
            request.value = Bytes::new();
        }
        if request.ignore_lease && self.random.chance(80) {
            request.lease = 0;
        }
        request
    }

    fn range(&mut self) -> pb::RangeRequest {
        let key = self.key();
        let range_end = self.range_end(&key);
        let mut request = pb::RangeRequest {
            key,
            range_end,
            serializable: self.random.chance(20),
            keys_only: self.random.chance(15),
            count_only: self.random.chance(8),
            ..Default::default()
        };
        if self.random.chance(40) {
            request.limit = *self.random.pick(&[1, 1, 2, 3, 5, 10, 1000, -1, i64::MAX]);
        }
        if self.random.chance(35) {
            request.revision = if self.random.chance(60) {
                self.live_revision()
            } else {
                self.some_revision()
            };
        }
        if self.random.chance(40) {
            request.sort_order = *self.random.pick(&[0, 1, 1, 2, 2, 2, 1, 2, 3, -1]);
            request.sort_target = *self.random.pick(&[0, 1, 2, 3, 4, 1, 2, 3, 4, 0, 5, -1]);
        }
        if self.tame {
            // Up to 3.5.1 at least, an unknown target is a nil pointer.
            request.sort_order = request.sort_order.clamp(0, 2);
            request.sort_target = request.sort_target.clamp(0, 4);
        }
        if self.random.chance(20) {
            let mut bound = |percent| {
                if self.random.chance(percent) {
                    self.some_revision_for_filter()
                } else {
                    0
                }
            };
            request.min_mod_revision = bound(40);
            request.max_mod_revision = bound(40);
            request.min_create_revision = bound(40);
            request.max_create_revision = bound(40);
        }
        request
    }

    fn delete(&mut self) -> pb::DeleteRangeRequest {
        let key = self.key();
        // Wide deletes are rare: they would leave nothing to find.
        let range_end = if self.random.chance(25) {
            self.range_end(&key)
        } else {
            Bytes::new()
        };
        pb::DeleteRangeRequest {
            key,
            range_end,
            prev_kv: self.random.chance(40),
        }
    }

    fn any_txn(&mut self) -> Operation {
        let mut request = self.txn(0);
        match self.random.below(150) {
            0 => {
                request.success = (0..self.around_limit())
                    .map(|at| put_op(format!("many/{at}"), "x"))
                    .collect()
            }
            1 => request.compare = (0..self.around_limit()).map(|_| self.compare()).collect(),
            2 => {
                request.failure = (0..self.around_limit())
                    .map(|_| range_op(self.range()))
                    .collect()
            }
            _ => {}
        }
        spare_etcd(&mut request);
        Operation::Txn(request)
    }

    /// Around the most operations that etcd takes in one transaction.
    fn around_limit(&mut self) -> usize {
        *self.random.pick(&[127, 128, 129, 200])
    }

    fn txn(&mut self, depth: u64) -> pb::TxnRequest {
        let compares = self.random.below(4);
        let compare = (0..compares).map(|_| self.compare()).collect();
        pb::TxnRequest {
            compare,
            success: self.ops(depth),
            failure: self.ops(depth),
        }
    }

    fn ops(&mut self, depth: u64) -> Vec<pb::RequestOp> {
        let count = self.random.below(5);
        (0..count).map(|_| self.op(depth)).collect()
    }

    fn op(&mut self, depth: u64) -> pb::RequestOp {
        use pb::request_op::Request;
        let request = match self.random.below(100) {
            0..45 => Request::RequestPut(self.put()),
            45..72 => Request::RequestRange(self.range_that_succeeds()),
            72..85 => Request::RequestDeleteRange(self.delete()),
            85..99 if depth < 3 => Request::RequestTxn(self.txn(depth + 1)),
            99 => return pb::RequestOp { request: None },
            _ => Request::RequestRange(self.range()),
        };
        pb::RequestOp {
            request: Some(request),
        }
    }

    /// Most ranges inside transactions must not fail, or no transaction with several would ever apply.
    fn range_that_succeeds(&mut self) -> pb::RangeRequest {
        let mut range = self.range();
        if self.random.chance(92) {
            range.revision = if self.random.chance(70) {
                0
            } else {
                self.live_revision()
            };
            range.sort_order = range.sort_order.clamp(0, 2);
            range.sort_target = range.sort_target.clamp(0, 4);
        }
        range
    }

    fn compare(&mut self) -> pb::Compare {
        use pb::compare::TargetUnion;
        let key = self.key();
        let range_end = if self.random.chance(20) {
            self.range_end(&key)
        } else {
            Bytes::new()
        };
        let kind = self.random.below(5) as i32;
        let union = |random: &mut Generator, kind| match kind {
            0 => TargetUnion::Version(random.random.below(4) as i64),
            1 => TargetUnion::CreateRevision(random.some_revision_for_filter()),
            2 => TargetUnion::ModRevision(random.some_revision_for_filter()),
            3 => TargetUnion::Value(random.value()),
            _ => TargetUnion::Lease(random.lease()),
        };
        let mut compare = pb::Compare {
            result: self.random.below(4) as i32,
            target: kind,
            target_union: Some(union(self, kind)),
            key,
            range_end,
        };
        match self.random.below(60) {
            0 => compare.target = 9,
            1 => compare.result = 9,
            2 => compare.target_union = None,
            3 => {
                let other = self.random.below(5) as i32;
                compare.target_union = Some(union(self, other));
            }
            _ => {}
        }
        compare
    }

    fn some_revision_for_filter(&mut self) -> i64 {
        if self.random.chance(30) {
            0
        } else {
            self.live_revision()
        }
    }

    fn compact(&mut self) -> Operation {
        let revision = match self.random.below(10) {
            0..5 => {
                self.compacted
                    + 1
                    + self
                        .random
                        .below(((self.revision - self.compacted).max(1) / 2 + 1) as u64)
                        as i64
            }
            _ => self.some_revision(),
        };
        let compact = Operation::Compact(pb::CompactionRequest {
            revision,
            physical: self.random.chance(50),
        });
        if !self.lagging {
            return compact;
        }
        // Whether a compaction meets a watch that is still catching up is a matter of luck.
        self.planned.push_back(compact);
        self.sync()
    }

    fn grant(&mut self) -> Operation {
        self.lease_next += 1;
        let id = match self.random.below(12) {
            0 if !self.leases.is_empty() => *self.random.pick(&self.leases),
            1 => -5,
            _ => self.lease_next,
        };
        let ttl = *self.random.pick(&[
            LONG_TTL_S,
            LONG_TTL_S,
            LONG_TTL_S,
            LONG_TTL_S,
            9_000_000_000,
            9_000_000_001,
            i64::MAX,
            86_400,
        ]);
        if self.leases.len() > 40 {
            return Operation::Revoke(pb::LeaseRevokeRequest {
                id: *self.random.pick(&self.leases),
            });
        }
        Operation::Grant(pb::LeaseGrantRequest { id, ttl })
    }

    fn watch_create(&mut self, live: bool) -> pb::WatchCreateRequest {
        let key = self.key();
        let range_end = self.range_end(&key);
        let mut request = pb::WatchCreateRequest {
            key,
            range_end,
            prev_kv: self.random.chance(40),
            fragment: self.random.chance(20),
            ..Default::default()
        };
        request.start_revision = match self.random.below(10) {
            0 => self.some_revision(),
            1..5 if live => 0,
            _ => self.live_revision(),
        };
        // A start in the far future tells nothing; near ones must hold back exactly what is before them.
        if request.start_revision > self.revision + 20 {
            request.start_revision = self.revision + 3;
        }
        if self.random.chance(25) {
            request.filters = (0..1 + self.random.below(2))
                .map(|_| *self.random.pick(&[0, 1, 1, 0, 7]))
                .collect();
        }
        if live && self.random.chance(20) {
            request.watch_id = *self.random.pick(&[1, 2, 50, 51, 52, 53, -7]);
        }
        request
    }

    fn watch_cancel(&mut self) -> Operation {
        if self.watches.is_empty() || self.random.chance(5) {
            return Operation::WatchCancel(777_777);
        }
        let watch = *self.random.pick(&self.watches);
        // What is under way must have arrived, or where the cancellation cuts the events is a matter of luck.
        self.planned.push_back(Operation::WatchCancel(watch));
        self.sync()
    }

    /// A short lease with keys is granted, renewed, and seen to end in one revision.
    fn plan_expiry(&mut self) {
        self.lease_next += 1;
        let id = self.lease_next;
        let ttl = *self.random.pick(&[2, 3, 1]);
        let key = self.random.pick(&self.keys).clone();
        let attach = |key: Bytes| {
            Operation::Put(pb::PutRequest {
                key,
                value: "short".into(),
                lease: id,
                ..Default::default()
            })
        };
        self.planned.extend([
            Operation::Grant(pb::LeaseGrantRequest { id, ttl }),
            attach(key),
            attach("short/1".into()),
            attach("short/2".into()),
            Operation::TimeToLive(pb::LeaseTimeToLiveRequest { id, keys: true }),
            Operation::KeepAlive(pb::LeaseKeepAliveRequest { id }),
            Operation::Expire(id),
            Operation::TimeToLive(pb::LeaseTimeToLiveRequest { id, keys: true }),
            Operation::KeepAlive(pb::LeaseKeepAliveRequest { id }),
            Operation::Revoke(pb::LeaseRevokeRequest { id }),
            Operation::Range(pb::RangeRequest {
                key: vec![0].into(),
                range_end: vec![0].into(),
                ..Default::default()
            }),
            Operation::WatchSync { thorough: true },
        ]);
    }

    /// One revision whose events with their previous values do not fit into one message, and requests over the limit.
    fn plan_large(&mut self) {
        let value = |byte: u8, length: usize| Bytes::from(vec![byte; length]);
        let put = |at: u8, length: usize| pb::RequestOp {
            request: Some(pb::request_op::Request::RequestPut(pb::PutRequest {
                key: format!("large/{at}").into(),
                value: value(b'a' + at, length),
                ..Default::default()
            })),
        };
        let triple = |length| {
            Operation::Txn(pb::TxnRequest {
                success: (0..3).map(|at| put(at, length)).collect(),
                ..Default::default()
            })
        };
        let start_revision = self.revision + 1;
        let watch = |fragment| {
            Operation::WatchHistory(pb::WatchCreateRequest {
                key: "large/".into(),
                range_end: "large0".into(),
                start_revision,
                prev_kv: true,
                fragment,
                ..Default::default()
            })
        };
        let too_large = |length| {
            Operation::Put(pb::PutRequest {
                key: "large/x".into(),
                value: value(b'x', length),
                ..Default::default()
            })
        };
        self.planned.extend([
            triple(400_000),
            triple(450_000),
            watch(true),
            watch(false),
            too_large(1_600_000),
            too_large(2_500_000),
        ]);
        self.planned
            .push_back(Operation::Delete(pb::DeleteRangeRequest {
                key: "large/".into(),
                range_end: "large0".into(),
                ..Default::default()
            }));
    }
}

/// etcd 3.6.7 dies of a transaction that deletes a key and then puts it keeping its value or lease, which its check for duplicates lets pass in places.
fn spare_etcd(request: &mut pb::TxnRequest) {
    let mut deletes = Vec::new();
    each_op(request, &mut |op| {
        if let pb::request_op::Request::RequestDeleteRange(delete) = op {
            deletes.push((delete.key.clone(), delete.range_end.clone()));
        }
    });
    each_op(request, &mut |op| {
        if let pb::request_op::Request::RequestPut(put) = op
            && deletes
                .iter()
                .any(|range| overlap(range, &(put.key.clone(), Bytes::new())))
        {
            put.ignore_value = false;
            put.ignore_lease = false;
        }
    });
}

/// Visits the operations of a transaction and of those inside it.
fn each_op(request: &mut pb::TxnRequest, visit: &mut dyn FnMut(&mut pb::request_op::Request)) {
    for op in request.success.iter_mut().chain(&mut request.failure) {
        match &mut op.request {
            Some(pb::request_op::Request::RequestTxn(inner)) => each_op(inner, visit),
            Some(op) => visit(op),
            None => {}
        }
    }
}

fn keys() -> Vec<Bytes> {
    let mut keys: Vec<Bytes> = [
        "a", "a/", "a/b", "a/b/c", "a0", "b", "ab", "key", "key\0", "short/1", "many/3",
    ]
    .iter()
    .map(|key| Bytes::from_static(key.as_bytes()))
    .collect();
    keys.extend((0..14).map(|at| Bytes::from(format!("dir/{at}"))));
    keys.extend([
        Bytes::from_static(b"\xff"),
        Bytes::from_static(b"\xff\xff"),
        Bytes::from_static(b"\x80\x00\x01"),
        Bytes::from("ключ"),
    ]);
    keys
}

/// The end of the range of all keys with a prefix; everything from it on when there is none.
fn prefix_end(key: &Bytes) -> Bytes {
    let mut end = key.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(b"\0")
}

fn put_op(key: String, value: &'static str) -> pb::RequestOp {
    let put = pb::PutRequest {
        key: key.into(),
        value: Bytes::from_static(value.as_bytes()),
        ..Default::default()
    };
    pb::RequestOp {
        request: Some(pb::request_op::Request::RequestPut(put)),
    }
}

fn range_op(range: pb::RangeRequest) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(pb::request_op::Request::RequestRange(range)),
    }
}
