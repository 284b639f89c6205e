//! Members as an operator meets them: added, examined, handed leadership, removed.

mod member;
#[path = "../../ports.rs"]
mod ports;

use member::Member;
use std::process::Command;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until it is so.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < PATIENCE, "{what} did not come");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Starts the member whose command `member add` printed, in a directory and at a client address of its own.
fn start_as_told(command: &str) -> Member {
    let directory = tempfile::tempdir().expect("a directory");
    let mut words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    let mut set = |flag: &str, value: String| {
        let at = words.iter().position(|word| word == flag).expect(flag);
        words[at + 1] = value;
    };
    set(
        "--data-dir",
        directory.path().join("n2").display().to_string(),
    );
    set("--client-addr", "127.0.0.1:0".into());
    assert_eq!(words[0], "synod");
    let mut process = Command::new(env!("CARGO_BIN_EXE_synod"));
    process.args(&words[1..]).args(["--log-format", "json"]);
    process.args(["--log-segment-bytes", "1MiB", "--disk-low-water-bytes", "0"]);
    Member::serving(process, directory)
}

/// Where a member to come may live.
fn free_place() -> String {
    format!("127.0.0.1:{}", ports::free_ports(1).expect("a port")[0])
}

/// Each member's role by its name, as `member list` tells them.
fn roles(member: &Member) -> Vec<(String, String)> {
    let list = member.json(&["member", "list"]);
    let members = list["members"].as_array().expect("a list");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let role = |member: &serde_json::Value| match member["leader"].as_bool() {
        Some(true) => "leader".to_owned(),
        _ => text(&member["role"]),
    };
    members
        .iter()
        .map(|it| (text(&it["name"]), role(it)))
        .collect()
}

fn refusal(member: &Member, arguments: &[&str]) -> String {
    let output = member.run(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_member_comes_leads_and_leaves_with_exit_code_4() {
    let first = Member::start();
    first.text(&["put", "k", "v"]);
    let told = refusal(&first, &["member", "remove", "n1"]);
    assert!(told.contains("the last voter cannot be removed"), "{told}");
    let told = refusal(&first, &["member", "remove", "n7"]);
    assert!(
        told.contains("n7 is none of the cluster; its members are n1 ("),
        "{told}"
    );

    let place = free_place();
    let command = first.text(&["member", "add", &place]);
    assert!(roles(&first).contains(&(String::new(), "not started".into())));
    let mut second = start_as_told(command.trim());
    let are = |expected: [(&str, &str); 2]| {
        let mut roles = roles(&first);
        roles.sort();
        roles == expected.map(|(name, role)| (name.to_owned(), role.to_owned()))
    };
    until("a second voter", || {
        are([("n1", "leader"), ("n2", "voter")])
    });
    assert_eq!(second.text(&["get", "k"]), "k\nv\n");

    first.text(&["member", "move-leader", "n2"]);
    until("another leader", || {
        are([("n1", "voter"), ("n2", "leader")])
    });
    let status = first.text(&["status", "--all"]);
    assert_eq!(status.lines().count(), 3, "{status}");
    assert!(status.contains("BEHIND"), "{status}");
    first.text(&["member", "move-leader"]);
    until("the first leader", || {
        are([("n1", "leader"), ("n2", "voter")])
    });

    first.text(&["member", "remove", "n2"]);
    let ended = second.process.wait().expect("it ends");
    assert_eq!(ended.code(), Some(4), "a member that was removed says so");
    assert_eq!(roles(&first), [("n1".to_owned(), "leader".to_owned())]);
    first.text(&["put", "k", "alone"]);
}

#[test]
fn the_doctor_says_what_is_wrong_and_what_to_do() {
    let member = Member::start();
    member.text(&["put", "k", "v"]);
    // One voter is no ill, but something to be told of.
    let told = member.text(&["doctor"]);
    for part in [
        "1 of 1 voters answer",
        "a sync takes",
        "GiB free",
        "Advice:",
        "add two",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let lines = member.text(&["doctor", "--no-disk", "--output", "json"]);
    assert!(!lines.contains("a sync takes"), "{lines}");
    for line in lines.lines() {
        let finding: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
        assert!(finding["check"].is_string() && finding["result"].is_string());
    }
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path().display().to_string();
    let told = member.text(&["doctor", "--data-dir", &place]);
    assert!(
        told.contains("this machine") && told.contains("a sync takes"),
        "{told}"
    );
    let missing = refusal(
        &member,
        &["doctor", "--data-dir", &format!("{place}/missing")],
    );
    assert!(missing.starts_with("error: data-dir: "), "{missing}");

    // A place that nobody took is told, and is no voter.
    let place = free_place();
    member.text(&["member", "add", &place]);
    let told = member.text(&["doctor", "--no-disk"]);
    assert!(told.contains("nobody has started there"), "{told}");
    let unreachable = member.run(&["doctor", "--endpoints", "127.0.0.1:1", "--timeout", "300ms"]);
    assert_eq!(unreachable.status.code(), Some(3));
}

/// A member whose disk could not be measured was said not to answer, and its lower mark to be what --state-bytes-max allows.
#[test]
fn the_doctor_tells_a_disk_that_fails_from_a_member_that_does() {
    let directory = tempfile::tempdir().expect("a directory");
    let (home, away) = (directory.path().join("n1"), directory.path().join("away"));
    let member = Member::start_in(directory, &["--disk-low-water-bytes", "60TiB"]);
    let doctor = || {
        let output = member.run(&["doctor"]);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), told)
    };
    // It is noticed by who writes.
    until("the alarm", || {
        member.run(&["put", "k", "v"]);
        doctor().1.contains("NOSPACE")
    });
    let (code, told) = doctor();
    assert_eq!(code, Some(1));
    for part in ["short of space: ", "is 61440.0 GiB", "its disk is short"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("raise --state-bytes-max"), "{told}");

    std::fs::rename(&home, &away).expect("it can be renamed");
    let (code, told) = doctor();
    assert_eq!(code, Some(1));
    for part in ["1 of 1 voters answer", "it fails: "] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn the_doctor_keeps_within_its_time() {
    // It takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = silent.local_addr().expect("it has one").to_string();
    let began = Instant::now();
    let ended = Command::new(env!("CARGO_BIN_EXE_synod"))
        .args(["doctor", "--timeout", "2s", "--endpoints", &endpoint])
        .output()
        .expect("the binary runs");
    assert_eq!(ended.status.code(), Some(3));
    assert!(began.elapsed() < Duration::from_secs(3));
}
