//! One record of the revision log, as bytes: a put or a removal of one key at one revision.
//!
//! ```text
//! 8  superseded: low 56 bits the revision that replaced it (NEVER if none), high 8 bits flags of this place
//! 8  position of the key's previous record            (if HAS_PREVIOUS)
//! -- from here on equal on all members: this part is what the event hash covers --
//! 8  low 56 bits the revision, high 8 bits flags of the record
//! 4  length of the key, 4 length of the value
//! 8  create revision, 8 version                       (if HAS_LIFE; else it is the key's creation)
//! 8  lease                                            (if HAS_LEASE)
//!    the key, the value
//! ```
//! All numbers are little-endian.

use crate::revision_log::Position;

/// "No later record of this key yet".
pub(crate) const NEVER: i64 = (1 << 56) - 1;
/// Counted for every record besides its key and value, so that many tiny keys are not free.
pub(crate) const RECORD_OVERHEAD: u64 = 64;

/// In the place of a predecessor that was freed.
const NOWHERE: u64 = u64::MAX;
const LOW: u64 = (1 << 56) - 1;
const HAS_PREVIOUS: u64 = 1 << 56;
const MOVED: u64 = 1 << 57;
const DELETED: u64 = 1 << 56;
const HAS_LIFE: u64 = 1 << 57;
const HAS_LEASE: u64 = 1 << 58;

/// What a new record says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewRecord<'a> {
    pub revision: i64,
    pub deleted: bool,
    pub create_revision: i64,
    pub version: i64,
    pub lease: i64,
    pub key: &'a [u8],
    pub value: &'a [u8],
    pub previous: Option<Position>,
    pub superseded: i64,
}

/// A record as it lies in a chunk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub superseded: i64,
    pub moved: bool,
    pub previous: Option<Position>,
    pub revision: i64,
    pub deleted: bool,
    pub create_revision: i64,
    pub version: i64,
    pub lease: i64,
    pub key: &'a [u8],
    pub value: &'a [u8],
    /// The part that is equal on all members.
    pub shared: &'a [u8],
    /// Bytes of the whole record.
    pub length: usize,
}

impl<'a> Record<'a> {
    /// Bytes counted against the limit of the state.
    pub fn size(&self) -> u64 {
        logical_size(self.key.len(), self.value.len())
    }

    /// It is readable, or an event that can be watched, when history was compacted at `compacted`.
    pub fn retained(&self, compacted: i64) -> bool {
        self.revision >= compacted || (!self.deleted && self.superseded > compacted)
    }

    /// The record that takes its place once a pending removal covers it, as far as it is known before it is written.
    pub fn as_removed(&self, revision: i64) -> Record<'a> {
        Record {
            revision,
            deleted: true,
            create_revision: 0,
            version: 0,
            lease: 0,
            value: &[],
            ..*self
        }
    }

    /// The same record for another place.
    pub fn renewed(&self) -> NewRecord<'a> {
        NewRecord {
            revision: self.revision,
            deleted: self.deleted,
            create_revision: self.create_revision,
            version: self.version,
            lease: self.lease,
            key: self.key,
            value: self.value,
            previous: None,
            superseded: self.superseded,
        }
    }
}

/// Bytes counted for a record with such a key and value.
pub(crate) fn logical_size(key: usize, value: usize) -> u64 {
    key as u64 + value as u64 + RECORD_OVERHEAD
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn half(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize
}

impl<'a> NewRecord<'a> {
    /// Says that a key is removed.
    pub fn removal(revision: i64, key: &'a [u8], previous: Option<Position>) -> NewRecord<'a> {
        NewRecord {
            revision,
            deleted: true,
            create_revision: 0,
            version: 0,
            lease: 0,
            key,
            value: &[],
            previous,
            superseded: NEVER,
        }
    }
}

impl NewRecord<'_> {
    fn has_life(&self) -> bool {
        !self.deleted && (self.version != 1 || self.create_revision != self.revision)
    }

    /// Bytes it will take.
    pub fn length(&self) -> usize {
        let optional = usize::from(self.previous.is_some())
            + 2 * usize::from(self.has_life())
            + usize::from(self.lease != 0);
        24 + 8 * optional + self.key.len() + self.value.len()
    }

    /// Writes it at the end of `chunk`.
    pub fn write(&self, chunk: &mut Vec<u8>) {
        assert!(
            (0..NEVER).contains(&self.revision),
            "revision {} out of range",
            self.revision
        );
        let place = if self.previous.is_some() {
            HAS_PREVIOUS
        } else {
            0
        };
        chunk.extend_from_slice(&(self.superseded as u64 | place).to_le_bytes());
        if let Some(previous) = self.previous {
            chunk.extend_from_slice(&previous.0.to_le_bytes());
        }
        let mut flags = if self.deleted { DELETED } else { 0 };
        if self.has_life() {
            flags |= HAS_LIFE;
        }
        if self.lease != 0 {
            flags |= HAS_LEASE;
        }
        chunk.extend_from_slice(&(self.revision as u64 | flags).to_le_bytes());
        chunk.extend_from_slice(&(self.key.len() as u32).to_le_bytes());
        chunk.extend_from_slice(&(self.value.len() as u32).to_le_bytes());
        if self.has_life() {
            chunk.extend_from_slice(&self.create_revision.to_le_bytes());
            chunk.extend_from_slice(&self.version.to_le_bytes());
        }
        if self.lease != 0 {
            chunk.extend_from_slice(&self.lease.to_le_bytes());
        }
        chunk.extend_from_slice(self.key);
        chunk.extend_from_slice(self.value);
    }
}

/// Reads the record at `at`.
pub(crate) fn read(chunk: &[u8], at: usize) -> Record<'_> {
    let place = word(chunk, at);
    let mut cursor = at + 8;
    let mut previous = None;
    if place & HAS_PREVIOUS != 0 {
        previous = Some(word(chunk, cursor))
            .filter(|&position| position != NOWHERE)
            .map(Position);
        cursor += 8;
    }
    let shared = cursor;
    let head = word(chunk, cursor);
    let (key_length, value_length) = (half(chunk, cursor + 8), half(chunk, cursor + 12));
    cursor += 16;
    let revision = (head & LOW) as i64;
    let deleted = head & DELETED != 0;
    let (mut create_revision, mut version) = if deleted { (0, 0) } else { (revision, 1) };
    if head & HAS_LIFE != 0 {
        (create_revision, version) = (word(chunk, cursor) as i64, word(chunk, cursor + 8) as i64);
        cursor += 16;
    }
    let mut lease = 0;
    if head & HAS_LEASE != 0 {
        lease = word(chunk, cursor) as i64;
        cursor += 8;
    }
    let end = cursor + key_length + value_length;
    Record {
        superseded: (place & LOW) as i64,
        moved: place & MOVED != 0,
        previous,
        revision,
        deleted,
        create_revision,
        version,
        lease,
        key: &chunk[cursor..cursor + key_length],
        value: &chunk[cursor + key_length..end],
        shared: &chunk[shared..end],
        length: end - at,
    }
}

