//! S1 inside the state: writes are held against rights when they are applied, reads in the view that answers them.

use bytes::Bytes;
use prost::Message;
use synod_state::auth::{
    AuthChange, AuthOperation, AuthRejection, Enable, Permission, PermissionKind, Principal,
    RoleGrantPermission, RoleName, UserAdd, UserRole,
};
use synod_state::client::{ClientCommand, ClientOperation, ClientReply, Register};
use synod_state::lock::*;
use synod_state::*;

const ROOT: &str = "root";

/// A state with authentication on: `ann` may read and write `a/`, and only read `r/`.
struct Guarded(State);

impl Guarded {
    fn new() -> Guarded {
        let mut guarded = Guarded(State::new(Settings::default()));
        for user in [ROOT, "ann"] {
            let add = UserAdd {
                user: user.into(),
                ..UserAdd::default()
            };
            guarded.change(AuthOperation::UserAdd(add));
        }
        guarded.change(AuthOperation::RoleAdd(RoleName { role: "app".into() }));
        for (user, role) in [(ROOT, ROOT), ("ann", "app")] {
            let grant = UserRole {
                user: user.into(),
                role: role.into(),
            };
            guarded.change(AuthOperation::UserGrantRole(grant));
        }
        for (kind, key, range_end) in [
            (PermissionKind::ReadWrite, "a/", "a0"),
            (PermissionKind::Read, "r/", "r0"),
        ] {
            let permission = Permission {
                kind: kind as i32,
                key: key.into(),
                range_end: range_end.into(),
            };
            guarded.change(AuthOperation::RoleGrantPermission(RoleGrantPermission {
                role: "app".into(),
                permission: Some(permission),
            }));
        }
        guarded.change(AuthOperation::Enable(Enable {
            token_key: Bytes::from_static(b"key"),
        }));
        guarded
    }

    fn apply(&mut self, command: Command) -> Reply {
        let batch = Batch {
            format: 1,
            groups: vec![Group {
                commands: vec![command],
                ..Group::default()
            }],
            ..Batch::default()
        };
        let index = self.0.applied() + 1;
        self.0
            .apply_begin(index, &batch.encode_to_vec())
            .expect("a good batch");
        let mut applied = loop {
            if let Some(applied) = self.0.apply_step(Budget(3)) {
                break applied;
            }
        };
        applied.groups.remove(0).replies.remove(0).0
    }

    fn change(&mut self, operation: AuthOperation) {
        let change = AuthChange {
            operation: Some(operation),
        };
        assert_eq!(self.run(ROOT, Operation::Auth(change)), Reply::Auth);
    }

    /// Runs an operation as a user that was let in just now.
    fn run(&mut self, user: &str, operation: Operation) -> Reply {
        let auth_revision = self.0.auth().revision();
        self.apply(Command {
            principal: user.into(),
            auth_revision,
            operation: Some(operation),
            ..Command::default()
        })
    }

    fn ask(&self, user: &str, query: &Query) -> Result<(), AuthRejection> {
        let revision = self.0.auth().revision();
        self.0.authorise_query(Principal { user, revision }, query)
    }
}

fn put(key: &str, lease: i64) -> Operation {
    Operation::Put(Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        lease,
        ..Put::default()
    })
}

fn range(key: &str, range_end: &str) -> Range {
    Range {
        key: Bytes::copy_from_slice(key.as_bytes()),
        range_end: Bytes::copy_from_slice(range_end.as_bytes()),
        ..Range::default()
    }
}

fn delete(key: &str, prev_kv: bool) -> DeleteRange {
    DeleteRange {
        key: Bytes::copy_from_slice(key.as_bytes()),
        prev_kv,
        ..DeleteRange::default()
    }
}

fn denied() -> Reply {
    Reply::Rejected(Rejection::Auth(AuthRejection::PermissionDenied))
}

fn step(step: TxnStep) -> TxnOperation {
    TxnOperation { step: Some(step) }
}

