//! Files for segments to come: zeroed ahead and recycled, because overwriting blocks that exist needs no journal commit per sync.
//!
//! The *ready* file is the reserve for a full disk: it exists, whole and named, before the segment in use is full. A file goes by one of three
//! names: `blank-` while it is being filled with zeros, `spare-` when it waits, `log-` when it is ready or in use.

use crate::sector::SECTOR_BYTES;
use crate::segment::{blank_name, file_name, spare_name};
use crate::{Disk, DiskError, DiskFile};

/// Spare files kept at most; more are removed.
const SPARES_MAX: usize = 16;
/// Zeros written in one call.
const ZEROS_BYTES: usize = 256 << 10;
/// A file is synced each time this much of it was filled, so that no sync takes long.
const FILL_SYNC_BYTES: u64 = 1 << 20;

/// A file under its `log-` name, durable, with nothing of its generation in it.
pub struct ReadyFile<D: Disk> {
    /// The generation it was named for: higher than any before.
    pub generation: u64,
    /// Its length.
    pub sectors: u64,
    /// The file.
    pub file: D::File,
}

struct Filling<D: Disk> {
    generation: u64,
    sectors: u64,
    file: D::File,
    bytes: u64,
}

/// The files for segments to come.
pub struct Pool<D: Disk> {
    disk: D,
    segment_sectors: u64,
    generation_next: u64,
    ready: Option<ReadyFile<D>>,
    filling: Option<Filling<D>>,
    spares: Vec<(u64, u64)>,
    zeros: Vec<u8>,
}

impl<D: Disk> Pool<D> {
    /// A pool without files. `generation_next` must be higher than any generation in the directory, in names and in sectors.
    pub fn new(disk: D, segment_sectors: u64, generation_next: u64) -> Pool<D> {
        Pool {
            disk,
            segment_sectors,
            generation_next,
            ready: None,
            filling: None,
            spares: Vec::new(),
            zeros: Vec::new(),
        }
    }

    /// Whether the reserve exists.
    pub fn is_ready(&self) -> bool {
        self.ready.is_some()
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
        if let Some(file) = self.name_spare(sectors_min)? {
            return Ok(file);
        }
        if sectors_min <= self.segment_sectors {
            return self.fill_whole(self.segment_sectors);
        }
        self.abandon_filling();
        self.fill_whole(sectors_min)
    }

    /// Makes a file of just this length, for a disk without room for a whole one.
    ///
    /// # Errors
    /// The disk failed.
    pub fn take_short(&mut self, sectors: u64) -> Result<ReadyFile<D>, DiskError> {
        self.abandon_filling();
        self.fill_whole(sectors)
    }

    /// Takes back a file that no segment lives in any more.
    pub fn recycle(&mut self, generation: u64, sectors: u64) {
        let (from, to) = (
            file_name(generation, sectors),
            spare_name(generation, sectors),
        );
        let keep = sectors == self.segment_sectors && self.spares.len() < SPARES_MAX;
        // A failure leaves a dead file behind, which the next start finds.
        if keep && self.disk.rename(&from, &to).is_ok() {
            self.spares.push((generation, sectors));
        } else {
            let _dead_file_stays = self.disk.remove(&from);
        }
    }

    /// Removes a file whose first write failed: nothing in it counts.
    pub fn discard(&mut self, generation: u64, sectors: u64) {
        let _dead_file_stays = self.disk.remove(&file_name(generation, sectors));
    }

    /// Takes over a file found under its spare name.
    pub fn adopt_spare(&mut self, generation: u64, sectors: u64) {
        if sectors == self.segment_sectors && self.spares.len() < SPARES_MAX {
            self.spares.push((generation, sectors));
        } else {
            let _dead_file_stays = self.disk.remove(&spare_name(generation, sectors));
        }
    }

    /// Makes the reserve, at once.
    ///
    /// # Errors
    /// The disk failed or is full; there is no reserve.
    pub fn prepare(&mut self) -> Result<(), DiskError> {
        if self.ready.is_none() {
            let ready = match self.name_spare(1)? {
                Some(ready) => ready,
                None => self.fill_whole(self.segment_sectors)?,
            };
            self.ready = Some(ready);
        }
        Ok(())
    }

