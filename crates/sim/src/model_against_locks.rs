//! The model's locks, client records and identifiers against those of the real state machine, fed with the same batches: replies with their
//! tokens, who is woken and how, and the cell's counter.

use crate::model::Model;
use crate::rng::Rng;
use bytes::Bytes;
use prost::Message as _;
use state::client::{ClientCommand, ClientOperation, ClientReply, Register};
use state::id::{Add, IdCommand, IdOperation, TakeSegment, TakeWorker};
use state::lock::{
    Acquire, Claimant, CountDown, Force, GUARD_MODEL, Leave, LockCommand, LockOperation, LockReply,
    Mode, Outcome, Release, SetLatch, SetValue,
};
use state::{
    Batch, Budget, Command, Group, Guard, LeaseGrant, LeaseRevoke, Operation, Put, Reply, Settings,
    State,
};
use std::collections::BTreeMap;

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// One life: what was told, to be named by later commands.
#[derive(Default)]
struct Life {
    tokens: Vec<(Bytes, u64)>,
    clients: Vec<u64>,
    seen: BTreeMap<&'static str, u64>,
}

fn claimant(rng: &mut Rng) -> Claimant {
    Claimant {
        session: rng.between(1, 4) as i64,
        id: rng.between(1, 5),
    }
}

fn wait_ms(rng: &mut Rng) -> u64 {
    match rng.below(4) {
        0 => 0,
        1 => rng.between(1, 1_500),
        _ => u64::MAX,
    }
}

fn acquire(rng: &mut Rng) -> LockOperation {
    let name = *rng.pick(&NAMES);
    // Each name has a favourite use, so that there is something to wait for.
    let mode = match (name, rng.below(12)) {
        (_, 0) => Mode::Member,
        ("e", _) | (_, 1) => Mode::Pass,
        ("b", _) => Mode::Permits,
        ("c", _) => Mode::Enter,
        (_, 2..7) => Mode::Shared,
        _ => Mode::Exclusive,
    };
    let locks = matches!(mode, Mode::Exclusive | Mode::Shared);
    let (permits, limit) = match mode {
        Mode::Permits => (rng.between(1, 3), 3 + u64::from(rng.chance(50))),
        Mode::Enter => (0, 2 + u64::from(rng.chance(100))),
        _ => (0, 0),
    };
    LockOperation::Acquire(Acquire {
        name: Bytes::from_static(name.as_bytes()),
        claimant: claimant(rng),
        owner: if locks { rng.below(3) } else { 0 },
        mode: mode as i32,
        permits,
        limit,
        priority: i32::from(rng.chance(200)),
        wait_ms: wait_ms(rng),
        delay_ms: if locks && rng.chance(300) {
            rng.below(2_000)
        } else {
            0
        },
        value: Bytes::new(),
    })
}

fn lock(rng: &mut Rng, life: &Life) -> LockOperation {
    let name = Bytes::from_static(rng.pick(&NAMES).as_bytes());
    match rng.below(24) {
        0..12 => acquire(rng),
        12..16 => LockOperation::Release(Release {
            claimant: claimant(rng),
            joined: if rng.chance(100) {
                rng.between(1, 300)
            } else {
                0
            },
        }),
        16 => LockOperation::SetLatch(SetLatch {
            name,
            count: rng.below(4),
        }),
        17..19 => LockOperation::CountDown(CountDown {
            name,
            by: rng.between(1, 2),
        }),
        19 => LockOperation::SetValue(SetValue {
            claimant: claimant(rng),
            value: "v".into(),
        }),
        20 if !life.tokens.is_empty() => {
            let (name, token) = rng.pick(&life.tokens).clone();
            let reason = "a test".into();
            LockOperation::Force(Force {
                name,
                token,
                reason,
            })
        }
        _ => LockOperation::Leave(Leave {
            claimant: claimant(rng),
            wait_ms: wait_ms(rng),
        }),
    }
}

fn id(rng: &mut Rng) -> IdOperation {
    let name = Bytes::from_static(rng.pick(&NAMES).as_bytes());
    match rng.below(3) {
        0 => IdOperation::Add(Add {
            name,
            delta: rng.below(9) as i64 - 3,
        }),
        1 => IdOperation::Segment(TakeSegment {
            name,
            count: rng.between(1, 50),
        }),
        _ => IdOperation::Worker(TakeWorker {
            pool: name,
            session: rng.between(1, 4) as i64,
            workers: 3,
            ahead_ms: rng.between(1, 2_000),
        }),
    }
}

