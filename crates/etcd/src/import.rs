//! Reads the contents of an etcd from its bbolt file, which may be anything: a snapshot that `etcdctl` saved, or the `member/snap/db` of a data
//! directory. What is taken are the live keys with their revisions, versions and leases, users, roles and permissions; history is not.
//!
//! The file is gone through twice: once for the newest change of every key and all that is small, once for the values. What is held meanwhile are
//! the live keys without their values.

use crate::bolt::{Damage, Reader, Source};
use crate::export::LeaseRecord;
use bytes::Bytes;
use prost::Message;
use proto::{authpb, mvccpb};
use state::auth::{
    AuthOperation, Enable, Permission, RoleGrantPermission, RoleName, UserAdd, UserRole,
};
use state::{EventView, Import, Raise, Settings, State};
use std::collections::BTreeMap;
use std::fmt;

/// Bytes of a revision, and of one that says that its key was removed.
const REVISION_BYTES: usize = 17;
const REMOVED_BYTES: usize = REVISION_BYTES + 1;
/// Longest time to live that etcd grants, in seconds.
const TTL_MAX: i64 = 9_000_000_000;

#[cfg(test)]
mod tests;

/// Why a file cannot be taken. The text says what is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportError(pub String);

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ImportError {}

impl From<Damage> for ImportError {
    fn from(damage: Damage) -> ImportError {
        ImportError(damage.to_string())
    }
}

/// What an etcd held.
pub struct Imported {
    /// Its contents as the first state of a cluster of ours.
    pub state: State,
    /// Its newest revision.
    pub revision: i64,
    /// The oldest revision it could still read; 0 before the first compaction.
    pub compacted: i64,
    /// Index and term of its log.
    pub index: u64,
    /// See there.
    pub term: u64,
    /// Keys that named a lease which was gone.
    pub adrift: u64,
}

/// Reads a file, as the first state of a new cluster ([`State::restore`]).
///
/// # Errors
/// It is damaged, or no file of etcd's.
pub fn import<S: Source + ?Sized>(
    source: &S,
    settings: Settings,
    raise: Raise,
    token_key: &Bytes,
) -> Result<Imported, ImportError> {
    let reader = Reader::open(source)?;
    let mut found = Found::default();
    reader.walk(|bucket, key, value| found.take(bucket, key, value))?;
    if !found.is_etcds && found.last.is_none() {
        return Err(ImportError(
            "the bbolt file has none of etcd's buckets".into(),
        ));
    }
    let revision = found.revision.max(found.compacted).max(1);
    let mut import = Import::new(settings, revision).map_err(ImportError)?;
    for (&id, &ttl) in &found.leases {
        import.lease(id, ttl as u64 * 1000).map_err(ImportError)?;
    }
    reader.walk(|bucket, key, value| match bucket {
        b"key" if !value.is_empty() => found.take_live(&mut import, key, value),
        _ => Ok(()),
    })?;
    import
        .auth(found.auth_changes(token_key), found.auth_revision)
        .map_err(|(change, why)| {
            ImportError(format!(
                "users and roles: {change:?} makes no sense: {why:?}"
            ))
        })?;
    let adrift = import.adrift();
    let state = import
        .finish(found.index, raise, token_key)
        .map_err(|full| ImportError(full.to_string()))?;
    Ok(Imported {
        state,
        adrift,
        revision,
        compacted: found.compacted,
        index: found.index,
        term: found.term.max(1),
    })
}

/// What the first walk finds.
#[derive(Default)]
struct Found {
    /// Place of the newest change of every live key.
    live: BTreeMap<Vec<u8>, Place>,
    last: Option<Place>,
    revision: i64,
    compacted: i64,
    index: u64,
    term: u64,
    leases: BTreeMap<i64, i64>,
    users: Vec<authpb::User>,
    roles: Vec<authpb::Role>,
    auth_enabled: bool,
    auth_revision: u64,
    /// Something of etcd's own was there.
    is_etcds: bool,
}

/// A revision, and the place of a change within it.
type Place = (i64, i64);

impl Found {
    fn take(&mut self, bucket: &[u8], key: &[u8], value: &[u8]) -> Result<(), ImportError> {
        match bucket {
            b"key" => self.take_change(key, value),
            b"lease" => self.take_lease(key, value),
            b"authUsers" => {
                self.users.push(decode("a user", value)?);
                Ok(())
            }
            b"authRoles" => {
                self.roles.push(decode("a role", value)?);
                Ok(())
            }
            b"auth" => match key {
                b"authEnabled" => {
                    self.auth_enabled = value == [1];
                    Ok(())
                }
                b"authRevision" => {
                    self.auth_revision = number("the revision of users", value)?;
                    Ok(())
                }
                _ => Ok(()),
            },
            b"meta" => self.take_meta(key, value),
            // Members and alarms are those of the old cluster.
            _ => Ok(()),
        }
    }

