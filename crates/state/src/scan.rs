//! Reading a snapshot without building a state from it: for those who tell it in another format. Bytes that nobody vouches for; only what the
//! checksums and the records themselves say is checked, not whether all of it makes a state.

use crate::auth::{Auth, Store};
use crate::record;
use crate::snapshot::{
    AUTH, BLOCK_HEADER_BYTES, Counters, END, HEADER, HISTORY, KEPT, LEASE, LEASE_RECORD_BYTES,
    MAGIC, SECTION_VERSION, SNAPSHOT_FORMAT, STATE, SnapshotHeader, checksum,
};
use crate::{EventView, SnapshotError};
use prost::Message;

/// A longer block is damage.
const BLOCK_BYTES_MAX: usize = 1 << 30;

/// What is met in a snapshot, in this order.
pub enum SnapshotItem<'a> {
    /// What it stands for.
    Header(SnapshotHeader),
    /// Its counters.
    Counters(SnapshotCounters),
    /// Users, roles and permissions.
    Auth(Auth),
    /// A lease, by ascending id.
    Lease {
        /// Its id.
        id: i64,
        /// Its time to live.
        ttl_ms: u64,
        /// When it ends, by the replicated clock.
        deadline_ms: u64,
    },
    /// A live key of before the compacted revision. They come in no order.
    Kept(EventView<'a>),
    /// A change at or after the compacted revision, in order.
    Event(EventView<'a>),
    /// That was all.
    End,
}

/// The counters of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotCounters {
    /// The newest revision.
    pub revision: i64,
    /// The oldest readable revision; -1 before the first compaction.
    pub compacted: i64,
    /// Keys that are there.
    pub keys: u64,
    /// A large removal is not wholly written down: some of its records are missing.
    pub is_removing: bool,
}

/// Goes through the bytes of a snapshot.
#[derive(Default)]
pub struct SnapshotScan {
    /// Bytes fed that are no whole block yet.
    rest: Vec<u8>,
    begun: bool,
    ended: bool,
}

impl SnapshotScan {
    /// Begins.
    pub fn new() -> SnapshotScan {
        SnapshotScan::default()
    }

