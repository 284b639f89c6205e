//! The clock and the wall time a leader writes into its batches (PROPERTIES L1–L7).
//!
//! A leadership's clock begins at the clock of the last entry in the leader's own log, committed or not, and goes on with the monotonic time of this
//! leadership. The base is known once the leader has applied the first entry of its own term: by then it has applied every entry it had when it was
//! elected, so the state's clock *is* that of the last of them. No batch is proposed before. That costs the round trip of the term's first entry, and
//! saves remembering the clocks of undecided entries.
//!
//! Safe for L1: the last batch in the log was made before the election was won, so the new clock never runs ahead of real time. Enough for L2: time is
//! counted from the election on. Time in which the leader did not run (a pause of its process) does not count: one turn adds at most two heartbeats.

use raft::{Instant, Term};
use std::time::Duration;

/// The clock of the present leadership, if this member leads.
pub(crate) struct LeaderClock {
    turn_max: Duration,
    leadership: Option<Leadership>,
}

struct Leadership {
    term: Term,
    /// Counted time since the election was won.
    elapsed: Duration,
    last_turn: Instant,
    base: Option<Base>,
}

/// Where the batches of this leadership go on from.
struct Base {
    clock_ms: u64,
    last_clock_ms: u64,
    last_wall_ms: u64,
}

/// The times of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchTime {
    pub(crate) clock_ms: u64,
    pub(crate) wall_ms: u64,
}

impl LeaderClock {
    pub(crate) fn new(heartbeat: Duration) -> LeaderClock {
        LeaderClock {
            turn_max: heartbeat * 2,
            leadership: None,
        }
    }

    /// This member was elected.
    pub(crate) fn elected(&mut self, now: Instant, term: Term) {
        self.leadership = Some(Leadership {
            term,
            elapsed: Duration::ZERO,
            last_turn: now,
            base: None,
        });
    }

    /// This member leads no longer.
    pub(crate) fn deposed(&mut self) {
        self.leadership = None;
    }

    /// Counts the time since the last turn.
    pub(crate) fn turn(&mut self, now: Instant) {
        if let Some(leadership) = &mut self.leadership {
            leadership.elapsed += now.since(leadership.last_turn).min(self.turn_max);
            leadership.last_turn = leadership.last_turn.max(now);
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
        let clock_ms = self
            .clock_ms()
            .expect("batches are stamped only when the clock is ready");
        let base = self
            .leadership
            .as_mut()
            .and_then(|leadership| leadership.base.as_mut())
            .expect("the clock is ready");
        assert!(
            clock_ms >= base.last_clock_ms,
            "the clock fell: {} → {clock_ms}",
            base.last_clock_ms
        );
        base.last_clock_ms = clock_ms;
        base.last_wall_ms = base.last_wall_ms.max(wall_ms);
        BatchTime {
            clock_ms,
            wall_ms: base.last_wall_ms,
        }
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

    #[test]
    fn nothing_is_stamped_before_the_own_term_is_applied() {
        let mut clock = LeaderClock::new(HEARTBEAT);
        assert!(!clock.is_ready());
        clock.elected(at(1000), Term(5));
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
    fn a_pause_counts_two_heartbeats() {
        let mut clock = LeaderClock::new(HEARTBEAT);
        clock.elected(at(0), Term(1));
        clock.applied(Term(1), 1000, 0);
        clock.turn(at(60_000));
        assert_eq!(clock.clock_ms(), Some(1200));
        clock.turn(at(60_100));
        assert_eq!(clock.clock_ms(), Some(1300));
    }

    #[test]
    fn wall_time_never_falls() {
        let mut clock = LeaderClock::new(HEARTBEAT);
        clock.elected(at(0), Term(1));
        clock.applied(Term(1), 0, 5000);
        assert_eq!(clock.stamp(100).wall_ms, 5000);
        assert_eq!(clock.stamp(6000).wall_ms, 6000);
        assert_eq!(clock.stamp(5999).wall_ms, 6000);
    }

    #[test]
    fn time_until_a_deadline() {
        let mut clock = LeaderClock::new(HEARTBEAT);
        assert_eq!(clock.until(5), None);
        clock.elected(at(0), Term(1));
        clock.applied(Term(1), 1000, 0);
        clock.turn(at(100));
        assert_eq!(clock.until(1500), Some(Duration::from_millis(400)));
        assert_eq!(clock.until(900), Some(Duration::ZERO));
        clock.deposed();
        assert_eq!(clock.until(1500), None);
    }
}
