//! One of the two servers: sends an operation, brings its answer back.

use super::answer::{Answer, Frame, Seen};
use super::operation::Operation;
use crate::connection::Connection;
use crate::{Failure, Outcome};
use futures_util::StreamExt;
use proto::etcdserverpb as pb;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

/// A server under test, or the one it is compared with.
pub struct Side {
    connection: Connection,
    frame: Frame,
    stream: Stream,
}

impl Side {
    /// Connects, removes all keys and leases, and takes the revision that this leaves as the beginning.
    ///
    /// # Errors
    /// When the server does not serve.
    pub async fn connect(address: SocketAddr, stable_max: i64) -> Outcome<Side> {
        let mut connection = Connection::new(address);
        connection.ready(Duration::from_secs(30)).await?;
        let leases = connection
            .lease
            .lease_leases(pb::LeaseLeasesRequest {})
            .await?
            .into_inner()
            .leases;
        for lease in leases {
            connection
                .lease
                .lease_revoke(pb::LeaseRevokeRequest { id: lease.id })
                .await?;
        }
        let everything = pb::DeleteRangeRequest {
            key: vec![0].into(),
            range_end: vec![0].into(),
            ..Default::default()
        };
        let deleted = connection.kv.delete_range(everything).await?.into_inner();
        let base = deleted.header.unwrap_or_default().revision;
        let stream = Stream::open(&connection);
        Ok(Side {
            connection,
            frame: Frame { base, stable_max },
            stream,
        })
    }

    /// In which terms it speaks.
    pub fn frame(&self) -> Frame {
        self.frame
    }

    /// Sends one operation and waits for its answer, normalised.
    ///
    /// # Errors
    /// When a stream broke; an error answer is an answer.
    pub async fn perform(&mut self, operation: &Operation) -> Outcome<Answer> {
        let base = self.frame.base;
        let mut answer = match operation.clone() {
            Operation::Range(mut r) => {
                rebase_range(&mut r, base);
                unary(self.connection.kv.range(r).await, Answer::Range)
            }
            Operation::Put(r) => unary(self.connection.kv.put(r).await, Answer::Put),
            Operation::Delete(r) => unary(self.connection.kv.delete_range(r).await, Answer::Delete),
            Operation::Txn(mut r) => {
                rebase_txn(&mut r, base);
                unary(self.connection.kv.txn(r).await, Answer::Txn)
            }
            Operation::Compact(mut r) => {
                rebase(&mut r.revision, base);
                unary(self.connection.kv.compact(r).await, Answer::Compact)
            }
            Operation::Grant(r) => unary(self.connection.lease.lease_grant(r).await, Answer::Grant),
            Operation::Revoke(r) => {
                unary(self.connection.lease.lease_revoke(r).await, Answer::Revoke)
            }
            Operation::TimeToLive(r) => unary(
                self.connection.lease.lease_time_to_live(r).await,
                Answer::TimeToLive,
            ),
            Operation::Leases => unary(
                self.connection
                    .lease
                    .lease_leases(pb::LeaseLeasesRequest {})
                    .await,
                |r| Answer::Leases(r.leases.iter().map(|lease| lease.id).collect()),
            ),
            Operation::KeepAlive(r) => self.keep_alive(r).await,
            Operation::HashKv(mut r) => {
                rebase(&mut r.revision, base);
                unary(self.connection.maintenance.hash_kv(r).await, |_| {
                    Answer::HashKv
                })
            }
            Operation::Alarms => unary(
                self.connection
                    .maintenance
                    .alarm(pb::AlarmRequest::default())
                    .await,
                |r| Answer::Alarms(r.alarms.len()),
            ),
            Operation::WatchHistory(_) | Operation::WatchSync { .. } => {
                return Err("watch steps take two calls".into());
            }
            Operation::WatchCreate(mut r) => {
                rebase(&mut r.start_revision, base);
                let before = self.stream.controls();
                self.stream
                    .send(pb::watch_request::RequestUnion::CreateRequest(r))
                    .await?;
                self.stream.control_after(before).await
            }
            Operation::WatchCancel(id) => {
                let before = self.stream.controls();
                self.stream
                    .send(pb::watch_request::RequestUnion::CancelRequest(
                        pb::WatchCancelRequest { watch_id: id },
                    ))
                    .await?;
                self.stream.control_after(before).await
            }
            Operation::Expire(id) => self.expire(id).await?,
        };
        answer.normalise(operation, self.frame);
        Ok(answer)
    }

