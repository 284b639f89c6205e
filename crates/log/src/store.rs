//! The surface of the durable side of a member: identity, log, snapshots, in one directory.

use crate::{Disk, DiskError, Identity, Snapshots};
use raft::{Configuration, Entry, Index, MemberId, Persist, SnapshotMark, Term, Vote};

/// Sizes and reserves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Length of a log segment file.
    pub segment_bytes: u64,
    /// Free bytes below which only writes that free space are admitted.
    pub low_water_bytes: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            segment_bytes: 64 << 20,
            low_water_bytes: 256 << 20,
        }
    }
}

/// What recovery found.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The newest vote record; `None` if it is lost.
    pub vote: Option<Vote>,
    /// The newest whole snapshot, if any.
    pub snapshot: Option<SnapshotMark>,
    /// First index of each run of equal terms in the log after the snapshot.
    pub terms: Vec<(Index, Term)>,
    /// The last entry; the snapshot's index if there is none, 0 without either.
    pub last: Index,
    /// Every configuration entry after the snapshot.
    pub configurations: Vec<(Index, Configuration)>,
    /// Entries that were acknowledged may be missing after `last`.
    pub entries_lost: bool,
    /// What was found damaged and set aside, in words for the operator.
    pub quarantined: Vec<String>,
}

/// Why a directory was not opened. It was not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// Another process uses it.
    Locked,
    /// It was written by a newer version.
    NewerVersion {
        /// Of the directory.
        found: u32,
        /// The newest known here.
        known: u32,
    },
    /// It holds something that is not ours; the text names it.
    Foreign(String),
    /// It can be neither believed nor repaired here; the text says what and where.
    Damaged(String),
    /// The disk failed.
    Disk(DiskError),
}

/// A sync or write failed; what [`Log::append`] was given since the last good sync is still in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The disk is full beyond the reserve.
    Full,
    /// The disk failed twice in a row, the new file included: the member must step aside; calling again retries.
    Failed(DiskError),
}

/// The answer to [`Log::read`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadEntries {
    /// Contiguous entries from the index asked for, at least one.
    Entries(Vec<Entry>),
    /// The log no longer (or not yet) has that index.
    Absent,
    /// The record there is damaged: it was set aside and is not served.
    Damaged(String),
}

/// What opening a directory gives. Log and snapshots are apart so that a shell may serve them from two threads.
pub struct Opened<D: Disk> {
    /// Identity and log.
    pub log: Log<D>,
    /// The snapshots.
    pub snapshots: Snapshots<D>,
    /// Whose the directory is.
    pub identity: Identity,
    /// What recovery found.
    pub recovered: Recovered,
}

/// Opens a directory, making it ours if it is empty, and recovers what it holds. `new_member` is used if it has no identity yet.
///
/// # Errors
/// See [`OpenError`].
pub fn open<D: Disk>(
    _disk: D,
    _settings: Settings,
    _new_member: MemberId,
) -> Result<Opened<D>, OpenError> {
    todo!()
}

/// Identity and log of a member.
pub struct Log<D: Disk> {
    _disk: D,
}

impl<D: Disk> Log<D> {
    /// Replaces the identity record, durably.
    ///
    /// # Errors
    /// The disk failed; the old record stands.
    pub fn write_identity(&mut self, _identity: &Identity) -> Result<(), StoreError> {
        todo!()
    }

    /// Queues a persist; nothing is durable before [`Log::sync`].
    pub fn append(&mut self, _persist: &Persist) {
        todo!()
    }

    /// Writes what is queued and makes it durable. On an error it is all still queued.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn sync(&mut self) -> Result<(), StoreError> {
        todo!()
    }

    /// Reads entries back.
    pub fn read(&mut self, _from: Index, _bytes_max: usize) -> ReadEntries {
        todo!()
    }

    /// Forgets entries up to and including `upto`; their segments are recycled. A durable snapshot must cover them.
    pub fn release(&mut self, _upto: Index) {
        todo!()
    }

    /// Bytes of log entries after the newest snapshot, to decide when to take the next.
    pub fn log_bytes(&self) -> u64 {
        todo!()
    }

    /// Free bytes on the disk are below the low-water mark.
    pub fn low_on_space(&mut self) -> bool {
        todo!()
    }
}
