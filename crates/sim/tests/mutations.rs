//! Every bug put in on purpose is found, as docs/design/mutations.md says; and without the bug the same run is clean.

use std::collections::BTreeSet;
use synod_sim::Profile;
use synod_sim::mutation::Mutation;
use synod_sim::mutation::search::{self, Place, Sight, live};

const TABLE: &str = include_str!("../../../docs/design/mutations.md");

/// After a change of the simulator a seed lives another life: so many more seeds are tried before a bug counts as not found.
const MORE_SEEDS: u64 = 20;

/// One line of the table.
struct Row {
    mutation: Mutation,
    /// Where the simulator finds it, and as what.
    seen: Option<Sight>,
    /// The golden script that shows it.
    script: &'static str,
}

fn rows() -> Vec<Row> {
    let lines = TABLE.lines().filter(|line| line.starts_with("| `"));
    lines
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let seen = Place::parse(cells[4], cells[5]).map(|place| Sight {
                place,
                property: cells[6].into(),
            });
            Row {
                mutation: Mutation::named(cells[1].trim_matches('`')).expect(line),
                seen,
                script: cells[7],
            }
        })
        .collect()
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
        let Some(seen) = row.seen else {
            continue;
        };
        found += 1;
        let bug = row.mutation;
        if search::look_at(bug, &seen.place) == Some(seen.clone()) {
            continue;
        }
        let again = match seen.place {
            Place::Story(_) => None,
            Place::Life(profile, _) => search::find(bug, &[profile], 0..MORE_SEEDS),
        };
        match again {
            Some(report) => {
                let text = report.to_string();
                assert!(text.contains("replay: synod sim --profile"), "{text}");
            }
            None => missed.push(format!("{bug} at {}", seen.place)),
        }
    }
    assert!(missed.is_empty(), "not found:\n{}", missed.join("\n"));
    assert!(found >= 140, "the simulator finds {found} bugs");
}

#[test]
fn the_same_runs_are_clean_without_the_bugs() {
    let seen: BTreeSet<(Profile, u64)> = rows()
        .into_iter()
        .filter_map(|row| match row.seen?.place {
            Place::Life(profile, seed) => Some((profile, seed)),
            Place::Story(_) => None,
        })
        .collect();
    for (profile, seed) in seen {
        let report = live(profile, seed, None);
        assert!(report.violations.is_empty(), "{report}");
    }
}
