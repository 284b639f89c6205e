//! What the doors hold of a running member: requests in, outcomes out.

use crate::members::MemberTable;
use crate::observers::{Observers, Observing};
use crate::trace::{self, Tracer};
use crate::{Metrics, OpenSnapshot};
use arc_swap::ArcSwap;
use raft::Configuration;
use replica::{
    Body, ChangeRequest, Consistency, Failure, Input, Introduction, Response, Status, StreamId,
    Ticket, WatchRequest, WatchResponse,
};
use state::auth::{Auth, Caller};
use state::{Command, Query};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// Requests waiting for the node loop at most. More are refused ([`Failure::Overloaded`]), except those of watch streams, which wait.
pub const REQUESTS_QUEUED_MAX: usize = 16_384;

/// Responses a watch stream may have on the way to its door; the loop makes more only as they are taken.
const WATCH_CREDIT: u32 = 64;

/// How long a hand-over of leadership may take before it counts as failed.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(3);

/// How a request ended.
pub(crate) type Outcome = Result<Response, Failure>;

/// What doors put into the loop's bounded queue.
pub(crate) enum Request {
    /// An input with a ticket, and who waits for its outcome.
    Ask {
        ticket: Ticket,
        input: Input,
        waiter: oneshot::Sender<Outcome>,
        /// When it was asked, if it is traced.
        since: Option<u64>,
    },
    /// A watch stream's request; the first one of a stream brings the way back.
    Watch {
        stream: StreamId,
        request: WatchRequest,
        opening: Option<mpsc::UnboundedSender<WatchResponse>>,
    },
    /// Wants a status that has seen everything before it.
    Status(oneshot::Sender<Arc<Status>>),
}

/// What must reach the loop even when the queue is full. Bounded by what caused it: one per request, stream or stop.
pub(crate) enum Control {
    /// Nobody waits for this request any more.
    Cancel(Ticket),
    /// A stream's door took this many responses.
    Credit(StreamId, u32),
    /// A stream is gone.
    Closed(StreamId),
    /// Hand leadership over.
    Transfer(Option<raft::MemberId>),
    /// A member with an empty directory looks for its cluster. One per bootstrap question, and those are bounded.
    Join(Introduction),
    /// Open the newest durable snapshot. One per call that takes the state, and those are bounded.
    OpenSnapshot(oneshot::Sender<Result<OpenSnapshot, String>>),
    /// End all watch streams: the member is about to stop.
    EndWatches,
    /// Stop the loop.
    Stop,
}

/// A member of the cell as clients may see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberView {
    /// Its id.
    pub id: u64,
    /// Its name; empty until a process takes its place.
    pub name: String,
    /// Where other members reach it, as `host:port`.
    pub peer_addresses: Vec<String>,
    /// Where clients reach it, as `host:port`; empty until it has told.
    pub client_addresses: Vec<String>,
    /// It receives the log and does not vote until an operator promotes it.
    pub is_learner: bool,
    /// It votes: a member that is to vote and has not caught up does not yet.
    pub votes: bool,
}

/// The loop's end of what a [`Handle`] holds.
pub(crate) struct Inbox {
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) control: mpsc::UnboundedReceiver<Control>,
    pub(crate) status: watch::Sender<Arc<Status>>,
    pub(crate) members: watch::Sender<MemberTable>,
    /// Who follows locks.
    pub(crate) observers: Arc<Observers>,
    auth: Arc<ArcSwap<Auth>>,
}

impl Inbox {
    /// Shows the doors users and permissions as they are now; to be done before the answers that follow from them.
    pub(crate) fn publish_auth(&self, auth: &Auth) {
        if auth.hash() != self.auth.load().hash() {
            self.auth.store(Arc::new(auth.clone()));
        }
    }
}

struct Shared {
    requests: mpsc::Sender<Request>,
    control: mpsc::UnboundedSender<Control>,
    status: watch::Receiver<Arc<Status>>,
    members: watch::Receiver<MemberTable>,
    observers: Arc<Observers>,
    auth: Arc<ArcSwap<Auth>>,
    next: AtomicU64,
    cluster: u64,
    metrics: Arc<Metrics>,
    tracer: Tracer,
}

