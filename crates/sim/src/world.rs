//! The world: true time, the queue of what is to happen, and the machines, links and clients it happens to. Everything follows from the seed.

mod requests;

use crate::clients::{Action, Clients, Load, Outcome};
use crate::clock::{Clock, Micros};
use crate::faults::{Fault, Planned};
use crate::member::{Common, Member, StartError};
use crate::network::{Network, Weather};
use crate::oracle::{Check, Consensus, History, Leases, Request, Violation};
use crate::queue::Queue;
use crate::rng::Rng;
use crate::run::Plant;
use crate::timeline::{Timeline, What, Window, words};
use crate::trace::Trace;
use log::memory_disk::{DiskCounts, Platter, Survival};
use raft::{Configuration, Incarnation, MemberId, PeerId};
use replica::{
    Body, Failure, Input, Message, Response, StreamId, Ticket, WatchRequest, WatchResponse,
};
use std::collections::BTreeMap;

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
        message: Message,
    },
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
    /// A look at what must hold at any time.
    Look,
    /// A phase begins.
    Phase(Phase),
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
}

/// A watch stream between a client and a member.
struct Stream {
    client: usize,
    member: usize,
    life: u64,
    /// Latest arrival planned in each direction, to keep its order.
    up: Micros,
    down: Micros,
}

/// What a world is made with.
pub(crate) struct Setup {
    pub seed: u64,
    pub members: usize,
    pub faults: Vec<Planned>,
    pub heal_at: Micros,
    pub load: Load,
    pub drifts: bool,
    pub plant: Option<Plant>,
    pub trace: bool,
    pub timeline: Option<Window>,
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
    pub(crate) trace: Trace,
    pub(crate) timeline: Timeline,
    pub(crate) violation: Option<Violation>,
    pub(crate) plant: Option<Plant>,
    pub(crate) rng: Rng,
    /// Shortest time of a disk operation.
    pub(crate) disk_speed: Micros,
    faults: Vec<Planned>,
    in_flight: BTreeMap<u64, InFlight>,
    streams: BTreeMap<StreamId, Stream>,
    /// All lose power at the next acknowledged change; this survives of the unsynced.
    power_fails_at_reply: Option<Survival>,
    /// When everything was healed; requests asked some time after must succeed.
    healed_at: Option<Micros>,
    must_serve_from: Option<Micros>,
    ended: bool,
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
}

