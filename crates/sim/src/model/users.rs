//! Users, roles and permissions as the decided log says they are, and what they allow (S1): every rule is read anew for every request, from the
//! roles as they stand. Nothing is merged, nothing is kept beside.

use super::{Keys, Locks};
use bytes::Bytes;
use state::auth::{
    AuthChange, AuthOperation, AuthRejection, Caller, Permission, PermissionKind, ROOT,
};
use state::lock::{Claimant, LockCommand, LockOperation, LockQuery};
use state::{Command, DeleteRange, Operation, Put, Query, Txn, TxnStep};
use std::collections::{BTreeMap, BTreeSet};

/// First key and end of a permission, as they were given.
type Range = (Bytes, Bytes);
type Verdict = Result<(), AuthRejection>;

/// Who may do what.
#[derive(Clone, Debug, PartialEq)]
pub struct Users {
    enabled: bool,
    revision: u64,
    /// The roles of each user.
    users: BTreeMap<String, BTreeSet<String>>,
    /// The permissions of each role.
    roles: BTreeMap<String, BTreeMap<Range, PermissionKind>>,
}

impl Default for Users {
    fn default() -> Users {
        Users {
            enabled: false,
            revision: 1,
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
        }
    }
}

impl Users {
    /// Requests need a user.
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// Carries out a change.
    pub fn change(&mut self, AuthChange { operation }: &AuthChange) -> Verdict {
        let operation = operation.as_ref().expect("the workload asks for something");
        if self.carry_out(operation)? {
            self.revision += 1;
        }
        Ok(())
    }

    /// Says whether anything changed that makes what was checked before void.
    fn carry_out(&mut self, operation: &AuthOperation) -> Result<bool, AuthRejection> {
        use AuthOperation as Do;
        match operation {
            Do::Enable(_) => {
                let root = self.users.get(ROOT);
                let root = root.ok_or(AuthRejection::RootUserNotExist)?;
                if !root.contains(ROOT) {
                    return Err(AuthRejection::RootRoleNotExist);
                }
                self.enabled = true;
                return Ok(false);
            }
            Do::Disable(_) => {
                return Ok(std::mem::take(&mut self.enabled));
            }
            Do::UserAdd(add) => match self.users.contains_key(&add.user) {
                true => return Err(AuthRejection::UserAlreadyExists),
                false => drop(self.users.insert(add.user.clone(), BTreeSet::new())),
            },
            Do::UserDelete(gone) => {
                self.keep_root(&gone.user)?;
                let known = self.users.remove(&gone.user);
                known.ok_or(AuthRejection::UserNotFound)?;
            }
            Do::UserPassword(change) => drop(self.roles_of(&change.user)?),
            Do::UserGrantRole(grant) => {
                let known = grant.role == ROOT || self.roles.contains_key(&grant.role);
                let roles = self.roles_of(&grant.user)?;
                if !known {
                    return Err(AuthRejection::RoleNotFound);
                }
                return Ok(roles.insert(grant.role.clone()));
            }
            Do::UserRevokeRole(revoke) => {
                if revoke.role == ROOT {
                    self.keep_root(&revoke.user)?;
                }
                if !self.roles_of(&revoke.user)?.remove(&revoke.role) {
                    return Err(AuthRejection::RoleNotGranted);
                }
            }
            Do::RoleAdd(add) => match self.roles.contains_key(&add.role) {
                true => return Err(AuthRejection::RoleAlreadyExists),
                false => drop(self.roles.insert(add.role.clone(), BTreeMap::new())),
            },
            Do::RoleDelete(gone) => {
                self.keep_root(&gone.role)?;
                let known = self.roles.remove(&gone.role);
                known.ok_or(AuthRejection::RoleNotFound)?;
                for roles in self.users.values_mut() {
                    roles.remove(&gone.role);
                }
            }
            Do::RoleGrantPermission(grant) => {
                let permission = grant.permission.as_ref();
                let permission = permission.ok_or(AuthRejection::PermissionNotGiven)?;
                let Permission { key, range_end, .. } = permission;
                let range = (key.clone(), range_end.clone());
                let backwards = !matches!(&range_end[..], [] | [0]) && key >= range_end;
                if key.is_empty() || backwards {
                    return Err(AuthRejection::InvalidManagement);
                }
                let role = self.roles.get_mut(&grant.role);
                let role = role.ok_or(AuthRejection::RoleNotFound)?;
                role.insert(range, permission.kind());
            }
            Do::RoleRevokePermission(revoke) => {
                let role = self.roles.get_mut(&revoke.role);
                let role = role.ok_or(AuthRejection::RoleNotFound)?;
                role.remove(&(revoke.key.clone(), revoke.range_end.clone()))
                    .ok_or(AuthRejection::PermissionNotGranted)?;
            }
            Do::DrawSigningSeed(_) | Do::RotateSigningSeed(_) | Do::DropVerifyingKey(_) => {
                unreachable!("no workload signs tokens")
            }
        }
        Ok(true)
    }

