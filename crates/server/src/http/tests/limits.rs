//! What clients are held to, over real connections: alarms, operations of a transaction, watches, connections.

use super::*;
use proto::etcdserverpb::request_op::Request as Step;
use proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, AlarmType, RequestOp, StatusRequest, TxnRequest,
    alarm_request::AlarmAction,
};

async fn alarm(port: &Port, action: AlarmAction, member_id: u64, kind: AlarmType) -> AlarmResponse {
    let request = AlarmRequest {
        action: action.into(),
        member_id,
        alarm: kind.into(),
    };
    let mut client = MaintenanceClient::new(port.channel().await);
    client.alarm(request).await.unwrap().into_inner()
}

fn txn(steps: usize) -> TxnRequest {
    let step = |n| RequestOp {
        request: Some(Step::RequestPut(put(&format!("t{n}"), "v"))),
    };
    TxnRequest {
        success: (0..steps).map(step).collect(),
        ..TxnRequest::default()
    }
}

/// etcdctl from 3.6 on divides by the size of the file, and panics where it is 0.
#[tokio::test]
async fn an_empty_state_has_a_size_to_divide_by() {
    let port = start().await;
    let mut maintenance = MaintenanceClient::new(port.channel().await);
    let status = maintenance.status(StatusRequest {}).await.unwrap();
    let status = status.into_inner();
    assert_eq!((status.db_size, status.db_size_in_use), (4096, 0));
    let mut kv = port.kv().await;
    kv.put(put("k", vec![7; 10_000])).await.unwrap();
    // What is told of the size may be half a second old.
    tokio::time::sleep(Duration::from_millis(600)).await;
    let status = maintenance.status(StatusRequest {}).await.unwrap();
    let status = status.into_inner();
    assert!(status.db_size_in_use > 10_000, "{status:?}");
    assert_eq!(status.db_size, 12_288);
    let metrics = port.get("/metrics").await;
    let sample = "etcd_mvcc_db_total_size_in_bytes 12288";
    assert!(metrics.contains(sample), "{metrics}");
}

#[tokio::test]
async fn alarms_are_raised_shown_and_lowered() {
    let port = start().await;
    let raised = alarm(&port, AlarmAction::Activate, 7, AlarmType::Nospace).await;
    assert_eq!(raised.alarms.len(), 1);
    let mut kv = port.kv().await;
    for refused in [
        kv.put(put("k", "v")).await.unwrap_err(),
        kv.txn(txn(1)).await.unwrap_err(),
    ] {
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert_eq!(
            refused.message(),
            "etcdserver: mvcc: database space exceeded"
        );
    }
    // What the pages say may be half a second old.
    tokio::time::sleep(Duration::from_millis(600)).await;
    let health = port.get("/health").await;
    assert!(health.contains("503"), "{health}");
    assert!(health.contains("ALARM NOSPACE"), "{health}");
    let excluded = port.get("/health?exclude=NOSPACE").await;
    assert!(excluded.contains("\"health\":\"true\""), "{excluded}");
    let mut maintenance = MaintenanceClient::new(port.channel().await);
    let status = maintenance.status(StatusRequest {}).await.unwrap();
    assert_eq!(status.into_inner().errors, ["memberID:7 alarm:NOSPACE "]);
    let metrics = port.get("/metrics").await;
    let sample = "etcd_debugging_server_alarms{server_id=\"7\",alarm_type=\"NOSPACE\"} 1";
    assert!(metrics.contains(sample), "{metrics}");
    assert!(port.get("/readyz").await.contains("ok"));

    let none = alarm(&port, AlarmAction::Deactivate, 8, AlarmType::Nospace).await;
    assert!(none.alarms.is_empty());
    let lowered = alarm(&port, AlarmAction::Deactivate, 7, AlarmType::Nospace).await;
    assert_eq!(lowered.alarms, raised.alarms);
    kv.put(put("k", "v")).await.unwrap();
}

#[tokio::test]
async fn under_the_alarm_of_corruption_nothing_is_written_and_all_is_read() {
    let port = start().await;
    let mut kv = port.kv().await;
    kv.put(put("k", "v")).await.unwrap();
    alarm(&port, AlarmAction::Activate, 7, AlarmType::Corrupt).await;
    let refused = kv.put(put("k", "v")).await.unwrap_err();
    assert_eq!(refused.code(), Code::DataLoss);
    assert_eq!(refused.message(), "etcdserver: corrupt cluster");
    let read = kv.range(range("k")).await.unwrap();
    assert_eq!(read.into_inner().count, 1);
    tokio::time::sleep(Duration::from_millis(600)).await;
    let ready = port.get("/readyz").await;
    assert!(ready.contains("[-]data_corruption failed: alarm activated: CORRUPT"));
    assert!(port.get("/livez").await.contains("ok"));
    let listed = alarm(&port, AlarmAction::Get, 0, AlarmType::None).await;
    assert_eq!(listed.alarms.len(), 1);
    let other = alarm(&port, AlarmAction::Get, 0, AlarmType::Nospace).await;
    assert!(other.alarms.is_empty());
}

#[tokio::test]
async fn operations_of_a_transaction_have_a_limit_that_can_be_set() {
    let limits = Limits {
        txn_operations_max: 200,
        ..LIMITS
    };
    let port = start_limited(limits).await;
    let mut kv = port.kv().await;
    kv.txn(txn(200)).await.unwrap();
    let refused = kv.txn(txn(201)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(
        refused.message(),
        "etcdserver: too many operations in txn request"
    );
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let limits = Limits {
        connections_max: 1,
        ..LIMITS
    };
    let port = start_limited(limits).await;
    let mut first = port.kv().await;
    first.put(put("k", "v")).await.unwrap();
    let refused = port.kv().await.put(put("k", "v")).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(
        refused
            .message()
            .starts_with("synod: too many connections, this member takes 1")
    );
    let page = port.get("/health").await;
    assert!(
        page.contains("503") && page.contains("too many connections"),
        "{page}"
    );
    first.put(put("k", "v")).await.unwrap();
    drop(first);
    let served = async {
        while !port.get("/health").await.contains("true") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(10), served).await;
    assert!(waited.is_ok(), "room returns with those who leave");
}

#[tokio::test]
async fn watches_beyond_the_limit_are_refused_with_the_reason() {
    let port = Port::limited_to(replica::Limits {
        watches_max: 3,
        stream_watches_max: 2,
        ..replica::Limits::default()
    })
    .await;
    let mut first = Watching::open(&port).await;
    for _ in 0..3 {
        first.create(all_keys());
    }
    assert!(!first.hear().await.canceled && !first.hear().await.canceled);
    let refused = first.hear().await;
    assert!(refused.created && refused.canceled);
    assert_eq!(
        refused.cancel_reason,
        "synod: too many watches, one stream takes 2 at most"
    );
    let mut second = Watching::open(&port).await;
    second.create(all_keys());
    second.create(all_keys());
    assert!(!second.hear().await.canceled);
    assert_eq!(
        second.hear().await.cancel_reason,
        "synod: too many watches, this member takes 3 at most"
    );
}