fn operation(rng: &mut Rng, life: &Life) -> Operation {
    match rng.below(20) {
        0..11 => Operation::Lock(LockCommand {
            operation: Some(lock(rng, life)),
        }),
        11..13 => Operation::Id(IdCommand {
            operation: Some(id(rng)),
        }),
        13..15 => Operation::Client(ClientCommand {
            operation: Some(ClientOperation::Register(Register {
                lease: rng.between(1, 4) as i64,
            })),
        }),
        15..18 => Operation::LeaseGrant(LeaseGrant {
            id: rng.between(1, 4) as i64,
            ttl_ms: 1_000,
        }),
        18 if rng.chance(500) => Operation::LeaseRevoke(LeaseRevoke {
            id: rng.between(1, 4) as i64,
        }),
        _ => Operation::Put(Put {
            key: "k".into(),
            prev_kv: true,
            ..Put::default()
        }),
    }
}

fn command(rng: &mut Rng, life: &Life) -> Command {
    let mut command = Command {
        operation: Some(operation(rng, life)),
        ..Command::default()
    };
    if rng.chance(300) && !life.tokens.is_empty() {
        let newest = life.tokens.len() - 1;
        let (name, token) = life.tokens[newest - rng.below(8).min(newest as u64) as usize].clone();
        let model = GUARD_MODEL;
        command.guards = vec![Guard { model, name, token }];
    }
    if rng.chance(400) && !life.clients.is_empty() {
        command.client = life.clients[life.clients.len() - 1];
        command.sequence = rng.between(1, 12);
        command.acknowledged_below = rng.below(3);
    }
    command
}

impl Life {
    /// Notes what was told.
    fn note(&mut self, command: &Command, reply: &Reply) {
        let what = match reply {
            Reply::Lock(LockReply::Granted { token }) => {
                let Some(Operation::Lock(LockCommand {
                    operation: Some(LockOperation::Acquire(acquire)),
                })) = &command.operation
                else {
                    return;
                };
                self.tokens.push((acquire.name.clone(), *token));
                "granted"
            }
            Reply::Lock(LockReply::Waiting { .. }) => "waiting",
            Reply::Client(ClientReply::Registered { client }) => {
                self.clients.push(*client);
                "registered"
            }
            Reply::Rejected(state::Rejection::Guard(_)) => "stale",
            Reply::Rejected(state::Rejection::Client(_)) => "unknown",
            Reply::Id(_) => "id",
            Reply::Put { .. } if !command.guards.is_empty() => "guarded",
            _ => return,
        };
        *self.seen.entry(what).or_default() += 1;
    }
}

fn compare_one_life(seed: u64, seen: &mut BTreeMap<&'static str, u64>) {
    let rng = &mut Rng::new(seed);
    let mut life = Life::default();
    let (mut model, mut state) = (Model::new(), State::new(Settings::default()));
    let (mut clock_ms, mut wall_ms) = (0, 1_000);
    for index in 1..400 {
        clock_ms += rng.below(300);
        wall_ms += rng.below(600) as i64 - 200;
        let renewals = (1..=4).filter(|_| rng.chance(700)).collect();
        let commands: Vec<Command> = (0..rng.below(5)).map(|_| command(rng, &life)).collect();
        let batch = Batch {
            format: 1,
            clock_ms,
            wall_ms: wall_ms.max(0) as u64,
            groups: vec![Group {
                renewals,
                commands: commands.clone(),
                ..Group::default()
            }],
        };
        let expected = model.apply(&batch, 0).expect("the clock rises");
        state.apply_begin(index, &batch.encode_to_vec()).unwrap();
        let budget = Budget(rng.between(1, 30));
        let found = loop {
            if let Some(applied) = state.apply_step(budget) {
                break applied;
            }
        };
        let replies = &found.groups[0].replies;
        for (place, (command, reply)) in commands.iter().zip(replies).enumerate() {
            let wanted = &expected.outcomes[place];
            let wanted = (wanted.reply.clone(), wanted.revision);
            assert_eq!(*reply, wanted, "seed {seed}, batch {index}: {command:?}");
            life.note(command, &reply.0);
        }
        assert_eq!(found.woken, expected.woken, "seed {seed}, batch {index}");
        assert_eq!(
            state.ordinal(),
            model.ordinal(),
            "seed {seed}, batch {index}"
        );
        for woken in &found.woken {
            if let (Outcome::Granted { token }, Some(claim)) =
                (&woken.outcome, model.locks().claim(woken.claimant))
            {
                life.tokens.push((claim.name.clone(), *token));
            }
        }
    }
    for (what, count) in life.seen {
        *seen.entry(what).or_default() += count;
    }
}

#[test]
fn both_tell_the_same_of_locks_clients_and_identifiers() {
    let mut seen = BTreeMap::new();
    (0..150).for_each(|seed| compare_one_life(seed, &mut seen));
    for what in [
        "granted",
        "waiting",
        "registered",
        "stale",
        "guarded",
        "unknown",
        "id",
    ] {
        let count = seen.get(what).copied().unwrap_or(0);
        assert!(count > 500, "{what} was seldom seen: {seen:?}");
    }
}
