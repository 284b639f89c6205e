//! Bugs put into the member on purpose: the simulator must find each of them, which is how it is tested itself. Compiled only with the
//! feature `mutations`, which no released binary has. A thread runs with one of them at most, and with none unless [`choose`] was called.

mutations! {
    Mutation:
    /// A new leader stamps batches from the applied clock instead of the appended one.
    ClockFromApplied,
    /// The replicated clock counts the wall clock.
    ClockFollowsWall,
    /// A keep-alive is acknowledged before it is applied.
    KeepAliveBeforeApply,
    /// Forwarded commands are sent again as soon as the leader changes.
    ResendOnLeaderChange,
    /// A command that was sent and not heard of ends with an error that says it never will be.
    UnknownToldAsRefused,
    /// A member takes the outcome of a group of its earlier process for one of its own.
    ReplyAcrossBoots,
    /// A confirmed read is served before its index is applied.
    ReadBeforeApplied,
    /// A read with a stamp is served at once.
    StampNotWaited,
    /// A bounded read is served however old the state is.
    BoundedIgnoresFreshness,
    /// A local read waits for a leader to confirm it.
    LocalReadNeedsLeader,
    /// Permission for a read is looked at when it is asked, not in the view that answers it.
    ReadCheckedWhenAsked,
    /// A reply is stamped with the commit index instead of the applied one.
    StampTooNew,
    /// A revision is split across watch responses.
    SplitRevision,
    /// A watch that is overtaken by compaction misses the change at the compacted revision.
    DropAtCompaction,
    /// A progress mark is the newest revision, whatever was delivered.
    ProgressAhead,
    /// A watch from a revision begins with the next one.
    ResumeOffByOne,
    /// The previous state of an event is that at its own revision.
    PrevOfSameRevision,
    /// A watch whose stream cannot take more skips what it could not take.
    SlowWatchSkips,
    /// While a stream cannot take more, no watch is told anything.
    SlowWatchHoldsOthers,
    /// When a snapshot replaces the state, watches go on from its revision.
    WatchSkipsSnapshot,
    /// Who waits for a lock is not told of a grant that comes in a later batch.
    LostWakeUp,
    /// When a snapshot replaces the state, nobody looks who waited.
    SnapshotForgetsWaiters,
    /// A snapshot names the index before the one it holds.
    SnapshotIndexBehind,
    /// A snapshot names the present term instead of that of its last entry.
    SnapshotNamesPresentTerm,
    /// History is compacted up to the present, however young it is.
    CompactsYoungHistory,
    /// Of changes of members that are to happen together, only the first is made.
    FirstChangeOnly,
    /// Whoever asks for a change of members is told that it is done as soon as it has begun.
    ChangeToldAtOnce,
    /// An empty member founds a cluster when most of the listed ones say that they are empty, whatever the others know.
    FoundWithMost,
    /// A new leader does not count the time since the last batch.
    ClockSkipsIdleTime,
    /// After its first batch, a leader counts only a part of the time in which it has nothing to do.
    ClockHalfAsleep,
    /// A leader that proposes nothing else writes down no time either before a lease ends.
    NoCheckpoints,
    /// A lease ends with the next batch, whenever that comes; one that only tells the time comes seldom.
    LeasesEndAtCheckpoints,
    /// A confirmed round makes the state fresh before its index is applied.
    FreshBeforeApplied,
    /// A snapshot names the newest configuration in the log instead of the one at its index.
    SnapshotNamesNewestMembers,
    /// The leader takes what its own program knows for what the programs of all members know.
    KnowsForOthers,
    /// A member whose disk was full does not notice that there is room again.
    RoomUnnoticed,
    /// Revisions that travel in one response come with the newest first.
    NewestFirst,
    /// A watch from a revision that is not reached yet begins with the next change.
    FutureStartsNow,
    /// A watch that catches up with the others forgets that it was to begin later.
    MergeForgetsStart,
    /// A watch whose beginning was compacted away begins with what is left.
    CompactedStartSilent,
    /// A watch that leaves out puts leaves out deletes, and the other way round.
    FiltersSwapped,
    /// A watch of a range hears of the key at its end, too.
    RangeEndIncluded,
}

impl crate::Replica {
    /// Answers a keep-alive from the lease as it is now.
    pub(crate) fn acknowledge_at_once(&mut self, ticket: crate::Ticket, lease: i64) {
        let query = state::Query::LeaseTimeToLive {
            id: lease,
            keys: false,
        };
        let mut cursor = self.state.query_begin(query);
        let answer = self.state.query_step(&mut cursor, state::Budget(1));
        if let Some((state::Answer::Lease(Some(view)), revision)) = answer {
            let body = crate::Body::KeepAlive(Some(view.granted_ms));
            let response = self.response(body, revision, self.state.applied());
            self.reply(ticket, Ok(response));
        }
    }
}
