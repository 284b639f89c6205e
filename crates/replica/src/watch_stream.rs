//! One connection's watch stream: its credit, what waits for it, and how changes become responses.

use crate::input::StreamId;
use crate::watch::{WatchBody, WatchResponse};
use crate::watch_group::Delivery;
use crate::watch_hub::Watch;
use crate::watch_index::Slot;
use raft::Instant;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Above this size a response is cut in fragments, if the watch allows it (etcd: request limit plus overhead).
const FRAGMENT_BYTES: usize = 2 << 20;
/// With less credit than this, revisions that are ready together travel in one response instead of one each.
const COALESCE_BELOW: u64 = 8;
/// Ids of ended watches remembered per stream.
const COMPACTED_IDS_MAX: usize = 1024;

/// One connection's stream.
pub(crate) struct Stream {
    pub(crate) name: StreamId,
    pub(crate) credit: u64,
    /// What waits for credit and must come before anything newer.
    pub(crate) queue: VecDeque<WatchResponse>,
    /// What goes out with this turn.
    pub(crate) outbox: Vec<WatchResponse>,
    pub(crate) watches: BTreeMap<i64, Slot>,
    pub(crate) next_id: i64,
    /// Ids of watches that compaction ended: as in etcd they stay taken until the client cancels them.
    pub(crate) compacted: BTreeSet<i64>,
    pub(crate) parked: BTreeSet<Slot>,
    /// Watches that are not in the main group.
    pub(crate) behind: usize,
    /// Progress of the whole stream is wanted, at or after this revision.
    pub(crate) progress_from: Option<i64>,
    /// Watches that want to hear of progress when idle.
    pub(crate) notified: usize,
    pub(crate) notify_at: Instant,
}

impl Stream {
    /// A watch has this id, or had it when compaction ended it.
    pub(crate) fn knows(&self, id: i64) -> bool {
        self.watches.contains_key(&id) || self.compacted.contains(&id)
    }

    /// Keeps the id of a watch that compaction ended. Beyond a bound the lowest is free again, earlier than in etcd.
    pub(crate) fn keep_compacted(&mut self, id: i64) {
        self.compacted.insert(id);
        if self.compacted.len() > COMPACTED_IDS_MAX {
            self.compacted.pop_first();
        }
    }

    pub(crate) fn can_take(&self) -> bool {
        self.credit > 0 && self.queue.is_empty()
    }
}

/// Puts one watch's changes of a delivery into its stream's outbox: a response per revision while credit is ample, else all together; cut in fragments
/// where the watch allows it.
pub(crate) fn send_run(
    watch: &Watch,
    stream: &mut Stream,
    delivery: &Delivery,
    run: std::ops::Range<usize>,
    by_revision: bool,
) {
    let mut at = run.start;
    while at < run.end {
        let revision = delivery.change(at).revision;
        let mut end = run.end;
        let mut mark = delivery.upto;
        if by_revision && stream.credit > COALESCE_BELOW && stream.queue.is_empty() {
            end = at
                + (at..run.end)
                    .take_while(|&mention| delivery.change(mention).revision == revision)
                    .take(mutated!(SplitRevision, 1, usize::MAX))
                    .count();
            mark = revision;
        }
        send_response(watch, stream, delivery, at..end, mark);
        at = end;
    }
}

fn send_response(
    watch: &Watch,
    stream: &mut Stream,
    delivery: &Delivery,
    run: std::ops::Range<usize>,
    revision: i64,
) {
    let mut at = run.start;
    while at < run.end {
        let (mut end, mut bytes) = (at, 0);
        while end < run.end {
            bytes += delivery.change(end).bytes(watch.prev_kv);
            if watch.fragment && bytes > FRAGMENT_BYTES && end > at {
                break;
            }
            end += 1;
        }
        let events = (at..end).map(|mention| delivery.change(mention).event(watch.prev_kv));
        let events = mutated!(NewestFirst, events.rev().collect(), events.collect());
        let response = WatchResponse {
            watch: watch.id,
            revision,
            body: WatchBody::Events {
                events,
                fragment: end < run.end,
            },
        };
        if stream.can_take() {
            stream.credit -= 1;
            stream.outbox.push(response);
        } else {
            stream.queue.push_back(response);
        }
        at = end;
    }
}
