//! L1 and L2 in true time: a lease does not end early by anybody's clock, and not late while somebody leads.

use super::{Check, broken};
use crate::clock::Micros;
use crate::model::{Expiry, Lease, Model};

/// What a change of leaders may cost: the new clock goes on from the last batch, and the old leader made one at least this often.
const LEADER_CHANGE: Micros = 600_000;

/// What L2 allows beyond the time to live and the time without a leader.
const LATENESS: Micros = 1_000_000;

/// The oracle.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    /// True time and how much of it had passed without a working leader, at each sample.
    samples: Vec<(Micros, Micros)>,
    leaderless: Micros,
    last_sample: Micros,
    /// When leaders were elected.
    elections: Vec<Micros>,
    expiries: u64,
}

impl Leases {
    /// Notes whether somebody was able to lead since the last call.
    pub fn sample(&mut self, at: Micros, led: bool) {
        if !led {
            self.leaderless += at - self.last_sample;
        }
        self.last_sample = at;
        self.samples.push((at, self.leaderless));
    }

    /// A leader was elected.
    pub fn on_leader(&mut self, at: Micros) {
        self.elections.push(at);
    }

    /// Time without a leader from `since` until the last sample.
    fn leaderless_since(&self, since: Micros) -> Micros {
        let position = self.samples.partition_point(|(at, _)| *at <= since);
        let before = position
            .checked_sub(1)
            .map_or(0, |position| self.samples[position].1);
        self.leaderless - before
    }

    /// How many leases ended by time.
    pub fn expiries(&self) -> u64 {
        self.expiries
    }

    /// L1: a lease was ended by a batch formed at `formed_at`.
    pub fn on_expiry(&mut self, expiry: &Expiry, formed_at: Micros) -> Check {
        self.expiries += 1;
        let lived = formed_at.saturating_sub(expiry.lease.renewed_at);
        if lived < expiry.lease.ttl_ms * 1000 {
            let (id, ttl_ms) = (expiry.id, expiry.lease.ttl_ms);
            broken!(
                "L1",
                "lease {id} of {ttl_ms} ms ended {lived} us after it was granted or renewed"
            );
        }
        Ok(())
    }

    /// L2: no lease has outstayed its time.
    pub fn check_lateness(&self, model: &Model, at: Micros) -> Check {
        for (id, lease) in model.leases() {
            self.check_age(*id, lease, at).map_err(|(property, text)| {
                let (deadline, clock) = (lease.deadline_ms, model.clock_ms());
                let text =
                    format!("{text}; its deadline is {deadline} on a clock that shows {clock}");
                (property, text)
            })?;
        }
        Ok(())
    }

    /// L2: a lease that is there at `at` has not outstayed its time.
    pub fn check_age(&self, id: i64, lease: &Lease, at: Micros) -> Check {
        let ttl = lease.ttl_ms * 1000;
        // 2 % by promise, 1 % because the leader's clock may be slow.
        let allowed =
            ttl + ttl * 3 / 100 + ttl / 1000 + LATENESS + self.leaderless_since(lease.renewed_at);
        let elected_before = self.elections.partition_point(|at| *at <= lease.renewed_at);
        let allowed = allowed + LEADER_CHANGE * (self.elections.len() - elected_before) as u64;
        let lived = at.saturating_sub(lease.renewed_at);
        if lived > allowed {
            let ttl_ms = lease.ttl_ms;
            broken!(
                "L2",
                "lease {id} of {ttl_ms} ms lives {lived} us after it was granted or renewed, {allowed} are allowed"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn expiry(renewed_at: Micros) -> Expiry {
        Expiry {
            id: 1,
            lease: Lease {
                ttl_ms: 1000,
                deadline_ms: 0,
                renewed_at,
                keys: BTreeSet::new(),
            },
        }
    }

    #[test]
    fn an_early_end_is_seen() {
        let mut leases = Leases::default();
        leases.on_expiry(&expiry(0), 1_000_000).unwrap();
        assert_eq!(leases.on_expiry(&expiry(1), 1_000_000).unwrap_err().0, "L1");
    }

    #[test]
    fn time_without_a_leader_is_counted_from_a_moment_on() {
        let mut leases = Leases::default();
        leases.sample(100, true);
        leases.sample(200, false);
        leases.sample(300, true);
        leases.sample(400, false);
        assert_eq!(leases.leaderless_since(0), 200);
        assert_eq!(leases.leaderless_since(200), 100);
        assert_eq!(leases.leaderless_since(400), 0);
    }
}
