//! Black-box conformance: real processes, real sockets, real clients. Owns what it takes to start members of Synod or etcd, to drive them through gRPC,
//! and to judge what they answered. Knows nothing of Synod's insides: whatever it needs it gets through the ports a user has.

pub mod abuse;
pub mod auth;
pub mod backup;
pub mod certificates;
pub mod churn;
pub mod connection;
pub mod differential;
pub mod etcdctl;
pub mod faults;
pub mod fencing;
pub mod guards;
pub mod http;
pub mod ids;
pub mod kubernetes;
pub mod ledger;
pub mod load;
pub mod migration;
pub mod process;
mod puppet;
pub mod random;
pub mod raw;
pub mod replace;
pub mod report;
pub mod resources;
pub mod restore;
pub mod smoke;
pub mod unary;
pub mod upgrade;
pub mod wiped;
pub mod workload;

/// What went wrong, told to the person who runs the tool.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
/// The result of a step.
pub type Outcome<T> = Result<T, Failure>;
