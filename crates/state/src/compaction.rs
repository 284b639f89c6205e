//! Freeing what compaction made unreadable: chunk by chunk, in slices, behind everybody's back.
//!
//! A chunk wholly below the compacted revision of which a good part is garbage is emptied: what is still readable moves to a settled chunk,
//! the rest is forgotten, the chunk is freed. Moving a record means that whoever points at it learns its new place: the index, or the key's
//! next record.

use crate::index::Slot;
use crate::kv::Keys;
use crate::revision_log::{ChunkId, Position};
use crate::{Budget, State};

/// A chunk is emptied if at least this part of it is garbage.
const GARBAGE_PARTS: usize = 3;

/// Bytes that cost as much to move as one more record.
const BYTES_PER_UNIT: u64 = 4096;

/// How far the freeing has come.
#[derive(Default)]
pub(crate) struct Reclaim {
    /// The compaction that has been worked off, or is at work.
    compacted: i64,
    at: Option<Cursor>,
}

struct Cursor {
    chunk: ChunkId,
    stage: Stage,
}

enum Stage {
    /// Looks whether the chunk is worth it: where it is, and garbage so far.
    Weigh { offset: usize, garbage: usize },
    /// Empties it.
    Empty {
        offset: usize,
        search: Option<Position>,
    },
}

impl State {
    pub(crate) fn reclaim_step(&mut self, budget: Budget) -> bool {
        let mut fuel = budget.0.max(1);
        // A command at work may have written what only its end makes true.
        if self.work.is_none() && !self.pins.reading_leases() {
            while fuel > 0 {
                let view = self.keys.present();
                let (keys, leases) = (&self.keys, &mut self.leases);
                if !leases.sweep(|lease, key| {
                    keys.get(key, &view)
                        .is_some_and(|record| record.lease == lease)
                }) {
                    break;
                }
                fuel -= 1;
            }
        }
        if fuel == 0 {
            return true;
        }
        if self.pins.walking() {
            return false;
        }
        let readable = self
            .visible
            .compacted
            .min(self.pins.oldest().unwrap_or(i64::MAX));
        let compacted = mutated!(CompactionFreesReadable, readable + 1, readable);
        if self.reclaim.at.is_none() {
            if compacted <= self.reclaim.compacted {
                return false;
            }
            self.reclaim = Reclaim {
                compacted,
                at: Some(Cursor {
                    chunk: ChunkId::Settled(0),
                    stage: Stage::Weigh {
                        offset: 0,
                        garbage: 0,
                    },
                }),
            };
        }
        // A reader that came since may need what this pass would free.
        if compacted < self.reclaim.compacted {
            return false;
        }
        while fuel > 0 {
            fuel -= 1;
            if !self.reclaim.step(&mut self.keys, &mut fuel) {
                return false;
            }
        }
        true
    }
}

