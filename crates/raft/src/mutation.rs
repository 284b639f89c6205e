//! Bugs put into consensus on purpose: the simulator must find each of them, which is how it is tested itself. Compiled only with the
//! feature `mutations`, which no released binary has. A thread runs with one of them at most, and with none unless [`choose`] was called.

mutations! {
    Mutation:
    /// A message of an older term is taken for one of the present term.
    IgnoreTerm,
    /// A restart forgets whom the vote of the present term went to.
    VoteTwiceAfterRestart,
    /// Votes and pre-votes are given without a look at the candidate's log.
    VoteWithoutLogCheck,
    /// The longer log counts as the newer one, whatever its last term.
    LongerLogWins,
    /// Nothing waits until it is durable: votes, terms and acknowledgements are sent at once.
    VoteBeforeDurable,
    /// Votes of an earlier candidacy count in the present one.
    CountStaleVotes,
    /// A new leader appends nothing of its own term.
    NoNoop,
    /// A member that hears no leader raises its term at once.
    NoPreVote,
    /// An entry of an earlier term is committed by counting who has it (Raft paper, figure 8).
    CommitOldTermByCounting,
    /// A leader counts its own entries before they are durable.
    CountUndurableOwnLog,
    /// Acknowledgements of an earlier term count in the present one.
    CountStaleAcknowledgements,
    /// A follower acknowledges entries before they are durable.
    AcknowledgeBeforeDurable,
    /// A follower takes the leader's commit index from an append that does not match its log.
    CommitOfRejectedAppend,
    /// A follower takes the commit index of a heartbeat without a look at the term there.
    CommitByHeartbeat,
    /// A follower drops whatever its log has beyond an append, also when all of the append is there already.
    DelayedAppendTruncates,
    /// A leader takes the hint of a rejection for what the logs have in common.
    RejectionHintAsMatch,
    /// A leader answers confirmed reads without asking a quorum.
    SkipReadBarrier,
    /// A leader answers confirmed reads before an entry of its term is committed.
    ReadBeforeOwnCommit,
    /// A member takes the answer to a ReadIndex that it asked before a restart.
    ReadFromEarlierBoot,
    /// A leader accepts a duplicated forward.
    ForwardTwice,
    /// A leader accepts a forward of an earlier term.
    ForwardOfEarlierTerm,
    /// A snapshot replaces the whole log, also entries behind it that match.
    SnapshotDropsTail,
    /// A leader that hears no quorum leads on.
    LingeringLeader,
    /// In a joint configuration only the incoming voters are counted.
    JointCountsIncomingOnly,
    /// One voter comes or goes in a single step, also before an entry of the leader's term is committed (the flaw of 2015).
    SingleServerChange,
    /// An answer that a member gave before it lost entries ends the leader's distrust.
    DistrustEndsEarly,
    /// A leader keeps in mind what a member acknowledged before it lost entries.
    DistrustKeepsCount,
    /// When a member that lost entries is believed again, what it acknowledged before the loss counts, too.
    CountBeforeLoss,
    /// A configuration that was truncated stays in force.
    TruncatedConfigurationStays,
    /// A member takes messages for its former incarnation as its own.
    HearsForFormerSelf,
    /// A member applies whatever is durable in its log.
    ApplyUndecided,
    /// An entry is decided when all voters have it.
    CommitNeedsAll,
    /// A leader whose disk stalls does not hand over.
    StalledLeaderStays,
}
