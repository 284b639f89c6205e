//! A disk in memory that forgets what was not synced: for tests and for the simulator.
//!
//! Each member has one [`Platter`]; a process sees it through [`MemoryDisk`] handles. A process crash keeps the cache. A power loss leaves each
//! unsynced 512-byte sector old or new (never mixed: the log's stated assumption) and keeps a prefix of the unsynced directory
//! operations, as a journalling file system does. A *fuse* stops a process in the middle of its disk operations.

use crate::{Disk, DiskError, DiskFile};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Bytes that are written together or not at all.
pub const SECTOR_BYTES: usize = 512;

/// Room on a disk, unless a fault says otherwise.
pub const CAPACITY_BYTES: u64 = 1 << 40;

type Inode = u64;

/// The chance of a power loss: splitmix64 (Steele, Lea, Flood).
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    fn coin(&mut self) -> bool {
        self.next() >> 63 == 1
    }
}

/// How much of what was not synced survives a power loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// Nothing.
    Nothing,
    /// Everything: the loss came just after the disk wrote its cache out.
    Everything,
    /// Each sector by the toss of a coin.
    Coin,
}

/// One member's disk, shared by the handles of its processes.
#[derive(Clone)]
pub struct Platter(Rc<RefCell<State>>);

struct State {
    files: BTreeMap<Inode, FileState>,
    /// The directory as a process sees it.
    directory: BTreeMap<String, Inode>,
    /// The directory after the last sync of it.
    directory_durable: BTreeMap<String, Inode>,
    /// What was done to it since.
    directory_pending: Vec<DirectoryChange>,
    next_inode: Inode,
    /// A bit was flipped.
    damaged: bool,
    /// The process that may use the disk; handles of earlier ones are dead.
    process: u64,
    locked: bool,
    fuse: Option<u64>,
    /// What of the unsynced survives if the power goes with the fuse; `None`: only the process dies.
    fuse_survival: Option<Survival>,
    burned: bool,
    sync_errors: u32,
    write_errors: u32,
    read_errors: u32,
    capacity_bytes: u64,
    rng: Rng,
    counts: DiskCounts,
}

/// What a disk was asked to do so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounts {
    /// Writes.
    pub writes: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Syncs of files.
    pub syncs: u64,
    /// Power losses survived.
    pub power_losses: u64,
}

#[derive(Clone)]
enum DirectoryChange {
    Link(String, Inode),
    Unlink(String),
    Rename(String, String),
}

/// What a sector held before it was written; `None`: zeros, as most do.
type Before = Option<Box<[u8; SECTOR_BYTES]>>;

#[derive(Default)]
struct FileState {
    content: Vec<u8>,
    /// What the sectors written since the last sync held at that sync.
    unsynced: BTreeMap<usize, Before>,
    /// The same for sectors whose sync failed: later syncs do not cover them until they are written again.
    abandoned: BTreeMap<usize, Before>,
    length_durable: usize,
}

impl FileState {
    fn sector(&self, sector: usize) -> Before {
        let start = (sector * SECTOR_BYTES).min(self.content.len());
        let end = (start + SECTOR_BYTES).min(self.content.len());
        let content = &self.content[start..end];
        let is_blank = content.iter().all(|byte| *byte == 0);
        (!is_blank).then(|| {
            let mut bytes = Box::new([0; SECTOR_BYTES]);
            bytes[..content.len()].copy_from_slice(content);
            bytes
        })
    }

    /// Remembers what the sectors of a byte range hold on the medium, before they change in the cache.
    fn touch(&mut self, from: usize, to: usize) {
        for sector in from / SECTOR_BYTES..to.div_ceil(SECTOR_BYTES) {
            if let Some(before) = self.abandoned.remove(&sector) {
                self.unsynced.insert(sector, before);
            } else if !self.unsynced.contains_key(&sector) {
                let before = self.sector(sector);
                self.unsynced.insert(sector, before);
            }
        }
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        self.touch(offset.min(self.content.len()), end);
        if self.content.len() < end {
            self.content.resize(end, 0);
        }
        self.content[offset..end].copy_from_slice(bytes);
    }

