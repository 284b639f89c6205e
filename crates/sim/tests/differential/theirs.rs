//! A member on the published `raft` crate (raft-rs), with writes as slow as the run wants them.
//!
//! raft-rs draws its election timeouts from the thread's generator; they are overwritten after every call, so that a seed says all. It hands
//! out what may be said before and after a write separately; the disk keeps the latter until then.

use crate::disk::{Disk, Write, overwrite};
use crate::member::{Kind, Limits, Member, Output, Slot, Wire};
use crate::ours::Plant;
use crate::random::Rng;
use crate::translate::{Interpreter, Speaker, read_context, read_request, their_entry, their_slot};
use bytes::Bytes;
use raft::Message;
use raft_rs::eraftpb::{self, ConfState, HardState};
use raft_rs::storage::MemStorage;
use raft_rs::{Config, RawNode, ReadOnlyOption, StateRole};
use std::collections::BTreeSet;

/// Microseconds between two ticks. With the counts below: a heartbeat every 100 ms, elections after 500 to 1000 ms of silence, like ours.
const TICK: u64 = 50_000;
const HEARTBEAT_TICKS: usize = 2;
const ELECTION_TICKS: usize = 10;

pub struct Theirs {
    id: u64,
    voters: Vec<u64>,
    /// The members to whom it must speak our language.
    foreign: BTreeSet<u64>,
    rng: Rng,
    /// See `Interpreter::careless`.
    careless: bool,
    limits: Limits,
    node: Option<RawNode<MemStorage>>,
    interpreter: Interpreter,
    boots: u64,
    disk: Disk<Output>,
    log: Vec<Slot>,
    /// The drawn election timeout in ticks, and the term and role it was drawn for.
    patience: (usize, u64, StateRole),
    reads: u64,
    next_tick: u64,
    outputs: Vec<Output>,
}

impl Theirs {
    pub fn new(
        id: u64,
        voters: &[u64],
        foreign: &BTreeSet<u64>,
        seed: u64,
        limits: &Limits,
        plant: Option<Plant>,
    ) -> Theirs {
        Theirs {
            id,
            voters: voters.to_vec(),
            foreign: foreign.clone(),
            rng: Rng::new(seed.wrapping_add(id << 32)),
            careless: plant == Some(Plant::BelievesEveryCommit),
            limits: limits.clone(),
            node: None,
            interpreter: Interpreter::new(0),
            boots: 0,
            disk: Disk::new(),
            log: Vec::new(),
            patience: (ELECTION_TICKS, 0, StateRole::Follower),
            reads: 0,
            next_tick: u64::MAX,
            outputs: Vec::new(),
        }
    }

    fn boot(&self) -> u64 {
        self.id << 32 | self.boots
    }

    fn config(&self) -> Config {
        Config {
            id: self.id,
            election_tick: ELECTION_TICKS,
            heartbeat_tick: HEARTBEAT_TICKS,
            min_election_tick: ELECTION_TICKS,
            max_election_tick: 2 * ELECTION_TICKS + 1,
            max_size_per_msg: self.limits.append_bytes_max as u64,
            max_inflight_msgs: self.limits.inflight_max,
            check_quorum: true,
            pre_vote: true,
            read_only_option: ReadOnlyOption::Safe,
            ..Config::default()
        }
    }

    /// Sets the timeout that the run's seed gives, drawn anew for each term and role.
    fn be_patient(&mut self) {
        let Some(node) = &mut self.node else { return };
        let (ticks, term, role) = self.patience;
        if (term, role) != (node.raft.term, node.raft.state) {
            let drawn = ELECTION_TICKS + self.rng.below(ELECTION_TICKS as u64 + 1) as usize;
            self.patience = (drawn, node.raft.term, node.raft.state);
            node.raft.set_randomized_election_timeout(drawn);
        } else {
            node.raft.set_randomized_election_timeout(ticks);
        }
    }

    /// Does what the library wants done: the usual loop, with writes that end later.
    fn drain(&mut self, now: u64) {
        self.be_patient();
        while let Some(node) = &mut self.node {
            if !node.has_ready() {
                break;
            }
            let mut ready = node.ready();
            let (said, said_later) = (ready.take_messages(), ready.take_persisted_messages());
            for read in ready.take_read_states() {
                let (asker, request) = read_request(&read.request_ctx);
                // An answer to the process that was here before, perhaps: raft-rs leaves it to the caller to tell.
                if asker.0 == self.id << 32 | self.boots {
                    self.outputs.push(Output::ReadReady {
                        read: self.id << 48 | self.boots << 32 | request,
                        index: read.index,
                    });
                }
            }
            let entries = ready.take_entries();
            let committed = ready.take_committed_entries();
            let hard_state = ready.hs().cloned();
            let must_sync = ready.must_sync();
            let number = ready.number();
            node.mut_store()
                .wl()
                .append(&entries)
                .expect("entries follow the log");
            if let Some(hard_state) = &hard_state {
                node.mut_store().wl().set_hardstate(hard_state.clone());
            }
            node.advance_append_async(ready);
            if let Some(last) = committed.last() {
                node.advance_apply_to(last.index);
            }
            let entries = entries.first().map(|first| {
                let slots: Vec<Slot> = entries.iter().map(their_slot).collect();
                overwrite(&mut self.log, first.index, slots.iter().cloned());
                (first.index, slots)
            });
            let said: Vec<Output> = self.addressed(now, said);
            self.outputs.extend(said);
            self.outputs
                .extend(committed.iter().map(|entry| Output::Applied {
                    index: entry.index,
                    slot: their_slot(entry),
                }));
            let afterwards = self.addressed(now, said_later);
            self.disk.write(Write {
                number,
                vote: hard_state.as_ref().map(|state| (state.term, state.vote)),
                commit: hard_state.as_ref().map(|state| state.commit),
                entries,
                afterwards,
            });
            if self.disk.under_way() == 1 && !must_sync {
                self.finish_write();
            } else {
                self.outputs.push(Output::Wrote);
            }
            self.be_patient();
        }
    }

