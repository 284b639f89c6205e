//! Bugs put into the log and the snapshots on purpose: the simulator must find each of them, which is how it is tested itself. Compiled only with the
//! feature `mutations`, which no released binary has. A thread runs with one of them at most, and with none unless [`choose`] was called.

mutations! {
    Mutation:
    /// A failed sync counts as a good one.
    SwallowSyncError,
    /// After a failed sync the same file is synced again, and believed.
    SyncAgainAfterError,
    /// A restart does not write again what may only be in the cache.
    TrustCacheAfterRestart,
    /// A new segment begins without the vote.
    NewSegmentForgetsVote,
    /// A snapshot takes its name before its bytes are durable.
    SnapshotBeforeSync,
    /// A new segment is written before its name in the directory is durable.
    SegmentNameNotDurable,
}
