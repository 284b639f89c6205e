//! Removing a range of keys in slices.

use crate::DeleteRange;
use crate::KeyValue;
use crate::bounds::{Bounds, End};
use crate::kv::{Keys, Visit};
use crate::lease::Leases;
use crate::pages::Pages;
use std::ops::Bound;

/// A removal at work. It writes into the state as it goes; nobody sees it before the command's end.
pub(crate) struct Deletion {
    bounds: Bounds,
    after: Option<Vec<u8>>,
    /// Collects what was there, if asked for.
    pages: Option<Pages>,
    prev: Vec<KeyValue>,
    deleted: i64,
}

impl Deletion {
    pub fn new(delete: &DeleteRange) -> Deletion {
        Deletion {
            bounds: Bounds::new(&delete.key, &delete.range_end),
            after: None,
            pages: delete.prev_kv.then(Pages::new),
            prev: Vec::new(),
            deleted: 0,
        }
    }

    /// Works for about `fuel` units; true when done.
    pub fn step(&mut self, keys: &mut Keys, leases: &mut Leases, fuel: &mut u64) -> bool {
        if !self.bounds.is_empty() {
            let mut stopped = None;
            let (pages, prev, deleted) = (&mut self.pages, &mut self.prev, &mut self.deleted);
            let single = self.bounds.end == End::Single;
            let from = self
                .after
                .as_deref()
                .map_or(Bound::Included(&self.bounds.start[..]), Bound::Excluded);
            if single && self.after.is_some() {
                return self.finish_pages();
            }
            keys.delete(from, self.bounds.upper(), |record| {
                *fuel = fuel.saturating_sub(1);
                if !record.deleted {
                    *deleted += 1;
                    if record.lease != 0 {
                        leases.detach(record.lease, record.key);
                    }
                    if let Some(pages) = pages {
                        pages.push(&record, true, prev);
                    }
                }
                if *fuel == 0 {
                    stopped = Some(record.key.to_vec());
                }
                Visit {
                    remove: true,
                    more: stopped.is_none(),
                }
            });
            if stopped.is_some() {
                self.after = stopped;
                return false;
            }
        }
        self.finish_pages()
    }

    fn finish_pages(&mut self) -> bool {
        if let Some(pages) = &mut self.pages {
            pages.flush(&mut self.prev);
        }
        true
    }

    /// The number of keys removed, and they if asked for.
    pub fn finish(self) -> (i64, Vec<KeyValue>) {
        (self.deleted, self.prev)
    }
}
