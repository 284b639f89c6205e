//! A cluster of pure Rafts whose network, disks and time are in the hands of a test. Every step is checked against Raft's five properties.
//!
//! Used by the golden scripts (`scripts.rs`) and the randomized runs (`fuzz.rs`). Messages travel in their wire form.

#![allow(dead_code)]

mod disk;
mod properties;

pub use disk::Disk;
use synod_raft as raft;

use raft::{
    Boot, Configuration, Effect, Entry, Incarnation, Index, Input, Instant, Member, MemberId,
    Message, Payload, PeerId, Persist, Raft, Role, Settings, SnapshotMark, Standing, Term,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

pub fn peer(member: u64, incarnation: u32) -> PeerId {
    PeerId {
        member: MemberId(member),
        incarnation: Incarnation(incarnation),
    }
}

/// A configuration of these voters and learners.
pub fn configuration(voters: &[PeerId], learners: &[PeerId]) -> Configuration {
    let member = |peer: &PeerId| {
        (
            peer.member,
            Member {
                incarnation: peer.incarnation,
                name: format!("n{}", peer.member.0),
                ..Member::default()
            },
        )
    };
    Configuration {
        voters: voters.iter().copied().collect(),
        learners: learners.iter().copied().collect(),
        members: voters.iter().chain(learners).map(member).collect(),
        ..Configuration::default()
    }
}

/// One member and what surrounds it.
pub struct Node {
    pub id: PeerId,
    pub raft: Option<Raft>,
    pub disk: Disk,
    /// Writes handed over and not durable.
    pub writes: VecDeque<Persist>,
    /// Writes complete only when told.
    pub disk_held: bool,
    /// Reads of the log are answered only when told.
    pub fetches_held: bool,
    pub fetches: VecDeque<(Index, usize)>,
    pub timer: Option<Instant>,
    pub applied: Index,
    /// Snapshots it was asked to send.
    pub snapshots: VecDeque<PeerId>,
    pub boots: u64,
    commit: Index,
    term: Term,
}

#[derive(Clone, Debug)]
pub struct Envelope {
    pub from: PeerId,
    pub to: PeerId,
    pub bytes: bytes::Bytes,
}

impl Envelope {
    pub fn message(&self) -> Message {
        Message::decode(self.bytes.clone()).expect("what a member sends can be read")
    }
}

/// A read under way, for the oracle: what was committed anywhere when it began.
#[derive(Clone, Copy, Debug)]
pub struct PendingRead {
    pub begun: Instant,
    pub floor: Index,
}

pub struct Cluster {
    pub settings: Settings,
    pub now: Instant,
    pub nodes: BTreeMap<u64, Node>,
    pub network: Vec<Envelope>,
    pub trace: Vec<String>,
    pub traced: bool,
    /// Prints the trace as it happens instead of keeping it.
    pub live: bool,
    pub seed: u64,
    /// What was decided at each index, by the first member that took it.
    pub decided: BTreeMap<Index, Entry>,
    /// The configuration in force at each decided index.
    leaders: BTreeMap<Term, PeerId>,
    pub reads: BTreeMap<(u64, u64, u64), PendingRead>,
    /// Reads that ended, for tests.
    pub reads_ready: u64,
    pub reads_failed: u64,
    /// Forwards accepted, by (origin, boot, sequence).
    forwarded: BTreeSet<(PeerId, Boot, u64)>,
    /// Forwards a member was told are refused: (origin, boot, sequence).
    refused: BTreeSet<(PeerId, Boot, u64)>,
    pub forwards_sent: BTreeMap<(PeerId, Boot), Vec<(u64, Term)>>,
}

impl Cluster {
    pub fn new(settings: Settings, seed: u64) -> Cluster {
        Cluster {
            settings,
            now: Instant(1_000_000),
            nodes: BTreeMap::new(),
            network: Vec::new(),
            trace: Vec::new(),
            traced: true,
            live: false,
            seed,
            decided: BTreeMap::new(),
            leaders: BTreeMap::new(),
            reads: BTreeMap::new(),
            reads_ready: 0,
            reads_failed: 0,
            forwarded: BTreeSet::new(),
            refused: BTreeSet::new(),
            forwards_sent: BTreeMap::new(),
        }
    }

    pub fn add(&mut self, id: PeerId, disk: Disk) {
        let node = Node {
            id,
            raft: None,
            disk,
            writes: VecDeque::new(),
            disk_held: false,
            fetches_held: false,
            fetches: VecDeque::new(),
            timer: None,
            applied: Index(0),
            snapshots: VecDeque::new(),
            boots: 0,
            commit: Index(0),
            term: Term(0),
        };
        self.nodes.insert(id.member.0, node);
        self.start(id.member.0);
    }

    pub fn note(&mut self, line: String) {
        if self.live {
            eprintln!("{:>9} {line}", self.now.0);
        } else if self.traced {
            self.trace.push(line);
        }
    }

    pub fn name(&self, peer: PeerId) -> String {
        if peer.incarnation.0 == 0 {
            format!("{}", peer.member.0)
        } else {
            format!("{}.{}", peer.member.0, peer.incarnation.0)
        }
    }

    pub fn is_up(&self, member: u64) -> bool {
        self.nodes
            .get(&member)
            .is_some_and(|node| node.raft.is_some())
    }

    pub fn raft(&self, member: u64) -> &Raft {
        self.nodes[&member].raft.as_ref().expect("the member runs")
    }

    pub fn boot(&self, member: u64) -> Boot {
        Boot(member * 1_000_000 + self.nodes[&member].boots)
    }

    /// Starts a member from its disk.
    pub fn start(&mut self, member: u64) {
        let (settings, now) = (self.settings.clone(), self.now);
        let node = self.nodes.get_mut(&member).expect("known");
        assert!(node.raft.is_none(), "{member} runs already");
        node.boots += 1;
        let boot = Boot(member * 1_000_000 + node.boots);
        let seed = self.seed.wrapping_mul(31).wrapping_add(boot.0);
        let restored = node.disk.restored(node.id, boot);
        node.applied = restored.snapshot.index;
        node.commit = restored.snapshot.index;
        node.term = restored.vote.term;
        node.raft = Some(Raft::new(settings, restored, seed, now));
        self.drain(member);
    }

    /// Stops a member; what is not durable is gone.
    pub fn crash(&mut self, member: u64) {
        let node = self.nodes.get_mut(&member).expect("known");
        node.raft = None;
        node.writes.clear();
        node.fetches.clear();
        node.snapshots.clear();
        node.timer = None;
        let boot = node.boots;
        self.reads.retain(|(m, b, _), _| (*m, *b) != (member, boot));
    }

    pub fn handle(&mut self, member: u64, input: Input) {
        let now = self.now;
        if let Some(raft) = self
            .nodes
            .get_mut(&member)
            .and_then(|node| node.raft.as_mut())
        {
            raft.handle(now, input);
            self.drain(member);
        }
    }

    /// Fires the member's timer if it is due.
    pub fn fire(&mut self, member: u64) {
        let now = self.now;
        let node = self.nodes.get_mut(&member).expect("known");
        if node.timer.is_some_and(|timer| timer <= now) {
            node.timer = None;
            self.handle(member, Input::TimerFired);
        }
    }

    /// Completes up to `count` writes of a member.
    pub fn complete_writes(&mut self, member: u64, count: usize) {
        let node = self.nodes.get_mut(&member).expect("known");
        let mut newest = None;
        for _ in 0..count {
            let Some(persist) = node.writes.pop_front() else {
                break;
            };
            node.disk.write(&persist);
            newest = Some(persist.sequence);
        }
        if let Some(sequence) = newest {
            self.note(format!("{member} durable {sequence}"));
            self.handle(member, Input::Persisted(sequence));
        }
    }

    pub fn answer_fetches(&mut self, member: u64) {
        while let Some((from, bytes_max)) = self
            .nodes
            .get_mut(&member)
            .and_then(|node| node.fetches.pop_front())
        {
            let (mut bytes, mut entries) = (0, Vec::new());
            let mut expected = from;
            for (index, entry) in self.nodes[&member].disk.entries.range(from..) {
                bytes += 48
                    + if let Payload::Batch(batch) = &entry.payload {
                        batch.len()
                    } else {
                        0
                    };
                if *index != expected || (bytes > bytes_max && !entries.is_empty()) {
                    break;
                }
                expected = expected.next();
                entries.push(entry.clone());
            }
            self.note(format!("{member} fetched {} from {from}", entries.len()));
            self.handle(member, Input::Fetched { from, entries });
        }
    }

    /// Delivers a message, if the receiver runs in the incarnation addressed or any other (which must ignore it).
    pub fn deliver(&mut self, envelope: Envelope) {
        let to = envelope.to.member.0;
        if self.is_up(to) {
            let message = envelope.message();
            self.handle(
                to,
                Input::Message {
                    from: envelope.from,
                    message,
                },
            );
        }
    }

    pub fn propose(&mut self, member: u64, batch: &str) -> Result<Index, raft::ProposeError> {
        let now = self.now;
        let raft = self
            .nodes
            .get_mut(&member)
            .and_then(|node| node.raft.as_mut())
            .expect("the member runs");
        let outcome = raft.propose(now, bytes::Bytes::copy_from_slice(batch.as_bytes()));
        self.drain(member);
        outcome
    }

    pub fn forward(&mut self, member: u64, batch: &str) -> Result<u64, raft::ProposeError> {
        let (now, boot) = (self.now, self.boot(member));
        let id = self.nodes[&member].id;
        let raft = self
            .nodes
            .get_mut(&member)
            .and_then(|node| node.raft.as_mut())
            .expect("the member runs");
        let outcome = raft.forward(now, bytes::Bytes::copy_from_slice(batch.as_bytes()));
        let term = raft.term();
        if let Ok(sequence) = outcome {
            self.forwards_sent
                .entry((id, boot))
                .or_default()
                .push((sequence, term));
        }
        self.drain(member);
        outcome
    }

    pub fn read(&mut self, member: u64) -> u64 {
        let now = self.now;
        let floor = self.decided.keys().next_back().copied().unwrap_or_default();
        let node = self.nodes.get_mut(&member).expect("known");
        let read = node.raft.as_mut().expect("the member runs").read(now);
        let key = (member, node.boots, read);
        self.reads.insert(key, PendingRead { begun: now, floor });
        read
    }

    pub fn change(
        &mut self,
        member: u64,
        target: Configuration,
    ) -> Result<Index, raft::ChangeError> {
        let now = self.now;
        let outcome = self
            .nodes
            .get_mut(&member)
            .and_then(|node| node.raft.as_mut())
            .expect("runs")
            .change_membership(now, target);
        self.drain(member);
        outcome
    }

    pub fn transfer(
        &mut self,
        member: u64,
        target: Option<PeerId>,
    ) -> Result<(), raft::TransferError> {
        let now = self.now;
        let outcome = self
            .nodes
            .get_mut(&member)
            .and_then(|node| node.raft.as_mut())
            .expect("runs")
            .transfer(now, target);
        self.drain(member);
        outcome
    }

    pub fn set_reluctant(&mut self, member: u64, peers: BTreeSet<PeerId>) {
        let node = self.nodes.get_mut(&member);
        let raft = node.and_then(|node| node.raft.as_mut()).expect("runs");
        raft.set_reluctant(peers);
    }

    /// The configuration in force at a decided index, as far as the members' histories tell.
    pub fn configuration_at(&self, member: u64, index: Index) -> Configuration {
        let disk = &self.nodes[&member].disk;
        let mut configuration = disk.snapshot.configuration.clone();
        for (_, entry) in self.decided.range(disk.snapshot.index.next()..=index) {
            if let Payload::Configuration(newer) = &entry.payload {
                configuration = newer.clone();
            }
        }
        configuration
    }

    /// Takes a snapshot of the member's state and lets its log forget what is before `keep_from`.
    pub fn compact(&mut self, member: u64, keep_from: Index) {
        let index = self.nodes[&member].applied;
        if index <= self.nodes[&member].disk.snapshot.index {
            return;
        }
        let term = self.decided[&index].term;
        let mark = SnapshotMark {
            index,
            term,
            configuration: self.configuration_at(member, index),
        };
        let node = self.nodes.get_mut(&member).expect("known");
        node.disk.snapshot = mark.clone();
        let keep = keep_from.min(index.next());
        node.disk.entries = node.disk.entries.split_off(&keep);
        node.raft
            .as_mut()
            .expect("the member runs")
            .compact(mark, keep_from);
        self.drain(member);
    }

    /// Carries a snapshot that `from` was asked to send. `false`: it failed on the way.
    pub fn carry_snapshot(&mut self, from: u64, arrives: bool) {
        let Some(to) = self
            .nodes
            .get_mut(&from)
            .and_then(|node| node.snapshots.pop_front())
        else {
            return;
        };
        let receiver = to.member.0;
        let mark = self.nodes[&from].disk.snapshot.clone();
        let up = self.is_up(receiver) && self.nodes[&receiver].id == to;
        if !arrives || !up {
            self.handle(from, Input::SnapshotSent { to, index: None });
            return;
        }
        self.note(format!(
            "{from} snapshot {}/t{} → {receiver}",
            mark.index, mark.term
        ));
        let node = self.nodes.get_mut(&receiver).expect("known");
        if mark.index > node.disk.snapshot.index {
            node.disk.snapshot = mark.clone();
        }
        let index = mark.index;
        self.handle(receiver, Input::SnapshotStaged(mark));
        self.handle(
            from,
            Input::SnapshotSent {
                to,
                index: Some(index),
            },
        );
    }

    /// Does what a member wants done: its turn ends.
    pub fn drain(&mut self, member: u64) {
        loop {
            let Some(effect) = self
                .nodes
                .get_mut(&member)
                .and_then(|node| node.raft.as_mut())
                .and_then(Raft::poll)
            else {
                if self.apply(member) {
                    continue;
                }
                break;
            };
            self.effect(member, effect);
        }
        self.check(member);
    }

    /// Takes what is committed; tells whether there was any, or more effects came of it.
    fn apply(&mut self, member: u64) -> bool {
        let Some(raft) = self
            .nodes
            .get_mut(&member)
            .and_then(|node| node.raft.as_mut())
        else {
            return false;
        };
        let entries = raft.take_committed(4096);
        if entries.is_empty() {
            return if let Some(effect) = raft.poll() {
                self.effect(member, effect);
                true
            } else {
                false
            };
        }
        for entry in entries {
            let node = self.nodes.get_mut(&member).expect("known");
            assert_eq!(
                entry.index,
                node.applied.next(),
                "{member} takes entries in order"
            );
            node.applied = entry.index;
            // State machine safety (Raft paper, figure 3).
            let first = self
                .decided
                .entry(entry.index)
                .or_insert_with(|| entry.clone());
            assert_eq!(
                *first, entry,
                "{member} decides something else at {}",
                entry.index
            );
            self.note(format!("{member} applies {entry}"));
        }
        true
    }

    fn effect(&mut self, member: u64, effect: Effect) {
        let (now, boots, boot) = (self.now, self.nodes[&member].boots, self.boot(member));
        match effect {
            Effect::Persist(persist) => {
                let mut parts = Vec::new();
                if let Some(vote) = persist.vote {
                    let candidate = vote
                        .candidate
                        .map_or("nobody".to_string(), |candidate| self.name(candidate));
                    parts.push(format!("vote t{} for {candidate}", vote.term));
                }
                if let Some(mark) = &persist.reset {
                    parts.push(format!("reset to {}/t{}", mark.index, mark.term));
                }
                if !persist.entries.is_empty() {
                    parts.push(
                        persist
                            .entries
                            .iter()
                            .map(|entry| entry.to_string())
                            .collect::<Vec<_>>()
                            .join(" "),
                    );
                }
                self.note(format!(
                    "{member} persist {}: {}",
                    persist.sequence,
                    parts.join("; ")
                ));
                self.nodes
                    .get_mut(&member)
                    .expect("known")
                    .writes
                    .push_back(persist);
            }
            Effect::Send { to, message } => {
                self.note(format!("{member} → {}  {message}", self.name(to)));
                let from = self.nodes[&member].id;
                self.network.push(Envelope {
                    from,
                    to,
                    bytes: message.encode(),
                });
            }
            Effect::Fetch { from, bytes_max } => {
                self.note(format!("{member} fetch from {from}"));
                self.nodes
                    .get_mut(&member)
                    .expect("known")
                    .fetches
                    .push_back((from, bytes_max));
            }
            Effect::ReadReady { read, index, asked } => {
                let begun = self
                    .reads
                    .remove(&(member, boots, read))
                    .expect("a read ends once");
                // Linearizability: nothing decided before the read began is missed.
                assert!(
                    index >= begun.floor,
                    "{member} read {read} at {index}, {} was decided before",
                    begun.floor
                );
                assert!(
                    asked >= begun.begun && asked <= now,
                    "{member} read {read} asked at {asked:?}, begun {:?}",
                    begun.begun
                );
                self.reads_ready += 1;
                self.note(format!("{member} read {read} ready at {index}"));
            }
            Effect::ReadFailed { read } => {
                self.reads
                    .remove(&(member, boots, read))
                    .expect("a read ends once");
                self.reads_failed += 1;
                self.note(format!("{member} read {read} failed"));
            }
            Effect::Forwarded {
                origin,
                boot,
                sequence,
                body,
            } => {
                assert!(
                    self.forwarded.insert((origin, boot, sequence)),
                    "forward {sequence} of {origin} accepted twice"
                );
                assert!(
                    !self.refused.contains(&(origin, boot, sequence)),
                    "forward {sequence} of {origin} accepted after refusal"
                );
                self.note(format!(
                    "{member} accepts forward {sequence} of {}",
                    self.name(origin)
                ));
                let raft = self
                    .nodes
                    .get_mut(&member)
                    .and_then(|node| node.raft.as_mut())
                    .expect("the member runs");
                let outcome = raft.propose(now, body);
                assert!(
                    outcome.is_ok(),
                    "{member} accepted a forward it cannot propose: {outcome:?}"
                );
            }
            Effect::ForwardRefused { sequence } => {
                self.note(format!("{member} forwards from {sequence} refused"));
                let id = self.nodes[&member].id;
                let term = self.raft(member).term();
                for &(sent, sent_in) in self.forwards_sent.get(&(id, boot)).into_iter().flatten() {
                    if sent >= sequence && sent_in == term {
                        assert!(
                            !self.forwarded.contains(&(id, boot, sent)),
                            "forward {sent} of {member} refused after it was accepted"
                        );
                        self.refused.insert((id, boot, sent));
                    }
                }
            }
            Effect::SendSnapshot { to } => {
                self.note(format!(
                    "{member} wants to send a snapshot to {}",
                    self.name(to)
                ));
                self.nodes
                    .get_mut(&member)
                    .expect("known")
                    .snapshots
                    .push_back(to);
            }
            Effect::RestoreSnapshot(mark) => {
                self.note(format!(
                    "{member} restores snapshot {}/t{}",
                    mark.index, mark.term
                ));
                let node = self.nodes.get_mut(&member).expect("known");
                assert!(
                    mark.index > node.applied,
                    "{member} goes back from {} to a snapshot at {}",
                    node.applied,
                    mark.index
                );
                node.applied = mark.index;
            }
            Effect::RoleChanged { role, term, leader } => self.on_role(member, role, term, leader),
            Effect::ConfigurationChanged(configuration) => {
                self.note(format!("{member} configuration {configuration}"))
            }
            Effect::SetTimer(at) => self.nodes.get_mut(&member).expect("known").timer = Some(at),
        }
    }

    fn on_role(&mut self, member: u64, role: Role, term: Term, leader: Option<PeerId>) {
        let leader = leader.map_or("nobody".to_string(), |leader| self.name(leader));
        let standing = match self.raft(member).status().standing {
            Standing::Sound => "",
            Standing::EntriesLost => ", entries lost",
        };
        self.note(format!(
            "{member} is {role:?} t{term}, leader {leader}{standing}"
        ));
        if self.raft(member).status().standing == Standing::Sound {
            self.nodes
                .get_mut(&member)
                .expect("known")
                .disk
                .entries_lost = false;
        }
        if role == Role::Leader {
            self.check_leader(member, term);
        }
    }

    pub fn leader(&self) -> Option<u64> {
        let leaders = self
            .nodes
            .keys()
            .copied()
            .filter(|m| self.is_up(*m) && self.raft(*m).role() == Role::Leader);
        leaders.max_by_key(|m| self.raft(*m).term())
    }

    /// Delivers everything, completes writes and reads of the log, until nothing moves. Timers do not fire.
    pub fn quiesce(&mut self, blocked: &dyn Fn(PeerId, PeerId) -> bool) {
        for _ in 0..100_000 {
            let mut moved = false;
            for member in self.nodes.keys().copied().collect::<Vec<_>>() {
                if !self.nodes[&member].disk_held && !self.nodes[&member].writes.is_empty() {
                    moved = true;
                    let count = self.nodes[&member].writes.len();
                    self.complete_writes(member, count);
                }
                if !self.nodes[&member].fetches_held && !self.nodes[&member].fetches.is_empty() {
                    moved = true;
                    self.answer_fetches(member);
                }
            }
            for envelope in std::mem::take(&mut self.network) {
                if !blocked(envelope.from, envelope.to) {
                    moved = true;
                    self.deliver(envelope);
                }
            }
            if !moved {
                return;
            }
        }
        panic!("the cluster does not come to rest");
    }

    /// Lets `time` pass: timers fire in order, and after each everything is delivered.
    pub fn run(&mut self, time: Duration, blocked: &dyn Fn(PeerId, PeerId) -> bool) {
        let end = self.now + time;
        self.quiesce(blocked);
        loop {
            let next = self
                .nodes
                .iter()
                .filter(|(_, n)| n.raft.is_some())
                .filter_map(|(m, n)| n.timer.map(|t| (t, *m)))
                .min();
            let Some((at, member)) = next.filter(|(at, _)| *at <= end) else {
                break;
            };
            self.now = self.now.max(at);
            self.fire(member);
            self.quiesce(blocked);
        }
        self.now = end;
    }
}
