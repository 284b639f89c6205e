//! Who holds a lock and who waits for it, in order. Follows from the rows.

use crate::lock::rows::Claim;
use crate::lock::{Claimant, Mode};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
#[derive(Default)]
pub(crate) struct Queue {
    /// By token; acquisitions that re-entered share one.
    pub holders: BTreeSet<(u64, Claimant)>,
    /// In the order they are served.
    pub waiters: BTreeSet<(Reverse<i32>, u64, Claimant)>,
    /// Permits in use.
    pub used: u64,
    /// One owner holds it alone.
    pub alone: bool,
    /// Holders that have left their barrier.
    pub leaving: usize,
    /// Acquisitions that hold, of owners that may re-enter, by session, owner and token. Who waited twice may hold by two tokens.
    owners: BTreeMap<(i64, u64, u64), u64>,
}

impl Queue {
    pub fn is_empty(&self) -> bool {
        self.holders.is_empty() && self.waiters.is_empty()
    }

    pub fn insert(&mut self, claim: &Claim) {
        let claimant = claim.claimant;
        if !claim.holds() {
            self.waiters
                .insert((Reverse(claim.priority), claim.place, claimant));
            return;
        }
        self.holders.insert((claim.token, claimant));
        self.used += claim.permits;
        self.alone |= claim.mode() == Mode::Exclusive;
        self.leaving += usize::from(claim.leaving);
        if claim.owner != 0 {
            let grant = (claimant.session, claim.owner, claim.token);
            *self.owners.entry(grant).or_insert(0) += 1;
        }
    }

    pub fn remove(&mut self, claim: &Claim) {
        let claimant = claim.claimant;
        if !claim.holds() {
            self.waiters
                .remove(&(Reverse(claim.priority), claim.place, claimant));
            return;
        }
        self.holders.remove(&(claim.token, claimant));
        self.used -= claim.permits;
        self.alone &= !self.holders.is_empty();
        self.leaving -= usize::from(claim.leaving);
        let grant = (claimant.session, claim.owner, claim.token);
        if let Some(count) = self.owners.get_mut(&grant) {
            *count -= 1;
            if *count == 0 {
                self.owners.remove(&grant);
            }
        }
    }

    /// The grant that this owner may re-enter, the oldest if there are two.
    pub fn grant_of(&self, session: i64, owner: u64) -> Option<u64> {
        mutated!(ReentryAcrossSessions, {
            let mut all = self.owners.keys();
            let own = all.find(|grant| owner != 0 && grant.1 == owner);
            return own.map(|&(_, _, token)| token);
        });
        let all = (session, owner, 0)..=(session, owner, u64::MAX);
        let oldest = self.owners.range(all).next();
        oldest.map(|(&(_, _, token), _)| token)
    }

    /// Acquisitions of a grant.
    pub fn of_grant(&self, token: u64) -> impl Iterator<Item = Claimant> {
        let first = Claimant {
            session: i64::MIN,
            id: 0,
        };
        self.holders
            .range((token, first)..)
            .take_while(move |&&(other, _)| other == token)
            .map(|&(_, claimant)| claimant)
    }

    /// The next to be served.
    pub fn front(&self) -> Option<Claimant> {
        let first = mutated!(LastComeFirst, self.waiters.last(), self.waiters.first());
        first.map(|&(_, _, claimant)| claimant)
    }

    /// Nothing that is held stands against this acquisition.
    pub fn fits(&self, claim: &Claim, limit: u64) -> bool {
        match claim.mode() {
            Mode::Exclusive | Mode::Enter => self.holders.is_empty() || mutated!(SecondHolder),
            Mode::Shared => !self.alone,
            Mode::Permits => self.used + claim.permits <= limit,
            Mode::Member => true,
            Mode::Pass => limit == 0,
        }
    }
}
