//! The node loop: waits for events, gives them to the replica, carries out its effects. Nothing in it decides.
//!
//! One turn: [`Node::select`] waits and drains the queues (async), then [`Node::turn`] handles all of it (sync). A turn takes about a millisecond at most;
//! when the replica has more work, the loop lets the other tasks of the runtime run and goes on.

use crate::clock::Clock;
use crate::disk::{DiskThreads, LogTask, SnapshotTask};
use crate::handle::{Control, Inbox, Outcome, Request, WatchStream};
use crate::members::MemberTable;
use crate::peers::{PeerEvent, Peers};
use crate::space::SpaceWatch;
use crate::trace::Steps;
use crate::{Metrics, wire::Party};
use raft::{Instant, MemberId, PeerId};
use replica::{Effect, Input, Now, Replica, StreamId, Ticket, WatchResponse};
use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Sleep;
use tracing::{debug, error, info, warn};

/// Events of one kind taken in one turn at most; the rest waits for the next, so that no kind starves another.
const EVENTS_PER_TURN_MAX: usize = 4096;
/// A turn publishes the status if the last one is older than this. Below a heartbeat, so that an idle member does so with each and needs no
/// further wake-up.
const STATUS_INTERVAL: Duration = Duration::from_millis(50);
/// Without further turns the last change is published this late.
const STATUS_AGE_MAX: Duration = Duration::from_millis(500);

/// What the loop is made of.
pub(crate) struct Node {
    pub(crate) replica: Replica,
    pub(crate) clock: Clock,
    pub(crate) inbox: Inbox,
    pub(crate) peers: Peers,
    pub(crate) peer_events: mpsc::Receiver<PeerEvent>,
    pub(crate) disk: DiskThreads,
    pub(crate) disk_inputs: mpsc::UnboundedReceiver<Input>,
    pub(crate) members: MemberTable,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) space: SpaceWatch,
    /// Members that left, for those who accept connections.
    pub(crate) departed: watch::Sender<Vec<MemberId>>,
    /// Told when this member itself left.
    pub(crate) leave: Arc<Notify>,
    /// Tells the steps of traced changes.
    pub(crate) steps: Steps,
}

/// What the loop keeps besides: who waits for what.
pub(crate) struct Running {
    node: Node,
    waiters: HashMap<Ticket, oneshot::Sender<Outcome>>,
    streams: BTreeMap<StreamId, mpsc::UnboundedSender<WatchResponse>>,
    /// When the replica wants to be called.
    timer: Option<Instant>,
    /// Wakes the loop; armed for `armed`, perhaps too early, never too late.
    alarm: Pin<Box<Sleep>>,
    armed: Option<Instant>,
    status_due: Option<Instant>,
    status_published: Instant,
    leader: Option<PeerId>,
    /// The log's mark that entries were lost stands.
    entries_lost: bool,
    stopping: bool,
    /// Why the directory is to be opened again.
    reopen: Option<String>,
}

/// How the loop ended.
#[derive(Debug)]
pub(crate) enum End {
    /// It was told to.
    Stopped,
    /// The member is to begin anew from its directory, for this reason.
    Reopen(String),
}

/// What one turn takes in.
#[derive(Default)]
struct Events {
    control: Vec<Control>,
    disk: Vec<Input>,
    peers: Vec<PeerEvent>,
    requests: Vec<Request>,
}

impl Node {
    /// Runs the loop until it is told to stop or must begin anew, then ends the disk threads: what was handed to them is durable afterwards.
    pub(crate) async fn run(self) -> End {
        let published = self.clock.monotonic();
        let standing = self.replica.status().raft.standing;
        let mut running = Running {
            node: self,
            waiters: HashMap::new(),
            streams: BTreeMap::new(),
            timer: None,
            alarm: Box::pin(tokio::time::sleep(Duration::ZERO)),
            armed: None,
            status_due: None,
            status_published: published,
            leader: None,
            entries_lost: standing == raft::Standing::EntriesLost,
            stopping: false,
            reopen: None,
        };
        let mut events = Events::default();
        let mut more = running.turn(&mut events);
        while !running.stopping {
            running.select(&mut events, more).await;
            more = running.turn(&mut events);
        }
        running.node.disk.stop();
        running.reopen.map_or(End::Stopped, End::Reopen)
    }
}

