//! What a member of the mixed cluster is to the cluster, whichever library thinks for it.

use bytes::Bytes;
use raft_rs::eraftpb;

/// What a log holds at one index, in neither library's terms. A no-op has an empty payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    pub term: u64,
    pub payload: Bytes,
}

/// A message on its way. Members of one library speak its own language; between the two, ours is spoken.
#[derive(Clone, Debug)]
pub enum Wire {
    /// A message of our `raft`, in its wire form.
    Ours(Bytes),
    /// A message of raft-rs.
    Theirs(Box<eraftpb::Message>),
}

/// What a member did or wants done.
#[derive(Debug)]
pub enum Output {
    /// A message to another member.
    Send { to: u64, wire: Wire },
    /// It gave its state the entry at this index.
    Applied { index: u64, slot: Slot },
    /// A read may be served once this index is applied.
    ReadReady { read: u64, index: u64 },
    /// A write was handed to its disk.
    Wrote,
}

/// Which library a member runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Ours,
    Theirs,
}

/// Time and limits of a run, in units of neither library.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of entries in one append at most.
    pub append_bytes_max: usize,
    /// Appends on their way to one follower at most.
    pub inflight_max: usize,
}

/// One member with its disk. Time is in microseconds. After a crash only what was durable comes back.
pub trait Member {
    fn kind(&self) -> Kind;
    fn is_up(&self) -> bool;
    /// Starts it from its disk.
    fn start(&mut self, now: u64);
    /// Ends its process. Of the writes under way the first `survivors` reached the disk all the same.
    fn crash(&mut self, survivors: usize);
    /// How many writes are under way.
    fn writes(&self) -> usize;
    /// The oldest write under way is durable.
    fn complete_write(&mut self, now: u64);
    fn deliver(&mut self, now: u64, from: u64, wire: Wire);
    /// When it next wants to be woken.
    fn wake_at(&self) -> u64;
    fn wake(&mut self, now: u64);
    /// Appends a payload if it leads, and tells where: index and term.
    fn propose(&mut self, now: u64, payload: Bytes) -> Option<(u64, u64)>;
    /// Begins a confirmed read and gives its number, unique among all reads of the run.
    fn read(&mut self, now: u64) -> Option<u64>;
    /// Hands leadership to another member, if it leads.
    fn transfer(&mut self, now: u64, to: u64);
    /// What it did since the last call, in order.
    fn take_outputs(&mut self) -> Vec<Output>;

    fn leads(&self) -> bool;
    fn term(&self) -> u64;
    fn commit(&self) -> u64;
    /// Its log from index 1 on, durable or not, as its raft sees it.
    fn log(&self) -> &[Slot];
}
