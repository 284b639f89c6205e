//! The phases of a run, and what must hold at any time and at rest.

use super::*;
use crate::oracle::is_quorum;

/// A leader steps down when it heard no quorum for an election timeout, at most a second; what was on its way may take a moment more.
const LINGERS_MAX: Micros = 3_000_000;

/// The cluster is looked at again after so long if it is not at rest yet.
const REST_AFTER: Micros = 2_000_000;

/// A local read takes no longer; a bounded one asks for a leader's word first, for as long as an election takes.
const ALONE_MAX: Micros = 1_000_000;
const BOUNDED_MAX: Micros = 3_000_000;

/// With a majority that can, so soon is decided what a leader has taken into its log; far apart, some ways there and back later.
const DECIDED_WITHIN: Micros = 1_000_000;

/// A leader whose disk does nothing hands over after 400 ms, and tries again after an election if its heir does not come forward.
const STEPS_ASIDE_WITHIN: Micros = 3_000_000;

/// How often it is looked whether watches are fed.
const FED_EVERY: Micros = 1_000_000;

impl World {
    /// Somebody leads, and can: it hears a majority, and something of its term is decided.
    fn led(&self) -> bool {
        self.consensus
            .leader()
            .is_some_and(|leader| self.leads_with(leader, |_| true))
    }

    /// The same, and it is not handing over, and the majority can store what comes next: a member whose disk fails or has no room, that lost entries, or
    /// waits for a snapshot of what the leader's log no longer has, cannot yet. A change of members that is not decided counts already: the leader decides
    /// by the newest configuration in its log.
    fn decides(&self) -> bool {
        let process = |member: usize| self.members[member].process.as_ref();
        let Some(leader) = self.consensus.leader() else {
            return false;
        };
        let Some(leading) = process(leader).map(|process| process.replica.status().raft) else {
            return false;
        };
        let able = |process: &Process| {
            let status = process.replica.status().raft;
            let stores = !process.log_fails && status.standing == raft::Standing::Sound;
            stores && status.last.next() >= leading.first
        };
        let able = |member: usize| process(member).is_some_and(able);
        !leading.handing_over
            && self.leads_with(leader, able)
            && self.reaches_quorum(leader, &leading.configuration, |member| {
                self.in_time(member) && able(member)
            })
    }

    /// This leader can do its work, by the members that run and are `able`.
    fn leads_with(&self, leader: usize, able: impl Fn(usize) -> bool) -> bool {
        let works = |member: usize| self.in_time(member) && able(member);
        let decided = self.consensus.decided_configuration();
        let weather = self.network.weather();
        works(leader)
            && self.reaches_quorum(leader, decided, works)
            && weather.loss <= 50
            && weather.latency_extra <= 5_000
            && !self.keeps_back()
            && self.consensus.leads_decided(leader)
    }

    /// The member runs, on a disk that is neither slow nor stands still.
    fn in_time(&self, member: usize) -> bool {
        let machine = &self.members[member];
        self.runs(member) && machine.slow == 1 && machine.stalled_until <= self.now
    }

    /// The member's process gets time.
    fn runs(&self, member: usize) -> bool {
        self.members[member].process.is_some() && !self.members[member].paused
    }

    /// Voters that work, and that this member and they hear each other, are a quorum of the configuration.
    fn reaches_quorum(
        &self,
        member: usize,
        configuration: &Configuration,
        works: impl Fn(usize) -> bool,
    ) -> bool {
        let reached = |peer: PeerId| {
            self.member_of(peer).is_some_and(|other| {
                works(other) && (other == member || self.network.connected(member, other))
            })
        };
        is_quorum(configuration, reached)
    }

    pub(super) fn look(&mut self) {
        let decides = self.decides();
        let lossy = self.network.weather().loss > 0;
        self.leases.sample(self.now, decides, lossy);
        self.check_decided();
        let check = self.leases.check_lateness(self.history.model(), self.now);
        self.judge(check);
        let check = self.leases.check_silence(self.history.model(), self.now);
        self.judge(check);
        self.check_steps_aside();
        self.check_lingering();
        self.check_overdue();
        self.check_reads();
        if self.now % FED_EVERY < LOOK_EVERY {
            self.check_fed();
        }
        self.check_waits();
        self.queue.plan(self.now + LOOK_EVERY, Event::Look);
    }

    /// C4: with a majority that runs and is connected, what is in the leader's log is decided.
    fn check_decided(&mut self) {
        let Some(calm_since) = self.leases.calm_since() else {
            return;
        };
        if let Some((member, entry, at)) = self.consensus.oldest_undecided()
            && self.now - at.max(calm_since) > DECIDED_WITHIN + 8 * self.network.distance_max()
        {
            self.fail(
                "C4",
                format!(
                    "index {entry} is in the log of the leader n{} since {at} us, a majority is there since {calm_since} us, and it is not decided",
                    member + 1
                ),
            );
        }
    }

