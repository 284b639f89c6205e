//! The keys of the model: their whole history, what is compacted, and which lease each hangs on.

use super::space::{RECORD_BYTES, Room};
use bytes::Bytes;
use state::{DeleteRange, KeyValue, Put, Rejection, Reply};
use std::collections::{BTreeMap, BTreeSet};

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its revision.
    pub revision: i64,
    /// The key was removed.
    pub deleted: bool,
    /// The key after the change; for a removal only key and revision.
    pub kv: KeyValue,
}

/// Every key, with its history.
#[derive(Debug)]
pub struct Keys {
    revision: i64,
    compacted: i64,
    history: BTreeMap<Bytes, Vec<Change>>,
    changes: Vec<Change>,
    /// The compacted revision in force from each revision on.
    compactions: Vec<(i64, i64)>,
    /// The keys of each lease there is.
    leases: BTreeMap<i64, BTreeSet<Bytes>>,
    /// What the readable history takes.
    bytes: u64,
}

impl Default for Keys {
    fn default() -> Keys {
        Keys {
            revision: 1,
            // As in etcd: an empty store may be compacted up to revision 0, once.
            compacted: -1,
            history: BTreeMap::new(),
            changes: Vec::new(),
            compactions: Vec::new(),
            leases: BTreeMap::new(),
            bytes: 0,
        }
    }
}

impl Keys {
    /// Takes the next change of a history that somebody tells.
    ///
    /// # Errors
    /// It does not follow: the broken promise and what is wrong.
    pub fn follow(&mut self, change: Change) -> Result<(), (&'static str, String)> {
        self.check_next(&change)?;
        self.revision = change.revision;
        self.record(change);
        Ok(())
    }

    fn check_next(&self, change: &Change) -> Result<(), (&'static str, String)> {
        let (revision, kv) = (self.revision, &change.kv);
        let next = revision + 1;
        let again = !self.changes.is_empty() && change.revision == revision;
        if !again && change.revision != next || kv.mod_revision != change.revision {
            return Err(("KV3", format!("{change:?} follows revision {revision}")));
        }
        let before = self.key_at(&kv.key, change.revision);
        let expected = match (&before, change.deleted) {
            (None, true) => return Err(("W9", format!("{change:?} removes an absent key"))),
            (_, true) => (0, 0),
            (None, false) => (change.revision, 1),
            (Some(before), false) => (before.create_revision, before.version + 1),
        };
        if (kv.create_revision, kv.version) != expected {
            return Err(("W9", format!("{change:?} follows {before:?}")));
        }
        Ok(())
    }

    /// The newest revision.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The oldest readable revision.
    pub fn compacted(&self) -> i64 {
        self.compacted.max(0)
    }

    /// What the readable history takes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// All changes, in order.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// A compaction to `compacted` was decided before the store reached `revision`, or at it.
    pub fn was_compacted_to(&self, compacted: i64, revision: i64) -> bool {
        self.compactions
            .iter()
            .any(|(at, to)| *to == compacted && *at <= revision)
    }

    /// Keys may hang on this lease from now on.
    pub fn begin_lease(&mut self, id: i64) {
        self.leases.insert(id, BTreeSet::new());
    }

    /// Removes the keys of a lease in one revision.
    pub fn end_lease(&mut self, id: i64) {
        let keys = self.leases.remove(&id).expect("the caller has looked");
        if !keys.is_empty() {
            self.revision += 1;
            for key in &keys {
                self.remove(key, self.revision);
            }
        }
    }

    /// Sets a key, if there is room.
    pub fn put(&mut self, put: &Put, room: Room) -> Reply {
        if put.key.is_empty() {
            return Reply::Rejected(Rejection::Invalid(String::new()));
        }
        // A put alone is told of a missing lease first, one in a transaction of a missing key.
        if put.lease != 0 && !self.leases.contains_key(&put.lease) {
            return Reply::Rejected(Rejection::LeaseNotFound);
        }
        let checked = self.check_put(put);
        if let Err(rejection) = checked.and_then(|()| room.check(self.bytes, growth(put))) {
            return Reply::Rejected(rejection);
        }
        self.revision += 1;
        Reply::Put {
            prev: self.set(put, self.revision),
        }
    }

    /// Removes keys.
    pub fn delete_range(&mut self, delete: &DeleteRange) -> Reply {
        let before = self.changes.len();
        let gone = self.remove_range(delete, self.revision + 1);
        self.end_of_command(before);
        Reply::DeleteRange {
            deleted: gone.len() as i64,
            prev: if delete.prev_kv { gone } else { Vec::new() },
        }
    }

    /// Removes keys at `revision`; gives what they were.
    pub(super) fn remove_range(&mut self, delete: &DeleteRange, revision: i64) -> Vec<KeyValue> {
        let gone = self.range_at(&delete.key, &delete.range_end, revision);
        gone.iter().for_each(|kv| self.remove(&kv.key, revision));
        gone
    }

    /// Forgets what is older than `revision`.
    pub fn compact(&mut self, revision: i64) -> Reply {
        if revision <= self.compacted {
            return Reply::Rejected(Rejection::Compacted {
                compacted: self.compacted(),
            });
        }
        if revision > self.revision {
            return Reply::Rejected(Rejection::FutureRevision {
                current: self.revision,
            });
        }
        self.compacted = revision;
        self.compactions.push((self.revision, revision));
        self.bytes = self.readable_bytes();
        Reply::Compact
    }

