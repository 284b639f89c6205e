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
    /// A guard holds if anybody holds its lock, whatever the token.
    StaleGuard,
    /// Tokens of a lock count from one whenever it was forgotten.
    TokenReused,
    /// A lock is open at once although the session that held it was lost.
    LockDelaySkipped,
    /// An acquisition that re-entered and is repeated takes the place of the first one.
    ReentryLostOnRetry,
    /// Anybody in front of the queue is let in, also by an exclusive holder.
    SecondHolder,
    /// The next to be let in is the last that came.
    LastComeFirst,
    /// A repeated request of a client runs again.
    RepetitionRuns,
    /// A request whose reply was freed runs again.
    FreedRuns,
    /// A segment begins with the last number of the one before.
    SegmentsOverlap,
    /// While the state is full, deletes are refused, too.
    FullRefusesDeletes,
    /// The alarm of a full state stays when there is room again.
    AlarmStays,
    /// A snapshot holds no alarms.
    SnapshotLosesAlarms,
    /// A worker id's time begins with the wall clock, whatever was handed out.
    WorkerTimeTwice,
    /// A change that was let in before users changed is not held against them again when it is applied.
    CheckedWhenLetIn,
    /// What a user may do is found anew when it is given something, not when something is taken from it.
    RevokedStaysCached,
    /// Of the range a request names, only the first key is held against permissions.
    RangeEndUnchecked,
    /// Of a transaction, only the branch for comparisons that hold is held against permissions.
    OtherBranchUnchecked,
    /// A snapshot holds no users.
    SnapshotLosesUsers,
    /// The refusal of a request that was let in too early is kept as its reply.
    LateRefusalKept,
    /// Of a comparison over a range, only the first key counts.
    ComparesFirstOnly,
    /// The value of a key that is not there compares as an empty one.
    MissingIsEmpty,
    /// A transaction inside another one takes its first branch whatever its comparisons say.
    InnerAlwaysSucceeds,
    /// A range in a transaction reads a revision that was compacted.
    InnerReadsCompacted,
    /// The limit of a range counts before its keys are put in order.
    LimitBeforeOrder,
    /// A range counts the keys that its bounds on revisions let through only.
    CountsFiltered,
    /// Values that the answer leaves out are left out before it is put in their order.
    OrderWithoutValues,
    /// The newest revision that a range lets through is taken for the first that it does not.
    BoundEndsBefore,
    /// A range without an end ends before the byte 0xff.
    OpenRangeEnds,
    /// A put that is to keep a key's lease takes the key from it.
    KeptLeaseIsLost,
    /// A put without a lease leaves the key on the one it had.
    PutKeepsLease,
    /// A grant under the id of another lease prolongs that one.
    TakenLeaseGranted,
}
