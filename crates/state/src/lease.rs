//! Leases: who has one, when it ends on the replicated clock, and which keys hang on it.
//!
//! The keys of a lease are only *candidates*: a key hangs on a lease if its record says so, and entries that no longer hold are swept later. So
//! nothing that a command at work does here shows before it is done.

use crate::hash;
use crate::table::{Row, Table};
use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;

/// Counted for every lease against the limit of the state.
pub(crate) const LEASE_BYTES: u64 = 128;

/// One lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub id: i64,
    pub ttl_ms: u64,
    pub deadline_ms: u64,
}

/// The allowance for clocks that run at different speeds: 2 %.
pub(crate) fn slack_ms(ttl_ms: u64) -> u64 {
    mutated!(LeaseWithoutAllowance, 0, ttl_ms / 50)
}

impl Lease {
    /// A lease granted or renewed at a clock.
    pub fn new(id: i64, ttl_ms: u64, clock_ms: u64) -> Lease {
        Lease {
            id,
            ttl_ms,
            deadline_ms: clock_ms
                .saturating_add(ttl_ms)
                .saturating_add(slack_ms(ttl_ms)),
        }
    }

    /// What remains of the time granted; the allowance is not shown.
    pub fn remaining_ms(&self, clock_ms: u64) -> u64 {
        self.deadline_ms
            .saturating_sub(clock_ms)
            .saturating_sub(slack_ms(self.ttl_ms))
            .min(self.ttl_ms)
    }
}

impl Row for Lease {
    type Key = i64;

    fn key(&self) -> &i64 {
        &self.id
    }

    fn hash(&self) -> u64 {
        hash::mix_all(&[self.id as u64, self.ttl_ms, self.deadline_ms])
    }
}

/// Candidates that may no longer hold.
enum Doubt {
    /// One.
    Key(i64, Box<[u8]>),
    /// All of a lease, after a key.
    Lease(i64, Option<Box<[u8]>>),
}

/// See the module.
#[derive(Default)]
pub(crate) struct Leases {
    table: Table<Lease>,
    /// Ends of leases, the earliest first.
    deadlines: BTreeSet<(u64, i64)>,
    /// (lease, key) for every key that hangs on a lease, and some that no longer do.
    candidates: BTreeSet<(i64, Box<[u8]>)>,
    /// Candidates that may no longer hold.
    doubtful: VecDeque<Doubt>,
}

impl Leases {
    pub fn get(&self, id: i64) -> Option<&Lease> {
        self.table.get(&id)
    }

    /// The lease is there, and its time is not over.
    pub fn is_alive(&self, id: i64, clock_ms: u64) -> bool {
        self.get(id)
            .is_some_and(|lease| lease.deadline_ms > clock_ms)
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Pins the table as it is.
    pub fn pin(&self) -> Table<Lease> {
        self.table.clone()
    }

    pub fn sum(&self) -> u64 {
        self.table.sum()
    }

    /// The earliest end.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }

    /// The first lease that ended by `clock_ms`, in the order of (deadline, id).
    pub fn first_expired(&self, clock_ms: u64) -> Option<i64> {
        mutated!(
            ExpiryOutOfOrder,
            return self
                .deadlines
                .range(..(clock_ms + 1, i64::MIN))
                .next_back()
                .map(|&(_, id)| id)
        );
        self.deadlines
            .first()
            .filter(|&&(deadline, _)| deadline <= clock_ms)
            .map(|&(_, id)| id)
    }

    /// Adds or renews a lease.
    pub fn set(&mut self, lease: Lease) {
        if self.table.get(&lease.id) == Some(&lease) {
            return;
        }
        if let Some(old) = self.table.set(lease) {
            self.deadlines.remove(&(old.deadline_ms, old.id));
        }
        self.deadlines.insert((lease.deadline_ms, lease.id));
    }

    /// Forgets a lease. Its candidates are swept later.
    pub fn remove(&mut self, id: i64) {
        mutated!(
            EndedLeaseRenewed,
            if let Some(old) = self.get(id).copied() {
                self.deadlines.remove(&(old.deadline_ms, id));
                let (ttl_ms, deadline_ms) = (old.ttl_ms, 0);
                self.table.set(Lease {
                    id,
                    ttl_ms,
                    deadline_ms,
                });
                return;
            }
        );
        if let Some(old) = self.table.remove(&id) {
            self.deadlines.remove(&(old.deadline_ms, old.id));
            self.doubtful.push_back(Doubt::Lease(id, None));
        }
    }

    /// Notes that a key was put with a lease.
    pub fn attach(&mut self, id: i64, key: &[u8]) {
        self.candidates.insert((id, key.into()));
    }

    /// Notes that a key no longer hangs on a lease.
    pub fn detach(&mut self, id: i64, key: &[u8]) {
        self.doubtful.push_back(Doubt::Key(id, key.into()));
    }

    /// Visits the candidates of a lease after a key, in key order, until `visit` says stop.
    pub fn candidates(&self, id: i64, after: Option<&[u8]>, mut visit: impl FnMut(&[u8]) -> bool) {
        let from = match after {
            Some(key) => Bound::Excluded((id, key.into())),
            None => Bound::Included((id, Box::default())),
        };
        for (lease, key) in self.candidates.range((from, Bound::Unbounded)) {
            if *lease != id || !visit(key) {
                return;
            }
        }
    }

    /// Looks at one candidate that may no longer hold, and forgets it unless `attached` says it does. False if there was none.
    pub fn sweep(&mut self, attached: impl Fn(i64, &[u8]) -> bool) -> bool {
        match self.doubtful.pop_front() {
            None => return false,
            Some(Doubt::Key(id, key)) => {
                if !attached(id, &key) {
                    self.candidates.remove(&(id, key));
                }
            }
            Some(Doubt::Lease(id, after)) => {
                let mut next = None;
                self.candidates(id, after.as_deref(), |key| {
                    next = Some(Box::from(key));
                    false
                });
                let Some(key) = next else { return true };
                if !attached(id, &key) {
                    self.candidates.remove(&(id, key.clone()));
                }
                self.doubtful.push_front(Doubt::Lease(id, Some(key)));
            }
        }
        true
    }

    /// Checks that every candidate hangs on a lease that exists, as `attached` tells; gives one that does not.
    pub fn dangling(&self, attached: impl Fn(i64, &[u8]) -> bool) -> Option<(i64, &[u8])> {
        let mut candidates = self.candidates.iter().map(|(id, key)| (*id, &key[..]));
        candidates.find(|&(id, key)| self.get(id).is_none() && attached(id, key))
    }
}
