//! The real disk: one directory of the file system.
//!
//! Whole sectors that overwrite others go past the page cache (`O_DIRECT`), where the file system can do that: a batch of the log is synced right after it
//! was written, so the cache would only copy it and look for it again. All else, reads too, takes the usual way.

use crate::sector::SECTOR_BYTES;
use crate::{Disk, DiskError, DiskFile};
use rustix::fs::{FlockOperation, OFlags, fdatasync, flock, statvfs};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// The name of the file whose lock is the directory's.
const LOCK: &str = "lock";

/// What goes past the cache must lie in memory at a multiple of this: of the largest sectors there are.
const DIRECT_ALIGNMENT: usize = 4096;
/// Bytes of one write past the cache at most, as they are copied for it.
const DIRECT_BYTES_MAX: usize = 1 << 20;

/// A directory of the file system. Clones share its lock, which goes when the last of them does.
#[derive(Clone, Debug)]
pub struct FileDisk {
    directory: PathBuf,
    lock: Arc<Mutex<Option<File>>>,
}

impl FileDisk {
    /// Takes a directory, made with its parents if it does not exist.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(directory: impl Into<PathBuf>) -> Result<FileDisk, DiskError> {
        let directory = directory.into();
        std::fs::create_dir_all(&directory).map_err(|error| failed(&directory, &error))?;
        Ok(FileDisk {
            directory,
            lock: Arc::default(),
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// Translates an error, naming the file: an operator must find it.
fn failed(path: &Path, error: &io::Error) -> DiskError {
    match error.kind() {
        io::ErrorKind::NotFound => DiskError::NotFound,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskError::Full,
        _ => DiskError::Failed(format!("{}: {error}", path.display())),
    }
}

impl Disk for FileDisk {
    type File = RealFile;

    fn lock(&mut self) -> Result<(), DiskError> {
        let path = self.path(LOCK);
        let mut held = self
            .lock
            .lock()
            .expect("nobody panics while holding this lock");
        if held.is_some() {
            return Err(DiskError::Locked);
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| failed(&path, &error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                *held = Some(file);
                Ok(())
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Err(DiskError::Locked),
            Err(error) => Err(failed(&path, &error.into())),
        }
    }

    fn list(&mut self) -> Result<Vec<String>, DiskError> {
        let entries =
            std::fs::read_dir(&self.directory).map_err(|error| failed(&self.directory, &error))?;
        entries
            .map(|entry| {
                let entry = entry.map_err(|error| failed(&self.directory, &error))?;
                Ok(entry.file_name().to_string_lossy().into_owned())
            })
            .collect()
    }

    fn open(&mut self, name: &str) -> Result<RealFile, DiskError> {
        let path = self.path(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|error| failed(&path, &error))?;
        Ok(RealFile::new(file, path))
    }

    fn create(&mut self, name: &str) -> Result<RealFile, DiskError> {
        let path = self.path(name);
        // A file that is being read elsewhere keeps its content: the name gets a new file instead of a truncated one.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed(&path, &error));
            }
            _ => {}
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|error| failed(&path, &error))?;
        Ok(RealFile::new(file, path))
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        let path = self.path(from);
        std::fs::rename(&path, self.path(to)).map_err(|error| failed(&path, &error))
    }

    fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        let path = self.path(name);
        std::fs::remove_file(&path).map_err(|error| failed(&path, &error))
    }

    fn sync_directory(&mut self) -> Result<(), DiskError> {
        let synced = File::open(&self.directory).and_then(|directory| directory.sync_all());
        synced.map_err(|error| failed(&self.directory, &error))
    }

    fn free_bytes(&mut self) -> Result<u64, DiskError> {
        let stat =
            statvfs(&self.directory).map_err(|error| failed(&self.directory, &error.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// An open file of a [`FileDisk`].
#[derive(Debug)]
pub struct RealFile {
    file: File,
    path: PathBuf,
    direct: Direct,
    /// Bytes it has at least: blocks up to here exist.
    length: u64,
}

/// The way past the page cache.
#[derive(Debug)]
enum Direct {
    Untried,
    Open(File),
    /// The file system or the device has none.
    Absent,
}

impl RealFile {
    fn new(file: File, path: PathBuf) -> RealFile {
        RealFile {
            file,
            path,
            direct: Direct::Untried,
            length: 0,
        }
    }

    /// Bytes from `offset` on are whole sectors, and there are others in their place.
    fn overwrites_sectors(&mut self, offset: u64, bytes: usize) -> Result<bool, DiskError> {
        let sector = SECTOR_BYTES as u64;
        let end = offset + bytes as u64;
        if !offset.is_multiple_of(sector) || !end.is_multiple_of(sector) || bytes > DIRECT_BYTES_MAX
        {
            return Ok(false);
        }
        if end > self.length {
            self.length = self.len()?;
        }
        Ok(end <= self.length)
    }

    /// Writes past the cache; `false` if there is no such way.
    fn write_direct(&mut self, offset: u64, bytes: &[u8]) -> Result<bool, DiskError> {
        if let Direct::Untried = self.direct {
            self.direct = reopen_direct(&self.file).map_or(Direct::Absent, Direct::Open);
        }
        let Direct::Open(file) = &self.direct else {
            return Ok(false);
        };
        let mut room = Vec::<u8>::with_capacity(DIRECT_ALIGNMENT + bytes.len());
        let begin = room.as_ptr().align_offset(DIRECT_ALIGNMENT);
        assert!(
            begin < DIRECT_ALIGNMENT,
            "no place for aligned bytes: {begin}"
        );
        room.resize(begin, 0);
        room.extend_from_slice(bytes);
        match file.write_all_at(&room[begin..], offset) {
            Ok(()) => Ok(true),
            // Larger sectors than ours, most likely. Whatever was written is written again.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.direct = Direct::Absent;
                Ok(false)
            }
            Err(error) => Err(failed(&self.path, &error)),
        }
    }
}

/// Opens a file once more, whatever its name is by now.
fn reopen_direct(file: &File) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .custom_flags(OFlags::DIRECT.bits().cast_signed())
        .open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

impl DiskFile for RealFile {
    fn len(&mut self) -> Result<u64, DiskError> {
        Ok(self
            .file
            .metadata()
            .map_err(|error| failed(&self.path, &error))?
            .len())
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, DiskError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self
                .file
                .read_at(&mut buffer[filled..], offset + filled as u64)
            {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(&self.path, &error)),
            }
        }
        Ok(filled)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        if self.overwrites_sectors(offset, bytes.len())? && self.write_direct(offset, bytes)? {
            return Ok(());
        }
        self.file
            .write_all_at(bytes, offset)
            .map_err(|error| failed(&self.path, &error))
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        fdatasync(&self.file).map_err(|error| failed(&self.path, &error.into()))
    }

    fn set_len(&mut self, length: u64) -> Result<(), DiskError> {
        self.length = self.length.min(length);
        self.file
            .set_len(length)
            .map_err(|error| failed(&self.path, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes that go past the page cache and others, over each other, at all kinds of places.
    #[test]
    fn what_was_written_either_way_is_read_and_survives_a_new_name() {
        let directory = tempfile::tempdir().unwrap();
        let mut disk = FileDisk::open(directory.path()).unwrap();
        let mut file = disk.create("a").unwrap();
        let mut expected = vec![0; 64 * SECTOR_BYTES];
        file.write_at(0, &expected).unwrap();
        let writes = [
            (0, 512),
            (512, 7 * 512),
            (100, 1000),
            (3 * 512, 512),
            (60 * 512, 4 * 512),
            // Beyond the end, then over what that added.
            (63 * 512, 4 * 512),
            (64 * 512, 2 * 512),
            (66 * 512, 1),
        ];
        for (nth, (at, bytes)) in writes.into_iter().enumerate() {
            if nth == 3 {
                disk.rename("a", "b").unwrap();
            }
            let written = vec![nth as u8 + 1; bytes];
            file.write_at(at as u64, &written).unwrap();
            expected.resize(expected.len().max(at + bytes), 0);
            expected[at..at + bytes].copy_from_slice(&written);
            let mut read = vec![0; expected.len() + 1];
            assert_eq!(file.read_at(0, &mut read), Ok(expected.len()), "{nth}");
            assert!(read[..expected.len()] == expected, "{nth}");
        }
        file.sync().unwrap();
        file.set_len(512).unwrap();
        file.write_at(512, &[9; 512]).unwrap();
        let mut read = [0; 2048];
        assert_eq!(disk.open("b").unwrap().read_at(0, &mut read), Ok(1024));
        assert!(read[..512] == expected[..512] && read[512..1024] == [9; 512]);
    }

    #[test]
    fn only_sectors_that_exist_are_written_past_the_cache() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = FileDisk::open(directory.path())
            .unwrap()
            .create("a")
            .unwrap();
        file.write_at(0, &[1; 2048]).unwrap();
        assert!(matches!(file.direct, Direct::Untried));
        for (offset, bytes, overwrites) in [
            (0, 512, true),
            (1024, 1024, true),
            (1024, 1536, false),
            (1, 512, false),
            (0, 511, false),
            (0, 2 << 20, false),
        ] {
            assert_eq!(
                file.overwrites_sectors(offset, bytes),
                Ok(overwrites),
                "{bytes} at {offset}"
            );
        }
    }
}
