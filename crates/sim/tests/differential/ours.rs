//! A member on our `raft` crate: its disk, its log as written, and the bugs that can be planted in it.

use crate::disk::{Disk, Write, overwrite};
use crate::member::{Kind, Limits, Member, Output, Slot, Wire};
use bytes::Bytes;
use raft::{
    Body, Boot, Configuration, Effect, Entry, Incarnation, Index, Input, Instant, MemberId,
    Message, Payload, PeerId, Persist, Raft, Restored, Role, Settings, SnapshotMark, Standing,
    Term, Vote,
};
use std::time::Duration;

/// A bug planted in our members, to see that the run finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// Says that writes are durable when they are only handed over.
    TrustsTheCache,
    /// Never stores term and vote.
    StoresNoVote,
    /// Acknowledges appends that did not fit.
    ForgesAcknowledgements,
    /// Grants every vote it is asked for.
    GrantsEveryVote,
    /// Answers a confirmed read with the index it knows, asking nobody.
    SkipsTheReadBarrier,
    /// Nothing in our members: the translator passes on a commit index that the follower's log may not reach or match.
    BelievesEveryCommit,
}

pub fn peer(member: u64) -> PeerId {
    PeerId {
        member: MemberId(member),
        incarnation: Incarnation(0),
    }
}

pub fn entry(index: u64, slot: &Slot) -> Entry {
    Entry {
        term: Term(slot.term),
        index: Index(index),
        payload: if slot.payload.is_empty() {
            Payload::Noop
        } else {
            Payload::Batch(slot.payload.clone())
        },
    }
}

pub fn slot(entry: &Entry) -> Slot {
    let payload = match &entry.payload {
        Payload::Noop => Bytes::new(),
        Payload::Batch(bytes) => bytes.clone(),
        Payload::Configuration(configuration) => {
            panic!("no changes of membership here: {configuration}")
        }
    };
    Slot {
        term: entry.term.0,
        payload,
    }
}

pub struct Ours {
    id: u64,
    voters: Vec<u64>,
    seed: u64,
    settings: Settings,
    plant: Option<Plant>,
    raft: Option<Raft>,
    boots: u64,
    disk: Disk<()>,
    /// The log with what is not durable yet.
    log: Vec<Slot>,
    timer: Option<u64>,
    outputs: Vec<Output>,
}

impl Ours {
    pub fn new(id: u64, voters: &[u64], seed: u64, limits: &Limits, plant: Option<Plant>) -> Ours {
        Ours {
            id,
            voters: voters.to_vec(),
            seed,
            settings: Settings {
                append_bytes_max: limits.append_bytes_max,
                inflight_count_max: limits.inflight_max,
                // Little stays in memory: reading back is part of what is tried.
                cache_bytes_max: 2000,
                // A hand-over from a stalled disk is ours alone. Leadership moves when the run says so.
                disk_stall: Duration::from_secs(3600),
                ..Settings::default()
            },
            plant,
            raft: None,
            boots: 0,
            disk: Disk::new(),
            log: Vec::new(),
            timer: None,
            outputs: Vec::new(),
        }
    }

    fn boot(&self) -> Boot {
        Boot(self.id << 32 | self.boots)
    }

    /// The run's number of a read of this boot.
    fn read_number(&self, sequence: u64) -> u64 {
        self.id << 48 | self.boots << 32 | sequence
    }

    fn restored(&self) -> Restored {
        let durable = &self.disk.durable;
        let mut terms: Vec<(Index, Term)> = Vec::new();
        for (nth, slot) in durable.log.iter().enumerate() {
            if terms.last().is_none_or(|(_, term)| term.0 != slot.term) {
                terms.push((Index(nth as u64 + 1), Term(slot.term)));
            }
        }
        Restored {
            id: peer(self.id),
            boot: self.boot(),
            vote: Vote {
                term: Term(durable.term),
                candidate: (durable.vote != 0).then(|| peer(durable.vote)),
            },
            snapshot: SnapshotMark {
                index: Index(0),
                term: Term(0),
                configuration: Configuration {
                    voters: self.voters.iter().map(|id| peer(*id)).collect(),
                    ..Configuration::default()
                },
            },
            terms,
            last: Index(durable.log.len() as u64),
            configurations: Vec::new(),
            // It may always know less than was written.
            commit: Index(0),
            standing: Standing::Sound,
        }
    }

    /// Ends a turn: does what the member wants done, and applies what is committed.
    fn drain(&mut self, now: u64) {
        while let Some(raft) = &mut self.raft {
            if let Some(effect) = raft.poll() {
                self.on_effect(now, effect);
                continue;
            }
            let committed = raft.take_committed(1000);
            if committed.is_empty() {
                // Asking may have begun a read from the log.
                match raft.poll() {
                    Some(effect) => self.on_effect(now, effect),
                    None => break,
                }
            }
            self.outputs
                .extend(committed.iter().map(|entry| Output::Applied {
                    index: entry.index.0,
                    slot: slot(entry),
                }));
        }
    }

