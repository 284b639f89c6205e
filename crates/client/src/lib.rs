//! The Rust client: one cell's endpoints, failover between them, typed errors. Speaks the etcd v3 API.
//!
//! A read is tried on every endpoint until its time is over. A change is tried again only while it is certain that nothing has happened; otherwise
//! the caller hears [`ClientError::Unknown`] and decides.

mod error;
mod login;
mod security;
mod users;
mod watch;

pub use error::ClientError;
pub use proto;
pub use security::Security;
pub use tonic::Code;
pub use watch::Watch;

use login::{Login, TOKEN_METADATA, Token, wants_token};
use proto::etcdserverpb as pb;
use proto::etcdserverpb::cluster_client::ClusterClient;
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::lease_client::LeaseClient;
use proto::etcdserverpb::maintenance_client::MaintenanceClient;
use proto::synodpb as own;
use proto::synodpb::members_client::MembersClient;
use security::Refusal;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

/// Where answers carry how much history they have seen.
const STAMP_METADATA: &str = "synod-stamp";
/// Where requests say how fresh the answer must be.
const CONSISTENCY_METADATA: &str = "synod-consistency";
/// How long one endpoint may take for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long one endpoint may take for a read while there are others to ask.
const READ_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
/// Waits between rounds over all endpoints double from the first to the second.
const ROUND_WAIT: [Duration; 2] = [Duration::from_millis(25), Duration::from_millis(400)];

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
    shared: Arc<Shared>,
    timeout: Duration,
    consistency: Option<MetadataValue<tonic::metadata::Ascii>>,
    login: Option<Arc<Login>>,
}

struct Shared {
    endpoints: Vec<Link>,
    /// The endpoint that answered last.
    preferred: AtomicUsize,
}

/// One endpoint and the way there.
#[derive(Clone)]
struct Link {
    /// As it was given.
    name: String,
    channel: Channel,
    refusal: Arc<Refusal>,
}

impl Link {
    /// Sorts an answer that is none.
    fn failed(&self, status: &Status) -> ClientError {
        let error = ClientError::of(&self.name, status);
        match (&error, self.refusal.get()) {
            (ClientError::Unreachable { .. } | ClientError::Unknown { .. }, Some(refusal)) => {
                ClientError::Unreachable {
                    reason: format!("{}: {refusal}", self.name),
                }
            }
            _ => error,
        }
    }
}

/// Whether a request may be repeated when nobody knows what became of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Change,
}