    fn keep_root(&self, name: &str) -> Verdict {
        match self.enabled && name == ROOT {
            true => Err(AuthRejection::InvalidManagement),
            false => Ok(()),
        }
    }

    fn roles_of(&mut self, user: &str) -> Result<&mut BTreeSet<String>, AuthRejection> {
        self.users.get_mut(user).ok_or(AuthRejection::UserNotFound)
    }

    fn is_root(&self, user: &str) -> bool {
        self.users.get(user).is_some_and(|it| it.contains(ROOT))
    }

    /// The permissions of a user let it do this with every key of the range.
    fn allows(&self, user: &str, kind: PermissionKind, key: &[u8], range_end: &[u8]) -> bool {
        let roles = self.users.get(user).into_iter().flatten();
        let permissions = roles.filter_map(|role| self.roles.get(role)).flatten();
        let of_kind = permissions
            .filter(|(_, given)| **given == kind || **given == PermissionKind::ReadWrite);
        let spans: Vec<_> = of_kind.map(|((key, end), _)| span(key, end)).collect();
        let (mut at, end) = span(key, range_end);
        // From the first key on, each permission that holds the next one leads on to its own end.
        loop {
            let holds = |it: &&(Vec<u8>, Option<Vec<u8>>)| {
                it.0 <= at && it.1.as_ref().is_none_or(|end| *end > at)
            };
            let mut ends = spans.iter().filter(holds).map(|it| it.1.as_ref());
            match (ends.next(), &end) {
                (None, _) => return false,
                (Some(None), _) => return true,
                (Some(Some(reached)), Some(end)) if reached >= end => return true,
                (Some(Some(reached)), _) => at = reached.clone(),
            }
        }
    }
}

/// The first key of a range and the first one after it; `None` is no end.
fn span(key: &[u8], range_end: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    let end = match range_end {
        [0] => None,
        end if end > key => Some(end.to_vec()),
        // A range without an end is its first key, and so is one that ends before it begins, whoever asks for it.
        _ => Some([key, &[0]].concat()),
    };
    (key.to_vec(), end)
}

/// A request before the users as they are, and what else it takes to judge it.
pub struct Asking<'a> {
    /// The users.
    pub(super) users: &'a Users,
    /// On whose behalf.
    pub(super) caller: &'a Caller,
    /// The keys.
    pub(super) keys: &'a Keys,
    /// As of this revision.
    pub(super) revision: i64,
    /// The locks.
    pub(super) locks: &'a Locks,
}

