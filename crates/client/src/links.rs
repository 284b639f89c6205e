//! The endpoints of a cell, and which one a request goes to first: changes to the leader, reads to whoever is near.
//!
//! What is needed for that is measured: while a client with several endpoints is in use, it asks each of them now and then how it is. Until it has
//! asked, the endpoint that answered last is taken.

use crate::ClientError;
use crate::connection::Connection;
use crate::error::SILENT;
use proto::etcdserverpb::StatusRequest;
use proto::etcdserverpb::maintenance_client::MaintenanceClient;
use std::error::Error;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tls::Credentials;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tonic::Status;
use tonic::transport::Endpoint;

/// How long a client is in use before it measures: one that asks a single thing need not.
const FIRST_SURVEY: Duration = Duration::from_secs(1);
/// How long an endpoint has for a connection before the next one is dialled as well.
const HEAD_START: Duration = Duration::from_millis(250);
/// How long what was measured counts.
const SURVEY_INTERVAL: Duration = Duration::from_secs(15);
/// How soon it is measured again after an endpoint failed.
const SURVEY_AFTER_FAILURE: Duration = Duration::from_millis(500);
/// How long an endpoint may take to say how it is.
const SURVEY_TIMEOUT: Duration = Duration::from_secs(1);
/// An endpoint is near if it takes at most twice as long as the nearest one and this.
const NEAR_US: u64 = 500;
/// The latency of an endpoint that failed, or was not measured.
const FAR: u64 = u64::MAX;

/// One endpoint and the way there.
#[derive(Clone)]
pub(crate) struct Link {
    /// As it was given, without the zone.
    pub name: String,
    /// Where it says it is.
    pub zone: Option<String>,
    way: Arc<Way>,
    seen: Arc<Seen>,
}

struct Way {
    endpoint: Endpoint,
    /// Of connections in TLS.
    credentials: Option<Arc<Credentials>>,
    connection: Mutex<Option<Connection>>,
    /// One dials, the others wait for it.
    dialling: tokio::sync::Mutex<()>,
}

/// What was measured of an endpoint.
struct Seen {
    latency_us: AtomicU64,
    /// The member there; 0 until it is known.
    member: AtomicU64,
}

impl Link {
    pub(crate) fn new(
        name: &str,
        zone: Option<String>,
        endpoint: Endpoint,
        credentials: Option<Arc<Credentials>>,
    ) -> Link {
        Link {
            name: name.to_owned(),
            zone,
            way: Arc::new(Way {
                endpoint,
                credentials,
                connection: Mutex::default(),
                dialling: tokio::sync::Mutex::default(),
            }),
            seen: Arc::new(Seen {
                latency_us: AtomicU64::new(FAR),
                member: AtomicU64::new(0),
            }),
        }
    }

    /// The connection to it, if there is one.
    pub(crate) fn connection(&self) -> Option<Connection> {
        self.held().clone().filter(Connection::stands)
    }

    /// Connects, unless it is.
    async fn connect(&self) -> Result<Connection, String> {
        let _dialling = self.way.dialling.lock().await;
        if let Some(connection) = self.connection() {
            return Ok(connection);
        }
        let dialled = Connection::open(&self.way.endpoint, self.way.credentials.as_ref());
        let connection = dialled.await?;
        *self.held() = Some(connection.clone());
        Ok(connection)
    }

    /// Asks nothing more on this connection. What is still under way there goes on.
    fn give_up(&self, connection: &Connection) {
        self.held().take_if(|held| held.is(connection));
    }

    /// Sorts an answer that is none.
    pub(crate) fn failed(&self, connection: &Connection, status: &Status) -> ClientError {
        if status.source().is_some() {
            // It did not come from the member: the connection is no good.
            self.give_up(connection);
        }
        ClientError::of(&self.name, status)
    }

    /// Nothing was answered on this connection in time. `last`: the request has no time left.
    pub(crate) fn silent(&self, connection: &Connection, change: bool, last: bool) -> ClientError {
        self.give_up(connection);
        ClientError::silent(&self.name, change, last)
    }

