//! The calls of the etcd API on a running member, without framing: the gRPC services and the JSON gateway stand on these.

use super::context::Context;
use super::failure;
use super::waiting::Waiting;
use crate::Handle;
use crate::auth::Authenticator;
use crate::examine::Examiner;
use crate::handle::Proposal;
use crate::native::Issuers;
use etcd::{Change, Code, Header, Read, Status, Transaction};
use proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DefragmentRequest, DefragmentResponse,
    DeleteRangeRequest, DeleteRangeResponse, DowngradeInfo, HashKvRequest, HashKvResponse,
    HashRequest, HashResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest,
    LeaseKeepAliveResponse, LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest,
    LeaseRevokeResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest, PutResponse,
    RangeRequest, ResponseHeader, StatusRequest, StatusResponse, TxnRequest, TxnResponse,
};
use replica::{Body, Consistency, Failure, Response, Stamp};
use state::auth::{AuthRejection, Caller};
use state::{Answer, Query, RangeReply, Rejection, Reply};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// How long a request may take before its caller hears that it timed out; etcd's 5 s and two election time-outs.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(7);

/// The same for reads of whole ranges, which may have a million keys to fetch.
const RANGE_TIMEOUT: Duration = Duration::from_secs(60);

/// The calls. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Door {
    /// The member.
    pub handle: Handle,
    /// Whether streams may go on.
    pub fate: watch::Receiver<StreamFate>,
    /// Comparisons or operations in one list of a transaction at most.
    pub txn_operations_max: usize,
    /// What slow clients hold.
    pub waiting: Waiting,
    /// Room for calls that wait in the queue of a lock or an election.
    pub queueing: Arc<Semaphore>,
    /// Who clients are.
    pub users: Arc<Authenticator>,
    /// Room for clients that take the whole state.
    pub exports: Arc<Semaphore>,
    /// How the member is doing.
    pub examiner: Arc<Examiner>,
    /// What ids are made with.
    pub issuers: Arc<Issuers>,
}

/// Whether streams may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamFate {
    /// They may.
    Open,
    /// No leader has been known for a while: those that insist on one end.
    Leaderless,
    /// The server stops: all end.
    Stopping,
}

impl StreamFate {
    /// Waits until a stream has to end, and says why.
    pub async fn end(fate: &mut watch::Receiver<StreamFate>, require_leader: bool) -> Status {
        let ends = |fate: &StreamFate| match fate {
            StreamFate::Open => false,
            StreamFate::Leaderless => require_leader,
            StreamFate::Stopping => true,
        };
        match fate.wait_for(ends).await.as_deref() {
            Ok(StreamFate::Leaderless) => Status::NO_LEADER,
            Ok(StreamFate::Open | StreamFate::Stopping) | Err(_) => Status::STOPPED,
        }
    }
}

/// How long a change may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// As long as any request.
    Request,
    /// As long as its caller waits for it.
    Caller,
}

/// An answer, and how much history it has seen.
pub(crate) struct Answered<T> {
    /// The message.
    pub message: T,
    /// The stamp, for answers of the replicated state.
    pub stamp: Option<Stamp>,
}

impl<T> Answered<T> {
    /// An answer that saw none of the replicated state.
    pub fn unstamped(message: T) -> Answered<T> {
        Answered {
            message,
            stamp: None,
        }
    }

    /// Changes the message.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Answered<U> {
        Answered {
            message: change(self.message),
            stamp: self.stamp,
        }
    }
}

/// What a call gives.
pub(crate) type Outcome<T> = Result<Answered<T>, Status>;

impl Door {
    /// Reads keys. The answer is kept as it is: large ones are written to the wire piece by piece.
    pub async fn range(
        &self,
        context: &Context,
        request: RangeRequest,
    ) -> Outcome<(Header, RangeReply)> {
        // One key is never much; a range may be.
        if !request.range_end.is_empty() && !request.count_only && self.waiting.is_full() {
            return Err(Status::TOO_MANY_REQUESTS);
        }
        let timeout = if request.range_end.is_empty() || request.count_only {
            REQUEST_TIMEOUT
        } else {
            RANGE_TIMEOUT
        };
        let (header, answer, stamp) = self.read(context, etcd::range(request)?, timeout).await?;
        match answer {
            Answer::Range(reply) => Ok(Answered {
                message: (header, reply),
                stamp: Some(stamp),
            }),
            other => etcd::range_response(header, other).and_then(|_| Err(unexpected())),
        }
    }

