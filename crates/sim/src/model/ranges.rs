//! What a range is told, by the words of etcd's API: which keys, in which order, and how many of them.

use super::Keys;
use bytes::Bytes;
use state::{KeyValue, Range, RangeReply};
use std::cmp::Ordering;

/// The number for "from the last to the first".
const DESCENDING: i32 = 2;

impl Keys {
    /// Answers a range in a view at revision `view`.
    pub fn range(&self, range: &Range, view: i64) -> RangeReply {
        let revision = if range.revision > 0 {
            range.revision
        } else {
            view
        };
        let mut kvs = self.range_at(&range.key, &range.range_end, revision);
        let count = kvs.len() as i64;
        if range.count_only {
            return RangeReply {
                kvs: Vec::new(),
                more: false,
                count,
            };
        }
        kvs.retain(|kv| is_wanted(range, kv));
        let limit = match usize::try_from(range.limit) {
            Ok(limit @ 1..) => limit,
            _ => usize::MAX,
        };
        // What is to be sorted, but in no order, is sorted as etcd does it: as far as the limit reaches in the order of keys, and one key more.
        if range.sort_order == 0 && !is_filtered(range) {
            kvs.truncate(limit.saturating_add(1));
        }
        let descending = range.sort_order == DESCENDING;
        match range.sort_target {
            0 if descending => kvs.reverse(),
            0 => {}
            // Of keys that are equal in this etcd promises no order: here they stay in that of keys.
            target => kvs.sort_by(|a, b| {
                let order = compare(target, a, b);
                if descending { order.reverse() } else { order }
            }),
        }
        let more = kvs.len() > limit;
        kvs.truncate(limit);
        if range.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        RangeReply { kvs, more, count }
    }
}

/// The bounds on revisions: modified at or after, at or before; created at or after, at or before. 0 is none.
fn bounds(range: &Range) -> [i64; 4] {
    [
        range.min_mod_revision,
        range.max_mod_revision,
        range.min_create_revision,
        range.max_create_revision,
    ]
}

fn is_filtered(range: &Range) -> bool {
    bounds(range) != [0; 4]
}

fn is_wanted(range: &Range, kv: &KeyValue) -> bool {
    let [mod_min, mod_max, create_min, create_max] = bounds(range);
    let within = |revision, min, max| revision >= min && (max == 0 || revision <= max);
    within(kv.mod_revision, mod_min, mod_max) && within(kv.create_revision, create_min, create_max)
}

fn compare(target: i32, a: &KeyValue, b: &KeyValue) -> Ordering {
    match target {
        1 => a.version.cmp(&b.version),
        2 => a.create_revision.cmp(&b.create_revision),
        3 => a.mod_revision.cmp(&b.mod_revision),
        4 => a.value.cmp(&b.value),
        _ => panic!("the workload sorts by known targets, not {target}"),
    }
}
