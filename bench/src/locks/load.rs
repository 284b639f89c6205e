//! Clients in a closed loop: each does its cycle again and again, one request at a time.

use super::{Interface, Measured, Work};
use bytes::Bytes;
use conformance::Outcome;
use conformance::connection::leader_of;
use conformance::process::Cluster;
use conformance::unary::Unary;
use proto::etcdserverpb as pb;
use proto::synod::v1 as api;
use proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::Status;

/// Connections that all clients share.
const CONNECTIONS: usize = 16;
/// How long a leader is looked for.
const LEADER_WAIT: Duration = Duration::from_secs(10);
/// Time to live of sessions, which are not renewed while they are measured.
const TTL: Duration = Duration::from_secs(600);

/// Runs a number of clients for a while.
pub(super) async fn drive(
    cluster: &Cluster,
    interface: Interface,
    work: Work,
    clients: usize,
    duration: Duration,
) -> Outcome<Measured> {
    let mut addresses = cluster.clients();
    if let Interface::Native = interface {
        // As the Rust client does with changes; etcd's balances over all members.
        let leader = leader_of(&addresses, LEADER_WAIT).await?;
        addresses = vec![addresses[leader]];
    }
    let connections: Arc<[Unary]> = (0..clients.clamp(addresses.len(), CONNECTIONS))
        .map(|at| Unary::new(addresses[at % addresses.len()]))
        .collect();
    // All sessions are there before the clock runs.
    let mut ready = Vec::new();
    for at in 0..clients {
        ready.push(Client::open(interface, work, at, connections.clone()).await?);
    }
    let before = cluster.cpu();
    let since = Instant::now();
    let until = since + duration;
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
    connections: Arc<[Unary]>,
    /// Who it is, then which connection it uses: it goes on to the next member with each cycle, so that a lone client's figure does not depend on
    /// which member happens to lead.
    turn: usize,
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
        connections: Arc<[Unary]>,
    ) -> Result<Client, Status> {
        let mut client = Client {
            interface,
            work,
            connections,
            turn: at,
            name: match work {
                Work::HandOffs => "bench/one".into(),
                Work::Puts | Work::Cycles | Work::Sessions => format!("bench/{at}"),
            },
            session: 0,
            id: 0,
        };
        if client.holds_a_session() {
            client.session = client.open_session().await?;
        }
        Ok(client)
    }

    fn holds_a_session(&self) -> bool {
        matches!(self.work, Work::Cycles | Work::HandOffs)
    }

    fn connection(&self) -> &Unary {
        &self.connections[self.turn % self.connections.len()]
    }

    async fn run(mut self, until: Instant) -> Result<u64, Status> {
        let mut cycles = 0;
        while Instant::now() < until {
            self.turn += 1;
            match self.work {
                Work::Puts => self.put().await?,
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
        if self.holds_a_session() {
            self.close_session().await?;
        }
        Ok(cycles)
    }

    async fn open_session(&self) -> Result<i64, Status> {
        open_session(self.interface, self.connection(), TTL).await
    }

    async fn close_session(&self) -> Result<(), Status> {
        match self.interface {
            Interface::Native => {
                let request = api::CloseSessionRequest {
                    session: self.session,
                };
                let path = "/synod.v1.Session/Close";
                self.connection()
                    .call::<api::CloseSessionResponse>(path, &request)
                    .await?;
            }
            Interface::LockService => {
                let request = pb::LeaseRevokeRequest { id: self.session };
                let path = "/etcdserverpb.Lease/LeaseRevoke";
                self.connection()
                    .call::<pb::LeaseRevokeResponse>(path, &request)
                    .await?;
            }
        }
        Ok(())
    }

    /// Gives the key to unlock, where there is one.
    async fn acquire(&mut self) -> Result<Bytes, Status> {
        match self.interface {
            Interface::Native => {
                self.id += 1;
                let request = api::AcquireRequest {
                    name: self.name.clone(),
                    session: self.session,
                    id: self.id,
                    ..api::AcquireRequest::default()
                };
                let path = "/synod.v1.Lock/Acquire";
                self.connection()
                    .call::<api::AcquireResponse>(path, &request)
                    .await?;
                Ok(Bytes::new())
            }
            Interface::LockService => {
                let request = LockRequest {
                    name: self.name.clone().into(),
                    lease: self.session,
                };
                let path = "/v3lockpb.Lock/Lock";
                let answer: LockResponse = self.connection().call(path, &request).await?;
                Ok(answer.key)
            }
        }
    }

    async fn release(&self, key: Bytes) -> Result<(), Status> {
        match self.interface {
            Interface::Native => {
                let request = api::ReleaseRequest {
                    change: None,
                    session: self.session,
                    id: self.id,
                };
                let path = "/synod.v1.Lock/Release";
                self.connection()
                    .call::<api::ReleaseResponse>(path, &request)
                    .await?;
            }
            Interface::LockService => {
                let path = "/v3lockpb.Lock/Unlock";
                self.connection()
                    .call::<UnlockResponse>(path, &UnlockRequest { key })
                    .await?;
            }
        }
        Ok(())
    }

    /// Something that ends with the session: a lock of ours, a key of etcd's.
    async fn hold(&mut self) -> Result<(), Status> {
        match self.interface {
            Interface::Native => self.acquire().await.map(drop),
            Interface::LockService => self.put().await,
        }
    }

    async fn put(&self) -> Result<(), Status> {
        let request = pb::PutRequest {
            key: self.name.clone().into(),
            lease: self.session,
            ..pb::PutRequest::default()
        };
        self.connection().put(&request).await.map(drop)
    }
}

pub(super) async fn open_session(
    interface: Interface,
    connection: &Unary,
    ttl: Duration,
) -> Result<i64, Status> {
    match interface {
        Interface::Native => {
            let request = api::OpenSessionRequest {
                ttl_ms: ttl.as_millis() as u64,
                session: 0,
            };
            let path = "/synod.v1.Session/Open";
            let answer: api::OpenSessionResponse = connection.call(path, &request).await?;
            Ok(answer.session)
        }
        Interface::LockService => {
            let request = pb::LeaseGrantRequest {
                ttl: ttl.as_secs() as i64,
                id: 0,
            };
            let path = "/etcdserverpb.Lease/LeaseGrant";
            let answer: pb::LeaseGrantResponse = connection.call(path, &request).await?;
            Ok(answer.id)
        }
    }
}
