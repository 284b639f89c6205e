//! `auth enable | disable | status`, `user …` and `role …`.

use crate::output::{Failed, Output, json_head, line, put_bytes};
use crate::password;
use clap::{Args, Subcommand, ValueEnum};
use client::{Answer, Client};
use proto::authpb::permission::Type;
use proto::authpb::{Permission, UserAddOptions};
use proto::etcdserverpb as pb;
use serde_json::{Map, Value};

#[derive(Subcommand)]
pub(crate) enum AuthCommand {
    /// From now on requests need a user; the user root with the role root must exist
    Enable,
    /// Requests need no user any more; all tokens are void
    Disable,
    /// Show whether requests need a user
    Status,
}

const USER_EXAMPLES: &str = "\
Examples:
  synod user add root                        asks for a password
  synod user grant-role root root
  synod user add ann --no-password           comes by certificate only
  synod --user root user list                as root, asks for its password";

#[derive(Subcommand)]
#[command(after_help = USER_EXAMPLES)]
pub(crate) enum UserCommand {
    /// Make a user
    Add(UserAddArgs),
    /// Remove a user; its tokens are void
    Delete(UserArgs),
    /// Show the roles of a user
    Get(UserArgs),
    /// List all users
    List,
    /// Give a user another password; its tokens are void
    Passwd(UserPasswdArgs),
    /// Give a user a role
    GrantRole(UserRoleArgs),
    /// Take a role from a user
    RevokeRole(UserRoleArgs),
}

#[derive(Args)]
pub(crate) struct UserArgs {
    /// The user
    #[arg(value_name = "USER")]
    name: String,
}

#[derive(Args)]
pub(crate) struct UserAddArgs {
    /// The user, with its password after a colon or without, to be asked for it
    #[arg(value_name = "USER[:PASSWORD]")]
    name: String,
    /// Its password
    #[arg(long, value_name = "PASSWORD", conflicts_with = "no_password")]
    new_user_password: Option<String>,
    /// It has no password and comes by certificate only
    #[arg(long)]
    no_password: bool,
}

#[derive(Args)]
pub(crate) struct UserPasswdArgs {
    #[command(flatten)]
    user: UserArgs,
    /// The new password [default: asked for]
    #[arg(long, value_name = "PASSWORD")]
    new_password: Option<String>,
}

#[derive(Args)]
pub(crate) struct UserRoleArgs {
    /// The user
    #[arg(value_name = "USER")]
    user: String,
    /// The role
    #[arg(value_name = "ROLE")]
    role: String,
}

const ROLE_EXAMPLES: &str = "\
Examples:
  synod role add app
  synod role grant-permission app readwrite app/ --prefix
  synod user grant-role ann app";

#[derive(Subcommand)]
#[command(after_help = ROLE_EXAMPLES)]
pub(crate) enum RoleCommand {
    /// Make a role
    Add(RoleArgs),
    /// Remove a role, from all users as well
    Delete(RoleArgs),
    /// Show the permissions of a role
    Get(RoleArgs),
    /// List all roles
    List,
    /// Give a role a permission, or another kind of it
    GrantPermission(GrantArgs),
    /// Take a permission from a role, as it was given
    RevokePermission(RevokeArgs),
}

#[derive(Args)]
pub(crate) struct RoleArgs {
    /// The role
    #[arg(value_name = "ROLE")]
    name: String,
}

/// What may be done with keys.
#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Read,
    Write,
    Readwrite,
}

#[derive(Args)]
pub(crate) struct GrantArgs {
    #[command(flatten)]
    role: RoleArgs,
    /// What it may do with the keys
    #[arg(value_name = "KIND", value_enum)]
    kind: Kind,
    #[command(flatten)]
    range: RangeArgs,
}

#[derive(Args)]
pub(crate) struct RevokeArgs {
    #[command(flatten)]
    role: RoleArgs,
    #[command(flatten)]
    range: RangeArgs,
}

#[derive(Args)]
struct RangeArgs {
    /// The key, or the first one
    #[arg(value_name = "KEY")]
    key: String,
    /// The first key after the range
    #[arg(value_name = "END", conflicts_with_all = ["prefix", "from_key"])]
    end: Option<String>,
    /// All keys that begin with KEY
    #[arg(long, conflicts_with = "from_key")]
    prefix: bool,
    /// All keys from KEY on
    #[arg(long)]
    from_key: bool,
}

impl RangeArgs {
    /// First key and range end, in etcd's form.
    fn bounds(self) -> (Vec<u8>, Vec<u8>) {
        let key = self.key.into_bytes();
        if self.prefix {
            let end = after_prefix(&key);
            // The prefix of all keys; a permission must name a first one.
            let key = if key.is_empty() { vec![0] } else { key };
            return (key, end);
        }
        if self.from_key {
            let key = if key.is_empty() { vec![0] } else { key };
            return (key, vec![0]);
        }
        (key, self.end.unwrap_or_default().into_bytes())
    }
}