    fn held(&self) -> MutexGuard<'_, Option<Connection>> {
        let connection = &self.way.connection;
        connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the member there how it is; gives the leader it knows.
    async fn measure(&self) -> Option<u64> {
        let asking = async {
            let connection = self.connect().await.ok()?;
            let asked = Instant::now();
            let mut maintenance = MaintenanceClient::new(connection.channel);
            let answer = maintenance.status(StatusRequest {}).await.ok()?;
            Some((answer.into_inner(), asked.elapsed()))
        };
        let Ok(Some((answer, taken))) = timeout(SURVEY_TIMEOUT, asking).await else {
            self.seen.latency_us.store(FAR, Relaxed);
            return None;
        };
        let taken = u64::try_from(taken.as_micros()).unwrap_or(FAR - 1);
        let member = answer.header.map_or(0, |header| header.member_id);
        self.seen.latency_us.store(taken, Relaxed);
        self.seen.member.store(member, Relaxed);
        Some(answer.leader).filter(|leader| *leader != 0)
    }
}

/// What a request is, as far as the choice of an endpoint goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Any member does it alone.
    Near,
    /// The leader does it, whoever is asked.
    Leader,
}

/// All endpoints of a client.
pub(crate) struct Links {
    all: Vec<Link>,
    /// The endpoint that answered last.
    preferred: AtomicUsize,
    /// Counts reads, which take turns.
    turn: AtomicUsize,
    /// The leader's member id; 0 while none is known.
    leader: AtomicU64,
    /// When to measure again; nothing while that goes on, and before the first request.
    next_survey: Mutex<Option<Instant>>,
}

