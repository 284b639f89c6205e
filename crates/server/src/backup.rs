//! A durable snapshot handed out to be told in other formats: read by whoever holds it, away from the member's threads, whatever becomes of it in
//! the directory meanwhile.

use bytes::Bytes;
use etcd::bolt::Source;
use log::{Disk, SnapshotReader};
use std::sync::{Mutex, PoisonError};

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