impl Running {
    /// Waits until something happened (not at all if `more` work is left), then takes whatever else is there.
    async fn select(&mut self, events: &mut Events, more: bool) {
        let node = &mut self.node;
        if more {
            tokio::task::yield_now().await;
        } else {
            tokio::select! {
                biased;
                Some(control) = node.inbox.control.recv() => events.control.push(control),
                Some(input) = node.disk_inputs.recv() => events.disk.push(input),
                Some(event) = node.peer_events.recv() => events.peers.push(event),
                Some(request) = node.inbox.requests.recv() => events.requests.push(request),
                () = &mut self.alarm, if self.armed.is_some() => self.armed = None,
                else => self.stopping = true,
            }
        }
        drain(|| node.inbox.control.try_recv().ok(), &mut events.control);
        drain(|| node.disk_inputs.try_recv().ok(), &mut events.disk);
        drain(|| node.peer_events.try_recv().ok(), &mut events.peers);
        drain(|| node.inbox.requests.try_recv().ok(), &mut events.requests);
    }

    /// Handles what was taken in and carries out what the replica wants done. `true` if it has more work.
    fn turn(&mut self, events: &mut Events) -> bool {
        self.node.metrics.loop_turns.inc();
        let now = self.node.clock.now();
        self.node.steps.turn();
        let mut asked_status = Vec::new();
        for control in events.control.drain(..) {
            self.control(now, control);
        }
        for input in events.disk.drain(..) {
            if let Input::Persisted(upto) = input {
                self.node.steps.durable(upto);
            }
            self.node.replica.handle(now, input);
        }
        for event in events.peers.drain(..) {
            self.peer_event(now, event);
        }
        self.node.metrics.requests.add(events.requests.len() as u64);
        for request in events.requests.drain(..) {
            self.request(now, request, &mut asked_status);
        }
        if self.timer.is_some_and(|timer| timer <= now.monotonic) {
            self.timer = None;
            self.node.replica.handle(now, Input::TimerFired);
        }
        let more = self.node.replica.work(now);
        self.node.inbox.publish_auth(self.node.replica.auth());
        while let Some(effect) = self.node.replica.poll() {
            self.effect(effect);
        }
        if self.node.steps.is_following() {
            self.node.steps.look(&self.node.replica.status());
        }
        if self.status_due.is_none() {
            self.status_due = Some(self.status_published + STATUS_AGE_MAX);
        }
        let stale = now.monotonic.since(self.status_published) >= STATUS_INTERVAL;
        if stale
            || !asked_status.is_empty()
            || self.status_due.is_some_and(|due| due <= now.monotonic)
        {
            self.publish(now.monotonic);
        }
        for waiter in asked_status {
            let _ = waiter.send(self.node.inbox.status.borrow().clone());
        }
        self.arm(now.monotonic);
        more
    }

    fn control(&mut self, now: Now, control: Control) {
        let input = match control {
            Control::Cancel(ticket) => {
                if self.waiters.remove(&ticket).is_none() {
                    return;
                }
                Input::Cancel(ticket)
            }
            Control::Credit(stream, responses) => {
                if !self.streams.contains_key(&stream) {
                    return;
                }
                Input::WatchCredit { stream, responses }
            }
            Control::Closed(stream) => {
                if self.streams.remove(&stream).is_none() {
                    return;
                }
                Input::WatchClosed(stream)
            }
            Control::Transfer(target) => Input::Transfer { target },
            Control::Join(introduction) => Input::Join(introduction),
            Control::OpenSnapshot(waiter) => {
                let task = SnapshotTask::Open(waiter);
                let _ = self.node.disk.snapshots.send(task);
                return;
            }
            Control::EndWatches => {
                for (stream, _) in std::mem::take(&mut self.streams) {
                    self.node.replica.handle(now, Input::WatchClosed(stream));
                }
                return;
            }
            Control::Stop => {
                self.stopping = true;
                return;
            }
        };
        self.node.replica.handle(now, input);
    }

