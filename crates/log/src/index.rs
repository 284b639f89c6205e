//! Where entries lie: an ordered list of spans, each the place of the batch that holds its first entry. Compact: one span for at least
//! [`SPAN_ENTRIES`] entries or [`SPAN_SECTORS`] sectors, whichever comes first, unless a segment ends or a suffix is overwritten.

use std::collections::VecDeque;

/// Entries after which a span ends.
pub const SPAN_ENTRIES: u64 = 64;
/// Sectors after which a span ends: 64 KiB.
pub const SPAN_SECTORS: u64 = 128;

/// Where a batch lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Generation of the segment.
    pub generation: u64,
    /// The batch.
    pub batch: u32,
    /// The sector it starts at.
    pub sector: u64,
}

/// A run of entries in consecutive batches of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Index of its first entry.
    pub first: u64,
    /// The batch that holds it.
    pub place: Place,
    /// Bytes the log had taken before that batch, since it was opened or before.
    pub position: u64,
}

/// What a batch does to the log: the records of a batch count together, later ones over earlier ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchEffect {
    /// All entries of before are void; the log goes on after this index.
    pub reset: Option<u64>,
    /// First and last of the entries it leaves valid. They overwrite.
    pub run: Option<(u64, u64)>,
}

impl BatchEffect {
    /// The log starts anew after `index`.
    pub fn on_reset(&mut self, index: u64) {
        *self = BatchEffect {
            reset: Some(index),
            run: None,
        };
    }

    /// An entry; `false` if it leaves a gap behind those of the batch.
    #[must_use]
    pub fn on_entry(&mut self, index: u64) -> bool {
        let first = match self.run {
            Some((_, last)) if index > last + 1 => return false,
            Some((first, _)) => first.min(index),
            None => index,
        };
        self.run = Some((first, index));
        true
    }

    /// A later batch's effect on top; `false` if it leaves a gap.
    #[must_use]
    pub fn then(&mut self, later: BatchEffect) -> bool {
        if let Some(reset) = later.reset {
            self.on_reset(reset);
        }
        let Some((first, last)) = later.run else {
            return true;
        };
        let joined = self.on_entry(first);
        self.run = self.run.map(|(first, _)| (first, last));
        joined
    }

    /// The last index of a log that ended at `last` before.
    pub fn last_after(&self, last: u64) -> u64 {
        self.run
            .map(|(_, last)| last)
            .or(self.reset)
            .unwrap_or(last)
    }
}

/// Which entries there are, and where.
#[derive(Clone, Debug, Default)]
pub struct EntryIndex {
    spans: VecDeque<Span>,
    /// Entries up to this index are not here.
    base: u64,
    last: u64,
}

impl EntryIndex {
    /// An index of no entries, the next being `base + 1`.
    pub fn new(base: u64) -> EntryIndex {
        EntryIndex {
            spans: VecDeque::new(),
            base,
            last: base,
        }
    }

    /// Index of the last entry; of the one before the first if there is none.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Index of the first entry, less one.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Forgets all entries; the next is `base + 1`.
    pub fn reset(&mut self, base: u64) {
        *self = EntryIndex::new(base);
    }

    /// Adds the entries `first..=last` of a batch; they overwrite. `position` is the log's length before it.
    pub fn insert(&mut self, first: u64, last: u64, place: Place, position: u64) {
        assert!(
            first >= 1 && first <= self.last + 1 && last >= first,
            "entries {first}..={last} after {}..={}",
            self.base,
            self.last
        );
        let overwrites = first <= self.last;
        if overwrites {
            self.truncate(first);
        }
        let extends = !overwrites
            && self.spans.back().is_some_and(|span| {
                span.place.generation == place.generation
                    && first - span.first < SPAN_ENTRIES
                    && place.sector - span.place.sector < SPAN_SECTORS
            });
        if !extends {
            self.spans.push_back(Span {
                first,
                place,
                position,
            });
        }
        self.last = last;
    }

    /// Drops entries at `from` and later.
    fn truncate(&mut self, from: u64) {
        while self.spans.back().is_some_and(|span| span.first >= from) {
            self.spans.pop_back();
        }
        self.base = self.base.min(from - 1);
        self.last = from - 1;
    }

    /// Forgets the spans in segments before `generation`.
    pub fn release_before(&mut self, generation: u64) {
        while self
            .spans
            .front()
            .is_some_and(|span| span.place.generation < generation)
        {
            self.spans.pop_front();
            self.base = self.spans.front().map_or(self.last, |span| span.first - 1);
        }
    }

    /// The span that holds `index`, and the first index of the one behind it.
    pub fn find(&self, index: u64) -> Option<(Span, u64)> {
        if index <= self.base || index > self.last {
            return None;
        }
        let behind = self.spans.partition_point(|span| span.first <= index);
        let end = self
            .spans
            .get(behind)
            .map_or(self.last + 1, |span| span.first);
        Some((self.spans[behind - 1], end))
    }

    /// The log's length before the batch that holds `index` (or an earlier one of its span); `None` if there is no such entry.
    pub fn position(&self, index: u64) -> Option<u64> {
        self.find(index).map(|(span, _)| span.position)
    }

    #[cfg(test)]
    fn spans(&self) -> usize {
        self.spans.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(generation: u64, sector: u64) -> Place {
        Place {
            generation,
            batch: sector as u32,
            sector,
        }
    }

    #[test]
    fn a_million_entries_take_few_spans() {
        let mut index = EntryIndex::new(0);
        for i in 1..=1_000_000 {
            index.insert(i, i, place(1, i), i);
        }
        assert!(
            index.spans() <= 1_000_000 / SPAN_ENTRIES as usize + 1,
            "{}",
            index.spans()
        );
        let (span, end) = index.find(777_777).unwrap();
        assert!(span.first <= 777_777 && 777_777 < end && span.place.sector == span.first);
    }

    #[test]
    fn an_overwritten_suffix_is_found_in_its_new_place() {
        let mut index = EntryIndex::new(0);
        index.insert(1, 10, place(1, 0), 0);
        index.insert(11, 12, place(1, 4), 4);
        index.insert(6, 7, place(1, 8), 8);
        assert_eq!((index.last(), index.find(8)), (7, None));
        assert_eq!(
            index.find(5).unwrap(),
            (
                Span {
                    first: 1,
                    place: place(1, 0),
                    position: 0
                },
                6
            )
        );
        assert_eq!(index.find(7).unwrap().0.place, place(1, 8));
        index.insert(8, 8, place(1, 9), 9);
        assert_eq!(index.find(8).unwrap().0.first, 6);
    }

    #[test]
    fn released_entries_are_absent() {
        let mut index = EntryIndex::new(0);
        index.insert(1, 5, place(1, 0), 0);
        index.insert(6, 9, place(2, 0), 7);
        index.release_before(2);
        assert_eq!((index.base(), index.find(5)), (5, None));
        assert_eq!(index.position(6), Some(7));
        index.reset(20);
        assert_eq!((index.base(), index.last(), index.find(6)), (20, 20, None));
    }

    #[test]
    fn an_overwrite_below_the_base_moves_the_base() {
        let mut index = EntryIndex::new(12);
        index.insert(8, 9, place(3, 0), 0);
        assert_eq!((index.base(), index.last()), (7, 9));
        assert!(index.find(8).is_some());
    }
}
