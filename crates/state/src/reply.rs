//! What commands and queries answer. Values, not wire messages: the doors translate.

use crate::client::{ClientRejection, ClientReply};
use crate::id::{IdRejection, IdReply};
use crate::lock::{GuardRejection, LockAnswer, LockQuery, LockRejection, LockReply};
use bytes::Bytes;

/// A key as a reader sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// Its value; empty when left out.
    pub value: Bytes,
    /// Revision of its creation in this life.
    pub create_revision: i64,
    /// Revision of its last change.
    pub mod_revision: i64,
    /// Changes in this life; 1 after creation.
    pub version: i64,
    /// The lease it is attached to; 0 for none.
    pub lease: i64,
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To a put.
    Put {
        /// What was there, if asked for.
        prev: Option<KeyValue>,
    },
    /// To a delete.
    DeleteRange {
        /// Number of keys removed.
        deleted: i64,
        /// They, if asked for.
        prev: Vec<KeyValue>,
    },
    /// To a transaction.
    Txn(TxnReply),
    /// To a compaction.
    Compact,
    /// To a grant.
    LeaseGrant {
        /// The lease.
        id: i64,
        /// Its time to live.
        ttl_ms: u64,
    },
    /// To a revocation.
    LeaseRevoke,
    /// To a change of the feature level.
    SetFeatureLevel,
    /// To a change of users, roles or permissions.
    Auth,
    /// To a change of the limit on bytes.
    SetBytesMax,
    /// To an alarm raised or lowered by hand.
    SetAlarm {
        /// It was raised before.
        was_raised: bool,
    },
    /// To a change of a lock.
    Lock(LockReply),
    /// To a change of client records.
    Client(ClientReply),
    /// To a change of what identifiers are made from.
    Id(IdReply),
    /// To a repetition: it was applied, and its answer was too long to be kept.
    Applied,
    /// The command was refused; nothing changed.
    Rejected(Rejection),
}

/// The answer to a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnReply {
    /// The comparisons held.
    pub succeeded: bool,
    /// One answer per step of the list that ran.
    pub steps: Vec<StepReply>,
    /// Per step, the revision its header shows: of a range, the state it saw; of a nested transaction 0, as etcd leaves it out.
    pub revisions: Vec<i64>,
    /// Revision after the transaction; of a nested one, after its last step.
    pub revision: i64,
}

/// The answer to one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepReply {
    /// To a range.
    Range(RangeReply),
    /// To a put.
    Put {
        /// What was there, if asked for.
        prev: Option<KeyValue>,
    },
    /// To a delete.
    DeleteRange {
        /// Number of keys removed.
        deleted: i64,
        /// They, if asked for.
        prev: Vec<KeyValue>,
    },
    /// To a nested transaction.
    Txn(TxnReply),
}

/// The answer to a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeReply {
    /// The keys, in the order asked for.
    pub kvs: Vec<KeyValue>,
    /// More keys than the limit let through.
    pub more: bool,
    /// Keys in the range at that revision, before limit and filters (as etcd counts).
    pub count: i64,
}

/// Why a command or query was refused. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// `ignore_value` or `ignore_lease` on a key that does not exist.
    KeyNotFound,
    /// No such lease.
    LeaseNotFound,
    /// The wanted lease id is taken.
    LeaseExists,
    /// The revision was compacted away.
    Compacted {
        /// The oldest readable revision.
        compacted: i64,
    },
    /// The revision is not reached yet.
    FutureRevision {
        /// The present revision.
        current: i64,
    },
    /// Live and history bytes are at their limit; deletes and compaction still pass.
    NoSpace {
        /// Bytes now.
        bytes: u64,
        /// The limit (`state-bytes-max`).
        bytes_max: u64,
    },
    /// An alarm says that the states of the members differ.
    Corrupt,
    /// Users and permissions stand against it.
    Auth(crate::auth::AuthRejection),
    /// A lock stands against it, or there is none.
    Lock(LockRejection),
    /// A guard does not hold (PROPERTIES F3).
    Guard(GuardRejection),
    /// The client's record stands against it, or there is none (PROPERTIES E2).
    Client(ClientRejection),
    /// No identifiers can be handed out.
    Id(IdRejection),
    /// The request makes no sense; doors check before, so this guards against other writers of the log.
    Invalid(String),
}

/// What may be asked of the state without changing it.
#[derive(Clone, Debug, PartialEq)]
pub enum Query {
    /// Read keys.
    Range(crate::Range),
    /// A transaction that writes nothing on either branch.
    Txn(crate::Txn),
    /// A lease's remaining time.
    LeaseTimeToLive {
        /// Which.
        id: i64,
        /// List its keys.
        keys: bool,
    },
    /// All leases.
    Leases,
    /// Leases as sessions, by id, page by page.
    Sessions {
        /// First id.
        from: i64,
        /// At most; bounded by [`crate::lock::PAGE_MAX`].
        limit: usize,
    },
    /// Hash of keys and history up to a revision (0: the newest).
    HashKv {
        /// Up to this revision.
        revision: i64,
    },
    /// The alarms.
    Alarms,
    /// About locks.
    Lock(LockQuery),
    /// Nothing but the position: used to confirm that the member serves.
    Position,
}

/// What a query answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To a range.
    Range(RangeReply),
    /// To a read-only transaction.
    Txn(TxnReply),
    /// To a lease query; `None`: no such lease.
    Lease(Option<LeaseView>),
    /// To the list: ids, ascending.
    Leases(Vec<i64>),
    /// To a page of sessions.
    Sessions {
        /// They.
        sessions: Vec<SessionView>,
        /// There are further ones.
        more: bool,
    },
    /// To the hash query.
    HashKv {
        /// The hash; equal on all members for equal revisions.
        hash: u32,
        /// The compaction it starts at.
        compact_revision: i64,
        /// The revision it goes up to.
        hash_revision: i64,
    },
    /// To the alarms query: by kind and member.
    Alarms(Vec<crate::Alarm>),
    /// To a query about locks.
    Lock(LockAnswer),
    /// To a position query.
    Position,
    /// Refused.
    Rejected(Rejection),
}

/// A lease as a reader sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseView {
    /// Its id.
    pub id: i64,
    /// Time to live as granted.
    pub granted_ms: u64,
    /// What remains on the replicated clock of the state.
    pub remaining_ms: u64,
    /// Its keys, ascending, if asked for.
    pub keys: Vec<Bytes>,
}

/// A lease as the owner of locks and requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionView {
    /// Its id.
    pub id: i64,
    /// Time to live as granted.
    pub granted_ms: u64,
    /// What remains on the replicated clock of the state.
    pub remaining_ms: u64,
    /// Its client record; 0 if it has none.
    pub client: u64,
    /// Acquisitions that wait or hold.
    pub acquisitions: usize,
}
