//! Real faults on real processes, under load from a real client, judged by the simulator's oracles.
//!
//! A scenario starts a cluster and the load, breaks and mends, and lets everything come to rest; then the recorded history is judged. What was made is
//! removed, also after a failure or an interruption: members, namespaces and mounts go with their handles.

mod bits;
mod clocks;
mod disks;
mod field;
pub mod history;
pub mod judge;
pub mod load;
mod network;
mod networks;
mod processes;
mod proxy;
mod scenario;
mod small_disk;
mod storm;
pub(crate) mod system;
pub(crate) mod wall;

pub use scenario::Scenario;

use crate::process::{Product, Program};
use crate::random::Random;
use crate::report::Report;
use crate::{Failure, Outcome};
use field::Field;
use judge::{Promise, Verdict};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The binary, Synod's or etcd's.
    pub program: PathBuf,
    /// Members.
    pub members: usize,
    /// What to play, in this order.
    pub scenarios: Vec<Scenario>,
    /// How long faults happen in each.
    pub duration: Duration,
    /// Seed of all choices.
    pub seed: u64,
    /// What cannot be played is a failure.
    pub require: bool,
    /// Where the members live.
    pub directory: PathBuf,
}

/// Plays all scenarios. True when all held.
///
/// # Errors
/// When the binary cannot be run.
pub async fn run(plan: &Plan) -> Outcome<bool> {
    let program = Program::at(&plan.program)?;
    let client = load::program();
    let mut held = true;
    for scenario in &plan.scenarios {
        let (name, deed) = scenario.name_and_deed();
        println!("{name}: {deed}");
        let missing = match &client {
            Err(error) => Some(error.to_string()),
            Ok(_) => scenario.missing(program.product),
        };
        if let (Ok(client), None) = (&client, &missing) {
            held &= play(plan, &program, *scenario, client).await;
        } else {
            let why = missing.unwrap_or_default();
            println!("SKIP {name}: {why}\n");
            held &= !plan.require;
        }
    }
    Ok(held)
}

async fn play(plan: &Plan, program: &Program, scenario: Scenario, client: &Path) -> bool {
    let directory = plan.directory.join(scenario.name());
    let history = directory.join("history.jsonl");
    let played = record(plan, program, scenario, client, &directory, &history).await;
    let mut report = match played {
        Ok(report) => report,
        Err(error) => {
            let mut report = Report::default();
            report.check("the scenario is played to its end", false, error);
            report
        }
    };
    match history::read(&history) {
        Ok(records) => tell(
            &judge::judge(&records, promise(program.product)),
            &mut report,
        ),
        Err(error) => report.check("the history can be judged", false, error),
    }
    let held = report.finish();
    if !held {
        println!(
            "again: conformance faults {} --subject {} --members {} --seconds {} --seed {}",
            scenario.name(),
            plan.program.display(),
            plan.members,
            plan.duration.as_secs(),
            plan.seed
        );
        println!("history and logs: {}", directory.display());
    }
    println!();
    held
}

/// Plays a scenario; gives its report, and leaves its history in the file.
async fn record(
    plan: &Plan,
    program: &Program,
    scenario: Scenario,
    client: &Path,
    directory: &Path,
    history: &Path,
) -> Outcome<Report> {
    let random = Random::new(plan.seed);
    let flags = match program.product {
        Product::Etcd => &[][..],
        Product::Synod => scenario.flags(),
    };
    let mut field = Field::new(
        program,
        scenario.ground(),
        plan.members,
        flags,
        directory,
        random,
    )
    .await?;
    field
        .begin(client, plan.seed, history, plan.duration)
        .await?;
    scenario.play(&mut field).await?;
    for at in 0..plan.members {
        field.serves(at).await?;
    }
    let load = field
        .load
        .take()
        .ok_or_else(|| Failure::from("the load was never started"))?;
    load.finish().await?;
    for at in 0..plan.members {
        let runs = field.cluster.runs(at);
        field
            .report
            .check("every member runs at the end", runs, field.name(at));
    }
    Ok(std::mem::take(&mut field.report))
}

/// How soon a healed cluster serves: two election timeouts, which are drawn between the set one and its double, and what a client takes to connect anew.
pub(crate) fn promise(product: Product) -> Promise {
    let election = match product {
        Product::Synod => Duration::from_millis(1000),
        Product::Etcd => Duration::from_millis(2000),
    };
    Promise {
        cluster: 2 * election + Duration::from_millis(500),
        member: 2 * election + Duration::from_millis(2500),
        leases_end: product == Product::Synod,
    }
}

/// Judges a history that was recorded before. True when all held.
///
/// # Errors
/// When the file is none.
pub fn check(file: &Path) -> Outcome<bool> {
    let mut report = Report::default();
    let records = history::read(file)?;
    tell(
        &judge::judge(&records, promise(Product::Synod)),
        &mut report,
    );
    Ok(report.finish())
}

pub(crate) fn tell(verdict: &Verdict, report: &mut Report) {
    const SHOWN_MAX: usize = 10;
    report.note(format!(
        "{} answers, {} refused, {} changes of unknown outcome, {} revisions, {} events on watches, {} leases with keys",
        verdict.answered, verdict.refused, verdict.unknown, verdict.revision, verdict.events, verdict.leases
    ));
    let resumed: Vec<String> = verdict
        .resumed
        .iter()
        .map(|(cluster, member)| {
            format!("{:.2}/{:.2}", cluster.as_secs_f64(), member.as_secs_f64())
        })
        .collect();
    report.note(format!("longest time without an acknowledged change {:.2} s; served again after (cluster/slowest member) {} s", verdict.gap.as_secs_f64(), resumed.join(", ")));
    if verdict.undecided > 0 {
        report.skip(
            &format!("order of {} of {} keys", verdict.undecided, verdict.keys),
            "the search was given up",
        );
    }
    for finding in verdict.findings.iter().take(SHOWN_MAX) {
        report.check(finding.property, false, &finding.text);
    }
    if verdict.findings.len() > SHOWN_MAX {
        report.note(format!("and {} more", verdict.findings.len() - SHOWN_MAX));
    }
    if verdict.findings.is_empty() {
        report.check("the history", true, format!("accounts, hashes, answers, the order of {} keys, watches, leases and service are as promised", verdict.keys));
    }
}
