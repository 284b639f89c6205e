//! What others feel while somebody reads, or deletes, a million keys at once.

use crate::Common;
use crate::table::{markdown, mib, short};
use clap::Args;
use conformance::connection::{Connection, leader_of};
use conformance::load::{Figures, Load, Work};
use conformance::process::{Cluster, Program, resident_of};
use conformance::{Failure, Outcome, raw};
use prost::Message;
use proto::etcdserverpb as pb;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Puts go on for so long from the start of the delete, even if that is answered at once: its work may come later.
const AFTER_DELETE: Duration = Duration::from_secs(4);
/// Puts in one transaction while filling; etcd takes 128.
const FILL_BATCH: u64 = 100;

/// What to do.
#[derive(Args, Clone, Debug)]
pub struct Plan {
    #[command(flatten)]
    common: Common,
    /// Keys in the range
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Bytes of a value
    #[arg(long, default_value_t = 128)]
    value_bytes: usize,
    /// Ranges one after another
    #[arg(long, default_value_t = 3)]
    ranges: usize,
    /// Clients that put meanwhile
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// Seconds of puts before, for comparison
    #[arg(long, default_value_t = 8)]
    seconds: u64,
}

/// Runs a plan and prints its table.
///
/// # Errors
/// When a program cannot be run.
pub async fn run(plan: &Plan) -> Outcome<()> {
    let head = [
        "",
        "phase",
        "puts/s",
        "p50 ms",
        "p99 ms",
        "max ms",
        "errors",
        "took s",
        "bytes of the answer, MiB",
        "resident before, MiB",
        "most resident, MiB",
        "elections",
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
    plan.common.publish(&format!("{} clients put while one range over, then one delete of, {} keys of {} bytes goes on:\n\n{}", plan.clients, plan.keys, plan.value_bytes, markdown(&rows)))
}

async fn one(plan: &Plan, program: &Program) -> Outcome<Vec<Vec<String>>> {
    let cluster = Cluster::start(program, plan.common.members, &plan.common.directory(), &[])?;
    cluster.ready().await?;
    fill(plan, &cluster).await?;
    // The member that answers is the leader: there the range, the puts and the heartbeats meet.
    let leader = leader_of(&cluster.clients(), Duration::from_secs(10)).await?;
    let mut rows = Vec::new();
    let alone = Duration::from_secs(plan.seconds);
    rows.push(phase(plan, &cluster, leader, "alone", alone, |()| async { Ok(0) }).await?);
    let (ranges, address) = (plan.ranges, cluster.clients()[leader]);
    rows.push(
        phase(
            plan,
            &cluster,
            leader,
            "full ranges",
            Duration::ZERO,
            move |()| read_all(address, ranges),
        )
        .await?,
    );
    rows.push(
        phase(
            plan,
            &cluster,
            leader,
            "full delete",
            AFTER_DELETE,
            move |()| delete_all(address),
        )
        .await?,
    );
    std::fs::remove_dir_all(plan.common.directory()).ok();
    Ok(rows)
}

/// Puts of others while `work` runs on a thread of its own, so that taking a huge answer does not hold up who measures; for `at_least` this long.
async fn phase<W, F>(
    plan: &Plan,
    cluster: &Cluster,
    leader: usize,
    name: &str,
    at_least: Duration,
    work: W,
) -> Outcome<Vec<String>>
where
    W: FnOnce(()) -> F + Send + 'static,
    F: Future<Output = Outcome<u64>>,
{
    let process = cluster
        .process_id(leader)
        .ok_or("the leader does not run")?;
    let before = resident_of(process).unwrap_or(0);
    let term = Connection::new(cluster.clients()[leader])
        .status()
        .await?
        .raft_term;
    let over = Arc::new(AtomicBool::new(false));
    let most = Arc::new(AtomicU64::new(before));
    let sampler = std::thread::spawn({
        let (over, most) = (over.clone(), most.clone());
        move || {
            while !over.load(Ordering::Relaxed) {
                most.fetch_max(resident_of(process).unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    });
    let since = Instant::now();
    let worker = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let outcome = runtime.block_on(work(()));
        Ok::<_, Failure>((outcome, since.elapsed()))
    });
    let mut figures: Vec<Figures> = Vec::new();
    let load = |seconds| Load {
        addresses: cluster.clients(),
        clients: plan.clients,
        work: Work::Put,
        keys: 1000,
        prefix: "others/",
        value_bytes: 256,
        duration: Duration::from_secs_f64(seconds),
        seed: 3,
    };
    // In short pieces, so as not to last much longer than the work.
    while !worker.is_finished() || since.elapsed() < at_least {
        figures.push(load(0.25).drive().await);
    }
    let (outcome, took) = worker
        .join()
        .map_err(|_| Failure::from("the worker panicked"))??;
    let (took, bytes) = match outcome {
        Ok(bytes) => (short(took.as_secs_f64()), mib(bytes)),
        Err(error) => (
            format!("{} ({error})", short(took.as_secs_f64())),
            "-".into(),
        ),
    };
    over.store(true, Ordering::Relaxed);
    sampler
        .join()
        .map_err(|_| Failure::from("the sampler panicked"))?;
    let term_after = Connection::new(cluster.clients()[leader])
        .status()
        .await?
        .raft_term;
    let sum = Figures::merged(figures);
    let row = [
        cluster.program().label(),
        name.to_string(),
        short(sum.rate()),
        short(sum.quantile_ms(0.5)),
        short(sum.quantile_ms(0.99)),
        short(sum.quantile_ms(1.0)),
        sum.errors.to_string(),
        took,
        bytes,
        mib(before),
        mib(most.load(Ordering::Relaxed)),
        (term_after - term).to_string(),
    ];
    eprintln!("  {}", row.join(" | "));
    Ok(row.to_vec())
}

/// Reads everything `times` times without decoding it; gives the bytes of the last answer.
async fn read_all(address: SocketAddr, times: usize) -> Outcome<u64> {
    let connection = Connection::new(address);
    let request = pb::RangeRequest {
        key: "big/".into(),
        range_end: "big0".into(),
        ..Default::default()
    };
    let mut bytes = 0;
    for _ in 0..times {
        bytes = raw::call(
            &connection,
            "/etcdserverpb.KV/Range",
            request.encode_to_vec().into(),
        )
        .await?
        .len() as u64;
    }
    Ok(bytes)
}

async fn delete_all(address: SocketAddr) -> Outcome<u64> {
    let mut connection = Connection::new(address);
    let request = pb::DeleteRangeRequest {
        key: "big/".into(),
        range_end: "big0".into(),
        ..Default::default()
    };
    let deleted = connection
        .kv
        .delete_range(request)
        .await?
        .into_inner()
        .deleted;
    eprintln!("  {deleted} keys deleted");
    Ok(0)
}

async fn fill(plan: &Plan, cluster: &Cluster) -> Outcome<()> {
    const CLIENTS: u64 = 16;
    let addresses = cluster.clients();
    let fillers: Vec<_> = (0..CLIENTS)
        .map(|filler| {
            let mut connection = Connection::new(addresses[filler as usize % addresses.len()]);
            let plan = plan.clone();
            tokio::spawn(async move {
                let value = vec![b'b'; plan.value_bytes];
                for batch in (filler..plan.keys.div_ceil(FILL_BATCH)).step_by(CLIENTS as usize) {
                    let put = |at| pb::PutRequest {
                        key: format!("big/{at:08}").into(),
                        value: value.clone().into(),
                        ..Default::default()
                    };
                    let keys = batch * FILL_BATCH..((batch + 1) * FILL_BATCH).min(plan.keys);
                    let success = keys
                        .map(|at| pb::RequestOp {
                            request: Some(pb::request_op::Request::RequestPut(put(at))),
                        })
                        .collect();
                    connection
                        .kv
                        .txn(pb::TxnRequest {
                            success,
                            ..Default::default()
                        })
                        .await?;
                }
                Ok::<(), tonic::Status>(())
            })
        })
        .collect();
    for filler in fillers {
        filler.await??;
    }
    Ok(())
}
