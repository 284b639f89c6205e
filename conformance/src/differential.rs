//! The same random operations to a real etcd and to a subject, one at a time; every answer and error compared.
//!
//! Equal seeds give equal operations against fresh servers. What is not compared: cluster and member ids, Raft terms and indexes, hashes, sizes,
//! the remaining seconds of a lease beyond two, the order of lease lists, and the order of equal elements in sorts of more than twelve
//! keys (etcd's sort is stable only up to there). What differs between etcd's own versions is listed in [`known`].

mod answer;
mod generate;
pub mod known;
mod operation;
mod run;
mod side;

pub use run::{Plan, run};
