//! The key index: every key that has a record, in order, with the place of its newest one.

use crate::revision_log::{Position, RevisionLog};
use std::collections::BTreeMap;
use std::ops::Bound;

/// The newest record of a key: its place, and whether it is a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(u64);

const DELETED: u64 = 1 << 63;

impl Slot {
    pub fn new(position: Position, deleted: bool) -> Slot {
        Slot(position.0 | if deleted { DELETED } else { 0 })
    }

    pub fn position(self) -> Position {
        Position(self.0 & !DELETED)
    }

    pub fn deleted(self) -> bool {
        self.0 & DELETED != 0
    }
}

/// See the module. Methods take the log, where the keys are.
pub(crate) struct Index {
    map: BTreeMap<Box<[u8]>, Slot>,
}

impl Index {
    pub fn new() -> Index {
        Index {
            map: BTreeMap::new(),
        }
    }

    /// The newest record of a key.
    pub fn get(&self, _log: &RevisionLog, key: &[u8]) -> Option<Slot> {
        self.map.get(key).copied()
    }

    /// Gives the key the slot that `make` answers to the present one.
    pub fn upsert(
        &mut self,
        log: &mut RevisionLog,
        key: &[u8],
        make: impl FnOnce(&mut RevisionLog, Option<Slot>) -> Slot,
    ) {
        match self.map.get_mut(key) {
            Some(slot) => *slot = make(log, Some(*slot)),
            None => {
                let slot = make(log, None);
                self.map.insert(key.into(), slot);
            }
        }
    }

    /// Forgets a key.
    pub fn remove(&mut self, _log: &RevisionLog, key: &[u8]) {
        self.map.remove(key);
    }

    /// Visits slots in key order until `visit` says stop.
    pub fn walk(
        &self,
        _log: &RevisionLog,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        mut visit: impl FnMut(Slot) -> bool,
    ) {
        for (_, &slot) in self.map.range::<[u8], _>((from, to)) {
            if !visit(slot) {
                return;
            }
        }
    }

    /// Visits slots against key order until `visit` says stop.
    pub fn walk_back(
        &self,
        _log: &RevisionLog,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        mut visit: impl FnMut(Slot) -> bool,
    ) {
        for (_, &slot) in self.map.range::<[u8], _>((from, to)).rev() {
            if !visit(slot) {
                return;
            }
        }
    }

    /// Visits slots in key order and replaces them, until `visit` says stop.
    pub fn walk_mut(
        &mut self,
        log: &mut RevisionLog,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        mut visit: impl FnMut(&mut RevisionLog, &mut Slot) -> bool,
    ) {
        for (_, slot) in self.map.range_mut::<[u8], _>((from, to)) {
            if !visit(log, slot) {
                return;
            }
        }
    }
}
