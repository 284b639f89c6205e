//! The clock and the wall time a leader writes into its batches (PROPERTIES L1–L7).
//!
//! A leadership's clock begins at the clock of the last batch in the leader's own log, committed or not, and goes on with the monotonic time since this
//! member stored that batch. The base is known once the leader has applied the first entry of its own term: by then it has applied every entry it had when
//! it was elected, so the state's clock *is* that of the last of them. No batch is proposed before. That costs the round trip of the term's first entry,
//! and saves remembering the clocks of undecided entries.
//!
//! Safe for L1: a batch is stored no earlier than it was made, so the new clock never runs ahead of real time. Enough for L2 and L6: a follower counts the
//! time of an idle leader with it, so that no change of leader sets the clock back to the last batch. Time in which a member did not run (a pause of its
//! process) does not count: one turn adds at most two heartbeats.
//!
//! What is counted and not yet in the log is lost with the process. So while there are leases, a leader that proposes nothing else proposes an empty batch
//! at the start of its leadership and then every [`CHECKPOINT`].

use raft::{Instant, Term};
use std::time::Duration;

/// While there are leases, the log's clock is at most this far behind.
const CHECKPOINT: Duration = Duration::from_millis(500);

/// The clock of the present leadership, if this member leads, and what it would go on from.
pub(crate) struct LeaderClock {
    turn_max: Duration,
    last_turn: Instant,
    /// Counted time since this member stored its newest batch, or started.
    since_batch: Duration,
    leadership: Option<Leadership>,
}

struct Leadership {
    term: Term,
    /// Counted time since the last batch before this leadership was stored.
    elapsed: Duration,
    base: Option<Base>,
}

/// Where the batches of this leadership go on from.
struct Base {
    clock_ms: u64,
    last_clock_ms: u64,
    last_wall_ms: u64,
    /// The elapsed time at the batch stamped last; `None` before the first.
    stamped: Option<Duration>,
}

/// The times of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchTime {
    pub(crate) clock_ms: u64,
    pub(crate) wall_ms: u64,
}

impl LeaderClock {
    pub(crate) fn new(heartbeat: Duration, now: Instant) -> LeaderClock {
        LeaderClock {
            turn_max: heartbeat * 2,
            last_turn: now,
            since_batch: Duration::ZERO,
            leadership: None,
        }
    }

    /// This member was elected.
    pub(crate) fn elected(&mut self, term: Term) {
        self.leadership = Some(Leadership {
            term,
            elapsed: mutated!(ClockSkipsIdleTime, Duration::ZERO, self.since_batch),
            base: None,
        });
    }

    /// This member leads no longer.
    pub(crate) fn deposed(&mut self) {
        self.leadership = None;
    }

    /// A batch was stored, or a snapshot took the place of the log.
    pub(crate) fn batch_stored(&mut self) {
        self.since_batch = Duration::ZERO;
    }

    /// Counts the time since the last turn.
    pub(crate) fn turn(&mut self, now: Instant) {
        let counted = now.since(self.last_turn).min(self.turn_max);
        self.last_turn = self.last_turn.max(now);
        self.since_batch += counted;
        if let Some(leadership) = &mut self.leadership {
            leadership.elapsed += mutated!(
                ClockHalfAsleep,
                match &leadership.base {
                    Some(Base {
                        stamped: Some(_), ..
                    }) => counted.min(self.turn_max / 4),
                    _ => counted,
                },
                counted
            );
        }
    }

    /// An entry of `term` was applied, and the state's times are now these: the first one of the own term gives the base.
    pub(crate) fn applied(&mut self, term: Term, clock_ms: u64, wall_ms: u64) {
        if let Some(leadership) = &mut self.leadership
            && leadership.term == term
            && leadership.base.is_none()
        {
            leadership.base = Some(Base {
                clock_ms,
                last_clock_ms: clock_ms,
                last_wall_ms: wall_ms,
                stamped: None,
            });
        }
    }

    /// Batches may be proposed.
    pub(crate) fn is_ready(&self) -> bool {
        self.leadership
            .as_ref()
            .is_some_and(|leadership| leadership.base.is_some())
    }

    /// What the replicated clock would be now.
    pub(crate) fn clock_ms(&self) -> Option<u64> {
        let leadership = self.leadership.as_ref()?;
        Some(leadership.base.as_ref()?.clock_ms + leadership.elapsed.as_millis() as u64)
    }

    /// The clock of the batch proposed last in this leadership.
    pub(crate) fn last_clock_ms(&self) -> Option<u64> {
        Some(self.leadership.as_ref()?.base.as_ref()?.last_clock_ms)
    }

