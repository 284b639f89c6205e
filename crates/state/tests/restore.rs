//! The first state of a restored cluster: nobody takes anything of the old one for something of the new one (PROPERTIES KV3, W11, E2, F2, F3, I1).

mod support;

use bytes::Bytes;
use support::{Requests, Rng, apply, plain, reload, run, snapshot};
use synod_state::auth::*;
use synod_state::client::*;
use synod_state::id::*;
use synod_state::lock::*;
use synod_state::*;

const RAISE: Raise = Raise {
    positions: 1 << 40,
    revisions: 1_000_000_000,
};
const TOKEN_KEY: Bytes = Bytes::from_static(b"another key");

fn put(key: &'static str, lease: i64) -> Command {
    plain(Operation::Put(Put {
        key: Bytes::from_static(key.as_bytes()),
        value: Bytes::from_static(b"v"),
        lease,
        ..Put::default()
    }))
}

fn grant(id: i64, ttl_ms: u64) -> Command {
    plain(Operation::LeaseGrant(LeaseGrant { id, ttl_ms }))
}

fn acquire(name: &'static str, session: i64, id: u64, mode: Mode, delay_ms: u64) -> Command {
    plain(Operation::Lock(LockCommand {
        operation: Some(LockOperation::Acquire(Acquire {
            name: Bytes::from_static(name.as_bytes()),
            claimant: Claimant { session, id },
            mode: mode as i32,
            wait_ms: u64::MAX,
            delay_ms,
            ..Acquire::default()
        })),
    }))
}

fn token(state: &mut State, command: Command) -> u64 {
    let applied = apply(state, state.clock_ms(), vec![command], 1000);
    match applied.woken.first().map(|woken| &woken.outcome) {
        Some(Outcome::Granted { token }) => *token,
        other => panic!("{other:?} is no grant"),
    }
}

fn segment() -> Command {
    plain(Operation::Id(IdCommand {
        operation: Some(IdOperation::Segment(TakeSegment {
            name: Bytes::from_static(b"orders"),
            count: 10,
        })),
    }))
}

fn guarded(token: u64) -> Command {
    Command {
        guards: vec![Guard {
            model: GUARD_MODEL,
            name: Bytes::from_static(b"lock"),
            token,
        }],
        ..put("guarded", 0)
    }
}

fn restored(state: &mut State) -> State {
    let mut state = reload(state, &Settings::default());
    state.restore(RAISE, &TOKEN_KEY).unwrap();
    // What a member loads is what was restored, and its hash holds.
    let loaded = reload(&mut state, &Settings::default());
    assert_eq!(loaded.hash(), state.hash());
    loaded
}

fn keys(state: &mut State) -> Vec<KeyValue> {
    let all = Range {
        key: Bytes::from_static(&[0]),
        range_end: Bytes::from_static(&[0]),
        ..Range::default()
    };
    let mut cursor = state.query_begin(Query::Range(all));
    loop {
        if let Some((Answer::Range(reply), _)) = state.query_step(&mut cursor, Budget(1000)) {
            return reply.kvs;
        }
    }
}

#[test]
fn keys_stay_as_they_are_and_all_history_is_compacted() {
    for seed in 0..20 {
        let mut rng = Rng(seed);
        let mut state = State::new(Settings {
            removal_keys_min: 3,
            removal_keys_per_batch: 1,
            ..Settings::default()
        });
        for _ in 0..200 {
            let revision = state.revision();
            let command = Requests {
                rng: &mut rng,
                revision,
            }
            .command();
            run(&mut state, 0, command);
        }
        let mut new = restored(&mut state);
        assert_eq!(new.revision(), state.revision() + RAISE.revisions);
        assert_eq!(new.compacted(), new.revision());
        assert_eq!(new.applied(), state.applied() + RAISE.positions);
        assert_eq!(new.ordinal(), state.ordinal() + RAISE.positions);
        assert_eq!(keys(&mut new), keys(&mut state), "seed {seed}");
        let old = state.revision();
        for from in [1, old, old + 1, new.revision() - 1] {
            assert_eq!(
                new.events(from, Budget(10), &mut |_| {}),
                Err(new.revision()),
                "events from {from}"
            );
        }
        let next = new.revision() + 1;
        run(&mut new, 0, put("later", 0));
        let mut seen = Vec::new();
        let heard = new.events(next, Budget(10), &mut |event| seen.push(event.revision));
        assert_eq!((heard, seen), (Ok(next + 1), vec![next]));
    }
}

