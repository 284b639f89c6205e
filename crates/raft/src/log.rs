//! The log as consensus sees it: the term of every position, and the newest entries in memory.
//!
//! Terms are kept as runs for the whole log after its base, so asking for a term never needs the disk. Entries are cached from the tail
//! backwards, bounded in bytes, and more tightly once all who follow have them; the rest is fetched (`fetch.rs`). Invariants: runs ascend in index and term; the cache is contiguous and
//! ends at `last`; what is not durable or not committed is never evicted. Knows nothing of commitment or of disks.

use crate::{Entry, Index, Payload, Term};
use std::collections::VecDeque;

/// What an entry costs in memory and limits beyond its payload.
const ENTRY_OVERHEAD_BYTES: usize = 48;
/// Entries that nobody waits for any more are kept up to this: the followers of a leader just elected are a little behind.
const RECENT_BYTES: usize = 128 << 10;

/// A place in history: an index and the term of the entry there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) index: Index,
    pub(crate) term: Term,
}

/// The bytes an entry counts for in limits.
pub(crate) fn weight(entry: &Entry) -> usize {
    ENTRY_OVERHEAD_BYTES
        + match &entry.payload {
            Payload::Noop => 0,
            Payload::Batch(bytes) => bytes.len(),
            Payload::Configuration(configuration) => 64 * (1 + configuration.members.len()),
        }
}

/// Why [`Log::slice`] gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The entries are on disk only.
    Evicted,
    /// The log no longer has them.
    Compacted,
}

#[derive(Debug)]
pub(crate) struct Log {
    /// The position before the first entry.
    base: Position,
    /// First index of each run of equal terms.
    runs: VecDeque<Position>,
    last: Index,
    cache: VecDeque<Entry>,
    cache_bytes: usize,
    cache_bytes_max: usize,
}

impl Log {
    pub(crate) fn new(
        base: Position,
        terms: &[(Index, Term)],
        last: Index,
        cache_bytes_max: usize,
    ) -> Log {
        let runs: VecDeque<Position> = terms
            .iter()
            .map(|&(index, term)| Position { index, term })
            .collect();
        let mut before = base;
        for (nth, run) in runs.iter().enumerate() {
            let follows = if nth == 0 {
                run.index == base.index.next() && run.term >= base.term
            } else {
                run.index > before.index && run.term > before.term
            };
            assert!(follows, "log runs out of order: {run:?} after {before:?}");
            before = *run;
        }
        assert!(
            last >= before.index,
            "log ends at {last}, before its run at {}",
            before.index
        );
        Log {
            base,
            runs,
            last,
            cache: VecDeque::new(),
            cache_bytes: 0,
            cache_bytes_max,
        }
    }

    pub(crate) fn base(&self) -> Position {
        self.base
    }

    pub(crate) fn first(&self) -> Index {
        self.base.index.next()
    }

    pub(crate) fn last(&self) -> Index {
        self.last
    }

    pub(crate) fn last_term(&self) -> Term {
        self.runs.back().unwrap_or(&self.base).term
    }

