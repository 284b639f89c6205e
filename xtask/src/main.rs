//! The repository's gate: `cargo xtask check` says whether a change may land, `cargo xtask fix` repairs what a machine can repair.
//! `check` writes nothing. Its last part, tidy, is an ordinary test too, so `cargo test --workspace` runs it.

mod source;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str = "\
usage: cargo xtask <command>

  check   formatting, clippy with warnings as errors, tidy, all tests; changes nothing
  fix     formats the code and rewrites the list of oversized files
  tidy    only the rules of this repository: arrows, purity, documents, file sizes (seconds)";

fn main() -> ExitCode {
    let argument = std::env::args().nth(1).unwrap_or_default();
    let done = match argument.as_str() {
        "check" => check(),
        "fix" => fix(),
        "tidy" => tidy_prints(),
        "" | "help" | "-h" | "--help" => {
            println!("{USAGE}");
            true
        }
        unknown => {
            eprintln!("xtask: {unknown:?} is no command\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if done {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    }
}

/// The repository's root: the parent of this crate.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies inside the repository")
        .to_path_buf()
}

/// One part of the gate: whether it passed.
type Step = fn() -> bool;

/// Cheapest first, and all of them even after a failure: one run names everything that is wrong.
fn check() -> bool {
    let steps: [(&str, Step); 4] = [
        ("fmt", || cargo(&["fmt", "--all", "--check"])),
        ("tidy", tidy_prints),
        ("clippy", || {
            cargo(&[
                "clippy",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ])
        }),
        ("test", || cargo(&["test", "--workspace"])),
    ];
    let mut failed = Vec::new();
    for (name, step) in steps {
        eprintln!("xtask: {name}");
        if !step() {
            failed.push(name);
        }
    }
    if failed.is_empty() {
        eprintln!("xtask: all good");
    } else {
        eprintln!("xtask: failed: {}", failed.join(", "));
    }
    failed.is_empty()
}

fn fix() -> bool {
    let formatted = cargo(&["fmt", "--all"]);
    match tidy::sizes::rewrite(&root()) {
        Ok(()) => formatted,
        Err(error) => {
            eprintln!("xtask: cannot write {}: {error}", tidy::sizes::LIST);
            false
        }
    }
}

fn tidy_prints() -> bool {
    let problems = tidy::problems(&root());
    for problem in &problems {
        eprintln!("tidy: {problem}");
    }
    problems.is_empty()
}

fn cargo(arguments: &[&str]) -> bool {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    match Command::new(cargo)
        .args(arguments)
        .current_dir(root())
        .status()
    {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("xtask: cannot run cargo {}: {error}", arguments.join(" "));
            false
        }
    }
}
