//! Requests about users, roles and permissions: changes of them as commands, and what is known of them as messages.
//!
//! Who asks, and whether the password is right, the server finds out; a password arrives here as the hash it made.

use crate::Status;
use crate::kv::{Change, change};
use bytes::Bytes;
use proto::authpb;
use proto::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGetRequest, AuthRoleGetResponse,
    AuthRoleGrantPermissionRequest, AuthRoleListResponse, AuthRoleRevokePermissionRequest,
    AuthStatusResponse, AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest,
    AuthUserGetRequest, AuthUserGetResponse, AuthUserGrantRoleRequest, AuthUserListResponse,
    AuthUserRevokeRoleRequest,
};
use state::Operation;
use state::auth::{
    Auth, AuthChange, AuthOperation, AuthRejection, Disable, Enable, Permission, Principal,
    RoleGrantPermission, RoleName, RoleRevokePermission, UserAdd, UserDelete, UserPassword,
    UserRole,
};

fn auth_change(operation: AuthOperation) -> Change {
    change(Operation::Auth(AuthChange {
        operation: Some(operation),
    }))
}

/// Switches authentication on. `token_key` is random, from the shell; it is not used if there is a key already.
pub fn auth_enable(token_key: Bytes) -> Change {
    auth_change(AuthOperation::Enable(Enable { token_key }))
}

/// Switches authentication off.
pub fn auth_disable() -> Change {
    auth_change(AuthOperation::Disable(Disable {}))
}

/// Makes a user. `password_hash` is of the request's password, empty if the user is to have none.
pub fn user_add(request: AuthUserAddRequest, password_hash: Bytes) -> Change {
    auth_change(AuthOperation::UserAdd(UserAdd {
        user: request.name,
        password_hash,
        no_password: request.options.is_some_and(|options| options.no_password),
    }))
}

/// Removes a user.
pub fn user_delete(request: AuthUserDeleteRequest) -> Change {
    auth_change(AuthOperation::UserDelete(UserDelete { user: request.name }))
}

/// Gives a user another password, of which this is the hash.
pub fn user_change_password(
    request: AuthUserChangePasswordRequest,
    password_hash: Bytes,
) -> Change {
    auth_change(AuthOperation::UserPassword(UserPassword {
        user: request.name,
        password_hash,
    }))
}

/// Gives a user a role.
pub fn user_grant_role(request: AuthUserGrantRoleRequest) -> Change {
    auth_change(AuthOperation::UserGrantRole(UserRole {
        user: request.user,
        role: request.role,
    }))
}

/// Takes a role from a user.
pub fn user_revoke_role(request: AuthUserRevokeRoleRequest) -> Change {
    auth_change(AuthOperation::UserRevokeRole(UserRole {
        user: request.name,
        role: request.role,
    }))
}

/// Makes a role.
pub fn role_add(request: AuthRoleAddRequest) -> Change {
    auth_change(AuthOperation::RoleAdd(RoleName { role: request.name }))
}

/// Removes a role.
pub fn role_delete(request: AuthRoleDeleteRequest) -> Change {
    auth_change(AuthOperation::RoleDelete(RoleName { role: request.role }))
}

/// Gives a role a permission.
pub fn role_grant_permission(request: AuthRoleGrantPermissionRequest) -> Change {
    let permission = request.perm.map(|permission| Permission {
        kind: permission.perm_type,
        key: permission.key,
        range_end: permission.range_end,
    });
    auth_change(AuthOperation::RoleGrantPermission(RoleGrantPermission {
        role: request.name,
        permission,
    }))
}

/// Takes a permission from a role.
pub fn role_revoke_permission(request: AuthRoleRevokePermissionRequest) -> Change {
    auth_change(AuthOperation::RoleRevokePermission(RoleRevokePermission {
        role: request.role,
        key: request.key,
        range_end: request.range_end,
    }))
}