    fn on_effect(&mut self, now: u64, effect: Effect) {
        match effect {
            Effect::Persist(persist) => self.on_persist(now, persist),
            Effect::Send { to, message } => {
                let message = self.planted(message);
                self.outputs.push(Output::Send {
                    to: to.member.0,
                    wire: Wire::Ours(message.encode()),
                });
            }
            Effect::Fetch { from, bytes_max } => {
                let mut bytes = 0;
                let entries = (from.0..).zip(&self.log[from.0 as usize - 1..]);
                let entries = entries
                    .take_while(|(index, slot)| {
                        bytes += slot.payload.len();
                        *index == from.0 || bytes <= bytes_max
                    })
                    .map(|(index, slot)| entry(index, slot))
                    .collect();
                self.handle(now, Input::Fetched { from, entries });
            }
            Effect::ReadReady { read, index, .. } => self.outputs.push(Output::ReadReady {
                read: self.read_number(read),
                index: index.0,
            }),
            Effect::SetTimer(at) => self.timer = Some(at.0),
            Effect::ReadFailed { .. }
            | Effect::RoleChanged { .. }
            | Effect::ConfigurationChanged(_) => {}
            Effect::Forwarded { .. } | Effect::ForwardRefused { .. } => {
                panic!("nothing is forwarded in this run: {effect:?}")
            }
            Effect::SendSnapshot { .. } | Effect::RestoreSnapshot(_) => {
                panic!("no log is compacted in this run: {effect:?}")
            }
        }
    }

    fn on_persist(&mut self, now: u64, persist: Persist) {
        assert!(
            persist.reset.is_none(),
            "no snapshots in this run: {persist:?}"
        );
        let entries = persist.entries.first().map(|first| {
            let slots: Vec<Slot> = persist.entries.iter().map(slot).collect();
            overwrite(&mut self.log, first.index.0, slots.iter().cloned());
            (first.index.0, slots)
        });
        self.disk.write(Write {
            number: persist.sequence,
            vote: persist
                .vote
                .filter(|_| self.plant != Some(Plant::StoresNoVote))
                .map(|vote| (vote.term.0, vote.candidate.map_or(0, |peer| peer.member.0))),
            commit: None,
            entries,
            afterwards: Vec::new(),
        });
        self.outputs.push(Output::Wrote);
        if self.plant == Some(Plant::TrustsTheCache) {
            self.handle(now, Input::Persisted(persist.sequence));
        }
    }

    fn planted(&self, mut message: Message) -> Message {
        match (self.plant, &mut message.body) {
            (
                Some(Plant::ForgesAcknowledgements),
                Body::AppendReply {
                    matched, rejected, ..
                },
            ) => {
                if let Some(rejection) = rejected.take() {
                    *matched = rejection.prev_index;
                }
            }
            (Some(Plant::GrantsEveryVote), Body::VoteReply { granted }) => *granted = true,
            _ => {}
        }
        message
    }

    fn handle(&mut self, now: u64, input: Input) {
        if let Some(raft) = &mut self.raft {
            raft.handle(Instant(now), input);
        }
    }
}

impl Member for Ours {
    fn kind(&self) -> Kind {
        Kind::Ours
    }

    fn is_up(&self) -> bool {
        self.raft.is_some()
    }

    fn start(&mut self, now: u64) {
        assert!(self.raft.is_none(), "{} runs already", self.id);
        self.boots += 1;
        self.log = self.disk.durable.log.clone();
        let seed = self.seed.wrapping_add(self.boot().0);
        self.raft = Some(Raft::new(
            self.settings.clone(),
            self.restored(),
            seed,
            Instant(now),
        ));
        self.drain(now);
    }

    fn crash(&mut self, survivors: usize) {
        self.raft = None;
        self.timer = None;
        self.disk.crash(survivors);
        self.log = self.disk.durable.log.clone();
    }

    fn writes(&self) -> usize {
        self.disk.under_way()
    }

    fn complete_write(&mut self, now: u64) {
        if let Some((sequence, _)) = self.disk.complete() {
            self.handle(now, Input::Persisted(sequence));
            self.drain(now);
        }
    }

    fn deliver(&mut self, now: u64, from: u64, wire: Wire) {
        let Wire::Ours(bytes) = wire else {
            panic!("a message for {} was not translated: {wire:?}", self.id)
        };
        let message = Message::decode(bytes).expect("what members send can be read");
        self.handle(
            now,
            Input::Message {
                from: peer(from),
                message,
            },
        );
        self.drain(now);
    }

    fn wake_at(&self) -> u64 {
        self.timer.unwrap_or(u64::MAX)
    }

    fn wake(&mut self, now: u64) {
        self.timer = None;
        self.handle(now, Input::TimerFired);
        self.drain(now);
    }

    fn propose(&mut self, now: u64, payload: Bytes) -> Option<(u64, u64)> {
        let raft = self.raft.as_mut()?;
        let index = raft.propose(Instant(now), payload).ok()?;
        let term = raft.term().0;
        self.drain(now);
        Some((index.0, term))
    }

    fn read(&mut self, now: u64) -> Option<u64> {
        let raft = self.raft.as_mut()?;
        let sequence = raft.read(Instant(now));
        let commit = raft.commit().0;
        let read = self.read_number(sequence);
        if self.plant == Some(Plant::SkipsTheReadBarrier) {
            self.outputs.push(Output::ReadReady {
                read,
                index: commit,
            });
        }
        self.drain(now);
        Some(read)
    }

    fn transfer(&mut self, now: u64, to: u64) {
        if let Some(raft) = &mut self.raft {
            // Refused unless it leads.
            let _ = raft.transfer(Instant(now), Some(peer(to)));
            self.drain(now);
        }
    }

    fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    fn leads(&self) -> bool {
        self.raft
            .as_ref()
            .is_some_and(|raft| raft.role() == Role::Leader)
    }

    fn term(&self) -> u64 {
        self.raft
            .as_ref()
            .map_or(self.disk.durable.term, |raft| raft.term().0)
    }

    fn commit(&self) -> u64 {
        self.raft.as_ref().map_or(0, |raft| raft.commit().0)
    }

    fn log(&self) -> &[Slot] {
        &self.log
    }
}
