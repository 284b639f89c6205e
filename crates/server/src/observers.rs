//! Who follows which lock. The loop says that something changed; what it is now, each follower asks. So nothing piles up for a slow one, and
//! what it hears is always the newest.

use replica::Failure;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Streams that follow locks at one member.
const OBSERVERS_MAX: usize = 65_536;

/// See the module.
#[derive(Default)]
pub(crate) struct Observers {
    followed: Mutex<Followed>,
}

#[derive(Default)]
struct Followed {
    names: BTreeMap<Vec<u8>, watch::Sender<()>>,
    observers: usize,
}

/// One follower of one lock.
pub(crate) struct Observing {
    observers: Arc<Observers>,
    name: Vec<u8>,
    changes: watch::Receiver<()>,
}

impl Observers {
    fn followed(&self) -> MutexGuard<'_, Followed> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to follow a lock.
    pub fn follow(observers: &Arc<Observers>, name: &[u8]) -> Result<Observing, Failure> {
        let mut followed = observers.followed();
        if followed.observers >= OBSERVERS_MAX {
            return Err(Failure::Overloaded {
                queue: "streams that follow locks",
                limit: OBSERVERS_MAX,
            });
        }
        followed.observers += 1;
        let sender = followed.names.entry(name.to_vec());
        let changes = sender.or_insert_with(|| watch::channel(()).0).subscribe();
        Ok(Observing {
            observers: observers.clone(),
            name: name.to_vec(),
            changes,
        })
    }

    /// These locks changed.
    pub fn changed(&self, names: &[Vec<u8>]) {
        let followed = self.followed();
        if followed.names.is_empty() {
            return;
        }
        for name in names {
            if let Some(sender) = followed.names.get(name) {
                sender.send_replace(());
            }
        }
    }

    /// All may have changed.
    pub fn all_changed(&self) {
        for sender in self.followed().names.values() {
            sender.send_replace(());
        }
    }
}

impl Observing {
    /// Takes note of all changes so far: the next look at the lock shows them.
    pub fn look(&mut self) {
        self.changes.mark_unchanged();
    }

    /// Waits for a change after the last look.
    pub async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            // The senders live as long as their followers.
            std::future::pending().await
        }
    }
}

impl Drop for Observing {
    fn drop(&mut self) {
        let mut followed = self.observers.followed();
        followed.observers -= 1;
        let last = |sender: &watch::Sender<()>| sender.receiver_count() <= 1;
        if followed.names.get(&self.name).is_some_and(last) {
            followed.names.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn followers_hear_of_their_lock_and_of_no_other() {
        let observers = Arc::<Observers>::default();
        let mut a = Observers::follow(&observers, b"a").unwrap();
        let mut b = Observers::follow(&observers, b"b").unwrap();
        observers.changed(&[b"a".to_vec(), b"c".to_vec()]);
        a.changed().await;
        let quiet = tokio::time::timeout(Duration::from_millis(20), b.changed()).await;
        assert!(quiet.is_err());
        observers.all_changed();
        b.changed().await;
        // A change before the look is part of what is seen.
        observers.all_changed();
        a.look();
        let quiet = tokio::time::timeout(Duration::from_millis(20), a.changed()).await;
        assert!(quiet.is_err());
    }

    #[test]
    fn nothing_is_kept_of_those_who_left() {
        let observers = Arc::<Observers>::default();
        let one = Observers::follow(&observers, b"a").unwrap();
        let two = Observers::follow(&observers, b"a").unwrap();
        drop(one);
        assert_eq!(observers.followed().names.len(), 1);
        drop(two);
        assert_eq!(observers.followed().names.len(), 0);
        assert_eq!(observers.followed().observers, 0);
    }
}
