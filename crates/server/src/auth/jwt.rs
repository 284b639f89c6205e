//! JSON web tokens as etcd makes and reads them (RFC 7519, 7515, 7518): signed with the operator's key, so that others may make them too.
//!
//! Written on the primitives that TLS brings along. A library for such tokens would add no safety here, as only one algorithm is ever accepted, the
//! configured one, and would take neither keys in the form `openssl ecparam` writes nor ES512.

use super::settings::{JwtSettings, SignMethod};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair, UnparsedPublicKey,
};
use aws_lc_rs::{error::KeyRejected, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use etcd::{Code, Status};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;
use tls::rustls::pki_types::pem::{self, SectionKind};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo, X509Certificate};

/// Longer ones are not even looked at.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// Makes and reads tokens.
pub(super) struct Jwt {
    method: SignMethod,
    key: Key,
    ttl: Duration,
}

/// What signs and verifies.
enum Key {
    Hmac(Box<hmac::Key>),
    /// The public key alone, or with the private one.
    Pair(Vec<u8>, Option<Signer>),
}

enum Signer {
    Rsa(Box<RsaKeyPair>),
    Ecdsa(Box<EcdsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    typ: String,
    /// Extensions that must be understood; none are.
    #[serde(default, skip_serializing)]
    crit: Option<serde_json::Value>,
}

/// The payload as it is written.
#[derive(Serialize)]
struct Payload<'a> {
    exp: u64,
    revision: u64,
    username: &'a str,
}

/// The payload as it is read: numbers may be written with a fraction.
#[derive(Deserialize)]
struct Read {
    username: String,
    revision: f64,
    exp: Option<f64>,
    nbf: Option<f64>,
}

/// What a good token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claims {
    /// The user.
    pub user: String,
    /// The revision of users and roles it was made at.
    pub revision: u64,
    /// Wall time, milliseconds since 1970; none if it never ends.
    pub expires_ms: Option<u64>,
}

impl Jwt {
    /// Reads the keys.
    ///
    /// # Errors
    /// One is missing, cannot be read, or does not fit.
    pub fn load(settings: &JwtSettings) -> Result<Jwt, String> {
        let file = |name: &str, path: &Path| {
            std::fs::read(path).map_err(|error| {
                format!(
                    "auth-token: {name} {} cannot be read: {error}",
                    path.display()
                )
            })
        };
        let private = settings.private_key.as_deref();
        let private = private.map(|path| file("priv-key", path)).transpose()?;
        let public = settings.public_key.as_deref();
        let public = public.map(|path| file("pub-key", path)).transpose()?;
        let method = settings.method;
        let key = key(method, private.as_deref(), public.as_deref())
            .map_err(|why| format!("auth-token: {}: {why}", method.name()))?;
        Ok(Jwt {
            method,
            key,
            ttl: settings.ttl,
        })
    }

