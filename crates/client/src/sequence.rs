//! Numbers requests, so that each is applied once however often it is sent (PROPERTIES E1-E3).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests under way at a time; others wait. The members take a request whose number is less than 1024 above the lowest one under way, so a slow
/// request must not let the others run further ahead than this.
const WINDOW: u64 = 1024;
/// Requests under way at a time.
const OPEN_MAX: usize = 512;

/// The numbers of one client.
#[derive(Debug)]
pub(crate) struct Sequence {
    room: Arc<Semaphore>,
    numbers: Mutex<Numbers>,
    freed: tokio::sync::Notify,
}

#[derive(Debug)]
struct Numbers {
    next: u64,
    open: BTreeSet<u64>,
}

impl Numbers {
    fn lowest_open(&self) -> u64 {
        self.open.first().copied().unwrap_or(self.next)
    }
}

/// A request's number, while it is under way.
#[derive(Debug)]
pub(crate) struct Ticket {
    sequence: Arc<Sequence>,
    number: u64,
    _room: OwnedSemaphorePermit,
}

impl Sequence {
    pub(crate) fn new() -> Arc<Sequence> {
        Arc::new(Sequence {
            room: Arc::new(Semaphore::new(OPEN_MAX)),
            numbers: Mutex::new(Numbers {
                next: 1,
                open: BTreeSet::new(),
            }),
            freed: tokio::sync::Notify::new(),
        })
    }

    /// Numbers a request; waits while too many are under way.
    pub(crate) async fn begin(self: &Arc<Self>) -> Ticket {
        let room = self.room.clone().acquire_owned().await;
        let room = room.expect("the semaphore is never closed");
        loop {
            let freed = self.freed.notified();
            if let Some(number) = self.take() {
                return Ticket {
                    sequence: self.clone(),
                    number,
                    _room: room,
                };
            }
            freed.await;
        }
    }

    fn take(&self) -> Option<u64> {
        let mut numbers = self.numbers();
        let number = numbers.next;
        if number - numbers.lowest_open() >= WINDOW {
            return None;
        }
        numbers.next += 1;
        numbers.open.insert(number);
        Some(number)
    }

    fn numbers(&self) -> std::sync::MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// The request's number.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The lowest number whose reply is still wanted.
    pub(crate) fn lowest_open(&self) -> u64 {
        self.sequence.numbers().lowest_open()
    }
}

/// Nobody wants the reply any more: it came, or its caller is gone. If the request is still on its way, it is refused when it arrives after this was
/// told.
impl Drop for Ticket {
    fn drop(&mut self) {
        self.sequence.numbers().open.remove(&self.number);
        self.sequence.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test]
    async fn the_lowest_number_under_way_is_told() {
        let sequence = Sequence::new();
        let (first, second) = (sequence.begin().await, sequence.begin().await);
        assert_eq!((first.number(), second.number()), (1, 2));
        assert_eq!(second.lowest_open(), 1);
        drop(first);
        assert_eq!(second.lowest_open(), 2);
    }

    #[tokio::test]
    async fn a_slow_request_lets_others_run_ahead_only_as_far_as_members_allow() {
        let sequence = Sequence::new();
        let slow = sequence.begin().await;
        for _ in 1..WINDOW {
            drop(sequence.begin().await);
        }
        let next = timeout(Duration::from_millis(20), sequence.begin()).await;
        assert!(next.is_err(), "number {:?}", next.map(|next| next.number()));
        let waiting = tokio::spawn({
            let sequence = sequence.clone();
            async move { sequence.begin().await.number() }
        });
        tokio::task::yield_now().await;
        drop(slow);
        let number = timeout(Duration::from_secs(5), waiting).await;
        assert_eq!(number.expect("in time").expect("it ends"), WINDOW + 1);
    }
}