    fn peer_event(&mut self, now: Now, event: PeerEvent) {
        match event {
            PeerEvent::Message { from, message } => self
                .node
                .replica
                .handle(now, Input::Message { from, message }),
            PeerEvent::Lost { peer, refused } => self
                .node
                .replica
                .handle(now, Input::PeerLost { peer, refused }),
            PeerEvent::Greeted(party) => self.greeted(&party),
            PeerEvent::Departed => self.node.leave.notify_one(),
        }
    }

    fn greeted(&mut self, party: &Party) {
        self.node.peers.greeted(party);
        if self.node.members.told(party) {
            self.node
                .inbox
                .members
                .send_replace(self.node.members.clone());
        }
    }

    fn request(
        &mut self,
        now: Now,
        request: Request,
        asked_status: &mut Vec<oneshot::Sender<Arc<replica::Status>>>,
    ) {
        match request {
            Request::Ask {
                ticket,
                input,
                waiter,
                since,
            } => {
                // Its caller left while it was queued: nobody would hear of it, and nothing has happened yet.
                if waiter.is_closed() {
                    return;
                }
                if let Input::Propose { command, .. } = &input {
                    self.node.steps.admitted(command, since);
                }
                self.waiters.insert(ticket, waiter);
                self.node.replica.handle(now, input);
            }
            Request::Watch {
                stream,
                request,
                opening,
            } => {
                if let Some(opening) = opening
                    && !opening.is_closed()
                {
                    self.streams.insert(stream, opening);
                    self.node.replica.handle(
                        now,
                        Input::WatchCredit {
                            stream,
                            responses: WatchStream::CREDIT,
                        },
                    );
                }
                if self.streams.contains_key(&stream) {
                    self.node
                        .replica
                        .handle(now, Input::Watch { stream, request });
                }
            }
            Request::Status(waiter) => asked_status.push(waiter),
        }
    }

    /// Carries out one effect.
    fn effect(&mut self, effect: Effect) {
        let (log, snapshots) = (&self.node.disk.log, &self.node.disk.snapshots);
        // The threads end after this loop; a send that fails means one of them panicked, and its message is on stderr.
        let sent = match effect {
            Effect::Persist(persist) => {
                self.node.steps.handed(&persist);
                log.send(LogTask::Persist(persist)).is_ok()
            }
            // The state has them already: they are for a follower that is far behind.
            Effect::Fetch { from, .. } if from <= self.node.replica.applied() => {
                log.send(LogTask::Feed { from }).is_ok()
            }
            Effect::Fetch { from, bytes_max } => {
                log.send(LogTask::Fetch { from, bytes_max }).is_ok()
            }
            Effect::Release(upto) => log.send(LogTask::Release(upto)).is_ok(),
            Effect::Stage { id, offset, bytes } => snapshots
                .send(SnapshotTask::Stage { id, offset, bytes })
                .is_ok(),
            Effect::StageFinish {
                id,
                mark,
                bytes,
                checksum,
            } => snapshots
                .send(SnapshotTask::Finish {
                    id,
                    mark,
                    bytes,
                    checksum,
                })
                .is_ok(),
            Effect::StageAbort { id } => snapshots.send(SnapshotTask::Abort { id }).is_ok(),
            Effect::DiscardSnapshot(why) => snapshots.send(SnapshotTask::Discard(why)).is_ok(),
            Effect::ReadSnapshot {
                index,
                offset,
                bytes_max,
            } => snapshots
                .send(SnapshotTask::Read {
                    index,
                    offset,
                    bytes_max,
                })
                .is_ok(),
            other => {
                self.effect_in_memory(other);
                true
            }
        };
        assert!(sent, "a disk thread has ended while the member runs");
    }

