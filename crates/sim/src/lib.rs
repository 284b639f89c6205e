//! The whole cluster in one process and one thread: real replicas on the real log, on virtual network, disks and clocks, under faults and load
//! drawn from one seed, watched by oracles (DESIGN: Proof). Equal seeds give equal traces.
//!
//! [`run`] is one life of a cluster: faults for a while, then everything is mended and the cluster must serve again.

#[macro_use]
#[path = "../../mutated.rs"]
mod mutated;

mod clients;
mod clock;
mod director;
mod faults;
pub mod linearizability;
mod member;
mod model;
#[cfg(test)]
mod model_against_locks;
#[cfg(test)]
mod model_against_state;
#[cfg(test)]
mod model_against_users;
#[cfg(feature = "mutations")]
pub mod mutation;
mod network;
mod oracle;
mod picture;
mod queue;
pub mod recorded;
mod rng;
mod run;
mod scenario;
mod shell;
mod shrink;
mod timeline;
mod trace;
mod world;

pub use clock::Micros;
pub use faults::{Fault, Planned, Profile};
pub use log::memory_disk::Survival;
pub use network::Weather;
pub use oracle::Violation;
pub use picture::{Picture, View};
pub use run::{Options, Report, SECONDS, Stats, run, schedule};
pub use scenario::{Checked, Played, Scenario, locks_table};
pub use shrink::{Progress, Shrunk, shrink};
pub use timeline::{Detail, Kind, Moment, Timeline, What, Window};
pub use world::Counts;
