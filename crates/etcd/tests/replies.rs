//! Replies to messages: headers at every depth, and how what is gone is told.

use proto::etcdserverpb::response_op::Response;
use proto::etcdserverpb::{ResponseHeader, TxnResponse};
use state::{Answer, KeyValue, LeaseView, RangeReply, Rejection, Reply, StepReply, TxnReply};
use synod_etcd::{
    Code, Header, Status, keep_alive_response, lease_grant_response, lease_leases_response,
    lease_time_to_live_response, put_response, range_response, rejection, txn_response,
};

const HEADER: Header = Header {
    cluster: 1,
    member: 2,
    term: 3,
    revision: 9,
};

fn revisions(response: &TxnResponse) -> Vec<i64> {
    let header = |header: &Option<ResponseHeader>| {
        let header = header.as_ref().expect("every answer has a header");
        assert_eq!(
            (header.cluster_id, header.member_id, header.raft_term),
            (0, 0, 0),
            "inner headers name the revision only"
        );
        header.revision
    };
    let mut all = Vec::new();
    for step in &response.responses {
        match step.response.as_ref().unwrap() {
            Response::ResponseRange(range) => all.push(header(&range.header)),
            Response::ResponsePut(put) => all.push(header(&put.header)),
            Response::ResponseDeleteRange(delete) => all.push(header(&delete.header)),
            Response::ResponseTxn(txn) => {
                all.push(header(&txn.header));
                all.extend(revisions(txn));
            }
        }
    }
    all
}

#[test]
fn outer_header_is_whole() {
    let response = put_response(HEADER, Reply::Put { prev: None }).unwrap();
    assert_eq!(
        response.header,
        Some(ResponseHeader {
            cluster_id: 1,
            member_id: 2,
            revision: 9,
            raft_term: 3
        })
    );
}

#[test]
fn inner_headers_name_the_revision_of_each_step_and_nested_ones_are_empty() {
    let range = || StepReply::Range(RangeReply::default());
    let inner = TxnReply {
        succeeded: false,
        steps: vec![range()],
        revisions: vec![9],
        revision: 9,
    };
    let deleted = StepReply::DeleteRange {
        deleted: 2,
        prev: Vec::new(),
    };
    let steps = vec![
        range(),
        StepReply::Put { prev: None },
        deleted,
        StepReply::Txn(inner),
    ];
    let reply = TxnReply {
        succeeded: true,
        steps,
        revisions: vec![8, 9, 9, 9],
        revision: 9,
    };
    for reply in [Ok(Reply::Txn(reply.clone())), Err(Answer::Txn(reply))] {
        let response = txn_response(HEADER, reply).unwrap();
        assert_eq!(response.header.as_ref().unwrap().cluster_id, 1);
        assert_eq!(response.header.as_ref().unwrap().revision, 9);
        assert_eq!(revisions(&response), [8, 9, 9, 0, 9]);
    }
}

#[test]
fn range_keeps_keys_order_more_and_count() {
    let kv = |key: &'static str| KeyValue {
        key: key.as_bytes().into(),
        mod_revision: 5,
        version: 2,
        lease: 3,
        ..Default::default()
    };
    let reply = RangeReply {
        kvs: vec![kv("b"), kv("a")],
        more: true,
        count: 7,
    };
    let response = range_response(HEADER, Answer::Range(reply)).unwrap();
    assert_eq!(
        response
            .kvs
            .iter()
            .map(|kv| &kv.key[..])
            .collect::<Vec<_>>(),
        [b"b", b"a"]
    );
    assert_eq!(
        (
            response.more,
            response.count,
            response.kvs[0].lease,
            response.kvs[0].version
        ),
        (true, 7, 3, 2)
    );
}

#[test]
fn gone_leases_are_told_by_their_time() {
    assert_eq!(keep_alive_response(HEADER, 5, None).ttl, 0);
    assert_eq!(keep_alive_response(HEADER, 5, Some(60_000)).ttl, 60);
    assert_eq!(
        lease_time_to_live_response(HEADER, 5, Answer::Lease(None))
            .unwrap()
            .ttl,
        -1
    );
}

#[test]
fn remaining_time_is_whole_seconds_and_never_above_the_grant() {
    let answer = |remaining_ms| {
        Answer::Lease(Some(LeaseView {
            id: 5,
            granted_ms: 60_000,
            remaining_ms,
            keys: vec!["k".into()],
        }))
    };
    let response =
        |remaining_ms| lease_time_to_live_response(HEADER, 5, answer(remaining_ms)).unwrap();
    assert_eq!(
        (response(61_200).ttl, response(61_200).granted_ttl),
        (60, 60)
    );
    assert_eq!(response(59_999).ttl, 59);
    assert_eq!(response(3).ttl, 0);
    assert_eq!(response(3).keys.len(), 1);
}

#[test]
fn leases_and_grants_keep_their_ids() {
    let leases = lease_leases_response(HEADER, Answer::Leases(vec![3, -4])).unwrap();
    assert_eq!(
        leases
            .leases
            .iter()
            .map(|lease| lease.id)
            .collect::<Vec<_>>(),
        [3, -4]
    );
    let grant = lease_grant_response(
        HEADER,
        Reply::LeaseGrant {
            id: -4,
            ttl_ms: 2000,
        },
    )
    .unwrap();
    assert_eq!((grant.id, grant.ttl, grant.error.as_str()), (-4, 2, ""));
}

#[test]
fn rejections_are_etcds_statuses() {
    for (reason, status) in [
        (Rejection::KeyNotFound, Status::KEY_NOT_FOUND),
        (Rejection::LeaseNotFound, Status::LEASE_NOT_FOUND),
        (Rejection::LeaseExists, Status::LEASE_EXISTS),
        (Rejection::Compacted { compacted: 4 }, Status::COMPACTED),
        (
            Rejection::FutureRevision { current: 4 },
            Status::FUTURE_REVISION,
        ),
        (
            Rejection::NoSpace {
                bytes: 2,
                bytes_max: 1,
            },
            Status::NO_SPACE,
        ),
    ] {
        assert_eq!(rejection(reason.clone()), status);
        assert_eq!(
            put_response(HEADER, Reply::Rejected(reason.clone())),
            Err(status.clone())
        );
        assert_eq!(
            range_response(HEADER, Answer::Rejected(reason)),
            Err(status)
        );
    }
}

#[test]
fn reply_to_another_question_is_an_error_not_a_panic() {
    assert_eq!(
        put_response(HEADER, Reply::Compact).unwrap_err().code,
        Code::Internal
    );
    assert_eq!(
        range_response(HEADER, Answer::Position).unwrap_err().code,
        Code::Internal
    );
}
