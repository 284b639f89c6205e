//! A holder of locks is stopped (SIGSTOP) until its sessions are over, and goes on (SIGCONT) as if nothing had happened: each of its guarded writes must be
//! refused, through every API, whether or not somebody else has the lock by then (PROPERTIES F3).

mod holder;

use crate::Outcome;
use crate::connection::Connection;
use crate::process::{Cluster, Product, Program};
use crate::puppet::Puppet;
use crate::report::Report;
pub use holder::hold;
use holder::{APIS, STALE_KEY, Tally, acquire};
use proto::etcdserverpb::RangeRequest;
use proto::synod::v1;
use proto::synod::v1::kv_client::KvClient;
use proto::synod::v1::lock_client::LockClient;
use proto::synod::v1::session_client::SessionClient;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a step may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is to be done.
pub struct Plan {
    /// The binary under test.
    pub program: PathBuf,
    /// Where members live.
    pub directory: PathBuf,
    /// How often the holder is stopped.
    pub rounds: usize,
    /// Locks that it holds each time; somebody else takes every second one meanwhile.
    pub locks: usize,
}

/// The name of a lock.
pub(crate) fn lock(round: usize, at: usize) -> String {
    format!("fence:{round}/{at}")
}

/// Runs it. True when all held.
///
/// # Errors
/// When something cannot be started, or does not answer.
pub async fn run(plan: &Plan) -> Outcome<bool> {
    let program = Program::at(&plan.program)?;
    if program.product != Product::Synod {
        return Err("etcd has no guards; pass Synod's binary".into());
    }
    let cluster = Cluster::start(&program, 3, &plan.directory, &[])?;
    for address in cluster.clients() {
        Connection::new(address).ready(PATIENCE).await?;
    }
    let mut report = Report::default();
    let endpoints: Vec<_> = cluster.clients().iter().map(ToString::to_string).collect();
    let mut holder = Puppet::start(&["hold-locks", "--endpoints", &endpoints.join(",")])?;
    let mut sum = Tally::default();
    for round in 0..plan.rounds {
        let took = one_round(&cluster, &mut holder, &mut sum, round, plan.locks).await?;
        report.note(format!(
            "round {round}: {} locks, stopped for {:.1} s, {} attempts so far",
            plan.locks,
            took.as_secs_f64(),
            sum.all()
        ));
    }
    let locks = plan.rounds * plan.locks;
    for (api, refused) in APIS.iter().zip(sum.refused) {
        report.check(
            "every stale write is refused",
            refused == locks,
            format!("{api}: {refused} of {locks}"),
        );
    }
    report.check(
        "no stale write is acknowledged",
        sum.applied == 0,
        format!("{} were", sum.applied),
    );
    report.check(
        "the holder could write while it held",
        sum.written == locks,
        format!("{} of {locks}", sum.written),
    );
    nothing_stale(&cluster, &mut report).await?;
    Ok(report.finish())
}

/// One stop of the holder; how long it was.
async fn one_round(
    cluster: &Cluster,
    holder: &mut Puppet,
    sum: &mut Tally,
    round: usize,
    locks: usize,
) -> Outcome<Duration> {
    holder.say(&format!("hold {round} {locks}")).await?;
    sum.written += holder.hear::<usize>().await?;
    holder.pause(true)?;
    let stopped = Instant::now();
    // Each second one goes to somebody else; the others to nobody.
    let channel = Connection::new(cluster.clients()[round % 3]).channel;
    let mut waiting = Vec::new();
    let session = open(&channel).await?;
    for at in (0..locks).step_by(2) {
        let (channel, name) = (channel.clone(), lock(round, at));
        waiting.push(tokio::spawn(async move {
            let token = acquire(&channel, &name, session, at as u64 + 1).await?;
            write_fresh(&channel, &name, token).await
        }));
    }
    for waiter in waiting {
        tokio::time::timeout(PATIENCE, waiter).await???;
    }
    for at in 0..locks {
        until_lost(&channel, &lock(round, at), session).await?;
    }
    holder.say("write").await?;
    holder.pause(false)?;
    let stopped = stopped.elapsed();
    sum.add(&holder.hear::<Tally>().await?);
    let close = v1::CloseSessionRequest { session };
    SessionClient::new(channel).close(close).await?;
    Ok(stopped)
}

async fn open(channel: &tonic::transport::Channel) -> Outcome<i64> {
    let request = v1::OpenSessionRequest {
        ttl_ms: 120_000,
        session: 0,
    };
    let opened = SessionClient::new(channel.clone()).open(request).await?;
    Ok(opened.into_inner().session)
}

/// The new holder writes.
async fn write_fresh(channel: &tonic::transport::Channel, name: &str, token: u64) -> Outcome<()> {
    let put = v1::PutRequest {
        change: Some(holder::guarded(name, token)),
        key: format!("fresh/{name}").into(),
        ..Default::default()
    };
    KvClient::new(channel.clone()).put(put).await?;
    Ok(())
}

/// Waits until a lock is held by nobody, or by this session.
async fn until_lost(channel: &tonic::transport::Channel, name: &str, session: i64) -> Outcome<()> {
    let since = Instant::now();
    loop {
        let show = v1::ShowLockRequest {
            name: name.to_owned(),
            ..Default::default()
        };
        let shown = LockClient::new(channel.clone()).show(show).await?;
        let held = shown.into_inner().acquisitions;
        if held.iter().all(|held| held.session == session) {
            return Ok(());
        }
        if since.elapsed() > PATIENCE {
            return Err(format!("{name} is still held after {PATIENCE:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn nothing_stale(cluster: &Cluster, report: &mut Report) -> Outcome<()> {
    for address in cluster.clients() {
        let range = RangeRequest {
            key: STALE_KEY.into(),
            ..Default::default()
        };
        let found = Connection::new(address).kv.range(range).await?.into_inner();
        report.check(
            "nothing stale was written",
            found.count == 0,
            format!("{address}: {:?}", found.kvs),
        );
    }
    Ok(())
}
