//! Looks for the first seed that finds each bug put in on purpose.
//!
//! `mutations` searches for all of them and rewrites the table docs/design/mutations.md; `mutations check` searches in the same way and fails if the table
//! says anything else; `mutations refresh` searches only for those that the table has no place for, or that do not show any more where it says; `mutations NAME [PROFILE [FIRST [LAST]]]` looks for one bug and prints what found it, in the profile named or in any;
//! `mutations NAME PROFILE SEED trace` prints that run.

use std::fmt::Write as _;
use std::process::ExitCode;
use synod_sim::mutation::Mutation;
use synod_sim::mutation::search::{self, Place, Sight};
use synod_sim::{Options, Profile, run};

const TABLE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../docs/design/mutations.md"
);

/// Which golden script shows which bug of consensus; written by the tests of `synod-raft`.
const SCRIPTS: &str = include_str!("../../raft/tests/bugs.txt");

/// Seeds tried in each profile.
const SEEDS_MAX: u64 = 256;

fn main() -> ExitCode {
    // Broken assertions of members are findings, not failures of this program.
    std::panic::set_hook(Box::new(|_| {}));
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        None => write(&table("")),
        Some("refresh") => write(&table(&listed())),
        Some("check") => {
            if table("") != listed() {
                eprintln!(
                    "docs/design/mutations.md is not what the search gives; without \"check\" it is written anew"
                );
                return ExitCode::FAILURE;
            }
        }
        Some(name) => look_for(name, &args[1..]),
    }
    ExitCode::SUCCESS
}

fn listed() -> String {
    std::fs::read_to_string(TABLE).unwrap_or_default()
}

fn write(table: &str) {
    std::fs::write(TABLE, table).expect("docs/design/mutations.md can be written");
}

fn look_for(name: &str, args: &[String]) {
    let mutation = Mutation::named(name).expect("the name of a mutation");
    let profiles: Vec<Profile> = match args.first() {
        Some(name) => vec![Profile::named(name).expect("a profile")],
        None => Profile::ALL.to_vec(),
    };
    let number = |place: usize| args.get(place).and_then(|word| word.parse::<u64>().ok());
    let first = number(1).unwrap_or(0);
    if args.get(2).is_some_and(|word| word == "trace") {
        let report = run(&Options {
            trace: true,
            ..search::options(profiles[0], first, Some(mutation))
        });
        return println!("{}{report}", report.trace);
    }
    let last = number(2).unwrap_or(0).max(first + 1);
    match search::find(mutation, &profiles, first..last) {
        Some(report) => println!("{report}"),
        None => println!("{mutation} is not found"),
    }
}

/// The golden script of consensus that shows a bug, or nothing.
fn script(mutation: Mutation) -> &'static str {
    let name = mutation.to_string();
    let lines = SCRIPTS.lines().filter_map(|line| line.split_once(' '));
    let mut shown = lines.filter(|(bug, script)| *bug == name && *script != "-");
    shown.next().map_or("", |(_, script)| script)
}

/// What a line of the table says of a bug, if that is still so.
fn known(listed: &str, mutation: Mutation) -> Option<Sight> {
    let start = format!("| `{mutation}` |");
    let line = listed.lines().find(|line| line.starts_with(&start))?;
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    search::look_at(mutation, &Place::parse(cells[4], cells[5])?)
}

/// The table, searched for what is not `listed`.
fn table(listed: &str) -> String {
    let mut page = String::from(INTRODUCTION);
    let (mut all, mut found) = (0, 0);
    for (mutation, what) in Mutation::all() {
        let script = script(mutation);
        let sight = known(listed, mutation).or_else(|| search::search(mutation, 0..SEEDS_MAX));
        all += 1;
        found += usize::from(sight.is_some());
        let seen = sight.map_or(" | | ".into(), |sight| {
            format!("{} | {}", sight.place, sight.property)
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
        "\n{found} of {all} are found by the simulator, within {SEEDS_MAX} seeds of some profile or in a scenario."
    )
    .expect("memory");
    page
}

const INTRODUCTION: &str = "\
# Bugs put in on purpose

How the simulator is tested: each of these bugs can be put into the crates under test (feature `mutations`, which no released binary has), and must be
found. The seed is the first of the profile that finds it, in runs of 20 simulated seconds with faults; or a scenario (`synod sim --scenario`) breaks with the bug.
Then the promise that was seen broken (by its name in PROPERTIES where it has one; *assertion*: a member's own invariant), and the golden script of consensus
that shows the bug too. What does no harm without a very rare accident is found by its script alone.

Written, all of it in one go, by `cargo run --release -p synod-sim --example mutations`; with `-- check` behind it the command compares instead of writing.
The tests of `synod-sim` run every line of it, those of `synod-raft` every script.

| bug | in | what it does | profile | seed | seen as | script |
|---|---|---|---|---|---|---|
";
