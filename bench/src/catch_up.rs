//! What others feel while a member that missed many writes catches up, and how long that takes.

use crate::Common;
use crate::table::{markdown, short};
use clap::Args;
use conformance::Outcome;
use conformance::connection::{Connection, leader_of};
use conformance::load::{Figures, Load, Work, fill};
use conformance::process::{Cluster, Program};
use proto::etcdserverpb as pb;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Longer than any catching up.
const LIMIT: Duration = Duration::from_secs(120);
/// How often it is looked whether the member has caught up.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What to do.
#[derive(Args, Clone, Debug)]
pub struct Plan {
    #[command(flatten)]
    common: Common,
    /// Writes the member misses
    #[arg(long, default_value_t = 200_000)]
    writes: u64,
    /// Bytes of a value
    #[arg(long, default_value_t = 256)]
    value_bytes: usize,
    /// Clients that put meanwhile
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// Seconds of puts before and after, for comparison
    #[arg(long, default_value_t = 8)]
    seconds: u64,
}

/// Runs a plan and prints its table.
///
/// # Errors
/// When a program cannot be run.
pub async fn run(plan: &Plan) -> Outcome<()> {
    let head = [
        "", "phase", "puts/s", "p50 ms", "p99 ms", "max ms", "errors", "took s",
    ];
    let mut rows = vec![head.map(String::from).to_vec()];
    for program in plan.common.programs()? {
        eprintln!("{}", program.label());
        rows.extend(
            one(plan, &program)
                .await
                .map_err(|error| format!("{}: {error}", program.label()))?,
        );
    }
    plan.common.publish(&format!("{} clients put through the other members while one that was down for {} writes of {} bytes catches up:\n\n{}", plan.clients, plan.writes, plan.value_bytes, markdown(&rows)))
}

async fn one(plan: &Plan, program: &Program) -> Outcome<Vec<Vec<String>>> {
    let mut cluster = Cluster::start(program, plan.common.members, &plan.common.directory(), &[])?;
    cluster.ready().await?;
    let leader = leader_of(&cluster.clients(), Duration::from_secs(10)).await?;
    let late = (leader + 1) % plan.common.members;
    let others: Vec<SocketAddr> = cluster
        .clients()
        .into_iter()
        .enumerate()
        .filter(|(at, _)| *at != late)
        .map(|(_, address)| address)
        .collect();
    let load = |seconds| Load {
        addresses: others.clone(),
        clients: plan.clients,
        work: Work::Put,
        keys: 10_000,
        prefix: "others/",
        value_bytes: 256,
        duration: Duration::from_secs_f64(seconds),
        seed: 5,
    };
    let row = |phase: &str, figures: &Figures, took: f64| {
        let row = [
            program.label(),
            phase.to_string(),
            short(figures.rate()),
            short(figures.quantile_ms(0.5)),
            short(figures.quantile_ms(0.99)),
            short(figures.quantile_ms(1.0)),
            figures.errors.to_string(),
            short(took),
        ];
        eprintln!("  {}", row.join(" | "));
        row.to_vec()
    };
    let seconds = plan.seconds as f64;
    load(2.0).drive().await;
    let mut rows = vec![row("all three", &load(seconds).drive().await, seconds)];
    cluster.kill(late);
    tokio::time::sleep(Duration::from_secs(1)).await;
    fill(&others, "missed/", plan.writes, plan.value_bytes).await?;
    rows.push(row("one down", &load(seconds).drive().await, seconds));
    let since = Instant::now();
    cluster.start_member(late)?;
    let in_time = tokio::time::timeout(LIMIT, caught_up(cluster.clients()[late], others[0]));
    let (figures, in_time) = load(seconds).drive_during(in_time).await;
    if in_time.is_err() {
        return Err(format!(
            "the member did not catch up within {LIMIT:?}\n{}",
            cluster.log_tail(late, 20)
        )
        .into());
    }
    rows.push(row("catching up", &figures, since.elapsed().as_secs_f64()));
    rows.push(row(
        "all three again",
        &load(seconds).drive().await,
        seconds,
    ));
    std::fs::remove_dir_all(plan.common.directory()).ok();
    Ok(rows)
}

/// Waits until a member has applied what another had applied just before.
async fn caught_up(late: SocketAddr, other: SocketAddr) {
    let (mut late, mut other) = (Connection::new(late), Connection::new(other));
    loop {
        let wanted = local_revision(&mut other).await;
        let reached = local_revision(&mut late).await;
        // Puts go on between the two questions, so a few hundred revisions are no lag.
        if matches!((reached, wanted), (Some(reached), Some(wanted)) if reached + 500 >= wanted) {
            return;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

async fn local_revision(connection: &mut Connection) -> Option<i64> {
    let request = pb::RangeRequest {
        key: "x".into(),
        serializable: true,
        ..Default::default()
    };
    let answer = tokio::time::timeout(Duration::from_millis(500), connection.kv.range(request))
        .await
        .ok()?
        .ok()?;
    answer.into_inner().header.map(|header| header.revision)
}
