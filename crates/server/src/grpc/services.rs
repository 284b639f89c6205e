//! Requests to calls: finds the call of a path, runs it within the client's deadline, and counts it.

use super::body::{Body, BodyError, Pieces};
use super::context::Context;
use super::door::{Answered, Door, Outcome, unavailable};
use super::keep_alive::KeepAliveSession;
use super::method::{self, Method};
use super::stream::{Ended, Outgoing};
use super::watch::WatchSession;
use super::wire::{self, Intake};
use crate::http::metrics::Metrics;
use bytes::{Bytes, BytesMut};
use etcd::{Code, RangeMessage, Status};
use http::{Request, Response};
use hyper::body::Body as HttpBody;
use prost::Message;
use std::sync::Arc;
use std::time::Instant;
use tonic::Streaming;
use tonic_prost::ProstDecoder;

/// Keys whose size is summed up in one go before others get their turn.
const MEASURE_KEYS: usize = 4096;

/// Answers up to this size are written in one go.
const WHOLE_BYTES_MAX: usize = 64 << 10;

/// The gRPC services. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Services {
    /// The calls.
    pub door: Door,
    /// Where they are counted.
    pub metrics: Arc<Metrics>,
    /// What requests are held to.
    pub intake: Intake,
}

impl Services {
    /// Serves one gRPC request.
    pub async fn serve<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BodyError> + Send,
    {
        let Some(method) = method::by_path(request.uri().path()) else {
            let text = format!("unknown service or method {}", request.uri().path());
            return wire::refuse(&Status::new(Code::Unimplemented, text));
        };
        self.metrics.started(method);
        let begun = Instant::now();
        let context = match Context::of(request.headers()) {
            Ok(context) => context,
            Err(status) => return self.finish(method, begun, Err(status)),
        };
        match method {
            method::WATCH | method::LEASE_KEEP_ALIVE => {
                match self.stream(method, &context, request.into_body()) {
                    Ok(response) => response,
                    Err(status) => self.finish(method, begun, Err(status)),
                }
            }
            _ => {
                let call = self.unary(method, &context, request.into_body());
                let outcome = match context.timeout {
                    None => call.await,
                    Some(timeout) => {
                        tokio::time::timeout(timeout, call)
                            .await
                            .unwrap_or_else(|_| {
                                Err(Status::new(
                                    Code::DeadlineExceeded,
                                    "context deadline exceeded",
                                ))
                            })
                    }
                };
                self.finish(method, begun, outcome)
            }
        }
    }

    fn finish(
        &self,
        method: Method,
        begun: Instant,
        outcome: Result<Response<Body>, Status>,
    ) -> Response<Body> {
        let code = outcome
            .as_ref()
            .map_or_else(|status| status.code as usize, |_| 0);
        self.metrics.handled(method, code, begun.elapsed());
        outcome.unwrap_or_else(|status| wire::refuse(&status))
    }

    async fn unary<B>(
        &self,
        method: Method,
        context: &Context,
        body: B,
    ) -> Result<Response<Body>, Status>
    where
        B: HttpBody<Data = Bytes> + Unpin,
    {
        let (door, intake) = (&self.door, &self.intake);
        // A call whose answer is small: the door's function of this name.
        macro_rules! whole {
            ($call:ident) => {
                whole(door.$call(context, wire::read(body, intake).await?).await)
            };
        }
        match method {
            method::RANGE => {
                range(
                    door,
                    door.range(context, wire::read(body, intake).await?).await?,
                )
                .await
            }
            method::PUT => whole!(put),
            method::DELETE_RANGE => whole!(delete_range),
            method::TXN => whole!(txn),
            method::COMPACT => whole!(compact),
            method::LEASE_GRANT => whole!(lease_grant),
            method::LEASE_REVOKE => whole!(lease_revoke),
            method::LEASE_TIME_TO_LIVE => whole!(lease_time_to_live),
            method::LEASE_LEASES => whole!(lease_leases),
            method::MEMBER_LIST => whole!(member_list),
            method::STATUS => whole!(status),
            method::HASH => whole!(hash),
            method::HASH_KV => whole!(hash_kv),
            method::ALARM => whole!(alarm),
            method::DEFRAGMENT => whole!(defragment),
            method::MOVE_LEADER => whole!(move_leader),
            other => Err(unavailable(other.name)),
        }
    }

    fn stream<B>(
        &self,
        method: Method,
        context: &Context,
        body: B,
    ) -> Result<Response<Body>, Status>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError> + Send,
    {
        self.door.check_leader(context)?;
        let (door, require_leader) = (self.door.clone(), context.require_leader);
        let ended = Ended::new(self.metrics.clone(), method);
        let outgoing = if method == method::WATCH {
            Outgoing::new(
                WatchSession::new(door, self.requests(body), require_leader, ended).messages(),
            )
        } else {
            Outgoing::new(
                KeepAliveSession::new(door, self.requests(body), require_leader, ended).messages(),
            )
        };
        Ok(wire::respond_body(Body::Stream(outgoing), None))
    }

    /// The requests of a stream.
    fn requests<M, B>(&self, body: B) -> Streaming<M>
    where
        M: Message + Default + 'static,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError> + Send,
    {
        Streaming::new_request(
            ProstDecoder::<M>::default(),
            body,
            None,
            Some(self.intake.bytes_max),
        )
    }
}

/// An answer in one piece.
fn whole<M: Message>(outcome: Outcome<M>) -> Result<Response<Body>, Status> {
    outcome.map(|answered| wire::respond(&answered.message, answered.stamp))
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
