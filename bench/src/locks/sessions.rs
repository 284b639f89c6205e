//! Many sessions, all kept alive: what that costs.

use super::load::open_session;
use super::{Contestant, Interface, Plan, started};
use crate::table::{markdown, mib, short};
use conformance::Outcome;
use conformance::connection::Connection;
use conformance::process::Product;
use conformance::unary::Unary;
use proto::etcdserverpb as pb;
use proto::synod::v1 as api;
use proto::synod::v1::session_client::SessionClient;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::Status;

/// Connections with a stream of renewals each.
const STREAMS: usize = 16;
/// Sessions opened at the same time on each of them.
const OPENING: usize = 16;
/// How often a stream looks whether it is over.
const LOOK: Duration = Duration::from_millis(100);

/// What the streams count.
#[derive(Default)]
struct Counts {
    opened: AtomicU64,
    renewed: AtomicU64,
    ended: AtomicU64,
    /// Longest time from when a renewal was due to its answer, in microseconds.
    latest_us: AtomicU64,
    over: AtomicBool,
}

/// Keeps many sessions of each program alive, in turn, and prints what that cost.
pub(super) async fn compare(plan: &Plan, contestants: &[Contestant]) -> Outcome<()> {
    let head = [
        "",
        "sessions",
        "opened/s",
        "renewals/s",
        "ended",
        "slowest renewal, ms",
        "CPU of all members, % of a core",
        "CPU us per renewal",
        "resident MiB per member before",
        "after",
        "bytes per session and member",
    ];
    let mut rows = vec![head.map(String::from).to_vec()];
    for contestant in contestants {
        if contestant.program.product == Product::Etcd || contestant.interface == Interface::Native
        {
            rows.push(measure(plan, contestant).await?);
        }
    }
    plan.common.publish(&format!(
        "Sessions kept alive for {} s after the last was opened; time to live {} s, a renewal of each every {} s:\n\n{}",
        plan.keep,
        3 * plan.renewal,
        plan.renewal,
        markdown(&rows)
    ))
}

async fn measure(plan: &Plan, contestant: &Contestant) -> Outcome<Vec<String>> {
    eprintln!("{} sessions, {}", plan.sessions, contestant.label());
    let cluster = started(plan, &contestant.program).await?;
    let before = cluster.resident();
    let addresses = cluster.clients();
    let counts = Arc::new(Counts::default());
    let begun = Instant::now();
    let streams: Vec<_> = (0..STREAMS)
        .map(|at| {
            let stream = Renewing {
                interface: contestant.interface,
                address: addresses[at % addresses.len()],
                renewal: Duration::from_secs(plan.renewal),
                counts: counts.clone(),
            };
            let part = plan.sessions / STREAMS + usize::from(at < plan.sessions % STREAMS);
            tokio::spawn(stream.run(part))
        })
        .collect();
    while counts.opened.load(Relaxed) < plan.sessions as u64 {
        if let Some(failed) = streams.iter().position(|stream| stream.is_finished()) {
            let mut streams = streams;
            streams.swap_remove(failed).await??;
            return Err("a stream of renewals ended before all sessions were open".into());
        }
        sleep(Duration::from_millis(50)).await;
    }
    let opened_per_s = plan.sessions as f64 / begun.elapsed().as_secs_f64();
    eprintln!("  all are open after {:?}", begun.elapsed());
    counts.latest_us.store(0, Relaxed);
    let (cpu, renewed, since) = (cluster.cpu(), counts.renewed.load(Relaxed), Instant::now());
    sleep(Duration::from_secs(plan.keep)).await;
    let elapsed = since.elapsed().as_secs_f64();
    let cpu = cluster.cpu().saturating_sub(cpu).as_secs_f64();
    let renewals = (counts.renewed.load(Relaxed) - renewed) as f64;
    counts.over.store(true, Relaxed);
    for stream in streams {
        stream.await??;
    }
    let after = cluster.resident();
    let grown: u64 = after
        .iter()
        .sum::<u64>()
        .saturating_sub(before.iter().sum());
    let all = |bytes: Vec<u64>| bytes.into_iter().map(mib).collect::<Vec<_>>().join(", ");
    let row = vec![
        contestant.label(),
        plan.sessions.to_string(),
        short(opened_per_s),
        short(renewals / elapsed),
        counts.ended.load(Relaxed).to_string(),
        short(counts.latest_us.load(Relaxed) as f64 / 1000.0),
        short(cpu / elapsed * 100.0),
        short(cpu * 1e6 / renewals),
        all(before),
        all(after.clone()),
        short(grown as f64 / (after.len() * plan.sessions) as f64),
    ];
    drop(cluster);
    std::fs::remove_dir_all(plan.common.directory()).ok();
    Ok(row)
}

