//! The calls about users and roles, and who may make the calls that the state does not authorise itself.

use super::context::Context;
use super::door::{Answered, Door, Outcome, REQUEST_TIMEOUT};
use super::method::{self, Method};
use crate::auth::{check, given_hash};
use bytes::Bytes;
use etcd::auth::{self, auth_rejection};
use etcd::{Change, Code, Header, Read, Status};
use proto::etcdserverpb::{
    AuthDisableRequest, AuthDisableResponse, AuthEnableRequest, AuthEnableResponse,
    AuthRoleAddRequest, AuthRoleAddResponse, AuthRoleDeleteRequest, AuthRoleDeleteResponse,
    AuthRoleGetRequest, AuthRoleGetResponse, AuthRoleGrantPermissionRequest,
    AuthRoleGrantPermissionResponse, AuthRoleListRequest, AuthRoleListResponse,
    AuthRoleRevokePermissionRequest, AuthRoleRevokePermissionResponse, AuthStatusRequest,
    AuthStatusResponse, AuthUserAddRequest, AuthUserAddResponse, AuthUserChangePasswordRequest,
    AuthUserChangePasswordResponse, AuthUserDeleteRequest, AuthUserDeleteResponse,
    AuthUserGetRequest, AuthUserGetResponse, AuthUserGrantRoleRequest, AuthUserGrantRoleResponse,
    AuthUserListRequest, AuthUserListResponse, AuthUserRevokeRoleRequest,
    AuthUserRevokeRoleResponse, AuthenticateRequest, AuthenticateResponse, ResponseHeader,
};
use state::auth::{Auth, Caller, Principal};
use state::{Query, Rejection, Reply};

/// Bytes of the key that tokens are signed with.
const TOKEN_KEY_BYTES: usize = 32;

/// Who may make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The call itself, or the state, says.
    Checked,
    /// Any user.
    User,
    /// Who has the role `root`.
    Admin,
}

impl Rule {
    /// The rule of a call. One that is not named here is for administrators.
    pub fn of(method: Method) -> Rule {
        match method.service {
            "etcdserverpb.KV"
            | "etcdserverpb.Watch"
            | "etcdserverpb.Lease"
            | "etcdserverpb.Auth"
            | "v3lockpb.Lock"
            | "v3electionpb.Election" => Rule::Checked,
            _ if method.is_native() => Rule::Checked,
            _ if [method::MEMBER_LIST, method::LIST_MEMBERS, method::ALARM].contains(&method) => {
                Rule::User
            }
            _ => Rule::Admin,
        }
    }
}

impl Door {
    /// On whose behalf a request runs.
    pub fn caller(&self, context: &Context) -> Result<Caller, Status> {
        self.users.caller(&self.handle.auth(), &context.credentials)
    }

    /// The same, if users or roles have changed since that revision and the request is as good as before.
    pub fn newer(&self, context: &Context, revision: u64) -> Result<Option<Caller>, Status> {
        let caller = self.caller(context)?;
        Ok(Some(caller).filter(|caller| caller.revision > revision))
    }

    /// Holds a request to a rule.
    pub fn admit(&self, rule: Rule, context: &Context) -> Result<(), Status> {
        let rule = match rule {
            Rule::Checked => return Ok(()),
            Rule::User => Auth::check_user,
            Rule::Admin => Auth::check_admin,
        };
        let auth = self.handle.auth();
        let caller = self.users.caller(&auth, &context.credentials)?;
        check(&auth, &caller, rule)
    }

    /// Refuses if the request comes from no user.
    pub fn check_user(&self, context: &Context) -> Result<(), Status> {
        self.admit(Rule::User, context)
    }

    /// Refuses if the request comes from nobody in charge.
    pub fn check_admin(&self, context: &Context) -> Result<(), Status> {
        self.admit(Rule::Admin, context)
    }

    /// Switches authentication on.
    pub async fn auth_enable(
        &self,
        context: &Context,
        _: AuthEnableRequest,
    ) -> Outcome<AuthEnableResponse> {
        let mut key = [0; TOKEN_KEY_BYTES];
        getrandom::fill(&mut key).map_err(|error| {
            let text = format!("no randomness for the key of tokens: {error}");
            Status::new(Code::Internal, text)
        })?;
        let change = auth::auth_enable(Bytes::copy_from_slice(&key));
        self.auth_change(context, change, |header| AuthEnableResponse { header })
            .await
    }

