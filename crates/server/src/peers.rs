//! Connections to the other members, from the side that dials.
//!
//! Each member dials every other one twice: a lane for the cell's messages and one for pieces of snapshots, so that bulk delays no heartbeat.
//! A lane carries messages one way; both sides therefore reconnect on their own and a one-way partition harms one direction only.
//! Queues are bounded: what does not fit, or meets a lane that is down, is dropped and counted. Consensus sends again.

use crate::greet::{self, DialError, Me};
use crate::metrics::{Metrics, PeerLink};
use crate::tls::Stream;
use crate::wire::{self, FrameKind, Party, Purpose};
use bytes::{Bytes, BytesMut};
use raft::{Configuration, PeerId};
use replica::Message;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::{debug, info, warn};

/// Messages waiting for a lane at most; more are dropped.
const QUEUE_MESSAGES_MAX: usize = 8192;
/// Bytes waiting for a lane at most (a message that finds an empty queue always fits). Above what consensus keeps in flight to one member.
const QUEUE_BYTES_MAX: usize = 16 << 20;
/// Bytes gathered for one write.
const WRITE_BYTES: usize = 64 << 10;
/// A lane asks whether the other side is still there this often.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// Questions that may go unanswered before the lane is given up: a healed partition is found by dialling anew, not by waiting for TCP.
const PINGS_UNANSWERED_MAX: u32 = 3;
/// Waits between attempts to connect double from the first to the second.
const REDIAL_WAIT: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];
/// After a lane closed, a dial that ends before the greeting is tried again this often: the other process is just going.
const REDIALS_AT_ONCE: u32 = 10;
/// The pause between such attempts.
const REDIAL_PAUSE: Duration = Duration::from_millis(2);
/// A conversation shorter than this was cut short, which may happen so often in a row before dials wait for longer and longer.
const SHORT: Duration = Duration::from_secs(1);
const SHORT_IN_A_ROW_MAX: u32 = 3;
/// How long a member that left is still spoken to.
const FAREWELL: Duration = Duration::from_secs(5);
/// Members that are not in the configuration but greeted this one, at most: a leader this member has not heard of yet is among them.
const STRANGERS_MAX: usize = 16;

/// What the connections tell the loop.
pub(crate) enum PeerEvent {
    /// A message arrived.
    Message { from: PeerId, message: Message },
    /// The lane for the cell's messages closed; `refused`: an immediate redial met no process.
    Lost { peer: PeerId, refused: bool },
    /// A member told who it is.
    Greeted(Party),
    /// A member told that this one was removed from the cluster.
    Departed,
}

/// All lanes of a member.
pub(crate) struct Peers {
    me: Arc<Me>,
    events: mpsc::Sender<PeerEvent>,
    metrics: Arc<Metrics>,
    links: BTreeMap<PeerId, Link>,
    /// Members that left, oldest first: they are still to hear that.
    leaving: VecDeque<(PeerId, Instant)>,
}

struct Link {
    addresses: Vec<String>,
    configured: bool,
    cell: Lane,
    bulk: Lane,
}

/// The loop's end of a lane. Dropping it ends the lane.
struct Lane {
    queue: mpsc::Sender<Bytes>,
    state: Arc<LaneState>,
    task: AbortHandle,
}

#[derive(Default)]
struct LaneState {
    up: AtomicBool,
    queued_bytes: AtomicUsize,
    /// The other side was just heard of: do not wait with the next dial.
    redial: Notify,
    /// Where the other side says it is. It has moved if the configuration says otherwise, which a leader that it does not hear cannot be told to change.
    told: Mutex<Vec<String>>,
}

