//! The etcd API as JSON over HTTP: which path is which call, and how its requests arrive. Bodies need no content type.

use super::json;
use crate::grpc::body::Body;
use crate::grpc::calls::Form;
use crate::grpc::context::Context;
use crate::grpc::door::Door;
use crate::grpc::envelope::GUARD_HEADER;
use crate::grpc::keep_alive::{KeepAliveSession, Renew, renew_lease};
use crate::grpc::method::{self, Method};
use crate::grpc::services::Services;
use crate::grpc::stream::{Ended, tonic_status};
use crate::grpc::watch::WatchSession;
use bytes::Bytes;
use etcd::{Code, Status};
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, HeaderName, Request, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use prost::{Message, Name};
use proto::etcdserverpb::WatchRequest;
use serde::Serialize;

/// What all paths of the etcd API begin with.
const PREFIX: &str = "/v3/";

/// What all paths of the native API begin with; `service/call` follows.
pub(crate) const NATIVE_PREFIX: &str = "/synod/v1/";

/// Finds the call of a path.
fn by_path(path: &str) -> Option<Method> {
    if let Some(path) = path.strip_prefix(NATIVE_PREFIX) {
        return method::by_native_path(path);
    }
    let method = match path.strip_prefix(PREFIX)? {
        "kv/range" => method::RANGE,
        "kv/put" => method::PUT,
        "kv/deleterange" => method::DELETE_RANGE,
        "kv/txn" => method::TXN,
        "kv/compaction" => method::COMPACT,
        "watch" => method::WATCH,
        "lease/grant" => method::LEASE_GRANT,
        "lease/keepalive" => method::LEASE_KEEP_ALIVE,
        "lease/revoke" | "kv/lease/revoke" => method::LEASE_REVOKE,
        "lease/timetolive" | "kv/lease/timetolive" => method::LEASE_TIME_TO_LIVE,
        "lease/leases" | "kv/lease/leases" => method::LEASE_LEASES,
        "cluster/member/list" => method::MEMBER_LIST,
        "cluster/member/add" => method::MEMBER_ADD,
        "cluster/member/remove" => method::MEMBER_REMOVE,
        "cluster/member/update" => method::MEMBER_UPDATE,
        "cluster/member/promote" => method::MEMBER_PROMOTE,
        "maintenance/alarm" => method::ALARM,
        "maintenance/status" => method::STATUS,
        "maintenance/defragment" => method::DEFRAGMENT,
        "maintenance/hash" => method::HASH,
        "maintenance/hashkv" => method::HASH_KV,
        "maintenance/snapshot" => method::SNAPSHOT,
        "maintenance/transfer-leadership" => method::MOVE_LEADER,
        "maintenance/downgrade" => method::DOWNGRADE,
        "auth/enable" => method::AUTH_ENABLE,
        "auth/disable" => method::AUTH_DISABLE,
        "auth/status" => method::AUTH_STATUS,
        "auth/authenticate" => method::AUTHENTICATE,
        "auth/user/add" => method::USER_ADD,
        "auth/user/get" => method::USER_GET,
        "auth/user/list" => method::USER_LIST,
        "auth/user/delete" => method::USER_DELETE,
        "auth/user/changepw" => method::USER_CHANGE_PASSWORD,
        "auth/user/grant" => method::USER_GRANT_ROLE,
        "auth/user/revoke" => method::USER_REVOKE_ROLE,
        "auth/role/add" => method::ROLE_ADD,
        "auth/role/get" => method::ROLE_GET,
        "auth/role/list" => method::ROLE_LIST,
        "auth/role/delete" => method::ROLE_DELETE,
        "auth/role/grant" => method::ROLE_GRANT_PERMISSION,
        "auth/role/revoke" => method::ROLE_REVOKE_PERMISSION,
        "election/campaign" => method::CAMPAIGN,
        "election/proclaim" => method::PROCLAIM,
        "election/leader" => method::LEADER,
        "election/observe" => method::OBSERVE,
        "election/resign" => method::RESIGN,
        "lock/lock" => method::LOCK,
        "lock/unlock" => method::UNLOCK,
        _ => return None,
    };
    Some(method)
}

/// The path is one of the gateway's, known or not.
pub(crate) fn is_gateway(path: &str) -> bool {
    let native = path.strip_prefix(NATIVE_PREFIX);
    path.starts_with(PREFIX) || native.is_some_and(|rest| rest.contains('/'))
}

/// A call whose requests are a stream of these; any other is answered otherwise.
macro_rules! both_ways {
    ($services:expr, $method:expr, $context:expr, $requests:expr, $otherwise:block) => {
        match $method {
            method::WATCH => watch($services, $context, $requests),
            method::LEASE_KEEP_ALIVE => {
                keep_alive($services, $method, $context, $requests, renew_lease)
            }
            method::V1_LEASE_KEEP_ALIVE => {
                let renew = crate::native::renew_lease;
                keep_alive($services, $method, $context, $requests, renew)
            }
            method::V1_SESSION_KEEP_ALIVE => {
                let renew = crate::native::renew_session;
                keep_alive($services, $method, $context, $requests, renew)
            }
            _ => $otherwise,
        }
    };
}

