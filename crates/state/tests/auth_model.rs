//! S1 against a model: users, roles and permissions change at random while users put, remove, read and compare keys at random. What is allowed is what a
//! naive reading of the rules allows, letter by letter; what is refused changes nothing.

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use synod_state::auth::{
    AuthChange, AuthOperation, AuthRejection, Caller, Enable, Permission, PermissionKind,
    RoleGrantPermission, RoleName, RoleRevokePermission, UserAdd, UserDelete, UserRole,
};
use synod_state::*;

const USERS: [&str; 3] = ["ann", "bob", "eve"];
const ROLES: [&str; 2] = ["one", "two"];
/// Keys are single letters from `a` on.
const LETTERS: u8 = 10;

/// A range of letters: the first, and how many; 0 is the single key.
type Letters = (u8, u8);

#[derive(Clone, Debug)]
enum Step {
    Grant(usize, Letters, i32),
    Revoke(usize, Letters),
    GiveRole(usize, usize),
    TakeRole(usize, usize),
    /// The user goes and comes again, without roles.
    Replace(usize),
    Put(usize, u8, bool),
    Remove(usize, Letters),
    Read(usize, Letters),
    /// Compares one key, then puts another.
    Compare(usize, u8, u8),
    /// A put by a user who was let in before the latest change.
    Late(usize, u8),
}

fn step() -> impl Strategy<Value = Step> {
    let (user, role) = (0..USERS.len(), 0..ROLES.len());
    let letters = (0..LETTERS, 0..4_u8);
    prop_oneof![
        3 => (role.clone(), letters.clone(), 0..3_i32).prop_map(|(role, at, kind)| Step::Grant(role, at, kind)),
        1 => (role.clone(), letters.clone()).prop_map(|(role, at)| Step::Revoke(role, at)),
        3 => (user.clone(), role.clone()).prop_map(|(user, role)| Step::GiveRole(user, role)),
        1 => (user.clone(), role).prop_map(|(user, role)| Step::TakeRole(user, role)),
        1 => user.clone().prop_map(Step::Replace),
        4 => (user.clone(), 0..LETTERS, any::<bool>()).prop_map(|(user, key, prev)| Step::Put(user, key, prev)),
        3 => (user.clone(), letters.clone()).prop_map(|(user, at)| Step::Remove(user, at)),
        4 => (user.clone(), letters).prop_map(|(user, at)| Step::Read(user, at)),
        3 => (user.clone(), 0..LETTERS, 0..LETTERS).prop_map(|(user, compared, put)| Step::Compare(user, compared, put)),
        2 => (user, 0..LETTERS).prop_map(|(user, key)| Step::Late(user, key)),
    ]
}

fn letter(at: u8) -> Bytes {
    Bytes::from(vec![b'a' + at])
}

fn bounds((from, count): Letters) -> (Bytes, Bytes) {
    let end = if count == 0 {
        Bytes::new()
    } else {
        letter(from + count)
    };
    (letter(from), end)
}

/// The letters of a range, apart in those that mean the range and those that mean one key.
fn covered((from, count): Letters) -> std::ops::Range<u8> {
    from..from + count.max(1)
}

#[derive(Default)]
struct Model {
    permissions: [BTreeMap<Letters, i32>; ROLES.len()],
    roles: [BTreeSet<usize>; USERS.len()],
}

impl Model {
    /// Every key of the range is allowed by some permission. A permission for a single key `b` covers neither `b/` nor the range from `b` to `c`.
    fn allows(&self, user: usize, kind: PermissionKind, asked: Letters) -> bool {
        let given = || {
            let roles = self.roles[user].iter();
            let given = roles.flat_map(|role| &self.permissions[*role]);
            given.filter(|(_, given)| {
                **given == PermissionKind::ReadWrite as i32 || **given == kind as i32
            })
        };
        covered(asked).all(|at| {
            given().any(|(&(from, count), _)| match (count, asked.1) {
                (0, 0) => from == at,
                (0, _) => false,
                _ => covered((from, count)).contains(&at),
            })
        })
    }
}

struct Subject {
    state: State,
}

impl Subject {
    fn new() -> Subject {
        let mut subject = Subject {
            state: State::new(Settings::default()),
        };
        for user in ["root"].iter().chain(&USERS) {
            subject.add(user);
        }
        for role in ROLES {
            subject.change(AuthOperation::RoleAdd(RoleName { role: role.into() }));
        }
        subject.change(AuthOperation::UserGrantRole(pair("root", "root")));
        subject.change(AuthOperation::Enable(Enable {
            token_key: Bytes::from_static(b"key"),
        }));
        subject
    }

    fn add(&mut self, user: &str) {
        self.change(AuthOperation::UserAdd(UserAdd {
            user: user.into(),
            ..UserAdd::default()
        }));
    }

    fn change(&mut self, operation: AuthOperation) -> bool {
        let change = AuthChange {
            operation: Some(operation),
        };
        let revision = self.state.auth().revision();
        self.apply("root", revision, Operation::Auth(change)) == Reply::Auth
    }