impl Client {
    /// Makes a client of these endpoints, each `host:port`, `http://host:port` or `https://host:port`.
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
        let mut credentials = None;
        let mut known = Vec::new();
        for text in endpoints {
            let text = text.as_ref().trim();
            let uri = if text.contains("://") {
                text.to_owned()
            } else {
                format!("{scheme}://{text}")
            };
            let endpoint = endpoint(text, uri)?;
            let refusal = Arc::new(Refusal::default());
            let channel = if endpoint.uri().scheme_str() == Some("https") {
                let credentials = match &credentials {
                    Some(checked) => Arc::clone(checked),
                    None => credentials.insert(security.check()?).clone(),
                };
                let told = refusal.clone();
                let dial = move |uri| security::dial(credentials.clone(), told.clone(), uri);
                endpoint.connect_with_connector_lazy(tower::service_fn(dial))
            } else {
                endpoint.connect_lazy()
            };
            known.push(Link {
                name: text.to_owned(),
                channel,
                refusal,
            });
        }
        if known.is_empty() {
            return Err(ClientError::BadEndpoint {
                endpoint: String::new(),
                reason: "at least one is needed".into(),
            });
        }
        let shared = Arc::new(Shared {
            endpoints: known,
            preferred: AtomicUsize::new(0),
        });
        Ok(Client {
            shared,
            timeout: Duration::from_secs(5),
            consistency: None,
            login: None,
        })
    }

    /// The same client, with this much time for a request, all endpoints together. The default is 5 s.
    pub fn with_timeout(mut self, timeout: Duration) -> Client {
        self.timeout = timeout;
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
            message: format!("{consistency:?} is no consistency; one of linearizable, local, bounded=500ms, at-least=STAMP"),
        })?;
        self.consistency = Some(value);
        Ok(self)
    }

    /// The endpoints as they were given.
    pub fn endpoints(&self) -> impl Iterator<Item = &str> {
        self.shared.endpoints.iter().map(|link| link.name.as_str())
    }

    /// A client of each endpoint alone.
    pub fn each(&self) -> Vec<Client> {
        let alone = |link: &Link| Client {
            shared: Arc::new(Shared {
                endpoints: vec![link.clone()],
                preferred: AtomicUsize::new(0),
            }),
            timeout: self.timeout,
            consistency: self.consistency.clone(),
            login: self.login.clone(),
        };
        self.shared.endpoints.iter().map(alone).collect()
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

    /// Asks one endpoint after the other until one answers, the time is over, or nobody may be asked again.
    async fn unary<Q: Clone, A>(
        &self,
        kind: Kind,
        request: Q,
        call: impl AsyncFn(Channel, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<Answer<A>, ClientError> {
        let deadline = Instant::now() + self.timeout;
        let endpoints = self.shared.endpoints.len();
        let first = self.shared.preferred.load(Relaxed);
        let mut wait = ROUND_WAIT[0];
        for attempt in 0.. {
            let endpoint = (first + attempt) % endpoints;
            let link = &self.shared.endpoints[endpoint];
            let mut attempt_deadline = deadline;
            if kind == Kind::Read && endpoints > 1 {
                attempt_deadline = deadline.min(Instant::now() + READ_ATTEMPT_TIMEOUT);
            }
            let error = match timeout_at(
                attempt_deadline,
                self.attempt(&link.channel, &request, &call),
            )
            .await
            {
                Ok(Ok(response)) => {
                    self.shared.preferred.store(endpoint, Relaxed);
                    let stamp = response
                        .metadata()
                        .get(STAMP_METADATA)
                        .and_then(|stamp| stamp.to_str().ok())
                        .map(str::to_owned);
                    return Ok(Answer {
                        message: response.into_inner(),
                        stamp,
                    });
                }
                Ok(Err(status)) => link.failed(&status),
                Err(_) => ClientError::silent(
                    &link.name,
                    kind == Kind::Change,
                    attempt_deadline == deadline,
                ),
            };
            let may_repeat = match &error {
                ClientError::Unreachable { .. } => true,
                ClientError::Unknown { .. } => kind == Kind::Read,
                ClientError::Refused { .. }
                | ClientError::BadEndpoint { .. }
                | ClientError::BadCertificates { .. } => false,
            };
            if !may_repeat {
                return Err(error);
            }
            if (attempt + 1) % endpoints == 0 {
                if Instant::now() + wait >= deadline {
                    return Err(error.at_all(self.endpoints()));
                }
                sleep(wait).await;
                wait = (wait * 2).min(ROUND_WAIT[1]);
            }
            if Instant::now() >= deadline {
                return Err(error.at_all(self.endpoints()));
            }
        }
        unreachable!("the rounds end by the deadline")
    }

    /// Asks one endpoint; once more if it wants another token, as then nothing has happened.
    async fn attempt<Q: Clone, A>(
        &self,
        channel: &Channel,
        request: &Q,
        call: &impl AsyncFn(Channel, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<Response<A>, Status> {
        let token = self.token(channel).await?;
        let first = self.request(request.clone(), token.as_ref());
        let outcome = call(channel.clone(), first).await;
        match (&self.login, &outcome) {
            (Some(login), Err(status)) if wants_token(status.message()) => {
                login.refused(token.as_ref());
                let token = self.token(channel).await?;
                let second = self.request(request.clone(), token.as_ref());
                call(channel.clone(), second).await
            }
            _ => outcome,
        }
    }

    async fn token(&self, channel: &Channel) -> Result<Option<Token>, Status> {
        match &self.login {
            Some(login) => login.token(channel).await,
            None => Ok(None),
        }
    }

    fn request<Q>(&self, message: Q, token: Option<&Token>) -> Request<Q> {
        let mut request = Request::new(message);
        if let Some(token) = token {
            request.metadata_mut().insert(TOKEN_METADATA, token.clone());
        }
        if let Some(consistency) = &self.consistency {
            request
                .metadata_mut()
                .insert(CONSISTENCY_METADATA, consistency.clone());
        }
        request
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
    Ok(endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true))
}

fn kv(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel)
        .max_decoding_message_size(usize::MAX)
        .max_encoding_message_size(usize::MAX)
}

fn lease(channel: Channel) -> LeaseClient<Channel> {
    LeaseClient::new(channel).max_decoding_message_size(usize::MAX)
}
