//! The etcd API as JSON over HTTP: which path is which call, and how its requests arrive. Bodies need no content type.

use super::json;
use crate::grpc::auth::Rule;
use crate::grpc::body::Body;
use crate::grpc::calls::Form;
use crate::grpc::context::Context;
use crate::grpc::door::Door;
use crate::grpc::keep_alive::KeepAliveSession;
use crate::grpc::method::{self, Method};
use crate::grpc::services::Services;
use crate::grpc::stream::Ended;
use crate::grpc::watch::WatchSession;
use bytes::Bytes;
use etcd::{Code, Status};
use futures_util::Stream;
use http::{HeaderMap, HeaderName, Request, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What all paths begin with.
const PREFIX: &str = "/v3/";

/// Finds the call of a path.
fn by_path(path: &str) -> Option<Method> {
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
    path.starts_with(PREFIX)
}

/// Answers a request to a path of the gateway.
pub(crate) async fn serve(services: &Services, request: Request<Incoming>) -> Response<Body> {
    let Some(method) = by_path(request.uri().path()) else {
        return json::refuse(&Status::new(Code::NotFound, "Not Found"));
    };
    if request.method() != http::Method::POST {
        return json::refuse(&Status::new(Code::Unimplemented, "Method Not Allowed"));
    }
    let (parts, body) = request.into_parts();
    let answer = async {
        let context = context(&parts.headers)?;
        let body = read(services, body).await?;
        match method {
            method::WATCH => stream(
                services,
                method,
                &context,
                &body,
                |door, requests, context, ended| {
                    WatchSession::new(door, requests, context, ended).responses()
                },
            ),
            method::LEASE_KEEP_ALIVE => stream(
                services,
                method,
                &context,
                &body,
                |door, requests, context, ended| {
                    KeepAliveSession::new(door, requests, context, ended).responses()
                },
            ),
            _ => {
                let body = async { Ok(body) };
                services.call(method, &context, Form::Json, body).await
            }
        }
    };
    answer.await.unwrap_or_else(|status| json::refuse(&status))
}

/// What the headers say; those of a gRPC request come behind this prefix. Unlike gRPC's, a timeout that cannot be read is an error.
fn context(headers: &HeaderMap) -> Result<Context, Status> {
    let mut all = headers.clone();
    for (name, value) in headers {
        let name = name.as_str().strip_prefix("grpc-metadata-");
        if let Some(Ok(name)) = name.map(HeaderName::try_from) {
            all.insert(name, value.clone());
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
    // In base64 a value takes a third more.
    let bytes_max = services.intake.bytes_max / 3 * 4;
    match Limited::new(body, bytes_max).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Status::new(
            Code::ResourceExhausted,
            format!("grpc: received message larger than max ({bytes_max})"),
        )),
        Err(_) => Err(Status::CANCELED),
    }
}

type Requests<Q> = futures_util::stream::Iter<std::vec::IntoIter<Result<Q, tonic::Status>>>;

/// A stream: the body holds its requests one after the other, each answer is a line.
fn stream<Q, A, S>(
    services: &Services,
    method: Method,
    context: &Context,
    body: &[u8],
    open: impl FnOnce(Door, Requests<Q>, Context, Ended) -> S,
) -> Result<Response<Body>, Status>
where
    Q: DeserializeOwned,
    A: Serialize,
    S: Stream<Item = Result<A, tonic::Status>> + Send + 'static,
{
    services.door.admit(Rule::of(method), context)?;
    services.door.check_leader(context)?;
    let requests = json::parse_all(body)?
        .into_iter()
        .map(Ok)
        .collect::<Vec<_>>();
    Ok(json::respond_stream(open(
        services.door.clone(),
        futures_util::stream::iter(requests),
        context.clone(),
        Ended::begin(services.metrics.clone(), method),
    )))
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
