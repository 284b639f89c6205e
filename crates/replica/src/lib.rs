//! One member of one cell, without IO: ties consensus and state together. The server's node loop and the simulator are both one `match` over [`Effect`].

mod bootstrap;
mod message;
mod replica;
mod watch;

pub use bootstrap::{Bootstrap, BootstrapMessage, BootstrapOutcome, Introduction, KnownCluster};
pub use message::Message;
pub use replica::{
    Body, Boot, Consistency, Effect, Failure, Input, Limits, Now, Replica, Response, Settings, Stamp, Status, StreamId, Ticket,
};
pub use watch::{Event, WatchBody, WatchCreate, WatchRequest, WatchResponse};
