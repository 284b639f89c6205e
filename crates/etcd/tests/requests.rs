//! Requests to commands and queries, and what is refused, in which order. Each refusal was seen to be etcd's.

use bytes::Bytes;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest,
    RequestOp, TxnRequest,
};
use state::{Operation, Query};
use synod_etcd::{Read, Status, Transaction, compact, delete_range, lease_grant, put, range};

/// With etcd's limit of operations.
fn txn(request: TxnRequest) -> Result<Transaction, Status> {
    synod_etcd::txn(request, 128)
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put_of(key: &str) -> PutRequest {
    PutRequest {
        key: bytes(key),
        ..Default::default()
    }
}

fn range_of(key: &str) -> RangeRequest {
    RangeRequest {
        key: bytes(key),
        ..Default::default()
    }
}

fn delete_of(key: &str, range_end: &str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: bytes(key),
        range_end: bytes(range_end),
        prev_kv: false,
    }
}

fn step(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

fn puts(keys: &[&str]) -> Vec<RequestOp> {
    keys.iter()
        .map(|key| step(Request::RequestPut(put_of(key))))
        .collect()
}

fn delete(key: &str, range_end: &str) -> RequestOp {
    step(Request::RequestDeleteRange(delete_of(key, range_end)))
}

fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
    step(Request::RequestTxn(TxnRequest {
        compare: Vec::new(),
        success,
        failure,
    }))
}

fn success(success: Vec<RequestOp>) -> TxnRequest {
    TxnRequest {
        success,
        ..Default::default()
    }
}

fn written(request: TxnRequest) -> state::Txn {
    match txn(request).unwrap() {
        Transaction::Write(state::Command {
            operation: Some(Operation::Txn(txn)),
            ..
        }) => txn,
        other => panic!("{other:?}"),
    }
}

#[test]
fn put_becomes_a_command_with_all_its_fields() {
    let request = PutRequest {
        value: bytes("v"),
        lease: 7,
        prev_kv: true,
        ..put_of("k")
    };
    let expected = state::Put {
        key: bytes("k"),
        value: bytes("v"),
        lease: 7,
        prev_kv: true,
        ignore_value: false,
        ignore_lease: false,
    };
    assert_eq!(
        put(request).unwrap().operation,
        Some(Operation::Put(expected))
    );
}

#[test]
fn put_is_checked_in_order() {
    let all_wrong = PutRequest {
        value: bytes("v"),
        lease: 7,
        ignore_value: true,
        ignore_lease: true,
        ..Default::default()
    };
    assert_eq!(put(all_wrong.clone()), Err(Status::EMPTY_KEY));
    let keyed = PutRequest {
        key: bytes("k"),
        ..all_wrong
    };
    assert_eq!(put(keyed.clone()), Err(Status::VALUE_PROVIDED));
    let valueless = PutRequest {
        value: Bytes::new(),
        ..keyed
    };
    assert_eq!(put(valueless.clone()), Err(Status::LEASE_PROVIDED));
    assert!(
        put(PutRequest {
            lease: 0,
            ..valueless
        })
        .is_ok()
    );
}

#[test]
fn delete_needs_a_key() {
    assert_eq!(delete_range(delete_of("", "z")), Err(Status::EMPTY_KEY));
    let expected = state::DeleteRange {
        key: bytes("a"),
        range_end: bytes("z"),
        prev_kv: false,
    };
    assert_eq!(
        delete_range(delete_of("a", "z")).unwrap().operation,
        Some(Operation::DeleteRange(expected))
    );
}

#[test]
fn range_says_whether_local_will_do() {
    let query = Query::Range(state::Range {
        key: bytes("k"),
        ..Default::default()
    });
    assert_eq!(
        range(range_of("k")),
        Ok(Read {
            query: query.clone(),
            serializable: false
        })
    );
    assert_eq!(
        range(RangeRequest {
            serializable: true,
            ..range_of("k")
        }),
        Ok(Read {
            query,
            serializable: true
        })
    );
}

#[test]
fn range_refuses_unknown_sorting_after_an_empty_key() {
    assert_eq!(
        range(RangeRequest {
            sort_order: 7,
            ..range_of("")
        }),
        Err(Status::EMPTY_KEY)
    );
    assert_eq!(
        range(RangeRequest {
            sort_order: 3,
            ..range_of("k")
        }),
        Err(Status::INVALID_SORT_OPTION)
    );
    assert_eq!(
        range(RangeRequest {
            sort_target: 5,
            ..range_of("k")
        }),
        Err(Status::INVALID_SORT_OPTION)
    );
    assert_eq!(
        range(RangeRequest {
            sort_target: -1,
            ..range_of("k")
        }),
        Err(Status::INVALID_SORT_OPTION)
    );
}

