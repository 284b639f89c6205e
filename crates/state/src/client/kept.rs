//! Replies as they are kept for repetitions: bytes that are in snapshots and never change meaning.
//!
//! Refusals are a number for the kind, further numbers, and a text.

use crate::auth::AuthRejection;
use crate::client::{ClientRejection, ClientReply};
use crate::id::{IdRejection, IdReply};
use crate::lock::{Claimant, GuardRejection, Kind, LockRejection, LockReply};
use crate::{KeyValue, RangeReply, Rejection, Reply, StepReply, TxnReply};
use bytes::Bytes;
use prost::Message;

#[derive(Clone, PartialEq, prost::Message)]
struct Kept {
    #[prost(oneof = "Body", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10")]
    body: Option<Body>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Body {
    #[prost(message, tag = "1")]
    Put(KeptPut),
    #[prost(message, tag = "2")]
    Delete(KeptDelete),
    #[prost(message, tag = "3")]
    Txn(KeptTxn),
    /// Replies that say nothing more: see [`PLAIN`].
    #[prost(uint32, tag = "4")]
    Plain(u32),
    #[prost(message, tag = "5")]
    Lease(KeptLease),
    #[prost(bool, tag = "6")]
    SetAlarm(bool),
    /// Of locks, clients and ids: a number for the kind, and further ones.
    #[prost(message, tag = "7")]
    Lock(Numbers),
    #[prost(message, tag = "8")]
    Client(Numbers),
    #[prost(message, tag = "9")]
    Id(Numbers),
    #[prost(message, tag = "10")]
    Rejected(KeptRejection),
}

const PLAIN: [Reply; 6] = [
    Reply::Compact,
    Reply::LeaseRevoke,
    Reply::SetFeatureLevel,
    Reply::Auth,
    Reply::SetBytesMax,
    Reply::Applied,
];

#[derive(Clone, PartialEq, prost::Message)]
struct Numbers {
    #[prost(uint64, repeated, tag = "1")]
    numbers: Vec<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeptRejection {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(uint64, repeated, tag = "2")]
    numbers: Vec<u64>,
    #[prost(bytes = "bytes", tag = "3")]
    text: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeptLease {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(uint64, tag = "2")]
    ttl_ms: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeptKey {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
    #[prost(int64, tag = "3")]
    create_revision: i64,
    #[prost(int64, tag = "4")]
    mod_revision: i64,
    #[prost(int64, tag = "5")]
    version: i64,
    #[prost(int64, tag = "6")]
    lease: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeptPut {
    #[prost(message, optional, tag = "1")]
    prev: Option<KeptKey>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeptDelete {
    #[prost(int64, tag = "1")]
    deleted: i64,
    #[prost(message, repeated, tag = "2")]
    prev: Vec<KeptKey>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeptRange {
    #[prost(message, repeated, tag = "1")]
    kvs: Vec<KeptKey>,
    #[prost(bool, tag = "2")]
    more: bool,
    #[prost(int64, tag = "3")]
    count: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeptTxn {
    #[prost(bool, tag = "1")]
    succeeded: bool,
    #[prost(message, repeated, tag = "2")]
    steps: Vec<KeptStep>,
    #[prost(int64, repeated, tag = "3")]
    revisions: Vec<i64>,
    #[prost(int64, tag = "4")]
    revision: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeptStep {
    #[prost(oneof = "Step", tags = "1, 2, 3, 4")]
    step: Option<Step>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Step {
    #[prost(message, tag = "1")]
    Range(KeptRange),
    #[prost(message, tag = "2")]
    Put(KeptPut),
    #[prost(message, tag = "3")]
    Delete(KeptDelete),
    #[prost(message, tag = "4")]
    Txn(KeptTxn),
}

/// The bytes of a reply.
pub(crate) fn encode(reply: &Reply) -> Vec<u8> {
    let body = match reply.clone() {
        Reply::Put { prev } => Body::Put(put(prev)),
        Reply::DeleteRange { deleted, prev } => Body::Delete(delete(deleted, prev)),
        Reply::Txn(reply) => Body::Txn(txn(reply)),
        Reply::LeaseGrant { id, ttl_ms } => Body::Lease(KeptLease { id, ttl_ms }),
        Reply::SetAlarm { was_raised } => Body::SetAlarm(was_raised),
        Reply::Lock(reply) => Body::Lock(Numbers {
            numbers: lock_numbers(&reply),
        }),
        Reply::Client(ClientReply::Registered { client }) => Body::Client(Numbers {
            numbers: vec![1, client],
        }),
        Reply::Id(reply) => Body::Id(Numbers {
            numbers: id_numbers(reply),
        }),
        Reply::Rejected(rejection) => Body::Rejected(rejected(rejection)),
        plain @ (Reply::Compact
        | Reply::LeaseRevoke
        | Reply::SetFeatureLevel
        | Reply::Auth
        | Reply::SetBytesMax
        | Reply::Applied) => {
            let at = PLAIN.iter().position(|other| *other == plain);
            Body::Plain(at.expect("it is in the list") as u32)
        }
    };
    Kept { body: Some(body) }.encode_to_vec()
}

/// The reply of such bytes; `None` if they are of none.
pub(crate) fn decode(bytes: &[u8]) -> Option<Reply> {
    Some(match Kept::decode(bytes).ok()?.body? {
        Body::Put(KeptPut { prev }) => Reply::Put {
            prev: prev.map(KeyValue::from),
        },
        Body::Delete(KeptDelete { deleted, prev }) => Reply::DeleteRange {
            deleted,
            prev: keys(prev),
        },
        Body::Txn(kept) => Reply::Txn(txn_reply(kept)?),
        Body::Plain(at) => PLAIN.get(at as usize)?.clone(),
        Body::Lease(KeptLease { id, ttl_ms }) => Reply::LeaseGrant { id, ttl_ms },
        Body::SetAlarm(was_raised) => Reply::SetAlarm { was_raised },
        Body::Lock(Numbers { numbers }) => Reply::Lock(lock_reply(&numbers)?),
        Body::Client(Numbers { numbers }) => match numbers[..] {
            [1, client] => Reply::Client(ClientReply::Registered { client }),
            _ => return None,
        },
        Body::Id(Numbers { numbers }) => Reply::Id(id_reply(&numbers)?),
        Body::Rejected(kept) => Reply::Rejected(rejection(kept)?),
    })
}

impl From<KeyValue> for KeptKey {
    fn from(kv: KeyValue) -> KeptKey {
        KeptKey {
            key: kv.key,
            value: kv.value,
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
        }
    }
}

impl From<KeptKey> for KeyValue {
    fn from(kept: KeptKey) -> KeyValue {
        KeyValue {
            key: kept.key,
            value: kept.value,
            create_revision: kept.create_revision,
            mod_revision: kept.mod_revision,
            version: kept.version,
            lease: kept.lease,
        }
    }
}

fn keys(kept: Vec<KeptKey>) -> Vec<KeyValue> {
    kept.into_iter().map(KeyValue::from).collect()
}

fn put(prev: Option<KeyValue>) -> KeptPut {
    KeptPut {
        prev: prev.map(KeptKey::from),
    }
}

fn delete(deleted: i64, prev: Vec<KeyValue>) -> KeptDelete {
    let prev = prev.into_iter().map(KeptKey::from).collect();
    KeptDelete { deleted, prev }
}

fn txn(reply: TxnReply) -> KeptTxn {
    let steps = reply.steps.into_iter().map(|step| {
        let step = match step {
            StepReply::Range(RangeReply { kvs, more, count }) => Step::Range(KeptRange {
                kvs: kvs.into_iter().map(KeptKey::from).collect(),
                more,
                count,
            }),
            StepReply::Put { prev } => Step::Put(put(prev)),
            StepReply::DeleteRange { deleted, prev } => Step::Delete(delete(deleted, prev)),
            StepReply::Txn(reply) => Step::Txn(txn(reply)),
        };
        KeptStep { step: Some(step) }
    });
    KeptTxn {
        succeeded: reply.succeeded,
        steps: steps.collect(),
        revisions: reply.revisions,
        revision: reply.revision,
    }
}

fn txn_reply(kept: KeptTxn) -> Option<TxnReply> {
    let steps = kept.steps.into_iter().map(|step| {
        Some(match step.step? {
            Step::Range(KeptRange { kvs, more, count }) => StepReply::Range(RangeReply {
                kvs: keys(kvs),
                more,
                count,
            }),
            Step::Put(KeptPut { prev }) => StepReply::Put {
                prev: prev.map(KeyValue::from),
            },
            Step::Delete(KeptDelete { deleted, prev }) => StepReply::DeleteRange {
                deleted,
                prev: keys(prev),
            },
            Step::Txn(kept) => StepReply::Txn(txn_reply(kept)?),
        })
    });
    Some(TxnReply {
        succeeded: kept.succeeded,
        steps: steps.collect::<Option<_>>()?,
        revisions: kept.revisions,
        revision: kept.revision,
    })
}

fn lock_numbers(reply: &LockReply) -> Vec<u64> {
    match *reply {
        LockReply::Granted { token } => vec![1, token],
        LockReply::Passed => vec![2],
        LockReply::Waiting { claimant, joined } => {
            vec![3, claimant.session as u64, claimant.id, joined]
        }
        LockReply::Busy => vec![4],
        LockReply::Released { token, held } => vec![5, token, u64::from(held)],
        LockReply::Latch { count } => vec![6, count],
        LockReply::ValueSet => vec![7],
    }
}

fn lock_reply(numbers: &[u64]) -> Option<LockReply> {
    Some(match *numbers {
        [1, token] => LockReply::Granted { token },
        [2] => LockReply::Passed,
        [3, session, id, joined] => LockReply::Waiting {
            claimant: Claimant {
                session: session as i64,
                id,
            },
            joined,
        },
        [4] => LockReply::Busy,
        [5, token, held] => LockReply::Released {
            token,
            held: held != 0,
        },
        [6, count] => LockReply::Latch { count },
        [7] => LockReply::ValueSet,
        _ => return None,
    })
}

fn id_numbers(reply: IdReply) -> Vec<u64> {
    match reply {
        IdReply::Segment { first, count } => vec![1, first, count],
        IdReply::Counter { value } => vec![2, value as u64],
        IdReply::Worker {
            worker,
            now_ms,
            from_ms,
            until_ms,
        } => vec![3, u64::from(worker), now_ms, from_ms, until_ms],
    }
}

fn id_reply(numbers: &[u64]) -> Option<IdReply> {
    Some(match *numbers {
        [1, first, count] => IdReply::Segment { first, count },
        [2, value] => IdReply::Counter {
            value: value as i64,
        },
        [3, worker, now_ms, from_ms, until_ms] => IdReply::Worker {
            worker: u32::try_from(worker).ok()?,
            now_ms,
            from_ms,
            until_ms,
        },
        _ => return None,
    })
}

/// Kinds of refusals; those of locks begin at 20, of ids at 40, of clients at 50.
fn rejected(rejection: Rejection) -> KeptRejection {
    let plain = |kind, numbers: &[u64]| (kind, numbers.to_vec(), Bytes::new());
    let (kind, numbers, text) = match rejection {
        Rejection::KeyNotFound => plain(1, &[]),
        Rejection::LeaseNotFound => plain(2, &[]),
        Rejection::LeaseExists => plain(3, &[]),
        Rejection::Compacted { compacted } => plain(4, &[compacted as u64]),
        Rejection::FutureRevision { current } => plain(5, &[current as u64]),
        Rejection::NoSpace { bytes, bytes_max } => plain(6, &[bytes, bytes_max]),
        Rejection::Corrupt => plain(7, &[]),
        Rejection::Auth(reason) => plain(8, &[reason as u64]),
        Rejection::Invalid(text) => (9, Vec::new(), text.into()),
        Rejection::Guard(GuardRejection::NotHeld {
            name,
            token,
            newest,
        }) => (10, vec![token, newest], name),
        Rejection::Guard(GuardRejection::UnknownModel { model }) => plain(11, &[u64::from(model)]),
        Rejection::Lock(reason) => match reason {
            LockRejection::SessionNotFound => plain(20, &[]),
            LockRejection::NotHeld => plain(21, &[]),
            LockRejection::Rejoined => plain(22, &[]),
            LockRejection::IdInUse => plain(23, &[]),
            LockRejection::OtherKind { kind } => plain(24, &[kind as u64]),
            LockRejection::OtherLimit { limit } => plain(25, &[limit]),
            LockRejection::Upgrade => plain(26, &[]),
            LockRejection::TimedOut => plain(27, &[]),
            LockRejection::Cancelled => plain(28, &[]),
            LockRejection::Forced { reason } => (29, Vec::new(), reason.into()),
            LockRejection::Limit {
                what,
                value,
                min,
                max,
            } => (
                30,
                vec![value, min, max],
                Bytes::copy_from_slice(what.as_bytes()),
            ),
        },
        Rejection::Id(reason) => match reason {
            IdRejection::Exhausted => plain(40, &[]),
            IdRejection::SessionNotFound => plain(41, &[]),
            IdRejection::NoWorker => plain(42, &[]),
            IdRejection::Limit {
                what,
                value,
                min,
                max,
            } => (
                43,
                vec![value, min, max],
                Bytes::copy_from_slice(what.as_bytes()),
            ),
        },
        Rejection::Client(reason) => match reason {
            ClientRejection::Unknown => plain(50, &[]),
            ClientRejection::Freed { acknowledged_below } => plain(51, &[acknowledged_below]),
            ClientRejection::Window { end } => plain(52, &[end]),
            ClientRejection::LeaseNotFound => plain(53, &[]),
            ClientRejection::TooMany { max } => plain(54, &[max as u64]),
            ClientRejection::Sequence => plain(55, &[]),
        },
    };
    KeptRejection {
        kind,
        numbers,
        text,
    }
}

fn rejection(kept: KeptRejection) -> Option<Rejection> {
    let text = || String::from_utf8(kept.text.to_vec()).ok();
    Some(match (kept.kind, &kept.numbers[..]) {
        (1, []) => Rejection::KeyNotFound,
        (2, []) => Rejection::LeaseNotFound,
        (3, []) => Rejection::LeaseExists,
        (4, &[compacted]) => Rejection::Compacted {
            compacted: compacted as i64,
        },
        (5, &[current]) => Rejection::FutureRevision {
            current: current as i64,
        },
        (6, &[bytes, bytes_max]) => Rejection::NoSpace { bytes, bytes_max },
        (7, []) => Rejection::Corrupt,
        (8, &[reason]) => {
            Rejection::Auth(AuthRejection::try_from(i32::try_from(reason).ok()?).ok()?)
        }
        (9, []) => Rejection::Invalid(text()?),
        (10, &[token, newest]) => Rejection::Guard(GuardRejection::NotHeld {
            name: kept.text.clone(),
            token,
            newest,
        }),
        (11, &[model]) => Rejection::Guard(GuardRejection::UnknownModel {
            model: u32::try_from(model).ok()?,
        }),
        (20..40, numbers) => Rejection::Lock(match (kept.kind, numbers) {
            (20, []) => LockRejection::SessionNotFound,
            (21, []) => LockRejection::NotHeld,
            (22, []) => LockRejection::Rejoined,
            (23, []) => LockRejection::IdInUse,
            (24, &[kind]) => LockRejection::OtherKind {
                kind: Kind::try_from(i32::try_from(kind).ok()?).ok()?,
            },
            (25, &[limit]) => LockRejection::OtherLimit { limit },
            (26, []) => LockRejection::Upgrade,
            (27, []) => LockRejection::TimedOut,
            (28, []) => LockRejection::Cancelled,
            (29, []) => LockRejection::Forced { reason: text()? },
            (30, &[value, min, max]) => LockRejection::Limit {
                what: text()?.into(),
                value,
                min,
                max,
            },
            _ => return None,
        }),
        (40, []) => Rejection::Id(IdRejection::Exhausted),
        (41, []) => Rejection::Id(IdRejection::SessionNotFound),
        (42, []) => Rejection::Id(IdRejection::NoWorker),
        (43, &[value, min, max]) => Rejection::Id(IdRejection::Limit {
            what: text()?.into(),
            value,
            min,
            max,
        }),
        (50, []) => Rejection::Client(ClientRejection::Unknown),
        (51, &[acknowledged_below]) => {
            Rejection::Client(ClientRejection::Freed { acknowledged_below })
        }
        (52, &[end]) => Rejection::Client(ClientRejection::Window { end }),
        (53, []) => Rejection::Client(ClientRejection::LeaseNotFound),
        (54, &[max]) => Rejection::Client(ClientRejection::TooMany { max: max as usize }),
        (55, []) => Rejection::Client(ClientRejection::Sequence),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of every kind.
    fn replies() -> Vec<Reply> {
        let kv = KeyValue {
            key: Bytes::from_static(b"k"),
            value: Bytes::from_static(b"v"),
            create_revision: 1,
            mod_revision: 2,
            version: 3,
            lease: 4,
        };
        let put = || StepReply::Put {
            prev: Some(kv.clone()),
        };
        let inner = TxnReply {
            succeeded: false,
            steps: vec![put()],
            revisions: vec![5],
            revision: 6,
        };
        let delete = StepReply::DeleteRange {
            deleted: 7,
            prev: vec![kv.clone()],
        };
        let range = StepReply::Range(RangeReply {
            kvs: vec![kv.clone()],
            more: true,
            count: 8,
        });
        let txn = TxnReply {
            succeeded: true,
            steps: vec![put(), delete, range, StepReply::Txn(inner)],
            revisions: vec![1, 2, 3, 0],
            revision: 9,
        };
        let claimant = Claimant { session: -1, id: 2 };
        let what = || "of what".into();
        let (value, min, max) = (1, 2, 3);
        let mut replies = PLAIN.to_vec();
        replies.extend([
            Reply::Put { prev: None },
            Reply::DeleteRange {
                deleted: 1,
                prev: vec![kv],
            },
            Reply::Txn(txn),
            Reply::LeaseGrant { id: -5, ttl_ms: 6 },
            Reply::SetAlarm { was_raised: true },
            Reply::Client(ClientReply::Registered { client: 1 }),
        ]);
        let locks = [
            LockReply::Granted { token: 1 },
            LockReply::Passed,
            LockReply::Waiting {
                claimant,
                joined: 3,
            },
            LockReply::Busy,
            LockReply::Released {
                token: 1,
                held: true,
            },
            LockReply::Latch { count: 1 },
            LockReply::ValueSet,
        ];
        replies.extend(locks.map(Reply::Lock));
        let ids = [
            IdReply::Segment { first: 1, count: 2 },
            IdReply::Counter { value: -1 },
            IdReply::Worker {
                worker: 1,
                now_ms: 2,
                from_ms: 2,
                until_ms: 3,
            },
        ];
        replies.extend(ids.map(Reply::Id));
        let mut rejections = vec![
            Rejection::KeyNotFound,
            Rejection::LeaseNotFound,
            Rejection::LeaseExists,
            Rejection::Compacted { compacted: 1 },
            Rejection::FutureRevision { current: 1 },
            Rejection::NoSpace {
                bytes: 1,
                bytes_max: 2,
            },
            Rejection::Corrupt,
            Rejection::Auth(AuthRejection::OldRevision),
            Rejection::Invalid("text".into()),
            Rejection::Guard(GuardRejection::NotHeld {
                name: Bytes::from_static(b"n"),
                token: 1,
                newest: 2,
            }),
            Rejection::Guard(GuardRejection::UnknownModel { model: 1 }),
        ];
        let locks = [
            LockRejection::SessionNotFound,
            LockRejection::NotHeld,
            LockRejection::Rejoined,
            LockRejection::IdInUse,
            LockRejection::OtherKind {
                kind: Kind::Barrier,
            },
            LockRejection::OtherLimit { limit: 1 },
            LockRejection::Upgrade,
            LockRejection::TimedOut,
            LockRejection::Cancelled,
            LockRejection::Forced { reason: "r".into() },
            LockRejection::Limit {
                what: what(),
                value,
                min,
                max,
            },
        ];
        rejections.extend(locks.map(Rejection::Lock));
        let ids = [
            IdRejection::Exhausted,
            IdRejection::SessionNotFound,
            IdRejection::NoWorker,
            IdRejection::Limit {
                what: what(),
                value,
                min,
                max,
            },
        ];
        rejections.extend(ids.map(Rejection::Id));
        let clients = [
            ClientRejection::Unknown,
            ClientRejection::Freed {
                acknowledged_below: 1,
            },
            ClientRejection::Window { end: 1 },
            ClientRejection::LeaseNotFound,
            ClientRejection::TooMany { max: 1 },
            ClientRejection::Sequence,
        ];
        rejections.extend(clients.map(Rejection::Client));
        replies.extend(rejections.into_iter().map(Reply::Rejected));
        replies
    }

    #[test]
    fn every_reply_survives_being_kept() {
        for reply in replies() {
            let bytes = encode(&reply);
            assert_eq!(decode(&bytes), Some(reply), "{bytes:02x?}");
        }
    }

    #[test]
    fn kept_replies_have_their_bytes() {
        let hex = |reply: &Reply| {
            let bytes = encode(reply).into_iter();
            bytes.map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        let lines: Vec<String> = replies().iter().map(hex).collect();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kept_replies.hex");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path, lines.join("\n") + "\n").unwrap();
        }
        assert_eq!(
            lines.join("\n") + "\n",
            std::fs::read_to_string(path).unwrap()
        );
    }

    #[test]
    fn bytes_of_no_reply_are_told() {
        for bytes in [&[][..], &[0x20, 6], &[0x3a, 0], &[0x52, 2, 8, 99], &[255]] {
            assert_eq!(decode(bytes), None, "{bytes:02x?}");
        }
    }
}
