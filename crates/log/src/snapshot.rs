//! Snapshot files: one durable, one perhaps being written. Frames with checksums of their own, so that a piece read is a piece verified;
//! a footer, so that a file cut short is not a snapshot. Layout in `docs/design/data-directory.md`.

use crate::directory::quarantine;
use crate::{Disk, DiskError, DiskFile, OpenError, StoreError};
use bytes::{Bytes, BytesMut};
use prost::Message as _;
use raft::{Configuration, Index, SnapshotMark, Term};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const PREFIX: &str = "snapshot-";
const STAGING_PREFIX: &str = "staging-";
const MAGIC: &[u8; 8] = b"SYNODSNP";
/// Version of the file format.
const VERSION: u32 = 1;
/// The front: magic and version, the rest zero.
const HEADER_BYTES: u64 = 512;
/// A frame on disk: checksum, length, content.
const FRAME_BYTES: usize = 64 << 10;
const FRAME_HEAD_BYTES: usize = 8;
const FRAME_CONTENT_BYTES: usize = FRAME_BYTES - FRAME_HEAD_BYTES;
/// The end: length and checksum of the footer's record, then the magic again.
const TRAILER_BYTES: usize = 4 + 4 + 8;
const FOOTER_BYTES_MAX: u64 = 1 << 20;
/// Bytes written between syncs, so that the last one is short and the log's syncs beside it are not held up.
const SYNC_EVERY_BYTES: u64 = 4 << 20;

/// What the file says of itself.
#[derive(Clone, PartialEq, prost::Message)]
struct Footer {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(uint64, tag = "2")]
    term: u64,
    #[prost(bytes = "bytes", tag = "3")]
    configuration: Bytes,
    #[prost(uint64, tag = "4")]
    bytes: u64,
    #[prost(fixed32, tag = "5")]
    checksum: u32,
}

/// The snapshots of a member.
pub struct Snapshots<D: Disk> {
    disk: D,
    newest: Option<Durable<D>>,
    /// The newest, for the log of the same directory, which may be on another thread.
    newest_shared: Arc<NewestSnapshot>,
    staging: BTreeMap<u64, Staging<D>>,
}

/// What the log knows of the newest durable snapshot.
#[derive(Debug, Default)]
pub(crate) struct NewestSnapshot {
    /// Its index.
    pub(crate) index: AtomicU64,
    /// Its length.
    pub(crate) bytes: AtomicU64,
}

impl NewestSnapshot {
    fn set(&self, index: u64, bytes: u64) {
        self.index.store(index, Relaxed);
        self.bytes.store(bytes, Relaxed);
    }
}

/// The newest durable snapshot, held open.
struct Durable<D: Disk> {
    name: String,
    file: D::File,
    mark: SnapshotMark,
    bytes: u64,
    checksum: u32,
}

/// A durable snapshot, to be read whatever becomes of it in the directory.
pub struct SnapshotReader<D: Disk>(Durable<D>);

impl<D: Disk> SnapshotReader<D> {
    /// Index of the last entry in it, and its length.
    pub fn mark(&self) -> (Index, u64) {
        (self.0.mark.index, self.0.bytes)
    }

    /// Reads bytes; empty past the end.
    ///
    /// # Errors
    /// The disk failed or the file is damaged, as the text says.
    pub fn read(&mut self, offset: u64, bytes_max: usize) -> Result<Bytes, String> {
        self.0.read(offset, bytes_max)
    }
}

/// A snapshot being written.
struct Staging<D: Disk> {
    file: D::File,
    /// Bytes taken so far.
    bytes: u64,
    /// crc32c over them.
    checksum: u32,
    /// The frame being filled.
    frame: BytesMut,
    frames: u64,
    /// Bytes in the file.
    end: u64,
    unsynced: u64,
}

