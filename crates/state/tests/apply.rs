//! Applying: versions, envelopes, clocks, and that long commands run in slices nobody sees.

use bytes::Bytes;
use prost::Message;
use synod_state::*;

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str, value: &str) -> Command {
    Command {
        operation: Some(Operation::Put(Put {
            key: bytes(key),
            value: bytes(value),
            ..Put::default()
        })),
        ..Command::default()
    }
}

fn command(operation: Operation) -> Command {
    Command {
        operation: Some(operation),
        ..Command::default()
    }
}

fn batch(clock_ms: u64, commands: Vec<Command>) -> Batch {
    Batch {
        format: 1,
        clock_ms,
        wall_ms: clock_ms,
        groups: vec![Group {
            commands,
            ..Group::default()
        }],
    }
}

fn apply(state: &mut State, batch: Batch) -> Applied {
    state
        .apply_begin(state.applied() + 1, &batch.encode_to_vec())
        .unwrap();
    state.apply_step(Budget(u64::MAX)).unwrap()
}

fn all() -> Range {
    Range {
        key: bytes("\0"),
        range_end: bytes("\0"),
        ..Range::default()
    }
}

fn ask(state: &mut State, query: Query) -> Answer {
    let mut cursor = state.query_begin(query);
    state.query_step(&mut cursor, Budget(u64::MAX)).unwrap().0
}

fn filled(keys: u64) -> State {
    let mut state = State::new(Settings::default());
    for first in (0..keys).step_by(1000) {
        apply(
            &mut state,
            batch(
                0,
                (first..(first + 1000).min(keys))
                    .map(|number| put(&format!("key/{number:08}"), "value"))
                    .collect(),
            ),
        );
    }
    state
}

#[test]
fn u1_a_newer_batch_command_or_level_is_refused_before_anything_changes() {
    let mut state = State::new(Settings::default());
    let newer = |batch: Batch, state: &mut State| state.apply_begin(1, &batch.encode_to_vec());
    let format = Batch {
        format: FORMAT + 1,
        ..Batch::default()
    };
    assert_eq!(
        newer(format, &mut state),
        Err(ApplyError::NewerVersion {
            needed: FORMAT + 1,
            known: FORMAT
        })
    );
    let level = Err(ApplyError::NewerVersion {
        needed: LEVEL + 1,
        known: LEVEL,
    });
    let needs = Command {
        version: LEVEL + 1,
        ..put("a", "1")
    };
    assert_eq!(
        newer(batch(5, vec![put("a", "1"), needs]), &mut state),
        level
    );
    let switches = command(Operation::SetFeatureLevel(SetFeatureLevel {
        level: LEVEL + 1,
    }));
    assert_eq!(newer(batch(5, vec![switches]), &mut state), level);
    assert!(matches!(
        state.apply_begin(1, b"\xff\xff\xff"),
        Err(ApplyError::Malformed(_))
    ));
    assert_eq!(
        (state.applied(), state.clock_ms(), state.hash()),
        (0, 0, State::new(Settings::default()).hash())
    );
    apply(&mut state, batch(5, vec![put("a", "1")]));
    assert_eq!(
        (state.applied(), state.clock_ms(), state.revision()),
        (1, 5, 2)
    );
}

#[test]
fn f3_a_guard_or_client_record_is_never_passed_over() {
    let mut state = State::new(Settings::default());
    let guarded = Command {
        guards: vec![Guard::default()],
        ..put("a", "1")
    };
    let client = Command {
        client: 1,
        ..put("a", "1")
    };
    let session = Command {
        session: 1,
        ..put("a", "1")
    };
    let nothing = Command::default();
    let no_key = put("", "1");
    let no_step = command(Operation::Txn(Txn {
        success: vec![TxnOperation { step: None }],
        ..Txn::default()
    }));
    let applied = apply(
        &mut state,
        batch(0, vec![guarded, client, session, nothing, no_key, no_step]),
    );
    for (reply, revision) in &applied.groups[0].replies {
        assert!(
            matches!(
                reply,
                Reply::Rejected(Rejection::Invalid(_) | Rejection::Guard(_) | Rejection::Client(_))
            ),
            "{reply:?}"
        );
        assert_eq!(*revision, 1);
    }
    assert_eq!(
        (
            applied.groups[0].replies.len(),
            state.keys(),
            state.ordinal()
        ),
        (6, 0, 5)
    );
}

