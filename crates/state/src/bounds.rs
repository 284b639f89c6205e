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
            [0] => End::Open,
            _ => End::Before(range_end.clone()),
        };
        Bounds {
            start: start.clone(),
            end,
        }
    }

    /// No key can be in it.
    pub fn is_empty(&self) -> bool {
        matches!(&self.end, End::Before(end) if *end <= self.start)
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