impl Links {
    pub(crate) fn new(all: Vec<Link>) -> Links {
        assert!(!all.is_empty(), "a client has an endpoint");
        Links {
            all,
            preferred: AtomicUsize::new(0),
            turn: AtomicUsize::new(0),
            leader: AtomicU64::new(0),
            next_survey: Mutex::new(None),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Link> {
        self.all.iter()
    }

    /// The endpoint of this number; numbers go round.
    pub(crate) fn at(&self, number: usize) -> &Link {
        &self.all[number % self.all.len()]
    }

    /// Connects to the first of these endpoints that speaks. Each has a head start before those behind it, so that one that stands still costs no more than
    /// that; `trouble` hears of those that were tried in vain, or not to their end. Nothing if that is all.
    pub(crate) async fn reach(
        &self,
        numbers: impl Iterator<Item = usize>,
        mut trouble: impl FnMut(usize, &str),
    ) -> Option<(usize, Connection)> {
        let mut numbers = numbers.fuse();
        let mut dials = JoinSet::new();
        let mut newest = 0;
        loop {
            if let Some(number) = numbers.next() {
                newest = number;
                let link = self.at(number).clone();
                if let Some(connection) = link.connection() {
                    return Some((number, connection));
                }
                trouble(number, SILENT);
                dials.spawn(async move { (number, link.connect().await) });
            } else if dials.is_empty() {
                return None;
            }
            match timeout(HEAD_START, dials.join_next()).await {
                Ok(Some(dialled)) => match dialled.expect("dialling does not panic") {
                    (number, Ok(connection)) => return Some((number, connection)),
                    (number, Err(reason)) => {
                        self.failed(number);
                        trouble(number, &reason);
                    }
                },
                Ok(None) => {}
                Err(_) => self.failed(newest),
            }
        }
    }

    /// The number of the endpoint to ask first.
    pub(crate) fn choose(self: &Arc<Self>, route: Route, zone: Option<&str>) -> usize {
        self.survey();
        let chosen = match route {
            Route::Leader => self.leader(),
            Route::Near => self.near(zone),
        };
        chosen.unwrap_or_else(|| self.preferred.load(Relaxed) % self.all.len())
    }

    /// The leader's endpoint, if it is known and reachable.
    pub(crate) fn leader(&self) -> Option<usize> {
        let leader = self.leader.load(Relaxed);
        let is_leader = |link: &Link| {
            leader != 0
                && link.seen.member.load(Relaxed) == leader
                && link.seen.latency_us.load(Relaxed) != FAR
        };
        self.all.iter().position(is_leader)
    }

    /// One of the near endpoints, in turn; those of the zone come before all others.
    fn near(&self, zone: Option<&str>) -> Option<usize> {
        let latency = |link: &Link| link.seen.latency_us.load(Relaxed);
        let reachable = |link: &&Link| latency(link) != FAR;
        let here = |link: &Link| zone.is_some() && link.zone.as_deref() == zone;
        let any_here = self.all.iter().filter(reachable).any(here);
        let nearest = self.all.iter().filter(reachable).map(latency).min()?;
        let is_near = |link: &Link| match any_here {
            true => here(link) && latency(link) != FAR,
            false => {
                latency(link)
                    <= nearest
                        .saturating_mul(2)
                        .saturating_add(NEAR_US)
                        .min(FAR - 1)
            }
        };
        let near = || (0..self.all.len()).filter(|at| is_near(&self.all[*at]));
        let count = near().count().max(1);
        near().nth(self.turn.fetch_add(1, Relaxed) % count)
    }

    /// This endpoint answered.
    pub(crate) fn answered(&self, number: usize) {
        self.preferred.store(number % self.all.len(), Relaxed);
    }

    /// This endpoint did not.
    pub(crate) fn failed(&self, number: usize) {
        self.at(number).seen.latency_us.store(FAR, Relaxed);
        let soon = Instant::now() + SURVEY_AFTER_FAILURE;
        let mut next = self.next_survey();
        *next = next.map(|at| at.min(soon));
    }

    fn next_survey(&self) -> MutexGuard<'_, Option<Instant>> {
        self.next_survey
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Measures all endpoints in the background, if there are several and it is time.
    fn survey(self: &Arc<Self>) {
        if self.all.len() < 2 {
            return;
        }
        let now = Instant::now();
        let mut next = self.next_survey();
        if now < *next.get_or_insert(now + FIRST_SURVEY) {
            return;
        }
        *next = Some(now + SURVEY_INTERVAL);
        drop(next);
        for number in 0..self.all.len() {
            let links = self.clone();
            tokio::spawn(async move {
                if let Some(leader) = links.at(number).measure().await {
                    links.leader.store(leader, Relaxed);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::transport::Endpoint;

    fn links(latencies: &[(u64, u64, Option<&str>)]) -> Arc<Links> {
        let all = latencies.iter().map(|&(member, latency, zone)| {
            let endpoint = Endpoint::from_static("http://127.0.0.1:1");
            let link = Link::new("a:1", zone.map(str::to_owned), endpoint, None);
            link.seen.latency_us.store(latency, Relaxed);
            link.seen.member.store(member, Relaxed);
            link
        });
        Arc::new(Links::new(all.collect()))
    }

    fn chosen(links: &Arc<Links>, route: Route, zone: Option<&str>) -> Vec<usize> {
        let mut chosen: Vec<usize> = (0..12).map(|_| links.choose(route, zone)).collect();
        chosen.sort_unstable();
        chosen.dedup();
        chosen
    }

    #[tokio::test]
    async fn reads_take_turns_among_the_near_and_changes_go_to_the_leader() {
        let links = links(&[(1, 300, None), (2, 700, None), (3, 40_000, None)]);
        assert_eq!(chosen(&links, Route::Near, None), [0, 1]);
        assert_eq!(chosen(&links, Route::Leader, None), [0], "the preferred");
        links.leader.store(3, Relaxed);
        assert_eq!(chosen(&links, Route::Leader, None), [2]);
        links.failed(2);
        links.answered(1);
        assert_eq!(chosen(&links, Route::Leader, None), [1]);
    }

    #[tokio::test]
    async fn the_own_zone_comes_first_while_anybody_there_answers() {
        let links = links(&[
            (1, 300, Some("a")),
            (2, 900, Some("b")),
            (3, 9000, Some("b")),
        ]);
        assert_eq!(chosen(&links, Route::Near, Some("b")), [1, 2]);
        links.failed(1);
        links.failed(2);
        assert_eq!(chosen(&links, Route::Near, Some("b")), [0]);
    }

    #[tokio::test]
    async fn who_was_never_measured_is_asked_in_the_order_given() {
        let links = links(&[(0, FAR, None), (0, FAR, None)]);
        assert_eq!(chosen(&links, Route::Near, None), [0]);
        links.answered(1);
        assert_eq!(chosen(&links, Route::Near, None), [1]);
    }
}