impl<D: Disk> Snapshots<D> {
    /// Finds the newest whole snapshot. Broken ones are set aside and named; what was left of unfinished ones is removed.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) fn open(mut disk: D) -> Result<(Snapshots<D>, Vec<String>), OpenError> {
        let names = disk.list().map_err(OpenError::Disk)?;
        for name in names.iter().filter(|name| name.starts_with(STAGING_PREFIX)) {
            disk.remove(name).map_err(OpenError::Disk)?;
        }
        let mut found: Vec<(u64, &String)> = names
            .iter()
            .filter_map(|name| Some((parse_name(name)?, name)))
            .collect();
        found.sort_unstable_by(|a, b| b.cmp(a));
        let (mut newest, mut quarantined) = (None, Vec::new());
        for (index, name) in found {
            if newest.is_some() {
                disk.remove(name).map_err(OpenError::Disk)?;
                continue;
            }
            match open_snapshot(&mut disk, index, name) {
                Ok(durable) => newest = Some(durable),
                Err(Unusable::Damaged(why)) => {
                    let aside = quarantine(&mut disk, name).map_err(OpenError::Disk)?;
                    quarantined.push(format!(
                        "snapshot '{name}' is damaged ({why}); set aside as '{aside}'"
                    ));
                }
                Err(Unusable::Newer(found)) => {
                    return Err(OpenError::NewerVersion {
                        found,
                        known: VERSION,
                    });
                }
                Err(Unusable::Disk(error)) => return Err(OpenError::Disk(error)),
            }
        }
        let newest_shared = Arc::new(NewestSnapshot::default());
        if let Some(newest) = &newest {
            newest_shared.set(newest.mark.index.0, newest.bytes);
        }
        Ok((
            Snapshots {
                disk,
                newest,
                newest_shared,
                staging: BTreeMap::new(),
            },
            quarantined,
        ))
    }

    /// The newest durable snapshot, now and later.
    pub(crate) fn newest(&self) -> Arc<NewestSnapshot> {
        self.newest_shared.clone()
    }

    /// Writes a piece of a snapshot into the staging file `id`; the piece at offset 0 begins it anew, others go on where the last ended.
    ///
    /// # Errors
    /// The disk failed, or the piece does not follow the last one; the staging file is gone.
    pub fn stage(&mut self, id: u64, offset: u64, bytes: &Bytes) -> Result<(), StoreError> {
        let staged = self.try_stage(id, offset, bytes);
        if staged.is_err() {
            self.stage_abort(id);
        }
        staged
    }

    fn try_stage(&mut self, id: u64, offset: u64, bytes: &Bytes) -> Result<(), StoreError> {
        if offset == 0 {
            let mut file = self.disk.create(&staging_name(id)).map_err(stopped)?;
            let mut header = [0; HEADER_BYTES as usize];
            header[..8].copy_from_slice(MAGIC);
            header[8..12].copy_from_slice(&VERSION.to_le_bytes());
            file.write_at(0, &header).map_err(stopped)?;
            self.staging.insert(
                id,
                Staging {
                    file,
                    bytes: 0,
                    checksum: 0,
                    frame: BytesMut::new(),
                    frames: 0,
                    end: HEADER_BYTES,
                    unsynced: 0,
                },
            );
        }
        let expected = self.staging.get(&id).map(|staging| staging.bytes);
        match self.staging.get_mut(&id) {
            Some(staging) if staging.bytes == offset => staging.write(bytes).map_err(stopped),
            _ => Err(StoreError::Failed(DiskError::Failed(format!(
                "staging file {id}: a piece at {offset} does not follow what is there ({expected:?} bytes)"
            )))),
        }
    }

    /// Ends a staging file: checks length and checksum, makes it durable and takes it as the snapshot `mark`. The previous one stays until then.
    ///
    /// # Errors
    /// The disk failed, or the file is not what `checksum` (crc32c over all bytes) says; the staging file is gone, the previous snapshot stands.
    pub fn stage_finish(
        &mut self,
        id: u64,
        mark: &SnapshotMark,
        bytes: u64,
        checksum: u32,
    ) -> Result<(), StoreError> {
        let finished = self.try_finish(id, mark, bytes, checksum);
        if finished.is_err() {
            self.stage_abort(id);
        }
        finished
    }

    fn try_finish(
        &mut self,
        id: u64,
        mark: &SnapshotMark,
        bytes: u64,
        checksum: u32,
    ) -> Result<(), StoreError> {
        let wrong = |text: String| {
            StoreError::Failed(DiskError::Failed(format!("staging file {id}: {text}")))
        };
        let mut staging = self
            .staging
            .remove(&id)
            .ok_or_else(|| wrong("there is none".into()))?;
        if (staging.bytes, staging.checksum) != (bytes, checksum) {
            return Err(wrong(format!(
                "{} bytes with checksum {:08x} are not the {bytes} bytes with {checksum:08x} expected",
                staging.bytes, staging.checksum
            )));
        }
        staging.write_footer(mark).map_err(stopped)?;
        let name = snapshot_name(mark.index);
        self.disk
            .rename(&staging_name(id), &name)
            .map_err(stopped)?;
        self.disk.sync_directory().map_err(stopped)?;
        let newest = Durable {
            name,
            file: staging.file,
            mark: mark.clone(),
            bytes,
            checksum,
        };
        let previous = self.newest.replace(newest);
        self.newest_shared.set(mark.index.0, bytes);
        // The new one is durable: a previous one that cannot be removed now is removed at the next start.
        if let Some(previous) = previous.filter(|previous| previous.mark.index != mark.index) {
            self.disk.remove(&previous.name).ok();
        }
        Ok(())
    }

    /// Drops a staging file.
    pub fn stage_abort(&mut self, id: u64) {
        self.staging.remove(&id);
        // Nothing reads it, and the next start removes what could not be removed now.
        self.disk.remove(&staging_name(id)).ok();
    }

    /// The newest durable snapshot: its mark, length and checksum (crc32c over all bytes).
    pub fn snapshot(&self) -> Option<(SnapshotMark, u64, u32)> {
        self.newest
            .as_ref()
            .map(|newest| (newest.mark.clone(), newest.bytes, newest.checksum))
    }

    /// Reads bytes of the snapshot at `index`; empty past its end.
    ///
    /// # Errors
    /// It is gone (a newer one took its place), or damaged: then it was set aside and will not be served again.
    pub fn snapshot_read(
        &mut self,
        index: Index,
        offset: u64,
        bytes_max: usize,
    ) -> Result<Bytes, StoreError> {
        let Some(newest) = self
            .newest
            .as_mut()
            .filter(|newest| newest.mark.index == index)
        else {
            return Err(StoreError::Failed(DiskError::NotFound));
        };
        newest
            .read(offset, bytes_max)
            .map_err(|why| self.set_aside(&why))
    }

    /// The newest durable snapshot for a reader of its own, which keeps it when a newer one takes its place.
    ///
    /// # Errors
    /// The disk failed, or the file is damaged, as the text says.
    pub fn reader(&mut self) -> Result<Option<SnapshotReader<D>>, String> {
        let Some(newest) = &self.newest else {
            return Ok(None);
        };
        match open_snapshot(&mut self.disk, newest.mark.index.0, &newest.name) {
            Ok(durable) => Ok(Some(SnapshotReader(durable))),
            Err(Unusable::Disk(error)) => Err(error.to_string()),
            Err(Unusable::Damaged(why)) => Err(why),
            Err(Unusable::Newer(version)) => Err(format!("version {version}")),
        }
    }

    /// Sets the newest snapshot aside although its checksums match: what it holds is not to be believed. Tells what was done, in words; `None` if there is
    /// no snapshot.
    pub fn discard(&mut self, why: &str) -> Option<String> {
        self.newest.as_ref()?;
        match self.set_aside(why) {
            StoreError::Damaged(text) => Some(text),
            StoreError::Full | StoreError::Failed(_) => unreachable!("setting aside tells a text"),
        }
    }

    fn set_aside(&mut self, why: &str) -> StoreError {
        let newest = self.newest.take().expect("it was being read");
        let text = match quarantine(&mut self.disk, &newest.name) {
            Ok(aside) => format!(
                "snapshot '{}' is damaged ({why}); set aside as '{aside}'",
                newest.name
            ),
            Err(error) => format!(
                "snapshot '{}' is damaged ({why}) and could not be set aside: {error}",
                newest.name
            ),
        };
        StoreError::Damaged(text)
    }
}

