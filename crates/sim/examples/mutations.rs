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

/// Which golden script shows which bug of consensus; written by the tests of `synod-raft`.
const SCRIPTS: &str = include_str!("../../raft/tests/bugs.txt");

/// Seeds tried in each profile.
const SEEDS_MAX: u64 = 64;

/// The same for a bug that a script shows anyway.
const SEEDS_MAX_WITH_SCRIPT: u64 = 30;

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

/// The golden script of consensus that shows a bug, or nothing.
fn script(mutation: Mutation) -> &'static str {
    let name = mutation.to_string();
    let lines = SCRIPTS.lines().filter_map(|line| line.split_once(' '));
    let mut shown = lines.filter(|(bug, script)| *bug == name && *script != "-");
    shown.next().map_or("", |(_, script)| script)
}

fn write_table() {
    let mut page = String::from(INTRODUCTION);
    let (mut all, mut found) = (0, 0);
    for (mutation, what) in Mutation::all() {
        let script = script(mutation);
        let seeds_max = if script.is_empty() {
            SEEDS_MAX
        } else {
            SEEDS_MAX_WITH_SCRIPT
        };
        let report = find(mutation, &Profile::ALL, 0..seeds_max);
        all += 1;
        found += usize::from(report.is_some());
        let seen = report.map_or(" | | ".into(), |report| {
            let property = report.violations[0].property;
            format!("{} | {} | {property}", report.profile, report.seed)
        });
        let home = mutation.home();
        println!("{mutation}: {seen}");
        writeln!(
            page,
            "| `{mutation}` | {home} | {what} | {seen} | {script} |"
        )
        .expect("memory");
    }
    writeln!(
        page,
        "\n{found} of {all} are found by the simulator, within {SEEDS_MAX} seeds of some profile, {SEEDS_MAX_WITH_SCRIPT} if a script shows them."
    )
    .expect("memory");
    std::fs::write(TABLE, page).expect("docs/design/mutations.md can be written");
}

const INTRODUCTION: &str = "\
# Bugs put in on purpose

How the simulator is tested: each of these bugs can be put into the crates under test (feature `mutations`, which no released binary has), and must be
found. The seed is the first of the profile that finds it, in runs of 20 simulated seconds with faults. Then the promise that was seen broken (by its name in PROPERTIES where it has one; *assertion*: a member's own invariant), and the golden script of consensus
that shows the bug too. A few bugs do no harm without a rare accident: they are found by their script alone.

Written by `cargo run -p synod-sim --example mutations`. The tests of `synod-sim` run every line of it, those of `synod-raft` every script.

| bug | in | what it does | profile | seed | seen as | script |
|---|---|---|---|---|---|---|
";
