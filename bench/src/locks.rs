//! Locks side by side: cycles of acquire and release on locks of one's own, hand-offs of one lock between many, sessions opened and closed. Ours by the
//! native API and by etcd's lock service, etcd's by its lock service; the load is the same closed loop.

use crate::Common;
use crate::table::{markdown, median, mib, short, times};
use clap::Args;
use conformance::Outcome;
use conformance::connection::Connection;
use conformance::process::{Cluster, Product, Program};
use proto::etcdserverpb as pb;
use proto::synod::v1 as api;
use proto::synod::v1::lock_client::LockClient as NativeLock;
use proto::synod::v1::session_client::SessionClient;
use proto::v3lockpb::lock_client::LockClient as EtcdLock;
use proto::v3lockpb::{LockRequest, UnlockRequest};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tonic::Status;
use tonic::transport::Channel;

/// Time to live of sessions that are not renewed while they are measured.
const TTL_S: i64 = 600;
/// Sessions that are opened at the same time before they are kept alive.
const OPENING: usize = 256;
/// Connections that many sessions share.
const STREAMS: usize = 16;

/// What to measure.
#[derive(Args, Clone, Debug)]
pub struct Plan {
    #[command(flatten)]
    common: Common,
    /// Numbers of clients with a lock of their own each, and of clients that open and close sessions
    #[arg(long, value_delimiter = ',', default_value = "1,16,64")]
    clients: Vec<usize>,
    /// Clients that want the same lock
    #[arg(long, default_value_t = 64)]
    contenders: usize,
    /// Seconds of each load
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Times that each program has its turn; the median is reported
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Sessions to keep alive; 0 leaves that out
    #[arg(long, default_value_t = 100_000)]
    sessions: usize,
    /// Seconds between renewals of each of them
    #[arg(long, default_value_t = 20)]
    renewal: u64,
}

/// By which interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Interface {
    Native,
    LockService,
}

/// A program spoken to by one of its interfaces.
#[derive(Clone)]
struct Contestant {
    program: Program,
    interface: Interface,
}

