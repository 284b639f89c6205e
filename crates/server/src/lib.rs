//! The IO shell: node loop, peers, listeners, disk, clock, config, metrics. Async lives here and above, nowhere below.

mod accept;
mod address;
pub mod auth;
pub mod backup;
mod bootstrap;
mod clock;
pub mod config;
mod connection;
mod disk;
mod etcd_flags;
pub mod examine;
mod feed;
mod greet;
mod grpc;
mod handle;
pub mod http;
mod listen;
mod members;
#[cfg(test)]
mod memory_member;
mod metrics;
mod native;
mod node;
mod observers;
mod peers;
mod server;
mod setting;
mod space;
mod start;
mod tls;
mod trace;
mod units;
mod wire;

pub use backup::OpenSnapshot;
pub use config::Config;
pub use handle::{Handle, MemberView, REQUESTS_QUEUED_MAX, WatchStream};
pub use metrics::{Counter, Gauge, Histogram, Metrics};
pub use server::{Member, StartError};
