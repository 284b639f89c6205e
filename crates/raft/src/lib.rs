//! Consensus, pure: Ongaro's Raft without clock, socket, file or thread.
//!
//! One surface: [`Raft::handle`] takes an [`Input`] and the time, [`Raft::poll`] gives the next [`Effect`]. The same inputs give
//! the same effects. Ordering duties are kept here: a message or a commit that depends on a write appears only after that write's
//! [`Input::Persisted`], so no caller can get it wrong.
//!
//! **Owns** election, replication, quorums, membership, confirmed reads, forwarding streams, leadership transfer, and the decisions about
//! snapshots and about members that lost entries. What one turn gathered (everything between two drains of [`Raft::poll`]) becomes one
//! [`Persist`], one append per follower and one round of heartbeats for all its reads.
//!
//! **Invariants**, asserted in release builds: the term, the commit index and a vote within a term never change backwards; one leader per
//! term; a leader only appends; what is committed is never dropped; only entries of the leader's own term are committed by counting;
//! what [`Raft::take_committed`] gives is committed and durable here, in order, once.
//!
//! **Lacks**, on purpose: leader leases (they trust clocks), single-server membership changes, message retries beyond Raft's own,
//! the transfer of snapshots and the founding of a cluster (both `replica`), anything that knows what a batch means.
//!
//! **Sources**: Ongaro & Ousterhout, "In Search of an Understandable Consensus Algorithm" (the paper); Ongaro, "Consensus: Bridging Theory
//! and Practice" (the thesis), chapters 3, 4, 6, 9 and 10.2.1; Ongaro's note of 2015 on single-server changes.

#[macro_use]
#[path = "../../mutated.rs"]
mod mutated;

mod amnesia;
mod candidate;
mod codec;
mod configuration;
mod core;
mod dispatch;
mod effect;
mod election;
mod entry;
mod errors;
mod fetch;
mod follower;
mod forward;
mod leader;
mod log;
mod membership;
mod message;
#[cfg(feature = "mutations")]
pub mod mutation;
mod persist;
mod progress;
mod quorum;
mod raft;
mod read;
mod rng;
mod settings;
mod transfer;
mod turn;
mod types;
mod wire;

pub use codec::DecodeError;
pub use configuration::{Configuration, Member};
pub use effect::{Effect, Input, Persist, PersistSequence, ReadSequence, Role};
pub use entry::{Entry, Payload, SnapshotMark, Vote};
pub use errors::{ChangeError, ProposeError, TransferError};
pub use message::{Body, Message, Recovery, Rejection};
pub use raft::{Raft, Status};
pub use settings::{Restored, Settings, Standing};
pub use types::{Boot, Incarnation, Index, Instant, MemberId, PeerId, Term};
