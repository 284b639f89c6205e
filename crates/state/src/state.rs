//! The surface of the state machine: batches in, replies out, in slices; queries at a pinned revision; snapshots.

use crate::{Answer, Query, Reply};
use bytes::Bytes;

/// Limits of the state. Equal on all members.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Live and history bytes above which growing writes are refused.
    pub state_bytes_max: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { state_bytes_max: 2 << 30 }
    }
}

/// Work allowed in one slice, in units of about a microsecond (one key visited costs one unit).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget(pub u64);

/// Why a batch cannot be applied by this binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyError {
    /// It needs a newer version: the member must stop applying and say so (PROPERTIES U1).
    NewerVersion {
        /// Needed.
        needed: u32,
        /// Known.
        known: u32,
    },
    /// The bytes are no batch: the log is not ours, or the code is wrong.
    Malformed(String),
}

/// What applying one batch gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// Per group of the batch, in order.
    pub groups: Vec<GroupApplied>,
    /// Leases that ended by time.
    pub expired: Vec<i64>,
}

/// What one group's members are told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupApplied {
    /// Member that gathered the group (see `Group`).
    pub member: u64,
    /// Its incarnation.
    pub incarnation: u32,
    /// Its process start.
    pub boot: u64,
    /// Its number of the group.
    pub sequence: u64,
    /// Per renewal in order: the lease and its time to live in milliseconds, `None` if there is no such lease.
    pub renewals: Vec<(i64, Option<u64>)>,
    /// Per command in order: the reply and the revision right after it.
    pub replies: Vec<(Reply, i64)>,
}

/// The replicated state of one cell.
pub struct State {}

impl State {
    /// An empty state.
    pub fn new(_settings: Settings) -> State {
        todo!()
    }

    /// Begins to apply a batch at `index`; then call [`State::apply_step`] until it yields. Between slices, queries see the state before the command at work.
    ///
    /// # Errors
    /// See [`ApplyError`]; nothing changed.
    pub fn apply_begin(&mut self, _index: u64, _batch: &[u8]) -> Result<(), ApplyError> {
        todo!()
    }

    /// Works on the batch begun, within `budget`; `None` while it is not finished.
    pub fn apply_step(&mut self, _budget: Budget) -> Option<Applied> {
        todo!()
    }

    /// Notes an entry that carries nothing for the state (a no-op, a configuration), so that positions follow the log.
    pub fn apply_nothing(&mut self, _index: u64) {
        todo!()
    }

    /// Index of the last entry wholly applied.
    pub fn applied(&self) -> u64 {
        todo!()
    }

    /// The newest revision visible to queries.
    pub fn revision(&self) -> i64 {
        todo!()
    }

    /// The oldest readable revision; 0 before the first compaction.
    pub fn compacted(&self) -> i64 {
        todo!()
    }

    /// The replicated clock of the last batch, milliseconds.
    pub fn clock_ms(&self) -> u64 {
        todo!()
    }

    /// The wall time of the last batch, milliseconds.
    pub fn wall_ms(&self) -> u64 {
        todo!()
    }

