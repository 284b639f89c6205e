//! The replicated state machine, pure: the same batches give the same state, the same replies and the same bytes, on every member and every run.

#[macro_use]
#[path = "../../mutated.rs"]
mod mutated;

mod apply;
mod bounds;
mod clock;
mod command;
mod compaction;
mod delete;
mod hash;
mod hash_kv;
mod history;
mod index;
mod kv;
mod lease;
mod loader;
#[cfg(feature = "mutations")]
pub mod mutation;
mod pages;
mod pins;
mod query;
mod range;
mod record;
mod removal;
mod reply;
mod restore;
mod revision_log;
mod scan;
mod snapshot;
mod sort;
mod space;
mod state;
mod table;
mod txn;

pub mod auth;
pub mod client;
pub mod id;
pub mod lock;

pub use command::{
    Batch, Command, Compact, Compare, DeleteRange, FORMAT, Group, Guard, LEVEL, LeaseGrant,
    LeaseRevoke, Operation, Put, Range, SetAlarm, SetBytesMax, SetFeatureLevel, Txn, TxnOperation,
    TxnStep,
};
pub use history::EventPlace;
pub use loader::{Loader, SnapshotError};
pub use query::QueryCursor;
pub use reply::{
    Answer, KeyValue, LeaseView, Query, RangeReply, Rejection, Reply, SessionView, StepReply,
    TxnReply,
};
pub use restore::{Import, NoRoom, Raise};
pub use scan::{SnapshotCounters, SnapshotItem, SnapshotScan};
pub use snapshot::{SnapshotCursor, SnapshotHeader};
pub use space::{Alarm, AlarmKind};
pub use state::{Applied, ApplyError, Budget, EventView, GroupApplied, Settings, State};
