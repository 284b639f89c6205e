//! Changes of users, roles and permissions, as they stand in the log.

use super::{DrawSigningSeed, DropVerifyingKey, RotateSigningSeed};
use bytes::Bytes;

/// One change.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AuthChange {
    /// Which.
    #[prost(
        oneof = "AuthOperation",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14"
    )]
    pub operation: Option<AuthOperation>,
}

/// The kinds of changes.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum AuthOperation {
    /// Requests need a user from now on.
    #[prost(message, tag = "1")]
    Enable(Enable),
    /// They need none any more.
    #[prost(message, tag = "2")]
    Disable(Disable),
    /// Makes a user.
    #[prost(message, tag = "3")]
    UserAdd(UserAdd),
    /// Removes a user.
    #[prost(message, tag = "4")]
    UserDelete(UserDelete),
    /// Gives a user another password; its tokens are void.
    #[prost(message, tag = "5")]
    UserPassword(UserPassword),
    /// Gives a user a role.
    #[prost(message, tag = "6")]
    UserGrantRole(UserRole),
    /// Takes a role from a user.
    #[prost(message, tag = "7")]
    UserRevokeRole(UserRole),
    /// Makes a role.
    #[prost(message, tag = "8")]
    RoleAdd(RoleName),
    /// Removes a role, from all users as well.
    #[prost(message, tag = "9")]
    RoleDelete(RoleName),
    /// Gives a role a permission, or another kind of it.
    #[prost(message, tag = "10")]
    RoleGrantPermission(RoleGrantPermission),
    /// Takes a permission from a role.
    #[prost(message, tag = "11")]
    RoleRevokePermission(RoleRevokePermission),
    /// Gives the cell a key to sign fencing tokens with, if it has none.
    #[prost(message, tag = "12")]
    DrawSigningSeed(DrawSigningSeed),
    /// Gives the cell another key to sign fencing tokens with; the one before may go on verifying.
    #[prost(message, boxed, tag = "13")]
    RotateSigningSeed(Box<RotateSigningSeed>),
    /// A key of before verifies no more.
    #[prost(message, tag = "14")]
    DropVerifyingKey(DropVerifyingKey),
}

/// See [`AuthOperation::Enable`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Enable {
    /// What tokens are to be signed with; random, from the member that proposes. Not used if authentication is on already.
    #[prost(bytes = "bytes", tag = "1")]
    pub token_key: Bytes,
}

/// See [`AuthOperation::Disable`].
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Disable {}

/// See [`AuthOperation::UserAdd`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct UserAdd {
    /// The user.
    #[prost(string, tag = "1")]
    pub user: String,
    /// The hash of its password.
    #[prost(bytes = "bytes", tag = "2")]
    pub password_hash: Bytes,
    /// It comes in by certificate only.
    #[prost(bool, tag = "3")]
    pub no_password: bool,
}

/// See [`AuthOperation::UserDelete`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct UserDelete {
    /// The user.
    #[prost(string, tag = "1")]
    pub user: String,
}

/// See [`AuthOperation::UserPassword`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct UserPassword {
    /// The user.
    #[prost(string, tag = "1")]
    pub user: String,
    /// The hash of its new password.
    #[prost(bytes = "bytes", tag = "2")]
    pub password_hash: Bytes,
}

/// A user and a role.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UserRole {
    /// The user.
    #[prost(string, tag = "1")]
    pub user: String,
    /// The role.
    #[prost(string, tag = "2")]
    pub role: String,
}

/// A role.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RoleName {
    /// Its name.
    #[prost(string, tag = "1")]
    pub role: String,
}

/// See [`AuthOperation::RoleGrantPermission`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct RoleGrantPermission {
    /// The role.
    #[prost(string, tag = "1")]
    pub role: String,
    /// What it may do.
    #[prost(message, optional, tag = "2")]
    pub permission: Option<Permission>,
}

/// See [`AuthOperation::RoleRevokePermission`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct RoleRevokePermission {
    /// The role.
    #[prost(string, tag = "1")]
    pub role: String,
    /// First key of the permission's range.
    #[prost(bytes = "bytes", tag = "2")]
    pub key: Bytes,
    /// Its end, as it was given.
    #[prost(bytes = "bytes", tag = "3")]
    pub range_end: Bytes,
}

/// What may be done with a range of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum PermissionKind {
    /// Read them.
    Read = 0,
    /// Change them.
    Write = 1,
    /// Both.
    ReadWrite = 2,
}

/// A right over a range of keys.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Permission {
    /// What may be done; etcd's numbers.
    #[prost(enumeration = "PermissionKind", tag = "1")]
    pub kind: i32,
    /// First key.
    #[prost(bytes = "bytes", tag = "2")]
    pub key: Bytes,
    /// First key after the range: empty is the single key, one zero byte is "from key on".
    #[prost(bytes = "bytes", tag = "3")]
    pub range_end: Bytes,
}

impl Permission {
    /// What the role `root` has.
    pub(super) fn everything() -> Permission {
        Permission {
            kind: PermissionKind::ReadWrite as i32,
            key: Bytes::new(),
            range_end: Bytes::from_static(&[0]),
        }
    }

    /// Its range names at least one key.
    pub(super) fn is_valid(&self) -> bool {
        let open = self.range_end.is_empty() || self.range_end[..] == [0];
        !self.key.is_empty() && (open || self.key < self.range_end)
    }

    pub(super) fn range(&self) -> (&[u8], &[u8]) {
        (&self.key, &self.range_end)
    }
}
