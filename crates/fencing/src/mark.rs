//! The mark that a resource keeps: the greatest token it has seen of each lock.

use crate::Grant;
use std::collections::BTreeMap;
use std::fmt;

/// The greatest token seen, by lock. A resource that outlives its process keeps it where it keeps its data, and changes both at once; this one is for
/// resources that live in memory, and an example for the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HighWater {
    seen: BTreeMap<String, u64>,
}

/// Somebody with a greater token was here before: whoever comes has lost the lock, whether it knows or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale {
    /// The lock.
    pub name: String,
    /// The token that came.
    pub token: u64,
    /// The greatest one seen.
    pub seen: u64,
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stale { name, token, seen } = self;
        write!(
            f,
            "lock {name}: token {token} is stale, {seen} was here before; acquire the lock again"
        )
    }
}

impl std::error::Error for Stale {}

impl HighWater {
    /// Nothing seen.
    pub fn new() -> HighWater {
        HighWater::default()
    }

    /// Lets a token in and remembers it, unless a greater one of its lock was here before.
    ///
    /// # Errors
    /// One was.
    pub fn admit(&mut self, name: &str, token: u64) -> Result<(), Stale> {
        let seen = self.seen.get(name).copied().unwrap_or(0);
        if token < seen {
            let name = name.to_owned();
            return Err(Stale { name, token, seen });
        }
        if token > seen {
            self.seen.insert(name.to_owned(), token);
        }
        Ok(())
    }

    /// The same for a signed token that was verified.
    ///
    /// # Errors
    /// A greater one was here before.
    pub fn admit_grant(&mut self, grant: &Grant) -> Result<(), Stale> {
        self.admit(&grant.name, grant.token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_tokens_are_refused_and_change_nothing() {
        let mut mark = HighWater::new();
        mark.admit("a", 5).unwrap();
        mark.admit("a", 5).unwrap();
        mark.admit("b", 1).unwrap();
        let stale = mark.admit("a", 4).unwrap_err();
        assert_eq!((stale.token, stale.seen), (4, 5));
        assert!(
            stale
                .to_string()
                .contains("token 4 is stale, 5 was here before")
        );
        mark.admit("a", 9).unwrap();
        assert!(mark.admit("a", 8).is_err());
    }
}
