//! The process that holds locks and is stopped: it does what it is told by lines on its standard input, and answers with lines of JSON.

use super::lock;
use crate::connection::Connection;
use crate::{Outcome, http};
use proto::etcdserverpb as pb;
use proto::synod::v1;
use proto::synod::v1::kv_client::KvClient;
use proto::synod::v1::lock_client::LockClient;
use proto::synod::v1::session_client::SessionClient;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// The shortest there is, so that the stops are short.
const TTL_MS: u64 = 1000;
const REFRESH: Duration = Duration::from_millis(250);

/// What a stale holder tries to write, and in base64.
pub const STALE_KEY: &str = "fence/stale";
const STALE_KEY_BASE64: &str = "ZmVuY2Uvc3RhbGU=";

/// The ways in.
pub const APIS: [&str; 7] = [
    "put, native",
    "delete, native",
    "put, etcd with metadata",
    "transaction, etcd with metadata",
    "lease, etcd with metadata",
    "put, native JSON",
    "put, etcd JSON with a header",
];

/// What became of attempts.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Refused for the guard, by [`APIS`].
    pub refused: [usize; APIS.len()],
    /// Acknowledged.
    pub applied: usize,
    /// Guarded writes that were acknowledged while the lock was held.
    pub written: usize,
}

impl Tally {
    /// Adds up.
    pub fn add(&mut self, other: &Tally) {
        for (sum, refused) in self.refused.iter_mut().zip(other.refused) {
            *sum += refused;
        }
        self.applied += other.applied;
        self.written += other.written;
    }

    /// All stale attempts.
    pub fn all(&self) -> usize {
        self.refused.iter().sum::<usize>() + self.applied
    }
}

/// A lock that is held, as far as its holder knows.
struct Held {
    name: String,
    token: u64,
    /// The member it talks to.
    address: SocketAddr,
    refresh: tokio::task::JoinHandle<()>,
}

/// Does what it is told until there is nothing more.
///
/// # Errors
/// When a lock cannot be had, or an answer is none that may come.
pub async fn hold(addresses: Vec<SocketAddr>) -> Outcome<bool> {
    let mut told = BufReader::new(tokio::io::stdin()).lines();
    let mut held: Vec<Held> = Vec::new();
    while let Some(line) = told.next_line().await? {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["hold", round, count] => {
                let (round, count) = (round.parse()?, count.parse()?);
                held = take(&addresses, round, count).await?;
                println!("{}", write_held(&held).await?);
            }
            ["write"] => {
                let tally = write_stale(&held).await?;
                println!("{}", serde_json::to_string(&tally)?);
                held.drain(..).for_each(|held| held.refresh.abort());
            }
            _ => return Err(format!("{line:?} is nothing to do").into()),
        }
    }
    Ok(true)
}

/// Takes the locks of a round, each with a session of its own that is kept alive.
async fn take(addresses: &[SocketAddr], round: usize, count: usize) -> Outcome<Vec<Held>> {
    let mut held = Vec::new();
    for at in 0..count {
        let address = addresses[at % addresses.len()];
        let channel = Connection::new(address).channel;
        let mut sessions = SessionClient::new(channel.clone());
        let open = v1::OpenSessionRequest {
            ttl_ms: TTL_MS,
            session: 0,
        };
        let session = sessions.open(open).await?.into_inner().session;
        let refresh = tokio::spawn(async move {
            loop {
                tokio::time::sleep(REFRESH).await;
                // When it is lost, the holder does not care: that is what is looked at.
                let request = v1::RefreshSessionRequest { session };
                let _ = sessions.refresh(request).await;
            }
        });
        let name = lock(round, at);
        let token = acquire(&channel, &name, session, 1).await?;
        held.push(Held {
            name,
            token,
            address,
            refresh,
        });
    }
    Ok(held)
}

/// Waits for a lock; its token.
pub async fn acquire(channel: &Channel, name: &str, session: i64, id: u64) -> Outcome<u64> {
    let request = v1::AcquireRequest {
        name: name.to_owned(),
        session,
        id,
        ..Default::default()
    };
    let granted = LockClient::new(channel.clone()).acquire(request).await?;
    Ok(granted.into_inner().token)
}

