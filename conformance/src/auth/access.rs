//! What is asked of keys, leases, watches and the cluster while authentication is on.

use super::requests::{delete, put, range};
use super::side::Side;
use crate::Outcome;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::watch_request::RequestUnion;
use std::time::Duration;

/// Everybody tries everything with keys.
pub async fn keys(side: &mut Side) {
    for user in ["root", "ann", "eve", "", "unknown"] {
        for key in ["a1", "b1", "w", "z"] {
            ask_other!(side, user, format!("put {key}"), kv.put(put(key, 0)));
            let prev = pb::PutRequest {
                prev_kv: true,
                ..put(key, 0)
            };
            ask_other!(side, user, format!("put {key} with prev_kv"), kv.put(prev));
        }
        for (key, end) in [
            ("a1", ""),
            ("a", "b"),
            ("a", "c"),
            ("a", "d"),
            ("w", ""),
            ("z", ""),
            ("y", "\0"),
            ("\0", "\0"),
            ("none", ""),
        ] {
            let name = format!("range {key:?} {end:?}");
            ask_other!(side, user, name, kv.range(range(key, end)));
        }
        let serializable = pb::RangeRequest {
            serializable: true,
            ..range("b9", "")
        };
        ask_other!(side, user, "serializable range", kv.range(serializable));
        ask_other!(
            side,
            user,
            "delete w",
            kv.delete_range(delete("w", "", false))
        );
        ask_other!(
            side,
            user,
            "delete w with prev_kv",
            kv.delete_range(delete("w", "", true))
        );
        ask_other!(
            side,
            user,
            "delete a to c",
            kv.delete_range(delete("a", "c", false))
        );
        for (name, txn) in transactions() {
            ask_other!(side, user, format!("transaction {name}"), kv.txn(txn));
        }
        // What is wrong with a request is told before who asks.
        ask_other!(side, user, "empty put", kv.put(put("", 0)));
        ask_other!(side, user, "empty range", kv.range(range("", "")));
    }
}

fn transactions() -> Vec<(&'static str, pb::TxnRequest)> {
    use pb::request_op::Request;
    let op = |request| pb::RequestOp {
        request: Some(request),
    };
    let compare = |key: &str| pb::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Version.into(),
        key: key.to_owned().into(),
        target_union: Some(TargetUnion::Version(1000)),
        ..Default::default()
    };
    let read = |key: &str| op(Request::RequestRange(range(key, "")));
    let write = |key: &str| op(Request::RequestPut(put(key, 0)));
    let txn = |compares: Vec<pb::Compare>, success, failure| pb::TxnRequest {
        compare: compares,
        success,
        failure,
    };
    vec![
        (
            "allowed",
            txn(vec![compare("a1")], vec![write("a1")], vec![read("b1")]),
        ),
        (
            "comparing w",
            txn(vec![compare("w")], vec![], vec![read("a1")]),
        ),
        (
            "reading w where it is not taken",
            txn(vec![compare("a1")], vec![read("w")], vec![]),
        ),
        (
            "writing b where it is taken",
            txn(vec![compare("a1")], vec![], vec![write("b1")]),
        ),
        (
            "of reads",
            txn(vec![], vec![read("a1"), read("b1")], vec![]),
        ),
        ("of nothing", txn(vec![], vec![], vec![])),
    ]
}

