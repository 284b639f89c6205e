//! Members with an empty directory look for their cluster, or found one: the real asking, on virtual connections.

use super::*;
use replica::{BootstrapOutcome, KnownCluster};

/// How often the asking is looked after, as in the server.
const STEP_INTERVAL: Micros = 100_000;

impl World {
    /// A process that looks for its cluster gets time.
    pub(super) fn asking(&mut self, member: usize, life: u64) {
        let machine = &self.members[member];
        if machine.life == life && machine.asking.is_some() {
            self.step_asking(member, None);
            self.queue
                .plan(self.now + STEP_INTERVAL, Event::Asking { member, life });
        }
    }

    /// Takes a message, if there is one, sends what is to be said, and starts the member when it is decided whose it is. Answers go to `asker`, the
    /// process whose question it was.
    fn step_asking(&mut self, member: usize, message: Option<(u64, BootstrapMessage)>) {
        let machine = &mut self.members[member];
        let now = machine.clock.read(self.now);
        let (life, paused) = (machine.life, machine.paused);
        let Some(asking) = machine.asking.as_mut().filter(|_| !paused) else {
            return;
        };
        let mut asker = life;
        if let Some((process, message)) = message {
            asker = process;
            asking.bootstrap.handle(now.monotonic, message);
        }
        let messages = asking.bootstrap.poll(now.monotonic);
        let outcome = asking.bootstrap.outcome();
        for (name, message) in messages {
            let asker = match message {
                BootstrapMessage::Query(_) => life,
                BootstrapMessage::Answer { .. } => asker,
            };
            if let Some(to) = self.members.iter().position(|other| other.lane == name) {
                self.send_bootstrap(member, to, asker, message);
            }
        }
        match outcome {
            None => {}
            Some(BootstrapOutcome::Refused(text)) => self.fail(
                "V1",
                format!("n{} can belong to no cluster: {text}", member + 1),
            ),
            Some(BootstrapOutcome::Start {
                id,
                cluster,
                configuration,
            }) => {
                let check = self.consensus.on_founded(cluster, &configuration);
                self.judge(check);
                let machine = &mut self.members[member];
                let started = machine.join(&self.common, id, cluster, configuration, now);
                self.on_started(
                    member,
                    started.map(|recovery| Started::Runs(Box::new(recovery))),
                );
                if self.consensus.was_removed(id) {
                    // Somebody that did not know so let it in.
                    let at = self.now + 1_000_000;
                    self.queue.plan(at, Event::Retire(member));
                }
            }
        }
    }

    /// On a stage the cluster is there from the beginning.
    pub(super) fn found_at_once(&mut self) {
        let now = |machine: &Member| machine.clock.read(0).monotonic;
        while self.members.iter().any(|machine| {
            machine
                .asking
                .as_ref()
                .is_some_and(|asking| asking.bootstrap.outcome().is_none())
        }) {
            for member in 0..self.members.len() {
                let machine = &mut self.members[member];
                let at = now(machine);
                let asking = machine.asking.as_mut().expect("all members ask");
                for (name, message) in asking.bootstrap.poll(at) {
                    let mut others = self.members.iter_mut();
                    let other = others
                        .find(|other| other.lane == name)
                        .expect("a member is asked");
                    let at = now(other);
                    let asking = other.asking.as_mut().expect("all members ask");
                    asking.bootstrap.handle(at, message);
                }
            }
        }
        (0..self.members.len()).for_each(|member| self.step_asking(member, None));
    }

    fn send_bootstrap(&mut self, from: usize, to: usize, asker: u64, message: BootstrapMessage) {
        if let Some(at) = self.network.plan(self.now, from, to)[0] {
            let lane = &self.members[from].lane;
            self.trace.note(self.now, lane, &[29, to as u64], || {
                format!("→ n{}: {message:?}", to + 1)
            });
            let event = Event::Bootstrap {
                from,
                to,
                asker,
                message,
            };
            self.queue.plan(at, event);
        }
    }

    pub(super) fn bootstrap_message(
        &mut self,
        from: usize,
        to: usize,
        asker: u64,
        message: BootstrapMessage,
    ) {
        let machine = &self.members[to];
        if self.network.is_cut(from, to) || machine.paused {
            return;
        }
        match message {
            // An answer comes on the connection of its question, or not at all.
            BootstrapMessage::Answer { .. } if machine.life != asker => {}
            BootstrapMessage::Query(introduction) if machine.process.is_some() => {
                let answer = BootstrapMessage::Answer {
                    from: machine.introduction(),
                    cluster: self.known_cluster(to),
                };
                self.give(to, Input::Join(introduction));
                self.send_bootstrap(to, from, asker, answer);
            }
            message => self.step_asking(to, Some((asker, message))),
        }
    }

    fn known_cluster(&self, member: usize) -> Option<KnownCluster> {
        let process = self.members[member].process.as_ref()?;
        let status = process.replica.status();
        Some(KnownCluster {
            cluster: process.identity.cluster,
            bootstrap: process.identity.bootstrap.clone(),
            current: (*status.raft.configuration_decided).clone(),
            leader: status.raft.leader,
        })
    }
}
