//! Who belongs to the cell, joint configurations included (Raft thesis §4.3).

use crate::{Incarnation, MemberId, PeerId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The members of the cell and their parts. While `outgoing` is not empty the configuration is joint: decisions need a majority of `voters` and one of `outgoing`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Those who decide (in a joint configuration: the incoming half).
    pub voters: BTreeSet<PeerId>,
    /// The outgoing half of a joint configuration; empty otherwise.
    pub outgoing: BTreeSet<PeerId>,
    /// Those who receive the log and do not count. Never also a voter.
    pub learners: BTreeSet<PeerId>,
    /// Voters of the outgoing half that become learners when the joint configuration is left.
    pub learners_next: BTreeSet<PeerId>,
    /// What is known of each member, voters and learners alike.
    pub members: BTreeMap<MemberId, Member>,
    /// Members that left, oldest first and the newest of them only: told so when they come back.
    pub departed: Vec<MemberId>,
}

/// Members that left and are remembered; the oldest are forgotten for more.
const DEPARTED_MAX: usize = 256;

/// What the cell knows of a member. Lives in configuration entries so that all agree on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// The incarnation admitted last.
    pub incarnation: Incarnation,
    /// Its name, unique in the cell.
    pub name: String,
    /// Where other members reach it, as `host:port`.
    pub peer_addresses: Vec<String>,
    /// Where clients reach it, as `host:port`. Empty until the member has published it.
    pub client_addresses: Vec<String>,
    /// The newest behaviour it knows (PROPERTIES U1).
    pub feature_level: u32,
    /// Preference in elections and transfers: a higher one is preferred. 0 is the default.
    pub priority: u32,
    /// For a member that an operator prepared a place for: the id of the empty directory that took the place. No other directory may go on in it.
    pub taken_by: Option<MemberId>,
    /// A learner that waits for an operator to promote it; others become voters once they have caught up.
    pub stays_learner: bool,
    /// The member that leaves when this learner becomes a voter.
    pub replaces: Option<MemberId>,
    /// The peer addresses the member told of itself, while an operator's word stands against it in `peer_addresses`; empty otherwise.
    pub overruled: Vec<String>,
}

impl Member {
    /// An operator prepared the place, and nobody has taken it yet.
    pub fn is_vacant(&self) -> bool {
        self.name.is_empty() && self.taken_by.is_none()
    }
}

impl Configuration {
    /// Two halves decide together until the change is complete.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// `peer` takes part in elections and decisions, in either half.
    pub fn is_voter(&self, peer: PeerId) -> bool {
        self.voters.contains(&peer) || self.outgoing.contains(&peer)
    }

    /// `peer` belongs to the cell, in any part.
    pub fn contains(&self, peer: PeerId) -> bool {
        self.is_voter(peer) || self.learners.contains(&peer)
    }

    /// Everybody who receives the log, ascending, each once.
    pub fn peers(&self) -> BTreeSet<PeerId> {
        self.voters
            .iter()
            .chain(&self.outgoing)
            .chain(&self.learners)
            .copied()
            .collect()
    }

    /// Remembers who of the members of `before` is a member no more.
    pub(crate) fn note_departures(&mut self, before: &Configuration) {
        self.departed = before.departed.clone();
        self.departed.retain(|id| !self.members.contains_key(id));
        let left = before.members.keys();
        self.departed
            .extend(left.filter(|id| !self.members.contains_key(id)));
        let forgotten = self.departed.len().saturating_sub(DEPARTED_MAX);
        self.departed.drain(..forgotten);
    }

    /// A later incarnation of this member was admitted: this one never counts again.
    pub fn supersedes(&self, peer: PeerId) -> bool {
        self.members
            .get(&peer.member)
            .is_some_and(|member| member.incarnation > peer.incarnation)
    }

    /// The preference of a peer in elections and transfers.
    pub fn priority(&self, peer: PeerId) -> u32 {
        self.members
            .get(&peer.member)
            .map_or(0, |member| member.priority)
    }
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (name, peers) in [
            ("voters", &self.voters),
            ("outgoing", &self.outgoing),
            ("learners", &self.learners),
            ("learners-next", &self.learners_next),
        ] {
            if peers.is_empty() {
                continue;
            }
            write!(f, "{separator}{name}(")?;
            for (nth, peer) in peers.iter().enumerate() {
                write!(f, "{}{peer}", if nth == 0 { "" } else { " " })?;
            }
            write!(f, ")")?;
            separator = " ";
        }
        if separator.is_empty() {
            write!(f, "empty")?;
        }
        Ok(())
    }
}
