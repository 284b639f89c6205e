//! The etcd API as JSON over HTTP: original field names, 64-bit numbers as strings, bytes in base64, defaults left out. Bodies need no content type.

use super::Server;
use crate::grpc::context::{Context, STAMP_HEADER};
use crate::grpc::door::{Answered, Door, Outcome, unavailable};
use crate::grpc::keep_alive::KeepAliveSession;
use crate::grpc::method;
use crate::grpc::stream::{Ended, tonic_status};
use crate::grpc::watch::WatchSession;
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use etcd::{Code, Status};
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use replica::Stamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use state::RangeReply;
use std::sync::Arc;

/// Bytes of a body beyond those of the values in it.
const BODY_OVERHEAD_BYTES: usize = 512 << 10;

/// Keys whose size is summed up in one go before others get their turn.
const MEASURE_KEYS: usize = 4096;

/// Keys written in one go.
const PIECE_KEYS: usize = 256;

/// Calls that come later, by their paths.
const LATER: [&str; 25] = [
    "/v3/cluster/member/add",
    "/v3/cluster/member/remove",
    "/v3/cluster/member/update",
    "/v3/cluster/member/promote",
    "/v3/maintenance/snapshot",
    "/v3/maintenance/downgrade",
    "/v3/auth/enable",
    "/v3/auth/disable",
    "/v3/auth/status",
    "/v3/auth/authenticate",
    "/v3/auth/user/add",
    "/v3/auth/user/get",
    "/v3/auth/user/list",
    "/v3/auth/user/delete",
    "/v3/auth/user/changepw",
    "/v3/auth/user/grant",
    "/v3/auth/user/revoke",
    "/v3/auth/role/add",
    "/v3/auth/role/get",
    "/v3/auth/role/list",
    "/v3/auth/role/delete",
    "/v3/auth/role/grant",
    "/v3/auth/role/revoke",
    "/v3/lock/lock",
    "/v3/lock/unlock",
];

macro_rules! call {
    ($call:ident) => {
        post(
            async |State(server): State<Arc<Server>>, headers: HeaderMap, body: Bytes| {
                let door = &server.services.door;
                unary(&headers, &body, async |context, request| {
                    door.$call(&context, request).await
                })
                .await
            },
        )
    };
}

/// The gateway's routes.
pub(crate) fn router(request_bytes_max: usize) -> Router<Arc<Server>> {
    // In base64 a value takes a third more.
    let body_bytes_max = request_bytes_max / 3 * 4 + BODY_OVERHEAD_BYTES;
    let mut router = Router::new()
        .route("/v3/kv/range", post(range))
        .route("/v3/kv/put", call!(put))
        .route("/v3/kv/deleterange", call!(delete_range))
        .route("/v3/kv/txn", call!(txn))
        .route("/v3/kv/compaction", call!(compact))
        .route("/v3/watch", post(watch))
        .route("/v3/lease/grant", call!(lease_grant))
        .route("/v3/lease/keepalive", post(keep_alive))
        .route("/v3/cluster/member/list", call!(member_list))
        .route("/v3/maintenance/alarm", call!(alarm))
        .route("/v3/maintenance/status", call!(status))
        .route("/v3/maintenance/defragment", call!(defragment))
        .route("/v3/maintenance/hash", call!(hash))
        .route("/v3/maintenance/hashkv", call!(hash_kv))
        .route("/v3/maintenance/transfer-leadership", call!(move_leader));
    for prefix in ["/v3/lease", "/v3/kv/lease"] {
        router = router
            .route(&format!("{prefix}/revoke"), call!(lease_revoke))
            .route(&format!("{prefix}/timetolive"), call!(lease_time_to_live))
            .route(&format!("{prefix}/leases"), call!(lease_leases));
    }
    for path in LATER {
        router = router.route(path, post(later));
    }
    router
        .method_not_allowed_fallback(async || {
            refuse(&Status::new(Code::Unimplemented, "Method Not Allowed"))
        })
        .layer(DefaultBodyLimit::max(body_bytes_max))
}

/// What an unknown path is told.
pub(crate) async fn not_found() -> Response {
    refuse(&Status::new(Code::NotFound, "Not Found"))
}

async fn later(uri: Uri) -> Response {
    refuse(&unavailable(uri.path()))
}

async fn unary<Q, A>(
    headers: &HeaderMap,
    body: &[u8],
    call: impl AsyncFnOnce(Context, Q) -> Outcome<A>,
) -> Response
where
    Q: DeserializeOwned,
    A: Serialize,
{
    let outcome = async {
        let context = Context::of(headers)?;
        call(context, parse(body)?).await
    };
    match outcome.await {
        Ok(Answered { message, stamp }) => match serde_json::to_vec(&message) {
            Ok(json) => answer(Body::from(json), stamp),
            Err(error) => refuse(&Status::new(Code::Internal, error.to_string())),
        },
        Err(status) => refuse(&status),
    }
}

/// Reads a message; an empty body is an empty message.
fn parse<Q: DeserializeOwned>(body: &[u8]) -> Result<Q, Status> {
    let body = if body.trim_ascii().is_empty() {
        b"{}"
    } else {
        body
    };
    serde_json::from_slice(body)
        .map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))
}

