//! The write-ahead log: what is queued, the segment being written, the segments behind it.
//!
//! One write and one sync per [`Wal::sync`]. Whatever could not be made durable stays queued in memory; the file it was written to is
//! written to no more, because after a failed sync nobody knows what of it is on the disk.

use crate::index::{BatchEffect, EntryIndex, Place};
use crate::pool::{Pool, ReadyFile};
use crate::record::{encode_entry, encode_reset};
use crate::sector::{SECTOR_BYTES, sectors_for};
use crate::segment::{Header, Point, Standing, encode_batch, file_name, payload_bytes};
use crate::{Damage, Disk, DiskError, DiskFile, StoreError};
use raft::{Index, MemberId, Persist, Term, Vote};
use std::collections::VecDeque;

/// The write buffers are given back above this size once they are empty.
const BUFFER_BYTES_KEPT: usize = 256 << 10;

/// A segment that is part of the log.
pub struct Segment<D: Disk> {
    /// Its generation.
    pub generation: u64,
    /// Length of its file.
    pub sectors: u64,
    /// Sectors with batches that count.
    pub sectors_used: u64,
    /// The highest index of an entry in it that is still valid; 0 without any.
    pub last_entry: u64,
    /// What is wrong with it, once that was found.
    pub damage: Option<String>,
    /// Its file.
    pub file: D::File,
}

/// What was appended since the last good sync.
#[derive(Default)]
struct Queue {
    records: Vec<u8>,
    effect: BatchEffect,
    /// There is something to write, be it only a vote.
    changed: bool,
}

/// The write-ahead log.
pub struct Wal<D: Disk> {
    member: MemberId,
    pub(crate) pool: Pool<D>,
    pub(crate) segments: VecDeque<Segment<D>>,
    pub(crate) index: EntryIndex,
    /// The newest segment may be written to.
    appendable: bool,
    durable: Point,
    standing: Standing,
    queue: Queue,
    frames: Vec<u8>,
    /// Bytes the log ever took.
    position: u64,
    /// What was set aside and not told yet, in words.
    pub(crate) quarantined: Vec<String>,
}

impl<D: Disk> Wal<D> {
    /// A log that goes on at `durable`, in a new segment.
    pub fn new(member: MemberId, pool: Pool<D>, standing: Standing) -> Wal<D> {
        Wal {
            member,
            pool,
            segments: VecDeque::new(),
            index: EntryIndex::new(0),
            appendable: false,
            durable: Point::default(),
            standing,
            queue: Queue::default(),
            frames: Vec::new(),
            position: 0,
            quarantined: Vec::new(),
        }
    }

    /// Takes over what recovery found: segments, their entries, where they end.
    pub fn restore(
        &mut self,
        segments: VecDeque<Segment<D>>,
        index: EntryIndex,
        durable: Point,
        position: u64,
    ) {
        assert!(self.segments.is_empty(), "a log is restored once");
        (self.segments, self.index, self.durable, self.position) =
            (segments, index, durable, position);
    }

    /// Queues records as they were in an earlier segment.
    pub fn append_encoded(&mut self, records: &[u8], effect: BatchEffect) {
        assert!(!self.queue.changed, "records of before come first");
        self.queue.records.extend_from_slice(records);
        self.queue.effect = effect;
        self.queue.changed = true;
    }

    /// Queues a persist.
    pub fn append(&mut self, persist: &Persist) {
        if let Some(vote) = persist.vote {
            let before = self.standing.vote.map_or(vote.term, |before| before.term);
            assert!(
                vote.term >= before,
                "term regression {before} → {}",
                vote.term
            );
            self.standing.vote = Some(vote);
            self.queue.changed = true;
        }
        if let Some(mark) = &persist.reset {
            encode_reset(&mut self.queue.records, mark);
            self.queue.effect.on_reset(mark.index.0);
            self.queue.changed = true;
        }
        self.standing.commit = self.standing.commit.max(persist.commit.0);
        for entry in &persist.entries {
            let last = self.queue.effect.last_after(self.index.last());
            assert!(
                entry.index.0 >= 1 && entry.index.0 <= last + 1,
                "entry {} after {last}",
                entry.index
            );
            encode_entry(&mut self.queue.records, entry);
            assert!(
                self.queue.effect.on_entry(entry.index.0),
                "a gap before entry {}",
                entry.index
            );
            self.queue.changed = true;
        }
    }

    /// The entries that were lost have been made good.
    pub fn clear_entries_lost(&mut self) {
        self.queue.changed |= self.standing.entries_lost;
        self.standing.entries_lost = false;
    }

