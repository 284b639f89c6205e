//! The replicated state machine, pure: the same batches give the same state, the same replies and the same bytes, on every member and every run.

mod command;
mod reply;
mod state;

pub use command::{
    Batch, Command, Compact, Compare, DeleteRange, Group, Guard, LeaseGrant, LeaseRevoke, Operation, Put, Range, SetFeatureLevel, Txn,
    TxnOperation, TxnStep,
};
pub use reply::{Answer, KeyValue, LeaseView, Query, RangeReply, Rejection, Reply, StepReply, TxnReply};
pub use state::{
    Applied, ApplyError, Budget, EventView, GroupApplied, Loader, QueryCursor, Settings, SnapshotCursor, SnapshotError, SnapshotHeader,
    State,
};