#[test]
fn l7_the_wall_never_falls_and_the_clock_may_not() {
    let mut state = State::new(Settings::default());
    apply(
        &mut state,
        Batch {
            wall_ms: 100,
            ..batch(7, vec![])
        },
    );
    apply(
        &mut state,
        Batch {
            wall_ms: 50,
            ..batch(7, vec![])
        },
    );
    assert_eq!((state.clock_ms(), state.wall_ms()), (7, 100));
    let back = batch(6, vec![]).encode_to_vec();
    assert!(
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| state.apply_begin(3, &back)))
            .is_err()
    );
}

#[test]
#[should_panic(expected = "out of order")]
fn entries_are_applied_in_order() {
    State::new(Settings::default()).apply_nothing(2);
}

#[test]
fn a_batch_comes_to_its_end_in_slices_of_any_size() {
    let ends = [1, 2, 3, u64::MAX].map(|budget| {
        let mut state = filled(50);
        let twice = command(Operation::Txn(Txn {
            success: ["new", "key"]
                .map(|key| TxnOperation {
                    step: Some(TxnStep::Put(Put {
                        key: bytes(key),
                        ..Put::default()
                    })),
                })
                .into(),
            ..Txn::default()
        }));
        let index = state.applied() + 1;
        let all = batch(0, vec![twice, remove_all(true), put("after", "1")]);
        state.apply_begin(index, &all.encode_to_vec()).unwrap();
        let slices = (1..10_000).find(|_| state.apply_step(Budget(budget)).is_some());
        assert!(slices.is_some(), "no end with a budget of {budget}");
        (state.revision(), state.keys(), state.hash())
    });
    assert_eq!(ends, [ends[0]; 4]);
}

#[test]
fn kv6_a_long_removal_runs_in_slices_and_shows_only_when_done() {
    let mut state = filled(20_000);
    let twin = filled(20_000);
    let (revision, hash) = (state.revision(), state.hash());
    assert_eq!(hash, twin.hash());
    let removal = command(Operation::DeleteRange(DeleteRange {
        key: bytes("\0"),
        range_end: bytes("\0"),
        prev_kv: true,
    }));
    state
        .apply_begin(
            state.applied() + 1,
            &batch(0, vec![removal, put("after", "1")]).encode_to_vec(),
        )
        .unwrap();
    let mut slices = 1;
    let applied = loop {
        if let Some(applied) = state.apply_step(Budget(100)) {
            break applied;
        }
        slices += 1;
        if state.revision() == revision {
            assert_eq!((state.keys(), state.hash()), (20_000, hash));
            let Answer::Range(counted) = ask(
                &mut state,
                Query::Range(Range {
                    count_only: true,
                    ..all()
                }),
            ) else {
                panic!("no range")
            };
            assert_eq!(counted.count, 20_000);
            assert_eq!(
                state.events(revision + 1, Budget(10), &mut |event| panic!(
                    "{event:?} is not done"
                )),
                Ok(revision + 1)
            );
        }
    };
    assert!(slices >= 200, "20 000 keys went in {slices} slices of 100");
    let Reply::DeleteRange { deleted, prev } = &applied.groups[0].replies[0].0 else {
        panic!("no removal")
    };
    assert_eq!((*deleted, prev.len(), state.keys()), (20_000, 20_000, 1));
    assert!(prev.is_sorted_by(|a, b| a.key < b.key));
}

fn remove_all(prev_kv: bool) -> Command {
    command(Operation::DeleteRange(DeleteRange {
        key: bytes("\0"),
        range_end: bytes("\0"),
        prev_kv,
    }))
}

/// Events from a revision on, as (revision, removed).
fn events(state: &State, from: i64) -> Vec<(i64, bool)> {
    let mut events = Vec::new();
    let next = state.events(from, Budget(u64::MAX), &mut |event| {
        events.push((event.revision, event.deleted))
    });
    assert_eq!(next, Ok(state.complete().max(from - 1) + 1));
    events
}

