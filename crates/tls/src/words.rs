//! What went wrong with a connection, for those who must mend it.

use rustls::{AlertDescription, CertificateError, Error};
use std::io;

/// Says why a handshake or a connection failed, as seen from this end. `other` names the other end, such as `the client`.
pub fn explain(error: &io::Error, other: &str) -> String {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>());
    match tls {
        Some(tls) => words(tls, other),
        None => match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => format!("{other} hung up during the TLS handshake"),
            io::ErrorKind::TimedOut => format!("{other} did not finish the TLS handshake in time"),
            _ => error.to_string(),
        },
    }
}

fn words(error: &Error, other: &str) -> String {
    match error {
        Error::InvalidMessage(_) => format!("{other} does not speak TLS"),
        Error::NoCertificatesPresented => {
            format!(
                "{other} shows no certificate, but must: it needs one of an authority that is trusted here"
            )
        }
        Error::InvalidCertificate(reason) => {
            format!("the certificate of {other} {}", fault(reason))
        }
        Error::AlertReceived(alert) => told(*alert, other),
        Error::PeerIncompatible(reason) => {
            format!(
                "{other} and this side have no version, cipher suite or signature in common: {reason:?}"
            )
        }
        Error::NoApplicationProtocol => format!("{other} speaks neither HTTP/2 nor HTTP/1.1"),
        other_error => other_error.to_string(),
    }
}

/// What is wrong with the other end's certificate.
fn fault(reason: &CertificateError) -> String {
    use CertificateError as E;
    match reason {
        E::Expired | E::ExpiredContext { .. } => "has expired; it needs a new one".into(),
        E::NotValidYet | E::NotValidYetContext { .. } => {
            "is not valid yet; check the clocks of both sides".into()
        }
        E::Revoked => "is revoked".into(),
        E::UnknownIssuer => "comes from an authority that is not trusted here".into(),
        E::BadSignature => {
            "has a signature that does not fit its authority: one of the same name made it".into()
        }
        E::NotValidForName => "is not made out for the address it was reached at".into(),
        E::NotValidForNameContext {
            expected,
            presented,
        } => format!(
            "is not made out for {}, but for {}",
            expected.to_str(),
            if presented.is_empty() {
                "nobody (it has no subject alternative names)".into()
            } else {
                presented.join(", ")
            }
        ),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            "is not meant for this end of a connection (extended key usage)".into()
        }
        E::Other(inner) => format!("is not allowed: {inner}"),
        other => format!("is not good: {other}"),
    }
}

/// What the other end says of this one.
fn told(alert: AlertDescription, other: &str) -> String {
    use AlertDescription as A;
    let what = match alert {
        A::CertificateRequired => "wants a certificate from this side, and none was shown".into(),
        A::UnknownCA => "does not trust the authority of this side's certificate".into(),
        A::CertificateExpired => "finds this side's certificate expired".into(),
        A::CertificateRevoked => "finds this side's certificate revoked".into(),
        A::BadCertificate | A::UnsupportedCertificate | A::CertificateUnknown => {
            "does not accept this side's certificate".into()
        }
        A::AccessDenied => "does not let this side's certificate in".into(),
        A::ProtocolVersion => "speaks other versions of TLS than this side".into(),
        A::HandshakeFailure => "has no cipher suite or signature in common with this side".into(),
        other => format!("ended the TLS connection: {other:?}"),
    };
    format!("{other} {what}")
}