/// One stream of renewals, and the opening of the sessions it renews.
struct Renewing {
    interface: Interface,
    address: SocketAddr,
    renewal: Duration,
    counts: Arc<Counts>,
}

impl Renewing {
    /// Opens sessions and renews each in time, until it is over.
    async fn run(self, sessions: usize) -> Result<(), Status> {
        let (opened, fresh) = mpsc::unbounded_channel();
        let connection = Unary::new(self.address);
        let ttl = 3 * self.renewal;
        for at in 0..OPENING {
            let count = sessions / OPENING + usize::from(at < sessions % OPENING);
            let (interface, connection) = (self.interface, connection.clone());
            let (opened, counts) = (opened.clone(), self.counts.clone());
            tokio::spawn(async move {
                for _ in 0..count {
                    let session = open_session(interface, &connection, ttl).await;
                    counts.opened.fetch_add(1, Relaxed);
                    let failed = session.is_err();
                    if opened.send(session).is_err() || failed {
                        return;
                    }
                }
            });
        }
        drop(opened);
        let (requests, outgoing) = mpsc::channel(256);
        let (asked, due) = mpsc::unbounded_channel();
        let feeding = tokio::spawn(feed(
            fresh,
            self.renewal,
            requests,
            asked,
            self.counts.clone(),
        ));
        let ids = ReceiverStream::new(outgoing);
        let channel = Connection::new(self.address).channel;
        match self.interface {
            Interface::Native => {
                let requests = ids.map(|session| api::RefreshSessionRequest { session });
                let mut client = SessionClient::new(channel);
                let answers = client.keep_alive(requests).await?.into_inner();
                let lives = answers.map(|answer| answer.map(|answer| answer.ttl_ms > 0));
                count(lives, due, &self.counts).await?;
            }
            Interface::LockService => {
                let requests = ids.map(|id| pb::LeaseKeepAliveRequest { id });
                let mut client = pb::lease_client::LeaseClient::new(channel);
                let answers = client.lease_keep_alive(requests).await?.into_inner();
                let lives = answers.map(|answer| answer.map(|answer| answer.ttl > 0));
                count(lives, due, &self.counts).await?;
            }
        }
        feeding.await.unwrap_or(Ok(()))
    }
}

/// Asks for the renewal of each session when it is due. They are opened in the order in which they become due again.
async fn feed(
    mut fresh: mpsc::UnboundedReceiver<Result<i64, Status>>,
    renewal: Duration,
    requests: mpsc::Sender<i64>,
    asked: mpsc::UnboundedSender<Instant>,
    counts: Arc<Counts>,
) -> Result<(), Status> {
    let mut queue: VecDeque<(Instant, i64)> = VecDeque::new();
    let mut opening = true;
    while !counts.over.load(Relaxed) {
        let look = Instant::now() + LOOK;
        let next = queue.front().map_or(look, |(due, _)| look.min(*due));
        tokio::select! {
            session = fresh.recv(), if opening => match session {
                Some(session) => queue.push_back((Instant::now() + renewal, session?)),
                None => opening = false,
            },
            () = sleep_until(next) => {
                if queue.front().is_none_or(|(due, _)| *due > Instant::now()) {
                    continue;
                }
                let (due, session) = queue.pop_front().expect("it was looked at");
                queue.push_back((due + renewal, session));
                let _ = asked.send(due);
                if requests.send(session).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Counts answers, which come in the order of the requests.
async fn count(
    mut lives: impl Stream<Item = Result<bool, Status>> + Unpin,
    mut due: mpsc::UnboundedReceiver<Instant>,
    counts: &Counts,
) -> Result<(), Status> {
    while let Some(lives) = lives.next().await {
        let counter = if lives? {
            &counts.renewed
        } else {
            &counts.ended
        };
        counter.fetch_add(1, Relaxed);
        if let Ok(due) = due.try_recv() {
            let late = due.elapsed().as_micros() as u64;
            counts.latest_us.fetch_max(late, Relaxed);
        }
    }
    Ok(())
}