    /// The term at `index`; `None` outside of the log. The base counts as inside.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index > self.last || index < self.base.index {
            return None;
        }
        if index == self.base.index {
            return Some(self.base.term);
        }
        // Most questions are about the newest run.
        let newest = self.runs.back().expect("a log with entries has runs");
        if index >= newest.index {
            return Some(newest.term);
        }
        let after = self.runs.partition_point(|run| run.index <= index);
        Some(self.runs[after - 1].term)
    }

    pub(crate) fn matches(&self, position: Position) -> bool {
        self.term_at(position.index) == Some(position.term)
    }

    /// The newest position at or before `limit.index` whose term is at most `limit.term`: where logs that conflict there may agree at best.
    pub(crate) fn last_agreeable(&self, limit: Position) -> Position {
        let index = limit.index.min(self.last);
        if self.term_at(index).is_none_or(|term| term <= limit.term) {
            return Position {
                index,
                term: self.term_at(index).unwrap_or_default(),
            };
        }
        // The end of the newest run whose term fits, or the base.
        let after = self.runs.partition_point(|run| run.term <= limit.term);
        let end = self
            .runs
            .get(after)
            .map_or(self.last, |run| run.index.prev())
            .min(index);
        Position {
            index: end,
            term: self.term_at(end).unwrap_or_default(),
        }
    }

    pub(crate) fn append(&mut self, entry: Entry) {
        assert!(
            entry.index == self.last.next(),
            "log gap: entry {} after {}",
            entry.index,
            self.last
        );
        assert!(
            entry.term >= self.last_term(),
            "log term regression {} → {} at {}",
            self.last_term(),
            entry.term,
            entry.index
        );
        if entry.term > self.last_term() || self.runs.is_empty() {
            self.runs.push_back(Position {
                index: entry.index,
                term: entry.term,
            });
        }
        self.last = entry.index;
        self.cache_bytes += weight(&entry);
        self.cache.push_back(entry);
    }

    /// Drops the entries from `from` on.
    pub(crate) fn truncate(&mut self, from: Index) {
        assert!(
            from > self.base.index,
            "truncation at {from} reaches the base {}",
            self.base.index
        );
        while self.last >= from {
            match self.cache.pop_back() {
                Some(entry) => {
                    self.cache_bytes -= weight(&entry);
                    self.last = self.last.prev();
                }
                None => self.last = from.prev(),
            }
        }
        while self.runs.back().is_some_and(|run| run.index >= from) {
            self.runs.pop_back();
        }
    }

    fn cache_first(&self) -> Index {
        Index(self.last.0 + 1 - self.cache.len() as u64)
    }

    /// An entry in the cache.
    pub(crate) fn cached(&self, index: Index) -> Option<&Entry> {
        let offset = index.0.checked_sub(self.cache_first().0)?;
        self.cache.get(offset as usize)
    }

    /// Entries from `from` through `upto`, as many as fit into `bytes_max` but at least one; `from` must not be past `last`.
    pub(crate) fn slice(
        &self,
        from: Index,
        upto: Index,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, Missing> {
        if from <= self.base.index {
            return Err(Missing::Compacted);
        }
        let Some(offset) = from.0.checked_sub(self.cache_first().0) else {
            return Err(Missing::Evicted);
        };
        let (mut bytes, mut count) = (0, 0);
        for entry in self.cache.range(offset as usize..) {
            bytes += weight(entry);
            if entry.index > upto || (count > 0 && bytes > bytes_max) {
                break;
            }
            count += 1;
        }
        Ok(self
            .cache
            .range(offset as usize..offset as usize + count)
            .cloned()
            .collect())
    }

    /// Frees memory over the limits, oldest entries first. Those past `upto` stay; those past `wanted` somebody still waits for.
    pub(crate) fn evict(&mut self, upto: Index, wanted: Index) {
        while let Some(entry) = self.cache.front() {
            let bytes_max = if entry.index > wanted {
                self.cache_bytes_max
            } else {
                self.cache_bytes_max.min(RECENT_BYTES)
            };
            if entry.index > upto || self.cache_bytes <= bytes_max {
                break;
            }
            self.cache_bytes -= weight(entry);
            self.cache.pop_front();
        }
    }

    /// Forgets the entries through `index`.
    pub(crate) fn compact(&mut self, index: Index) {
        let Some(term) = self.term_at(index) else {
            return;
        };
        if index <= self.base.index {
            return;
        }
        while self.cache.front().is_some_and(|entry| entry.index <= index) {
            let entry = self.cache.pop_front().expect("just seen");
            self.cache_bytes -= weight(&entry);
        }
        let after = self.runs.partition_point(|run| run.index <= index);
        let straddling = self.runs[after - 1].term;
        let next_run = self.runs.get(after).map(|run| run.index);
        self.runs.drain(..after);
        self.base = Position { index, term };
        // The run that straddles the new base goes on after it.
        if self.last > index && next_run != Some(index.next()) {
            self.runs.push_front(Position {
                index: index.next(),
                term: straddling,
            });
        }
    }

    /// Starts anew after `base`, empty.
    pub(crate) fn reset(&mut self, base: Position) {
        self.base = base;
        self.runs.clear();
        self.last = base.index;
        self.cache.clear();
        self.cache_bytes = 0;
    }
}

#[cfg(test)]
mod tests;
