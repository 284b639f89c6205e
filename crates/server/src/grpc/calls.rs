//! The unary calls, each written down once for both of its forms: gRPC's messages and the gateway's JSON.

use super::body::{Body, Pieces};
use super::context::Context;
use super::door::{Answered, Door, unavailable};
use super::method::{self, Method};
use super::stream::{Ended, Message as Outbound, Outgoing};
use super::wire;
use crate::http::json;
use bytes::{Bytes, BytesMut};
use etcd::{Code, RangeMessage, Status};
use futures_util::{Stream, StreamExt};
use http::Response;
use prost::{Message, Name};
use serde::Serialize;

/// Keys whose size is summed up in one go before others get their turn.
const MEASURE_KEYS: usize = 4096;

/// Answers up to this size are written in one go.
const WHOLE_BYTES_MAX: usize = 64 << 10;

/// How the messages of a call are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As gRPC does.
    Proto,
    /// As the JSON gateway does.
    Json,
}

/// Answers a unary call, whose request message is given.
pub(crate) async fn call(
    door: &Door,
    context: &Context,
    method: Method,
    form: Form,
    request: Bytes,
) -> Result<Response<Body>, Status> {
    // A call whose answer is small: the door's function of this name.
    macro_rules! whole {
        ($call:ident) => {
            form.write(door.$call(context, form.read(request)?).await?)
        };
    }
    match method {
        method::RANGE => {
            let answered = door.range(context, form.read(request)?).await?;
            form.write_range(door, answered).await
        }
        method::PUT => whole!(put),
        method::DELETE_RANGE => whole!(delete_range),
        method::TXN => whole!(txn),
        method::LEASE_GRANT => whole!(lease_grant),
        method::LEASE_REVOKE => whole!(lease_revoke),
        method::LOCK => whole!(lock),
        method::UNLOCK => whole!(unlock),
        native if native.is_native() => {
            crate::native::call(door, context, native, form, request).await
        }
        // On the heap: the largest of these would be moved about with every request.
        rare => Box::pin(call_rare(door, context, rare, form, request)).await,
    }
}

/// The calls that are not made all the time.
async fn call_rare(
    door: &Door,
    context: &Context,
    method: Method,
    form: Form,
    request: Bytes,
) -> Result<Response<Body>, Status> {
    macro_rules! whole {
        ($call:ident) => {
            form.write(door.$call(context, form.read(request)?).await?)
        };
    }
    match method {
        method::COMPACT => whole!(compact),
        method::LEASE_TIME_TO_LIVE => whole!(lease_time_to_live),
        method::LEASE_LEASES => whole!(lease_leases),
        method::MEMBER_LIST => whole!(member_list),
        method::MEMBER_ADD => whole!(member_add),
        method::MEMBER_REMOVE => whole!(member_remove),
        method::MEMBER_UPDATE => whole!(member_update),
        method::MEMBER_PROMOTE => whole!(member_promote),
        method::LIST_MEMBERS => whole!(list_members),
        method::CHANGE_MEMBERS => whole!(change_members),
        method::EXAMINE => whole!(examine),
        method::STATUS => whole!(status),
        method::HASH => whole!(hash),
        method::HASH_KV => whole!(hash_kv),
        method::ALARM => whole!(alarm),
        method::DEFRAGMENT => whole!(defragment),
        method::MOVE_LEADER => whole!(move_leader),
        method::DOWNGRADE => whole!(downgrade),
        method::CAMPAIGN => whole!(campaign),
        method::PROCLAIM => whole!(proclaim),
        method::LEADER => whole!(leader),
        method::RESIGN => whole!(resign),
        method::AUTH_ENABLE => whole!(auth_enable),
        method::AUTH_DISABLE => whole!(auth_disable),
        method::AUTH_STATUS => whole!(auth_status),
        method::AUTHENTICATE => whole!(authenticate),
        method::USER_ADD => whole!(user_add),
        method::USER_GET => whole!(user_get),
        method::USER_LIST => whole!(user_list),
        method::USER_DELETE => whole!(user_delete),
        method::USER_CHANGE_PASSWORD => whole!(user_change_password),
        method::USER_GRANT_ROLE => whole!(user_grant_role),
        method::USER_REVOKE_ROLE => whole!(user_revoke_role),
        method::ROLE_ADD => whole!(role_add),
        method::ROLE_GET => whole!(role_get),
        method::ROLE_LIST => whole!(role_list),
        method::ROLE_DELETE => whole!(role_delete),
        method::ROLE_GRANT_PERMISSION => whole!(role_grant_permission),
        method::ROLE_REVOKE_PERMISSION => whole!(role_revoke_permission),
        other => Err(unavailable(other.name)),
    }
}

