//! Writing a snapshot: the state at one index, in blocks, while writes go on.
//!
//! ```text
//! 8  magic
//! blocks:  8 name of the section, zero-padded   2 version of the section   2 flags (1: a reader that does not know it may pass over it)
//!          4 length of the content   4 CRC-32C of the 16 bytes before and the content
//!          content
//! ```
//! Sections in order, each of one or more blocks (`kept` and `history` may be absent):
//! `header` ([`SnapshotHeader`]), `state` (counters, a removal not wholly written down, limit and alarms), `lease` (id, time to live, deadline; 8 bytes each), `lock`, `claim`,
//! `client`, `answered`, `number` and `worker` (rows as messages, each after its length; absent if there are none), `kept` (records below the compacted
//! revision, in no order), `history` (records from it on, in order), `end` (how many of each). Numbers are little-endian; records are written as
//! in the revision log, without what depends on the place.

use crate::State;
use crate::auth::Store;
use crate::client::{Answered, Client};
use crate::id::{Number, Worker};
use crate::kv::Keys;
use crate::lease::Lease;
use crate::lock::{Claim, Lock};
use crate::pins::{Need, Pin};
use crate::revision_log::{ChunkId, RevisionLog};
use crate::space::SpaceRecord;
use crate::table::{Place, Row, Table};
use bytes::Bytes;
use prost::Message;
use prost::encoding::encode_varint;
use std::ops::Bound;

pub(crate) const MAGIC: [u8; 8] = *b"SYNODSNP";
/// The newest format known here.
pub(crate) const SNAPSHOT_FORMAT: u32 = 1;
pub(crate) const SECTION_VERSION: u16 = 1;
/// Bytes of a block before its content.
pub(crate) const BLOCK_HEADER_BYTES: usize = 20;
/// Flag of a block that may be passed over.
pub(crate) const OPTIONAL: u16 = 1;
pub(crate) const LEASE_RECORD_BYTES: usize = 24;

pub(crate) const HEADER: &[u8] = b"header";
pub(crate) const STATE: &[u8] = b"state";
pub(crate) const AUTH: &[u8] = b"auth";
pub(crate) const LEASE: &[u8] = b"lease";
pub(crate) const LOCK: &[u8] = b"lock";
pub(crate) const CLAIM: &[u8] = b"claim";
pub(crate) const CLIENT: &[u8] = b"client";
pub(crate) const ANSWERED: &[u8] = b"answered";
pub(crate) const NUMBER: &[u8] = b"number";
pub(crate) const WORKER: &[u8] = b"worker";
pub(crate) const KEPT: &[u8] = b"kept";
pub(crate) const HISTORY: &[u8] = b"history";
pub(crate) const END: &[u8] = b"end";

/// Records looked at in one step at most, so that a step stays short even where there is nothing to write.
const RECORDS_PER_STEP: usize = 4096;

/// The front of a snapshot: what it stands for.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SnapshotHeader {
    /// Version of the snapshot format; 1.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// The cluster.
    #[prost(fixed64, tag = "2")]
    pub cluster: u64,
    /// The cell.
    #[prost(uint64, tag = "3")]
    pub cell: u64,
    /// Index of the last entry included.
    #[prost(uint64, tag = "4")]
    pub index: u64,
    /// Term of that entry.
    #[prost(uint64, tag = "5")]
    pub term: u64,
    /// The configuration at that index, in `raft`'s encoding.
    #[prost(bytes = "bytes", tag = "6")]
    pub configuration: Bytes,
    /// The replicated clock.
    #[prost(uint64, tag = "7")]
    pub clock_ms: u64,
    /// The ordinal.
    #[prost(uint64, tag = "8")]
    pub ordinal: u64,
    /// The state hash.
    #[prost(fixed64, tag = "9")]
    pub hash: u64,
    /// The wall clock of the last batch.
    #[prost(uint64, tag = "10")]
    pub wall_ms: u64,
}

