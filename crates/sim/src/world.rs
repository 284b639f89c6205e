//! The world: true time, the queue of what is to happen, and the machines, links and clients it happens to. Everything follows from the seed.

mod afflict;
mod aim;
mod bootstrap;
mod mail;
mod operator;
mod phases;
mod processes;
mod requests;
mod settings;

use crate::clients::{Action, Clients, Load, Outcome};
use crate::clock::{Clock, Micros};
use crate::director::Director;
use crate::faults::{Fault, Planned};
use crate::member::{Common, Member, Process, StartError, Started};
use crate::network::{Network, Weather};
use crate::oracle::{Check, Consensus, History, Leases, Own, ReplicatedClock, Request, Violation};
use crate::queue::Queue;
use crate::rng::Rng;
use crate::timeline::{Timeline, What, Window, words};
use crate::trace::Trace;
use log::memory_disk::{DiskCounts, Platter, Survival};
use raft::{Configuration, PeerId};
use replica::{
    AutoCompaction, Body, BootstrapMessage, Consistency, Failure, Input, MemberChange, Message,
    Response, StreamId, Ticket, WatchRequest, WatchResponse,
};
use state::auth::Caller;
use std::collections::BTreeMap;
use std::time::Duration;

/// Time between two looks at what must hold at any time.
const LOOK_EVERY: Micros = 50_000;

/// A member gives up a request of which it hears nothing within seven seconds.
const GIVEN_UP_AFTER: Micros = 8_000_000;

/// What can happen.
pub(crate) enum Event {
    /// A message arrives.
    Deliver {
        from: usize,
        to: usize,
        /// Who they were when it was sent.
        sender: PeerId,
        addressee: PeerId,
        message: Message,
    },
    /// A question or answer of members that look for their cluster arrives.
    Bootstrap {
        from: usize,
        to: usize,
        /// The process that asks, whose connection it is.
        asker: u64,
        message: BootstrapMessage,
    },
    /// A process that looks for its cluster gets time.
    Asking { member: usize, life: u64 },
    /// A machine whose disk cannot be used gets another; then its process starts.
    NewDisk(usize),
    /// An operator stops a member that was removed.
    Retire(usize),
    /// A connection was seen to close.
    PeerLost { at: usize, peer: usize },
    /// A member's loop runs.
    Turn { member: usize, life: u64 },
    /// A member's timer is due.
    Timer {
        member: usize,
        life: u64,
        generation: u64,
    },
    /// The log's thread has finished.
    LogDone { member: usize, life: u64 },
    /// The log's thread tries a failed sync again.
    LogRetry {
        member: usize,
        life: u64,
        newest: u64,
    },
    /// The snapshots' thread has finished.
    SnapshotDone { member: usize, life: u64 },
    /// A client's request arrives.
    Ask {
        client: usize,
        member: usize,
        request: u64,
        body: Request,
    },
    /// An answer arrives at its client.
    Answer {
        client: usize,
        request: u64,
        outcome: Outcome,
    },
    /// Something arrives on a watch stream at the member.
    OnStream { stream: StreamId, what: ToStream },
    /// Watch responses arrive at the client.
    Responses {
        stream: StreamId,
        responses: Vec<WatchResponse>,
    },
    /// A client learns that its stream broke.
    StreamLost { client: usize, stream: StreamId },
    /// A client nobody waits for any more.
    Cancel { member: usize, request: u64 },
    /// A client wants to be called.
    Wake { client: usize, token: u64 },
    /// A process that could not start is started again.
    Start(usize),
    /// A fault of the schedule.
    Fault(usize),
    /// What a fault that aims does, or mends.
    Aimed(Fault),
    /// Messages that were kept back arrive.
    Release(u64),
    /// A look at what must hold at any time.
    Look,
    /// A phase begins.
    Phase(Phase),
    /// Whoever steps through the world wants to stop here.
    Pause,
}

/// What a client does on a stream.
pub(crate) enum ToStream {
    Request(WatchRequest),
    Credit(u32),
    Close,
}

/// The phases of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Everything is mended; requests go on.
    Heal,
    /// From now on every request must succeed.
    MustServe,
    /// Clients ask nothing new.
    Close,
    /// Everything must have come to rest.
    End,
}

impl Phase {
    fn sentence(self) -> &'static str {
        match self {
            Phase::Heal => "everything is mended",
            Phase::MustServe => "from now on every request must succeed",
            Phase::Close => "clients ask nothing new",
            Phase::End => "everything must have come to rest",
        }
    }
}

