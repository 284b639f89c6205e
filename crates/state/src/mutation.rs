//! Bugs put into the state machine on purpose: the simulator must find each of them, which is how it is tested itself. Compiled only with the
//! feature `mutations`, which no released binary has. A thread runs with one of them at most, and with none unless [`choose`] was called.

mutations! {
    Mutation:
    /// A delete raises the revision by two.
    DeleteRaisesTwice,
    /// A put of a removed key is taken for a change of it, not for its creation.
    RecreatedKeyIsOld,
    /// A range in a transaction does not see what its earlier steps wrote.
    RangeInTxnSeesBefore,
    /// A lease ends at its time to live, without the allowance for clocks that drift.
    LeaseWithoutAllowance,
    /// A renewal prolongs the old deadline instead of counting from the clock.
    RenewalAddsUp,
    /// A renewal in the batch whose clock passes the deadline comes too late.
    LateRenewalRefused,
    /// A lease that ends leaves the keys behind that were put more than once.
    ExpiryForgetsKeys,
    /// Of leases that end in one batch the latest ends first.
    ExpiryOutOfOrder,
    /// Compaction frees versions that are still readable.
    CompactionFreesReadable,
    /// A snapshot holds no leases.
    SnapshotLosesLeases,
    /// A snapshot holds no clock.
    SnapshotLosesClock,
    /// A snapshot leaves out a version that is readable at the compacted revision only.
    SnapshotLosesReadable,
}