/// A door's way to the node loop. Cheap to clone. Dropping a call's future cancels the request's reply, not the request.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

/// Tells the loop that nobody waits any more, unless the outcome came first.
struct CancelOnDrop<'a> {
    shared: &'a Shared,
    ticket: Option<Ticket>,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let _ = self.shared.control.send(Control::Cancel(ticket));
        }
    }
}

/// A change on its way. It holds no command: futures are moved about, and commands are large.
pub(crate) struct Proposal<'a> {
    begun: Result<(oneshot::Receiver<Outcome>, CancelOnDrop<'a>), Failure>,
    metrics: &'a Metrics,
}

impl Proposal<'_> {
    /// Waits for the outcome.
    pub(crate) async fn outcome(self) -> Outcome {
        match self
            .outcome_until(std::future::pending::<Infallible>())
            .await
        {
            Ok(outcome) => outcome,
            Err(never) => match never {},
        }
    }

    /// Waits for an outcome that may take long, until `leave` says otherwise. Then nobody waits here any more, but the request is not cancelled: an
    /// acquisition keeps its place for a caller who asks again elsewhere.
    ///
    /// # Errors
    /// What `leave` gave.
    pub(crate) async fn outcome_until<T>(
        self,
        leave: impl Future<Output = T>,
    ) -> Result<Outcome, T> {
        let ended = match self.begun {
            Ok((outcome, mut cancel)) => {
                let ended = tokio::select! {
                    outcome = outcome => Ok(outcome.unwrap_or(Err(Failure::Unknown))),
                    left = leave => Err(left),
                };
                cancel.ticket = None;
                ended
            }
            Err(failure) => Ok(Err(failure)),
        };
        if !matches!(ended, Ok(Ok(_))) {
            self.metrics.proposals_failed.inc();
        }
        ended
    }
}

impl Handle {
    /// Makes a handle and the loop's end of it.
    pub(crate) fn new(
        cluster: u64,
        status: Status,
        metrics: Arc<Metrics>,
        tracer: Tracer,
    ) -> (Handle, Inbox) {
        let (requests, requests_out) = mpsc::channel(REQUESTS_QUEUED_MAX);
        let (control, control_out) = mpsc::unbounded_channel();
        let (status_in, status) = watch::channel(Arc::new(status));
        let (members_in, members) = watch::channel(MemberTable::default());
        let auth = Arc::new(ArcSwap::from_pointee(Auth::default()));
        let observers = Arc::<Observers>::default();
        let shared = Shared {
            requests,
            control,
            status,
            members,
            observers: observers.clone(),
            auth: auth.clone(),
            next: AtomicU64::new(1),
            cluster,
            metrics,
            tracer,
        };
        let inbox = Inbox {
            requests: requests_out,
            control: control_out,
            status: status_in,
            members: members_in,
            observers,
            auth,
        };
        (
            Handle {
                shared: Arc::new(shared),
            },
            inbox,
        )
    }

