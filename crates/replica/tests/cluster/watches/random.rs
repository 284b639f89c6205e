//! Random changes, compactions, credits and leader changes under many watches.

use super::*;

/// What one stream of the random test wants and heard.
struct Follower {
    nth: u64,
    create: WatchCreate,
    from: i64,
    heard: Vec<Arc<Event>>,
    compacted: bool,
    mark: i64,
}

/// W1–W8 and W12 together: random changes, compactions, credits and leader changes; every watch hears exactly the events of its range from its
/// start on, or the end by compaction.
#[test]
fn random_watches_hear_exactly_what_happened() {
    for seed in 1..=12u64 {
        let mut random = Random(seed);
        let mut cell = Cell::settled();
        let mut history: Vec<(i64, String, String)> = Vec::new();
        let mut followers: BTreeMap<u64, Follower> = BTreeMap::new();
        // A full watch on each member is the record of what happened.
        for nth in 1..=3 {
            open(&mut cell, nth, 0, create("", "\0"));
        }
        for round in 0..150u64 {
            match random.below(12) {
                0..=4 => {
                    let at = 1 + random.below(3);
                    for _ in 0..random.below(20) {
                        let key = format!("k{}", random.below(6));
                        let operation = match random.below(5) {
                            0 => delete(&key, ""),
                            1 => delete("k2", "k4"),
                            2 => txn(vec![
                                put("k0", &round.to_string()),
                                put("k5", &round.to_string()),
                            ]),
                            _ => put(&key, &round.to_string()),
                        };
                        cell.propose(at, operation);
                    }
                    cell.settle();
                }
                5 | 6 => {
                    let nth = 1 + random.below(3);
                    let newest = cell.replica(nth).status().revision;
                    let start = if random.below(2) == 0 {
                        0
                    } else {
                        1 + random.below(newest as u64 + 5) as i64
                    };
                    let (key, end) = [("k0", ""), ("k1", "k4"), ("k", "\0"), ("k5", "")]
                        [random.below(4) as usize];
                    let no_delete = random.below(4) == 0;
                    let create = WatchCreate {
                        no_delete,
                        prev_kv: random.below(2) == 0,
                        ..from(start, create(key, end))
                    };
                    let stream = round + 1;
                    cell.watch(nth, stream, WatchRequest::Create(create.clone()));
                    cell.settle();
                    let from = if start == 0 { newest + 1 } else { start };
                    followers.insert(
                        stream,
                        Follower {
                            nth,
                            create,
                            from,
                            heard: Vec::new(),
                            compacted: false,
                            mark: 0,
                        },
                    );
                }
                7..=9 => {
                    let streams: Vec<u64> = followers.keys().copied().collect();
                    for stream in streams {
                        if random.below(2) == 0 {
                            cell.credit(followers[&stream].nth, stream, random.below(4) as u32);
                            if random.below(4) == 0 {
                                cell.watch(followers[&stream].nth, stream, WatchRequest::Progress);
                            }
                        }
                    }
                    cell.settle();
                }
                10 => {
                    let newest = cell.replica(1).status().revision;
                    let revision = (newest - random.below(20) as i64).max(1);
                    cell.propose(1, Operation::Compact(state::Compact { revision }));
                    cell.settle();
                }
                _ => {
                    let leader = cell.leader().unwrap();
                    cell.isolate(leader);
                    cell.advance(2500);
                    cell.heal();
                    cell.elect();
                }
            }
            collect(&mut cell, &mut followers);
        }
        cell.advance(500);
        for stream in followers.keys().copied().collect::<Vec<_>>() {
            cell.credit(followers[&stream].nth, stream, PLENTY);
        }
        cell.settle();
        collect(&mut cell, &mut followers);
        history.extend(short(&events(&cell.heard(1, 0))));
        for nth in 2..=3 {
            assert_eq!(
                short(&events(&cell.heard(nth, 0))),
                history,
                "seed {seed}: members tell different histories"
            );
        }
        for (stream, follower) in &followers {
            let range = |key: &str| {
                let (start, end) = (&follower.create.key[..], &follower.create.range_end[..]);
                let key = key.as_bytes();
                if end.is_empty() {
                    key == start
                } else {
                    key >= start && (end == b"\0" || key < end)
                }
            };
            let expected: Vec<(i64, String, String)> = history
                .iter()
                .filter(|(revision, key, value)| {
                    *revision >= follower.from
                        && range(key)
                        && !(follower.create.no_delete && value == "-")
                })
                .cloned()
                .collect();
            let heard = short(&follower.heard);
            if follower.compacted {
                assert_eq!(
                    heard,
                    expected[..heard.len()],
                    "seed {seed} stream {stream}: a prefix before the compaction"
                );
            } else {
                assert_eq!(
                    heard, expected,
                    "seed {seed} stream {stream}: {:?}",
                    follower.create
                );
            }
        }
    }
}

fn collect(cell: &mut Cell, followers: &mut BTreeMap<u64, Follower>) {
    for (&stream, follower) in followers.iter_mut() {
        for response in cell.heard(follower.nth, stream) {
            match response.body {
                WatchBody::Events { events, .. } => {
                    assert!(
                        events
                            .iter()
                            .all(|event| event.kv.mod_revision > follower.mark),
                        "W6"
                    );
                    follower.heard.extend(events);
                }
                WatchBody::Compacted { .. } => follower.compacted = true,
                WatchBody::Progress => {
                    assert!(response.revision >= follower.mark, "W6");
                    follower.mark = response.revision;
                }
                _ => {}
            }
        }
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}
