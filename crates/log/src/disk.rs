//! The disk as the log sees it: one directory of flat files. Two implementations: the real one below, and the simulator's.

use std::fmt;

/// Why an operation of a disk failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// No such file.
    NotFound,
    /// No space left.
    Full,
    /// Another process holds the directory.
    Locked,
    /// Anything else; the text is the system's.
    Failed(String),
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiskError::NotFound => write!(f, "no such file"),
            DiskError::Full => write!(f, "no space left on the disk"),
            DiskError::Locked => write!(f, "the directory is in use by another process"),
            DiskError::Failed(text) => write!(f, "{text}"),
        }
    }
}

impl std::error::Error for DiskError {}

/// A directory of flat files; clones share it. Calls block. Writes become durable only by `sync`; creations, renames and removals only by `sync_directory`.
pub trait Disk: Clone {
    /// An open file.
    type File: DiskFile;
    /// Takes the directory for this process until every clone is dropped.
    ///
    /// # Errors
    /// [`DiskError::Locked`] if another process has it.
    fn lock(&mut self) -> Result<(), DiskError>;
    /// Names of all files, in any order.
    fn list(&mut self) -> Result<Vec<String>, DiskError>;
    /// Opens a file for reading and writing.
    fn open(&mut self, name: &str) -> Result<Self::File, DiskError>;
    /// Makes a new, empty file; replaces one of that name.
    fn create(&mut self, name: &str) -> Result<Self::File, DiskError>;
    /// Renames a file; replaces one of the new name.
    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError>;
    /// Removes a file.
    fn remove(&mut self, name: &str) -> Result<(), DiskError>;
    /// Makes creations, renames and removals durable.
    fn sync_directory(&mut self) -> Result<(), DiskError>;
    /// Bytes free for writing.
    fn free_bytes(&mut self) -> Result<u64, DiskError>;
}

/// An open file of a [`Disk`].
#[allow(
    clippy::len_without_is_empty,
    reason = "a file is asked for its length, which may fail; nobody asks whether it is empty"
)]
pub trait DiskFile {
    /// Its length in bytes.
    fn len(&mut self) -> Result<u64, DiskError>;
    /// Reads up to `buffer.len()` bytes at `offset`; gives how many there were (fewer only at the end).
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, DiskError>;
    /// Writes all of `bytes` at `offset`, extending the file if needed.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;
    /// Makes everything written so far durable.
    fn sync(&mut self) -> Result<(), DiskError>;
    /// Cuts or extends (with zeros) to `length`.
    fn set_len(&mut self, length: u64) -> Result<(), DiskError>;
}