/// The first key after all that begin with a prefix.
fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let kept = prefix.iter().rposition(|byte| *byte < 0xff);
    kept.map_or(vec![0], |last| {
        let mut end = prefix[..=last].to_vec();
        end[last] += 1;
        end
    })
}

pub(crate) async fn auth(
    client: &Client,
    output: Output,
    command: AuthCommand,
) -> Result<(), Failed> {
    match command {
        AuthCommand::Enable => {
            let answer = client.auth_enable(pb::AuthEnableRequest {}).await?;
            done(
                output,
                &answer,
                |answer| answer.header,
                "authentication enabled",
            )
        }
        AuthCommand::Disable => {
            let answer = client.auth_disable(pb::AuthDisableRequest {}).await?;
            done(
                output,
                &answer,
                |answer| answer.header,
                "authentication disabled",
            )
        }
        AuthCommand::Status => {
            let answer = client.auth_status(pb::AuthStatusRequest {}).await?;
            let pb::AuthStatusResponse {
                enabled,
                auth_revision,
                header,
            } = answer.message;
            show(output, &answer, header, |result| {
                result.insert("enabled".into(), enabled.into());
                result.insert("auth_revision".into(), auth_revision.into());
                let state = if enabled { "on" } else { "off" };
                vec![format!(
                    "authentication is {state}, at revision {auth_revision} of users and roles"
                )]
            })
        }
    }
}

pub(crate) async fn user(
    client: &Client,
    output: Output,
    command: UserCommand,
) -> Result<(), Failed> {
    match command {
        UserCommand::Add(args) => {
            let (name, password) = new_user(args)?;
            let options = UserAddOptions {
                no_password: password.is_none(),
            };
            let request = pb::AuthUserAddRequest {
                name: name.clone(),
                password: password.unwrap_or_default(),
                options: Some(options),
                ..Default::default()
            };
            let told = format!("user {name} added");
            let answer = client.user_add(request).await?;
            done(output, &answer, |answer| answer.header, &told)
        }
        UserCommand::Delete(UserArgs { name }) => {
            let request = pb::AuthUserDeleteRequest { name: name.clone() };
            let told = format!("user {name} removed");
            let answer = client.user_delete(request).await?;
            done(output, &answer, |answer| answer.header, &told)
        }
        UserCommand::Get(UserArgs { name }) => {
            let answer = client.user_get(pb::AuthUserGetRequest { name }).await?;
            names(
                output,
                &answer,
                answer.message.header,
                "roles",
                &answer.message.roles,
            )
        }
        UserCommand::List => {
            let answer = client.user_list(pb::AuthUserListRequest {}).await?;
            names(
                output,
                &answer,
                answer.message.header,
                "users",
                &answer.message.users,
            )
        }
        UserCommand::Passwd(args) => {
            let name = args.user.name;
            let password = match args.new_password {
                Some(password) => password,
                None => password::ask_twice(&format!("New password of {name}: "))?,
            };
            let request = pb::AuthUserChangePasswordRequest {
                name,
                password,
                ..Default::default()
            };
            let answer = client.user_change_password(request).await?;
            done(output, &answer, |answer| answer.header, "password changed")
        }
        UserCommand::GrantRole(UserRoleArgs { user, role }) => {
            let told = format!("user {user} has role {role}");
            let request = pb::AuthUserGrantRoleRequest { user, role };
            let answer = client.user_grant_role(request).await?;
            done(output, &answer, |answer| answer.header, &told)
        }
        UserCommand::RevokeRole(UserRoleArgs { user, role }) => {
            let told = format!("user {user} no longer has role {role}");
            let request = pb::AuthUserRevokeRoleRequest { name: user, role };
            let answer = client.user_revoke_role(request).await?;
            done(output, &answer, |answer| answer.header, &told)
        }
    }
}

/// Name and password of a user to make; no password for one that is to have none.
fn new_user(args: UserAddArgs) -> Result<(String, Option<String>), Failed> {
    let UserAddArgs {
        name,
        new_user_password,
        no_password,
    } = args;
    if no_password {
        return Ok((name, None));
    }
    if let Some(password) = new_user_password {
        return Ok((name, Some(password)));
    }
    match name.split_once(':') {
        Some(("", _)) => Err(Failed::Usage(format!(
            "user: {name:?} has no name before the colon"
        ))),
        Some((name, password)) => Ok((name.to_owned(), Some(password.to_owned()))),
        None => {
            let password = password::ask_twice(&format!("Password of {name}: "))?;
            Ok((name, Some(password)))
        }
    }
}

