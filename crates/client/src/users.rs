//! Calls about users, roles and permissions.

use crate::{Answer, Client, ClientError, Kind};
use proto::etcdserverpb as pb;
use proto::etcdserverpb::auth_client::AuthClient;

/// A call that takes a message and gives one.
macro_rules! calls {
    ($($(#[$doc:meta])* $kind:ident $call:ident($request:ident) -> $answer:ident)*) => {
        impl Client {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// See [`ClientError`].
                pub async fn $call(
                    &self,
                    request: pb::$request,
                ) -> Result<Answer<pb::$answer>, ClientError> {
                    self.unary(Kind::$kind, request, async |channel, request| {
                        AuthClient::new(channel).$call(request).await
                    })
                    .await
                }
            )*
        }
    };
}

calls! {
    /// Switches authentication on.
    Change auth_enable(AuthEnableRequest) -> AuthEnableResponse
    /// Switches it off.
    Change auth_disable(AuthDisableRequest) -> AuthDisableResponse
    /// Whether it is on.
    Read auth_status(AuthStatusRequest) -> AuthStatusResponse
    /// Gives a token for a name and a password.
    Read authenticate(AuthenticateRequest) -> AuthenticateResponse
    /// Makes a user.
    Change user_add(AuthUserAddRequest) -> AuthUserAddResponse
    /// The roles of a user.
    Read user_get(AuthUserGetRequest) -> AuthUserGetResponse
    /// All users.
    Read user_list(AuthUserListRequest) -> AuthUserListResponse
    /// Removes a user.
    Change user_delete(AuthUserDeleteRequest) -> AuthUserDeleteResponse
    /// Gives a user another password; its tokens are void.
    Change user_change_password(AuthUserChangePasswordRequest) -> AuthUserChangePasswordResponse
    /// Gives a user a role.
    Change user_grant_role(AuthUserGrantRoleRequest) -> AuthUserGrantRoleResponse
    /// Takes a role from a user.
    Change user_revoke_role(AuthUserRevokeRoleRequest) -> AuthUserRevokeRoleResponse
    /// Makes a role.
    Change role_add(AuthRoleAddRequest) -> AuthRoleAddResponse
    /// The permissions of a role.
    Read role_get(AuthRoleGetRequest) -> AuthRoleGetResponse
    /// All roles.
    Read role_list(AuthRoleListRequest) -> AuthRoleListResponse
    /// Removes a role.
    Change role_delete(AuthRoleDeleteRequest) -> AuthRoleDeleteResponse
    /// Gives a role a permission.
    Change role_grant_permission(AuthRoleGrantPermissionRequest) -> AuthRoleGrantPermissionResponse
    /// Takes a permission from a role.
    Change role_revoke_permission(AuthRoleRevokePermissionRequest) -> AuthRoleRevokePermissionResponse
}
