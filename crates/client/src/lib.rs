//! The Rust client of Synod: locks that stay safe, elections, ids, keys.
//!
//! ```no_run
//! use synod_client::{Client, Mutex, Session};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new(["127.0.0.1:2379", "127.0.0.1:22379", "127.0.0.1:32379"])?;
//! let session = Session::open(&client).await?;
//! let guard = Mutex::new(&session, "nightly").lock().await?;
//! println!("it is ours, with the token {}", guard.token());
//! guard.release().await?;
//! # Ok(())
//! # }
//! ```
//!
//! | for | take |
//! |---|---|
//! | one at a time, many readers or one writer, so many at a time | [`Mutex`], [`RwLock`], [`Semaphore`] |
//! | one leader, who is there, who has a name | [`Election`], [`Group`], [`NamedLease`] |
//! | waiting for each other | [`Barrier`], [`Latch`] |
//! | numbers | [`Ids`], [`Segments`], [`Counter`] |
//! | keys, as fresh as wanted, guarded by locks | [`Kv`], [`Level`], [`Kv::update`], [`Cache`], [`Unique`] |
//! | work and decisions in order | [`Queue`], [`Log`] |
//! | programs that are not asynchronous | the module `blocking`, behind the feature of that name |
//!
//! A [`Client`] knows several endpoints. Changes go to the leader, once that is known, reads to endpoints that are near, and what fails for a reason that
//! passes goes to the next one, after pauses that double, with jitter, under a budget. A read is repeated until its time is over, and so is a change that
//! cannot happen twice: everything that goes through a [`Session`] or a [`Kv`]. Other changes, those of etcd's API, are repeated only while it is certain
//! that nothing has happened; else the caller hears [`ClientError::Unknown`] and decides. Futures can be dropped at any time: what was waited for is given
//! up.

mod backup;
mod barrier;
#[cfg(feature = "blocking")]
pub mod blocking;
mod cache;
mod call;
mod clock;
mod connection;
mod counter;
pub mod election;
mod error;
mod feed;
mod follow;
pub mod group;
mod guard;
pub mod ids;
mod kv;
mod latch;
pub mod lease;
mod level;
mod links;
mod log;
mod login;
mod look;
mod mutex;
mod queue;
mod retry;
mod rwlock;
mod security;
mod semaphore;
mod sequence;
mod session;
mod tries;
mod unique;
mod users;
mod watch;

pub use backup::{Piece, Saving};
pub use barrier::{Barrier, Inside};
pub use cache::Cache;
pub use counter::Counter;
pub use election::Election;
pub use error::ClientError;
pub use group::Group;
pub use guard::{Fence, Guard};
pub use ids::{Ids, Layout, Parts, Segments};
pub use kv::{Compare, Kv, Op, Txn, TxnAnswer};
pub use latch::Latch;
pub use lease::NamedLease;
pub use level::{Level, Stamp};
pub use log::{Log, LogReader, Record};
pub use look::Holders;
pub use mutex::Mutex;
pub use proto;
pub use proto::mvccpb::KeyValue;
pub use queue::Queue;
pub use rwlock::RwLock;
pub use security::Security;
pub use semaphore::Semaphore;
pub use session::{DEFAULT_TTL, Session};
pub use tonic::Code;
pub use unique::{Claim, Unique};
pub use watch::Watch;

use call::Kind;
use level::Seen;
use links::{Link, Links};
use login::Login;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::cluster_client::ClusterClient;
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::lease_client::LeaseClient;
use proto::etcdserverpb::maintenance_client::MaintenanceClient;
use proto::synodpb as own;
use proto::synodpb::members_client::MembersClient;
use retry::Budget;
use std::sync::Arc;
use std::time::Duration;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

/// Where answers carry how much history they have seen.
const STAMP_METADATA: &str = "synod-stamp";
/// Where requests say how fresh the answer must be.
const CONSISTENCY_METADATA: &str = "synod-consistency";
/// Where changes say which locks must be held.
const GUARD_METADATA: &str = "synod-guard";
/// How often a connection in use is asked whether it still stands, so that one that died in silence is noticed.
const PROBE_INTERVAL: Duration = Duration::from_secs(6);
/// How long it has for its answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// An answer, and how much history it has seen.
#[derive(Clone, Debug)]
pub struct Answer<T> {
    /// The answer.
    pub message: T,
    /// Its stamp, to be given to a later read that must not see less.
    pub stamp: Option<String>,
}