#[test]
fn s1_a_write_is_held_against_the_rights_at_its_index() {
    let mut guarded = Guarded::new();
    let revision = guarded.0.revision();
    assert_eq!(guarded.run("ann", put("r/1", 0)), denied());
    assert_eq!(guarded.run("ann", put("b", 0)), denied());
    assert_eq!(guarded.0.revision(), revision, "nothing changed");
    assert_eq!(guarded.run("ann", put("a/1", 0)), Reply::Put { prev: None });
    assert_eq!(guarded.run(ROOT, put("b", 0)), Reply::Put { prev: None });
    let nobody = Command {
        operation: Some(put("a/1", 0)),
        ..Command::default()
    };
    assert_eq!(
        guarded.apply(nobody),
        Reply::Rejected(Rejection::Auth(AuthRejection::UserEmpty))
    );
    assert_eq!(
        guarded.run("ann", Operation::DeleteRange(delete("b", false))),
        denied()
    );
    let compact = |revision| Operation::Compact(Compact { revision });
    assert_eq!(guarded.run("ann", compact(1)), denied());
    assert_eq!(guarded.run(ROOT, compact(1)), Reply::Compact);
}

#[test]
fn s1_rights_taken_between_asking_and_applying_stand() {
    let mut guarded = Guarded::new();
    let before = guarded.0.auth().revision();
    guarded.change(AuthOperation::UserRevokeRole(UserRole {
        user: "ann".into(),
        role: "app".into(),
    }));
    let late = Command {
        principal: "ann".into(),
        auth_revision: before,
        operation: Some(put("a/1", 0)),
        ..Command::default()
    };
    assert_eq!(
        guarded.apply(late),
        Reply::Rejected(Rejection::Auth(AuthRejection::OldRevision))
    );
    assert_eq!(guarded.run("ann", put("a/1", 0)), denied());
}

#[test]
fn s1_a_transaction_needs_the_rights_of_both_branches() {
    let mut guarded = Guarded::new();
    let run = |guarded: &mut Guarded, compare: &str, success: TxnStep, failure: TxnStep| {
        let compare = Compare {
            key: Bytes::copy_from_slice(compare.as_bytes()),
            ..Compare::default()
        };
        let txn = Txn {
            compares: vec![compare],
            success: vec![step(success)],
            failure: vec![step(failure)],
        };
        guarded.run("ann", Operation::Txn(txn))
    };
    let read = |key| TxnStep::Range(range(key, ""));
    assert!(matches!(
        run(&mut guarded, "a/1", read("a/1"), read("r/1")),
        Reply::Txn(_)
    ));
    assert_eq!(
        run(&mut guarded, "b", read("a/1"), read("r/1")),
        denied(),
        "a comparison tells of a key"
    );
    assert_eq!(run(&mut guarded, "a/1", read("b"), read("a/1")), denied());
    assert_eq!(run(&mut guarded, "a/1", read("a/1"), read("b")), denied());
    let nested = TxnStep::Txn(Txn {
        failure: vec![step(TxnStep::DeleteRange(delete("r/1", false)))],
        ..Txn::default()
    });
    assert_eq!(run(&mut guarded, "a/1", nested, read("a/1")), denied());
}

#[test]
fn s1_a_lease_with_foreign_keys_is_not_touched() {
    let mut guarded = Guarded::new();
    let grant = Operation::LeaseGrant(LeaseGrant {
        id: 7,
        ttl_ms: 60_000,
    });
    assert!(matches!(
        guarded.run("ann", grant),
        Reply::LeaseGrant { .. }
    ));
    let revoke = || Operation::LeaseRevoke(LeaseRevoke { id: 7 });
    assert_eq!(guarded.run("ann", put("a/1", 7)), Reply::Put { prev: None });
    let keys = Query::LeaseTimeToLive { id: 7, keys: true };
    assert_eq!(guarded.ask("ann", &keys), Ok(()));
    assert_eq!(guarded.run(ROOT, put("b", 7)), Reply::Put { prev: None });
    assert_eq!(guarded.run("ann", put("a/2", 7)), denied());
    assert_eq!(guarded.run("ann", revoke()), denied());
    assert_eq!(
        guarded.ask("ann", &keys),
        Err(AuthRejection::PermissionDenied)
    );
    assert_eq!(
        guarded.ask("ann", &Query::LeaseTimeToLive { id: 7, keys: false }),
        Ok(())
    );
    assert_eq!(guarded.run(ROOT, revoke()), Reply::LeaseRevoke);
}

#[test]
fn s1_a_query_is_held_against_the_rights_of_its_view() {
    let guarded = Guarded::new();
    let denied = Err(AuthRejection::PermissionDenied);
    for (query, allowed) in [
        (Query::Range(range("r/", "r0")), Ok(())),
        (Query::Range(range("r/", "s")), denied),
        (Query::Range(range("\0", "\0")), denied),
        (Query::Leases, Ok(())),
        (Query::Alarms, Ok(())),
        (Query::HashKv { revision: 0 }, denied),
        (Query::Position, Ok(())),
    ] {
        assert_eq!(guarded.ask("ann", &query), allowed, "{query:?}");
        assert_eq!(guarded.ask(ROOT, &query), Ok(()), "{query:?}");
    }
    let nobody = guarded.ask("", &Query::Leases);
    assert_eq!(nobody, Err(AuthRejection::UserEmpty));
}