    /// Sets a key.
    pub async fn put(&self, context: &Context, request: PutRequest) -> Outcome<PutResponse> {
        let (header, reply, stamp) = self.change(context, etcd::put(request)?).await?;
        Ok(Answered {
            message: etcd::put_response(header, reply)?,
            stamp: Some(stamp),
        })
    }

    /// Removes keys.
    pub async fn delete_range(
        &self,
        context: &Context,
        request: DeleteRangeRequest,
    ) -> Outcome<DeleteRangeResponse> {
        let (header, reply, stamp) = self.change(context, etcd::delete_range(request)?).await?;
        Ok(Answered {
            message: etcd::delete_range_response(header, reply)?,
            stamp: Some(stamp),
        })
    }

    /// Runs a transaction.
    pub async fn txn(&self, context: &Context, request: TxnRequest) -> Outcome<TxnResponse> {
        let (header, reply, stamp) = match etcd::txn(request, self.txn_operations_max)? {
            Transaction::Write(change) => {
                let (header, reply, stamp) = self.change(context, change).await?;
                (header, Ok(reply), stamp)
            }
            Transaction::Read(read) => {
                let (header, answer, stamp) = self.read(context, read, RANGE_TIMEOUT).await?;
                (header, Err(answer), stamp)
            }
        };
        Ok(Answered {
            message: etcd::txn_response(header, reply)?,
            stamp: Some(stamp),
        })
    }

    /// Forgets history.
    pub async fn compact(
        &self,
        context: &Context,
        request: CompactionRequest,
    ) -> Outcome<CompactionResponse> {
        let (header, reply, stamp) = self.change(context, etcd::compact(request)).await?;
        Ok(Answered {
            message: etcd::compact_response(header, reply)?,
            stamp: Some(stamp),
        })
    }

    /// Makes a lease, with a random id unless the client chose one.
    pub async fn lease_grant(
        &self,
        context: &Context,
        request: LeaseGrantRequest,
    ) -> Outcome<LeaseGrantResponse> {
        let (header, reply, stamp) = self
            .change(context, etcd::lease_grant(request, random_lease_id()?)?)
            .await?;
        Ok(Answered {
            message: etcd::lease_grant_response(header, reply)?,
            stamp: Some(stamp),
        })
    }

    /// Ends a lease.
    pub async fn lease_revoke(
        &self,
        context: &Context,
        request: LeaseRevokeRequest,
    ) -> Outcome<LeaseRevokeResponse> {
        let (header, reply, stamp) = self.change(context, etcd::lease_revoke(request)).await?;
        Ok(Answered {
            message: etcd::lease_revoke_response(header, reply)?,
            stamp: Some(stamp),
        })
    }

    /// Renews a lease, on behalf of whatever user.
    pub async fn lease_keep_alive(
        &self,
        context: &Context,
        request: LeaseKeepAliveRequest,
    ) -> Outcome<LeaseKeepAliveResponse> {
        self.check_user(context)?;
        let response = within(REQUEST_TIMEOUT, self.handle.keep_alive(request.id)).await?;
        let (header, body, stamp) = self.opened(response);
        let Body::KeepAlive(ttl_ms) = body else {
            return Err(unexpected());
        };
        Ok(Answered {
            message: etcd::keep_alive_response(header, request.id, ttl_ms),
            stamp: Some(stamp),
        })
    }

    /// Tells a lease's remaining time, as of the replicated clock: about half a second old at most, as that clock is written down while there are leases.
    pub async fn lease_time_to_live(
        &self,
        context: &Context,
        request: LeaseTimeToLiveRequest,
    ) -> Outcome<LeaseTimeToLiveResponse> {
        let read = etcd::lease_time_to_live(request);
        let (header, answer, stamp) = self.read(context, read, REQUEST_TIMEOUT).await?;
        Ok(Answered {
            message: etcd::lease_time_to_live_response(header, request.id, answer)?,
            stamp: Some(stamp),
        })
    }

    /// Lists the leases.
    pub async fn lease_leases(
        &self,
        context: &Context,
        _: LeaseLeasesRequest,
    ) -> Outcome<LeaseLeasesResponse> {
        let (header, answer, stamp) = self
            .read(context, etcd::lease_leases(), REQUEST_TIMEOUT)
            .await?;
        Ok(Answered {
            message: etcd::lease_leases_response(header, answer)?,
            stamp: Some(stamp),
        })
    }

