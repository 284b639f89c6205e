//! Bugs put into the log and the snapshots on purpose: the simulator must find each of them, which is how it is tested itself. Compiled only with the
//! feature `mutations`, which no released binary has. A thread runs with one of them at most, and with none unless [`choose`] was called.

use std::cell::Cell;

thread_local! {
    static CHOSEN: Cell<Option<Mutation>> = const { Cell::new(None) };
}

/// Runs this thread with the bug from now on, or with none.
pub fn choose(mutation: Option<Mutation>) {
    CHOSEN.set(mutation);
}

pub(crate) fn is_chosen(mutation: Mutation) -> bool {
    CHOSEN.get() == Some(mutation)
}

macro_rules! mutations {
    ($(#[doc = $text:literal] $name:ident,)+) => {
        /// A bug, and what it does.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutation {
            $(#[doc = $text] $name,)+
        }

        impl Mutation {
            /// Every one of them, with what it does in words.
            pub const ALL: &[(Mutation, &str)] = &[$((Mutation::$name, $text)),+];
        }
    };
}

mutations! {
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
