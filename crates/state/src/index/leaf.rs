//! The leaves of the index: places of records in the order of their keys.

use super::{
    Change, LEAF_KEYS, Node, Slot, Split, Weight, head, insert, search, separator, shared,
    split_off,
};
use crate::revision_log::RevisionLog;
use std::ops::Bound;

/// Some keys that follow each other.
pub(super) struct Leaf {
    pub prefix: Box<[u8]>,
    pub heads: Vec<u32>,
    pub slots: Vec<Slot>,
}

impl Leaf {
    pub fn new() -> Box<Leaf> {
        Box::new(Leaf {
            prefix: Box::default(),
            heads: Vec::new(),
            slots: Vec::new(),
        })
    }

    pub fn find(&self, log: &RevisionLog, key: &[u8]) -> Result<usize, usize> {
        search(&self.prefix, &self.heads, key, |at| {
            log.key(self.slots[at].position()).cmp(key)
        })
    }

    pub fn key<'a>(&self, log: &'a RevisionLog, at: usize) -> &'a [u8] {
        log.key(self.slots[at].position())
    }

    /// First and last place between two bounds; the last is not included.
    pub fn places(
        &self,
        log: &RevisionLog,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
    ) -> (usize, usize) {
        let after = |found: Result<usize, usize>| found.map_or_else(|at| at, |at| at + 1);
        let at = |found: Result<usize, usize>| found.unwrap_or_else(|at| at);
        let low = match from {
            Bound::Included(key) => at(self.find(log, key)),
            Bound::Excluded(key) => after(self.find(log, key)),
            Bound::Unbounded => 0,
        };
        let high = match to {
            Bound::Included(key) => after(self.find(log, key)),
            Bound::Excluded(key) => at(self.find(log, key)),
            Bound::Unbounded => self.slots.len(),
        };
        (low, high.max(low))
    }

    /// Takes another length of the common front.
    fn set_prefix(&mut self, log: &RevisionLog, length: usize) {
        self.prefix = self.key(log, 0)[..length].into();
        for (head_of, slot) in self.heads.iter_mut().zip(&self.slots) {
            *head_of = head(log.key(slot.position()), length);
        }
    }

    /// Lengthens the common front to what the keys really share.
    fn tighten(&mut self, log: &RevisionLog) {
        let length = shared(self.key(log, 0), self.key(log, self.slots.len() - 1));
        if length > self.prefix.len() {
            self.set_prefix(log, length);
        }
    }

    fn insert(&mut self, log: &RevisionLog, at: usize, key: &[u8], slot: Slot) {
        if self.slots.is_empty() {
            self.prefix = key.into();
        } else if !key.starts_with(&self.prefix) {
            self.set_prefix(log, shared(&self.prefix, key));
        }
        insert(&mut self.heads, at, head(key, self.prefix.len()));
        insert(&mut self.slots, at, slot);
    }

    pub fn upsert(
        &mut self,
        log: &mut RevisionLog,
        key: &[u8],
        make: impl FnOnce(&mut RevisionLog, Option<Slot>) -> Slot,
    ) -> Change {
        let mut gained = Weight::default();
        let at = match self.find(log, key) {
            Ok(at) => {
                let old = self.slots[at];
                let new = make(log, Some(old));
                self.slots[at] = new;
                match (old.deleted(), new.deleted()) {
                    (true, false) => gained.add(Weight::of(key)),
                    (false, true) => gained.subtract(Weight::of(key)),
                    _ => {}
                }
                return Change {
                    gained,
                    split: None,
                };
            }
            Err(at) => at,
        };
        let slot = make(log, None);
        if !slot.deleted() {
            gained = Weight::of(key);
        }
        let split = if self.slots.len() < LEAF_KEYS {
            self.insert(log, at, key, slot);
            None
        } else {
            Some(self.split(log, at, key, slot))
        };
        Change { gained, split }
    }

    /// Gives part of a full leaf away to make room for one more key.
    fn split(&mut self, log: &RevisionLog, at: usize, key: &[u8], slot: Slot) -> Split {
        let mut right = Leaf::new();
        if at == LEAF_KEYS {
            // Keys that come in order leave full leaves behind.
            right.insert(log, 0, key, slot);
        } else {
            let half = LEAF_KEYS / 2;
            right.prefix = self.prefix.clone();
            right.heads = split_off(&mut self.heads, half);
            right.slots = split_off(&mut self.slots, half);
            self.tighten(log);
            right.tighten(log);
            if at <= half {
                self.insert(log, at, key, slot);
            } else {
                right.insert(log, at - half, key, slot);
            }
        }
        Split {
            separator: separator(self.key(log, self.slots.len() - 1), right.key(log, 0)),
            weight: right.weigh(log, 0..right.slots.len()),
            right: Node::Leaf(right),
        }
    }

    /// The live keys among some of its places.
    pub fn weigh(&self, log: &RevisionLog, places: std::ops::Range<usize>) -> Weight {
        let mut weight = Weight::default();
        for slot in &self.slots[places] {
            if !slot.deleted() {
                weight.add(Weight::of(log.key(slot.position())));
            }
        }
        weight
    }

    pub fn remove(&mut self, log: &RevisionLog, key: &[u8]) -> Weight {
        let mut lost = Weight::default();
        if let Ok(at) = self.find(log, key) {
            lost = self.weigh(log, at..at + 1);
            self.heads.remove(at);
            self.slots.remove(at);
        }
        lost
    }

    /// Adds all entries of the leaf to the right.
    pub fn merge(&mut self, log: &RevisionLog, right: &Leaf) {
        self.slots.reserve_exact(right.slots.len());
        self.slots.extend_from_slice(&right.slots);
        self.heads = vec![0; self.slots.len()];
        self.set_prefix(
            log,
            shared(self.key(log, 0), self.key(log, self.slots.len() - 1)),
        );
    }
}