/// Answers a call of one request and many answers.
pub(crate) fn call_stream(
    door: &Door,
    context: &Context,
    form: Form,
    request: Bytes,
    ended: Ended,
) -> Result<Response<Body>, Status> {
    macro_rules! stream {
        ($call:ident) => {
            match form.read(request) {
                Ok(request) => {
                    let answers = door.$call(context, request);
                    Ok(form.write_stream(ended.noting(answers, context.timeout)))
                }
                Err(status) => Err(ended.refused(status)),
            }
        };
    }
    match ended.method() {
        method::RANGE_STREAM => stream!(range_stream),
        method::OBSERVE => stream!(observe),
        method::SNAPSHOT => stream!(snapshot),
        method::SAVE => stream!(save),
        native if native.is_native() => {
            crate::native::call_stream(door, context, form, request, ended)
        }
        other => Err(ended.refused(unavailable(other.name))),
    }
}

impl Form {
    /// Reads a request.
    pub fn read<M: Message + Default + Name>(self, request: Bytes) -> Result<M, Status> {
        match self {
            Form::Proto => M::decode(request).map_err(|error| {
                Status::new(
                    Code::Internal,
                    format!("grpc: error unmarshalling request: {error}"),
                )
            }),
            Form::Json => json::parse(&request),
        }
    }

    /// Writes an answer.
    pub fn write<M: Message + Serialize>(
        self,
        answered: Answered<M>,
    ) -> Result<Response<Body>, Status> {
        match self {
            Form::Proto => Ok(wire::respond(&answered.message, answered.stamp)),
            Form::Json => json::respond(&answered.message, answered.stamp),
        }
    }

    /// Writes the answers of a stream.
    pub fn write_stream<M: Message + Serialize>(
        self,
        answers: impl Stream<Item = Result<M, tonic::Status>> + Send + 'static,
    ) -> Response<Body> {
        match self {
            Form::Proto => {
                let messages = answers.map(|answer| answer.map(|answer| Outbound::whole(&answer)));
                wire::respond_body(Body::Stream(Outgoing::new(messages)), None)
            }
            Form::Json => json::respond_stream(answers),
        }
    }

    async fn write_range(
        self,
        door: &Door,
        answered: Answered<(etcd::Header, state::RangeReply)>,
    ) -> Result<Response<Body>, Status> {
        match self {
            Form::Proto => range(door, answered).await,
            Form::Json => Ok(json::range(door, answered).await),
        }
    }
}

/// A range's answer: in one piece if it is small, otherwise as the client reads it.
async fn range(
    door: &Door,
    answered: Answered<(etcd::Header, state::RangeReply)>,
) -> Result<Response<Body>, Status> {
    let (header, reply) = answered.message;
    let mut message = RangeMessage::new(header, reply);
    while message.measure(MEASURE_KEYS) {
        tokio::task::yield_now().await;
    }
    let bytes = message.bytes();
    if bytes > u32::MAX as usize {
        return Err(Status::new(
            Code::ResourceExhausted,
            format!(
                "grpc: trying to send message larger than max ({bytes} vs. {})",
                u32::MAX
            ),
        ));
    }
    let body = if bytes > WHOLE_BYTES_MAX {
        Body::Range(Pieces::new(message, door.waiting.hold(bytes)))
    } else {
        let mut buffer = BytesMut::with_capacity(wire::PREFIX_BYTES + bytes);
        buffer.extend_from_slice(&wire::prefix(bytes));
        while message.write_piece(&mut buffer, WHOLE_BYTES_MAX) {}
        Body::Message(buffer.freeze())
    };
    Ok(wire::respond_body(body, answered.stamp))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::etcdserverpb::PutRequest;

    #[test]
    fn garbage_is_refused_in_either_form() {
        let code = |form: Form, bytes| form.read::<PutRequest>(bytes).unwrap_err().code;
        let garbage = Bytes::from_static(&[0xff; 20]);
        assert_eq!(code(Form::Proto, garbage.clone()), Code::Internal);
        assert_eq!(code(Form::Json, garbage), Code::InvalidArgument);
    }
}
