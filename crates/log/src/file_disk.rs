//! The real disk: one directory of the file system.

use crate::{Disk, DiskError, DiskFile};
use rustix::fs::{FlockOperation, fdatasync, flock, statvfs};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// The name of the file whose lock is the directory's.
const LOCK: &str = "lock";

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
        Ok(RealFile { file, path })
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
        Ok(RealFile { file, path })
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
        self.file
            .write_all_at(bytes, offset)
            .map_err(|error| failed(&self.path, &error))
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        fdatasync(&self.file).map_err(|error| failed(&self.path, &error.into()))
    }

    fn set_len(&mut self, length: u64) -> Result<(), DiskError> {
        self.file
            .set_len(length)
            .map_err(|error| failed(&self.path, &error))
    }
}
