//! All three members are replaced by others, one by one, while clients keep writing: no request may fail but those that may be repeated. Reports how
//! long writes took meanwhile, and the longest pause.

use crate::Outcome;
use crate::connection::{Connection, leader_of};
use crate::process::{Cluster, Program};
use crate::report::Report;
use proto::etcdserverpb as pb;
use proto::synodpb::members_client::MembersClient;
use proto::synodpb::{AddMember, ChangeMembersRequest, MemberChange, member_change::Change};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tonic::{Code, Status};

/// How long one replacement may take.
const STEP_LIMIT: Duration = Duration::from_secs(60);
/// How long a client waits for an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How long a client goes on with a write that is not answered.
const WRITE_LIMIT: Duration = Duration::from_secs(30);
/// Before and after, for comparison.
const CALM: Duration = Duration::from_secs(5);
/// The exit code of a member that was removed.
const REMOVED: i32 = 4;

/// Runs it. True when all held.
///
/// # Errors
/// When something cannot be started.
pub async fn run(program: &Path, directory: &Path, clients: usize, keys: u64) -> Outcome<bool> {
    let program = Program::at(program)?;
    let mut cluster = Cluster::start(&program, 3, directory, &[])?;
    cluster.ready().await?;
    println!("{}", cluster.label());
    let mut report = Report::default();
    crate::load::fill(&cluster.clients(), "replace/kept/", keys, 256).await?;
    let shared = Arc::new(Shared::new(cluster.clients()));
    let mut writers = JoinSet::new();
    for number in 0..clients {
        writers.spawn(write(number, shared.clone()));
    }
    tokio::time::sleep(CALM).await;
    tell(&mut report, "before", &shared.take());
    let mut present: Vec<usize> = (0..3).collect();
    for old in 0..3 {
        let since = Instant::now();
        let new = replace(&mut cluster, &mut report, &shared, old, &present).await?;
        present.retain(|at| *at != old);
        present.push(new);
        let taken = since.elapsed().as_secs_f64();
        report.note(format!(
            "n{} took the place of n{} in {taken:.1} s",
            new + 1,
            old + 1
        ));
    }
    let during = shared.take();
    tell(&mut report, "during", &during);
    tokio::time::sleep(CALM).await;
    tell(&mut report, "after", &shared.take());
    shared.stop();
    while let Some(ended) = writers.join_next().await {
        ended?;
    }
    let failed = shared.failed();
    report.check(
        "no request failed but those that may be repeated",
        failed.is_empty(),
        failed.join("; "),
    );
    let pause = during.longest_pause;
    report.check(
        "writes went on",
        pause < Duration::from_secs(3),
        format!("longest pause {pause:.2?}"),
    );
    kept(&mut report, &cluster, &present, &shared, keys).await?;
    Ok(report.finish())
}

/// Puts a new member into the place of an old one.
async fn replace(
    cluster: &mut Cluster,
    report: &mut Report,
    shared: &Shared,
    old: usize,
    present: &[usize],
) -> Outcome<usize> {
    let addresses: Vec<SocketAddr> = present.iter().map(|at| cluster.clients()[*at]).collect();
    let leader = leader_of(&addresses, STEP_LIMIT).await?;
    let new = cluster.prepare_member()?;
    let replaced = member_id(cluster.clients()[old]).await?;
    let add = AddMember {
        peer_addresses: vec![cluster.members()[new].peer.to_string()],
        learner: false,
        replaces: replaced,
    };
    let request = ChangeMembersRequest {
        changes: vec![MemberChange {
            change: Some(Change::Add(add)),
        }],
    };
    let channel = Connection::new(addresses[leader]).channel;
    let changed = MembersClient::new(channel).change(request).await;
    report.step(
        "the new member's place is prepared",
        changed.map_err(Into::into),
    );
    cluster.start_member(new)?;
    Connection::new(cluster.clients()[new])
        .ready(STEP_LIMIT)
        .await?;
    shared.use_also(cluster.clients()[new]);
    let since = Instant::now();
    let mut code = None;
    while code.is_none() && since.elapsed() < STEP_LIMIT {
        tokio::time::sleep(Duration::from_millis(50)).await;
        code = cluster.ended(old);
    }
    report.check(
        "the old member leaves by itself",
        code == Some(REMOVED),
        format!("exit code {code:?}"),
    );
    shared.use_no_more(cluster.clients()[old]);
    let mut connection = Connection::new(cluster.clients()[new]);
    let list = pb::MemberListRequest { linearizable: true };
    let members = connection.cluster.member_list(list).await?;
    let members = members.into_inner().members;
    let gone = members.len() == 3 && members.iter().all(|member| member.id != replaced);
    report.check(
        "and is none of the cluster",
        gone,
        format!("{} members", members.len()),
    );
    Ok(new)
}

async fn member_id(address: SocketAddr) -> Outcome<u64> {
    let status = Connection::new(address).status().await?;
    Ok(status.header.unwrap_or_default().member_id)
}

