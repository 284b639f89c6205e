//! How fast followers that are far behind are fed: entries read back from the log, or a snapshot.
//!
//! Feeding them costs disk, network and the follower itself, which may share its machine with others: fed as fast as they take it, they made the others'
//! slowest puts take five times as long. So all of them together get nearer by a steady rate, whatever is written meanwhile, and in small pieces, between
//! which the disk does what others wait for.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Reads that wait for their time.
#[derive(Debug)]
pub(crate) struct Feed<T> {
    /// In the order they were asked for. The replica has a few under way at most.
    waiting: VecDeque<T>,
    bytes_per_second: u64,
    burst: Duration,
    /// From when on the next may be served.
    due: Instant,
}

impl<T> Feed<T> {
    /// A feed of so many bytes per second; a follower that was away for a moment gets `burst_bytes` without a pause.
    pub(crate) fn new(bytes_per_second: u64, burst_bytes: usize, now: Instant) -> Feed<T> {
        Feed {
            waiting: VecDeque::new(),
            bytes_per_second,
            burst: time_of(burst_bytes, bytes_per_second),
            due: now,
        }
    }

    pub(crate) fn ask(&mut self, read: T) {
        self.waiting.push_back(read);
    }

    /// So much is to be fed besides to each who waits: it was written meanwhile.
    pub(crate) fn grown(&mut self, bytes: usize) {
        let bytes = bytes.saturating_mul(self.waiting.len());
        let free = time_of(bytes, self.bytes_per_second);
        self.due = self.due.checked_sub(free).unwrap_or(self.due);
    }

    /// When the next read may be served; `None` if there is none.
    pub(crate) fn due(&self) -> Option<Instant> {
        (!self.waiting.is_empty()).then_some(self.due)
    }

    /// Takes the read to be served now.
    pub(crate) fn next(&mut self, now: Instant) -> Option<T> {
        if self.due > now {
            return None;
        }
        self.waiting.pop_front()
    }

    /// So much was read for the last one taken.
    pub(crate) fn served(&mut self, now: Instant, bytes: usize) {
        let earliest = now.checked_sub(self.burst).unwrap_or(now);
        self.due = self.due.max(earliest) + time_of(bytes, self.bytes_per_second);
    }
}

/// How long so many bytes take.
fn time_of(bytes: usize, per_second: u64) -> Duration {
    Duration::from_nanos((bytes as u64).saturating_mul(1_000_000_000) / per_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: usize = 1 << 10;

    fn feed() -> Feed<u64> {
        Feed::new(1 << 20, 64 << 10, Instant::now())
    }

    /// Serves whoever waits as soon as it may be, for one second in which the log grows by `grown` bytes; who was served asks again at once. Gives the
    /// bytes read.
    fn second(feed: &mut Feed<u64>, followers: u64, grown: usize) -> usize {
        let begin = feed.due + Duration::from_secs(1);
        (0..followers).for_each(|follower| feed.ask(follower));
        let mut read = 0;
        for millisecond in 0..1000 {
            let now = begin + Duration::from_millis(millisecond);
            feed.grown(grown / 1000);
            while let Some(follower) = feed.next(now) {
                feed.served(now, PIECE);
                feed.ask(follower);
                read += PIECE;
            }
            assert!(feed.due().is_some_and(|due| due > now), "nobody is served");
        }
        read
    }

    #[test]
    fn followers_get_what_is_written_and_come_nearer_at_a_steady_rate() {
        for (followers, grown) in [(1, 0), (1, 300 << 10), (1, 20 << 20), (2, 5 << 20)] {
            let read = second(&mut feed(), followers, grown);
            let expected = (1 << 20) + (64 << 10) + followers as usize * grown;
            assert!(
                read.abs_diff(expected) < expected / 50,
                "{followers} followers, {grown} bytes written: {read} instead of {expected}"
            );
        }
    }

    #[test]
    fn who_was_away_for_a_moment_is_fed_at_once() {
        let mut feed = feed();
        assert_eq!(feed.due(), None);
        let now = Instant::now() + Duration::from_secs(9);
        feed.ask(7);
        feed.ask(9);
        assert_eq!(feed.next(now), Some(7));
        feed.served(now, PIECE);
        assert_eq!(feed.next(now), Some(9));
        feed.served(now, 64 << 10);
        assert_eq!((feed.next(now), feed.due()), (None, None));
        feed.ask(8);
        assert_eq!(feed.next(now), None);
        let due = feed.due().expect("somebody waits");
        assert_eq!((due - now).as_micros(), 1_000_000 / 1024);
        assert_eq!(feed.next(due), Some(8));
    }
}