    fn apply(&mut self, user: &str, auth_revision: u64, operation: Operation) -> Reply {
        let command = Command {
            principal: user.into(),
            auth_revision,
            operation: Some(operation),
            ..Command::default()
        };
        let batch = Batch {
            format: 1,
            groups: vec![Group {
                commands: vec![command],
                ..Group::default()
            }],
            ..Batch::default()
        };
        let index = self.state.applied() + 1;
        self.state
            .apply_begin(index, &batch.encode_to_vec())
            .expect("a good batch");
        loop {
            if let Some(mut applied) = self.state.apply_step(Budget(3)) {
                return applied.groups.remove(0).replies.remove(0).0;
            }
        }
    }

    /// Applies a write that must be done or refused, and do nothing then.
    fn check(
        &mut self,
        user: usize,
        operation: Operation,
        allowed: bool,
    ) -> Result<(), TestCaseError> {
        let (before, revision) = (self.state.revision(), self.state.auth().revision());
        let reply = self.apply(USERS[user], revision, operation.clone());
        let denied = Reply::Rejected(Rejection::Auth(AuthRejection::PermissionDenied));
        prop_assert_eq!(reply != denied, allowed, "{:?}: {:?}", operation, reply);
        prop_assert!(allowed || self.state.revision() == before);
        Ok(())
    }
}

fn pair(user: &str, role: &str) -> UserRole {
    UserRole {
        user: user.into(),
        role: role.into(),
    }
}

fn put(key: u8, prev_kv: bool) -> Put {
    Put {
        key: letter(key),
        prev_kv,
        ..Put::default()
    }
}

fn play(subject: &mut Subject, model: &mut Model, step: &Step) -> Result<(), TestCaseError> {
    use PermissionKind::{Read, Write};
    match *step {
        Step::Grant(role, at, kind) => {
            let (key, range_end) = bounds(at);
            let permission = Permission {
                kind,
                key,
                range_end,
            };
            let role_name = ROLES[role].into();
            subject.change(AuthOperation::RoleGrantPermission(RoleGrantPermission {
                role: role_name,
                permission: Some(permission),
            }));
            model.permissions[role].insert(at, kind);
        }
        Step::Revoke(role, at) => {
            let (key, range_end) = bounds(at);
            let taken = subject.change(AuthOperation::RoleRevokePermission(RoleRevokePermission {
                role: ROLES[role].into(),
                key,
                range_end,
            }));
            prop_assert_eq!(taken, model.permissions[role].remove(&at).is_some());
        }
        Step::GiveRole(user, role) => {
            subject.change(AuthOperation::UserGrantRole(pair(USERS[user], ROLES[role])));
            model.roles[user].insert(role);
        }
        Step::TakeRole(user, role) => {
            let taken = subject.change(AuthOperation::UserRevokeRole(pair(
                USERS[user],
                ROLES[role],
            )));
            prop_assert_eq!(taken, model.roles[user].remove(&role));
        }
        Step::Replace(user) => {
            let gone = UserDelete {
                user: USERS[user].into(),
            };
            prop_assert!(subject.change(AuthOperation::UserDelete(gone)));
            subject.add(USERS[user]);
            model.roles[user].clear();
        }
        Step::Put(user, key, prev) => {
            let at = (key, 0);
            let allowed = model.allows(user, Write, at) && (!prev || model.allows(user, Read, at));
            subject.check(user, Operation::Put(put(key, prev)), allowed)?;
        }
        Step::Remove(user, at) => {
            let (key, range_end) = bounds(at);
            let delete = DeleteRange {
                key,
                range_end,
                prev_kv: false,
            };
            let allowed = model.allows(user, Write, at);
            subject.check(user, Operation::DeleteRange(delete), allowed)?;
        }
        Step::Read(user, at) => {
            let (key, range_end) = bounds(at);
            let query = Query::Range(Range {
                key,
                range_end,
                ..Range::default()
            });
            let caller = Caller {
                user: USERS[user].into(),
                revision: subject.state.auth().revision(),
            };
            let asked = subject.state.authorise_query(caller.principal(), &query);
            prop_assert_eq!(asked.is_ok(), model.allows(user, Read, at), "{:?}", query);
        }
        Step::Compare(user, compared, key) => {
            let txn = Txn {
                compares: vec![Compare {
                    key: letter(compared),
                    ..Compare::default()
                }],
                success: vec![TxnOperation {
                    step: Some(TxnStep::Put(put(key, false))),
                }],
                failure: Vec::new(),
            };
            let allowed =
                model.allows(user, Read, (compared, 0)) && model.allows(user, Write, (key, 0));
            subject.check(user, Operation::Txn(txn), allowed)?;
        }
        Step::Late(user, key) => {
            let (before, late) = (
                subject.state.revision(),
                subject.state.auth().revision() - 1,
            );
            let reply = subject.apply(USERS[user], late, Operation::Put(put(key, false)));
            let old = Reply::Rejected(Rejection::Auth(AuthRejection::OldRevision));
            prop_assert_eq!(reply, old);
            prop_assert_eq!(subject.state.revision(), before);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn s1_users_do_what_they_may_and_nothing_else(steps in prop::collection::vec(step(), 1..60)) {
        let (mut subject, mut model) = (Subject::new(), Model::default());
        for step in &steps {
            play(&mut subject, &mut model, step)?;
        }
    }
}
