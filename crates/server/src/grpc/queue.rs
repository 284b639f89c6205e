//! Waiting in the queue of a lock or an election until one's turn comes.

use super::context::Context;
use super::door::{Door, StreamFate};
use bytes::Bytes;
use etcd::auth::auth_rejection;
use etcd::queue::{Ahead, Entered, LEASE_TTL, Place, Queue};
use etcd::{Code, Status};
use proto::etcdserverpb::{LeaseGrantRequest, ResponseHeader};
use replica::{Event, Stamp, WatchBody, WatchCreate, WatchRequest};
use state::auth::AuthRejection;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Calls that wait at the same time at most; more are refused.
pub(crate) const WAITERS_MAX: usize = 65_536;

/// How often a place is given up again when nobody took note of it; then its lease has to end.
const LEAVE_TRIES: usize = 10;

/// Pause between these.
const LEAVE_PAUSE: Duration = Duration::from_secs(1);

/// One call's way through a queue. Dropped before its turn came, it leaves the queue.
pub(crate) struct Candidate {
    door: Door,
    context: Context,
    queue: Queue,
    lease: i64,
    /// What is to be given up if this is dropped.
    held: Held,
}

enum Held {
    Nothing,
    /// On its way.
    Entering(JoinHandle<Result<(Entered, Option<Stamp>), Status>>),
    Place(Place),
}

impl Candidate {
    /// Prepares to enter; makes a lease for a caller who has none.
    ///
    /// # Errors
    /// The lease cannot be made.
    pub async fn new(
        door: &Door,
        context: &Context,
        name: &[u8],
        lease: i64,
    ) -> Result<Candidate, Status> {
        Ok(Candidate {
            door: door.clone(),
            context: context.clone(),
            queue: Queue::new(name),
            lease: session(door, context, lease).await?,
            held: Held::Nothing,
        })
    }

    /// The lease its place lives on.
    pub fn lease(&self) -> i64 {
        self.lease
    }

    /// Enters the queue. Whatever happens to the caller meanwhile, the place is known or given up in the end.
    ///
    /// # Errors
    /// The state refused, or nobody knows whether it did.
    pub async fn enter(&mut self, value: Bytes) -> Result<(Entered, Option<Stamp>), Status> {
        let (door, context, queue) = (self.door.clone(), self.context.clone(), self.queue.clone());
        let lease = self.lease;
        self.held = Held::Entering(tokio::spawn(async move {
            let answered = door.txn(&context, queue.enter(lease, value)).await?;
            Ok((queue.entered(lease, answered.message)?, answered.stamp))
        }));
        let Held::Entering(entering) = &mut self.held else {
            unreachable!("it was put there above")
        };
        let entered = entering.await;
        self.held = Held::Nothing;
        let (entered, stamp) = entered
            .unwrap_or_else(|_| Err(Status::STOPPED))
            .map_err(unknown)?;
        self.held = Held::Place(entered.place.clone());
        Ok((entered, stamp))
    }

    /// Waits until nobody is ahead of the place; `None` if the place is lost before.
    ///
    /// # Errors
    /// Too many wait, the member stops, or a read failed.
    pub async fn wait(
        &mut self,
        place: &Place,
    ) -> Result<Option<(ResponseHeader, Option<Stamp>)>, Status> {
        let _room = self
            .door
            .queueing
            .clone()
            .try_acquire_owned()
            .map_err(|_| Status::TOO_MANY_REQUESTS)?;
        loop {
            let look = self.queue.look(place);
            let answered = self.door.txn(&self.context, look).await.map_err(unknown)?;
            let (header, ahead) = self.queue.looked(place, answered.message)?;
            let before = match ahead {
                Ahead::Nobody => return Ok(Some((header, answered.stamp))),
                Ahead::Gone => {
                    self.held = Held::Nothing;
                    return Ok(None);
                }
                Ahead::Key(before) => before.key,
            };
            let keys = [(before, Bytes::new()), (place.key.clone(), Bytes::new())];
            let mut follower =
                Follower::open(&self.door, &self.context, keys, header.revision + 1).await?;
            while let Followed::Changes { events, .. } = follower.next().await? {
                if events.iter().any(|event| event.deleted) {
                    break;
                }
            }
        }
    }