    /// Makes a token.
    ///
    /// # Errors
    /// There is only a public key.
    pub fn sign(&self, user: &str, revision: u64, now_ms: u64) -> Result<String, Status> {
        let header = Header {
            alg: self.method.name().into(),
            typ: "JWT".into(),
            crit: None,
        };
        let payload = Payload {
            exp: now_ms / 1000 + self.ttl.as_secs(),
            revision,
            username: user,
        };
        let mut token = [encode(&header), encode(&payload)].join(".");
        let signature = self.signature(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    fn signature(&self, said: &[u8]) -> Result<Vec<u8>, Status> {
        let random = SystemRandom::new();
        let signed = match &self.key {
            Key::Hmac(key) => return Ok(hmac::sign(key, said).as_ref().to_vec()),
            Key::Pair(_, None) => {
                let text = "auth: token signing attempted with verify-only key";
                return Err(Status::new(Code::Unknown, text));
            }
            Key::Pair(_, Some(Signer::Rsa(pair))) => {
                let mut signed = vec![0; pair.public_modulus_len()];
                let encoding = rsa_encoding(self.method);
                pair.sign(encoding, &random, said, &mut signed)
                    .map(|()| signed)
            }
            Key::Pair(_, Some(Signer::Ecdsa(pair))) => pair
                .sign(&random, said)
                .map(|signed| signed.as_ref().to_vec()),
            Key::Pair(_, Some(Signer::Ed25519(pair))) => Ok(pair.sign(said).as_ref().to_vec()),
        };
        signed.map_err(|_| Status::new(Code::Unknown, "auth: the token cannot be signed"))
    }

    /// Reads a token if its signature is right and its time is not over.
    pub fn verify(&self, token: &str, now_ms: u64) -> Option<Claims> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let (said, signature) = token.rsplit_once('.')?;
        let (header, payload) = said.split_once('.')?;
        let header: Header = decode(header)?;
        if header.alg != self.method.name() || header.crit.is_some() {
            return None;
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        match &self.key {
            Key::Hmac(key) => hmac::verify(key, said.as_bytes(), &signature).ok()?,
            Key::Pair(public, _) => UnparsedPublicKey::new(verification(self.method), public)
                .verify(said.as_bytes(), &signature)
                .ok()?,
        }
        let Read {
            username,
            revision,
            exp,
            nbf,
        } = decode(payload)?;
        let now = now_ms as f64 / 1000.0;
        if exp.is_some_and(|exp| now >= exp) || nbf.is_some_and(|nbf| now < nbf) {
            return None;
        }
        Some(Claims {
            user: username,
            revision: revision as u64,
            expires_ms: exp.map(|exp| (exp * 1000.0) as u64),
        })
    }
}

fn encode(part: &impl Serialize) -> String {
    let json = serde_json::to_vec(part).expect("plain fields become JSON");
    URL_SAFE_NO_PAD.encode(json)
}

fn decode<T: for<'a> Deserialize<'a>>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

fn rsa_encoding(method: SignMethod) -> &'static signature::RsaSignatureEncoding {
    match method {
        SignMethod::RS256 => &signature::RSA_PKCS1_SHA256,
        SignMethod::RS384 => &signature::RSA_PKCS1_SHA384,
        SignMethod::RS512 => &signature::RSA_PKCS1_SHA512,
        SignMethod::PS256 => &signature::RSA_PSS_SHA256,
        SignMethod::PS384 => &signature::RSA_PSS_SHA384,
        SignMethod::PS512 => &signature::RSA_PSS_SHA512,
        other => unreachable!("{} has no RSA key", other.name()),
    }
}

fn verification(method: SignMethod) -> &'static dyn signature::VerificationAlgorithm {
    match method {
        SignMethod::RS256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        SignMethod::RS384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        SignMethod::RS512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        SignMethod::PS256 => &signature::RSA_PSS_2048_8192_SHA256,
        SignMethod::PS384 => &signature::RSA_PSS_2048_8192_SHA384,
        SignMethod::PS512 => &signature::RSA_PSS_2048_8192_SHA512,
        SignMethod::ES256 => &signature::ECDSA_P256_SHA256_FIXED,
        SignMethod::ES384 => &signature::ECDSA_P384_SHA384_FIXED,
        SignMethod::ES512 => &signature::ECDSA_P521_SHA512_FIXED,
        SignMethod::EdDSA => &signature::ED25519,
        SignMethod::HS256 | SignMethod::HS384 | SignMethod::HS512 => {
            unreachable!("HMAC has no public key")
        }
    }
}

fn key(method: SignMethod, private: Option<&[u8]>, public: Option<&[u8]>) -> Result<Key, String> {
    let hmac = match method {
        SignMethod::HS256 => Some(hmac::HMAC_SHA256),
        SignMethod::HS384 => Some(hmac::HMAC_SHA384),
        SignMethod::HS512 => Some(hmac::HMAC_SHA512),
        _ => None,
    };
    if let Some(algorithm) = hmac {
        return match private {
            Some(secret) if !secret.is_empty() => {
                Ok(Key::Hmac(Box::new(hmac::Key::new(algorithm, secret))))
            }
            _ => Err("the secret is missing; pass it as priv-key=FILE".into()),
        };
    }
    let signer = private.map(|pem| signer(method, pem)).transpose()?;
    let public = public.map(public_key).transpose()?;
    let own = signer.as_ref().map(Signer::public_key);
    match (own, public) {
        (None, None) => {
            Err("a key is missing; pass priv-key=FILE, or pub-key=FILE to verify only".into())
        }
        (Some(own), Some(public)) if own != public => {
            Err("pub-key and priv-key do not belong together".into())
        }
        (Some(public), _) | (None, Some(public)) => Ok(Key::Pair(public, signer)),
    }
}

