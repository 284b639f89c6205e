//! Bugs in what drives the member: the simulator's own shell.

mutations! {
    Shell:
    /// Tells the replica that its persists are durable before they are.
    AcknowledgeBeforeSync,
    /// Never syncs and says that it did.
    SkipSync,
    /// Loses term and vote at each restart.
    ForgetVote,
    /// Serves every read from local state.
    StaleReads,
    /// Sometimes proposes a command twice.
    ProposeTwice,
    /// Sometimes loses watch responses on an open stream.
    DropWatchResponse,
    /// Sometimes sends watch responses twice.
    RepeatWatchResponse,
}
