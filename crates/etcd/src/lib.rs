//! The etcd door without IO: decoded requests in, commands and queries of `state` out; replies in, messages out.
//!
//! What is checked here, and in which order, and what each refusal says, is etcd's: clients match on codes and texts. The door keeps no state,
//! knows no clock and no connection; the gRPC services and the JSON gateway in `server` both stand on it.

mod advice;
mod alarm;
pub mod auth;
pub mod bolt;
mod cluster;
mod compare;
pub mod export;
pub mod import;
pub mod json;
mod kv;
mod large;
mod lease;
mod overlap;
pub mod queue;
mod reply;
mod status;

pub use advice::{Advice, Class, advice};
pub use alarm::{
    AlarmCall, alarm, alarm_change_response, alarm_kind, alarm_list_response, alarm_text,
};
pub use cluster::{downgrade_target, peer_addresses};
pub use kv::{Change, Read, Transaction, compact, delete_range, put, range, txn};
pub use large::{RangeMessage, key_value_len, write_key_value};
pub use lease::{lease_grant, lease_leases, lease_revoke, lease_time_to_live};
pub use reply::{
    Header, compact_response, delete_range_response, keep_alive_response, key_value,
    lease_grant_response, lease_leases_response, lease_revoke_response,
    lease_time_to_live_response, put_response, range_response, rejection, txn_response,
};
pub use status::{Code, Status};

/// The etcd version this door claims to be, in `/version` and Status: clients choose paths and features by it.
pub const VERSION: &str = "3.6.7";

/// The cluster version that goes with [`VERSION`].
pub const CLUSTER_VERSION: &str = "3.6.0";

/// What a state of so many bytes would take in a file. etcd's consists of whole pages and is never empty: etcdctl divides by its size.
pub fn file_bytes(state_bytes: u64) -> u64 {
    const PAGE_BYTES: u64 = 4096;
    state_bytes.max(1).next_multiple_of(PAGE_BYTES)
}

/// Bytes of one gRPC message beyond those of the request in it at most. Larger ones are refused before they are decoded.
pub const MESSAGE_OVERHEAD_BYTES: usize = 512 << 10;
