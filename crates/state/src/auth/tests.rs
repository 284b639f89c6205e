use super::change::*;
use super::*;
use proptest::prelude::*;

fn change(auth: &mut Auth, operation: AuthOperation) -> Result<(), AuthRejection> {
    auth.apply(&AuthChange {
        operation: Some(operation),
    })
}

fn add_user(auth: &mut Auth, user: &str) -> Result<(), AuthRejection> {
    let add = UserAdd {
        user: user.into(),
        password_hash: Bytes::from_static(b"hash"),
        no_password: false,
    };
    change(auth, AuthOperation::UserAdd(add))
}

fn add_role(auth: &mut Auth, role: &str) -> Result<(), AuthRejection> {
    change(auth, AuthOperation::RoleAdd(RoleName { role: role.into() }))
}

fn pair(user: &str, role: &str) -> UserRole {
    UserRole {
        user: user.into(),
        role: role.into(),
    }
}

fn grant(
    auth: &mut Auth,
    role: &str,
    kind: PermissionKind,
    key: &str,
    range_end: &str,
) -> Result<(), AuthRejection> {
    let permission = Permission {
        kind: kind as i32,
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
    };
    let grant = RoleGrantPermission {
        role: role.into(),
        permission: Some(permission),
    };
    change(auth, AuthOperation::RoleGrantPermission(grant))
}

fn enable(auth: &mut Auth) -> Result<(), AuthRejection> {
    let enable = Enable {
        token_key: Bytes::from_static(b"key"),
    };
    change(auth, AuthOperation::Enable(enable))
}

/// On, with the users `root` and `ann`; `ann` has the role `app`.
fn enabled() -> Auth {
    let mut auth = Auth::default();
    for user in [ROOT, "ann"] {
        add_user(&mut auth, user).expect("a new user");
    }
    add_role(&mut auth, "app").expect("a new role");
    for (user, role) in [(ROOT, ROOT), ("ann", "app")] {
        change(&mut auth, AuthOperation::UserGrantRole(pair(user, role))).expect("both exist");
    }
    enable(&mut auth).expect("root may do everything");
    auth
}

fn as_user<'a>(auth: &Auth, user: &'a str) -> Principal<'a> {
    Principal {
        user,
        revision: auth.revision(),
    }
}

fn may(auth: &Auth, kind: PermissionKind, key: &str, range_end: &str) -> bool {
    auth.check_range(
        as_user(auth, "ann"),
        kind,
        key.as_bytes(),
        range_end.as_bytes(),
    )
    .is_ok()
}

#[test]
fn it_is_switched_on_only_when_somebody_is_in_charge() {
    let mut auth = Auth::default();
    assert_eq!(enable(&mut auth), Err(AuthRejection::RootUserNotExist));
    add_user(&mut auth, ROOT).expect("a new user");
    assert_eq!(enable(&mut auth), Err(AuthRejection::RootRoleNotExist));
    change(&mut auth, AuthOperation::UserGrantRole(pair(ROOT, ROOT)))
        .expect("the role root need not exist");
    let revision = auth.revision();
    assert_eq!(enable(&mut auth), Ok(()));
    assert_eq!(
        (auth.is_enabled(), auth.revision()),
        (true, revision),
        "who was let in stays"
    );
    assert_eq!(auth.token_key(), "key");
    change(&mut auth, AuthOperation::Disable(Disable {})).expect("always");
    assert_eq!((auth.is_enabled(), auth.revision()), (false, revision + 1));
}

#[test]
fn whoever_is_in_charge_stays_while_it_is_on() {
    let mut auth = enabled();
    let last: [AuthOperation; 3] = [
        AuthOperation::UserDelete(UserDelete { user: ROOT.into() }),
        AuthOperation::UserRevokeRole(pair(ROOT, ROOT)),
        AuthOperation::RoleDelete(RoleName { role: ROOT.into() }),
    ];
    for operation in last {
        assert_eq!(
            change(&mut auth, operation),
            Err(AuthRejection::InvalidManagement)
        );
    }
}

