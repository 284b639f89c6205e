//! A range read at one revision, in slices: the walk, filters, limit, sorting.
//!
//! The walk keeps a key to go on from, never an iterator, so keys may come and go between slices. A large answer is counted before it is
//! collected: its vector is allocated once, and a reallocation never stalls the caller. Of the present the index knows the count.

use crate::bounds::{Bounds, End};
use crate::index::Slot;
use crate::kv::{Found, Keys, View};
use crate::pages::Pages;
use crate::record::Record;
use crate::revision_log::{Position, RevisionLog};
use crate::sort::{RUN_KEYS, Sorter};
use crate::{KeyValue, Range, RangeReply};
use std::ops::Bound;

/// Keys collected before counting the rest first.
const COLLECTED_UNCOUNTED_MAX: usize = 1024;
/// Value bytes that cost as much as visiting one key.
const BYTES_PER_UNIT: u64 = 4096;

const ORDER_NONE: i32 = 0;
const ORDER_DESCENDING: i32 = 2;

/// See the module.
pub(crate) struct RangeScan {
    bounds: Bounds,
    view: View,
    backwards: bool,
    walk: Walk,
    phase: Phase,
    /// Where collecting goes on after counting.
    collect_from: Walk,
    gather: Gather,
}

/// How far a walk has come.
#[derive(Clone, Debug, Default)]
struct Walk {
    /// The last key visited.
    after: Option<Vec<u8>>,
    /// Its record is still being looked for, from here.
    inside: Option<Position>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Asks the index for the count.
    Begin,
    /// Counts, and collects what is wanted.
    Collect,
    /// The answer is large: only counts.
    CountFirst,
    /// Collects what was counted.
    CollectCounted,
    /// Puts in order.
    Sort,
    Done,
}

/// What is kept of the keys walked over.
struct Gather {
    request: Range,
    filtered: bool,
    /// Keys asked for.
    limit: usize,
    /// Keys to collect.
    wanted: usize,
    collected: usize,
    pages: Pages,
    kvs: Vec<KeyValue>,
    sorter: Option<Sorter>,
    /// Keys in the range.
    count: i64,
    /// Keys that passed the filters, as far as it matters.
    matched: usize,
}

impl RangeScan {
    pub fn new(request: Range, view: View) -> RangeScan {
        let bounds = Bounds::new(&request.key, &request.range_end);
        let sorter = Sorter::new(
            request.sort_target,
            request.sort_order == ORDER_DESCENDING,
            request.keys_only,
        );
        let backwards = sorter.is_none() && request.sort_order == ORDER_DESCENDING;
        let limit = usize::try_from(request.limit)
            .ok()
            .filter(|&limit| limit > 0)
            .unwrap_or(usize::MAX);
        let Range {
            min_mod_revision,
            max_mod_revision,
            min_create_revision,
            max_create_revision,
            ..
        } = request;
        let filtered = [
            min_mod_revision,
            max_mod_revision,
            min_create_revision,
            max_create_revision,
        ] != [0; 4];
        // As etcd does it: with a target but without an order, what the limit lets through in key order is sorted, and one key more, which
        // tells that there are more.
        let wanted = match &sorter {
            _ if request.count_only => 0,
            None => limit,
            Some(_) if mutated!(LimitBeforeOrder) => limit,
            Some(_) if request.sort_order != ORDER_NONE || filtered => usize::MAX,
            Some(_) => limit.saturating_add(1),
        };
        let gather = Gather {
            filtered,
            limit,
            wanted,
            collected: 0,
            pages: Pages::new(),
            kvs: Vec::new(),
            sorter: sorter.filter(|_| !request.count_only),
            count: 0,
            matched: 0,
            request,
        };
        RangeScan {
            bounds,
            view,
            backwards,
            walk: Walk::default(),
            phase: Phase::Begin,
            collect_from: Walk::default(),
            gather,
        }
    }

    /// Works for about `fuel` units; true when done.
    pub fn step(&mut self, keys: &Keys, fuel: &mut u64) -> bool {
        loop {
            match self.phase {
                Phase::Done => return true,
                Phase::Begin => self.begin(keys),
                Phase::Sort => {
                    let Gather {
                        sorter, kvs, limit, ..
                    } = &mut self.gather;
                    if !sorter
                        .as_mut()
                        .expect("only sorted answers come here")
                        .step(kvs, *limit, fuel)
                    {
                        return false;
                    }
                    self.phase = Phase::Done;
                }
                _ => {
                    if self.walk(keys, fuel) {
                        self.end_walk();
                    } else if self.phase == Phase::Collect && self.gather.is_large() {
                        self.phase = Phase::CountFirst;
                        self.collect_from = self.walk.clone();
                    }
                }
            }
            if *fuel == 0 && self.phase != Phase::Done {
                return false;
            }
        }
    }

    /// As long as nothing was written since the view was taken, the count is known, and the walk may end with the last key wanted.
    fn begin(&mut self, keys: &Keys) {
        let gather = &mut self.gather;
        let counted = if self.bounds.end == End::Single {
            None
        } else {
            keys.count_in(&self.bounds, &self.view)
        };
        self.phase = match counted {
            None => Phase::Collect,
            Some(count) => {
                gather.count = count as i64;
                if gather.sorter.is_none() {
                    gather.kvs.reserve_exact(gather.wanted.min(count as usize));
                }
                if gather.wanted == 0 {
                    Phase::Done
                } else {
                    Phase::CollectCounted
                }
            }
        };
    }

