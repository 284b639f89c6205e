//! The durable side of a member: identity, log and snapshots in one directory. Blocking calls on a [`Disk`]; no threads, no clocks.

mod directory;
mod disk;
mod file_disk;
mod identity;
pub mod memory_disk;
mod snapshot;
mod store;

pub use disk::{Disk, DiskError, DiskFile};
pub use file_disk::{FileDisk, RealFile};
pub use identity::Identity;
pub use snapshot::Snapshots;
pub use store::{Log, OpenError, Opened, ReadEntries, Recovered, Settings, StoreError, open};
