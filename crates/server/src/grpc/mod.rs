//! The etcd API and our own over gRPC.

pub(crate) mod advice;
mod alarm;
pub(crate) mod auth;
pub(crate) mod body;
pub(crate) mod calls;
mod cluster;
pub(crate) mod context;
pub(crate) mod door;
mod election;
pub(crate) mod envelope;
mod events;
mod examine;
pub(crate) mod failure;
pub(crate) mod keep_alive;
mod lock;
pub(crate) mod method;
pub(crate) mod queue;
mod range_stream;
pub(crate) mod services;
pub(crate) mod snapshot;
pub(crate) mod stream;
pub(crate) mod waiting;
pub(crate) mod watch;
pub(crate) mod wire;
