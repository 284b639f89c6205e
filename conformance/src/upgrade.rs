//! A rolling upgrade under load: each member is stopped in order and started again, with the same binary or a newer one, while etcd's own client goes on
//! with the connections, watches and leases it has. Its history is judged by the simulator's oracles: KV3, W5, L1 and all others.

use crate::connection::Connection;
use crate::faults::load::{self, Load};
use crate::faults::{self, history, judge};
use crate::process::{Cluster, Program};
use crate::report::Report;
use crate::{Failure, Outcome};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a member may take to stop, and to serve again.
const MEMBER_LIMIT: Duration = Duration::from_secs(30);
/// Between two members: clients find back to the one that was away.
const PAUSE: Duration = Duration::from_secs(2);

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The binary that members run at first.
    pub from: PathBuf,
    /// The one they run afterwards.
    pub to: PathBuf,
    /// Rounds over all members.
    pub rounds: usize,
    /// Seed of the load.
    pub seed: u64,
    /// Where the members live.
    pub directory: PathBuf,
}

/// Runs it. True when all held.
///
/// # Errors
/// When something cannot be started.
pub async fn run(plan: &Plan) -> Outcome<bool> {
    let client = load::program()?;
    let (from, to) = (Program::at(&plan.from)?, Program::at(&plan.to)?);
    let mut cluster = Cluster::start(&from, 3, &plan.directory, &[])?;
    cluster.ready().await?;
    println!("{}, to {}", cluster.label(), to.label());
    let history = plan.directory.join("history.jsonl");
    let mut load = Load::start(&client, &cluster.clients(), plan.seed, &history, &[])?;
    tokio::time::sleep(PAUSE).await;
    let mut report = Report::default();
    cluster.use_program(&to);
    for _ in 0..plan.rounds {
        for at in 0..3 {
            restart(&mut cluster, &mut load, &mut report, at).await?;
        }
    }
    load.finish().await?;
    for at in 0..3 {
        let runs = cluster.runs(at);
        report.check(
            "every member runs at the end",
            runs,
            &cluster.members()[at].name,
        );
    }
    let records = history::read(&history)?;
    let verdict = judge::judge(&records, faults::promise(from.product));
    faults::tell(&verdict, &mut report);
    let asked = records
        .iter()
        .filter(|record| record.kind != "mark")
        .count();
    let refused = tally(&records);
    report.note(format!("{asked} requests; not answered: {refused}"));
    Ok(report.finish())
}

async fn restart(
    cluster: &mut Cluster,
    load: &mut Load,
    report: &mut Report,
    at: usize,
) -> Outcome<()> {
    let name = cluster.members()[at].name.clone();
    load.mark(&format!("{name} is stopped in order")).await?;
    let since = Instant::now();
    cluster.stop(at, MEMBER_LIMIT)?;
    let stopped = since.elapsed();
    cluster.start_member(at)?;
    let again = Connection::new(cluster.clients()[at])
        .ready(MEMBER_LIMIT)
        .await;
    load.healed().await?;
    report.note(format!(
        "{name} stopped in {:.2} s and served again after {:.2} s",
        stopped.as_secs_f64(),
        since.elapsed().as_secs_f64()
    ));
    report
        .step("the member serves again", again)
        .ok_or_else(|| Failure::from(format!("{name}: {}", cluster.log_tail(at, 20))))?;
    tokio::time::sleep(PAUSE).await;
    Ok(())
}

/// What was said instead of answers, and how often.
fn tally(records: &[history::Record]) -> String {
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for record in records.iter().filter(|record| !record.error.is_empty()) {
        *counts.entry(&record.error).or_default() += 1;
    }
    let counted = counts
        .iter()
        .map(|(error, count)| format!("{count} {error:?}"));
    counted.collect::<Vec<_>>().join(", ")
}
