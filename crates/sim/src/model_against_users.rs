//! The model's users and permissions against those of the real state machine, fed with the same batches: what every request is told, by whomever it is
//! made and however long ago its user was let in, and what every question would be.

use crate::model::Model;
use crate::rng::Rng;
use bytes::Bytes;
use prost::Message as _;
use state::auth::{
    AuthChange, AuthOperation, AuthRejection, Caller, Disable, Enable, Permission,
    RoleGrantPermission, RoleName, RoleRevokePermission, UserAdd, UserDelete, UserPassword,
    UserRole,
};
use state::client::{ClientCommand, ClientOperation, ClientReply, Register};
use state::lock::{
    Acquire, Claimant, CountDown, Force, LockCommand, LockOperation, LockQuery, Mode, Release,
    SetValue,
};
use state::{
    Batch, Budget, Command, Compact, Compare, DeleteRange, Group, LeaseGrant, LeaseRevoke,
    Operation, Put, Query, Range, Rejection, Reply, Settings, State, Txn, TxnOperation, TxnStep,
};
use std::collections::BTreeMap;

const USERS: [&str; 4] = ["ann", "bob", "eve", "root"];
const ROLES: [&str; 4] = ["one", "two", "three", "root"];

fn name(rng: &mut Rng) -> String {
    rng.pick(&USERS).to_string()
}

fn role(rng: &mut Rng) -> String {
    rng.pick(&ROLES).to_string()
}

fn key(rng: &mut Rng) -> Bytes {
    Bytes::from(vec![b'a' + rng.below(6) as u8])
}

/// A key, a range of letters, everything from a letter on, or, now and then, a range that ends before it begins.
fn range(rng: &mut Rng) -> (Bytes, Bytes) {
    let first = key(rng);
    let end = match rng.below(12) {
        0..5 => Bytes::new(),
        5 => Bytes::from_static(b"\0"),
        6 => key(rng),
        _ => Bytes::from(vec![first[0] + 1 + rng.below(3) as u8]),
    };
    (first, end)
}

fn change(rng: &mut Rng) -> AuthOperation {
    let (key, range_end) = range(rng);
    match rng.below(40) {
        0..12 => AuthOperation::RoleGrantPermission(RoleGrantPermission {
            role: role(rng),
            permission: (!rng.chance(30)).then(|| Permission {
                kind: rng.below(3) as i32,
                key,
                range_end,
            }),
        }),
        12..16 => AuthOperation::RoleRevokePermission(RoleRevokePermission {
            role: role(rng),
            key,
            range_end,
        }),
        16..22 => AuthOperation::UserGrantRole(UserRole {
            user: name(rng),
            role: role(rng),
        }),
        22..25 => AuthOperation::UserRevokeRole(UserRole {
            user: name(rng),
            role: role(rng),
        }),
        25..29 => AuthOperation::UserAdd(UserAdd {
            user: name(rng),
            ..UserAdd::default()
        }),
        29..30 => AuthOperation::UserDelete(UserDelete { user: name(rng) }),
        30..33 => AuthOperation::RoleAdd(RoleName { role: role(rng) }),
        33 => AuthOperation::RoleDelete(RoleName { role: role(rng) }),
        34 => AuthOperation::UserPassword(UserPassword {
            user: name(rng),
            ..UserPassword::default()
        }),
        35 => AuthOperation::Disable(Disable {}),
        _ => AuthOperation::Enable(Enable::default()),
    }
}

fn put(rng: &mut Rng) -> Put {
    Put {
        key: key(rng),
        lease: if rng.chance(300) {
            rng.between(1, 4) as i64
        } else {
            0
        },
        prev_kv: rng.chance(300),
        ..Put::default()
    }
}

fn read(rng: &mut Rng) -> Range {
    let (key, range_end) = range(rng);
    Range {
        key,
        range_end,
        ..Range::default()
    }
}

fn delete(rng: &mut Rng) -> DeleteRange {
    let (key, range_end) = range(rng);
    DeleteRange {
        key,
        range_end,
        prev_kv: rng.chance(300),
    }
}

fn txn(rng: &mut Rng) -> Txn {
    let step = |step| TxnOperation { step: Some(step) };
    let mut steps = || match rng.below(3) {
        0 => vec![step(TxnStep::Range(read(rng)))],
        1 => vec![step(TxnStep::Put(put(rng)))],
        _ => vec![step(TxnStep::DeleteRange(delete(rng)))],
    };
    let (success, failure) = (steps(), steps());
    let compare = Compare {
        result: 1,
        target: 0,
        key: key(rng),
        ..Compare::default()
    };
    Txn {
        compares: vec![compare],
        success,
        failure,
    }
}

fn claimant(rng: &mut Rng) -> Claimant {
    Claimant {
        session: rng.between(1, 4) as i64,
        id: rng.between(1, 3),
    }
}