    /// The clock at which the earliest lease ends; the leader proposes an empty batch then.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        todo!()
    }

    /// The hash of the state after `applied()`: equal on all members at equal index (PROPERTIES KV5).
    pub fn hash(&self) -> u64 {
        todo!()
    }

    /// Live and history bytes counted against the limit.
    pub fn bytes(&self) -> u64 {
        todo!()
    }

    /// Number of live keys.
    pub fn keys(&self) -> u64 {
        todo!()
    }

    /// Begins a query, pinned at the present (or its own) revision.
    pub fn query_begin(&mut self, _query: Query) -> QueryCursor {
        todo!()
    }

    /// Works on a query within `budget`; `None` while it is not finished. Gives the revision of the view beside the answer.
    pub fn query_step(&mut self, _cursor: &mut QueryCursor, _budget: Budget) -> Option<(Answer, i64)> {
        todo!()
    }

    /// Gives up a query before its end.
    pub fn query_cancel(&mut self, _cursor: QueryCursor) {
        todo!()
    }

    /// Events with revisions in `from..=revision()`, oldest first, at most about `budget` of them, whole revisions only (at least one).
    /// Calls `visit` for each; gives the first revision not visited.
    ///
    /// # Errors
    /// `from` is at or below the compacted revision: gives that revision (PROPERTIES W11).
    pub fn events(&self, _from: i64, _budget: Budget, _visit: &mut dyn FnMut(EventView<'_>)) -> Result<i64, i64> {
        todo!()
    }

    /// The state of a key as of `revision`, for `prev_kv`. `None`: absent, or compacted away.
    pub fn key_at(&self, _key: &[u8], _revision: i64) -> Option<crate::KeyValue> {
        todo!()
    }

    /// Physical compaction and other background work, within `budget`; `true` while more is waiting. Never changes what anybody can see.
    pub fn background_step(&mut self, _budget: Budget) -> bool {
        todo!()
    }

    /// Begins a snapshot of the present state, pinned; writes go on meanwhile. `header` is kept at its front.
    pub fn snapshot_begin(&mut self, _header: SnapshotHeader) -> SnapshotCursor {
        todo!()
    }

    /// The next bytes of a snapshot, about `bytes_max`; `None` after the last.
    pub fn snapshot_step(&mut self, _cursor: &mut SnapshotCursor, _bytes_max: usize) -> Option<Bytes> {
        todo!()
    }

    /// Gives up a snapshot before its end.
    pub fn snapshot_cancel(&mut self, _cursor: SnapshotCursor) {
        todo!()
    }
}

/// One change of one key, as the history holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventView<'a> {
    /// Revision of the change.
    pub revision: i64,
    /// The key was removed.
    pub deleted: bool,
    /// The key.
    pub key: &'a [u8],
    /// Its value after the change; empty for a removal.
    pub value: &'a [u8],
    /// Revision of its creation; 0 for a removal.
    pub create_revision: i64,
    /// Changes in this life; 0 for a removal.
    pub version: i64,
    /// Its lease; 0 for none.
    pub lease: i64,
}

/// A query under way.
pub struct QueryCursor {}

/// A snapshot under way.
pub struct SnapshotCursor {}

/// The front of a snapshot: what it stands for.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SnapshotHeader {
    /// Version of the snapshot format; 1.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// The cluster.
    #[prost(fixed64, tag = "2")]
    pub cluster: u64,
    /// The cell.
    #[prost(uint64, tag = "3")]
    pub cell: u64,
    /// Index of the last entry included.
    #[prost(uint64, tag = "4")]
    pub index: u64,
    /// Term of that entry.
    #[prost(uint64, tag = "5")]
    pub term: u64,
    /// The configuration at that index, in `raft`'s encoding.
    #[prost(bytes = "bytes", tag = "6")]
    pub configuration: Bytes,
    /// The replicated clock.
    #[prost(uint64, tag = "7")]
    pub clock_ms: u64,
    /// The ordinal.
    #[prost(uint64, tag = "8")]
    pub ordinal: u64,
    /// The state hash.
    #[prost(fixed64, tag = "9")]
    pub hash: u64,
    /// The wall clock of the last batch.
    #[prost(uint64, tag = "10")]
    pub wall_ms: u64,
}

/// Builds a state from a snapshot's bytes, in slices.
pub struct Loader {}

/// Why a snapshot cannot be loaded. Nothing was taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotError {
    /// It is damaged: where, and what was expected.
    Corrupt(String),
    /// It is of a newer format.
    NewerFormat {
        /// Its format.
        format: u32,
        /// The newest known here.
        known: u32,
    },
}

impl Loader {
    /// Begins.
    pub fn new(_settings: Settings) -> Loader {
        todo!()
    }

    /// Takes the next bytes, of any length.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub fn feed(&mut self, _bytes: &[u8]) -> Result<(), SnapshotError> {
        todo!()
    }

    /// Ends: checks that all was there and that the hash matches.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub fn finish(self) -> Result<(State, SnapshotHeader), SnapshotError> {
        todo!()
    }
}
