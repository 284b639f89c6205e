//! Reading entries back: every sector is checked again, and what is damaged is never served.

use crate::index::BatchEffect;
use crate::record::{Record, decode_all};
use crate::sector::SECTOR_BYTES;
use crate::segment::{Batch, NotWhole, batch_at};
use crate::wal::{Segment, Wal};
use crate::{Disk, DiskFile, ReadEntries};
use raft::{Entry, Index, Payload};

/// Sectors read at once, at least.
const WINDOW_SECTORS: u64 = 128;

impl<D: Disk> Wal<D> {
    /// Reads entries from `from` on, about `bytes_max` of payload, at least one.
    pub fn read(&mut self, from: Index, bytes_max: usize) -> ReadEntries {
        match self.read_spans(from.0, bytes_max) {
            // A disk may read well the second time; damage is damage both times.
            Err(_) => match self.read_spans(from.0, bytes_max) {
                Err((generation, what)) => ReadEntries::Damaged(self.note_damage(generation, what)),
                Ok(read) => read,
            },
            Ok(read) => read,
        }
    }

    /// What is asked for, or the segment that is damaged and how. What comes before the damage is served.
    fn read_spans(&mut self, from: u64, bytes_max: usize) -> Result<ReadEntries, (u64, String)> {
        let end = self.readable_end();
        let mut taken = Taken {
            next: from,
            end,
            bytes: 0,
            bytes_max,
            entries: Vec::new(),
        };
        while !taken.is_full() {
            let Some((span, span_end)) = self.index.find(taken.next) else {
                break;
            };
            let segment = self
                .segments
                .iter_mut()
                .find(|segment| segment.generation == span.place.generation);
            let segment = segment.expect("the index names segments of the log");
            let mut window = Window {
                generation: segment.generation,
                segment,
                start: 0,
                image: Vec::new(),
            };
            let (mut sector, mut number) = (span.place.sector, span.place.batch);
            while taken.next < span_end && !taken.is_full() {
                let read = window.batch(sector, number);
                let read = read.and_then(|batch| Ok((live_entries(&batch)?, batch.sectors)));
                let (entries, sectors) = match read {
                    Ok(read) => read,
                    Err(_) if !taken.entries.is_empty() => {
                        return Ok(ReadEntries::Entries(taken.entries));
                    }
                    Err(what) => return Err((span.place.generation, what)),
                };
                taken.take(entries, span_end);
                sector += sectors;
                number += 1;
            }
        }
        Ok(if taken.entries.is_empty() {
            ReadEntries::Absent
        } else {
            ReadEntries::Entries(taken.entries)
        })
    }
}

/// Entries read so far.
struct Taken {
    next: u64,
    end: u64,
    bytes: usize,
    bytes_max: usize,
    entries: Vec<Entry>,
}

impl Taken {
    fn is_full(&self) -> bool {
        self.next >= self.end || (!self.entries.is_empty() && self.bytes >= self.bytes_max)
    }

    fn take(&mut self, entries: Vec<Entry>, span_end: u64) {
        for entry in entries {
            if entry.index.0 != self.next || entry.index.0 >= span_end {
                continue;
            }
            let bytes = match &entry.payload {
                Payload::Batch(bytes) => bytes.len(),
                Payload::Noop | Payload::Configuration(_) => 0,
            };
            if self.is_full() || (!self.entries.is_empty() && self.bytes + bytes > self.bytes_max) {
                self.bytes = self.bytes_max;
                return;
            }
            self.bytes += bytes;
            self.next += 1;
            self.entries.push(entry);
        }
    }
}

/// The entries a batch leaves valid, by itself.
fn live_entries(batch: &Batch) -> Result<Vec<Entry>, String> {
    let parts = batch
        .parts()
        .map_err(|error| format!("batch {}: {error:?}", batch.number))?;
    let mut effect = BatchEffect::default();
    let mut entries: Vec<Entry> = Vec::new();
    decode_all(parts.records, |record| match record {
        Record::Entry(entry) => {
            while entries.last().is_some_and(|last| last.index >= entry.index) {
                entries.pop();
            }
            entries.push(entry);
        }
        Record::Reset(mark) => {
            effect.on_reset(mark.index.0);
            entries.clear();
        }
    })?;
    Ok(entries)
}

/// A sliding view of a segment.
struct Window<'a, D: Disk> {
    segment: &'a mut Segment<D>,
    generation: u64,
    start: u64,
    image: Vec<u8>,
}

impl<D: Disk> Window<'_, D> {
    /// The batch at `sector`.
    fn batch(&mut self, sector: u64, number: u32) -> Result<Batch, String> {
        let held = self.start + (self.image.len() / SECTOR_BYTES) as u64;
        if sector < self.start || sector >= held {
            self.load(sector, WINDOW_SECTORS)?;
        }
        loop {
            match batch_at(&self.image, self.generation, sector - self.start, number) {
                Ok(batch) => return Ok(batch),
                Err(NotWhole::Broken) => {
                    return Err(format!(
                        "segment {:x} is damaged in batch {number} at sector {sector}",
                        self.generation
                    ));
                }
                Err(NotWhole::Ended) => {
                    let held = self.start + (self.image.len() / SECTOR_BYTES) as u64;
                    self.load(sector, 2 * (held - sector).max(WINDOW_SECTORS))?;
                    if self.start + (self.image.len() / SECTOR_BYTES) as u64 <= held {
                        return Err(format!(
                            "segment {:x} ends within batch {number} at sector {sector}",
                            self.generation
                        ));
                    }
                }
            }
        }
    }

    fn load(&mut self, sector: u64, sectors: u64) -> Result<(), String> {
        let sectors = sectors.min(self.segment.sectors_used.saturating_sub(sector));
        self.image.resize(sectors as usize * SECTOR_BYTES, 0);
        self.start = sector;
        let read = self
            .segment
            .file
            .read_at(sector * SECTOR_BYTES as u64, &mut self.image);
        let read =
            read.map_err(|error| format!("segment {:x} cannot be read: {error}", self.generation))?;
        self.image.truncate(read / SECTOR_BYTES * SECTOR_BYTES);
        if self.image.is_empty() {
            return Err(format!(
                "segment {:x} ends before sector {sector}",
                self.generation
            ));
        }
        Ok(())
    }
}