    /// A new incarnation begins with this log: it has voted for nobody and acknowledged nothing.
    pub fn begin_incarnation(&mut self, term: Term) {
        self.standing.vote = Some(Vote {
            term,
            candidate: None,
        });
        self.standing.entries_lost = false;
        self.queue.changed = true;
    }

    /// Makes what is queued durable.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        if !self.queue.changed {
            return Ok(());
        }
        let bytes = self.write()?;
        self.finish_sync(bytes);
        // Twice as fast as the segment in use fills up.
        self.pool.step(2 * bytes);
        Ok(())
    }

    /// Writes the queue as one batch and syncs it; gives its bytes. After an error it tries once more, with another file.
    fn write(&mut self) -> Result<u64, DiskError> {
        let sectors = sectors_for(payload_bytes(false, self.queue.records.len())) as u64;
        let fits = self
            .segments
            .back()
            .is_some_and(|newest| newest.sectors_used + sectors <= newest.sectors);
        let first = if self.appendable && fits {
            let first = self.write_to_newest();
            self.appendable = first.is_ok();
            first
        } else {
            self.write_to_new()
        };
        match first {
            Err(DiskError::Full) if !fits => Err(DiskError::Full),
            Err(_) => self.write_to_new(),
            Ok(bytes) => Ok(bytes),
        }
    }

    fn write_to_newest(&mut self) -> Result<u64, DiskError> {
        let segment = self.segments.back_mut().expect("there is a newest segment");
        let at = (segment.generation, self.durable.batches);
        self.frames.clear();
        let chain = encode_batch(
            &mut self.frames,
            at,
            None,
            &self.standing,
            self.durable.chain,
            &self.queue.records,
        );
        segment
            .file
            .write_at(segment.sectors_used * SECTOR_BYTES as u64, &self.frames)?;
        mutated!(SyncAgainAfterError, drop(segment.file.sync()));
        let synced = segment.file.sync();
        mutated!(SwallowSyncError, Ok(()), synced)?;
        self.durable = Point {
            chain,
            batches: at.1 + 1,
            ..self.durable
        };
        Ok(self.frames.len() as u64)
    }

    fn write_to_new(&mut self) -> Result<u64, DiskError> {
        let sectors = sectors_for(payload_bytes(true, self.queue.records.len())) as u64;
        let ready = self.pool.take(sectors)?;
        self.begin_segment(ready)
    }

    /// Begins a new segment with what is queued, be it nothing: the end of recovery. If the disk has no room, the first `sealed` segments give back
    /// theirs behind the last batch, and the new one is short.
    pub fn begin(&mut self, sealed: usize) -> Result<(), DiskError> {
        let sectors = sectors_for(payload_bytes(true, self.queue.records.len())) as u64;
        let ready = match self.pool.take(sectors) {
            Err(DiskError::Full) => {
                for segment in self.segments.iter_mut().take(sealed) {
                    self.pool.trim(segment)?;
                }
                self.pool.take_short(sectors)?
            }
            taken => taken?,
        };
        let bytes = self.begin_segment(ready)?;
        self.finish_sync(bytes);
        Ok(())
    }

    /// Begins a segment whose first batch is the queue.
    fn begin_segment(&mut self, ready: ReadyFile<D>) -> Result<u64, DiskError> {
        let ReadyFile {
            generation,
            sectors,
            mut file,
        } = ready;
        assert!(
            generation > self.durable.generation,
            "segment {generation} after {}",
            self.durable.generation
        );
        let header = Header {
            member: self.member,
            sectors,
            previous: self.durable,
            base: self.index.last(),
        };
        self.frames.clear();
        let before = self.durable.chain;
        let standing = mutated!(
            NewSegmentForgetsVote,
            Standing {
                vote: Some(raft::Vote::default()),
                ..self.standing
            },
            self.standing
        );
        let chain = encode_batch(
            &mut self.frames,
            (generation, 0),
            Some(&header),
            &standing,
            before,
            &self.queue.records,
        );
        if let Err(error) = file.write_at(0, &self.frames).and_then(|()| file.sync()) {
            self.pool.discard(generation, sectors);
            return Err(error);
        }
        self.durable = Point {
            generation,
            batches: 1,
            chain,
        };
        self.segments.push_back(Segment {
            generation,
            sectors,
            sectors_used: 0,
            last_entry: 0,
            damage: None,
            file,
        });
        self.appendable = true;
        Ok(self.frames.len() as u64)
    }

    /// The queue is durable: it is part of the log now.
    fn finish_sync(&mut self, bytes: u64) {
        let effect = std::mem::take(&mut self.queue.effect);
        self.queue.changed = false;
        self.queue.records.clear();
        self.queue.records.shrink_to(BUFFER_BYTES_KEPT);
        self.frames.shrink_to(BUFFER_BYTES_KEPT);
        let sector = self
            .segments
            .back()
            .expect("a segment was written")
            .sectors_used;
        let place = Place {
            generation: self.durable.generation,
            batch: self.durable.batches - 1,
            sector,
        };
        self.apply(effect, place, bytes);
        if let Some(reset) = effect.reset {
            self.release(Index(reset));
        }
    }

    /// Counts a batch of `bytes` at `place`, which is in the newest segment, as part of the log.
    fn apply(&mut self, effect: BatchEffect, place: Place, bytes: u64) {
        apply_effect(
            &mut self.index,
            &mut self.segments,
            effect,
            place,
            self.position,
        );
        self.position += bytes;
        self.segments
            .back_mut()
            .expect("a segment was written")
            .sectors_used += bytes / SECTOR_BYTES as u64;
    }

    /// Forgets entries up to `upto` with the segments that hold nothing else. A durable snapshot covers them.
    pub fn release(&mut self, upto: Index) {
        while self.segments.len() > 1 && self.segments[0].last_entry <= upto.0 {
            let segment = self.segments.pop_front().expect("there are two");
            self.index.release_before(self.segments[0].generation);
            match segment.damage {
                Some(damage) => self.quarantine(segment.generation, segment.sectors, &damage),
                None => self.pool.recycle(segment.generation, segment.sectors),
            }
        }
    }

    /// Sets a damaged segment aside that is part of the log no longer.
    fn quarantine(&mut self, generation: u64, sectors: u64, damage: &str) {
        let name = file_name(generation, sectors);
        let told = match self.pool.quarantine(&name) {
            Ok(aside) => format!("'{name}' was set aside as '{aside}': {damage}"),
            // It stays under its name until the next start, which finds it off the chain.
            Err(error) => format!("'{name}' could not be set aside ({error}): {damage}"),
        };
        self.quarantined.push(told);
    }

    /// Notes damage in a segment and tells what it means. The segment is written to no more.
    pub fn note_damage(&mut self, generation: u64, what: String) -> Damage {
        let newest = self.segments.back().map(|newest| newest.generation);
        let damaged = self
            .segments
            .iter_mut()
            .find(|segment| segment.generation == generation)
            .expect("damage is found in a segment of the log");
        let is_news = damaged.damage.is_none();
        let what = damaged.damage.get_or_insert(what).clone();
        let through = Index(damaged.last_entry);
        if newest == Some(generation) {
            self.appendable = false;
        }
        Damage {
            through,
            what,
            is_news,
        }
    }

    /// Bytes of batches with entries after `index`.
    pub fn bytes_after(&self, index: Index) -> u64 {
        let first = (index.0 + 1).max(self.index.base() + 1);
        self.index
            .position(first)
            .map_or(0, |position| self.position - position)
    }

    /// The entries that may be read: up to this index, exclusively. What is queued may void the others.
    pub fn readable_end(&self) -> u64 {
        let effect = &self.queue.effect;
        let end = self.index.last() + 1;
        match (effect.reset, effect.run) {
            (Some(_), _) => 0,
            (None, Some((first, _))) => first.min(end),
            (None, None) => end,
        }
    }
}

/// Counts the effect of a batch at `place` in the newest of `segments`.
pub fn apply_effect<D: Disk>(
    index: &mut EntryIndex,
    segments: &mut VecDeque<Segment<D>>,
    effect: BatchEffect,
    place: Place,
    position: u64,
) {
    let void_from = match (effect.reset, effect.run) {
        (Some(_), _) => Some(0),
        (None, Some((first, _))) if first <= index.last() => Some(first),
        _ => None,
    };
    if let Some(from) = void_from {
        for segment in segments.iter_mut() {
            segment.last_entry = segment.last_entry.min(from.saturating_sub(1));
        }
    }
    if let Some(reset) = effect.reset {
        index.reset(reset);
    }
    if let Some((first, last)) = effect.run {
        index.insert(first, last, place, position);
        let segment = segments.back_mut().expect("a segment holds the batch");
        assert!(
            segment.generation == place.generation,
            "a batch of {} in segment {}",
            place.generation,
            segment.generation
        );
        segment.last_entry = last;
    }
}

impl From<DiskError> for StoreError {
    fn from(error: DiskError) -> StoreError {
        match error {
            DiskError::Full => StoreError::Full,
            other => StoreError::Failed(other),
        }
    }
}