    fn set_len(&mut self, length: usize) {
        let (low, high) = (
            length.min(self.content.len()),
            length.max(self.content.len()),
        );
        self.touch(low, high);
        self.content.resize(length, 0);
    }

    fn sync(&mut self) {
        self.unsynced.clear();
        self.length_durable = self.content.len();
    }

    fn lose_power(&mut self, survival: Survival, rng: &mut Rng) {
        let keep = |rng: &mut Rng| match survival {
            Survival::Nothing => false,
            Survival::Everything => true,
            Survival::Coin => rng.coin(),
        };
        let length = if keep(rng) {
            self.content.len()
        } else {
            self.length_durable
        };
        let unsynced = std::mem::take(&mut self.unsynced);
        let abandoned = std::mem::take(&mut self.abandoned);
        for (sector, before) in unsynced.into_iter().chain(abandoned) {
            if !keep(rng) {
                let start = sector * SECTOR_BYTES;
                if self.content.len() < start + SECTOR_BYTES {
                    self.content.resize(start + SECTOR_BYTES, 0);
                }
                let content = &mut self.content[start..start + SECTOR_BYTES];
                match before {
                    Some(before) => content.copy_from_slice(&before[..]),
                    None => content.fill(0),
                }
            }
        }
        self.content.resize(length, 0);
        self.length_durable = length;
    }
}

