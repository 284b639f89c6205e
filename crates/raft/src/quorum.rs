//! Quorum arithmetic, joint configurations included (Raft thesis §4.3). Pure; knows nothing of messages or logs.
//!
//! Every function takes what each voter said or reached and gives what a quorum said or reached. In a joint configuration a decision needs
//! a majority of the incoming voters and one of the outgoing voters.

use crate::{Configuration, PeerId};
use std::collections::BTreeSet;

/// Voters whose values are sorted without an allocation; larger sets work, slower.
const SMALL_VOTERS: usize = 15;

/// How a vote stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tally {
    /// A quorum agreed.
    Won,
    /// No quorum can agree any more.
    Lost,
    /// Answers are missing.
    Pending,
}

/// The smallest number of voters that is more than half of them.
pub(crate) fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// The largest value that a majority of `voters` has reached. `None` without voters.
fn reached_by<T: Ord + Copy + Default>(
    voters: &BTreeSet<PeerId>,
    value: &impl Fn(PeerId) -> T,
) -> Option<T> {
    if voters.is_empty() {
        return None;
    }
    let mut small = [T::default(); SMALL_VOTERS];
    let mut large;
    let values: &mut [T] = if voters.len() <= SMALL_VOTERS {
        for (slot, &voter) in small.iter_mut().zip(voters) {
            *slot = value(voter);
        }
        &mut small[..voters.len()]
    } else {
        large = voters.iter().map(|&voter| value(voter)).collect::<Vec<T>>();
        &mut large
    };
    values.sort_unstable_by(|a, b| b.cmp(a));
    Some(values[majority(voters.len()) - 1])
}

/// The largest value that a quorum of the configuration has reached; the least value if it has no voters.
pub(crate) fn reached<T: Ord + Copy + Default>(
    configuration: &Configuration,
    value: impl Fn(PeerId) -> T,
) -> T {
    let incoming = reached_by(&configuration.voters, &value).unwrap_or_default();
    match reached_by(&configuration.outgoing, &value) {
        Some(outgoing) => mutated!(JointCountsIncomingOnly, incoming, incoming.min(outgoing)),
        None => incoming,
    }
}

fn tally_of(voters: &BTreeSet<PeerId>, answer: &impl Fn(PeerId) -> Option<bool>) -> Tally {
    let (mut yes, mut no) = (0, 0);
    for &voter in voters {
        match answer(voter) {
            Some(true) => yes += 1,
            Some(false) => no += 1,
            None => {}
        }
    }
    if yes >= majority(voters.len()) {
        Tally::Won
    } else if voters.len() - no < majority(voters.len()) {
        Tally::Lost
    } else {
        Tally::Pending
    }
}

/// How a vote stands, given each voter's answer so far.
pub(crate) fn tally(
    configuration: &Configuration,
    answer: impl Fn(PeerId) -> Option<bool>,
) -> Tally {
    let incoming = tally_of(&configuration.voters, &answer);
    if configuration.outgoing.is_empty() || mutated!(JointCountsIncomingOnly) {
        return incoming;
    }
    match (incoming, tally_of(&configuration.outgoing, &answer)) {
        (Tally::Won, Tally::Won) => Tally::Won,
        (Tally::Lost, _) | (_, Tally::Lost) => Tally::Lost,
        _ => Tally::Pending,
    }
}

#[cfg(test)]
mod tests;
