//! Clients that keep writing, reading and watching while members die, and note everything in a ledger.

use crate::connection::Connection;
use crate::etcdctl::Etcdctl;
use crate::ledger::Ledger;
use crate::random::Random;
use crate::{Failure, Outcome};
use futures_util::StreamExt;
use proto::etcdserverpb as pb;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

/// All keys of the workload begin so.
const PREFIX: &str = "churn/";
/// Keys of one writer.
const KEYS_PER_WRITER: u64 = 5;
/// How long a client waits for an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// The lease that must not end while it is renewed.
const LEASE_TTL_S: i64 = 10;

/// Running clients.
pub struct Workload {
    addresses: Vec<SocketAddr>,
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
    watcher: JoinHandle<()>,
    /// The last revision that the watcher has taken.
    watched: Arc<AtomicU64>,
    counter: Arc<Counter>,
}

/// Successful and unknown increments of a shared counter.
#[derive(Default)]
struct Counter {
    acknowledged: AtomicU64,
    unknown: AtomicU64,
}

impl Workload {
    /// Starts `writers` writers with as many readers, a watcher, a shared counter, a lease, and etcdctl when there is one.
    ///
    /// # Errors
    /// When the members do not serve.
    pub async fn start(
        addresses: &[SocketAddr],
        writers: usize,
        seed: u64,
        etcdctl: Option<Etcdctl>,
    ) -> Outcome<Workload> {
        let ledger = Arc::new(Ledger::default());
        let stop = Arc::new(AtomicBool::new(false));
        let counter = Arc::new(Counter::default());
        let watched = Arc::new(AtomicU64::new(0));
        let mut first = Connection::new(addresses[0]);
        first.ready(Duration::from_secs(30)).await?;
        let (_, revision) = first.get("churn").await?;
        let watch = Watch {
            addresses: addresses.to_vec(),
            ledger: ledger.clone(),
            from: revision + 1,
            watched: watched.clone(),
            versions: BTreeMap::new(),
        };
        let watcher = tokio::spawn(watch.run(Random::new(seed)));
        let mut tasks = Vec::new();
        for number in 0..writers {
            let client = |salt| Client {
                addresses: addresses.to_vec(),
                at: number,
                connection: Connection::new(addresses[number % addresses.len()]),
                ledger: ledger.clone(),
                stop: stop.clone(),
                random: Random::new(seed * 1000 + salt + number as u64),
            };
            tasks.push(tokio::spawn(client(0).write(number)));
            tasks.push(tokio::spawn(client(500).read(writers)));
        }
        let client = |at| Client {
            addresses: addresses.to_vec(),
            at,
            connection: Connection::new(addresses[at % addresses.len()]),
            ledger: ledger.clone(),
            stop: stop.clone(),
            random: Random::new(seed + 77 + at as u64),
        };
        for at in 0..3 {
            tasks.push(tokio::spawn(client(at).count(counter.clone())));
        }
        tasks.push(tokio::spawn(client(1).keep_lease()));
        if let Some(etcdctl) = etcdctl {
            tasks.push(tokio::spawn(write_with_etcdctl(
                etcdctl,
                ledger.clone(),
                stop.clone(),
            )));
        }
        Ok(Workload {
            addresses: addresses.to_vec(),
            ledger,
            stop,
            tasks,
            watcher,
            watched,
            counter,
        })
    }

    /// The record.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Stops all clients and compares everything: each member's reads, the watch, the counter, the hashes.
    ///
    /// # Errors
    /// When a member does not serve any more.
    pub async fn settle(mut self) -> Outcome<Arc<Ledger>> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks.drain(..) {
            task.await?;
        }
        let mut revision = 0;
        let mut views = Vec::new();
        for address in &self.addresses {
            let mut connection = Connection::new(*address);
            connection.ready(Duration::from_secs(60)).await?;
            let all = pb::RangeRequest {
                key: PREFIX.into(),
                range_end: "churn0".into(),
                ..Default::default()
            };
            let response = connection.kv.range(all).await?.into_inner();
            revision = revision.max(response.header.unwrap_or_default().revision);
            views.push(
                response
                    .kvs
                    .iter()
                    .map(|kv| (text(&kv.key), text(&kv.value).parse().unwrap_or(0)))
                    .collect::<BTreeMap<String, u64>>(),
            );
        }
        if views.iter().any(|view| *view != views[0]) {
            self.ledger
                .breach("KV1: the members answer the same linearizable read differently".into());
        }
        self.watch_catches_up(revision).await;
        self.watcher.abort();
        self.ledger.settle(&views[0]);
        self.check_counter(views[0].get("churn/counter").copied().unwrap_or(0));
        self.check_hashes(revision).await?;
        Ok(self.ledger.clone())
    }

    async fn watch_catches_up(&self, revision: i64) {
        let since = Instant::now();
        // The last changes may lie outside the watched range, so quiet is enough as well.
        let mut before = 0;
        while self.watched.load(Ordering::Relaxed) < revision as u64
            && since.elapsed() < Duration::from_secs(20)
        {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let now = self.watched.load(Ordering::Relaxed);
            if now == before && since.elapsed() > Duration::from_secs(8) {
                return;
            }
            before = now;
        }
    }

    fn check_counter(&self, end: u64) {
        let (low, unknown) = (
            self.counter.acknowledged.load(Ordering::Relaxed),
            self.counter.unknown.load(Ordering::Relaxed),
        );
        if end < low || end > low + unknown {
            self.ledger.breach(format!("KV6: the counter is {end} after {low} acknowledged and {unknown} unknown increments"));
        }
    }

    /// All members' hashes at one revision, which all have applied.
    async fn check_hashes(&self, revision: i64) -> Outcome<()> {
        let mut hashes = Vec::new();
        for address in &self.addresses {
            let mut connection = Connection::new(*address);
            let response = connection
                .maintenance
                .hash_kv(pb::HashKvRequest { revision })
                .await?
                .into_inner();
            hashes.push((response.hash, response.compact_revision));
        }
        if hashes.iter().any(|hash| *hash != hashes[0]) {
            self.ledger.breach(format!(
                "KV5: hashes at revision {revision} differ: {hashes:?}"
            ));
        }
        Ok(())
    }
}