/// The counters of the state.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Counters {
    #[prost(int64, tag = "1")]
    pub revision: i64,
    /// -1 before the first compaction.
    #[prost(sint64, tag = "2")]
    pub compacted: i64,
    #[prost(uint32, tag = "3")]
    pub feature_level: u32,
    #[prost(fixed64, tag = "4")]
    pub chain: u64,
    #[prost(uint64, tag = "5")]
    pub keys: u64,
    #[prost(uint64, tag = "6")]
    pub bytes: u64,
    /// A removal that is not wholly written down.
    #[prost(message, optional, tag = "7")]
    pub removal: Option<PendingRemoval>,
    /// Limit and alarms, if any were set.
    #[prost(message, optional, tag = "8")]
    pub space: Option<SpaceRecord>,
}

/// A removal of which `history` holds some records only; the others follow from the keys that are there.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PendingRemoval {
    /// As in a [`crate::DeleteRange`].
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub range_end: Bytes,
    #[prost(int64, tag = "3")]
    pub revision: i64,
}

/// How much of everything a snapshot holds.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Totals {
    #[prost(uint64, tag = "1")]
    pub leases: u64,
    #[prost(uint64, tag = "2")]
    pub kept: u64,
    #[prost(uint64, tag = "3")]
    pub history: u64,
    #[prost(uint64, tag = "4")]
    pub locks: u64,
    #[prost(uint64, tag = "5")]
    pub claims: u64,
    #[prost(uint64, tag = "6")]
    pub clients: u64,
    #[prost(uint64, tag = "7")]
    pub answered: u64,
    #[prost(uint64, tag = "8")]
    pub numbers: u64,
    #[prost(uint64, tag = "9")]
    pub workers: u64,
}

/// A snapshot under way.
pub struct SnapshotCursor {
    pin: Pin,
    header: SnapshotHeader,
    counters: Counters,
    auth: Store,
    leases: Table<Lease>,
    locks: Table<Lock>,
    claims: Table<Claim>,
    clients: Table<Client>,
    answered: Table<Answered>,
    numbers: Table<Number>,
    workers: Table<Worker>,
    totals: Totals,
    /// The chunk of the pending removal, which still grows, and how long it was.
    reserved: Option<(ChunkId, usize)>,
    stage: Stage,
}

enum Stage {
    Front,
    Leases { from: i64 },
    Locks(Place),
    Claims(Place),
    Clients(Place),
    Answered(Place),
    Numbers(Place),
    Workers(Place),
    Kept { chunk: ChunkId, offset: usize },
    History { chunk: ChunkId, offset: usize },
    End,
    Done,
}

impl State {
    pub(crate) fn begin_snapshot(&mut self, header: SnapshotHeader) -> SnapshotCursor {
        assert!(
            self.work.is_none(),
            "a snapshot begins while a batch is at work"
        );
        assert_eq!(
            header.index, self.applied,
            "a snapshot is of the state as applied"
        );
        let Keys {
            revision,
            compacted,
            chain,
            live,
            bytes,
            ref removal,
            ref log,
            ..
        } = self.keys;
        let (locks, claims) = self.locks.pin();
        let (clients, answered) = self.clients.pin();
        let (numbers, workers) = self.ids.pin();
        SnapshotCursor {
            pin: self.pins.take(compacted, Need::Walk),
            header: SnapshotHeader {
                format: SNAPSHOT_FORMAT,
                clock_ms: mutated!(SnapshotLosesClock, 0, self.clock.clock_ms),
                wall_ms: self.clock.wall_ms,
                ordinal: self.ordinal,
                hash: self.hash_applied,
                ..header
            },
            counters: Counters {
                revision,
                compacted,
                feature_level: self.feature_level,
                chain,
                keys: live,
                bytes,
                removal: removal.as_ref().map(|removal| PendingRemoval {
                    key: removal.bounds.start.clone(),
                    range_end: removal.bounds.range_end(),
                    revision: removal.revision,
                }),
                space: self.space.record(),
            },
            reserved: removal.as_ref().map(|removal| log.reserved(removal.start)),
            auth: mutated!(
                SnapshotLosesUsers,
                Store::default(),
                self.auth.store().clone()
            ),
            leases: self.leases.pin(),
            locks,
            claims,
            clients,
            answered,
            numbers,
            workers,
            totals: Totals::default(),
            stage: Stage::Front,
        }
    }

