//! Sorting an answer in slices: runs are sorted as they are collected, then merged. Keys that compare equal stay in the order collected.

use crate::KeyValue;
use bytes::Bytes;
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Keys in one sorted run: few enough that sorting one takes well under a millisecond.
pub(crate) const RUN_KEYS: usize = 2048;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Version,
    Create,
    Mod,
    Value,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Number(i64),
    Value(Bytes),
}

/// See the module.
pub(crate) struct Sorter {
    target: Target,
    descending: bool,
    /// Values were only needed for sorting.
    keys_only: bool,
    runs: Vec<std::vec::IntoIter<KeyValue>>,
    heads: BinaryHeap<Head>,
    keys: usize,
    merging: bool,
}

/// The next key of a run.
struct Head {
    rank: Rank,
    descending: bool,
    run: usize,
    kv: KeyValue,
}

impl Ord for Head {
    /// The heap gives its greatest first, so what comes first in the answer is the greatest.
    fn cmp(&self, other: &Head) -> Ordering {
        let rank = self.rank.cmp(&other.rank);
        let rank = if self.descending {
            rank.reverse()
        } else {
            rank
        };
        rank.then(self.run.cmp(&other.run)).reverse()
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Head) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Head) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}

fn rank(target: Target, kv: &KeyValue) -> Rank {
    match target {
        Target::Version => Rank::Number(kv.version),
        Target::Create => Rank::Number(kv.create_revision),
        Target::Mod => Rank::Number(kv.mod_revision),
        Target::Value => Rank::Value(kv.value.clone()),
    }
}

impl Sorter {
    /// For etcd's number of a target; `None` if that is the key, by which the walk already goes.
    pub fn new(target: i32, descending: bool, keys_only: bool) -> Option<Sorter> {
        let target = match target {
            1 => Target::Version,
            2 => Target::Create,
            3 => Target::Mod,
            4 => Target::Value,
            _ => return None,
        };
        Some(Sorter {
            target,
            descending,
            keys_only,
            runs: Vec::new(),
            heads: BinaryHeap::new(),
            keys: 0,
            merging: false,
        })
    }

    /// The values decide the order.
    pub fn needs_values(&self) -> bool {
        self.target == Target::Value && !mutated!(OrderWithoutValues)
    }

    /// Takes a run.
    pub fn add(&mut self, kvs: &mut Vec<KeyValue>) {
        assert!(!self.merging, "a run comes after the merge began");
        let mut run = std::mem::take(kvs);
        if self.descending {
            run.sort_by(|a, b| self.compare(b, a));
        } else {
            run.sort_by(|a, b| self.compare(a, b));
        }
        self.keys += run.len();
        self.runs.push(run.into_iter());
    }

    fn compare(&self, a: &KeyValue, b: &KeyValue) -> Ordering {
        match self.target {
            Target::Version => a.version.cmp(&b.version),
            Target::Create => a.create_revision.cmp(&b.create_revision),
            Target::Mod => a.mod_revision.cmp(&b.mod_revision),
            Target::Value => a.value.cmp(&b.value),
        }
    }

    /// Moves up to `limit` keys to `sorted`, in order; true when done.
    pub fn step(&mut self, sorted: &mut Vec<KeyValue>, limit: usize, fuel: &mut u64) -> bool {
        if !self.merging {
            self.merging = true;
            if let [run] = &mut self.runs[..] {
                sorted.extend(run.take(limit));
                let keys_only = self.keys_only;
                sorted
                    .iter_mut()
                    .filter(|_| keys_only)
                    .for_each(|kv| kv.value = Bytes::new());
                return true;
            }
            sorted.reserve_exact(self.keys.min(limit));
            (0..self.runs.len()).for_each(|run| self.refill(run));
        }
        while sorted.len() < limit {
            let Some(head) = self.heads.pop() else {
                return true;
            };
            let value = if self.keys_only {
                Bytes::new()
            } else {
                head.kv.value
            };
            sorted.push(KeyValue { value, ..head.kv });
            self.refill(head.run);
            *fuel = fuel.saturating_sub(1);
            if *fuel == 0 {
                return false;
            }
        }
        true
    }

    fn refill(&mut self, run: usize) {
        if let Some(kv) = self.runs[run].next() {
            self.heads.push(Head {
                rank: rank(self.target, &kv),
                descending: self.descending,
                run,
                kv,
            });
        } else {
            // Frees the run's memory while the answer grows.
            self.runs[run] = Vec::new().into_iter();
        }
    }
}
