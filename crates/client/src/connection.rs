//! Connections. One is used only after the member there has spoken on it: what is sent to a member that stands still, or into a network that swallows
//! everything, can only end as unknown, while there may be others to ask.

use crate::error::{SILENT, innermost};
use crate::security;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use std::future::ready;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tls::Credentials;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tower::ServiceExt;

/// How long a member may take for a connection and its first word. Others are asked long before.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The first that was heard on a connection: a word, or why there will be none.
type First = Result<(), String>;

/// A connection on which the member has spoken.
#[derive(Clone)]
pub(crate) struct Connection {
    pub channel: Channel,
    /// What was heard first. Its sender is gone when the connection is.
    first: watch::Receiver<Option<First>>,
}

impl Connection {
    /// Connects, and waits until the member has spoken: in HTTP/2 each side begins with its settings, unasked.
    ///
    /// # Errors
    /// In words, why there is no connection. Nothing was asked of the member.
    pub async fn open(
        endpoint: &Endpoint,
        credentials: Option<&Arc<Credentials>>,
    ) -> Result<Connection, String> {
        match timeout(CONNECT_TIMEOUT, dial(endpoint, credentials)).await {
            Ok(dialled) => dialled.map_err(|error| innermost(&*error)),
            Err(_) => Err(SILENT.to_owned()),
        }
    }

    /// Whether it is not lost yet.
    pub fn stands(&self) -> bool {
        self.first.has_changed().is_ok()
    }

    /// Whether they are the same.
    pub fn is(&self, other: &Connection) -> bool {
        self.first.same_channel(&other.first)
    }
}

async fn dial(
    endpoint: &Endpoint,
    credentials: Option<&Arc<Credentials>>,
) -> Result<Connection, tower::BoxError> {
    let uri = endpoint.uri().clone();
    let host = uri.host().unwrap_or_default().to_owned();
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    let stream = connector.oneshot(uri).await?.into_inner();
    match credentials {
        Some(credentials) => {
            let stream = security::shake_hands(credentials, &host, stream).await?;
            speak(endpoint, stream).await
        }
        None => speak(endpoint, stream).await,
    }
}

/// Begins HTTP/2 over a stream.
async fn speak<S>(endpoint: &Endpoint, stream: S) -> Result<Connection, tower::BoxError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, mut first) = watch::channel(None);
    let mut stream = Some(TokioIo::new(Stream {
        inner: stream,
        first: sender,
        heard: false,
    }));
    // A channel that could dial anew would send before the member has spoken.
    let once = tower::service_fn(move |_| {
        ready(
            stream
                .take()
                .ok_or(io::Error::other("the connection was lost")),
        )
    });
    let channel = endpoint.connect_with_connector(once).await?;
    match first.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(Err(reason))) => return Err(reason.clone().into()),
        Ok(_) => {}
        Err(_) => return Err("the connection was closed".into()),
    }
    Ok(Connection { channel, first })
}

/// A stream that tells what is heard first.
struct Stream<S> {
    inner: S,
    first: watch::Sender<Option<First>>,
    heard: bool,
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.inner).poll_read(context, buffer));
        if !self.heard {
            self.heard = true;
            // A server of TLS 1.3 judges a client's certificate when the client believes itself connected: this is where it says so.
            match &read {
                Ok(()) if buffer.filled().len() == before => {}
                Ok(()) => _ = self.first.send_replace(Some(Ok(()))),
                Err(error) => {
                    let reason = match error.kind() {
                        io::ErrorKind::InvalidData => tls::explain(error, "the member"),
                        _ => error.to_string(),
                    };
                    self.first.send_replace(Some(Err(reason)));
                }
            }
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
#[path = "../../ports.rs"]
mod ports;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use tokio::io::{AsyncWriteExt, copy, sink};
    use tokio::net::TcpListener;

    /// What HTTP/2 begins with: settings, of which there are none.
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

    /// Where nobody listens.
    pub(crate) fn unused() -> String {
        let ports = ports::free_ports(1).expect("a port");
        format!("127.0.0.1:{}", ports[0])
    }

    /// An endpoint that stands still from the first: its system takes connections, and that is all.
    pub(crate) async fn silent() -> String {
        let address = unused();
        let listener = TcpListener::bind(&address).await.expect("it is free");
        tokio::spawn(async move {
            let _listener = listener;
            std::future::pending::<()>().await;
        });
        address
    }

    /// An endpoint that speaks and answers nothing.
    pub(crate) async fn speaking() -> String {
        let address = unused();
        let listener = TcpListener::bind(&address).await.expect("it is free");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    stream.write_all(&SETTINGS).await.expect("it is open");
                    copy(&mut stream, &mut sink()).await
                });
            }
        });
        address
    }

    async fn open(address: &str) -> Result<Connection, String> {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an endpoint");
        Connection::open(&endpoint, None).await
    }

    #[tokio::test]
    async fn a_connection_is_one_when_the_member_has_spoken_and_until_it_is_lost() {
        let address = unused();
        let listener = TcpListener::bind(&address).await.expect("it is free");
        let accepting = async {
            let (mut stream, _) = listener.accept().await.expect("somebody comes");
            stream.write_all(&SETTINGS).await.expect("it is open");
            stream
        };
        let (opened, stream) = tokio::join!(open(&address), accepting);
        let connection = opened.expect("it spoke");
        assert!(connection.stands() && connection.is(&connection.clone()));
        drop(stream);
        let mut first = connection.first.clone();
        assert!(first.changed().await.is_err(), "it was lost");
        assert!(!connection.stands());
        drop(listener);
        let refused = open(&address).await.err().expect("nobody listens");
        assert!(refused.contains("refused"), "{refused}");
        assert_eq!(open(&silent().await).await.err().as_deref(), Some(SILENT));
    }
}
