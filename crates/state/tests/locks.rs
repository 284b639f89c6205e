//! Locks: what needs many of them, and their bytes in log and snapshot.

mod support;

use bytes::Bytes;
use prost::Message;
use synod_state::client::*;
use synod_state::lock::*;
use synod_state::*;

struct Cell {
    state: State,
    clock_ms: u64,
}

impl Cell {
    fn new() -> Cell {
        Cell {
            state: State::new(Settings::default()),
            clock_ms: 0,
        }
    }

    /// Applies a batch; gives what came of it, and the largest number of slices of a budget of 100 that it took.
    fn batch(&mut self, renewals: Vec<i64>, operations: Vec<Operation>) -> (Applied, u64) {
        let commands = operations.into_iter().map(support::plain);
        self.commands(renewals, commands.collect())
    }

    fn commands(&mut self, renewals: Vec<i64>, commands: Vec<Command>) -> (Applied, u64) {
        let batch = Batch {
            format: 1,
            clock_ms: self.clock_ms,
            wall_ms: 1000 + self.clock_ms,
            groups: vec![Group {
                renewals,
                commands,
                ..Group::default()
            }],
        };
        let index = self.state.applied() + 1;
        self.state
            .apply_begin(index, &batch.encode_to_vec())
            .unwrap();
        for slices in 1.. {
            if let Some(applied) = self.state.apply_step(Budget(100)) {
                return (applied, slices);
            }
        }
        unreachable!("a batch ends")
    }

    fn session(&mut self, id: i64, ttl_ms: u64) {
        self.batch(
            vec![],
            vec![Operation::LeaseGrant(LeaseGrant { id, ttl_ms })],
        );
    }

    fn ask(&mut self, query: LockQuery) -> LockAnswer {
        let mut cursor = self.state.query_begin(Query::Lock(query));
        match self.state.query_step(&mut cursor, Budget(1)) {
            Some((Answer::Lock(answer), _)) => answer,
            other => panic!("{other:?}"),
        }
    }

    fn holders(&mut self, name: &str) -> usize {
        match self.ask(LockQuery::Show {
            name: Bytes::copy_from_slice(name.as_bytes()),
            skip: 0,
            limit: 0,
        }) {
            LockAnswer::Show(detail) => detail.map_or(0, |detail| detail.lock.holders),
            other => panic!("{other:?}"),
        }
    }
}

fn acquire(name: &str, session: i64, id: u64, mode: Mode) -> Operation {
    Operation::Lock(LockCommand {
        operation: Some(LockOperation::Acquire(Acquire {
            name: Bytes::copy_from_slice(name.as_bytes()),
            claimant: Claimant { session, id },
            mode: mode as i32,
            wait_ms: u64::MAX,
            ..Acquire::default()
        })),
    })
}

fn release(session: i64, id: u64) -> Operation {
    Operation::Lock(LockCommand {
        operation: Some(LockOperation::Release(Release {
            claimant: Claimant { session, id },
            joined: 0,
        })),
    })
}

