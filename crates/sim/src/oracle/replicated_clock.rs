//! L1, L2 and L6 in the clock itself: what leaders write into their batches, reckoned anew from what their own clocks showed.
//!
//! A leader goes on from the clock of the batch before its leadership, and adds the time it counted since it stored that batch. Members count from turn to
//! turn, each time two heartbeats at most, so that time in which they did not run does not count. Both are known here to the microsecond: a batch that shows
//! anything else is wrong, by however little. A change of leaders that loses half a second ends no lease late beyond what is allowed; a hundred of them do.

use super::{Check, broken};
use crate::clock::Micros;
use raft::{Instant, Persist, Role, Term};
use std::collections::BTreeMap;

/// The oracle.
#[derive(Clone, Debug)]
pub struct ReplicatedClock {
    members: Vec<Counting>,
    /// A turn adds no more.
    turn_max: Micros,
    /// What the leader had counted when it formed the batch of this index and term.
    formed: BTreeMap<(u64, Term), Micros>,
    /// Clock and term of the newest decided batch.
    newest: (u64, Term),
    /// What the newest leadership goes on from.
    base: u64,
}

/// What a member counts.
#[derive(Clone, Debug, Default)]
struct Counting {
    last_turn: Instant,
    since_batch: Micros,
    /// The term it leads, and what it counts there.
    leads: Option<(Term, Micros)>,
}

impl ReplicatedClock {
    /// Knows nothing yet of so many members.
    pub fn new(members: usize, heartbeat: Micros) -> ReplicatedClock {
        ReplicatedClock {
            members: vec![Counting::default(); members],
            turn_max: heartbeat * 2,
            formed: BTreeMap::new(),
            newest: (0, Term(0)),
            base: 0,
        }
    }

    /// A process begins, at this time of its clock.
    pub fn on_start(&mut self, member: usize, now: Instant) {
        self.members[member] = Counting {
            last_turn: now,
            ..Counting::default()
        };
    }

    /// A member gets a turn.
    pub fn on_turn(&mut self, member: usize, now: Instant) {
        let counting = &mut self.members[member];
        let passed = now.0.saturating_sub(counting.last_turn.0);
        let counted = passed.min(self.turn_max);
        counting.last_turn = counting.last_turn.max(now);
        counting.since_batch += counted;
        if let Some((_, elapsed)) = &mut counting.leads {
            *elapsed += counted;
        }
    }

    /// A member leads, or does not any more.
    pub fn on_role(&mut self, member: usize, role: Role, term: Term) {
        let counting = &mut self.members[member];
        let leads = counting.leads.filter(|(led, _)| *led == term);
        let begins = (term, counting.since_batch);
        counting.leads = (role == Role::Leader).then(|| leads.unwrap_or(begins));
    }

    /// A member stores batches, or a snapshot in their place.
    pub fn on_persist(&mut self, member: usize, persist: &Persist) {
        let counting = &mut self.members[member];
        let batches = persist
            .entries
            .iter()
            .filter(|entry| super::is_batch(entry));
        let indexes: Vec<u64> = batches.map(|entry| entry.index.0).collect();
        if !indexes.is_empty() || persist.reset.is_some() {
            counting.since_batch = 0;
        }
        if let Some((term, elapsed)) = counting.leads {
            let formed = indexes.into_iter().map(|index| ((index, term), elapsed));
            self.formed.extend(formed);
        }
    }

    /// A batch was decided, and this is its clock.
    pub fn on_batch(&mut self, index: u64, term: Term, clock_ms: u64) -> Check {
        let (before, led_before) = std::mem::replace(&mut self.newest, (clock_ms, term));
        let begins = led_before != term;
        if begins {
            self.base = before;
        }
        let Some(counted) = self.formed.get(&(index, term)) else {
            return Ok(());
        };
        let expected = self.base + counted / 1000;
        let promise = match clock_ms.cmp(&expected) {
            std::cmp::Ordering::Equal => return Ok(()),
            std::cmp::Ordering::Greater => "L1",
            std::cmp::Ordering::Less if begins => "L6",
            std::cmp::Ordering::Less => "L2",
        };
        let base = self.base;
        broken!(
            promise,
            "the batch at index {index} shows {clock_ms} ms; its leader went on from {base} ms in term {term} and had counted {counted} us"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use raft::{Entry, Index, Payload};

    fn batch(index: u64, term: u64) -> Persist {
        Persist {
            sequence: 0,
            vote: None,
            reset: None,
            entries: vec![Entry {
                term: Term(term),
                index: Index(index),
                payload: Payload::Batch(Bytes::new()),
            }],
            commit: Index(0),
        }
    }

    /// The first of two members formed a batch; the second counted time since it stored that, and leads now.
    fn changed() -> ReplicatedClock {
        let mut clock = ReplicatedClock::new(2, 100_000);
        clock.on_role(0, Role::Leader, Term(1));
        for member in 0..2 {
            clock.on_start(member, Instant(7));
            clock.on_turn(member, Instant(50_007));
            clock.on_persist(member, &batch(1, 1));
        }
        clock.on_batch(1, Term(1), 1_000).unwrap();
        clock.on_turn(1, Instant(150_007));
        clock.on_role(1, Role::Leader, Term(2));
        clock
    }

    #[test]
    fn a_leader_counts_from_the_batch_before_it() {
        let shows = |clock_ms| {
            let mut clock = changed();
            clock.on_turn(1, Instant(160_007));
            clock.on_persist(1, &batch(2, 2));
            clock.on_batch(2, Term(2), clock_ms)
        };
        assert_eq!(shows(1_110), Ok(()));
        assert_eq!(shows(1_109).unwrap_err().0, "L6");
        assert_eq!(shows(1_010).unwrap_err().0, "L6");
        assert_eq!(shows(1_111).unwrap_err().0, "L1");
    }

    #[test]
    fn a_leader_counts_on() {
        let mut clock = changed();
        clock.on_persist(1, &batch(2, 2));
        clock.on_batch(2, Term(2), 1_100).unwrap();
        clock.on_turn(1, Instant(180_007));
        clock.on_persist(1, &batch(3, 2));
        let slow = clock.on_batch(3, Term(2), 1_129);
        assert_eq!(slow.unwrap_err().0, "L2");
    }

    #[test]
    fn a_pause_counts_two_heartbeats() {
        let mut clock = changed();
        clock.on_turn(1, Instant(60_000_000));
        clock.on_persist(1, &batch(2, 2));
        clock.on_batch(2, Term(2), 1_300).unwrap();
    }
}
