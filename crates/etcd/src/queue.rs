//! Queues on keys, as clientv3's recipes for locks and elections keep them: whoever wants a name puts a key `<name>/<lease in hex>` that lives as
//! long as its lease, and the oldest key holds the name. The lock and election services and the recipes exclude each other because of that.

use crate::{Code, Status};
use bytes::Bytes;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::response_op::Response;
use proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, ResponseHeader, TxnRequest,
    TxnResponse,
};
use proto::mvccpb::KeyValue;

/// Time to live, in seconds, of a lease made for somebody who brings none.
pub const LEASE_TTL: i64 = 60;

/// One name's queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    prefix: Bytes,
}

/// A key in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The key.
    pub key: Bytes,
    /// The revision of its creation: who came earlier has a smaller one.
    pub created: i64,
}

/// What came of entering a queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Entered {
    /// Where the answer stands.
    pub header: ResponseHeader,
    /// The place.
    pub place: Place,
    /// The value of the place, if it was there before.
    pub found: Option<Bytes>,
    /// Nobody is before it.
    pub first: bool,
}

/// What stands between a place and its turn.
#[derive(Clone, Debug, PartialEq)]
pub enum Ahead {
    /// This key, which is the next one before it.
    Key(KeyValue),
    /// Nothing: its turn has come.
    Nobody,
    /// The place itself is gone: its lease ended, or somebody removed it.
    Gone,
}

impl Queue {
    /// The queue of a name.
    pub fn new(name: &[u8]) -> Queue {
        Queue {
            prefix: [name, b"/"].concat().into(),
        }
    }

    /// All keys of the queue: the first, and the first behind them.
    pub fn range(&self) -> (Bytes, Bytes) {
        let mut end = self.prefix.to_vec();
        if let Some(last) = end.last_mut() {
            // It is a slash.
            *last += 1;
        }
        (self.prefix.clone(), end.into())
    }

    /// The key of a lease in the queue.
    pub fn key(&self, lease: i64) -> Bytes {
        let sign = if lease < 0 { "-" } else { "" };
        let hex = format!("{sign}{:x}", lease.unsigned_abs());
        [&self.prefix[..], hex.as_bytes()].concat().into()
    }

    /// Enters the queue, unless the lease has a place already.
    pub fn enter(&self, lease: i64, value: Bytes) -> TxnRequest {
        let key = self.key(lease);
        let put = PutRequest {
            key: key.clone(),
            value,
            lease,
            ..Default::default()
        };
        TxnRequest {
            compare: vec![created(&key, 0)],
            success: vec![op(Request::RequestPut(put)), range_op(self.others())],
            failure: vec![range_op(single(&key)), range_op(self.holder())],
        }
    }

    /// Reads the answer to [`Queue::enter`].
    ///
    /// # Errors
    /// It is no such answer.
    pub fn entered(&self, lease: i64, answer: TxnResponse) -> Result<Entered, Status> {
        let succeeded = answer.succeeded;
        let header = answer.header.unwrap_or_default();
        let [own, queue] = ranges(answer)?;
        let found = own.into_iter().next();
        if !succeeded && found.is_none() {
            return Err(unexpected());
        }
        let created = found
            .as_ref()
            .map_or(header.revision, |own| own.create_revision);
        // After the put these are any two keys, its own among them if it is alone; otherwise the holder.
        let first = queue.iter().all(|kv| kv.create_revision == created);
        Ok(Entered {
            header,
            place: Place {
                key: self.key(lease),
                created,
            },
            first,
            found: found.map(|own| own.value),
        })
    }

    /// Who holds the name: the oldest key.
    pub fn holder(&self) -> RangeRequest {
        RangeRequest {
            limit: 1,
            ..self.sorted(SortOrder::Ascend)
        }
    }

    /// Whether the queue has more than one key. Unlike [`Queue::holder`] it sorts nothing: every member does this when it applies the put.
    fn others(&self) -> RangeRequest {
        let (key, range_end) = self.range();
        RangeRequest {
            key,
            range_end,
            limit: 2,
            keys_only: true,
            ..Default::default()
        }
    }

    /// Asks what is ahead of a place, of the member that applied the place's put, without the others: whoever is ahead there can only go away, and
    /// whoever is first at one index holds the name at that index.
    pub fn look(&self, place: &Place) -> TxnRequest {
        let before = RangeRequest {
            limit: 1,
            max_create_revision: place.created - 1,
            serializable: true,
            ..self.sorted(SortOrder::Descend)
        };
        let own = RangeRequest {
            serializable: true,
            ..single(&place.key)
        };
        TxnRequest {
            success: vec![range_op(before), range_op(own)],
            ..Default::default()
        }
    }