/// A session with very many locks ends over several batches: each is short, others get through between, and what it holds is good for nothing.
#[test]
fn a_session_with_very_many_locks_ends_in_portions() {
    let mut cell = Cell::new();
    cell.session(1, 10_000);
    cell.session(2, 100_000);
    let register = Operation::Client(ClientCommand {
        operation: Some(ClientOperation::Register(Register { lease: 1 })),
    });
    let (applied, _) = cell.batch(vec![], vec![register]);
    let Reply::Client(ClientReply::Registered { client }) = applied.groups[0].replies[0].0 else {
        panic!("the lease is there");
    };
    for from in (0..20_000).step_by(500) {
        let locks = from..from + 500;
        let operations = locks.map(|n| acquire(&format!("lock/{n}"), 1, n, Mode::Exclusive));
        cell.batch(vec![], operations.collect());
    }
    cell.batch(vec![], vec![acquire("lock/19999", 2, 1, Mode::Exclusive)]);
    let name = Bytes::from_static(b"lock/19998");
    let show = LockQuery::Check { name, token: 0 };
    let LockAnswer::Check { newest: token, .. } = cell.ask(show) else {
        panic!("the lock is held");
    };
    cell.clock_ms = 10_200;
    let mut batches = 0;
    loop {
        // A renewal comes too late as soon as the end has begun.
        let renewals = if batches == 0 { vec![] } else { vec![1] };
        let put = Operation::Put(Put {
            key: Bytes::from_static(b"k"),
            ..Put::default()
        });
        let guarded = Command {
            guards: vec![Guard {
                model: GUARD_MODEL,
                name: Bytes::from_static(b"lock/19998"),
                token,
            }],
            ..support::plain(put.clone())
        };
        let of_client = Command {
            client,
            sequence: batches + 1,
            ..support::plain(put.clone())
        };
        let commands = vec![
            support::plain(put),
            support::plain(acquire("lock/x", 1, 99_999, Mode::Exclusive)),
            guarded,
            of_client,
        ];
        let (applied, slices) = cell.commands(renewals, commands);
        batches += 1;
        assert!(slices < 200, "a batch took {slices} slices");
        let replies = &applied.groups[0].replies;
        assert!(matches!(replies[0].0, Reply::Put { .. }));
        assert_eq!(
            replies[1].0,
            Reply::Rejected(Rejection::Lock(LockRejection::SessionNotFound))
        );
        assert!(matches!(
            replies[2].0,
            Reply::Rejected(Rejection::Guard(GuardRejection::NotHeld { .. }))
        ));
        assert_eq!(
            replies[3].0,
            Reply::Rejected(Rejection::Client(ClientRejection::Unknown))
        );
        assert!(
            applied.groups[0]
                .renewals
                .iter()
                .all(|&(_, ttl)| ttl.is_none())
        );
        if applied.expired == [1] {
            assert!(matches!(
                applied.woken[..],
                [Woken {
                    outcome: Outcome::Granted { .. },
                    ..
                }]
            ));
            break;
        }
        let due = cell.state.next_deadline_ms();
        assert!(
            due.is_some_and(|due| due <= cell.clock_ms),
            "the next batch is due at {due:?}"
        );
        assert!(batches < 10, "the session never ends");
    }
    assert_eq!(batches, 5);
    assert_eq!(cell.holders("lock/19999"), 1);
    assert_eq!(cell.holders("lock/19998"), 0);
    assert!(
        cell.state.bytes() < 2000,
        "{} bytes are left",
        cell.state.bytes()
    );
}

/// One release that lets thousands in works in slices, and nobody sees it half done.
#[test]
fn thousands_of_shared_waiters_are_let_in_together() {
    let mut cell = Cell::new();
    cell.session(1, 100_000);
    cell.batch(vec![], vec![acquire("a", 1, 0, Mode::Exclusive)]);
    let waiters = (1..=WAITERS_MAX as u64).map(|id| acquire("a", 1, id, Mode::Shared));
    let (applied, _) = cell.batch(vec![], waiters.collect());
    assert!(applied.woken.is_empty());
    let (applied, _) = cell.batch(vec![], vec![acquire("a", 1, 1 << 20, Mode::Shared)]);
    assert!(matches!(
        applied.groups[0].replies[0].0,
        Reply::Rejected(Rejection::Lock(LockRejection::Limit { .. }))
    ));
    let batch = Batch {
        format: 1,
        groups: vec![Group {
            commands: vec![Command {
                operation: Some(release(1, 0)),
                ..Command::default()
            }],
            ..Group::default()
        }],
        ..Batch::default()
    };
    let index = cell.state.applied() + 1;
    cell.state
        .apply_begin(index, &batch.encode_to_vec())
        .unwrap();
    let name = Bytes::from_static(b"a");
    let question = Query::Lock(LockQuery::Check { name, token: 1 });
    let mut cursor = cell.state.query_begin(question);
    assert!(
        cell.state.apply_step(Budget(100)).is_none(),
        "it takes more than one slice"
    );
    assert!(
        cell.state.query_step(&mut cursor, Budget(100)).is_none(),
        "a question waits for the command at work"
    );
    let applied = loop {
        if let Some(applied) = cell.state.apply_step(Budget(100)) {
            break applied;
        }
    };
    assert_eq!(applied.woken.len(), WAITERS_MAX);
    assert!(cell.state.query_step(&mut cursor, Budget(100)).is_some());
    assert_eq!(cell.holders("a"), WAITERS_MAX);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn lock_commands_have_their_bytes() {
    let claimant = Claimant { session: 7, id: 9 };
    let name = Bytes::from_static(b"n");
    let all = [
        LockOperation::Acquire(Acquire {
            name: name.clone(),
            claimant,
            owner: 1,
            mode: Mode::Permits as i32,
            permits: 3,
            limit: 4,
            priority: -5,
            wait_ms: 6,
            delay_ms: 8,
            value: Bytes::from_static(b"v"),
        }),
        LockOperation::Release(Release {
            claimant,
            joined: 2,
        }),
        LockOperation::SetValue(SetValue {
            claimant,
            value: Bytes::from_static(b"v"),
        }),
        LockOperation::Force(Force {
            name: name.clone(),
            token: 2,
            reason: "r".into(),
        }),
        LockOperation::SetLatch(SetLatch {
            name: name.clone(),
            count: 2,
        }),
        LockOperation::CountDown(CountDown { name, by: 2 }),
        LockOperation::Leave(Leave {
            claimant,
            wait_ms: 2,
        }),
    ];
    let encoded = all.map(|operation| {
        hex(&Command {
            operation: Some(Operation::Lock(LockCommand {
                operation: Some(operation),
            })),
            ..Command::default()
        }
        .encode_to_vec())
    });
    let golden: Vec<&str> = include_str!("lock_commands.hex").lines().collect();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lock_commands.hex");
        std::fs::write(path, encoded.join("\n") + "\n").unwrap();
        return;
    }
    assert_eq!(encoded.to_vec(), golden);
}

