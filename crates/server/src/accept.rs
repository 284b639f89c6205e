//! Connections to the other members, from the side that accepts: it judges the greeting, then reads messages and answers pings.

use crate::Metrics;
use crate::greet::{self, Me, SharedMe};
use crate::peers::PeerEvent;
use crate::tls::{Admission, Admitted, Places, Refusals, Stream, see_off};
use crate::wire::{self, Frame, FrameKind, Party, Purpose, Welcome};
use bytes::BytesMut;
use raft::{Boot, MemberId, PeerId};
use replica::{BootstrapMessage, Message};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

/// How long an answer to a bootstrap question may take.
const BOOTSTRAP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a member that left may go on speaking.
const FAREWELL: Duration = Duration::from_secs(2);
/// A process that was heard of so recently runs: each says something every second.
const RUNS: Duration = Duration::from_secs(2);
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
    /// Members that left.
    departed: watch::Receiver<Vec<MemberId>>,
    /// The newest connection per sender and purpose; an older one is closed for it.
    readers: Mutex<BTreeMap<(PeerId, Purpose), Reader>>,
    admission: Admission,
    /// For those that have not told who they are.
    strangers: Places,
    refusals: Refusals,
}

/// A connection that is read from.
struct Reader {
    task: AbortHandle,
    /// Of the process at the other end.
    boot: Boot,
    heard: Arc<Mutex<Instant>>,
}

impl Reader {
    fn runs(&self) -> bool {
        let heard = *self.heard.lock().expect("no holder panics");
        !self.task.is_finished() && heard.elapsed() < RUNS
    }
}

impl Acceptor {
    pub(crate) fn new(
        me: Arc<SharedMe>,
        events: mpsc::Sender<PeerEvent>,
        questions: mpsc::Sender<Question>,
        departed: watch::Receiver<Vec<MemberId>>,
        admission: Admission,
        metrics: Arc<Metrics>,
    ) -> Acceptor {
        Acceptor {
            departed,
            me,
            events,
            questions,
            metrics,
            readers: Mutex::default(),
            admission,
            strangers: Places::default(),
            refusals: Refusals::default(),
        }
    }