/// A request between a client and a member.
struct InFlight {
    client: usize,
    member: usize,
    asked_at: Micros,
    /// What may be said of how it ends, beside that it does.
    kind: FlightKind,
}

/// Who is needed to answer a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FlightKind {
    /// A quorum.
    Decided,
    /// Nobody but a member that serves: it is a local read.
    Alone,
    /// Nobody but a member that serves, if only for a refusal: it is a bounded read.
    Bounded,
}

/// A watch stream between a client and a member.
struct Stream {
    client: usize,
    member: usize,
    life: u64,
    /// Responses it may still take, as the member knows.
    credit: u64,
    /// Latest arrival planned in each direction, to keep its order.
    up: Micros,
    down: Micros,
}

/// A message of the past.
pub(crate) struct OldMessage {
    pub(crate) from: (usize, PeerId),
    pub(crate) to: (usize, PeerId),
    pub(crate) message: Message,
}

/// Little room, and history that is not kept for long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tight {
    /// The limit on bytes of every second member; that of the others is half as much again.
    pub(crate) bytes_max: u64,
    /// How long members keep history.
    pub(crate) retention: Micros,
}

impl Tight {
    /// What the member of this number is set to.
    fn limit(self, member: usize) -> u64 {
        self.bytes_max + self.bytes_max / 2 * (member as u64 % 2)
    }

    fn own(self) -> Own {
        Own {
            limits: (0..2).map(|member| self.limit(member)).collect(),
            retention: Some(self.retention),
        }
    }
}

/// What a world is made with.
pub(crate) struct Setup {
    pub seed: u64,
    pub members: usize,
    /// Machines that may become members.
    pub spares: usize,
    /// Members are far apart.
    pub far_apart: bool,
    pub faults: Vec<Planned>,
    pub heal_at: Micros,
    pub load: Load,
    pub tight: Option<Tight>,
    pub drifts: bool,
    pub trace: bool,
    pub timeline: Option<Window>,
    /// Somebody directs, with these settings of consensus and plain ones else, and there is time without end.
    pub directed: Option<raft::Settings>,
}

/// The world.
pub(crate) struct World {
    pub(crate) now: Micros,
    pub(crate) queue: Queue<Event>,
    pub(crate) members: Vec<Member>,
    pub(crate) network: Network,
    pub(crate) clients: Clients,
    pub(crate) common: Common,
    pub(crate) consensus: Consensus,
    pub(crate) history: History,
    pub(crate) leases: Leases,
    pub(crate) replicated_clock: ReplicatedClock,
    pub(crate) trace: Trace,
    pub(crate) timeline: Timeline,
    pub(crate) director: Option<Director>,
    pub(crate) violation: Option<Violation>,
    pub(crate) rng: Rng,
    /// Shortest time of a disk operation.
    pub(crate) disk_speed: Micros,
    faults: Vec<Planned>,
    aims: aim::Aims,
    in_flight: BTreeMap<u64, InFlight>,
    /// What each client was let in by last.
    let_in: BTreeMap<usize, Caller>,
    streams: BTreeMap<StreamId, Stream>,
    /// All lose power at the next acknowledged change; this survives of the unsynced.
    power_fails_at_reply: Option<Survival>,
    /// When everything is to be mended.
    heal_at: Micros,
    /// When everything was healed; requests asked some time after must succeed.
    healed_at: Option<Micros>,
    must_serve_from: Option<Micros>,
    /// A leader whose disk stands still while others could lead: its write of this number waits, since when.
    stuck: Option<(usize, u64, Micros)>,
    ended: bool,
    /// When everything must have come to rest at the latest.
    rests_by: Micros,
    /// How many voters there are at least: those the cluster began with.
    voters_min: usize,
    /// Messages of the past, kept if they are to come again.
    old_messages: Option<Vec<OldMessage>>,
    /// Number of the operator's last request.
    operator: u64,
    /// The operator says what is to change, to any member, instead of what is to be, to the leader.
    asks_any: bool,
    /// What it asked so, until it hears what came of it.
    wanted: BTreeMap<u64, Vec<MemberChange>>,
    pub(crate) counts: Counts,
}

/// What happened, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events handled.
    pub events: u64,
    /// Turns of members' loops.
    pub turns: u64,
    /// Messages sent between members.
    pub messages: u64,
    /// Process starts after the first.
    pub restarts: u64,
    /// Power losses.
    pub power_losses: u64,
    /// Snapshots written by members or received from others.
    pub snapshots: u64,
    /// Snapshots that replaced a member's log.
    pub installs: u64,
    /// Disks that were replaced by empty ones.
    pub wiped_disks: u64,
    /// Members that came back without entries they had acknowledged, and were made good by the others.
    pub entries_lost: u64,
    /// Members that lost the record of their votes and went on as the next incarnation.
    pub votes_lost: u64,
    /// Changes of the members that were asked for.
    pub changes: u64,
    /// Features switched on.
    pub switched_on: u64,
}

