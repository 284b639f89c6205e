//! What is written in the log: batches of commands, as bytes that never change meaning.
//!
//! Derived prost messages; the tags are the format. A field is added, never re-used.

use crate::auth::AuthChange;
use crate::client::ClientCommand;
use crate::id::IdCommand;
use crate::lock::LockCommand;
use crate::space::AlarmKind;
use bytes::Bytes;

/// The newest [`Batch::format`] known here.
pub const FORMAT: u32 = 1;
/// The newest feature level known here (see [`Command::version`]).
pub const LEVEL: u32 = 0;

/// The content of one log entry: everything its leader put together in one turn.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Batch {
    /// Version of this format; 1. A member that meets a version above its own stops applying and says so.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// The replicated clock, milliseconds. Never falls from batch to batch; time-outs elapse by it alone.
    #[prost(uint64, tag = "2")]
    pub clock_ms: u64,
    /// The leader's wall clock, milliseconds since 1970, forced non-decreasing. Never ends a time-out.
    #[prost(uint64, tag = "3")]
    pub wall_ms: u64,
    /// The commands, by the member that gathered them.
    #[prost(message, repeated, tag = "4")]
    pub groups: Vec<Group>,
}

/// Commands gathered by one member in one turn: the unit of forwarding, and how that member finds its replies again.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Group {
    /// Member that gathered it.
    #[prost(fixed64, tag = "1")]
    pub member: u64,
    /// Its incarnation.
    #[prost(uint32, tag = "2")]
    pub incarnation: u32,
    /// Its process start.
    #[prost(fixed64, tag = "3")]
    pub boot: u64,
    /// Number of this group within that boot.
    #[prost(uint64, tag = "4")]
    pub sequence: u64,
    /// Leases to renew; applied before everything else in the batch.
    #[prost(int64, repeated, tag = "5")]
    pub renewals: Vec<i64>,
    /// The commands, in order.
    #[prost(message, repeated, tag = "6")]
    pub commands: Vec<Command>,
}

/// The envelope of one request that changes state.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Command {
    /// Feature level this command needs; 0 is the first release.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Client record for exactly-once; 0 if none (PROPERTIES E1).
    #[prost(uint64, tag = "2")]
    pub client: u64,
    /// The client's sequence.
    #[prost(uint64, tag = "3")]
    pub sequence: u64,
    /// The client's lowest sequence without a reply; replies below are freed.
    #[prost(uint64, tag = "4")]
    pub acknowledged_below: u64,
    /// Who asks; empty while authentication is off.
    #[prost(string, tag = "5")]
    pub principal: String,
    /// Revision of the user store the principal was checked against.
    #[prost(uint64, tag = "6")]
    pub auth_revision: u64,
    /// Locks that must be held at the command's index (PROPERTIES F3).
    #[prost(message, repeated, tag = "7")]
    pub guards: Vec<Guard>,
    /// Session this command belongs to; 0 if none.
    #[prost(uint64, tag = "8")]
    pub session: u64,
    /// Connection epoch within the session.
    #[prost(uint64, tag = "9")]
    pub connection_epoch: u64,
    /// Trace id, 16 bytes, and perhaps the id of the span that asked, 8 more; empty if nobody traces it. Of no consequence for the state.
    #[prost(bytes = "bytes", tag = "10")]
    pub trace: Bytes,
    /// What to do.
    #[prost(
        oneof = "Operation",
        tags = "16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 30, 31, 32"
    )]
    pub operation: Option<Operation>,
}

/// A lock that must be held for a command to be applied.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Guard {
    /// Which model's lock; 1: [`crate::lock`].
    #[prost(uint32, tag = "1")]
    pub model: u32,
    /// Its name.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: Bytes,
    /// The fencing token of the grant.
    #[prost(uint64, tag = "3")]
    pub token: u64,
}

/// What a command does.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Operation {
    /// Sets a key.
    #[prost(message, tag = "16")]
    Put(Put),
    /// Removes a range of keys.
    #[prost(message, tag = "17")]
    DeleteRange(DeleteRange),
    /// Compares, then runs one of two lists.
    #[prost(message, tag = "18")]
    Txn(Txn),
    /// Forgets history.
    #[prost(message, tag = "19")]
    Compact(Compact),
    /// Makes a lease.
    #[prost(message, tag = "20")]
    LeaseGrant(LeaseGrant),
    /// Ends a lease and removes its keys.
    #[prost(message, tag = "21")]
    LeaseRevoke(LeaseRevoke),
    /// Switches newer behaviour on, once all members know it (PROPERTIES U1).
    #[prost(message, tag = "22")]
    SetFeatureLevel(SetFeatureLevel),
    /// Changes users, roles or permissions.
    #[prost(message, tag = "23")]
    Auth(AuthChange),
    /// Sets the limit on bytes.
    #[prost(message, tag = "30")]
    SetBytesMax(SetBytesMax),
    /// Raises or lowers an alarm by hand.
    #[prost(message, tag = "31")]
    SetAlarm(SetAlarm),
    /// Forgets history of the leader's own accord, with nobody's permission; no door makes it.
    #[prost(message, tag = "32")]
    AutoCompact(Compact),
    /// Changes a lock.
    #[prost(message, tag = "24")]
    Lock(LockCommand),
    /// Changes client records.
    #[prost(message, tag = "25")]
    Client(ClientCommand),
    /// Hands out identifiers.
    #[prost(message, tag = "26")]
    Id(IdCommand),
}

