//! The index against a `BTreeMap`.

use super::*;
use crate::record::{NEVER, NewRecord};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
enum Step {
    Set(Vec<u8>),
    /// Marks the keys of a range as removed.
    Delete(Vec<u8>, Vec<u8>, usize),
    Remove(Vec<u8>),
    Walk(Vec<u8>, Vec<u8>, bool, bool),
}

fn record(key: &[u8], revision: i64) -> NewRecord<'_> {
    NewRecord {
        revision,
        deleted: false,
        create_revision: revision,
        version: 1,
        lease: 0,
        key,
        value: &[],
        previous: None,
        superseded: NEVER,
    }
}

/// Keys that share fronts, end in zeros, and are each other's fronts.
fn keys() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255)], 1..14),
        (0u32..3000)
            .prop_map(|number| format!("/registry/pods/namespace/{number:06}").into_bytes()),
        (0u32..3000).prop_map(|number| format!("{number}").into_bytes()),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => keys().prop_map(Step::Set),
        4 => keys().prop_map(Step::Remove),
        1 => (keys(), keys(), 0usize..30).prop_map(|(from, to, limit)| Step::Delete(from, to, limit)),
        1 => (keys(), keys(), any::<bool>(), any::<bool>()).prop_map(|(from, to, a, b)| Step::Walk(from, to, a, b)),
    ];
    proptest::collection::vec(step, 1..3000)
}

fn bound(key: &[u8], included: bool) -> Bound<&[u8]> {
    if included {
        Bound::Included(key)
    } else {
        Bound::Excluded(key)
    }
}

/// Checks what every node promises; gives the keys below it.
fn check(node: &Node, log: &RevisionLog) -> usize {
    weight(node, log);
    keys_below(node, log)
}

/// Checks the weights of all inner nodes against the leaves.
fn weight(node: &Node, log: &RevisionLog) -> Weight {
    if let Node::Inner(inner) = node {
        let below: Vec<Weight> = inner
            .children
            .iter()
            .map(|child| weight(child, log))
            .collect();
        assert_eq!(inner.weights, below);
    }
    node.weight(log)
}

fn keys_below(node: &Node, log: &RevisionLog) -> usize {
    match node {
        Node::Leaf(leaf) => {
            for at in 0..leaf.slots.len() {
                let key = leaf.key(log, at);
                assert!(
                    key.starts_with(&leaf.prefix),
                    "{key:?} does not begin with {:?}",
                    leaf.prefix
                );
                assert_eq!(
                    leaf.heads[at],
                    head(key, leaf.prefix.len()),
                    "head of {key:?}"
                );
            }
            leaf.slots.len()
        }
        Node::Inner(inner) => {
            assert_eq!(
                (inner.heads.len(), inner.separators.len() + 1),
                (inner.separators.len(), inner.children.len())
            );
            inner
                .children
                .iter()
                .map(|child| keys_below(child, log))
                .sum()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn index_equals_a_map(steps in steps()) {
        let (mut index, mut log, mut map, mut revision) = (Index::new(), RevisionLog::new(), BTreeMap::new(), 1);
        for step in steps {
            match step {
                Step::Set(key) => {
                    revision += 1;
                    let mut found = None;
                    index.upsert(&mut log, &key, |log, slot| {
                        found = slot;
                        Slot::new(log.append(&record(&key, revision)), false)
                    });
                    let slot = index.get(&log, &key).unwrap();
                    prop_assert_eq!(log.key(slot.position()), &key[..]);
                    prop_assert_eq!(map.insert(key, slot), found);
                }
                Step::Delete(from, to, limit) => {
                    if from < to {
                        let live = map.range_mut::<[u8], _>((bound(&from, true), bound(&to, false))).map(|(_, slot)| slot).filter(|slot| !slot.deleted());
                        live.take(limit).for_each(|slot| *slot = Slot::new(slot.position(), true));
                        let mut left = limit;
                        index.walk_mut(&mut log, bound(&from, true), bound(&to, false), |_, slot| {
                            if !slot.deleted() && left > 0 {
                                *slot = Slot::new(slot.position(), true);
                                left -= 1;
                            }
                            left > 0
                        });
                    }
                }
                Step::Remove(key) => {
                    index.remove(&log, &key);
                    map.remove(&key);
                    prop_assert_eq!(index.get(&log, &key), None);
                }
                Step::Walk(from, to, a, b) => {
                    let (low, high) = (bound(&from, a), bound(&to, b));
                    let expected: Vec<Slot> = if from < to { map.range::<[u8], _>((low, high)).map(|(_, &slot)| slot).collect() } else { Vec::new() };
                    let (mut forth, mut back) = (Vec::new(), Vec::new());
                    index.walk(&log, low, high, |slot| { forth.push(slot); true });
                    index.walk_back(&log, low, high, |slot| { back.push(slot); true });
                    back.reverse();
                    if from < to {
                        prop_assert_eq!(&forth, &expected);
                        prop_assert_eq!(&back, &expected);
                        let live: Vec<u64> = expected.iter().filter(|slot| !slot.deleted()).map(|slot| log.key(slot.position()).len() as u64).collect();
                        prop_assert_eq!(index.weigh(&log, low, high), Weight { keys: live.len() as u64, bytes: live.iter().sum() });
                    }
                }
            }
        }
        prop_assert_eq!(check(&index.root, &log), map.len());
        for (key, slot) in &map {
            prop_assert_eq!(index.get(&log, key), Some(*slot));
        }
        let (mut all, live) = (Vec::new(), |slots: Vec<Slot>| slots.into_iter().filter(|slot| !slot.deleted()).collect::<Vec<_>>());
        index.walk_mut(&mut log, Bound::Unbounded, Bound::Unbounded, |_, slot| { all.push(*slot); true });
        prop_assert_eq!(live(all), live(map.values().copied().collect()));
        for key in map.keys() {
            index.remove(&log, key);
        }
        prop_assert!(index.root.is_empty());
    }
}
