//! A group of watches that share one place in history: it reads changes once for all of them, finds whom each change concerns, and hands them out in
//! slices. The main group is at the newest revision; others catch up from history and then join it.

use crate::table::Table;
use crate::watch::Event;
use crate::watch_hub::Watch;
use crate::watch_index::{Slot, WatchIndex};
use bytes::Bytes;
use state::{Budget, EventPlace, EventView, KeyValue, State};
use std::collections::VecDeque;
use std::sync::Arc;

/// A slice of history brings about this many bytes of changes into memory.
const SCAN_BYTES: usize = 1 << 20;
/// Changes matched in one slice at most, unless it ends where a revision does: one with more is matched in several, and handed out when whole.
const MATCH_EVENTS_MAX: u64 = 32_768;

pub(crate) struct Group {
    pub(crate) id: u64,
    /// The last revision whose changes were matched with the watches.
    pub(crate) cursor: i64,
    pub(crate) index: WatchIndex,
    /// Matched and not yet handed out, in order.
    pub(crate) deliveries: VecDeque<Delivery>,
    /// How many changes the next slice reads: fewer when they are large.
    scan_events: u64,
    /// And at most.
    scan_events_max: u64,
    /// A slice that is not wholly matched.
    partial: Option<Partial>,
}

/// The beginning of a slice that holds a revision with very many changes.
struct Partial {
    /// Where matching goes on.
    next: EventPlace,
    /// No revision above this one is in it.
    horizon: i64,
    changes: Vec<Change>,
    mentions: Vec<(Slot, u32)>,
}

/// Changes of some consecutive revisions, and whom they concern.
pub(crate) struct Delivery {
    pub(crate) first: i64,
    pub(crate) upto: i64,
    pub(crate) changes: Vec<Change>,
    /// (watch, number of the change), ascending.
    pub(crate) mentions: Vec<(Slot, u32)>,
    /// Mentions before this one are done.
    pub(crate) position: usize,
}

/// One change, ready to be shared.
pub(crate) struct Change {
    pub(crate) revision: i64,
    bytes: usize,
    /// What the state before it adds.
    prev_bytes: usize,
    pub(crate) plain: Arc<Event>,
    /// With the state before it, made only if a watch asks for it.
    pub(crate) with_prev: Option<Arc<Event>>,
}

impl Change {
    fn new(view: &EventView<'_>) -> Change {
        let kv = KeyValue {
            key: Bytes::copy_from_slice(view.key),
            value: Bytes::copy_from_slice(view.value),
            create_revision: view.create_revision,
            mod_revision: view.revision,
            version: view.version,
            lease: view.lease,
        };
        let bytes = view.key.len() + view.value.len() + 64;
        Change {
            revision: view.revision,
            bytes,
            prev_bytes: 0,
            plain: Arc::new(Event {
                deleted: view.deleted,
                kv,
                prev: None,
            }),
            with_prev: None,
        }
    }

    /// Looks the key up as it was before (PROPERTIES W8); a creation has nothing before it.
    fn add_prev(&mut self, state: &State) {
        let created = !self.plain.deleted && self.plain.kv.version == 1;
        let prev = if created {
            None
        } else {
            state.key_at(
                &self.plain.kv.key,
                self.revision - mutated!(PrevOfSameRevision, 0, 1),
            )
        };
        self.prev_bytes = prev.as_ref().map_or(0, |kv| kv.key.len() + kv.value.len());
        self.with_prev = Some(Arc::new(Event {
            prev,
            ..(*self.plain).clone()
        }));
    }

    /// About how large it is on the wire.
    pub(crate) fn bytes(&self, with_prev: bool) -> usize {
        self.bytes + if with_prev { self.prev_bytes } else { 0 }
    }

    pub(crate) fn event(&self, with_prev: bool) -> Arc<Event> {
        match &self.with_prev {
            Some(event) if with_prev => Arc::clone(event),
            _ => Arc::clone(&self.plain),
        }
    }
}

impl Group {
    pub(crate) fn new(id: u64, cursor: i64, scan_events_max: u64) -> Group {
        Group {
            id,
            cursor,
            index: WatchIndex::default(),
            deliveries: VecDeque::new(),
            scan_events: scan_events_max,
            scan_events_max,
            partial: None,
        }
    }

