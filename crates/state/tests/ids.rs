//! What identifiers are made from (PROPERTIES I1).

mod support;

use bytes::Bytes;
use prost::Message;
use std::collections::BTreeMap;
use support::{Rng, apply, check_golden, hex, plain, reload, run, snapshot};
use synod_state::id::*;
use synod_state::*;

fn id(operation: IdOperation) -> Command {
    plain(Operation::Id(IdCommand {
        operation: Some(operation),
    }))
}

fn segment(name: &'static str, count: u64) -> Command {
    let name = Bytes::from_static(name.as_bytes());
    id(IdOperation::Segment(TakeSegment { name, count }))
}

fn add(name: &'static str, delta: i64) -> Command {
    let name = Bytes::from_static(name.as_bytes());
    id(IdOperation::Add(Add { name, delta }))
}

fn worker(session: i64, workers: u32, ahead_ms: u64) -> Command {
    id(IdOperation::Worker(TakeWorker {
        pool: Bytes::from_static(b"p"),
        session,
        workers,
        ahead_ms,
    }))
}

fn lease(id: i64, ttl_ms: u64) -> Command {
    plain(Operation::LeaseGrant(LeaseGrant { id, ttl_ms }))
}

fn refused(rejection: IdRejection) -> Reply {
    Reply::Rejected(Rejection::Id(rejection))
}

#[test]
fn segments_and_counters_count() {
    let mut state = State::new(Settings::default());
    let mut ask = |command| run(&mut state, 0, command).0;
    let segment_of = |first, count| Reply::Id(IdReply::Segment { first, count });
    assert_eq!(ask(segment("s", 10)), segment_of(1, 10));
    assert_eq!(ask(segment("s", 1)), segment_of(11, 1));
    assert_eq!(ask(segment("t", 1)), segment_of(1, 1));
    let counter = |value| Reply::Id(IdReply::Counter { value });
    assert_eq!(ask(add("s", -3)), counter(-3));
    assert_eq!(ask(add("s", 0)), counter(-3));
    assert_eq!(ask(add("s", i64::MAX)), counter(i64::MAX - 3));
    assert_eq!(ask(add("s", 4)), refused(IdRejection::Exhausted));
    assert_eq!(ask(add("s", 3)), counter(i64::MAX));
    for outside in [segment("s", 0), segment("s", SEGMENT_MAX + 1), add("", 1)] {
        assert!(matches!(
            ask(outside),
            Reply::Rejected(Rejection::Id(IdRejection::Limit { .. }))
        ));
    }
}

#[test]
fn worker_ids_are_lent_to_sessions() {
    let mut state = State::new(Settings::default());
    for session in 1..=3 {
        run(&mut state, 0, lease(session, 10_000));
    }
    let lent = |clock_ms: u64, worker, from_ms, until_ms| {
        Reply::Id(IdReply::Worker {
            worker,
            now_ms: 1_000_000 + clock_ms,
            from_ms,
            until_ms,
        })
    };
    assert_eq!(
        run(&mut state, 5, worker(1, 2, 1000)).0,
        lent(5, 0, 1_000_005, 1_001_005)
    );
    assert_eq!(
        run(&mut state, 5, worker(2, 2, 100)).0,
        lent(5, 1, 1_000_005, 1_000_105)
    );
    assert_eq!(
        run(&mut state, 5, worker(3, 2, 100)).0,
        refused(IdRejection::NoWorker)
    );
    assert_eq!(
        run(&mut state, 5, worker(4, 2, 100)).0,
        refused(IdRejection::SessionNotFound)
    );
    // More time goes on where the last ended, or from now.
    assert_eq!(
        run(&mut state, 10, worker(1, 2, 500)).0,
        lent(10, 0, 1_001_005, 1_001_505)
    );
    assert_eq!(
        run(&mut state, 900, worker(2, 2, 100)).0,
        lent(900, 1, 1_000_900, 1_001_000)
    );
    // Whoever is next gets none of the time of the one before.
    run(
        &mut state,
        900,
        plain(Operation::LeaseRevoke(LeaseRevoke { id: 1 })),
    );
    state = reload(&mut state, &Settings::default());
    assert_eq!(
        run(&mut state, 901, worker(3, 2, 100)).0,
        lent(901, 0, 1_001_505, 1_001_605)
    );
    // Time is borrowed from the future for a day at most.
    let mut borrowed = 0;
    while let Reply::Id(_) = run(&mut state, 901, worker(3, 2, AHEAD_MS_MAX)).0 {
        borrowed += AHEAD_MS_MAX;
    }
    assert!(
        (BORROWED_MS_MAX - AHEAD_MS_MAX..=BORROWED_MS_MAX).contains(&borrowed),
        "{borrowed}"
    );
}

