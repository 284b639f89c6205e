//! Ranges of keys as etcd's clients write them.

use bytes::Bytes;
use std::ops::Bound;

/// A range of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub start: Bytes,
    pub end: End,
}

/// Where a range ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The start is the only key.
    Single,
    /// Before this key.
    Before(Bytes),
    /// With the last key.
    Open,
}

impl Bounds {
    /// From the wire's two fields: an empty end is the single key, one zero byte is "from the start on".
    pub fn new(start: &Bytes, range_end: &Bytes) -> Bounds {
        let end = match range_end.as_ref() {
            [] => End::Single,
            [0] if mutated!(OpenRangeEnds) => End::Before(Bytes::from_static(&[0xff])),
            [0] => End::Open,
            _ => End::Before(range_end.clone()),
        };
        Bounds {
            start: start.clone(),
            end,
        }
    }

    /// The wire's second field.
    pub fn range_end(&self) -> Bytes {
        match &self.end {
            End::Single => Bytes::new(),
            End::Before(end) => end.clone(),
            End::Open => Bytes::from_static(b"\0"),
        }
    }

    /// No key can be in it.
    pub fn is_empty(&self) -> bool {
        matches!(&self.end, End::Before(end) if *end <= self.start)
    }

    /// A key lies in it.
    pub fn contains_key(&self, key: &[u8]) -> bool {
        *key >= self.start[..]
            && match &self.end {
                End::Single => *key == self.start[..],
                End::Before(end) => *key < end[..],
                End::Open => true,
            }
    }

    /// Every key of another range, which is not a single key, lies in it.
    pub fn contains(&self, other: &Bounds) -> bool {
        self.start <= other.start
            && match (&self.end, &other.end) {
                (End::Open, _) => true,
                (End::Before(end), End::Before(inner)) => end >= inner,
                _ => false,
            }
    }

    /// No key lies in both it and another range, which is not a single key.
    pub fn is_disjoint(&self, other: &Bounds) -> bool {
        let before = |a: &Bounds, b: &Bounds| matches!(&a.end, End::Before(end) if *end <= b.start);
        if self.end == End::Single {
            !other.contains_key(&self.start)
        } else {
            before(self, other) || before(other, self)
        }
    }

    /// The upper bound.
    pub fn upper(&self) -> Bound<&[u8]> {
        match &self.end {
            End::Single => Bound::Included(&self.start),
            End::Before(end) => Bound::Excluded(end),
            End::Open => Bound::Unbounded,
        }
    }
}
