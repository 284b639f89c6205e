//! Processes come and go; with them the connections of others.

use super::*;

/// An operator puts in a new disk for one that says it cannot be used.
const NEW_DISK_AFTER: Micros = 2_000_000;

impl World {
    pub(crate) fn start(&mut self, member: usize) {
        let machine = &self.members[member];
        if machine.process.is_some() || machine.asking.is_some() || !machine.in_service {
            return;
        }
        self.tell_members(member);
        let boot = self.rng.next();
        let machine = &mut self.members[member];
        let now = machine.clock.read(self.now);
        let started = machine.start(&self.common, boot, now);
        self.on_started(member, started);
    }

    pub(super) fn on_started(&mut self, member: usize, started: Result<Started, StartError>) {
        match started {
            Ok(Started::Runs(recovery)) => {
                let last = recovery.last;
                if std::mem::take(&mut self.members[member].began_again) {
                    self.counts.votes_lost += 1;
                    self.consensus.on_wiped(member);
                }
                self.counts.entries_lost += u64::from(recovery.entries_lost);
                self.consensus.set_id(member, self.members[member].id);
                self.trace
                    .note(self.now, &self.members[member].lane, &[21, last.0], || {
                        format!("starts with a log up to {last}")
                    });
                self.timeline
                    .note(self.now, Some(member), || What::Starts { last: last.0 });
                let check = self.consensus.on_recovery(member, *recovery);
                self.judge(check);
                self.note_newest_batch(member);
                let now = self.members[member].clock.read(self.now);
                self.replicated_clock.on_start(member, now.monotonic);
                self.counts.restarts += 1;
                self.plan_turn(member);
            }
            Ok(Started::Asks) => {
                let life = self.members[member].life;
                self.queue.plan(self.now, Event::Asking { member, life });
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
            Err(StartError::Spoiled(text)) => self.out_of_order(member, text),
            Err(StartError::Refused(text)) => {
                self.fail("R1", format!("n{} does not start: {text}", member + 1))
            }
        }
    }

    /// A member says that its directory cannot be used: it counts as down until an operator gives it an empty one.
    fn out_of_order(&mut self, member: usize, text: String) {
        self.trace
            .note(self.now, &self.members[member].lane, &[28], || {
                format!("cannot go on: {text}")
            });
        self.timeline
            .note(self.now, Some(member), || What::CannotStart(text));
        self.stop(member, None);
        self.queue
            .plan(self.now + NEW_DISK_AFTER, Event::NewDisk(member));
    }

    /// Takes a process down; with the power, if `survival` says what survives of the unsynced.
    pub(crate) fn stop(&mut self, member: usize, survival: Option<Survival>) {
        let machine = &mut self.members[member];
        let ran = machine.process.take().is_some();
        machine.asking = None;
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
    pub(super) fn lose_clients(&mut self, member: usize) {
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
}
