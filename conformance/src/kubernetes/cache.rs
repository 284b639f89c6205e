//! One apiserver's watch caches: many watches in one stream, each fed into a copy of its objects that is held to the promises of watches.

use super::storage::{Storage, prefix_end};
use crate::{Failure, Outcome};
use bytes::Bytes;
use proto::etcdserverpb as pb;
use proto::mvccpb::{Event, KeyValue, event::EventType};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;

/// The copy of one resource's objects that a watch keeps true.
#[derive(Debug, Default)]
pub struct Cache {
    /// Key to revision of change.
    pub objects: BTreeMap<Bytes, i64>,
    /// Events it took.
    pub events: u64,
    /// The newest revision it is sure of.
    revision: i64,
}

/// What all caches of all apiservers share: what must not be, and when revisions were acknowledged.
#[derive(Debug, Default)]
pub struct Shared {
    breaches: Mutex<Vec<String>>,
    acknowledged: Mutex<BTreeMap<i64, Instant>>,
    /// Microseconds from acknowledgement to the first cache and any other.
    delays: Mutex<Vec<u32>>,
}

impl Shared {
    /// Something must not be.
    pub fn breach(&self, text: String) {
        self.breaches.lock().expect("no holder panics").push(text);
    }

    /// What must not be, so far.
    pub fn breaches(&self) -> Vec<String> {
        self.breaches.lock().expect("no holder panics").clone()
    }

    /// A write was acknowledged now; watchers' delays are counted from here.
    pub fn acknowledge(&self, revision: i64) {
        let mut acknowledged = self.acknowledged.lock().expect("no holder panics");
        acknowledged.insert(revision, Instant::now());
        if acknowledged.len() > 10_000 {
            acknowledged.pop_first();
        }
    }

    fn seen(&self, revision: i64) {
        let acknowledged = self.acknowledged.lock().expect("no holder panics");
        // A watcher may hear of it before the writer does.
        let delay = acknowledged.get(&revision).map(Instant::elapsed);
        drop(acknowledged);
        let micros = delay.map_or(0, |delay| delay.as_micros() as u32);
        self.delays.lock().expect("no holder panics").push(micros);
    }

    /// The delays so far, sorted, in microseconds.
    pub fn delays(&self) -> Vec<u32> {
        let mut delays = self.delays.lock().expect("no holder panics").clone();
        delays.sort_unstable();
        delays
    }
}

impl Cache {
    /// Takes what one response says about this watch.
    fn take(&mut self, events: &[Event], header: i64) -> Result<(), String> {
        for event in events {
            let kv = event.kv.as_ref().ok_or("an event without its object")?;
            let revision = kv.mod_revision;
            if revision <= self.revision {
                return Err(format!(
                    "W1, W2 or W6: an event at {revision} after {} was heard or promised",
                    self.revision
                ));
            }
            let known = self.objects.get(&kv.key).copied();
            let told = event.prev_kv.as_ref().map(|prev| prev.mod_revision);
            if known != told {
                return Err(format!(
                    "W3 or W8: before {revision} {:?} was changed at {known:?}, prev_kv says {told:?}",
                    String::from_utf8_lossy(&kv.key)
                ));
            }
            let created = event.r#type() == EventType::Put && kv.create_revision == revision;
            if created != (known.is_none() && event.r#type() == EventType::Put) {
                return Err(format!(
                    "W9: created {created} at {revision}, known {known:?}"
                ));
            }
            match event.r#type() {
                EventType::Put => self.objects.insert(kv.key.clone(), revision),
                EventType::Delete => self.objects.remove(&kv.key),
            };
            self.events += 1;
        }
        // Several events of one revision come in one response.
        let last = events.iter().filter_map(|event| event.kv.as_ref());
        let last = last.map(|kv| kv.mod_revision).max();
        self.revision = self.revision.max(last.unwrap_or(header));
        Ok(())
    }
}

/// The caches of one apiserver, on one stream.
pub struct Caches {
    say: mpsc::UnboundedSender<pb::WatchRequest>,
    /// By watch, in the order they were opened.
    pub caches: Arc<Mutex<Vec<Cache>>>,
    /// The revision up to which the whole stream is sure, as progress marks say.
    progress: watch::Receiver<i64>,
    reader: tokio::task::JoinHandle<()>,
}

impl Drop for Caches {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Caches {
    /// Lists each resource, then watches it from there on.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn open(
        mut storage: Storage,
        resources: &[String],
        shared: Arc<Shared>,
    ) -> Outcome<Caches> {
        let (say, requests) = mpsc::unbounded_channel();
        let mut caches = Vec::new();
        for (at, prefix) in resources.iter().enumerate() {
            let (objects, revision) = storage.list(prefix, 500).await?;
            let create = pb::WatchCreateRequest {
                key: Bytes::copy_from_slice(prefix.as_bytes()),
                range_end: prefix_end(prefix),
                start_revision: revision + 1,
                prev_kv: true,
                progress_notify: true,
                watch_id: at as i64 + 1,
                ..Default::default()
            };
            say.send(request(pb::watch_request::RequestUnion::CreateRequest(
                create,
            )))?;
            caches.push(Cache {
                objects: objects.into_iter().map(entry).collect(),
                events: 0,
                revision,
            });
        }
        let mut call = tonic::Request::new(UnboundedReceiverStream::new(requests));
        // As clientv3.WithRequireLeader does.
        call.metadata_mut().insert("hasleader", "true".parse()?);
        let mut hear = storage.connection.watch.watch(call).await?.into_inner();
        let caches = Arc::new(Mutex::new(caches));
        let (mark, progress) = watch::channel(0);
        let mut opened = 0;
        while opened < resources.len() {
            let response = hear.message().await?.ok_or("the watch stream ended")?;
            opened += usize::from(response.created);
            hand_out(response, &caches, &mark, &shared)?;
        }
        let reader = tokio::spawn({
            let caches = caches.clone();
            async move {
                loop {
                    let heard = match hear.message().await {
                        Ok(Some(response)) => hand_out(response, &caches, &mark, &shared),
                        Ok(None) => Err("W11: the watch stream ended".into()),
                        Err(status) => Err(format!("W11: the watch stream ended: {status}").into()),
                    };
                    if let Err(error) = heard {
                        return shared.breach(error.to_string());
                    }
                }
            }
        });
        Ok(Caches {
            say,
            caches,
            progress,
            reader,
        })
    }