    /// What the member says of itself.
    pub async fn status(&self, _: &Context, _: StatusRequest) -> Outcome<StatusResponse> {
        let status = self.handle.status_now().await;
        let leader = status.raft.leader.map_or(0, |leader| leader.member.0);
        let me = status.raft.id.member;
        let members = &status.raft.configuration.members;
        let is_learner = members.get(&me).is_some_and(|member| member.stays_learner);
        Ok(Answered::unstamped(StatusResponse {
            header: Some(self.header()),
            version: etcd::VERSION.into(),
            db_size: etcd::file_bytes(status.state_bytes) as i64,
            leader,
            raft_index: status.raft.commit.0,
            raft_term: status.raft.term.0,
            raft_applied_index: status.applied,
            errors: self.complaints(&status),
            db_size_in_use: status.state_bytes as i64,
            is_learner,
            storage_version: etcd::CLUSTER_VERSION.into(),
            db_size_quota: status.state_bytes_max as i64,
            downgrade_info: Some(DowngradeInfo::default()),
        }))
    }

    /// What is wrong with the member, in etcd's words where it has any.
    fn complaints(&self, status: &replica::Status) -> Vec<String> {
        let mut complaints = Vec::new();
        if status.raft.leader.is_none() {
            complaints.push(Status::NO_LEADER.text.into());
        }
        complaints.extend(self.alarms().into_iter().map(etcd::alarm_text));
        if status.raft.standing == raft::Standing::EntriesLost {
            complaints.push(
                "may have lost entries: does not count until the others have made its log good"
                    .into(),
            );
        }
        if !status.serving {
            complaints.push("state is being loaded".into());
        }
        complaints
    }

    /// Hashes what this member has.
    pub async fn hash_kv(
        &self,
        context: &Context,
        request: HashKvRequest,
    ) -> Outcome<HashKvResponse> {
        let read = Read {
            query: Query::HashKv {
                revision: request.revision.max(0),
            },
            serializable: true,
        };
        let (header, answer, stamp) = self.read(context, read, RANGE_TIMEOUT).await?;
        match answer {
            Answer::HashKv {
                hash,
                compact_revision,
                hash_revision,
            } => Ok(Answered {
                message: HashKvResponse {
                    header: Some(header.into()),
                    hash,
                    compact_revision,
                    hash_revision,
                },
                stamp: Some(stamp),
            }),
            Answer::Rejected(reason) => Err(etcd::rejection(reason)),
            _ => Err(unexpected()),
        }
    }

    /// The older form of [`Door::hash_kv`].
    pub async fn hash(&self, context: &Context, _: HashRequest) -> Outcome<HashResponse> {
        let answered = self.hash_kv(context, HashKvRequest::default()).await?;
        Ok(answered.map(|full| HashResponse {
            header: full.header,
            hash: full.hash,
        }))
    }

    /// Nothing to do: space is given back without it.
    pub async fn defragment(
        &self,
        _: &Context,
        _: DefragmentRequest,
    ) -> Outcome<DefragmentResponse> {
        Ok(Answered::unstamped(DefragmentResponse::default()))
    }

    /// The header of answers that read nothing of the replicated state.
    pub fn header(&self) -> ResponseHeader {
        let status = self.handle.status();
        self.header_at(status.revision, status.raft.term.0).into()
    }

    /// The header of an answer at a revision.
    pub fn header_at(&self, revision: i64, term: u64) -> Header {
        Header {
            cluster: self.handle.cluster(),
            member: self.handle.member(),
            term,
            revision,
        }
    }

    /// Refuses if the request insists on a leader and none has been known for a while. An election is no reason: who lost a connection with the leader
    /// comes in the midst of one, and etcd's client ends a watch for good that is refused for want of a leader.
    pub fn check_leader(&self, context: &Context) -> Result<(), Status> {
        if context.require_leader && *self.fate.borrow() == StreamFate::Leaderless {
            Err(Status::NO_LEADER)
        } else {
            Ok(())
        }
    }

    /// Gives a change to the log, on behalf of the one who asks.
    pub async fn change(
        &self,
        context: &Context,
        change: Change,
    ) -> Result<(Header, Reply, Stamp), Status> {
        self.change_within(context, change, Patience::Request).await
    }

