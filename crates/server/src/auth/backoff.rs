//! Slows down whoever guesses at a password: after some wrong ones in a row, each further attempt at that user waits, longer each time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Wrong passwords in a row that cost nothing.
const FREE: u32 = 5;
/// The first wait; doubles with each further failure.
const WAIT_MIN: Duration = Duration::from_millis(100);
/// The longest.
const WAIT_MAX: Duration = Duration::from_millis(3200);
/// So long after the last failure a user is forgotten.
const MEMORY: Duration = Duration::from_secs(60);
/// Attempts at one user that may wait at the same time; more are refused.
const WAITING_MAX: u32 = 8;
/// Users remembered at most.
const USERS_MAX: usize = 4096;

/// Failures of late, by user.
#[derive(Default)]
pub(super) struct Backoff {
    users: HashMap<String, Failures>,
}

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
    waiting: u32,
}

impl Backoff {
    /// An attempt begins: how long it has to wait, or `None` if too many wait already. One that has to wait must be told [`Backoff::waited`].
    pub fn begin(&mut self, user: &str, now: Instant) -> Option<Duration> {
        let Some(failures) = self.users.get_mut(user) else {
            return Some(Duration::ZERO);
        };
        if failures.waiting == 0 && now.duration_since(failures.last) > MEMORY {
            self.users.remove(user);
            return Some(Duration::ZERO);
        }
        let Some(beyond) = failures.count.checked_sub(FREE) else {
            return Some(Duration::ZERO);
        };
        if failures.waiting >= WAITING_MAX {
            return None;
        }
        failures.waiting += 1;
        Some((WAIT_MIN * (1 << beyond.min(5))).min(WAIT_MAX))
    }

    /// An attempt has waited, or was given up.
    pub fn waited(&mut self, user: &str) {
        if let Some(failures) = self.users.get_mut(user) {
            failures.waiting = failures.waiting.saturating_sub(1);
        }
    }

    /// An attempt ended.
    pub fn ended(&mut self, user: &str, right: bool, now: Instant) {
        if right {
            if let Some(failures) = self.users.get_mut(user) {
                failures.count = 0;
            }
            return;
        }
        if self.users.len() >= USERS_MAX && !self.users.contains_key(user) {
            self.forget(now);
        }
        let failures = self.users.entry(user.to_owned()).or_insert(Failures {
            count: 0,
            last: now,
            waiting: 0,
        });
        failures.count = failures.count.saturating_add(1);
        failures.last = now;
    }

    /// Makes room: the old ones go, or else the one whose last failure is longest ago.
    fn forget(&mut self, now: Instant) {
        self.users.retain(|_, failures| {
            failures.waiting > 0 || now.duration_since(failures.last) <= MEMORY
        });
        if self.users.len() >= USERS_MAX
            && let Some(oldest) = self
                .users
                .iter()
                .min_by_key(|(_, failures)| failures.last)
                .map(|(user, _)| user.clone())
        {
            self.users.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_failures(count: u32, now: Instant) -> Backoff {
        let mut backoff = Backoff::default();
        for _ in 0..count {
            backoff.ended("ann", false, now);
        }
        backoff
    }

    #[test]
    fn a_few_mistakes_cost_nothing_then_each_costs_double() {
        let now = Instant::now();
        let wait = |count| after_failures(count, now).begin("ann", now);
        assert_eq!(wait(FREE - 1), Some(Duration::ZERO));
        assert_eq!(wait(FREE), Some(WAIT_MIN));
        assert_eq!(wait(FREE + 1), Some(WAIT_MIN * 2));
        assert_eq!(wait(FREE + 100), Some(WAIT_MAX));
        assert_eq!(
            after_failures(FREE, now).begin("bob", now),
            Some(Duration::ZERO)
        );
    }

    #[test]
    fn the_right_password_and_time_make_it_good() {
        let now = Instant::now();
        let mut backoff = after_failures(FREE + 3, now);
        backoff.ended("ann", true, now);
        assert_eq!(backoff.begin("ann", now), Some(Duration::ZERO));
        let mut backoff = after_failures(FREE + 3, now);
        let later = now + MEMORY + Duration::from_millis(1);
        assert_eq!(backoff.begin("ann", later), Some(Duration::ZERO));
    }

    #[test]
    fn only_so_many_wait_and_only_so_many_users_are_remembered() {
        let now = Instant::now();
        let mut backoff = after_failures(FREE, now);
        for _ in 0..WAITING_MAX {
            assert!(backoff.begin("ann", now).is_some());
        }
        assert_eq!(backoff.begin("ann", now), None);
        backoff.waited("ann");
        assert!(backoff.begin("ann", now).is_some());
        for number in 0..2 * USERS_MAX {
            backoff.ended(&number.to_string(), false, now);
            assert!(backoff.users.len() <= USERS_MAX);
        }
    }
}
