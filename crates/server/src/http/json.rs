//! Messages of the etcd API as JSON: original field names, 64-bit numbers as strings, bytes in base64, defaults left out. What comes in is read by `etcd::json`.

use crate::grpc::advice;
use crate::grpc::body::Body;
use crate::grpc::context::{STAMP_HEADER, stamp_value};
use crate::grpc::door::{Answered, Door};
use bytes::{Buf, Bytes};
use etcd::{Code, Status};
use futures_util::{Stream, StreamExt};
use http::{HeaderValue, Response, StatusCode, header};
use prost::{Message, Name};
use replica::Stamp;
use serde::Serialize;
use state::RangeReply;

/// Keys whose size is summed up in one go before others get their turn.
const MEASURE_KEYS: usize = 4096;

/// Keys written in one go.
const PIECE_KEYS: usize = 256;

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/json");

/// What etcd's gateway passes on of the headers below it; clients have come to see it.
const INNER_CONTENT_TYPE: &str = "grpc-metadata-content-type";

/// Reads a message; an empty body is an empty message, and what follows the message is nobody's business.
///
/// # Errors
/// It is no such message.
pub(crate) fn parse<M: Message + Name + Default>(body: &[u8]) -> Result<M, Status> {
    let read = etcd::json::read(body).map_err(malformed)?;
    Ok(read.map_or_else(M::default, |(message, _)| message))
}

/// Reads the messages of a stream, which follow each other; what is no such message is the last one.
pub(crate) fn parse_all<M: Message + Name + Default>(
    mut body: Bytes,
) -> impl Iterator<Item = Result<M, Status>> {
    std::iter::from_fn(move || match etcd::json::read(&body) {
        Ok(None) => None,
        Ok(Some((message, bytes))) => {
            body.advance(bytes);
            Some(Ok(message))
        }
        Err(text) => {
            body.clear();
            Some(Err(malformed(text)))
        }
    })
}

fn malformed(text: String) -> Status {
    Status::new(Code::InvalidArgument, text)
}

/// Answers with a message.
///
/// # Errors
/// It cannot be written.
pub(crate) fn respond(
    message: &impl Serialize,
    stamp: Option<Stamp>,
) -> Result<Response<Body>, Status> {
    let json = serde_json::to_vec(message)
        .map_err(|error| Status::new(Code::Internal, error.to_string()))?;
    Ok(respond_body(axum::body::Body::from(json), stamp))
}

fn respond_body(body: axum::body::Body, stamp: Option<Stamp>) -> Response<Body> {
    let mut response = Response::new(Body::Page(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, CONTENT_TYPE);
    headers.insert(
        INNER_CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    if let Some(stamp) = stamp {
        headers.insert(&STAMP_HEADER, stamp_value(stamp));
    }
    response
}

/// Answers with the messages of a stream, a line for each.
pub(crate) fn respond_stream<M: Serialize>(
    messages: impl Stream<Item = Result<M, tonic::Status>> + Send + 'static,
) -> Response<Body> {
    let lines = messages.map(|message| {
        let line = match &message {
            Ok(message) => serde_json::to_string(&Line::Result(message)),
            Err(status) => {
                let metadata = |name| status.metadata().get(name)?.to_str().ok();
                serde_json::to_string(&Line::<M>::Error(Refusal {
                    error: status.message(),
                    code: status.code() as i32,
                    message: status.message(),
                    reason: metadata(advice::REASON),
                    class: metadata(advice::CLASS),
                    retry_after_ms: metadata(advice::RETRY_AFTER).and_then(|ms| ms.parse().ok()),
                }))
            }
        };
        line.map(|line| line + "\n")
    });
    respond_body(axum::body::Body::from_stream(lines), None)
}

/// A line of a stream.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Line<'a, M> {
    Result(&'a M),
    Error(Refusal<'a>),
}

/// A refusal in JSON. Clients of different ages look at `error` or at `message`.
#[derive(Serialize)]
struct Refusal<'a> {
    error: &'a str,
    code: i32,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

/// Refuses.
pub(crate) fn refuse(status: &Status) -> Response<Body> {
    let refusal = Refusal {
        error: &status.text,
        code: status.code as i32,
        message: &status.text,
        reason: status.advice.map(|advice| advice.reason),
        class: status.advice.map(|advice| advice.class.word()),
        retry_after_ms: status
            .advice
            .map(|advice| advice.retry_after_ms)
            .filter(|&ms| ms > 0),
    };
    let json = serde_json::to_vec(&refusal).expect("texts and a number can be written");
    let mut response = Response::new(Body::Page(json.into()));
    *response.status_mut() = http_status(status.code);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, CONTENT_TYPE);
    response
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
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Canceled => StatusCode::from_u16(499).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Answers with a range, written while the client reads: a million keys at once would hold up everybody else.
pub(crate) async fn range(
    door: &Door,
    answered: Answered<(etcd::Header, RangeReply)>,
) -> Response<Body> {
    let (header, reply) = answered.message;
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
    respond_body(axum::body::Body::from_stream(pieces), answered.stamp)
}

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