    /// Every change after the compacted revision, and of each key that was there then the one before.
    fn readable_bytes(&self) -> u64 {
        let readable = |changes: &Vec<Change>| {
            let after = changes.partition_point(|change| change.revision <= self.compacted);
            let stands = after > 0 && !changes[after - 1].deleted;
            let first = if stands { after - 1 } else { after };
            changes[first..].iter().map(size).sum::<u64>()
        };
        self.history.values().map(readable).sum()
    }

    pub(super) fn check_put(&self, put: &Put) -> Result<(), Rejection> {
        if (put.ignore_value || put.ignore_lease) && self.key_at(&put.key, self.revision).is_none()
        {
            return Err(Rejection::KeyNotFound);
        }
        if put.lease != 0 && !self.leases.contains_key(&put.lease) {
            return Err(Rejection::LeaseNotFound);
        }
        Ok(())
    }

    /// A range in a transaction may name a revision that can be read.
    pub(super) fn check_revision(&self, revision: i64) -> Result<(), Rejection> {
        if revision > self.revision {
            return Err(Rejection::FutureRevision {
                current: self.revision,
            });
        }
        if revision != 0 && revision < self.compacted {
            return Err(Rejection::Compacted {
                compacted: self.compacted(),
            });
        }
        Ok(())
    }

    /// Sets a key at `revision`; gives what was there if it was asked for.
    pub(super) fn set(&mut self, put: &Put, revision: i64) -> Option<KeyValue> {
        let before = self.key_at(&put.key, revision);
        let lease = if put.ignore_lease {
            before.as_ref().map_or(0, |kv| kv.lease)
        } else {
            put.lease
        };
        let value = if put.ignore_value {
            before.as_ref().map_or(Bytes::new(), |kv| kv.value.clone())
        } else {
            put.value.clone()
        };
        let (create_revision, version) = before
            .as_ref()
            .map_or((revision, 1), |kv| (kv.create_revision, kv.version + 1));
        self.detach(&put.key, before.as_ref());
        if let Some(attached) = self.leases.get_mut(&lease) {
            attached.insert(put.key.clone());
        }
        let kv = KeyValue {
            key: put.key.clone(),
            value,
            create_revision,
            mod_revision: revision,
            version,
            lease,
        };
        self.record(Change {
            revision,
            deleted: false,
            kv,
        });
        before.filter(|_| put.prev_kv)
    }

    fn remove(&mut self, key: &Bytes, revision: i64) {
        let before = self.key_at(key, revision);
        self.detach(key, before.as_ref());
        let kv = KeyValue {
            key: key.clone(),
            mod_revision: revision,
            ..KeyValue::default()
        };
        self.record(Change {
            revision,
            deleted: true,
            kv,
        });
    }

    fn detach(&mut self, key: &Bytes, before: Option<&KeyValue>) {
        if let Some(attached) = before.and_then(|kv| self.leases.get_mut(&kv.lease)) {
            attached.remove(key);
        }
    }

    fn record(&mut self, change: Change) {
        self.bytes += size(&change);
        self.history
            .entry(change.kv.key.clone())
            .or_default()
            .push(change.clone());
        self.changes.push(change);
    }

    /// All changes from number `before` on are one command's: they have one revision more.
    pub(super) fn end_of_command(&mut self, before: usize) {
        self.revision += i64::from(self.changes.len() > before);
    }

    /// The key as of `revision`, compacted or not.
    pub fn key_at(&self, key: &[u8], revision: i64) -> Option<KeyValue> {
        let changes = self.history.get(key)?;
        let last = changes
            .iter()
            .rev()
            .find(|change| change.revision <= revision)?;
        (!last.deleted).then(|| last.kv.clone())
    }

    /// The keys that hung on a lease as of `revision`, or on any lease.
    pub fn leased_at(&self, lease: Option<i64>, revision: i64) -> Vec<Bytes> {
        let hangs = |key: &&Bytes| {
            let kv = self.key_at(key, revision);
            kv.is_some_and(|kv| kv.lease != 0 && lease.is_none_or(|lease| kv.lease == lease))
        };
        self.history.keys().filter(hangs).cloned().collect()
    }

    pub(super) fn range_at(&self, key: &Bytes, range_end: &[u8], revision: i64) -> Vec<KeyValue> {
        let candidates = self.history.range(key.clone()..).map(|(key, _)| key);
        let within = candidates.take_while(|candidate| in_range(candidate, key, range_end));
        within
            .filter_map(|key| self.key_at(key, revision))
            .collect()
    }
}

/// What a put adds, as it is asked for.
pub(super) fn growth(put: &Put) -> u64 {
    (put.key.len() + put.value.len()) as u64 + RECORD_BYTES
}

/// What a change takes in the history.
fn size(change: &Change) -> u64 {
    (change.kv.key.len() + change.kv.value.len()) as u64 + RECORD_BYTES
}

/// `key` lies in an etcd range: an empty end is the single key, one zero byte is "from there on".
pub fn in_range(key: &[u8], first: &[u8], range_end: &[u8]) -> bool {
    match range_end {
        [] => key == first,
        [0] => key >= first,
        end => key >= first && key < end,
    }
}