impl Signer {
    fn public_key(&self) -> Vec<u8> {
        match self {
            Signer::Rsa(pair) => pair.public_key().as_ref().to_vec(),
            Signer::Ecdsa(pair) => pair.public_key().as_ref().to_vec(),
            Signer::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
        }
    }
}

fn signer(method: SignMethod, pem: &[u8]) -> Result<Signer, String> {
    let unfit = |error: KeyRejected| format!("priv-key does not fit: {error}");
    let (kind, der) = section(pem, "priv-key", |kind| {
        matches!(
            kind,
            SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey
        )
    })?;
    let ecdsa = |algorithm| {
        EcdsaKeyPair::from_private_key_der(algorithm, &der)
            .map(|pair| Signer::Ecdsa(Box::new(pair)))
            .map_err(unfit)
    };
    match method {
        SignMethod::ES256 => ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
        SignMethod::ES384 => ecdsa(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
        SignMethod::ES512 => ecdsa(&signature::ECDSA_P521_SHA512_FIXED_SIGNING),
        SignMethod::EdDSA => Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der)
            .map(|pair| Signer::Ed25519(Box::new(pair)))
            .map_err(unfit),
        _ => match kind {
            SectionKind::RsaPrivateKey => RsaKeyPair::from_der(&der),
            _ => RsaKeyPair::from_pkcs8(&der),
        }
        .map(|pair| Signer::Rsa(Box::new(pair)))
        .map_err(unfit),
    }
}

/// The bytes of a public key: what is inside the envelope that names its kind. A certificate will do as well.
fn public_key(pem: &[u8]) -> Result<Vec<u8>, String> {
    let (kind, der) = section(pem, "pub-key", |kind| {
        matches!(kind, SectionKind::PublicKey | SectionKind::Certificate)
    })?;
    let unfit = |error| format!("pub-key cannot be read: {error}");
    let info = match kind {
        SectionKind::Certificate => {
            X509Certificate::from_der(&der)
                .map_err(unfit)?
                .1
                .tbs_certificate
                .subject_pki
        }
        _ => SubjectPublicKeyInfo::from_der(&der).map_err(unfit)?.1,
    };
    Ok(info.subject_public_key.data.to_vec())
}