/// A client of one cell. Cheap to clone; connects when first used.
#[derive(Clone)]
pub struct Client {
    links: Arc<Links>,
    budget: Arc<Budget>,
    seen: Arc<Seen>,
    zone: Option<Arc<str>>,
    timeout: Duration,
    once: bool,
    consistency: Option<MetadataValue<tonic::metadata::Ascii>>,
    login: Option<Arc<Login>>,
    fences: Vec<MetadataValue<tonic::metadata::Ascii>>,
}

impl Client {
    /// Makes a client of these endpoints, each `host:port`, `http://host:port` or `https://host:port`, with `#zone` behind it if zones matter.
    ///
    /// # Errors
    /// An endpoint is none, or there is none.
    pub fn new<S: AsRef<str>>(
        endpoints: impl IntoIterator<Item = S>,
    ) -> Result<Client, ClientError> {
        Client::secured(endpoints, &Security::default())
    }

    /// The same, with certificates. Endpoints that say neither `http://` nor `https://` are spoken to in TLS if anything of it is set.
    ///
    /// # Errors
    /// As [`Client::new`]; or a file of certificates cannot be used.
    pub fn secured<S: AsRef<str>>(
        endpoints: impl IntoIterator<Item = S>,
        security: &Security,
    ) -> Result<Client, ClientError> {
        let scheme = if security.is_wanted() {
            "https"
        } else {
            "http"
        };
        let mut checked = None;
        let mut known = Vec::new();
        for text in endpoints {
            let text = text.as_ref().trim();
            let (text, zone) = match text.split_once('#') {
                Some((text, zone)) => (text, Some(zone.to_owned())),
                None => (text, None),
            };
            let uri = if text.contains("://") {
                text.to_owned()
            } else {
                format!("{scheme}://{text}")
            };
            let endpoint = endpoint(text, uri)?;
            let credentials = match endpoint.uri().scheme_str() {
                Some("https") => Some(match &checked {
                    Some(checked) => Arc::clone(checked),
                    None => checked.insert(security.check()?).clone(),
                }),
                _ => None,
            };
            known.push(Link::new(text, zone, endpoint, credentials));
        }
        if known.is_empty() {
            return Err(ClientError::BadEndpoint {
                endpoint: String::new(),
                reason: "at least one is needed".into(),
            });
        }
        Ok(Client {
            links: Arc::new(Links::new(known)),
            budget: Arc::default(),
            seen: Arc::default(),
            zone: None,
            timeout: Duration::from_secs(5),
            once: false,
            consistency: None,
            login: None,
            fences: Vec::new(),
        })
    }

    /// The same client, with this much time for a request, all endpoints together. The default is 5 s.
    pub fn with_timeout(mut self, timeout: Duration) -> Client {
        self.timeout = timeout;
        self
    }

    /// The same client, which asks no endpoint a second time: for those who want to know who is there, not to get through.
    pub fn with_one_try(mut self) -> Client {
        self.once = true;
        self
    }

    /// The same client, as this user. Its token is fetched with the first request, and anew when it is no longer taken.
    pub fn with_user(mut self, name: impl Into<String>, password: impl Into<String>) -> Client {
        self.login = Some(Arc::new(Login::new(name.into(), password.into())));
        self
    }

    /// The same client, as the user of another one.
    pub fn with_user_of(mut self, other: &Client) -> Client {
        self.login = other.login.clone();
        self
    }

    /// The same client, in this zone: reads go to endpoints of it while one of them answers. An endpoint's zone follows it after `#`, as in
    /// `10.0.0.1:2379#eu-1`.
    pub fn with_zone(mut self, zone: &str) -> Client {
        self.zone = Some(zone.into());
        self
    }

    /// The same client, whose changes of keys are applied only while this holds; see [`Kv::guarded`].
    pub fn with_fence(mut self, fence: &Fence) -> Client {
        let text = fence.metadata().parse();
        self.fences.push(text.expect("it is plain text"));
        self
    }

    /// How much time a request has.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The same client, with reads this fresh: `linearizable`, `local`, `bounded=500ms` or `at-least=STAMP`.
    ///
    /// # Errors
    /// The text cannot be sent.
    pub fn with_consistency(mut self, consistency: &str) -> Result<Client, ClientError> {
        let value = consistency.parse().map_err(|_| ClientError::Refused {
            code: Code::InvalidArgument,
            reason: String::new(),
            message: format!("{consistency:?} is no consistency; one of linearizable, local, bounded=500ms, at-least=STAMP"),
        })?;
        self.consistency = Some(value);
        Ok(self)
    }

