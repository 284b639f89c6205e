//! What this member knows of snapshots: the newest durable one, and the transfers under way.

use crate::input::Ticket;
use crate::snapshot_load::Loading;
use crate::snapshot_receive::Receiving;
use crate::snapshot_send::Sending;
use crate::snapshot_take::Taking;
use raft::{Instant, PeerId, SnapshotMark};
use std::collections::BTreeMap;

/// Bytes in one piece of a snapshot: about a millisecond of work for a disk.
pub(crate) const PIECE_BYTES: usize = 256 << 10;

/// A durable snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotFile {
    pub(crate) mark: SnapshotMark,
    pub(crate) bytes: u64,
    /// crc32c over all of it.
    pub(crate) checksum: u32,
}

/// Snapshots of this member.
#[derive(Default)]
pub(crate) struct Snapshots {
    /// The newest durable one; unknown after a start until it has been loaded.
    pub(crate) newest: Option<SnapshotFile>,
    pub(crate) taking: Option<Taking>,
    pub(crate) sending: BTreeMap<PeerId, Sending>,
    pub(crate) receiving: Option<Receiving>,
    pub(crate) loading: Option<Loading>,
    /// Bytes of log since the newest, as told last.
    pub(crate) log_bytes: u64,
    /// A follower needs one and there is none to send: take one now.
    pub(crate) wanted: bool,
    /// Who waits for a snapshot at or after which index.
    pub(crate) asked: Vec<(Ticket, u64)>,
    /// When the last one could not be written.
    pub(crate) failed_at: Option<Instant>,
    last_stage: u64,
}

impl Snapshots {
    /// The state is being replaced.
    pub(crate) fn is_loading(&self) -> bool {
        self.loading.is_some()
    }

    /// A name for a staging file, used once in this process.
    pub(crate) fn next_stage(&mut self) -> u64 {
        self.last_stage += 1;
        self.last_stage
    }
}
