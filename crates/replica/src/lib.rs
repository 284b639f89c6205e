//! One member of one cell, without IO: ties consensus and state together. The server's node loop and the simulator are both one `match` over [`Effect`].
//!
//! The way through: `propose` gathers commands into groups and groups into batches, `clock` stamps them, `apply` runs what was decided and answers,
//! `read` serves queries at the freshness asked for, `watch_hub` feeds watch streams, `snapshot*` keep the log short and bring others up to date,
//! `membership` keeps the configuration true, `repair` deals with damage, `upkeep` proposes what a leader wants of its own accord, `bootstrap` finds or founds the cluster.

#[macro_use]
#[path = "../../mutated.rs"]
mod mutated;

mod admission;
mod apply;
mod auto_compaction;
mod bootstrap;
mod catch_up;
mod clock;
mod codec;
mod departure;
mod effect;
mod hashes;
mod input;
mod member_change;
mod member_request;
mod membership;
mod message;
#[cfg(feature = "mutations")]
pub mod mutation;
mod propose;
mod read;
mod repair;
mod replica;
mod settings;
mod snapshot;
mod snapshot_load;
mod snapshot_receive;
mod snapshot_send;
mod snapshot_take;
mod space;
mod stamp;
mod table;
mod timer;
mod upkeep;
mod wait;
mod watch;
mod watch_group;
mod watch_hub;
mod watch_index;
mod watch_stream;

pub use auto_compaction::AutoCompaction;
pub use bootstrap::{Bootstrap, BootstrapMessage, BootstrapOutcome, Introduction, KnownCluster};
pub use effect::{Body, Effect, Failure, Response, Status};
pub use input::{Consistency, Input, Now, StreamId, Ticket};
pub use member_change::{ChangeRequest, MemberChange, Refusal, RefusalReason};
pub use member_request::ChangeBegun;
pub use message::Message;
pub use replica::{Boot, Replica};
pub use settings::{Advertised, Limits, Settings};
pub use stamp::{ParseStampError, Stamp};
pub use watch::{Event, WatchBody, WatchCreate, WatchRequest, WatchResponse};
