//! Changes of locks, as they stand in the log. The tags are the format.

use bytes::Bytes;

/// Who asks for a lock, or has it: one acquisition of one session. Repeating an acquisition under its name never makes a second one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Message)]
pub struct Claimant {
    /// The lease that keeps it alive.
    #[prost(int64, tag = "1")]
    pub session: i64,
    /// Chosen by the session's owner, once per acquisition.
    #[prost(uint64, tag = "2")]
    pub id: u64,
}

/// A change of one lock.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LockCommand {
    /// Which.
    #[prost(oneof = "LockOperation", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub operation: Option<LockOperation>,
}

impl LockCommand {
    /// It makes the state grow.
    pub(crate) fn grows(&self) -> bool {
        matches!(
            self.operation,
            Some(
                LockOperation::Acquire(_) | LockOperation::SetValue(_) | LockOperation::SetLatch(_)
            )
        )
    }
}

/// The kinds of changes.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum LockOperation {
    /// Asks for a lock, or waits at a latch or a barrier.
    #[prost(message, tag = "1")]
    Acquire(Acquire),
    /// Gives up an acquisition, held or waiting.
    #[prost(message, tag = "2")]
    Release(Release),
    /// Changes the text of an acquisition.
    #[prost(message, tag = "3")]
    SetValue(SetValue),
    /// Takes a lock from its holder.
    #[prost(message, tag = "4")]
    Force(Force),
    /// Makes a latch, or counts it anew.
    #[prost(message, tag = "5")]
    SetLatch(SetLatch),
    /// Counts a latch down.
    #[prost(message, tag = "6")]
    CountDown(CountDown),
    /// Leaves a barrier, and waits for the others to do so.
    #[prost(message, tag = "7")]
    Leave(Leave),
}

/// How a lock is wanted. The mode decides what kind of lock the name is, for as long as it is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Mode {
    /// Alone: a mutex, the writer's side of a lock, an election.
    Exclusive = 0,
    /// Together with others that share.
    Shared = 1,
    /// A number of a semaphore's permits.
    Permits = 2,
    /// As a member of a group; never waits.
    Member = 3,
    /// Past a latch, once it has counted down; holds nothing.
    Pass = 4,
    /// Into a barrier, once as many wait as it needs.
    Enter = 5,
}

/// See [`LockOperation::Acquire`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Acquire {
    /// The lock, not empty.
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    /// For whom.
    #[prost(message, required, tag = "2")]
    pub claimant: Claimant,
    /// Acquisitions of one session with the same owner, not 0, re-enter the lock; 0 never does.
    #[prost(uint64, tag = "3")]
    pub owner: u64,
    /// How it is wanted.
    #[prost(enumeration = "Mode", tag = "4")]
    pub mode: i32,
    /// Permits wanted, with [`Mode::Permits`].
    #[prost(uint64, tag = "5")]
    pub permits: u64,
    /// Permits there are, with [`Mode::Permits`]; how many must wait, with [`Mode::Enter`].
    #[prost(uint64, tag = "6")]
    pub limit: u64,
    /// Higher ones are served first, equal ones as they came.
    #[prost(sint32, tag = "7")]
    pub priority: i32,
    /// How long to wait on the replicated clock: 0 not at all, the largest number for ever.
    #[prost(uint64, tag = "8")]
    pub wait_ms: u64,
    /// How long the lock stays closed if the session is lost while it holds it.
    #[prost(uint64, tag = "9")]
    pub delay_ms: u64,
    /// A text of the acquisition, for those who look: a leader's address, a group member's attributes.
    #[prost(bytes = "bytes", tag = "10")]
    pub value: Bytes,
}

/// See [`LockOperation::Release`].
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Release {
    /// Whose.
    #[prost(message, required, tag = "1")]
    pub claimant: Claimant,
    /// Only if it was last repeated at this ordinal; 0 for any. So the end of an old wait cannot undo a later repetition. Doors say 0: what names the ordinal
    /// is a member's own command and needs no permission.
    #[prost(uint64, tag = "2")]
    pub joined: u64,
}

/// See [`LockOperation::SetValue`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetValue {
    /// Whose.
    #[prost(message, required, tag = "1")]
    pub claimant: Claimant,
    /// The new text.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

/// See [`LockOperation::Force`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Force {
    /// The lock.
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    /// The grant to take away.
    #[prost(uint64, tag = "2")]
    pub token: u64,
    /// Why, for those who look; not empty.
    #[prost(string, tag = "3")]
    pub reason: String,
}

/// See [`LockOperation::SetLatch`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetLatch {
    /// The latch.
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    /// How often it is to be counted down; 0 opens it.
    #[prost(uint64, tag = "2")]
    pub count: u64,
}

/// See [`LockOperation::CountDown`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct CountDown {
    /// The latch.
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    /// By how much.
    #[prost(uint64, tag = "2")]
    pub by: u64,
}

/// See [`LockOperation::Leave`].
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Leave {
    /// Who entered.
    #[prost(message, required, tag = "1")]
    pub claimant: Claimant,
    /// How long to wait for the others (see [`Acquire::wait_ms`]).
    #[prost(uint64, tag = "2")]
    pub wait_ms: u64,
}