    /// The endpoints as they were given.
    pub fn endpoints(&self) -> impl Iterator<Item = &str> {
        self.links.iter().map(|link| link.name.as_str())
    }

    /// A client of each endpoint alone.
    pub fn each(&self) -> Vec<Client> {
        let alone = |link: &Link| Client {
            links: Arc::new(Links::new(vec![link.clone()])),
            ..self.clone()
        };
        self.links.iter().map(alone).collect()
    }

    /// Sets a key.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn put(
        &self,
        request: pb::PutRequest,
    ) -> Result<Answer<pb::PutResponse>, ClientError> {
        self.unary(Kind::Change, request, async |channel, request| {
            kv(channel).put(request).await
        })
        .await
    }

    /// Reads keys.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn range(
        &self,
        request: pb::RangeRequest,
    ) -> Result<Answer<pb::RangeResponse>, ClientError> {
        self.unary(Kind::Read, request, async |channel, request| {
            kv(channel).range(request).await
        })
        .await
    }

    /// Removes keys.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete_range(
        &self,
        request: pb::DeleteRangeRequest,
    ) -> Result<Answer<pb::DeleteRangeResponse>, ClientError> {
        self.unary(Kind::Change, request, async |channel, request| {
            kv(channel).delete_range(request).await
        })
        .await
    }

    /// Runs a transaction.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn txn(
        &self,
        request: pb::TxnRequest,
    ) -> Result<Answer<pb::TxnResponse>, ClientError> {
        self.unary(Kind::Change, request, async |channel, request| {
            kv(channel).txn(request).await
        })
        .await
    }

    /// Forgets history before a revision.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn compact(
        &self,
        request: pb::CompactionRequest,
    ) -> Result<Answer<pb::CompactionResponse>, ClientError> {
        self.unary(Kind::Change, request, async |channel, request| {
            kv(channel).compact(request).await
        })
        .await
    }

    /// Makes a lease.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn lease_grant(
        &self,
        request: pb::LeaseGrantRequest,
    ) -> Result<Answer<pb::LeaseGrantResponse>, ClientError> {
        self.unary(Kind::Change, request, async |channel, request| {
            lease(channel).lease_grant(request).await
        })
        .await
    }

    /// Ends a lease and removes its keys.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn lease_revoke(
        &self,
        request: pb::LeaseRevokeRequest,
    ) -> Result<Answer<pb::LeaseRevokeResponse>, ClientError> {
        self.unary(Kind::Change, request, async |channel, request| {
            lease(channel).lease_revoke(request).await
        })
        .await
    }

    /// Renews a lease once. A time to live of 0 in the answer says that it is gone.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn lease_keep_alive(
        &self,
        id: i64,
    ) -> Result<Answer<pb::LeaseKeepAliveResponse>, ClientError> {
        // Renewing twice harms nobody, so it may be repeated like a read.
        self.unary(Kind::Read, id, async |channel, request: Request<i64>| {
            let (metadata, extensions, id) = request.into_parts();
            let once = tokio_stream::once(pb::LeaseKeepAliveRequest { id });
            let mut answers = lease(channel)
                .lease_keep_alive(Request::from_parts(metadata, extensions, once))
                .await?
                .into_inner();
            let answer = answers.message().await?;
            answer
                .map(Response::new)
                .ok_or_else(|| Status::unavailable("the stream ended without an answer"))
        })
        .await
    }

    /// Asks for a lease's remaining time.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn lease_time_to_live(
        &self,
        request: pb::LeaseTimeToLiveRequest,
    ) -> Result<Answer<pb::LeaseTimeToLiveResponse>, ClientError> {
        self.unary(Kind::Read, request, async |channel, request| {
            lease(channel).lease_time_to_live(request).await
        })
        .await
    }

    /// Lists all leases.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn lease_list(&self) -> Result<Answer<pb::LeaseLeasesResponse>, ClientError> {
        let request = pb::LeaseLeasesRequest {};
        self.unary(Kind::Read, request, async |channel, request| {
            lease(channel).lease_leases(request).await
        })
        .await
    }

    /// Lists the members.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn member_list(&self) -> Result<Answer<pb::MemberListResponse>, ClientError> {
        let request = pb::MemberListRequest {
            linearizable: false,
        };
        self.unary(Kind::Read, request, async |channel, request| {
            ClusterClient::new(channel).member_list(request).await
        })
        .await
    }

    /// Lists the members with what each is at the moment, as of all that was decided before.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn members(&self) -> Result<Answer<own::ListMembersResponse>, ClientError> {
        let request = own::ListMembersRequest {};
        self.unary(Kind::Read, request, async |channel, request| {
            MembersClient::new(channel).list(request).await
        })
        .await
    }

    /// Makes all of these changes of members, or none.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn change_members(
        &self,
        changes: Vec<own::member_change::Change>,
    ) -> Result<Answer<own::ChangeMembersResponse>, ClientError> {
        let change = |change| own::MemberChange {
            change: Some(change),
        };
        let request = own::ChangeMembersRequest {
            changes: changes.into_iter().map(change).collect(),
        };
        self.unary(Kind::Change, request, async |channel, request| {
            MembersClient::new(channel).change(request).await
        })
        .await
    }

    /// Asks the leader, which must be the only endpoint, to hand over.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn move_leader(
        &self,
        target: u64,
    ) -> Result<Answer<pb::MoveLeaderResponse>, ClientError> {
        let request = pb::MoveLeaderRequest { target_id: target };
        self.unary(Kind::Change, request, async |channel, request| {
            MaintenanceClient::new(channel).move_leader(request).await
        })
        .await
    }

    /// Asks a member how it is; with several endpoints, the first that answers (see [`Client::each`]).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn status(&self) -> Result<Answer<pb::StatusResponse>, ClientError> {
        let request = pb::StatusRequest {};
        self.unary(Kind::Read, request, async |channel, request| {
            MaintenanceClient::new(channel).status(request).await
        })
        .await
    }

    /// Asks a member how it is doing beneath the protocols; with several endpoints, the first that answers (see [`Client::each`]).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn examine(&self, disk: bool) -> Result<Answer<own::ExamineResponse>, ClientError> {
        let request = own::ExamineRequest { disk };
        self.unary(Kind::Read, request, async |channel, request| {
            MembersClient::new(channel).examine(request).await
        })
        .await
    }

    /// Lists, raises or lowers alarms. Doing so twice harms nobody.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn alarm(
        &self,
        request: pb::AlarmRequest,
    ) -> Result<Answer<pb::AlarmResponse>, ClientError> {
        self.unary(Kind::Read, request, async |channel, request| {
            MaintenanceClient::new(channel).alarm(request).await
        })
        .await
    }

    /// Hears of changes, from the first one at or after the start revision; goes on at another endpoint when one fails.
    pub fn watch(&self, request: pb::WatchCreateRequest) -> Watch {
        Watch::new(self.clone(), request)
    }
}

