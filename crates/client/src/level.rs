//! How fresh a read must be, and the stamps by which freshness travels.

use std::cmp::Ordering;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How much history an answer has seen. Hand it to whoever must not see less, by whatever way: with a message in a queue, in a web page, in a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stamp(String);

impl Stamp {
    /// Takes a stamp that came some other way. A member refuses one that is none, or of another cluster.
    pub fn new(text: impl Into<String>) -> Stamp {
        Stamp(text.into())
    }

    /// As it travels.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Cluster and cell, and how far in it.
    fn parts(&self) -> Option<(&str, u64)> {
        let (cell, index) = self.0.rsplit_once('.')?;
        Some((cell, u64::from_str_radix(index, 16).ok()?))
    }

    /// Which of two has seen more; `None` if they are of different cells.
    fn compare(&self, other: &Stamp) -> Option<Ordering> {
        let ((ours, index), (theirs, other)) = (self.parts()?, other.parts()?);
        (ours == theirs).then(|| index.cmp(&other))
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How fresh a read must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// It sees every change that was acknowledged to anybody before it began.
    #[default]
    Linearizable,
    /// It sees all that this client has seen or done. Any member can answer, most often at once.
    ReadYourWrites,
    /// It sees all that the stamp has seen.
    AtLeast(Stamp),
    /// It is not older than this.
    Bounded(Duration),
    /// What the member asked has: some state that really existed.
    Local,
}

/// The newest stamp that came with any answer.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<Option<Stamp>>);

impl Seen {
    pub(crate) fn newest(&self) -> Option<Stamp> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Takes note of a stamp. Answers may overtake each other, so an older one changes nothing.
    pub(crate) fn see(&self, stamp: Stamp) {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let older = |known: &Stamp| stamp.compare(known) == Some(Ordering::Less);
        if !newest.as_ref().is_some_and(older) {
            *newest = Some(stamp);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_stamp_is_kept_whatever_order_answers_come_in() {
        let seen = Seen::default();
        for text in ["c.0.9", "c.0.1f", "c.0.a"] {
            seen.see(Stamp::new(text));
        }
        assert_eq!(seen.newest(), Some(Stamp::new("c.0.1f")));
        seen.see(Stamp::new("other.0.1"));
        assert_eq!(
            seen.newest(),
            Some(Stamp::new("other.0.1")),
            "of another cluster nothing else is known"
        );
    }
}
