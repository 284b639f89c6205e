//! The gateway over a WebSocket: each message is a request of the call, each line of its answer a message. What streams, streams both ways.

use super::gateway;
use super::websocket::{self, Fault, Heard, Hearing};
use crate::grpc::body::Body;
use crate::grpc::door::StreamFate;
use crate::grpc::services::Services;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::io;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Requests a client may be ahead of its stream; it is not read while there are more.
const REQUESTS_AHEAD_MAX: usize = 16;

/// Where a connection that goes on as a WebSocket is kept until its HTTP has ended.
#[derive(Default)]
pub(super) struct Upgrade(Mutex<Option<Conversation>>);

impl Upgrade {
    /// Accepts a WebSocket, if the request says all that is needed.
    pub(super) fn accept(
        &self,
        services: &Services,
        mut request: Request<Incoming>,
    ) -> Response<Body> {
        let Some(response) = websocket::accepted(request.headers()) else {
            let mut response = Response::new(Body::Page("Bad Request\n".into()));
            *response.status_mut() = StatusCode::BAD_REQUEST;
            return response;
        };
        let conversation = Conversation {
            services: services.clone(),
            path: request.uri().path().to_owned(),
            upgrade: hyper::upgrade::on(&mut request),
            headers: headers(request.headers()),
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(conversation);
        response
    }

    /// What is to go on, if anything is.
    pub(super) fn take(&self) -> Option<Conversation> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The headers of its call: those of the request, with a token that came as a subprotocol.
fn headers(given: &HeaderMap) -> HeaderMap {
    let mut headers = given.clone();
    if let Some(token) = websocket::token(given) {
        headers.insert(header::AUTHORIZATION, token);
    }
    headers
}

/// A call over a WebSocket.
pub(super) struct Conversation {
    services: Services,
    path: String,
    headers: HeaderMap,
    upgrade: OnUpgrade,
}

impl Conversation {
    /// Holds it until either side has said all.
    pub(super) async fn hold(self) {
        let Ok(connection) = self.upgrade.await else {
            return;
        };
        let mut socket = Socket {
            connection: TokioIo::new(connection),
            hearing: Hearing::new(gateway::body_bytes_max(&self.services)),
            unheard: BytesMut::new(),
        };
        let mut fate = self.services.door.fate.clone();
        let (say, requests) = mpsc::channel(REQUESTS_AHEAD_MAX);
        let requests = ReceiverStream::new(requests);
        let mut answering = pin!(gateway::converse(
            &self.services,
            &self.path,
            &self.headers,
            requests
        ));
        let mut lines: Option<Lines> = None;
        loop {
            let heard = async {
                let room = say.reserve().await.ok();
                (socket.hear().await, room)
            };
            tokio::select! {
                (heard, room) = heard => match heard {
                    Ok(Heard::Message(message)) => {
                        // What comes behind the only request of a call is nobody's business.
                        if let Some(room) = room {
                            room.send(message);
                        }
                    }
                    Ok(Heard::Ping(ping)) => {
                        if socket.send(|out| websocket::put_pong(out, &ping)).await.is_err() {
                            return;
                        }
                    }
                    Ok(Heard::Close) => return socket.leave(Fault::Over).await,
                    Err(Some(fault)) => return socket.leave(fault).await,
                    Err(None) => return,
                },
                answer = &mut answering, if lines.is_none() => lines = Some(Lines::of(answer)),
                line = next_line(&mut lines) => match line {
                    Some(line) => {
                        if socket.send(|out| websocket::put_text(out, &line)).await.is_err() {
                            return;
                        }
                    }
                    None => return socket.leave(Fault::Over).await,
                },
                _ = StreamFate::end(&mut fate, false), if lines.is_none() => {
                    return socket.leave(Fault::Over).await;
                }
            }
        }
    }
}

async fn next_line(lines: &mut Option<Lines>) -> Option<Bytes> {
    match lines {
        Some(lines) => lines.next().await,
        None => std::future::pending().await,
    }
}

/// The lines of an answer.
struct Lines {
    body: Body,
    unread: BytesMut,
}

impl Lines {
    fn of(answer: Response<Body>) -> Lines {
        Lines {
            body: answer.into_body(),
            unread: BytesMut::new(),
        }
    }

    /// The next one that holds anything. May be given up while it waits.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line = self.unread.split_to(end + 1).freeze().slice(..end);
                if !line.is_empty() {
                    return Some(line);
                }
                continue;
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.unread.extend_from_slice(&data);
                    }
                }
                Some(Err(_)) | None => {
                    let rest = self.unread.split().freeze();
                    return (!rest.is_empty()).then_some(rest);
                }
            }
        }
    }
}

struct Socket {
    connection: TokioIo<Upgraded>,
    hearing: Hearing,
    unheard: BytesMut,
}

impl Socket {
    /// The next thing said. May be given up while it waits.
    ///
    /// # Errors
    /// It makes no sense, or (`None`) the client is gone.
    async fn hear(&mut self) -> Result<Heard, Option<Fault>> {
        loop {
            if let Some(heard) = self.hearing.next(&mut self.unheard).map_err(Some)? {
                return Ok(heard);
            }
            match self.connection.read_buf(&mut self.unheard).await {
                Ok(0) | Err(_) => return Err(None),
                Ok(_) => {}
            }
        }
    }

    async fn send(&mut self, put: impl FnOnce(&mut BytesMut)) -> io::Result<()> {
        let mut out = BytesMut::new();
        put(&mut out);
        self.connection.write_all_buf(&mut out).await?;
        self.connection.flush().await
    }

    async fn leave(mut self, why: Fault) {
        let said = self.send(|out| websocket::put_close(out, why)).await;
        if said.is_ok() {
            let _ = self.connection.shutdown().await;
        }
    }
}
