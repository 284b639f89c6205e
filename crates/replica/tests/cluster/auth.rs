//! Users and permissions: reads and watches are held to them in the view that answers, whatever happened on the way (PROPERTIES S1).

use crate::harness::*;
use bytes::Bytes;
use replica::{Body, Consistency, Input, Ticket, WatchBody, WatchCreate, WatchRequest};
use state::auth::{
    AuthChange, AuthOperation, AuthRejection, Caller, Disable, Enable, Permission, PermissionKind,
    RoleGrantPermission, RoleName, UserAdd, UserRole,
};
use state::{Answer, Command, Operation, Rejection, Reply};

/// A cell with authentication on: `root`, and `ann`, who may read what begins with `a`.
fn guarded() -> Cell {
    let mut cell = Cell::settled();
    for user in ["root", "ann"] {
        let add = UserAdd {
            user: user.into(),
            password_hash: Bytes::new(),
            no_password: true,
        };
        change(&mut cell, AuthOperation::UserAdd(add));
    }
    let role = || RoleName { role: "app".into() };
    change(&mut cell, AuthOperation::RoleAdd(role()));
    let permission = Permission {
        kind: PermissionKind::Read.into(),
        key: "a".into(),
        range_end: "b".into(),
    };
    let grant = RoleGrantPermission {
        role: "app".into(),
        permission: Some(permission),
    };
    change(&mut cell, AuthOperation::RoleGrantPermission(grant));
    change(
        &mut cell,
        AuthOperation::UserGrantRole(role_of("root", "root")),
    );
    change(
        &mut cell,
        AuthOperation::UserGrantRole(role_of("ann", "app")),
    );
    cell.put(1, "a1", "v");
    cell.put(1, "c1", "v");
    let enable = Enable {
        token_key: Bytes::from_static(b"key"),
    };
    change(&mut cell, AuthOperation::Enable(enable));
    cell
}

fn role_of(user: &str, role: &str) -> UserRole {
    UserRole {
        user: user.into(),
        role: role.into(),
    }
}

/// Proposes a change of users on behalf of root, on some member.
fn propose(cell: &mut Cell, nth: u64, operation: AuthOperation) -> Ticket {
    let ticket = cell.ticket();
    let Caller { user, revision } = caller(cell, nth, "root");
    let command = Command {
        principal: user,
        auth_revision: revision,
        ..command(Operation::Auth(AuthChange {
            operation: Some(operation),
        }))
    };
    cell.input(nth, Input::Propose { ticket, command });
    ticket
}

fn change(cell: &mut Cell, operation: AuthOperation) {
    let ticket = propose(cell, 1, operation);
    cell.settle();
    assert_eq!(cell.response(ticket).body, Body::Reply(Reply::Auth));
}

/// A user as a door of the member would let it in.
fn caller(cell: &Cell, nth: u64, user: &str) -> Caller {
    Caller {
        user: user.into(),
        revision: cell.replica(nth).auth().revision(),
    }
}

fn read(cell: &mut Cell, nth: u64, caller: Caller, consistency: Consistency, key: &str) -> Ticket {
    let ticket = cell.ticket();
    let query = range(key, "");
    let read = Input::Read {
        ticket,
        caller,
        consistency,
        query,
    };
    cell.input(nth, read);
    ticket
}

/// Why a read was refused, if it was.
fn refused(cell: &Cell, ticket: Ticket) -> Option<AuthRejection> {
    match cell.response(ticket).body {
        Body::Answer(Answer::Rejected(Rejection::Auth(rejection))) => Some(rejection),
        Body::Answer(Answer::Range(_)) => None,
        other => panic!("a range was answered with {other:?}"),
    }
}

