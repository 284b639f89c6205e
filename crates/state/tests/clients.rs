//! Client records: a request is applied once, however often and in whatever order it comes (PROPERTIES E1-E3).

mod support;

use bytes::Bytes;
use prost::Message;
use std::collections::BTreeMap;
use support::{Requests, Rng, apply, check_golden, hex, plain, reload, run, snapshot};
use synod_state::client::*;
use synod_state::*;

fn lease(id: i64, ttl_ms: u64) -> Command {
    plain(Operation::LeaseGrant(LeaseGrant { id, ttl_ms }))
}

fn register(lease: i64) -> Command {
    plain(Operation::Client(ClientCommand {
        operation: Some(ClientOperation::Register(Register { lease })),
    }))
}

fn put(key: &str, value: &[u8]) -> Operation {
    Operation::Put(Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value),
        prev_kv: true,
        ..Put::default()
    })
}

fn client_of(reply: Reply) -> u64 {
    match reply {
        Reply::Client(ClientReply::Registered { client }) => client,
        other => panic!("{other:?} is no client"),
    }
}

fn with_client() -> (State, u64) {
    let mut state = State::new(Settings::default());
    run(&mut state, 0, lease(1, 10_000));
    let client = client_of(run(&mut state, 0, register(1)).0);
    (state, client)
}

fn request(client: u64, sequence: u64, acknowledged_below: u64, operation: Operation) -> Command {
    Command {
        client,
        sequence,
        acknowledged_below,
        operation: Some(operation),
        ..Command::default()
    }
}

fn refused(rejection: ClientRejection) -> Reply {
    Reply::Rejected(Rejection::Client(rejection))
}

/// One client's requests, as a network delivers them.
struct Sender {
    client: u64,
    operations: Vec<Operation>,
    answered: BTreeMap<u64, (Reply, i64)>,
    acknowledged_below: u64,
    /// The mark that the state knows.
    told_below: u64,
}

/// Requests of several clients come in any order within their windows, some again and again: each first time it is what it would be without
/// the others' repetitions, each later time it is the same and changes nothing.
#[test]
fn e1_repeated_and_reordered_requests_are_applied_once() {
    let mut repeated = 0;
    for seed in 0..40 {
        let mut rng = Rng(seed);
        let (mut state, mut once) = (
            State::new(Settings::default()),
            State::new(Settings::default()),
        );
        let mut senders = Vec::new();
        for id in 1..=3 {
            for state in [&mut state, &mut once] {
                run(state, 0, lease(100 + id, 1 << 40));
            }
            let client = client_of(run(&mut state, 0, register(100 + id)).0);
            assert_eq!(
                client_of(run(&mut state, 0, register(100 + id)).0),
                client,
                "once more"
            );
            run(&mut once, 0, register(100 + id));
            run(&mut once, 0, register(100 + id));
            let operations = (0..60).map(|_| {
                let mut requests = Requests {
                    rng: &mut rng,
                    revision: 40,
                };
                requests.command().operation.expect("it does something")
            });
            senders.push(Sender {
                client,
                operations: operations.collect(),
                answered: BTreeMap::new(),
                acknowledged_below: 1,
                told_below: 1,
            });
        }
        for step in 0..1500 {
            let sender = &mut senders[rng.below(3) as usize];
            let sequence = sender.acknowledged_below + rng.below(8);
            let Some(operation) = sender.operations.get(sequence as usize - 1) else {
                continue;
            };
            let command = request(
                sender.client,
                sequence,
                sender.acknowledged_below,
                operation.clone(),
            );
            let before = state.hash();
            let known = sender.answered.get(&sequence).cloned();
            let told = run(&mut state, 0, command);
            match known {
                Some(known) => {
                    // Long replies are not kept, and then the revision is.
                    let long = told.0 == Reply::Applied && format!("{known:?}").len() > 10_000;
                    assert!(
                        told == known || long && told.1 == known.1,
                        "repetition of {sequence} at step {step} of seed {seed}"
                    );
                    if sender.told_below == sender.acknowledged_below {
                        assert_eq!(state.hash(), before, "a repetition changed something");
                    }
                    repeated += 1;
                }
                None => {
                    let alone = run(&mut once, 0, plain(operation.clone()));
                    assert!(
                        told == alone,
                        "first time of {sequence} at step {step} of seed {seed}"
                    );
                    sender.answered.insert(sequence, told);
                }
            }
            sender.told_below = sender.acknowledged_below;
            if rng.chance(20) && sender.answered.contains_key(&sender.acknowledged_below) {
                sender.acknowledged_below += 1;
            }
            if rng.chance(3) {
                state = reload(&mut state, &Settings::default());
            }
        }
        assert_eq!(state.revision(), once.revision());
    }
    assert!(repeated > 5000, "only {repeated} repetitions");
}