    /// A slice is not wholly matched.
    pub(crate) fn is_partial(&self) -> bool {
        self.partial.is_some()
    }

    /// Matching has not touched any revision above this one.
    pub(crate) fn horizon(&self) -> i64 {
        self.partial
            .as_ref()
            .map_or(self.cursor, |partial| partial.horizon)
    }

    /// Everything up to this revision has been handed out to every watch of the group that stands at its cursor.
    pub(crate) fn delivered(&self) -> i64 {
        self.deliveries
            .front()
            .map_or(self.cursor, |delivery| delivery.first - 1)
    }

    /// Mentions matched and not yet handed out.
    pub(crate) fn backlog(&self) -> usize {
        self.deliveries
            .iter()
            .map(|delivery| delivery.mentions.len() - delivery.position)
            .sum()
    }

    /// Reads the next slice of history and matches it; gives the number of changes read.
    ///
    /// # Errors
    /// History after the cursor was compacted away: gives the compacted revision.
    pub(crate) fn scan(&mut self, state: &State, watches: &Table<Watch>) -> Result<u64, i64> {
        let newest = state.complete();
        if self.cursor >= newest {
            return Ok(0);
        }
        if self.index.len() == 0 {
            self.partial = None;
            self.cursor = newest;
            return Ok(0);
        }
        let first = self.cursor + 1;
        let mut partial = self.partial.take().unwrap_or_else(|| Partial {
            next: EventPlace::before(first),
            horizon: newest,
            changes: Vec::new(),
            mentions: Vec::new(),
        });
        let Partial {
            next,
            changes,
            mentions,
            ..
        } = &mut partial;
        let (mut visited, mut bytes) = (0, 0);
        let index = &self.index;
        let mut visit = |view: EventView<'_>| {
            visited += 1;
            bytes += view.key.len() + view.value.len();
            let mut number = None;
            index.visit(view.key, |slot| {
                let watch = &watches[slot];
                if !watch.wants(view.revision, view.deleted) {
                    return;
                }
                let number = *number.get_or_insert_with(|| {
                    changes.push(Change::new(&view));
                    changes.len() - 1
                });
                if watch.prev_kv && changes[number].with_prev.is_none() {
                    changes[number].add_prev(state);
                }
                mentions.push((slot, number as u32));
            });
            visited < MATCH_EVENTS_MAX
        };
        *next = state.events_on(*next, Budget(self.scan_events), &mut visit)?;
        if next.is_inside() {
            self.partial = Some(partial);
            return Ok(visited);
        }
        let next = next.revision();
        assert!(
            next > first,
            "history gave nothing from revision {first} on, next {next}, newest {newest}"
        );
        let upto = next - 1;
        self.cursor = upto;
        self.scan_events = match visited {
            0 => self.scan_events_max,
            read => (SCAN_BYTES as u64 * read / (bytes as u64 + 1)).clamp(1, self.scan_events_max),
        };
        let Partial {
            changes,
            mut mentions,
            ..
        } = partial;
        if !mentions.is_empty() {
            mentions.sort_unstable();
            self.deliveries.push_back(Delivery {
                first,
                upto,
                changes,
                mentions,
                position: 0,
            });
        }
        Ok(visited)
    }

    /// Moves the cursor behind history that is gone.
    pub(crate) fn skip_to(&mut self, cursor: i64) {
        self.forget_partial();
        self.cursor = cursor;
    }

    /// Drops what is not wholly matched: the state was replaced, and places in it with it.
    pub(crate) fn forget_partial(&mut self) {
        self.partial = None;
    }
}

impl Delivery {
    /// The next watch's mentions, as a range; `None` when all are done.
    pub(crate) fn next_run(&mut self) -> Option<(Slot, std::ops::Range<usize>)> {
        let &(slot, _) = self.mentions.get(self.position)?;
        let start = self.position;
        let length = self.mentions[start..]
            .iter()
            .take_while(|mention| mention.0 == slot)
            .count();
        self.position = start + length;
        Some((slot, start..start + length))
    }

    /// The change of a mention.
    pub(crate) fn change(&self, mention: usize) -> &Change {
        &self.changes[self.mentions[mention].1 as usize]
    }
}

#[cfg(test)]
#[path = "watch_group_tests.rs"]
mod tests;