    /// Opens a stream of its own for one watch.
    ///
    /// # Errors
    /// When the request cannot be sent.
    pub async fn open_watch(&self, request: &pb::WatchCreateRequest) -> Outcome<Stream> {
        let mut request = request.clone();
        rebase(&mut request.start_revision, self.frame.base);
        let stream = Stream::open(&self.connection);
        stream
            .send(pb::watch_request::RequestUnion::CreateRequest(request))
            .await?;
        Ok(stream)
    }

    /// The stream that lives as long as the run.
    pub fn live(&self) -> &Stream {
        &self.stream
    }

    async fn keep_alive(&mut self, request: pb::LeaseKeepAliveRequest) -> Answer {
        // The request stream stays open until the answer is there: closing it early may end the call first.
        let (sender, receiver) = mpsc::channel(1);
        if sender.send(request).await.is_err() {
            return Answer::Done;
        }
        let mut responses = match self
            .connection
            .lease
            .lease_keep_alive(ReceiverStream::new(receiver))
            .await
        {
            Ok(response) => response.into_inner(),
            Err(status) => return status.into(),
        };
        match responses.message().await {
            Ok(Some(response)) => Answer::KeepAlive(response),
            Ok(None) => Answer::Done,
            Err(status) => status.into(),
        }
    }

