//! Ids made at this member, for those who do not make them themselves: it borrows worker numbers from the cell as any client would.

use super::Native;
use crate::grpc::door::{Answered, Outcome, REQUEST_TIMEOUT, random_lease_id, within};
use etcd::{Advice, Code, Status};
use ids::{Generator, Layout, NotYet, Uuid, UuidGenerator, Window};
use proto::synod::v1;
use replica::Body;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Ids of one request.
const COUNT_MAX: u32 = 10_000;

/// Pools in which a member makes ids.
const POOLS_MAX: usize = 256;

/// Time borrowed from the cell at once. What is left of it when a member stops is never used.
const AHEAD_MS: u64 = 10_000;

/// How far a burst may run ahead of the present.
const BURST: Duration = Duration::from_secs(1);

/// The session that keeps a worker number; it is renewed with each window.
const SESSION_TTL_MS: u64 = 60_000;

/// The pool of those who name none.
const POOL: &str = "default";

/// What this member makes ids with.
pub(crate) struct Issuers {
    begun: Instant,
    pools: Mutex<BTreeMap<PoolKey, Arc<tokio::sync::Mutex<Issuer>>>>,
    uuids: Mutex<UuidGenerator>,
}

/// A pool, and how ids are divided in it.
type PoolKey = (String, (u32, u32, u64));

#[derive(Default)]
struct Issuer {
    session: i64,
    generator: Option<Generator>,
}

impl Default for Issuers {
    fn default() -> Issuers {
        Issuers {
            begun: Instant::now(),
            pools: Mutex::default(),
            uuids: Mutex::default(),
        }
    }
}

impl Native<'_> {
    /// Makes ids.
    pub async fn next_ids(&self, request: v1::NextRequest) -> Outcome<v1::NextResponse> {
        let count = count(request.count)?;
        let (layout, divided) = layout(request.layout)?;
        let pool = if request.pool.is_empty() {
            POOL.to_owned()
        } else {
            request.pool
        };
        let issuer = self.issuer((pool.clone(), divided))?;
        let mut issuer = issuer.lock().await;
        let mut ids = Vec::with_capacity(count as usize);
        while ids.len() < count as usize {
            let clock = self.door.issuers.begun.elapsed();
            let made = match &mut issuer.generator {
                Some(generator) => generator.next(clock),
                None => Err(NotYet::WindowOver),
            };
            match made {
                Ok(id) => ids.push(id),
                Err(NotYet::Wait(time)) => tokio::time::sleep(time).await,
                Err(NotYet::WindowOver) => self.renew(&mut issuer, &pool, layout).await?,
            }
        }
        let message = self.unread().on(v1::NextResponse { header: None, ids });
        Ok(Answered::unstamped(message))
    }

    fn issuer(&self, key: PoolKey) -> Result<Arc<tokio::sync::Mutex<Issuer>>, Status> {
        let pools = &self.door.issuers.pools;
        let mut pools = pools.lock().unwrap_or_else(PoisonError::into_inner);
        if pools.len() >= POOLS_MAX && !pools.contains_key(&key) {
            let text = format!(
                "pool: this member makes ids in {POOLS_MAX} pools already, which is the limit; make them in the client"
            );
            return Err(Status::new(Code::ResourceExhausted, text)
                .advised(Advice::permanent("too-many-pools")));
        }
        Ok(pools.entry(key).or_default().clone())
    }

    /// Borrows the next window, with another session if the one there was has ended.
    async fn renew(&self, issuer: &mut Issuer, pool: &str, layout: Layout) -> Result<(), Status> {
        let alive = issuer.session != 0 && self.is_renewed(issuer.session).await?;
        if !alive {
            let granting = v1::GrantRequest {
                ttl_ms: SESSION_TTL_MS,
                ..Default::default()
            };
            let grant = native::grant(granting, random_lease_id()?)?;
            issuer.session = self.change(grant).await?.message.id;
        }
        let worker = native::worker(v1::WorkerRequest {
            change: None,
            pool: pool.to_owned(),
            session: issuer.session,
            workers: layout.workers().min(1 << 16),
            ahead_ms: AHEAD_MS,
        })?;
        let lent = self.change(worker).await?.message;
        let clock = self.door.issuers.begun.elapsed();
        let window = Window {
            worker: lent.worker,
            now_ms: lent.now_unix_ms,
            from_ms: lent.from_unix_ms,
            until_ms: lent.until_unix_ms,
        };
        match &mut issuer.generator {
            Some(generator) => generator.renew(window, clock),
            none => *none = Some(Generator::new(layout, window, clock).with_ahead(BURST)),
        }
        Ok(())
    }

    async fn is_renewed(&self, session: i64) -> Result<bool, Status> {
        let kept = within(REQUEST_TIMEOUT, self.door.handle.keep_alive(session)).await?;
        Ok(matches!(kept.body, Body::KeepAlive(Some(_))))
    }

    /// Makes UUIDs.
    pub async fn uuids(&self, request: v1::UuidRequest) -> Outcome<v1::UuidResponse> {
        let count = count(request.count)?;
        let uuids = &self.door.issuers.uuids;
        let mut generator = uuids.lock().unwrap_or_else(PoisonError::into_inner);
        let mut uuids = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let mut random = [0; 10];
            getrandom::fill(&mut random).map_err(|error| {
                Status::new(Code::Internal, format!("no randomness for a UUID: {error}"))
            })?;
            uuids.push(generator.next(unix_ms(), random).to_string());
        }
        let header = None;
        let message = self.unread().on(v1::UuidResponse { header, uuids });
        Ok(Answered::unstamped(message))
    }

    /// Tells what an id says.
    pub async fn decode(&self, request: v1::DecodeRequest) -> Outcome<v1::DecodeResponse> {
        let (layout, _) = layout(request.layout)?;
        let text = request.id.trim();
        let decoded = match text.parse::<u64>() {
            Ok(id) => layout.parts(id).map(|parts| v1::DecodeResponse {
                unix_ms: parts.unix_ms,
                worker: parts.worker,
                sequence: parts.sequence,
                uuid_version: 0,
            }),
            Err(_) => text.parse::<Uuid>().ok().map(|uuid| v1::DecodeResponse {
                unix_ms: uuid.unix_ms().unwrap_or(0),
                uuid_version: u32::from(uuid.version()),
                ..Default::default()
            }),
        };
        let message = decoded.ok_or_else(|| {
            invalid(format!(
                "id: {text:?} is neither a number below 2^63 nor a UUID"
            ))
        })?;
        Ok(Answered::unstamped(message))
    }
}

fn invalid(text: String) -> Status {
    Status::new(Code::InvalidArgument, text)
}

fn count(asked: u32) -> Result<u32, Status> {
    match asked.max(1) {
        count @ ..=COUNT_MAX => Ok(count),
        count => Err(invalid(format!(
            "count: {count} is too many, at most {COUNT_MAX}"
        ))),
    }
}

/// How ids are divided, also in a form that can be compared.
fn layout(asked: Option<v1::Layout>) -> Result<(Layout, (u32, u32, u64)), Status> {
    let Some(v1::Layout {
        worker_bits,
        sequence_bits,
        epoch_unix_ms,
    }) = asked
    else {
        return Ok((Layout::default(), (0, 0, 0)));
    };
    let layout = Layout::new(worker_bits, sequence_bits, epoch_unix_ms);
    let layout = layout.map_err(|error| invalid(format!("layout: {error}")))?;
    Ok((layout, (worker_bits, sequence_bits, epoch_unix_ms)))
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
