//! The hash over keys and history up to a revision, in slices. It is a sum over records, because members may hold them in different places.

use crate::Answer;
use crate::bounds::Bounds;
use crate::hash;
use crate::kv::Keys;
use crate::revision_log::{ChunkId, RevisionLog};
use std::ops::Bound;

/// Bytes that cost as much as one more record.
const BYTES_PER_UNIT: u64 = 4096;

/// A walk over all records.
pub(crate) struct HashScan {
    revision: i64,
    compacted: i64,
    at: (ChunkId, usize),
    sum: u64,
    records: u64,
    /// A removal that was pending at the beginning: its records are taken from the index, where the other ones are known as well.
    removal: Option<RemovedKeys>,
}

/// A walk over the keys of a removal.
struct RemovedKeys {
    bounds: Bounds,
    revision: i64,
    after: Option<Vec<u8>>,
}

impl HashScan {
    pub fn new(keys: &Keys, revision: i64) -> HashScan {
        let removal = keys
            .removal
            .as_ref()
            .filter(|removal| removal.revision <= revision)
            .map(|removal| RemovedKeys {
                bounds: removal.bounds.clone(),
                revision: removal.revision,
                after: None,
            });
        HashScan {
            revision,
            compacted: keys.compacted,
            removal,
            at: (ChunkId::Settled(0), 0),
            sum: 0,
            records: 0,
        }
    }

    /// Works for about `fuel` units.
    pub fn step(&mut self, keys: &Keys, fuel: &mut u64) -> Option<Answer> {
        if !self.walk_log(&keys.log, fuel) || !self.walk_removed(keys, fuel) {
            return None;
        }
        Some(self.answer())
    }

    fn walk_log(&mut self, log: &RevisionLog, fuel: &mut u64) -> bool {
        let removed = self.removal.as_ref().map(|removal| removal.revision);
        while let Some((id, chunk)) = log.chunk_from(self.at.0) {
            let mut offset = if id == self.at.0 { self.at.1 } else { 0 };
            while offset < chunk.length() {
                if *fuel == 0 {
                    self.at = (id, offset);
                    return false;
                }
                let record = chunk.record(offset);
                *fuel = fuel.saturating_sub(1 + record.length as u64 / BYTES_PER_UNIT);
                offset += record.length;
                if record.revision > self.revision && matches!(id, ChunkId::Log(_)) {
                    // The log is in order: nothing further belongs to this revision.
                    self.at = (id, offset);
                    return true;
                }
                if !record.moved
                    && record.retained(self.compacted)
                    && removed != Some(record.revision)
                {
                    self.sum = self.sum.wrapping_add(hash::history(&record));
                    self.records += 1;
                }
            }
            self.at = (id.next(), 0);
        }
        true
    }

    /// Adds the removal's records: each key of its range has one, or is covered, and changes from this to that between slices.
    fn walk_removed(&mut self, keys: &Keys, fuel: &mut u64) -> bool {
        let Some(RemovedKeys {
            bounds,
            revision,
            after,
        }) = &mut self.removal
        else {
            return true;
        };
        let (sum, records, revision) = (&mut self.sum, &mut self.records, *revision);
        let mut stopped = None;
        let lower = match after.take() {
            Some(key) => Bound::Excluded(key),
            None => Bound::Included(bounds.start.to_vec()),
        };
        let lower = lower.as_ref().map(|key| &key[..]);
        keys.index.walk(&keys.log, lower, bounds.upper(), |slot| {
            *fuel = fuel.saturating_sub(1);
            let key = keys.log.key(slot.position());
            if keys.is_removed_at(slot, revision) {
                *sum = sum.wrapping_add(hash::removal(revision, key));
                *records += 1;
            }
            if *fuel == 0 {
                stopped = Some(key.to_vec());
            }
            stopped.is_none()
        });
        *after = stopped;
        after.is_none()
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
