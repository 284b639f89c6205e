//! The revision log: every record in the order of revisions, in chunks of memory that are filled once.
//!
//! Records that outlive a compaction move to *settled* chunks, which have no order; nothing at or above the compacted revision ever
//! moves, so the log part can be walked in order by whoever watches. A [`Position`] names a record until it is moved.

use crate::record::{self, NewRecord, Record};
use std::collections::VecDeque;

/// Bytes of a chunk; a larger record gets a chunk of its own.
const CHUNK_BYTES: usize = 256 << 10;
/// Freed chunks that the list of chunks may always hold.
const HOLES_MIN: usize = 64;
/// Distance of the marks by which a revision is found inside a chunk.
const MARK_BYTES: usize = 4 << 10;

/// Where a record lies: chunk in the upper half, offset in the lower; bit 62 tells a settled chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position(pub u64);

const SETTLED: u64 = 1 << 62;

impl Position {
    fn new(settled: bool, chunk: u32, offset: usize) -> Position {
        assert!(chunk < 1 << 30, "chunk {chunk} out of range");
        Position(u64::from(chunk) << 32 | offset as u64 | if settled { SETTLED } else { 0 })
    }

    /// It lies in a settled chunk.
    pub fn settled(self) -> bool {
        self.0 & SETTLED != 0
    }

    fn chunk(self) -> u32 {
        ((self.0 & !SETTLED) >> 32) as u32
    }

    fn offset(self) -> usize {
        self.0 as u32 as usize
    }
}

/// A run of records.
pub(crate) struct Chunk {
    bytes: Vec<u8>,
    /// What revisions are counted from: none in it is below.
    base: i64,
    first_revision: i64,
    last_revision: i64,
    /// Bytes of records that were replaced, and of removals: an upper bound of what compaction can free.
    replaced: usize,
    /// `garbage` of the log before the first record (see the field of the log).
    garbage_before: u64,
    marks: Vec<(i64, u32)>,
    /// For the records of one pending removal only.
    reserved: bool,
}

impl Chunk {
    fn new(bytes: usize, base: i64, garbage_before: u64) -> Chunk {
        Chunk {
            bytes: Vec::with_capacity(bytes),
            base,
            first_revision: 0,
            last_revision: 0,
            replaced: 0,
            garbage_before,
            marks: Vec::new(),
            reserved: false,
        }
    }

    /// Gives the offset of the record.
    fn append(&mut self, new: &NewRecord<'_>) -> usize {
        let offset = self.bytes.len();
        if offset == 0 {
            self.first_revision = new.revision;
        }
        if self
            .marks
            .last()
            .is_none_or(|&(_, at)| offset - at as usize >= MARK_BYTES)
        {
            self.marks.push((new.revision, offset as u32));
        }
        self.last_revision = self.last_revision.max(new.revision);
        new.write(&mut self.bytes, self.base);
        offset
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.bytes.len() + bytes <= self.bytes.capacity()
    }

    /// Bytes written.
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Upper bound of the bytes that compaction can free.
    pub fn replaced(&self) -> usize {
        self.replaced
    }

    /// The newest revision in it.
    pub fn last_revision(&self) -> i64 {
        self.last_revision
    }

    /// The record at `offset`.
    pub fn record(&self, offset: usize) -> Record<'_> {
        record::read(&self.bytes, offset, self.base)
    }
}

/// Names a chunk for walks that look at every record once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ChunkId {
    /// By its slot among the settled chunks.
    Settled(u32),
    /// By its number in the log.
    Log(u32),
}

impl ChunkId {
    /// The next one of its kind.
    pub fn next(self) -> ChunkId {
        match self {
            ChunkId::Settled(slot) => ChunkId::Settled(slot + 1),
            ChunkId::Log(number) => ChunkId::Log(number + 1),
        }
    }
}

/// See the module.
pub(crate) struct RevisionLog {
    /// Number of the chunk at the front of `log`.
    first: u32,
    log: VecDeque<Option<Chunk>>,
    /// Bytes of memory in all chunks.
    held: usize,
    /// Chunks of `log` that were freed while older ones stay.
    holes: usize,
    settled: Vec<Option<Chunk>>,
    free: Vec<u32>,
    /// The settled chunk being filled.
    target: Option<u32>,
    /// Bytes that all records up to the end have made superfluous: what a compaction at the newest revision would have freed since the start.
    garbage: u64,
}