impl Contestant {
    fn label(&self) -> String {
        match self.interface {
            Interface::Native => format!("{}, native", self.program.label()),
            Interface::LockService => format!("{}, lock service", self.program.label()),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    /// Each client a lock of its own.
    Cycles,
    /// All the same one.
    HandOffs,
    /// A session, something held by it, its end.
    Sessions,
}

impl Work {
    fn label(self) -> &'static str {
        match self {
            Work::Cycles => "acquire and release",
            Work::HandOffs => "hand-offs of one lock",
            Work::Sessions => "open, hold, close",
        }
    }
}

/// One load in one round.
#[derive(Clone, Copy)]
struct Measured {
    rate: f64,
    cpu_us: f64,
}

type Cell = (Work, usize, usize);

/// Runs a plan and prints its tables.
///
/// # Errors
/// When a program cannot be run, or does not answer.
pub async fn run(plan: &Plan) -> Outcome<()> {
    let mut contestants = Vec::new();
    for program in plan.common.programs()? {
        let interfaces: &[Interface] = match program.product {
            Product::Etcd => &[Interface::LockService],
            Product::Synod => &[Interface::LockService, Interface::Native],
        };
        contestants.extend(interfaces.iter().map(|interface| Contestant {
            program: program.clone(),
            interface: *interface,
        }));
    }
    let loads: Vec<(Work, usize)> = plan
        .clients
        .iter()
        .map(|clients| (Work::Cycles, *clients))
        .chain([(Work::HandOffs, plan.contenders)])
        .chain(
            plan.clients
                .iter()
                .map(|clients| (Work::Sessions, *clients)),
        )
        .collect();
    let mut cells: BTreeMap<Cell, Vec<Measured>> = BTreeMap::new();
    for round in 0..plan.rounds {
        for (number, contestant) in contestants.iter().enumerate() {
            eprintln!(
                "round {} of {}, {}",
                round + 1,
                plan.rounds,
                contestant.label()
            );
            let cluster = started(plan, &contestant.program).await?;
            for (work, clients) in &loads {
                let measured = drive(plan, &cluster, contestant.interface, *work, *clients).await?;
                eprintln!(
                    "  {:22} {clients:4} clients: {:8.0}/s, {:7.1} us CPU",
                    work.label(),
                    measured.rate,
                    measured.cpu_us
                );
                cells
                    .entry((*work, *clients, number))
                    .or_default()
                    .push(measured);
            }
            drop(cluster);
            std::fs::remove_dir_all(plan.common.directory()).ok();
        }
    }
    plan.common
        .publish(&rates(plan, &contestants, &loads, &cells))?;
    if plan.sessions > 0 {
        let mut rows = vec![
            [
                "",
                "sessions",
                "renewals/s",
                "CPU of all members, % of a core",
                "resident MiB per member before",
                "after",
            ]
            .map(String::from)
            .to_vec(),
        ];
        for contestant in contestants.iter().filter(|one| {
            one.program.product == Product::Etcd || one.interface == Interface::Native
        }) {
            rows.push(many_sessions(plan, contestant).await?);
        }
        plan.common.publish(&format!(
            "Sessions that are kept alive, {} s between renewals:\n\n{}",
            plan.renewal,
            markdown(&rows)
        ))?;
    }
    Ok(())
}

async fn started(plan: &Plan, program: &Program) -> Outcome<Cluster> {
    let cluster = Cluster::start(program, plan.common.members, &plan.common.directory(), &[])?;
    for address in cluster.clients() {
        Connection::new(address)
            .ready(Duration::from_secs(30))
            .await?;
    }
    Ok(cluster)
}

async fn drive(
    plan: &Plan,
    cluster: &Cluster,
    interface: Interface,
    work: Work,
    clients: usize,
) -> Outcome<Measured> {
    let addresses = cluster.clients();
    let connections: Vec<Connection> = (0..clients.min(STREAMS))
        .map(|at| Connection::new(addresses[at % addresses.len()]))
        .collect();
    // All sessions are there before the clock runs.
    let mut ready = Vec::new();
    for at in 0..clients {
        let channel = connections[at % connections.len()].channel.clone();
        ready.push(Client::open(interface, work, at, channel).await?);
    }
    let before = cluster.cpu();
    let since = Instant::now();
    let until = since + Duration::from_secs(plan.seconds);
    let running: Vec<_> = ready
        .into_iter()
        .map(|client| tokio::spawn(client.run(until)))
        .collect();
    let mut cycles = 0;
    for client in running {
        cycles += client.await??;
    }
    let cpu = cluster.cpu().saturating_sub(before);
    Ok(Measured {
        rate: cycles as f64 / since.elapsed().as_secs_f64(),
        cpu_us: cpu.as_micros() as f64 / cycles.max(1) as f64,
    })
}

/// One client with one cycle under way.
struct Client {
    interface: Interface,
    work: Work,
    channel: Channel,
    name: String,
    session: i64,
    /// Counts acquisitions.
    id: u64,
}

impl Client {
    async fn open(
        interface: Interface,
        work: Work,
        at: usize,
        channel: Channel,
    ) -> Result<Client, Status> {
        let mut client = Client {
            interface,
            work,
            channel,
            name: match work {
                Work::HandOffs => "bench/one".into(),
                Work::Cycles | Work::Sessions => format!("bench/{at}"),
            },
            session: 0,
            id: 0,
        };
        if work != Work::Sessions {
            client.session = client.open_session().await?;
        }
        Ok(client)
    }

    async fn run(mut self, until: Instant) -> Result<u64, Status> {
        let mut cycles = 0;
        while Instant::now() < until {
            match self.work {
                Work::Cycles | Work::HandOffs => {
                    let key = self.acquire().await?;
                    self.release(key).await?;
                }
                Work::Sessions => {
                    self.session = self.open_session().await?;
                    self.hold().await?;
                    self.close_session().await?;
                }
            }
            cycles += 1;
        }
        if self.work != Work::Sessions {
            self.close_session().await?;
        }
        Ok(cycles)
    }

    async fn open_session(&self) -> Result<i64, Status> {
        open_session(self.interface, &self.channel).await
    }

