//! An answer, and its form in which two servers' answers can be compared.

use super::operation::Operation;
use proto::etcdserverpb as pb;
use proto::mvccpb;
use std::collections::BTreeMap;

/// What a server said.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To a range.
    Range(pb::RangeResponse),
    /// To a put.
    Put(pb::PutResponse),
    /// To a delete.
    Delete(pb::DeleteRangeResponse),
    /// To a transaction.
    Txn(pb::TxnResponse),
    /// To a compaction.
    Compact(pb::CompactionResponse),
    /// To a grant.
    Grant(pb::LeaseGrantResponse),
    /// To a revocation.
    Revoke(pb::LeaseRevokeResponse),
    /// To a question after a lease.
    TimeToLive(pb::LeaseTimeToLiveResponse),
    /// The ids of all leases, in order of id.
    Leases(Vec<i64>),
    /// To a renewal.
    KeepAlive(pb::LeaseKeepAliveResponse),
    /// To HashKV: only that there was a hash. etcd compacts in the background, so even the compact revision is a matter of luck.
    HashKv,
    /// Alarms that are on.
    Alarms(usize),
    /// What came on a watch stream, by watch.
    Watch(BTreeMap<i64, Vec<Seen>>),
    /// Nothing to say.
    Done,
    /// An error: code and text.
    Refused(tonic::Code, String),
}

/// Something that came on a watch stream. Events in a row are one, because servers cut history into messages as they like.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// The watch is there, as of this revision of the store.
    Created(i64),
    /// The watch is gone: compact revision, reason, whether the message also says created.
    Canceled(i64, String, bool),
    /// Changes.
    Events(Vec<mvccpb::Event>),
    /// A breach of what any watch must keep, whatever the other server does.
    Breach(String),
}

/// In which terms a server speaks.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// The revision it had when the run began; a fresh store has 1.
    pub base: i64,
    /// Up to how many keys equal elements of a sort stay in key order: 12 with Go since 1.19, which 3.6 is built with; nothing is certain before.
    pub stable_max: i64,
}

impl From<tonic::Status> for Answer {
    fn from(status: tonic::Status) -> Answer {
        Answer::Refused(status.code(), status.message().to_string())
    }
}

impl Answer {
    /// The store's revision, where the answer tells it.
    pub fn revision(&self) -> Option<i64> {
        let header = match self {
            Answer::Range(r) => &r.header,
            Answer::Put(r) => &r.header,
            Answer::Delete(r) => &r.header,
            Answer::Txn(r) => &r.header,
            Answer::Compact(r) => &r.header,
            Answer::Grant(r) => &r.header,
            Answer::Revoke(r) => &r.header,
            _ => return None,
        };
        header.as_ref().map(|header| header.revision)
    }

    /// Takes out what differs between any two servers, and turns revisions into those of a store that began at 1.
    pub fn normalise(&mut self, operation: &Operation, frame: Frame) {
        let base = frame.base;
        match (self, operation) {
            (Answer::Range(r), Operation::Range(request)) => range(r, request, frame),
            (Answer::Put(r), _) => put(r, base),
            (Answer::Delete(r), _) => delete(r, base),
            (Answer::Txn(r), Operation::Txn(request)) => txn(r, request, frame),
            (Answer::Compact(r), _) => header(&mut r.header, base),
            (Answer::Grant(r), _) => header(&mut r.header, base),
            (Answer::Revoke(r), _) => header(&mut r.header, base),
            (Answer::TimeToLive(r), _) => {
                header(&mut r.header, base);
                r.keys.sort();
            }
            (Answer::KeepAlive(r), _) => header(&mut r.header, base),
            (Answer::Leases(ids), _) => ids.sort_unstable(),
            (Answer::Watch(seen), _) => seen
                .values_mut()
                .flatten()
                .for_each(|seen| watch(seen, base)),
            _ => {}
        }
    }

    /// Whether two normalised answers are the same to a client. Remaining seconds may differ by two: the calls are not made at one instant.
    pub fn same(&self, other: &Answer) -> bool {
        match (self, other) {
            (Answer::TimeToLive(a), Answer::TimeToLive(b)) => {
                let close = (a.ttl < 0) == (b.ttl < 0) && a.ttl.abs_diff(b.ttl) <= 2;
                close
                    && pb::LeaseTimeToLiveResponse {
                        ttl: 0,
                        ..a.clone()
                    } == pb::LeaseTimeToLiveResponse {
                        ttl: 0,
                        ..b.clone()
                    }
            }
            // etcd keeps the hashes of some compacted revisions, which ones is a matter of luck.
            (Answer::HashKv, Answer::Refused(_, text))
            | (Answer::Refused(_, text), Answer::HashKv) => text.contains("has been compacted"),
            _ => self == other,
        }
    }
}

