//! Who may do what: users, roles and their permissions, changed by commands like everything else, so that all members agree about them at
//! every index. The rules, and what each refusal is, are etcd's (`server/auth/store.go` of etcd 3.6).
//!
//! Doors authenticate: they check passwords, certificates and tokens. The state authorises: at apply for writes, in the reader's view for
//! reads. A password is kept as the hash that a door made of it; the state never looks into it.

mod authorise;
mod change;
mod rights;
mod signing;

#[cfg(test)]
mod tests;

use bytes::Bytes;
pub use change::*;
use prost::Message;
use rights::Rights;
pub use signing::*;
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_64;

/// The user that must exist before authentication can be on, and the role that may do everything.
pub const ROOT: &str = "root";

/// Why a change of users and roles, or a request of a user, was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum AuthRejection {
    /// Authentication cannot be switched on without the user `root`.
    RootUserNotExist = 0,
    /// Authentication cannot be switched on: the user `root` lacks the role `root`.
    RootRoleNotExist = 1,
    /// The user's name is taken.
    UserAlreadyExists = 2,
    /// A user's name is missing, or the request came without a user.
    UserEmpty = 3,
    /// No such user.
    UserNotFound = 4,
    /// The role's name is taken.
    RoleAlreadyExists = 5,
    /// No such role.
    RoleNotFound = 6,
    /// A role's name is missing.
    RoleEmpty = 7,
    /// The request names no permission.
    PermissionNotGiven = 8,
    /// The user may not do this.
    PermissionDenied = 9,
    /// The user does not have the role.
    RoleNotGranted = 10,
    /// The role does not have the permission.
    PermissionNotGranted = 11,
    /// It would leave nobody in charge, or the range of a permission is empty.
    InvalidManagement = 12,
    /// Users or roles changed since the request was let in.
    OldRevision = 13,
}

/// A user as it is kept.
#[derive(Clone, PartialEq, prost::Message)]
pub struct User {
    /// The hash a door made of the password; empty if none can match.
    #[prost(bytes = "bytes", tag = "1")]
    pub password_hash: Bytes,
    /// It comes in by certificate only.
    #[prost(bool, tag = "2")]
    pub no_password: bool,
    /// The roles it has, ascending.
    #[prost(btree_map = "string, message", tag = "3")]
    roles: BTreeMap<String, ()>,
    /// Revision of the store at which its password was set: older tokens are void.
    #[prost(uint64, tag = "4")]
    pub password_revision: u64,
}

impl User {
    /// The names of its roles, ascending.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.roles.keys().map(String::as_str)
    }

    /// It has this role.
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.contains_key(role)
    }
}

/// A role as it is kept: its permissions in order of key and range end.
#[derive(Clone, PartialEq, prost::Message)]
struct Role {
    #[prost(message, repeated, tag = "1")]
    permissions: Vec<Permission>,
}

/// All of it, as it stands in a snapshot.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Store {
    #[prost(bool, tag = "1")]
    enabled: bool,
    #[prost(uint64, tag = "2")]
    revision: u64,
    #[prost(bytes = "bytes", tag = "3")]
    token_key: Bytes,
    #[prost(btree_map = "string, message", tag = "4")]
    users: BTreeMap<String, User>,
    #[prost(btree_map = "string, message", tag = "5")]
    roles: BTreeMap<String, Role>,
    #[prost(bytes = "bytes", tag = "6")]
    signing_seed: Bytes,
    #[prost(message, repeated, tag = "7")]
    retired_keys: Vec<RetiredKey>,
}

/// Users, roles and permissions.
#[derive(Clone)]
pub struct Auth {
    store: Store,
    /// What each user may do, from all its roles.
    rights: BTreeMap<String, Rights>,
    hash: u64,
}

/// On whose behalf a request runs.
#[derive(Clone, Copy, Debug)]
pub struct Principal<'a> {
    /// The user; empty if nobody was named.
    pub user: &'a str,
    /// Revision of the store when the user was let in; 0 if nobody was.
    pub revision: u64,
}