    /// Stamps a batch. The wall time never falls, whatever the wall clocks do.
    ///
    /// # Panics
    /// If no batch may be proposed yet.
    pub(crate) fn stamp(&mut self, wall_ms: u64) -> BatchTime {
        let counted = self
            .clock_ms()
            .expect("batches are stamped only when the clock is ready");
        let leadership = self.leadership.as_mut().expect("the clock is ready");
        let base = leadership.base.as_mut().expect("the clock is ready");
        let clock_ms = mutated!(ClockFollowsWall, base.last_clock_ms.max(wall_ms), counted);
        assert!(
            clock_ms >= base.last_clock_ms,
            "the clock fell: {} → {clock_ms}",
            base.last_clock_ms
        );
        base.stamped = Some(leadership.elapsed);
        base.last_clock_ms = clock_ms;
        base.last_wall_ms = base.last_wall_ms.max(wall_ms);
        BatchTime {
            clock_ms,
            wall_ms: base.last_wall_ms,
        }
    }

    /// Monotonic time until the log's clock is to be brought up to date, if there are leases; zero if it is time.
    pub(crate) fn until_checkpoint(&self) -> Option<Duration> {
        let leadership = self.leadership.as_ref()?;
        let stamped = leadership.base.as_ref()?.stamped;
        mutated!(NoCheckpoints, return Some(Duration::MAX));
        Some(stamped.map_or(Duration::ZERO, |stamped| {
            let after = mutated!(
                LeasesEndAtCheckpoints,
                CHECKPOINT * 4 - CHECKPOINT / 2,
                CHECKPOINT
            );
            (stamped + after).saturating_sub(leadership.elapsed)
        }))
    }

    /// Monotonic time until the replicated clock shows `clock_ms`; zero if it is past.
    pub(crate) fn until(&self, clock_ms: u64) -> Option<Duration> {
        let leadership = self.leadership.as_ref()?;
        let wanted =
            Duration::from_millis(clock_ms.saturating_sub(leadership.base.as_ref()?.clock_ms));
        Some(wanted.saturating_sub(leadership.elapsed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARTBEAT: Duration = Duration::from_millis(100);

    fn at(ms: u64) -> Instant {
        Instant(ms * 1000)
    }

    fn leading(term: u64, clock_ms: u64, wall_ms: u64) -> LeaderClock {
        let mut clock = LeaderClock::new(HEARTBEAT, at(0));
        clock.elected(Term(term));
        clock.applied(Term(term), clock_ms, wall_ms);
        clock
    }

    #[test]
    fn nothing_is_stamped_before_the_own_term_is_applied() {
        let mut clock = LeaderClock::new(HEARTBEAT, at(1000));
        assert!(!clock.is_ready());
        clock.elected(Term(5));
        clock.applied(Term(4), 77, 10);
        assert!(
            !clock.is_ready(),
            "an entry of an earlier term says nothing of the last one"
        );
        clock.turn(at(1050));
        clock.applied(Term(5), 80, 20);
        assert!(clock.is_ready());
        assert_eq!(
            clock.clock_ms(),
            Some(130),
            "time counts from the election on"
        );
        clock.applied(Term(5), 99, 30);
        assert_eq!(clock.clock_ms(), Some(130), "the base is taken once");
    }

    #[test]
    fn a_new_leader_counts_the_idle_time_of_the_old_one() {
        let mut clock = LeaderClock::new(HEARTBEAT, at(0));
        clock.turn(at(150));
        clock.batch_stored();
        for ms in (200..=1000).step_by(50) {
            clock.turn(at(ms));
        }
        clock.elected(Term(2));
        clock.applied(Term(2), 5000, 0);
        assert_eq!(clock.clock_ms(), Some(5850));
    }

    #[test]
    fn a_pause_counts_two_heartbeats() {
        let mut clock = leading(1, 1000, 0);
        clock.turn(at(60_000));
        assert_eq!(clock.clock_ms(), Some(1200));
        clock.turn(at(60_100));
        assert_eq!(clock.clock_ms(), Some(1300));
    }

    #[test]
    fn wall_time_never_falls() {
        let mut clock = leading(1, 0, 5000);
        assert_eq!(clock.stamp(100).wall_ms, 5000);
        assert_eq!(clock.stamp(6000).wall_ms, 6000);
        assert_eq!(clock.stamp(5999).wall_ms, 6000);
    }

    #[test]
    fn time_until_a_deadline_and_a_checkpoint() {
        let mut clock = LeaderClock::new(HEARTBEAT, at(0));
        assert_eq!((clock.until(5), clock.until_checkpoint()), (None, None));
        clock.elected(Term(1));
        clock.applied(Term(1), 1000, 0);
        clock.turn(at(100));
        assert_eq!(clock.until(1500), Some(Duration::from_millis(400)));
        assert_eq!(clock.until(900), Some(Duration::ZERO));
        assert_eq!(
            clock.until_checkpoint(),
            Some(Duration::ZERO),
            "a leadership begins with one"
        );
        clock.stamp(0);
        clock.turn(at(200));
        assert_eq!(
            clock.until_checkpoint(),
            Some(CHECKPOINT - Duration::from_millis(100))
        );
        clock.deposed();
        assert_eq!(clock.until(1500), None);
    }
}