    /// Switches it off.
    pub async fn auth_disable(
        &self,
        context: &Context,
        _: AuthDisableRequest,
    ) -> Outcome<AuthDisableResponse> {
        self.auth_change(context, auth::auth_disable(), |header| {
            AuthDisableResponse { header }
        })
        .await
    }

    /// Whether it is on.
    pub async fn auth_status(
        &self,
        context: &Context,
        _: AuthStatusRequest,
    ) -> Outcome<AuthStatusResponse> {
        self.auth_read(context, auth::auth_status, |answer, header| {
            answer.header = header
        })
        .await
    }

    /// Gives a token for a name and a password.
    pub async fn authenticate(
        &self,
        context: &Context,
        request: AuthenticateRequest,
    ) -> Outcome<AuthenticateResponse> {
        let (header, _, stamp) = self
            .read(&context.anonymous(), POSITION, REQUEST_TIMEOUT)
            .await?;
        let AuthenticateRequest { name, password } = request;
        let auth = || self.handle.auth().clone();
        let token = self.users.authenticate(auth, &name, &password).await?;
        Ok(Answered {
            message: AuthenticateResponse {
                header: Some(header.into()),
                token,
            },
            stamp: Some(stamp),
        })
    }

    /// Makes a user.
    pub async fn user_add(
        &self,
        context: &Context,
        request: AuthUserAddRequest,
    ) -> Outcome<AuthUserAddResponse> {
        // Before the work of hashing; the state checks again.
        self.check_admin(context)?;
        let none = request
            .options
            .as_ref()
            .is_some_and(|options| options.no_password);
        let hash = if none {
            Bytes::new()
        } else {
            self.users.hash(&request.password).await?
        };
        self.auth_change(context, auth::user_add(request, hash), |header| {
            AuthUserAddResponse { header }
        })
        .await
    }

    /// The roles of a user.
    pub async fn user_get(
        &self,
        context: &Context,
        request: AuthUserGetRequest,
    ) -> Outcome<AuthUserGetResponse> {
        self.auth_read(
            context,
            |auth, principal| auth::user_get(auth, principal, &request),
            |answer, header| answer.header = header,
        )
        .await
    }

    /// All users.
    pub async fn user_list(
        &self,
        context: &Context,
        _: AuthUserListRequest,
    ) -> Outcome<AuthUserListResponse> {
        self.auth_read(context, auth::user_list, |answer, header| {
            answer.header = header
        })
        .await
    }

    /// Removes a user.
    pub async fn user_delete(
        &self,
        context: &Context,
        request: AuthUserDeleteRequest,
    ) -> Outcome<AuthUserDeleteResponse> {
        self.auth_change(context, auth::user_delete(request), |header| {
            AuthUserDeleteResponse { header }
        })
        .await
    }

    /// Gives a user another password; as in etcd, an empty one lets the client give the hash.
    pub async fn user_change_password(
        &self,
        context: &Context,
        request: AuthUserChangePasswordRequest,
    ) -> Outcome<AuthUserChangePasswordResponse> {
        self.check_admin(context)?;
        let hash = if request.password.is_empty() {
            given_hash(&request.hashed_password)?
        } else {
            self.users.hash(&request.password).await?
        };
        self.auth_change(
            context,
            auth::user_change_password(request, hash),
            |header| AuthUserChangePasswordResponse { header },
        )
        .await
    }

    /// Gives a user a role.
    pub async fn user_grant_role(
        &self,
        context: &Context,
        request: AuthUserGrantRoleRequest,
    ) -> Outcome<AuthUserGrantRoleResponse> {
        self.auth_change(context, auth::user_grant_role(request), |header| {
            AuthUserGrantRoleResponse { header }
        })
        .await
    }

    /// Takes a role from a user.
    pub async fn user_revoke_role(
        &self,
        context: &Context,
        request: AuthUserRevokeRoleRequest,
    ) -> Outcome<AuthUserRevokeRoleResponse> {
        self.auth_change(context, auth::user_revoke_role(request), |header| {
            AuthUserRevokeRoleResponse { header }
        })
        .await
    }

