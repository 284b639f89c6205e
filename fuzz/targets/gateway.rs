//! What clients of the JSON gateway send: any text is a request or is refused, and a request means the same after another round.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::{Message, Name};
use proto::etcdserverpb as pb;
use serde::Serialize;
use std::fmt::Debug;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    match kind % 8 {
        0 => round::<pb::RangeRequest>(bytes),
        1 => round::<pb::PutRequest>(bytes),
        2 => round::<pb::DeleteRangeRequest>(bytes),
        3 => round::<pb::TxnRequest>(bytes),
        4 => round::<pb::WatchRequest>(bytes),
        5 => round::<pb::LeaseGrantRequest>(bytes),
        6 => round::<pb::AlarmRequest>(bytes),
        _ => round::<pb::AuthRoleGrantPermissionRequest>(bytes),
    }
});

fn round<M: Message + Name + Default + Serialize + PartialEq + Debug>(bytes: &[u8]) {
    if let Ok(Some((message, taken))) = etcd::json::read::<M>(bytes) {
        assert!(taken <= bytes.len());
        // Numbers that stand for no name have no form of their own.
        if let Ok(text) = serde_json::to_vec(&message) {
            let again = etcd::json::read::<M>(&text).expect("what was written can be read");
            let (again, taken) = again.expect("it is a message");
            assert_eq!((again, taken), (message, text.len()));
        }
    }
}