    /// R3: a leader whose disk stands still does not go on calling itself one while others could lead.
    fn check_steps_aside(&mut self) {
        let stuck = self.consensus.leader().and_then(|leader| {
            let waits = self.consensus.oldest_write(leader)?;
            self.others_could_lead(leader).then_some((leader, waits))
        });
        let (now, before) = (self.now, self.stuck.take());
        let Some((leader, write)) = stuck else {
            return;
        };
        let known = before.filter(|(member, waits, _)| (*member, *waits) == (leader, write));
        let since = known.map_or(now, |(_, _, since)| since);
        self.stuck = Some((leader, write, since));
        if now - since > STEPS_ASIDE_WITHIN {
            self.fail(
                "R3",
                format!(
                    "the disk of the leader n{} has not made write {write} durable since {since} us, a majority without it could go on, and it leads",
                    leader + 1
                ),
            );
        }
    }

    /// This leader's process runs and its disk does not; a majority without it has everything it takes to lead.
    fn others_could_lead(&self, leader: usize) -> bool {
        let machine = &self.members[leader];
        let Some(process) = machine.process.as_ref().filter(|_| self.runs(leader)) else {
            return false;
        };
        let status = process.replica.status().raft;
        let weather = self.network.weather();
        let stands_still = machine.stalled_until > self.now || process.log_fails;
        let sound = |member: usize| {
            let process = self.members[member].process.as_ref();
            process.is_some_and(|process| {
                let own = process.replica.status().raft;
                let stores = !process.log_fails && own.standing == raft::Standing::Sound;
                stores && own.last.next() >= status.first
            })
        };
        let joins_in = |member: usize| {
            member != leader
                && self.in_time(member)
                && sound(member)
                && self.network.connected(leader, member)
        };
        let others: Vec<usize> = (0..self.members.len()).filter(|n| joins_in(*n)).collect();
        let mut pairs = others
            .iter()
            .flat_map(|a| others.iter().map(move |b| (*a, *b)));
        let is_other = |peer| self.member_of(peer).is_some_and(|n| others.contains(&n));
        stands_still
            && weather.loss == 0
            && weather.latency_extra <= 5_000
            && pairs.all(|(a, b)| a == b || self.network.connected(a, b))
            && is_quorum(self.consensus.decided_configuration(), is_other)
            && is_quorum(&status.configuration, is_other)
    }

    /// Check-quorum: a leader that reaches no majority does not go on calling itself one, so that its clients go elsewhere.
    fn check_lingering(&mut self) {
        for member in 0..self.members.len() {
            let own = self.consensus.configuration(member);
            let cut_off =
                self.runs(member) && !self.reaches_quorum(member, own, |other| self.runs(other));
            let machine = &mut self.members[member];
            match (
                cut_off && self.consensus.leads(member),
                machine.cut_off_since,
            ) {
                (false, _) => machine.cut_off_since = None,
                (true, None) => machine.cut_off_since = Some(self.now),
                (true, Some(since)) if self.now - since > LINGERS_MAX => {
                    return self.fail(
                        "check quorum",
                        format!(
                            "n{} reaches no majority since {since} us and still leads",
                            member + 1
                        ),
                    );
                }
                _ => {}
            }
        }
    }

    /// V2: a member that serves and runs all the while answers a local read at once, and a bounded one soon, whoever else is there.
    fn check_reads(&mut self) {
        let late = |flight: &InFlight| {
            let machine = &self.members[flight.member];
            let ran = !machine.paused && machine.paused_at < flight.asked_at;
            let patience = match flight.kind {
                FlightKind::Decided => return false,
                FlightKind::Alone => ALONE_MAX,
                FlightKind::Bounded => BOUNDED_MAX,
            };
            ran && self.now - flight.asked_at > patience
        };
        let late = self.in_flight.iter().find(|(_, flight)| late(flight));
        if let Some((request, flight)) = late {
            let text = format!(
                "the {:?} read {request} of n{} has no answer after {} us",
                flight.kind,
                flight.member + 1,
                self.now - flight.asked_at
            );
            self.fail("V2", text);
        }
    }

