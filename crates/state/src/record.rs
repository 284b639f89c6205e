//! One record of the revision log: a put or a removal of one key at one revision. As it lies in a chunk:
//!
//! ```text
//! 8  superseded: low 56 bits the revision that replaced it (NEVER if none), high 8 bits flags
//! 8  position of the key's previous record              (if HAS_PREVIOUS)
//! v  the revision, less the base of the chunk
//! v  length of the key
//! v  length of the value
//! v  the revision less the create revision, v  version  (if HAS_LIFE; else it is the key's creation)
//! 8  lease                                              (if HAS_LEASE)
//!    the key, the value
//! ```
//!
//! What members share of it, in hashes and snapshots, has no place and no base:
//!
//! ```text
//! 8  low 56 bits the revision, high 8 bits flags
//! 4  length of the key, 4 length of the value
//! 8  create revision, 8 version                         (if HAS_LIFE)
//! 8  lease                                              (if HAS_LEASE)
//!    the key, the value
//! ```
//! Numbers are little-endian; `v` is one of variable length, seven bits a byte.

use crate::revision_log::Position;

/// "No later record of this key yet".
pub(crate) const NEVER: i64 = (1 << 56) - 1;
/// Counted for every record besides its key and value, so that many tiny keys are not free.
pub(crate) const RECORD_OVERHEAD: u64 = 64;

/// In the place of a predecessor that was freed.
const NOWHERE: u64 = u64::MAX;
const LOW: u64 = (1 << 56) - 1;
const DELETED: u64 = 1 << 56;
const HAS_LIFE: u64 = 1 << 57;
const HAS_LEASE: u64 = 1 << 58;
/// Flags of the place only.
const HAS_PREVIOUS: u64 = 1 << 59;
const MOVED: u64 = 1 << 60;
/// Bytes of a number of variable length at most.
const VARIABLE_MAX: usize = 10;

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

    /// Writes the part that is equal on all members.
    pub fn write_shared(&self, out: &mut Vec<u8>) {
        self.renewed().write_shared(out);
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

fn put_variable(chunk: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        chunk.push(number as u8 | 0x80);
        number >>= 7;
    }
    chunk.push(number as u8);
}

/// Reads a number of variable length, and moves the cursor behind it.
fn variable(chunk: &[u8], cursor: &mut usize) -> u64 {
    let (mut number, mut shift) = (0, 0);
    loop {
        let byte = chunk[*cursor];
        *cursor += 1;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return number;
        }
        shift += 7;
    }
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

    fn flags(&self) -> u64 {
        let flag = |flag, is_set| if is_set { flag } else { 0 };
        flag(DELETED, self.deleted)
            | flag(HAS_LIFE, self.has_life())
            | flag(HAS_LEASE, self.lease != 0)
    }

    /// Bytes it takes at most.
    pub fn length_max(&self) -> usize {
        8 * 3 + VARIABLE_MAX * 5 + self.key.len() + self.value.len()
    }

    /// Writes it at the end of a chunk with this base, which is not above its revision.
    pub fn write(&self, chunk: &mut Vec<u8>, base: i64) {
        assert!(
            (base..NEVER).contains(&self.revision),
            "revision {} out of range, from {base}",
            self.revision
        );
        let place = self.previous.map_or(0, |_| HAS_PREVIOUS);
        let flags = self.flags();
        chunk.extend_from_slice(&(self.superseded as u64 | flags | place).to_le_bytes());
        if let Some(previous) = self.previous {
            chunk.extend_from_slice(&previous.0.to_le_bytes());
        }
        put_variable(chunk, (self.revision - base) as u64);
        put_variable(chunk, self.key.len() as u64);
        put_variable(chunk, self.value.len() as u64);
        if flags & HAS_LIFE != 0 {
            put_variable(
                chunk,
                self.revision.wrapping_sub(self.create_revision) as u64,
            );
            put_variable(chunk, self.version as u64);
        }
        if flags & HAS_LEASE != 0 {
            chunk.extend_from_slice(&self.lease.to_le_bytes());
        }
        chunk.extend_from_slice(self.key);
        chunk.extend_from_slice(self.value);
    }

    /// Writes the part that is equal on all members.
    pub fn write_shared(&self, out: &mut Vec<u8>) {
        let flags = self.flags();
        out.extend_from_slice(&(self.revision as u64 | flags).to_le_bytes());
        out.extend_from_slice(&(self.key.len() as u32).to_le_bytes());
        out.extend_from_slice(&(self.value.len() as u32).to_le_bytes());
        if flags & HAS_LIFE != 0 {
            out.extend_from_slice(&self.create_revision.to_le_bytes());
            out.extend_from_slice(&self.version.to_le_bytes());
        }
        if flags & HAS_LEASE != 0 {
            out.extend_from_slice(&self.lease.to_le_bytes());
        }
        out.extend_from_slice(self.key);
        out.extend_from_slice(self.value);
    }
}

/// Reads the record at `at` in a chunk with this base.
pub(crate) fn read(chunk: &[u8], at: usize, base: i64) -> Record<'_> {
    let place = word(chunk, at);
    let mut cursor = at + 8;
    let mut previous = None;
    if place & HAS_PREVIOUS != 0 {
        previous = Some(word(chunk, cursor))
            .filter(|&position| position != NOWHERE)
            .map(Position);
        cursor += 8;
    }
    let revision = base + variable(chunk, &mut cursor) as i64;
    let key_length = variable(chunk, &mut cursor) as usize;
    let value_length = variable(chunk, &mut cursor) as usize;
    let deleted = place & DELETED != 0;
    let (mut create_revision, mut version) = if deleted { (0, 0) } else { (revision, 1) };
    if place & HAS_LIFE != 0 {
        create_revision = revision.wrapping_sub(variable(chunk, &mut cursor) as i64);
        version = variable(chunk, &mut cursor) as i64;
    }
    let mut lease = 0;
    if place & HAS_LEASE != 0 {
        lease = word(chunk, cursor) as i64;
        cursor += 8;
    }
    let (key, rest) = chunk[cursor..].split_at(key_length);
    Record {
        superseded: (place & LOW) as i64,
        moved: place & MOVED != 0,
        previous,
        revision,
        deleted,
        create_revision,
        version,
        lease,
        key,
        value: &rest[..value_length],
        length: cursor + key_length + value_length - at,
    }
}

/// Reads only the key of the record at `at`: what the index compares.
pub(crate) fn key(chunk: &[u8], at: usize) -> &[u8] {
    let place = word(chunk, at);
    let mut cursor = at + if place & HAS_PREVIOUS != 0 { 16 } else { 8 };
    variable(chunk, &mut cursor);
    let length = variable(chunk, &mut cursor) as usize;
    variable(chunk, &mut cursor);
    if place & HAS_LIFE != 0 {
        variable(chunk, &mut cursor);
        variable(chunk, &mut cursor);
    }
    if place & HAS_LEASE != 0 {
        cursor += 8;
    }
    &chunk[cursor..cursor + length]
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
/// [`NewRecord::write_shared`] writes.
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