    /// The turn has come: the place stays.
    pub fn arrived(mut self) {
        self.held = Held::Nothing;
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        let held = std::mem::replace(&mut self.held, Held::Nothing);
        if let Held::Nothing = held {
            return;
        }
        let (door, context) = (self.door.clone(), self.context.clone());
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            let place = match held {
                Held::Nothing => return,
                Held::Place(place) => place,
                Held::Entering(entering) => match entering.await {
                    Ok(Ok((entered, _))) if entered.found.is_none() => entered.place,
                    _ => return,
                },
            };
            for _ in 0..LEAVE_TRIES {
                match door.txn(&context, place.leave()).await {
                    Err(status) if status.code == Code::Unavailable => {}
                    _ => return,
                }
                tokio::time::sleep(LEAVE_PAUSE).await;
            }
        });
    }
}

/// The lease itself, or a new one for a caller who brings none.
pub(crate) async fn session(door: &Door, context: &Context, lease: i64) -> Result<i64, Status> {
    if lease != 0 {
        return Ok(lease);
    }
    let request = LeaseGrantRequest {
        ttl: LEASE_TTL,
        id: 0,
    };
    let granted = door.lease_grant(context, request).await.map_err(unknown)?;
    Ok(granted.message.id)
}

/// A refusal as the lock and election services of etcd pass it on: without its code, unless it tells that another try may help.
pub(crate) fn unknown(status: Status) -> Status {
    match status.code {
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Canceled => {
            status
        }
        _ => Status::new(Code::Unknown, status.text),
    }
}

/// Follows keys on behalf of a call.
pub(crate) struct Follower {
    stream: crate::WatchStream,
    fate: watch::Receiver<StreamFate>,
    require_leader: bool,
}

/// What a follower hears.
pub(crate) enum Followed {
    /// These changes, of which the last is not newer than the revision.
    Changes {
        revision: i64,
        events: Vec<Arc<Event>>,
    },
    /// History was forgotten up to here: the keys have to be read again.
    Lost,
}

impl Follower {
    /// Follows some ranges from a revision on.
    ///
    /// # Errors
    /// The caller's token is no longer valid.
    pub async fn open(
        door: &Door,
        context: &Context,
        ranges: impl IntoIterator<Item = (Bytes, Bytes)>,
        start_revision: i64,
    ) -> Result<Follower, Status> {
        let caller = door.caller(context).map_err(unknown)?;
        let stream = door.handle.watch();
        for (key, range_end) in ranges {
            let create = WatchCreate {
                caller: caller.clone(),
                watch: 0,
                key,
                range_end,
                start_revision,
                progress_notify: false,
                no_put: false,
                no_delete: false,
                prev_kv: false,
                fragment: false,
            };
            stream.request(WatchRequest::Create(create)).await;
        }
        Ok(Follower {
            stream,
            fate: door.fate.clone(),
            require_leader: context.require_leader,
        })
    }

    /// Waits for what comes next.
    ///
    /// # Errors
    /// The caller may not read the keys; the member stops, or knows no leader and the call insists on one.
    pub async fn next(&mut self) -> Result<Followed, Status> {
        loop {
            let response = tokio::select! {
                response = self.stream.next() => response.ok_or(Status::STOPPED)?,
                status = StreamFate::end(&mut self.fate, self.require_leader) => return Err(status),
            };
            match response.body {
                WatchBody::Events { events, .. } => {
                    let revision = response.revision;
                    return Ok(Followed::Changes { revision, events });
                }
                WatchBody::Compacted { .. }
                | WatchBody::Canceled
                | WatchBody::Refused(_)
                | WatchBody::Denied(AuthRejection::OldRevision) => {
                    return Ok(Followed::Lost);
                }
                WatchBody::Denied(rejection) => return Err(unknown(auth_rejection(rejection))),
                WatchBody::Created | WatchBody::Progress => {}
            }
        }
    }
}