fn header(header: &mut Option<pb::ResponseHeader>, base: i64) {
    if let Some(header) = header {
        header.cluster_id = 0;
        header.member_id = 0;
        header.raft_term = 0;
        revision(&mut header.revision, base);
    }
}

fn revision(revision: &mut i64, base: i64) {
    if *revision > 0 {
        *revision -= base - 1;
    }
}

fn pair(kv: &mut mvccpb::KeyValue, base: i64) {
    revision(&mut kv.create_revision, base);
    revision(&mut kv.mod_revision, base);
}

fn put(response: &mut pb::PutResponse, base: i64) {
    header(&mut response.header, base);
    response.prev_kv.iter_mut().for_each(|kv| pair(kv, base));
}

fn delete(response: &mut pb::DeleteRangeResponse, base: i64) {
    header(&mut response.header, base);
    response.prev_kvs.iter_mut().for_each(|kv| pair(kv, base));
}

fn range(response: &mut pb::RangeResponse, request: &pb::RangeRequest, frame: Frame) {
    let base = frame.base;
    header(&mut response.header, base);
    response.kvs.iter_mut().for_each(|kv| pair(kv, base));
    settle_ties(response, request, frame.stable_max);
}

fn txn(response: &mut pb::TxnResponse, request: &pb::TxnRequest, frame: Frame) {
    let base = frame.base;
    use pb::request_op::Request;
    use pb::response_op::Response;
    header(&mut response.header, base);
    let taken = if response.succeeded {
        &request.success
    } else {
        &request.failure
    };
    for (op, answer) in taken.iter().zip(&mut response.responses) {
        match (&op.request, &mut answer.response) {
            (Some(Request::RequestRange(request)), Some(Response::ResponseRange(response))) => {
                range(response, request, frame)
            }
            (_, Some(Response::ResponsePut(response))) => put(response, base),
            (_, Some(Response::ResponseDeleteRange(response))) => delete(response, base),
            (Some(Request::RequestTxn(request)), Some(Response::ResponseTxn(response))) => {
                txn(response, request, frame)
            }
            _ => {}
        }
    }
}

fn watch(seen: &mut Seen, base: i64) {
    match seen {
        Seen::Created(at) => revision(at, base),
        Seen::Canceled(compacted, _, _) => revision(compacted, base),
        Seen::Events(events) => {
            for event in events {
                event.kv.iter_mut().for_each(|kv| pair(kv, base));
                event.prev_kv.iter_mut().for_each(|kv| pair(kv, base));
            }
        }
        Seen::Breach(_) => {}
    }
}

/// Sorts keep equal elements in order only up to a length. Beyond, equal ones are put into key order here, and those cut by the limit are only counted.
fn settle_ties(response: &mut pb::RangeResponse, request: &pb::RangeRequest, stable_max: i64) {
    use pb::range_request::SortTarget;
    let sorted = request.sort_order != 0 || request.sort_target != 0;
    if !sorted || response.count <= stable_max || request.sort_target == SortTarget::Key as i32 {
        return;
    }
    // With `keys_only` the values are gone but the order by value is not: all one group is the best that can be said.
    let rank = |kv: &mvccpb::KeyValue| match SortTarget::try_from(request.sort_target) {
        Ok(SortTarget::Version) => kv.version.to_be_bytes().to_vec(),
        Ok(SortTarget::Create) => kv.create_revision.to_be_bytes().to_vec(),
        Ok(SortTarget::Mod) => kv.mod_revision.to_be_bytes().to_vec(),
        _ => kv.value.to_vec(),
    };
    let cut = response.kvs.last().filter(|_| response.more).map(rank);
    for group in response.kvs.chunk_by_mut(|a, b| rank(a) == rank(b)) {
        if Some(rank(&group[0])) == cut {
            group
                .iter_mut()
                .for_each(|kv| *kv = mvccpb::KeyValue::default());
        }
        group.sort_by(|a, b| a.key.cmp(&b.key));
    }
}