/// The first part of a PEM file that is of a wanted kind.
fn section(
    mut pem: &[u8],
    name: &str,
    wanted: impl Fn(SectionKind) -> bool,
) -> Result<(SectionKind, Vec<u8>), String> {
    loop {
        match pem::from_buf(&mut pem) {
            Ok(Some((kind, der))) if wanted(kind) => return Ok((kind, der)),
            Ok(Some(_)) => {}
            Ok(None) => return Err(format!("{name} holds no such key in PEM form")),
            Err(error) => return Err(format!("{name} cannot be read: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{KeyPair as Generated, SignatureAlgorithm};

    const NOW: u64 = 1_700_000_000_000;

    fn jwt(method: SignMethod, private: Option<&str>, public: Option<&str>) -> Result<Jwt, String> {
        Ok(Jwt {
            method,
            key: key(
                method,
                private.map(str::as_bytes),
                public.map(str::as_bytes),
            )?,
            ttl: Duration::from_secs(60),
        })
    }

    fn made(user: &str) -> Option<Claims> {
        Some(Claims {
            user: user.into(),
            revision: 7,
            expires_ms: Some(NOW + 60_000),
        })
    }

    fn generated(algorithm: &'static SignatureAlgorithm) -> (String, String) {
        let pair = Generated::generate_for(algorithm).expect("a key can be made");
        (pair.serialize_pem(), pair.public_key_pem())
    }

    #[test]
    fn every_kind_of_key_signs_and_its_public_half_verifies() {
        for (method, algorithm) in [
            (SignMethod::RS256, &rcgen::PKCS_RSA_SHA256),
            (SignMethod::PS384, &rcgen::PKCS_RSA_SHA256),
            (SignMethod::ES256, &rcgen::PKCS_ECDSA_P256_SHA256),
            (SignMethod::ES384, &rcgen::PKCS_ECDSA_P384_SHA384),
            (SignMethod::ES512, &rcgen::PKCS_ECDSA_P521_SHA512),
            (SignMethod::EdDSA, &rcgen::PKCS_ED25519),
        ] {
            let (private, public) = generated(algorithm);
            let both = jwt(method, Some(&private), Some(&public)).expect("the keys fit");
            let verifier = jwt(method, None, Some(&public)).expect("the key fits");
            let token = both.sign("ann", 7, NOW).expect("it has the private key");
            assert_eq!(both.verify(&token, NOW), made("ann"), "{method:?}");
            assert_eq!(verifier.verify(&token, NOW), made("ann"), "{method:?}");
            let refused = verifier.sign("ann", 7, NOW).expect_err("it cannot sign");
            assert!(refused.text.contains("verify-only"), "{refused}");
            let (other, _) = generated(algorithm);
            let stranger = jwt(method, Some(&other), None).expect("the key fits");
            assert_eq!(stranger.verify(&token, NOW), None, "{method:?}");
            assert!(
                jwt(method, Some(&other), Some(&public)).is_err(),
                "{method:?}"
            );
        }
    }

    #[test]
    fn a_token_ends_with_its_time_and_any_change_of_it() {
        let jwt = jwt(SignMethod::HS256, Some("secret"), None).expect("a secret");
        let token = jwt.sign("ann", 7, NOW).expect("it has the secret");
        assert_eq!(jwt.verify(&token, NOW + 59_999), made("ann"));
        assert_eq!(jwt.verify(&token, NOW + 60_000), None);
        for at in (0..token.len()).filter(|at| token.as_bytes()[*at] != b'.') {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("still ASCII");
            assert_ne!(jwt.verify(&changed, NOW), made("ann"), "{at}");
        }
    }

    #[test]
    fn only_the_configured_algorithm_counts() {
        let (private, public) = generated(&rcgen::PKCS_ECDSA_P256_SHA256);
        let verifier = jwt(SignMethod::ES256, None, Some(&public)).expect("the key fits");
        // The old trick: the public key, which everybody has, taken for a secret.
        let forger = jwt(SignMethod::HS256, Some(&public), None).expect("a secret");
        let forged = forger.sign("root", 7, NOW).expect("it has a secret");
        assert_eq!(verifier.verify(&forged, NOW), None);
        let (_, payload) = forged.split_once('.').expect("three parts");
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"ES256","crit":["exp"]}"#,
            "{}",
        ] {
            let forged = format!("{}.{payload}", URL_SAFE_NO_PAD.encode(header));
            assert_eq!(verifier.verify(&forged, NOW), None, "{header}");
        }
        let signer = jwt(SignMethod::ES256, Some(&private), None).expect("the key fits");
        let odd = format!(
            "{}.{}.",
            encode(&serde_json::json!({"alg": "ES256"})),
            encode(&1)
        );
        assert_eq!(signer.verify(&odd, NOW), None);
        assert_eq!(signer.verify("", NOW), None);
    }

    #[test]
    fn unfit_keys_are_refused_with_their_name() {
        let (ecdsa, _) = generated(&rcgen::PKCS_ECDSA_P256_SHA256);
        let refused = |method, private, public| jwt(method, private, public).err().expect("unfit");
        assert!(refused(SignMethod::RS256, Some(&ecdsa), None).contains("priv-key"));
        assert!(refused(SignMethod::RS256, None, None).contains("missing"));
        assert!(refused(SignMethod::HS256, None, Some("x")).contains("secret"));
        assert!(refused(SignMethod::ES256, None, Some("no pem")).contains("pub-key"));
    }
}