#[test]
fn every_refusal_has_its_reason_and_changes_nothing() {
    use AuthOperation as To;
    let mut auth = enabled();
    let before = auth.hash();
    let user = |user: &str| UserDelete { user: user.into() };
    let role = |role: &str| RoleName { role: role.into() };
    let password = UserPassword {
        user: "bob".into(),
        ..UserPassword::default()
    };
    let revoke = RoleRevokePermission {
        role: "app".into(),
        key: "k".into(),
        ..RoleRevokePermission::default()
    };
    let nothing = RoleGrantPermission {
        role: "app".into(),
        permission: None,
    };
    let cases = [
        (To::UserAdd(UserAdd::default()), AuthRejection::UserEmpty),
        (
            To::UserAdd(UserAdd {
                user: "ann".into(),
                ..Default::default()
            }),
            AuthRejection::UserAlreadyExists,
        ),
        (To::UserDelete(user("bob")), AuthRejection::UserNotFound),
        (To::UserPassword(password), AuthRejection::UserNotFound),
        (
            To::UserGrantRole(pair("bob", "app")),
            AuthRejection::UserNotFound,
        ),
        (
            To::UserGrantRole(pair("ann", "none")),
            AuthRejection::RoleNotFound,
        ),
        (
            To::UserRevokeRole(pair("ann", "none")),
            AuthRejection::RoleNotGranted,
        ),
        (To::RoleAdd(role("")), AuthRejection::RoleEmpty),
        (To::RoleAdd(role("app")), AuthRejection::RoleAlreadyExists),
        (To::RoleDelete(role("none")), AuthRejection::RoleNotFound),
        (
            To::RoleGrantPermission(nothing),
            AuthRejection::PermissionNotGiven,
        ),
        (
            To::RoleRevokePermission(revoke),
            AuthRejection::PermissionNotGranted,
        ),
    ];
    for (operation, rejection) in cases {
        assert_eq!(
            change(&mut auth, operation.clone()),
            Err(rejection),
            "{operation:?}"
        );
    }
    for (key, range_end) in [("", "b"), ("b", "a"), ("b", "b")] {
        let granted = grant(&mut auth, "app", PermissionKind::Read, key, range_end);
        assert_eq!(
            granted,
            Err(AuthRejection::InvalidManagement),
            "{key}..{range_end}"
        );
    }
    assert_eq!(auth.hash(), before);
}

#[test]
fn s1_a_request_is_held_against_user_and_revision() {
    let mut auth = enabled();
    grant(&mut auth, "app", PermissionKind::Read, "a", "c").expect("a good range");
    let read =
        |auth: &Auth, principal| auth.check_range(principal, PermissionKind::Read, b"b", b"");
    let nobody = Principal {
        user: "",
        revision: 0,
    };
    let late = Principal {
        user: "ann",
        revision: auth.revision() - 1,
    };
    assert_eq!(read(&auth, as_user(&auth, "ann")), Ok(()));
    assert_eq!(read(&auth, as_user(&auth, ROOT)), Ok(()));
    assert_eq!(read(&auth, nobody), Err(AuthRejection::UserEmpty));
    assert_eq!(read(&auth, late), Err(AuthRejection::OldRevision));
    assert_eq!(
        read(&auth, as_user(&auth, "gone")),
        Err(AuthRejection::PermissionDenied)
    );
    assert_eq!(auth.check_admin(as_user(&auth, ROOT)), Ok(()));
    assert_eq!(
        auth.check_admin(as_user(&auth, "ann")),
        Err(AuthRejection::PermissionDenied)
    );
    assert_eq!(auth.check_admin(nobody), Err(AuthRejection::UserEmpty));
    change(&mut auth, AuthOperation::Disable(Disable {})).expect("always");
    assert_eq!(read(&auth, nobody), Ok(()));
    assert_eq!(auth.check_admin(nobody), Ok(()));
}

#[test]
fn permissions_of_all_roles_add_up() {
    let mut auth = enabled();
    add_role(&mut auth, "more").expect("a new role");
    change(&mut auth, AuthOperation::UserGrantRole(pair("ann", "more"))).expect("both exist");
    grant(&mut auth, "app", PermissionKind::Read, "a", "c").expect("a good range");
    grant(&mut auth, "more", PermissionKind::ReadWrite, "c", "e").expect("a good range");
    assert!(may(&auth, PermissionKind::Read, "a", "e"));
    assert!(!may(&auth, PermissionKind::Read, "a", "f"));
    assert!(!may(&auth, PermissionKind::Read, "a", "\0"));
    assert!(may(&auth, PermissionKind::Write, "c", "d"));
    assert!(!may(&auth, PermissionKind::Write, "b", ""));
    // Another kind of the same range takes its place.
    grant(&mut auth, "more", PermissionKind::Read, "c", "e").expect("a good range");
    assert!(!may(&auth, PermissionKind::Write, "c", "d"));
    assert_eq!(
        auth.permissions("more")
            .map(|permissions| permissions.len()),
        Ok(1)
    );
    change(
        &mut auth,
        AuthOperation::RoleDelete(RoleName {
            role: "more".into(),
        }),
    )
    .expect("it exists");
    assert!(!may(&auth, PermissionKind::Read, "c", ""));
    assert_eq!(auth.user("ann").expect("a user").roles().count(), 1);
    assert_eq!(auth.permissions(ROOT), Err(AuthRejection::RoleNotFound));
    add_role(&mut auth, ROOT).expect("a new role");
    assert_eq!(auth.permissions(ROOT), Ok(vec![Permission::everything()]));
}

