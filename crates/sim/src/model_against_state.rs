//! The model and the real state machine, fed with the same batches, say the same: replies, revisions, expiries, events and reads. Each was
//! written without a look at the other.

use crate::clients::Shapes;
use crate::model::Model;
use crate::rng::Rng;
use bytes::Bytes;
use prost::Message as _;
use state::{
    Answer, Batch, Budget, Command, Compact, Group, LeaseGrant, LeaseRevoke, Operation, Put, Query,
    Rejection, Reply, SetBytesMax, Settings, State,
};

/// Leases there may be.
const LEASES: [i64; 4] = [1, 2, 3, 4];

fn shapes(rng: &mut Rng, value: u64, revision: i64) -> Shapes<'_> {
    Shapes {
        rng,
        keys: 4,
        revision,
        leases: &LEASES,
        value: Bytes::from(value.to_string()),
    }
}

fn operation(rng: &mut Rng, value: u64, revision: i64) -> Operation {
    let draw = rng.below(22);
    let mut shapes = shapes(rng, value, revision);
    match draw {
        21 => Operation::Put(Put::default()),
        20 => Operation::SetBytesMax(SetBytesMax {
            bytes_max: rng.between(1_000, 5_000),
        }),
        0..7 => {
            let key = shapes.key();
            Operation::Put(shapes.put(key))
        }
        7..9 => Operation::DeleteRange(shapes.delete()),
        9..15 => Operation::Txn(shapes.txn()),
        15 => Operation::Compact(Compact {
            revision: revision + 2 - rng.below(20) as i64,
        }),
        16..18 => Operation::LeaseGrant(LeaseGrant {
            id: rng.between(0, 4) as i64,
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

fn ask(state: &mut State, query: Query) -> Answer {
    let mut cursor = state.query_begin(query);
    loop {
        if let Some((answer, _)) = state.query_step(&mut cursor, Budget(4)) {
            return answer;
        }
    }
}

/// Compares what is read now, or as of a revision that can be read.
fn compare_reads(state: &mut State, model: &Model, rng: &mut Rng, seed: u64) {
    let current = model.revision();
    let mut wanted = shapes(rng, 1, current).range();
    if wanted.revision > 0 {
        wanted.revision = wanted.revision.clamp(model.compacted().max(1), current);
    }
    let found = ask(state, Query::Range(wanted.clone()));
    let expected = Answer::Range(model.range(&wanted, current));
    assert_eq!(found, expected, "seed {seed}: {wanted:?}");
    let txn = shapes(rng, 1, current).read_txn();
    let mut named = model.named_revisions(&txn, current).into_iter();
    let refused = named.find_map(|revision| {
        let compacted = model.compacted();
        if revision > current {
            Some(Rejection::FutureRevision { current })
        } else if revision < compacted {
            Some(Rejection::Compacted { compacted })
        } else {
            None
        }
    });
    let found = ask(state, Query::Txn(txn.clone()));
    let expected = match refused {
        Some(rejection) => Answer::Rejected(rejection),
        None => Answer::Txn(model.read_txn(&txn, current)),
    };
    assert_eq!(found, expected, "seed {seed}: {txn:?}");
    for lease in LEASES {
        let found = ask(
            state,
            Query::LeaseTimeToLive {
                id: lease,
                keys: true,
            },
        );
        let Answer::Lease(view) = found else {
            panic!("seed {seed}: {found:?}")
        };
        let keys = view.map_or(Vec::new(), |view| view.keys);
        let expected = model.leased_at(lease, current);
        assert_eq!(keys, expected, "seed {seed}: lease {lease}");
    }
}

/// The same without the texts of refusals.
fn untold(reply: &Reply) -> Reply {
    match reply {
        Reply::Rejected(Rejection::Invalid(_)) => {
            Reply::Rejected(Rejection::Invalid(String::new()))
        }
        reply => reply.clone(),
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
        let found = applied.groups.iter().flat_map(|group| &group.replies);
        let found: Vec<_> = found.map(|(reply, at)| (untold(reply), *at)).collect();
        let wanted = expected.outcomes.iter();
        let wanted: Vec<_> = wanted.map(|it| (untold(&it.reply), it.revision)).collect();
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
        compare_reads(&mut state, &model, rng, seed);
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
