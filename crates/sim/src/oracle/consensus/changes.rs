//! The cluster and its members: there is one cluster, whoever founds it, and no change of members makes two disjoint quorums (M1).

use super::{Check, Consensus};
use crate::oracle::broken;
use raft::{Configuration, Payload, PeerId, SnapshotMark};
use std::collections::BTreeSet;

impl Consensus {
    /// A member found its cluster. There is one cluster, whoever bootstraps beside whom.
    pub fn on_founded(&mut self, cluster: u64, first: &Configuration) -> Check {
        match &self.founded {
            Some((other, _)) if *other != cluster => {
                broken!("C1", "two clusters were founded: {other:x} and {cluster:x}")
            }
            Some((_, other)) if other != first => {
                broken!("C1", "the cluster has two beginnings: {other} and {first}")
            }
            Some(_) => Ok(()),
            None => {
                self.decided_configuration = first.clone();
                self.rules.begin(first);
                self.founded = Some((cluster, first.clone()));
                Ok(())
            }
        }
    }

    /// The newest decided configuration; empty before there is a cluster.
    pub fn decided_configuration(&self) -> &Configuration {
        &self.decided_configuration
    }

    /// A configuration like this was decided at some time.
    pub fn was_decided(&self, like: impl Fn(&Configuration) -> bool) -> bool {
        let mut payloads = self.chain.iter().map(|decided| &decided.entry.payload);
        payloads.any(|it| matches!(it, Payload::Configuration(decided) if like(decided)))
    }

    /// A member was removed from the cluster by a decided change.
    pub fn was_removed(&self, peer: PeerId) -> bool {
        self.belonged.contains(&peer) && !self.decided_configuration.contains(peer)
    }

    /// The configuration that was replaced since the last call, if one was.
    pub fn take_replaced_configuration(&mut self) -> Option<Configuration> {
        self.replaced_configuration.take()
    }

    /// The feature level a program needs to take part.
    pub fn feature_level_needed(&self) -> u32 {
        self.feature_level
    }

    /// A command that needs this feature level is under way.
    pub fn need_feature_level(&mut self, level: u32) {
        self.feature_level = self.feature_level.max(level);
    }

    /// M1: a snapshot says who the members were at its index, or its reader would count by others than everybody else.
    pub(super) fn check_members(&self, member: usize, mark: &SnapshotMark) -> Check {
        let until = &self.chain[..self.chain.len().min(mark.index.0 as usize)];
        let mut before = until.iter().rev();
        let decided = before.find_map(|decided| match &decided.entry.payload {
            Payload::Configuration(configuration) => Some(configuration),
            Payload::Noop | Payload::Batch(_) => None,
        });
        let founded = self.founded.as_ref().map(|(_, first)| first);
        match decided.or(founded) {
            Some(expected) if *expected != mark.configuration => broken!(
                "M1",
                "the snapshot of n{} at index {} names {}, and {expected} is in force there",
                member + 1,
                mark.index,
                mark.configuration
            ),
            _ => Ok(()),
        }
    }

    /// M1: a member counts by the newest configuration in its log (Raft thesis, 4.1), and by no other.
    pub fn check_in_force(&self, member: usize, configuration: &Configuration) -> Check {
        let expected = self.configuration(member);
        if expected == configuration {
            return Ok(());
        }
        broken!(
            "M1",
            "n{} goes by {configuration}, and the newest in its log is {expected}",
            member + 1
        )
    }

    /// M1: a decided configuration takes the place of another; each quorum of the one has somebody in common with each of the other.
    pub(super) fn check_change(&mut self, next: &Configuration, index: u64) -> Check {
        let before = std::mem::replace(&mut self.decided_configuration, next.clone());
        self.replaced_configuration.get_or_insert(before.clone());
        self.belonged.extend(before.peers());
        if quorums_meet(&before, next) {
            return Ok(());
        }
        broken!(
            "M1",
            "index {index} decides {next} after {before}, and quorums of the two are disjoint"
        )
    }
}

/// Each quorum of `one` has somebody in common with each quorum of `other`.
fn quorums_meet(one: &Configuration, other: &Configuration) -> bool {
    let voters: Vec<PeerId> = [&one.voters, &one.outgoing, &other.voters, &other.outgoing]
        .into_iter()
        .flatten()
        .copied()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let chosen = |set: u64, half: &BTreeSet<PeerId>| {
        let count = |(n, peer): (usize, &PeerId)| half.contains(peer) && set & (1 << n) != 0;
        voters
            .iter()
            .enumerate()
            .filter(|pair| count(*pair))
            .count()
    };
    let majority =
        |set, half: &BTreeSet<PeerId>| half.is_empty() || 2 * chosen(set, half) > half.len();
    let quorum = |set, of: &Configuration| majority(set, &of.voters) && majority(set, &of.outgoing);
    // Two disjoint quorums exist if some set is a quorum of one while what is left is a quorum of the other.
    let all = (1u64 << voters.len()) - 1;
    (0..=all).all(|set| !(quorum(set, one) && quorum(all & !set, other)))
}
