//! A removal of very many keys that has taken effect and is still being written down.
//!
//! The command sets [`Keys::removal`], and from then on its keys count as removed at its revision R, in every view at or above R: a key in
//! the range whose newest record is older than R is *covered*. The records of R are written in portions, one at the end of every batch, into
//! a chunk reserved for them, so that the log stays in the order of revisions although later records are written in between. A command that
//! writes a covered key first writes the key's record of R. Until all are written, watches see nothing at or above R, and memory
//! below R only is freed.
//!
//! There is one at a time. Which keys are covered follows from the range and the index alone, so the portions are the same on all members.

use crate::bounds::{Bounds, End};
use crate::hash;
use crate::index::{Slot, Weight};
use crate::kv::{Keys, View};
use crate::lease::Leases;
use crate::record::{NewRecord, RECORD_OVERHEAD, logical_size};
use crate::revision_log::{Position, RevisionLog};
use std::ops::Bound;

/// Bytes of a record of a removal besides the key, at most.
const RECORD_BYTES: u64 = 24;
/// Removals that need more bytes for their records are written down at once: a chunk has an end.
const BYTES_MAX: u64 = 1 << 30;

/// See the module.
pub(crate) struct Removal {
    pub bounds: Bounds,
    pub revision: i64,
    /// Where its chunk begins. Records written since its command lie behind.
    pub start: Position,
    /// Keys covered.
    pub left: u64,
    /// No key up to here is covered.
    after: Option<Vec<u8>>,
    /// What the records written made superfluous.
    garbage: u64,
    /// The key at work.
    key: Vec<u8>,
}

impl Removal {
    /// The key of this slot counts as removed, and no record says so yet.
    pub fn covers(&self, log: &RevisionLog, slot: Slot) -> bool {
        let position = slot.position();
        !slot.deleted()
            && (position.settled() || position < self.start)
            && self.bounds.contains_key(log.key(position))
    }

    /// Writes a covered key's record, which takes the slot over. Gives the lease of the version removed.
    fn write(
        &mut self,
        log: &mut RevisionLog,
        slot: &mut Slot,
        live: &mut u64,
        live_sum: &mut u64,
        chain: &mut u64,
    ) -> i64 {
        let old = log.record(slot.position());
        let (lease, length, size) = (old.lease, old.length, old.size());
        self.key.clear();
        self.key.extend_from_slice(old.key);
        *live_sum = live_sum.wrapping_sub(hash::live_record(&old));
        log.supersede(slot.position(), self.revision, length, false);
        let position = log.append_reserved(
            self.start,
            &NewRecord::removal(self.revision, &self.key, Some(slot.position())),
        );
        *chain = hash::chain(*chain, &log.record(position));
        *live -= 1;
        *slot = Slot::new(position, true);
        self.garbage += size + logical_size(self.key.len(), 0);
        self.left -= 1;
        lease
    }
}

impl Keys {
    /// The live keys of a range as the index has them: those covered are among them.
    fn weigh(&self, bounds: &Bounds) -> Weight {
        if bounds.is_empty() {
            return Weight::default();
        }
        self.index
            .weigh(&self.log, Bound::Included(&bounds.start), bounds.upper())
    }

    /// The number of keys in a range as of now, if it is known without a walk.
    pub fn count(&self, bounds: &Bounds) -> Option<u64> {
        let keys = self.weigh(bounds).keys;
        match &self.removal {
            Some(removal) if bounds.contains(&removal.bounds) => {
                Some(keys - mutated!(CountForgetsRemoval, 0, removal.left))
            }
            Some(removal) if !bounds.is_disjoint(&removal.bounds) => None,
            _ => Some(keys),
        }
    }

    /// The same, or how many it may be at most.
    pub fn count_max(&self, bounds: &Bounds) -> u64 {
        self.count(bounds)
            .unwrap_or_else(|| self.weigh(bounds).keys)
    }

