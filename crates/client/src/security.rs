//! How connections are secured.

use crate::ClientError;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tls::rustls::pki_types::ServerName;
use tls::{Allowed, Credentials, Pair, Protocol, Source, Trust};
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

/// Shakes hands with the endpoint that was reached at this host.
pub(crate) async fn shake_hands(
    credentials: &Credentials,
    host: &str,
    stream: TcpStream,
) -> io::Result<TlsStream<TcpStream>> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let config = credentials
        .read()
        .and_then(|contents| credentials.client(&contents, true))
        .map_err(io::Error::other)?;
    let name = ServerName::try_from(bare.to_owned()).map_err(io::Error::other)?;
    let connected = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await;
    connected.map_err(|error| io::Error::other(tls::explain(&error, "the member")))
}
