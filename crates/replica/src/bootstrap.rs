//! How a member with an empty directory finds its cluster, or founds one with others as empty as itself (DESIGN: Consensus, bootstrap).
//!
//! It asks every listed member. Only if every one answers "empty too" do all of them derive the same first configuration and cluster id
//! from the sorted list of (name, member id), and start. If any knows a cluster, the member joins it only as that cluster's own configuration names it,
//! or as a new incarnation that the leader admits.

use raft::{Configuration, Instant, MemberId, PeerId};

/// What members ask before they belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootstrapMessage {
    /// "Who are you, and do you know a cluster?"
    Query(Introduction),
    /// The answer.
    Answer {
        /// Who answers.
        from: Introduction,
        /// The cluster it belongs to, if any.
        cluster: Option<KnownCluster>,
    },
}

/// Who a member says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// Its configured name.
    pub name: String,
    /// Its id, already durable in its directory.
    pub member: MemberId,
    /// The names and addresses it was told with `--cluster`, sorted by name.
    pub listed: Vec<(String, String)>,
}

/// A cluster as one of its members knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownCluster {
    /// Its id.
    pub cluster: u64,
    /// The configuration it began with.
    pub bootstrap: Configuration,
    /// The configuration now in force there.
    pub current: Configuration,
    /// Who leads, if known: to be asked for admission.
    pub leader: Option<PeerId>,
}

/// What a bootstrapping member decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootstrapOutcome {
    /// Write this identity, then start with this configuration at index 0.
    Start {
        /// Who this member is in it.
        id: PeerId,
        /// The cluster.
        cluster: u64,
        /// Its first configuration.
        configuration: Configuration,
    },
    /// This can never work; the text says why and what to do (names differ, ids clash, another cluster).
    Refused(String),
}

/// The asking, pure.
pub struct Bootstrap {}

impl Bootstrap {
    /// Begins for a member with an empty directory.
    pub fn new(_me: Introduction, _now: Instant) -> Bootstrap {
        todo!()
    }

    /// Takes a message from the peer at this listed name.
    pub fn handle(&mut self, _now: Instant, _message: BootstrapMessage) {
        todo!()
    }

    /// Messages to send, by listed name; asks everybody again about every second.
    pub fn poll(&mut self, _now: Instant) -> Vec<(String, BootstrapMessage)> {
        todo!()
    }

    /// The decision, once there is one.
    pub fn outcome(&self) -> Option<BootstrapOutcome> {
        todo!()
    }

    /// Whom it waits for, in words for the operator.
    pub fn waiting_for(&self) -> String {
        todo!()
    }
}