fn lock(rng: &mut Rng) -> LockOperation {
    match rng.below(10) {
        0..5 => LockOperation::Acquire(Acquire {
            name: key(rng),
            claimant: claimant(rng),
            mode: Mode::Exclusive as i32,
            ..Acquire::default()
        }),
        5..7 => LockOperation::Release(Release {
            claimant: claimant(rng),
            joined: if rng.chance(200) {
                rng.between(1, 500)
            } else {
                0
            },
        }),
        7 => LockOperation::SetValue(SetValue {
            claimant: claimant(rng),
            value: Bytes::new(),
        }),
        8 => LockOperation::CountDown(CountDown {
            name: key(rng),
            by: 1,
        }),
        _ => LockOperation::Force(Force {
            name: key(rng),
            token: rng.between(1, 50),
            reason: "a test".into(),
        }),
    }
}

fn operation(rng: &mut Rng) -> Operation {
    match rng.below(20) {
        0..6 => Operation::Auth(AuthChange {
            operation: Some(change(rng)),
        }),
        6..9 => Operation::Put(put(rng)),
        9..11 => Operation::DeleteRange(delete(rng)),
        11..13 => Operation::Txn(txn(rng)),
        13..15 => Operation::LeaseGrant(LeaseGrant {
            id: rng.between(1, 4) as i64,
            ttl_ms: 5_000,
        }),
        15 => Operation::LeaseRevoke(LeaseRevoke {
            id: rng.between(1, 4) as i64,
        }),
        16 => Operation::Compact(Compact { revision: 1 }),
        17 => Operation::Client(ClientCommand {
            operation: Some(ClientOperation::Register(Register {
                lease: rng.between(1, 4) as i64,
            })),
        }),
        _ => Operation::Lock(LockCommand {
            operation: Some(lock(rng)),
        }),
    }
}

fn caller(rng: &mut Rng, revision: u64) -> Caller {
    match rng.below(12) {
        0 => Caller::default(),
        1 => Caller {
            user: name(rng),
            revision: revision - rng.below(2).min(revision - 1),
        },
        2 => Caller {
            user: "nobody".into(),
            revision,
        },
        n => Caller {
            user: if n < 6 { "root".into() } else { name(rng) },
            revision,
        },
    }
}

fn question(rng: &mut Rng) -> Query {
    let lease = rng.between(1, 4) as i64;
    match rng.below(8) {
        0 => Query::Leases,
        1 => Query::HashKv { revision: 0 },
        2 | 3 => Query::LeaseTimeToLive {
            id: lease,
            keys: rng.chance(700),
        },
        4 => Query::Lock(LockQuery::Check {
            name: key(rng),
            token: 1,
        }),
        _ => Query::Range(read(rng)),
    }
}

/// What was said, in a word.
fn word(reply: &Reply) -> &'static str {
    match reply {
        Reply::Auth => "changed",
        Reply::Rejected(Rejection::Auth(denied)) => match denied {
            AuthRejection::PermissionDenied => "denied",
            AuthRejection::OldRevision => "late",
            AuthRejection::UserEmpty => "nobody",
            _ => "refused",
        },
        _ => "done",
    }
}

fn compare_one_life(seed: u64, seen: &mut BTreeMap<&'static str, u64>) {
    let rng = &mut Rng::new(seed);
    let (mut model, mut state) = (Model::new(), State::new(Settings::default()));
    let mut client = 0;
    for index in 1..300 {
        let revision = state.auth().revision();
        let commands = (0..1 + rng.below(3)).map(|_| {
            let Caller { user, revision } = caller(rng, revision);
            let numbered = rng.chance(150);
            Command {
                client: if numbered { client } else { 0 },
                sequence: rng.between(1, 8),
                principal: user,
                auth_revision: revision,
                operation: Some(operation(rng)),
                ..Command::default()
            }
        });
        let batch = Batch {
            format: 1,
            clock_ms: index * 100,
            wall_ms: index * 100,
            groups: vec![Group {
                commands: commands.collect(),
                ..Group::default()
            }],
        };
        let expected = model.apply(&batch, 0).expect("the clock rises");
        state.apply_begin(index, &batch.encode_to_vec()).unwrap();
        let found = loop {
            if let Some(applied) = state.apply_step(Budget(rng.between(1, 30))) {
                break applied;
            }
        };
        let told = batch.groups[0]
            .commands
            .iter()
            .zip(&found.groups[0].replies);
        for ((command, (reply, _)), wanted) in told.zip(&expected.outcomes) {
            assert_eq!(
                *reply, wanted.reply,
                "seed {seed}, batch {index}: {command:?}"
            );
            *seen.entry(word(reply)).or_default() += 1;
            if let Reply::Client(ClientReply::Registered { client: id }) = reply {
                client = *id;
            }
        }
        let (caller, query) = (caller(rng, state.auth().revision()), question(rng));
        assert_eq!(
            state.authorise_query(caller.principal(), &query),
            model
                .asking(model.users(), &caller, model.revision())
                .question(&query),
            "seed {seed}, batch {index}: {caller:?} asks {query:?}"
        );
    }
    assert_eq!(state.ordinal(), model.ordinal(), "seed {seed}");
}

#[test]
fn both_tell_the_same_of_who_may_do_what() {
    let mut seen = BTreeMap::new();
    (0..300).for_each(|seed| compare_one_life(seed, &mut seen));
    for what in ["changed", "done", "denied", "late", "nobody", "refused"] {
        let count = seen.get(what).copied().unwrap_or(0);
        assert!(count > 500, "{what} was seldom seen: {seen:?}");
    }
}