/// Leases, alone and with keys of several users.
pub async fn leases(side: &mut Side) {
    let grant = |id| pb::LeaseGrantRequest { ttl: 600, id };
    let time = |id, keys| pb::LeaseTimeToLiveRequest { id, keys };
    ask_other!(
        side,
        "ann",
        "grant lease 100",
        lease.lease_grant(grant(100))
    );
    ask_other!(side, "", "grant lease 101", lease.lease_grant(grant(101)));
    ask_other!(
        side,
        "root",
        "grant lease 102",
        lease.lease_grant(grant(102))
    );
    ask_other!(side, "ann", "put a1 on lease 100", kv.put(put("a1", 100)));
    ask_other!(
        side,
        "ann",
        "keys of lease 100",
        lease.lease_time_to_live(time(100, true))
    );
    ask_other!(side, "root", "put z on lease 100", kv.put(put("z", 100)));
    ask_other!(side, "ann", "put a2 on lease 100", kv.put(put("a2", 100)));
    ask_other!(
        side,
        "root",
        "delete z",
        kv.delete_range(delete("z", "", false))
    );
    ask_other!(side, "root", "put b1 on lease 100", kv.put(put("b1", 100)));
    let request = side.request("ann", time(100, true));
    let answer = side.member().lease.lease_time_to_live(request).await;
    let answer = answer.map(|answer| {
        let mut answer = answer.into_inner();
        // etcd gives them in no order.
        answer.keys.sort();
        answer
    });
    side.note("ann: keys of lease 100, readable".into(), answer);
    ask_other!(
        side,
        "ann",
        "revoke lease 100",
        lease.lease_revoke(pb::LeaseRevokeRequest { id: 100 })
    );
    ask_other!(side, "root", "put 0 on lease 100", kv.put(put("0", 100)));
    ask_other!(
        side,
        "ann",
        "keys of lease 100 with one of root's",
        lease.lease_time_to_live(time(100, true))
    );
    ask_other!(
        side,
        "",
        "keys of lease 100",
        lease.lease_time_to_live(time(100, true))
    );
    ask_other!(
        side,
        "unknown",
        "keys of lease 100",
        lease.lease_time_to_live(time(100, true))
    );
    ask_other!(
        side,
        "",
        "time of lease 100",
        lease.lease_time_to_live(time(100, false))
    );
    ask_other!(
        side,
        "ann",
        "list leases",
        lease.lease_leases(pb::LeaseLeasesRequest {})
    );
    ask_other!(
        side,
        "",
        "list leases",
        lease.lease_leases(pb::LeaseLeasesRequest {})
    );
    for user in ["ann", ""] {
        let renewal = tokio_stream::once(pb::LeaseKeepAliveRequest { id: 100 });
        let request = side.request(user, renewal);
        let answer = match side.member().lease.lease_keep_alive(request).await {
            Ok(answers) => answers.into_inner().message().await,
            Err(status) => Err(status),
        };
        let user = if user.is_empty() { "nobody" } else { user };
        side.note(format!("{user}: keep alive 100"), answer);
    }
    ask_other!(
        side,
        "",
        "revoke lease 102",
        lease.lease_revoke(pb::LeaseRevokeRequest { id: 102 })
    );
    ask_other!(
        side,
        "ann",
        "revoke lease 999",
        lease.lease_revoke(pb::LeaseRevokeRequest { id: 999 })
    );
    ask_other!(
        side,
        "root",
        "revoke lease 100",
        lease.lease_revoke(pb::LeaseRevokeRequest { id: 100 })
    );
    ask_other!(
        side,
        "root",
        "read what is left",
        kv.range(range("\0", "\0"))
    );
    // Whatever was stricter above, go on from the same keys and leases.
    let again = pb::LeaseRevokeRequest { id: 101 };
    let request = side.request("root", again);
    drop(side.member().lease.lease_revoke(request).await);
    let request = side.request("root", pb::LeaseRevokeRequest { id: 102 });
    drop(side.member().lease.lease_revoke(request).await);
}

