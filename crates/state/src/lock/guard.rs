//! Guards: a command that is applied only while a lock is held by the grant it names (PROPERTIES F3).

use crate::Guard;
use crate::lock::{Locks, Moment};
use bytes::Bytes;
use std::fmt;

/// Model of [`crate::Guard`] that means these locks.
pub const GUARD_MODEL: u32 = 1;
/// Guards of one command.
pub(crate) const GUARDS_MAX: usize = 16;

/// A guard that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuardRejection {
    /// The grant named does not hold the lock.
    NotHeld {
        /// The lock.
        name: Bytes,
        /// The token of the grant that was named.
        token: u64,
        /// The newest token of the lock; 0 if nobody holds it or waits for it.
        newest: u64,
    },
    /// The guard names a model that is not known.
    UnknownModel {
        /// The model.
        model: u32,
    },
}

impl fmt::Display for GuardRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GuardRejection::NotHeld {
                name,
                token,
                newest,
            } => {
                let name = name.escape_ascii();
                write!(f, "guard: lock {name} is not held with token {token}")?;
                match newest {
                    0 => Ok(()),
                    newest => write!(f, ", its newest is {newest}"),
                }
            }
            GuardRejection::UnknownModel { model } => {
                write!(f, "guard: model {model} has no locks")
            }
        }
    }
}

impl Locks {
    /// The grant with this token holds the lock, and its session is alive.
    pub fn holds(&self, name: &[u8], token: u64, moment: &Moment<'_>) -> bool {
        let queue = self.queues.get(name);
        mutated!(
            StaleGuard,
            return queue.is_some_and(|queue| !queue.holders.is_empty())
        );
        mutated!(
            GuardByNewest,
            return queue.is_some() && self.newest(name) == token
        );
        let of_grant = queue.and_then(|queue| queue.of_grant(token).next());
        of_grant.is_some_and(|claimant| moment.is_alive(claimant.session))
    }

    /// The newest token of a lock; 0 if it is not known.
    pub fn newest(&self, name: &[u8]) -> u64 {
        self.locks.get(name).map_or(0, |lock| lock.newest)
    }

    /// Whether all guards hold.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check_guards(
        &self,
        guards: &[Guard],
        moment: &Moment<'_>,
    ) -> Result<(), GuardRejection> {
        for Guard { model, name, token } in guards {
            if *model != GUARD_MODEL {
                return Err(GuardRejection::UnknownModel { model: *model });
            }
            if !self.holds(name, *token, moment) {
                return Err(GuardRejection::NotHeld {
                    name: Bytes::copy_from_slice(name),
                    token: *token,
                    newest: self.newest(name),
                });
            }
        }
        Ok(())
    }
}
