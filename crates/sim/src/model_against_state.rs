//! The model and the real state machine, fed with the same batches, say the same: replies, revisions, expiries, events and reads. Each was
//! written without a look at the other.

use crate::model::Model;
use crate::rng::Rng;
use bytes::Bytes;
use prost::Message as _;
use state::{
    Batch, Budget, Command, Compact, Compare, DeleteRange, Group, LeaseGrant, LeaseRevoke,
    Operation, Put, Query, Range, SetBytesMax, Settings, State, Txn, TxnOperation, TxnStep,
};

fn key(rng: &mut Rng) -> Bytes {
    Bytes::from(format!("k{}", rng.below(6)))
}

fn put(rng: &mut Rng, value: u64) -> Put {
    let lease = if rng.chance(300) {
        rng.between(1, 4) as i64
    } else {
        0
    };
    let (ignore_value, ignore_lease) = (rng.chance(50), lease == 0 && rng.chance(50));
    let value = if ignore_value {
        Bytes::new()
    } else {
        Bytes::from(value.to_string())
    };
    Put {
        key: key(rng),
        value,
        lease,
        prev_kv: rng.chance(500),
        ignore_value,
        ignore_lease,
    }
}

fn range(rng: &mut Rng) -> Range {
    let range_end = match rng.below(3) {
        0 => Bytes::new(),
        1 => Bytes::from_static(b"\0"),
        _ => Bytes::from_static(b"k4"),
    };
    Range {
        key: key(rng),
        range_end,
        limit: rng.below(4) as i64,
        keys_only: rng.chance(200),
        count_only: rng.chance(200),
        ..Range::default()
    }
}

fn delete(rng: &mut Rng) -> DeleteRange {
    let Range { key, range_end, .. } = range(rng);
    DeleteRange {
        key,
        range_end,
        prev_kv: rng.chance(500),
    }
}

/// Steps that touch no key twice, as etcd demands of a transaction.
fn steps(rng: &mut Rng, value: u64) -> Vec<TxnOperation> {
    let mut steps = vec![TxnStep::Range(range(rng))];
    match rng.below(3) {
        0 => {
            let (mut first, mut second) = (put(rng, value), put(rng, value));
            (first.key, second.key) = ("k1".into(), "k2".into());
            steps.extend([TxnStep::Put(first), TxnStep::Put(second)]);
        }
        1 => steps.push(TxnStep::DeleteRange(delete(rng))),
        _ => {}
    }
    steps.push(TxnStep::Range(range(rng)));
    steps
        .into_iter()
        .map(|step| TxnOperation { step: Some(step) })
        .collect()
}

fn operation(rng: &mut Rng, value: u64, revision: i64) -> Operation {
    match rng.below(21) {
        20 => Operation::SetBytesMax(SetBytesMax {
            bytes_max: rng.between(1_000, 5_000),
        }),
        0..9 => Operation::Put(put(rng, value)),
        9..12 => Operation::DeleteRange(delete(rng)),
        12..15 => {
            let number = rng.below(4) as i64;
            let (result, target) = (rng.below(4) as i32, *rng.pick(&[0, 1, 2, 4]));
            let compare = Compare {
                result,
                target,
                key: key(rng),
                number,
                ..Compare::default()
            };
            Operation::Txn(Txn {
                compares: vec![compare],
                success: steps(rng, value),
                failure: steps(rng, value),
            })
        }
        15 => Operation::Compact(Compact {
            revision: revision + 2 - rng.below(20) as i64,
        }),
        16..18 => Operation::LeaseGrant(LeaseGrant {
            id: rng.between(1, 4) as i64,
            ttl_ms: rng.between(100, 3_000),
        }),
        _ => Operation::LeaseRevoke(LeaseRevoke {
            id: rng.between(1, 4) as i64,
        }),
    }
}

fn batch(rng: &mut Rng, number: u64, clock_ms: u64, revision: i64) -> Batch {
    let groups = (0..rng.below(3)).map(|sequence| Group {
        member: 1,
        incarnation: 1,
        boot: 1,
        sequence: number * 10 + sequence,
        renewals: (0..rng.below(2))
            .map(|_| rng.between(1, 5) as i64)
            .collect(),
        commands: (0..rng.below(4))
            .map(|n| Command {
                operation: Some(operation(rng, number * 100 + sequence * 10 + n, revision)),
                ..Command::default()
            })
            .collect(),
    });
    Batch {
        format: 1,
        clock_ms,
        wall_ms: clock_ms,
        groups: groups.collect(),
    }
}

