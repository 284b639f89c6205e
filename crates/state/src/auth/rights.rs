//! What a user may do, from all permissions of all its roles: ranges of keys that do not touch each other.

use super::change::{Permission, PermissionKind};

/// First key, and first key after it; `None` is no end.
type Span = (Vec<u8>, Option<Vec<u8>>);

/// What a user may read and write.
#[derive(Clone)]
pub(super) struct Rights {
    read: Spans,
    write: Spans,
}

impl Rights {
    pub fn new<'a>(permissions: impl Iterator<Item = &'a Permission>) -> Rights {
        let (mut read, mut write) = (Vec::new(), Vec::new());
        for permission in permissions {
            let span = span(&permission.key, &permission.range_end);
            if permission.kind() != PermissionKind::Write {
                read.push(span.clone());
            }
            if permission.kind() != PermissionKind::Read {
                write.push(span);
            }
        }
        Rights {
            read: Spans::new(read),
            write: Spans::new(write),
        }
    }

    /// It may do this with all keys of the range.
    pub fn covers(&self, kind: PermissionKind, key: &[u8], range_end: &[u8]) -> bool {
        let end = End::of(key, range_end);
        match kind {
            PermissionKind::Read => self.read.cover(key, end),
            PermissionKind::Write => self.write.cover(key, end),
            PermissionKind::ReadWrite => self.read.cover(key, end) && self.write.cover(key, end),
        }
    }
}

/// Where a range ends that is asked for; every request asks, so nothing is copied.
#[derive(Clone, Copy)]
enum End<'a> {
    Never,
    Before(&'a [u8]),
    /// With this key.
    After(&'a [u8]),
}

impl End<'_> {
    /// Of a range as clients write it. A range that ends before it begins is treated as its first key: it names nothing that could be hidden.
    fn of<'a>(key: &'a [u8], range_end: &'a [u8]) -> End<'a> {
        match range_end {
            [0] => End::Never,
            end if end > key => End::Before(end),
            _ => End::After(key),
        }
    }

    /// The first key after it, if there is one.
    fn to_owned(self) -> Option<Vec<u8>> {
        match self {
            End::Never => None,
            End::Before(end) => Some(end.to_vec()),
            End::After(key) => Some([key, &[0]].concat()),
        }
    }
}

fn span(key: &[u8], range_end: &[u8]) -> Span {
    (key.to_vec(), End::of(key, range_end).to_owned())
}

/// Spans in order, with gaps between them.
#[derive(Clone)]
struct Spans(Vec<Span>);

impl Spans {
    fn new(mut spans: Vec<Span>) -> Spans {
        spans.sort();
        let mut merged: Vec<Span> = Vec::new();
        for (start, end) in spans {
            match merged.last_mut() {
                Some((_, last)) if last.as_ref().is_none_or(|last| *last >= start) => {
                    if !reaches(last, &end) {
                        *last = end;
                    }
                }
                _ => merged.push((start, end)),
            }
        }
        Spans(merged)
    }

    fn cover(&self, start: &[u8], end: End<'_>) -> bool {
        let after = self.0.partition_point(|(first, _)| &first[..] <= start);
        let Some((_, last)) = after.checked_sub(1).map(|at| &self.0[at]) else {
            return false;
        };
        match (last, end) {
            (None, _) => true,
            (Some(_), End::Never) => false,
            (Some(last), End::Before(end)) => &last[..] >= end,
            (Some(last), End::After(key)) => &last[..] > key,
        }
    }
}

/// An end is not before another.
fn reaches(end: &Option<Vec<u8>>, other: &Option<Vec<u8>>) -> bool {
    match (end, other) {
        (None, _) => true,
        (_, None) => false,
        (Some(end), Some(other)) => end >= other,
    }
}
