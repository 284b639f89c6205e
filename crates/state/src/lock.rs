//! Locks with fencing tokens (PROPERTIES F1-F8): mutexes, shared locks, semaphores, elections, groups, latches and barriers, on one machinery.
//!
//! An *acquisition* is named by a session (a lease) and an id; it waits or it holds. Each lock has one queue, served by priority and then in the
//! order of arrival; who is in front and does not fit holds up those behind, so nobody starves. A command that may let waiters in marks the
//! lock *unsettled*; settling it grants the lock to whoever is next and fits, in steps, and only then is the command done. Waiters hear of it
//! by [`Woken`]s, which the batch gives beside its replies.
//!
//! A token is the ordinal of its grant, and ordinals only rise, so tokens rise for every name even after the lock is forgotten: a lock is kept
//! only while somebody holds it or waits for it, while a latch is not counted down, or while it is closed because a session was lost.

mod apply;
mod change;
mod command;
mod guard;
mod query;
mod queue;
mod reply;
mod rows;
mod settle;

pub use apply::Acquisition;
pub(crate) use change::Then;
pub use command::*;
pub(crate) use guard::GUARDS_MAX;
pub use guard::{GUARD_MODEL, GuardRejection};
pub(crate) use reply::out_of_bounds;
pub use reply::*;
pub(crate) use rows::{Claim, Lock};

use crate::lease::Leases;
use crate::table::Table;
use queue::Queue;
use rows::lock_bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// Bytes of a name.
pub const NAME_BYTES_MAX: usize = 1024;
/// Bytes of an acquisition's text.
pub const VALUE_BYTES_MAX: usize = 16 << 10;
/// Bytes of the reason for taking a lock away.
pub const REASON_BYTES_MAX: usize = 1024;
/// Permits of a semaphore, and counts of a latch.
pub const PERMITS_MAX: u64 = 1 << 32;
/// Parties of a barrier.
pub const PARTIES_MAX: u64 = 1000;
/// Acquisitions that wait for one lock.
pub const WAITERS_MAX: usize = 10_000;
/// Acquisitions of one session.
pub const CLAIMS_PER_SESSION_MAX: usize = 100_000;
/// Names in use.
pub const LOCKS_MAX: usize = 1_000_000;
/// Longest time for which a lock stays closed after a lost session.
pub const DELAY_MS_MAX: u64 = 60_000;
/// Entries of a page.
pub const PAGE_MAX: usize = 500;

/// When and where a command runs.
pub(crate) struct Moment<'a> {
    pub leases: &'a Leases,
    pub clock_ms: u64,
    pub wall_ms: u64,
    pub ordinal: &'a mut u64,
    /// The session that is being ended.
    pub ending: Option<i64>,
}

impl Moment<'_> {
    /// The session is there, and its time is not over (PROPERTIES F4).
    pub fn is_alive(&self, session: i64) -> bool {
        self.ending != Some(session)
            && (self.leases.is_alive(session, self.clock_ms) || mutated!(DeadSessionLetIn))
    }

    pub fn next_ordinal(&mut self) -> u64 {
        *self.ordinal += 1;
        *self.ordinal
    }
}

/// Something that happens at a clock.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A wait ends.
    Wait(Claimant),
    /// A lock opens again.
    Open(Vec<u8>),
}

/// See the module.
#[derive(Default)]
pub(crate) struct Locks {
    claims: Table<Claim>,
    locks: Table<Lock>,
    // What follows from them.
    queues: BTreeMap<Vec<u8>, Queue>,
    timers: BTreeSet<(u64, Timer)>,
    sessions: BTreeMap<i64, usize>,
    bytes: u64,
    // What the batch at work leaves.
    unsettled: BTreeSet<Vec<u8>>,
    woken: Vec<Woken>,
    changed: BTreeSet<Vec<u8>>,
}

/// When the wait of an acquisition ends by itself.
fn wait_of(claim: &Claim) -> Option<(u64, Timer)> {
    let ends = claim.waits() && claim.deadline_ms != 0;
    ends.then_some((claim.deadline_ms, Timer::Wait(claim.claimant)))
}

impl Locks {
    /// Pins the rows.
    pub fn pin(&self) -> (Table<Lock>, Table<Claim>) {
        (self.locks.clone(), self.claims.clone())
    }

    /// Of all rows; `None` while there are none.
    pub fn hash(&self) -> Option<u64> {
        (self.locks.len() > 0).then(|| {
            crate::hash::mix_all(&[
                self.locks.sum(),
                self.locks.len() as u64,
                self.claims.sum(),
                self.claims.len() as u64,
            ])
        })
    }

