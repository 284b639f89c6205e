//! What one end of a connection shows and whom it trusts: named files, read, checked, and made into configurations of rustls.

use crate::certificate::{self, Summary};
use crate::verify::{Allowed, Anyone, Named};
use crate::{Error, Protocol};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, InconsistentKeys, RootCertStore, ServerConfig, client};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// A file of certificates or keys larger than this is something else.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// Where systems keep the authorities everybody trusts.
const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A file, and the setting that named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The setting as its user writes it, such as `--cert-file`.
    pub setting: &'static str,
    /// The file.
    pub path: PathBuf,
}

/// A certificate chain and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The certificate, then those between it and its authority.
    pub certificate: Source,
    /// The key.
    pub key: Source,
}

/// Whose word counts for the certificates of the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// That of the authorities in a file.
    File(Source),
    /// That of the authorities the system knows; for clients only.
    System,
    /// Nobody's: a server takes clients without certificates, a client takes any server.
    Anyone,
}

/// What one end shows and whom it trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// What it shows; a server must have one.
    pub own: Option<Pair>,
    /// What it shows when it dials, if that differs.
    pub dialling: Option<Pair>,
    /// Whom it trusts. A server that trusts a file demands a certificate.
    pub trust: Trust,
    /// Which certificates the authorities have taken back.
    pub revoked: Option<Source>,
    /// Whom of the trusted it lets in.
    pub allowed: Allowed,
    /// Versions and suites.
    pub protocol: Protocol,
}

/// The contents of all files of some [`Credentials`] at one time. Equal ones give equal configurations.
#[derive(Clone, PartialEq, Eq)]
pub struct Contents(BTreeMap<PathBuf, Vec<u8>>);

impl Credentials {
    /// Reads all files.
    ///
    /// # Errors
    /// The first that cannot be read.
    pub fn read(&self) -> Result<Contents, Error> {
        let mut contents = BTreeMap::new();
        for source in self.sources() {
            contents.insert(source.path.clone(), source.read()?);
        }
        if self.trust == Trust::System {
            let path = system_authorities()?;
            let source = Source {
                setting: "SSL_CERT_FILE",
                path,
            };
            contents.insert(source.path.clone(), source.read()?);
        }
        Ok(Contents(contents))
    }

    fn sources(&self) -> impl Iterator<Item = &Source> {
        let pairs = self.own.iter().chain(&self.dialling);
        let trusted = match &self.trust {
            Trust::File(source) => Some(source),
            Trust::System | Trust::Anyone => None,
        };
        pairs
            .flat_map(|pair| [&pair.certificate, &pair.key])
            .chain(trusted)
            .chain(&self.revoked)
    }

    /// What is not wrong but unwise about the files, in words.
    pub fn unwise(&self) -> Vec<String> {
        let keys = self.own.iter().chain(&self.dialling).map(|pair| &pair.key);
        keys.filter(|key| readable_by_all(&key.path))
            .map(|key| {
                let path = key.path.display();
                format!(
                    "{}: {path} can be read by everybody on this machine; chmod 600 it",
                    key.setting
                )
            })
            .collect()
    }

    /// The certificate this end shows when it accepts.
    ///
    /// # Errors
    /// There is none, or it cannot be used.
    pub fn summary(&self, contents: &Contents) -> Result<Summary, Error> {
        let own = self.own.as_ref().ok_or_else(no_certificate)?;
        let chain = own.chain(contents)?;
        own.judge(&chain[0])
    }

    /// For the end that accepts: HTTP/2 and HTTP/1.1 if `http`.
    ///
    /// # Errors
    /// A file makes no sense; the text says which, and what to do.
    pub fn server(&self, contents: &Contents, http: bool) -> Result<ServerConfig, Error> {
        let provider = Arc::new(self.protocol.provider());
        let own = self.own.as_ref().ok_or_else(no_certificate)?;
        let key = own.certified(contents, &provider)?;
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&self.protocol.versions())
            .expect("the protocol was checked");
        let builder = match &self.trust {
            Trust::File(authorities) => {
                let inner = self.client_verifier(authorities, contents, provider)?;
                let allowed = self.allowed.clone();
                builder.with_client_cert_verifier(Arc::new(Named { allowed, inner }))
            }
            Trust::System | Trust::Anyone => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        if http {
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        }
        Ok(config)
    }

