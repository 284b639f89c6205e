//! Scripts whose answers are written down behind the requests. `UPDATE_GOLDEN=1` rewrites the answers.

use super::{Applied, Batch, Budget, Command, Group, State};
use prost::Message;
use std::fmt::Write;
use std::path::Path;

/// Applies a batch of one group, in the smallest slices.
pub fn apply(
    state: &mut State,
    (clock_ms, wall_ms): (u64, u64),
    renewals: Vec<i64>,
    commands: Vec<Command>,
) -> Applied {
    let batch = Batch {
        format: 1,
        clock_ms,
        wall_ms,
        groups: vec![Group {
            renewals,
            commands,
            ..Group::default()
        }],
    };
    state
        .apply_begin(state.applied() + 1, &batch.encode_to_vec())
        .expect("a batch of this version");
    loop {
        if let Some(applied) = state.apply_step(Budget(1)) {
            return applied;
        }
    }
}

/// The script with the answers of now: lines that begin with `> ` are requests; comments and empty lines stay.
fn play(script: &str, mut answer: impl FnMut(&str) -> Vec<String>) -> String {
    let mut out = String::new();
    for line in script.lines() {
        match line.strip_prefix("> ") {
            Some(request) => {
                writeln!(out, "{line}").unwrap();
                for line in answer(request) {
                    writeln!(out, "{line}").unwrap();
                }
            }
            None if line.starts_with('#') || line.is_empty() => writeln!(out, "{line}").unwrap(),
            None => {}
        }
    }
    out
}

/// Plays every script of a folder, each to a player of its own, and holds the answers against those written down.
pub fn check_scripts<P>(
    folder: &str,
    at_least: usize,
    player: impl Fn(&str) -> P,
    run: impl Fn(&mut P, &str) -> Vec<String>,
) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(folder);
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(
        paths.len() >= at_least,
        "only {} scripts were found",
        paths.len()
    );
    for path in paths {
        let shown = path.display();
        let script = std::fs::read_to_string(&path).unwrap();
        assert!(
            script.starts_with("# Goal: "),
            "{shown} does not say its goal"
        );
        let mut player = player(&script);
        let answered = play(&script, |request| run(&mut player, request));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &answered).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap();
        assert_eq!(answered.trim(), written.trim(), "{shown}");
    }
}
