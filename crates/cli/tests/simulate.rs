//! `synod sim` as people and scripts use it: what it prints, what it writes, and how it ends.

use std::process::{Command, Output};

fn sim(directory: &tempfile::TempDir, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_synod"))
        .arg("sim")
        .args(arguments.split_whitespace())
        .current_dir(directory.path())
        .output()
        .expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_run_tells_its_story_and_leaves_a_picture() {
    let directory = tempfile::tempdir().expect("a directory");
    let output = sim(&directory, "--seed 5 --profile lossy --seconds 5 --trace");
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(
        told.contains("leads term 1") && told.contains("seed 5 profile lossy"),
        "{told}"
    );
    let page = std::fs::read_to_string(directory.path().join("synod-sim-lossy-5.html"));
    assert!(
        page.expect("a picture is written")
            .starts_with("<!doctype html>")
    );
    let again = sim(&directory, "--seed 5 --profile lossy --seconds 5 --trace");
    assert_eq!(told, text(&again.stdout), "equal seeds tell equal stories");
}

#[test]
fn scenarios_are_listed_and_played() {
    let directory = tempfile::tempdir().expect("a directory");
    let list = text(&sim(&directory, "--scenario list").stdout);
    assert!(
        list.lines().count() >= 6 && list.contains("raft-figure-8"),
        "{list}"
    );
    let output = sim(
        &directory,
        "--seed 5 --profile lossy --seconds 5 --picture run.svg --from 2s --to 2500ms",
    );
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let picture = std::fs::read_to_string(directory.path().join("run.svg"));
    let picture = picture.expect("a picture is written");
    assert!(picture.starts_with("<svg") && picture.contains("✓ every promise was kept"));
    assert!(picture.contains("Message by message, 2.000 s to 2.500 s"));
    let output = sim(&directory, "--scenario raft-split-vote --picture vote.svg");
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("yes  term 2 had no leader"), "{told}");
    let picture = std::fs::read_to_string(directory.path().join("vote.svg"));
    assert!(picture.expect("a picture is written").starts_with("<svg"));
}

#[test]
fn many_seeds_give_a_line_per_profile_and_the_seeds_that_ran() {
    let directory = tempfile::tempdir().expect("a directory");
    let batch = |threads| {
        let output = sim(
            &directory,
            &format!("--seeds 3..5 --profile all --seconds 3 --threads {threads}"),
        );
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let told = text(&output.stdout);
        let last = told.lines().last().unwrap_or_default();
        assert!(
            last.starts_with("  16 runs up to seed 4, ") && last.ends_with("; none failed"),
            "{last}"
        );
        // The last line says how long it took.
        told.lines()
            .take_while(|line| !line.contains("simulated s in"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let told = batch(1);
    assert!(
        told.contains("seeds 3..5") && told.contains("crashy"),
        "{told}"
    );
    assert_eq!(told, batch(3), "threads change nothing");
}

#[test]
fn wrong_usage_ends_with_two_and_says_what_to_do() {
    let directory = tempfile::tempdir().expect("a directory");
    for (arguments, hint) in [
        ("--profile all", "--seeds 0..100"),
        ("--seeds 9..3", "such as 0..200"),
        ("--scenario no-such-story", "--scenario list"),
        ("--only-faults x", "such as 3,7,12"),
        ("--from 3s", "--trace"),
        ("--seed 1 --seeds 0..3", "cannot be used with"),
        (
            "--scenario raft-split-vote --heal-at 3",
            "cannot be used with",
        ),
        ("--seeds 0..3 --picture x.html", "cannot be used with"),
        ("--picture x.png", ".html or .svg"),
        ("--picture no/such/x.html", "cannot be written"),
        ("--trace --from 5s --to 3s", "is not before"),
        ("--seconds 5 --heal-at 6", "after the end of the faults"),
        ("--profile calm --only-faults 99", "none at place 99"),
    ] {
        let output = sim(&directory, arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {said}");
        assert!(said.contains(hint), "{arguments}: {said}");
    }
}
