//! Every bug put in on purpose is found, as docs/design/mutations.md says; and without the bug the same run is clean.

use std::collections::BTreeSet;
use synod_sim::mutation::Mutation;
use synod_sim::{Options, Profile, Report, run};

const TABLE: &str = include_str!("../../../docs/design/mutations.md");

/// After a change of the simulator a seed lives another life: so many more seeds are tried before a bug counts as not found.
const MORE_SEEDS: u64 = 20;

/// One line of the table.
struct Row {
    mutation: Mutation,
    /// Where the simulator finds it, and as what.
    seen: Option<(Profile, u64, &'static str)>,
    /// The golden script that shows it.
    script: &'static str,
}

fn rows() -> Vec<Row> {
    let lines = TABLE.lines().filter(|line| line.starts_with("| `"));
    lines
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let seen = Profile::named(cells[4])
                .map(|profile| (profile, cells[5].parse().expect(line), cells[6]));
            Row {
                mutation: Mutation::named(cells[1].trim_matches('`')).expect(line),
                seen,
                script: cells[7],
            }
        })
        .collect()
}

fn live(profile: Profile, seed: u64, mutation: Option<Mutation>) -> Report {
    run(&Options {
        seconds: 20,
        mutation,
        ..Options::new(seed, profile)
    })
}

#[test]
fn every_bug_is_in_the_table() {
    let listed: Vec<String> = rows().iter().map(|row| row.mutation.to_string()).collect();
    let all = Mutation::all();
    let all: Vec<String> = all.iter().map(|(bug, _)| bug.to_string()).collect();
    assert_eq!(
        listed, all,
        "cargo run -p synod-sim --example mutations writes the table"
    );
    for row in rows() {
        let (bug, found) = (row.mutation, row.seen.is_some() || !row.script.is_empty());
        assert!(found, "{bug} is found by nothing");
    }
}

#[test]
fn the_simulator_finds_the_bugs() {
    let mut missed = Vec::new();
    let mut found = 0;
    for row in rows() {
        let Some((profile, seed, property)) = row.seen else {
            continue;
        };
        found += 1;
        let bug = Some(row.mutation);
        let report = live(profile, seed, bug);
        match report.violations.first() {
            Some(violation) if violation.property == property => {
                let text = report.to_string();
                assert!(text.contains("replay: synod sim --profile"), "{text}");
            }
            _ if (0..MORE_SEEDS).any(|seed| !live(profile, seed, bug).violations.is_empty()) => {}
            _ => missed.push(format!(
                "{} in {MORE_SEEDS} seeds of {profile}",
                row.mutation
            )),
        }
    }
    assert!(missed.is_empty(), "not found:\n{}", missed.join("\n"));
    assert!(found >= 50, "the simulator finds {found} bugs");
}

#[test]
fn the_same_runs_are_clean_without_the_bugs() {
    let seen: BTreeSet<(Profile, u64)> = rows()
        .iter()
        .filter_map(|row| row.seen.map(|(profile, seed, _)| (profile, seed)))
        .collect();
    for (profile, seed) in seen {
        let report = live(profile, seed, None);
        assert!(report.violations.is_empty(), "{report}");
    }
}