/// Whether what was there and what was acknowledged is there, on every member.
async fn kept(
    report: &mut Report,
    cluster: &Cluster,
    present: &[usize],
    shared: &Shared,
    keys: u64,
) -> Outcome<()> {
    let acknowledged = shared.lock().acknowledged.clone();
    for at in present {
        let mut connection = Connection::new(cluster.clients()[*at]);
        let count = pb::RangeRequest {
            key: "replace/kept/".into(),
            range_end: "replace/kept0".into(),
            count_only: true,
            ..Default::default()
        };
        let count = connection.kv.range(count).await?.into_inner().count;
        let mut lost = Vec::new();
        for (key, value) in &acknowledged {
            let (found, _) = connection.get(key).await?;
            if found.as_ref().is_none_or(|(found, _)| found != value) {
                lost.push(format!("{key} is {found:?}, not {value}"));
            }
        }
        let good = count == keys as i64 && lost.is_empty();
        let name = &cluster.members()[*at].name;
        report.check(
            "all that was acknowledged is there",
            good,
            format!("{name}: {count} of {keys} keys {}", lost.join("; ")),
        );
    }
    Ok(())
}

/// What the writers share.
struct Shared {
    inner: Mutex<Inner>,
}

struct Inner {
    addresses: Vec<SocketAddr>,
    stopped: bool,
    figures: Figures,
    last_acknowledged: Instant,
    acknowledged: BTreeMap<String, String>,
    failed: Vec<String>,
}

/// What writes did in a while.
#[derive(Default)]
struct Figures {
    /// Microseconds, from the first attempt to the acknowledgement.
    latencies: Vec<u32>,
    longest_pause: Duration,
    /// Refusals after which the same was tried again.
    repeated: BTreeMap<String, u64>,
}

impl Shared {
    fn new(addresses: Vec<SocketAddr>) -> Shared {
        Shared {
            inner: Mutex::new(Inner {
                addresses,
                stopped: false,
                figures: Figures::default(),
                last_acknowledged: Instant::now(),
                acknowledged: BTreeMap::new(),
                failed: Vec::new(),
            }),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn use_also(&self, address: SocketAddr) {
        self.lock().addresses.push(address);
    }

    fn use_no_more(&self, address: SocketAddr) {
        self.lock().addresses.retain(|known| *known != address);
    }

    fn address(&self, nth: usize) -> Option<SocketAddr> {
        let inner = self.lock();
        (!inner.stopped).then(|| inner.addresses[nth % inner.addresses.len()])
    }

    fn take(&self) -> Figures {
        let mut figures = std::mem::take(&mut self.lock().figures);
        figures.latencies.sort_unstable();
        figures
    }

    fn stop(&self) {
        self.lock().stopped = true;
    }

    fn failed(&self) -> Vec<String> {
        self.lock().failed.clone()
    }

    /// Notes a refusal; whether the same may be tried again.
    fn refused(&self, status: &Status, after: Duration) -> bool {
        let text = format!("{:?}: {}", status.code(), status.message());
        let again = may_be_repeated(status) && after < WRITE_LIMIT;
        let mut inner = self.lock();
        if again {
            *inner.figures.repeated.entry(text).or_default() += 1;
        } else {
            inner.failed.push(text);
        }
        again
    }

    fn acknowledge(&self, key: &str, value: String, took: Duration) {
        let mut inner = self.lock();
        let pause = inner.last_acknowledged.elapsed();
        inner.last_acknowledged = Instant::now();
        inner.figures.longest_pause = inner.figures.longest_pause.max(pause);
        inner.figures.latencies.push(took.as_micros() as u32);
        inner.acknowledged.insert(key.to_owned(), value);
    }
}

/// Writes one key after the other, each again until it is acknowledged, at the next member after a refusal.
async fn write(number: usize, shared: Arc<Shared>) {
    let mut endpoint = number;
    let mut connection: Option<Connection> = None;
    for count in 0u64.. {
        let (key, value) = (
            format!("replace/{number}/{}", count % 10),
            count.to_string(),
        );
        let since = Instant::now();
        loop {
            let Some(address) = shared.address(endpoint) else {
                return;
            };
            let at_hand = connection.take().filter(|it| it.address == address);
            let mut used = at_hand.unwrap_or_else(|| Connection::new(address));
            let put = tokio::time::timeout(ANSWER_LIMIT, used.put(&key, &value)).await;
            let status = match put {
                Ok(Ok(_)) => {
                    connection = Some(used);
                    shared.acknowledge(&key, value, since.elapsed());
                    break;
                }
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("no answer in time"),
            };
            if !shared.refused(&status, since.elapsed()) {
                break;
            }
            endpoint += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Nothing has happened, or, as the same put may be made twice, it does not matter.
fn may_be_repeated(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded
    ) || std::error::Error::source(status).is_some()
}

fn tell(report: &mut Report, when: &str, figures: &Figures) {
    let at = |share: f64| {
        let last = figures.latencies.len().saturating_sub(1);
        let micros = figures.latencies.get((last as f64 * share) as usize);
        micros.map_or(f64::NAN, |micros| f64::from(*micros) / 1000.0)
    };
    let repeated: Vec<String> = figures
        .repeated
        .iter()
        .map(|(text, count)| format!("{count} {text:?}"))
        .collect();
    report.note(format!(
        "{when}: {} writes, p50 {:.1} ms, p99 {:.1} ms, longest {:.0} ms, longest pause {:.0} ms; repeated: {}",
        figures.latencies.len(),
        at(0.5),
        at(0.99),
        at(1.0),
        figures.longest_pause.as_secs_f64() * 1e3,
        if repeated.is_empty() { "none".into() } else { repeated.join(", ") },
    ));
}
