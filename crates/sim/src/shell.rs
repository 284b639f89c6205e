//! The shell of a member: one thin match over what its replica wants done. The simulated twin of the server's node loop; its two threads do the blocking part.

mod threads;

use crate::member::{LogTask, Process, SnapshotTask};
use crate::oracle::declared_loss;
use crate::timeline::{self, What, words};
use crate::world::{Event, World};
use replica::{Effect, Input};

/// Inputs taken in one turn at most, as in the server's loop.
const TURN_INPUTS_MAX: usize = 256;

impl World {
    /// Plans a turn of a member's loop, unless one is planned or the process is paused.
    pub(crate) fn plan_turn(&mut self, member: usize) {
        let machine = &mut self.members[member];
        let Some(process) = &mut machine.process else {
            return;
        };
        if machine.paused || process.turn_planned {
            return;
        }
        process.turn_planned = true;
        self.queue.plan(
            self.now.max(process.busy_until),
            Event::Turn {
                member,
                life: machine.life,
            },
        );
    }

    fn running(&mut self, member: usize, life: u64) -> Option<&mut Process> {
        let machine = &mut self.members[member];
        if machine.life == life {
            machine.process.as_mut()
        } else {
            None
        }
    }

    /// One turn: take what waits, work, do what is wanted.
    pub(crate) fn turn(&mut self, member: usize, life: u64) {
        let paused = self.members[member].paused;
        let now = self.members[member].clock.read(self.now);
        let Some(process) = self.running(member, life) else {
            return;
        };
        process.turn_planned = false;
        if paused {
            return;
        }
        let mut heard = Vec::new();
        for _ in 0..TURN_INPUTS_MAX.min(process.inbox.len()) {
            let input = process.inbox.pop_front().expect("its length was seen");
            if let Input::Message {
                from,
                message: replica::Message::Raft(message),
            } = &input
            {
                heard.extend(declared_loss(message).map(|loss| (*from, loss)));
            }
            process.replica.handle(now, input);
        }
        let more = process.replica.work(now) || !process.inbox.is_empty();
        let effects: Vec<Effect> = std::iter::from_fn(|| process.replica.poll()).collect();
        self.replicated_clock.on_turn(member, now.monotonic);
        for (from, (term, boot)) in heard {
            self.consensus.on_loss_heard(member, from, term, boot);
        }
        self.counts.turns += 1;
        self.observe(member, &effects);
        for effect in effects {
            if self.doomed(member, &effect) {
                return self.stop(member, None);
            }
            self.perform(member, effect);
            if self.running(member, life).is_none() {
                return;
            }
        }
        let spent = self.rng.between(10, 80);
        let end = self.now + spent;
        if let Some(process) = self.running(member, life) {
            process.busy_until = end;
            if more {
                self.plan_turn(member);
            }
        }
    }

