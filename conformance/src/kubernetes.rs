//! What Kubernetes needs of its store: the requests a kube-apiserver sends, checked one by one and then all at once, with as many objects and watches
//! as a large cluster has. The same checks run against a real etcd.

pub mod cache;
mod contract;
mod load;
pub mod storage;

use crate::Outcome;
use crate::connection::{Connection, leader_of};
use crate::process::{Cluster, Program};
use crate::report::Report;
use cache::{Caches, Shared};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::Storage;

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The binary, Synod's or etcd's.
    pub program: PathBuf,
    /// Members.
    pub members: usize,
    /// Objects in the store.
    pub objects: usize,
    /// Bytes of each.
    pub object_bytes: usize,
    /// Watches, spread over the apiservers.
    pub watches: usize,
    /// Resources the objects belong to; an apiserver watches each once.
    pub resources: usize,
    /// Clients that change objects at the same time.
    pub writers: usize,
    /// Changes made while all watch.
    pub changes: usize,
    /// Seed of all choices.
    pub seed: u64,
    /// Where the members live.
    pub directory: PathBuf,
}

impl Plan {
    /// The prefixes of the resources.
    fn prefixes(&self) -> Vec<String> {
        (0..self.resources)
            .map(|n| format!("/registry/resource{n:03}/"))
            .collect()
    }
}

/// Runs it. True when everything held.
///
/// # Errors
/// When members cannot be started.
pub async fn run(plan: &Plan) -> Outcome<bool> {
    let program = Program::at(&plan.program)?;
    let cluster = Cluster::start(&program, plan.members, &plan.directory, &[])?;
    let addresses = cluster.clients();
    cluster.ready().await?;
    println!("{}", cluster.label());
    let storage = |at: usize| Storage {
        connection: Connection::new(addresses[at % addresses.len()]),
    };
    let mut report = Report::default();
    let leader = leader_of(&addresses, Duration::from_secs(20)).await?;
    contract::check(&mut report, &storage(leader), &storage(leader + 1)).await;

    let since = Instant::now();
    let filled = load::fill(plan, &storage).await?;
    report.note(format!(
        "{} objects of {} bytes created in {:.1} s: {filled}",
        plan.objects,
        plan.object_bytes,
        since.elapsed().as_secs_f64()
    ));
    let counted = storage(leader).count("/registry/resource").await?;
    report.check(
        "all objects are counted",
        counted == plan.objects as i64,
        counted,
    );

    let shared = Arc::new(Shared::default());
    let since = Instant::now();
    let mut servers = Vec::new();
    for at in 0..plan.watches.div_ceil(plan.resources) {
        let mut prefixes = plan.prefixes();
        prefixes.truncate(plan.watches - at * plan.resources);
        servers.push(Caches::open(storage(at), &prefixes, shared.clone()).await?);
    }
    report.note(format!(
        "{} watches of {} apiservers opened in {:.1} s, with a list before each",
        plan.watches,
        servers.len(),
        since.elapsed().as_secs_f64()
    ));
    let quiet = load::reads(plan, &storage, None).await?;
    report.note(format!("alone:       {quiet}"));
    let (writes, busy, consistent) =
        load::all_at_once(plan, &storage, &mut servers, &shared).await?;
    report.note(format!("with writes: {busy}"));
    report.note(format!("writes:      {writes}"));
    report.note(format!("consistent reads from caches: {consistent}"));
    settle(&mut report, plan, &storage, &mut servers, &shared).await?;
    let memory = cluster.resident().into_iter().max().unwrap_or(0);
    report.note(format!(
        "the largest member holds {} MiB, all members together took {:.0} s of CPU",
        memory >> 20,
        cluster.cpu().as_secs_f64()
    ));
    Ok(report.finish())
}

/// Brings every cache to the end and compares it with what is there.
async fn settle(
    report: &mut Report,
    plan: &Plan,
    storage: &impl Fn(usize) -> Storage,
    servers: &mut [Caches],
    shared: &Shared,
) -> Outcome<()> {
    let (_, revision) = storage(0).get("/registry/").await?;
    let mut slowest = Duration::ZERO;
    for server in servers.iter_mut() {
        let since = Instant::now();
        server.reach(revision).await?;
        slowest = slowest.max(since.elapsed());
    }
    report.check(
        "every stream comes to the end",
        true,
        format!("slowest {slowest:?}"),
    );
    let (mut differing, mut events) = (0, 0);
    for (at, prefix) in plan.prefixes().iter().enumerate() {
        let (there, _) = storage(at).list(prefix, 500).await?;
        for server in servers.iter() {
            let caches = server.caches.lock().expect("no holder panics");
            let Some(cache) = caches.get(at) else {
                continue;
            };
            let same = there.len() == cache.objects.len()
                && there
                    .iter()
                    .all(|kv| cache.objects.get(&kv.key) == Some(&kv.mod_revision));
            differing += usize::from(!same);
            events += cache.events;
        }
    }
    report.check(
        "every cache equals what is there",
        differing == 0,
        format!("{differing} differ"),
    );
    let delays = shared.delays();
    let at = |share: f64| {
        let last = delays.len().saturating_sub(1) as f64;
        f64::from(delays.get((last * share) as usize).copied().unwrap_or(0)) / 1000.0
    };
    report.note(format!(
        "{events} events told; from acknowledgement to a cache p50 {:.1} ms, p99 {:.1} ms, all within {:.1} ms",
        at(0.5),
        at(0.99),
        at(1.0)
    ));
    let breaches = shared.breaches();
    for breach in breaches.iter().take(10) {
        report.check("no watch breaks a promise", false, breach);
    }
    if breaches.is_empty() {
        report.check(
            "no watch breaks a promise",
            true,
            "in order, whole, once, with what was there",
        );
    }
    Ok(())
}
