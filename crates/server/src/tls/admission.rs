//! How a connection is let in: what it speaks, the handshake, and who it is.
//!
//! Shaking hands never delays accepting: each connection does so on its own, within a time, and when too many are at it the one that has been at
//! it for longest is given up, so that those who only occupy places do not keep others out.

use super::stream::{Stream, address};
use super::{LiveTls, Port};
use crate::Metrics;
use crate::connection::Connection;
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::warn;

/// Connections whose other side is not known yet, at most.
const PLACES_MAX: usize = 256;
/// How long one may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one that was refused may take to leave.
const FAREWELL: Duration = Duration::from_secs(1);
/// The first byte of a TLS connection: the record of a handshake.
const TLS_FIRST_BYTE: u8 = 0x16;
/// The same refusal is logged once in this time.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Texts of refusals remembered to that end.
const REFUSALS_REMEMBERED: usize = 64;

/// What Go's servers say, and thus etcd's, so that those who search for it find something.
const PLAIN_ANSWER: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
const TLS_ANSWER: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient speaks TLS to a port of plain text.\n";

/// Lets connections in to a port.
pub(crate) struct Admission {
    port: Port,
    tls: Option<Arc<LiveTls>>,
    shaking: Places,
    refusals: Refusals,
    metrics: Arc<Metrics>,
}

/// What a connection turned out to be.
pub(crate) enum Admitted {
    /// One to go on with.
    In(Stream, Connection),
    /// One that speaks the other way, in plain text or TLS, than this port does. It may be told so.
    Mismatched(TcpStream, &'static str),
    /// One that is gone.
    Gone,
}

impl Admission {
    pub(crate) fn new(port: Port, tls: Option<Arc<LiveTls>>, metrics: Arc<Metrics>) -> Admission {
        Admission {
            port,
            tls,
            shaking: Places::default(),
            refusals: Refusals::default(),
            metrics,
        }
    }

    /// Lets one connection in, or tells why not.
    pub(crate) async fn admit(&self, stream: TcpStream) -> Admitted {
        let address = address(&stream);
        let sorted = if self.tls.is_none() && self.port == Port::Client {
            // It costs nothing and may be kept for later.
            self.sort(stream).await
        } else {
            tokio::select! {
                sorted = timeout(HANDSHAKE_TIMEOUT, self.sort(stream)) => {
                    sorted.unwrap_or_else(|_| Err(Unsorted::Failed(io::ErrorKind::TimedOut.into(), None)))
                }
                _ = self.shaking.take() => {
                    self.refuse(&address, "too many shake hands at once, it gave way to newer ones");
                    return Admitted::Gone;
                }
            }
        };
        match sorted {
            Ok((stream, connection)) => Admitted::In(stream, connection),
            Err(Unsorted::Mismatched(stream, why)) => {
                self.refuse(&address, why);
                Admitted::Mismatched(stream, why)
            }
            Err(Unsorted::Failed(error, stream)) => {
                // Whoever only looks whether the port is open says nothing at all.
                if error.kind() != io::ErrorKind::NotConnected {
                    self.refuse(&address, &tls::explain(&error, "the other side"));
                }
                if let Some(stream) = stream {
                    see_off(stream).await;
                }
                Admitted::Gone
            }
        }
    }

    /// Finds out what a connection speaks, and shakes hands.
    async fn sort(&self, stream: TcpStream) -> Result<(Stream, Connection), Unsorted> {
        let speaks_tls = match first_byte(&stream).await {
            Ok(byte) => byte == TLS_FIRST_BYTE,
            Err(error) => return Err(Unsorted::Failed(error, None)),
        };
        match &self.tls {
            Some(tls) if speaks_tls => shake(stream, tls).await,
            Some(_) => Err(Unsorted::Mismatched(
                stream,
                "it speaks plain text, this port speaks TLS",
            )),
            None if speaks_tls => Err(Unsorted::Mismatched(
                stream,
                "it speaks TLS, this port speaks plain text",
            )),
            None => Ok((Stream::Plain(stream), Connection::default())),
        }
    }

    fn refuse(&self, address: &str, reason: &str) {
        self.metrics.handshake_failures.inc();
        if self.refusals.is_new(reason) {
            let port = self.port.name();
            warn!(port, address, reason, "connection refused");
        }
    }
}

/// Why a connection was not let in.
enum Unsorted {
    Mismatched(TcpStream, &'static str),
    Failed(io::Error, Option<TcpStream>),
}

async fn shake(stream: TcpStream, tls: &LiveTls) -> Result<(Stream, Connection), Unsorted> {
    let accept = TlsAcceptor::from(tls.accepting()).accept(stream);
    let stream = match accept.into_fallible().await {
        Ok(stream) => stream,
        Err((error, stream)) => return Err(Unsorted::Failed(error, Some(stream))),
    };
    let shown = stream.get_ref().1.peer_certificates();
    let common_name = shown
        .filter(|_| tls.demands_certificates())
        .and_then(|chain| tls::common_name(chain.first()?));
    let connection = Connection {
        common_name: common_name.map(Arc::from),
    };
    Ok((Stream::Tls(Box::new(stream.into())), connection))
}

/// Lets the other side read why it was refused: closing over what it has sent meanwhile would tear that away.
pub(crate) async fn see_off(mut stream: TcpStream) {
    let leaving = async {
        stream.shutdown().await?;
        while stream.read(&mut [0; 1024]).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = timeout(FAREWELL, leaving).await;
}

/// Waits for the first byte and leaves it there.
async fn first_byte(stream: &TcpStream) -> io::Result<u8> {
    let mut byte = [0];
    match stream.peek(&mut byte).await? {
        0 => Err(io::ErrorKind::NotConnected.into()),
        _ => Ok(byte[0]),
    }
}

/// Answers a client that speaks the other way than the client port does. One of gRPC in plain text understands nothing but an end; one in TLS
/// takes the words for nonsense, and thus for no TLS.
pub(crate) async fn answer_mismatched(mut stream: TcpStream) {
    let mut begins = [0; 3];
    let read = stream.peek(&mut begins).await.unwrap_or(0);
    let answer = match begins {
        [TLS_FIRST_BYTE, ..] => TLS_ANSWER,
        _ if read == begins.len() && &begins != b"PRI" => PLAIN_ANSWER,
        _ => return,
    };
    if stream.write_all(answer).await.is_ok() {
        see_off(stream).await;
    }
}

/// Places for connections whose other side is not known yet. There is always one for a newcomer: the oldest gives way.
#[derive(Default)]
pub(crate) struct Places(Mutex<VecDeque<oneshot::Sender<Infallible>>>);

impl Places {
    /// Takes a place; what is returned ends when it has to be given up. Dropping it gives it back.
    pub(crate) fn take(&self) -> oneshot::Receiver<Infallible> {
        let (keep, kept) = oneshot::channel();
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() >= PLACES_MAX {
            places.retain(|place| !place.is_closed());
        }
        if places.len() >= PLACES_MAX {
            places.pop_front();
        }
        places.push_back(keep);
        kept
    }
}

/// Remembers what was refused, so that the same is said once in a while only.
#[derive(Default)]
pub(crate) struct Refusals(Mutex<BTreeMap<String, Instant>>);

impl Refusals {
    /// Whether this was not said for a while; it counts as said now.
    pub(crate) fn is_new(&self, reason: &str) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.retain(|_, at| at.elapsed() < REFUSAL_LOG_INTERVAL);
        said.len() < REFUSALS_REMEMBERED && said.insert(reason.to_owned(), Instant::now()).is_none()
    }
}
