//! Tokens that were found right before, so that a request costs a look-up and not a signature; and how use extends a simple token.

use bytes::Bytes;
use std::collections::HashMap;
use std::time::Instant;

/// Tokens remembered at most. One that is forgotten is verified again, and good until its own end.
const TOKENS_MAX: usize = 65_536;

/// What is known of a token.
#[derive(Clone, Debug)]
pub(super) struct Verified {
    /// Its user.
    pub user: String,
    /// What it is good for.
    pub bound: Bound,
    /// Its end.
    pub until: Instant,
}

/// What a token is bound to.
#[derive(Clone, Debug)]
pub(super) enum Bound {
    /// A simple one, to its user's password.
    Password {
        /// The revision at which the password was set.
        revision: u64,
        /// The key it was signed with.
        key: Bytes,
        /// The hash of the users and roles it was held against last.
        seen: u64,
    },
    /// A JSON web token, to the revision of users and roles it claims.
    #[cfg(feature = "aws-lc")]
    Revision(u64),
}

/// The tokens that were found right before. Bounded by two halves: when the newer one is full, the older one is forgotten.
#[derive(Default)]
pub(super) struct VerifiedTokens {
    newer: HashMap<Box<[u8]>, Verified>,
    older: HashMap<Box<[u8]>, Verified>,
}

impl VerifiedTokens {
    /// Finds one that has not ended.
    pub fn get(&mut self, token: &[u8], now: Instant) -> Option<&mut Verified> {
        if !self.newer.contains_key(token) {
            let (token, verified) = self.older.remove_entry(token)?;
            self.put(token, verified);
        }
        if self.newer.get(token)?.until <= now {
            self.newer.remove(token);
            return None;
        }
        self.newer.get_mut(token)
    }

    /// Remembers one.
    pub fn insert(&mut self, token: &[u8], verified: Verified) {
        self.put(token.into(), verified);
    }

    fn put(&mut self, token: Box<[u8]>, verified: Verified) {
        if self.newer.len() >= TOKENS_MAX / 2 {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(token, verified);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn verified(until: Instant) -> Verified {
        Verified {
            user: "ann".into(),
            bound: Bound::Password {
                revision: 1,
                key: Bytes::new(),
                seen: 1,
            },
            until,
        }
    }

    #[test]
    fn an_ended_token_is_not_found() {
        let (mut tokens, now) = (VerifiedTokens::default(), Instant::now());
        tokens.insert(b"t", verified(now + Duration::from_secs(1)));
        assert!(tokens.get(b"t", now).is_some());
        assert!(tokens.get(b"t", now + Duration::from_secs(1)).is_none());
        assert!(tokens.get(b"t", now).is_none(), "it is forgotten");
    }

    #[test]
    fn there_are_never_more_than_the_limit_and_those_in_use_stay() {
        let (mut tokens, now) = (VerifiedTokens::default(), Instant::now());
        let until = now + Duration::from_secs(1);
        tokens.insert(b"in use", verified(until));
        for number in 0..2 * TOKENS_MAX as u64 {
            tokens.insert(&number.to_be_bytes(), verified(until));
            assert!(tokens.newer.len() + tokens.older.len() <= TOKENS_MAX);
            if number % 1000 == 0 {
                assert!(tokens.get(b"in use", now).is_some(), "{number}");
            }
        }
        assert!(tokens.get(&0_u64.to_be_bytes(), now).is_none());
    }
}