impl World {
    pub(crate) fn new(setup: Setup) -> World {
        let Setup {
            seed,
            members,
            spares,
            far_apart,
            faults,
            heal_at,
            load,
            tight,
            drifts,
            trace,
            timeline,
            directed,
        } = setup;
        let mut rng = Rng::fork(seed, 1);
        let mut common = settings::draw_common(&mut rng);
        if far_apart {
            // A batch takes a round trip: removals would not be written down before the end.
            common.replica.state.removal_keys_per_batch = 256;
        }
        let is_directed = directed.is_some();
        common.publishes = !is_directed;
        if let Some(raft) = directed {
            common.replica.raft = raft;
        }
        let mut history = History::new();
        if let Some(tight) = tight {
            let retention = Duration::from_micros(tight.retention);
            common.replica.auto_compaction = AutoCompaction::Periodic(retention);
            history.expect_own(tight.own());
        }
        let names: Vec<String> = (0..members).map(|n| format!("n{}", n + 1)).collect();
        let mut machines = Vec::new();
        for n in 0..members + spares {
            let drift = if drifts {
                rng.between(0, 20_000) as i64 - 10_000
            } else {
                0
            };
            let (lane, mut listed) = (format!("n{}", n + 1), names.clone());
            if n >= members {
                listed.push(lane.clone());
            }
            let platter = Platter::new(rng.next());
            let clock = Clock::new(0, rng.below(1 << 40), drift);
            let mut machine = Member::new(lane, platter, clock, listed);
            machine.in_service = n < members;
            machine.bytes_max = tight.map(|tight| tight.limit(n));
            machines.push(machine);
        }
        let mut network = Network::new(members + spares, Rng::fork(seed, 2));
        if far_apart {
            network.spread();
        }
        let leases = Leases::new(members + spares, network.distance_max());
        let heartbeat = common.replica.raft.heartbeat.as_micros() as Micros;
        let replicated_clock = ReplicatedClock::new(members + spares, heartbeat);
        let replays = faults
            .iter()
            .any(|planned| matches!(planned.fault, Fault::Replay(_)));
        let mut world = World {
            now: 0,
            queue: Queue::new(),
            members: machines,
            network,
            clients: Clients::new(load, members + spares, Rng::fork(seed, 3)),
            common,
            consensus: Consensus::new(members + spares),
            history,
            leases,
            replicated_clock,
            trace: Trace::new(trace),
            timeline: Timeline::new(timeline),
            director: is_directed.then(Director::default),
            violation: None,
            disk_speed: *rng.pick(&[50, 100, 1_000, 5_000]),
            rng,
            faults,
            aims: aim::Aims::default(),
            in_flight: BTreeMap::new(),
            let_in: BTreeMap::new(),
            streams: BTreeMap::new(),
            power_fails_at_reply: None,
            heal_at,
            healed_at: None,
            must_serve_from: None,
            stuck: None,
            ended: false,
            rests_by: Micros::MAX,
            voters_min: members,
            old_messages: replays.then(Vec::new),
            operator: 0,
            asks_any: tight.is_some() || load.users,
            wanted: BTreeMap::new(),
            counts: Counts::default(),
        };
        if !is_directed {
            world.plan_phases(heal_at);
        }
        world.queue.plan(LOOK_EVERY, Event::Look);
        for member in 0..members {
            world.start(member);
        }
        if is_directed {
            world.found_at_once();
        }
        world.counts.restarts = 0;
        world.carry_out_wishes();
        world
    }

    fn plan_phases(&mut self, heal_at: Micros) {
        for position in 0..self.faults.len() {
            let at = self.faults[position].at;
            if at < heal_at {
                self.queue.plan(at, Event::Fault(position));
            }
        }
        let settled = heal_at + 4_000_000;
        self.rests_by = settled + 76_000_000;
        for (at, phase) in [
            (heal_at, Phase::Heal),
            (settled, Phase::MustServe),
            (settled + 6_000_000, Phase::Close),
            (settled + 16_000_000, Phase::End),
        ] {
            self.queue.plan(at, Event::Phase(phase));
        }
    }

    /// Lets happen what is to happen, until the end or the first violation.
    pub(crate) fn run(&mut self) {
        while self.step() {}
    }