/// Sets a key.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Put {
    /// The key, not empty.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// Its new value.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
    /// The lease it is attached to; 0 for none.
    #[prost(int64, tag = "3")]
    pub lease: i64,
    /// Give back what was there.
    #[prost(bool, tag = "4")]
    pub prev_kv: bool,
    /// Keep the present value; the key must exist.
    #[prost(bool, tag = "5")]
    pub ignore_value: bool,
    /// Keep the present lease; the key must exist.
    #[prost(bool, tag = "6")]
    pub ignore_lease: bool,
}

/// Removes keys. Ranges as in etcd: an empty `range_end` is the single key, one zero byte is "from key on".
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeleteRange {
    /// First key.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// First key after the range.
    #[prost(bytes = "bytes", tag = "2")]
    pub range_end: Bytes,
    /// Give back what was there.
    #[prost(bool, tag = "3")]
    pub prev_kv: bool,
}

/// Reads keys, inside a transaction or alone.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Range {
    /// First key.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// First key after the range (see [`DeleteRange`]).
    #[prost(bytes = "bytes", tag = "2")]
    pub range_end: Bytes,
    /// Keys at most; 0 for all.
    #[prost(int64, tag = "3")]
    pub limit: i64,
    /// As of this revision; 0 for the newest.
    #[prost(int64, tag = "4")]
    pub revision: i64,
    /// Order of the answer; the numbers are etcd's (0 none, 1 ascending, 2 descending).
    #[prost(int32, tag = "5")]
    pub sort_order: i32,
    /// What to order by; etcd's numbers (0 key, 1 version, 2 create, 3 mod, 4 value).
    #[prost(int32, tag = "6")]
    pub sort_target: i32,
    /// Leave values out.
    #[prost(bool, tag = "7")]
    pub keys_only: bool,
    /// Only the number of keys.
    #[prost(bool, tag = "8")]
    pub count_only: bool,
    /// Only keys modified at or after; 0 for any.
    #[prost(int64, tag = "9")]
    pub min_mod_revision: i64,
    /// Only keys modified at or before; 0 for any.
    #[prost(int64, tag = "10")]
    pub max_mod_revision: i64,
    /// Only keys created at or after; 0 for any.
    #[prost(int64, tag = "11")]
    pub min_create_revision: i64,
    /// Only keys created at or before; 0 for any.
    #[prost(int64, tag = "12")]
    pub max_create_revision: i64,
}

/// Compares, then runs `success` or `failure`; all or nothing.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Txn {
    /// All must hold for `success`.
    #[prost(message, repeated, tag = "1")]
    pub compares: Vec<Compare>,
    /// Run if they hold.
    #[prost(message, repeated, tag = "2")]
    pub success: Vec<TxnOperation>,
    /// Run otherwise.
    #[prost(message, repeated, tag = "3")]
    pub failure: Vec<TxnOperation>,
}

/// One comparison; over a range it must hold for every key. The numbers are etcd's.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Compare {
    /// 0 equal, 1 greater, 2 less, 3 not equal.
    #[prost(int32, tag = "1")]
    pub result: i32,
    /// 0 version, 1 create, 2 mod, 3 value, 4 lease.
    #[prost(int32, tag = "2")]
    pub target: i32,
    /// First key.
    #[prost(bytes = "bytes", tag = "3")]
    pub key: Bytes,
    /// First key after the range.
    #[prost(bytes = "bytes", tag = "4")]
    pub range_end: Bytes,
    /// To compare with, for all targets but value.
    #[prost(int64, tag = "5")]
    pub number: i64,
    /// To compare with, for value.
    #[prost(bytes = "bytes", tag = "6")]
    pub value: Bytes,
}

/// One step of a transaction.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TxnOperation {
    /// What it is.
    #[prost(oneof = "TxnStep", tags = "1, 2, 3, 4")]
    pub step: Option<TxnStep>,
}

/// The kinds of steps.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum TxnStep {
    /// Read keys.
    #[prost(message, tag = "1")]
    Range(Range),
    /// Set a key.
    #[prost(message, tag = "2")]
    Put(Put),
    /// Remove keys.
    #[prost(message, tag = "3")]
    DeleteRange(DeleteRange),
    /// A transaction inside this one.
    #[prost(message, tag = "4")]
    Txn(Txn),
}

/// Forgets history before a revision.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Compact {
    /// The oldest revision that stays readable.
    #[prost(int64, tag = "1")]
    pub revision: i64,
}

/// Makes a lease.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LeaseGrant {
    /// Wanted id; 0 lets the proposing member's shell choose before it proposes, so it is never 0 here.
    #[prost(int64, tag = "1")]
    pub id: i64,
    /// Time to live.
    #[prost(uint64, tag = "2")]
    pub ttl_ms: u64,
}

/// Ends a lease.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LeaseRevoke {
    /// Which.
    #[prost(int64, tag = "1")]
    pub id: i64,
}

/// Switches newer behaviour on.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetFeatureLevel {
    /// The level from this index on.
    #[prost(uint32, tag = "1")]
    pub level: u32,
}

/// Sets the limit on bytes for all members: the leader's setting, where it differs from what holds.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetBytesMax {
    /// Live and history bytes above which growing writes are refused.
    #[prost(uint64, tag = "1")]
    pub bytes_max: u64,
}

/// Raises or lowers an alarm by hand.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetAlarm {
    /// What it says.
    #[prost(enumeration = "AlarmKind", tag = "1")]
    pub kind: i32,
    /// The member it names.
    #[prost(fixed64, tag = "2")]
    pub member: u64,
    /// Raise it; otherwise lower it.
    #[prost(bool, tag = "3")]
    pub raise: bool,
}