    /// Reads the answer to [`Queue::look`].
    ///
    /// # Errors
    /// It is no such answer.
    pub fn looked(
        &self,
        place: &Place,
        answer: TxnResponse,
    ) -> Result<(ResponseHeader, Ahead), Status> {
        let header = answer.header.unwrap_or_default();
        let [before, own] = ranges(answer)?;
        let own = own.first().map(|own| own.create_revision);
        let ahead = match before.into_iter().next() {
            _ if own != Some(place.created) => Ahead::Gone,
            Some(before) => Ahead::Key(before),
            None => Ahead::Nobody,
        };
        Ok((header, ahead))
    }

    fn sorted(&self, order: SortOrder) -> RangeRequest {
        let (key, range_end) = self.range();
        RangeRequest {
            key,
            range_end,
            sort_order: order.into(),
            sort_target: SortTarget::Create.into(),
            ..Default::default()
        }
    }
}

impl Place {
    /// Changes its value, unless the place is gone.
    pub fn proclaim(&self, lease: i64, value: Bytes) -> TxnRequest {
        let put = PutRequest {
            key: self.key.clone(),
            value,
            lease,
            ..Default::default()
        };
        TxnRequest {
            compare: vec![created(&self.key, self.created)],
            success: vec![op(Request::RequestPut(put))],
            failure: Vec::new(),
        }
    }

    /// Gives the place up; nothing happens if it is gone.
    pub fn leave(&self) -> TxnRequest {
        let delete = DeleteRangeRequest {
            key: self.key.clone(),
            ..Default::default()
        };
        TxnRequest {
            compare: vec![created(&self.key, self.created)],
            success: vec![op(Request::RequestDeleteRange(delete))],
            failure: Vec::new(),
        }
    }
}

fn created(key: &Bytes, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
        ..Default::default()
    }
}

fn single(key: &Bytes) -> RangeRequest {
    RangeRequest {
        key: key.clone(),
        ..Default::default()
    }
}

fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

fn range_op(range: RangeRequest) -> RequestOp {
    op(Request::RequestRange(range))
}

/// The keys of a transaction's two answers; a put has none.
fn ranges(answer: TxnResponse) -> Result<[Vec<KeyValue>; 2], Status> {
    let keys = answer
        .responses
        .into_iter()
        .map(|step| match step.response {
            Some(Response::ResponseRange(range)) => Ok(range.kvs),
            Some(Response::ResponsePut(_)) => Ok(Vec::new()),
            _ => Err(unexpected()),
        })
        .collect::<Result<Vec<_>, _>>()?;
    keys.try_into().map_err(|_| unexpected())
}

fn unexpected() -> Status {
    Status::new(
        Code::Internal,
        "a transaction was answered with something else than asked",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_clientv3() {
        let queue = Queue::new(b"job");
        assert_eq!(queue.key(0x72c7), "job/72c7");
        // Go writes a negative number in hex with a sign.
        assert_eq!(queue.key(-255), "job/-ff");
        assert_eq!(queue.range(), ("job/".into(), "job0".into()));
        assert_eq!(Queue::new(b"").range(), ("/".into(), "0".into()));
    }

    #[test]
    fn one_who_comes_is_first_if_alone() {
        let queue = Queue::new(b"job");
        let answer = |revisions: &[i64]| {
            let range = proto::etcdserverpb::RangeResponse {
                kvs: revisions
                    .iter()
                    .map(|&create_revision| KeyValue {
                        create_revision,
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            };
            let put = Response::ResponsePut(proto::etcdserverpb::PutResponse::default());
            let step = |response| proto::etcdserverpb::ResponseOp {
                response: Some(response),
            };
            TxnResponse {
                header: Some(ResponseHeader {
                    revision: 9,
                    ..Default::default()
                }),
                succeeded: true,
                responses: vec![step(put), step(Response::ResponseRange(range))],
            }
        };
        let first = |revisions| queue.entered(7, answer(revisions)).unwrap().first;
        assert!(first(&[9]));
        assert!(!first(&[9, 5]));
        assert!(!first(&[3, 5]), "two others are all it was told of");
    }

    #[test]
    fn one_who_came_back_keeps_the_place() {
        let queue = Queue::new(b"job");
        let key = |lease, create_revision| KeyValue {
            key: queue.key(lease),
            create_revision,
            value: "v".into(),
            ..Default::default()
        };
        let answer = |own, holder| {
            let range = |kv| proto::etcdserverpb::ResponseOp {
                response: Some(Response::ResponseRange(
                    proto::etcdserverpb::RangeResponse {
                        kvs: vec![kv],
                        ..Default::default()
                    },
                )),
            };
            TxnResponse {
                header: Some(ResponseHeader {
                    revision: 9,
                    ..Default::default()
                }),
                succeeded: false,
                responses: vec![range(own), range(holder)],
            }
        };
        let entered = queue.entered(7, answer(key(7, 5), key(1, 3))).unwrap();
        assert_eq!((entered.place.created, entered.first), (5, false));
        assert_eq!(entered.found, Some("v".into()));
        let entered = queue.entered(7, answer(key(7, 5), key(7, 5))).unwrap();
        assert!(entered.first);
        let empty = TxnResponse::default();
        assert_eq!(queue.entered(7, empty).unwrap_err().code, Code::Internal);
    }
}