impl Asking<'_> {
    /// Whether a change may be made.
    pub fn change(&self, command: &Command) -> Verdict {
        if !self.users.enabled {
            return Ok(());
        }
        let write = PermissionKind::Write;
        for guard in &command.guards {
            self.may(PermissionKind::Read, &guard.name, &[])?;
        }
        match command.operation.as_ref() {
            Some(Operation::Put(put)) => self.put(put),
            Some(Operation::DeleteRange(delete)) => self.delete(delete),
            Some(Operation::Txn(txn)) => self.txn(txn),
            Some(Operation::LeaseGrant(_) | Operation::Client(_) | Operation::Id(_)) => {
                self.is_user()
            }
            Some(Operation::LeaseRevoke(revoke)) => {
                self.lease_keys(Some(revoke.id), write)?;
                if self.is_admin().is_ok() {
                    return Ok(());
                }
                let claims = self.locks.claims().iter();
                claims
                    .filter(|claim| claim.claimant.session == revoke.id)
                    .try_for_each(|claim| self.may(write, &claim.name, &[]))
            }
            Some(Operation::Lock(LockCommand { operation })) => match operation {
                Some(LockOperation::Acquire(acquire)) => self.may(write, &acquire.name, &[]),
                // A member's own.
                Some(LockOperation::Release(release)) if release.joined != 0 => Ok(()),
                Some(LockOperation::Release(release)) => self.claim(release.claimant),
                Some(LockOperation::SetValue(set)) => self.claim(set.claimant),
                Some(LockOperation::Leave(leave)) => self.claim(leave.claimant),
                Some(LockOperation::SetLatch(set)) => self.may(write, &set.name, &[]),
                Some(LockOperation::CountDown(count)) => self.may(write, &count.name, &[]),
                Some(LockOperation::Force(_)) => self.is_admin(),
                None => unreachable!("the workload asks for something"),
            },
            Some(Operation::Auth(_) | Operation::Compact(_) | Operation::SetAlarm(_)) => {
                self.is_admin()
            }
            // Members' own.
            _ => Ok(()),
        }
    }

    /// Whether a question may be asked.
    pub fn question(&self, query: &Query) -> Verdict {
        if !self.users.enabled {
            return Ok(());
        }
        let read = PermissionKind::Read;
        match query {
            Query::Range(range) => self.may(read, &range.key, &range.range_end),
            Query::Txn(txn) => {
                // One that names no key is for everybody, but not by an old token.
                if self.caller.revision != 0 {
                    self.is_let_in()?;
                }
                self.txn(txn)
            }
            Query::LeaseTimeToLive { id, keys: true } => self.lease_keys(Some(*id), read),
            Query::LeaseTimeToLive { keys: false, .. } => self.is_user(),
            Query::Leases => self.lease_keys(None, read),
            Query::HashKv { .. } => self.is_admin(),
            Query::Lock(LockQuery::Check { name, .. }) => self.may(read, name, &[]),
            other => unreachable!("the workload does not ask {other:?}"),
        }
    }

    /// Whether the keys of a range may be read, or written.
    pub fn may(&self, kind: PermissionKind, key: &[u8], range_end: &[u8]) -> Verdict {
        let (users, user) = (self.users, &self.caller.user);
        if !users.enabled {
            return Ok(());
        }
        self.is_let_in()?;
        match users.is_root(user) || users.allows(user, kind, key, range_end) {
            true => Ok(()),
            false => Err(AuthRejection::PermissionDenied),
        }
    }

    fn is_let_in(&self) -> Verdict {
        let (users, Caller { user, revision }) = (self.users, self.caller);
        if user.is_empty() || *revision == 0 {
            Err(AuthRejection::UserEmpty)
        } else if *revision < users.revision {
            Err(AuthRejection::OldRevision)
        } else if !users.users.contains_key(user) {
            Err(AuthRejection::PermissionDenied)
        } else {
            Ok(())
        }
    }

    fn is_admin(&self) -> Verdict {
        let (users, user) = (self.users, &self.caller.user);
        match users.users.get(user) {
            _ if user.is_empty() => Err(AuthRejection::UserEmpty),
            None => Err(AuthRejection::UserNotFound),
            Some(_) if users.is_root(user) => Ok(()),
            Some(_) => Err(AuthRejection::PermissionDenied),
        }
    }

    fn is_user(&self) -> Verdict {
        let user = &self.caller.user;
        if user.is_empty() {
            Err(AuthRejection::UserEmpty)
        } else if self.users.users.contains_key(user) {
            Ok(())
        } else {
            Err(AuthRejection::PermissionDenied)
        }
    }

    fn put(&self, put: &Put) -> Verdict {
        self.may(PermissionKind::Write, &put.key, &[])?;
        if put.prev_kv {
            self.may(PermissionKind::Read, &put.key, &[])?;
        }
        if put.lease != 0 && !put.ignore_lease {
            self.lease_keys(Some(put.lease), PermissionKind::Write)?;
        }
        Ok(())
    }

    fn delete(&self, delete: &DeleteRange) -> Verdict {
        let DeleteRange { key, range_end, .. } = delete;
        self.may(PermissionKind::Write, key, range_end)?;
        if delete.prev_kv {
            self.may(PermissionKind::Read, key, range_end)?;
        }
        Ok(())
    }

    /// What both branches would do.
    fn txn(&self, txn: &Txn) -> Verdict {
        for compare in &txn.compares {
            self.may(PermissionKind::Read, &compare.key, &compare.range_end)?;
        }
        for operation in txn.success.iter().chain(&txn.failure) {
            match operation.step.as_ref() {
                Some(TxnStep::Range(range)) => {
                    self.may(PermissionKind::Read, &range.key, &range.range_end)?
                }
                Some(TxnStep::Put(put)) => self.put(put)?,
                Some(TxnStep::DeleteRange(delete)) => self.delete(delete)?,
                Some(TxnStep::Txn(inner)) => self.txn(inner)?,
                // Names nothing.
                None => {}
            }
        }
        Ok(())
    }

    /// All keys that hang on a lease, or on any.
    fn lease_keys(&self, lease: Option<i64>, kind: PermissionKind) -> Verdict {
        self.is_user()?;
        if self.users.is_root(&self.caller.user) {
            return Ok(());
        }
        let keys = self.keys.leased_at(lease, self.revision);
        keys.iter().try_for_each(|key| self.may(kind, key, &[]))
    }

    fn claim(&self, claimant: Claimant) -> Verdict {
        match self.locks.claim(claimant) {
            Some(claim) => self.may(PermissionKind::Write, &claim.name, &[]),
            None => self.is_user(),
        }
    }
}