#[test]
fn s1_only_root_changes_rights() {
    let mut guarded = Guarded::new();
    let hash = guarded.0.auth().revision();
    let change = AuthChange {
        operation: Some(AuthOperation::RoleAdd(RoleName { role: "x".into() })),
    };
    assert_eq!(guarded.run("ann", Operation::Auth(change)), denied());
    assert_eq!(guarded.0.auth().revision(), hash);
}

#[test]
fn s1_only_root_sees_to_alarms_and_the_leader_needs_no_user() {
    let mut guarded = Guarded::new();
    let raise = Operation::SetAlarm(SetAlarm {
        kind: AlarmKind::NoSpace as i32,
        member: 1,
        raise: true,
    });
    assert_eq!(guarded.run("ann", raise.clone()), denied());
    assert_eq!(
        guarded.run(ROOT, raise),
        Reply::SetAlarm { was_raised: false }
    );
    let own = |operation| Command {
        operation: Some(operation),
        ..Command::default()
    };
    let compact = Operation::AutoCompact(Compact { revision: 1 });
    assert_eq!(guarded.apply(own(compact)), Reply::Compact);
    let limit = Operation::SetBytesMax(SetBytesMax { bytes_max: 1 << 30 });
    assert_eq!(guarded.apply(own(limit)), Reply::SetBytesMax);
}

#[test]
fn kv5_users_are_part_of_the_hash_and_of_a_snapshot() {
    let mut guarded = Guarded::new();
    let plain = State::new(Settings::default());
    assert_ne!(guarded.0.hash(), plain.hash());
    let header = SnapshotHeader {
        index: guarded.0.applied(),
        ..SnapshotHeader::default()
    };
    let mut cursor = guarded.0.snapshot_begin(header);
    let mut loader = Loader::new(Settings::default());
    while let Some(bytes) = guarded.0.snapshot_step(&mut cursor, 1 << 10) {
        loader.feed(&bytes).expect("it was just written");
    }
    let (loaded, _) = loader.finish().expect("it is whole");
    assert_eq!(loaded.hash(), guarded.0.hash());
    let mut again = Guarded(loaded);
    assert_eq!(again.run("ann", put("b", 0)), denied());
    assert_eq!(again.run("ann", put("a/1", 0)), Reply::Put { prev: None });
}

/// Locks are protected like keys of their names; who may not write one cannot end the session that holds it.
#[test]
fn s1_a_lock_needs_the_rights_of_its_name() {
    let mut guarded = Guarded::new();
    let lock = |operation| {
        Operation::Lock(LockCommand {
            operation: Some(operation),
        })
    };
    let claimant = Claimant { session: 7, id: 1 };
    let acquire = |name: &'static str| {
        lock(LockOperation::Acquire(Acquire {
            name: Bytes::from_static(name.as_bytes()),
            claimant,
            ..Acquire::default()
        }))
    };
    let release = lock(LockOperation::Release(Release {
        claimant,
        joined: 0,
    }));
    let session = Operation::LeaseGrant(LeaseGrant {
        id: 7,
        ttl_ms: 60_000,
    });
    guarded.run(ROOT, session);
    assert_eq!(guarded.run("ann", acquire("b")), denied());
    let Reply::Lock(LockReply::Granted { token }) = guarded.run(ROOT, acquire("b")) else {
        panic!("the lock is free")
    };
    let force = lock(LockOperation::Force(Force {
        name: Bytes::from_static(b"b"),
        token,
        reason: "r".into(),
    }));
    let revoke = Operation::LeaseRevoke(LeaseRevoke { id: 7 });
    for refused in [release.clone(), force, revoke] {
        assert_eq!(guarded.run("ann", refused), denied());
    }
    let guard = Guard {
        model: GUARD_MODEL,
        name: Bytes::from_static(b"b"),
        token: 1,
    };
    let auth_revision = guarded.0.auth().revision();
    let with_guard = Command {
        principal: "ann".into(),
        auth_revision,
        guards: vec![guard],
        operation: Some(put("a/1", 0)),
        ..Command::default()
    };
    assert_eq!(guarded.apply(with_guard), denied());
    let name = || Bytes::from_static(b"b");
    for query in [
        LockQuery::Claim { claimant },
        LockQuery::Check {
            name: name(),
            token,
        },
        LockQuery::List {
            from: Bytes::new(),
            limit: 10,
        },
    ] {
        let query = Query::Lock(query);
        let denied = Err(AuthRejection::PermissionDenied);
        assert_eq!(guarded.ask("ann", &query), denied, "{query:?}");
        assert_eq!(guarded.ask(ROOT, &query), Ok(()), "{query:?}");
    }
    assert!(matches!(guarded.run(ROOT, release.clone()), Reply::Lock(_)));
    // Who may look at a lock is shown its grant, but does not get the token in a form that passes for the holder's.
    assert!(matches!(guarded.run(ROOT, acquire("r/1")), Reply::Lock(_)));
    let look = Query::Lock(LockQuery::Claim { claimant });
    assert_eq!(guarded.ask("ann", &look), Ok(()));
    let own = Query::Lock(LockQuery::Own { claimant });
    let denied = Err(AuthRejection::PermissionDenied);
    assert_eq!(guarded.ask("ann", &own), denied);
    assert_eq!(guarded.ask(ROOT, &own), Ok(()));
    assert!(matches!(guarded.run(ROOT, release), Reply::Lock(_)));
    assert!(matches!(guarded.run("ann", acquire("a/1")), Reply::Lock(_)));
}

