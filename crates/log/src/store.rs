//! The surface of the durable side of a member: identity, log, snapshots, in one directory.

use crate::recovery::recover;
use crate::snapshot::NewestSnapshot;
use crate::wal::Wal;
use crate::{Disk, DiskError, Identity, Snapshots, directory, identity};
use raft::{Configuration, Entry, Index, MemberId, Persist, SnapshotMark, Term, Vote};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

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
            segment_bytes: 16 << 20,
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
    /// Entries up to here are known to be decided (see [`Persist::commit`]); at least what the snapshot has.
    pub commit: Index,
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
    /// What was to be read does not match its checksum. It was set aside, as the text says, and will not be served.
    Damaged(String),
}

/// The answer to [`Log::read`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadEntries {
    /// Contiguous entries from the index asked for, at least one.
    Entries(Vec<Entry>),
    /// The log no longer (or not yet) has that index.
    Absent,
    /// The record there is damaged and is not served.
    Damaged(Damage),
}

/// Damage found in a segment while it is in use. Its file is set aside once a durable snapshot makes it needless ([`Log::release`]), or by the next start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The last index of an entry in the segment: a snapshot up to there makes it needless.
    pub through: Index,
    /// What is wrong and where, in words.
    pub what: String,
    /// This segment was not known to be damaged before.
    pub is_news: bool,
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
    mut disk: D,
    settings: Settings,
    new_member: MemberId,
) -> Result<Opened<D>, OpenError> {
    directory::prepare(&mut disk)?;
    let identity = identity::load_or_create(&mut disk, new_member)?;
    let (snapshots, mut quarantined) = Snapshots::open(disk.clone())?;
    let snapshot = snapshots.snapshot().map(|(mark, _, _)| mark);
    let found = recover(&mut disk, &settings, &identity, snapshot.as_ref())?;
    quarantined.extend(found.quarantined);
    let recovered = Recovered {
        vote: found.vote,
        snapshot,
        terms: found.terms,
        last: found.last,
        configurations: found.configurations,
        commit: found.commit,
        entries_lost: found.entries_lost,
        quarantined,
    };
    Ok(Opened {
        log: Log {
            disk,
            settings,
            wal: found.wal,
            snapshot: snapshots.newest(),
        },
        snapshots,
        identity,
        recovered,
    })
}

/// Identity and log of a member.
pub struct Log<D: Disk> {
    disk: D,
    settings: Settings,
    wal: Wal<D>,
    /// The newest durable snapshot, kept by [`Snapshots`].
    snapshot: Arc<NewestSnapshot>,
}

impl<D: Disk> Log<D> {
    /// Replaces the identity record, durably.
    ///
    /// # Errors
    /// The disk failed; the old record stands.
    pub fn write_identity(&mut self, identity: &Identity) -> Result<(), StoreError> {
        identity::write(&mut self.disk, identity).map_err(StoreError::from)
    }

    /// Queues a persist; nothing is durable before [`Log::sync`].
    ///
    /// # Panics
    /// The entries leave a gap, or the term of the vote falls.
    pub fn append(&mut self, persist: &Persist) {
        self.wal.append(persist);
    }

    /// Queues the end of [`Recovered::entries_lost`], which otherwise survives restarts: the member's log has been made good by the others.
    pub fn clear_entries_lost(&mut self) {
        self.wal.clear_entries_lost();
    }

    /// Queues the beginning of a new incarnation, which has voted for nobody up to `term` and acknowledged nothing yet: it keeps the log and none of the
    /// doubts. The identity must be durable before ([`Log::write_identity`]), or the old incarnation would forget its vote.
    pub fn begin_incarnation(&mut self, term: Term) {
        self.wal.begin_incarnation(term);
    }

    /// What was set aside since the last call, in words for the operator.
    pub fn take_quarantined(&mut self) -> Vec<String> {
        std::mem::take(&mut self.wal.quarantined)
    }

    /// Writes what is queued and makes it durable: one write and one sync. On an error it is all still queued, and a further call tries again.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn sync(&mut self) -> Result<(), StoreError> {
        self.wal.sync()
    }

    /// Reads durable entries back. Those that a queued persist overwrites are absent already.
    pub fn read(&mut self, from: Index, bytes_max: usize) -> ReadEntries {
        self.wal.read(from, bytes_max)
    }

    /// Forgets entries up to and including `upto`; their segments are recycled. A durable snapshot must cover them. Some may stay readable.
    pub fn release(&mut self, upto: Index) {
        self.wal.release(upto);
    }

    /// Bytes of log entries after the newest snapshot, to decide when to take the next.
    pub fn log_bytes(&self) -> u64 {
        self.wal
            .bytes_after(Index(self.snapshot.index.load(Relaxed)))
    }

    /// Free bytes on the disk are below the low-water mark, or too few for the next snapshot, or the reserve is in use and no other can be made. Files
    /// that wait to be used again are given up first.
    pub fn low_on_space(&mut self) -> bool {
        let below = self.is_below_mark();
        if below {
            self.wal.pool.drop_spares();
        }
        // When there is room again, the reserve is made even if nothing is written.
        self.wal.pool.step(0);
        !self.wal.pool.has_reserve() || (below && self.is_below_mark())
    }

    /// A mark of 0 asks for nothing but the reserve.
    fn is_below_mark(&mut self) -> bool {
        let mark = self.settings.low_water_bytes;
        let snapshot = self.snapshot.bytes.load(Relaxed);
        let wanted = mark.max(snapshot + snapshot / 4);
        mark > 0 && self.disk.free_bytes().is_ok_and(|free| free < wanted)
    }
}
