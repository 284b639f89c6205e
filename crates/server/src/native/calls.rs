//! The table of the native API's calls, each written down once for gRPC and JSON.

use super::{Native, random_id};
use crate::grpc::body::Body;
use crate::grpc::calls::Form;
use crate::grpc::context::Context;
use crate::grpc::door::{Door, random_lease_id, unavailable};
use crate::grpc::method::{self, Method};
use crate::grpc::stream::Ended;
use bytes::Bytes;
use etcd::Status;
use http::Response;
use native::advised;

/// Answers a unary call, whose request message is given.
pub(crate) async fn call(
    door: &Door,
    context: &Context,
    method: Method,
    form: Form,
    request: Bytes,
) -> Result<Response<Body>, Status> {
    let native = Native { door, context };
    let answer = native.call(method, form, request).await;
    answer.map_err(advised)
}

/// Answers a call of one request and many answers.
pub(crate) fn call_stream(
    door: &Door,
    context: &Context,
    form: Form,
    request: Bytes,
    ended: Ended,
) -> Result<Response<Body>, Status> {
    let native = Native { door, context };
    macro_rules! stream {
        ($call:ident) => {
            match form.read(request) {
                Ok(request) => {
                    let answers = ended.noting(native.$call(request), context.timeout);
                    Ok(form.write_stream(answers))
                }
                Err(status) => Err(ended.refused(advised(status))),
            }
        };
    }
    match ended.method() {
        method::V1_WATCH_WATCH => stream!(watch),
        method::V1_LOCK_OBSERVE => stream!(observe),
        method::V1_ELECTION_OBSERVE => stream!(observe_leader),
        method::V1_GROUP_OBSERVE => stream!(observe_group),
        other => Err(ended.refused(unavailable(other.name))),
    }
}

impl Native<'_> {
    async fn call(
        &self,
        method: Method,
        form: Form,
        request: Bytes,
    ) -> Result<Response<Body>, Status> {
        // What a request becomes is the door's function of this name.
        macro_rules! change {
            ($make:ident) => {
                form.write(self.change(native::$make(form.read(request)?)?).await?)
            };
        }
        macro_rules! ask {
            ($make:ident) => {
                form.write(self.ask(native::$make(form.read(request)?)?).await?)
            };
        }
        // More than one step: a function of ours.
        macro_rules! whole {
            ($call:ident) => {
                form.write(self.$call(form.read(request)?).await?)
            };
        }
        match method {
            method::V1_KV_PUT => change!(put),
            method::V1_KV_GET => ask!(get),
            method::V1_KV_RANGE => ask!(range),
            method::V1_KV_DELETE => change!(delete),
            method::V1_KV_TXN => whole!(txn),
            method::V1_SESSION_OPEN => whole!(open_session),
            method::V1_SESSION_REFRESH => whole!(refresh_session),
            method::V1_SESSION_CLOSE => change!(session_revoke),
            method::V1_LOCK_ACQUIRE => whole!(acquire),
            method::V1_LOCK_RELEASE => change!(release),
            // On the heap: the largest of these would be moved about with every request.
            rare => Box::pin(self.call_rare(rare, form, request)).await,
        }
    }

    /// The calls that are not made all the time.
    async fn call_rare(
        &self,
        method: Method,
        form: Form,
        request: Bytes,
    ) -> Result<Response<Body>, Status> {
        // What a request becomes is the door's function of this name.
        macro_rules! change {
            ($make:ident) => {
                form.write(self.change(native::$make(form.read(request)?)?).await?)
            };
            ($make:ident, $chosen:expr) => {{
                let change = native::$make(form.read(request)?, $chosen)?;
                form.write(self.change(change).await?)
            }};
        }
        macro_rules! ask {
            ($make:ident) => {
                form.write(self.ask(native::$make(form.read(request)?)?).await?)
            };
        }
        // More than one step: a function of ours.
        macro_rules! whole {
            ($call:ident) => {
                form.write(self.$call(form.read(request)?).await?)
            };
        }
        match method {
            method::V1_LEASE_GRANT => change!(grant, random_lease_id()?),
            method::V1_LEASE_REVOKE => change!(revoke),
            method::V1_LEASE_REFRESH => whole!(refresh),
            method::V1_LEASE_REGISTER => whole!(register),
            method::V1_LEASE_GET => whole!(get_lease),
            method::V1_LEASE_LIST => ask!(leases),
            method::V1_SESSION_LIST => ask!(sessions),
            method::V1_LOCK_FORCE_RELEASE => change!(force_release),
            method::V1_LOCK_SET_TEXT => change!(set_text),
            method::V1_LOCK_LIST => ask!(list_locks),
            method::V1_LOCK_SHOW => ask!(show),
            method::V1_LOCK_FIND => ask!(find),
            method::V1_LOCK_CHECK => whole!(check),
            method::V1_LOCK_SIGN => whole!(sign),
            method::V1_LOCK_KEYS => whole!(keys),
            method::V1_LOCK_ROTATE_KEY => whole!(rotate_key),
            method::V1_LOCK_DROP_KEY => whole!(drop_key),
            method::V1_ELECTION_CAMPAIGN => whole!(campaign),
            method::V1_ELECTION_PROCLAIM => change!(proclaim),
            method::V1_ELECTION_RESIGN => change!(resign),
            method::V1_ELECTION_LEADER => ask!(leader),
            method::V1_SEMAPHORE_ACQUIRE => change!(acquire_permits, random_id()?),
            method::V1_SEMAPHORE_RELEASE | method::V1_BARRIER_CANCEL => change!(release),
            method::V1_SEMAPHORE_SHOW | method::V1_BARRIER_SHOW => ask!(show),
            method::V1_BARRIER_ENTER => change!(enter, random_id()?),
            method::V1_BARRIER_LEAVE => change!(leave),
            method::V1_LATCH_SET => change!(set_latch),
            method::V1_LATCH_COUNT_DOWN => change!(count_down),
            method::V1_LATCH_WAIT => change!(wait_latch, random_id()?),
            method::V1_LATCH_GET => ask!(get_latch),
            method::V1_GROUP_JOIN => change!(join, random_id()?),
            method::V1_GROUP_UPDATE => change!(update_member),
            method::V1_GROUP_LEAVE => change!(group_leave),
            method::V1_GROUP_LIST => ask!(group),
            method::V1_ID_NEXT => whole!(next_ids),
            method::V1_ID_UUID => whole!(uuids),
            method::V1_ID_DECODE => whole!(decode),
            method::V1_ID_WORKER => change!(worker),
            method::V1_ID_SEGMENT => change!(segment),
            method::V1_ID_ADD => change!(add),
            other => Err(unavailable(other.name)),
        }
    }
}