impl World {
    pub(crate) fn new(setup: Setup) -> World {
        let Setup {
            seed,
            members,
            faults,
            heal_at,
            load,
            drifts,
            plant,
            trace,
            timeline,
        } = setup;
        let mut rng = Rng::fork(seed, 1);
        let ids: Vec<PeerId> = (0..members)
            .map(|_| PeerId {
                member: MemberId(rng.next() | 1),
                incarnation: Incarnation(1),
            })
            .collect();
        let common = draw_common(&ids, &mut rng);
        let mut machines = Vec::new();
        for (n, id) in ids.iter().enumerate() {
            let drift = if drifts {
                rng.between(0, 20_000) as i64 - 10_000
            } else {
                0
            };
            machines.push(Member {
                id: *id,
                lane: format!("n{}", n + 1),
                platter: Platter::new(rng.next()),
                clock: Clock::new(0, rng.below(1 << 40), drift),
                process: None,
                paused: false,
                life: 0,
            });
        }
        let mut world = World {
            now: 0,
            queue: Queue::new(),
            members: machines,
            network: Network::new(members, Rng::fork(seed, 2)),
            clients: Clients::new(load, members, Rng::fork(seed, 3)),
            common,
            consensus: Consensus::new(members),
            history: History::new(),
            leases: Leases::default(),
            trace: Trace::new(trace),
            timeline: Timeline::new(timeline),
            violation: None,
            plant,
            disk_speed: *rng.pick(&[50, 100, 1_000, 5_000]),
            rng,
            faults,
            in_flight: BTreeMap::new(),
            streams: BTreeMap::new(),
            power_fails_at_reply: None,
            healed_at: None,
            must_serve_from: None,
            ended: false,
            counts: Counts::default(),
        };
        world.plan_phases(heal_at);
        for member in 0..members {
            world.start(member);
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
        for (at, phase) in [
            (heal_at, Phase::Heal),
            (settled, Phase::MustServe),
            (settled + 6_000_000, Phase::Close),
            (settled + 12_000_000, Phase::End),
        ] {
            self.queue.plan(at, Event::Phase(phase));
        }
        self.queue.plan(LOOK_EVERY, Event::Look);
    }

    /// Lets happen what is to happen, until the end or the first violation.
    pub(crate) fn run(&mut self) {
        while !self.ended && self.violation.is_none() {
            let Some((at, event)) = self.queue.next() else {
                return;
            };
            assert!(at >= self.now, "time goes back from {} to {at}", self.now);
            self.now = at;
            self.counts.events += 1;
            self.happen(event);
            self.carry_out_wishes();
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { from, to, message } => self.deliver(from, to, message),
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
            } => self.clients.on_outcome(client, request, &outcome),
            Event::OnStream { stream, what } => self.on_stream(stream, what),
            Event::Responses { stream, responses } => self.responses(stream, &responses),
            Event::StreamLost { client, stream } => self.clients.on_stream_lost(client, stream),
            Event::Cancel { member, request } => self.cancel(member, request),
            Event::Wake { client, token } => {
                self.clients.on_wake(client, token, self.history.model())
            }
            Event::Start(member) => self.start(member),
            Event::Fault(position) => self.fault(position),
            Event::Look => self.look(),
            Event::Phase(phase) => self.phase(phase),
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

    fn deliver(&mut self, from: usize, to: usize, message: Message) {
        if self.members[to].process.is_some() && !self.network.is_cut(from, to) {
            let sender = self.members[from].id;
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

    // Processes.

    pub(crate) fn start(&mut self, member: usize) {
        if self.members[member].process.is_some() {
            return;
        }
        let boot = self.rng.next();
        let forget_vote = self.plant == Some(Plant::ForgetVote);
        let machine = &mut self.members[member];
        let now = machine.clock.read(self.now);
        match machine.start(&self.common, boot, now, forget_vote) {
            Ok(recovery) => {
                let last = recovery.last;
                self.trace
                    .note(self.now, &self.members[member].lane, &[21, last.0], || {
                        format!("starts with a log up to {last}")
                    });
                self.timeline
                    .note(self.now, Some(member), || What::Starts { last: last.0 });
                let check = self.consensus.on_recovery(member, recovery);
                self.judge(check);
                self.counts.restarts += 1;
                self.plan_turn(member);
            }
            Err(StartError::Disk(text)) => {
                // Whoever watches over processes starts it again.
                self.trace
                    .note(self.now, &self.members[member].lane, &[27], || {
                        format!("cannot start: {text}")
                    });
                self.timeline
                    .note(self.now, Some(member), || What::CannotStart(text));
                self.members[member].platter.crash();
                self.queue.plan(self.now + 300_000, Event::Start(member));
            }
            Err(StartError::Stopped) => self.members[member].platter.crash(),
            Err(StartError::Refused(text)) => self.fail(
                "R1",
                format!("n{} does not start on a sound disk: {text}", member + 1),
            ),
        }
    }

    /// Takes a process down; with the power, if `survival` says what survives of the unsynced.
    pub(crate) fn stop(&mut self, member: usize, survival: Option<Survival>) {
        let machine = &mut self.members[member];
        let ran = machine.process.take().is_some();
        machine.paused = false;
        match survival {
            None => machine.platter.crash(),
            Some(survival) => {
                machine.platter.lose_power(survival);
                machine.clock =
                    Clock::new(self.now, self.rng.below(1 << 40), machine.clock.drift());
                self.counts.power_losses += 1;
            }
        }
        if !ran {
            return;
        }
        self.consensus.on_stop(member);
        let how = if survival.is_some() {
            "is without power"
        } else {
            "is dead"
        };
        self.trace.note(
            self.now,
            &self.members[member].lane,
            &[22, u64::from(survival.is_some())],
            || how.into(),
        );
        self.timeline.note(self.now, Some(member), || What::Dies {
            power: survival.is_some(),
        });
        self.lose_clients(member);
        for other in 0..self.members.len() {
            // A dead process's kernel closes its connections; a machine without power is silent.
            if other != member && survival.is_none() && self.network.connected(member, other) {
                let at = self.now + self.rng.between(100, 2_000);
                self.queue.plan(
                    at,
                    Event::PeerLost {
                        at: other,
                        peer: member,
                    },
                );
            }
        }
    }

    /// All connections of clients to a member break.
    fn lose_clients(&mut self, member: usize) {
        let requests: Vec<u64> = self
            .in_flight
            .iter()
            .filter(|(_, flight)| flight.member == member)
            .map(|(id, _)| *id)
            .collect();
        for request in requests {
            let flight = self.in_flight.remove(&request).expect("just seen");
            self.history.on_lost(request, self.now);
            let at = self.now + self.rng.between(100, 2_000);
            self.queue.plan(
                at,
                Event::Answer {
                    client: flight.client,
                    request,
                    outcome: Outcome::Lost,
                },
            );
        }
        let streams: Vec<StreamId> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.member == member)
            .map(|(id, _)| *id)
            .collect();
        for stream in streams {
            let client = self.streams.remove(&stream).expect("just seen").client;
            let at = self.now + self.rng.between(100, 2_000);
            self.queue.plan(at, Event::StreamLost { client, stream });
        }
    }

    fn fault(&mut self, position: usize) {
        let fault = self.faults[position].fault.clone();
        self.trace
            .note(self.now, "", &[23, position as u64], || fault.to_string());
        self.timeline
            .note(self.now, None, || What::Fault(fault.clone()));
        match fault {
            Fault::Crash(member) => self.stop(member, None),
            Fault::CrashAtEffect(member, effects) => {
                if let Some(process) = &mut self.members[member].process {
                    process.doomed_after = Some(effects);
                }
            }
            Fault::CrashAtDisk(member, operations, survival) => {
                if self.members[member].process.is_some() {
                    self.members[member].platter.set_fuse(operations, survival);
                }
            }
            Fault::PowerLoss(member, survival) => self.stop(member, Some(survival)),
            Fault::PowerLossAtReply(survival) => self.power_fails_at_reply = Some(survival),
            Fault::PowerLossAll(survival) => {
                (0..self.members.len()).for_each(|member| self.stop(member, Some(survival)))
            }
            Fault::Start(member) => self.start(member),
            Fault::Cut(links) => links
                .iter()
                .for_each(|(from, to)| self.network.set_cut(*from, *to, true)),
            Fault::Heal => self.network.heal(),
            Fault::Pause(member) => {
                self.members[member].paused = self.members[member].process.is_some()
            }
            Fault::Resume(member) => self.resume(member),
            Fault::Weather(weather) => self.network.set_weather(weather),
            Fault::StepWall(member, by_ms) => self.members[member].clock.step_wall(by_ms),
            Fault::Drift(member, drift) => self.members[member].clock.set_drift(self.now, drift),
            Fault::Disconnect(a, b) => {
                for (at, peer) in [(a, b), (b, a)] {
                    let when = self.now + self.rng.between(1, 500);
                    self.queue.plan(when, Event::PeerLost { at, peer });
                }
            }
            Fault::Transfer(member) => self.give(member, Input::Transfer { target: None }),
            Fault::Capacity(member, bytes) => self.members[member].platter.set_capacity(bytes),
            Fault::FailSyncs(member, count) => self.members[member].platter.fail_syncs(count),
        }
    }

    fn resume(&mut self, member: usize) {
        if std::mem::take(&mut self.members[member].paused) {
            self.wake_threads(member);
        }
    }

    // Clients.

    /// Somebody leads, and can: it hears a majority, and something of its term is decided.
    fn led(&self) -> bool {
        let Some(leader) = self.consensus.leader() else {
            return false;
        };
        let works =
            |member: usize| self.members[member].process.is_some() && !self.members[member].paused;
        let reached = (0..self.members.len()).filter(|other| {
            works(*other) && (*other == leader || self.network.connected(leader, *other))
        });
        let weather = self.network.weather();
        works(leader)
            && reached.count() > self.members.len() / 2
            && weather.loss <= 50
            && weather.latency_extra <= 5_000
            && self.consensus.leads_decided(leader)
    }

    fn look(&mut self) {
        let led = self.led();
        self.leases.sample(self.now, led);
        let check = self.leases.check_lateness(self.history.model(), self.now);
        self.judge(check);
        self.check_overdue();
        self.queue.plan(self.now + LOOK_EVERY, Event::Look);
    }

    /// V1: every request ends. One that a fault swallowed may take until the member gives it up; once faults are over, all end soon.
    fn check_overdue(&mut self) {
        let Some(healed_at) = self.healed_at else {
            return;
        };
        let overdue = |asked_at: Micros| {
            let serves = self.must_serve_from.is_some_and(|from| asked_at >= from);
            self.now
                > if serves {
                    asked_at + 1_000_000
                } else {
                    asked_at.max(healed_at) + GIVEN_UP_AFTER
                }
        };
        let mut flights = self.in_flight.iter();
        if let Some((request, flight)) = flights.find(|(_, flight)| overdue(flight.asked_at)) {
            let (waited, member) = (self.now - flight.asked_at, flight.member + 1);
            self.fail(
                "V1",
                format!("request {request} to n{member} has no answer after {waited} us"),
            );
        }
    }

    fn phase(&mut self, phase: Phase) {
        self.trace.note(self.now, "", &[24, phase as u64], || {
            format!("phase: {phase:?}")
        });
        self.timeline
            .note(self.now, None, || What::Note(phase.sentence().into()));
        match phase {
            Phase::Heal => self.heal(),
            Phase::MustServe => {
                self.must_serve_from = Some(self.now);
                if !self.led() {
                    self.fail(
                        "V1",
                        "nobody leads two election time-outs after all faults were over".into(),
                    );
                }
            }
            Phase::Close => self.clients.close(),
            Phase::End => {
                self.ended = true;
                let check = self.check_rest();
                self.judge(check);
                let check = self.clients.check_watches(self.history.model());
                self.judge(check);
            }
        }
    }

    fn heal(&mut self) {
        self.healed_at = Some(self.now);
        self.power_fails_at_reply = None;
        self.network.heal();
        self.network.set_weather(Weather::CALM);
        for member in 0..self.members.len() {
            self.resume(member);
            self.members[member].platter.clear_faults();
            if let Some(process) = &mut self.members[member].process {
                process.doomed_after = None;
            }
            self.start(member);
        }
    }

    /// C4 and KV5 at rest: all members have applied everything decided, hold equal states, and owe nobody an answer.
    fn check_rest(&mut self) -> Check {
        let decided = self.consensus.chain().len() as u64;
        let mut hashes = Vec::new();
        for (n, machine) in self.members.iter().enumerate() {
            let Some(process) = &machine.process else {
                return Err(("V1", format!("n{} does not run at the end", n + 1)));
            };
            let status = process.replica.status();
            if status.applied != decided {
                return Err((
                    "C4",
                    format!(
                        "n{} has applied {} of {decided} decided entries at the end",
                        n + 1,
                        status.applied
                    ),
                ));
            }
            if status.pending_commands != 0 {
                return Err((
                    "V1",
                    format!(
                        "n{} still holds {} commands at the end",
                        n + 1,
                        status.pending_commands
                    ),
                ));
            }
            let model = self.history.model();
            if status.revision != model.revision() {
                return Err((
                    "KV3",
                    format!(
                        "n{} ends at revision {}, the log at {}",
                        n + 1,
                        status.revision,
                        model.revision()
                    ),
                ));
            }
            hashes.push(status.state_hash);
        }
        if hashes.iter().any(|hash| *hash != hashes[0]) {
            return Err(("KV5", format!("states differ at the end: {hashes:x?}")));
        }
        Ok(())
    }

    /// What the disks did.
    pub(crate) fn disk_counts(&self) -> Vec<DiskCounts> {
        self.members
            .iter()
            .map(|machine| machine.platter.counts())
            .collect()
    }
}

/// Draws the settings that make rare things frequent: small segments, early snapshots, short buffers.
fn draw_common(ids: &[PeerId], rng: &mut Rng) -> Common {
    let mut configuration = Configuration {
        voters: ids.iter().copied().collect(),
        ..Configuration::default()
    };
    for (n, id) in ids.iter().enumerate() {
        let member = raft::Member {
            incarnation: id.incarnation,
            name: format!("n{}", n + 1),
            peer_addresses: vec![format!("n{}:2380", n + 1)],
            ..raft::Member::default()
        };
        configuration.members.insert(id.member, member);
    }
    let limits = replica::Limits {
        snapshot_log_bytes: *rng.pick(&[4 << 10, 16 << 10, 64 << 10]),
        snapshot_keep_entries: *rng.pick(&[0, 10, 100]),
        watch_buffer_events: *rng.pick(&[4, 32, 1024]),
        watch_progress_interval: std::time::Duration::from_secs(2),
        ..replica::Limits::default()
    };
    let raft = raft::Settings {
        cache_bytes_max: *rng.pick(&[2 << 10, 64 << 10, 16 << 20]),
        ..raft::Settings::default()
    };
    Common {
        cluster: rng.next() | 1,
        configuration,
        replica: replica::Settings {
            raft,
            limits,
            ..replica::Settings::default()
        },
        log: log::Settings {
            segment_bytes: *rng.pick(&[64 << 10, 256 << 10]),
            low_water_bytes: 0,
        },
    }
}
