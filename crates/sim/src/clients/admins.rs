//! Clients that say who may do what: one sets users, roles and permissions up, switches authentication on and changes things ever after; another
//! one tries the same as a user who mostly may not.

use super::*;
use state::auth::{
    AuthChange, AuthOperation, AuthRejection, Disable, Enable, Permission, PermissionKind, ROOT,
    RoleGrantPermission, RoleName, RoleRevokePermission, UserAdd, UserDelete, UserPassword,
    UserRole,
};
use std::collections::VecDeque;

/// Who asks; by the number of the client.
const USERS: [&str; 4] = ["ann", "bob", "eve", ROOT];
const ROLES: [&str; 3] = ["reader", "writer", "rest"];

/// What permissions are about: some of it is what requests name, some a part of it, some reaches into the middle.
const RANGES: [(&str, &str); 15] = [
    ("a", "z"),
    ("a", "l"),
    ("k", "l"),
    ("k", "n"),
    ("k0", "k3"),
    ("k2", "m2"),
    ("k1", ""),
    ("k", "\0"),
    ("l", "m"),
    ("m", "n"),
    ("m", "m3"),
    ("o", "p"),
    ("s", "z"),
    ("x0", ""),
    ("f", "g"),
];

/// A client that changes users.
#[derive(Clone, Debug, Default)]
pub(super) struct Admin {
    pub waiting: Option<u64>,
    /// What has to be done in this order, each until it is known to be done.
    todo: VecDeque<AuthOperation>,
    think: Micros,
}

impl Admin {
    /// One that begins with nothing, and ends with authentication on.
    fn founder() -> Admin {
        let mut todo = VecDeque::from([add_user(ROOT), give(ROOT, ROOT)]);
        todo.extend(ROLES.map(add_role));
        for (role, kind, range) in [
            ("reader", PermissionKind::Read, ("a", "z")),
            ("writer", PermissionKind::ReadWrite, ("k", "n")),
            ("rest", PermissionKind::ReadWrite, ("n", "\0")),
            ("rest", PermissionKind::Write, ("a", "k")),
        ] {
            todo.push_back(permit(role, kind, range));
        }
        todo.extend(USERS[..3].iter().map(|user| add_user(user)));
        for (user, role) in [
            ("ann", "reader"),
            ("ann", "writer"),
            ("ann", "rest"),
            ("bob", "writer"),
            ("bob", "rest"),
            ("eve", "reader"),
        ] {
            todo.push_back(give(user, role));
        }
        todo.push_back(AuthOperation::Enable(Enable::default()));
        Admin {
            waiting: None,
            todo,
            think: 400_000,
        }
    }
}

impl Clients {
    /// Gives each client its user, and adds those who say what users may do.
    pub(super) fn introduce_users(&mut self) {
        for (n, client) in self.clients.iter_mut().enumerate() {
            client.user = Some(match &client.kind {
                // Of one program, all are the same user: it shares its session.
                Kind::Keeper(Keeper { program, .. })
                | Kind::Locker(Locker { program, .. })
                | Kind::Caller(Caller { program, .. }) => USERS[program % 3],
                _ => USERS[n % USERS.len()],
            });
        }
        let meddler = Admin {
            think: 2_000_000,
            ..Admin::default()
        };
        for (user, admin) in [(ROOT, Admin::founder()), ("ann", meddler)] {
            self.clients.push(Client {
                member: self.rng.below(self.members as u64) as usize,
                token: 0,
                stamp: None,
                user: Some(user),
                kind: Kind::Admin(admin),
            });
        }
    }

