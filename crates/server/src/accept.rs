//! Connections to the other members, from the side that accepts: it judges the greeting, then reads messages and answers pings.

use crate::Metrics;
use crate::greet::{self, Me, SharedMe};
use crate::peers::PeerEvent;
use crate::wire::{self, Frame, FrameKind, Purpose};
use bytes::BytesMut;
use raft::PeerId;
use replica::{BootstrapMessage, Message};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tracing::{debug, warn};

/// Connections at most whose other side is not known yet; further ones wait to be accepted.
const STRANGERS_MAX: usize = 64;
/// How long an answer to a bootstrap question may take.
const BOOTSTRAP_TIMEOUT: Duration = Duration::from_secs(5);
/// The same refusal is logged once in this time.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Texts of refusals remembered to that end.
const REFUSALS_REMEMBERED: usize = 64;
/// Room for bytes read at once.
const READ_BYTES: usize = 64 << 10;

/// A bootstrap message that came in, and the way back.
pub(crate) struct Question {
    pub(crate) message: BootstrapMessage,
    pub(crate) answer: oneshot::Sender<BootstrapMessage>,
}

/// The listening side of a member. Lives from before bootstrap to the end.
pub(crate) struct Acceptor {
    pub(crate) me: Arc<SharedMe>,
    pub(crate) events: mpsc::Sender<PeerEvent>,
    pub(crate) questions: mpsc::Sender<Question>,
    pub(crate) metrics: Arc<Metrics>,
    /// The newest connection per sender and purpose; an older one is closed for it.
    readers: Mutex<BTreeMap<(PeerId, Purpose), AbortHandle>>,
    refusals: Mutex<BTreeMap<String, Instant>>,
}

impl Acceptor {
    pub(crate) fn new(
        me: Arc<SharedMe>,
        events: mpsc::Sender<PeerEvent>,
        questions: mpsc::Sender<Question>,
        metrics: Arc<Metrics>,
    ) -> Acceptor {
        Acceptor {
            me,
            events,
            questions,
            metrics,
            readers: Mutex::default(),
            refusals: Mutex::default(),
        }
    }