/// Found by the simulator's model: the refusal was kept as the reply, so that a door which let the user in anew and asked again got it again.
#[test]
fn e1_a_request_that_was_let_in_too_early_may_come_again_under_its_number() {
    let mut guarded = Guarded::new();
    let lease = 7;
    let grant = LeaseGrant {
        id: lease,
        ttl_ms: 60_000,
    };
    guarded.run("ann", Operation::LeaseGrant(grant));
    let register = ClientOperation::Register(Register { lease });
    let register = Operation::Client(ClientCommand {
        operation: Some(register),
    });
    let Reply::Client(ClientReply::Registered { client }) = guarded.run("ann", register) else {
        panic!("ann may be a client");
    };
    let mut request = Command {
        client,
        sequence: 1,
        principal: "ann".into(),
        auth_revision: guarded.0.auth().revision() - 1,
        operation: Some(put("a/1", 0)),
        ..Command::default()
    };
    let late = Reply::Rejected(Rejection::Auth(AuthRejection::OldRevision));
    assert_eq!(guarded.apply(request.clone()), late);
    request.auth_revision += 1;
    assert_eq!(guarded.apply(request.clone()), Reply::Put { prev: None });
    let revision = guarded.0.revision();
    assert_eq!(guarded.apply(request), Reply::Put { prev: None });
    assert_eq!(guarded.0.revision(), revision, "it ran once");
}

/// A member gives up what its client no longer waits for, also when users changed or the client's user may do nothing any more: otherwise an abandoned
/// acquisition would get the lock, and keep it for as long as its session lives.
#[test]
fn f5_a_member_gives_up_a_wait_whatever_became_of_its_user() {
    let mut guarded = Guarded::new();
    for id in [1, 2] {
        let grant = LeaseGrant { id, ttl_ms: 60_000 };
        guarded.run("ann", Operation::LeaseGrant(grant));
    }
    let lock = |operation| {
        Operation::Lock(LockCommand {
            operation: Some(operation),
        })
    };
    let acquire = |session| {
        lock(LockOperation::Acquire(Acquire {
            name: "a/lock".into(),
            claimant: Claimant { session, id: 1 },
            mode: Mode::Exclusive as i32,
            wait_ms: u64::MAX,
            ..Acquire::default()
        }))
    };
    let release = |session, joined| {
        let claimant = Claimant { session, id: 1 };
        lock(LockOperation::Release(Release { claimant, joined }))
    };
    guarded.run("ann", acquire(1));
    let Reply::Lock(LockReply::Waiting { joined, .. }) = guarded.run("ann", acquire(2)) else {
        panic!("the lock is held");
    };
    guarded.change(AuthOperation::UserRevokeRole(UserRole {
        user: "ann".into(),
        role: "app".into(),
    }));
    assert_eq!(guarded.run("ann", release(2, 0)), denied());
    let own = guarded.apply(Command {
        operation: Some(release(2, joined)),
        ..Command::default()
    });
    assert!(
        matches!(own, Reply::Lock(LockReply::Released { .. })),
        "{own:?}"
    );
    let claimant = Claimant { session: 2, id: 1 };
    assert!(guarded.0.acquisition(claimant).is_none());
}