/// A [`Principal`] that outlives the request it came with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// See [`Principal::user`].
    pub user: String,
    /// See [`Principal::revision`].
    pub revision: u64,
}

impl Caller {
    /// Nobody was named.
    #[must_use]
    pub fn is_nobody(&self) -> bool {
        self.user.is_empty()
    }

    /// Borrows it.
    #[must_use]
    pub fn principal(&self) -> Principal<'_> {
        Principal {
            user: &self.user,
            revision: self.revision,
        }
    }
}

impl Default for Auth {
    fn default() -> Auth {
        // etcd's store begins at 1: 0 is the revision of a request without a user.
        Auth::from_store(Store {
            revision: 1,
            ..Store::default()
        })
    }
}

impl Auth {
    pub(crate) fn from_store(store: Store) -> Auth {
        let mut auth = Auth {
            store,
            rights: BTreeMap::new(),
            hash: 0,
        };
        auth.refresh();
        auth
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Differs after every change; equal on all members at equal index.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Requests need a user.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.store.enabled
    }

    /// Raised by every change.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.store.revision
    }

    /// What tokens are signed with; empty while authentication is off.
    #[must_use]
    pub fn token_key(&self) -> &Bytes {
        &self.store.token_key
    }

    /// The seed of the key that fencing tokens are signed with; empty until somebody wanted one signed.
    #[must_use]
    pub fn signing_seed(&self) -> &Bytes {
        &self.store.signing_seed
    }

    /// The keys that signed before it and still verify, unless their time is over; the oldest first.
    #[must_use]
    pub fn retired_keys(&self) -> &[RetiredKey] {
        &self.store.retired_keys
    }

    /// A user.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<&User> {
        self.store.users.get(name)
    }

    /// The names of all users, ascending.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.store.users.keys().map(String::as_str)
    }

    /// The names of all roles, ascending.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.store.roles.keys().map(String::as_str)
    }

    /// The permissions of a role. The role `root` has all, and need not exist to be given to users.
    ///
    /// # Errors
    /// There is no such role.
    pub fn permissions(&self, role: &str) -> Result<Vec<Permission>, AuthRejection> {
        match self.store.roles.get(role) {
            Some(_) if role == ROOT => Ok(vec![Permission::everything()]),
            Some(role) => Ok(role.permissions.clone()),
            None => Err(AuthRejection::RoleNotFound),
        }
    }

    /// Whether the principal may read, or write, all keys of a range.
    ///
    /// # Errors
    /// It may not; see [`AuthRejection`].
    pub fn check_range(
        &self,
        principal: Principal<'_>,
        kind: PermissionKind,
        key: &[u8],
        range_end: &[u8],
    ) -> Result<(), AuthRejection> {
        let Some(user) = self.admitted(principal)? else {
            return Ok(());
        };
        let end = mutated!(RangeEndUnchecked, &[][..], range_end);
        let covered = self
            .rights
            .get(principal.user)
            .is_some_and(|rights| rights.covers(kind, key, end));
        if user.has_role(ROOT) || covered {
            Ok(())
        } else {
            Err(AuthRejection::PermissionDenied)
        }
    }

    /// Whether the principal may change users, roles and the cluster. What it was let in by may be older than the latest change: it is the user as it
    /// is now who must have the role `root`.
    ///
    /// # Errors
    /// It may not; see [`AuthRejection`].
    pub fn check_admin(&self, principal: Principal<'_>) -> Result<(), AuthRejection> {
        if !self.store.enabled {
            return Ok(());
        }
        if principal.user.is_empty() {
            return Err(AuthRejection::UserEmpty);
        }
        let user = self
            .user(principal.user)
            .ok_or(AuthRejection::UserNotFound)?;
        if user.has_role(ROOT) {
            Ok(())
        } else {
            Err(AuthRejection::PermissionDenied)
        }
    }

    /// Whether the principal is a user at all.
    ///
    /// # Errors
    /// It is not; see [`AuthRejection`].
    pub fn check_user(&self, principal: Principal<'_>) -> Result<(), AuthRejection> {
        match self.check_admin(principal) {
            Err(AuthRejection::PermissionDenied) => Ok(()),
            Err(AuthRejection::UserNotFound) => Err(AuthRejection::PermissionDenied),
            checked => checked,
        }
    }

    /// The user of a request for keys; `None` while nobody is asked for one.
    fn admitted(&self, principal: Principal<'_>) -> Result<Option<&User>, AuthRejection> {
        if !self.store.enabled {
            return Ok(None);
        }
        if principal.user.is_empty() || principal.revision == 0 {
            return Err(AuthRejection::UserEmpty);
        }
        if principal.revision < self.store.revision {
            return Err(AuthRejection::OldRevision);
        }
        self.user(principal.user)
            .map(Some)
            .ok_or(AuthRejection::PermissionDenied)
    }

    /// Applies a change.
    ///
    /// # Errors
    /// It was refused; nothing changed.
    pub(crate) fn apply(&mut self, change: &AuthChange) -> Result<(), AuthRejection> {
        let Some(operation) = &change.operation else {
            return Err(AuthRejection::InvalidManagement);
        };
        if self.store.change(operation)? {
            self.store.revision += 1;
        }
        mutated!(
            RevokedStaysCached,
            if matches!(
                operation,
                AuthOperation::UserRevokeRole(_) | AuthOperation::RoleRevokePermission(_)
            ) {
                return Ok(());
            }
        );
        self.refresh();
        Ok(())
    }

    /// Goes on in another cluster: at this revision, and with this key for tokens if they are in use. Tokens of before are void by both.
    pub(crate) fn restart(&mut self, revision: u64, token_key: &Bytes) {
        assert!(
            revision >= self.store.revision,
            "the revision of users regressed: {} → {revision}",
            self.store.revision
        );
        self.store.revision = revision;
        if self.store.enabled {
            self.store.token_key = token_key.clone();
        }
        self.refresh();
    }

    /// Finds anew what follows from the store.
    fn refresh(&mut self) {
        let roles = &self.store.roles;
        self.rights = self
            .store
            .users
            .iter()
            .map(|(name, user)| {
                let permissions = user.roles().filter_map(|role| roles.get(role));
                let rights = Rights::new(permissions.flat_map(|role| &role.permissions));
                (name.clone(), rights)
            })
            .collect();
        self.hash = xxh3_64(&self.store.encode_to_vec());
    }
}