/// Whether authentication is on, and how often users changed.
///
/// # Errors
/// The principal may not know.
pub fn auth_status(auth: &Auth, principal: Principal<'_>) -> Result<AuthStatusResponse, Status> {
    auth.check_admin(principal).map_err(auth_rejection)?;
    Ok(AuthStatusResponse {
        header: None,
        enabled: auth.is_enabled(),
        auth_revision: auth.revision(),
    })
}

/// The roles of a user; everybody may know their own.
///
/// # Errors
/// The principal may not know, or there is no such user.
pub fn user_get(
    auth: &Auth,
    principal: Principal<'_>,
    request: &AuthUserGetRequest,
) -> Result<AuthUserGetResponse, Status> {
    if request.name != principal.user {
        auth.check_admin(principal).map_err(auth_rejection)?;
    }
    let user = auth.user(&request.name).ok_or(Status::USER_NOT_FOUND)?;
    Ok(AuthUserGetResponse {
        header: None,
        roles: user.roles().map(str::to_owned).collect(),
    })
}

/// The names of all users.
///
/// # Errors
/// The principal may not know.
pub fn user_list(auth: &Auth, principal: Principal<'_>) -> Result<AuthUserListResponse, Status> {
    auth.check_admin(principal).map_err(auth_rejection)?;
    Ok(AuthUserListResponse {
        header: None,
        users: auth.users().map(str::to_owned).collect(),
    })
}

/// The permissions of a role; who has it may know them.
///
/// # Errors
/// The principal may not know, or there is no such role.
pub fn role_get(
    auth: &Auth,
    principal: Principal<'_>,
    request: &AuthRoleGetRequest,
) -> Result<AuthRoleGetResponse, Status> {
    let own = auth
        .user(principal.user)
        .is_some_and(|user| user.has_role(&request.role));
    if !own {
        auth.check_admin(principal).map_err(auth_rejection)?;
    }
    let permissions = auth.permissions(&request.role).map_err(auth_rejection)?;
    let message = |permission: Permission| authpb::Permission {
        perm_type: permission.kind,
        key: permission.key,
        range_end: permission.range_end,
    };
    Ok(AuthRoleGetResponse {
        header: None,
        perm: permissions.into_iter().map(message).collect(),
    })
}

/// The names of all roles.
///
/// # Errors
/// The principal may not know.
pub fn role_list(auth: &Auth, principal: Principal<'_>) -> Result<AuthRoleListResponse, Status> {
    auth.check_admin(principal).map_err(auth_rejection)?;
    Ok(AuthRoleListResponse {
        header: None,
        roles: auth.roles().map(str::to_owned).collect(),
    })
}

/// What a client is told when users and permissions stand against it.
pub fn auth_rejection(rejection: AuthRejection) -> Status {
    match rejection {
        AuthRejection::RootUserNotExist => Status::ROOT_USER_NOT_FOUND,
        AuthRejection::RootRoleNotExist => Status::ROOT_ROLE_NOT_FOUND,
        AuthRejection::UserAlreadyExists => Status::USER_EXISTS,
        AuthRejection::UserEmpty => Status::USER_EMPTY,
        AuthRejection::UserNotFound => Status::USER_NOT_FOUND,
        AuthRejection::RoleAlreadyExists => Status::ROLE_EXISTS,
        AuthRejection::RoleNotFound => Status::ROLE_NOT_FOUND,
        AuthRejection::RoleEmpty => Status::ROLE_EMPTY,
        AuthRejection::PermissionNotGiven => Status::PERMISSION_NOT_GIVEN,
        AuthRejection::PermissionDenied => Status::PERMISSION_DENIED,
        AuthRejection::RoleNotGranted => Status::ROLE_NOT_GRANTED,
        AuthRejection::PermissionNotGranted => Status::PERMISSION_NOT_GRANTED,
        AuthRejection::InvalidManagement => Status::INVALID_AUTH_MANAGEMENT,
        AuthRejection::OldRevision => Status::AUTH_OLD_REVISION,
    }
}
