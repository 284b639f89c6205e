//! What a member is told when it starts: timing, limits, and what its disk gave back.

use crate::{Boot, Configuration, Index, PeerId, SnapshotMark, Term, Vote};
use std::time::Duration;

/// Timing and limits. Equal on all members except where said.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Time between heartbeats of a leader.
    pub heartbeat: Duration,
    /// Shortest time of silence after which a follower starts a pre-vote.
    pub election_min: Duration,
    /// Longest such time; each round draws between the two.
    pub election_max: Duration,
    /// Bytes of entries in one append message at most (a single larger entry travels alone).
    pub append_bytes_max: usize,
    /// Bytes of appends sent to one follower and not yet answered, at most.
    pub inflight_bytes_max: usize,
    /// Number of such messages at most.
    pub inflight_count_max: usize,
    /// Bytes of proposals not yet committed at a leader; more are refused as overload.
    pub uncommitted_bytes_max: usize,
    /// Bytes of recent entries kept in memory for followers that do not have them yet, once they are durable and committed.
    pub cache_bytes_max: usize,
    /// A write to the local disk that takes longer makes a leader hand over, if another voter is timely.
    pub disk_stall: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(500),
            election_max: Duration::from_millis(1000),
            append_bytes_max: 256 << 10,
            inflight_bytes_max: 8 << 20,
            inflight_count_max: 256,
            uncommitted_bytes_max: 64 << 20,
            cache_bytes_max: 16 << 20,
            disk_stall: Duration::from_millis(400),
        }
    }
}

/// What a member knows of itself when it starts: the findings of log recovery.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Who it is.
    pub id: PeerId,
    /// This process start.
    pub boot: Boot,
    /// The durable vote record.
    pub vote: Vote,
    /// Where the log starts: the newest durable snapshot. At bootstrap: index 0, term 0 and the first configuration.
    pub snapshot: SnapshotMark,
    /// First index of each run of equal terms in the log after the snapshot, ascending.
    pub terms: Vec<(Index, Term)>,
    /// Index of the last durable entry; the snapshot's if there is none.
    pub last: Index,
    /// Every configuration entry after the snapshot, ascending.
    pub configurations: Vec<(Index, Configuration)>,
    /// The newest [`crate::Persist::commit`] of a write that is kept: entries up to here are decided. May lie before the snapshot.
    pub commit: Index,
    /// How far the member may be believed.
    pub standing: Standing,
}

/// How far a member's memory may be believed after a restart (PROPERTIES R2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Nothing it acknowledged can be missing.
    #[default]
    Sound,
    /// Entries may be missing, the vote is intact: nothing it says counts until its log matches a commit index
    /// confirmed after this restart by a quorum without it.
    EntriesLost,
}
