//! Quorum arithmetic against brute force over all subsets.

use super::*;
use crate::{Index, MemberId};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn peer(member: u64) -> PeerId {
    PeerId {
        member: MemberId(member),
        ..PeerId::default()
    }
}

fn configuration(voters: &BTreeSet<u64>, outgoing: &BTreeSet<u64>) -> Configuration {
    Configuration {
        voters: voters.iter().map(|&member| peer(member)).collect(),
        outgoing: outgoing.iter().map(|&member| peer(member)).collect(),
        ..Configuration::default()
    }
}

/// Whether `agreeing` is a quorum: more than half of each half.
fn is_quorum(configuration: &Configuration, agreeing: impl Fn(PeerId) -> bool) -> bool {
    let more_than_half = |voters: &BTreeSet<PeerId>| {
        2 * voters.iter().filter(|voter| agreeing(**voter)).count() > voters.len()
    };
    more_than_half(&configuration.voters)
        && (configuration.outgoing.is_empty() || more_than_half(&configuration.outgoing))
}

fn halves() -> impl Strategy<Value = (BTreeSet<u64>, BTreeSet<u64>)> {
    (
        prop::collection::btree_set(0u64..20, 1..18),
        prop::collection::btree_set(0u64..20, 0..8),
    )
}

proptest! {
    #[test]
    fn reached_is_the_largest_value_a_quorum_has((voters, outgoing) in halves(), values in prop::collection::vec(0u64..12, 20)) {
        let configuration = configuration(&voters, &outgoing);
        let value = |peer: PeerId| Index(values[peer.member.0 as usize]);
        let found = reached(&configuration, value);
        let by_hand = (0..12).rev().map(Index).find(|&index| is_quorum(&configuration, |peer| value(peer) >= index));
        prop_assert_eq!(found, by_hand.unwrap_or_default());
    }

    #[test]
    fn tally_is_decided_when_the_missing_answers_cannot_matter(
        (voters, outgoing) in halves(), answers in prop::collection::vec(prop::option::of(any::<bool>()), 20),
    ) {
        let configuration = configuration(&voters, &outgoing);
        let answer = |peer: PeerId| answers[peer.member.0 as usize];
        let at_best = is_quorum(&configuration, |peer| answer(peer) != Some(false));
        let at_worst = is_quorum(&configuration, |peer| answer(peer) == Some(true));
        let expected = match (at_worst, at_best) {
            (true, _) => Tally::Won,
            (false, false) => Tally::Lost,
            (false, true) => Tally::Pending,
        };
        prop_assert_eq!(tally(&configuration, answer), expected);
    }
}

/// PROPERTIES M1: no two disjoint quorums, at any point of a change. All changes between cells of up to four of five members.
#[test]
fn quorums_of_a_change_always_meet() {
    let sets: Vec<BTreeSet<u64>> = (1u32..32)
        .filter(|bits| bits.count_ones() <= 4)
        .map(|bits| (0..5).filter(|m| bits & (1 << m) != 0).collect())
        .collect();
    let none = BTreeSet::new();
    for before in &sets {
        for after in &sets {
            let steps = [
                configuration(before, &none),
                configuration(after, before),
                configuration(after, &none),
            ];
            for pair in steps.windows(2) {
                for first in 0u32..32 {
                    let second = !first & 31;
                    let has = |bits: u32| move |peer: PeerId| bits & (1 << peer.member.0) != 0;
                    let disjoint =
                        is_quorum(&pair[0], has(first)) && is_quorum(&pair[1], has(second));
                    assert!(
                        !disjoint,
                        "{} and {}: {first:b} and {second:b} are quorums",
                        pair[0], pair[1]
                    );
                }
            }
        }
    }
}

#[test]
fn majority_is_more_than_half() {
    let majorities: BTreeMap<usize, usize> =
        (1..=7).map(|voters| (voters, majority(voters))).collect();
    assert_eq!(
        majorities,
        BTreeMap::from([(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)])
    );
}