    pub(crate) fn step_snapshot(
        &mut self,
        cursor: &mut SnapshotCursor,
        bytes_max: usize,
    ) -> Option<Bytes> {
        let room = bytes_max.min(1 << 22).min(self.visible.bytes as usize);
        let mut out = Vec::with_capacity(room.max(1 << 10));
        // Sections without rows are left out.
        while out.is_empty() {
            self.write_piece(cursor, &mut out, bytes_max)?;
        }
        Some(Bytes::from(out))
    }

    fn write_piece(
        &self,
        cursor: &mut SnapshotCursor,
        out: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Option<()> {
        match cursor.stage {
            Stage::Done => return None,
            Stage::Front => {
                out.extend_from_slice(&MAGIC);
                block(out, HEADER, |content| cursor.header.encode_raw(content));
                block(out, STATE, |content| cursor.counters.encode_raw(content));
                block(out, AUTH, |content| cursor.auth.encode_raw(content));
                cursor.stage = Stage::Leases { from: i64::MIN };
            }
            Stage::Leases { from } => cursor.write_leases(out, from, bytes_max),
            Stage::Locks(mut place) => {
                let written = write_rows(out, LOCK, &cursor.locks, &mut place, bytes_max);
                cursor.totals.locks += written;
                cursor.stage = next(written, Stage::Locks(place), Stage::Claims);
            }
            Stage::Claims(mut place) => {
                let written = write_rows(out, CLAIM, &cursor.claims, &mut place, bytes_max);
                cursor.totals.claims += written;
                cursor.stage = next(written, Stage::Claims(place), Stage::Clients);
            }
            Stage::Clients(mut place) => {
                let written = write_rows(out, CLIENT, &cursor.clients, &mut place, bytes_max);
                cursor.totals.clients += written;
                cursor.stage = next(written, Stage::Clients(place), Stage::Answered);
            }
            Stage::Answered(mut place) => {
                let written = write_rows(out, ANSWERED, &cursor.answered, &mut place, bytes_max);
                cursor.totals.answered += written;
                cursor.stage = next(written, Stage::Answered(place), Stage::Numbers);
            }
            Stage::Numbers(mut place) => {
                let written = write_rows(out, NUMBER, &cursor.numbers, &mut place, bytes_max);
                cursor.totals.numbers += written;
                cursor.stage = next(written, Stage::Numbers(place), Stage::Workers);
            }
            Stage::Workers(mut place) => {
                let written = write_rows(out, WORKER, &cursor.workers, &mut place, bytes_max);
                cursor.totals.workers += written;
                cursor.stage = next(written, Stage::Workers(place), |_| Stage::Kept {
                    chunk: ChunkId::Settled(0),
                    offset: 0,
                });
            }
            Stage::Kept { .. } | Stage::History { .. } => {
                cursor.write_records(out, &self.keys.log, bytes_max)
            }
            Stage::End => {
                block(out, END, |content| cursor.totals.encode_raw(content));
                cursor.stage = Stage::Done;
            }
        }
        Some(())
    }

    pub(crate) fn cancel_snapshot(&mut self, cursor: SnapshotCursor) {
        self.pins.release(cursor.pin);
    }
}

impl SnapshotCursor {
    fn write_leases(&mut self, out: &mut Vec<u8>, from: i64, bytes_max: usize) {
        let some = (bytes_max / LEASE_RECORD_BYTES).max(1);
        let mut last = None;
        let mut written = 0;
        block(out, LEASE, |content| {
            for lease in self
                .leases
                .range(Bound::Included(&from))
                .filter(|_| !mutated!(SnapshotLosesLeases))
                .take(some)
            {
                content.extend_from_slice(&lease.id.to_le_bytes());
                content.extend_from_slice(&lease.ttl_ms.to_le_bytes());
                content.extend_from_slice(&lease.deadline_ms.to_le_bytes());
                last = Some(lease.id);
                written += 1;
            }
        });
        self.totals.leases += written as u64;
        self.stage = match last
            .filter(|_| written == some)
            .and_then(|last| last.checked_add(1))
        {
            Some(from) => Stage::Leases { from },
            None => Stage::Locks(Place::default()),
        };
    }