impl Reclaim {
    /// Works on one chunk; false when all are done.
    fn step(&mut self, keys: &mut Keys, fuel: &mut u64) -> bool {
        let Some(mut cursor) = self.at.take() else {
            return false;
        };
        match cursor.stage {
            Stage::Weigh { offset, garbage } => {
                let Some((id, chunk)) = keys.log.chunk_from(cursor.chunk) else {
                    return false;
                };
                let (mut offset, mut garbage) = if id == cursor.chunk {
                    (offset, garbage)
                } else {
                    (0, 0)
                };
                cursor.chunk = id;
                if matches!(id, ChunkId::Log(_)) && chunk.last_revision() >= self.compacted {
                    return false;
                }
                let must_move = matches!(id, ChunkId::Log(_)) && keys.log.is_sparse();
                let worth = |bytes: usize| must_move || bytes * GARBAGE_PARTS >= chunk.length();
                let mut done = keys.log.is_open(id) || !worth(chunk.replaced());
                while !done && *fuel > 0 {
                    let record = chunk.record(offset);
                    *fuel = fuel.saturating_sub(1);
                    offset += record.length;
                    garbage += if record.retained(self.compacted) {
                        0
                    } else {
                        record.length
                    };
                    done = offset >= chunk.length();
                }
                cursor.stage = Stage::Weigh { offset, garbage };
                if done && worth(garbage) && !keys.log.is_open(id) {
                    cursor.stage = Stage::Empty {
                        offset: 0,
                        search: None,
                    };
                } else if done {
                    cursor = Cursor {
                        chunk: id.next(),
                        stage: Stage::Weigh {
                            offset: 0,
                            garbage: 0,
                        },
                    };
                }
            }
            Stage::Empty { offset, search } => {
                let (_, chunk) = keys
                    .log
                    .chunk_from(cursor.chunk)
                    .expect("the chunk at work is there");
                if offset >= chunk.length() {
                    keys.log.free_chunk(cursor.chunk);
                    cursor = Cursor {
                        chunk: cursor.chunk.next(),
                        stage: Stage::Weigh {
                            offset: 0,
                            garbage: 0,
                        },
                    };
                } else {
                    let length = chunk.record(offset).length;
                    let next = offset + length;
                    *fuel = fuel.saturating_sub(length as u64 / BYTES_PER_UNIT);
                    let search = empty_one(
                        keys,
                        keys.log.position(cursor.chunk, offset),
                        self.compacted,
                        search,
                        fuel,
                    );
                    cursor.stage = Stage::Empty {
                        offset: if search.is_some() { offset } else { next },
                        search,
                    };
                }
            }
        }
        self.at = Some(cursor);
        true
    }
}

/// Moves or forgets one record. Gives where to go on looking for the key's next record, if the fuel ran out before it was found.
fn empty_one(
    keys: &mut Keys,
    at: Position,
    compacted: i64,
    search: Option<Position>,
    fuel: &mut u64,
) -> Option<Position> {
    let record = keys.log.record(at);
    let retained = record.retained(compacted);
    if record.moved || (!retained && !record.deleted) {
        // A version that was replaced and is no longer readable: nobody looks behind the record that replaced it.
        return None;
    }
    let slot = keys.index.get(&keys.log, record.key);
    let newest = slot.is_some_and(|slot| slot.position() == at);
    // Only versions replaced after the compacted revision, and removals, are looked for from newer records.
    let follower = if newest || (!retained && record.superseded <= compacted) {
        None
    } else {
        match find_follower(keys, at, search.or(slot.map(Slot::position)), fuel) {
            Ok(follower) => follower,
            Err(further) => return Some(further),
        }
    };
    let record = keys.log.record(at);
    if !retained {
        let key = record.key.to_vec();
        if newest {
            keys.index.remove(&keys.log, &key);
        } else if let Some(follower) = follower {
            keys.log.set_previous(follower, None);
        }
        return None;
    }
    let (key, value) = (record.key.to_vec(), record.value.to_vec());
    let renewed = crate::record::NewRecord {
        key: &key,
        value: &value,
        ..record.renewed()
    };
    let moved = keys.log.settle(&renewed);
    keys.log.mark_moved(at);
    if newest {
        keys.index
            .upsert(&mut keys.log, &key, |_, _| Slot::new(moved, false));
    } else {
        keys.log.set_previous(
            follower.expect("a replaced version has a follower"),
            Some(moved),
        );
    }
    None
}

/// The record whose predecessor lies at `at`, looking back from `from`.
fn find_follower(
    keys: &Keys,
    at: Position,
    from: Option<Position>,
    fuel: &mut u64,
) -> Result<Option<Position>, Position> {
    let Some(mut position) = from else {
        return Ok(None);
    };
    loop {
        match keys.log.record(position).previous {
            Some(previous) if previous == at => return Ok(Some(position)),
            Some(previous) => position = previous,
            None => return Ok(None),
        }
        *fuel = fuel.saturating_sub(1);
        if *fuel == 0 {
            return Err(position);
        }
    }
}