fn endpoint(text: &str, uri: String) -> Result<Endpoint, ClientError> {
    let bad = |reason: &str| ClientError::BadEndpoint {
        endpoint: text.to_owned(),
        reason: reason.to_owned(),
    };
    let endpoint = Endpoint::from_shared(uri)
        .map_err(|_| bad("write it as HOST:PORT, such as 127.0.0.1:2379"))?;
    if endpoint.uri().port().is_none() {
        return Err(bad(
            "it has no port; write it as HOST:PORT, such as 127.0.0.1:2379",
        ));
    }
    Ok(endpoint
        .http2_keep_alive_interval(PROBE_INTERVAL)
        .keep_alive_timeout(PROBE_TIMEOUT))
}

fn kv(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel)
        .max_decoding_message_size(usize::MAX)
        .max_encoding_message_size(usize::MAX)
}

fn lease(channel: Channel) -> LeaseClient<Channel> {
    LeaseClient::new(channel).max_decoding_message_size(usize::MAX)
}

#[cfg(test)]
mod tests {
    /// So what a newcomer copies compiles, and runs where all examples do.
    #[test]
    fn the_readme_shows_the_first_example() {
        let shown = include_str!("../../../README.md");
        let shown = shown.split("```rust\n").nth(1).expect("a program");
        let shown = shown.split("```").next().expect("its end");
        let example = include_str!("../examples/first.rs");
        let (_, program) = example.split_once("\n\n").expect("a header");
        assert_eq!(shown, program);
        assert!(program.lines().count() < 15);
    }
}
