//! An authority for tests, its certificates in a directory, and clients that show them.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;
use tls::rustls::pki_types::ServerName;
use tls::{Allowed, Authority, Credentials, Pair, Protocol, Source, Trust, Usage};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A directory with `ca.pem` and what it vouches for.
pub struct Place {
    directory: TempDir,
    authority: Authority,
}

impl Place {
    pub fn new() -> Place {
        let directory = tempfile::tempdir().expect("a directory");
        let (authority, own) = Authority::new("test authority", 30).expect("an authority");
        std::fs::write(directory.path().join("ca.pem"), own.certificate).expect("written");
        Place {
            directory,
            authority,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes `NAME.pem` and `NAME-key.pem`.
    pub fn issue(&self, usage: Usage, name: &str) {
        let hosts = ["127.0.0.1", "localhost"];
        let issued = self.authority.issue(usage, name, &hosts, 30);
        let issued = issued.expect("a certificate");
        std::fs::write(self.path(&format!("{name}.pem")), issued.certificate).expect("written");
        std::fs::write(self.path(&format!("{name}-key.pem")), issued.key).expect("written");
    }

    /// Writes `revoked.pem`.
    pub fn revoke(&self, name: &str) {
        let credentials = self.client(Some(name));
        let contents = credentials.read().expect("it was issued");
        let serial = credentials.summary(&contents).expect("it is good").serial;
        let list = self.authority.revoke(None, &serial).expect("a list");
        std::fs::write(self.path("revoked.pem"), list).expect("written");
    }

    /// A client that trusts this authority and shows what it issued to this name.
    pub fn client(&self, name: Option<&str>) -> Credentials {
        let source = |name: String| Source {
            setting: "test",
            path: self.path(&name),
        };
        Credentials {
            own: name.map(|name| Pair {
                certificate: source(format!("{name}.pem")),
                key: source(format!("{name}-key.pem")),
            }),
            dialling: None,
            trust: Trust::File(source("ca.pem".into())),
            revoked: None,
            allowed: Allowed::Everyone,
            protocol: Protocol::default(),
        }
    }
}

/// Settings that name files of a place.
pub fn flags<'a>(place: &Place, files: &[(&'a str, &str)]) -> Vec<(&'a str, String)> {
    let shown = |file| place.path(file).display().to_string();
    files
        .iter()
        .map(|(setting, file)| (*setting, shown(file)))
        .collect()
}

/// Dials with TLS and asks for one protocol.
pub async fn connect(
    address: SocketAddr,
    credentials: &Credentials,
    protocol: &str,
) -> io::Result<TlsStream<TcpStream>> {
    let contents = credentials.read().expect("the files are there");
    let mut config = credentials.client(&contents, false).expect("they are good");
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::from(address.ip());
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}