/// Everything that is kept of locks is in a snapshot, with these bytes; damage is told from them.
#[test]
fn lock_snapshot_has_its_bytes() {
    let mut cell = Cell::new();
    cell.session(1, 10_000);
    cell.session(2, 10_000);
    let with = |operation, change: &dyn Fn(&mut Acquire)| {
        let Operation::Lock(LockCommand {
            operation: Some(LockOperation::Acquire(mut acquire)),
        }) = operation
        else {
            panic!("an acquisition")
        };
        change(&mut acquire);
        Operation::Lock(LockCommand {
            operation: Some(LockOperation::Acquire(acquire)),
        })
    };
    let operations = vec![
        with(acquire("a", 1, 1, Mode::Exclusive), &|acquire| {
            acquire.owner = 3;
            acquire.delay_ms = 4000;
            acquire.value = Bytes::from_static(b"v");
        }),
        with(acquire("a", 2, 1, Mode::Shared), &|acquire| {
            acquire.wait_ms = 5000;
            acquire.priority = 2;
        }),
        with(acquire("b", 2, 2, Mode::Permits), &|acquire| {
            acquire.permits = 2;
            acquire.limit = 3;
        }),
        Operation::Lock(LockCommand {
            operation: Some(LockOperation::SetLatch(SetLatch {
                name: Bytes::from_static(b"c"),
                count: 5,
            })),
        }),
    ];
    cell.batch(vec![], operations);
    let mut cursor = cell.state.snapshot_begin(SnapshotHeader {
        index: cell.state.applied(),
        ..SnapshotHeader::default()
    });
    let mut bytes = Vec::new();
    while let Some(piece) = cell.state.snapshot_step(&mut cursor, 64) {
        assert!(!piece.is_empty(), "a piece of a snapshot is not empty");
        bytes.extend_from_slice(&piece);
    }
    cell.state.snapshot_cancel(cursor);
    let golden = include_str!("snapshot_locks.hex");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshot_locks.hex");
        std::fs::write(path, hex(&bytes) + "\n").unwrap();
        return;
    }
    assert_eq!(hex(&bytes), golden.trim());
    let load = |bytes: &[u8]| {
        let mut loader = Loader::new(Settings::default());
        loader.feed(bytes)?;
        loader.finish()
    };
    let (loaded, _) = load(&bytes).unwrap();
    assert_eq!(loaded.hash(), cell.state.hash());
    assert_eq!(loaded.next_deadline_ms(), Some(5000));
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert!(load(&damaged).is_err(), "a flipped bit at {at} is not seen");
    }
}
