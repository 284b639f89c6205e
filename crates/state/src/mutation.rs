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
    /// A read of the revision before the newest sees the newest.
    OneBackSeesPresent,
    /// The revision below the compacted one is still served.
    CompactedServed,
    /// The count of a range does not look whether some of its keys are being removed.
    CountForgetsRemoval,
    /// A compaction goes no further than what somebody reads at this member.
    CompactionWaitsForReaders,
    /// A lease that has ended stays for a while, and a renewal on its way revives it.
    EndedLeaseRenewed,
    /// A key that moves from one lease to another does not hang on the new one.
    MovedKeyNotAttached,
    /// Waits that are over end before the leases that end in the same batch.
    WaitsEndBeforeLeases,
    /// Nobody looks whether the session of an acquisition is still there.
    DeadSessionLetIn,
    /// A release without an acquisition of its own takes that of another session with the same id.
    ReleaseByIdAlone,
    /// An operator takes a lock away from whoever holds it alone, whatever token was named.
    ForceIgnoresToken,
    /// An acquisition that is repeated keeps the end of its first wait.
    RepetitionKeepsDeadline,
    /// A guard holds if its token is the newest of the lock, whether that grant is still there or not.
    GuardByNewest,
    /// Whoever re-enters is known by its owner's number alone, whatever the session.
    ReentryAcrossSessions,
    /// Of several lock-delays the last one counts, not the longest.
    LastDelayCounts,
    /// A request that comes behind a later one of its client is taken for one whose reply was freed.
    OutOfOrderRefused,
    /// Replies stay when their client has them, and are told again.
    FreedReplayed,
    /// With the replies that a client has the next one is freed, too.
    OneReplyTooFewKept,
}
