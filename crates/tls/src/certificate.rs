//! What a certificate says of its owner.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::time::{Duration, SystemTime};
use x509_parser::prelude::{FromDer, X509Certificate};

/// What an operator wants to know of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The subject, such as `CN=n1`.
    pub subject: String,
    /// Its common name; empty if it has none.
    pub common_name: String,
    /// From when it is valid.
    pub not_before: SystemTime,
    /// Until when.
    pub not_after: SystemTime,
    /// The same two as text.
    pub validity: [String; 2],
    /// Its serial number, big-endian.
    pub serial: Vec<u8>,
}

/// Reads a certificate; `None` if it cannot be read.
pub fn summary(certificate: &CertificateDer<'_>) -> Option<Summary> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let validity = parsed.validity();
    Some(Summary {
        subject: parsed.subject().to_string(),
        common_name: first_common_name(&parsed).unwrap_or_default(),
        not_before: at(validity.not_before.timestamp()),
        not_after: at(validity.not_after.timestamp()),
        validity: [
            validity.not_before.to_string(),
            validity.not_after.to_string(),
        ],
        serial: parsed.raw_serial().to_vec(),
    })
}

/// The serial number of the first certificate in a file's bytes, big-endian.
pub fn serial(pem: &[u8]) -> Option<Vec<u8>> {
    let certificate = CertificateDer::from_pem_slice(pem).ok()?;
    summary(&certificate).map(|summary| summary.serial)
}

/// The common name of a certificate's subject, if it has one that is text.
pub fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    first_common_name(&parsed).filter(|name| !name.is_empty())
}

fn first_common_name(parsed: &X509Certificate<'_>) -> Option<String> {
    let name = parsed.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}

fn at(timestamp: i64) -> SystemTime {
    let seconds = Duration::from_secs(timestamp.unsigned_abs());
    if timestamp < 0 {
        SystemTime::UNIX_EPOCH - seconds
    } else {
        SystemTime::UNIX_EPOCH + seconds
    }
}
