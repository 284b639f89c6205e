//! Files for segments to come: zeroed ahead and recycled, because overwriting blocks that exist needs no journal commit per sync.
//!
//! The *ready* file is the reserve for a full disk: it exists, whole and named, before the segment in use is full. A file goes by one of three
//! names: `blank-` while it is being filled with zeros, `spare-` when it waits, `log-` when it is ready or in use.
//!
//! A new file is filled with zeros, a recycled one is read through and its damaged sectors zeroed: so that old damage is not taken for damage of
//! what will be written there, and so that its pages are in the cache when sectors of them are overwritten. Both in slices, a little with each sync.

use crate::sector::{SECTOR_BYTES, Sector, parse};
use crate::segment::{blank_name, file_name, spare_name};
use crate::wal::Segment;
use crate::{Disk, DiskError, DiskFile, directory};

/// Spare files kept at most; more are removed.
const SPARES_MAX: usize = 16;
/// Bytes zeroed or read in one call.
const SLICE_BYTES: usize = 64 << 10;
/// A file is synced each time this much of it was zeroed, so that no sync takes long.
const SYNC_BYTES: u64 = 1 << 20;

/// A file under its `log-` name, durable, with nothing of its generation in it.
pub struct ReadyFile<D: Disk> {
    /// The generation it was named for: higher than any before.
    pub generation: u64,
    /// Its length.
    pub sectors: u64,
    /// The file.
    pub file: D::File,
}

/// A file being made ready.
struct Preparation<D: Disk> {
    name: String,
    sectors: u64,
    file: D::File,
    /// It had a life before, and is read through; otherwise it is filled with zeros.
    recycled: bool,
    /// How far.
    bytes: u64,
    /// Bytes written since the last sync.
    unsynced: u64,
    /// What is read or written in one call.
    slice: Vec<u8>,
}

/// The files for segments to come.
pub struct Pool<D: Disk> {
    disk: D,
    segment_sectors: u64,
    generation_next: u64,
    ready: Option<ReadyFile<D>>,
    preparation: Option<Preparation<D>>,
    spares: Vec<(u64, u64)>,
}

impl<D: Disk> Pool<D> {
    /// A pool without files. `generation_next` must be higher than any generation in the directory, in names and in sectors.
    pub fn new(disk: D, segment_sectors: u64, generation_next: u64) -> Pool<D> {
        Pool {
            disk,
            segment_sectors,
            generation_next,
            ready: None,
            preparation: None,
            spares: Vec::new(),
        }
    }

    /// Whether the reserve exists, or is being made.
    pub fn has_reserve(&self) -> bool {
        self.ready.is_some() || self.preparation.is_some()
    }

    /// Takes a file of at least this length for the next segment: the reserve if it exists.
    ///
    /// # Errors
    /// There is none, and none could be made.
    pub fn take(&mut self, sectors_min: u64) -> Result<ReadyFile<D>, DiskError> {
        if let Some(ready) = self.ready.take() {
            if ready.sectors >= sectors_min {
                return Ok(ready);
            }
            // Generations must rise in the order of use, so a file that is passed over loses its own.
            self.recycle(ready.generation, ready.sectors);
        }
        self.prepare_whole(sectors_min.max(self.segment_sectors))
    }

    /// Makes a file of just this length, for a disk without room for a whole one.
    ///
    /// # Errors
    /// The disk failed.
    pub fn take_short(&mut self, sectors: u64) -> Result<ReadyFile<D>, DiskError> {
        self.prepare_whole(sectors)
    }

    /// Takes back a file that no segment lives in any more.
    pub fn recycle(&mut self, generation: u64, sectors: u64) {
        let (from, to) = (
            file_name(generation, sectors),
            spare_name(generation, sectors),
        );
        // A failure leaves a dead file behind, which the next start finds.
        if self.is_useful(&from, sectors) && self.disk.rename(&from, &to).is_ok() {
            self.spares.push((generation, sectors));
        } else {
            let _dead_file_stays = self.disk.remove(&from);
        }
    }

    /// A file to keep for later. It may be shorter than its name says.
    fn is_useful(&mut self, name: &str, sectors: u64) -> bool {
        let wanted = sectors == self.segment_sectors && self.spares.len() < SPARES_MAX;
        wanted
            && self.disk.open(name).and_then(|mut file| file.len())
                == Ok(sectors * SECTOR_BYTES as u64)
    }

    /// Removes a file in which nothing counts: its first write failed, or it is damaged.
    pub fn discard(&mut self, generation: u64, sectors: u64) {
        let _dead_file_stays = self.disk.remove(&file_name(generation, sectors));
    }

    /// Sets a damaged file aside; gives its new name.
    ///
    /// # Errors
    /// The disk failed; the file stands where it was.
    pub fn quarantine(&mut self, name: &str) -> Result<String, DiskError> {
        directory::quarantine(&mut self.disk, name)
    }

    /// Gives back the space behind the last batch of a segment that is written to no more. Its name says the new length first, so that it never
    /// looks cut.
    ///
    /// # Errors
    /// The disk failed.
    pub fn trim(&mut self, segment: &mut Segment<D>) -> Result<(), DiskError> {
        if segment.sectors_used < segment.sectors {
            let (from, to) = (
                file_name(segment.generation, segment.sectors),
                file_name(segment.generation, segment.sectors_used),
            );
            self.disk.rename(&from, &to)?;
            segment.sectors = segment.sectors_used;
            self.disk.sync_directory()?;
            segment
                .file
                .set_len(segment.sectors * SECTOR_BYTES as u64)?;
            segment.file.sync()?;
        }
        Ok(())
    }