    fn effect_in_memory(&mut self, effect: Effect) {
        match effect {
            Effect::Send { to, message } => self.node.peers.send(to, &message),
            Effect::Reply { ticket, outcome } => {
                if let Some(waiter) = self.waiters.remove(&ticket) {
                    let _ = waiter.send(outcome);
                }
            }
            Effect::WatchResponses { stream, responses } => {
                if let Some(sender) = self.streams.get(&stream) {
                    for response in responses {
                        let _ = sender.send(response);
                    }
                }
            }
            Effect::RoleChanged { role, term, leader } => {
                if leader.is_some() && leader != self.leader {
                    self.node.metrics.leader_changes.inc();
                    self.leader = leader;
                }
                if role == raft::Role::Leader {
                    self.node.metrics.leaderships.inc();
                }
                let leader = leader.map(|leader| self.node.members.name(leader.member));
                info!(?role, term = term.0, leader, "role changed");
                self.note_standing();
                self.status_due = Some(Instant(0));
            }
            Effect::ConfigurationChanged(configuration) => {
                debug!(?configuration, "configuration changed");
                self.node.peers.configure(&configuration);
                self.node.members.configure(configuration);
                self.node
                    .inbox
                    .members
                    .send_replace(self.node.members.clone());
                self.status_due = Some(Instant(0));
            }
            Effect::Halted(reason) => {
                error!(reason, "member halted: it answers nothing from now on")
            }
            Effect::StateDiffers(what) => {
                self.node.metrics.states_differ.inc();
                error!(what, "states of the members differ");
            }
            Effect::LocksChanged(names) => self.node.inbox.observers.changed(&names),
            Effect::StateReplaced => self.node.inbox.observers.all_changed(),
            Effect::Departed => {
                warn!("this member was removed from the cluster");
                self.node.leave.notify_one();
            }
            Effect::Reopen(why) => {
                self.reopen = Some(why);
                self.stopping = true;
            }
            Effect::SetTimer(at) => self.timer = Some(at),
            Effect::Persist(_)
            | Effect::Fetch { .. }
            | Effect::Release(_)
            | Effect::Stage { .. }
            | Effect::StageFinish { .. }
            | Effect::StageAbort { .. }
            | Effect::DiscardSnapshot(_)
            | Effect::ReadSnapshot { .. } => {
                unreachable!("the disk's effects are carried out before")
            }
        }
    }

    /// A member whose log lost entries is told apart durably until the others have made it good.
    fn note_standing(&mut self) {
        if self.entries_lost && self.node.replica.status().raft.standing == raft::Standing::Sound {
            self.entries_lost = false;
            let _ = self.node.disk.log.send(LogTask::Sound);
        }
    }

    fn publish(&mut self, now: Instant) {
        self.status_due = None;
        self.status_published = now;
        let status = self.node.replica.status();
        self.node.space.look(&status, &self.node.metrics);
        let departed = &status.raft.configuration_decided.departed;
        self.node.departed.send_if_modified(|told| {
            let new = told != departed;
            if new {
                told.clone_from(departed);
            }
            new
        });
        self.node.inbox.status.send_replace(Arc::new(status));
    }

    /// Sees to it that the loop wakes in time. An alarm that is too early stays: ringing once more is cheaper than setting it anew in each turn.
    fn arm(&mut self, now: Instant) {
        let wanted = [self.timer, self.status_due].into_iter().flatten().min();
        let Some(wanted) = wanted else { return };
        if self
            .armed
            .is_none_or(|armed| wanted < armed || armed <= now)
        {
            self.alarm.as_mut().reset(self.node.clock.deadline(wanted));
            self.armed = Some(wanted);
        }
    }
}

fn drain<T>(mut next: impl FnMut() -> Option<T>, into: &mut Vec<T>) {
    while into.len() < EVENTS_PER_TURN_MAX {
        match next() {
            Some(event) => into.push(event),
            None => return,
        }
    }
}
