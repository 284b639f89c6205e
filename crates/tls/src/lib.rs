//! What both ends of a connection need for TLS: certificates read from files and checked, who is trusted, and certificates of one's own making.
//!
//! Knows no socket: it gives configurations of rustls. Whoever holds one decides when it is read anew ([`Credentials::read`] gives contents that
//! can be compared with those of before). Sessions are not resumed, so that every connection is judged by the certificates of now.

mod certificate;
mod credentials;
mod issue;
mod protocol;
mod verify;
mod words;

pub use certificate::{Summary, common_name, serial, summary};
pub use credentials::{Contents, Credentials, Pair, Source, Trust};
pub use issue::{Authority, Issued, Usage, self_signed};
pub use protocol::{Protocol, ProtocolError};
pub use rustls;
pub use verify::Allowed;
pub use words::explain;

use rustls::crypto::CryptoProvider;
use std::fmt;

/// What is wrong with a certificate, a key or a file of them: subject, value and next step, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(pub String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// The cryptography this was built with.
#[cfg(feature = "aws-lc")]
fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

/// The cryptography this was built with.
#[cfg(all(feature = "ring", not(feature = "aws-lc")))]
fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

#[cfg(not(any(feature = "aws-lc", feature = "ring")))]
compile_error!("choose the cryptography: the feature aws-lc (the default) or ring");
