//! The pages for operators and their tools: health, version, metrics. As etcd answers them.

use super::metrics::Text;
use super::{Server, member_metrics};
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use etcd::{Code, Status};
use http::{StatusCode, Uri, header};
use replica::Consistency;
use state::AlarmKind;
use std::sync::Arc;
use std::time::Duration;

/// What a health check waits at most.
const CHECK_TIMEOUT: Duration = Duration::from_secs(7);

/// The pages' routes.
pub(crate) fn router() -> Router<Arc<Server>> {
    Router::new()
        .route("/health", get(health))
        .route("/livez", get(livez))
        .route("/livez/serializable_read", get(livez))
        .route("/readyz", get(readyz))
        .route("/readyz/serializable_read", get(livez))
        .route("/readyz/linearizable_read", get(linearizable))
        .route("/readyz/data_corruption", get(data_corruption))
        .route("/version", get(version))
        .route("/metrics", get(metrics))
}

/// What an unknown path is told.
pub(crate) async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "404 page not found\n").into_response()
}

async fn health(State(server): State<Arc<Server>>, uri: Uri) -> Response {
    let serializable = asks(&uri, "serializable=true");
    let alarms = server.services.door.alarms().into_iter();
    let alarm = alarms
        .map(etcd::alarm_kind)
        .find(|kind| !asks(&uri, &format!("exclude={kind}")));
    let reason = if let Some(kind) = alarm {
        Some(format!("ALARM {kind}"))
    } else if !serializable && server.services.door.handle.status().raft.leader.is_none() {
        Some("RAFT NO LEADER".to_owned())
    } else {
        read(&server, serializable)
            .await
            .err()
            .map(|status| format!("RANGE ERROR:{}", status.text))
    };
    match reason {
        None => {
            server.services.metrics.health_success.inc();
            (
                [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
                r#"{"health":"true","reason":""}"#,
            )
                .into_response()
        }
        Some(reason) => {
            server.services.metrics.health_failures.inc();
            let body = serde_json::json!({ "health": "false", "reason": reason });
            (StatusCode::SERVICE_UNAVAILABLE, format!("{body}\n")).into_response()
        }
    }
}

async fn livez(State(server): State<Arc<Server>>, uri: Uri) -> Response {
    checks(&uri, &[("serializable_read", read(&server, true).await)])
}

async fn linearizable(State(server): State<Arc<Server>>, uri: Uri) -> Response {
    checks(&uri, &[("linearizable_read", read(&server, false).await)])
}

async fn data_corruption(State(server): State<Arc<Server>>, uri: Uri) -> Response {
    checks(&uri, &[("data_corruption", no_corruption(&server))])
}

fn no_corruption(server: &Server) -> Result<(), Status> {
    let alarms = server.services.door.alarms();
    match alarms.iter().any(|alarm| alarm.kind == AlarmKind::Corrupt) {
        true => Err(Status::new(Code::DataLoss, "alarm activated: CORRUPT")),
        false => Ok(()),
    }
}

async fn readyz(State(server): State<Arc<Server>>, uri: Uri) -> Response {
    let local = read(&server, true).await;
    checks(
        &uri,
        &[
            ("data_corruption", no_corruption(&server)),
            ("serializable_read", local),
            ("linearizable_read", read(&server, false).await),
        ],
    )
}

/// Answers with the outcome of checks, in words when one failed or somebody asks.
fn checks(uri: &Uri, checks: &[(&str, Result<(), Status>)]) -> Response {
    let words: String = checks
        .iter()
        .map(|(name, outcome)| match outcome {
            Ok(()) => format!("[+]{name} ok\n"),
            Err(status) => format!("[-]{name} failed: {}\n", status.text),
        })
        .collect();
    if checks.iter().any(|(_, outcome)| outcome.is_err()) {
        return (StatusCode::SERVICE_UNAVAILABLE, words).into_response();
    }
    if asks(uri, "verbose") {
        format!("{words}ok\n").into_response()
    } else {
        "ok\n".into_response()
    }
}

async fn read(server: &Server, serializable: bool) -> Result<(), Status> {
    let consistency = if serializable {
        Consistency::Local
    } else {
        Consistency::Linearizable
    };
    let read = server
        .services
        .door
        .handle
        .read(consistency, state::Query::Position);
    match tokio::time::timeout(CHECK_TIMEOUT, read).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(failure)) => Err(crate::grpc::failure::status(failure)),
        Err(_) => Err(Status::TIMED_OUT),
    }
}

/// The query of the address has this part, alone or with a value.
fn asks(uri: &Uri, part: &str) -> bool {
    uri.query().is_some_and(|query| {
        query
            .split('&')
            .any(|given| given == part || given.split('=').next() == Some(part))
    })
}

async fn version() -> Response {
    let version = format!(
        r#"{{"etcdserver":"{}","etcdcluster":"{1}","storage":"{1}"}}"#,
        etcd::VERSION,
        etcd::CLUSTER_VERSION,
    );
    ([(header::CONTENT_TYPE, "application/json")], version).into_response()
}

async fn metrics(State(server): State<Arc<Server>>) -> Response {
    let mut text = Text::default();
    server.services.metrics.write(&mut text);
    member_metrics::write(&server.services.door, &mut text);
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        text.finish(),
    )
        .into_response()
}
