//! The surface of the state machine: batches in, replies out, in slices; queries at a pinned revision; snapshots.

use crate::apply::Work;
use crate::auth::Auth;
use crate::client::Clients;
use crate::clock::Clock;
use crate::compaction::Reclaim;
use crate::hash;
use crate::history::EventPlace;
use crate::id::Ids;
use crate::kv::{Keys, key_value};
use crate::lease::{LEASE_BYTES, Leases};
use crate::lock::{Locks, Woken};
use crate::pins::Pins;
use crate::query::QueryCursor;
use crate::revision_log::Position;
use crate::snapshot::{SnapshotCursor, SnapshotHeader};
use crate::space::Space;
use crate::{Answer, KeyValue, Query, Reply};
use bytes::Bytes;

/// Limits of the state. Equal on all members.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Live and history bytes above which growing writes are refused, until the log says another limit. The default is the same in all
    /// versions, as members apply by it.
    pub state_bytes_max: u64,
    /// A removal of more keys takes effect at once and is written down later, so that no command waits for it.
    pub removal_keys_min: u64,
    /// Keys whose removal is written down at the end of each batch.
    pub removal_keys_per_batch: u64,
    /// The newest feature level this program knows; another than [`LEVEL`](crate::LEVEL) only in simulations of rolling upgrades.
    pub level_known: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            state_bytes_max: 2 << 30,
            level_known: crate::LEVEL,
            removal_keys_min: 1000,
            removal_keys_per_batch: 1024,
        }
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
    /// How acquisitions that waited ended, in order; those that a command granted at once are among them.
    pub woken: Vec<Woken>,
    /// Names of locks whose holders changed, or their texts; ascending.
    pub locks_changed: Vec<Vec<u8>>,
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

/// What queries see: the state after the last finished command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visible {
    pub revision: i64,
    pub compacted: i64,
    pub clock: Clock,
    pub keys: u64,
    pub bytes: u64,
    /// Where the log ended.
    pub end: Position,
}

/// The replicated state of one cell.
pub struct State {
    pub(crate) settings: Settings,
    pub(crate) applied: u64,
    pub(crate) hash_applied: u64,
    pub(crate) keys: Keys,
    pub(crate) leases: Leases,
    pub(crate) locks: Locks,
    pub(crate) clients: Clients,
    pub(crate) ids: Ids,
    pub(crate) auth: Auth,
    pub(crate) space: Space,
    pub(crate) clock: Clock,
    /// Raised with every command, every grant of a lock and every place in its queue.
    pub(crate) ordinal: u64,
    pub(crate) feature_level: u32,
    pub(crate) visible: Visible,
    pub(crate) work: Option<Box<Work>>,
    pub(crate) pins: Pins,
    pub(crate) reclaim: Reclaim,
}

impl State {
    /// An empty state.
    pub fn new(settings: Settings) -> State {
        let keys = Keys::new();
        let visible = Visible {
            revision: keys.revision,
            compacted: 0,
            clock: Clock::default(),
            keys: 0,
            bytes: 0,
            end: keys.log.end(),
        };
        let mut state = State {
            settings,
            applied: 0,
            hash_applied: 0,
            keys,
            leases: Leases::default(),
            locks: Locks::default(),
            clients: Clients::default(),
            ids: Ids::default(),
            auth: Auth::default(),
            space: Space::default(),
            clock: Clock::default(),
            ordinal: 0,
            feature_level: 0,
            visible,
            work: None,
            pins: Pins::default(),
            reclaim: Reclaim::default(),
        };
        state.hash_applied = state.compute_hash();
        state
    }

    /// Begins to apply a batch at `index`; then call [`State::apply_step`] until it yields. Between slices, queries see the state before the command at work.
    ///
    /// # Errors
    /// See [`ApplyError`]; nothing changed.
    ///
    /// # Panics
    /// If `index` does not follow [`State::applied`], a batch is at work, or the batch's clock falls.
    pub fn apply_begin(&mut self, index: u64, batch: &[u8]) -> Result<(), ApplyError> {
        self.begin(index, batch)
    }