impl<D: Disk> Staging<D> {
    fn write(&mut self, mut bytes: &[u8]) -> Result<(), DiskError> {
        self.checksum = crc32c::crc32c_append(self.checksum, bytes);
        self.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let (now, later) =
                bytes.split_at(bytes.len().min(FRAME_CONTENT_BYTES - self.frame.len()));
            self.frame.extend_from_slice(now);
            bytes = later;
            if self.frame.len() == FRAME_CONTENT_BYTES {
                self.write_frame()?;
            }
        }
        if self.unsynced >= SYNC_EVERY_BYTES {
            self.file.sync()?;
            self.unsynced = 0;
        }
        Ok(())
    }

    fn write_frame(&mut self) -> Result<(), DiskError> {
        let mut framed = Vec::with_capacity(FRAME_HEAD_BYTES + self.frame.len());
        framed.extend_from_slice(&frame_checksum(self.frames, &self.frame).to_le_bytes());
        framed.extend_from_slice(&(self.frame.len() as u32).to_le_bytes());
        framed.extend_from_slice(&self.frame);
        self.file.write_at(frame_offset(self.frames), &framed)?;
        self.frames += 1;
        self.end += framed.len() as u64;
        self.unsynced += framed.len() as u64;
        self.frame.clear();
        Ok(())
    }

    fn write_footer(&mut self, mark: &SnapshotMark) -> Result<(), DiskError> {
        if !self.frame.is_empty() {
            self.write_frame()?;
        }
        let record = Footer {
            index: mark.index.0,
            term: mark.term.0,
            configuration: mark.configuration.encode(),
            bytes: self.bytes,
            checksum: self.checksum,
        };
        let mut footer = record.encode_to_vec();
        let (length, checksum) = (footer.len() as u32, crc32c::crc32c(&footer));
        footer.extend_from_slice(&length.to_le_bytes());
        footer.extend_from_slice(&checksum.to_le_bytes());
        footer.extend_from_slice(MAGIC);
        self.file.write_at(self.end, &footer)?;
        mutated!(SnapshotBeforeSync, return Ok(()));
        self.file.sync()
    }
}

