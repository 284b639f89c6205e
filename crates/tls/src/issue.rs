//! Certificates of one's own making, for development and for clusters that need no public authority.

use crate::Error;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason,
    RevokedCertParams, SerialNumber,
};
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;
use std::time::Duration;
use x509_parser::prelude::{ASN1Time, CertificateRevocationList, FromDer};

/// Clocks differ: a certificate is valid a little before it was made.
const BACKDATED: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// A certificate and its key, in PEM form.
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// A member: it accepts clients and members, and dials members.
    Server,
    /// A client.
    Client,
}

/// Makes certificates that those who trust it accept.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a new authority with its own key.
    ///
    /// # Errors
    /// The system gives no random numbers, or the name cannot be written.
    pub fn new(name: &str, days: u32) -> Result<(Authority, Issued), Error> {
        let key = KeyPair::generate().map_err(made)?;
        let mut params = params(name, &[], days)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let certificate = params.self_signed(&key).map_err(made)?.pem();
        let issued = Issued {
            certificate: certificate.clone(),
            key: key.serialize_pem(),
        };
        let authority = Authority {
            certificate,
            issuer: Issuer::new(params, key),
        };
        Ok((authority, issued))
    }

    /// Takes up an authority that was made before.
    ///
    /// # Errors
    /// The certificate or the key cannot be read.
    pub fn open(issued: &Issued) -> Result<Authority, Error> {
        let key = KeyPair::from_pem(&issued.key).map_err(made)?;
        let issuer = Issuer::from_ca_cert_pem(&issued.certificate, key).map_err(made)?;
        Ok(Authority {
            certificate: issued.certificate.clone(),
            issuer,
        })
    }

    /// Its certificate, which others are to trust.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Makes a certificate. `hosts` are the addresses and host names it is reached at.
    ///
    /// # Errors
    /// A name cannot be written into a certificate.
    pub fn issue(
        &self,
        usage: Usage,
        name: &str,
        hosts: &[&str],
        days: u32,
    ) -> Result<Issued, Error> {
        let key = KeyPair::generate().map_err(made)?;
        let mut params = params(name, hosts, days)?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match usage {
            Usage::Server => vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
            Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        let certificate = params.signed_by(&key, &self.issuer).map_err(made)?.pem();
        Ok(Issued {
            certificate,
            key: key.serialize_pem(),
        })
    }

    /// Makes the list of what was taken back: what the previous one has, and this serial number.
    ///
    /// # Errors
    /// The previous list cannot be read.
    pub fn revoke(&self, previous: Option<&str>, serial: &[u8]) -> Result<String, Error> {
        let now = ASN1Time::now().to_datetime();
        let mut revoked_certs = previous.map_or_else(|| Ok(Vec::new()), revoked)?;
        let serial = SerialNumber::from_slice(serial);
        if !revoked_certs
            .iter()
            .any(|known| known.serial_number == serial)
        {
            revoked_certs.push(RevokedCertParams {
                serial_number: serial,
                revocation_time: now,
                reason_code: Some(RevocationReason::Unspecified),
                invalidity_date: None,
            });
        }
        let params = CertificateRevocationListParams {
            this_update: now - BACKDATED,
            next_update: now + 365 * DAY,
            crl_number: SerialNumber::from(now.unix_timestamp().unsigned_abs()),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).map_err(made)?;
        list.pem().map_err(made)
    }
}

/// Makes a certificate that vouches for itself: enough to hide what is sent, not to prove who sends it.
///
/// # Errors
/// A name cannot be written into a certificate.
pub fn self_signed(name: &str, hosts: &[&str], days: u32) -> Result<Issued, Error> {
    let key = KeyPair::generate().map_err(made)?;
    let certificate = params(name, hosts, days)?.self_signed(&key).map_err(made)?;
    Ok(Issued {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

fn params(name: &str, hosts: &[&str], days: u32) -> Result<CertificateParams, Error> {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts)
        .map_err(|error| Error(format!("a name that no certificate can carry: {error}")))?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = ASN1Time::now().to_datetime();
    params.not_before = now - BACKDATED;
    params.not_after = now + days * DAY;
    Ok(params)
}

/// What a list has taken back.
fn revoked(list: &str) -> Result<Vec<RevokedCertParams>, Error> {
    let unreadable = || Error("the revocation list cannot be read".into());
    let list =
        CertificateRevocationListDer::from_pem_slice(list.as_bytes()).map_err(|_| unreadable())?;
    let (_, list) = CertificateRevocationList::from_der(&list).map_err(|_| unreadable())?;
    let entries = list
        .iter_revoked_certificates()
        .map(|entry| RevokedCertParams {
            serial_number: SerialNumber::from_slice(entry.raw_serial()),
            revocation_time: entry.revocation_date.to_datetime(),
            reason_code: None,
            invalidity_date: None,
        });
    Ok(entries.collect())
}

fn made(error: rcgen::Error) -> Error {
    Error(error.to_string())
}
