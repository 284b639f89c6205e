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
        let span = span(key, range_end);
        match kind {
            PermissionKind::Read => self.read.cover(&span),
            PermissionKind::Write => self.write.cover(&span),
            PermissionKind::ReadWrite => self.read.cover(&span) && self.write.cover(&span),
        }
    }
}

/// A range as clients write it. A range that ends before it begins is treated as its first key: it names nothing that could be hidden.
fn span(key: &[u8], range_end: &[u8]) -> Span {
    let end = match range_end {
        [0] => None,
        end if end > key => Some(end.to_vec()),
        _ => Some([key, &[0]].concat()),
    };
    (key.to_vec(), end)
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

    fn cover(&self, (start, end): &Span) -> bool {
        let after = self.0.partition_point(|(first, _)| first <= start);
        after
            .checked_sub(1)
            .is_some_and(|at| reaches(&self.0[at].1, end))
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
