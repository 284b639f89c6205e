//! Signing and verifying.

use crate::Grant;
use crate::crypto::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Longer ones are not even looked at.
const TOKEN_BYTES_MAX: usize = 16 << 10;

const ALGORITHM: &str = "EdDSA";

/// Signs for a cell.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: [u8; 32],
}

/// The bytes make no key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyError(&'static str);

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a key of Ed25519: {}", self.0)
    }
}

impl std::error::Error for KeyError {}

/// Why a text is no token of the cells whose keys are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifyError {
    /// It is no signed token at all.
    Malformed,
    /// It names a key that is not known.
    UnknownKey(String),
    /// The signature is wrong.
    Signature,
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VerifyError::Malformed => f.write_str("not a signed fencing token"),
            VerifyError::UnknownKey(kid) => write!(
                f,
                "signed with key {kid:?}, which is not known; fetch the keys of the cell anew"
            ),
            VerifyError::Signature => f.write_str("the signature is wrong"),
        }
    }
}

impl std::error::Error for VerifyError {}

#[derive(Serialize, Deserialize)]
struct Head {
    alg: String,
    #[serde(default)]
    kid: String,
    /// Extensions that must be understood; none are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crit: Option<serde_json::Value>,
}

/// How the key with this public half is called in signed tokens.
pub fn kid(public: &[u8]) -> String {
    let first = public.iter().take(8);
    first.map(|byte| format!("{byte:02x}")).collect()
}

impl SigningKey {
    /// The key of a random seed.
    ///
    /// # Errors
    /// The seed does not have 32 bytes.
    pub fn from_seed(seed: &[u8]) -> Result<SigningKey, KeyError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed);
        let pair = pair.map_err(|_| KeyError("a seed has 32 bytes"))?;
        let public = pair.public_key().as_ref().try_into();
        let public = public.map_err(|_| KeyError("its public half has 32 bytes"))?;
        Ok(SigningKey { pair, public })
    }

    /// What verifies it.
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// Its name in signed tokens.
    pub fn kid(&self) -> String {
        kid(&self.public)
    }

    /// The public half as a JSON web key set.
    pub fn jwks(&self) -> String {
        let mut keys = VerifyingKeys::new();
        keys.keys.insert(self.kid(), self.public);
        keys.jwks()
    }

    /// Signs a grant.
    pub fn sign(&self, grant: &Grant) -> String {
        let head = serde_json::json!({ "alg": ALGORITHM, "kid": self.kid(), "typ": "JWT" });
        let said = serde_json::to_vec(grant).expect("texts and numbers can be written");
        let said = [BASE64.encode(head.to_string()), BASE64.encode(said)].join(".");
        let signature = self.pair.sign(said.as_bytes());
        format!("{said}.{}", BASE64.encode(signature.as_ref()))
    }
}

/// Verifies what cells signed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyingKeys {
    keys: BTreeMap<String, [u8; 32]>,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<WebKey>,
}

#[derive(Deserialize)]
struct WebKey {
    kty: String,
    #[serde(default)]
    crv: String,
    #[serde(default)]
    x: String,
}

impl VerifyingKeys {
    /// Knows no key.
    pub fn new() -> VerifyingKeys {
        VerifyingKeys::default()
    }

    /// The keys of a cell, as `GET /synod/v1/keys` gives them. Keys of other kinds are passed over.
    ///
    /// # Errors
    /// The text is no JSON web key set, or one of its keys is none.
    pub fn from_jwks(text: &str) -> Result<VerifyingKeys, KeyError> {
        let set = serde_json::from_str::<KeySet>(text);
        let set = set.map_err(|_| KeyError("the text is no JSON web key set"))?;
        let mut keys = VerifyingKeys::new();
        for key in set.keys {
            if key.kty == "OKP" && key.crv == "Ed25519" {
                let bytes = BASE64.decode(&key.x);
                keys.add(&bytes.map_err(|_| KeyError("x is not base64url"))?)?;
            }
        }
        Ok(keys)
    }

    /// The keys as a JSON web key set.
    pub fn jwks(&self) -> String {
        let keys = self.keys.iter().map(|(kid, public)| {
            serde_json::json!({
                "kty": "OKP",
                "crv": "Ed25519",
                "alg": ALGORITHM,
                "use": "sig",
                "kid": kid,
                "x": BASE64.encode(public),
            })
        });
        serde_json::json!({ "keys": keys.collect::<Vec<_>>() }).to_string()
    }

    /// Takes a key to those that are known.
    ///
    /// # Errors
    /// It does not have 32 bytes.
    pub fn add(&mut self, public: &[u8]) -> Result<(), KeyError> {
        let public: Result<&[u8; 32], _> = public.try_into();
        let public = public.map_err(|_| KeyError("a public key has 32 bytes"))?;
        self.keys.insert(kid(public), *public);
        Ok(())
    }

