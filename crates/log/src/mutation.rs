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
    /// What is read from a segment is compared with no checksum.
    ServeCorrupt,
    /// Damage in the newest batches is taken for a write that was cut short.
    DamagedTailIsTorn,
    /// Damage cuts the log, as if what follows had never been acknowledged.
    CutAtDamage,
    /// A lost record of votes is taken for one without votes: to catch up is enough.
    LostVoteIsNoVote,
}
