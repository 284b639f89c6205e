//! Health, version and metrics.

use super::*;

#[tokio::test]
async fn pages_answer_old_clients_too() {
    let port = start().await;
    // A linearizable answer shows that the member leads; the first check may come before.
    port.kv().await.put(put("k", "v")).await.unwrap();
    assert!(
        port.get("/health")
            .await
            .ends_with("{\"health\":\"true\",\"reason\":\"\"}")
    );
    assert!(
        port.get("/version")
            .await
            .ends_with(r#"{"etcdserver":"3.6.7","etcdcluster":"3.6.0","storage":"3.6.0"}"#)
    );
    assert!(port.get("/livez").await.ends_with("\r\n\r\nok\n"));
    let metrics = port.get("/metrics").await;
    let put = r#"grpc_server_handled_total{grpc_code="OK",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1"#;
    for line in [
        put,
        "etcd_server_has_leader 1",
        "etcd_server_is_leader 1",
        "etcd_debugging_mvcc_keys_total 1",
    ] {
        assert!(metrics.lines().any(|given| given == line), "{line}");
    }
}

#[tokio::test]
async fn checks_are_made_left_out_and_counted() {
    let port = start().await;
    port.kv().await.put(put("k", "v")).await.unwrap();
    let words = async |path: &str| {
        let page = port.get(path).await;
        let (_, words) = page.split_once("\r\n\r\n").expect("a page");
        words.to_owned()
    };
    assert_eq!(
        words("/readyz?verbose").await,
        "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n"
    );
    assert_eq!(
        words("/readyz?verbose&exclude=linearizable_read&exclude=non_learner&exclude=nothing")
            .await,
        "[+]data_corruption ok\n[+]serializable_read ok\nok\n"
    );
    assert_eq!(words("/readyz").await, "ok\n");
    assert_eq!(
        words("/livez?verbose").await,
        "[+]serializable_read ok\nok\n"
    );
    assert_eq!(
        words("/readyz/non_learner?verbose").await,
        "[+]non_learner ok\nok\n"
    );
    assert!(port.get("/livez/linearizable_read").await.contains(" 404 "));
    assert!(
        words("/health?serializable=true&exclude=NOSPACE")
            .await
            .contains("true")
    );
    let metrics = port.get("/metrics").await;
    for line in [
        r#"etcd_server_healthcheck{name="linearizable_read",type="readyz"} 1"#,
        r#"etcd_server_healthchecks_total{name="linearizable_read",type="readyz",status="success"} 2"#,
        r#"etcd_server_healthchecks_total{name="serializable_read",type="livez",status="success"} 1"#,
        "etcd_server_health_success 1",
    ] {
        assert!(
            metrics.lines().any(|given| given == line),
            "{line}\n{metrics}"
        );
    }
}

/// What etcd's own dashboard and alerts ask for (its `contrib/mixin`).
#[tokio::test]
async fn published_dashboards_find_their_names() {
    let port = start().await;
    port.kv().await.put(put("k", "v")).await.unwrap();
    let metrics = port.get("/metrics").await;
    for name in [
        "etcd_disk_backend_commit_duration_seconds",
        "etcd_disk_wal_fsync_duration_seconds",
        "etcd_mvcc_db_total_size_in_bytes",
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "etcd_network_client_grpc_received_bytes_total",
        "etcd_network_client_grpc_sent_bytes_total",
        "etcd_network_peer_received_bytes_total",
        "etcd_network_peer_round_trip_time_seconds",
        "etcd_network_peer_sent_bytes_total",
        "etcd_network_peer_sent_failures_total",
        "etcd_server_has_leader",
        "etcd_server_leader_changes_seen_total",
        "etcd_server_proposals_applied_total",
        "etcd_server_proposals_committed_total",
        "etcd_server_proposals_failed_total",
        "etcd_server_proposals_pending",
        "etcd_server_quota_backend_bytes",
        "grpc_server_handled_total",
        "grpc_server_handling_seconds",
        "grpc_server_started_total",
        "process_resident_memory_bytes",
    ] {
        assert!(metrics.contains(&format!("# TYPE {name} ")), "{name}");
    }
    let value = |name: &str| -> u64 {
        let line = metrics
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")));
        let value = line.and_then(|line| line.rsplit_once(' '));
        value.map_or(0, |(_, value)| value.parse().expect("a number"))
    };
    assert!(value("etcd_network_client_grpc_received_bytes_total") > 50);
    assert!(value("etcd_network_client_grpc_sent_bytes_total") > 50);
}