impl<D: Disk> Durable<D> {
    fn read(&mut self, offset: u64, bytes_max: usize) -> Result<Bytes, String> {
        let end = offset.saturating_add(bytes_max as u64).min(self.bytes);
        let mut read = BytesMut::with_capacity(end.saturating_sub(offset) as usize);
        let mut at = offset;
        while at < end {
            let frame = at / FRAME_CONTENT_BYTES as u64;
            // A disk may read well the second time.
            let content = match self.read_frame(frame).or_else(|_| self.read_frame(frame)) {
                Ok(content) => content,
                Err(Unusable::Disk(error)) => {
                    return Err(format!("frame {frame} cannot be read: {error}"));
                }
                Err(Unusable::Damaged(why)) => return Err(why),
                Err(Unusable::Newer(version)) => return Err(format!("version {version}")),
            };
            let from = (at % FRAME_CONTENT_BYTES as u64) as usize;
            let to = content.len().min(from + (end - at) as usize);
            read.extend_from_slice(&content[from..to]);
            at += (to - from) as u64;
        }
        Ok(read.freeze())
    }

    fn read_frame(&mut self, frame: u64) -> Result<Vec<u8>, Unusable> {
        let content = self
            .bytes
            .saturating_sub(frame * FRAME_CONTENT_BYTES as u64)
            .min(FRAME_CONTENT_BYTES as u64) as usize;
        let mut bytes = vec![0; FRAME_HEAD_BYTES + content];
        let read = self
            .file
            .read_at(frame_offset(frame), &mut bytes)
            .map_err(Unusable::Disk)?;
        let checksum = frame_checksum(frame, &bytes[FRAME_HEAD_BYTES..]);
        let (head, whole) = (&bytes[..FRAME_HEAD_BYTES], read == bytes.len());
        if !whole
            || head[..4] != checksum.to_le_bytes()
            || head[4..] != (content as u32).to_le_bytes()
        {
            return Err(Unusable::Damaged(format!(
                "frame {frame} does not match its checksum"
            )));
        }
        bytes.drain(..FRAME_HEAD_BYTES);
        Ok(bytes)
    }
}