    /// Works on the batch begun, within `budget`; `None` while it is not finished.
    ///
    /// # Panics
    /// If no batch is at work.
    pub fn apply_step(&mut self, budget: Budget) -> Option<Applied> {
        self.step(budget)
    }

    /// Notes an entry that carries nothing for the state (a no-op, a configuration), so that positions follow the log.
    ///
    /// # Panics
    /// If `index` does not follow [`State::applied`], or a batch is at work.
    pub fn apply_nothing(&mut self, index: u64) {
        assert!(
            self.work.is_none(),
            "entry {index} comes while a batch is at work"
        );
        assert_eq!(index, self.applied + 1, "an entry is applied out of order");
        self.applied = index;
    }

    /// Index of the last entry wholly applied.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// The newest revision visible to queries.
    pub fn revision(&self) -> i64 {
        self.visible.revision
    }

    /// The newest revision whose events, and those of all before it, can be read: below [`State::revision`] while a large removal is being
    /// written down. It rises with batches, empty ones as well; never falls, and is the same on all members at equal index.
    pub fn complete(&self) -> i64 {
        self.keys.complete(self.visible.revision)
    }

    /// The oldest readable revision; 0 before the first compaction.
    pub fn compacted(&self) -> i64 {
        self.visible.compacted
    }

    /// The replicated clock of the last batch, milliseconds.
    pub fn clock_ms(&self) -> u64 {
        self.visible.clock.clock_ms
    }

    /// The wall time of the last batch, milliseconds.
    pub fn wall_ms(&self) -> u64 {
        self.visible.clock.wall_ms
    }

