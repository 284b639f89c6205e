//! The oracles for histories recorded elsewhere, at the ports of real processes: a member's own account of all changes becomes a [`Model`], and what
//! clients saw is held against it. Histories of single keys go to [`crate::linearizability`], which needs no model.

pub use crate::model::{Change, Expiry, Lease, Model};
pub use crate::oracle::{Blame, Check, Leases, WatchOracle};
pub use replica::{Event, WatchBody, WatchCreate, WatchResponse};
pub use state::KeyValue;
