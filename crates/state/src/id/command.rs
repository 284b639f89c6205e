//! Changes of counters and worker ids, as they stand in the log. The tags are the format.

use bytes::Bytes;

/// A change of what identifiers are made from.
#[derive(Clone, PartialEq, prost::Message)]
pub struct IdCommand {
    /// Which.
    #[prost(oneof = "IdOperation", tags = "1, 2, 3")]
    pub operation: Option<IdOperation>,
}

/// The kinds of changes.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum IdOperation {
    /// Hands out a segment: numbers that nobody else gets.
    #[prost(message, tag = "1")]
    Segment(TakeSegment),
    /// Adds to a counter.
    #[prost(message, tag = "2")]
    Add(Add),
    /// Takes a worker id, or more time for the one that the session has.
    #[prost(message, tag = "3")]
    Worker(TakeWorker),
}

/// See [`IdOperation::Segment`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct TakeSegment {
    /// The sequence, not empty; begins at 1.
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    /// How many numbers.
    #[prost(uint64, tag = "2")]
    pub count: u64,
}

/// See [`IdOperation::Add`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Add {
    /// The counter, not empty; begins at 0.
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    /// What to add.
    #[prost(sint64, tag = "2")]
    pub delta: i64,
}

/// See [`IdOperation::Worker`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct TakeWorker {
    /// The pool of worker ids, not empty.
    #[prost(bytes = "bytes", tag = "1")]
    pub pool: Bytes,
    /// The lease that keeps the worker id.
    #[prost(int64, tag = "2")]
    pub session: i64,
    /// Ids are below this.
    #[prost(uint32, tag = "3")]
    pub workers: u32,
    /// How much time to hand out, at most.
    #[prost(uint64, tag = "4")]
    pub ahead_ms: u64,
}