    async fn expire(&mut self, id: i64) -> Outcome<Answer> {
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(15) {
            let left = self
                .connection
                .lease
                .lease_time_to_live(pb::LeaseTimeToLiveRequest { id, keys: false })
                .await?
                .into_inner();
            if left.ttl < 0 {
                return Ok(Answer::Done);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(Answer::Refused(
            tonic::Code::DeadlineExceeded,
            format!("lease {id} is still there after 15 s"),
        ))
    }
}

/// A watch stream and everything that came on it.
pub struct Stream {
    requests: mpsc::Sender<pb::WatchRequest>,
    log: Arc<Mutex<Log>>,
}

/// What came so far.
#[derive(Default)]
struct Log {
    seen: BTreeMap<i64, Vec<Seen>>,
    /// Messages that created or canceled a watch.
    controls: Vec<(i64, Seen)>,
    /// When the last message came.
    last: Option<Instant>,
    /// Whether the last message of a watch was a fragment with more to come, and its last revision.
    open: BTreeMap<i64, (bool, i64)>,
}

impl Stream {
    fn open(connection: &Connection) -> Stream {
        let (requests, receiver) = mpsc::channel::<pb::WatchRequest>(16);
        let log = Arc::new(Mutex::new(Log::default()));
        let ours = Arc::clone(&log);
        let mut client = connection.watch.clone();
        tokio::spawn(async move {
            // etcd sends its headers with the first answer only, so this waits until something was asked.
            let ended = match client.watch(ReceiverStream::new(receiver)).await {
                Ok(response) => {
                    let mut responses = response.into_inner();
                    loop {
                        match responses.next().await {
                            Some(Ok(message)) => {
                                ours.lock().expect("no holder panics").take(message)
                            }
                            Some(Err(status)) => break Some(status),
                            None => break None,
                        }
                    }
                }
                Err(status) => Some(status),
            };
            if let Some(status) = ended.filter(|status| status.code() != tonic::Code::Cancelled) {
                let mut log = ours.lock().expect("no holder panics");
                let seen = Seen::Canceled(
                    0,
                    format!("stream ended: {:?}: {}", status.code(), status.message()),
                    false,
                );
                log.controls.push((i64::MIN, seen.clone()));
                log.seen.insert(i64::MIN, vec![seen]);
            }
        });
        Stream { requests, log }
    }

    async fn send(&self, request: pb::watch_request::RequestUnion) -> Outcome<()> {
        self.requests
            .send(pb::WatchRequest {
                request_union: Some(request),
            })
            .await
            .map_err(|_| Failure::from("the watch stream has ended"))
    }

    fn controls(&self) -> usize {
        self.log.lock().expect("no holder panics").controls.len()
    }

    /// The next message that created or canceled a watch, or nothing after a while: canceling an unknown watch has no answer.
    async fn control_after(&self, before: usize) -> Answer {
        let since = Instant::now();
        while self.controls() == before {
            if since.elapsed() > Duration::from_millis(400) {
                return Answer::Done;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let controls = &self.log.lock().expect("no holder panics").controls;
        let next = controls
            .get(before)
            .map(|(id, seen)| (*id, vec![seen.clone()]));
        Answer::Watch(next.into_iter().collect())
    }

    /// Everything that came on two streams so far. When it is the same on both it is forgotten, in one step, so that nothing is lost between.
    pub fn compare(
        (ours, our_frame): (&Stream, Frame),
        (theirs, their_frame): (&Stream, Frame),
    ) -> (Answer, Answer) {
        let (mut ours, mut theirs) = (
            ours.log.lock().expect("no holder panics"),
            theirs.log.lock().expect("no holder panics"),
        );
        let answer = |log: &Log, frame| {
            let mut answer = Answer::Watch(log.seen.clone());
            answer.normalise(&Operation::WatchSync { thorough: false }, frame);
            answer
        };
        let answers = (answer(&ours, our_frame), answer(&theirs, their_frame));
        if answers.0.same(&answers.1) {
            ours.seen.clear();
            theirs.seen.clear();
        }
        answers
    }

    /// Forgets what came so far.
    pub fn clear(&self) {
        self.log.lock().expect("no holder panics").seen.clear();
    }

    /// How long nothing has come.
    pub fn quiet(&self) -> Option<Duration> {
        self.log
            .lock()
            .expect("no holder panics")
            .last
            .map(|at| at.elapsed())
    }
}

impl Log {
    fn take(&mut self, message: pb::WatchResponse) {
        self.last = Some(Instant::now());
        let id = message.watch_id;
        let revision = message.header.as_ref().map_or(0, |header| header.revision);
        if message.canceled || message.created {
            let seen = if message.canceled {
                self.open.remove(&id);
                Seen::Canceled(
                    message.compact_revision,
                    message.cancel_reason,
                    message.created,
                )
            } else {
                Seen::Created(revision)
            };
            self.controls.push((id, seen.clone()));
            self.seen.entry(id).or_default().push(seen);
            return;
        }
        // A message without events is a progress mark; when they come is the server's affair.
        if message.events.is_empty() {
            return;
        }
        if let Some(breach) = self.breach(&message, revision) {
            self.seen.entry(id).or_default().push(Seen::Breach(breach));
        }
        let seen = self.seen.entry(id).or_default();
        match seen.last_mut() {
            Some(Seen::Events(events)) => events.extend(message.events),
            _ => seen.push(Seen::Events(message.events)),
        }
    }

    /// W1, W2 and W4 as far as one stream shows them.
    fn breach(&mut self, message: &pb::WatchResponse, revision: i64) -> Option<String> {
        let revisions: Vec<i64> = message
            .events
            .iter()
            .filter_map(|event| event.kv.as_ref())
            .map(|kv| kv.mod_revision)
            .collect();
        let (first, last) = (*revisions.first()?, *revisions.last()?);
        let before = self.open.insert(message.watch_id, (message.fragment, last));
        if !revisions.is_sorted() {
            return Some(format!(
                "W1: revisions {revisions:?} in one message are out of order"
            ));
        }
        if last > revision {
            return Some(format!(
                "an event of revision {last} came under header revision {revision}"
            ));
        }
        match before {
            Some((_, last)) if first < last => {
                Some(format!("W1: revision {first} came after {last}"))
            }
            Some((false, last)) if first == last => Some(format!(
                "W4: revision {first} is split without the fragment mark"
            )),
            _ => None,
        }
    }
}

fn unary<R>(result: Result<Response<R>, Status>, answer: impl FnOnce(R) -> Answer) -> Answer {
    match result {
        Ok(response) => answer(response.into_inner()),
        Err(status) => status.into(),
    }
}

fn rebase(revision: &mut i64, base: i64) {
    if *revision > 0 {
        *revision += base - 1;
    }
}

fn rebase_range(request: &mut pb::RangeRequest, base: i64) {
    rebase(&mut request.revision, base);
    rebase(&mut request.min_mod_revision, base);
    rebase(&mut request.max_mod_revision, base);
    rebase(&mut request.min_create_revision, base);
    rebase(&mut request.max_create_revision, base);
}

fn rebase_txn(request: &mut pb::TxnRequest, base: i64) {
    use pb::compare::TargetUnion;
    use pb::request_op::Request;
    for compare in &mut request.compare {
        if let Some(TargetUnion::CreateRevision(revision) | TargetUnion::ModRevision(revision)) =
            &mut compare.target_union
        {
            rebase(revision, base);
        }
    }
    for op in request.success.iter_mut().chain(&mut request.failure) {
        match &mut op.request {
            Some(Request::RequestRange(range)) => rebase_range(range, base),
            Some(Request::RequestTxn(txn)) => rebase_txn(txn, base),
            _ => {}
        }
    }
}