    fn client_verifier(
        &self,
        authorities: &Source,
        contents: &Contents,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, Error> {
        let roots = Arc::new(authorities.roots(contents)?);
        WebPkiClientVerifier::builder_with_provider(roots, provider)
            .with_crls(self.revocations(contents)?)
            // A list speaks for its own authority only.
            .allow_unknown_revocation_status()
            .build()
            .map_err(|error| self.unusable_list(authorities, &error))
    }

    /// For the end that dials. HTTP/2 if `http`.
    ///
    /// # Errors
    /// As [`Credentials::server`].
    pub fn client(&self, contents: &Contents, http: bool) -> Result<ClientConfig, Error> {
        let provider = Arc::new(self.protocol.provider());
        let verifier: Arc<dyn ServerCertVerifier> = match &self.trust {
            Trust::File(authorities) => {
                let inner = self.server_verifier(authorities, contents, provider.clone())?;
                let allowed = self.allowed.clone();
                Arc::new(Named { allowed, inner })
            }
            Trust::System => {
                let path = system_authorities()?;
                let authorities = Source {
                    setting: "SSL_CERT_FILE",
                    path,
                };
                self.server_verifier(&authorities, contents, provider.clone())?
            }
            Trust::Anyone => Arc::new(Anyone(provider.clone())),
        };
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&self.protocol.versions())
            .expect("the protocol was checked")
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match self.dialling.as_ref().or(self.own.as_ref()) {
            Some(pair) => {
                let key = pair.certified(contents, &provider)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
            }
            None => builder.with_no_client_auth(),
        };
        config.resumption = client::Resumption::disabled();
        if http {
            config.alpn_protocols = vec![b"h2".to_vec()];
        }
        Ok(config)
    }

    fn server_verifier(
        &self,
        authorities: &Source,
        contents: &Contents,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ServerCertVerifier>, Error> {
        let roots = Arc::new(authorities.roots(contents)?);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider)
            .with_crls(self.revocations(contents)?)
            .allow_unknown_revocation_status()
            .build()
            .map_err(|error| self.unusable_list(authorities, &error))?;
        Ok(verifier)
    }

    fn unusable_list(
        &self,
        authorities: &Source,
        error: &rustls::server::VerifierBuilderError,
    ) -> Error {
        self.revoked
            .as_ref()
            .unwrap_or(authorities)
            .wrong(&format!("cannot be used: {error}"))
    }

    fn revocations(
        &self,
        contents: &Contents,
    ) -> Result<Vec<CertificateRevocationListDer<'static>>, Error> {
        let Some(source) = &self.revoked else {
            return Ok(Vec::new());
        };
        let bytes = contents.of(source);
        // etcd takes the binary form only, everybody else writes the other one.
        if bytes.first() == Some(&0x30) {
            return Ok(vec![CertificateRevocationListDer::from(bytes.to_vec())]);
        }
        let lists: Result<Vec<_>, _> =
            CertificateRevocationListDer::pem_slice_iter(bytes).collect();
        match lists {
            Ok(lists) if !lists.is_empty() => Ok(lists),
            _ => Err(source.wrong("holds no revocation list; give one in PEM or DER form")),
        }
    }
}