pub(crate) async fn role(
    client: &Client,
    output: Output,
    command: RoleCommand,
) -> Result<(), Failed> {
    match command {
        RoleCommand::Add(RoleArgs { name }) => {
            let request = pb::AuthRoleAddRequest { name: name.clone() };
            let told = format!("role {name} added");
            let answer = client.role_add(request).await?;
            done(output, &answer, |answer| answer.header, &told)
        }
        RoleCommand::Delete(RoleArgs { name }) => {
            let request = pb::AuthRoleDeleteRequest { role: name.clone() };
            let told = format!("role {name} removed");
            let answer = client.role_delete(request).await?;
            done(output, &answer, |answer| answer.header, &told)
        }
        RoleCommand::Get(RoleArgs { name }) => {
            let answer = client
                .role_get(pb::AuthRoleGetRequest { role: name })
                .await?;
            let permissions = &answer.message.perm;
            show(output, &answer, answer.message.header, |result| {
                let values = permissions.iter().map(permission_value).collect();
                result.insert("permissions".into(), values);
                permissions.iter().map(permission_text).collect()
            })
        }
        RoleCommand::List => {
            let answer = client.role_list(pb::AuthRoleListRequest {}).await?;
            names(
                output,
                &answer,
                answer.message.header,
                "roles",
                &answer.message.roles,
            )
        }
        RoleCommand::GrantPermission(GrantArgs { role, kind, range }) => {
            let (key, range_end) = range.bounds();
            let perm_type = match kind {
                Kind::Read => Type::Read,
                Kind::Write => Type::Write,
                Kind::Readwrite => Type::Readwrite,
            };
            let permission = Permission {
                perm_type: perm_type.into(),
                key: key.into(),
                range_end: range_end.into(),
            };
            let told = format!("role {} may {}", role.name, permission_text(&permission));
            let request = pb::AuthRoleGrantPermissionRequest {
                name: role.name,
                perm: Some(permission),
            };
            let answer = client.role_grant_permission(request).await?;
            done(output, &answer, |answer| answer.header, &told)
        }
        RoleCommand::RevokePermission(RevokeArgs { role, range }) => {
            let (key, range_end) = range.bounds();
            let told = format!("permission taken from role {}", role.name);
            let request = pb::AuthRoleRevokePermissionRequest {
                role: role.name,
                key: key.into(),
                range_end: range_end.into(),
            };
            let answer = client.role_revoke_permission(request).await?;
            done(output, &answer, |answer| answer.header, &told)
        }
    }
}

fn kind_name(permission: &Permission) -> &'static str {
    match permission.perm_type() {
        Type::Read => "read",
        Type::Write => "write",
        Type::Readwrite => "readwrite",
    }
}

fn permission_text(permission: &Permission) -> String {
    let (kind, key) = (
        kind_name(permission),
        String::from_utf8_lossy(&permission.key),
    );
    let end = &permission.range_end;
    if end.is_empty() {
        format!("{kind} {key}")
    } else if end[..] == [0] {
        format!("{kind} [{key}, end)")
    } else if end[..] == after_prefix(&permission.key) {
        format!("{kind} {key}*")
    } else {
        format!("{kind} [{key}, {})", String::from_utf8_lossy(end))
    }
}

fn permission_value(permission: &Permission) -> Value {
    let mut value = Map::new();
    value.insert("kind".into(), kind_name(permission).into());
    put_bytes(&mut value, "key", &permission.key);
    if !permission.range_end.is_empty() {
        put_bytes(&mut value, "range_end", &permission.range_end);
    }
    Value::Object(value)
}

/// Prints a result: its JSON fields are put in by `fill`, which gives its lines of text.
fn show<A>(
    output: Output,
    answer: &Answer<A>,
    header: Option<pb::ResponseHeader>,
    fill: impl FnOnce(&mut Map<String, Value>) -> Vec<String>,
) -> Result<(), Failed> {
    let mut result = json_head(answer, header.as_ref());
    let lines = fill(&mut result);
    match output {
        Output::Text => lines.iter().try_for_each(line),
        Output::Json => line(Value::Object(result)),
    }
}

fn names<A>(
    output: Output,
    answer: &Answer<A>,
    header: Option<pb::ResponseHeader>,
    field: &str,
    names: &[String],
) -> Result<(), Failed> {
    show(output, answer, header, |result| {
        result.insert(field.into(), names.into());
        names.to_vec()
    })
}

fn done<A>(
    output: Output,
    answer: &Answer<A>,
    header: impl FnOnce(&A) -> Option<pb::ResponseHeader>,
    told: &str,
) -> Result<(), Failed> {
    show(output, answer, header(&answer.message), |_| {
        vec![told.to_owned()]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_written_as_etcdctl_does() {
        let bounds = |key: &str, end: Option<&str>, prefix, from_key| {
            RangeArgs {
                key: key.into(),
                end: end.map(str::to_owned),
                prefix,
                from_key,
            }
            .bounds()
        };
        assert_eq!(bounds("a", None, false, false), (b"a".into(), vec![]));
        assert_eq!(
            bounds("a", Some("c"), false, false),
            (b"a".into(), b"c".into())
        );
        assert_eq!(
            bounds("a/", None, true, false),
            (b"a/".into(), b"a0".into())
        );
        assert_eq!(bounds("", None, true, false), (vec![0], vec![0]));
        assert_eq!(bounds("", None, false, true), (vec![0], vec![0]));
        assert_eq!(after_prefix(&[b'a', 0xff]), b"b");
        assert_eq!(after_prefix(&[0xff]), [0]);
    }
}