    /// Counted against the limit of the state.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The earliest clock at which something happens by itself.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.timers.first().map(|&(deadline, _)| deadline)
    }

    /// How waits ended in this batch, and the locks whose holders changed.
    pub fn take_events(&mut self) -> (Vec<Woken>, BTreeSet<Vec<u8>>) {
        (
            std::mem::take(&mut self.woken),
            std::mem::take(&mut self.changed),
        )
    }

    /// An acquisition.
    pub fn claim(&self, claimant: Claimant) -> Option<&Claim> {
        self.claims.get(&claimant)
    }

    /// The acquisitions of a session.
    pub fn claims_of(&self, session: i64) -> impl Iterator<Item = &Claim> {
        let first = Claimant { session, id: 0 };
        let from = self.claims.range(Bound::Included(&first));
        from.take_while(move |claim| claim.claimant.session == session)
    }

    /// How many they are.
    pub fn claims_count(&self, session: i64) -> usize {
        self.sessions.get(&session).copied().unwrap_or(0)
    }

    fn insert_claim(&mut self, claim: Claim) {
        *self.sessions.entry(claim.claimant.session).or_default() += 1;
        match self.queues.get_mut(&claim.name) {
            Some(queue) => queue.insert(&claim),
            None => {
                let mut queue = Queue::default();
                queue.insert(&claim);
                self.queues.insert(claim.name.clone(), queue);
            }
        }
        self.bytes += claim.bytes();
        self.timers.extend(wait_of(&claim));
        let claimant = claim.claimant;
        let old = self.claims.set(claim);
        assert!(old.is_none(), "acquisition {claimant:?} is there twice");
    }

    fn take_claim(&mut self, claimant: Claimant) -> Option<Claim> {
        let claim = self.claims.remove(&claimant)?;
        self.bytes -= claim.bytes();
        if let Some(wait) = wait_of(&claim) {
            self.timers.remove(&wait);
        }
        if let Some(count) = self.sessions.get_mut(&claimant.session) {
            *count -= 1;
            if *count == 0 {
                self.sessions.remove(&claimant.session);
            }
        }
        let queue = self.queues.get_mut(&claim.name);
        let queue = queue.expect("every acquisition is in the queue of its lock");
        queue.remove(&claim);
        if queue.is_empty() {
            self.queues.remove(&claim.name);
        }
        Some(claim)
    }

    /// Changes an acquisition that is there, but for whose it is and of what.
    fn change_claim(&mut self, claimant: Claimant, change: impl FnOnce(&mut Claim)) {
        let Locks {
            claims,
            queues,
            timers,
            bytes,
            ..
        } = self;
        let changed = claims.update(&claimant, |claim| {
            let queue = queues.get_mut(&claim.name);
            let queue = queue.expect("every acquisition is in the queue of its lock");
            queue.remove(claim);
            *bytes -= claim.bytes();
            if let Some(wait) = wait_of(claim) {
                timers.remove(&wait);
            }
            change(claim);
            queue.insert(claim);
            *bytes += claim.bytes();
            timers.extend(wait_of(claim));
        });
        assert!(changed.is_some(), "acquisition {claimant:?} is not there");
    }

    fn insert_lock(&mut self, lock: Lock) {
        self.bytes += lock_bytes(lock.name.len());
        if lock.closed_until_ms != 0 {
            self.timers
                .insert((lock.closed_until_ms, Timer::Open(lock.name.clone())));
        }
        let old = self.locks.set(lock);
        assert!(old.is_none(), "a lock is there twice");
    }

    /// Changes a lock that is there, but for its name.
    fn change_lock(&mut self, name: &[u8], change: impl FnOnce(&mut Lock)) {
        let changed = self.locks.update(name, |lock| {
            let before = lock.closed_until_ms;
            change(lock);
            (before, lock.closed_until_ms)
        });
        let (before, after) = changed.expect("the lock is in use");
        if before == after {
            return;
        }
        if before != 0 {
            self.timers.remove(&(before, Timer::Open(name.to_vec())));
        }
        if after != 0 {
            self.timers.insert((after, Timer::Open(name.to_vec())));
        }
    }

    /// Notes that holders of a lock, or their texts, changed.
    fn touch(&mut self, name: &[u8], moment: &mut Moment<'_>) {
        let version = moment.next_ordinal();
        self.change_lock(name, |lock| lock.version = version);
        self.changed.insert(name.to_vec());
    }

    fn wake(&mut self, claimant: Claimant, outcome: Outcome) {
        self.woken.push(Woken { claimant, outcome });
    }

    /// What outlives all holders and waiters, as if their sessions were lost at this clock: latches, and locks closed for a while.
    pub fn abandoned(&self, clock_ms: u64) -> Locks {
        let mut left = Locks::default();
        for lock in self.locks.range(Bound::Unbounded) {
            left.insert_lock(lock.clone());
        }
        for claim in self.claims.range(Bound::Unbounded) {
            left.close(claim, clock_ms);
        }
        let names: Vec<Vec<u8>> = self
            .locks
            .range(Bound::Unbounded)
            .map(|lock| lock.name.clone())
            .collect();
        for name in names {
            left.forget_if_idle(&name);
        }
        left
    }

    /// Takes a row of a snapshot.
    ///
    /// # Errors
    /// It makes no sense, as the text says.
    pub fn restore_lock(&mut self, lock: Lock) -> Result<(), String> {
        if self.locks.get(&lock.name).is_some() {
            return Err(format!("lock {:?} is there twice", lock.name));
        }
        if Kind::try_from(lock.kind).is_err() {
            return Err(format!("no lock is of kind {}", lock.kind));
        }
        self.insert_lock(lock);
        Ok(())
    }

    /// The same for an acquisition; its lock was taken before.
    ///
    /// # Errors
    /// It makes no sense, as the text says.
    pub fn restore_claim(&mut self, claim: Claim, leases: &Leases) -> Result<(), String> {
        let claimant = claim.claimant;
        let known = Mode::try_from(claim.mode).map_err(|_| format!("mode {}", claim.mode))?;
        let lock = self.locks.get(&claim.name);
        let lock = lock.ok_or_else(|| format!("{claimant:?} is of no lock"))?;
        if self.claims.get(&claimant).is_some() {
            return Err(format!("{claimant:?} is there twice"));
        }
        if leases.get(claimant.session).is_none() {
            return Err(format!("{claimant:?} is of no session"));
        }
        if lock.kind != known.kind() as i32 || claim.token > lock.newest {
            return Err(format!("{claimant:?} does not fit its lock"));
        }
        if claim.permits > PERMITS_MAX {
            return Err(format!("{claimant:?} has {} permits", claim.permits));
        }
        self.insert_claim(claim);
        Ok(())
    }
}