#[test]
fn kv3_w3_no_put_waits_for_a_plain_removal_of_many_keys() {
    let mut state = filled(20_000);
    let revision = state.revision();
    state
        .apply_begin(
            state.applied() + 1,
            &batch(0, vec![remove_all(false), put("key/00000007", "again")]).encode_to_vec(),
        )
        .unwrap();
    let mut slices = 1;
    let applied = loop {
        if let Some(applied) = state.apply_step(Budget(100)) {
            break applied;
        }
        slices += 1;
    };
    assert!(slices <= 15, "{slices} slices of 100");
    let removed = Reply::DeleteRange {
        deleted: 20_000,
        prev: vec![],
    };
    assert_eq!(
        applied.groups[0].replies,
        [
            (removed, revision + 1),
            (Reply::Put { prev: None }, revision + 2)
        ]
    );
    let count =
        |state: &mut State, revision| match ask(state, Query::Range(Range { revision, ..all() })) {
            Answer::Range(reply) => (reply.kvs.len(), reply.count),
            other => panic!("{other:?}"),
        };
    for (at, keys) in [(0, 1), (revision, 20_000), (revision + 1, 0)] {
        assert_eq!(count(&mut state, at), (keys, keys as i64), "at {at}");
    }
    assert_eq!((state.keys(), state.complete()), (1, revision));
    assert_eq!(events(&state, revision + 1), []);
    // One more changes nothing, a compaction below it waits for nothing; neither brings it forward.
    let more = vec![
        command(Operation::Compact(Compact { revision })),
        remove_all(false),
        remove_all(false),
    ];
    let replies = apply(&mut state, batch(0, more)).groups.remove(0).replies;
    let deleted = |deleted| Reply::DeleteRange {
        deleted,
        prev: vec![],
    };
    assert_eq!(
        replies,
        [
            (Reply::Compact, revision + 2),
            (deleted(1), revision + 3),
            (deleted(0), revision + 3)
        ]
    );
    let mut batches = 2;
    while state.complete() < state.revision() {
        assert_eq!((state.complete(), state.keys()), (revision, 0));
        apply(&mut state, batch(0, vec![]));
        batches += 1;
    }
    assert_eq!(batches, 20_000 / 1024 + 1);
    let seen = events(&state, revision + 1);
    assert_eq!(seen.len(), 20_002);
    assert!(
        seen[..20_000]
            .iter()
            .all(|&seen| seen == (revision + 1, true))
    );
    assert_eq!(
        seen[20_000..],
        [(revision + 2, false), (revision + 3, true)]
    );
}

#[test]
fn kv4_what_needs_all_records_of_a_removal_finishes_it_first() {
    let compact = |revision| command(Operation::Compact(Compact { revision }));
    for needs in [compact(3001), compact(3002), remove_all(false)] {
        let mut state = filled(3000);
        let revision = state.revision();
        assert_eq!(revision, 3001);
        let half = command(Operation::DeleteRange(DeleteRange {
            key: bytes("key/00000500"),
            range_end: bytes("key/00002900"),
            prev_kv: false,
        }));
        apply(&mut state, batch(0, vec![half, put("new", "1")]));
        assert_eq!((state.complete(), state.keys()), (revision, 601));
        // Only 601 keys are left for the last of the three, which is carried out at once; so some more.
        let puts = (0..1000).map(|number| put(&format!("more/{number}"), "1"));
        let mut commands: Vec<Command> = puts.collect();
        commands.push(needs.clone());
        apply(&mut state, batch(0, commands));
        let complete = state.complete();
        if needs == compact(3001) {
            assert_eq!(complete, revision, "revision 3001 is before the removal");
        } else {
            assert!(complete > revision, "{needs:?} did not finish it");
        }
        while state.complete() < state.revision() {
            apply(&mut state, batch(0, vec![]));
        }
        if needs == remove_all(false) {
            assert_eq!(state.keys(), 0);
            assert_eq!(events(&state, revision).len(), 1 + 2400 + 1 + 1000 + 1601);
        } else {
            assert_eq!(state.keys(), 1601);
        }
    }
}

#[test]
fn kv4_a_large_range_stays_at_its_revision_while_keys_come_and_go() {
    let mut state = filled(10_000);
    let revision = state.revision();
    let mut cursor = state.query_begin(Query::Range(all()));
    let (mut steps, mut number) = (0, 0);
    let (answer, seen) = loop {
        if let Some(answer) = state.query_step(&mut cursor, Budget(50)) {
            break answer;
        }
        steps += 1;
        number = (number + 7919) % 10_000;
        let one = DeleteRange {
            key: bytes(&format!("key/{number:08}")),
            ..DeleteRange::default()
        };
        let new = put(&format!("key/{number:08}x"), "new");
        let compact = command(Operation::Compact(Compact {
            revision: state.revision(),
        }));
        apply(
            &mut state,
            batch(0, vec![command(Operation::DeleteRange(one)), new, compact]),
        );
        state.background_step(Budget(1000));
    };
    let Answer::Range(reply) = answer else {
        panic!("no range")
    };
    assert_eq!(
        (seen, reply.count, reply.kvs.len(), reply.more),
        (revision, 10_000, 10_000, false)
    );
    for (number, kv) in reply.kvs.iter().enumerate() {
        assert_eq!(
            (&kv.key[..], &kv.value[..]),
            (format!("key/{number:08}").as_bytes(), &b"value"[..])
        );
    }
    assert!(steps >= 200, "10 000 keys went in {steps} steps of 50");
}

