//! Keys a transaction may write twice: none. Follows etcd's rule to the letter, order of nested transactions included.

use crate::Status;
use bytes::Bytes;
use proto::etcdserverpb::RequestOp;
use proto::etcdserverpb::request_op::Request;
use std::collections::{BTreeMap, BTreeSet};

/// Refuses a list of steps that puts a key twice, or puts a key which a delete of the same or an enclosing list covers.
pub(crate) fn check(steps: &[RequestOp]) -> Result<(), Status> {
    written(steps).map(|_| ())
}

/// The keys put and the spans deleted by these steps, nested ones included.
fn written(steps: &[RequestOp]) -> Result<(BTreeSet<Bytes>, Spans), Status> {
    let mut deleted = Spans::default();
    for step in steps {
        if let Some(Request::RequestDeleteRange(delete)) = &step.request {
            deleted.add(&delete.key, &delete.range_end);
        }
    }

    let mut puts = BTreeSet::new();
    for step in steps {
        let Some(Request::RequestTxn(txn)) = &step.request else {
            continue;
        };
        let (success, success_deleted) = written(&txn.success)?;
        let (failure, failure_deleted) = written(&txn.failure)?;
        let fresh = success
            .iter()
            .all(|key| !puts.contains(key) && !deleted.contains(key));
        // Only one of the two branches runs, so a key may stand in both.
        let fresh = fresh
            && failure.iter().all(|key| {
                !deleted.contains(key) && (success.contains(key) || !puts.contains(key))
            });
        if !fresh {
            return Err(Status::DUPLICATE_KEY);
        }
        puts.extend(success);
        puts.extend(failure);
        deleted.merge(success_deleted);
        deleted.merge(failure_deleted);
    }

    for step in steps {
        let Some(Request::RequestPut(put)) = &step.request else {
            continue;
        };
        if deleted.contains(&put.key) || !puts.insert(put.key.clone()) {
            return Err(Status::DUPLICATE_KEY);
        }
    }
    Ok((puts, deleted))
}

/// Disjoint half-open spans of keys, by their first key.
#[derive(Default)]
struct Spans(BTreeMap<Bytes, Bytes>);

impl Spans {
    /// Adds a delete's range. "From key on" (an end of one zero byte) covers nothing here: etcd reads that end literally in this check.
    fn add(&mut self, key: &Bytes, range_end: &Bytes) {
        let end = if range_end.is_empty() {
            Bytes::from([key, &b"\0"[..]].concat())
        } else {
            range_end.clone()
        };
        if end > *key {
            self.insert(key.clone(), end);
        }
    }

    fn merge(&mut self, other: Spans) {
        for (begin, end) in other.0 {
            self.insert(begin, end);
        }
    }

    fn insert(&mut self, mut begin: Bytes, mut end: Bytes) {
        if let Some((before, before_end)) = self.0.range(..=begin.clone()).next_back()
            && *before_end >= begin
        {
            end = end.max(before_end.clone());
            begin = before.clone();
        }
        while let Some((inside, inside_end)) = self.0.range(begin.clone()..=end.clone()).next() {
            end = end.max(inside_end.clone());
            let inside = inside.clone();
            self.0.remove(&inside);
        }
        self.0.insert(begin, end);
    }

    fn contains(&self, key: &Bytes) -> bool {
        self.0
            .range(..=key.clone())
            .next_back()
            .is_some_and(|(_, end)| key < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(list: &[(&'static str, &'static str)]) -> Spans {
        let mut spans = Spans::default();
        for (key, end) in list {
            spans.add(
                &Bytes::from_static(key.as_bytes()),
                &Bytes::from_static(end.as_bytes()),
            );
        }
        spans
    }

    #[test]
    fn touching_spans_become_one() {
        let spans = spans(&[("c", "d"), ("a", "b"), ("b", "c"), ("x", "")]);
        let list: Vec<_> = spans
            .0
            .iter()
            .map(|(begin, end)| (&begin[..], &end[..]))
            .collect();
        assert_eq!(list, [(&b"a"[..], &b"d"[..]), (&b"x"[..], &b"x\0"[..])]);
    }

    #[test]
    fn span_ends_before_its_end() {
        let spans = spans(&[("a", "c")]);
        assert!(
            spans.contains(&Bytes::from_static(b"a"))
                && spans.contains(&Bytes::from_static(b"bzz"))
        );
        assert!(
            !spans.contains(&Bytes::from_static(b"c"))
                && !spans.contains(&Bytes::from_static(b"A"))
        );
    }

    #[test]
    fn inverted_and_open_spans_cover_nothing() {
        assert!(spans(&[("b", "a"), ("b", "\0")]).0.is_empty());
    }
}
