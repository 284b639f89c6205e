//! When a failed request is tried again: pauses that double, with jitter, and a budget that all requests of a client share, so that many which fail at
//! once do not become a storm.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The pause before the first repetition.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_millis(800);
/// Repetitions that a client may make at once before they have to wait for their turn.
const BURST: u32 = 100;
/// From then on one repetition may go in this time.
const TURN: Duration = Duration::from_millis(10);

/// A number nobody can guess, without a dependency: the keys of the standard library's hash are random.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(0u8)
}

/// The pauses of one request.
#[derive(Debug)]
pub(crate) struct Backoff {
    pause: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Backoff {
        Backoff { pause: FIRST_PAUSE }
    }

    /// The next pause: between half and the whole of what it could be, so that those who failed together do not come back together.
    pub(crate) fn next(&mut self) -> Duration {
        let whole = self.pause;
        self.pause = (whole * 2).min(LONGEST_PAUSE);
        let half = whole / 2;
        let jitter = random() % u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_nanos(jitter)
    }
}

/// What a client's requests may spend on repetitions.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    /// When the budget would be full again.
    full_at: Mutex<Option<Instant>>,
}

impl Budget {
    /// Takes one repetition, which has to wait this long for its turn.
    pub(crate) fn take(&self, now: Instant) -> Duration {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let next = full_at.map_or(now, |at| at.max(now)) + TURN;
        *full_at = Some(next);
        next.saturating_duration_since(now + TURN * BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_differ() {
        let mut backoff = Backoff::new();
        let pauses: Vec<Duration> = (0..20).map(|_| backoff.next()).collect();
        for (number, pause) in pauses.iter().enumerate() {
            let whole = (FIRST_PAUSE * 2u32.pow(number.min(10) as u32)).min(LONGEST_PAUSE);
            assert!(
                (whole / 2..=whole).contains(pause),
                "{number}: {pause:?} of {whole:?}"
            );
        }
        assert!(pauses[10..].windows(2).any(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn a_burst_goes_at_once_and_what_follows_takes_turns() {
        let budget = Budget::default();
        let now = Instant::now();
        assert!((0..BURST).all(|_| budget.take(now).is_zero()));
        assert_eq!(budget.take(now), TURN);
        assert_eq!(budget.take(now), TURN * 2);
        let later = now + TURN * (BURST + 2);
        assert!((0..BURST).all(|_| budget.take(later).is_zero()));
        assert_eq!(budget.take(later), TURN);
    }
}
