//! Commands that hold something while another one runs: `lock`, `elect`, `semaphore`, `barrier`, and what looks at them.

mod member;

use member::Member;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// More than anything here needs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A command of `synod` that goes on.
struct Running {
    process: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(member: &Member, arguments: &[&str]) -> Running {
        let mut process = Command::new(env!("CARGO_BIN_EXE_synod"))
            .args(arguments)
            .env("SYNOD_ENDPOINTS", &member.endpoint)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let output = process.stdout.take().expect("it was asked for");
        Running {
            process,
            lines: BufReader::new(output).lines(),
        }
    }

    /// The next line of its output.
    fn line(&mut self) -> String {
        let line = self.lines.next().expect("it says more");
        line.expect("the output is text")
    }

    fn signal(&self, signal: &str) {
        let told = Command::new("kill")
            .args([signal, &self.process.id().to_string()])
            .status();
        assert!(told.expect("kill runs").success(), "{signal}");
    }

    /// Its exit code.
    fn code(mut self) -> Option<i32> {
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            if let Some(status) = self.process.try_wait().expect("it can be waited for") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.process.kill();
        panic!("it does not end");
    }
}

/// Holds the lock until it is told to end, and says then that it was.
const LISTENS: [&str; 3] = [
    "sh",
    "-c",
    "trap 'echo told; exit 9' TERM; echo \"$SYNOD_LOCK $SYNOD_TOKEN\"; while :; do sleep 0.05; done",
];

fn holding<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [arguments, &["--"], &LISTENS].concat()
}