    /// Proposes a change and waits for its outcome.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn propose(&self, command: Command) -> Result<Response, Failure> {
        self.proposed(command).outcome().await
    }

    /// Proposes a change at once; its outcome is for the proposal to wait for.
    pub(crate) fn proposed(&self, command: Command) -> Proposal<'_> {
        self.shared.metrics.proposals.inc();
        Proposal {
            begun: self.begin(|ticket| Input::Propose { ticket, command }),
            metrics: &self.shared.metrics,
        }
    }

    /// Renews a lease; many calls of one turn ride in one log entry.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn keep_alive(&self, lease: i64) -> Result<Response, Failure> {
        self.ask(Failure::Unknown, |ticket| Input::KeepAlive {
            ticket,
            lease,
        })
        .await
    }

    /// Reads on behalf of nobody: with authentication on, no keys.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn read(&self, consistency: Consistency, query: Query) -> Result<Response, Failure> {
        self.read_for(Caller::default(), consistency, query).await
    }

    /// Reads on behalf of a user.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn read_for(
        &self,
        caller: Caller,
        consistency: Consistency,
        query: Query,
    ) -> Result<Response, Failure> {
        self.shared.metrics.reads.inc();
        let outcome = self
            .ask(Failure::NoLeader, |ticket| Input::Read {
                ticket,
                caller,
                consistency,
                query,
            })
            .await;
        if outcome.is_err() {
            self.shared.metrics.reads_failed.inc();
        }
        outcome
    }

    /// Changes the members to these, on the leader, and waits until the change is committed.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn change_membership(&self, target: Configuration) -> Result<Configuration, Failure> {
        let response = self
            .ask(Failure::Unknown, |ticket| Input::ChangeMembership {
                ticket,
                target,
            })
            .await?;
        match response.body {
            Body::MembershipChanged(configuration) => Ok(configuration),
            other => unreachable!("a membership change was answered with {other:?}"),
        }
    }

    /// Changes members as an operator wants, on any member, and gives the members there are then.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn change_members(&self, request: ChangeRequest) -> Result<Configuration, Failure> {
        let ask = |ticket| Input::ChangeMembers { ticket, request };
        let response = self.ask(Failure::Unknown, ask).await?;
        match response.body {
            Body::MembershipChanged(configuration) => Ok(configuration),
            other => unreachable!("a change of members was answered with {other:?}"),
        }
    }

    /// Queues a request and waits. `lost` is the outcome when the member stops before it has one.
    async fn ask(&self, lost: Failure, input: impl FnOnce(Ticket) -> Input) -> Outcome {
        let (outcome, mut cancel) = self.begin(input)?;
        let outcome = outcome.await;
        cancel.ticket = None;
        outcome.unwrap_or(Err(lost))
    }

    /// Queues a request that is cancelled unless its outcome comes first.
    fn begin(
        &self,
        input: impl FnOnce(Ticket) -> Input,
    ) -> Result<(oneshot::Receiver<Outcome>, CancelOnDrop<'_>), Failure> {
        let ticket = Ticket(self.shared.next.fetch_add(1, Relaxed));
        let (waiter, outcome) = oneshot::channel();
        let input = input(ticket);
        let traced = matches!(&input, Input::Propose { command, .. } if !command.trace.is_empty());
        self.queue(Request::Ask {
            ticket,
            input,
            waiter,
            since: traced.then(trace::now),
        })?;
        let cancel = CancelOnDrop {
            shared: &self.shared,
            ticket: Some(ticket),
        };
        Ok((outcome, cancel))
    }

    fn queue(&self, request: Request) -> Result<(), Failure> {
        self.shared
            .requests
            .try_send(request)
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => {
                    self.shared.metrics.requests_overloaded.inc();
                    Failure::Overloaded {
                        queue: "requests",
                        limit: REQUESTS_QUEUED_MAX,
                    }
                }
                // The loop has ended, so nothing happened; another member may serve it.
                mpsc::error::TrySendError::Closed(_) => Failure::NoLeader,
            })
    }

    /// Waits until a durable snapshot holds all that was applied by now.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn checkpoint(&self) -> Result<(), Failure> {
        self.ask(Failure::NoLeader, Input::Checkpoint).await?;
        Ok(())
    }

    /// Opens the newest durable snapshot.
    ///
    /// # Errors
    /// There is none, or it cannot be read, as the text says.
    pub async fn open_snapshot(&self) -> Result<OpenSnapshot, String> {
        let (waiter, opened) = oneshot::channel();
        self.control(Control::OpenSnapshot(waiter));
        opened
            .await
            .unwrap_or_else(|_| Err("the member has stopped".into()))
    }

    /// Follows a lock: hears whenever its holders change.
    ///
    /// # Errors
    /// Too many follow locks already.
    pub(crate) fn observe(&self, name: &[u8]) -> Result<Observing, Failure> {
        Observers::follow(&self.shared.observers, name)
    }

    /// Opens a watch stream.
    pub fn watch(&self) -> WatchStream {
        let stream = StreamId(self.shared.next.fetch_add(1, Relaxed));
        let (opening, responses) = mpsc::unbounded_channel();
        WatchStream {
            handle: self.clone(),
            stream,
            opening: std::sync::Mutex::new(Some(opening)),
            responses,
            taken: 0,
        }
    }

    /// What the member said of itself last. At most half a second old; role, term and leader are never older than the last turn.
    pub fn status(&self) -> Arc<Status> {
        self.shared.status.borrow().clone()
    }

    /// What the member says of itself after everything asked before: it shows the revision of a put that was answered before this call.
    pub async fn status_now(&self) -> Arc<Status> {
        let (waiter, status) = oneshot::channel();
        match self.queue(Request::Status(waiter)) {
            Ok(()) => status.await.unwrap_or_else(|_| self.status()),
            Err(_) => self.status(),
        }
    }

    /// Waits for a change of the status and gives it; `None` when the member has stopped.
    pub(crate) fn status_changes(&self) -> watch::Receiver<Arc<Status>> {
        self.shared.status.clone()
    }

    /// The members of the cell, by id, with what they told of themselves.
    pub fn members(&self) -> Vec<MemberView> {
        self.shared.members.borrow().view()
    }

    /// The members of a configuration, with what they told of themselves.
    pub fn members_of(&self, configuration: &Configuration) -> Vec<MemberView> {
        self.shared.members.borrow().view_of(configuration)
    }

    /// Users, roles and permissions. Whoever got an answer from this member sees them as of that answer, or newer.
    pub fn auth(&self) -> arc_swap::Guard<Arc<Auth>> {
        self.shared.auth.load()
    }

    /// Who takes spans of requests.
    pub(crate) fn tracer(&self) -> &Tracer {
        &self.shared.tracer
    }

    /// What the member counts.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// The cluster's id.
    pub fn cluster(&self) -> u64 {
        self.shared.cluster
    }

    /// This member's id.
    pub fn member(&self) -> u64 {
        self.shared.status.borrow().raft.id.member.0
    }

    /// Asks the leader to hand over; ends when another member leads or after a few seconds.
    ///
    /// # Errors
    /// [`Failure::LeaderChanged`] if this member does not lead, [`Failure::NoLeader`] if nobody took over in time.
    pub async fn transfer_leadership(&self, target: Option<u64>) -> Result<(), Failure> {
        let mut changes = self.status_changes();
        let me = self.status().raft.id;
        if self.status().raft.leader != Some(me) {
            return Err(Failure::LeaderChanged);
        }
        if target == Some(me.member.0) {
            return Ok(());
        }
        let _ = self
            .shared
            .control
            .send(Control::Transfer(target.map(raft::MemberId)));
        let is_moved = |leader: raft::PeerId| match target {
            Some(target) => leader.member.0 == target,
            None => leader != me,
        };
        let moved = changes.wait_for(|status| status.raft.leader.is_some_and(is_moved));
        match tokio::time::timeout(TRANSFER_TIMEOUT, moved).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Failure::NoLeader),
        }
    }

    pub(crate) fn control(&self, control: Control) {
        let _ = self.shared.control.send(control);
    }
}