    /// The same, with more time.
    pub async fn change_within(
        &self,
        context: &Context,
        mut change: Change,
        patience: Patience,
    ) -> Result<(Header, Reply, Stamp), Status> {
        self.check_leader(context)?;
        if let Some(span) = context.span {
            change.trace = span.to_bytes();
        }
        context.envelope.seal(&mut change);
        let caller = self.caller(context)?;
        if caller.is_nobody() {
            return self.propose(context, change, patience).await;
        }
        Caller {
            user: change.principal,
            revision: change.auth_revision,
        } = caller;
        let outcome = self.propose(context, change.clone(), patience).await;
        if let Ok((_, Reply::Rejected(Rejection::Auth(AuthRejection::OldRevision)), _)) = outcome
            && let Some(caller) = self.newer(context, change.auth_revision)?
        {
            Caller {
                user: change.principal,
                revision: change.auth_revision,
            } = caller;
            return self.propose(context, change, patience).await;
        }
        outcome
    }

    fn propose(
        &self,
        context: &Context,
        change: Change,
        patience: Patience,
    ) -> impl Future<Output = Result<(Header, Reply, Stamp), Status>> {
        self.outcome(context, self.handle.proposed(change), patience)
    }

    async fn outcome(
        &self,
        context: &Context,
        proposal: Proposal<'_>,
        patience: Patience,
    ) -> Result<(Header, Reply, Stamp), Status> {
        let response = match patience {
            Patience::Request => within(REQUEST_TIMEOUT, proposal.outcome()).await?,
            Patience::Caller => {
                let mut fate = self.fate.clone();
                let leave = StreamFate::end(&mut fate, context.require_leader);
                let outcome = proposal.outcome_until(leave).await?;
                outcome.map_err(failure::status)?
            }
        };
        match self.opened(response) {
            (header, Body::Reply(reply), stamp) => Ok((header, reply, stamp)),
            _ => Err(unexpected()),
        }
    }

    /// Asks the state, on behalf of the one who asks.
    pub async fn read(
        &self,
        context: &Context,
        read: Read,
        timeout: Duration,
    ) -> Result<(Header, Answer, Stamp), Status> {
        self.check_leader(context)?;
        let consistency = context.consistency(read.serializable);
        let caller = self.caller(context)?;
        if caller.is_nobody() {
            return self.ask(caller, consistency, read.query, timeout).await;
        }
        let revision = caller.revision;
        let outcome = self
            .ask(caller, consistency, read.query.clone(), timeout)
            .await;
        if let Ok((_, Answer::Rejected(Rejection::Auth(AuthRejection::OldRevision)), _)) = outcome
            && let Some(caller) = self.newer(context, revision)?
        {
            return self.ask(caller, consistency, read.query, timeout).await;
        }
        outcome
    }

    async fn ask(
        &self,
        caller: Caller,
        consistency: Consistency,
        query: Query,
        timeout: Duration,
    ) -> Result<(Header, Answer, Stamp), Status> {
        let asked = self.handle.read_for(caller, consistency, query);
        match self.opened(within(timeout, asked).await?) {
            (header, Body::Answer(answer), stamp) => Ok((header, answer, stamp)),
            _ => Err(unexpected()),
        }
    }

    pub(crate) fn opened(&self, response: Response) -> (Header, Body, Stamp) {
        (
            self.header_at(response.revision, response.term.0),
            response.body,
            response.stamp,
        )
    }
}

/// Waits for an outcome, but not for ever.
pub(crate) async fn within<T>(
    timeout: Duration,
    call: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Status> {
    match tokio::time::timeout(timeout, call).await {
        Ok(outcome) => outcome.map_err(failure::status),
        Err(_) => Err(Status::TIMED_OUT),
    }
}

/// What callers of a call that comes later are told.
pub(crate) fn unavailable(call: &str) -> Status {
    Status::new(
        Code::Unimplemented,
        format!("etcdserver: {call} is not available in this version of synod"),
    )
}

pub(crate) fn unexpected() -> Status {
    Status::new(
        Code::Internal,
        "the member answered something else than asked",
    )
}

pub(crate) fn random_lease_id() -> Result<i64, Status> {
    loop {
        let random = getrandom::u64().map_err(|error| {
            Status::new(
                Code::Internal,
                format!("no randomness for a lease id: {error}"),
            )
        })?;
        let id = (random >> 1) as i64;
        if id != 0 {
            return Ok(id);
        }
    }
}
