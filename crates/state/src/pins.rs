//! What readers still need: while it is pinned, it is not freed and not moved.

use std::collections::BTreeSet;

/// The pins of one state.
#[derive(Default)]
pub(crate) struct Pins {
    /// (oldest revision needed, number of the pin).
    held: BTreeSet<(i64, u64)>,
    next: u64,
    /// Readers that walk chunk by chunk: nothing may move under them.
    walkers: u64,
    /// Readers that walk the candidates of a lease.
    lease_readers: u64,
}

/// What a reader needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Records as of a revision, found by key.
    Revision,
    /// The same, and that the candidates of leases stay.
    LeaseKeys,
    /// That no record moves.
    Walk,
}

/// One pin. To be given back.
#[derive(Debug)]
pub(crate) struct Pin {
    held: (i64, u64),
    need: Need,
}

impl Pins {
    pub fn take(&mut self, revision: i64, need: Need) -> Pin {
        let held = (revision, self.next);
        self.next += 1;
        self.held.insert(held);
        self.walkers += u64::from(need == Need::Walk);
        self.lease_readers += u64::from(need == Need::LeaseKeys);
        Pin { held, need }
    }

    pub fn release(&mut self, pin: Pin) {
        assert!(self.held.remove(&pin.held), "{pin:?} is not held");
        self.walkers -= u64::from(pin.need == Need::Walk);
        self.lease_readers -= u64::from(pin.need == Need::LeaseKeys);
    }

    /// The oldest revision that somebody needs.
    pub fn oldest(&self) -> Option<i64> {
        self.held.first().map(|&(revision, _)| revision)
    }

    pub fn walking(&self) -> bool {
        self.walkers > 0
    }

    pub fn reading_leases(&self) -> bool {
        self.lease_readers > 0
    }
}