    /// Takes the next bytes and visits what is whole in them.
    ///
    /// # Errors
    /// The snapshot is damaged or newer, or what `visit` says.
    pub fn feed<E: From<SnapshotError>>(
        &mut self,
        bytes: &[u8],
        mut visit: impl FnMut(SnapshotItem<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.rest.extend_from_slice(bytes);
        let rest = std::mem::take(&mut self.rest);
        let mut bytes = &rest[..];
        if !self.begun {
            let Some((magic, after)) = bytes.split_at_checked(MAGIC.len()) else {
                self.rest = rest;
                return Ok(());
            };
            if magic != MAGIC {
                return Err(
                    corrupt("these bytes are no snapshot: the magic number is missing").into(),
                );
            }
            self.begun = true;
            bytes = after;
        }
        while let Some((header, content)) = block(bytes)? {
            self.block(header, content, &mut visit)?;
            bytes = &bytes[BLOCK_HEADER_BYTES + content.len()..];
        }
        self.rest = bytes.to_vec();
        Ok(())
    }

    /// Ends.
    ///
    /// # Errors
    /// The end of the snapshot was not there.
    pub fn finish(self) -> Result<(), SnapshotError> {
        if self.ended && self.rest.is_empty() {
            Ok(())
        } else {
            Err(corrupt("the snapshot ends without its end section"))
        }
    }

    fn block<E: From<SnapshotError>>(
        &mut self,
        header: &[u8],
        content: &[u8],
        visit: &mut impl FnMut(SnapshotItem<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let name = header[..8]
            .split(|&byte| byte == 0)
            .next()
            .unwrap_or_default();
        let version = u16::from_le_bytes([header[8], header[9]]);
        if self.ended {
            return Err(corrupt("something comes after the end section").into());
        }
        let newer = |format: u32, known: u32| E::from(SnapshotError::NewerFormat { format, known });
        if ![HEADER, STATE, AUTH, LEASE, KEPT, HISTORY, END].contains(&name) {
            // Of a model that has no place in what is told here.
            return Ok(());
        }
        if version > SECTION_VERSION {
            return Err(newer(u32::from(version), u32::from(SECTION_VERSION)));
        }
        match name {
            HEADER => {
                let header: SnapshotHeader = decode(content)?;
                if header.format > SNAPSHOT_FORMAT {
                    return Err(newer(header.format, SNAPSHOT_FORMAT));
                }
                visit(SnapshotItem::Header(header))
            }
            STATE => {
                let counters: Counters = decode(content)?;
                visit(SnapshotItem::Counters(SnapshotCounters {
                    revision: counters.revision,
                    compacted: counters.compacted,
                    keys: counters.keys,
                    is_removing: counters.removal.is_some(),
                }))
            }
            AUTH => {
                let store: Store = decode(content)?;
                visit(SnapshotItem::Auth(Auth::from_store(store)))
            }
            LEASE => leases(content, visit),
            KEPT | HISTORY => records(content, name == KEPT, visit),
            _ => {
                self.ended = true;
                visit(SnapshotItem::End)
            }
        }
    }
}

fn corrupt(reason: impl Into<String>) -> SnapshotError {
    SnapshotError::Corrupt(reason.into())
}

fn decode<M: Message + Default>(content: &[u8]) -> Result<M, SnapshotError> {
    M::decode(content).map_err(|error| corrupt(error.to_string()))
}

/// Header and content of a block.
type Block<'a> = (&'a [u8], &'a [u8]);

/// The whole block at the front, if there is one.
fn block(bytes: &[u8]) -> Result<Option<Block<'_>>, SnapshotError> {
    let Some((header, after)) = bytes.split_at_checked(BLOCK_HEADER_BYTES) else {
        return Ok(None);
    };
    let number = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    let length = number(12) as usize;
    if length > BLOCK_BYTES_MAX {
        return Err(corrupt(format!(
            "a block of {length} bytes, at most {BLOCK_BYTES_MAX} are allowed"
        )));
    }
    let Some(content) = after.get(..length) else {
        return Ok(None);
    };
    if number(16) != checksum(&header[..16], content) {
        return Err(corrupt("a block does not match its checksum"));
    }
    Ok(Some((header, content)))
}

fn leases<E: From<SnapshotError>>(
    content: &[u8],
    visit: &mut impl FnMut(SnapshotItem<'_>) -> Result<(), E>,
) -> Result<(), E> {
    for lease in content.chunks(LEASE_RECORD_BYTES) {
        if lease.len() < LEASE_RECORD_BYTES {
            return Err(corrupt("a lease is cut short").into());
        }
        let word =
            |at: usize| u64::from_le_bytes(lease[at..at + 8].try_into().expect("eight bytes"));
        visit(SnapshotItem::Lease {
            id: word(0) as i64,
            ttl_ms: word(8),
            deadline_ms: word(16),
        })?;
    }
    Ok(())
}

fn records<E: From<SnapshotError>>(
    mut content: &[u8],
    kept: bool,
    visit: &mut impl FnMut(SnapshotItem<'_>) -> Result<(), E>,
) -> Result<(), E> {
    while !content.is_empty() {
        let Some((record, length)) = record::parse(content) else {
            return Err(corrupt("a record is cut short or says what no record says").into());
        };
        content = &content[length..];
        let view = EventView {
            revision: record.revision,
            deleted: record.deleted,
            key: record.key,
            value: record.value,
            create_revision: record.create_revision,
            version: record.version,
            lease: record.lease,
        };
        visit(if kept {
            SnapshotItem::Kept(view)
        } else {
            SnapshotItem::Event(view)
        })?;
    }
    Ok(())
}