/// Answers a request to a path of the gateway.
pub(crate) async fn serve(services: &Services, request: Request<Incoming>) -> Response<Body> {
    let Some(method) = by_path(request.uri().path()) else {
        return json::refuse(&Status::new(Code::NotFound, "Not Found"));
    };
    let reads = method.may_be_got() && request.method() == http::Method::GET;
    if !reads && request.method() != http::Method::POST {
        return json::refuse(&Status::new(Code::Unimplemented, "Method Not Allowed"));
    }
    let (parts, body) = request.into_parts();
    let answer = async {
        let context = context(&parts.headers)?;
        let body = read(services, body).await?;
        // The body holds the requests of a stream one after the other.
        both_ways!(services, method, &context, known(json::parse_all(body))?, {
            let body = async { Ok(body) };
            services.call(method, &context, Form::Json, body).await
        })
    };
    answer.await.unwrap_or_else(|status| json::refuse(&status))
}

/// Answers a call whose requests come one by one.
pub(crate) async fn converse(
    services: &Services,
    path: &str,
    headers: &HeaderMap,
    mut requests: impl Stream<Item = Bytes> + Unpin + Send + 'static,
) -> Response<Body> {
    let Some(method) = by_path(path) else {
        return json::refuse(&Status::new(Code::NotFound, "Not Found"));
    };
    let answer = async {
        let context = context(headers)?;
        both_ways!(services, method, &context, parsed(requests), {
            let request = async { requests.next().await.ok_or(Status::CANCELED) };
            services.call(method, &context, Form::Json, request).await
        })
    };
    answer.await.unwrap_or_else(|status| json::refuse(&status))
}

/// Bytes of a request at most: in base64 a value takes a third more.
pub(crate) fn body_bytes_max(services: &Services) -> usize {
    services.intake.bytes_max / 3 * 4
}

/// What the headers say; those of a gRPC request come behind this prefix. Unlike gRPC's, a timeout that cannot be read is an error.
fn context(headers: &HeaderMap) -> Result<Context, Status> {
    let mut all = headers.clone();
    for (name, value) in headers {
        let name = name.as_str().strip_prefix("grpc-metadata-");
        if let Some(Ok(name)) = name.map(HeaderName::try_from) {
            // Of guards there may be several.
            if name == GUARD_HEADER {
                all.append(name, value.clone());
            } else {
                all.insert(name, value.clone());
            }
        }
    }
    let context = Context::of(&all)?;
    match headers.get("grpc-timeout") {
        Some(timeout) if context.timeout.is_none() => Err(Status::new(
            Code::InvalidArgument,
            format!("invalid grpc-timeout: {}", timeout.to_str().unwrap_or("?")),
        )),
        _ => Ok(context),
    }
}

async fn read(services: &Services, body: Incoming) -> Result<Bytes, Status> {
    let bytes_max = body_bytes_max(services);
    match Limited::new(body, bytes_max).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Status::new(
            Code::ResourceExhausted,
            format!("grpc: received message larger than max ({bytes_max})"),
        )),
        Err(_) => Err(Status::CANCELED),
    }
}

/// The requests of a stream that are there already. If not even the first one can be read there is no stream.
///
/// # Errors
/// It cannot be read.
fn known<Q: Send + 'static>(
    requests: impl Iterator<Item = Result<Q, Status>> + Send + 'static,
) -> Result<impl Stream<Item = Result<Q, tonic::Status>> + Unpin + Send + 'static, Status> {
    let mut requests = requests.peekable();
    if let Some(Err(status)) = requests.next_if(Result::is_err) {
        return Err(status);
    }
    let requests = requests.map(|request| request.map_err(|status| tonic_status(&status)));
    Ok(stream::iter(requests))
}

/// The requests of a stream, as their bytes come. One that cannot be read ends it.
fn parsed<Q: Message + Name + Default + 'static>(
    bodies: impl Stream<Item = Bytes> + Unpin + Send + 'static,
) -> impl Stream<Item = Result<Q, tonic::Status>> + Unpin + Send + 'static {
    bodies.flat_map(|body| {
        let requests = json::parse_all(body);
        stream::iter(requests.map(|request| request.map_err(|status| tonic_status(&status))))
    })
}

fn watch(
    services: &Services,
    context: &Context,
    requests: impl Stream<Item = Result<WatchRequest, tonic::Status>> + Unpin + Send + 'static,
) -> Result<Response<Body>, Status> {
    let (door, context, ended) = open(services, method::WATCH, context)?;
    let session = WatchSession::new(door, requests, context, ended);
    Ok(json::respond_stream(session.responses()))
}

fn keep_alive<Q, A>(
    services: &Services,
    method: Method,
    context: &Context,
    requests: impl Stream<Item = Result<Q, tonic::Status>> + Unpin + Send + 'static,
    renew: Renew<Q, A>,
) -> Result<Response<Body>, Status>
where
    Q: Send + 'static,
    A: prost::Message + Serialize + 'static,
{
    let (door, context, ended) = open(services, method, context)?;
    let session = KeepAliveSession::new(door, requests, context, ended, renew);
    Ok(json::respond_stream(session.responses()))
}

/// What a stream begins with, if it may.
fn open(
    services: &Services,
    method: Method,
    context: &Context,
) -> Result<(Door, Context, Ended), Status> {
    services.admit(method, context)?;
    services.door.check_leader(context)?;
    let ended = Ended::begin(services.metrics.clone(), method);
    Ok((services.door.clone(), context.clone(), ended))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn headers_of_grpc_come_behind_a_prefix() {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-metadata-hasleader", HeaderValue::from_static("true"));
        assert!(context(&headers).unwrap().require_leader);
        headers.insert("grpc-metadata-", HeaderValue::from_static("no name"));
        assert!(context(&headers).unwrap().require_leader);
        headers.clear();
        assert!(!context(&headers).unwrap().require_leader);
    }
}
