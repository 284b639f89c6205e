//! Every bug that can be put in on purpose, by name: those of the crates under test and those of the shell, which are listed here. The
//! simulator must find each; docs/design/mutations.md tells how. Compiled only with the feature `mutations`, which no released binary has.

pub mod search;
mod shell;

use std::fmt;

pub use shell::Shell;
pub(crate) use shell::{Own, is_chosen};

/// A bug, in the crate whose promise it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// In consensus.
    Raft(raft::mutation::Mutation),
    /// In the log or the snapshots.
    Log(log::mutation::Mutation),
    /// In the state machine.
    State(state::mutation::Mutation),
    /// In the member.
    Replica(replica::mutation::Mutation),
    /// In what drives the member.
    Shell(Shell),
}

impl Mutation {
    /// Every one of them, with what it does in words.
    pub fn all() -> Vec<(Mutation, &'static str)> {
        let raft = raft::mutation::Mutation::ALL.iter();
        let log = log::mutation::Mutation::ALL.iter();
        let state = state::mutation::Mutation::ALL.iter();
        let replica = replica::mutation::Mutation::ALL.iter();
        let shell = Shell::ALL.iter();
        raft.map(|(bug, what)| (Mutation::Raft(*bug), *what))
            .chain(log.map(|(bug, what)| (Mutation::Log(*bug), *what)))
            .chain(state.map(|(bug, what)| (Mutation::State(*bug), *what)))
            .chain(replica.map(|(bug, what)| (Mutation::Replica(*bug), *what)))
            .chain(shell.map(|(bug, what)| (Mutation::Shell(*bug), *what)))
            .map(|(mutation, what)| (mutation, what.trim()))
            .collect()
    }

    /// The mutation of this name.
    pub fn named(name: &str) -> Option<Mutation> {
        let mut all = Mutation::all().into_iter().map(|(mutation, _)| mutation);
        all.find(|mutation| mutation.to_string() == name)
    }

    /// The crate it is in.
    pub fn home(self) -> &'static str {
        match self {
            Mutation::Raft(_) => "raft",
            Mutation::Log(_) => "log",
            Mutation::State(_) => "state",
            Mutation::Replica(_) => "replica",
            Mutation::Shell(_) => "shell",
        }
    }
}

/// Its name, as in the code.
impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mutation::Raft(bug) => write!(f, "{bug:?}"),
            Mutation::Log(bug) => write!(f, "{bug:?}"),
            Mutation::State(bug) => write!(f, "{bug:?}"),
            Mutation::Replica(bug) => write!(f, "{bug:?}"),
            Mutation::Shell(bug) => write!(f, "{bug:?}"),
        }
    }
}

/// Keeps a bug in this thread for as long as it lives.
pub(crate) struct Chosen;

/// Puts a bug into all that runs on this thread from now on; none is put in by `None`.
pub(crate) fn choose(mutation: Option<Mutation>) -> Chosen {
    raft::mutation::choose(mutation.and_then(|mutation| match mutation {
        Mutation::Raft(bug) => Some(bug),
        _ => None,
    }));
    log::mutation::choose(mutation.and_then(|mutation| match mutation {
        Mutation::Log(bug) => Some(bug),
        _ => None,
    }));
    state::mutation::choose(mutation.and_then(|mutation| match mutation {
        Mutation::State(bug) => Some(bug),
        _ => None,
    }));
    replica::mutation::choose(mutation.and_then(|mutation| match mutation {
        Mutation::Replica(bug) => Some(bug),
        _ => None,
    }));
    shell::choose(mutation.and_then(|mutation| match mutation {
        Mutation::Shell(bug) => Some(bug),
        _ => None,
    }));
    Chosen
}

impl Drop for Chosen {
    fn drop(&mut self) {
        std::mem::forget(choose(None));
    }
}
