//! L1 and L2 in true time: a lease does not end early by anybody's clock, and not late while somebody leads.

use super::{Check, broken};
use crate::clock::Micros;
use crate::model::{Expiry, Lease, Model};
use raft::Term;
use std::collections::BTreeMap;

/// What L2 allows beyond the time to live and the time without a leader.
const LATENESS: Micros = 1_000_000;

/// Far apart, what a cut link swallowed takes so many ways there and back to be noticed, sent again and decided.
const ROUNDS: Micros = 4;

/// While somebody leads for so long and there are leases, something is decided at least so often (docs/decisions/0006).
const SILENCE_MAX: Micros = 2_000_000;

/// The oracle.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    /// True time and how much of it had passed without a working leader, at each sample.
    samples: Vec<(Micros, Micros)>,
    leaderless: Micros,
    last_sample: Micros,
    /// Somebody was able to lead at the last sample.
    led: bool,
    /// Since when that was so at every sample, nobody else was elected, and no message was lost.
    calm_since: Option<Micros>,
    /// By member: the time since its newest batch was formed that it cannot have counted, for it had not stored that batch, or did not run.
    uncounted: Vec<Micros>,
    /// The same of each leader when it was elected.
    uncounted_by: BTreeMap<Term, Micros>,
    newest: Option<Stamped>,
    /// When a leader formed its first batch, and what the replicated clock lost by the change of leaders.
    changes: Vec<(Micros, Micros)>,
    expiries: u64,
    /// The longest way of a message.
    distance: Micros,
}

/// A decided batch.
#[derive(Clone, Copy, Debug)]
struct Stamped {
    term: Term,
    formed_at: Micros,
    clock_ms: u64,
}

impl Leases {
    /// Knows nothing yet of so many members.
    pub fn new(members: usize, distance: Micros) -> Leases {
        Leases {
            uncounted: vec![0; members],
            distance,
            ..Leases::default()
        }
    }

    /// Notes whether somebody is able to lead, and whether messages are lost, which may take seconds to make good.
    pub fn sample(&mut self, at: Micros, led: bool, lossy: bool) {
        if !led || !self.led {
            self.leaderless += at - self.last_sample;
        }
        self.led = led;
        self.calm_since = (led && !lossy).then(|| self.calm_since.unwrap_or(at));
        self.last_sample = at;
        self.samples.push((at, self.leaderless));
    }

    /// Since when somebody was able to lead all the while, nobody else was elected, and no message was lost.
    pub fn calm_since(&self) -> Option<Micros> {
        self.calm_since
    }

    /// A member stored the batch that is its newest, or came back with it, so long after the batch was formed.
    pub fn on_stored(&mut self, member: usize, after: Micros) {
        self.uncounted[member] = after;
    }

    /// A member goes on after its process was stopped for so long.
    pub fn on_resumed(&mut self, member: usize, after: Micros) {
        self.uncounted[member] += after;
    }

    /// A leader was elected.
    pub fn on_leader(&mut self, member: usize, term: Term) {
        self.led = false;
        self.calm_since = None;
        self.uncounted_by.insert(term, self.uncounted[member]);
    }

    /// A batch was decided. The first one of a leader shows what its clock had lost.
    pub fn on_batch(&mut self, term: Term, formed_at: Micros, clock_ms: u64) {
        let next = Stamped {
            term,
            formed_at,
            clock_ms,
        };
        let Some(before) = self.newest.replace(next) else {
            return;
        };
        if before.term == term {
            return;
        }
        let passed = formed_at.saturating_sub(before.formed_at);
        let told = (clock_ms - before.clock_ms) * 1000;
        let led = passed.saturating_sub(self.leaderless_since(before.formed_at));
        let uncounted = self.uncounted_by.get(&term).copied().unwrap_or_default();
        let lost = led.saturating_sub(told).min(uncounted);
        self.changes.push((formed_at, lost));
    }

    /// Somebody else leads, and nobody knows what that cost the clock: this much at most.
    pub fn on_change(&mut self, at: Micros, lost_max: Micros) {
        self.changes.push((at, lost_max));
    }

    /// What the changes of leaders since then cost the clock.
    fn lost_since(&self, since: Micros) -> Micros {
        let position = self.changes.partition_point(|(at, _)| *at <= since);
        self.changes[position..].iter().map(|(_, lost)| lost).sum()
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

    /// L6: while there are leases, what the leader counts is written down again and again.
    pub fn check_silence(&self, model: &Model, at: Micros) -> Check {
        let calm = self
            .calm_since
            .is_some_and(|since| at - since > SILENCE_MAX);
        let newest = self.newest.map_or(0, |newest| newest.formed_at);
        if calm && !model.leases().is_empty() && at - newest > SILENCE_MAX {
            broken!(
                "L6",
                "there are leases, somebody leads, and nothing formed after {newest} us is decided"
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
        let allowed = ttl
            + ttl * 3 / 100
            + ttl / 1000
            + LATENESS
            + ROUNDS * 2 * self.distance
            + self.leaderless_since(lease.renewed_at)
            + self.lost_since(lease.renewed_at);
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
    use state::{Batch, Command, Group, LeaseGrant, Operation};

    fn expiry(renewed_at: Micros) -> Expiry {
        Expiry {
            id: 1,
            lease: Lease {
                ttl_ms: 1000,
                deadline_ms: 0,
                renewed_at,
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
        for (at, led) in [
            (100, true),
            (200, true),
            (300, false),
            (400, true),
            (500, true),
        ] {
            leases.sample(at, led, false);
        }
        assert_eq!(
            leases.leaderless_since(100),
            200,
            "only between two samples that see a leader somebody surely led"
        );
        assert_eq!(leases.leaderless_since(300), 100);
        assert_eq!(leases.leaderless_since(400), 0);
    }

    #[test]
    fn a_change_of_leaders_may_cost_what_the_next_one_could_not_count() {
        let lost = |told_ms, uncounted| {
            let mut leases = Leases::new(1, 0);
            leases.sample(0, true, false);
            leases.on_batch(Term(1), 0, 0);
            leases.on_stored(0, uncounted);
            leases.on_leader(0, Term(2));
            leases.on_batch(Term(2), 500_000, told_ms);
            leases.lost_since(0)
        };
        assert_eq!(lost(500, 300_000), 0, "nothing is lost");
        assert_eq!(
            lost(300, 300_000),
            200_000,
            "some is lost, with good reason"
        );
        assert_eq!(
            lost(100, 300_000),
            300_000,
            "more is lost than there is reason for"
        );
    }

    #[test]
    fn a_silent_leader_is_seen() {
        let mut leases = Leases::new(1, 0);
        let mut model = Model::default();
        leases.sample(0, true, false);
        leases.sample(SILENCE_MAX, true, false);
        leases.check_silence(&model, SILENCE_MAX + 1).unwrap();
        let grant = Command {
            operation: Some(Operation::LeaseGrant(LeaseGrant {
                id: 1,
                ttl_ms: 60_000,
            })),
            ..Command::default()
        };
        let batch = Batch {
            format: 1,
            groups: vec![Group {
                commands: vec![grant],
                ..Group::default()
            }],
            ..Batch::default()
        };
        model.apply(&batch, 0).unwrap();
        leases.check_silence(&model, SILENCE_MAX).unwrap();
        let silence = leases.check_silence(&model, SILENCE_MAX + 1);
        assert_eq!(silence.unwrap_err().0, "L6");
    }
}