    /// Removes the files that wait to be used again; the reserve stays.
    pub fn drop_spares(&mut self) {
        for (generation, sectors) in std::mem::take(&mut self.spares) {
            let _dead_file_stays = self.disk.remove(&spare_name(generation, sectors));
        }
    }

    /// Takes over a file found under its spare name.
    pub fn adopt_spare(&mut self, generation: u64, sectors: u64) {
        let name = spare_name(generation, sectors);
        if self.is_useful(&name, sectors) {
            self.spares.push((generation, sectors));
        } else {
            let _dead_file_stays = self.disk.remove(&name);
        }
    }

    /// Makes the reserve, at once.
    ///
    /// # Errors
    /// The disk failed or is full; there is no reserve.
    pub fn prepare(&mut self) -> Result<(), DiskError> {
        if self.ready.is_none() {
            self.ready = Some(self.prepare_whole(self.segment_sectors)?);
        }
        Ok(())
    }

    /// Goes on making the reserve, by about `bytes`. Fails in silence: [`Pool::has_reserve`] tells, and a later call tries again.
    pub fn step(&mut self, bytes: u64) {
        if self.ready.is_some() {
            return;
        }
        if self.begin(self.segment_sectors).is_err() {
            return;
        }
        match self.advance(bytes.max(SLICE_BYTES as u64)) {
            Ok(ready) => self.ready = ready,
            Err(_) => self.abandon(),
        }
    }

    fn prepare_whole(&mut self, sectors: u64) -> Result<ReadyFile<D>, DiskError> {
        self.begin(sectors)?;
        match self.advance(u64::MAX) {
            Ok(ready) => Ok(ready.expect("a file prepared to its end")),
            Err(error) => {
                self.abandon();
                Err(error)
            }
        }
    }

    /// Begins to prepare a file of this length, unless one is being prepared already.
    fn begin(&mut self, sectors: u64) -> Result<(), DiskError> {
        if self
            .preparation
            .as_ref()
            .is_some_and(|preparation| preparation.sectors == sectors)
        {
            return Ok(());
        }
        self.abandon();
        let spare = self
            .spares
            .iter()
            .position(|(_, spare)| *spare == sectors)
            .map(|at| self.spares.swap_remove(at));
        let (name, file) = match spare {
            Some((generation, sectors)) => {
                let name = spare_name(generation, sectors);
                let file = self.disk.open(&name)?;
                (name, file)
            }
            None => {
                if self.disk.free_bytes()? < sectors * SECTOR_BYTES as u64 {
                    return Err(DiskError::Full);
                }
                let name = blank_name(self.generation_next, sectors);
                self.generation_next += 1;
                let file = self.disk.create(&name)?;
                (name, file)
            }
        };
        self.preparation = Some(Preparation {
            name,
            sectors,
            file,
            recycled: spare.is_some(),
            bytes: 0,
            unsynced: 0,
            slice: Vec::new(),
        });
        Ok(())
    }

    /// Goes on with the preparation by about `budget` bytes; gives the file when it is done.
    fn advance(&mut self, budget: u64) -> Result<Option<ReadyFile<D>>, DiskError> {
        let Some(preparation) = &mut self.preparation else {
            return Ok(None);
        };
        let length = preparation.sectors * SECTOR_BYTES as u64;
        let end = length.min(preparation.bytes.saturating_add(budget));
        while preparation.bytes < end {
            preparation.advance((SLICE_BYTES as u64).min(length - preparation.bytes))?;
        }
        if preparation.bytes < length {
            return Ok(None);
        }
        let (generation, sectors) = (self.generation_next, preparation.sectors);
        self.generation_next += 1;
        let name = file_name(generation, sectors);
        self.disk.rename(&preparation.name, &name)?;
        self.preparation = None;
        mutated!(SegmentNameNotDurable, (), self.disk.sync_directory()?);
        let file = self.disk.open(&name)?;
        Ok(Some(ReadyFile {
            generation,
            sectors,
            file,
        }))
    }

    fn abandon(&mut self) {
        if let Some(preparation) = self.preparation.take() {
            let _dead_file_stays = self.disk.remove(&preparation.name);
        }
    }
}

impl<D: Disk> Preparation<D> {
    /// Prepares the next `bytes` of the file.
    fn advance(&mut self, bytes: u64) -> Result<(), DiskError> {
        self.slice.clear();
        self.slice.resize(bytes as usize, 0);
        if self.recycled {
            self.mend()?;
        } else {
            self.file.write_at(self.bytes, &self.slice)?;
            self.unsynced += bytes;
        }
        self.bytes += bytes;
        let done = self.bytes == self.sectors * SECTOR_BYTES as u64;
        if self.unsynced >= SYNC_BYTES || (done && self.unsynced > 0) {
            self.file.sync()?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// Reads sectors and zeroes those that are damaged.
    fn mend(&mut self) -> Result<(), DiskError> {
        let read = self.file.read_at(self.bytes, &mut self.slice)?;
        if read < self.slice.len() {
            return Err(DiskError::Failed(
                "a spare file is shorter than its name says".into(),
            ));
        }
        for (n, sector) in self.slice.chunks(SECTOR_BYTES).enumerate() {
            if parse(sector) == Sector::Damaged {
                self.file
                    .write_at(self.bytes + (n * SECTOR_BYTES) as u64, &[0; SECTOR_BYTES])?;
                self.unsynced += SECTOR_BYTES as u64;
            }
        }
        Ok(())
    }
}
