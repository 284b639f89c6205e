//! Requests to calls: finds the call of a path, runs it within the client's deadline, and counts it.

use super::auth::Rule;
use super::body::{Body, BodyError};
use super::calls::{self, Form};
use super::context::Context;
use super::door::{Door, unavailable};
use super::keep_alive::{KeepAliveSession, renew_lease};
use super::method::{self, Method};
use super::stream::{Ended, Outgoing, context_deadline};
use super::watch::WatchSession;
use super::wire::{self, Intake};
use crate::http::metrics::Metrics;
use bytes::Bytes;
use etcd::{Code, Status};
use http::{Request, Response};
use hyper::body::Body as HttpBody;
use prost::Message;
use std::sync::Arc;
use std::time::Instant;
use tonic::Streaming;
use tonic_prost::ProstDecoder;

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
        let context = match Context::of(request.headers()) {
            Ok(context) => context.with_connection(request.extensions()),
            Err(status) => {
                let ended = Ended::begin(self.metrics.clone(), method);
                return wire::refuse(&ended.refused(status));
            }
        };
        match method {
            _ if method.kind == "bidi_stream" => self
                .stream(method, &context, request.into_body())
                .unwrap_or_else(|status| wire::refuse(&status)),
            _ => {
                let request = wire::read(request.into_body(), &self.intake);
                self.call(method, &context, Form::Proto, request)
                    .await
                    .unwrap_or_else(|status| wire::refuse(&status))
            }
        }
    }

    /// Runs a call of one request within its client's deadline, from the arrival of its request message on.
    pub async fn call(
        &self,
        method: Method,
        context: &Context,
        form: Form,
        request: impl Future<Output = Result<Bytes, Status>>,
    ) -> Result<Response<Body>, Status> {
        if !method.is_unary() {
            let ended = Ended::begin(self.metrics.clone(), method);
            let admitted = self.admit(method, context);
            if let Err(status) = admitted.and_then(|()| self.door.check_leader(context)) {
                return Err(ended.refused(status));
            }
            return match request.await {
                Ok(request) => calls::call_stream(&self.door, context, form, request, ended),
                Err(status) => Err(ended.refused(status)),
            };
        }
        self.unary(method, context, form, request).await
    }

    /// Refuses who may not call, and what the call could not be held to.
    pub fn admit(&self, method: Method, context: &Context) -> Result<(), Status> {
        context.envelope.check(method)?;
        self.door.admit(Rule::of(method), context)
    }

    async fn unary(
        &self,
        method: Method,
        context: &Context,
        form: Form,
        request: impl Future<Output = Result<Bytes, Status>>,
    ) -> Result<Response<Body>, Status> {
        self.metrics.started(method);
        let begun = Instant::now();
        let tracer = self.door.handle.tracer();
        let span = tracer.request(context.trace_parent);
        let within = span.map(|span| context.within(span.id));
        let context = within.as_ref().unwrap_or(context);
        let call = async {
            self.admit(method, context)?;
            calls::call(&self.door, context, method, form, request.await?).await
        };
        let outcome = match context.timeout {
            None => call.await,
            Some(timeout) => tokio::time::timeout(timeout, call)
                .await
                .unwrap_or_else(|_| Err(context_deadline())),
        };
        let code = outcome
            .as_ref()
            .map_or_else(|status| status.code as usize, |_| 0);
        self.metrics.handled(method, code, begun.elapsed());
        if let Some(span) = span {
            tracer.answered(span, method.path, code);
        }
        outcome
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
        let ended = Ended::begin(self.metrics.clone(), method);
        let admitted = self.door.admit(Rule::of(method), context);
        if let Err(status) = admitted.and_then(|()| self.door.check_leader(context)) {
            return Err(ended.refused(status));
        }
        let (door, context) = (self.door.clone(), context.clone());
        macro_rules! keep_alive {
            ($renew:expr) => {
                Outgoing::new(
                    KeepAliveSession::new(door, self.requests(body), context, ended, $renew)
                        .messages(),
                )
            };
        }
        let outgoing = match method {
            method::WATCH => Outgoing::new(
                WatchSession::new(door, self.requests(body), context, ended).messages(),
            ),
            method::LEASE_KEEP_ALIVE => keep_alive!(renew_lease),
            method::V1_LEASE_KEEP_ALIVE => keep_alive!(crate::native::renew_lease),
            method::V1_SESSION_KEEP_ALIVE => keep_alive!(crate::native::renew_session),
            other => return Err(ended.refused(unavailable(other.name))),
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
