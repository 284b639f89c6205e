//! Simple tokens: what they say and who vouches for it, in one line of text. Unlike etcd's, which are random and known to the members that were there, they
//! are signed with a key in the replicated state.

use super::crypto::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message;

/// What a token says.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Token {
    /// The user.
    #[prost(string, tag = "1")]
    pub user: String,
    /// When the user's password was set; void with another.
    #[prost(uint64, tag = "2")]
    pub password_revision: u64,
    /// Wall time, milliseconds since 1970.
    #[prost(uint64, tag = "3")]
    pub expires_ms: u64,
}

/// Bytes of the signature, which comes first.
const MAC_BYTES: usize = 32;

/// Longer ones are not even looked at.
const TOKEN_BYTES_MAX: usize = 4096;

impl Token {
    /// Writes and signs it.
    pub fn sign(&self, key: &[u8]) -> String {
        let said = self.encode_to_vec();
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &said);
        URL_SAFE_NO_PAD.encode([mac.as_ref(), &said].concat())
    }

    /// Reads a token if its signature is right; whether it has expired is for the caller to see.
    pub fn verify(key: &[u8], token: &str) -> Option<Token> {
        if key.is_empty() || token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (mac, said) = bytes.split_at_checked(MAC_BYTES)?;
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key), said, mac).ok()?;
        Token::decode(said).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token {
            user: "ann".into(),
            password_revision: 7,
            expires_ms: 1_700_000_000_000,
        }
    }

    #[test]
    fn a_token_is_read_back_with_its_key_alone() {
        let text = token().sign(b"key");
        assert_eq!(Token::verify(b"key", &text), Some(token()));
        assert_eq!(Token::verify(b"other", &text), None);
        assert_eq!(
            Token::verify(b"", &token().sign(b"")),
            None,
            "no key vouches for nothing"
        );
    }

    #[test]
    fn no_changed_character_passes() {
        let text = token().sign(b"key");
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("still ASCII");
            assert_ne!(Token::verify(b"key", &changed), Some(token()), "{at}");
        }
        for cut in 0..text.len() {
            assert_eq!(Token::verify(b"key", &text[..cut]), None, "{cut}");
        }
        assert_eq!(Token::verify(b"key", "xyz.12"), None, "one of etcd's");
    }
}
