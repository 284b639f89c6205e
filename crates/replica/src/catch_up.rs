//! Which learners could vote without holding anybody up (Raft thesis §4.2.1): each is fed in rounds, a round being what the log had when it began, and one
//! whose last round took less than an election timeout has caught up. Index and time both count: a learner that is near the end and receives nothing has
//! not caught up, nor has one that receives fast and is far behind.

use raft::{Index, Instant, PeerId};
use std::collections::BTreeMap;
use std::time::Duration;

/// Rounds of the learners, as the leader sees them.
#[derive(Default)]
pub(crate) struct CatchUp {
    rounds: BTreeMap<PeerId, Round>,
}

struct Round {
    /// It ends when the learner has this.
    through: Index,
    since: Instant,
    /// The one before was quick enough.
    caught_up: bool,
}

impl CatchUp {
    /// Notes how far a learner is; `matched` 0: nothing is known of its log. A round that takes longer than `quick` tells that it has not caught up.
    pub(crate) fn observe(
        &mut self,
        now: Instant,
        peer: PeerId,
        matched: Index,
        last: Index,
        quick: Duration,
    ) {
        let begun = Round {
            through: last,
            since: now,
            caught_up: false,
        };
        if matched == Index(0) {
            self.rounds.remove(&peer);
            return;
        }
        let Some(round) = self.rounds.get_mut(&peer) else {
            self.rounds.insert(peer, begun);
            return;
        };
        let in_time = now.since(round.since) <= quick;
        if matched >= round.through {
            *round = Round {
                caught_up: in_time,
                ..begun
            };
        } else if !in_time {
            round.caught_up = false;
        }
    }

    /// Its last round was quick enough.
    pub(crate) fn is_caught_up(&self, peer: PeerId) -> bool {
        self.rounds.get(&peer).is_some_and(|round| round.caught_up)
    }

    /// Forgets all but these.
    pub(crate) fn retain(&mut self, keep: impl Fn(PeerId) -> bool) {
        self.rounds.retain(|peer, _| keep(*peer));
    }

    pub(crate) fn forget_all(&mut self) {
        self.rounds.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft::{Incarnation, MemberId};

    const PEER: PeerId = PeerId {
        member: MemberId(4),
        incarnation: Incarnation(1),
    };
    const QUICK: Duration = Duration::from_millis(500);

    fn at(millis: u64) -> Instant {
        Instant(0) + Duration::from_millis(millis)
    }

    #[test]
    fn a_learner_has_caught_up_after_a_round_shorter_than_an_election_timeout() {
        let mut rounds = CatchUp::default();
        rounds.observe(at(0), PEER, Index(1), Index(1000), QUICK);
        rounds.observe(at(400), PEER, Index(900), Index(1400), QUICK);
        assert!(!rounds.is_caught_up(PEER), "its first round goes on");
        rounds.observe(at(600), PEER, Index(1000), Index(1600), QUICK);
        assert!(!rounds.is_caught_up(PEER), "that round was too long");
        rounds.observe(at(900), PEER, Index(1600), Index(1700), QUICK);
        assert!(rounds.is_caught_up(PEER));
        rounds.observe(at(1500), PEER, Index(1650), Index(2000), QUICK);
        assert!(!rounds.is_caught_up(PEER), "it fell behind again");
    }

    #[test]
    fn one_whose_log_is_not_known_has_not() {
        let mut rounds = CatchUp::default();
        for millis in [0, 100, 200] {
            rounds.observe(at(millis), PEER, Index(0), Index(0), QUICK);
        }
        assert!(!rounds.is_caught_up(PEER));
    }
}