    /// The user on whose behalf a client asks, if users are told apart in this life.
    pub fn user(&self, client: usize) -> Option<&'static str> {
        self.clients.get(client)?.user
    }

    /// The next change of users.
    pub(super) fn administer(&mut self, client: usize) {
        if self.closing {
            return;
        }
        let Kind::Admin(admin) = &self.clients[client].kind else {
            unreachable!("only administrators do")
        };
        let next = admin.todo.front().cloned();
        let next = next.unwrap_or_else(|| self.change_of_users(client));
        let request = self.number();
        let change = AuthChange {
            operation: Some(next),
        };
        self.propose(client, request, Operation::Auth(change));
    }

    fn change_of_users(&mut self, client: usize) -> AuthOperation {
        let user = *self.rng.pick(&USERS[..3]);
        let role = *self.rng.pick(&ROLES);
        let range = *self.rng.pick(&RANGES);
        let kind = *self.rng.pick(&[
            PermissionKind::Read,
            PermissionKind::Write,
            PermissionKind::ReadWrite,
            PermissionKind::ReadWrite,
        ]);
        match self.rng.below(100) {
            0..30 => permit(role, kind, range),
            30..48 => AuthOperation::RoleRevokePermission(RoleRevokePermission {
                role: role.into(),
                key: range.0.into(),
                range_end: range.1.into(),
            }),
            48..68 => give(user, role),
            68..78 => AuthOperation::UserRevokeRole(pair(user, role)),
            78..81 => AuthOperation::UserDelete(UserDelete { user: user.into() }),
            81..87 => add_user(user),
            87..89 => AuthOperation::RoleDelete(RoleName { role: role.into() }),
            89..92 => add_role(role),
            92..94 => AuthOperation::UserPassword(UserPassword {
                user: user.into(),
                ..UserPassword::default()
            }),
            94..96 => give(user, ROOT),
            96 => AuthOperation::UserRevokeRole(pair(user, ROOT)),
            97 => AuthOperation::RoleDelete(RoleName { role: ROOT.into() }),
            98 => AuthOperation::RoleGrantPermission(RoleGrantPermission {
                role: role.into(),
                permission: None,
            }),
            _ => {
                // For a while nobody is asked who it is.
                if let Kind::Admin(admin) = &mut self.clients[client].kind {
                    let enable = AuthOperation::Enable(Enable::default());
                    admin
                        .todo
                        .extend([add_user(ROOT), give(ROOT, ROOT), enable]);
                }
                AuthOperation::Disable(Disable {})
            }
        }
    }

    /// A change of users has ended.
    pub(super) fn on_administered(&mut self, client: usize, outcome: &Outcome) {
        let Kind::Admin(admin) = &mut self.clients[client].kind else {
            unreachable!("only administrators do")
        };
        let reply = match outcome {
            Outcome::Ended(Ok(response)) => Some(&response.body),
            _ => None,
        };
        let again = match reply {
            Some(Body::Reply(Reply::Rejected(Rejection::Auth(AuthRejection::UserEmpty))))
            | None => true,
            Some(_) => false,
        };
        if !again {
            admin.todo.pop_front();
        }
        let pause = match admin.todo.is_empty() {
            true => admin.think,
            false => 20_000,
        };
        if reply.is_none() {
            self.go_elsewhere(client);
        }
        self.wake_after(client, pause);
    }
}

fn pair(user: &str, role: &str) -> UserRole {
    UserRole {
        user: user.into(),
        role: role.into(),
    }
}

fn give(user: &str, role: &str) -> AuthOperation {
    AuthOperation::UserGrantRole(pair(user, role))
}

fn add_user(user: &str) -> AuthOperation {
    AuthOperation::UserAdd(UserAdd {
        user: user.into(),
        ..UserAdd::default()
    })
}

fn add_role(role: &str) -> AuthOperation {
    AuthOperation::RoleAdd(RoleName { role: role.into() })
}

fn permit(
    role: &str,
    kind: PermissionKind,
    (key, range_end): (&'static str, &'static str),
) -> AuthOperation {
    AuthOperation::RoleGrantPermission(RoleGrantPermission {
        role: role.into(),
        permission: Some(Permission {
            kind: kind as i32,
            key: key.into(),
            range_end: range_end.into(),
        }),
    })
}