    /// Accepts until dropped.
    pub(crate) async fn run(self: Arc<Self>, listener: TcpListener) {
        let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
        loop {
            let permit = strangers
                .clone()
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            match listener.accept().await {
                Ok((stream, _)) => {
                    let _ = stream.set_nodelay(true);
                    let acceptor = self.clone();
                    tokio::spawn(async move {
                        if let Some((stream, from, purpose)) = acceptor.greet(stream).await {
                            drop(permit);
                            acceptor.adopt(stream, from, purpose);
                        }
                    });
                }
                Err(error) => {
                    warn!(%error, "member connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Handles a connection up to its welcome; gives it back if messages of the cell will follow.
    async fn greet(&self, mut stream: TcpStream) -> Option<(TcpStream, PeerId, Purpose)> {
        let greeting = match greet::receive(&mut stream).await {
            Ok(greeting) => greeting,
            Err(error) => {
                debug!(%error, "connection without a greeting closed");
                return None;
            }
        };
        let me: Arc<Me> = self
            .me
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let (welcome, accepted) = match me.judge(&greeting) {
            Ok((protocol, purpose, from)) => {
                (me.welcome(protocol, String::new()), Some((purpose, from)))
            }
            Err(refusal) => {
                if me.cluster != 0 {
                    self.complain(&stream, &refusal);
                }
                (me.welcome(0, refusal), None)
            }
        };
        stream
            .write_all(&wire::encode_greeting(&welcome))
            .await
            .ok()?;
        let (purpose, from) = accepted?;
        if purpose == Purpose::Bootstrap {
            if timeout(BOOTSTRAP_TIMEOUT, self.answer(&mut stream))
                .await
                .is_err()
            {
                debug!(
                    from = from.name,
                    "bootstrap question was not answered in time"
                );
            }
            return None;
        }
        let peer = from.peer();
        if purpose == Purpose::Cell {
            self.events.send(PeerEvent::Greeted(from)).await.ok()?;
        }
        Some((stream, peer, purpose))
    }

    fn complain(&self, stream: &TcpStream, refusal: &str) {
        self.metrics.peer_refusals.inc();
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.retain(|_, said| said.elapsed() < REFUSAL_LOG_INTERVAL);
        if refusals.len() < REFUSALS_REMEMBERED
            && refusals
                .insert(refusal.to_owned(), Instant::now())
                .is_none()
        {
            let address = stream
                .peer_addr()
                .map_or_else(|_| "unknown".into(), |address| address.to_string());
            warn!(address, reason = refusal, "connection from member refused");
        }
    }

    /// Answers one bootstrap question.
    async fn answer(&self, stream: &mut TcpStream) -> Option<()> {
        let mut buffer = BytesMut::new();
        let frame = read_frame(stream, &mut buffer).await?;
        let message = BootstrapMessage::decode(frame.body).ok()?;
        let (answer, answered) = oneshot::channel();
        self.questions
            .send(Question { message, answer })
            .await
            .ok()?;
        let message = answered.await.ok()?;
        let mut out = BytesMut::new();
        wire::put_frame(&mut out, FrameKind::Bootstrap, &message.encode());
        stream.write_all(&out).await.ok()
    }

    fn adopt(self: &Arc<Self>, stream: TcpStream, from: PeerId, purpose: Purpose) {
        let (events, metrics) = (self.events.clone(), self.metrics.clone());
        let reader = tokio::spawn(async move {
            let reason = read(stream, from, &events, &metrics).await;
            debug!(peer = %from, ?purpose, reason, "connection from member closed");
        });
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        readers.retain(|_, reader| !reader.is_finished());
        if let Some(older) = readers.insert((from, purpose), reader.abort_handle()) {
            older.abort();
        }
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        for reader in self
            .readers
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
        {
            reader.abort();
        }
    }
}

/// Reads messages until the connection breaks. A full queue of events stops the reading, and TCP the sender.
async fn read(
    mut stream: TcpStream,
    from: PeerId,
    events: &mpsc::Sender<PeerEvent>,
    metrics: &Metrics,
) -> String {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    let mut pongs = BytesMut::new();
    loop {
        if buffer.capacity() - buffer.len() < READ_BYTES / 4 {
            buffer.reserve(READ_BYTES);
        }
        match stream.read_buf(&mut buffer).await {
            Ok(0) => return "closed by the other side".into(),
            Ok(bytes) => metrics.peer_bytes_received.add(bytes as u64),
            Err(error) => return error.to_string(),
        }
        loop {
            let frame = match wire::take_frame(&mut buffer, wire::FRAME_BYTES_MAX) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => return error.to_string(),
            };
            match frame.kind {
                FrameKind::Ping => wire::put_frame(&mut pongs, FrameKind::Pong, &frame.body),
                FrameKind::Message => match Message::decode(frame.body) {
                    Ok(message) => {
                        metrics.peer_messages_received.inc();
                        if events
                            .send(PeerEvent::Message { from, message })
                            .await
                            .is_err()
                        {
                            return "this member stops".into();
                        }
                    }
                    Err(error) => {
                        warn!(peer = %from, reason = error.0, "message that cannot be read, connection closed");
                        return "a message that cannot be read".into();
                    }
                },
                FrameKind::Pong | FrameKind::Bootstrap => return "a frame out of place".into(),
            }
        }
        if !pongs.is_empty() {
            if let Err(error) = stream.write_all(&pongs).await {
                return error.to_string();
            }
            pongs.clear();
        }
    }
}

/// Reads one frame no longer than a greeting; `None` if the connection ends or the bytes are none.
pub(crate) async fn read_frame(stream: &mut TcpStream, buffer: &mut BytesMut) -> Option<Frame> {
    loop {
        if let Some(frame) = wire::take_frame(buffer, wire::GREETING_BYTES_MAX).ok()? {
            return Some(frame);
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}