#[test]
fn leases_have_their_whole_time_again() {
    let mut state = State::new(Settings::default());
    run(&mut state, 0, grant(7, 10_000));
    run(&mut state, 0, put("a", 7));
    run(&mut state, 9_000, put("b", 0));
    let mut new = restored(&mut state);
    run(&mut new, 18_000, put("c", 0));
    assert_eq!((new.leases(), new.keys()), (1, 3));
    run(&mut new, 20_000, put("c", 0));
    assert_eq!((new.leases(), new.keys()), (0, 2), "and no more");
}

#[test]
fn f2_f3_old_tokens_guard_nothing_and_new_ones_are_higher() {
    let mut state = State::new(Settings::default());
    run(&mut state, 0, grant(1, 1 << 40));
    let old = token(&mut state, acquire("lock", 1, 1, Mode::Exclusive, 0));
    assert!(matches!(
        run(&mut state, 0, guarded(old)).0,
        Reply::Put { .. }
    ));
    let mut new = restored(&mut state);
    let refused = run(&mut new, 0, guarded(old)).0;
    assert!(
        matches!(refused, Reply::Rejected(Rejection::Guard(_))),
        "{refused:?}"
    );
    let later = token(&mut new, acquire("lock", 1, 1, Mode::Exclusive, 0));
    assert!(later > 1 << 40 && later < 1 << 53, "{later}");
    assert!(matches!(
        run(&mut new, 0, guarded(later)).0,
        Reply::Put { .. }
    ));
}

#[test]
fn f7_a_lock_that_was_held_with_a_delay_stays_closed_for_it() {
    let mut state = State::new(Settings::default());
    run(&mut state, 0, grant(1, 1 << 40));
    token(&mut state, acquire("lock", 1, 1, Mode::Exclusive, 5_000));
    let mut new = restored(&mut state);
    let asked = apply(
        &mut new,
        0,
        vec![acquire("lock", 1, 2, Mode::Exclusive, 0)],
        1000,
    );
    assert_eq!(asked.woken, [], "closed");
    let later = apply(&mut new, 5_200, vec![], 1000);
    assert_eq!(later.woken.len(), 1, "open again");
}

#[test]
fn e2_an_old_sequence_gets_an_error() {
    let mut state = State::new(Settings::default());
    run(&mut state, 0, grant(1, 1 << 40));
    let register = || {
        plain(Operation::Client(ClientCommand {
            operation: Some(ClientOperation::Register(Register { lease: 1 })),
        }))
    };
    let client_of = |reply: Reply| match reply {
        Reply::Client(ClientReply::Registered { client }) => client,
        other => panic!("{other:?}"),
    };
    let client = client_of(run(&mut state, 0, register()).0);
    let request = || Command {
        client,
        sequence: 1,
        acknowledged_below: 1,
        ..put("once", 0)
    };
    assert!(matches!(run(&mut state, 0, request()).0, Reply::Put { .. }));
    let mut new = restored(&mut state);
    let unknown = Reply::Rejected(Rejection::Client(ClientRejection::Unknown));
    assert_eq!(run(&mut new, 0, request()).0, unknown);
    assert!(client_of(run(&mut new, 0, register()).0) > 1 << 40);
}