impl RevisionLog {
    pub fn new() -> RevisionLog {
        RevisionLog {
            first: 0,
            log: VecDeque::new(),
            held: 0,
            holes: 0,
            settled: Vec::new(),
            free: Vec::new(),
            target: None,
            garbage: 0,
        }
    }

    /// Counts bytes made superfluous by the record just appended.
    pub fn add_garbage(&mut self, bytes: u64) {
        self.garbage += bytes;
    }

    /// Adds a record at the end.
    pub fn append(&mut self, new: &NewRecord<'_>) -> Position {
        let length = new.length_max();
        if !self
            .log
            .back()
            .and_then(Option::as_ref)
            .is_some_and(|chunk| chunk.has_room(length) && !chunk.reserved)
        {
            if let Some(last) = self.log.back().and_then(Option::as_ref) {
                assert!(
                    new.revision >= last.last_revision,
                    "revision {} after {}",
                    new.revision,
                    last.last_revision
                );
            }
            let chunk = Chunk::new(CHUNK_BYTES.max(length), new.revision, self.garbage);
            self.held += chunk.bytes.capacity();
            self.log.push_back(Some(chunk));
        }
        let number = self.first + self.log.len() as u32 - 1;
        let chunk = self
            .log
            .back_mut()
            .and_then(Option::as_mut)
            .expect("the last chunk is there");
        let offset = chunk.append(new);
        if new.deleted {
            chunk.replaced += chunk.bytes.len() - offset;
        }
        Position::new(false, number, offset)
    }

    /// Sets a chunk of `bytes` aside, at the end, for records of a removal at `revision` that are written later. Gives its start.
    pub fn reserve(&mut self, bytes: usize, revision: i64) -> Position {
        let chunk = Chunk {
            first_revision: revision,
            last_revision: revision,
            reserved: true,
            ..Chunk::new(bytes, revision, self.garbage)
        };
        self.held += chunk.bytes.capacity();
        self.log.push_back(Some(chunk));
        Position::new(false, self.first + self.log.len() as u32 - 1, 0)
    }

    /// Adds a removal to the chunk reserved at `start`.
    pub fn append_reserved(&mut self, start: Position, new: &NewRecord<'_>) -> Position {
        let chunk = self.chunk_at_mut(start);
        let capacity = chunk.bytes.capacity();
        let offset = chunk.append(new);
        assert!(
            chunk.reserved
                && chunk.bytes.capacity() == capacity
                && chunk.last_revision == new.revision,
            "a record of revision {} does not belong into the chunk of {capacity} bytes reserved at {start:?}",
            new.revision
        );
        chunk.replaced += chunk.bytes.len() - offset;
        Position::new(false, start.chunk(), offset)
    }

    /// The chunk reserved at `start` is complete; its records made `garbage` bytes superfluous.
    pub fn complete_reserved(&mut self, start: Position, garbage: u64) {
        self.garbage += garbage;
        let behind = (start.chunk() - self.first) as usize + 1;
        for chunk in self.log.iter_mut().skip(behind).flatten() {
            chunk.garbage_before += garbage;
        }
    }

    /// The chunk that begins at `start`, and its length.
    pub fn reserved(&self, start: Position) -> (ChunkId, usize) {
        let chunk = self.chunk_at(start).expect("the chunk is reserved");
        (ChunkId::Log(start.chunk()), chunk.length())
    }

    /// Adds a record that outlives compaction, where order does not matter.
    pub fn settle(&mut self, new: &NewRecord<'_>) -> Position {
        let length = new.length_max();
        let fits =
            |chunk: &Option<Chunk>| chunk.as_ref().is_some_and(|chunk| chunk.has_room(length));
        let target = match self.target {
            Some(target) if fits(&self.settled[target as usize]) => target,
            _ => {
                let chunk = Chunk::new(CHUNK_BYTES.max(length), 0, 0);
                self.held += chunk.bytes.capacity();
                let chunk = Some(chunk);
                let slot = self.free.pop().unwrap_or(self.settled.len() as u32);
                if slot as usize == self.settled.len() {
                    self.settled.push(chunk);
                } else {
                    self.settled[slot as usize] = chunk;
                }
                self.target = Some(slot);
                slot
            }
        };
        let chunk = self.settled[target as usize]
            .as_mut()
            .expect("the target is there");
        let offset = chunk.append(new);
        if new.superseded != record::NEVER {
            chunk.replaced += chunk.bytes.len() - offset;
        }
        Position::new(true, target, offset)
    }