impl Store {
    /// Applies a change; whether it raises the revision.
    fn change(&mut self, operation: &AuthOperation) -> Result<bool, AuthRejection> {
        match operation {
            AuthOperation::Enable(enable) => return self.enable(&enable.token_key),
            AuthOperation::Disable(_) => {
                // Tokens of before are void when it is switched on again.
                self.token_key.clear();
                return Ok(std::mem::take(&mut self.enabled));
            }
            AuthOperation::UserAdd(add) => {
                if add.user.is_empty() {
                    return Err(AuthRejection::UserEmpty);
                }
                if self.users.contains_key(&add.user) {
                    return Err(AuthRejection::UserAlreadyExists);
                }
                let user = User {
                    password_hash: add.password_hash.clone(),
                    no_password: add.no_password,
                    roles: BTreeMap::new(),
                    password_revision: self.revision + 1,
                };
                self.users.insert(add.user.clone(), user);
            }
            AuthOperation::UserDelete(delete) => {
                self.spare_root(&delete.user)?;
                self.users
                    .remove(&delete.user)
                    .ok_or(AuthRejection::UserNotFound)?;
            }
            AuthOperation::UserPassword(change) => {
                let revision = self.revision + 1;
                let user = self.user_mut(&change.user)?;
                if !user.no_password {
                    user.password_hash = change.password_hash.clone();
                }
                user.password_revision = revision;
            }
            AuthOperation::UserGrantRole(grant) => {
                let known = grant.role == ROOT || self.roles.contains_key(&grant.role);
                let user = self.user_mut(&grant.user)?;
                if !known {
                    return Err(AuthRejection::RoleNotFound);
                }
                if user.roles.insert(grant.role.clone(), ()).is_some() {
                    return Ok(false);
                }
            }
            AuthOperation::UserRevokeRole(revoke) => {
                if revoke.role == ROOT {
                    self.spare_root(&revoke.user)?;
                }
                self.user_mut(&revoke.user)?
                    .roles
                    .remove(&revoke.role)
                    .ok_or(AuthRejection::RoleNotGranted)?;
            }
            AuthOperation::RoleAdd(add) => {
                if add.role.is_empty() {
                    return Err(AuthRejection::RoleEmpty);
                }
                if self.roles.contains_key(&add.role) {
                    return Err(AuthRejection::RoleAlreadyExists);
                }
                self.roles.insert(add.role.clone(), Role::default());
            }
            AuthOperation::RoleDelete(delete) => {
                self.spare_root(&delete.role)?;
                self.roles
                    .remove(&delete.role)
                    .ok_or(AuthRejection::RoleNotFound)?;
                for user in self.users.values_mut() {
                    user.roles.remove(&delete.role);
                }
            }
            AuthOperation::RoleGrantPermission(grant) => {
                let permission = grant
                    .permission
                    .as_ref()
                    .ok_or(AuthRejection::PermissionNotGiven)?;
                if !permission.is_valid() {
                    return Err(AuthRejection::InvalidManagement);
                }
                let permissions = &mut self.role_mut(&grant.role)?.permissions;
                match permissions.binary_search_by(|known| known.range().cmp(&permission.range())) {
                    Ok(at) => permissions[at] = permission.clone(),
                    Err(at) => permissions.insert(at, permission.clone()),
                }
            }
            AuthOperation::RoleRevokePermission(revoke) => {
                let range = (&revoke.key[..], &revoke.range_end[..]);
                let permissions = &mut self.role_mut(&revoke.role)?.permissions;
                let at = permissions
                    .binary_search_by(|known| known.range().cmp(&range))
                    .map_err(|_| AuthRejection::PermissionNotGranted)?;
                permissions.remove(at);
            }
            AuthOperation::DrawSigningSeed(draw) => {
                self.draw_signing_seed(&draw.seed)?;
                return Ok(false);
            }
            AuthOperation::RotateSigningSeed(rotate) => {
                self.rotate_signing_seed(rotate)?;
                return Ok(false);
            }
            AuthOperation::DropVerifyingKey(key) => {
                self.drop_verifying_key(&key.public);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Switches authentication on. Like etcd, this raises no revision: who was let in before stays.
    fn enable(&mut self, token_key: &Bytes) -> Result<bool, AuthRejection> {
        if self.enabled {
            return Ok(false);
        }
        let root = self
            .users
            .get(ROOT)
            .ok_or(AuthRejection::RootUserNotExist)?;
        if !root.has_role(ROOT) {
            return Err(AuthRejection::RootRoleNotExist);
        }
        self.token_key = token_key.clone();
        self.enabled = true;
        Ok(false)
    }

    /// Refuses to touch what would leave nobody in charge while authentication is on.
    fn spare_root(&self, name: &str) -> Result<(), AuthRejection> {
        if self.enabled && name == ROOT {
            Err(AuthRejection::InvalidManagement)
        } else {
            Ok(())
        }
    }

    fn user_mut(&mut self, name: &str) -> Result<&mut User, AuthRejection> {
        self.users.get_mut(name).ok_or(AuthRejection::UserNotFound)
    }

    fn role_mut(&mut self, name: &str) -> Result<&mut Role, AuthRejection> {
        self.roles.get_mut(name).ok_or(AuthRejection::RoleNotFound)
    }
}