fn ask(state: &mut State, range: &Range) -> (state::Answer, i64) {
    let mut cursor = state.query_begin(Query::Range(range.clone()));
    loop {
        if let Some(answer) = state.query_step(&mut cursor, Budget(4)) {
            return answer;
        }
    }
}

fn compare_one_life(seed: u64) {
    let rng = &mut Rng::new(seed);
    let settings = Settings {
        removal_keys_min: rng.below(4),
        removal_keys_per_batch: rng.between(1, 3),
        ..Settings::default()
    };
    let (mut model, mut state) = (Model::new(), State::new(settings));
    let mut clock_ms = 0;
    let mut visited = 0;
    for number in 1..150 {
        clock_ms += rng.below(400);
        let batch = batch(rng, number, clock_ms, model.revision());
        let expected = model.apply(&batch, 0).unwrap();
        state.apply_begin(number, &batch.encode_to_vec()).unwrap();
        let budget = Budget(rng.between(2, 50));
        let applied = loop {
            if let Some(applied) = state.apply_step(budget) {
                break applied;
            }
        };
        let found: Vec<_> = applied
            .groups
            .iter()
            .flat_map(|group| group.replies.iter().cloned())
            .collect();
        let wanted: Vec<_> = expected
            .outcomes
            .iter()
            .map(|outcome| (outcome.reply.clone(), outcome.revision))
            .collect();
        assert_eq!(found, wanted, "seed {seed} batch {number}: {batch:?}");
        let renewals: Vec<_> = applied
            .groups
            .iter()
            .flat_map(|group| group.renewals.iter().copied())
            .collect();
        assert_eq!(renewals, expected.renewals, "seed {seed} batch {number}");
        assert_eq!(
            applied.expired,
            expected
                .expired
                .iter()
                .map(|expiry| expiry.id)
                .collect::<Vec<_>>(),
            "seed {seed} batch {number}"
        );
        assert_eq!(
            (state.revision(), state.compacted().max(0), state.bytes()),
            (model.revision(), model.compacted(), model.bytes()),
            "seed {seed} batch {number}"
        );
        visited = compare_events(&state, &model, visited, seed);
        let mut wanted = range(rng);
        wanted.revision = if rng.chance(500) {
            (model.revision() - rng.below(10) as i64)
                .max(model.compacted())
                .max(1)
        } else {
            0
        };
        let (answer, _) = ask(&mut state, &wanted);
        assert_eq!(
            answer,
            state::Answer::Range(model.range(&wanted, model.revision())),
            "seed {seed} batch {number}: {wanted:?}"
        );
        if rng.chance(300) {
            state.background_step(Budget(100));
        }
    }
}

/// Compares the events since `visited` changes; gives how many changes can be read now.
fn compare_events(state: &State, model: &Model, visited: usize, seed: u64) -> usize {
    let complete = model
        .changes()
        .partition_point(|change| change.revision <= state.complete());
    let fresh: Vec<_> = model.changes()[visited..complete]
        .iter()
        .filter(|change| change.revision > model.compacted())
        .collect();
    let Some(first) = fresh.first() else {
        return complete;
    };
    let mut found = Vec::new();
    let next = state.events(first.revision, Budget(u64::MAX), &mut |event| {
        found.push((
            event.revision,
            event.deleted,
            event.key.to_vec(),
            event.value.to_vec(),
        ))
    });
    assert_eq!(next, Ok(state.complete() + 1), "seed {seed}");
    let mut wanted: Vec<_> = fresh
        .iter()
        .map(|change| {
            (
                change.revision,
                change.deleted,
                change.kv.key.to_vec(),
                change.kv.value.to_vec(),
            )
        })
        .collect();
    // The order within a revision is free.
    for changes in [&mut found, &mut wanted] {
        changes.sort();
    }
    assert_eq!(found, wanted, "seed {seed}");
    complete
}

#[test]
fn both_tell_the_same_of_random_batches() {
    for seed in 0..300 {
        compare_one_life(seed);
    }
}
