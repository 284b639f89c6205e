//! The key that fencing tokens are signed with, and those of before that still verify them. What a seed's public half is, only doors know: the state
//! keeps what they say and looks into neither.

use super::{AuthRejection, Store};
use bytes::Bytes;

/// Bytes of a seed.
pub const SIGNING_SEED_BYTES: usize = 32;

/// Bytes of the public half of a key.
const PUBLIC_BYTES: usize = 32;

/// Keys of before that verify at most.
pub const RETIRED_KEYS_MAX: usize = 16;

/// See [`super::AuthOperation::DrawSigningSeed`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct DrawSigningSeed {
    /// The key's seed; random, from the member that proposes.
    #[prost(bytes = "bytes", tag = "1")]
    pub seed: Bytes,
}

/// See [`super::AuthOperation::RotateSigningSeed`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct RotateSigningSeed {
    /// The new key's seed; random, from the member that proposes.
    #[prost(bytes = "bytes", tag = "1")]
    pub seed: Bytes,
    /// The seed that it replaces. If another one signs by then, nothing happens.
    #[prost(bytes = "bytes", tag = "2")]
    pub replaced: Bytes,
    /// The key of the seed that it replaces, if that is to go on verifying.
    #[prost(message, optional, tag = "3")]
    pub retired: Option<RetiredKey>,
    /// The time of the member that proposes; what ended before it is forgotten.
    #[prost(uint64, tag = "4")]
    pub now_unix_ms: u64,
}

/// See [`super::AuthOperation::DropVerifyingKey`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct DropVerifyingKey {
    /// Its public half.
    #[prost(bytes = "bytes", tag = "1")]
    pub public: Bytes,
}

/// A key that signs no more, but verifies what it signed.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RetiredKey {
    /// Its public half; the seed is gone.
    #[prost(bytes = "bytes", tag = "1")]
    pub public: Bytes,
    /// When it stops to verify; until somebody drops it if that is left out.
    #[prost(uint64, optional, tag = "2")]
    pub until_unix_ms: Option<u64>,
}

impl RetiredKey {
    /// It verifies at this time.
    #[must_use]
    pub fn verifies_at(&self, unix_ms: u64) -> bool {
        self.until_unix_ms.is_none_or(|until| unix_ms < until)
    }
}

fn check_seed(seed: &Bytes) -> Result<(), AuthRejection> {
    match seed.len() {
        SIGNING_SEED_BYTES => Ok(()),
        _ => Err(AuthRejection::InvalidManagement),
    }
}

impl Store {
    pub(super) fn draw_signing_seed(&mut self, seed: &Bytes) -> Result<(), AuthRejection> {
        check_seed(seed)?;
        // The first one stays: tokens signed with it are out.
        if self.signing_seed.is_empty() {
            self.signing_seed = seed.clone();
        }
        Ok(())
    }

    pub(super) fn rotate_signing_seed(
        &mut self,
        rotate: &RotateSigningSeed,
    ) -> Result<(), AuthRejection> {
        check_seed(&rotate.seed)?;
        let retired = rotate.retired.as_ref();
        if retired.is_some_and(|key| key.public.len() != PUBLIC_BYTES) {
            return Err(AuthRejection::InvalidManagement);
        }
        if self.signing_seed != rotate.replaced {
            return Ok(());
        }
        let verifies = |key: &RetiredKey| key.verifies_at(rotate.now_unix_ms);
        let kept = self.retired_keys.iter().filter(|key| verifies(key)).count();
        if retired.is_some() && kept >= RETIRED_KEYS_MAX {
            return Err(AuthRejection::InvalidManagement);
        }
        self.retired_keys.retain(verifies);
        self.retired_keys.extend(retired.cloned());
        self.signing_seed = rotate.seed.clone();
        Ok(())
    }

    pub(super) fn drop_verifying_key(&mut self, public: &Bytes) {
        self.retired_keys.retain(|key| key.public != *public);
    }
}