    async fn close_session(&self) -> Result<(), Status> {
        match self.interface {
            Interface::Native => {
                let request = api::CloseSessionRequest {
                    session: self.session,
                };
                SessionClient::new(self.channel.clone())
                    .close(request)
                    .await?;
            }
            Interface::LockService => {
                let request = pb::LeaseRevokeRequest { id: self.session };
                let mut lease = pb::lease_client::LeaseClient::new(self.channel.clone());
                lease.lease_revoke(request).await?;
            }
        }
        Ok(())
    }

    /// Gives the key to unlock, where there is one.
    async fn acquire(&mut self) -> Result<bytes::Bytes, Status> {
        match self.interface {
            Interface::Native => {
                self.id += 1;
                let request = api::AcquireRequest {
                    name: self.name.clone(),
                    session: self.session,
                    id: self.id,
                    ..api::AcquireRequest::default()
                };
                NativeLock::new(self.channel.clone())
                    .acquire(request)
                    .await?;
                Ok(bytes::Bytes::new())
            }
            Interface::LockService => {
                let request = LockRequest {
                    name: self.name.clone().into(),
                    lease: self.session,
                };
                let answer = EtcdLock::new(self.channel.clone()).lock(request).await?;
                Ok(answer.into_inner().key)
            }
        }
    }

    async fn release(&self, key: bytes::Bytes) -> Result<(), Status> {
        match self.interface {
            Interface::Native => {
                let request = api::ReleaseRequest {
                    change: None,
                    session: self.session,
                    id: self.id,
                };
                NativeLock::new(self.channel.clone())
                    .release(request)
                    .await?;
            }
            Interface::LockService => {
                EtcdLock::new(self.channel.clone())
                    .unlock(UnlockRequest { key })
                    .await?;
            }
        }
        Ok(())
    }