    /// The process was to die before this effect.
    fn doomed(&mut self, member: usize, effect: &Effect) -> bool {
        let machine = &mut self.members[member];
        let Some(process) = &mut machine.process else {
            return false;
        };
        if machine.doomed_in_snapshot.is_some() && concerns_snapshots(effect) {
            process.doomed_after = machine.doomed_in_snapshot.take();
        }
        match &mut process.doomed_after {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }

    /// Shows the oracles what a turn did, before any of it leaves the member.
    fn observe(&mut self, member: usize, effects: &[Effect]) {
        self.consensus.on_turn(member);
        self.note_sound(member);
        for effect in effects {
            let check = match effect {
                Effect::Persist(persist) => {
                    self.replicated_clock.on_persist(member, persist);
                    self.consensus.on_persist(member, persist, self.now)
                }
                Effect::RoleChanged { role, term, .. } => {
                    self.replicated_clock.on_role(member, *role, *term);
                    if *role == raft::Role::Leader {
                        self.leases.on_leader(member, *term);
                    }
                    self.consensus.on_role(member, *role, *term)
                }
                Effect::Send {
                    to,
                    message: replica::Message::Raft(message),
                } => self.consensus.on_send(member, *to, message),
                _ => continue,
            };
            self.judge(check);
            if let Effect::Persist(persist) = effect
                && persist.reset.is_some()
                && let Some(process) = &mut self.members[member].process
            {
                // Who hears so in this turn hears it before the log does.
                process.installed_at = Some(self.now);
            }
            if let Effect::Persist(persist) = effect
                && (persist.reset.is_some() || !persist.entries.is_empty())
            {
                self.note_newest_batch(member);
            }
        }
        let Some(process) = &mut self.members[member].process else {
            return;
        };
        let status = process.replica.status();
        let (term, progress) = (status.raft.term, &status.raft.progress);
        if let Err((property, text)) = self.consensus.check_progress(member, term, progress) {
            return self.fail(property, text);
        }
        let configuration = &status.raft.configuration;
        if let Err((property, text)) = self.consensus.check_in_force(member, configuration) {
            return self.fail(property, text);
        }
        let position = (status.raft.commit.0, status.applied);
        if position == process.told {
            return;
        }
        if position.0 > process.told.0 {
            let commit = position.0;
            self.timeline
                .note_busy(self.now, member, || What::Commits { commit });
        }
        process.told = position;
        let hash = (status.applied > 0 && status.serving).then_some(status.state_hash);
        match self
            .consensus
            .on_progress(member, position.0, position.1, hash)
        {
            Ok(0) => {}
            Ok(joined) => self.decided(joined),
            Err((property, text)) => self.fail(property, text),
        }
    }

    /// Tells the oracle of leases that a member counts time from its newest batch on, and how old that was already.
    pub(crate) fn note_newest_batch(&mut self, member: usize) {
        let formed_at = self.consensus.newest_batch_formed_at(member);
        self.leases.on_stored(member, self.now - formed_at);
    }

    /// A log that had lost entries has been made good by the others.
    fn note_sound(&mut self, member: usize) {
        let Some(process) = &mut self.members[member].process else {
            return;
        };
        let standing = || process.replica.status().raft.standing;
        if process.entries_lost && standing() == raft::Standing::Sound {
            // Durable with the next sync; a crash before it only means making the log good once more.
            process.entries_lost = false;
            process.log.clear_entries_lost();
            let check = self.consensus.on_sound(member);
            self.judge(check);
        }
    }

    /// The newest `joined` entries of the chain are to be understood.
    fn decided(&mut self, joined: usize) {
        self.aim_at_successor();
        if let Some(before) = self.consensus.take_replaced_configuration() {
            self.on_configuration_decided(&before);
        }
        let chain = self.consensus.chain();
        for decided in &chain[chain.len() - joined..] {
            let applied = match self
                .history
                .on_decided(&decided.entry.payload, decided.formed_at)
            {
                Ok(applied) => applied,
                Err((property, text)) => return self.fail(property, text),
            };
            if matches!(decided.entry.payload, raft::Payload::Batch(_)) {
                let clock_ms = self.history.model().clock_ms();
                let raft::Entry { index, term, .. } = decided.entry;
                self.leases.on_batch(term, decided.formed_at, clock_ms);
                if let Err((property, text)) =
                    self.replicated_clock.on_batch(index.0, term, clock_ms)
                {
                    return self.fail(property, text);
                }
            }
            for expiry in &applied.expired {
                if let Err((property, text)) = self.leases.on_expiry(expiry, decided.formed_at) {
                    return self.fail(property, text);
                }
            }
        }
    }

    /// Does one thing that a member wants done.
    fn perform(&mut self, member: usize, effect: Effect) {
        match effect {
            Effect::Persist(persist) => {
                self.trace.note(
                    self.now,
                    &self.members[member].lane,
                    &[1, persist.sequence, persist.entries.len() as u64],
                    || {
                        let (first, last) = (
                            persist.entries.first().map(|e| e.index.0),
                            persist.entries.last().map(|e| e.index.0),
                        );
                        format!(
                            "persists {}: vote {:?}, reset {}, entries {first:?} to {last:?}",
                            persist.sequence,
                            persist.vote,
                            persist.reset.is_some()
                        )
                    },
                );
                if let Some(mark) = &persist.reset {
                    self.counts.installs += 1;
                    let index = mark.index.0;
                    self.timeline
                        .note(self.now, Some(member), || What::Installs { index });
                }
                if mutated!(AcknowledgeBeforeSync) {
                    self.give(member, Input::Persisted(persist.sequence));
                }
                self.give_log(member, LogTask::Persist(persist));
            }
            Effect::Send { to, message } => self.send(member, to, message),
            Effect::Reply { ticket, outcome } => {
                let stamp = outcome.as_ref().map_or(0, |response| response.stamp.index);
                self.trace.note(
                    self.now,
                    &self.members[member].lane,
                    &[2, ticket.0, stamp],
                    || format!("answers request {}: {outcome:?}", ticket.0),
                );
                self.reply(member, ticket, outcome);
            }
            Effect::WatchResponses { stream, responses } => {
                self.trace.note(
                    self.now,
                    &self.members[member].lane,
                    &[3, stream.0, responses.len() as u64],
                    || format!("responds on stream {}: {responses:?}", stream.0),
                );
                self.watch_responses(stream, responses);
            }
            Effect::Fetch { from, bytes_max } => {
                self.give_log(member, LogTask::Fetch(from, bytes_max))
            }
            Effect::Release(upto) => self.give_log(member, LogTask::Release(upto)),
            Effect::Stage { id, offset, bytes } => {
                self.give_snapshots(member, SnapshotTask::Stage(id, offset, bytes))
            }
            Effect::StageFinish {
                id,
                mark,
                bytes,
                checksum,
            } => {
                self.give_snapshots(member, SnapshotTask::Finish(id, mark, bytes, checksum));
            }
            Effect::StageAbort { id } => self.give_snapshots(member, SnapshotTask::Abort(id)),
            Effect::ReadSnapshot {
                index,
                offset,
                bytes_max,
            } => self.give_snapshots(member, SnapshotTask::Read(index, offset, bytes_max)),
            Effect::RoleChanged { role, term, leader } => {
                self.trace.note(
                    self.now,
                    &self.members[member].lane,
                    &[4, role as u64, term.0],
                    || {
                        let leader = leader.and_then(|leader| {
                            self.members.iter().find(|machine| machine.id == leader)
                        });
                        format!(
                            "is {role:?} in term {term}, the leader is {}",
                            leader.map_or("unknown", |machine| &machine.lane)
                        )
                    },
                );
                let leader = leader.and_then(|leader| self.member_of(leader));
                if self.silenced(member) && role == raft::Role::PreCandidate {
                    return;
                }
                self.timeline.note(self.now, Some(member), || What::Role {
                    role,
                    term: term.0,
                    leader,
                });
            }
            Effect::ConfigurationChanged(configuration) => {
                let machines = &self.members;
                self.timeline.note(self.now, Some(member), || {
                    let place = |peer| machines.iter().position(|machine| machine.id == peer);
                    let name = |peer| place(peer).map_or("a stranger".into(), timeline::name);
                    What::Configuration(words::configuration(&configuration, name))
                });
            }
            Effect::StateDiffers(text) => self.fail("KV5", format!("n{}: {text}", member + 1)),
            Effect::DiscardSnapshot(why) => {
                if !self.members.iter().any(|machine| machine.rotten) {
                    let text = format!("n{} finds no state in a sound snapshot: {why}", member + 1);
                    return self.fail("KV5", text);
                }
                if let Some(process) = &mut self.members[member].process {
                    process.snapshots.discard(&why);
                }
            }
            Effect::Reopen(why) => self.reopen(member, why),
            // An operator's script ends it; until then it harms nobody, which is what is looked at.
            Effect::Departed => {}
            // Nobody here follows locks.
            Effect::LocksChanged(_) | Effect::StateReplaced => {}
            Effect::Halted(text) => self.fail("U1", format!("n{} halts: {text}", member + 1)),
            Effect::SetTimer(at) => self.set_timer(member, at),
        }
    }

    /// The process ends as in a crash and begins anew from its directory.
    fn reopen(&mut self, member: usize, why: String) {
        self.trace
            .note(self.now, &self.members[member].lane, &[10], || {
                format!("begins anew: {why}")
            });
        self.stop(member, None);
        self.queue.plan(self.now + 10_000, Event::Start(member));
    }

    fn set_timer(&mut self, member: usize, at: raft::Instant) {
        let machine = &mut self.members[member];
        let Some(process) = &mut machine.process else {
            return;
        };
        process.timer = Some(at);
        process.timer_generation += 1;
        let event = Event::Timer {
            member,
            life: machine.life,
            generation: process.timer_generation,
        };
        self.queue.plan(machine.clock.when(at, self.now), event);
    }

    pub(crate) fn timer(&mut self, member: usize, life: u64, generation: u64) {
        let machine = &mut self.members[member];
        let Some(process) = machine
            .process
            .as_mut()
            .filter(|process| machine.life == life && process.timer_generation == generation)
        else {
            return;
        };
        let Some(at) = process.timer else { return };
        // The clock's drift may have changed since.
        if machine.clock.read(self.now).monotonic < at {
            return self.queue.plan(
                machine.clock.when(at, self.now),
                Event::Timer {
                    member,
                    life,
                    generation,
                },
            );
        }
        process.timer = None;
        self.give(member, Input::TimerFired);
    }

    /// A director keeps this member from asking for votes.
    fn silenced(&self, member: usize) -> bool {
        self.director
            .as_ref()
            .is_some_and(|director| director.is_still(member))
    }
}

/// A step of taking, sending or installing a snapshot.
fn concerns_snapshots(effect: &Effect) -> bool {
    match effect {
        Effect::Persist(persist) => persist.reset.is_some(),
        Effect::Stage { .. } | Effect::StageFinish { .. } | Effect::ReadSnapshot { .. } => true,
        Effect::Send { message, .. } => matches!(
            message,
            replica::Message::SnapshotChunk { .. } | replica::Message::SnapshotAck { .. }
        ),
        _ => false,
    }
}
