//! The client port: gRPC, its JSON form and the operators' pages, over HTTP/1 and HTTP/2 on one listener.

mod authority;
mod counted;
mod crowd;
mod entrance;
mod gateway;
mod health;
pub(crate) mod json;
mod member_metrics;
pub(crate) mod metrics;
mod origins;
mod pages;
mod socket;
mod websocket;

use crate::Handle;
use crate::auth::Authenticator;
use crate::examine::Examiner;
use crate::grpc::body::Body;
use crate::grpc::door::{Door, StreamFate};
use crate::grpc::services::Services;
use crate::grpc::waiting::Waiting;
use crate::grpc::wire::Intake;
use crate::grpc::{queue, snapshot};
use crate::tls::{Admission, Admitted, answer_mismatched};
use authority::AnyAuthority;
use axum::Router;
use counted::Counted;
use crowd::{Crowd, Place};
pub(crate) use entrance::Entrance;
use entrance::Entrances;
use http::{Method, Request, Response, Uri, Version, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use metrics::Metrics;
pub(crate) use origins::Origins;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket::Upgrade;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt;

/// Bytes a client may send ahead, per stream and per connection.
const WINDOW_BYTES: u32 = 1 << 20;

/// How often a silent client is asked whether it is still there, and how long it may take to say so.
const PING_INTERVAL: Duration = Duration::from_secs(300);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How often the member is asked whether it knows a leader.
const LEADER_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Checks without a leader in a row after which streams that insist on one end; etcd waits three election time-outs as well.
const LEADERLESS_CHECKS: u32 = 6;

/// How long connections may take to end when the server stops.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause after a failed accept, which mostly means that there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all connections share.
pub(crate) struct Server {
    /// The calls.
    pub services: Services,
    pages: Router,
    limits: Limits,
    origins: Origins,
}

/// What clients are held to.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one change at most.
    pub request_bytes_max: usize,
    /// Comparisons or operations in one list of a transaction at most.
    pub txn_operations_max: usize,
    /// Calls and streams under way on one connection at most; clients queue the rest.
    pub concurrent_streams_max: u32,
    /// Connections at most.
    pub connections_max: usize,
}

/// Serves clients at these entrances until `shutdown`, then lets calls under way end.
pub(crate) async fn serve(
    entrances: Vec<Entrance>,
    handle: Handle,
    users: Arc<Authenticator>,
    examiner: Examiner,
    limits: Limits,
    origins: Origins,
    shutdown: impl Future<Output = ()>,
) {
    raise_open_files();
    let metrics = Arc::new(Metrics::new());
    let (fate, streams) = watch::channel(StreamFate::Open);
    let services = Services {
        door: Door {
            handle: handle.clone(),
            fate: streams.clone(),
            txn_operations_max: limits.txn_operations_max,
            waiting: Waiting::default(),
            queueing: Arc::new(Semaphore::new(queue::WAITERS_MAX)),
            users,
            exports: Arc::new(Semaphore::new(snapshot::EXPORTS_MAX)),
            examiner: Arc::new(examiner),
            issuers: Arc::default(),
        },
        metrics,
        intake: Intake {
            bytes_max: limits.request_bytes_max + etcd::MESSAGE_OVERHEAD_BYTES,
            arriving: Waiting::default(),
        },
    };
    let bare = Arc::new(Server {
        services: services.clone(),
        pages: Router::new(),
        limits,
        origins: origins.clone(),
    });
    let pages = pages::router()
        .merge(health::router())
        .fallback(pages::not_found)
        .with_state(bare);
    let server = Arc::new(Server {
        services,
        pages,
        limits,
        origins,
    });

    let mut entrances = Entrances::new(entrances);
    let mut connections = JoinSet::new();
    let mut crowd = Crowd::new(limits.connections_max);
    let mut leader_check = tokio::time::interval(LEADER_CHECK_INTERVAL);
    let mut leadership = Leadership::default();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = entrances.accept() => match accepted {
                Ok((stream, entrance)) => {
                    if let Some(place) = crowd.place(connections.len(), handle.metrics()) {
                        let place = entrance.narrow(place);
                        connections.spawn(connection(server.clone(), entrance.admission(), place, stream, streams.clone()));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            _ = leader_check.tick() => leadership.check(&handle, &fate),
        }
    }
    drop(entrances);
    fate.send_replace(StreamFate::Stopping);
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, async {
        while connections.join_next().await.is_some() {}
    })
    .await;
}