impl State {
    /// Counts an operation that changes something; the fuse may burn on it.
    fn spend(&mut self, process: u64) -> Result<(), DiskError> {
        self.alive(process)?;
        match &mut self.fuse {
            Some(0) => {
                self.burned = true;
                Err(DiskError::Failed("the process was stopped".into()))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn alive(&self, process: u64) -> Result<(), DiskError> {
        if self.burned || process != self.process {
            return Err(DiskError::Failed("the process was stopped".into()));
        }
        Ok(())
    }

    fn file(&mut self, inode: Inode) -> &mut FileState {
        self.files
            .get_mut(&inode)
            .expect("an open file lives as long as its process")
    }

    fn link(&mut self, change: DirectoryChange) {
        apply_change(&mut self.directory, &change);
        self.directory_pending.push(change);
    }

    fn used_bytes(&self) -> u64 {
        self.files
            .values()
            .map(|file| file.content.len() as u64)
            .sum()
    }

    /// Drops files that no directory names any more.
    fn collect(&mut self) {
        let (now, durable, pending) = (
            &self.directory,
            &self.directory_durable,
            &self.directory_pending,
        );
        self.files.retain(|inode, _| {
            now.values().chain(durable.values()).any(|i| i == inode)
                || pending
                    .iter()
                    .any(|change| matches!(change, DirectoryChange::Link(_, i) if i == inode))
        });
    }
}

fn apply_change(directory: &mut BTreeMap<String, Inode>, change: &DirectoryChange) {
    match change {
        DirectoryChange::Link(name, inode) => {
            directory.insert(name.clone(), *inode);
        }
        DirectoryChange::Unlink(name) => {
            directory.remove(name);
        }
        DirectoryChange::Rename(from, to) => {
            if let Some(inode) = directory.remove(from) {
                directory.insert(to.clone(), inode);
            }
        }
    }
}

impl Platter {
    /// An empty disk.
    pub fn new(seed: u64) -> Platter {
        Platter(Rc::new(RefCell::new(State {
            files: BTreeMap::new(),
            directory: BTreeMap::new(),
            directory_durable: BTreeMap::new(),
            directory_pending: Vec::new(),
            next_inode: 1,
            damaged: false,
            process: 0,
            locked: false,
            fuse: None,
            fuse_survival: None,
            burned: false,
            sync_errors: 0,
            write_errors: 0,
            read_errors: 0,
            capacity_bytes: CAPACITY_BYTES,
            rng: Rng(seed),
            counts: DiskCounts::default(),
        })))
    }

    /// A handle for a newly started process; those of earlier ones are dead from now on.
    pub fn start_process(&self) -> MemoryDisk {
        let mut state = self.0.borrow_mut();
        state.process += 1;
        state.locked = false;
        state.fuse = None;
        state.burned = false;
        state.collect();
        MemoryDisk {
            platter: self.clone(),
            process: state.process,
        }
    }

    /// The process died; what it wrote stays in the cache.
    pub fn crash(&self) {
        let mut state = self.0.borrow_mut();
        state.process += 1;
        state.locked = false;
        state.burned = false;
        state.fuse = None;
    }

    /// The machine lost power.
    pub fn lose_power(&self, survival: Survival) {
        self.crash();
        let mut guard = self.0.borrow_mut();
        let state = &mut *guard;
        state.counts.power_losses += 1;
        for file in state.files.values_mut() {
            file.lose_power(survival, &mut state.rng);
        }
        let pending = std::mem::take(&mut state.directory_pending);
        let kept = match survival {
            Survival::Nothing => 0,
            Survival::Everything => pending.len(),
            Survival::Coin => state.rng.below(pending.len() as u64 + 1) as usize,
        };
        for change in &pending[..kept] {
            apply_change(&mut state.directory_durable, change);
        }
        state.directory = state.directory_durable.clone();
        state.collect();
    }

    /// Stops the process at the operation after the next `operations` that change something; with the power, if `survival` says what
    /// survives of the unsynced.
    pub fn set_fuse(&self, operations: u64, survival: Option<Survival>) {
        let mut state = self.0.borrow_mut();
        state.fuse = Some(operations);
        state.fuse_survival = survival;
    }

    /// What goes with the process when its fuse burns (see [`Platter::set_fuse`]).
    pub fn fuse_survival(&self) -> Option<Survival> {
        self.0.borrow().fuse_survival
    }

    /// No fuse, nothing that fails and room enough from now on.
    pub fn clear_faults(&self) {
        let mut state = self.0.borrow_mut();
        state.fuse = None;
        state.sync_errors = 0;
        state.write_errors = 0;
        state.read_errors = 0;
        state.capacity_bytes = CAPACITY_BYTES;
    }

    /// The fuse has burned: the process is to be taken down.
    pub fn burned(&self) -> bool {
        self.0.borrow().burned
    }

    /// The next `count` syncs fail, and what they should have made durable stays old or new at the next power loss.
    pub fn fail_syncs(&self, count: u32) {
        self.0.borrow_mut().sync_errors = count;
    }

    /// The next `count` writes fail and change nothing.
    pub fn fail_writes(&self, count: u32) {
        self.0.borrow_mut().write_errors = count;
    }

    /// The next `count` reads fail, also of processes yet to start. What is there stays sound; but a file that cannot be read twice in a row counts as
    /// damaged, so the disk is one [that was](Platter::was_damaged) if `count` is more than one.
    pub fn fail_reads(&self, count: u32) {
        let mut state = self.0.borrow_mut();
        state.read_errors = count;
        state.damaged |= count > 1;
    }

    /// Sets the size of the disk; writes that need more are refused as full.
    pub fn set_capacity(&self, bytes: u64) {
        self.0.borrow_mut().capacity_bytes = bytes;
    }

    /// The names of its files, in order.
    pub fn names(&self) -> Vec<String> {
        self.0.borrow().directory.keys().cloned().collect()
    }

    /// Flips one bit of a file, on the medium and in the cache; `false` if there is no such byte.
    pub fn flip_bit(&self, name: &str, offset: u64, bit: u8) -> bool {
        let mut state = self.0.borrow_mut();
        let Some(inode) = state.directory.get(name).copied() else {
            return false;
        };
        match state.file(inode).content.get_mut(offset as usize) {
            Some(byte) => {
                *byte ^= 1 << (bit % 8);
                state.damaged = true;
                true
            }
            None => false,
        }
    }

    /// A bit of it was flipped at some time.
    pub fn was_damaged(&self) -> bool {
        self.0.borrow().damaged
    }

    /// Flips one bit of any file that this concerns, by chance: mostly where something was written, often where it was written last. `false` if there is no
    /// byte.
    pub fn flip_any_bit(&self, concerns: impl Fn(&str) -> bool) -> bool {
        let (name, offset, bit) = {
            let mut guard = self.0.borrow_mut();
            let state = &mut *guard;
            let files: Vec<(&String, &Vec<u8>)> = state
                .directory
                .iter()
                .map(|(name, inode)| (name, &state.files[inode].content))
                .filter(|(name, content)| concerns(name) && !content.is_empty())
                .collect();
            if files.is_empty() {
                return false;
            }
            let (name, content) = files[state.rng.below(files.len() as u64) as usize];
            let length = content.len() as u64;
            let last = content.iter().rposition(|byte| *byte != 0).unwrap_or(0) as u64;
            let (from, to) = match state.rng.below(4) {
                0 => (0, length),
                1 => (last.saturating_sub(1024), last + 1),
                _ => (0, last + 1),
            };
            let offset = from + state.rng.below(to - from);
            (name.clone(), offset, state.rng.below(8) as u8)
        };
        self.flip_bit(&name, offset, bit)
    }

    /// Another disk takes its place, with nothing on it. The process must be down.
    pub fn wipe(&self) {
        let mut state = self.0.borrow_mut();
        state.files.clear();
        state.directory.clear();
        state.directory_durable.clear();
        state.directory_pending.clear();
        state.damaged = false;
        state.read_errors = 0;
    }

    /// What it was asked to do so far.
    pub fn counts(&self) -> DiskCounts {
        self.0.borrow().counts
    }
}

/// A process's handle of its disk.
#[derive(Clone)]
pub struct MemoryDisk {
    platter: Platter,
    process: u64,
}

impl MemoryDisk {
    fn file(&self, inode: Inode) -> MemoryFile {
        MemoryFile {
            disk: self.clone(),
            inode,
        }
    }
}

impl Disk for MemoryDisk {
    type File = MemoryFile;

    fn lock(&mut self) -> Result<(), DiskError> {
        let mut state = self.platter.0.borrow_mut();
        state.alive(self.process)?;
        if state.locked {
            return Err(DiskError::Locked);
        }
        state.locked = true;
        Ok(())
    }

    fn list(&mut self) -> Result<Vec<String>, DiskError> {
        let state = self.platter.0.borrow();
        state.alive(self.process)?;
        Ok(state.directory.keys().cloned().collect())
    }

    fn open(&mut self, name: &str) -> Result<MemoryFile, DiskError> {
        let state = self.platter.0.borrow();
        state.alive(self.process)?;
        let inode = *state.directory.get(name).ok_or(DiskError::NotFound)?;
        Ok(self.file(inode))
    }

    fn create(&mut self, name: &str) -> Result<MemoryFile, DiskError> {
        let mut state = self.platter.0.borrow_mut();
        state.spend(self.process)?;
        let inode = state.next_inode;
        state.next_inode += 1;
        state.files.insert(inode, FileState::default());
        state.link(DirectoryChange::Link(name.into(), inode));
        Ok(self.file(inode))
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        let mut state = self.platter.0.borrow_mut();
        state.spend(self.process)?;
        if !state.directory.contains_key(from) {
            return Err(DiskError::NotFound);
        }
        state.link(DirectoryChange::Rename(from.into(), to.into()));
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        let mut state = self.platter.0.borrow_mut();
        state.spend(self.process)?;
        if !state.directory.contains_key(name) {
            return Err(DiskError::NotFound);
        }
        state.link(DirectoryChange::Unlink(name.into()));
        Ok(())
    }

    fn sync_directory(&mut self) -> Result<(), DiskError> {
        let mut state = self.platter.0.borrow_mut();
        state.spend(self.process)?;
        state.directory_durable = state.directory.clone();
        state.directory_pending.clear();
        Ok(())
    }

    fn free_bytes(&mut self) -> Result<u64, DiskError> {
        let state = self.platter.0.borrow();
        state.alive(self.process)?;
        Ok(state.capacity_bytes.saturating_sub(state.used_bytes()))
    }
}

/// An open file of a [`MemoryDisk`].
pub struct MemoryFile {
    disk: MemoryDisk,
    inode: Inode,
}

impl DiskFile for MemoryFile {
    fn len(&mut self) -> Result<u64, DiskError> {
        let mut state = self.disk.platter.0.borrow_mut();
        state.alive(self.disk.process)?;
        Ok(state.file(self.inode).content.len() as u64)
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, DiskError> {
        let mut state = self.disk.platter.0.borrow_mut();
        state.alive(self.disk.process)?;
        if state.read_errors > 0 {
            state.read_errors -= 1;
            return Err(input_output_error());
        }
        let content = &state.file(self.inode).content;
        let start = (offset as usize).min(content.len());
        let end = (start + buffer.len()).min(content.len());
        buffer[..end - start].copy_from_slice(&content[start..end]);
        Ok(end - start)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let mut state = self.disk.platter.0.borrow_mut();
        if let Err(stopped) = state.spend(self.disk.process) {
            // The process may be stopped in the middle of a write: whole sectors in front are in the cache already.
            if state.burned && state.fuse == Some(0) && state.process == self.disk.process {
                let sectors = state
                    .rng
                    .below(bytes.len().div_ceil(SECTOR_BYTES) as u64 + 1)
                    as usize;
                let first = SECTOR_BYTES - offset as usize % SECTOR_BYTES;
                let cut = if sectors == 0 {
                    0
                } else {
                    (first + (sectors - 1) * SECTOR_BYTES).min(bytes.len())
                };
                state.file(self.inode).write(offset as usize, &bytes[..cut]);
                state.fuse = None;
            }
            return Err(stopped);
        }
        let end = offset + bytes.len() as u64;
        let length = state.file(self.inode).content.len() as u64;
        if end > length && state.used_bytes() + (end - length) > state.capacity_bytes {
            return Err(DiskError::Full);
        }
        if state.write_errors > 0 {
            state.write_errors -= 1;
            return Err(input_output_error());
        }
        state.counts.writes += 1;
        state.counts.bytes_written += bytes.len() as u64;
        state.file(self.inode).write(offset as usize, bytes);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        let mut state = self.disk.platter.0.borrow_mut();
        state.spend(self.disk.process)?;
        state.counts.syncs += 1;
        if state.sync_errors > 0 {
            state.sync_errors -= 1;
            let file = state.file(self.inode);
            let mut unsynced = std::mem::take(&mut file.unsynced);
            file.abandoned.append(&mut unsynced);
            return Err(input_output_error());
        }
        state.file(self.inode).sync();
        Ok(())
    }

    fn set_len(&mut self, length: u64) -> Result<(), DiskError> {
        let mut state = self.disk.platter.0.borrow_mut();
        state.spend(self.disk.process)?;
        let before = state.file(self.inode).content.len() as u64;
        if length > before && state.used_bytes() + (length - before) > state.capacity_bytes {
            return Err(DiskError::Full);
        }
        state.file(self.inode).set_len(length as usize);
        Ok(())
    }
}

fn input_output_error() -> DiskError {
    DiskError::Failed("input/output error".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(disk: &mut MemoryDisk, name: &str) -> Vec<u8> {
        let mut file = disk.open(name).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        assert_eq!(file.read_at(0, &mut bytes).unwrap(), bytes.len());
        bytes
    }

    fn with_synced_file(platter: &Platter) -> MemoryDisk {
        let mut disk = platter.start_process();
        let mut file = disk.create("a").unwrap();
        file.write_at(0, &[1; 2048]).unwrap();
        file.sync().unwrap();
        disk.sync_directory().unwrap();
        disk
    }

    #[test]
    fn a_crash_keeps_the_cache_and_a_power_loss_does_not() {
        let platter = Platter::new(1);
        let mut disk = with_synced_file(&platter);
        disk.open("a").unwrap().write_at(512, &[2; 512]).unwrap();
        platter.crash();
        assert!(
            disk.open("a").is_err(),
            "a dead process must not reach the disk"
        );
        assert_eq!(read(&mut platter.start_process(), "a")[512], 2);
        platter.lose_power(Survival::Nothing);
        assert_eq!(read(&mut platter.start_process(), "a"), vec![1; 2048]);
    }

    #[test]
    fn a_power_loss_mixes_sectors_but_never_within_one() {
        let (mut old, mut new) = (0, 0);
        for seed in 0..50 {
            let platter = Platter::new(seed);
            let mut disk = with_synced_file(&platter);
            disk.open("a").unwrap().write_at(0, &[2; 3000]).unwrap();
            platter.lose_power(Survival::Coin);
            let bytes = read(&mut platter.start_process(), "a");
            assert!(bytes.len() == 2048 || bytes.len() == 3000);
            for sector in bytes[..2048].chunks(SECTOR_BYTES) {
                assert!(sector.iter().all(|byte| *byte == sector[0]));
                if sector[0] == 1 { old += 1 } else { new += 1 }
            }
        }
        assert!(old > 50 && new > 50, "{old} old and {new} new sectors");
    }

    #[test]
    fn unsynced_names_are_lost_with_the_power() {
        let platter = Platter::new(1);
        let mut disk = with_synced_file(&platter);
        disk.create("b").unwrap().sync().unwrap();
        disk.rename("a", "c").unwrap();
        platter.lose_power(Survival::Nothing);
        assert_eq!(platter.start_process().list().unwrap(), ["a"]);
    }

    #[test]
    fn a_cut_file_comes_back_whole_if_the_cut_was_not_synced() {
        let platter = Platter::new(1);
        let mut disk = with_synced_file(&platter);
        disk.open("a").unwrap().set_len(100).unwrap();
        platter.lose_power(Survival::Nothing);
        assert_eq!(read(&mut platter.start_process(), "a"), vec![1; 2048]);
    }

    #[test]
    fn a_failed_sync_is_not_mended_by_the_next_one() {
        let platter = Platter::new(1);
        let mut disk = with_synced_file(&platter);
        let mut file = disk.open("a").unwrap();
        file.write_at(0, &[2; 512]).unwrap();
        platter.fail_syncs(1);
        assert!(file.sync().is_err());
        file.sync().unwrap();
        platter.lose_power(Survival::Nothing);
        assert_eq!(read(&mut platter.start_process(), "a"), vec![1; 2048]);
    }

    #[test]
    fn writes_and_reads_fail_as_often_as_they_are_told_and_change_nothing() {
        let platter = Platter::new(1);
        let mut disk = with_synced_file(&platter);
        let mut file = disk.open("a").unwrap();
        platter.fail_writes(1);
        assert!(file.write_at(0, &[2; 512]).is_err());
        platter.fail_reads(1);
        assert!(file.read_at(0, &mut [0; 8]).is_err() && !platter.was_damaged());
        assert_eq!(read(&mut disk, "a"), vec![1; 2048]);
        file.write_at(0, &[2; 512]).unwrap();
        assert_eq!(read(&mut disk, "a")[0], 2);
    }

    #[test]
    fn a_burned_fuse_stops_everything_at_that_operation() {
        let platter = Platter::new(1);
        let mut disk = with_synced_file(&platter);
        platter.set_fuse(1, None);
        let mut file = disk.open("a").unwrap();
        file.write_at(0, &[2; 512]).unwrap();
        assert!(file.sync().is_err());
        assert!(platter.burned());
        assert!(file.write_at(0, &[3; 512]).is_err() && disk.list().is_err());
        platter.lose_power(Survival::Nothing);
        assert_eq!(read(&mut platter.start_process(), "a"), vec![1; 2048]);
    }

    #[test]
    fn a_full_disk_refuses_growth_only() {
        let platter = Platter::new(1);
        let mut disk = with_synced_file(&platter);
        platter.set_capacity(2048);
        let mut file = disk.open("a").unwrap();
        assert_eq!(file.write_at(2048, &[1]), Err(DiskError::Full));
        file.write_at(0, &[9; 2048]).unwrap();
        assert_eq!(disk.free_bytes().unwrap(), 0);
    }
}