    /// Makes a role.
    pub async fn role_add(
        &self,
        context: &Context,
        request: AuthRoleAddRequest,
    ) -> Outcome<AuthRoleAddResponse> {
        self.auth_change(context, auth::role_add(request), |header| {
            AuthRoleAddResponse { header }
        })
        .await
    }

    /// The permissions of a role.
    pub async fn role_get(
        &self,
        context: &Context,
        request: AuthRoleGetRequest,
    ) -> Outcome<AuthRoleGetResponse> {
        self.auth_read(
            context,
            |auth, principal| auth::role_get(auth, principal, &request),
            |answer, header| answer.header = header,
        )
        .await
    }

    /// All roles.
    pub async fn role_list(
        &self,
        context: &Context,
        _: AuthRoleListRequest,
    ) -> Outcome<AuthRoleListResponse> {
        self.auth_read(context, auth::role_list, |answer, header| {
            answer.header = header
        })
        .await
    }

    /// Removes a role.
    pub async fn role_delete(
        &self,
        context: &Context,
        request: AuthRoleDeleteRequest,
    ) -> Outcome<AuthRoleDeleteResponse> {
        self.auth_change(context, auth::role_delete(request), |header| {
            AuthRoleDeleteResponse { header }
        })
        .await
    }

    /// Gives a role a permission.
    pub async fn role_grant_permission(
        &self,
        context: &Context,
        request: AuthRoleGrantPermissionRequest,
    ) -> Outcome<AuthRoleGrantPermissionResponse> {
        self.auth_change(context, auth::role_grant_permission(request), |header| {
            AuthRoleGrantPermissionResponse { header }
        })
        .await
    }

    /// Takes a permission from a role.
    pub async fn role_revoke_permission(
        &self,
        context: &Context,
        request: AuthRoleRevokePermissionRequest,
    ) -> Outcome<AuthRoleRevokePermissionResponse> {
        self.auth_change(context, auth::role_revoke_permission(request), |header| {
            AuthRoleRevokePermissionResponse { header }
        })
        .await
    }

    async fn auth_change<A>(
        &self,
        context: &Context,
        change: Change,
        answer: impl FnOnce(Option<ResponseHeader>) -> A,
    ) -> Outcome<A> {
        let (header, reply, stamp) = self.change(context, change).await?;
        match reply {
            Reply::Rejected(Rejection::Auth(rejection)) => Err(auth_rejection(rejection)),
            Reply::Rejected(other) => Err(etcd::rejection(other)),
            _ => Ok(Answered {
                message: answer(Some(header.into())),
                stamp: Some(stamp),
            }),
        }
    }

    /// Answers from users and roles as they are at some time after the call began.
    async fn auth_read<A>(
        &self,
        context: &Context,
        ask: impl FnOnce(&Auth, Principal<'_>) -> Result<A, Status>,
        put_header: impl FnOnce(&mut A, Option<ResponseHeader>),
    ) -> Outcome<A> {
        let (header, _, stamp): (Header, _, _) =
            self.read(context, POSITION, REQUEST_TIMEOUT).await?;
        let auth = self.handle.auth();
        let caller = self.users.caller(&auth, &context.credentials)?;
        let mut message = ask(&auth, caller.principal())?;
        put_header(&mut message, Some(header.into()));
        Ok(Answered {
            message,
            stamp: Some(stamp),
        })
    }
}

/// Wants to know no more than how far the state has come.
const POSITION: Read = Read {
    query: Query::Position,
    serializable: false,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::method::METHODS;

    #[test]
    fn what_changes_the_cluster_is_for_administrators() {
        for method in METHODS {
            let admin = matches!(
                method.service,
                "etcdserverpb.Cluster"
                    | "etcdserverpb.Maintenance"
                    | "synodpb.Members"
                    | "synodpb.Backup"
            ) && !matches!(method.name, "MemberList" | "List" | "Alarm");
            assert_eq!(Rule::of(*method) == Rule::Admin, admin, "{}", method.path);
        }
    }
}