    /// W12: a client that takes what comes is told of all that its member has applied, however slow others are.
    fn check_fed(&mut self) {
        let streams: Vec<StreamId> = self.streams.keys().copied().collect();
        for stream in streams {
            let state = &self.streams[&stream];
            let machine = &self.members[state.member];
            let runs = machine.process.as_ref().filter(|_| !machine.paused);
            let since_pause = self.now - machine.paused_at > FED_EVERY;
            let reached = runs
                .filter(|_| since_pause && state.credit > 0)
                .map(|process| process.replica.status())
                .filter(|status| status.serving)
                .map(|status| status.complete);
            let (client, model) = (state.client, self.history.model());
            let check = self
                .clients
                .check_fed(client, stream, reached, self.now, model);
            self.judge(check);
        }
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
                    asked_at + 1_000_000 + 8 * self.network.distance_max()
                } else {
                    asked_at.max(healed_at) + GIVEN_UP_AFTER
                }
        };
        let waits = |request: u64| self.history.locks().is_waiting(request);
        let mut flights = self.in_flight.iter();
        if let Some((request, flight)) =
            flights.find(|(request, flight)| overdue(flight.asked_at) && !waits(**request))
        {
            let (waited, member) = (self.now - flight.asked_at, flight.member + 1);
            self.fail(
                "V1",
                format!("request {request} to n{member} has no answer after {waited} us"),
            );
        }
    }

    /// F5: whoever waits for a lock at a member is told of its end as soon as that member knows.
    fn check_waits(&mut self) {
        for (member, machine) in self.members.iter().enumerate() {
            let Some(process) = &machine.process else {
                continue;
            };
            let applied = process.replica.status().applied;
            let flights = self.in_flight.iter();
            let here = flights.filter(|(_, flight)| flight.member == member);
            let restored_at = process.installed_at;
            let requests = here.map(|(request, flight)| {
                (
                    *request,
                    restored_at.is_some_and(|at| at >= flight.asked_at),
                )
            });
            let (locks, model) = (self.history.locks(), self.history.model());
            let check = locks.check_nobody_is_forgotten(applied, requests, model);
            if check.is_err() {
                return self.judge(check);
            }
        }
    }

    pub(crate) fn phase(&mut self, phase: Phase) {
        self.trace.note(self.now, "", &[24, phase as u64], || {
            format!("phase: {phase:?}")
        });
        self.timeline.note(self.now, None, || match phase {
            Phase::Heal => What::Healed,
            _ => What::Note(phase.sentence().into()),
        });
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
            Phase::End if self.is_at_work() && self.now < self.rests_by => {
                self.queue
                    .plan(self.now + REST_AFTER, Event::Phase(Phase::End));
            }
            Phase::End => {
                self.ended = true;
                let check = self.check_rest();
                self.judge(check);
                let check = self.clients.check_watches(self.history.model());
                self.judge(check);
                let check = self.history.check_gone(self.now);
                self.judge(check);
            }
        }
    }

    /// A command is under way, or what is decided has not come to every member yet, or a large removal is being written down, batch by batch, of which
    /// watches are told at its end.
    fn is_at_work(&self) -> bool {
        let decided = self.consensus.chain().len() as u64;
        let configuration = self.consensus.decided_configuration();
        self.members.iter().any(|machine| {
            let status = machine.process.as_ref().map(|it| it.replica.status());
            status.is_some_and(|status| {
                let behind = configuration.contains(machine.id) && status.applied < decided;
                behind || status.pending_commands > 0 || status.complete < status.revision
            })
        })
    }

    fn heal(&mut self) {
        self.healed_at = Some(self.now);
        self.power_fails_at_reply = None;
        self.end_aims();
        self.network.heal();
        self.network.set_weather(Weather::CALM);
        for member in 0..self.members.len() {
            self.resume(member);
            self.members[member].platter.clear_faults();
            self.members[member].slow = 1;
            self.members[member].stalled_until = 0;
            self.members[member].doomed_in_snapshot = None;
            self.retire(member);
            self.new_disk(member);
            if let Some(process) = &mut self.members[member].process {
                process.doomed_after = None;
            }
            // Whom it was told to ask may have left.
            if self.members[member].asking.is_some() {
                self.stop(member, None);
            }
            self.start(member);
        }
    }

    /// C4 and KV5 at rest: all members have applied everything decided, hold equal states, and owe nobody an answer.
    fn check_rest(&mut self) -> Check {
        let decided = self.consensus.chain().len() as u64;
        let mut hashes = Vec::new();
        let configuration = self.consensus.decided_configuration();
        let belong = self
            .members
            .iter()
            .enumerate()
            .filter(|(_, machine)| configuration.contains(machine.id));
        if belong.clone().count() != configuration.peers().len() {
            return Err(("V1", format!("not all of {configuration} run at the end")));
        }
        for (n, machine) in belong {
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
            if status.raft.standing != raft::Standing::Sound || !status.serving {
                return Err(("R1", format!("n{} is not whole at the end", n + 1)));
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
}
