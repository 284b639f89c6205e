//! Numbers from ranges that a cell hands out.

use std::ops::RangeInclusive;

/// Counts through one range while the next is being fetched.
#[derive(Debug, Default)]
pub struct Segments {
    present: Option<RangeInclusive<u64>>,
    next: Option<RangeInclusive<u64>>,
    /// From this many numbers left on, the next range is wanted.
    low: u64,
}

impl Segments {
    /// Without a range so far.
    pub fn new() -> Segments {
        Segments::default()
    }

    /// The next number. `None` while no range is there.
    pub fn take(&mut self) -> Option<u64> {
        loop {
            if let Some(number) = self.present.as_mut()?.next() {
                return Some(number);
            }
            self.present = None;
            let next = self.next.take()?;
            self.begin(next);
        }
    }

    /// Whether another range is wanted: none waits, and half of the present one is used.
    pub fn wants(&self) -> bool {
        self.next.is_none() && self.left() <= self.low
    }

    /// How many numbers there are.
    pub fn left(&self) -> u64 {
        [&self.present, &self.next]
            .into_iter()
            .flatten()
            .map(length)
            .fold(0, u64::saturating_add)
    }

    /// Takes a range from the cell; gives it back when it was not wanted.
    pub fn give(&mut self, range: RangeInclusive<u64>) -> Result<(), RangeInclusive<u64>> {
        if self.present.as_ref().is_none_or(|range| range.is_empty()) {
            self.begin(range);
        } else if self.next.is_none() {
            self.next = Some(range);
        } else {
            return Err(range);
        }
        Ok(())
    }

    fn begin(&mut self, range: RangeInclusive<u64>) {
        self.low = length(&range) / 2;
        self.present = Some(range);
    }
}

fn length(range: &RangeInclusive<u64>) -> u64 {
    if range.is_empty() {
        return 0;
    }
    (range.end() - range.start()).saturating_add(1)
}