impl Pair {
    fn chain(&self, contents: &Contents) -> Result<Vec<CertificateDer<'static>>, Error> {
        self.certificate.certificates(contents)
    }

    /// Looks whether a certificate can be shown now.
    fn judge(&self, certificate: &CertificateDer<'_>) -> Result<Summary, Error> {
        let summary = certificate::summary(certificate).ok_or_else(|| {
            self.certificate
                .wrong("holds a certificate that cannot be read")
        })?;
        let now = SystemTime::now();
        let [from, until] = &summary.validity;
        if summary.not_after < now {
            return Err(self
                .certificate
                .wrong(&format!("expired on {until}; put a new certificate there")));
        }
        if summary.not_before > now {
            return Err(self.certificate.wrong(&format!(
                "is valid only from {from}; check this machine's clock"
            )));
        }
        Ok(summary)
    }

    /// The chain with its key, which must belong together.
    fn certified(
        &self,
        contents: &Contents,
        provider: &CryptoProvider,
    ) -> Result<CertifiedKey, Error> {
        let chain = self.chain(contents)?;
        self.judge(&chain[0])?;
        let key = self.key.private_key(contents)?;
        CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                let certificate = self.certificate.path.display();
                self.key.wrong(&format!(
                    "is not the key of the certificate in {certificate}; give the one it was made with"
                ))
            }
            error => self.key.wrong(&format!("cannot be used: {error}")),
        })
    }
}

impl Source {
    /// An error about this file.
    fn wrong(&self, what: &str) -> Error {
        Error(format!("{}: {} {what}", self.setting, self.path.display()))
    }

    fn read(&self) -> Result<Vec<u8>, Error> {
        let cannot = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                self.wrong("is not there; correct the path, or make certificates with `synod cert`")
            }
            std::io::ErrorKind::PermissionDenied => {
                self.wrong("may not be read by this user; correct its owner or mode")
            }
            _ => self.wrong(&format!("cannot be read: {error}")),
        };
        let length = std::fs::metadata(&self.path).map_err(cannot)?.len();
        if length > FILE_BYTES_MAX {
            return Err(self.wrong(&format!(
                "has {length} bytes, more than certificates ever need; is it the right file?"
            )));
        }
        std::fs::read(&self.path).map_err(cannot)
    }

    fn certificates(&self, contents: &Contents) -> Result<Vec<CertificateDer<'static>>, Error> {
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(contents.of(self)).collect();
        match read {
            Ok(chain) if !chain.is_empty() => Ok(chain),
            Ok(_) => Err(self.wrong(
                "holds no certificate; one in PEM form is needed (-----BEGIN CERTIFICATE-----)",
            )),
            Err(error) => {
                Err(self.wrong(&format!("holds a certificate that cannot be read: {error}")))
            }
        }
    }

    fn private_key(&self, contents: &Contents) -> Result<PrivateKeyDer<'static>, Error> {
        let bytes = contents.of(self);
        PrivateKeyDer::from_pem_slice(bytes).map_err(|_| {
            let encrypted = bytes
                .windows(9)
                .any(|window| window == b"ENCRYPTED");
            self.wrong(if encrypted {
                "is encrypted with a pass phrase, which a member cannot ask for; decrypt it: openssl pkey -in KEY -out NEW"
            } else {
                "holds no private key; one in PEM form is needed (-----BEGIN PRIVATE KEY-----)"
            })
        })
    }

    fn roots(&self, contents: &Contents) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        let (taken, left) = roots.add_parsable_certificates(self.certificates(contents)?);
        if taken == 0 {
            return Err(self.wrong(&format!(
                "holds {left} certificates, none of which can be an authority"
            )));
        }
        Ok(roots)
    }
}

impl Contents {
    fn of(&self, source: &Source) -> &[u8] {
        self.0
            .get(&source.path)
            .expect("contents were read for these credentials")
    }
}

fn no_certificate() -> Error {
    Error("a server needs a certificate and a key".into())
}

fn system_authorities() -> Result<PathBuf, Error> {
    if let Some(path) = std::env::var_os("SSL_CERT_FILE") {
        return Ok(path.into());
    }
    SYSTEM_AUTHORITIES
        .iter()
        .map(PathBuf::from)
        .find(|path| path.is_file())
        .ok_or_else(|| {
            Error("this system has no list of trusted authorities; name the one to trust with --cacert".into())
        })
}

#[cfg(unix)]
fn readable_by_all(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

#[cfg(not(unix))]
fn readable_by_all(_: &Path) -> bool {
    false
}
