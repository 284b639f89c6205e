//! What a member believes about time. True time is the world's, in microseconds from its start; a member sees only its own two clocks.

use replica::Now;

/// Microseconds of true time since the world began.
pub type Micros = u64;

/// A member's clocks: a monotonic one that drifts, and a wall clock that is stepped.
#[derive(Clone, Debug)]
pub struct Clock {
    /// True time when the present rate began.
    since: Micros,
    /// What the monotonic clock showed then.
    shown: u64,
    /// Millionths by which it runs fast (or slow, if negative); PROPERTIES allows up to 10 000 of them.
    drift: i64,
    /// Milliseconds by which the wall clock is wrong.
    wall_offset_ms: i64,
}

/// Wall time at the start of the world: 2026-01-01, in milliseconds.
const WALL_START_MS: i64 = 1_767_225_600_000;

impl Clock {
    /// A clock that shows `shown` at true time `now`.
    pub fn new(now: Micros, shown: u64, drift: i64) -> Clock {
        assert!(
            drift.abs() <= 10_000,
            "a drift of {drift} millionths is beyond what we promise under"
        );
        Clock {
            since: now,
            shown,
            drift,
            wall_offset_ms: 0,
        }
    }

    /// What the member reads at true time `now`.
    pub fn read(&self, now: Micros) -> Now {
        let wall = WALL_START_MS + (now / 1000) as i64 + self.wall_offset_ms;
        Now {
            monotonic: raft::Instant(self.monotonic(now)),
            wall_ms: wall.max(0) as u64,
        }
    }

    fn monotonic(&self, now: Micros) -> u64 {
        let elapsed = (now - self.since) as i128;
        self.shown + (elapsed * (1_000_000 + i128::from(self.drift)) / 1_000_000) as u64
    }

    /// The first true time, not before `now`, at which the monotonic clock shows at least `instant`.
    pub fn when(&self, instant: raft::Instant, now: Micros) -> Micros {
        if instant.0 <= self.monotonic(now) {
            return now;
        }
        let ahead = i128::from(instant.0 - self.shown);
        let rate = 1_000_000 + i128::from(self.drift);
        self.since + ((ahead * 1_000_000 + rate - 1) / rate) as u64
    }

    /// Changes the drift from `now` on; the clock does not jump.
    pub fn set_drift(&mut self, now: Micros, drift: i64) {
        assert!(
            drift.abs() <= 10_000,
            "a drift of {drift} millionths is beyond what we promise under"
        );
        *self = Clock {
            since: now,
            shown: self.monotonic(now),
            drift,
            ..self.clone()
        };
    }

    /// The present drift, in millionths.
    pub fn drift(&self) -> i64 {
        self.drift
    }

    /// Steps the wall clock.
    pub fn step_wall(&mut self, by_ms: i64) {
        self.wall_offset_ms += by_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft::Instant;

    #[test]
    fn a_timer_fires_when_the_clock_shows_its_time_and_not_before() {
        for drift in [-10_000, -37, 0, 1, 9_999] {
            let clock = Clock::new(1_000, 77_000, drift);
            for ahead in [1, 2, 999, 1_000_000, 123_456_789] {
                let at = clock.when(Instant(77_000 + ahead), 1_000);
                assert!(
                    clock.monotonic(at) >= 77_000 + ahead,
                    "drift {drift} ahead {ahead}"
                );
                assert!(
                    clock.monotonic(at - 1) < 77_000 + ahead,
                    "drift {drift} ahead {ahead}"
                );
            }
        }
    }

    #[test]
    fn a_change_of_drift_never_turns_the_clock_back() {
        let mut clock = Clock::new(0, 0, 10_000);
        let mut last = 0;
        for step in 1..100 {
            clock.set_drift(step * 1_000, if step % 2 == 0 { 10_000 } else { -10_000 });
            let shown = clock.monotonic(step * 1_000);
            assert!(shown > last);
            last = shown;
        }
    }

    #[test]
    fn a_wall_step_leaves_the_monotonic_clock_alone() {
        let mut clock = Clock::new(0, 5, 0);
        let before = clock.read(1_000_000);
        clock.step_wall(-3_600_000);
        let after = clock.read(1_000_000);
        assert_eq!(before.monotonic, after.monotonic);
        assert_eq!(before.wall_ms - 3_600_000, after.wall_ms);
    }
}
