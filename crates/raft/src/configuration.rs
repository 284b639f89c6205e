//! Who belongs to the cell, joint configurations included (Raft thesis §4.3).

use crate::{Incarnation, MemberId, PeerId};
use std::collections::{BTreeMap, BTreeSet};

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
}

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
}