    /// Accepts until dropped.
    pub(crate) async fn run(self: Arc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let _ = stream.set_nodelay(true);
                    let (acceptor, place) = (self.clone(), self.strangers.take());
                    tokio::spawn(async move {
                        tokio::select! {
                            Some((stream, from, purpose)) = acceptor.greet(stream) => {
                                acceptor.adopt(stream, &from, purpose);
                            }
                            _ = place => debug!("connection gave way to newer ones before it told who it is"),
                            else => {}
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
    async fn greet(&self, stream: TcpStream) -> Option<(Stream, Party, Purpose)> {
        let mut stream = match self.admission.admit(stream).await {
            Admitted::In(stream, _) => stream,
            Admitted::Mismatched(stream, why) => {
                self.tell_apart(stream, why).await;
                return None;
            }
            Admitted::Gone => return None,
        };
        let greeting = match greet::receive(&mut stream).await {
            Ok(greeting) => greeting,
            Err(error) => {
                debug!(%error, "connection without a greeting closed");
                return None;
            }
        };
        let me = self.me();
        let farewell = me.farewell(&greeting, &self.departed.borrow());
        let judged = me.judge(&greeting).and_then(|judged| match judged {
            (_, Purpose::Cell | Purpose::Bulk, from) if self.has_rival(&from) => {
                Err(rivalry(&from))
            }
            undisputed => Ok(undisputed),
        });
        let (welcome, accepted) = match judged {
            _ if farewell.is_some() => (farewell.unwrap_or_default(), None),
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
        stream.send(&wire::encode_greeting(&welcome)).await.ok()?;
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
        if purpose == Purpose::Cell {
            let greeted = PeerEvent::Greeted(from.clone());
            self.events.send(greeted).await.ok()?;
        }
        Some((stream, from, purpose))
    }

    /// Whether another process runs that is this member, too. The two would take each other's connections in turn, and vote twice.
    fn has_rival(&self, from: &Party) -> bool {
        let readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        [Purpose::Cell, Purpose::Bulk]
            .iter()
            .filter_map(|purpose| readers.get(&(from.peer(), *purpose)))
            .any(|reader| reader.boot != Boot(from.boot) && reader.runs())
    }

    /// Refuses a member that speaks plain text where this one speaks TLS, or the other way round. The latter takes the words for nonsense,
    /// and thus for no TLS.
    async fn tell_apart(&self, mut stream: TcpStream, why: &str) {
        let me = self.me();
        let refusal = format!(
            "{why} (member {}); start all members with --peer-cert-file, or none",
            me.name
        );
        let welcome = Welcome {
            // It is not for now only.
            not_yet: false,
            ..me.welcome(0, refusal)
        };
        if stream
            .write_all(&wire::encode_greeting(&welcome))
            .await
            .is_ok()
        {
            see_off(stream).await;
        }
    }

    fn me(&self) -> Arc<Me> {
        let me = self.me.read().unwrap_or_else(PoisonError::into_inner);
        me.clone()
    }

    fn complain(&self, stream: &Stream, refusal: &str) {
        self.metrics.peer_refusals.inc();
        if self.refusals.is_new(refusal) {
            let address = stream.address();
            warn!(address, reason = refusal, "connection from member refused");
        }
    }

    /// Answers one bootstrap question.
    async fn answer(&self, stream: &mut Stream) -> Option<()> {
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
        stream.send(&out).await.ok()
    }

    fn adopt(self: &Arc<Self>, stream: Stream, from: &Party, purpose: Purpose) {
        let (peer, boot) = (from.peer(), Boot(from.boot));
        let heard = Arc::new(Mutex::new(Instant::now()));
        let hears = heard.clone();
        let (events, metrics) = (self.events.clone(), self.metrics.clone());
        let departed = self.departed.clone();
        let task = tokio::spawn(async move {
            let reason = tokio::select! {
                reason = read(stream, peer, &hears, &events, &metrics) => reason,
                () = has_left(departed, peer.member) => "it left the cluster".into(),
            };
            debug!(%peer, ?purpose, reason, "connection from member closed");
        });
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        readers.retain(|_, reader| !reader.task.is_finished());
        let reader = Reader {
            task: task.abort_handle(),
            boot,
            heard,
        };
        if let Some(older) = readers.insert((peer, purpose), reader) {
            older.task.abort();
        }
    }
}

fn rivalry(from: &Party) -> String {
    let (name, peer) = (&from.name, from.peer());
    format!(
        "another process is member {name} ({peer}) and runs; if its data directory was copied, stop the one with the copy"
    )
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        for reader in self
            .readers
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
        {
            reader.task.abort();
        }
    }
}

/// Waits until a member is long gone from the cluster: if it has not heard of that by the log, it hears it when it dials again.
async fn has_left(mut departed: watch::Receiver<Vec<MemberId>>, member: MemberId) {
    if departed
        .wait_for(|departed| departed.contains(&member))
        .await
        .is_err()
    {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(FAREWELL).await;
}

/// Reads messages until the connection breaks. A full queue of events stops the reading, and TCP the sender.
async fn read(
    mut stream: Stream,
    from: PeerId,
    heard: &Mutex<Instant>,
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
        *heard.lock().expect("no holder panics") = Instant::now();
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
            if let Err(error) = stream.send(&pongs).await {
                return error.to_string();
            }
            pongs.clear();
        }
    }
}

/// Reads one frame no longer than a greeting; `None` if the connection ends or the bytes are none.
pub(crate) async fn read_frame(stream: &mut Stream, buffer: &mut BytesMut) -> Option<Frame> {
    loop {
        if let Some(frame) = wire::take_frame(buffer, wire::GREETING_BYTES_MAX).ok()? {
            return Some(frame);
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}