    /// Goes on making the reserve, by about `bytes` of zeros. Fails in silence: [`Pool::is_ready`] tells, and a later call tries again.
    pub fn step(&mut self, bytes: u64) {
        if self.ready.is_some() {
            return;
        }
        match self.name_spare(1) {
            Ok(Some(ready)) => {
                self.ready = Some(ready);
                return;
            }
            Ok(None) => {}
            Err(_) => return,
        }
        if self.filling.is_none() {
            let needed = self.segment_sectors * SECTOR_BYTES as u64;
            let room = self.disk.free_bytes().is_ok_and(|free| free >= needed);
            if !room || self.begin_filling(self.segment_sectors).is_err() {
                return;
            }
        }
        match self.fill(bytes.max(ZEROS_BYTES as u64)) {
            Ok(ready) => self.ready = ready,
            Err(_) => self.abandon_filling(),
        }
    }

    fn name_spare(&mut self, sectors_min: u64) -> Result<Option<ReadyFile<D>>, DiskError> {
        let Some(at) = self
            .spares
            .iter()
            .position(|(_, sectors)| *sectors >= sectors_min)
        else {
            return Ok(None);
        };
        let (old, sectors) = self.spares.swap_remove(at);
        self.name(&spare_name(old, sectors), sectors).map(Some)
    }

    /// Gives a whole file its `log-` name, under a new generation.
    fn name(&mut self, from: &str, sectors: u64) -> Result<ReadyFile<D>, DiskError> {
        let generation = self.generation_next;
        self.generation_next += 1;
        let name = file_name(generation, sectors);
        self.disk.rename(from, &name)?;
        self.disk.sync_directory()?;
        let file = self.disk.open(&name)?;
        Ok(ReadyFile {
            generation,
            sectors,
            file,
        })
    }

    fn begin_filling(&mut self, sectors: u64) -> Result<(), DiskError> {
        let generation = self.generation_next;
        self.generation_next += 1;
        let file = self.disk.create(&blank_name(generation, sectors))?;
        self.filling = Some(Filling {
            generation,
            sectors,
            file,
            bytes: 0,
        });
        Ok(())
    }

    /// Writes zeros for about `budget` bytes; gives the file when it is full.
    fn fill(&mut self, budget: u64) -> Result<Option<ReadyFile<D>>, DiskError> {
        let Some(filling) = &mut self.filling else {
            return Ok(None);
        };
        self.zeros.resize(ZEROS_BYTES, 0);
        let length = filling.sectors * SECTOR_BYTES as u64;
        let end = length.min(filling.bytes.saturating_add(budget));
        while filling.bytes < end {
            let piece = (ZEROS_BYTES as u64).min(length - filling.bytes);
            filling
                .file
                .write_at(filling.bytes, &self.zeros[..piece as usize])?;
            let before = filling.bytes;
            filling.bytes += piece;
            if before / FILL_SYNC_BYTES != filling.bytes / FILL_SYNC_BYTES
                || filling.bytes == length
            {
                filling.file.sync()?;
            }
        }
        if filling.bytes < length {
            return Ok(None);
        }
        let (generation, sectors) = (filling.generation, filling.sectors);
        self.filling = None;
        self.name(&blank_name(generation, sectors), sectors)
            .map(Some)
    }

    fn fill_whole(&mut self, sectors: u64) -> Result<ReadyFile<D>, DiskError> {
        if self.filling.is_none() {
            self.begin_filling(sectors)?;
        }
        match self.fill(u64::MAX) {
            Ok(ready) => Ok(ready.expect("a file filled to its end")),
            Err(error) => {
                self.abandon_filling();
                Err(error)
            }
        }
    }

    fn abandon_filling(&mut self) {
        if let Some(filling) = self.filling.take() {
            let _dead_file_stays = self
                .disk
                .remove(&blank_name(filling.generation, filling.sectors));
        }
    }
}
