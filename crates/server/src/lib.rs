//! The IO shell: node loop, peers, listeners, disk, clock, config, metrics. Async lives here and above, nowhere below.

mod handle;

pub use handle::{Handle, WatchStream};
