//! Ids ordered by time, from a borrowed worker number.

use crate::layout::{Layout, Parts};
use std::error::Error;
use std::fmt;
use std::time::Duration;

/// What a cell lends: a worker number, and the milliseconds in which its owner may use it. The cell never lends a millisecond of a number twice, not even
/// to the same owner after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The worker number.
    pub worker: u32,
    /// The cell's clock when it was lent, in milliseconds since 1970.
    pub now_ms: u64,
    /// The first millisecond of it.
    pub from_ms: u64,
    /// The first millisecond after it.
    pub until_ms: u64,
}

/// Makes ids. Times given to it are those of one monotonic clock of the caller's.
#[derive(Debug)]
pub struct Generator {
    layout: Layout,
    window: Window,
    /// The caller's clock when the window came: with the window's `now_ms` it gives the present.
    came: Duration,
    ahead_ms: u64,
    /// The millisecond and the sequence that the next id takes at the earliest.
    next_ms: u64,
    next_sequence: u32,
}

/// Why there is no id now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotYet {
    /// The present millisecond is used up.
    Wait(Duration),
    /// The window is; a renewed one is needed.
    WindowOver,
}

impl fmt::Display for NotYet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotYet::Wait(time) => write!(
                f,
                "all ids of this millisecond are made; there are more in {} ms",
                time.as_millis()
            ),
            NotYet::WindowOver => {
                f.write_str("the time for which the worker number was lent is used up; renew it")
            }
        }
    }
}

impl Error for NotYet {}

impl Generator {
    /// A generator that lives in this window, which came at this time of the caller's clock.
    ///
    /// # Panics
    /// The worker number does not fit the layout; ask the cell for workers below [`Layout::workers`].
    pub fn new(layout: Layout, window: Window, clock: Duration) -> Generator {
        let mut generator = Generator {
            layout,
            window,
            came: clock,
            ahead_ms: 0,
            next_ms: 0,
            next_sequence: 0,
        };
        generator.renew(window, clock);
        generator
    }

    /// Lets it borrow this much time from the future when many ids are wanted at once, so that they need not wait. It stays in its window.
    pub fn with_ahead(mut self, ahead: Duration) -> Generator {
        self.ahead_ms = ahead.as_millis().try_into().unwrap_or(u64::MAX);
        self
    }

    /// Goes on in a renewed window, or in one of another worker number.
    ///
    /// # Panics
    /// The worker number does not fit the layout.
    pub fn renew(&mut self, window: Window, clock: Duration) {
        assert!(
            window.worker < self.layout.workers(),
            "worker {} of {}",
            window.worker,
            self.layout.workers()
        );
        let first = window.from_ms.max(self.layout.epoch_ms());
        if first > self.next_ms {
            (self.next_ms, self.next_sequence) = (first, 0);
        } else if window.worker != self.window.worker && self.next_sequence > 0 {
            // Ids of one issuer rise: the other number may be a smaller one.
            (self.next_ms, self.next_sequence) = (self.next_ms + 1, 0);
        }
        self.window = window;
        self.came = clock;
    }

    /// An id greater than all before it.
    ///
    /// # Errors
    /// There is none now: the millisecond or the window is used up.
    pub fn next(&mut self, clock: Duration) -> Result<u64, NotYet> {
        let present = self.present(clock);
        if present > self.next_ms {
            (self.next_ms, self.next_sequence) = (present, 0);
        }
        if self.next_ms >= self.window.until_ms.min(self.layout.end_ms()) {
            return Err(NotYet::WindowOver);
        }
        // A window may begin after the present: its first owner reached further. Its beginning is no borrowed time.
        let limit = present
            .max(self.window.from_ms)
            .saturating_add(self.ahead_ms);
        if self.next_ms > limit {
            return Err(NotYet::Wait(Duration::from_millis(self.next_ms - limit)));
        }
        let id = self.layout.compose(Parts {
            unix_ms: self.next_ms,
            worker: self.window.worker,
            sequence: self.next_sequence,
        });
        self.next_sequence += 1;
        if self.next_sequence == self.layout.per_millisecond() {
            (self.next_ms, self.next_sequence) = (self.next_ms + 1, 0);
        }
        Ok(id)
    }

    /// How long the window still lasts, so that it is renewed in time.
    pub fn left(&self, clock: Duration) -> Duration {
        let reached = self.present(clock).max(self.next_ms);
        Duration::from_millis(self.window.until_ms.saturating_sub(reached))
    }

    fn present(&self, clock: Duration) -> u64 {
        let since = clock.saturating_sub(self.came).as_millis();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        self.window.now_ms.saturating_add(since)
    }
}