/// Why a file is not a snapshot to serve.
enum Unusable {
    Damaged(String),
    Newer(u32),
    Disk(DiskError),
}

fn open_snapshot<D: Disk>(disk: &mut D, index: u64, name: &str) -> Result<Durable<D>, Unusable> {
    let damaged = |what: &str| Unusable::Damaged(what.into());
    let mut file = disk.open(name).map_err(Unusable::Disk)?;
    let length = file.len().map_err(Unusable::Disk)?;
    let mut read = |offset: u64, bytes: u64| -> Result<Vec<u8>, Unusable> {
        let mut buffer = vec![0; bytes as usize];
        let read = file.read_at(offset, &mut buffer).map_err(Unusable::Disk)?;
        if read == buffer.len() {
            Ok(buffer)
        } else {
            Err(damaged("it is cut short"))
        }
    };
    let header = read(0, HEADER_BYTES)?;
    if header[..8] != MAGIC[..] || header[12..].iter().any(|byte| *byte != 0) {
        return Err(damaged("its front is not a snapshot's"));
    }
    match u32::from_le_bytes(header[8..12].try_into().expect("four bytes")) {
        VERSION => {}
        version @ 2..1000 => return Err(Unusable::Newer(version)),
        _ => return Err(damaged("its version makes no sense")),
    }
    let trailer = read(
        length.saturating_sub(TRAILER_BYTES as u64),
        TRAILER_BYTES as u64,
    )?;
    let footer_bytes = u64::from(u32::from_le_bytes(
        trailer[..4].try_into().expect("four bytes"),
    ));
    if trailer[8..] != MAGIC[..]
        || footer_bytes > FOOTER_BYTES_MAX
        || footer_bytes + TRAILER_BYTES as u64 > length
    {
        return Err(damaged("its end is missing"));
    }
    let record = read(length - TRAILER_BYTES as u64 - footer_bytes, footer_bytes)?;
    if crc32c::crc32c(&record).to_le_bytes() != trailer[4..8] {
        return Err(damaged("its footer does not match its checksum"));
    }
    let footer = Footer::decode(&record[..]).map_err(|error| damaged(&error.to_string()))?;
    let configuration =
        Configuration::decode(footer.configuration).map_err(|error| damaged(&error.0))?;
    if footer.index != index {
        return Err(damaged(&format!(
            "it is of index {}, not of {index} as its name says",
            footer.index
        )));
    }
    let mark = SnapshotMark {
        index: Index(footer.index),
        term: Term(footer.term),
        configuration,
    };
    Ok(Durable {
        name: name.into(),
        file,
        mark,
        bytes: footer.bytes,
        checksum: footer.checksum,
    })
}

fn frame_offset(frame: u64) -> u64 {
    HEADER_BYTES + frame * FRAME_BYTES as u64
}

/// Covers the frame's number too, so that a frame in the wrong place does not pass.
fn frame_checksum(frame: u64, content: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame.to_le_bytes()), content)
}

fn snapshot_name(index: Index) -> String {
    format!("{PREFIX}{:016x}", index.0)
}

fn staging_name(id: u64) -> String {
    format!("{STAGING_PREFIX}{id:016x}")
}

