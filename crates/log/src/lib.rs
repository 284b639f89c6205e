//! The durable side of a member: identity, log and snapshots in one directory. Blocking calls on a [`Disk`]; no threads, no clocks.

mod disk;
mod store;

pub use disk::{Disk, DiskError, DiskFile};
pub use store::{Identity, Log, OpenError, Opened, ReadEntries, Recovered, Settings, Snapshots, StoreError, open};
