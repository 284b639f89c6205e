//! The state of a cluster kept elsewhere: a durable snapshot handed out, the file it is kept in, and a new cluster made from that file.
//!
//! A snapshot handed out is read by whoever holds it, away from the member's threads, whatever becomes of it in the directory meanwhile.

mod file;
mod offline;
mod restore;
#[cfg(test)]
mod tests;

pub use file::{BackupWriter, Kind, Loaded, Sha, Summary, load};
pub use offline::save_directory;
pub use restore::{Restoration, Restored, restore};

use bytes::Bytes;
use etcd::bolt::Source;
use log::{Disk, SnapshotReader};
use sha2::{Digest, Sha256};
use state::Raise;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// A restored cluster's indexes, tokens and ids lie this far above those it is restored from: more than a cluster can have used since.
const POSITIONS: u64 = 1 << 40;
/// The same for revisions. Smaller, as etcd's tools do it.
const REVISIONS: i64 = 1_000_000_000;
/// Restorations of one lineage at most, so that tokens stay below 2^53.
const GENERATION_MAX: u64 = 4096;

/// Why a file, or a directory to be made from it, cannot be used: subject, what is wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupError(pub String);

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BackupError {}

/// How far a restored cluster's counters are raised: by one step for every time that its clients have seen a restoration, this one included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raised(u64);

impl Raised {
    /// For the so-manieth restoration, from 1 on.
    ///
    /// # Errors
    /// There are no so many.
    pub fn new(generation: u64) -> Result<Raised, BackupError> {
        if (1..=GENERATION_MAX).contains(&generation) {
            Ok(Raised(generation))
        } else {
            Err(BackupError(format!(
                "generation: {generation} is not within 1 and {GENERATION_MAX}; pass 1 unless the clients have seen a restored cluster before"
            )))
        }
    }

    fn generation(self) -> u64 {
        self.0
    }

    fn raise(self) -> Raise {
        Raise {
            positions: POSITIONS * self.0,
            revisions: REVISIONS * self.0 as i64,
        }
    }

    /// The key that signs tokens from now on: not the old one, and the same on all members.
    fn token_key(self, old: &[u8], content: &Sha) -> Bytes {
        let mut sha = Sha256::new();
        sha.update(b"synod restored tokens\0");
        sha.update(self.0.to_le_bytes());
        sha.update(content);
        sha.update(old);
        Bytes::copy_from_slice(&sha.finalize())
    }
}

/// Where its bytes come from: a file of any disk.
pub(crate) trait SnapshotBytes: Send {
    /// Number of bytes.
    fn length(&self) -> u64;
    /// Reads some.
    fn read(&mut self, at: u64, bytes_max: usize) -> Result<Bytes, String>;
}

impl<D: Disk> SnapshotBytes for SnapshotReader<D>
where
    SnapshotReader<D>: Send,
{
    fn length(&self) -> u64 {
        self.mark().1
    }

    fn read(&mut self, at: u64, bytes_max: usize) -> Result<Bytes, String> {
        SnapshotReader::read(self, at, bytes_max)
    }
}

/// A snapshot held open.
pub struct OpenSnapshot {
    length: u64,
    bytes: Mutex<Box<dyn SnapshotBytes>>,
}

impl OpenSnapshot {
    /// Takes over a reader.
    pub(crate) fn new(bytes: impl SnapshotBytes + 'static) -> OpenSnapshot {
        OpenSnapshot {
            length: bytes.length(),
            bytes: Mutex::new(Box::new(bytes)),
        }
    }
}

impl Source for OpenSnapshot {
    fn length(&self) -> u64 {
        self.length
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<(), String> {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut filled = 0;
        while filled < into.len() {
            let piece = bytes.read(at + filled as u64, into.len() - filled)?;
            if piece.is_empty() {
                return Err("the snapshot ends early".into());
            }
            into[filled..filled + piece.len()].copy_from_slice(&piece);
            filled += piece.len();
        }
        Ok(())
    }
}