    /// The clock at which the earliest lease or wait ends, or a lock opens again; the leader proposes an empty batch then. At or below
    /// [`State::clock_ms`] if more has ended than one batch may remove: the next batch is due at once.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let deadlines = [
            self.leases.next_deadline_ms(),
            self.locks.next_deadline_ms(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// The hash of the state after `applied()`: equal on all members at equal index (PROPERTIES KV5).
    pub fn hash(&self) -> u64 {
        self.hash_applied
    }

    /// Live and history bytes counted against the limit.
    pub fn bytes(&self) -> u64 {
        self.visible.bytes
    }

    /// Bytes of memory held for records: live, history, and what is not freed yet. Members may differ in it.
    pub fn held_bytes(&self) -> u64 {
        self.keys.log.held() as u64
    }

    /// Number of live keys.
    pub fn keys(&self) -> u64 {
        self.visible.keys
    }

    /// Number of leases.
    pub fn leases(&self) -> usize {
        self.leases.len()
    }

    /// The counter raised once per command.
    pub fn ordinal(&self) -> u64 {
        self.ordinal
    }

    /// The feature level switched on by the log (PROPERTIES U1).
    pub fn feature_level(&self) -> u32 {
        self.feature_level
    }

    /// Begins a query, pinned at the present (or its own) revision. End it by stepping until it answers, or by [`State::query_cancel`]:
    /// a cursor that is only dropped keeps history from being freed.
    pub fn query_begin(&mut self, query: Query) -> QueryCursor {
        self.begin_query(query)
    }

    /// Works on a query within `budget`; `None` while it is not finished. Gives the revision of the view beside the answer.
    pub fn query_step(
        &mut self,
        cursor: &mut QueryCursor,
        budget: Budget,
    ) -> Option<(Answer, i64)> {
        self.step_query(cursor, budget)
    }

    /// Gives up a query before its end.
    pub fn query_cancel(&mut self, cursor: QueryCursor) {
        self.cancel_query(cursor);
    }

    /// Events with revisions in `from..=complete()`, oldest first, at most about `budget` of them, whole revisions only (at least one).
    /// Calls `visit` for each; gives the first revision not visited.
    ///
    /// # Errors
    /// `from` is below the compacted revision: gives that revision (PROPERTIES W11). Events at the compacted revision itself are still there.
    pub fn events(
        &self,
        from: i64,
        budget: Budget,
        visit: &mut dyn FnMut(EventView<'_>),
    ) -> Result<i64, i64> {
        let whole = &mut |event: EventView<'_>| {
            visit(event);
            true
        };
        Ok(self
            .events_on(EventPlace::before(from), budget, whole)?
            .revision())
    }

    /// The same from any place, which this state gave: `visit` says whether it takes more of the same revision. If not, reading ends even
    /// inside a revision; it also ends where a revision does once `budget` events were visited. Gives the place to go on from.
    ///
    /// # Errors
    /// As [`State::events`].
    pub fn events_on(
        &self,
        from: EventPlace,
        budget: Budget,
        visit: &mut dyn FnMut(EventView<'_>) -> bool,
    ) -> Result<EventPlace, i64> {
        crate::history::events(self, from, budget, visit)
    }

    /// The state of a key as of `revision`, for `prev_kv`. `None`: absent, or compacted away.
    pub fn key_at(&self, key: &[u8], revision: i64) -> Option<KeyValue> {
        if revision < self.visible.compacted || revision > self.visible.revision {
            return None;
        }
        self.keys
            .get_past(key, revision)
            .map(|record| key_value(&record))
    }

    /// Physical compaction and other background work, within `budget`; `true` while more is waiting. Never changes what anybody can see.
    /// What a query or snapshot still needs waits for its end.
    pub fn background_step(&mut self, budget: Budget) -> bool {
        self.reclaim_step(budget)
    }

    /// Begins a snapshot of the present state, pinned; writes go on meanwhile. `header` is kept at its front; the state fills in its own
    /// fields (clock, wall, ordinal, hash, format).
    ///
    /// # Panics
    /// If a batch is at work, or the header's index is not [`State::applied`]: the snapshot would not be the state at its index.
    pub fn snapshot_begin(&mut self, header: SnapshotHeader) -> SnapshotCursor {
        self.begin_snapshot(header)
    }

    /// The next bytes of a snapshot, about `bytes_max`; `None` after the last.
    pub fn snapshot_step(
        &mut self,
        cursor: &mut SnapshotCursor,
        bytes_max: usize,
    ) -> Option<Bytes> {
        self.step_snapshot(cursor, bytes_max)
    }

    /// Gives up a snapshot before its end.
    pub fn snapshot_cancel(&mut self, cursor: SnapshotCursor) {
        self.cancel_snapshot(cursor);
    }

    pub(crate) fn lease_bytes(&self) -> u64 {
        self.leases.len() as u64 * LEASE_BYTES
    }

    /// Counted besides keys.
    pub(crate) fn other_bytes(&self) -> u64 {
        self.lease_bytes() + self.locks.bytes() + self.clients.bytes() + self.ids.bytes()
    }

    pub(crate) fn counted_bytes(&self) -> u64 {
        self.keys.bytes + self.other_bytes()
    }

    /// The hash of everything that is equal on all members.
    pub(crate) fn compute_hash(&self) -> u64 {
        let Keys {
            live_sum,
            chain,
            revision,
            compacted,
            live,
            ref removal,
            ..
        } = self.keys;
        let Clock { clock_ms, wall_ms } = self.clock;
        let leases = [self.leases.sum(), self.leases.len() as u64];
        let keys = [
            live_sum,
            chain,
            revision as u64,
            compacted as u64,
            live,
            self.counted_bytes(),
        ];
        let keys = match removal {
            Some(removal) => hash::mix(
                hash::mix_all(&keys),
                hash::mix_all(&[
                    removal.revision as u64,
                    removal.left,
                    hash::key(&removal.bounds.start),
                    hash::key(&removal.bounds.range_end()),
                ]),
            ),
            None => hash::mix_all(&keys),
        };
        // What was never used leaves no trace.
        let optional = [
            self.space.hash(),
            self.locks.hash(),
            self.clients.hash(),
            self.ids.hash(),
        ];
        let keys = optional.into_iter().flatten().fold(keys, hash::mix);
        hash::mix(
            keys,
            hash::mix(
                hash::mix_all(&leases),
                hash::mix_all(&[
                    clock_ms,
                    wall_ms,
                    self.ordinal,
                    u64::from(self.feature_level),
                    self.auth.hash(),
                ]),
            ),
        )
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