#[test]
fn a_new_password_makes_older_tokens_void() {
    let mut auth = enabled();
    let before = auth.user("ann").expect("a user").password_revision;
    let password = UserPassword {
        user: "ann".into(),
        password_hash: Bytes::from_static(b"other"),
    };
    change(&mut auth, AuthOperation::UserPassword(password)).expect("a user");
    let ann = auth.user("ann").expect("a user");
    assert_eq!(ann.password_hash, "other");
    assert!(ann.password_revision > before);
    assert_eq!(ann.password_revision, auth.revision());
}

#[test]
fn a_store_comes_back_as_it_was() {
    let mut auth = enabled();
    grant(&mut auth, "app", PermissionKind::Read, "a", "c").expect("a good range");
    let bytes = auth.store().encode_to_vec();
    let again = Auth::from_store(Store::decode(&bytes[..]).expect("it was written here"));
    assert_eq!(again.hash(), auth.hash());
    assert!(may(&again, PermissionKind::Read, "b", ""));
}

#[test]
fn a_rotated_key_verifies_until_its_time_is_over_or_it_is_dropped() {
    let seed = |of: u8| Bytes::from(vec![of; SIGNING_SEED_BYTES]);
    let rotate = |auth: &mut Auth, replaced, to, until, now| {
        let rotate = RotateSigningSeed {
            seed: to,
            replaced,
            retired: Some(RetiredKey {
                public: seed(now as u8),
                until_unix_ms: until,
            }),
            now_unix_ms: now,
        };
        change(auth, AuthOperation::RotateSigningSeed(Box::new(rotate)))
    };
    let mut auth = enabled();
    let revision = auth.revision();
    let draw = DrawSigningSeed { seed: seed(1) };
    change(&mut auth, AuthOperation::DrawSigningSeed(draw)).unwrap();
    let hash = auth.hash();
    // One that comes late changes nothing.
    rotate(&mut auth, seed(9), seed(8), None, 1).unwrap();
    assert_eq!((auth.hash(), auth.retired_keys().len()), (hash, 0));
    rotate(&mut auth, seed(1), seed(2), Some(100), 10).unwrap();
    rotate(&mut auth, seed(2), seed(3), None, 20).unwrap();
    assert_ne!(auth.hash(), hash);
    assert_eq!(*auth.signing_seed(), seed(3));
    let [first, second] = auth.retired_keys() else {
        panic!("{:?}", auth.retired_keys())
    };
    assert!(first.verifies_at(99) && !first.verifies_at(100));
    assert!(second.verifies_at(u64::MAX));
    // What is over is forgotten by the next one.
    rotate(&mut auth, seed(3), seed(4), None, 100).unwrap();
    assert_eq!(auth.retired_keys().len(), 2);
    let drop = DropVerifyingKey { public: seed(20) };
    change(&mut auth, AuthOperation::DropVerifyingKey(drop)).unwrap();
    assert_eq!(auth.retired_keys().len(), 1);
    // Users' tokens have nothing to do with it.
    assert_eq!(auth.revision(), revision);
    let short = rotate(&mut auth, seed(4), Bytes::from_static(b"short"), None, 1);
    assert_eq!(short, Err(AuthRejection::InvalidManagement));
    for at in 5..=u8::try_from(RETIRED_KEYS_MAX).unwrap() + 3 {
        rotate(&mut auth, seed(at - 1), seed(at), None, 101).unwrap();
    }
    let last = auth.signing_seed().clone();
    let full = rotate(&mut auth, last, seed(99), None, 101);
    assert_eq!(full, Err(AuthRejection::InvalidManagement));
    let again = Auth::from_store(Store::decode(&auth.store().encode_to_vec()[..]).unwrap());
    assert_eq!(again.hash(), auth.hash());
    assert_eq!(again.retired_keys().len(), RETIRED_KEYS_MAX);
}

proptest! {
    /// Merged rights allow a range of single letters if and only if every letter in it is allowed by some permission.
    #[test]
    fn s1_rights_are_the_union_of_permissions(given in prop::collection::vec((0_u8..9, 0_u8..9), 0..6), from in 0_u8..9, length in 1_u8..9) {
        let mut auth = enabled();
        let key = |at: u8| char::from(b'a' + at).to_string();
        for &(start, length) in &given {
            let end = if length == 0 { String::new() } else { key(start + length) };
            grant(&mut auth, "app", PermissionKind::Write, &key(start), &end).expect("a good range");
        }
        let whole = |letter: u8| given.iter().any(|&(start, length)| (start..start + length).contains(&letter));
        let expected = (from..from + length).all(whole);
        prop_assert_eq!(may(&auth, PermissionKind::Write, &key(from), &key(from + length)), expected);
        let point = whole(from) || given.contains(&(from, 0));
        prop_assert_eq!(may(&auth, PermissionKind::Write, &key(from), ""), point);
    }
}