#[test]
fn s1_a_read_on_any_member_and_of_any_freshness_is_for_who_may() {
    let mut cell = guarded();
    for nth in 1..=3 {
        for consistency in [Consistency::Linearizable, Consistency::Local] {
            let mut ask = |user: &str, key: &str| {
                let caller = match user {
                    "" => Caller::default(),
                    _ => caller(&cell, nth, user),
                };
                let ticket = read(&mut cell, nth, caller, consistency, key);
                cell.settle();
                refused(&cell, ticket)
            };
            assert_eq!(ask("ann", "a1"), None);
            assert_eq!(ask("root", "c1"), None);
            assert_eq!(ask("ann", "c1"), Some(AuthRejection::PermissionDenied));
            let absent = ask("ann", "none");
            assert_eq!(absent, Some(AuthRejection::PermissionDenied));
            assert_eq!(ask("", "a1"), Some(AuthRejection::UserEmpty));
            assert_eq!(ask("eve", "a1"), Some(AuthRejection::PermissionDenied));
        }
    }
}

#[test]
fn s1_a_read_that_waits_is_held_to_the_rights_at_its_end() {
    let mut cell = guarded();
    let follower = cell.follower();
    let ann = caller(&cell, follower, "ann");
    // It waits for the very entry that takes the role.
    let mut stamp = cell.put(1, "k", "v").stamp;
    stamp.index += 1;
    let late = Consistency::AtLeast(stamp);
    let ticket = read(&mut cell, follower, ann, late, "a1");
    let taken = propose(
        &mut cell,
        1,
        AuthOperation::UserRevokeRole(role_of("ann", "app")),
    );
    cell.settle();
    assert_eq!(cell.response(taken).body, Body::Reply(Reply::Auth));
    assert_eq!(refused(&cell, ticket), Some(AuthRejection::OldRevision));
    let ann = caller(&cell, follower, "ann");
    let ticket = read(&mut cell, follower, ann, Consistency::Linearizable, "a1");
    cell.settle();
    assert_eq!(
        refused(&cell, ticket),
        Some(AuthRejection::PermissionDenied)
    );
}

#[test]
fn s1_a_watch_is_refused_when_it_is_created_or_never() {
    let mut cell = guarded();
    let watch = |caller: Caller, key: &str| {
        WatchRequest::Create(WatchCreate {
            caller,
            key: key.to_owned().into(),
            ..WatchCreate::default()
        })
    };
    let denied = |rejection| vec![(-1, WatchBody::Denied(rejection))];
    let hear = |cell: &mut Cell, stream: u64, request: WatchRequest| -> Vec<(i64, WatchBody)> {
        cell.credit(2, stream, 10);
        cell.watch(2, stream, request);
        cell.settle();
        let heard = cell.heard(2, stream);
        heard
            .into_iter()
            .map(|said| (said.watch, said.body))
            .collect()
    };
    let ann = caller(&cell, 2, "ann");
    let created = hear(&mut cell, 1, watch(ann.clone(), "a1"));
    assert_eq!(created, [(0, WatchBody::Created)]);
    let refused = hear(&mut cell, 2, watch(ann.clone(), "c1"));
    assert_eq!(refused, denied(AuthRejection::PermissionDenied));
    let refused = hear(&mut cell, 3, watch(Caller::default(), "a1"));
    assert_eq!(refused, denied(AuthRejection::UserEmpty));
    change(
        &mut cell,
        AuthOperation::UserRevokeRole(role_of("ann", "app")),
    );
    let refused = hear(&mut cell, 4, watch(ann, "a1"));
    assert_eq!(refused, denied(AuthRejection::OldRevision));
    // Like etcd's, the one that runs goes on.
    change(&mut cell, AuthOperation::Disable(Disable {}));
    cell.put(1, "a1", "w");
    let heard = cell.heard(2, 1);
    assert!(
        heard
            .iter()
            .any(|said| matches!(said.body, WatchBody::Events { .. })),
        "{heard:?}"
    );
}

#[test]
fn s1_rights_survive_restarts() {
    let mut cell = guarded();
    for nth in 1..=3 {
        cell.kill(nth);
        cell.start(nth);
        cell.elect();
        cell.settle();
        let ann = caller(&cell, nth, "ann");
        let ticket = read(&mut cell, nth, ann, Consistency::Linearizable, "c1");
        cell.settle();
        assert_eq!(
            refused(&cell, ticket),
            Some(AuthRejection::PermissionDenied)
        );
    }
    cell.check_equal();
}
