//! Identifiers: how many a second one process gets, made in the SDK or asked for one by one.

use crate::Common;
use crate::table::{markdown, short};
use clap::Args;
use client::{Client, ClientError, Ids, Layout, Segments, Session};
use conformance::Outcome;
use conformance::process::{Cluster, Product, Program};
use conformance::unary::Unary;
use proto::synod::v1 as api;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Numbers looked at between two looks at the clock.
const STRIDE: u64 = 4096;
/// Clients that ask a member for each id.
const CLIENTS: usize = 64;

/// What to measure.
#[derive(Args, Clone, Debug)]
pub struct Plan {
    #[command(flatten)]
    common: Common,
    /// Seconds of each kind
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Numbers fetched at a time
    #[arg(long, default_value_t = 1_000_000)]
    segment: u64,
}

/// Runs a plan on every Synod among the programs and prints its table.
///
/// # Errors
/// When a program cannot be run, or an id does not rise.
pub async fn run(plan: &Plan) -> Outcome<()> {
    let mut rows = vec![vec!["".to_string(), "ids".into(), "ids/s".into()]];
    for program in plan.common.programs()? {
        if program.product == Product::Synod {
            measure(plan, &program, &mut rows).await?;
        }
    }
    plan.common.publish(&format!(
        "Ids for one process with one thread, {} members, {} s each:\n\n{}",
        plan.common.members,
        plan.seconds,
        markdown(&rows)
    ))
}

async fn measure(plan: &Plan, program: &Program, rows: &mut Vec<Vec<String>>) -> Outcome<()> {
    let cluster = Cluster::start(program, plan.common.members, &plan.common.directory(), &[])?;
    cluster.ready().await?;
    let addresses = cluster.clients();
    let client = Client::new(addresses.iter().map(|at| format!("http://{at}")))?;
    let session = Session::open(&client).await?;
    let name = format!("bench/{}", std::process::id());
    let segments = Segments::new(&session, &name, plan.segment);
    let ids = Ids::new(&session);
    let burst =
        Ids::with_layout(&session, "bench/burst", Layout::default()).ahead(Duration::from_secs(30));
    let mut note = |what: &str, (made, elapsed): (u64, Duration)| {
        let rate = made as f64 / elapsed.as_secs_f64();
        eprintln!("  {what}: {rate:.0}/s");
        rows.push(vec![what.into(), made.to_string(), short(rate)]);
    };
    note(
        &format!("numbers from ranges of {}", plan.segment),
        rising(plan, async || segments.next().await).await?,
    );
    note(
        "ordered by time",
        rising(plan, async || ids.next().await).await?,
    );
    note(
        "ordered by time, up to 30 s of it borrowed",
        rising(plan, async || burst.next().await).await?,
    );
    note(
        &format!("asked for one by one, {CLIENTS} clients"),
        asked(plan, &cluster).await?,
    );
    session.close().await?;
    drop(cluster);
    std::fs::remove_dir_all(plan.common.directory()).ok();
    Ok(())
}

/// Makes ids for a while; each must be greater than the one before.
async fn rising(
    plan: &Plan,
    next: impl AsyncFn() -> Result<u64, ClientError>,
) -> Outcome<(u64, Duration)> {
    let mut last = next().await?;
    let (since, mut made) = (Instant::now(), 0);
    while since.elapsed() < Duration::from_secs(plan.seconds) {
        for _ in 0..STRIDE {
            let id = next().await?;
            if id <= last {
                return Err(format!("{id} came after {last}").into());
            }
            last = id;
        }
        made += STRIDE;
    }
    Ok((made, since.elapsed()))
}

async fn asked(plan: &Plan, cluster: &Cluster) -> Outcome<(u64, Duration)> {
    let addresses = cluster.clients();
    let since = Instant::now();
    let until = since + Duration::from_secs(plan.seconds);
    let mut running = JoinSet::new();
    for at in 0..CLIENTS {
        let connection = Unary::new(addresses[at % addresses.len()]);
        running.spawn(async move {
            let (request, mut made) = (api::NextRequest::default(), 0);
            while Instant::now() < until {
                let answer: api::NextResponse =
                    connection.call("/synod.v1.Id/Next", &request).await?;
                made += answer.ids.len() as u64;
            }
            Ok::<u64, tonic::Status>(made)
        });
    }
    let mut made = 0;
    while let Some(of_one) = running.join_next().await {
        made += of_one??;
    }
    Ok((made, since.elapsed()))
}
