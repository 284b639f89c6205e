//! A closed-loop load: each client has one request in flight; at most a few dozen connections, spread over all members.

use crate::random::Random;
use crate::unary::Unary;
use bytes::Bytes;
use futures_util::future::join_all;
use proto::etcdserverpb as pb;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// More connections than this bring nothing on one machine.
const CONNECTIONS_MAX: usize = 32;
/// A request without an answer for so long counts as an error.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Puts of random keys.
    Put,
    /// Linearizable reads of random keys.
    Get,
    /// Three reads to one put.
    Mixed,
}

/// A load to be driven.
#[derive(Clone, Debug)]
pub struct Load {
    /// Members' client addresses.
    pub addresses: Vec<SocketAddr>,
    /// Clients, one request in flight each.
    pub clients: usize,
    /// What they do.
    pub work: Work,
    /// Keys they choose from.
    pub keys: u64,
    /// Before each key.
    pub prefix: &'static str,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// How long.
    pub duration: Duration,
    /// Seed of the choice of keys.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Answered requests.
    pub operations: u64,
    /// Requests that ended with an error.
    pub errors: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// Microseconds of each answered request, sorted.
    latencies: Vec<u32>,
}

impl Figures {
    /// Operations per second.
    pub fn rate(&self) -> f64 {
        self.operations as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Several loads, one after another, as one.
    pub fn merged(parts: Vec<Figures>) -> Figures {
        let mut sum = Figures::default();
        for mut part in parts {
            sum.operations += part.operations;
            sum.errors += part.errors;
            sum.elapsed += part.elapsed;
            sum.latencies.append(&mut part.latencies);
        }
        sum.latencies.sort_unstable();
        sum
    }

    /// The latency below which a share of requests lies (0.5, 0.99, 1.0), in milliseconds.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let at = (last as f64 * share).round() as usize;
        self.latencies
            .get(at)
            .map_or(f64::NAN, |micros| f64::from(*micros) / 1000.0)
    }
}

impl Load {
    /// Drives it to the end.
    pub async fn drive(&self) -> Figures {
        self.drive_during(tokio::time::sleep(self.duration)).await.0
    }

    /// Drives it as long as something else goes on, whatever its own duration; gives what came of that, too.
    pub async fn drive_during<T>(&self, other: impl Future<Output = T>) -> (Figures, T) {
        let connections: Vec<Unary> = (0..self.clients.min(CONNECTIONS_MAX))
            .map(|at| Unary::new(self.addresses[at % self.addresses.len()]))
            .collect();
        // Not part of what is measured; where it fails, the first request tells.
        let _ = join_all(connections.iter().map(Unary::connect)).await;
        let since = Instant::now();
        let ended = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..self.clients)
            .map(|at| {
                tokio::spawn(self.clone().client(
                    at,
                    connections[at % connections.len()].clone(),
                    ended.clone(),
                ))
            })
            .collect();
        let came = other.await;
        ended.store(true, Relaxed);
        let mut sum = Figures::default();
        for client in clients {
            let mut figures = client.await.expect("a client does not panic");
            sum.operations += figures.operations;
            sum.errors += figures.errors;
            sum.latencies.append(&mut figures.latencies);
        }
        sum.elapsed = since.elapsed();
        sum.latencies.sort_unstable();
        (sum, came)
    }

    async fn client(self, number: usize, connection: Unary, ended: Arc<AtomicBool>) -> Figures {
        let mut random = Random::new(self.seed.wrapping_mul(1000) + number as u64);
        let value = Bytes::from(vec![b'x'; self.value_bytes]);
        let mut figures = Figures::default();
        while !ended.load(Relaxed) {
            let key = Bytes::from(format!("{}{:08}", self.prefix, random.below(self.keys)));
            let put = self.work == Work::Put || (self.work == Work::Mixed && random.below(4) == 0);
            let start = Instant::now();
            let call = async {
                if put {
                    let put = pb::PutRequest {
                        key,
                        value: value.clone(),
                        ..Default::default()
                    };
                    connection.put(&put).await.is_ok()
                } else {
                    let range = pb::RangeRequest {
                        key,
                        ..Default::default()
                    };
                    connection.range(&range).await.is_ok()
                }
            };
            if tokio::time::timeout(ANSWER_LIMIT, call)
                .await
                .unwrap_or(false)
            {
                figures.operations += 1;
                figures
                    .latencies
                    .push(start.elapsed().as_micros().min(u128::from(u32::MAX)) as u32);
            } else {
                figures.errors += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        figures
    }
}

/// Puts `count` distinct keys with values of `value_bytes`, `prefix` and a number each, many at a time.
///
/// # Errors
/// When a put fails.
pub async fn fill(
    addresses: &[SocketAddr],
    prefix: &'static str,
    count: u64,
    value_bytes: usize,
) -> crate::Outcome<()> {
    const CLIENTS: u64 = 64;
    let value = Bytes::from(vec![b'y'; value_bytes]);
    let fillers: Vec<_> = (0..CLIENTS)
        .map(|filler| {
            let connection = Unary::new(addresses[filler as usize % addresses.len()]);
            let value = value.clone();
            tokio::spawn(async move {
                for at in (filler..count).step_by(CLIENTS as usize) {
                    let put = pb::PutRequest {
                        key: format!("{prefix}{at:08}").into(),
                        value: value.clone(),
                        ..Default::default()
                    };
                    connection.put(&put).await?;
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