    fn chunk_at(&self, position: Position) -> Option<&Chunk> {
        if position.settled() {
            self.settled.get(position.chunk() as usize)?.as_ref()
        } else {
            self.log
                .get(position.chunk().checked_sub(self.first)? as usize)?
                .as_ref()
        }
    }

    fn chunk_at_mut(&mut self, position: Position) -> &mut Chunk {
        let chunk = if position.settled() {
            self.settled[position.chunk() as usize].as_mut()
        } else {
            self.log[(position.chunk() - self.first) as usize].as_mut()
        };
        chunk.unwrap_or_else(|| panic!("no chunk for {position:?}"))
    }

    /// The record at `position`, which must not have been freed.
    pub fn record(&self, position: Position) -> Record<'_> {
        let chunk = self
            .chunk_at(position)
            .unwrap_or_else(|| panic!("no chunk for {position:?}"));
        chunk.record(position.offset())
    }

    /// The key of the record at `position`.
    pub fn key(&self, position: Position) -> &[u8] {
        let chunk = self
            .chunk_at(position)
            .unwrap_or_else(|| panic!("no chunk for {position:?}"));
        record::key(&chunk.bytes, position.offset())
    }

    /// Notes that the record at `position` was replaced at `revision`. `length` is its [`Record::length`].
    pub fn supersede(
        &mut self,
        position: Position,
        revision: i64,
        length: usize,
        was_deleted: bool,
    ) {
        let chunk = self.chunk_at_mut(position);
        record::supersede(&mut chunk.bytes, position.offset(), revision);
        if !was_deleted {
            chunk.replaced += length;
        }
    }

    /// Points the record at `position` to its predecessor's new place, or to none.
    pub fn set_previous(&mut self, position: Position, previous: Option<Position>) {
        record::set_previous(
            &mut self.chunk_at_mut(position).bytes,
            position.offset(),
            previous,
        );
    }

    /// Marks a record as living elsewhere.
    pub fn mark_moved(&mut self, position: Position) {
        record::mark_moved(&mut self.chunk_at_mut(position).bytes, position.offset());
    }

    /// The first chunk at or after `id`, settled ones first.
    pub fn chunk_from(&self, id: ChunkId) -> Option<(ChunkId, &Chunk)> {
        let mut log_from = self.first;
        match id {
            ChunkId::Settled(slot) => {
                let found = self
                    .settled
                    .iter()
                    .enumerate()
                    .skip(slot as usize)
                    .find_map(|(slot, chunk)| Some((slot, chunk.as_ref()?)));
                if let Some((slot, chunk)) = found {
                    return Some((ChunkId::Settled(slot as u32), chunk));
                }
            }
            ChunkId::Log(number) => log_from = number.max(self.first),
        }
        let skipped = (log_from - self.first) as usize;
        let found = self
            .log
            .iter()
            .enumerate()
            .skip(skipped)
            .find_map(|(at, chunk)| Some((at, chunk.as_ref()?)));
        found.map(|(at, chunk)| (ChunkId::Log(self.first + at as u32), chunk))
    }

    /// The first chunk of the log proper.
    pub fn log_start(&self) -> ChunkId {
        ChunkId::Log(self.first)
    }

    /// The position of an offset in a chunk.
    pub fn position(&self, id: ChunkId, offset: usize) -> Position {
        match id {
            ChunkId::Settled(slot) => Position::new(true, slot, offset),
            ChunkId::Log(number) => Position::new(false, number, offset),
        }
    }

    /// Drops a chunk whose records are all garbage or moved.
    pub fn free_chunk(&mut self, id: ChunkId) {
        match id {
            ChunkId::Settled(slot) => {
                let chunk = self.settled[slot as usize].take();
                self.held -= chunk.map_or(0, |chunk| chunk.bytes.capacity());
                self.free.push(slot);
            }
            ChunkId::Log(number) => {
                let chunk = self.log[(number - self.first) as usize].take();
                self.held -= chunk.map_or(0, |chunk| chunk.bytes.capacity());
                self.holes += 1;
                while self.log.len() > 1 && self.log[0].is_none() {
                    self.log.pop_front();
                    self.first += 1;
                    self.holes -= 1;
                }
            }
        }
    }

    /// Bytes of memory held for records.
    pub fn held(&self) -> usize {
        self.held
    }

    /// So many chunks were freed behind older ones that these should move as well, or the list of chunks would grow for ever.
    pub fn is_sparse(&self) -> bool {
        self.holes > HOLES_MIN && self.holes * 2 > self.log.len()
    }

    /// The chunk being filled by [`RevisionLog::settle`] or [`RevisionLog::append`]: never to be freed.
    pub fn is_open(&self, id: ChunkId) -> bool {
        match id {
            ChunkId::Settled(slot) => self.target == Some(slot),
            ChunkId::Log(number) => number + 1 == self.first + self.log.len() as u32,
        }
    }

    /// Where records appended from now on will lie: all positions before it, and all settled ones, are there already.
    pub fn end(&self) -> Position {
        match self.log.back() {
            Some(Some(chunk)) => Position::new(
                false,
                self.first + self.log.len() as u32 - 1,
                chunk.bytes.len(),
            ),
            _ => Position::new(false, self.first + self.log.len() as u32, 0),
        }
    }

    /// A place in the log not far in front of the first record at or above `revision`.
    pub fn start(&self, revision: i64) -> Position {
        let before = self.log.partition_point(|chunk| {
            chunk
                .as_ref()
                .is_none_or(|chunk| chunk.first_revision < revision)
        });
        let at = before.saturating_sub(1);
        let offset = match self.log.get(at) {
            Some(Some(chunk)) if chunk.last_revision < revision => chunk.bytes.len(),
            Some(Some(chunk)) => {
                let mark = chunk.marks.partition_point(|&(first, _)| first < revision);
                let mark = chunk.marks.get(mark.saturating_sub(1));
                mark.map_or(0, |&(_, offset)| offset as usize)
            }
            _ => 0,
        };
        Position::new(false, self.first + at as u32, offset)
    }

    /// Walks the log in order from a place in it, until `visit` says stop.
    pub fn walk_on<'a>(
        &'a self,
        from: Position,
        mut visit: impl FnMut(Position, Record<'a>) -> bool,
    ) {
        let skipped = (from.chunk() - self.first) as usize;
        let mut offset = from.offset();
        for (number, chunk) in (from.chunk()..).zip(self.log.iter().skip(skipped)) {
            let Some(chunk) = chunk else { continue };
            while offset < chunk.bytes.len() {
                let record = chunk.record(offset);
                if !visit(Position::new(false, number, offset), record) {
                    return;
                }
                offset += record.length;
            }
            offset = 0;
        }
    }

    /// Walks the log in order from the first record at or above `revision`, until `visit` says stop.
    pub fn walk<'a>(&'a self, revision: i64, mut visit: impl FnMut(Record<'a>) -> bool) {
        self.walk_on(self.start(revision), |_, record| {
            record.revision < revision || visit(record)
        });
    }

    /// Superfluous bytes as they were right after the last record at or below `revision`; `known` is that of an earlier revision,
    /// after which nothing was freed.
    pub fn garbage_at(&self, revision: i64, known: (i64, u64)) -> u64 {
        let after = self.log.partition_point(|chunk| {
            chunk
                .as_ref()
                .is_none_or(|chunk| chunk.first_revision <= revision)
        });
        let Some(chunk) = after.checked_sub(1).and_then(|at| self.log[at].as_ref()) else {
            return known.1;
        };
        if chunk.last_revision <= revision {
            // All of it: what the next one began with.
            return match self.log.get(after) {
                Some(Some(next)) => next.garbage_before,
                _ => self.garbage,
            };
        }
        let mut garbage = if chunk.first_revision <= known.0 {
            known.1
        } else {
            chunk.garbage_before
        };
        let mut offset = 0;
        while offset < chunk.bytes.len() {
            let record = chunk.record(offset);
            offset += record.length;
            if record.revision > revision {
                break;
            }
            if record.revision > known.0 {
                garbage += self.made_superfluous(&record);
            }
        }
        garbage
    }

    /// Bytes that `record` made superfluous: the version it replaced, and itself if it is a removal.
    fn made_superfluous(&self, record: &Record<'_>) -> u64 {
        let replaced = if record.deleted || record.version > 1 {
            record
                .previous
                .map_or(0, |previous| self.record(previous).size())
        } else {
            0
        };
        replaced + if record.deleted { record.size() } else { 0 }
    }
}
