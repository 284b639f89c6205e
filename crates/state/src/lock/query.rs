//! Questions about locks, answered at once: a page is short.

use crate::lock::rows::{Claim, Lock};
use crate::lock::{
    ClaimView, Claimant, Kind, LockAnswer, LockDetail, LockQuery, LockView, Locks, Moment,
    Obstacle, PAGE_MAX,
};
use bytes::Bytes;
use std::ops::Bound;

impl Locks {
    /// Answers a question at a moment.
    pub fn ask(&self, query: &LockQuery, moment: &Moment<'_>) -> LockAnswer {
        match query {
            LockQuery::List { from, limit } => {
                let limit = (*limit).min(PAGE_MAX);
                let mut rows = self.locks.range(Bound::Included(&from[..]));
                let page = rows.by_ref().take(limit);
                LockAnswer::List {
                    locks: page.map(|lock| self.view(lock, moment)).collect(),
                    more: rows.next().is_some(),
                }
            }
            LockQuery::Show { name, skip, limit } => {
                let lock = self.locks.get(name);
                LockAnswer::Show(lock.map(|lock| self.detail(lock, *skip, *limit, moment)))
            }
            LockQuery::Claim { claimant } | LockQuery::Own { claimant } => {
                let claim = self.claims.get(claimant);
                LockAnswer::Claim(claim.map(|claim| self.claim_view(claim, moment)))
            }
            LockQuery::Check { name, token } => LockAnswer::Check {
                held: self.holds(name, *token, moment),
                newest: self.newest(name),
            },
        }
    }

    fn view(&self, lock: &Lock, moment: &Moment<'_>) -> LockView {
        let queue = self.queues.get(&lock.name);
        LockView {
            name: Bytes::copy_from_slice(&lock.name),
            kind: lock.kind(),
            limit: lock.limit,
            holders: queue.map_or(0, |queue| queue.holders.len()),
            waiters: queue.map_or(0, |queue| queue.waiters.len()),
            used: queue.map_or(0, |queue| queue.used),
            newest: lock.newest,
            closed_ms: lock.closed_until_ms.saturating_sub(moment.clock_ms),
            version: lock.version,
        }
    }

    fn detail(&self, lock: &Lock, skip: usize, limit: usize, moment: &Moment<'_>) -> LockDetail {
        let queue = self.queues.get(&lock.name);
        let claimants = queue.into_iter().flat_map(|queue| {
            let holders = queue.holders.iter().map(|&(_, claimant)| (claimant, None));
            let waiters = queue.waiters.iter().enumerate();
            holders.chain(waiters.map(|(ahead, &(_, _, claimant))| (claimant, Some(ahead))))
        });
        let mut rest = claimants.skip(skip);
        let page = rest.by_ref().take(limit.min(PAGE_MAX));
        let claims = page.map(|(claimant, ahead)| self.claim_at(claimant, ahead, lock, moment));
        LockDetail {
            lock: self.view(lock, moment),
            claims: claims.collect(),
            more: rest.next().is_some(),
        }
    }

    fn claim_at(
        &self,
        claimant: Claimant,
        ahead: Option<usize>,
        lock: &Lock,
        moment: &Moment<'_>,
    ) -> ClaimView {
        let claim = self.claims.get(&claimant).expect("queues follow from rows");
        let view = ClaimView {
            name: Bytes::copy_from_slice(&claim.name),
            claimant,
            owner: claim.owner,
            mode: claim.mode(),
            permits: claim.permits,
            priority: claim.priority,
            token: claim.token,
            since_wall_ms: claim.since_wall_ms,
            value: Bytes::copy_from_slice(&claim.value),
            waits_for: None,
        };
        ClaimView {
            waits_for: self.obstacle(claim, ahead, lock, moment),
            ..view
        }
    }

    fn claim_view(&self, claim: &Claim, moment: &Moment<'_>) -> ClaimView {
        let queue = &self.queues[&claim.name];
        let same = |&(_, _, claimant): &(_, _, Claimant)| claimant == claim.claimant;
        let ahead = queue.waiters.iter().position(same);
        let lock = self.locks.get(&claim.name).expect("rows fit together");
        self.claim_at(claim.claimant, ahead, lock, moment)
    }

    /// Why it waits.
    fn obstacle(
        &self,
        claim: &Claim,
        ahead: Option<usize>,
        lock: &Lock,
        moment: &Moment<'_>,
    ) -> Option<Obstacle> {
        let queue = &self.queues[&claim.name];
        let holders = queue.holders.len();
        if claim.leaving {
            let missing = (holders - queue.leaving) as u64;
            return Some(Obstacle::Barrier { missing });
        }
        let ahead = ahead?;
        if lock.kind() == Kind::Barrier && holders == 0 {
            let missing = lock.limit.saturating_sub(queue.waiters.len() as u64);
            return Some(Obstacle::Barrier { missing });
        }
        Some(match lock.kind() {
            Kind::Latch => Obstacle::Latch { count: lock.limit },
            _ if lock.closed_until_ms > moment.clock_ms => Obstacle::Closed {
                ms: lock.closed_until_ms - moment.clock_ms,
            },
            _ if ahead > 0 => Obstacle::Queue { ahead },
            Kind::Semaphore => Obstacle::Permits {
                missing: (queue.used + claim.permits).saturating_sub(lock.limit),
            },
            _ => Obstacle::Held { holders },
        })
    }
}
