//! The native door without IO: decoded requests of `synod.v1` in, commands and queries of `state` out; replies in, messages out.
//!
//! Each function makes of a request a [`Change`] or an [`Ask`]: what the state is to do, and how its reply becomes the answer. Keys are those of the
//! etcd door, so are the checks of requests about them. The door keeps no state, knows no clock and no connection.

mod acquire;
mod call;
mod guard;
mod id;
mod kv;
mod lease;
mod lock;
mod names;
mod observe;
mod refusal;
mod signing;
mod view;

pub use acquire::{
    acquire, acquire_permits, campaign, enter, group_leave, join, leave, proclaim, register,
    release, resign, set_text, update_member, wait_latch,
};
pub use call::{Ask, Change, Headed, Header, Level};
pub use guard::parse_guards;
pub use id::{add, segment, worker};
pub use kv::{Txn, delete, get, put, range, range_end, txn};
pub use lease::{
    client, get_lease, grant, holder, leases, named, open_session, refreshed, refreshed_session,
    revoke, session_revoke, sessions,
};
pub use lock::{
    check, check_name, count_down, find, force_release, get_latch, group, leader, list_locks,
    set_latch, show,
};
pub use names::percent_decode;
pub use observe::{ObservedGroup, observed, observed_leader};
pub use refusal::{advised, refusal};
pub use signing::SigningKeys;
