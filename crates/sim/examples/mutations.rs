//! Looks for the first seed that finds each bug put in on purpose.
//!
//! `mutations` rewrites the table docs/design/mutations.md; `mutations NAME [PROFILE [FIRST [LAST]]]` looks for one bug and prints what found it, in
//! the profile named or in any; `mutations NAME PROFILE SEED trace` prints that run.

use std::fmt::Write as _;
use synod_sim::mutation::Mutation;
use synod_sim::{Options, Profile, Report, run};

const TABLE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../docs/design/mutations.md"
);

/// Seeds tried in each profile.
const SEEDS_MAX: u64 = 200;

/// Simulated seconds with faults of each run.
const SECONDS: u64 = 20;

fn main() {
    // Broken assertions of members are findings, not failures of this program.
    std::panic::set_hook(Box::new(|_| {}));
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(name) = args.first() else {
        return write_table();
    };
    let mutation = Mutation::named(name).expect("the name of a mutation");
    let profiles: Vec<Profile> = match args.get(1) {
        Some(name) => vec![Profile::named(name).expect("a profile")],
        None => Profile::ALL.to_vec(),
    };
    let first: u64 = args.get(2).map_or(0, |seed| seed.parse().expect("a seed"));
    if args.get(3).is_some_and(|word| word == "trace") {
        let report = run(&options(mutation, profiles[0], first, true));
        return println!("{}{report}", report.trace);
    }
    let last: u64 = args
        .get(3)
        .map_or(first + 1, |seed| seed.parse().expect("a seed"));
    match find(mutation, &profiles, first..last.max(first + 1)) {
        Some(report) => println!("{report}"),
        None => println!("{mutation} is not found"),
    }
}

fn options(mutation: Mutation, profile: Profile, seed: u64, trace: bool) -> Options {
    Options {
        seconds: SECONDS,
        mutation: Some(mutation),
        trace,
        ..Options::new(seed, profile)
    }
}

/// The first run in which the bug shows: each seed in all profiles before the next seed.
fn find(
    mutation: Mutation,
    profiles: &[Profile],
    mut seeds: std::ops::Range<u64>,
) -> Option<Report> {
    seeds.find_map(|seed| {
        let mut reports = profiles
            .iter()
            .map(|profile| run(&options(mutation, *profile, seed, false)));
        reports.find(|report| !report.violations.is_empty())
    })
}

fn write_table() {
    let mut page = String::from(INTRODUCTION);
    let (mut all, mut found) = (0, 0);
    for (mutation, what) in Mutation::all() {
        all += 1;
        let caught = match find(mutation, &Profile::ALL, 0..SEEDS_MAX) {
            Some(report) => {
                found += 1;
                format!(
                    "{} | {} | {}",
                    report.profile, report.seed, report.violations[0].property
                )
            }
            None => "not found | |".into(),
        };
        println!("{mutation}: {caught}");
        writeln!(
            page,
            "| `{mutation}` | {} | {what} | {caught} |",
            mutation.home()
        )
        .expect("memory");
    }
    writeln!(
        page,
        "\n{found} of {all} bugs are found within {SEEDS_MAX} seeds."
    )
    .expect("memory");
    std::fs::write(TABLE, page).expect("docs/design/mutations.md can be written");
}

const INTRODUCTION: &str = "\
# Bugs put in on purpose

How the simulator is tested: each of these bugs can be put into the crates under test (feature `mutations`, which no released binary has), and the
simulator must find it. The seed is the first of its profile that does, in runs of 20 simulated seconds with faults; seeds below it were tried in all
profiles. The last column is the promise that was seen broken ([PROPERTIES] by name; *assertion*: a member's own invariant).

Written by `cargo run -p synod-sim --example mutations`; the tests of `synod-sim` run every line of it.

| bug | in | what it does | profile | seed | seen as |
|---|---|---|---|---|---|
";
