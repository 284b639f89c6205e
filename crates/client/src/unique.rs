//! Names that one has and nobody else.

use crate::{ClientError, Compare, Kv, Op, Session, Txn};

/// A set of names, each of which is claimed once: user names, host names, numbers of invoices. A claim outlives the session it was made in.
#[derive(Clone)]
pub struct Unique {
    kv: Kv,
    prefix: String,
}

/// What came of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The name is the owner's, and was so before if it claimed it before.
    Ours,
    /// Somebody else has it.
    Theirs {
        /// Who, as it said.
        owner: Vec<u8>,
    },
}

impl Unique {
    /// The names of this set. They are the keys that begin with its name and a slash.
    pub fn new(session: &Session, set: &str) -> Unique {
        Unique {
            kv: Kv::of(session),
            prefix: format!("{set}/"),
        }
    }

    /// Claims a name for an owner.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn claim(&self, name: &str, owner: impl AsRef<[u8]>) -> Result<Claim, ClientError> {
        let key = self.key(name);
        let owner = owner.as_ref();
        let txn = Txn::new()
            .when(Compare::missing(&key))
            .then(Op::put(&key, owner))
            .otherwise(Op::get(&key));
        let answer = self.kv.txn(txn).await?;
        Ok(match answer.read(0).first() {
            Some(kv) if kv.value != owner => Claim::Theirs {
                owner: kv.value.to_vec(),
            },
            _ => Claim::Ours,
        })
    }

    /// Who has a name.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn owner(&self, name: &str) -> Result<Option<Vec<u8>>, ClientError> {
        let found = self.kv.get(self.key(name)).await?;
        Ok(found.map(|kv| kv.value.to_vec()))
    }

    /// Gives a name back, if this owner has it; says whether it had.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn give_back(
        &self,
        name: &str,
        owner: impl AsRef<[u8]>,
    ) -> Result<bool, ClientError> {
        let key = self.key(name);
        let txn = Txn::new()
            .when(Compare::value(&key, owner))
            .then(Op::delete(&key));
        Ok(self.kv.txn(txn).await?.succeeded)
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}
