//! Keys with history: puts and removals at one revision, reads at any that is not compacted.
//!
//! A command writes its records at `revision + 1` straight into log and index; readers see them only once [`Keys::commit`] has raised
//! `revision`, because they look for the newest record at or below theirs.

use crate::KeyValue;
use crate::hash;
use crate::index::{Index, Slot};
use crate::record::{NEVER, NewRecord, Record, logical_size};
use crate::removal::Removal;
use crate::revision_log::{Position, RevisionLog};
use std::ops::Bound;

/// See the module.
pub(crate) struct Keys {
    pub index: Index,
    pub log: RevisionLog,
    /// Revision of the last finished command.
    pub revision: i64,
    /// The command at work has written something at `revision + 1`.
    pub changed: bool,
    /// The oldest readable revision; -1 before the first compaction, as etcd has it.
    pub compacted: i64,
    /// Number of live keys.
    pub live: u64,
    /// Sum of the hashes of live keys.
    pub live_sum: u64,
    /// Chain over all events.
    pub chain: u64,
    /// Bytes of retained records.
    pub bytes: u64,
    /// Bytes made superfluous up to the compacted revision ([`RevisionLog::garbage_at`]).
    pub freed: u64,
    /// A removal that is not wholly written down.
    pub removal: Option<Removal>,
}

/// What a write found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replaced {
    pub lease: i64,
}

/// Where a reader stands: it sees records at or below `revision`, and everything in the index that lies before `end` without looking.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub revision: i64,
    /// Every record before it is at or below `revision`; `None` if nothing is known (reads in the past).
    pub end: Option<Position>,
}

/// Records of a key passed over one by one before a shorter way is tried.
const STEPS_BACK_MAX: u64 = 64;
/// Changes of one revision looked at for the shorter way.
const CHANGES_LOOKED_AT_MAX: u64 = 10_000;

/// What to do with a key on the way of a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Visit {
    /// Remove it, if it is live.
    pub remove: bool,
    /// Go on.
    pub more: bool,
}

/// How far the search for a key's record at a revision has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The key is live there, by the record at this place.
    Live(Position),
    /// There is no key at that revision.
    Absent,
    /// Not known yet: go on from this record.
    Further(Position),
}

impl Keys {
    pub fn new() -> Keys {
        Keys {
            index: Index::new(),
            log: RevisionLog::new(),
            revision: 1,
            changed: false,
            compacted: -1,
            live: 0,
            live_sum: 0,
            chain: 0,
            bytes: 0,
            freed: 0,
            removal: None,
        }
    }

    /// The view of the last finished command. Only right while no command is at work.
    pub fn present(&self) -> View {
        View {
            revision: self.revision,
            end: Some(self.log.end()),
        }
    }

    /// The view of the command at work: what was there, and its own writes.
    pub fn working(&self) -> View {
        View {
            revision: self.revision + i64::from(self.changed),
            end: Some(self.log.end()),
        }
    }

    /// Ends the command at work.
    pub fn commit(&mut self) {
        self.revision += i64::from(self.changed);
        self.changed = false;
    }

    /// Sets a key that no pending removal covers. The lease of the answer is to be detached by the caller if it differs.
    pub fn put(&mut self, key: &[u8], value: &[u8], lease: i64) -> Option<Replaced> {
        let revision = self.revision + 1;
        let mut replaced = None;
        let key_hash = hash::key(key);
        let (bytes, live, live_sum, chain) = (
            &mut self.bytes,
            &mut self.live,
            &mut self.live_sum,
            &mut self.chain,
        );
        self.index.upsert(&mut self.log, key, |log, slot| {
            let (mut create_revision, mut version, mut garbage) = (revision, 1, 0);
            if let Some(slot) = slot {
                let old = log.record(slot.position());
                let length = old.length;
                if !old.deleted || mutated!(RecreatedKeyIsOld) {
                    (create_revision, version, garbage) =
                        (old.create_revision, old.version + 1, old.size());
                    replaced = Some(Replaced { lease: old.lease });
                    *live_sum = live_sum.wrapping_sub(hash::live(
                        key_hash,
                        old.revision,
                        old.create_revision,
                        old.version,
                        old.lease,
                    ));
                }
                log.supersede(slot.position(), revision, length, slot.deleted());
            }
            let previous = slot.map(Slot::position);
            let new = NewRecord {
                revision,
                deleted: false,
                create_revision,
                version,
                lease,
                key,
                value,
                previous,
                superseded: NEVER,
            };
            let position = log.append(&new);
            log.add_garbage(garbage);
            *chain = hash::chain(*chain, &log.record(position));
            *live_sum = live_sum.wrapping_add(hash::live(
                key_hash,
                revision,
                create_revision,
                version,
                lease,
            ));
            *live += u64::from(replaced.is_none());
            *bytes += logical_size(key.len(), value.len());
            Slot::new(position, false)
        });
        self.changed = true;
        replaced
    }

