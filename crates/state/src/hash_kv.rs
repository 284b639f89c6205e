//! The hash over keys and history up to a revision, in slices. It is a sum over records, because members may hold them in different places.

use crate::Answer;
use crate::hash;
use crate::revision_log::{ChunkId, RevisionLog};

/// Bytes that cost as much as one more record.
const BYTES_PER_UNIT: u64 = 4096;

/// A walk over all records.
pub(crate) struct HashScan {
    revision: i64,
    compacted: i64,
    at: (ChunkId, usize),
    sum: u64,
    records: u64,
}

impl HashScan {
    pub fn new(revision: i64, compacted: i64) -> HashScan {
        HashScan {
            revision,
            compacted,
            at: (ChunkId::Settled(0), 0),
            sum: 0,
            records: 0,
        }
    }

    /// Works for about `fuel` units.
    pub fn step(&mut self, log: &RevisionLog, fuel: &mut u64) -> Option<Answer> {
        while let Some((id, chunk)) = log.chunk_from(self.at.0) {
            let mut offset = if id == self.at.0 { self.at.1 } else { 0 };
            while offset < chunk.length() {
                if *fuel == 0 {
                    self.at = (id, offset);
                    return None;
                }
                let record = chunk.record(offset);
                *fuel = fuel.saturating_sub(1 + record.length as u64 / BYTES_PER_UNIT);
                offset += record.length;
                if record.revision > self.revision && matches!(id, ChunkId::Log(_)) {
                    // The log is in order: nothing further belongs to this revision.
                    return Some(self.answer());
                }
                if !record.moved && record.retained(self.compacted) {
                    self.sum = self.sum.wrapping_add(hash::history(&record));
                    self.records += 1;
                }
            }
            self.at = (id.next(), 0);
        }
        Some(self.answer())
    }

    fn answer(&self) -> Answer {
        let hash = hash::mix_all(&[
            self.sum,
            self.records,
            self.revision as u64,
            self.compacted as u64,
        ]);
        Answer::HashKv {
            hash: (hash ^ hash >> 32) as u32,
            compact_revision: self.compacted,
            hash_revision: self.revision,
        }
    }
}
