//! The durable side of a member: identity, log and snapshots in one directory. Blocking calls on a [`Disk`]; no threads, no clocks.

#[macro_use]
#[path = "../../mutated.rs"]
mod mutated;

mod chain;
mod directory;
mod disk;
mod file_disk;
mod history;
mod identity;
mod index;
pub mod memory_disk;
#[cfg(feature = "mutations")]
pub mod mutation;
mod pool;
mod read;
mod record;
mod recovery;
mod scan;
mod sector;
mod segment;
mod snapshot;
mod store;
mod wal;

pub use disk::{Disk, DiskError, DiskFile};
pub use file_disk::{FileDisk, RealFile};
pub use identity::Identity;
pub use snapshot::{SnapshotReader, Snapshots};
pub use store::{
    Damage, Log, OpenError, Opened, ReadEntries, Recovered, Settings, StoreError, open,
};