    /// Something that ends with the session: a lock of ours, a key of etcd's.
    async fn hold(&mut self) -> Result<(), Status> {
        if self.interface == Interface::Native {
            return self.acquire().await.map(drop);
        }
        let request = pb::PutRequest {
            key: self.name.clone().into(),
            lease: self.session,
            ..pb::PutRequest::default()
        };
        let mut kv = pb::kv_client::KvClient::new(self.channel.clone());
        kv.put(request).await.map(drop)
    }
}

async fn open_session(interface: Interface, channel: &Channel) -> Result<i64, Status> {
    match interface {
        Interface::Native => {
            let request = api::OpenSessionRequest {
                ttl_ms: TTL_S as u64 * 1000,
                session: 0,
            };
            let answer = SessionClient::new(channel.clone()).open(request).await?;
            Ok(answer.into_inner().session)
        }
        Interface::LockService => {
            let request = pb::LeaseGrantRequest { ttl: TTL_S, id: 0 };
            let mut lease = pb::lease_client::LeaseClient::new(channel.clone());
            Ok(lease.lease_grant(request).await?.into_inner().id)
        }
    }
}

/// Opens many sessions, renews each of them in turn through a few streams, and reads what that costs.
async fn many_sessions(plan: &Plan, contestant: &Contestant) -> Outcome<Vec<String>> {
    let cluster = started(plan, &contestant.program).await?;
    let before = cluster.resident();
    let addresses = cluster.clients();
    let channels: Vec<Channel> = (0..STREAMS)
        .map(|at| Connection::new(addresses[at % addresses.len()]).channel)
        .collect();
    let opening: Vec<_> = (0..OPENING)
        .map(|at| {
            let (channel, interface) = (channels[at % STREAMS].clone(), contestant.interface);
            let count = plan.sessions / OPENING + usize::from(at < plan.sessions % OPENING);
            tokio::spawn(async move {
                let mut opened = Vec::with_capacity(count);
                for _ in 0..count {
                    opened.push(open_session(interface, &channel).await?);
                }
                Ok::<_, Status>(opened)
            })
        })
        .collect();
    let mut sessions = Vec::with_capacity(plan.sessions);
    for opened in opening {
        sessions.extend(opened.await??);
    }
    eprintln!(
        "{}: {} sessions are open",
        contestant.label(),
        sessions.len()
    );
    let (cpu, since) = (cluster.cpu(), Instant::now());
    let mut renewing = Vec::new();
    for (at, part) in sessions
        .chunks(sessions.len().div_ceil(STREAMS))
        .enumerate()
    {
        let renewed = renew(
            contestant.interface,
            channels[at].clone(),
            part.to_vec(),
            Duration::from_secs(plan.renewal),
        );
        renewing.push(tokio::spawn(renewed));
    }
    let mut renewals = 0;
    for renewed in renewing {
        renewals += renewed.await??;
    }
    let elapsed = since.elapsed().as_secs_f64();
    let cpu = cluster.cpu().saturating_sub(cpu).as_secs_f64();
    let all = |bytes: Vec<u64>| bytes.into_iter().map(mib).collect::<Vec<_>>().join(", ");
    let row = vec![
        contestant.label(),
        sessions.len().to_string(),
        short(renewals as f64 / elapsed),
        short(cpu / elapsed * 100.0),
        all(before),
        all(cluster.resident()),
    ];
    drop(cluster);
    std::fs::remove_dir_all(plan.common.directory()).ok();
    Ok(row)
}

/// Renews each of these once, evenly over the time; gives how many were renewed.
async fn renew(
    interface: Interface,
    channel: Channel,
    sessions: Vec<i64>,
    time: Duration,
) -> Result<u64, Status> {
    let count = sessions.len() as u64;
    let (requests, outgoing) = tokio::sync::mpsc::channel(64);
    let pause = time / u32::try_from(sessions.len()).unwrap_or(u32::MAX).max(1);
    let feeding = tokio::spawn(async move {
        let mut turn = tokio::time::interval(pause);
        for session in sessions {
            turn.tick().await;
            if requests.send(session).await.is_err() {
                return;
            }
        }
    });
    let ids = tokio_stream::wrappers::ReceiverStream::new(outgoing);
    let mut renewed = 0;
    match interface {
        Interface::Native => {
            let requests =
                tokio_stream::StreamExt::map(ids, |session| api::RefreshSessionRequest { session });
            let answers = SessionClient::new(channel).keep_alive(requests).await?;
            let mut answers = answers.into_inner();
            while renewed < count
                && let Some(answer) = answers.message().await?
            {
                renewed += u64::from(answer.ttl_ms > 0);
            }
        }
        Interface::LockService => {
            let requests = tokio_stream::StreamExt::map(ids, |id| pb::LeaseKeepAliveRequest { id });
            let mut lease = pb::lease_client::LeaseClient::new(channel);
            let mut answers = lease.lease_keep_alive(requests).await?.into_inner();
            while renewed < count
                && let Some(answer) = answers.message().await?
            {
                renewed += u64::from(answer.ttl > 0);
            }
        }
    }
    feeding.abort();
    Ok(renewed)
}

fn rates(
    plan: &Plan,
    contestants: &[Contestant],
    loads: &[(Work, usize)],
    cells: &BTreeMap<Cell, Vec<Measured>>,
) -> String {
    let mut head = vec!["work".to_string(), "clients".to_string()];
    for contestant in contestants {
        head.extend([
            format!("{}: per s", contestant.label()),
            "server CPU us".into(),
        ]);
    }
    head.extend(["rate".to_string(), "CPU".to_string()]);
    let mut rows = vec![head];
    for (work, clients) in loads {
        let mut row = vec![work.label().to_string(), clients.to_string()];
        let mut sums = Vec::new();
        for number in 0..contestants.len() {
            let runs = cells
                .get(&(*work, *clients, number))
                .map_or(&[][..], Vec::as_slice);
            let rate = median(&runs.iter().map(|run| run.rate).collect::<Vec<_>>());
            let cpu = median(&runs.iter().map(|run| run.cpu_us).collect::<Vec<_>>());
            row.extend([short(rate), short(cpu)]);
            sums.push((rate, cpu));
        }
        let (first, last) = (sums[0], sums[sums.len() - 1]);
        row.extend([times(last.0, first.0), times(last.1, first.1)]);
        rows.push(row);
    }
    format!(
        "Locks and sessions, {} members, {} rounds of {} s, medians; the last columns are the last against the first:\n\n{}",
        plan.common.members,
        plan.rounds,
        plan.seconds,
        markdown(&rows)
    )
}