struct Client {
    addresses: Vec<SocketAddr>,
    at: usize,
    connection: Connection,
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    random: Random,
}

impl Client {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Goes to the next member, as a real client's balancer does.
    async fn turn_away(&mut self) {
        self.at += 1;
        self.connection = Connection::new(self.addresses[self.at % self.addresses.len()]);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    async fn write(mut self, writer: usize) {
        while !self.stopped() {
            let key = format!("{PREFIX}{writer}/{}", self.random.below(KEYS_PER_WRITER));
            let number = self.ledger.begin_write(&key);
            match tokio::time::timeout(ANSWER_LIMIT, self.connection.put(&key, &number.to_string()))
                .await
            {
                Ok(Ok(_)) => self.ledger.acknowledge(&key, number),
                _ => {
                    self.ledger.lose_sight(&key, number);
                    self.turn_away().await;
                }
            }
        }
    }

    async fn read(mut self, writers: usize) {
        while !self.stopped() {
            let key = format!(
                "{PREFIX}{}/{}",
                self.random.below(writers as u64),
                self.random.below(KEYS_PER_WRITER)
            );
            let floor = self.ledger.floor(&key);
            match tokio::time::timeout(ANSWER_LIMIT, self.connection.get(&key)).await {
                Ok(Ok((found, _))) => {
                    let number = found.map_or(0, |(value, _)| value.parse().unwrap_or(u64::MAX));
                    self.ledger.finish_read(&key, floor, number);
                }
                _ => self.turn_away().await,
            }
            // Readers leave most of the machine to the writers, and change members on their own accord now and then.
            tokio::time::sleep(Duration::from_millis(2)).await;
            if self.random.below(200) == 0 {
                self.turn_away().await;
            }
        }
    }

    /// Read, compare and set: no increment may be lost or made twice.
    async fn count(mut self, counter: Arc<Counter>) {
        const KEY: &str = "churn/counter";
        while !self.stopped() {
            let Ok(Ok((found, _))) =
                tokio::time::timeout(ANSWER_LIMIT, self.connection.get(KEY)).await
            else {
                self.turn_away().await;
                continue;
            };
            let (value, revision) = found.unwrap_or(("0".into(), 0));
            let next: u64 = value.parse().unwrap_or(0) + 1;
            match tokio::time::timeout(
                ANSWER_LIMIT,
                self.connection.kv.txn(set_if(KEY, revision, next)),
            )
            .await
            {
                Ok(Ok(response)) if response.get_ref().succeeded => {
                    counter.acknowledged.fetch_add(1, Ordering::Relaxed);
                }
                Ok(Ok(_)) => {}
                _ => {
                    counter.unknown.fetch_add(1, Ordering::Relaxed);
                    self.turn_away().await;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Renews a lease every second or so; its key must be there for a TTL after each acknowledged renewal.
    async fn keep_lease(mut self) {
        const KEY: &str = "lease/kept";
        let mut lease = 0;
        let mut renewed = Instant::now();
        while !self.stopped() {
            if lease == 0 {
                match self.grant(KEY).await {
                    Ok(id) => (lease, renewed) = (id, Instant::now()),
                    Err(_) => self.turn_away().await,
                }
                continue;
            }
            let sent = Instant::now();
            match tokio::time::timeout(Duration::from_secs(2), self.renew(lease)).await {
                Ok(Ok(ttl)) if ttl > 0 => renewed = sent,
                Ok(Ok(_)) => {
                    let idle = renewed.elapsed();
                    if idle < Duration::from_secs(LEASE_TTL_S as u64) {
                        self.ledger.breach(format!(
                            "L1: lease {lease:x} of {LEASE_TTL_S} s ended {idle:?} after a renewal"
                        ));
                    }
                    lease = 0;
                }
                _ => self.turn_away().await,
            }
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
        if lease != 0 {
            let _ = self
                .connection
                .lease
                .lease_revoke(pb::LeaseRevokeRequest { id: lease })
                .await;
        }
    }

    async fn grant(&mut self, key: &'static str) -> Outcome<i64> {
        let grant = pb::LeaseGrantRequest {
            ttl: LEASE_TTL_S,
            id: 0,
        };
        let granted = tokio::time::timeout(ANSWER_LIMIT, self.connection.lease.lease_grant(grant))
            .await??
            .into_inner();
        let put = pb::PutRequest {
            key: key.into(),
            value: "here".into(),
            lease: granted.id,
            ..Default::default()
        };
        tokio::time::timeout(ANSWER_LIMIT, self.connection.kv.put(put)).await??;
        Ok(granted.id)
    }

    async fn renew(&mut self, lease: i64) -> Outcome<i64> {
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        sender.send(pb::LeaseKeepAliveRequest { id: lease }).await?;
        let mut answers = self
            .connection
            .lease
            .lease_keep_alive(ReceiverStream::new(receiver))
            .await?
            .into_inner();
        let answer = answers
            .message()
            .await?
            .ok_or_else(|| Failure::from("the stream ended"))?;
        Ok(answer.ttl)
    }
}

fn set_if(key: &'static str, revision: i64, value: u64) -> pb::TxnRequest {
    let put = pb::PutRequest {
        key: key.into(),
        value: value.to_string().into(),
        ..Default::default()
    };
    pb::TxnRequest {
        compare: vec![pb::Compare {
            result: pb::compare::CompareResult::Equal as i32,
            target: pb::compare::CompareTarget::Mod as i32,
            key: key.into(),
            target_union: Some(pb::compare::TargetUnion::ModRevision(revision)),
            ..Default::default()
        }],
        success: vec![pb::RequestOp {
            request: Some(pb::request_op::Request::RequestPut(put)),
        }],
        failure: Vec::new(),
    }
}

async fn write_with_etcdctl(etcdctl: Etcdctl, ledger: Arc<Ledger>, stop: Arc<AtomicBool>) {
    const KEY: &str = "churn/etcdctl";
    while !stop.load(Ordering::Relaxed) {
        let number = ledger.begin_write(KEY);
        match etcdctl
            .call(
                &["put", KEY, &number.to_string()],
                "",
                Duration::from_secs(8),
            )
            .await
        {
            Ok(called) if called.success => ledger.acknowledge(KEY, number),
            _ => ledger.lose_sight(KEY, number),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// One watch over all keys, resumed at another member whenever its stream ends, and now and then without need.
struct Watch {
    addresses: Vec<SocketAddr>,
    ledger: Arc<Ledger>,
    from: i64,
    watched: Arc<AtomicU64>,
    versions: BTreeMap<String, i64>,
}

impl Watch {
    async fn run(mut self, mut random: Random) {
        loop {
            let address = *random.pick(&self.addresses);
            let stay = Duration::from_millis(2000 + random.below(8000));
            // Both ends are ordinary: the member died, or it was time to move on.
            let _ = tokio::time::timeout(stay, self.follow(address)).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn follow(&mut self, address: SocketAddr) -> Outcome<()> {
        let mut connection = Connection::new(address);
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let create = pb::WatchCreateRequest {
            key: PREFIX.into(),
            range_end: "churn0".into(),
            start_revision: self.from,
            prev_kv: true,
            ..Default::default()
        };
        sender
            .send(pb::WatchRequest {
                request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
            })
            .await?;
        let mut messages = connection
            .watch
            .watch(ReceiverStream::new(receiver))
            .await?
            .into_inner();
        while let Some(message) = messages.next().await {
            let message = message?;
            if message.canceled {
                self.ledger.breach(format!(
                    "W11: the watch from {} was cancelled: {} (compact revision {})",
                    self.from, message.cancel_reason, message.compact_revision
                ));
                return Ok(());
            }
            self.take(message);
        }
        Ok(())
    }

    fn take(&mut self, message: pb::WatchResponse) {
        let first = self.from;
        for event in message.events {
            let (Some(kv), previous) = (event.kv, event.prev_kv) else {
                continue;
            };
            let name = text(&kv.key);
            if kv.mod_revision < first {
                self.ledger.breach(format!(
                    "W2 or W5: the watch from {first} showed {name} at revision {}",
                    kv.mod_revision
                ));
                continue;
            }
            let before = self
                .versions
                .insert(name.clone(), kv.version)
                .unwrap_or(kv.version - 1);
            if kv.version != before + 1 {
                self.ledger.breach(format!(
                    "W3: {name} went from version {before} to {}",
                    kv.version
                ));
            }
            if previous.as_ref().map_or(0, |previous| previous.version) != kv.version - 1 {
                self.ledger.breach(format!(
                    "W8: {name} at version {} has prev_kv {previous:?}",
                    kv.version
                ));
            }
            if !name.ends_with("/counter") {
                self.ledger
                    .watched(&name, text(&kv.value).parse().unwrap_or(u64::MAX));
            }
            self.from = self.from.max(kv.mod_revision + 1);
        }
        self.watched
            .store((self.from - 1) as u64, Ordering::Relaxed);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
