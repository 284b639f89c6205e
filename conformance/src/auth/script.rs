//! What is asked, in order.

use super::access::{cluster, gaps, keys, leases, watches};
use super::requests::*;
use super::side::Side;
use crate::Outcome;
use proto::authpb::UserAddOptions;
use proto::authpb::permission::Type;
use proto::etcdserverpb as pb;
use std::time::Duration;

/// Where Synod holds to the rules of etcd 3.7, which closed gaps of 3.6.
pub struct Known {
    /// The step.
    pub step: &'static str,
    /// What Synod's answer says.
    pub ours: &'static str,
}

const fn known(step: &'static str, ours: &'static str) -> Known {
    Known { step, ours }
}

const EMPTY: &str = "etcdserver: user name is empty";
const DENIED: &str = "etcdserver: permission denied";

/// All of them.
pub const KNOWN: &[Known] = &[
    known("nobody: list members", EMPTY),
    known("nobody: list alarms", EMPTY),
    known("nobody: grant lease 101", EMPTY),
    known("nobody: keep alive 100", EMPTY),
    known("nobody: list leases", EMPTY),
    known("ann: list leases", DENIED),
    known("nobody: time of lease 100", EMPTY),
    known("nobody: revoke lease 102", EMPTY),
    known("nobody: compact", EMPTY),
    known("ann: compact", DENIED),
    known("ann: put a2 on lease 103 in a transaction", DENIED),
    known("ann: put b1 in a transaction inside", DENIED),
    known("eve: put b1 in a transaction inside", DENIED),
    known("nobody: put b1 in a transaction inside", EMPTY),
];

/// Plays everything. `signed`: tokens are JSON web tokens, which a change of users makes old.
///
/// # Errors
/// A stream breaks off.
pub async fn play(side: &mut Side, signed: bool) -> Outcome<()> {
    before(side).await;
    manage(side).await;
    log_ins(side).await;
    if signed {
        // A token of before the last change is refused for keys, and is good for users.
        ask!(side, "root", role_add(role("late")));
        ask_other!(
            side,
            "root",
            "put with an old revision",
            kv.put(put("b1", 0))
        );
        ask!(side, "root", role_delete(role_to_delete("late")));
    }
    renew(side).await;
    keys(side).await;
    leases(side).await;
    watches(side).await?;
    cluster(side).await;
    while_on(side, signed).await;
    if !signed {
        expiry(side).await;
    }
    changes(side, signed).await;
    renew(side).await;
    gaps(side).await;
    Ok(())
}

/// What is refused while there is nothing yet.
async fn before(side: &mut Side) {
    side.log_in("root", "x").await;
    ask!(side, "", auth_status(pb::AuthStatusRequest {}));
    ask!(side, "", auth_enable(pb::AuthEnableRequest {}));
    ask!(side, "", user_list(pb::AuthUserListRequest {}));
    ask!(side, "", role_list(pb::AuthRoleListRequest {}));
    ask!(side, "", user_get(get_user("root")));
    ask!(side, "", user_get(get_user("")));
    ask!(side, "", role_get(get_role("root")));
    ask!(side, "", role_get(get_role("")));
    ask!(side, "", user_delete(delete_user("x")));
    ask!(side, "", auth_disable(pb::AuthDisableRequest {}));
    // A token means nothing while nobody asks for one.
    ask_other!(side, "unknown", "put", kv.put(put("a1", 0)));
}