/// The envelope of a guarded change.
pub fn guarded(name: &str, token: u64) -> v1::Change {
    v1::Change {
        guards: vec![v1::Guard {
            name: name.to_owned(),
            token,
        }],
        ..Default::default()
    }
}

/// Writes under each lock; how many writes were taken.
async fn write_held(held: &[Held]) -> Outcome<usize> {
    let mut written = 0;
    for held in held {
        let put = v1::PutRequest {
            change: Some(guarded(&held.name, held.token)),
            key: format!("held/{}", held.name).into(),
            ..Default::default()
        };
        let channel = Connection::new(held.address).channel;
        written += usize::from(KvClient::new(channel).put(put).await.is_ok());
    }
    Ok(written)
}

/// Tries to write under each lock in every way.
async fn write_stale(held: &[Held]) -> Outcome<Tally> {
    let mut tally = Tally::default();
    for held in held {
        for (api, refused) in tally.refused.iter_mut().enumerate() {
            if attempt(api, held).await? {
                *refused += 1;
            } else {
                tally.applied += 1;
            }
        }
    }
    Ok(tally)
}

/// One attempt; whether it was refused for its guard.
async fn attempt(api: usize, held: &Held) -> Outcome<bool> {
    let mut connection = Connection::new(held.address);
    let mut keys = KvClient::new(connection.channel.clone());
    let change = Some(guarded(&held.name, held.token));
    let header = format!("{}:{}", held.name.replace(':', "%3A"), held.token);
    let put = pb::PutRequest {
        key: STALE_KEY.into(),
        ..Default::default()
    };
    match api {
        0 => {
            let put = v1::PutRequest {
                change,
                key: STALE_KEY.into(),
                ..Default::default()
            };
            is_refused(keys.put(put).await)
        }
        1 => {
            let delete = v1::DeleteRequest {
                change,
                key: "held/".into(),
                prefix: true,
                ..Default::default()
            };
            is_refused(keys.delete(delete).await)
        }
        2 => is_refused(connection.kv.put(with(&header, put)?).await),
        3 => {
            let put = pb::request_op::Request::RequestPut(put);
            let txn = pb::TxnRequest {
                success: vec![pb::RequestOp { request: Some(put) }],
                ..Default::default()
            };
            is_refused(connection.kv.txn(with(&header, txn)?).await)
        }
        4 => {
            let grant = pb::LeaseGrantRequest { ttl: 60, id: 0 };
            is_refused(connection.lease.lease_grant(with(&header, grant)?).await)
        }
        5 => {
            let body = serde_json::json!({
                "change": { "guards": [{ "name": held.name, "token": held.token.to_string() }] },
                "key": STALE_KEY_BASE64,
            });
            let (path, body) = ("/synod/v1/kv/put", body.to_string());
            is_refused_json(http::request(held.address, path, Some(&body)).await?)
        }
        _ => {
            let headers = [("synod-guard", header.as_str())];
            let body = serde_json::json!({ "key": STALE_KEY_BASE64 }).to_string();
            let sent = http::post(held.address, "/v3/kv/put", &headers, &body);
            is_refused_json(sent.await?)
        }
    }
}

fn with<T>(header: &str, message: T) -> Outcome<Request<T>> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("synod-guard", header.parse()?);
    Ok(request)
}

fn is_refused<T>(answer: Result<T, Status>) -> Outcome<bool> {
    let Err(status) = answer else {
        return Ok(false);
    };
    let reason = status.metadata().get("synod-reason");
    let told = reason.is_some_and(|reason| reason == "guard-not-held");
    if told && status.code() == Code::FailedPrecondition {
        return Ok(true);
    }
    Err(format!("refused for another reason: {status}").into())
}

fn is_refused_json((status, body): (u16, String)) -> Outcome<bool> {
    match status {
        200 => Ok(false),
        400 if body.contains("\"reason\":\"guard-not-held\"") => Ok(true),
        _ => Err(format!("refused for another reason: {status} {body}").into()),
    }
}