#[test]
fn negative_limit_and_revision_mean_none() {
    let query = Query::Range(state::Range {
        key: bytes("k"),
        ..Default::default()
    });
    assert_eq!(
        range(RangeRequest {
            limit: -3,
            revision: -3,
            ..range_of("k")
        })
        .unwrap()
        .query,
        query
    );
}

#[test]
fn transaction_that_only_reads_is_a_query() {
    let reads = || {
        vec![step(Request::RequestRange(RangeRequest {
            serializable: true,
            ..range_of("k")
        }))]
    };
    let serializable = |request| match txn(request).unwrap() {
        Transaction::Read(read) => read.serializable,
        Transaction::Write(command) => panic!("{command:?}"),
    };
    assert!(serializable(TxnRequest {
        success: reads(),
        failure: reads(),
        ..Default::default()
    }));
    assert!(serializable(success(vec![nested(reads(), Vec::new())])));
    let mut mixed = reads();
    mixed.push(step(Request::RequestRange(range_of("k"))));
    assert!(!serializable(success(mixed)));
    // Comparisons alone never asked for less than the full promise.
    assert!(!serializable(TxnRequest::default()));
}

#[test]
fn transaction_that_may_write_goes_through_the_log() {
    let reads = vec![step(Request::RequestRange(range_of("k")))];
    assert_eq!(
        written(TxnRequest {
            success: reads,
            failure: puts(&["k"]),
            ..Default::default()
        })
        .failure
        .len(),
        1
    );
    assert_eq!(
        written(success(vec![nested(Vec::new(), vec![delete("a", "")])]))
            .success
            .len(),
        1
    );
}