/// Reads only the key of the record at `at`: what the index compares.
pub(crate) fn key(chunk: &[u8], at: usize) -> &[u8] {
    let head_at = if word(chunk, at) & HAS_PREVIOUS != 0 {
        at + 16
    } else {
        at + 8
    };
    let head = word(chunk, head_at);
    let length = half(chunk, head_at + 8);
    let skipped =
        if head & HAS_LIFE != 0 { 16 } else { 0 } + if head & HAS_LEASE != 0 { 8 } else { 0 };
    &chunk[head_at + 16 + skipped..head_at + 16 + skipped + length]
}

/// Notes the revision that replaced the record at `at`.
pub(crate) fn supersede(chunk: &mut [u8], at: usize, revision: i64) {
    let place = word(chunk, at) & !LOW | revision as u64;
    chunk[at..at + 8].copy_from_slice(&place.to_le_bytes());
}

/// Notes that the record at `at` now lives elsewhere: walks of the log pass over it.
pub(crate) fn mark_moved(chunk: &mut [u8], at: usize) {
    let place = word(chunk, at) | MOVED;
    chunk[at..at + 8].copy_from_slice(&place.to_le_bytes());
}

/// Points the record at `at` to another place of its predecessor, or to none.
pub(crate) fn set_previous(chunk: &mut [u8], at: usize, previous: Option<Position>) {
    assert!(
        word(chunk, at) & HAS_PREVIOUS != 0,
        "record without a predecessor at {at}"
    );
    chunk[at + 8..at + 16].copy_from_slice(
        &previous
            .map_or(NOWHERE, |previous| previous.0)
            .to_le_bytes(),
    );
}

/// Reads the shared part of a record from bytes that nobody vouches for; gives its length. `None` unless it is exactly what
/// [`NewRecord::write`] writes.
pub(crate) fn parse(bytes: &[u8]) -> Option<(NewRecord<'_>, usize)> {
    let head = word(bytes.get(..16)?, 0);
    let (key_length, value_length) = (half(bytes, 8), half(bytes, 12));
    let revision = (head & LOW) as i64;
    let deleted = head & DELETED != 0;
    let (mut create_revision, mut version) = if deleted { (0, 0) } else { (revision, 1) };
    let mut cursor = 16;
    if head & HAS_LIFE != 0 {
        let life = bytes.get(cursor..cursor + 16)?;
        (create_revision, version) = (word(life, 0) as i64, word(life, 8) as i64);
        cursor += 16;
    }
    let mut lease = 0;
    if head & HAS_LEASE != 0 {
        lease = word(bytes.get(cursor..cursor + 8)?, 0) as i64;
        cursor += 8;
    }
    let key = bytes.get(cursor..cursor.checked_add(key_length)?)?;
    cursor += key_length;
    let value = bytes.get(cursor..cursor.checked_add(value_length)?)?;
    cursor += value_length;
    let new = NewRecord {
        revision,
        deleted,
        create_revision,
        version,
        lease,
        key,
        value,
        previous: None,
        superseded: NEVER,
    };
    let known = head & !(LOW | DELETED | HAS_LIFE | HAS_LEASE) == 0;
    let life = new.has_life() == (head & HAS_LIFE != 0) && (lease != 0) == (head & HAS_LEASE != 0);
    let sane = if deleted {
        value.is_empty() && lease == 0
    } else {
        (1..NEVER).contains(&version) && (1..=revision).contains(&create_revision)
    };
    (known && life && sane && !key.is_empty() && revision < NEVER).then_some((new, cursor))
}
