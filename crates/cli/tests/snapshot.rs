//! The state in a file, and back again, as scripts do it; and from one cluster to another.

mod member;

use member::Member;

#[test]
fn what_was_saved_is_restored_and_old_revisions_are_compacted() {
    let member = Member::start();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state").display().to_string();
    member.text(&["put", "a", "1"]);
    member.text(&["put", "a", "2"]);
    let saved = member.json(&["snapshot", "save", &file]);
    assert_eq!(saved["kind"], "synod");
    assert_eq!((&saved["keys"], &saved["revision"]), (&1.into(), &3.into()));
    assert_eq!(member.json(&["snapshot", "status", &file]), saved);

    let data = directory.path().join("n1").display().to_string();
    let restore = [
        "snapshot",
        "restore",
        &file,
        "--data-dir",
        &data,
        "--name",
        "n1",
        "--cluster",
        "n1=127.0.0.1:1",
    ];
    for wrong in [
        ["--name", "n7"],
        ["--generation", "0"],
        ["--generation", "99999999999"],
    ] {
        let mut usage = restore.to_vec();
        match usage.iter().position(|argument| *argument == wrong[0]) {
            Some(name) => usage[name + 1] = wrong[1],
            None => usage.extend(wrong),
        }
        assert_eq!(member.run(&usage).status.code(), Some(2), "{usage:?}");
    }
    let restored = member.json(&restore);
    assert_eq!(restored["revision"], 1_000_000_003);
    assert_ne!(restored["cluster"], saved["cluster"]);
    let again = member.run(&restore);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("is not empty: it holds"));

    let stamp = member.json(&["get", "a"])["stamp"].clone();
    let new = Member::start_in(directory, &["--name", "n1"]);
    let found = new.json(&["get", "a"]);
    assert_eq!(found["kvs"][0]["value"], "2");
    assert_eq!(found["kvs"][0]["mod_revision"], 3);
    let old = new.run(&["get", "a", "--revision", "3"]);
    assert_eq!(old.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&old.stderr).contains("compacted"));
    let consistency = format!("at-least={}", stamp.as_str().unwrap());
    let old = new.run(&["get", "a", "--consistency", &consistency]);
    assert_eq!(old.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&old.stderr).contains("the stamp is of another cluster"));
}

#[test]
fn a_file_takes_the_place_of_no_device() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let member = Member::start();
    let shown = pipe.display().to_string();
    let data = directory.path().display().to_string();
    for more in [&[][..], &["--data-dir", &data]] {
        let refused = member.run(&[&["snapshot", "save", &shown], more].concat());
        assert_eq!(refused.status.code(), Some(1));
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(told.contains("is no regular file"), "{told}");
        assert!(!std::fs::metadata(&pipe).unwrap().is_file());
    }
}

#[test]
fn what_one_stopped_member_has_is_saved_without_it() {
    let (home, directory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let data = home.path().join("n1").display().to_string();
    let mut member = Member::start_in(home, &[]);
    let file = |name: &str| directory.path().join(name).display().to_string();
    member.text(&["put", "a", "1"]);
    let first = member.json(&["snapshot", "save", &file("running")]);
    // What is in the log only is in it too.
    member.text(&["put", "b", "1"]);
    let save = ["snapshot", "save", &file("stopped"), "--data-dir", &data];
    let refused = member.run(&save);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is in use: stop the member first"));
    member.process.kill().unwrap();
    member.process.wait().unwrap();
    let saved = member.json(&save);
    assert_eq!((&saved["keys"], &saved["revision"]), (&2.into(), &3.into()));
    assert_eq!(saved["cluster"], first["cluster"]);
    let nothing = member.run(&["snapshot", "save", &file("x"), "--data-dir", "/nowhere"]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("is no data directory"));
}

#[test]
fn a_file_that_is_none_is_refused_with_the_place() {
    let member = Member::start();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("photo.jpg").display().to_string();
    std::fs::write(&file, [7; 5000]).unwrap();
    let refused = member.run(&["snapshot", "status", &file]);
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        text.contains(
            "photo.jpg: byte 0: it begins neither as a snapshot of Synod nor as one of etcd"
        ),
        "{text}"
    );
    let bad = member.run(&["snapshot", "save", "/nowhere/at/all"]);
    assert_eq!(bad.status.code(), Some(1));
}

#[test]
fn a_migration_copies_and_compares_and_minds_what_is_there() {
    let (from, to) = (Member::start(), Member::start());
    let lease = from.json(&["lease", "grant", "600"])["id"].clone();
    from.text(&["put", "b", "1", "--lease", lease.as_str().unwrap()]);
    from.text(&["put", "a", "1"]);
    from.text(&["put", "b", "2", "--lease", lease.as_str().unwrap()]);
    let migrate = ["migrate", "etcd", "--to", &to.endpoint];
    let done = from.json(&migrate);
    assert_eq!((&done["keys"], &done["leases"]), (&2.into(), &1.into()));
    let there = to.json(&["get", "", "--prefix"]);
    assert_eq!(there["count"], 2, "the mark is gone: {there}");
    let (a, b) = (&there["kvs"][0], &there["kvs"][1]);
    assert!(b["create_revision"].as_i64() < a["create_revision"].as_i64());
    assert!(b["mod_revision"].as_i64() > a["mod_revision"].as_i64());
    assert_eq!(b["lease"], lease);

    let refused = from.run(&migrate);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("has 2 keys there already"));
    to.text(&["put", "stray", "1"]);
    from.text(&["del", "a"]);
    let forced = from.json(&[&migrate[..], &["--force", "--until-caught-up"]].concat());
    assert_eq!(forced["keys"], 1);
    assert_eq!(to.json(&["get", "", "--prefix"])["count"], 1);
    let itself = from.run(&["migrate", "etcd", "--to", &from.endpoint]);
    assert_eq!(itself.status.code(), Some(2));
}