    fn take_meta(&mut self, key: &[u8], value: &[u8]) -> Result<(), ImportError> {
        match key {
            b"consistent_index" => self.index = number("the log's index", value)?,
            b"term" => self.term = number("the log's term", value)?,
            b"scheduledCompactRev" | b"finishedCompactRev" => {
                let ((revision, _), _) = place(value)?;
                self.compacted = self.compacted.max(revision);
            }
            _ => return Ok(()),
        }
        self.is_etcds = true;
        Ok(())
    }

    fn take_change(&mut self, key: &[u8], value: &[u8]) -> Result<(), ImportError> {
        let (place, removed) = place(key)?;
        if self.last.is_some_and(|last| place <= last) {
            return Err(ImportError(format!(
                "revision {}/{} comes after {:?}",
                place.0, place.1, self.last
            )));
        }
        self.last = Some(place);
        self.revision = self.revision.max(place.0);
        // `etcdutl snapshot restore --bump-revision` leaves a revision without a change.
        if value.is_empty() {
            return Ok(());
        }
        let change: mvccpb::KeyValue = decode("a change", value)?;
        if removed {
            self.live.remove(&change.key[..]);
        } else if change.mod_revision == place.0 && !change.key.is_empty() {
            self.live.insert(change.key.to_vec(), place);
        } else {
            return Err(ImportError(format!(
                "the change at revision {}/{} says that it is of {}",
                place.0, place.1, change.mod_revision
            )));
        }
        Ok(())
    }

    fn take_live(&self, import: &mut Import, key: &[u8], value: &[u8]) -> Result<(), ImportError> {
        let (place, _) = place(key)?;
        let change: mvccpb::KeyValue = decode("a change", value)?;
        if self.live.get(&change.key[..]) != Some(&place) {
            return Ok(());
        }
        import
            .key(&EventView {
                revision: change.mod_revision,
                deleted: false,
                key: &change.key,
                value: &change.value,
                create_revision: change.create_revision,
                version: change.version,
                lease: change.lease,
            })
            .map_err(ImportError)
    }

    fn take_lease(&mut self, key: &[u8], value: &[u8]) -> Result<(), ImportError> {
        let id = number("a lease's id", key)? as i64;
        let LeaseRecord { id: told, ttl } = decode("a lease", value)?;
        if id != told || !(1..=TTL_MAX).contains(&ttl) {
            return Err(ImportError(format!(
                "lease {id:x} says that it is {told:x}, of {ttl} seconds"
            )));
        }
        self.leases.insert(id, ttl);
        Ok(())
    }

    /// The changes that make these users and roles.
    fn auth_changes(&self, token_key: &Bytes) -> Vec<AuthOperation> {
        let mut changes = Vec::new();
        for role in &self.roles {
            let name = String::from_utf8_lossy(&role.name).into_owned();
            changes.push(AuthOperation::RoleAdd(RoleName { role: name.clone() }));
            for permission in &role.key_permission {
                let permission = Permission {
                    kind: permission.perm_type,
                    key: permission.key.clone(),
                    range_end: permission.range_end.clone(),
                };
                changes.push(AuthOperation::RoleGrantPermission(RoleGrantPermission {
                    role: name.clone(),
                    permission: Some(permission),
                }));
            }
        }
        for user in &self.users {
            let name = String::from_utf8_lossy(&user.name).into_owned();
            changes.push(AuthOperation::UserAdd(UserAdd {
                user: name.clone(),
                password_hash: user.password.clone(),
                no_password: user.options.is_some_and(|options| options.no_password),
            }));
            for role in &user.roles {
                changes.push(AuthOperation::UserGrantRole(UserRole {
                    user: name.clone(),
                    role: role.clone(),
                }));
            }
        }
        if self.auth_enabled {
            changes.push(AuthOperation::Enable(Enable {
                token_key: token_key.clone(),
            }));
        }
        changes
    }
}

fn decode<M: Message + Default>(what: &str, value: &[u8]) -> Result<M, ImportError> {
    M::decode(value).map_err(|error| ImportError(format!("{what} cannot be read: {error}")))
}

fn number(what: &str, bytes: &[u8]) -> Result<u64, ImportError> {
    let bytes = bytes
        .try_into()
        .map_err(|_| ImportError(format!("{what} has {} bytes, not 8", bytes.len())))?;
    Ok(u64::from_be_bytes(bytes))
}

/// Reads a revision; whether it says that its key was removed.
fn place(bytes: &[u8]) -> Result<(Place, bool), ImportError> {
    let removed = bytes.len() == REMOVED_BYTES && bytes[REVISION_BYTES] == b't';
    if bytes.len() != REVISION_BYTES && !removed || bytes[8] != b'_' {
        return Err(ImportError(format!("{bytes:02x?} is no revision")));
    }
    let word = |at: usize| i64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let place = (word(0), word(9));
    if place.0 < 1 || place.1 < 0 {
        return Err(ImportError(format!("{place:?} is no revision")));
    }
    Ok((place, removed))
}