    /// What a signed token says.
    ///
    /// # Errors
    /// It is not signed with one of the keys.
    pub fn verify(&self, text: &str) -> Result<Grant, VerifyError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(VerifyError::Malformed);
        }
        let (said, signature) = text.rsplit_once('.').ok_or(VerifyError::Malformed)?;
        let (head, grant) = said.split_once('.').ok_or(VerifyError::Malformed)?;
        let decode = |part: &str| BASE64.decode(part).map_err(|_| VerifyError::Malformed);
        let head: Head = parse(&decode(head)?)?;
        if head.alg != ALGORITHM || head.crit.is_some() {
            return Err(VerifyError::Malformed);
        }
        let Some(public) = self.keys.get(&head.kid) else {
            return Err(VerifyError::UnknownKey(head.kid));
        };
        UnparsedPublicKey::new(&ED25519, public)
            .verify(said.as_bytes(), &decode(signature)?)
            .map_err(|_| VerifyError::Signature)?;
        parse(&decode(grant)?)
    }
}

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, VerifyError> {
    serde_json::from_slice(bytes).map_err(|_| VerifyError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mode;

    fn grant() -> Grant {
        Grant {
            cluster: "c".into(),
            cell: 0,
            name: "nightly".into(),
            mode: Mode::Exclusive,
            token: 7,
            expires_unix_s: 1_700_000_000,
        }
    }

    #[test]
    fn whoever_has_the_public_half_can_verify() {
        let key = SigningKey::from_seed(&[7; 32]).unwrap();
        let keys = VerifyingKeys::from_jwks(&key.jwks()).unwrap();
        assert_eq!(keys.verify(&key.sign(&grant())), Ok(grant()));
    }

    const TOKEN: &str = "eyJhbGciOiJFZERTQSIsImtpZCI6ImVhNGE2YzYzZTI5YzUyMGEiLCJ0eXAiOiJKV1QifQ.\
        eyJpc3MiOiJjIiwiY2VsbCI6MCwic3ViIjoibmlnaHRseSIsIm1vZGUiOiJleGNsdXNpdmUiLCJ0b2tlbiI6NywiZXhwIjoxNzAwMDAwMDAwfQ.\
        rRzA7QnoewzqYHC63WLGyFFerTkWL6Cs3uOmszmyITRZiryAMOXxxw1Eb7-VQ2lKlVsU75Fr1qxYk3giMJnTDw";
    const JWKS: &str = r#"{"keys":[{"alg":"EdDSA","crv":"Ed25519","kid":"ea4a6c63e29c520a","kty":"OKP","use":"sig","x":"6kpsY-KcUgq-9VB7Ey7F-ZVHdq6-vnuSQh7qaRRG0iw"}]}"#;

    #[test]
    fn tokens_of_before_are_verified_until_their_key_is_gone() {
        let before = SigningKey::from_seed(&[7; 32]).unwrap();
        let after = SigningKey::from_seed(&[8; 32]).unwrap();
        let (old, new) = (before.sign(&grant()), after.sign(&grant()));
        // Who has not fetched the keys since the rotation is told to, by the new key's name.
        let known = VerifyingKeys::from_jwks(&before.jwks()).unwrap();
        assert_eq!(known.verify(&old), Ok(grant()));
        let unknown = Err(VerifyError::UnknownKey(after.kid()));
        assert_eq!(known.verify(&new), unknown);
        let mut both = known.clone();
        both.add(after.public()).unwrap();
        let both = VerifyingKeys::from_jwks(&both.jwks()).unwrap();
        assert_eq!(both.verify(&old), Ok(grant()));
        assert_eq!(both.verify(&new), Ok(grant()));
        let dropped = VerifyingKeys::from_jwks(&after.jwks()).unwrap();
        let unknown = Err(VerifyError::UnknownKey(before.kid()));
        assert_eq!(dropped.verify(&old), unknown);
        assert_eq!(dropped.verify(&new), Ok(grant()));
    }

    /// Written before there was a rotation; it verifies for ever.
    #[test]
    fn the_form_of_tokens_stays() {
        let key = SigningKey::from_seed(&[7; 32]).unwrap();
        assert_eq!(key.sign(&grant()), TOKEN);
        assert_eq!(key.jwks(), JWKS);
    }

    #[test]
    fn tokens_of_strangers_and_changed_ones_are_refused() {
        let key = SigningKey::from_seed(&[7; 32]).unwrap();
        let stranger = SigningKey::from_seed(&[8; 32]).unwrap();
        let keys = VerifyingKeys::from_jwks(&key.jwks()).unwrap();
        let refused = keys.verify(&stranger.sign(&grant()));
        assert_eq!(refused, Err(VerifyError::UnknownKey(stranger.kid())));
        let text = key.sign(&grant());
        let other = key.sign(&Grant {
            token: 8,
            ..grant()
        });
        let (said, _) = other.rsplit_once('.').unwrap();
        let (_, signature) = text.rsplit_once('.').unwrap();
        let forged = format!("{said}.{signature}");
        assert_eq!(keys.verify(&forged), Err(VerifyError::Signature));
        for cut in 0..text.len() {
            assert!(keys.verify(&text[..cut]).is_err(), "{cut}");
        }
        let unsigned = BASE64.encode(r#"{"alg":"none"}"#);
        let unsigned = format!("{unsigned}.{}.", text.split('.').nth(1).unwrap());
        assert_eq!(keys.verify(&unsigned), Err(VerifyError::Malformed));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert!(SigningKey::from_seed(&[1; 31]).is_err());
        assert!(VerifyingKeys::new().add(&[1; 33]).is_err());
        assert!(VerifyingKeys::from_jwks("{}").is_err());
        let others = r#"{"keys":[{"kty":"RSA","n":"x"}]}"#;
        assert_eq!(VerifyingKeys::from_jwks(others), Ok(VerifyingKeys::new()));
    }
}
