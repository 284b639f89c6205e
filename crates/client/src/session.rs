//! Sessions: a lease that is kept alive in the background, with a client id that lets requests be repeated without being applied twice.
//!
//! A session knows by itself when it is over, without asking anybody: its members promise not to end it before its time to live has passed since the
//! last renewal that they acknowledged, so it counts from the moment at which that renewal was *sent*, keeps a tenth of the time as a margin for clocks
//! that drift and for what its owner still has to do, and then calls itself lost. What it held may still be held for a moment; nobody else can have it
//! yet.

use crate::call::Kind;
use crate::retry::{Backoff, random};
use crate::sequence::{Sequence, Ticket};
use crate::{Client, ClientError, Fence, clock};
use proto::synod::v1 as api;
use proto::synod::v1::lock_client::LockClient;
use proto::synod::v1::session_client::SessionClient;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::sleep;

/// The time to live of a session whose owner did not choose one.
pub const DEFAULT_TTL: Duration = Duration::from_secs(10);
/// Renewals in a time to live.
const RENEWALS: u32 = 3;
/// Which part of its time a session does not use: clocks may drift by a hundredth each, the rest is for what its owner has to end.
const MARGIN: u32 = 10;

/// A session with a cell. Cheap to clone; it is closed when the last clone and the last guard are gone, which takes a runtime that goes on running. A
/// program that ends calls [`Session::close`], or what it holds stays taken for the time to live.
#[derive(Clone)]
pub struct Session {
    shared: Arc<Shared>,
    /// The background hears when the last of these is gone.
    _open: Arc<oneshot::Sender<()>>,
}

struct Shared {
    client: Client,
    number: i64,
    /// The client id of its requests.
    id: u64,
    ttl: Duration,
    sequence: Arc<Sequence>,
    /// Counts acquisitions.
    acquisitions: AtomicU64,
    /// When it is lost, in nanoseconds of [`clock::now`].
    ends_ns: AtomicU64,
    lost: watch::Sender<Option<Arc<str>>>,
    /// Acquisitions whose owners are gone: they are given up in the background.
    leaving: Mutex<BTreeSet<u64>>,
    leave: Notify,
}

impl Session {
    /// Opens a session that lives for 10 seconds without this process.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn open(client: &Client) -> Result<Session, ClientError> {
        Session::open_with_ttl(client, DEFAULT_TTL).await
    }

    /// Opens a session that lives for so long without this process, a second at least.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn open_with_ttl(client: &Client, ttl: Duration) -> Result<Session, ClientError> {
        // The number is chosen here, so that opening it can be repeated.
        let request = api::OpenSessionRequest {
            ttl_ms: millis(ttl),
            session: ((random() >> 1) | 1) as i64,
        };
        let sent = clock::now();
        let answer = client
            .unary(Kind::Once, request, async |channel, request| {
                SessionClient::new(channel).open(request).await
            })
            .await?
            .message;
        let (closed, closing) = oneshot::channel();
        let shared = Arc::new(Shared {
            client: client.clone(),
            number: answer.session,
            id: answer.client,
            ttl: Duration::from_millis(answer.ttl_ms),
            sequence: Sequence::new(),
            acquisitions: AtomicU64::new(0),
            ends_ns: AtomicU64::new(0),
            lost: watch::Sender::new(None),
            leaving: Mutex::default(),
            leave: Notify::new(),
        });
        shared.renewed(sent);
        tokio::spawn(keep(shared.clone(), closing));
        Ok(Session {
            shared,
            _open: Arc::new(closed),
        })
    }

    /// Its number, as `synod session list` shows it. It is the id of its lease, too: a key put with it goes away with the session.
    pub fn number(&self) -> i64 {
        self.shared.number
    }

    /// How long it lives without this process.
    pub fn ttl(&self) -> Duration {
        self.shared.ttl
    }

    /// The client it was opened with.
    pub fn client(&self) -> &Client {
        &self.shared.client
    }

    /// Whether it certainly lives on. Asks the clock, so it is right even when this process was stopped for a while.
    pub fn is_alive(&self) -> bool {
        self.shared.lost.borrow().is_none() && !self.left().is_zero()
    }

    /// How long it certainly lives on if it cannot be renewed any more.
    pub fn left(&self) -> Duration {
        self.shared.left()
    }

    /// Waits until the session is lost or closed, and says how. It ends *before* anybody else can have what the session held, so that its owner can
    /// stop in time.
    pub async fn lost(&self) -> String {
        self.shared.lost().await
    }

    /// Ends the session in order: what it holds goes to the next at once.
    ///
    /// # Errors
    /// See [`ClientError`]. It is over in any case, at the latest after its time to live.
    pub async fn close(self) -> Result<(), ClientError> {
        self.shared.lose("it was closed");
        self.shared.close().await
    }

    /// Does something unless the session is lost before.
    pub(crate) async fn while_alive<T>(
        &self,
        work: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        if !self.is_alive() {
            self.shared.lose("its time is over");
        }
        tokio::select! {
            biased;
            reason = self.lost() => Err(ClientError::SessionLost { reason }),
            done = work => done,
        }
    }

    /// The name of a new acquisition.
    pub(crate) fn next_acquisition(&self) -> u64 {
        self.shared.acquisitions.fetch_add(1, Relaxed) + 1
    }

    /// Gives an acquisition up, in the background.
    pub(crate) fn let_go(&self, id: u64) {
        self.shared.leaving().insert(id);
        self.shared.leave.notify_one();
    }

    /// What a request carries so that it is applied once. The ticket is to be kept until the answer is there.
    pub(crate) async fn change(&self, fences: &[Fence]) -> (Option<api::Change>, Ticket) {
        let ticket = self.shared.sequence.begin().await;
        let change = api::Change {
            client: self.shared.id,
            sequence: ticket.number(),
            acknowledged_below: ticket.lowest_open(),
            guards: fences.iter().map(Fence::guard).collect(),
        };
        (Some(change), ticket)
    }
}