/// Lets this process hold as many connections as the system allows; shells start programs with far less.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// Follows who leads, for the streams that insist on a leader.
#[derive(Default)]
struct Leadership {
    leaderless_checks: u32,
}

impl Leadership {
    fn check(&mut self, handle: &Handle, fate: &watch::Sender<StreamFate>) {
        match handle.status().raft.leader {
            None => self.leaderless_checks += 1,
            Some(_) => self.leaderless_checks = 0,
        }
        let now = if self.leaderless_checks >= LEADERLESS_CHECKS {
            StreamFate::Leaderless
        } else {
            StreamFate::Open
        };
        fate.send_if_modified(|fate| std::mem::replace(fate, now) != now);
    }
}

async fn connection(
    server: Arc<Server>,
    admission: Arc<Admission>,
    place: Place,
    stream: TcpStream,
    mut fate: watch::Receiver<StreamFate>,
) {
    // Answers are small and each is waited for.
    let _ = stream.set_nodelay(true);
    let mut stopping = pin!(async move {
        let stopping = fate.wait_for(|fate| *fate == StreamFate::Stopping);
        match place {
            Place::Inside | Place::Pages => drop(stopping.await),
            Place::TurnedAway { .. } => drop(tokio::time::timeout(crowd::FAREWELL, stopping).await),
        }
    });
    let admitted = tokio::select! {
        admitted = admission.admit(stream) => admitted,
        () = stopping.as_mut() => return,
    };
    let (stream, known) = match admitted {
        Admitted::In(stream, known) => (stream, known),
        Admitted::Mismatched(stream, _) => return answer_mismatched(stream).await,
        Admitted::Gone => return,
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        // Nobody asks an answer of gRPC for its date.
        .auto_date_header(false)
        .max_concurrent_streams(server.limits.concurrent_streams_max)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    let counted = Counted::new(stream, server.services.metrics.clone());
    let upgrade = Arc::new(Upgrade::default());
    let service = service_fn(|mut request: Request<Incoming>| {
        let (server, upgrade) = (server.clone(), upgrade.clone());
        if known.common_name.is_some() {
            request.extensions_mut().insert(known.clone());
        }
        // On the heap: it is moved several times before it runs.
        Box::pin(async move { Ok::<_, Infallible>(server.answer(place, request, &upgrade).await) })
    });
    let io = TokioIo::new(AnyAuthority::new(counted));
    let mut connection = pin!(builder.serve_connection_with_upgrades(io, service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping.as_mut() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Clients come and go; only somebody who looks for trouble wants to know.
        tracing::debug!(%error, "connection ended");
    }
    // It goes on in this task: one connection, however it is spoken on.
    if let Some(conversation) = upgrade.take() {
        conversation.hold().await;
    }
}

impl Server {
    async fn answer(
        &self,
        place: Place,
        request: Request<Incoming>,
        upgrade: &Upgrade,
    ) -> Response<Body> {
        let content_type = request.headers().get(header::CONTENT_TYPE);
        let is_grpc = request.version() == Version::HTTP_2
            && content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
        if let Some(refusal) = place.refusal(is_grpc) {
            return refusal;
        }
        if is_grpc && place == Place::Inside {
            return self.services.serve(request).await;
        }
        // On the heap: what serves a page or JSON is large, and would be moved about with every gRPC request.
        Box::pin(self.answer_http(place, request, upgrade)).await
    }

    async fn answer_http(
        &self,
        place: Place,
        mut request: Request<Incoming>,
        upgrade: &Upgrade,
    ) -> Response<Body> {
        let origin = self.origins.allowed(request.headers());
        if request.method() == Method::OPTIONS {
            return origins::allow(Response::new(Body::Empty), origin);
        }
        if let Some(uri) = current_path(request.uri()) {
            *request.uri_mut() = uri;
        }
        if gateway::is_gateway(request.uri().path()) && place == Place::Inside {
            if websocket::is_asked(request.method(), request.headers()) {
                return upgrade.accept(&self.services, request);
            }
            return origins::allow(gateway::serve(&self.services, request).await, origin);
        }
        let response = match self
            .pages
            .clone()
            .oneshot(request.map(axum::body::Body::new))
            .await
        {
            Ok(response) => response,
            Err(never) => match never {},
        };
        origins::allow(response.map(Body::Page), origin)
    }
}

/// The path older clients mean, if theirs is an older one.
fn current_path(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    let rest = path
        .strip_prefix("/v3beta/")
        .or_else(|| path.strip_prefix("/v3alpha/"))?;
    let query = uri
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    format!("/v3/{rest}{query}").parse().ok()
}

#[cfg(test)]
mod tests;