impl LaneState {
    fn told(&self) -> Vec<String> {
        self.told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peers {
    pub(crate) fn new(
        me: Arc<Me>,
        events: mpsc::Sender<PeerEvent>,
        metrics: Arc<Metrics>,
    ) -> Peers {
        Peers {
            me,
            events,
            metrics,
            links: BTreeMap::new(),
            leaving: VecDeque::new(),
        }
    }

    /// Connects to the members of this configuration and forgets those that left it.
    ///
    /// Until a member admitted in place of another has replayed that the other left, both have one address: that leads to nobody but itself.
    pub(crate) fn configure(&mut self, configuration: &Configuration) {
        let mut wanted = BTreeMap::new();
        for (id, member) in &configuration.members {
            let peer = PeerId {
                member: *id,
                incarnation: member.incarnation,
            };
            if peer.member != self.me.id.member && member.peer_addresses != self.me.peer_addresses {
                wanted.insert(peer, member.peer_addresses.clone());
            }
        }
        let until = Instant::now() + FAREWELL;
        for (&peer, link) in &mut self.links {
            if link.configured && !wanted.contains_key(&peer) {
                link.configured = false;
                self.leaving.push_back((peer, until));
            }
        }
        self.dismiss();
        for (peer, addresses) in wanted {
            self.connect(peer, addresses, true);
        }
    }

    /// Forgets members that left long enough ago.
    fn dismiss(&mut self) {
        while self
            .leaving
            .front()
            .is_some_and(|(_, until)| *until <= Instant::now())
        {
            let (peer, _) = self.leaving.pop_front().expect("there is one");
            if self.links.get(&peer).is_some_and(|link| !link.configured) {
                self.links.remove(&peer);
            }
        }
    }

    /// Notes that a member greeted this one: it is there now, and if it is in no configuration known here this is where it can be reached.
    pub(crate) fn greeted(&mut self, party: &Party) {
        let peer = party.peer();
        if let Some(link) = self.links.get(&peer) {
            for lane in [&link.cell, &link.bulk] {
                let mut told = lane
                    .state
                    .told
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                told.clone_from(&party.peer_addresses);
                drop(told);
                lane.state.redial.notify_one();
            }
        } else if self.links.values().filter(|link| !link.configured).count() < STRANGERS_MAX {
            self.connect(peer, party.peer_addresses.clone(), false);
        }
    }

    fn connect(&mut self, peer: PeerId, addresses: Vec<String>, configured: bool) {
        if let Some(link) = self.links.get_mut(&peer)
            && link.addresses == addresses
        {
            link.configured = configured;
            return;
        }
        let cell = self.lane(peer, &addresses, Purpose::Cell);
        let bulk = self.lane(peer, &addresses, Purpose::Bulk);
        self.links.insert(
            peer,
            Link {
                addresses,
                configured,
                cell,
                bulk,
            },
        );
    }

    fn lane(&self, peer: PeerId, addresses: &[String], purpose: Purpose) -> Lane {
        let (queue, messages) = mpsc::channel(QUEUE_MESSAGES_MAX);
        let state = Arc::new(LaneState::default());
        let dialler = Dialler {
            me: self.me.clone(),
            peer,
            addresses: addresses.to_vec(),
            purpose,
            state: state.clone(),
            messages,
            events: self.events.clone(),
            metrics: self.metrics.clone(),
            complaint: String::new(),
        };
        Lane {
            queue,
            state,
            task: tokio::spawn(dialler.run()).abort_handle(),
        }
    }

    /// Queues a message, or drops it.
    pub(crate) fn send(&mut self, to: PeerId, message: &Message) {
        if !self.leaving.is_empty() {
            self.dismiss();
        }
        let Some(link) = self.links.get(&to) else {
            self.metrics.peer_messages_dropped_down.inc();
            return;
        };
        let lane = if message.is_bulk() {
            &link.bulk
        } else {
            &link.cell
        };
        if !lane.state.up.load(Relaxed) {
            self.metrics.peer_messages_dropped_down.inc();
            return;
        }
        let body = message.encode();
        let bytes = body.len();
        let queued = lane.state.queued_bytes.load(Relaxed);
        if (queued > 0 && queued + bytes > QUEUE_BYTES_MAX) || lane.queue.try_send(body).is_err() {
            self.metrics.peer_messages_dropped_full.inc();
            return;
        }
        lane.state.queued_bytes.fetch_add(bytes, Relaxed);
        self.metrics.peer_messages_sent.inc();
    }
}

/// The task of one lane: dials, greets, writes, and begins again.
struct Dialler {
    me: Arc<Me>,
    peer: PeerId,
    addresses: Vec<String>,
    purpose: Purpose,
    state: Arc<LaneState>,
    messages: mpsc::Receiver<Bytes>,
    events: mpsc::Sender<PeerEvent>,
    metrics: Arc<Metrics>,
    /// What was last complained about, so that it is said once.
    complaint: String,
}

impl Dialler {
    async fn run(mut self) {
        let mut wait = REDIAL_WAIT[0];
        let mut lost = false;
        let mut at_once = 0;
        let mut short = 0;
        loop {
            let dialled = self.dial().await;
            if lost
                && at_once < REDIALS_AT_ONCE
                && matches!(dialled, Err(DialError::Unreachable { hung_up: true, .. }))
            {
                at_once += 1;
                tokio::time::sleep(REDIAL_PAUSE).await;
                continue;
            }
            if std::mem::take(&mut lost) && self.purpose == Purpose::Cell {
                let refused = matches!(dialled, Err(DialError::NoProcess));
                let _ = self
                    .events
                    .send(PeerEvent::Lost {
                        peer: self.peer,
                        refused,
                    })
                    .await;
            }
            match dialled {
                Ok((stream, welcome)) => {
                    wait = REDIAL_WAIT[0];
                    at_once = 0;
                    self.complaint.clear();
                    let since = Instant::now();
                    self.connected(stream, welcome).await;
                    lost = true;
                    short = if since.elapsed() < SHORT {
                        short + 1
                    } else {
                        0
                    };
                    if short > SHORT_IN_A_ROW_MAX {
                        let doublings = (short - SHORT_IN_A_ROW_MAX).min(6);
                        let pause = REDIAL_WAIT[0] * 2u32.pow(doublings);
                        tokio::time::sleep(pause.min(REDIAL_WAIT[1])).await;
                    }
                }
                Err(error) => {
                    self.complain(&error);
                    if error == DialError::Departed {
                        let _ = self.events.send(PeerEvent::Departed).await;
                    }
                    // Not even: two members that start together should not keep missing each other.
                    let jitter = Duration::from_millis(u64::from(greet::random() as u8 % 16));
                    let _ = timeout(wait + jitter, self.state.redial.notified()).await;
                    wait = (wait * 2).min(REDIAL_WAIT[1]);
                }
            }
        }
    }

    /// Dials the member where the configuration says it is, then where it says so itself.
    async fn dial(&self) -> Result<(Stream, wire::Welcome), DialError> {
        let dialled = greet::dial(&self.me, self.peer, &self.addresses, self.purpose).await;
        let told = self.state.told();
        if dialled.is_ok() || told.is_empty() || told == self.addresses {
            return dialled;
        }
        let moved = greet::dial(&self.me, self.peer, &told, self.purpose).await;
        moved.or(dialled)
    }

    fn complain(&mut self, error: &DialError) {
        let text = error.to_string();
        if text == self.complaint {
            return;
        }
        let address = self.addresses.join(",");
        match error {
            DialError::Rejected(_) | DialError::Departed => {
                self.metrics.peer_refusals.inc();
                warn!(peer = %self.peer, address, reason = text, "connection to member refused");
            }
            DialError::NoProcess | DialError::NotYet | DialError::Unreachable { .. }
                if self.purpose == Purpose::Cell =>
            {
                info!(peer = %self.peer, address, reason = text, "member cannot be reached, trying on");
            }
            DialError::NoProcess | DialError::NotYet | DialError::Unreachable { .. } => {}
        }
        self.complaint = text;
    }

    /// Holds a conversation until it breaks.
    async fn connected(&mut self, stream: Stream, welcome: wire::Welcome) {
        self.metrics.peer_connects.inc();
        if self.purpose == Purpose::Cell {
            info!(peer = %self.peer, name = welcome.from.as_ref().map_or("", |party| &party.name), "connected to member");
            if let Some(party) = welcome.from {
                let _ = self.events.send(PeerEvent::Greeted(party)).await;
            }
        }
        while self.messages.try_recv().is_ok() {}
        self.state.queued_bytes.store(0, Relaxed);
        self.set_up(true);
        let reason = self.converse(stream).await;
        self.set_up(false);
        if self.purpose == Purpose::Cell {
            info!(peer = %self.peer, reason, "connection to member closed");
        } else {
            debug!(peer = %self.peer, reason, "bulk connection to member closed");
        }
    }

    fn set_up(&self, up: bool) {
        self.state.up.store(up, Relaxed);
        if self.purpose == Purpose::Cell {
            self.note_link(|link| link.connected = up);
        }
    }

    fn note_link(&self, note: impl FnOnce(&mut PeerLink)) {
        self.metrics.peer_links.note(self.peer.member.0, note);
    }

    async fn converse(&mut self, mut stream: Stream) -> String {
        let mut out = BytesMut::with_capacity(WRITE_BYTES);
        let mut incoming = BytesMut::with_capacity(64);
        let mut batch = Vec::new();
        let mut unanswered = 0;
        let mut asked: Option<Instant> = None;
        let round_trips = self.metrics.peer_round_trips.of(self.peer.member.0);
        let mut ping = interval(PING_INTERVAL);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Pongs before pings: a member that was stopped for a while must not take its own silence for the other's.
            tokio::select! {
                biased;
                read = stream.read_buf(&mut incoming) => match read {
                    Ok(0) => return "closed by the other side".into(),
                    Err(error) => return error.to_string(),
                    Ok(_) => match take_pongs(&mut incoming) {
                        Ok(()) => {
                            unanswered = 0;
                            if let Some(asked) = asked.take() {
                                let round_trip = asked.elapsed();
                                round_trips.observe(round_trip);
                                self.note_link(|link| link.round_trip = round_trip);
                            }
                        }
                        Err(reason) => return reason,
                    }
                },
                taken = self.messages.recv_many(&mut batch, 256) => {
                    if taken == 0 {
                        return "no longer wanted".into();
                    }
                }
                _ = ping.tick() => {
                    if unanswered >= PINGS_UNANSWERED_MAX {
                        return format!("no answer to {unanswered} pings");
                    }
                    unanswered += 1;
                    asked = (self.purpose == Purpose::Cell).then(Instant::now);
                    wire::put_frame(&mut out, FrameKind::Ping, &[]);
                }
            }
            for body in batch.drain(..) {
                self.state.queued_bytes.fetch_sub(body.len(), Relaxed);
                wire::put_frame(&mut out, FrameKind::Message, &body);
                if out.len() >= WRITE_BYTES
                    && let Err(reason) = write(&mut stream, &mut out, &self.metrics).await
                {
                    return reason;
                }
            }
            if let Err(reason) = write(&mut stream, &mut out, &self.metrics).await {
                return reason;
            }
        }
    }
}

/// Takes what the other side may send on a lane: answers to pings.
fn take_pongs(incoming: &mut BytesMut) -> Result<(), String> {
    while let Some(frame) =
        wire::take_frame(incoming, wire::GREETING_BYTES_MAX).map_err(|error| error.to_string())?
    {
        if frame.kind != FrameKind::Pong {
            return Err("it sent what only a dialling member sends".into());
        }
    }
    Ok(())
}

/// Writes and empties the buffer, within the time a living member needs to make room.
async fn write(stream: &mut Stream, out: &mut BytesMut, metrics: &Metrics) -> Result<(), String> {
    if out.is_empty() {
        return Ok(());
    }
    match timeout(PING_INTERVAL * PINGS_UNANSWERED_MAX, stream.send(out)).await {
        Ok(Ok(())) => {
            metrics.peer_bytes_sent.add(out.len() as u64);
            out.clear();
            if out.capacity() > 4 * WRITE_BYTES {
                *out = BytesMut::with_capacity(WRITE_BYTES);
            }
            Ok(())
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("it takes no more bytes".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft::{Member, MemberId};

    #[tokio::test]
    async fn nobody_is_dialled_at_ones_own_address() {
        let me = Arc::new(greet::tests::me(9, 7));
        let (events, _) = mpsc::channel(1);
        let mut peers = Peers::new(me.clone(), events, Arc::default());
        let member = |address: &str| Member {
            peer_addresses: vec![address.into()],
            ..Member::default()
        };
        let mut configuration = Configuration::default();
        let predecessor = MemberId(1);
        configuration.members.insert(predecessor, member("h:1"));
        configuration.members.insert(MemberId(2), member("h:3"));
        configuration.members.insert(MemberId(9), member("h:1"));
        peers.configure(&configuration);
        let dialled: Vec<u64> = peers.links.keys().map(|peer| peer.member.0).collect();
        assert_eq!(dialled, [2]);

        // Who moves away is dialled where it went.
        configuration.members.insert(predecessor, member("h:4"));
        peers.configure(&configuration);
        assert_eq!(peers.links.len(), 2);
    }
}