    fn finish_write(&mut self) {
        if let Some((number, afterwards)) = self.disk.complete() {
            self.outputs.extend(afterwards);
            if let Some(node) = &mut self.node {
                node.on_persist_ready(number);
            }
        }
    }

    /// Puts messages into the languages of those they are for.
    fn addressed(&mut self, now: u64, messages: Vec<eraftpb::Message>) -> Vec<Output> {
        let node = self.node.as_ref().expect("it speaks");
        let speaker = Speaker {
            id: self.id,
            term: node.raft.term,
            leads: node.raft.state == StateRole::Leader,
            log: &self.log,
        };
        let mut outputs = Vec::new();
        for message in messages {
            let to = message.to;
            let wire = if self.foreign.contains(&to) {
                let translated = self.interpreter.for_ours(now, &speaker, &message);
                translated.map(|message| Wire::Ours(message.encode()))
            } else {
                Some(Wire::Theirs(Box::new(message)))
            };
            outputs.extend(wire.map(|wire| Output::Send { to, wire }));
        }
        outputs
    }
}

impl Member for Theirs {
    fn kind(&self) -> Kind {
        Kind::Theirs
    }

    fn is_up(&self) -> bool {
        self.node.is_some()
    }

    fn start(&mut self, now: u64) {
        assert!(self.node.is_none(), "{} runs already", self.id);
        self.boots += 1;
        self.interpreter = Interpreter::new(self.boot());
        self.interpreter.careless = self.careless;
        let storage =
            MemStorage::new_with_conf_state(ConfState::from((self.voters.clone(), vec![])));
        let durable = &self.disk.durable;
        self.log = durable.log.clone();
        let entries: Vec<_> = (1..)
            .zip(&durable.log)
            .map(|(index, slot)| their_entry(index, slot))
            .collect();
        storage.wl().append(&entries).expect("a log from index 1");
        storage.wl().set_hardstate(HardState {
            term: durable.term,
            vote: durable.vote,
            commit: durable.commit,
            ..HardState::default()
        });
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&self.config(), storage, &logger).expect("a sound configuration");
        self.node = Some(node);
        self.next_tick = now + 1 + self.rng.below(TICK);
        self.drain(now);
    }

    fn crash(&mut self, survivors: usize) {
        self.node = None;
        self.next_tick = u64::MAX;
        self.disk.crash(survivors);
        self.log = self.disk.durable.log.clone();
    }

    fn writes(&self) -> usize {
        self.disk.under_way()
    }

    fn complete_write(&mut self, now: u64) {
        self.finish_write();
        self.drain(now);
    }

    fn deliver(&mut self, now: u64, from: u64, wire: Wire) {
        let Some(node) = &mut self.node else { return };
        let message = match wire {
            Wire::Theirs(message) => Some(*message),
            Wire::Ours(bytes) => {
                let message = Message::decode(bytes).expect("what members send can be read");
                let listener = Speaker {
                    id: self.id,
                    term: node.raft.term,
                    leads: node.raft.state == StateRole::Leader,
                    log: &self.log,
                };
                self.interpreter.for_theirs(&listener, from, message)
            }
        };
        if let Some(message) = message {
            node.step(message).expect("a message of a member");
            self.drain(now);
        }
    }

    fn wake_at(&self) -> u64 {
        self.next_tick
    }

    fn wake(&mut self, now: u64) {
        self.next_tick = now + TICK;
        if let Some(node) = &mut self.node {
            node.tick();
            self.drain(now);
        }
    }

    fn propose(&mut self, now: u64, payload: Bytes) -> Option<(u64, u64)> {
        let node = self
            .node
            .as_mut()
            .filter(|node| node.raft.state == StateRole::Leader)?;
        node.propose(Vec::new(), payload.to_vec()).ok()?;
        let place = (node.raft.raft_log.last_index(), node.raft.term);
        self.drain(now);
        Some(place)
    }

    fn read(&mut self, now: u64) -> Option<u64> {
        let boot = self.boot();
        let node = self.node.as_mut()?;
        self.reads += 1;
        node.read_index(read_context(boot, self.reads));
        let read = self.id << 48 | self.boots << 32 | self.reads;
        self.drain(now);
        Some(read)
    }

    fn transfer(&mut self, now: u64, to: u64) {
        if let Some(node) = self
            .node
            .as_mut()
            .filter(|node| node.raft.state == StateRole::Leader)
        {
            node.transfer_leader(to);
            self.drain(now);
        }
    }

    fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    fn leads(&self) -> bool {
        self.node
            .as_ref()
            .is_some_and(|node| node.raft.state == StateRole::Leader)
    }

    fn term(&self) -> u64 {
        self.node
            .as_ref()
            .map_or(self.disk.durable.term, |node| node.raft.term)
    }

    fn commit(&self) -> u64 {
        self.node
            .as_ref()
            .map_or(0, |node| node.raft.raft_log.committed)
    }

    fn log(&self) -> &[Slot] {
        &self.log
    }
}
