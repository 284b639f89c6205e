//! The keys of signed tokens: listed, rotated, dropped. What a seed's public half is, and how a key is called, is said by who can compute it.

use crate::call::{Change, Headed, mismatch};
use bytes::Bytes;
use etcd::{Advice, Code, Status};
use proto::synod::v1;
use state::auth::{
    Auth, AuthChange, AuthOperation, DropVerifyingKey, RETIRED_KEYS_MAX, RetiredKey,
    RotateSigningSeed,
};
use state::{Operation, Reply};

/// The keys of a cell, at a time.
pub struct SigningKeys<'a> {
    /// Where they are kept.
    pub auth: &'a Auth,
    /// The public half of the one that signs; empty if there is none yet.
    pub public: Bytes,
    /// How a key is called, by its public half.
    pub kid: fn(&[u8]) -> String,
    /// The time.
    pub now_unix_ms: u64,
}

impl SigningKeys<'_> {
    /// All that verify; the one that signs first.
    pub fn list(&self) -> Vec<v1::VerifyingKey> {
        let signing = (!self.public.is_empty()).then(|| v1::VerifyingKey {
            kid: (self.kid)(&self.public),
            ed25519: self.public.clone(),
            signs: true,
            until_unix_ms: None,
        });
        let retired = self.retired().map(|key| v1::VerifyingKey {
            kid: (self.kid)(&key.public),
            ed25519: key.public.clone(),
            signs: false,
            until_unix_ms: key.until_unix_ms,
        });
        signing.into_iter().chain(retired).collect()
    }

    /// Those that only verify, the newest first.
    fn retired(&self) -> impl Iterator<Item = &RetiredKey> {
        let all = self.auth.retired_keys().iter().rev();
        all.filter(|key| key.verifies_at(self.now_unix_ms))
    }

    /// Signs with another seed from now on.
    ///
    /// # Errors
    /// Another key signs than the caller wants replaced, or too many verify.
    pub fn rotate(
        &self,
        request: &v1::RotateKeyRequest,
        seed: Bytes,
    ) -> Result<Change<v1::RotateKeyResponse>, Status> {
        let signs = (self.kid)(&self.public);
        if !request.replaces.is_empty() && request.replaces != signs {
            let signs = match signs.as_str() {
                "" => "no key yet".into(),
                kid => format!("key {kid}"),
            };
            let text = format!(
                "replaces: the cell signs with {signs}, not with {}; look at the keys again",
                request.replaces
            );
            return Err(refused(text, "other-key"));
        }
        let keeps = request.keep_ms != Some(0) && !self.public.is_empty();
        if keeps && self.retired().count() >= RETIRED_KEYS_MAX {
            let text = format!(
                "{RETIRED_KEYS_MAX} keys verify beside the one that signs, which is the limit; drop one first"
            );
            return Err(refused(text, "too-many-keys"));
        }
        let until = |keep_ms: u64| self.now_unix_ms.saturating_add(keep_ms);
        let rotate = RotateSigningSeed {
            seed,
            replaced: self.auth.signing_seed().clone(),
            retired: keeps.then(|| RetiredKey {
                public: self.public.clone(),
                until_unix_ms: request.keep_ms.map(until),
            }),
            now_unix_ms: self.now_unix_ms,
        };
        change(
            AuthOperation::RotateSigningSeed(Box::new(rotate)),
            |reply| match reply {
                Reply::Auth => Ok(v1::RotateKeyResponse::default()),
                _ => mismatch(),
            },
        )
    }

    /// Takes a key from those that verify.
    ///
    /// # Errors
    /// It is the one that signs, or none of them.
    pub fn drop_key(
        &self,
        request: &v1::DropKeyRequest,
    ) -> Result<Change<v1::DropKeyResponse>, Status> {
        let kid = &request.kid;
        let Some(key) = self.list().into_iter().find(|key| key.kid == *kid) else {
            let text = format!("kid: no key {kid:?} verifies; look at the keys again");
            let advice = Advice::permanent("key-not-found");
            return Err(Status::new(Code::NotFound, text).advised(advice));
        };
        if key.signs {
            let text = format!("kid: the cell signs with key {kid}; rotate first");
            return Err(refused(text, "key-signs"));
        }
        let drop = DropVerifyingKey {
            public: key.ed25519,
        };
        change(AuthOperation::DropVerifyingKey(drop), |reply| match reply {
            Reply::Auth => Ok(v1::DropKeyResponse::default()),
            _ => mismatch(),
        })
    }
}

fn refused(text: String, reason: &'static str) -> Status {
    Status::new(Code::FailedPrecondition, text).advised(Advice::permanent(reason))
}

fn change<R: Headed + 'static>(
    operation: AuthOperation,
    answer: fn(Reply) -> Result<R, Status>,
) -> Result<Change<R>, Status> {
    let operation = Operation::Auth(AuthChange {
        operation: Some(operation),
    });
    Change::new(None, operation, answer)
}