#[test]
fn i1_numbers_that_may_have_been_handed_out_are_passed_over() {
    let mut state = State::new(Settings::default());
    run(&mut state, 0, segment());
    let mut new = restored(&mut state);
    let taken = run(&mut new, 0, segment()).0;
    let expected = IdReply::Segment {
        first: (1 << 40) + 11,
        count: 10,
    };
    assert_eq!(taken, Reply::Id(expected));
}

#[test]
fn users_survive_and_their_tokens_do_not() {
    let mut state = State::new(Settings::default());
    let auth = |operation| {
        plain(Operation::Auth(AuthChange {
            operation: Some(operation),
        }))
    };
    let user = || "root".to_owned();
    let add = UserAdd {
        user: user(),
        password_hash: Bytes::from_static(b"hash"),
        no_password: false,
    };
    run(&mut state, 0, auth(AuthOperation::UserAdd(add)));
    let give = UserRole {
        user: user(),
        role: user(),
    };
    run(&mut state, 0, auth(AuthOperation::UserGrantRole(give)));
    let enable = Enable {
        token_key: Bytes::from_static(b"a key"),
    };
    run(&mut state, 0, auth(AuthOperation::Enable(enable)));
    let new = restored(&mut state);
    assert!(new.auth().is_enabled());
    assert_eq!(new.auth().user("root"), state.auth().user("root"));
    assert_eq!(new.auth().token_key(), &TOKEN_KEY);
    let old = Principal {
        user: "root",
        revision: state.auth().revision(),
    };
    let all = |principal| {
        new.auth()
            .check_range(principal, PermissionKind::Read, b"a", b"")
    };
    assert_eq!(all(old), Err(AuthRejection::OldRevision));
}

#[test]
fn a_counter_without_room_is_refused_and_named() {
    let mut state = State::new(Settings::default());
    let far = Raise {
        positions: 1 << 53,
        revisions: 1,
    };
    let hash = state.hash();
    let refused = state.restore(far, &TOKEN_KEY).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the ordinal is 0, and cannot be raised without reaching 9007199254740992"
    );
    assert_eq!((state.hash(), state.applied()), (hash, 0));
}

#[test]
fn two_members_restore_the_same_bytes() {
    let mut state = State::new(Settings::default());
    for at in 0..50 {
        run(&mut state, at, put(if at % 2 == 0 { "a" } else { "b" }, 0));
    }
    let (mut one, mut two) = (restored(&mut state), restored(&mut state));
    assert_eq!(snapshot(&mut one), snapshot(&mut two));
}

#[test]
fn contents_of_another_store_are_taken_or_refused_whole() {
    let view = |revision, lease| EventView {
        revision,
        deleted: false,
        key: b"key",
        value: b"value",
        create_revision: 3,
        version: 2,
        lease,
    };
    let begin = || Import::new(Settings::default(), 9).unwrap();
    let mut import = begin();
    import.lease(5, 10_000).unwrap();
    import.key(&view(9, 5)).unwrap();
    let other = EventView {
        key: b"other",
        ..view(4, 77)
    };
    import.key(&other).unwrap();
    assert_eq!(import.adrift(), 1);
    let mut state = import.finish(100, RAISE, &TOKEN_KEY).unwrap();
    assert_eq!(state.revision(), 9 + RAISE.revisions);
    assert_eq!(state.applied(), 100 + RAISE.positions);
    let mut state = reload(&mut state, &Settings::default());
    let found = keys(&mut state);
    assert_eq!(found.len(), 2);
    let first = &found[0];
    assert_eq!(
        (first.create_revision, first.mod_revision, first.version),
        (3, 9, 2)
    );
    assert_eq!((first.lease, found[1].lease), (5, 0));

    assert!(begin().key(&view(10, 0)).is_err(), "newer than the store");
    assert!(begin().key(&view(2, 0)).is_err(), "older than its creation");
    let twice = &mut begin();
    twice.key(&view(9, 0)).unwrap();
    assert!(twice.key(&view(8, 0)).is_err(), "there twice");
    assert!(begin().lease(0, 1).is_err());
    assert!(Import::new(Settings::default(), 0).is_err());
}