/// Waits until `lock list NAME` shows so many that wait.
fn until_waiting(member: &Member, name: &str, count: usize) -> serde_json::Value {
    let since = Instant::now();
    loop {
        let shown = member.json(&["lock", "list", name]);
        let waiters = shown["waiters"].as_array().expect("a list").len();
        if waiters == count {
            return shown;
        }
        assert!(since.elapsed() < PATIENCE, "{shown}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_command_runs_under_a_lock_and_ends_as_it_does() {
    let member = Member::start();
    let command = "echo \"$SYNOD_LOCK\"; test \"$SYNOD_TOKEN\" -gt 0 && exit 7";
    let ran = member.run(&["lock", "nightly", "--", "sh", "-c", command]);
    assert_eq!(ran.status.code(), Some(7), "{ran:?}");
    assert_eq!(ran.stdout, b"nightly\n");
    assert_eq!(member.text(&["lock", "nightly", "--", "true"]), "");
    let missing = member.run(&["lock", "nightly", "--", "/no/such/command"]);
    assert_eq!(missing.status.code(), Some(127), "{missing:?}");
    let told = String::from_utf8_lossy(&missing.stderr);
    assert!(
        told.starts_with("error: cannot run /no/such/command: "),
        "{told}"
    );
    let no_program = member.run(&["lock", "nightly", "--", "/etc/passwd"]);
    assert_eq!(no_program.status.code(), Some(126), "{no_program:?}");
    let killed = member.run(&["lock", "nightly", "--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(killed.status.code(), Some(128 + 9), "{killed:?}");
    // Each gave it back.
    assert_eq!(member.text(&["lock", "list"]), "");
    assert_eq!(member.text(&["session", "list", "--output", "json"]), "");
}

#[test]
fn who_holds_and_who_waits_is_shown_and_a_holder_can_be_removed() {
    let member = Member::start();
    let mut first = Running::start(&member, &holding(&["lock", "m", "--owner", "first"]));
    let token = first.line();
    let busy = member.run(&["lock", "m", "--wait", "0s", "--", "true"]);
    assert_eq!(busy.status.code(), Some(1), "{busy:?}");
    let late = member.run(&["lock", "m", "--wait", "100ms", "--", "true"]);
    assert_eq!(late.status.code(), Some(1), "{late:?}");
    assert!(String::from_utf8_lossy(&late.stderr).contains("lock list m"));

    let mut second = Running::start(&member, &holding(&["lock", "m", "--owner", "second"]));
    let shown = until_waiting(&member, "m", 1);
    assert_eq!(shown["holders"][0]["owner"], "first");
    assert_eq!(token, format!("m {}", shown["holders"][0]["token"]));
    assert_eq!(shown["waiters"][0]["owner"], "second");
    assert!(shown["waiters"][0]["waits_for"].is_string(), "{shown}");
    let table = member.text(&["lock", "list"]);
    assert!(table.contains("m") && table.contains("held"), "{table}");

    let unsure = member.run(&["lock", "release", "m", "--reason", "test"]);
    assert_eq!(unsure.status.code(), Some(2), "--force is demanded");
    member.text(&["lock", "release", "m", "--force", "--reason", "test"]);
    assert_eq!(first.line(), "told");
    assert_eq!(first.code(), Some(9));
    let next = second.line();
    let number = |line: &str| line[2..].parse::<u64>().expect("a token");
    assert!(number(&next) > number(&token), "{next} after {token}");
    // A signal is handed on.
    second.signal("-TERM");
    assert_eq!(second.line(), "told");
    assert_eq!(second.code(), Some(9));
}

#[test]
fn a_holder_that_was_stopped_for_too_long_is_told_when_it_goes_on() {
    let member = Member::start();
    let mut holder = Running::start(&member, &holding(&["lock", "m", "--ttl", "1s"]));
    let token = holder.line();
    holder.signal("-STOP");
    let print = "echo \"$SYNOD_TOKEN\"";
    let next = member.run(&["lock", "m", "--wait", "20s", "--", "sh", "-c", print]);
    assert_eq!(next.status.code(), Some(0), "{next:?}");
    holder.signal("-CONT");
    assert_eq!(holder.line(), "told");
    assert_eq!(holder.code(), Some(9));
    let next = String::from_utf8_lossy(&next.stdout);
    let next: u64 = next.trim().parse().expect("a token");
    let token: u64 = token[2..].parse().expect("a token");
    assert!(next > token, "{next} after {token}");
}

#[test]
fn f3_guarded_changes_are_refused_once_the_lock_is_not_held() {
    let member = Member::start();
    let bin = env!("CARGO_BIN_EXE_synod");
    let command = format!("{bin} put k v --guarded && echo \"$SYNOD_LOCK:$SYNOD_TOKEN\"");
    let fence = member.text(&["lock", "a:b %", "--", "sh", "-c", &command]);
    assert!(fence.starts_with("OK\na:b %:"), "{fence}");
    let fence = fence.lines().nth(1).expect("a line");
    for change in [
        &["put", "k", "late"][..],
        &["del", "k"],
        &["txn", "--then", "put k late"],
    ] {
        let refused = member.run(&[change, &["--guard", fence]].concat());
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(text.contains("not held"), "{text}");
    }
    assert_eq!(member.text(&["get", "k", "--value-only"]), "v\n");
    let alone = member.run(&["put", "k", "v", "--guarded"]);
    assert_eq!(alone.status.code(), Some(2), "{alone:?}");
}

#[test]
fn a_command_that_does_not_listen_is_killed() {
    let member = Member::start();
    let deaf = "trap '' TERM; echo on; while :; do sleep 0.05; done";
    let arguments = ["lock", "m", "--grace", "200ms", "--", "sh", "-c", deaf];
    let mut holder = Running::start(&member, &arguments);
    assert_eq!(holder.line(), "on");
    member.text(&["lock", "release", "m", "--force", "--reason", "test"]);
    assert_eq!(holder.code(), Some(128 + 9));
}

#[test]
fn what_the_command_started_is_killed_too_if_it_does_not_listen() {
    let member = Member::start();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("written");
    let deaf = format!(
        "sh -c \"trap : TERM; echo on; while :; do sleep 0.05; echo x >>{}; done\" & wait",
        file.display()
    );
    let arguments = ["lock", "m", "--grace", "300ms", "--", "sh", "-c", &deaf];
    let mut holder = Running::start(&member, &arguments);
    assert_eq!(holder.line(), "on");
    member.text(&["lock", "release", "m", "--force", "--reason", "test"]);
    assert_eq!(holder.code(), Some(128 + 15));
    let length = || std::fs::metadata(&file).map_or(0, |file| file.len());
    let before = length();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(length(), before);
}

#[test]
fn what_is_left_behind_by_a_command_that_ended_goes_on() {
    let member = Member::start();
    let leaves = "(sleep 0.5; echo later) & echo ended";
    let arguments = ["lock", "m", "--grace", "0s", "--", "sh", "-c", leaves];
    let mut holder = Running::start(&member, &arguments);
    assert_eq!(
        (holder.line(), holder.line()),
        ("ended".into(), "later".into())
    );
    assert_eq!(holder.code(), Some(0));
}

#[test]
fn signals_reach_the_command_and_do_not_end_its_keeper() {
    let member = Member::start();
    let says = "for s in QUIT USR1 USR2 ALRM; do trap \"echo $s\" $s; done; \
                trap 'exit 9' TERM; echo on; while :; do sleep 0.05; done";
    let mut holder = Running::start(&member, &["lock", "m", "--", "sh", "-c", says]);
    assert_eq!(holder.line(), "on");
    for signal in ["QUIT", "USR1", "USR2", "ALRM"] {
        holder.signal(&format!("-{signal}"));
        assert_eq!(holder.line(), signal);
    }
    holder.signal("-TERM");
    assert_eq!(holder.code(), Some(9));
}

#[test]
fn a_lock_that_cannot_be_given_back_changes_no_exit_code_and_holds_nobody_up() {
    let member = Member::start();
    let silent = format!("kill -STOP {}", member.process.id());
    let since = Instant::now();
    let ran = member.run(&["lock", "m", "--ttl", "60s", "--", "sh", "-c", &silent]);
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let told = String::from_utf8_lossy(&ran.stderr);
    assert!(
        told.starts_with("warning: ") && told.contains("60s"),
        "{told}"
    );
    // It was 10 s.
    assert!(since.elapsed() < Duration::from_secs(9), "{ran:?}");
}

#[test]
fn a_lock_that_is_lost_is_not_given_back_at_length() {
    let member = Member::start();
    let silent = format!("kill -STOP {}; sleep 100", member.process.id());
    let since = Instant::now();
    let ran = member.run(&["lock", "m", "--ttl", "1s", "--", "sh", "-c", &silent]);
    assert_eq!(ran.status.code(), Some(128 + 15), "{ran:?}");
    assert!(since.elapsed() < Duration::from_secs(9), "{ran:?}");
}

#[test]
fn a_lock_may_be_called_like_a_subcommand() {
    let member = Member::start();
    let meant = member.run(&["lock", "list", "--", "echo", "ran"]);
    assert_eq!(meant.status.code(), Some(2), "{meant:?}");
    let ran = member.text(&["lock", "--name", "list", "--", "echo", "ran"]);
    assert_eq!(ran, "ran\n");
}

#[test]
fn one_leads_and_is_looked_up() {
    let member = Member::start();
    let nobody = member.run(&["elect", "leader", "e"]);
    assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");
    let mut first = Running::start(&member, &holding(&["elect", "e", "--text", "10.0.0.1"]));
    first.line();
    assert_eq!(member.text(&["elect", "leader", "e"]), "10.0.0.1\n");
    let mut observer = Running::start(&member, &["elect", "observe", "e"]);
    assert_eq!(observer.line(), "10.0.0.1");
    let mut second = Running::start(&member, &holding(&["elect", "e", "--text", "10.0.0.2"]));
    until_waiting(&member, "e", 1);
    first.signal("-TERM");
    assert_eq!(first.line(), "told");
    second.line();
    assert_eq!(observer.line(), "10.0.0.2");
    let json = member.json(&["elect", "leader", "e"]);
    assert_eq!(json["leader"]["text"], "10.0.0.2");
    second.signal("-TERM");
    assert_eq!((first.code(), second.code()), (Some(9), Some(9)));
    observer.signal("-KILL");
    observer.code();
}

#[test]
fn so_many_run_beside_each_other_and_others_together() {
    let member = Member::start();
    let arguments = holding(&["semaphore", "s", "--limit", "2", "--permits", "2"]);
    let mut large = Running::start(&member, &arguments);
    large.line();
    let small = [
        "semaphore",
        "s",
        "--limit",
        "2",
        "--wait",
        "0s",
        "--",
        "true",
    ];
    assert_eq!(member.run(&small).status.code(), Some(1));
    let shown = member.json(&["lock", "list", "s"]);
    assert_eq!(
        (shown["kind"].as_str(), shown["used"].as_u64()),
        (Some("semaphore"), Some(2))
    );
    large.signal("-TERM");
    large.code();
    assert_eq!(member.run(&small).status.code(), Some(0));

    let alone = ["barrier", "b", "--parties", "2", "--wait", "100ms"];
    assert_eq!(member.run(&alone).status.code(), Some(1));
    let party = ["barrier", "b", "--parties", "2"];
    let first = Running::start(&member, &party);
    assert_eq!(member.run(&party).status.code(), Some(0));
    assert_eq!(first.code(), Some(0));
}

#[test]
fn a_latch_opens_when_all_is_done() {
    let member = Member::start();
    // One that was never set is open.
    assert_eq!(member.text(&["latch", "wait", "l", "--wait", "0s"]), "");
    assert_eq!(member.text(&["latch", "create", "l", "3"]), "3\n");
    let shut = member.run(&["latch", "wait", "l", "--wait", "100ms"]);
    assert_eq!(shut.status.code(), Some(1), "{shut:?}");
    let text = String::from_utf8_lossy(&shut.stderr).into_owned();
    assert!(text.contains("3 to count down"), "{text}");
    let waiting = Running::start(&member, &["latch", "wait", "l"]);
    assert_eq!(member.text(&["latch", "count-down", "l"]), "2\n");
    assert_eq!(member.json(&["latch", "show", "l"])["left"], 2);
    let done = member.json(&["latch", "count-down", "l", "--by", "5"]);
    assert_eq!(done["left"], 0);
    assert_eq!(waiting.code(), Some(0));
    let nothing = member.run(&["latch", "count-down", "l", "--by", "0"]);
    assert_eq!(nothing.status.code(), Some(2), "{nothing:?}");
    assert_eq!(member.text(&["session", "list", "--output", "json"]), "");
}

#[test]
fn a_group_is_listed_and_watched() {
    let member = Member::start();
    let mut watch = Running::start(&member, &["group", "watch", "g"]);
    assert_eq!(member.text(&["group", "list", "g"]), "");
    let join = [
        "group",
        "join",
        "g",
        "--attribute",
        "addr=10.0.0.1:80",
        "--attribute",
        "zone=a=b",
    ];
    let mut first = Running::start(&member, &holding(&join));
    let token = first.line();
    let token = token.strip_prefix("g ").expect("the group's name");
    let said = format!("{token} addr=10.0.0.1:80 zone=a=b");
    let seen = watch.line();
    assert!(
        seen == format!("joined {said}") || seen == format!("here {said}"),
        "{seen}"
    );
    let listed = member.json(&["group", "list", "g"]);
    assert_eq!(listed["attributes"]["zone"], "a=b");
    assert_eq!(listed["token"].to_string(), token);
    assert!(
        member
            .text(&["group", "list", "g"])
            .contains("addr=10.0.0.1:80 zone=a=b")
    );
    first.signal("-TERM");
    assert_eq!(first.line(), "told");
    assert_eq!(first.code(), Some(9));
    assert_eq!(watch.line(), format!("left {said}"));
    watch.signal("-KILL");
    watch.code();
    for wrong in ["plain", "=x"] {
        let refused = member.run(&["group", "join", "g", "--attribute", wrong]);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    }
    let twice = [&join[..], &["--attribute", "zone=c"]].concat();
    assert_eq!(member.run(&twice).status.code(), Some(2));
}

#[test]
fn ids_are_made_and_read() {
    let member = Member::start();
    let ids = member.text(&["id", "next", "--count", "3"]);
    let ids: Vec<u64> = ids
        .lines()
        .map(|id| id.parse().expect("a number"))
        .collect();
    assert!(ids.is_sorted() && ids.len() == 3, "{ids:?}");
    let says = member.json(&["id", "decode", &ids[0].to_string()]);
    let later = member.json(&["id", "decode", &ids[2].to_string()]);
    let time = |says: &serde_json::Value| says["unix_ms"].as_u64().expect("a time");
    assert!(time(&says) > 1_700_000_000_000 && time(&later) >= time(&says));
    let uuid = member.text(&["id", "uuid"]);
    let says = member.json(&["id", "decode", uuid.trim()]);
    assert_eq!(says["version"], 7);
    assert_eq!(member.text(&["id", "segment", "n", "10"]), "1 10\n");
    assert_eq!(member.text(&["id", "segment", "n", "5"]), "11 15\n");
    assert_eq!(member.text(&["id", "counter", "c", "5"]), "5\n");
    assert_eq!(member.text(&["id", "counter", "c", "-2"]), "3\n");
    assert_eq!(member.text(&["id", "counter", "c"]), "3\n");
}

#[test]
fn sessions_are_listed_and_ended() {
    let member = Member::start();
    let mut holder = Running::start(&member, &holding(&["lock", "m"]));
    holder.line();
    let shown = member.json(&["session", "list"]);
    assert_eq!(shown["acquisitions"], 1);
    let session = shown["session"].as_str().expect("a number");
    member.text(&["session", "close", session]);
    assert_eq!(holder.line(), "told");
    assert_eq!(holder.code(), Some(9));
    let again = member.run(&["session", "close", session]);
    assert_eq!(again.status.code(), Some(1));
    let told = String::from_utf8_lossy(&again.stderr);
    let expected = format!("error: session {session} has ended, or never was;");
    assert!(told.starts_with(&expected), "{told}");
}

#[test]
fn keys_of_fencing_tokens_are_rotated_and_dropped() {
    let member = Member::start();
    let keys = |arguments: &[&str]| {
        let text = member.text(&[&["fencing"], arguments, &["--output", "json"]].concat());
        let key = |line| serde_json::from_str::<serde_json::Value>(line).expect("JSON");
        text.lines().map(key).collect::<Vec<_>>()
    };
    let first = keys(&["keys"]);
    assert_eq!((first.len(), &first[0]["signs"]), (1, &true.into()));
    let both = keys(&["rotate", "--keep", "24h"]);
    assert_eq!(both.len(), 2);
    assert_ne!(both[0]["key"], first[0]["key"]);
    assert_eq!(both[1]["key"], first[0]["key"]);
    assert!(both[1]["until_unix_ms"].as_u64() > Some(1_700_000_000_000));
    let shown = member.text(&["fencing", "keys"]);
    assert!(
        shown.contains("for 23h") || shown.contains("for 24h"),
        "{shown}"
    );
    let old = first[0]["key"].as_str().expect("a name");
    assert_eq!(keys(&["drop", old]).len(), 1);
    let again = member.run(&["fencing", "drop", old]);
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(keys(&["rotate", "--keep", "0s"]).len(), 1);
}