    fn write_records(&mut self, out: &mut Vec<u8>, log: &RevisionLog, bytes_max: usize) {
        let (kept, mut chunk_id, mut offset) = match self.stage {
            Stage::Kept { chunk, offset } => (true, chunk, offset),
            Stage::History { chunk, offset } => (false, chunk, offset),
            _ => unreachable!("no records are written in this stage"),
        };
        let (compacted, revision) = (self.counters.compacted, self.counters.revision);
        let (mut written, mut ended) = (0, true);
        block(out, if kept { KEPT } else { HISTORY }, |content| {
            let (start, mut looked_at) = (content.len(), 0);
            while let Some((id, chunk)) = log.chunk_from(chunk_id) {
                if id != chunk_id {
                    (chunk_id, offset) = (id, 0);
                }
                if !kept && chunk.last_revision() < compacted {
                    (chunk_id, offset) = (id.next(), 0);
                    continue;
                }
                let length = match self.reserved {
                    Some((reserved, length)) if reserved == id => length,
                    _ => chunk.length(),
                };
                while offset < length {
                    if content.len() - start >= bytes_max.max(1) || looked_at == RECORDS_PER_STEP {
                        ended = false;
                        return;
                    }
                    looked_at += 1;
                    let record = chunk.record(offset);
                    // The log is in order: what comes next is not of this section.
                    let past = if kept {
                        record.revision >= compacted
                    } else {
                        record.revision > revision
                    };
                    if past && matches!(id, ChunkId::Log(_)) {
                        return;
                    }
                    offset += record.length;
                    let wanted = if kept {
                        record.revision < compacted
                            && record.retained(mutated!(
                                SnapshotLosesReadable,
                                compacted + 1,
                                compacted
                            ))
                    } else {
                        record.revision >= compacted
                    };
                    if wanted && !record.moved {
                        record.write_shared(content);
                        written += 1;
                    }
                }
                (chunk_id, offset) = (id.next(), 0);
            }
        });
        if kept {
            self.totals.kept += written;
        } else {
            self.totals.history += written;
        }
        self.stage = match (kept, ended) {
            (true, false) => Stage::Kept {
                chunk: chunk_id,
                offset,
            },
            (false, false) => Stage::History {
                chunk: chunk_id,
                offset,
            },
            (true, true) => Stage::History {
                chunk: log.log_start(),
                offset: 0,
            },
            (false, true) => Stage::End,
        };
    }
}

/// The stage after rows were written: the next section, once there are none.
fn next(written: u64, same: Stage, following: impl FnOnce(Place) -> Stage) -> Stage {
    if written == 0 {
        following(Place::default())
    } else {
        same
    }
}

/// Writes rows of a table as one block, if there are any; gives how many.
fn write_rows<R: Row + Message>(
    out: &mut Vec<u8>,
    section: &[u8],
    table: &Table<R>,
    place: &mut Place,
    bytes_max: usize,
) -> u64 {
    let Some(mut row) = table.next(place) else {
        return 0;
    };
    let mut written = 0;
    block(out, section, |content| {
        let start = content.len();
        loop {
            encode_varint(row.encoded_len() as u64, content);
            row.encode_raw(content);
            written += 1;
            if content.len() - start >= bytes_max.max(1) {
                return;
            }
            row = match table.next(place) {
                Some(row) => row,
                None => return,
            };
        }
    });
    written
}

/// Writes a block whose content `fill` appends.
pub(crate) fn block(out: &mut Vec<u8>, name: &[u8], fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    let mut padded = [0; 8];
    padded[..name.len()].copy_from_slice(name);
    out.extend_from_slice(&padded);
    out.extend_from_slice(&SECTION_VERSION.to_le_bytes());
    out.extend_from_slice(&0u16.to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    fill(out);
    let length =
        u32::try_from(out.len() - start - BLOCK_HEADER_BYTES).expect("a block is far below 4 GiB");
    out[start + 12..start + 16].copy_from_slice(&length.to_le_bytes());
    let checksum = checksum(&out[start..start + 16], &out[start + BLOCK_HEADER_BYTES..]);
    out[start + 16..start + BLOCK_HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
}

/// The checksum of a block: of its header before the checksum, and its content.
pub(crate) fn checksum(header: &[u8], content: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(header), content)
}