/// A watch stream of one connection. Closing is dropping.
pub struct WatchStream {
    handle: Handle,
    stream: StreamId,
    opening: std::sync::Mutex<Option<mpsc::UnboundedSender<WatchResponse>>>,
    responses: mpsc::UnboundedReceiver<WatchResponse>,
    taken: u32,
}

impl WatchStream {
    /// Sends a request; waits while the loop's queue is full.
    pub async fn request(&self, request: WatchRequest) {
        let slot = self.handle.shared.requests.reserve().await;
        // Taken even when the member has stopped: dropping the sender is what ends the stream then.
        let opening = self
            .opening
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        let Ok(slot) = slot else { return };
        if opening.is_some() {
            self.handle.shared.metrics.watch_streams_opened.inc();
        }
        slot.send(Request::Watch {
            stream: self.stream,
            request,
            opening,
        });
    }

    /// The next response; `None` when the member stops. Credits are given as responses are taken, so a slow reader holds back only itself.
    pub async fn next(&mut self) -> Option<WatchResponse> {
        let response = self.responses.recv().await?;
        self.taken += 1;
        if self.taken >= WATCH_CREDIT / 2 {
            self.handle
                .control(Control::Credit(self.stream, self.taken));
            self.taken = 0;
        }
        Some(response)
    }

    /// The responses a new stream may get before any is taken.
    pub(crate) const CREDIT: u32 = WATCH_CREDIT;
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        let unopened = self
            .opening
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .is_some();
        if !unopened {
            self.handle.shared.metrics.watch_streams_closed.inc();
            self.handle.control(Control::Closed(self.stream));
        }
    }
}