    /// Lets the next thing happen; says no at the end and after a violation.
    pub(crate) fn step(&mut self) -> bool {
        if self.ended || self.violation.is_some() {
            return false;
        }
        let Some((at, event)) = self.queue.next() else {
            return false;
        };
        assert!(at >= self.now, "time goes back from {} to {at}", self.now);
        self.now = at;
        self.counts.events += 1;
        self.happen(event);
        self.carry_out_wishes();
        true
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver {
                from,
                to,
                sender,
                addressee,
                message,
            } => self.deliver((from, sender), (to, addressee), message),
            Event::Bootstrap {
                from,
                to,
                asker,
                message,
            } => self.bootstrap_message(from, to, asker, message),
            Event::Asking { member, life } => self.asking(member, life),
            Event::NewDisk(member) => self.new_disk(member),
            Event::Retire(member) => self.retire(member),
            Event::PeerLost { at, peer } => self.peer_lost(at, peer),
            Event::Turn { member, life } => self.turn(member, life),
            Event::Timer {
                member,
                life,
                generation,
            } => self.timer(member, life, generation),
            Event::LogDone { member, life } => self.log_done(member, life),
            Event::LogRetry {
                member,
                life,
                newest,
            } => self.log_retry(member, life, newest),
            Event::SnapshotDone { member, life } => self.snapshot_done(member, life),
            Event::Ask {
                client,
                member,
                request,
                body,
            } => self.ask(client, member, request, body),
            Event::Answer {
                client,
                request,
                outcome,
            } => match &mut self.director {
                Some(director) => director.on_outcome(request, outcome),
                None => self.clients.on_outcome(client, request, &outcome),
            },
            Event::OnStream { stream, what } => self.on_stream(stream, what),
            Event::Responses { stream, responses } => self.responses(stream, &responses),
            Event::StreamLost { client, stream } => self.clients.on_stream_lost(client, stream),
            Event::Cancel { member, request } => self.cancel(member, request),
            Event::Wake { client, token } => {
                self.clients.on_wake(client, token, self.history.model())
            }
            Event::Start(member) => self.start(member),
            Event::Fault(position) => self.planned_fault(position),
            Event::Aimed(fault) => self.aimed_fault(fault),
            Event::Release(number) => self.release(number),
            Event::Look => self.look(),
            Event::Phase(phase) => self.phase(phase),
            Event::Pause => {}
        }
    }

    /// Notes the first broken promise; the run ends with it.
    pub(crate) fn judge(&mut self, check: Check) {
        if let Err((property, text)) = check {
            self.fail(property, text);
        }
    }

    /// See [`World::judge`].
    pub(crate) fn fail(&mut self, property: &'static str, text: String) {
        if self.violation.is_none() {
            let at = self.now;
            self.trace
                .note(at, "", &[], || format!("VIOLATION of {property}: {text}"));
            self.timeline.note(at, None, || What::Violation {
                property,
                text: text.clone(),
            });
            self.violation = Some(Violation { at, property, text });
        }
    }

    /// Puts an input before a member, for its next turn.
    pub(crate) fn give(&mut self, member: usize, input: Input) {
        if let Some(process) = &mut self.members[member].process {
            process.inbox.push_back(input);
            self.plan_turn(member);
        }
    }

    fn deliver(
        &mut self,
        (from, sender): (usize, PeerId),
        (to, addressee): (usize, PeerId),
        message: Message,
    ) {
        let machine = &self.members[to];
        // Addresses are those of members: what was meant for a former incarnation comes to the present one, which is to see that.
        let is_there = machine.process.is_some() && machine.id.member == addressee.member;
        if is_there && !self.network.is_cut(from, to) {
            self.give(
                to,
                Input::Message {
                    from: sender,
                    message,
                },
            );
        }
    }

    fn peer_lost(&mut self, at: usize, peer: usize) {
        let refused = self.members[peer].process.is_none();
        let id = self.members[peer].id;
        self.trace.note(
            self.now,
            &self.members[at].lane,
            &[20, peer as u64, u64::from(refused)],
            || {
                format!(
                    "its connection to n{} closed{}",
                    peer + 1,
                    if refused { ", a redial is refused" } else { "" }
                )
            },
        );
        self.give(at, Input::PeerLost { peer: id, refused });
    }

    /// What the disks did.
    pub(crate) fn disk_counts(&self) -> Vec<DiskCounts> {
        self.members
            .iter()
            .map(|machine| machine.platter.counts())
            .collect()
    }
}
