//! The leaves of the index: places of records in the order of their keys.

use super::{Change, LEAF_KEYS, Node, Slot, Split, Weight, head, search, separator, shared};
use crate::revision_log::RevisionLog;
use std::ops::Bound;

/// Some keys that follow each other.
pub(super) struct Leaf {
    pub prefix: Box<[u8]>,
    pub length: usize,
    pub heads: [u64; LEAF_KEYS],
    pub slots: [Slot; LEAF_KEYS],
}

impl Leaf {
    pub fn new() -> Box<Leaf> {
        Box::new(Leaf {
            prefix: Box::default(),
            length: 0,
            heads: [0; LEAF_KEYS],
            slots: [Slot(0); LEAF_KEYS],
        })
    }

    pub fn find(&self, log: &RevisionLog, key: &[u8]) -> Result<usize, usize> {
        search(&self.prefix, &self.heads[..self.length], key, |at| {
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
            Bound::Unbounded => self.length,
        };
        (low, high.max(low))
    }

    /// Takes another length of the common front.
    fn set_prefix(&mut self, log: &RevisionLog, length: usize) {
        self.prefix = self.key(log, 0)[..length].into();
        for at in 0..self.length {
            self.heads[at] = head(self.key(log, at), length);
        }
    }

    /// Lengthens the common front to what the keys really share.
    fn tighten(&mut self, log: &RevisionLog) {
        let length = shared(self.key(log, 0), self.key(log, self.length - 1));
        if length > self.prefix.len() {
            self.set_prefix(log, length);
        }
    }

    fn insert(&mut self, log: &RevisionLog, at: usize, key: &[u8], slot: Slot) {
        if self.length == 0 {
            self.prefix = key.into();
        } else if !key.starts_with(&self.prefix) {
            self.set_prefix(log, shared(&self.prefix, key));
        }
        self.heads.copy_within(at..self.length, at + 1);
        self.slots.copy_within(at..self.length, at + 1);
        self.heads[at] = head(key, self.prefix.len());
        self.slots[at] = slot;
        self.length += 1;
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
        let split = if self.length < LEAF_KEYS {
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
            right.take_from(self, half);
            self.tighten(log);
            right.tighten(log);
            if at <= half {
                self.insert(log, at, key, slot);
            } else {
                right.insert(log, at - half, key, slot);
            }
        }
        Split {
            separator: separator(self.key(log, self.length - 1), right.key(log, 0)),
            weight: right.weigh(log, 0..right.length),
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

    /// Takes all entries from `at` on.
    fn take_from(&mut self, left: &mut Leaf, at: usize) {
        self.length = left.length - at;
        self.heads[..self.length].copy_from_slice(&left.heads[at..left.length]);
        self.slots[..self.length].copy_from_slice(&left.slots[at..left.length]);
        self.prefix = left.prefix.clone();
        left.length = at;
    }

    pub fn remove(&mut self, log: &RevisionLog, key: &[u8]) -> Weight {
        let mut lost = Weight::default();
        if let Ok(at) = self.find(log, key) {
            lost = self.weigh(log, at..at + 1);
            self.heads.copy_within(at + 1..self.length, at);
            self.slots.copy_within(at + 1..self.length, at);
            self.length -= 1;
        }
        lost
    }

    /// Adds all entries of the leaf to the right.
    pub fn merge(&mut self, log: &RevisionLog, right: &Leaf) {
        self.slots[self.length..self.length + right.length]
            .copy_from_slice(&right.slots[..right.length]);
        self.length += right.length;
        self.set_prefix(
            log,
            shared(self.key(log, 0), self.key(log, self.length - 1)),
        );
    }
}