/// Watches are created.
///
/// # Errors
/// A stream breaks off.
pub async fn watches(side: &mut Side) -> Outcome<()> {
    for (user, key, end) in [
        ("root", "\0", "\0"),
        ("ann", "a", "b"),
        ("ann", "a", "d"),
        ("ann", "w", ""),
        ("eve", "a1", ""),
        ("", "a1", ""),
        ("unknown", "a1", ""),
    ] {
        let create = pb::WatchCreateRequest {
            key: key.to_owned().into(),
            range_end: end.to_owned().into(),
            watch_id: 7,
            ..Default::default()
        };
        let create = pb::WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        // The stream must stay open on this side until the answer is there.
        let requests =
            tokio_stream::StreamExt::chain(tokio_stream::once(create), tokio_stream::pending());
        let request = side.request(user, requests);
        let mut answers = side.member().watch.watch(request).await?.into_inner();
        let answer = tokio::time::timeout(Duration::from_secs(5), answers.message()).await?;
        let user = if user.is_empty() { "nobody" } else { user };
        let answer = answer.map(|answer| {
            // The revision is that of the moment.
            let answer = answer.unwrap_or_default();
            (
                answer.watch_id,
                answer.created,
                answer.canceled,
                answer.cancel_reason,
            )
        });
        side.note(format!("{user}: watch {key:?} {end:?}"), answer);
    }
    Ok(())
}

/// Members, maintenance and compaction.
pub async fn cluster(side: &mut Side) {
    for user in ["ann", "", "unknown"] {
        let update = pb::MemberUpdateRequest {
            id: 1,
            peer_ur_ls: vec!["http://127.0.0.1:9".into()],
        };
        ask_other!(side, user, "update a member", cluster.member_update(update));
        ask_other!(
            side,
            user,
            "remove a member",
            cluster.member_remove(pb::MemberRemoveRequest { id: 1 })
        );
        ask_other!(
            side,
            user,
            "status",
            maintenance.status(pb::StatusRequest {})
        );
        ask_other!(side, user, "hash", maintenance.hash(pb::HashRequest {}));
        ask_other!(
            side,
            user,
            "hash of keys",
            maintenance.hash_kv(pb::HashKvRequest::default())
        );
        ask_other!(
            side,
            user,
            "defragment",
            maintenance.defragment(pb::DefragmentRequest {})
        );
        ask_other!(
            side,
            user,
            "move leader",
            maintenance.move_leader(pb::MoveLeaderRequest { target_id: 1 })
        );
    }
    let list = pb::MemberListRequest::default;
    let request = side.request("", list());
    let members = side.member().cluster.member_list(request).await;
    side.note("nobody: list members".into(), members.map(|_| "members"));
    ask_other!(
        side,
        "",
        "list alarms",
        maintenance.alarm(pb::AlarmRequest::default())
    );
    for user in ["", "ann"] {
        let compaction = pb::CompactionRequest {
            revision: if user.is_empty() { 1 } else { 2 },
            physical: false,
        };
        ask_other!(side, user, "compact", kv.compact(compaction));
    }
    // Again the same from here on, if it was not refused.
    let compaction = pb::CompactionRequest {
        revision: 3,
        physical: false,
    };
    ask_other!(side, "root", "compact", kv.compact(compaction));
}

/// Writes that etcd 3.6 lets through: in a transaction inside a transaction nobody asks for permissions, and in no transaction for those of a lease's keys.
pub async fn gaps(side: &mut Side) {
    use pb::request_op::Request;
    let txn = |request| pb::TxnRequest {
        success: vec![pb::RequestOp {
            request: Some(request),
        }],
        ..Default::default()
    };
    let grant = pb::LeaseGrantRequest { ttl: 600, id: 103 };
    ask_other!(side, "root", "grant lease 103", lease.lease_grant(grant));
    ask_other!(side, "root", "put z on lease 103", kv.put(put("z", 103)));
    let with_lease = txn(Request::RequestPut(put("a2", 103)));
    ask_other!(
        side,
        "ann",
        "put a2 on lease 103 in a transaction",
        kv.txn(with_lease)
    );
    for user in ["ann", "eve", ""] {
        let nested = txn(Request::RequestTxn(txn(Request::RequestPut(put("b1", 0)))));
        ask_other!(side, user, "put b1 in a transaction inside", kv.txn(nested));
    }
}
