//! Consensus, pure: Ongaro's Raft without clock, socket, file or thread.
//!
//! One surface: [`Raft::handle`] takes an [`Input`] and the time, [`Raft::poll`] gives the next [`Effect`]. The same inputs give
//! the same effects. Ordering duties are kept here: a message or a commit that depends on a write appears only after that write's
//! [`Input::Persisted`], so no caller can get it wrong.

mod configuration;
mod entry;
mod message;
mod raft;
mod types;

pub use configuration::{Configuration, Member};
pub use entry::{Entry, Payload, SnapshotMark, Vote};
pub use message::{DecodeError, Message};
pub use raft::{
    ChangeError, Effect, Input, Persist, PersistSequence, ProposeError, Raft, ReadSequence, Restored, Role, Settings, Standing, Status,
    TransferError,
};
pub use types::{Boot, Incarnation, Index, Instant, MemberId, PeerId, Term};