    /// Walks the keys from `from` up to `to` and removes live ones; `visit` sees the newest record of each key on the way, those of keys
    /// already removed as well, and says what to do.
    pub fn delete(
        &mut self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        mut visit: impl FnMut(Record<'_>) -> Visit,
    ) {
        let revision = self.revision + 1;
        let Keys {
            index,
            log,
            live,
            live_sum,
            chain,
            bytes,
            changed,
            removal,
            ..
        } = self;
        let mut key = Vec::new();
        index.walk_mut(log, from, to, |log, slot| {
            let mut old = log.record(slot.position());
            if let Some(removal) = removal
                && removal.covers(log, *slot)
            {
                old = old.as_removed(removal.revision);
            }
            let Visit { remove, more } = visit(old);
            if old.deleted || !remove {
                return more;
            }
            key.clear();
            key.extend_from_slice(old.key);
            let (length, size) = (old.length, old.size());
            *live_sum = live_sum.wrapping_sub(hash::live_record(&old));
            log.supersede(slot.position(), revision, length, false);
            let position = log.append(&NewRecord::removal(revision, &key, Some(slot.position())));
            let own = logical_size(key.len(), 0);
            log.add_garbage(size + own);
            *chain = hash::chain(*chain, &log.record(position));
            *live -= 1;
            *bytes += own;
            *changed = true;
            *slot = Slot::new(position, true);
            more
        });
    }

    /// Compacts: revisions below `revision` are no longer readable. Memory is freed later.
    pub fn compact(&mut self, revision: i64) {
        let garbage = self.log.garbage_at(revision, (self.compacted, self.freed));
        assert!(
            garbage >= self.freed,
            "superfluous bytes regressed: {} → {garbage}",
            self.freed
        );
        assert!(
            self.bytes >= garbage - self.freed,
            "{} bytes, but {} to free",
            self.bytes,
            garbage - self.freed
        );
        self.bytes -= garbage - self.freed;
        self.freed = garbage;
        self.compacted = revision;
    }

    /// Looks for the record of a view, beginning with the newest one of a key. Takes at most `fuel` steps back.
    pub fn find(&self, slot: Slot, view: &View, fuel: &mut u64) -> Found {
        let position = slot.position();
        if self.is_covered(slot, view.revision) {
            return Found::Absent;
        }
        if view
            .end
            .is_some_and(|end| position.settled() || position < end)
        {
            return if slot.deleted() {
                Found::Absent
            } else {
                Found::Live(position)
            };
        }
        self.find_from(position, view.revision, fuel)
    }

    /// A pending removal says that the key of this slot is gone at `revision`.
    pub fn is_covered(&self, slot: Slot, revision: i64) -> bool {
        self.removal
            .as_ref()
            .is_some_and(|removal| revision >= removal.revision && removal.covers(&self.log, slot))
    }

    /// The key of this slot was removed at exactly `revision`.
    pub fn is_removed_at(&self, slot: Slot, revision: i64) -> bool {
        let mut position = slot.position();
        loop {
            let record = self.log.record(position);
            match record.previous {
                Some(previous) if record.revision > revision => position = previous,
                _ if record.revision < revision => {
                    let removal = self.removal.as_ref();
                    let covering = removal.filter(|removal| removal.revision == revision);
                    return covering.is_some_and(|removal| removal.covers(&self.log, slot));
                }
                _ => return record.revision == revision && record.deleted,
            }
        }
    }

    /// Goes on with a search.
    pub fn find_from(&self, mut position: Position, revision: i64, fuel: &mut u64) -> Found {
        loop {
            let record = self.log.record(position);
            if record.revision <= revision {
                return if record.deleted {
                    Found::Absent
                } else {
                    Found::Live(position)
                };
            }
            let Some(previous) = record.previous else {
                return Found::Absent;
            };
            // Stops at a record that is too new, because only older ones may move until the search goes on.
            if *fuel == 0 {
                return Found::Further(position);
            }
            *fuel -= 1;
            position = previous;
        }
    }

    /// The live record of a key in a view.
    pub fn get(&self, key: &[u8], view: &View) -> Option<Record<'_>> {
        let slot = self.index.get(&self.log, key)?;
        match self.find(slot, view, &mut { u64::MAX }) {
            Found::Live(position) => Some(self.log.record(position)),
            Found::Absent => None,
            Found::Further(at) => unreachable!("stopped at {at:?} with fuel left"),
        }
    }
}

impl Keys {
    /// The live record of a key at a revision that may lie far back.
    pub fn get_past(&self, key: &[u8], revision: i64) -> Option<Record<'_>> {
        let slot = self.index.get(&self.log, key)?;
        if self.is_covered(slot, revision) {
            return None;
        }
        let found = match self.find_from(slot.position(), revision, &mut { STEPS_BACK_MAX }) {
            Found::Further(position) => {
                // A key that changes all the time. Whoever asks for the state before an event finds it right behind that event.
                let position = self.before_change(key, revision + 1).unwrap_or(position);
                self.find_from(position, revision, &mut { u64::MAX })
            }
            found => found,
        };
        match found {
            Found::Live(position) => Some(self.log.record(position)),
            Found::Absent => None,
            Found::Further(at) => unreachable!("stopped at {at:?} with fuel left"),
        }
    }

    /// Where the record before the change of a key at exactly `revision` lies.
    fn before_change(&self, key: &[u8], revision: i64) -> Option<Position> {
        let (mut found, mut looked_at) = (None, 0);
        self.log.walk(revision, |record| {
            looked_at += 1;
            if record.revision == revision && record.key == key {
                found = record.previous;
                return false;
            }
            record.revision == revision && looked_at < CHANGES_LOOKED_AT_MAX
        });
        found
    }
}

/// A key as a reader sees it, copied.
pub(crate) fn key_value(record: &Record<'_>) -> KeyValue {
    let mut both = Vec::with_capacity(record.key.len() + record.value.len());
    both.extend_from_slice(record.key);
    both.extend_from_slice(record.value);
    let both = bytes::Bytes::from(both);
    KeyValue {
        key: both.slice(..record.key.len()),
        value: both.slice(record.key.len()..),
        create_revision: record.create_revision,
        mod_revision: record.revision,
        version: record.version,
        lease: record.lease,
    }
}