fn parse_name(name: &str) -> Option<u64> {
    let digits = name
        .strip_prefix(PREFIX)
        .filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

fn stopped(error: DiskError) -> StoreError {
    match error {
        DiskError::Full => StoreError::Full,
        other => StoreError::Failed(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory_disk::{MemoryDisk, Platter, Survival};

    fn content(seed: u64, length: usize) -> Bytes {
        (0..length as u64)
            .map(|n| (n.wrapping_mul(seed * 2 + 1) >> 3) as u8)
            .collect::<Vec<_>>()
            .into()
    }

    fn mark(index: u64) -> SnapshotMark {
        SnapshotMark {
            index: Index(index),
            term: Term(2),
            configuration: Configuration::default(),
        }
    }

    fn open(platter: &Platter) -> (Snapshots<MemoryDisk>, Vec<String>) {
        Snapshots::open(platter.start_process()).unwrap()
    }

    /// Stages in pieces that fit no frame.
    fn take(
        snapshots: &mut Snapshots<MemoryDisk>,
        id: u64,
        index: u64,
        bytes: &Bytes,
    ) -> Result<(), StoreError> {
        let mut offset = 0;
        for piece in bytes.chunks(50_001) {
            snapshots.stage(id, offset, &Bytes::copy_from_slice(piece))?;
            offset += piece.len() as u64;
        }
        snapshots.stage_finish(id, &mark(index), bytes.len() as u64, crc32c::crc32c(bytes))
    }

    fn read_all(snapshots: &mut Snapshots<MemoryDisk>, index: u64) -> Result<Vec<u8>, StoreError> {
        let mut all = Vec::new();
        loop {
            let piece = snapshots.snapshot_read(Index(index), all.len() as u64, 70_000)?;
            if piece.is_empty() {
                return Ok(all);
            }
            all.extend_from_slice(&piece);
        }
    }

    #[test]
    fn a_snapshot_survives_power_loss_and_takes_the_place_of_the_last() {
        let platter = Platter::new(1);
        let (mut snapshots, _) = open(&platter);
        assert_eq!(snapshots.snapshot(), None);
        for (index, length) in [
            (10, 1),
            (20, FRAME_CONTENT_BYTES),
            (30, FRAME_CONTENT_BYTES * 3 + 7),
        ] {
            take(&mut snapshots, index, index, &content(index, length)).unwrap();
        }
        platter.lose_power(Survival::Nothing);
        let (mut snapshots, quarantined) = open(&platter);
        assert!(quarantined.is_empty());
        assert_eq!(snapshots.snapshot().unwrap().0, mark(30));
        assert_eq!(
            read_all(&mut snapshots, 30).unwrap(),
            content(30, FRAME_CONTENT_BYTES * 3 + 7)
        );
        assert_eq!(
            read_all(&mut snapshots, 20),
            Err(StoreError::Failed(DiskError::NotFound))
        );
        assert_eq!(
            platter.start_process().list().unwrap(),
            [snapshot_name(Index(30))]
        );
    }

    #[test]
    fn a_crash_at_any_operation_leaves_the_old_or_the_new_one_whole() {
        let (old, new) = (content(1, 200_000), content(2, 300_000));
        let mut took = [0, 0];
        for operations in 0..16 {
            for survival in [Survival::Nothing, Survival::Everything, Survival::Coin] {
                let platter = Platter::new(operations);
                let (mut snapshots, _) = open(&platter);
                take(&mut snapshots, 1, 10, &old).unwrap();
                platter.set_fuse(operations, None);
                let taken = take(&mut snapshots, 2, 20, &new);
                platter.lose_power(survival);
                let (mut snapshots, quarantined) = open(&platter);
                assert!(
                    quarantined.is_empty(),
                    "{quarantined:?} after {operations} operations"
                );
                let (found, ..) = snapshots.snapshot().expect("one of the two is there");
                let expected = if found.index == Index(20) { &new } else { &old };
                assert!(
                    taken.is_err() || found.index == Index(20),
                    "a durable snapshot was lost after {operations} operations"
                );
                assert_eq!(read_all(&mut snapshots, found.index.0).unwrap(), *expected);
                took[usize::from(found.index == Index(20))] += 1;
            }
        }
        assert!(took[0] > 5 && took[1] > 5, "{took:?}");
    }

    #[test]
    fn r1_a_flipped_bit_anywhere_is_found_and_never_served() {
        let bytes = content(1, 100_000);
        let length = {
            let platter = Platter::new(1);
            take(&mut open(&platter).0, 1, 10, &bytes).unwrap();
            platter
                .start_process()
                .open(&snapshot_name(Index(10)))
                .unwrap()
                .len()
                .unwrap()
        };
        for offset in (0..length).step_by(997).chain(length - 80..length) {
            let platter = Platter::new(1);
            take(&mut open(&platter).0, 1, 10, &bytes).unwrap();
            assert!(platter.flip_bit(&snapshot_name(Index(10)), offset, offset as u8));
            let mut disk = platter.start_process();
            match Snapshots::open(disk.clone()) {
                Err(OpenError::NewerVersion { .. }) => assert!((8..12).contains(&offset)),
                Err(other) => panic!("byte {offset}: {other:?}"),
                Ok((mut snapshots, quarantined)) if snapshots.snapshot().is_some() => {
                    let read = read_all(&mut snapshots, 10);
                    assert!(
                        read.is_err() && quarantined.is_empty(),
                        "byte {offset} was served"
                    );
                    assert_eq!(snapshots.snapshot(), None);
                    assert!(
                        disk.list()
                            .unwrap()
                            .iter()
                            .any(|name| name.contains("damaged"))
                    );
                }
                Ok((_, quarantined)) => assert_eq!(quarantined.len(), 1, "byte {offset}"),
            }
        }
    }

    #[test]
    fn pieces_out_of_order_or_wrong_sums_are_refused_and_the_old_one_stands() {
        let platter = Platter::new(1);
        let (mut snapshots, _) = open(&platter);
        take(&mut snapshots, 1, 10, &content(1, 1000)).unwrap();
        snapshots.stage(2, 0, &content(2, 100)).unwrap();
        assert!(snapshots.stage(2, 101, &content(2, 100)).is_err());
        assert!(
            snapshots.stage(2, 100, &content(2, 100)).is_err(),
            "a refused staging file is gone"
        );
        snapshots.stage(3, 0, &content(2, 100)).unwrap();
        assert!(snapshots.stage_finish(3, &mark(20), 100, 1).is_err());
        assert!(snapshots.stage_finish(4, &mark(20), 0, 0).is_err());
        assert_eq!(snapshots.snapshot().unwrap().0, mark(10));
        assert_eq!(
            platter.start_process().list().unwrap(),
            [snapshot_name(Index(10))]
        );
    }

    #[test]
    fn a_full_disk_ends_a_staging_file_and_gives_its_space_back() {
        let platter = Platter::new(1);
        let (mut snapshots, _) = open(&platter);
        platter.set_capacity(200_000);
        assert_eq!(
            take(&mut snapshots, 1, 10, &content(1, 400_000)),
            Err(StoreError::Full)
        );
        assert!(platter.start_process().list().unwrap().is_empty());
        platter.set_capacity(1 << 30);
        let (mut snapshots, _) = open(&platter);
        assert_eq!(take(&mut snapshots, 1, 10, &content(1, 400_000)), Ok(()));
    }

    #[test]
    fn its_bytes_are_these() {
        let platter = Platter::new(1);
        take(&mut open(&platter).0, 1, 10, &Bytes::from_static(b"state")).unwrap();
        let mut file = platter
            .start_process()
            .open("snapshot-000000000000000a")
            .unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(0, &mut bytes).unwrap();
        let hex = |bytes: &[u8]| {
            bytes
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        assert_eq!(hex(&bytes[..16]), "53594e4f44534e500100000000000000");
        assert_eq!(
            hex(&bytes[512..]),
            "0ebbf29f050000007374617465080a10021a010120052ddf68db660e00000089388dba53594e4f44534e50"
        );
    }
}