    /// The answer, once done.
    pub fn finish(self) -> RangeReply {
        assert_eq!(self.phase, Phase::Done, "a range is taken before its end");
        let gather = self.gather;
        let matched = if gather.filtered {
            gather.matched
        } else {
            gather.count as usize
        };
        RangeReply {
            kvs: gather.kvs,
            more: !gather.request.count_only && matched > gather.limit,
            count: mutated!(CountsFiltered, matched as i64, gather.count),
        }
    }

    /// Gives up after the end of a walk what comes next.
    fn end_walk(&mut self) {
        let gather = &mut self.gather;
        if self.phase == Phase::CountFirst {
            let more = (gather.count as usize)
                .min(gather.wanted)
                .saturating_sub(gather.kvs.len());
            gather.kvs.reserve_exact(more);
            self.walk = std::mem::take(&mut self.collect_from);
            self.phase = Phase::CollectCounted;
            return;
        }
        gather.pages.flush(&mut gather.kvs);
        self.phase = Phase::Done;
        if let Some(sorter) = &mut gather.sorter {
            sorter.add(&mut gather.kvs);
            self.phase = Phase::Sort;
        }
    }

    /// Walks on, over one key at least; true at the end of the range.
    fn walk(&mut self, keys: &Keys, fuel: &mut u64) -> bool {
        let (gather, view, phase) = (&mut self.gather, &self.view, self.phase);
        if let Some(position) = self.walk.inside.take() {
            match keys.find_from(position, view.revision, fuel) {
                Found::Live(position) => gather.take(&keys.log, position, phase, fuel),
                Found::Absent => {}
                Found::Further(position) => {
                    self.walk.inside = Some(position);
                    return false;
                }
            }
        }
        let (mut stopped, mut inside) = (None, None);
        let visit = |slot: Slot| {
            *fuel = fuel.saturating_sub(1);
            match keys.find(slot, view, fuel) {
                Found::Live(position) => gather.take(&keys.log, position, phase, fuel),
                Found::Absent => {}
                Found::Further(position) => inside = Some(position),
            }
            if *fuel == 0 || inside.is_some() || gather.has_enough(phase) {
                stopped = Some(slot);
            }
            stopped.is_none()
        };
        walk_index(
            keys,
            &self.bounds,
            self.backwards,
            self.walk.after.as_deref(),
            visit,
        );
        self.walk.inside = inside;
        match stopped {
            Some(_) if inside.is_none() && gather.is_complete(phase) => true,
            Some(slot) => {
                self.walk.after = Some(keys.log.key(slot.position()).to_vec());
                false
            }
            None => true,
        }
    }
}

/// Visits the slots of a range after the key `after`.
pub(crate) fn walk_index(
    keys: &Keys,
    bounds: &Bounds,
    backwards: bool,
    after: Option<&[u8]>,
    mut visit: impl FnMut(Slot) -> bool,
) {
    let Keys { index, log, .. } = keys;
    if bounds.end == End::Single {
        if after.is_none()
            && let Some(slot) = index.get(log, &bounds.start)
        {
            visit(slot);
        }
    } else if bounds.is_empty() {
    } else if backwards {
        index.walk_back(
            log,
            Bound::Included(&bounds.start),
            after.map_or(bounds.upper(), Bound::Excluded),
            visit,
        );
    } else {
        index.walk(
            log,
            after.map_or(Bound::Included(&bounds.start), Bound::Excluded),
            bounds.upper(),
            visit,
        );
    }
}

impl Gather {
    /// A key of the range.
    fn take(&mut self, log: &RevisionLog, position: Position, phase: Phase, fuel: &mut u64) {
        if phase != Phase::CollectCounted {
            self.count += 1;
        }
        if phase == Phase::CountFirst || self.is_satisfied() {
            return;
        }
        let record = log.record(position);
        if self.filtered && !self.passes(&record) {
            return;
        }
        self.matched += 1;
        if self.collected == self.wanted {
            return;
        }
        self.collected += 1;
        let with_value =
            !self.request.keys_only || self.sorter.as_ref().is_some_and(Sorter::needs_values);
        self.pages.push(&record, with_value, &mut self.kvs);
        *fuel = fuel.saturating_sub(record.value.len() as u64 / BYTES_PER_UNIT);
        if let Some(sorter) = &mut self.sorter
            && self.kvs.len() + self.pages.pending() >= RUN_KEYS
        {
            self.pages.flush(&mut self.kvs);
            sorter.add(&mut self.kvs);
        }
    }

    /// Nothing but the count can change any more.
    fn is_satisfied(&self) -> bool {
        self.collected == self.wanted
            && (!self.filtered || self.matched > self.wanted || self.wanted == 0)
    }

    /// The walk stops here, for now or for good.
    fn has_enough(&self, phase: Phase) -> bool {
        self.is_complete(phase) || phase == Phase::Collect && self.is_large()
    }

    /// All that was counted is collected.
    fn is_complete(&self, phase: Phase) -> bool {
        phase == Phase::CollectCounted && self.is_satisfied()
    }

    /// So many keys that counting first pays.
    fn is_large(&self) -> bool {
        self.sorter.is_none() && self.collected >= COLLECTED_UNCOUNTED_MAX && !self.is_satisfied()
    }

    fn passes(&self, record: &Record<'_>) -> bool {
        let Range {
            min_mod_revision,
            max_mod_revision,
            min_create_revision,
            max_create_revision,
            ..
        } = self.request;
        (max_mod_revision == 0
            || record.revision <= max_mod_revision - i64::from(mutated!(BoundEndsBefore)))
            && (min_mod_revision == 0 || record.revision >= min_mod_revision)
            && (max_create_revision == 0 || record.create_revision <= max_create_revision)
            && (min_create_revision == 0 || record.create_revision >= min_create_revision)
    }
}