impl Shared {
    /// A renewal that was sent then was acknowledged.
    fn renewed(&self, sent: Duration) {
        let ends = sent + self.ttl - self.ttl / MARGIN;
        let ends_ns = u64::try_from(ends.as_nanos()).unwrap_or(u64::MAX);
        self.ends_ns.fetch_max(ends_ns, Relaxed);
    }

    fn left(&self) -> Duration {
        Duration::from_nanos(self.ends_ns.load(Relaxed)).saturating_sub(clock::now())
    }

    /// The first reason counts.
    fn lose(&self, reason: &str) {
        self.lost.send_if_modified(|lost| {
            let first = lost.is_none();
            lost.get_or_insert_with(|| reason.into());
            first
        });
    }

    /// Waits until it is lost.
    async fn lost(&self) -> String {
        let mut lost = self.lost.subscribe();
        let reason = lost.wait_for(Option::is_some).await;
        let reason = reason.ok().and_then(|reason| reason.clone());
        reason.map_or_else(String::new, |reason| reason.to_string())
    }

    fn leaving(&self) -> std::sync::MutexGuard<'_, BTreeSet<u64>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn close(&self) -> Result<(), ClientError> {
        let request = api::CloseSessionRequest {
            session: self.number,
        };
        let closed = self
            .client
            .unary(Kind::Once, request, async |channel, request| {
                SessionClient::new(channel).close(request).await
            })
            .await;
        match closed {
            // A close that is repeated because its answer was lost finds that.
            Err(error) if error.reason() != NOT_FOUND => Err(error),
            _ => Ok(()),
        }
    }
}

/// The reason of a refusal whose session is over.
const NOT_FOUND: &str = "session-not-found";

/// A session's background: renews it, gives up what was let go, and closes it in the end.
async fn keep(shared: Arc<Shared>, closing: oneshot::Receiver<()>) {
    tokio::select! {
        // After a pause of the process several are ready, and that the time is over must win.
        biased;
        () = time_out(&shared) => shared.lose(&format!(
            "no member has renewed it for {} ms",
            (shared.ttl - shared.ttl / MARGIN).as_millis()
        )),
        _ = shared.lost() => {}
        reason = renew(&shared) => shared.lose(&reason),
        () = give_up(&shared) => {}
        _ = closing => {
            shared.lose("it was closed");
            // If nobody hears of it, it ends by itself.
            let _ = shared.close().await;
        }
    }
}

/// Ends when the time is over, as far as this process can know.
async fn time_out(shared: &Shared) {
    loop {
        let left = shared.left();
        if left.is_zero() {
            return;
        }
        sleep(left).await;
    }
}

/// Renews until a member says that there is nothing to renew.
async fn renew(shared: &Shared) -> String {
    let interval = shared.ttl / RENEWALS;
    let client = shared.client.clone().with_timeout(interval);
    let mut backoff = Backoff::new();
    loop {
        sleep(interval).await;
        loop {
            let sent = clock::now();
            let request = api::RefreshSessionRequest {
                session: shared.number,
            };
            let answer = client
                .unary(Kind::Read, request, async |channel, request| {
                    SessionClient::new(channel).refresh(request).await
                })
                .await;
            match answer {
                Ok(_) => break shared.renewed(sent),
                Err(error) if error.is_transient() => sleep(backoff.next()).await,
                Err(error) => return error.to_string(),
            }
        }
        backoff = Backoff::new();
    }
}

/// Gives up acquisitions that nobody wants any more.
async fn give_up(shared: &Shared) {
    let mut backoff = Backoff::new();
    loop {
        let Some(id) = shared.leaving().first().copied() else {
            shared.leave.notified().await;
            continue;
        };
        let request = api::ReleaseRequest {
            change: None,
            session: shared.number,
            id,
        };
        let released = shared
            .client
            .unary(Kind::Once, request, async |channel, request| {
                LockClient::new(channel).release(request).await
            })
            .await;
        match released {
            Err(error) if error.is_transient() => sleep(backoff.next()).await,
            // Done, or there is nothing to release.
            _ => {
                shared.leaving().remove(&id);
                backoff = Backoff::new();
            }
        }
    }
}

/// A time as requests say it.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