#[test]
fn sorted_ranges_larger_than_one_run_are_in_order() {
    let mut state = filled(5000);
    for number in [3, 1777, 4999, 3] {
        apply(
            &mut state,
            batch(
                0,
                vec![put(&format!("key/{number:08}"), &format!("{number}"))],
            ),
        );
    }
    for (sort_order, sort_target, limit) in [
        (1, 3, 0),
        (2, 3, 10),
        (1, 1, 0),
        (2, 1, 3),
        (2, 4, 0),
        (1, 2, 4000),
        (2, 0, 4000),
    ] {
        let mut cursor = state.query_begin(Query::Range(Range {
            sort_order,
            sort_target,
            limit,
            keys_only: true,
            ..all()
        }));
        let reply = loop {
            match state.query_step(&mut cursor, Budget(300)) {
                Some((Answer::Range(reply), _)) => break reply,
                Some(other) => panic!("{other:?}"),
                None => {}
            }
        };
        assert_eq!(
            reply.kvs.len(),
            if limit == 0 { 5000 } else { limit as usize }
        );
        let number = |kv: &KeyValue| match sort_target {
            1 => kv.version,
            2 => kv.create_revision,
            _ => kv.mod_revision,
        };
        match (sort_order, sort_target) {
            (2, 0) => assert!(reply.kvs.is_sorted_by(|a, b| a.key > b.key)),
            (_, 4) => assert!(reply.kvs.iter().all(|kv| kv.value.is_empty())),
            (1, _) => assert!(reply.kvs.is_sorted_by_key(number)),
            _ => assert!(reply.kvs.is_sorted_by_key(|kv| -number(kv))),
        }
    }
}

#[test]
fn w8_what_was_before_an_event_of_a_busy_key_is_found() {
    let mut state = State::new(Settings::default());
    for number in 0..1000 {
        apply(
            &mut state,
            batch(
                0,
                vec![
                    put("busy", &number.to_string()),
                    put(&format!("other{number}"), ""),
                ],
            ),
        );
    }
    for number in 0..1000 {
        let revision = 2 + 2 * number;
        let found = state.key_at(b"busy", revision).unwrap();
        assert_eq!(
            (found.mod_revision, &found.value[..]),
            (revision, number.to_string().as_bytes())
        );
        let before = state.key_at(b"busy", revision - 1);
        assert_eq!(
            before.map(|kv| kv.mod_revision),
            (number > 0).then_some(revision - 2)
        );
    }
}

#[test]
fn l2_l4_expiry_is_bounded_per_batch_and_the_rest_is_due_at_once() {
    let mut state = State::new(Settings::default());
    let grant = |id| command(Operation::LeaseGrant(LeaseGrant { id, ttl_ms: 100 }));
    let attach = |id: i64| {
        command(Operation::Put(Put {
            key: bytes(&format!("{id}")),
            lease: id,
            ..Put::default()
        }))
    };
    apply(
        &mut state,
        batch(
            0,
            (1..=1500).flat_map(|id| [grant(id), attach(id)]).collect(),
        ),
    );
    let first = apply(&mut state, batch(102, vec![]));
    assert_eq!((first.expired.len(), state.keys()), (1000, 500));
    assert!(
        state
            .next_deadline_ms()
            .is_some_and(|deadline| deadline <= state.clock_ms())
    );
    let rest = apply(&mut state, batch(102, vec![]));
    assert_eq!(
        (rest.expired.len(), state.keys(), state.next_deadline_ms()),
        (500, 0, None)
    );
    assert_eq!(rest.expired, (1001..=1500).collect::<Vec<_>>());
    assert_eq!(state.revision(), 1 + 1500 + 1500);
}

