//! Whatever bytes arrive, decoding and checking them ends in a command, a query or a status. And what becomes a command can be read back from the log.

use proptest::prelude::*;
use prost::Message;
use proto::etcdserverpb::{Compare, RequestOp};
use proto::etcdserverpb::{
    DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, TxnRequest,
    request_op::Request,
};
use state::{Batch, Command, Group};
use synod_etcd::{Transaction, delete_range, lease_grant, put, range, txn};

fn check_logged(command: Command) {
    let batch = Batch {
        groups: vec![Group {
            commands: vec![command],
            ..Default::default()
        }],
        ..Default::default()
    };
    let bytes = batch.encode_to_vec();
    assert_eq!(
        Batch::decode(&bytes[..]).expect("what was admitted can be read again"),
        batch
    );
}

fn run(bytes: &[u8]) {
    if let Ok(request) = TxnRequest::decode(bytes)
        && let Ok(Transaction::Write(command)) = txn(request, 128)
    {
        check_logged(command);
    }
    if let Ok(request) = PutRequest::decode(bytes)
        && let Ok(command) = put(request)
    {
        check_logged(command);
    }
    if let Ok(request) = DeleteRangeRequest::decode(bytes)
        && let Ok(command) = delete_range(request)
    {
        check_logged(command);
    }
    if let Ok(request) = LeaseGrantRequest::decode(bytes)
        && let Ok(command) = lease_grant(request, 1)
    {
        check_logged(command);
    }
    if let Ok(request) = RangeRequest::decode(bytes) {
        let _ = range(request);
    }
}

fn key() -> impl Strategy<Value = bytes::Bytes> {
    proptest::collection::vec(
        prop_oneof![Just(0u8), Just(b'a'), Just(b'b'), any::<u8>()],
        0..3,
    )
    .prop_map(bytes::Bytes::from)
}

fn compare() -> impl Strategy<Value = Compare> {
    (-1..6, -1..7, key(), key()).prop_map(|(result, target, key, range_end)| Compare {
        result,
        target,
        key,
        range_end,
        target_union: None,
    })
}

fn steps() -> impl Strategy<Value = Vec<RequestOp>> {
    let leaf = prop_oneof![
        (key(), key(), any::<bool>()).prop_map(|(key, value, ignore_value)| {
            Some(Request::RequestPut(PutRequest {
                key,
                value,
                ignore_value,
                ..Default::default()
            }))
        }),
        (key(), key()).prop_map(|(key, range_end)| {
            Some(Request::RequestDeleteRange(DeleteRangeRequest {
                key,
                range_end,
                ..Default::default()
            }))
        }),
        (key(), -1..4, any::<i64>()).prop_map(|(key, sort_order, limit)| {
            Some(Request::RequestRange(RangeRequest {
                key,
                sort_order,
                limit,
                ..Default::default()
            }))
        }),
        Just(None),
    ];
    let leaves = proptest::collection::vec(leaf.prop_map(|request| RequestOp { request }), 0..4);
    leaves.prop_recursive(5, 40, 4, |inner| {
        let nested = (
            proptest::collection::vec(compare(), 0..2),
            inner.clone(),
            inner.clone(),
        )
            .prop_map(|(compare, success, failure)| RequestOp {
                request: Some(Request::RequestTxn(TxnRequest {
                    compare,
                    success,
                    failure,
                })),
            });
        (inner, proptest::collection::vec(nested, 0..3)).prop_map(|(mut steps, nested)| {
            steps.extend(nested);
            steps
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        run(&bytes);
    }

    #[test]
    fn any_transaction(compare in proptest::collection::vec(compare(), 0..3), success in steps(), failure in steps()) {
        run(&TxnRequest { compare, success, failure }.encode_to_vec());
    }

    #[test]
    fn damaged_transaction(success in steps(), at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = TxnRequest { success, ..Default::default() }.encode_to_vec();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        run(&bytes);
    }
}
