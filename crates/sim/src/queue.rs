//! What is to happen, by (time, order of planning): equal times keep the order in which they were planned.

use crate::clock::Micros;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A queue of events to come. The heap holds positions only, so that large events are not moved about.
#[derive(Debug)]
pub struct Queue<E> {
    heap: BinaryHeap<Reverse<(Micros, u64, usize)>>,
    events: Vec<Option<E>>,
    free: Vec<usize>,
    planned: u64,
}

impl<E> Queue<E> {
    /// An empty queue.
    pub fn new() -> Queue<E> {
        Queue {
            heap: BinaryHeap::new(),
            events: Vec::new(),
            free: Vec::new(),
            planned: 0,
        }
    }

    /// Plans an event.
    pub fn plan(&mut self, at: Micros, event: E) {
        let position = match self.free.pop() {
            Some(position) => {
                self.events[position] = Some(event);
                position
            }
            None => {
                self.events.push(Some(event));
                self.events.len() - 1
            }
        };
        self.heap.push(Reverse((at, self.planned, position)));
        self.planned += 1;
    }

    /// Takes the next event.
    pub fn next(&mut self) -> Option<(Micros, E)> {
        let Reverse((at, _, position)) = self.heap.pop()?;
        self.free.push(position);
        let event = self.events[position]
            .take()
            .expect("a planned event is there until it is taken");
        Some((at, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_then_by_planning() {
        let mut queue = Queue::new();
        for (at, event) in [(5, 'c'), (1, 'a'), (5, 'd'), (2, 'b')] {
            queue.plan(at, event);
        }
        let order: String = std::iter::from_fn(|| queue.next())
            .map(|(_, event)| event)
            .collect();
        assert_eq!(order, "abcd");
        queue.plan(9, 'x');
        assert_eq!(queue.events.len(), 4, "places are used again");
    }
}
