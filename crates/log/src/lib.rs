//! The durable side of a member: identity, log and snapshots in one directory. Blocking calls on a [`Disk`]; no threads, no clocks.

/// A bug was put in on purpose (see `mutation.rs`): whether it was; what it does; or its value and the right one. Nothing without the feature
/// `mutations`.
#[cfg(feature = "mutations")]
macro_rules! mutated {
    ($name:ident) => {
        $crate::mutation::is_chosen($crate::mutation::Mutation::$name)
    };
    ($name:ident, $does:expr) => {
        if mutated!($name) {
            $does
        }
    };
    ($name:ident, $wrong:expr, $right:expr) => {
        if mutated!($name) { $wrong } else { $right }
    };
}
#[cfg(not(feature = "mutations"))]
macro_rules! mutated {
    ($name:ident) => {
        false
    };
    ($name:ident, $does:expr) => {};
    ($name:ident, $wrong:expr, $right:expr) => {
        $right
    };
}

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
pub use snapshot::Snapshots;
pub use store::{
    Damage, Log, OpenError, Opened, ReadEntries, Recovered, Settings, StoreError, open,
};