#[test]
fn operations_are_counted_per_list_and_down_the_nesting() {
    let keys: Vec<String> = (0..129).map(|n| format!("{n:03}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    assert!(
        txn(TxnRequest {
            success: puts(&keys[..128]),
            failure: puts(&keys[..128]),
            ..Default::default()
        })
        .is_ok()
    );
    assert_eq!(txn(success(puts(&keys))), Err(Status::TOO_MANY_OPERATIONS));
    assert!(txn(success(vec![nested(puts(&keys[..127]), Vec::new())])).is_ok());
    assert_eq!(
        txn(success(vec![nested(puts(&keys[..128]), Vec::new())])),
        Err(Status::TOO_MANY_OPERATIONS)
    );
    let compares = vec![
        Compare {
            key: bytes("k"),
            ..Default::default()
        };
        129
    ];
    assert_eq!(
        txn(TxnRequest {
            compare: compares,
            ..Default::default()
        }),
        Err(Status::TOO_MANY_OPERATIONS)
    );
}

#[test]
fn nesting_stays_within_what_the_log_can_read_again() {
    let nested_times = |times| {
        (0..times).fold(success(puts(&["k"])), |inner, _| {
            success(vec![step(Request::RequestTxn(inner))])
        })
    };
    let command = match txn(nested_times(31)).unwrap() {
        Transaction::Write(command) => command,
        other => panic!("{other:?}"),
    };
    let batch = state::Batch {
        groups: vec![state::Group {
            commands: vec![command],
            ..Default::default()
        }],
        ..Default::default()
    };
    let bytes = prost::Message::encode_to_vec(&batch);
    assert_eq!(prost::Message::decode(&bytes[..]), Ok(batch));
    assert_eq!(txn(nested_times(32)), Err(Status::TOO_MANY_OPERATIONS));
}

#[test]
fn keys_of_all_steps_are_checked() {
    assert_eq!(txn(success(puts(&["a", ""]))), Err(Status::EMPTY_KEY));
    assert_eq!(
        txn(TxnRequest {
            failure: vec![delete("", "")],
            ..Default::default()
        }),
        Err(Status::EMPTY_KEY)
    );
    assert_eq!(
        txn(success(vec![nested(
            vec![step(Request::RequestRange(range_of("")))],
            Vec::new()
        )])),
        Err(Status::EMPTY_KEY)
    );
    assert_eq!(
        txn(TxnRequest {
            compare: vec![Compare::default()],
            ..Default::default()
        }),
        Err(Status::EMPTY_KEY)
    );
    assert_eq!(
        txn(success(vec![RequestOp { request: None }])),
        Err(Status::KEY_NOT_FOUND)
    );
}

#[test]
fn key_is_written_once_per_branch() {
    let refused = |steps| txn(success(steps)) == Err(Status::DUPLICATE_KEY);
    let with = |mut steps: Vec<RequestOp>, step| {
        steps.push(step);
        steps
    };
    assert!(refused(puts(&["a", "b", "a"])));
    assert!(refused(with(puts(&["a"]), delete("a", ""))));
    assert!(refused(with(puts(&["b"]), delete("a", "c"))));
    assert!(!refused(with(puts(&["c"]), delete("a", "c"))));
    assert!(!refused(vec![delete("a", "z"), delete("b", "")]));
    // The end that means "from key on" is read literally here, as by etcd.
    assert!(!refused(with(puts(&["b"]), delete("a", "\0"))));
    // The two branches exclude each other.
    assert!(
        txn(TxnRequest {
            success: puts(&["a"]),
            failure: puts(&["a"]),
            ..Default::default()
        })
        .is_ok()
    );
}

#[test]
fn key_is_written_once_across_nested_transactions() {
    let refused = |steps| txn(success(steps)) == Err(Status::DUPLICATE_KEY);
    let inner_put = || nested(puts(&["b"]), Vec::new());
    let inner_delete = || nested(vec![delete("a", "z")], Vec::new());
    assert!(refused(vec![inner_put(), inner_put()]));
    assert!(refused(vec![inner_put(), puts(&["b"]).remove(0)]));
    assert!(!refused(vec![nested(puts(&["b"]), puts(&["b"]))]));
    assert!(refused(vec![delete("a", "z"), inner_put()]));
    assert!(refused(vec![inner_put(), delete("a", "z")]));
    assert!(refused(vec![inner_delete(), puts(&["b"]).remove(0)]));
    // Order counts between neighbours.
    assert!(refused(vec![inner_delete(), inner_put()]));
    assert!(!refused(vec![inner_put(), inner_delete()]));
}

#[test]
fn comparisons_keep_number_value_and_range() {
    let compare = |target: CompareTarget, target_union| Compare {
        result: CompareResult::Less.into(),
        target: target.into(),
        key: bytes("k"),
        range_end: bytes("z"),
        target_union: Some(target_union),
    };
    let request = TxnRequest {
        compare: vec![
            compare(CompareTarget::Version, TargetUnion::Version(1)),
            compare(CompareTarget::Create, TargetUnion::CreateRevision(2)),
            compare(CompareTarget::Mod, TargetUnion::ModRevision(3)),
            compare(CompareTarget::Value, TargetUnion::Value(bytes("v"))),
            compare(CompareTarget::Lease, TargetUnion::Lease(5)),
            // A number for another target counts as 0.
            compare(CompareTarget::Version, TargetUnion::ModRevision(9)),
        ],
        success: puts(&["k"]),
        ..Default::default()
    };
    let expected = |target, number, value| state::Compare {
        result: 2,
        target,
        key: bytes("k"),
        range_end: bytes("z"),
        number,
        value: bytes(value),
    };
    let all = vec![
        expected(0, 1, ""),
        expected(1, 2, ""),
        expected(2, 3, ""),
        expected(3, 0, "v"),
        expected(4, 5, ""),
        expected(0, 0, ""),
    ];
    assert_eq!(written(request).compares, all);
}

#[test]
fn unknown_comparisons_become_known_ones() {
    let translated = |target, result| {
        let compare = Compare {
            target,
            result,
            key: bytes("k"),
            ..Default::default()
        };
        written(TxnRequest {
            compare: vec![compare],
            success: puts(&["k"]),
            ..Default::default()
        })
        .compares
    };
    let known = |number| state::Compare {
        result: 1,
        target: 0,
        key: bytes("k"),
        number,
        ..Default::default()
    };
    // An unknown target counts as equal on both sides.
    assert_eq!(translated(9, 0), []);
    for result in 1..=3 {
        assert_eq!(translated(9, result), [known(i64::MAX)]);
    }
    // An unknown result always holds, but a value is compared only where there is a key.
    assert_eq!(translated(0, 9), []);
    assert_eq!(translated(9, 9), []);
    assert_eq!(translated(3, 9), [known(0)]);
}

#[test]
fn lease_time_is_bounded_on_both_sides() {
    let grant =
        |ttl, id| lease_grant(LeaseGrantRequest { ttl, id }, 77).map(|command| command.operation);
    let granted = |id, ttl_ms| {
        Ok(Some(Operation::LeaseGrant(state::LeaseGrant {
            id,
            ttl_ms,
        })))
    };
    assert_eq!(grant(10, 5), granted(5, 10_000));
    assert_eq!(grant(10, 0), granted(77, 10_000));
    assert_eq!(grant(10, -5), granted(-5, 10_000));
    assert_eq!(grant(1, 5), granted(5, 2_000));
    assert_eq!(grant(0, 5), granted(5, 2_000));
    assert_eq!(grant(i64::MIN, 5), granted(5, 2_000));
    assert_eq!(grant(9_000_000_000, 5), granted(5, 9_000_000_000_000));
    assert_eq!(grant(9_000_000_001, 5), Err(Status::LEASE_TTL_TOO_LARGE));
    assert_eq!(grant(i64::MAX, 5), Err(Status::LEASE_TTL_TOO_LARGE));
}

#[test]
fn compaction_keeps_its_revision() {
    let command = compact(CompactionRequest {
        revision: -1,
        physical: true,
    });
    assert_eq!(
        command.operation,
        Some(Operation::Compact(state::Compact { revision: -1 }))
    );
}
