//! `synod serve` as a process: its signals, its stderr, its environment, its last words.

#[path = "../../ports.rs"]
mod ports;

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

fn synod() -> Command {
    Command::new(env!("CARGO_BIN_EXE_synod"))
}

fn ended(process: &mut Child) -> ExitStatus {
    let since = Instant::now();
    loop {
        if let Some(status) = process.try_wait().expect("it is ours") {
            return status;
        }
        assert!(since.elapsed() < PATIENCE, "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Killed at the end, however that comes.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a member with this stderr, which `then` may change, has it take a put, and stops it with these signals.
fn serves_with(stderr: Stdio, then: impl FnOnce(&mut Child), signals: &[Signal]) {
    let directory = tempfile::tempdir().expect("a directory");
    let place = format!("127.0.0.1:{}", ports::free_ports(1).expect("a port")[0]);
    let process = synod()
        .args(["serve", "--client-addr", &place, "--peer-addr"])
        .args(["127.0.0.1:0", "--log-segment-bytes", "1MiB"])
        .args(["--disk-low-water-bytes", "0", "--log-level", "debug"])
        .arg("--data-dir")
        .arg(directory.path().join("n1"))
        .stderr(stderr)
        .spawn()
        .expect("the binary runs");
    let mut member = Running(process);
    then(&mut member.0);
    let since = Instant::now();
    let put = || {
        let mut put = synod();
        put.args(["put", "k", "v", "--endpoints", &place]).output()
    };
    while put().expect("the binary runs").status.code() != Some(0) {
        let status = member.0.try_wait().expect("it is ours");
        assert_eq!(status, None, "it ended because it could not log");
        assert!(since.elapsed() < PATIENCE, "it does not serve");
    }
    for signal in signals {
        kill_process(Pid::from_child(&member.0), *signal).expect("it runs");
    }
    assert_eq!(ended(&mut member.0).code(), Some(0));
}

#[test]
fn a_member_whose_log_nobody_reads_goes_on() {
    serves_with(
        Stdio::piped(),
        |member| drop(member.stderr.take()),
        &[Signal::TERM],
    );
    serves_with(
        Stdio::piped(),
        |member| {
            let mut log = BufReader::new(member.stderr.take().expect("it was asked for"));
            log.read_line(&mut String::new()).expect("the log is text");
        },
        &[Signal::TERM],
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_member_whose_log_finds_a_full_disk_goes_on() {
    let full = || {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).open("/dev/full").expect("Linux has it")
    };
    serves_with(full().into(), |_| (), &[Signal::TERM]);
    // Last words that cannot be said change no exit code.
    let mut refused = synod();
    refused.args(["serve", "--name", "a b"]).stderr(full());
    assert_eq!(refused.status().expect("it runs").code(), Some(2));
    let mut help = synod();
    help.args(["serve", "--help"]).stdout(full());
    assert_eq!(help.status().expect("it runs").code(), Some(1));
}

#[test]
fn two_signals_at_once_are_one() {
    // Of two kinds: the system may make one of two of the same.
    serves_with(Stdio::null(), |_| (), &[Signal::TERM, Signal::INT]);
}

fn serve(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut process = synod();
    process.arg("serve").args(arguments);
    process.envs(variables.iter().copied());
    process.output().expect("the binary runs")
}

#[test]
fn a_variable_that_is_no_setting_is_told() {
    let output = serve(
        &["--name", "a b"],
        &[("SYNOD_CLUSTR", "n1=h:1"), ("SYNOD_USER", "me")],
    );
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("SYNOD_CLUSTR has no effect"), "{told}");
    assert!(told.contains("did you mean SYNOD_CLUSTER?"), "{told}");
    assert!(!told.contains("SYNOD_USER"), "{told}");
}

#[test]
fn the_last_words_are_in_the_form_of_the_log() {
    let directory = tempfile::tempdir().expect("a directory");
    let photograph = directory.path().join("holiday.jpg");
    std::fs::write(photograph, "x").expect("it is written");
    let place = directory.path().display().to_string();
    let foreign = ["--data-dir", &place, "--client-addr", "127.0.0.1:0"];
    let foreign = [&foreign[..], &["--peer-addr", "127.0.0.1:0"]].concat();
    let json = ["--log-format", "json"];
    for (arguments, code, reason) in [
        (
            &foreign[..],
            1,
            "is not this member's: it holds 'holiday.jpg' but no 'version' file of Synod; pass an empty directory",
        ),
        (&["--name", "a b"], 2, "--name: \"a b\" is no name"),
        (&["--config", "/missing"], 2, "/missing cannot be read"),
    ] {
        let output = serve(&[arguments, &json].concat(), &[]);
        assert_eq!(output.status.code(), Some(code));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = told.lines().last().expect("a reason");
        let line: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
        let found = line["reason"].as_str().expect("a reason");
        assert!(found.contains(reason), "{found}");
        // With a filter that lets no error through it is told all the same.
        let output = serve(&[arguments, &json, &["--log-level", "off"]].concat(), &[]);
        assert_eq!(output.status.code(), Some(code));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            told.starts_with("error: ") && told.contains(reason),
            "{told}"
        );
    }
}

#[test]
fn a_lost_identity_is_told_and_not_made_anew() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("n1");
    std::fs::create_dir(&data).expect("it is made");
    let heading = "synod data directory\nformat 1\n";
    std::fs::write(data.join("version"), heading).expect("it is written");
    let log = data.join("log-0000000000000002-00000800");
    std::fs::write(log, "").expect("it is written");
    let shown = data.display().to_string();
    let place = ["--client-addr", "127.0.0.1:0", "--peer-addr", "127.0.0.1:0"];
    let output = serve(&[&["--data-dir", &shown], &place[..]].concat(), &[]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("its 'identity' file is gone"), "{told}");
    assert!(!data.join("identity").exists());
}
