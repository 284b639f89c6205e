//! The requests of the script.

use proto::authpb::Permission;
use proto::authpb::permission::Type;
use proto::etcdserverpb as pb;

/// A user to make.
pub fn user(name: &str, password: &str) -> pb::AuthUserAddRequest {
    pb::AuthUserAddRequest {
        name: name.into(),
        password: password.into(),
        ..Default::default()
    }
}

/// A user to remove.
pub fn delete_user(name: &str) -> pb::AuthUserDeleteRequest {
    pb::AuthUserDeleteRequest { name: name.into() }
}

/// A role to make.
pub fn role(name: &str) -> pb::AuthRoleAddRequest {
    pb::AuthRoleAddRequest { name: name.into() }
}

/// A role to remove.
pub fn role_to_delete(role: &str) -> pb::AuthRoleDeleteRequest {
    pb::AuthRoleDeleteRequest { role: role.into() }
}

/// A role for a user.
pub fn grant_role(user: &str, role: &str) -> pb::AuthUserGrantRoleRequest {
    pb::AuthUserGrantRoleRequest {
        user: user.into(),
        role: role.into(),
    }
}

/// A role to take from a user.
pub fn revoke_role(name: &str, role: &str) -> pb::AuthUserRevokeRoleRequest {
    pb::AuthUserRevokeRoleRequest {
        name: name.into(),
        role: role.into(),
    }
}

/// A permission for a role.
pub fn grant(role: &str, kind: Type, key: &str, end: &str) -> pb::AuthRoleGrantPermissionRequest {
    pb::AuthRoleGrantPermissionRequest {
        name: role.into(),
        perm: Some(Permission {
            perm_type: kind.into(),
            key: key.to_owned().into(),
            range_end: end.to_owned().into(),
        }),
    }
}

/// A permission to take from a role.
pub fn revoke(role: &str, key: &str, end: &str) -> pb::AuthRoleRevokePermissionRequest {
    pb::AuthRoleRevokePermissionRequest {
        role: role.into(),
        key: key.to_owned().into(),
        range_end: end.to_owned().into(),
    }
}

/// Asks for a user.
pub fn get_user(name: &str) -> pb::AuthUserGetRequest {
    pb::AuthUserGetRequest { name: name.into() }
}

/// Asks for a role.
pub fn get_role(role: &str) -> pb::AuthRoleGetRequest {
    pb::AuthRoleGetRequest { role: role.into() }
}

/// Another password, or its hash, for a user.
pub fn password(name: &str, password: &str, hashed: &str) -> pb::AuthUserChangePasswordRequest {
    pb::AuthUserChangePasswordRequest {
        name: name.into(),
        password: password.into(),
        hashed_password: hashed.into(),
    }
}

/// A put, on a lease if it is not 0.
pub fn put(key: &str, lease: i64) -> pb::PutRequest {
    pb::PutRequest {
        key: key.to_owned().into(),
        value: "v".into(),
        lease,
        ..Default::default()
    }
}

/// A range of keys.
pub fn range(key: &str, end: &str) -> pb::RangeRequest {
    pb::RangeRequest {
        key: key.to_owned().into(),
        range_end: end.to_owned().into(),
        ..Default::default()
    }
}

/// A removal.
pub fn delete(key: &str, end: &str, prev_kv: bool) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: key.to_owned().into(),
        range_end: end.to_owned().into(),
        prev_kv,
    }
}
