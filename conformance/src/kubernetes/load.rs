//! A large cluster's day in a minute: objects made, read, listed and changed at once, with the time each kind of request took.

use super::Plan;
use super::cache::{Caches, Shared};
use super::storage::{Storage, Written};
use crate::Outcome;
use crate::random::Random;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

/// Objects of one page, as `kubectl` and informers ask for.
const PAGE: i64 = 500;

/// Milliseconds that requests took, by kind.
#[derive(Debug, Default)]
pub struct Times(BTreeMap<&'static str, Vec<f64>>);

impl Times {
    fn note(&mut self, kind: &'static str, since: Instant) {
        let millis = since.elapsed().as_secs_f64() * 1000.0;
        self.0.entry(kind).or_default().push(millis);
    }

    fn add(&mut self, other: Times) {
        for (kind, mut times) in other.0 {
            self.0.entry(kind).or_default().append(&mut times);
        }
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (kind, times) in &self.0 {
            let mut times = times.clone();
            times.sort_by(f64::total_cmp);
            let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
            let (median, late, last, count) = (at(0.5), at(0.99), at(1.0), times.len());
            write!(
                f,
                "{separator}{kind} {median:.1}/{late:.1}/{last:.1} ({count})"
            )?;
            separator = ", ";
        }
        Ok(())
    }
}

fn key(plan: &Plan, object: usize) -> String {
    let (resource, number) = (object % plan.resources, object / plan.resources);
    format!(
        "/registry/resource{resource:03}/namespace{:02}/object{number:06}",
        number % 20
    )
}

fn value(plan: &Plan, random: &mut Random) -> Bytes {
    (0..plan.object_bytes.div_ceil(8))
        .flat_map(|_| random.bits().to_le_bytes())
        .take(plan.object_bytes)
        .collect()
}

/// Creates all objects, by as many clients as write later.
///
/// # Errors
/// When the store refuses.
pub async fn fill(plan: &Plan, storage: &impl Fn(usize) -> Storage) -> Outcome<Times> {
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..plan.writers {
        let (plan, mut storage) = (plan.clone(), storage(client));
        clients.spawn(async move {
            let (mut times, mut random) =
                (Times::default(), Random::new(plan.seed + client as u64));
            for object in (client..plan.objects).step_by(plan.writers) {
                let (name, value) = (key(&plan, object), value(&plan, &mut random));
                let since = Instant::now();
                let written = storage.create(&name, value, 0).await?;
                times.note("create", since);
                if let Written::Conflict(_) = written {
                    return Err(format!("{name} was there before it was created").into());
                }
            }
            Ok::<Times, crate::Failure>(times)
        });
    }
    joined(clients).await
}

async fn joined(mut clients: tokio::task::JoinSet<Outcome<Times>>) -> Outcome<Times> {
    let mut sum = Times::default();
    while let Some(times) = clients.join_next().await {
        sum.add(times??);
    }
    Ok(sum)
}

/// Reads of every kind; once through, or until told to stop.
///
/// # Errors
/// When the store refuses, or an answer is not what was asked for.
pub async fn reads(
    plan: &Plan,
    storage: &impl Fn(usize) -> Storage,
    stop: Option<&AtomicBool>,
) -> Outcome<Times> {
    let (mut times, mut random) = (Times::default(), Random::new(plan.seed));
    let prefixes = plan.prefixes();
    let mut round = 0;
    loop {
        let mut storage = storage(round);
        for _ in 0..20 {
            let name = key(plan, random.below(plan.objects as u64) as usize);
            let since = Instant::now();
            storage.get(&name).await?;
            times.note("get", since);
        }
        let prefix = &prefixes[random.below(prefixes.len() as u64) as usize];
        let since = Instant::now();
        storage.count(prefix).await?;
        times.note("count", since);
        let since = Instant::now();
        let page = storage.page(prefix, None, PAGE, 0).await?;
        times.note("page", since);
        let since = Instant::now();
        let again = storage.page(prefix, None, PAGE, page.revision).await?;
        times.note("page at revision", since);
        if again.kvs != page.kvs || again.count != page.count {
            return Err(format!("{prefix} at revision {} changed", page.revision).into());
        }
        let since = Instant::now();
        storage.page(prefix, None, 0, 0).await?;
        times.note("resource", since);
        if round % 10 == 0 {
            let since = Instant::now();
            let (all, _) = storage.list("/registry/resource", PAGE).await?;
            times.note("everything by pages", since);
            if all.len() * 10 < plan.objects * 9 {
                return Err(format!("a list of {} objects is too short", all.len()).into());
            }
            let since = Instant::now();
            storage.page("/registry/resource", None, 0, 0).await?;
            times.note("everything at once", since);
        }
        round += 1;
        match stop {
            None if round == 30 => return Ok(times),
            Some(stop) if stop.load(Relaxed) => return Ok(times),
            _ => {}
        }
    }
}

/// Writers, readers, consistent reads from caches and a compaction, all at once. Gives the times of writes, of reads, and of consistent reads.
///
/// # Errors
/// When the store refuses.
pub async fn all_at_once(
    plan: &Plan,
    storage: &impl Fn(usize) -> Storage,
    servers: &mut [Caches],
    shared: &Arc<Shared>,
) -> Outcome<(Times, Times, Times)> {
    let (_, begun) = storage(0).get("/registry/").await?;
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..plan.writers {
        let (plan, storage, shared) = (plan.clone(), storage(client), shared.clone());
        clients.spawn(change(plan, client, storage, shared));
    }
    let stop = AtomicBool::new(false);
    let writes = async {
        let outcome = joined(clients).await;
        stop.store(true, Relaxed);
        outcome
    };
    let consistent = async {
        let mut times = Times::default();
        let mut at = 0;
        while !stop.load(Relaxed) {
            let count = servers.len();
            let (_, newest) = storage(at + 1).get("/registry/").await?;
            let since = Instant::now();
            servers[at % count].reach(newest).await?;
            times.note("wait", since);
            at += 1;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Ok::<Times, crate::Failure>(times)
    };
    let compaction = async {
        let mut storage = storage(0);
        let (_, version, _) = storage.claim_compaction(-1, begun).await?;
        let (won, ..) = storage.claim_compaction(version, begun).await?;
        if won {
            storage.compact(begun).await?;
        }
        Ok::<(), crate::Failure>(())
    };
    let (writes, reads, consistent, compaction) = tokio::join!(
        writes,
        reads(plan, storage, Some(&stop)),
        consistent,
        compaction
    );
    compaction?;
    Ok((writes?, reads?, consistent?))
}

/// One client's share of the changes: read, change by revision, and again with what a conflict showed.
async fn change(
    plan: Plan,
    client: usize,
    mut storage: Storage,
    shared: Arc<Shared>,
) -> Outcome<Times> {
    let mut times = Times::default();
    let mut random = Random::new(plan.seed ^ (client as u64 + 1) << 32);
    for _ in 0..plan.changes / plan.writers {
        let name = key(&plan, random.below(plan.objects as u64) as usize);
        let (mut found, _) = storage.get(&name).await?;
        loop {
            let since = Instant::now();
            let (kind, written) = match &found {
                None => (
                    "create",
                    storage.create(&name, value(&plan, &mut random), 0).await?,
                ),
                Some(kv) if random.chance(5) => {
                    ("delete", storage.delete(&name, kv.mod_revision).await?)
                }
                Some(kv) => {
                    let value = value(&plan, &mut random);
                    (
                        "update",
                        storage.update(&name, value, kv.mod_revision).await?,
                    )
                }
            };
            times.note(kind, since);
            match written {
                Written::Done(revision) => break shared.acknowledge(revision),
                // A create tells nothing of what is there.
                Written::Conflict(None) => found = storage.get(&name).await?.0,
                Written::Conflict(now) => found = now,
            }
        }
    }
    Ok(times)
}
