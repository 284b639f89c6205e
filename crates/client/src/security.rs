//! How connections are secured.

use crate::ClientError;
use http::Uri;
use hyper_util::rt::TokioIo;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tls::rustls::pki_types::ServerName;
use tls::{Allowed, Credentials, Pair, Protocol, Source, Trust};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What a client shows and whom it trusts. The files are read for each connection, so that renewed ones count from the next one on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// The authorities to trust, in PEM form; without it those the system trusts.
    pub cacert: Option<PathBuf>,
    /// The certificate to show, in PEM form.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// Take any server for the right one.
    pub insecure_skip_verify: bool,
    /// Speak TLS to endpoints that say neither `http://` nor `https://`, even if nothing else here is set.
    pub tls: bool,
}

impl Security {
    /// Whether endpoints that do not say so are spoken to in TLS.
    pub(crate) fn is_wanted(&self) -> bool {
        let files = [&self.cacert, &self.cert, &self.key];
        self.tls || self.insecure_skip_verify || files.into_iter().any(Option::is_some)
    }

    fn credentials(&self) -> Result<Credentials, ClientError> {
        let source = |setting, path: &PathBuf| Source {
            setting,
            path: path.clone(),
        };
        let own = match (&self.cert, &self.key) {
            (Some(certificate), Some(key)) => Some(Pair {
                certificate: source("--cert", certificate),
                key: source("--key", key),
            }),
            (None, None) => None,
            (Some(_), None) => return Err(bad("--cert has no key; pass --key too")),
            (None, Some(_)) => return Err(bad("--key has no certificate; pass --cert too")),
        };
        let trust = match &self.cacert {
            _ if self.insecure_skip_verify => Trust::Anyone,
            Some(path) => Trust::File(source("--cacert", path)),
            None => Trust::System,
        };
        Ok(Credentials {
            own,
            dialling: None,
            trust,
            revoked: None,
            allowed: Allowed::Everyone,
            protocol: Protocol::default(),
        })
    }

    /// Checks what can be checked before anything is dialled.
    ///
    /// # Errors
    /// A file cannot be used.
    pub(crate) fn check(&self) -> Result<Arc<Credentials>, ClientError> {
        let credentials = self.credentials()?;
        let contents = credentials.read().map_err(|error| bad(&error.0))?;
        credentials
            .client(&contents, true)
            .map_err(|error| bad(&error.0))?;
        Ok(Arc::new(credentials))
    }
}

fn bad(reason: &str) -> ClientError {
    ClientError::BadCertificates {
        reason: reason.to_owned(),
    }
}

/// Why the other side ended the newest connection, if it did so for a certificate. A server of TLS 1.3 judges a client's certificate when the
/// client believes itself connected and has sent its request; what it then says is all that tells a request that was never read from one
/// whose answer was lost.
#[derive(Debug, Default)]
pub(crate) struct Refusal(Mutex<Option<String>>);

impl Refusal {
    pub(crate) fn get(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, refusal: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
    }
}

/// Dials an endpoint and shakes hands with it.
pub(crate) async fn dial(
    credentials: Arc<Credentials>,
    refusal: Arc<Refusal>,
    uri: Uri,
) -> io::Result<TokioIo<Stream>> {
    refusal.set(None);
    let host = uri.host().unwrap_or_default();
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let stream = TcpStream::connect((bare, uri.port_u16().unwrap_or_default())).await?;
    stream.set_nodelay(true)?;
    let config = credentials
        .read()
        .and_then(|contents| credentials.client(&contents, true))
        .map_err(io::Error::other)?;
    let name = ServerName::try_from(bare.to_owned()).map_err(io::Error::other)?;
    let connected = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await;
    match connected {
        Ok(stream) => Ok(TokioIo::new(Stream {
            inner: stream,
            refusal: Some(refusal),
        })),
        Err(error) => Err(io::Error::other(tls::explain(&error, "the member"))),
    }
}

/// A connection inside TLS.
pub(crate) struct Stream {
    inner: TlsStream<TcpStream>,
    /// Until the other side has said anything.
    refusal: Option<Arc<Refusal>>,
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.inner).poll_read(context, buffer));
        if let Some(refusal) = self.refusal.take()
            && let Err(error) = &read
            && error.kind() == io::ErrorKind::InvalidData
        {
            refusal.set(Some(tls::explain(error, "the member")));
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Stream {
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