    /// The number of keys in a range in a view, if it is known without a walk: only as long as nothing was written since.
    pub fn count_in(&self, bounds: &Bounds, view: &View) -> Option<u64> {
        let present = self.working();
        if view.end == present.end && view.revision == present.revision {
            self.count(bounds)
        } else {
            None
        }
    }

    /// Removes a range at `revision`, if there are more than `keys_min` keys in it: at once, and written down later. Gives their number.
    ///
    /// # Panics
    /// If another removal is pending.
    pub fn begin_removal(&mut self, bounds: &Bounds, revision: i64, keys_min: u64) -> Option<u64> {
        assert!(
            self.removal.is_none(),
            "a removal begins at {revision} while another is pending"
        );
        let Weight { keys, bytes } = self.weigh(bounds);
        let record_bytes = keys * RECORD_BYTES + bytes;
        if bounds.end == End::Single || keys <= keys_min || record_bytes > BYTES_MAX {
            return None;
        }
        let start = self.log.reserve(record_bytes as usize, revision);
        self.bytes += keys * RECORD_OVERHEAD + bytes;
        self.removal = Some(Removal {
            bounds: bounds.clone(),
            revision,
            start,
            left: keys,
            after: None,
            garbage: 0,
            key: Vec::new(),
        });
        Some(keys)
    }

    /// Writes down what is left of the removal for up to `keys_max` keys and about `fuel` units; gives how many it were. With no keys left
    /// the removal is complete.
    pub fn write_removal(&mut self, leases: &mut Leases, keys_max: u64, fuel: &mut u64) -> u64 {
        let Some(mut removal) = self.removal.take() else {
            return 0;
        };
        let (bounds, after) = (removal.bounds.clone(), removal.after.take());
        let lower = match &after {
            Some(key) => Bound::Excluded(&key[..]),
            None => Bound::Included(&bounds.start[..]),
        };
        let (before, mut last) = (removal.left, None);
        let Keys {
            index,
            log,
            live,
            live_sum,
            chain,
            ..
        } = self;
        index.walk_mut(log, lower, bounds.upper(), |log, slot| {
            *fuel = fuel.saturating_sub(1);
            if removal.covers(log, *slot) {
                let lease = removal.write(log, slot, live, live_sum, chain);
                if lease != 0 {
                    leases.detach(lease, log.key(slot.position()));
                }
            }
            let more = *fuel > 0 && removal.left > 0 && before - removal.left < keys_max;
            if !more {
                last = Some(log.key(slot.position()).to_vec());
            }
            more
        });
        assert!(
            last.is_some() || removal.left == 0,
            "{} keys are left after the end of their range",
            removal.left
        );
        let written = before - removal.left;
        removal.after = last;
        self.put_back(removal);
        written
    }

    /// Writes down the removal of one key, if it is covered: somebody is about to write it. Gives the lease it had.
    pub fn write_removal_of(&mut self, key: &[u8]) -> Option<i64> {
        let mut removal = self
            .removal
            .take_if(|removal| removal.bounds.contains_key(key))?;
        let Keys {
            index,
            log,
            live,
            live_sum,
            chain,
            ..
        } = self;
        let mut found = None;
        index.walk_mut(
            log,
            Bound::Included(key),
            Bound::Included(key),
            |log, slot| {
                if removal.covers(log, *slot) {
                    found = Some(removal.write(log, slot, live, live_sum, chain));
                }
                false
            },
        );
        self.put_back(removal);
        found
    }

    fn put_back(&mut self, removal: Removal) {
        if removal.left > 0 {
            self.removal = Some(removal);
        } else {
            self.log.complete_reserved(removal.start, removal.garbage);
        }
    }

    /// The newest revision that is wholly written down.
    pub fn complete(&self, revision: i64) -> i64 {
        match &self.removal {
            Some(removal) => revision.min(removal.revision - 1),
            None => revision,
        }
    }
}