async fn range(State(server): State<Arc<Server>>, headers: HeaderMap, body: Bytes) -> Response {
    let door = &server.services.door;
    let outcome = async {
        let context = Context::of(&headers)?;
        door.range(&context, parse(&body)?).await
    };
    match outcome.await {
        Ok(Answered {
            message: (header, reply),
            stamp,
        }) => {
            let mut bytes = 0;
            for kvs in reply.kvs.chunks(MEASURE_KEYS) {
                bytes += kvs
                    .iter()
                    .map(|kv| kv.key.len() + kv.value.len())
                    .sum::<usize>();
                tokio::task::yield_now().await;
            }
            let held = door.waiting.hold(bytes);
            let pieces = range_pieces(header, reply).map(move |piece| {
                let _ = &held;
                piece
            });
            answer(Body::from_stream(pieces), stamp)
        }
        Err(status) => refuse(&status),
    }
}

/// A range's answer, written while the client reads: a million keys at once would hold up everybody else.
fn range_pieces(
    header: etcd::Header,
    reply: RangeReply,
) -> impl Stream<Item = serde_json::Result<Bytes>> {
    let RangeReply { kvs, more, count } = reply;
    let mut keys = kvs.into_iter().peekable();
    let mut front = Some(proto::etcdserverpb::ResponseHeader::from(header));
    let mut tail = Some((more, count));
    futures_util::stream::iter(std::iter::from_fn(move || {
        let mut piece = Vec::new();
        let written = (|| {
            if let Some(header) = front.take() {
                piece.extend_from_slice(b"{\"header\":");
                serde_json::to_writer(&mut piece, &header)?;
                if keys.peek().is_some() {
                    piece.extend_from_slice(b",\"kvs\":[");
                } else {
                    return Ok(());
                }
            } else if keys.peek().is_none() {
                return Ok(());
            }
            for kv in keys.by_ref().take(PIECE_KEYS) {
                serde_json::to_writer(&mut piece, &etcd::key_value(kv))?;
                piece.push(b',');
            }
            if keys.peek().is_none() {
                // In place of the last comma.
                piece.pop();
                piece.push(b']');
            }
            Ok(())
        })();
        if let Err(error) = written {
            return Some(Err(error));
        }
        if keys.peek().is_none()
            && let Some((more, count)) = tail.take()
        {
            if more {
                piece.extend_from_slice(b",\"more\":true");
            }
            if count != 0 {
                piece.extend_from_slice(format!(",\"count\":\"{count}\"").as_bytes());
            }
            piece.push(b'}');
        }
        (!piece.is_empty()).then(|| Ok(Bytes::from(piece)))
    }))
}

async fn watch(State(server): State<Arc<Server>>, headers: HeaderMap, body: Bytes) -> Response {
    stream(
        &server,
        method::WATCH,
        &headers,
        &body,
        |door, requests, require_leader, ended| {
            WatchSession::new(door, requests, require_leader, ended).responses()
        },
    )
}

async fn keep_alive(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    stream(
        &server,
        method::LEASE_KEEP_ALIVE,
        &headers,
        &body,
        |door, requests, require_leader, ended| {
            KeepAliveSession::new(door, requests, require_leader, ended).responses()
        },
    )
}

type Requests<Q> = futures_util::stream::Iter<std::vec::IntoIter<Result<Q, tonic::Status>>>;

/// A stream: the body holds its requests one after the other, each answer is a line.
fn stream<Q, A, S>(
    server: &Server,
    method: method::Method,
    headers: &HeaderMap,
    body: &[u8],
    open: impl FnOnce(Door, Requests<Q>, bool, Ended) -> S,
) -> Response
where
    Q: DeserializeOwned,
    A: Serialize,
    S: Stream<Item = Result<A, tonic::Status>> + Send + 'static,
{
    let begin = || {
        let context = Context::of(headers)?;
        server.services.door.check_leader(&context)?;
        let requests: Result<Vec<Q>, _> = serde_json::Deserializer::from_slice(body)
            .into_iter()
            .collect();
        let requests =
            requests.map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))?;
        Ok((context, requests.into_iter().map(Ok).collect::<Vec<_>>()))
    };
    let (context, requests) = match begin() {
        Ok(begun) => begun,
        Err(status) => return refuse(&status),
    };
    server.services.metrics.started(method);
    let ended = Ended::new(server.services.metrics.clone(), method);
    let responses = open(
        server.services.door.clone(),
        futures_util::stream::iter(requests),
        context.require_leader,
        ended,
    );
    let lines = responses.map(|response| {
        let line = match &response {
            Ok(message) => serde_json::to_string(&Line::Result(message)),
            Err(status) => serde_json::to_string(&Line::<A>::Error(Refusal::of(status))),
        };
        line.map(|line| line + "\n")
    });
    answer(Body::from_stream(lines), None)
}

/// A line of a stream.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Line<'a, A> {
    Result(&'a A),
    Error(Refusal),
}

/// A refusal in JSON. Clients of different ages look at `error` or at `message`.
#[derive(Serialize)]
struct Refusal {
    error: String,
    code: i32,
    message: String,
}

impl Refusal {
    fn of(status: &tonic::Status) -> Refusal {
        Refusal {
            error: status.message().to_owned(),
            code: status.code() as i32,
            message: status.message().to_owned(),
        }
    }
}

fn answer(body: Body, stamp: Option<Stamp>) -> Response {
    let mut response = ([(header::CONTENT_TYPE, "application/json")], body).into_response();
    if let Some(stamp) = stamp.and_then(|stamp| HeaderValue::try_from(stamp.to_string()).ok()) {
        response.headers_mut().insert(STAMP_HEADER, stamp);
    }
    response
}

fn refuse(status: &Status) -> Response {
    (
        http_status(status.code),
        axum::Json(Refusal::of(&tonic_status(status))),
    )
        .into_response()
}

/// The HTTP status of a gRPC code, as the gateway of etcd maps it.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Canceled => StatusCode::from_u16(499).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