#[test]
fn e2_a_retry_without_its_record_is_refused() {
    let (mut state, client) = with_client();
    let unknown = || refused(ClientRejection::Unknown);
    assert_eq!(
        run(&mut state, 0, request(client + 1, 1, 1, put("a", b"1"))).0,
        unknown()
    );
    let first = run(&mut state, 0, request(client, 1, 1, put("a", b"1")));
    assert_eq!(first, (Reply::Put { prev: None }, 2));
    // Nobody else gets the reply.
    let stranger = Command {
        principal: "eve".into(),
        ..request(client, 1, 1, put("a", b"1"))
    };
    assert_eq!(run(&mut state, 0, stranger).0, unknown());
    // Nothing without a number, and nothing that acknowledges itself.
    for (sequence, acknowledged_below) in [(0, 0), (2, 3)] {
        let command = request(client, sequence, acknowledged_below, put("a", b"2"));
        assert_eq!(
            run(&mut state, 0, command).0,
            refused(ClientRejection::Sequence)
        );
    }
    let bytes = state.bytes();
    // The record ends with its lease; a new one has another id.
    apply(&mut state, 10_200, vec![], 3);
    assert!(state.bytes() < bytes);
    assert_eq!(
        run(&mut state, 10_200, request(client, 1, 1, put("a", b"1"))).0,
        unknown()
    );
    assert_eq!(
        run(&mut state, 10_200, register(1)).0,
        refused(ClientRejection::LeaseNotFound)
    );
    run(&mut state, 10_200, lease(1, 10_000));
    let again = client_of(run(&mut state, 10_200, register(1)).0);
    assert!(again > client, "client {again} after {client}");
    assert_eq!(
        run(&mut state, 10_200, request(client, 2, 1, put("a", b"1"))).0,
        unknown()
    );
    assert_eq!(state.revision(), 2);
    // A request may end its own record.
    let revoke = Operation::LeaseRevoke(LeaseRevoke { id: 1 });
    assert_eq!(
        run(&mut state, 10_200, request(again, 1, 1, revoke)).0,
        Reply::LeaseRevoke
    );
    assert_eq!(
        run(&mut state, 10_200, request(again, 2, 1, put("a", b"1"))).0,
        unknown()
    );
}

#[test]
fn e3_acknowledged_replies_are_freed_and_never_told_again() {
    let (mut state, client) = with_client();
    // Out of order.
    for sequence in [3, 1, 2, WINDOW] {
        let command = request(client, sequence, 1, put("a", &sequence.to_le_bytes()));
        assert!(matches!(run(&mut state, 0, command).0, Reply::Put { .. }));
    }
    let beyond = request(client, WINDOW + 1, 1, put("a", b""));
    let end = WINDOW + 1;
    assert_eq!(
        run(&mut state, 0, beyond).0,
        refused(ClientRejection::Window { end })
    );
    let bytes = state.bytes();
    let next = request(client, 4, 3, put("a", b"4"));
    assert!(matches!(run(&mut state, 0, next).0, Reply::Put { .. }));
    assert!(
        state.bytes() < bytes + 100,
        "{bytes} bytes, then {}",
        state.bytes()
    );
    // A late one that says less does not bring them back.
    for (sequence, acknowledged_below) in [(2, 1), (1, 1)] {
        let late = request(client, sequence, acknowledged_below, put("a", b"late"));
        let freed = ClientRejection::Freed {
            acknowledged_below: 3,
        };
        assert_eq!(run(&mut state, 0, late).0, refused(freed));
    }
    let third = request(client, 3, 1, put("a", b"other"));
    assert_eq!(run(&mut state, 0, third), (Reply::Put { prev: None }, 2));
}

#[test]
fn a_long_reply_is_kept_as_applied() {
    let (mut state, client) = with_client();
    let long = vec![7; REPLY_BYTES_MAX + 1];
    run(&mut state, 0, request(client, 1, 1, put("a", &long)));
    let second = request(client, 2, 1, put("a", b"short"));
    let (reply, revision) = run(&mut state, 0, second.clone());
    assert!(matches!(reply, Reply::Put { prev: Some(kv) } if kv.value == long));
    assert_eq!(run(&mut state, 0, second), (Reply::Applied, revision));
    // So are many that are not that long, together.
    let half = vec![7; REPLY_BYTES_MAX / 2];
    for sequence in 3..100 {
        run(&mut state, 0, request(client, sequence, 1, put("a", &half)));
    }
    let repeated =
        |state: &mut State, sequence| run(state, 0, request(client, sequence, 1, put("a", b""))).0;
    assert!(matches!(repeated(&mut state, 10), Reply::Put { .. }));
    assert_eq!(repeated(&mut state, 90), Reply::Applied);
}

#[test]
fn client_records_have_their_bytes() {
    let (mut state, client) = with_client();
    run(&mut state, 0, request(client, 1, 1, put("a", b"1")));
    run(&mut state, 0, request(client, 2, 1, put("", b"")));
    let lines = [
        hex(&register(5).encode_to_vec()),
        hex(&snapshot(&mut state)),
    ];
    check_golden("clients.hex", &lines);
    let loaded = reload(&mut state, &Settings::default());
    assert_eq!(loaded.hash(), state.hash());
    let bytes = snapshot(&mut state);
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        let mut loader = Loader::new(Settings::default());
        let loaded = loader.feed(&damaged).is_ok() && loader.finish().is_ok();
        assert!(!loaded, "a flipped bit at {at} is not seen");
    }
}
