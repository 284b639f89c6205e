//! The pages for operators and their tools: version and metrics. As etcd answers them.

use super::metrics::Text;
use super::{Server, member_metrics};
use crate::native::verifying_keys;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use std::sync::Arc;

/// The pages' routes.
pub(crate) fn router() -> Router<Arc<Server>> {
    Router::new()
        .route("/version", get(version))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(openapi))
        .route("/synod/v1/keys", get(keys))
}

/// What an unknown path is told.
pub(crate) async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "404 page not found\n").into_response()
}

async fn version() -> Response {
    let version = format!(
        r#"{{"etcdserver":"{}","etcdcluster":"{1}","storage":"{1}"}}"#,
        etcd::VERSION,
        etcd::CLUSTER_VERSION,
    );
    ([(header::CONTENT_TYPE, "application/json")], version).into_response()
}

/// The native API, described for programs.
async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], proto::OPENAPI).into_response()
}

/// What verifies signed fencing tokens, as a JSON web key set; empty until the first was signed.
async fn keys(State(server): State<Arc<Server>>) -> Response {
    let keys = verifying_keys(&server.services.door.handle.auth()).jwks();
    ([(header::CONTENT_TYPE, "application/jwk-set+json")], keys).into_response()
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