/// It had to wait for up to a minute, while hundreds of ids were free.
#[test]
fn whoever_comes_after_another_has_ended_does_not_wait_for_its_time() {
    let mut state = State::new(Settings::default());
    let lent = |state: &mut State, clock_ms: u64, session: i64| {
        run(state, clock_ms, lease(session, 100_000));
        match run(state, clock_ms, worker(session, 2, 60_000)).0 {
            Reply::Id(IdReply::Worker {
                worker,
                from_ms,
                now_ms,
                ..
            }) => (worker, from_ms - now_ms),
            other => panic!("{other:?} is no worker id"),
        }
    };
    let end = |state: &mut State, clock_ms: u64, id: i64| {
        let revoke = Operation::LeaseRevoke(LeaseRevoke { id });
        run(state, clock_ms, plain(revoke));
    };
    assert_eq!(lent(&mut state, 0, 1), (0, 0));
    end(&mut state, 1000, 1);
    assert_eq!(lent(&mut state, 1000, 2), (1, 0));
    // None is fresh any more: the one whose time ends first.
    assert_eq!(lent(&mut state, 2000, 3), (0, 58_000));
    end(&mut state, 3000, 2);
    end(&mut state, 3000, 3);
    state = reload(&mut state, &Settings::default());
    // The time of both is over: the one that ended first.
    assert_eq!(lent(&mut state, 200_000, 4), (1, 0));
}

/// No millisecond of a worker id is lent twice, whatever becomes of sessions and clocks.
#[test]
fn i1_no_time_of_a_worker_id_is_lent_twice() {
    let mut lent_in_all = 0;
    for seed in 0..30 {
        let mut rng = Rng(seed);
        let mut state = State::new(Settings::default());
        let mut until: BTreeMap<u32, u64> = BTreeMap::new();
        let mut clock_ms = 0;
        for step in 0..400 {
            let session = 1 + rng.below(8) as i64;
            match rng.below(10) {
                0..3 => {
                    run(&mut state, clock_ms, lease(session, 1 + rng.below(3000)));
                }
                3 => clock_ms += rng.below(1000),
                4 if rng.chance(20) => state = reload(&mut state, &Settings::default()),
                _ => {
                    let command = worker(session, 4, 1 + rng.below(2000));
                    let applied = apply(&mut state, clock_ms, vec![command], 1);
                    let Reply::Id(IdReply::Worker {
                        worker,
                        from_ms,
                        until_ms,
                        ..
                    }) = applied.groups[0].replies[0].0
                    else {
                        continue;
                    };
                    let before = until.insert(worker, until_ms).unwrap_or(0);
                    assert!(
                        from_ms >= before,
                        "{from_ms} of worker {worker} was lent up to {before} before, seed {seed} step {step}"
                    );
                    assert!(worker < 4 && from_ms < until_ms);
                    lent_in_all += 1;
                }
            }
        }
    }
    assert!(lent_in_all > 1000, "only {lent_in_all} were lent");
}

#[test]
fn ids_have_their_bytes() {
    let mut state = State::new(Settings::default());
    run(&mut state, 0, lease(1, 10_000));
    let commands = [segment("s", 10), add("c", -3), worker(1, 2, 1000)];
    let mut lines: Vec<String> = commands
        .iter()
        .map(|command| hex(&command.encode_to_vec()))
        .collect();
    for command in commands {
        run(&mut state, 0, command);
    }
    lines.push(hex(&snapshot(&mut state)));
    check_golden("ids.hex", &lines);
    assert_eq!(
        reload(&mut state, &Settings::default()).hash(),
        state.hash()
    );
}