/// Users, roles and permissions are made, with every mistake on the way.
async fn manage(side: &mut Side) {
    ask!(side, "", user_add(user("", "x")));
    ask!(side, "", user_add(user("root", "root's")));
    ask!(side, "", user_add(user("root", "other")));
    ask!(side, "", auth_enable(pb::AuthEnableRequest {}));
    ask!(side, "", user_add(user("long", &"x".repeat(73))));
    ask!(side, "", user_add(user("most", &"x".repeat(72))));
    ask!(side, "", user_delete(delete_user("most")));
    let no_password = |password: &str| pb::AuthUserAddRequest {
        options: Some(UserAddOptions { no_password: true }),
        ..user("bob", password)
    };
    ask!(side, "", user_add(no_password("ignored")));
    ask!(side, "", user_add(user("ann", "ann's")));
    ask!(side, "", user_add(user("eve", "")));
    ask!(side, "", role_add(role("")));
    ask!(side, "", role_add(role("app")));
    ask!(side, "", role_add(role("app")));
    ask!(side, "", role_add(role("reader")));
    ask!(side, "", user_grant_role(grant_role("ann", "none")));
    ask!(side, "", user_grant_role(grant_role("none", "app")));
    ask!(side, "", user_grant_role(grant_role("ann", "app")));
    ask!(side, "", user_grant_role(grant_role("ann", "app")));
    ask!(side, "", user_grant_role(grant_role("ann", "reader")));
    ask!(side, "", user_revoke_role(revoke_role("ann", "none")));
    ask!(side, "", user_revoke_role(revoke_role("none", "app")));
    let nothing = pb::AuthRoleGrantPermissionRequest {
        name: "app".into(),
        perm: None,
    };
    ask!(side, "", role_grant_permission(nothing));
    for (role, kind, key, end) in [
        ("none", Type::Read, "a", ""),
        ("app", Type::Read, "", ""),
        ("app", Type::Read, "", "\0"),
        ("app", Type::Read, "b", "a"),
        ("app", Type::Read, "a", "b"),
        ("app", Type::Readwrite, "a", "b"),
        ("app", Type::Write, "w", ""),
        ("app", Type::Read, "y", "\0"),
        ("reader", Type::Read, "b", "c"),
        ("app", Type::Read, "0", ""),
    ] {
        let permission = grant(role, kind, key, end);
        ask!(side, "", role_grant_permission(permission));
    }
    ask!(side, "", role_revoke_permission(revoke("app", "0", "1")));
    ask!(side, "", role_revoke_permission(revoke("none", "0", "")));
    ask!(side, "", role_revoke_permission(revoke("app", "0", "")));
    ask!(side, "", role_get(get_role("app")));
    ask!(side, "", role_get(get_role("root")));
    ask!(side, "", auth_enable(pb::AuthEnableRequest {}));
    ask!(side, "", user_grant_role(grant_role("root", "root")));
    ask!(side, "", user_get(get_user("root")));
    ask!(side, "", role_list(pb::AuthRoleListRequest {}));
    ask!(side, "", role_add(role("root")));
    ask!(side, "", role_get(get_role("root")));
    ask!(side, "", user_list(pb::AuthUserListRequest {}));
    ask!(side, "", user_get(get_user("ann")));
    ask!(side, "", auth_status(pb::AuthStatusRequest {}));
    ask!(side, "", auth_enable(pb::AuthEnableRequest {}));
    ask!(side, "", auth_enable(pb::AuthEnableRequest {}));
}

async fn log_ins(side: &mut Side) {
    side.log_in("root", "wrong").await;
    side.log_in("root", "").await;
    side.log_in("none", "x").await;
    side.log_in("", "").await;
    side.log_in("bob", "").await;
    side.log_in("bob", "ignored").await;
    side.log_in("eve", "x").await;
    side.log_in("eve", "").await;
    renew(side).await;
}

async fn renew(side: &mut Side) {
    side.log_in("root", "root's").await;
    side.log_in("ann", "ann's").await;
    side.log_in("eve", "").await;
}

/// What users and those in charge may ask and change while authentication is on.
async fn while_on(side: &mut Side, signed: bool) {
    for user in ["ann", "", "unknown"] {
        ask!(side, user, auth_status(pb::AuthStatusRequest {}));
        ask!(side, user, auth_enable(pb::AuthEnableRequest {}));
        ask!(side, user, auth_disable(pb::AuthDisableRequest {}));
        ask!(side, user, user_list(pb::AuthUserListRequest {}));
        ask!(side, user, role_list(pb::AuthRoleListRequest {}));
        ask!(side, user, user_add(super::requests::user("new", "x")));
        ask!(side, user, user_delete(delete_user("ann")));
        ask!(side, user, user_change_password(password("ann", "x", "")));
        ask!(side, user, user_grant_role(grant_role("ann", "root")));
        ask!(side, user, user_revoke_role(revoke_role("ann", "app")));
        ask!(side, user, role_add(role("new")));
        ask!(side, user, role_delete(role_to_delete("app")));
        ask!(
            side,
            user,
            role_grant_permission(grant("app", Type::Read, "x", ""))
        );
        ask!(side, user, role_revoke_permission(revoke("app", "a", "b")));
        ask!(side, user, user_get(get_user("ann")));
        ask!(side, user, user_get(get_user("root")));
        ask!(side, user, user_get(get_user("")));
        ask!(side, user, user_get(get_user("none")));
        ask!(side, user, role_get(get_role("app")));
        ask!(side, user, role_get(get_role("root")));
        ask!(side, user, role_get(get_role("none")));
    }
    ask!(side, "root", auth_status(pb::AuthStatusRequest {}));
    ask!(side, "root", user_get(get_user("none")));
    ask!(side, "root", role_get(get_role("none")));
    ask!(side, "root", user_delete(delete_user("root")));
    ask!(side, "root", role_delete(role_to_delete("root")));
    ask!(side, "root", user_revoke_role(revoke_role("root", "root")));
    ask!(side, "root", user_grant_role(grant_role("eve", "reader")));
    if signed {
        renew(side).await;
    }
    // Rights count at once, with the token of before.
    ask!(
        side,
        "root",
        role_revoke_permission(revoke("app", "a", "b"))
    );
    if signed {
        renew(side).await;
    }
    ask_other!(
        side,
        "ann",
        "put a1 without the right",
        kv.put(put("a1", 0))
    );
    ask!(
        side,
        "root",
        role_grant_permission(grant("app", Type::Readwrite, "a", "b"))
    );
    if signed {
        renew(side).await;
    }
    ask_other!(
        side,
        "ann",
        "put a1 with the right again",
        kv.put(put("a1", 0))
    );
}