    /// Asks how far the stream is until it is at least at `revision`: what a consistent read from the cache waits for.
    ///
    /// # Errors
    /// When it does not come to that in time.
    pub async fn reach(&mut self, revision: i64) -> Outcome<()> {
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            let ask = pb::WatchProgressRequest {};
            self.say
                .send(request(pb::watch_request::RequestUnion::ProgressRequest(
                    ask,
                )))?;
            let again = tokio::time::sleep(std::time::Duration::from_millis(100));
            let reached = self.progress.wait_for(|&mark| mark >= revision);
            tokio::select! {
                reached = reached => return reached.map(|_| ()).map_err(|_| "the watch stream ended".into()),
                () = again => {}
            }
            if tokio::time::Instant::now() > deadline {
                let mark = *self.progress.borrow();
                return Err(
                    format!("no mark at {revision} within 20 s, the last is {mark}").into(),
                );
            }
        }
    }
}

fn entry(kv: KeyValue) -> (Bytes, i64) {
    (kv.key, kv.mod_revision)
}

fn request(union: pb::watch_request::RequestUnion) -> pb::WatchRequest {
    pb::WatchRequest {
        request_union: Some(union),
    }
}

/// Gives a response to the cache it is for, or to all.
fn hand_out(
    response: pb::WatchResponse,
    caches: &Mutex<Vec<Cache>>,
    mark: &watch::Sender<i64>,
    shared: &Shared,
) -> Result<(), Failure> {
    let header = response.header.unwrap_or_default().revision;
    if response.canceled {
        let id = response.watch_id;
        return Err(format!("W11: watch {id} was canceled: {}", response.cancel_reason).into());
    }
    if response.created {
        return Ok(());
    }
    let mut caches = caches.lock().expect("no holder panics");
    for event in &response.events {
        shared.seen(event.kv.as_ref().map_or(0, |kv| kv.mod_revision));
    }
    if response.watch_id == -1 {
        // A mark for the whole stream.
        for cache in caches.iter_mut() {
            cache.take(&[], header)?;
        }
        drop(caches);
        mark.send_modify(|mark| *mark = (*mark).max(header));
        return Ok(());
    }
    let at = usize::try_from(response.watch_id - 1).map_err(|_| "a response of no watch")?;
    let cache = caches.get_mut(at).ok_or("a response of no watch")?;
    cache.take(&response.events, header)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(revision: i64, previous: Option<i64>, deleted: bool) -> Event {
        let kv = |mod_revision, create_revision| KeyValue {
            key: Bytes::from_static(b"k"),
            mod_revision,
            create_revision,
            ..KeyValue::default()
        };
        let created = if previous.is_none() { revision } else { 2 };
        Event {
            r#type: if deleted {
                EventType::Delete
            } else {
                EventType::Put
            }
            .into(),
            kv: Some(kv(revision, if deleted { 0 } else { created })),
            prev_kv: previous.map(|previous| kv(previous, 2)),
        }
    }

    /// A cache that holds the key as of revision 2, and is sure of everything up to 5.
    fn cache() -> Cache {
        Cache {
            objects: BTreeMap::from([(Bytes::from_static(b"k"), 2)]),
            events: 0,
            revision: 5,
        }
    }

    #[test]
    fn what_a_watch_should_say_is_taken() {
        let mut cache = cache();
        cache.take(&[event(6, Some(2), false)], 9).unwrap();
        cache.take(&[event(7, Some(6), true)], 9).unwrap();
        cache.take(&[], 8).unwrap();
        cache.take(&[event(9, None, false)], 9).unwrap();
        assert_eq!((cache.events, cache.objects.values().sum::<i64>()), (3, 9));
    }

    #[test]
    fn a_breach_of_a_promise_is_found() {
        let said = |events: &[Event]| {
            let mut cache = cache();
            let outcome = events
                .iter()
                .try_for_each(|event| cache.take(std::slice::from_ref(event), 100));
            outcome.expect_err("it must not be taken")
        };
        let put = |revision, previous| event(revision, previous, false);
        assert!(said(&[put(5, Some(2))]).starts_with("W1, W2 or W6"));
        assert!(said(&[put(6, Some(2)), put(6, Some(2))]).starts_with("W1, W2 or W6"));
        // The change at 6 was never told.
        assert!(said(&[put(7, Some(6))]).starts_with("W3 or W8"));
        assert!(said(&[put(7, None)]).starts_with("W3 or W8"));
        let mut reborn = put(6, Some(2));
        reborn.kv.as_mut().unwrap().create_revision = 6;
        assert!(said(&[reborn]).starts_with("W9"));
        let mut cache = cache();
        cache.take(&[], 8).unwrap();
        let below = cache.take(&[put(8, Some(2))], 100).unwrap_err();
        assert!(below.starts_with("W1, W2 or W6"), "below a mark: {below}");
    }
}
