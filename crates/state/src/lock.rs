//! Locks.

mod command;
mod reply;

pub use command::*;
pub(crate) use reply::out_of_bounds;
pub use reply::*;

/// Model of [`crate::Guard`] that means these locks.
pub const GUARD_MODEL: u32 = 1;

/// Entries of a page at most.
pub const PAGE_MAX: usize = 500;