/// A simple token lives as long as it is used, here three seconds at a time.
async fn expiry(side: &mut Side) {
    // Use counts where it happens, with etcd as with Synod.
    side.steady = true;
    side.log_in("ann", "ann's").await;
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(1400)).await;
        ask_other!(side, "ann", "use the token", kv.range(range("a1", "")));
    }
    tokio::time::sleep(Duration::from_millis(5200)).await;
    ask_other!(
        side,
        "ann",
        "use the token too late",
        kv.range(range("a1", ""))
    );
    side.steady = false;
    renew(side).await;
}

/// Passwords and users change; what was given before is void.
async fn changes(side: &mut Side, signed: bool) {
    ask!(
        side,
        "root",
        user_change_password(password("none", "x", ""))
    );
    ask!(side, "root", user_change_password(password("bob", "x", "")));
    side.log_in("bob", "x").await;
    ask!(
        side,
        "root",
        user_change_password(password("ann", "new", ""))
    );
    if !signed {
        ask_other!(
            side,
            "ann",
            "put a1 with a void token",
            kv.put(put("a1", 0))
        );
    }
    side.log_in("ann", "ann's").await;
    side.log_in("ann", "new").await;
    // bcrypt of "pw" at cost 4, in base64.
    let hash = "JDJhJDA0JGFiY2RlZmdoaWprbG1ub3BxcnN0dXVPdWZXVmMwT1NhZVhXZ0tpdm5VbWo1TldGQ2VQTlVx";
    ask!(
        side,
        "root",
        user_change_password(password("ann", "", hash))
    );
    ask!(
        side,
        "root",
        user_change_password(password("ann", "", "no base64!"))
    );
    ask!(side, "root", user_change_password(password("ann", "", "")));
    side.log_in("ann", "").await;
    ask!(side, "root", user_delete(delete_user("ann")));
    ask!(side, "root", user_add(user("ann", "ann's")));
    if !signed {
        ask_other!(
            side,
            "ann",
            "put a1 with the token of another ann",
            kv.put(put("a1", 0))
        );
    }
    ask!(side, "root", user_grant_role(grant_role("ann", "app")));
    ask!(side, "root", role_delete(role_to_delete("reader")));
    ask!(side, "root", user_get(get_user("eve")));
    ask!(side, "root", auth_disable(pb::AuthDisableRequest {}));
    ask!(side, "", auth_disable(pb::AuthDisableRequest {}));
    ask_other!(side, "", "put z while it is off", kv.put(put("z", 0)));
    ask_other!(
        side,
        "unknown",
        "put z while it is off",
        kv.put(put("z", 0))
    );
    side.log_in("root", "root's").await;
    ask!(side, "", user_delete(delete_user("root")));
    ask!(side, "", auth_enable(pb::AuthEnableRequest {}));
    ask!(side, "", user_add(user("root", "root's")));
    ask!(side, "", auth_enable(pb::AuthEnableRequest {}));
    ask!(side, "", user_grant_role(grant_role("root", "root")));
    ask!(side, "", auth_enable(pb::AuthEnableRequest {}));
    if !signed {
        ask_other!(
            side,
            "root",
            "put z with a token of before",
            kv.put(put("z", 0))
        );
    }
    renew(side).await;
    ask_other!(side, "root", "read everything", kv.range(range("\0", "\0")));
    ask!(side, "root", auth_status(pb::AuthStatusRequest {}));
}
