//! How much the clients that read slowly, or not at all, may hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Bytes of large answers that may wait for their clients before more of that kind are refused.
const WAITING_BYTES_MAX: usize = 512 << 20;

/// Bytes of large answers that wait for their clients.
#[derive(Clone, Default)]
pub(crate) struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    /// No more large answers for now.
    pub fn is_full(&self) -> bool {
        self.0.load(Relaxed) >= WAITING_BYTES_MAX
    }

    /// Counts an answer until it is dropped.
    pub fn hold(&self, bytes: usize) -> Held {
        self.0.fetch_add(bytes, Relaxed);
        Held {
            waiting: self.clone(),
            bytes,
        }
    }
}

/// An answer that is counted.
pub(crate) struct Held {
    waiting: Waiting,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.waiting.0.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_count_until_they_are_gone() {
        let waiting = Waiting::default();
        let first = waiting.hold(WAITING_BYTES_MAX - 1);
        assert!(!waiting.is_full());
        let second = waiting.hold(1);
        assert!(waiting.is_full());
        drop(first);
        assert!(!waiting.is_full());
        drop(second);
        assert_eq!(waiting.0.load(Relaxed), 0);
    }
}
