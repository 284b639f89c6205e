//! Equal seeds give equal traces: twice in one process, on several threads at once, and in another process with another environment.

use std::process::Command;
use synod_sim::{Options, Profile, run};

/// Tells the process started by the last test what it is for.
const CHILD: &str = "SYNOD_SIM_PRINT_HASHES";

fn options() -> impl Iterator<Item = Options> {
    Profile::ALL
        .into_iter()
        .zip(40..)
        .map(|(profile, seed)| Options {
            seconds: 10,
            ..Options::new(seed, profile)
        })
}

/// The hash of each run, with the command that replays it.
fn hashes() -> Vec<(String, u64)> {
    options()
        .map(|options| run(&options))
        .map(|report| (report.replay, report.trace_hash))
        .collect()
}

/// Fails with the command that shows the difference.
#[track_caller]
fn equal(expected: &[(String, u64)], found: &[(String, u64)], where_found: &str) {
    assert_eq!(expected.len(), found.len());
    for ((replay, here), (_, there)) in expected.iter().zip(found) {
        assert_eq!(
            here, there,
            "trace {here:x} here and {there:x} {where_found}; replay with: {replay} --trace --detail everything"
        );
    }
}

#[test]
fn two_runs_in_one_process_are_equal() {
    let (first, second) = (hashes(), hashes());
    equal(&first, &second, "the second time");
    let distinct: std::collections::BTreeSet<u64> = first.iter().map(|(_, hash)| *hash).collect();
    assert_eq!(
        distinct.len(),
        first.len(),
        "different runs have different traces"
    );
}

#[test]
fn runs_on_several_threads_at_once_are_equal() {
    let alone = hashes();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(hashes)).collect();
        for thread in threads {
            equal(&alone, &thread.join().expect("it ran"), "on another thread");
        }
    });
}

#[test]
fn a_run_in_another_process_with_another_environment_is_equal() {
    let lines = |hashes: &[(String, u64)]| -> Vec<String> {
        hashes
            .iter()
            .map(|(replay, hash)| format!("{hash:016x} {replay}"))
            .collect()
    };
    if std::env::var_os(CHILD).is_some() {
        return println!("{}", lines(&hashes()).join("\n"));
    }
    let here = hashes();
    let output = Command::new(std::env::current_exe().expect("this test is a program"))
        .args([
            "--exact",
            "a_run_in_another_process_with_another_environment_is_equal",
        ])
        .args(["--nocapture", "--test-threads", "1"])
        .env_clear()
        .envs([
            (CHILD, "1"),
            ("LC_ALL", "tr_TR.UTF-8"),
            ("LANG", "de_DE"),
            ("TZ", "Pacific/Chatham"),
        ])
        .envs([
            ("HOME", "/nonexistent"),
            ("RUST_BACKTRACE", "full"),
            ("RUST_MIN_STACK", "8000000"),
        ])
        .env("PADDING", "x".repeat(40_000))
        .current_dir(std::env::temp_dir())
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let there: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("synod sim --"))
        .collect();
    assert!(
        output.status.success() && there.len() == here.len(),
        "the other process says: {text}"
    );
    let there: Vec<(String, u64)> = there
        .iter()
        .map(|line| {
            // The test harness may have begun the line.
            let at = line.find(" synod sim").expect("it was filtered so");
            let hash = line[..at].split(' ').next_back().unwrap_or_default();
            (
                line[at + 1..].to_owned(),
                u64::from_str_radix(hash, 16).expect("a hash"),
            )
        })
        .collect();
    equal(&here, &there, "in another process");
}
