//! A copy of some keys, kept up to date in the background.

use crate::feed::{Feed, News};
use crate::retry::Backoff;
use crate::{Client, ClientError};
use proto::mvccpb::event::EventType;
use proto::mvccpb::{Event, KeyValue};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::sleep;

/// A copy of all keys that begin so, kept up to date by a watch. Reading it asks nobody. It shows states that really existed, in their order, each a short
/// while after it came about; while no member can be reached it shows the last one it heard of.
pub struct Cache {
    state: watch::Receiver<State>,
    task: AbortHandle,
}

#[derive(Default)]
struct State {
    keys: BTreeMap<Vec<u8>, Arc<KeyValue>>,
    revision: i64,
}

impl Cache {
    /// Copies the keys that begin so; an empty prefix means all.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn open(client: &Client, prefix: impl AsRef<[u8]>) -> Result<Cache, ClientError> {
        let mut feed = Feed::new(client, prefix.as_ref(), 0);
        let mut first = State::default();
        first.learn(feed.next().await?);
        let (told, state) = watch::channel(first);
        let task = tokio::spawn(follow(feed, told)).abort_handle();
        Ok(Cache { state, task })
    }

    /// A key, as far as is known here.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<Arc<KeyValue>> {
        self.state.borrow().keys.get(key.as_ref()).cloned()
    }

    /// All keys, as far as is known here.
    pub fn all(&self) -> Vec<Arc<KeyValue>> {
        self.state.borrow().keys.values().cloned().collect()
    }

    /// The revision of the last change heard of.
    pub fn revision(&self) -> i64 {
        self.state.borrow().revision
    }

    /// Waits until something has changed since this was last called.
    pub async fn changed(&mut self) {
        // The task ends only with this value.
        let _ = self.state.changed().await;
    }

    /// Waits until a change of this revision is known here: one's own write, say.
    pub async fn reaches(&self, revision: i64) {
        let mut state = self.state.clone();
        let _ = state.wait_for(|state| state.revision >= revision).await;
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(mut feed: Feed, told: watch::Sender<State>) {
    let mut backoff = Backoff::new();
    loop {
        match feed.next().await {
            Ok(news) => {
                told.send_modify(|state| state.learn(news));
                backoff = Backoff::new();
            }
            Err(_) => sleep(backoff.next()).await,
        }
    }
}

impl State {
    fn learn(&mut self, news: News) {
        match news {
            News::Whole(keys, revision) => {
                let with_key = |kv: KeyValue| (kv.key.to_vec(), Arc::new(kv));
                self.keys = keys.into_iter().map(with_key).collect();
                self.revision = revision;
            }
            News::Changes(events, revision) => {
                for event in events {
                    self.change(event);
                }
                self.revision = revision;
            }
        }
    }

    fn change(&mut self, event: Event) {
        let deleted = event.r#type() == EventType::Delete;
        let Some(kv) = event.kv else {
            return;
        };
        if deleted {
            self.keys.remove(&kv.key[..]);
        } else {
            self.keys.insert(kv.key.to_vec(), Arc::new(kv));
        }
    }
}