#[test]
fn l4_a_lease_with_many_keys_ends_in_slices_at_one_revision() {
    let mut state = State::new(Settings::default());
    let attach = |number: i64| {
        command(Operation::Put(Put {
            key: bytes(&format!("{number:06}")),
            lease: 1,
            ..Put::default()
        }))
    };
    let grant = command(Operation::LeaseGrant(LeaseGrant {
        id: 1,
        ttl_ms: 1000,
    }));
    apply(
        &mut state,
        batch(
            0,
            std::iter::once(grant)
                .chain((0..5000).map(attach))
                .collect(),
        ),
    );
    let revision = state.revision();
    state
        .apply_begin(2, &batch(1020, vec![]).encode_to_vec())
        .unwrap();
    let mut slices = 0;
    while state.apply_step(Budget(50)).is_none() {
        slices += 1;
        assert_eq!((state.revision(), state.keys()), (revision, 5000));
        let Answer::Lease(Some(lease)) =
            ask(&mut state, Query::LeaseTimeToLive { id: 1, keys: true })
        else {
            panic!("the lease is not gone yet")
        };
        assert_eq!(lease.keys.len(), 5000);
    }
    assert!(slices >= 99, "{slices} slices");
    let mut removed = Vec::new();
    state
        .events(revision + 1, Budget(1), &mut |event| {
            removed.push((event.revision, event.deleted, event.key.to_vec()))
        })
        .unwrap();
    assert_eq!((removed.len(), state.revision()), (5000, revision + 1));
    assert!(
        removed.is_sorted()
            && removed
                .iter()
                .all(|&(at, deleted, _)| at == revision + 1 && deleted)
    );
    while state.background_step(Budget(100)) {}
    assert_eq!(
        ask(&mut state, Query::LeaseTimeToLive { id: 1, keys: true }),
        Answer::Lease(None)
    );
}

#[test]
fn memory_of_removed_keys_is_freed_behind_readers() {
    let mut state = filled(3000);
    let revision = state.revision();
    let mut reader = state.query_begin(Query::Range(all()));
    assert!(state.query_step(&mut reader, Budget(10)).is_none());
    let removal = DeleteRange {
        key: bytes("\0"),
        range_end: bytes("\0"),
        prev_kv: false,
    };
    apply(
        &mut state,
        batch(
            0,
            vec![
                command(Operation::DeleteRange(removal)),
                command(Operation::Compact(Compact {
                    revision: revision + 1,
                })),
            ],
        ),
    );
    while state.background_step(Budget(100)) {}
    let (answer, seen) = state.query_step(&mut reader, Budget(u64::MAX)).unwrap();
    let Answer::Range(reply) = answer else {
        panic!("no range")
    };
    assert_eq!((seen, reply.kvs.len(), state.bytes()), (revision, 3000, 0));
    while state.background_step(Budget(100)) {}
    assert_eq!(
        ask(&mut state, Query::Range(Range { revision, ..all() })),
        Answer::Rejected(Rejection::Compacted {
            compacted: revision + 1
        })
    );
}

#[test]
fn memory_stays_near_what_is_live_under_updates_and_compaction() {
    let value = "v".repeat(250);
    let mut state = State::new(Settings::default());
    let live: u64 = 8_000 * (250 + 12 + 24);
    let mut number = 1u64;
    // A tenth of the keys is never touched again: their chunks stay at the front of the log.
    apply(
        &mut state,
        batch(
            0,
            (0..8_000)
                .map(|number| put(&format!("key/{number:08}"), &value))
                .collect(),
        ),
    );
    for round in 0..100 {
        let next = |number: &mut u64| {
            *number = number
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            800 + (*number >> 33) % 7_200
        };
        let mut commands: Vec<_> = (0..800)
            .map(|_| put(&format!("key/{:08}", next(&mut number)), &value))
            .collect();
        commands.push(command(Operation::Compact(Compact {
            revision: state.revision(),
        })));
        apply(&mut state, batch(0, commands));
        while state.background_step(Budget(500)) {}
        // One third garbage per chunk, the history of two rounds, and chunks at work.
        let bound = live * 3 / 2 + 2 * 800 * 320 + 4 * (256 << 10);
        assert!(
            round < 3 || state.held_bytes() <= bound,
            "{} bytes held in round {round}, {bound} expected",
            state.held_bytes()
        );
    }
    let removal = DeleteRange {
        key: bytes("\0"),
        range_end: bytes("\0"),
        prev_kv: false,
    };
    apply(
        &mut state,
        batch(0, vec![command(Operation::DeleteRange(removal))]),
    );
    for _ in 0..2 {
        let revision = state.revision();
        apply(
            &mut state,
            batch(
                0,
                vec![
                    put("one", "1"),
                    command(Operation::Compact(Compact { revision })),
                ],
            ),
        );
        while state.background_step(Budget(500)) {}
    }
    assert!(
        state.held_bytes() <= 4 * (256 << 10),
        "{} bytes held by an empty state",
        state.held_bytes()
    );
    assert_eq!(state.bytes(), 68 + 68);
}
