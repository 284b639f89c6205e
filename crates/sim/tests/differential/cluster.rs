//! The mixed cluster of one run: virtual time, a network that loses, repeats, delays and reorders, disks that take their time, and faults
//! drawn from the seed. After the faults the cluster must serve again and agree on everything.

use crate::member::{Kind, Limits, Member, Output, Wire};
use crate::oracle::Oracle;
use crate::ours::{Ours, Plant};
use crate::random::Rng;
use crate::theirs::Theirs;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

const MILLISECOND: u64 = 1000;
const SECOND: u64 = 1000 * MILLISECOND;

/// How long faults last, in simulated time.
const FAULTS: u64 = 30 * SECOND;
/// How long a cluster without faults may take to be whole again.
const PATIENCE: u64 = 15 * SECOND;

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    pub ours: u64,
    pub theirs: u64,
}

/// What a run did, so that a test can see that it did something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    pub decided: u64,
    pub acknowledged: u64,
    pub reads: u64,
    /// Terms led by members on our raft, and on raft-rs.
    pub led_by_ours: u64,
    pub led_by_theirs: u64,
    pub crashes: u64,
    pub messages: u64,
    /// Messages between members on different libraries.
    pub translated: u64,
    /// Simulated microseconds from the last fault to a whole cluster that had decided something new.
    pub healed_after: u64,
    /// Changes with whatever happens in the run.
    pub fingerprint: u64,
}

enum Event {
    Deliver { from: u64, to: u64, wire: Wire },
    WriteEnds(u64),
    Crash(u64),
    Start(u64),
    Resume(u64),
    Mend(BTreeSet<(u64, u64)>),
    Client,
    Fault,
    Compare,
}

/// What the network and the disks are like, in microseconds and per mille.
struct Weather {
    lost: u64,
    repeated: u64,
    late: u64,
    delay: (u64, u64),
    write: (u64, u64),
}

pub struct Cluster {
    now: u64,
    rng: Rng,
    members: Vec<Box<dyn Member>>,
    queue: BTreeMap<(u64, u64), Event>,
    enqueued: u64,
    weather: Weather,
    /// Links that carry nothing, by sender and receiver.
    cut: BTreeSet<(u64, u64)>,
    paused: BTreeSet<u64>,
    /// How long a fault is waited for at most.
    fault_every: u64,
    /// How often a member crashes soon after it came to a new term, perhaps having voted: per mille.
    election_crashes: u64,
    /// Faults fall on leaders and pass soon, so that there are many elections.
    restless: bool,
    /// The term of each member when it was looked at last.
    terms: BTreeMap<u64, u64>,
    proposals: u64,
    oracle: Oracle,
    done: Done,
    /// Prints what happens.
    traced: bool,
}

impl Cluster {
    pub fn new(mix: Mix, seed: u64, plant: Option<Plant>, traced: bool) -> Cluster {
        let mut rng = Rng::new(seed << 8 | (mix.ours + mix.theirs));
        let limits = Limits {
            append_bytes_max: rng.pick(&[0, 100, 1000, 100_000]),
            inflight_max: rng.pick(&[1, 3, 100]),
        };
        let restless = rng.chance(400);
        let weather = Weather {
            lost: rng.pick(&[0, 10, 100, 250]),
            repeated: rng.pick(&[0, 10, 100]),
            late: rng.pick(&[0, 5, 50]),
            delay: rng.pick(&[(200, 1000), (200, 20_000), (1000, 150_000)]),
            write: if restless {
                rng.pick(&[(50, 500), (100, 5000)])
            } else {
                rng.pick(&[(50, 500), (100, 20_000), (1000, 400_000)])
            },
        };
        let voters: Vec<u64> = (1..=mix.ours + mix.theirs).collect();
        // Which members are whose differs from seed to seed: ids decide nothing, but orders of iteration follow them.
        let mut kinds = vec![Kind::Ours; mix.ours as usize];
        kinds.resize(voters.len(), Kind::Theirs);
        let turned = rng.below(voters.len() as u64) as usize;
        kinds.rotate_left(turned);
        let of_ours = voters
            .iter()
            .zip(&kinds)
            .filter(|(_, kind)| **kind == Kind::Ours);
        let foreign: BTreeSet<u64> = of_ours.map(|(id, _)| *id).collect();
        let members = voters.iter().map(|id| -> Box<dyn Member> {
            if foreign.contains(id) {
                Box::new(Ours::new(*id, &voters, seed, &limits, plant))
            } else {
                Box::new(Theirs::new(*id, &voters, &foreign, seed, &limits, plant))
            }
        });
        Cluster {
            now: SECOND,
            members: members.collect(),
            queue: BTreeMap::new(),
            enqueued: 0,
            weather,
            cut: BTreeSet::new(),
            paused: BTreeSet::new(),
            fault_every: rng.pick(&[300, 1000, 4000]) * MILLISECOND,
            election_crashes: rng.pick(if restless {
                &[50, 300, 500]
            } else {
                &[0, 50, 300]
            }),
            restless,
            terms: BTreeMap::new(),
            proposals: 0,
            oracle: Oracle::default(),
            done: Done::default(),
            traced,
            rng,
        }
    }

    /// Lives through faults, then heals; panics at a violation.
    pub fn run(mut self) -> Done {
        for id in 1..=self.members.len() as u64 {
            self.start(id);
        }
        for event in [Event::Client, Event::Fault, Event::Compare] {
            self.enqueue(10 * MILLISECOND, event);
        }
        let calm = self.now + FAULTS;
        while self.step(calm) {}
        self.heal();
        self.oracle.check_end();
        Oracle::check_logs(&self.members);
        self.account()
    }

    fn account(mut self) -> Done {
        let leaders = self.oracle.leaders.values();
        let ours = leaders
            .filter(|id| self.members[**id as usize - 1].kind() == Kind::Ours)
            .count();
        for slot in self.oracle.decided.values() {
            for byte in slot.term.to_be_bytes().iter().chain(&slot.payload) {
                self.done.fingerprint =
                    (self.done.fingerprint ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
            }
        }
        Done {
            decided: self.oracle.newest(),
            acknowledged: self.oracle.acknowledged.len() as u64,
            reads: self.oracle.reads_ready,
            led_by_ours: ours as u64,
            led_by_theirs: (self.oracle.leaders.len() - ours) as u64,
            ..self.done
        }
    }

    /// With everything mended, somebody leads, something new is decided, and all have it.
    fn heal(&mut self) {
        self.note(|| "calm".into());
        (self.weather.lost, self.weather.repeated, self.weather.late) = (0, 0, 0);
        (self.weather.delay, self.weather.write) = ((200, 1000), (100, 1000));
        self.cut.clear();
        self.election_crashes = 0;
        self.queue
            .retain(|_, event| !matches!(event, Event::Fault | Event::Crash(_)));
        for id in 1..=self.members.len() as u64 {
            self.paused.remove(&id);
            if !self.member(id).is_up() {
                self.start(id);
            }
        }
        let (calm, decided) = (self.now, self.oracle.acknowledged.len());
        while self.oracle.acknowledged.len() == decided {
            assert!(
                self.now < calm + PATIENCE,
                "nothing new is decided after the faults: {}",
                self.standings()
            );
            self.step(self.now + 10 * MILLISECOND);
        }
        self.done.healed_after = self.now - calm;
        // No more clients: everybody gets to the same end.
        self.queue
            .retain(|_, event| !matches!(event, Event::Client));
        let quiet = self.now;
        while !self.is_whole() {
            assert!(
                self.now < quiet + PATIENCE,
                "not whole after the faults: {}",
                self.standings()
            );
            self.step(self.now + 10 * MILLISECOND);
        }
    }

    fn is_whole(&self) -> bool {
        let Some(leader) = self
            .members
            .iter()
            .filter(|member| member.leads())
            .max_by_key(|member| member.term())
        else {
            return false;
        };
        let end = leader.log().len() as u64;
        let has_all = |member: &dyn Member| member.commit() == end && member.log() == leader.log();
        self.members.iter().all(|member| has_all(member.as_ref()))
            && self.oracle.applied.values().all(|applied| *applied == end)
    }

    fn standings(&self) -> String {
        let standing = |(nth, member): (usize, &dyn Member)| {
            let (kind, role) = (
                member.kind(),
                if member.leads() { "leads" } else { "follows" },
            );
            let (term, commit, last) = (member.term(), member.commit(), member.log().len());
            format!(
                "{} ({kind:?}) {role} in term {term}, commit {commit} of {last}",
                nth + 1
            )
        };
        self.members
            .iter()
            .map(|member| member.as_ref())
            .enumerate()
            .map(standing)
            .collect::<Vec<_>>()
            .join("; ")
    }

    fn member(&mut self, id: u64) -> &mut dyn Member {
        self.members[id as usize - 1].as_mut()
    }

    fn note(&self, line: impl FnOnce() -> String) {
        if self.traced {
            eprintln!("{:>10} {}", self.now, line());
        }
    }

    fn enqueue(&mut self, wait: u64, event: Event) {
        self.enqueued += 1;
        self.queue.insert((self.now + wait, self.enqueued), event);
    }

    /// Does the next thing that happens before `end`; false if there is none, and the time is `end`.
    fn step(&mut self, end: u64) -> bool {
        let ids = (1..=self.members.len() as u64).filter(|id| !self.paused.contains(id));
        let wake = ids
            .map(|id| (self.members[id as usize - 1].wake_at(), id))
            .min();
        let event = self.queue.first_key_value().map(|((at, _), _)| *at);
        let (wake_at, event_at) = (
            wake.map_or(u64::MAX, |(at, _)| at),
            event.unwrap_or(u64::MAX),
        );
        if wake_at.min(event_at) > end {
            self.now = end;
            return false;
        }
        self.now = self.now.max(wake_at.min(event_at));
        self.done.fingerprint = (self.done.fingerprint ^ self.now).wrapping_mul(0x100_0000_01b3);
        if event_at <= wake_at {
            let (_, event) = self.queue.pop_first().expect("just seen");
            self.on_event(event);
        } else if let Some((_, id)) = wake {
            let now = self.now;
            self.member(id).wake(now);
            self.settle(id);
        }
        true
    }

    fn on_event(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Deliver { from, to, wire } => self.deliver(from, to, wire),
            Event::WriteEnds(id) => {
                self.member(id).complete_write(now);
                self.settle(id);
            }
            Event::Crash(id) => self.crash(id),
            Event::Start(id) => {
                if !self.member(id).is_up() {
                    self.start(id);
                }
            }
            Event::Resume(id) => {
                self.paused.remove(&id);
            }
            Event::Mend(links) => self.cut.retain(|link| !links.contains(link)),
            Event::Client => {
                self.client();
                let wait = self.rng.between(1, 40) * MILLISECOND;
                self.enqueue(wait, Event::Client);
            }
            Event::Fault => {
                self.fault();
                let wait = self.rng.between(1, self.fault_every);
                self.enqueue(wait, Event::Fault);
            }
            Event::Compare => {
                Oracle::check_logs(&self.members);
                self.enqueue(500 * MILLISECOND, Event::Compare);
            }
        }
    }

    fn deliver(&mut self, from: u64, to: u64, wire: Wire) {
        if !self.member(to).is_up() {
            return;
        }
        if self.paused.contains(&to) {
            // It waits in a socket.
            return self.enqueue(10 * MILLISECOND, Event::Deliver { from, to, wire });
        }
        self.note(|| format!("{from} → {to}  {}", told(&wire)));
        let now = self.now;
        self.member(to).deliver(now, from, wire);
        self.settle(to);
    }

    /// Takes what a member did, checks it, and carries what it says.
    fn settle(&mut self, id: u64) {
        for output in self.member(id).take_outputs() {
            match output {
                Output::Send { to, wire } => self.carry(id, to, wire),
                Output::Applied { index, slot } => {
                    self.note(|| format!("{id} applies {index}/t{}", slot.term));
                    self.oracle.on_applied(id, index, slot);
                }
                Output::ReadReady { read, index } => {
                    self.note(|| format!("{id} may serve read {read:x} at {index}"));
                    self.oracle.on_read_ready(read, index);
                }
                Output::Wrote => {
                    let (least, most) = self.weather.write;
                    let wait = self.rng.between(least, most);
                    self.enqueue(wait, Event::WriteEnds(id));
                }
            }
        }
        self.oracle
            .check(id, self.members[id as usize - 1].as_ref());
        let term = self.member(id).term();
        if self
            .terms
            .insert(id, term)
            .is_some_and(|before| before < term)
            && self.rng.chance(self.election_crashes)
        {
            let wait = self.rng.pick(&[0, 1, 20, 100]);
            self.enqueue(wait * MILLISECOND, Event::Crash(id));
        }
    }

    fn carry(&mut self, from: u64, to: u64, wire: Wire) {
        self.done.messages += 1;
        let kind = |id: u64| self.members[id as usize - 1].kind();
        self.done.translated += u64::from(kind(from) != kind(to));
        if self.cut.contains(&(from, to)) || self.rng.chance(self.weather.lost) {
            return;
        }
        let copies = 1 + u64::from(self.rng.chance(self.weather.repeated));
        for _ in 0..copies {
            let (least, most) = self.weather.delay;
            let mut wait = self.rng.between(least, most);
            if self.rng.chance(self.weather.late) {
                wait += self.rng.below(3 * SECOND);
            }
            self.enqueue(
                wait,
                Event::Deliver {
                    from,
                    to,
                    wire: wire.clone(),
                },
            );
        }
    }

    fn client(&mut self) {
        let now = self.now;
        for id in 1..=self.members.len() as u64 {
            if self.paused.contains(&id) {
                continue;
            }
            if self.member(id).leads() && self.rng.chance(700) {
                self.proposals += 1;
                let length = self.rng.pick(&[8, 8, 30, 300]);
                let mut payload = format!("{id}:{};", self.proposals).into_bytes();
                payload.resize(payload.len().max(length), b'.');
                let payload = Bytes::from(payload);
                self.oracle.may_be_decided(payload.clone());
                if let Some(place) = self.member(id).propose(now, payload.clone()) {
                    self.note(|| format!("{id} proposes {}/t{}", place.0, place.1));
                    self.oracle.on_propose(id, place, payload);
                }
                self.settle(id);
            }
            if self.rng.chance(200) {
                if let Some(read) = self.member(id).read(now) {
                    self.note(|| format!("{id} begins read {read:x}"));
                    self.oracle.on_read(read);
                }
                self.settle(id);
            }
        }
    }

    fn start(&mut self, id: u64) {
        self.note(|| format!("{id} starts"));
        self.oracle.on_start(id);
        let now = self.now;
        self.member(id).start(now);
        self.settle(id);
    }

    fn crash(&mut self, id: u64) {
        if !self.member(id).is_up() {
            return;
        }
        self.note(|| format!("{id} crashes"));
        self.done.crashes += 1;
        let writes = self.member(id).writes() as u64;
        let survivors = if self.rng.chance(500) {
            self.rng.below(writes + 1)
        } else {
            0
        };
        self.member(id).crash(survivors as usize);
        let waits = if self.restless {
            [1, 1, 10, 100]
        } else {
            [1, 100, 1000, 3000]
        };
        let wait = self.rng.pick(&waits);
        self.enqueue(wait * MILLISECOND, Event::Start(id));
    }

    fn fault(&mut self) {
        let count = self.members.len() as u64;
        let leader = (1..=count).find(|id| self.members[*id as usize - 1].leads());
        let any = self.rng.between(1, count);
        let victim = leader
            .filter(|_| self.restless || self.rng.chance(500))
            .unwrap_or(any);
        let other = (victim + self.rng.between(1, count - 1) - 1) % count + 1;
        let mut links = BTreeSet::new();
        match self.rng.below(9) {
            0 | 1 => self.crash(victim),
            2 => (1..=count).for_each(|id| self.crash(id)),
            3 => {
                self.paused.insert(victim);
                let wait = self.rng.between(50, 2000);
                self.enqueue(wait * MILLISECOND, Event::Resume(victim));
            }
            4 => {
                let now = self.now;
                self.member(victim).transfer(now, other);
                self.settle(victim);
            }
            // Nobody reaches it, it reaches nobody, both, or only one link is gone.
            5 => links.extend((1..=count).map(|id| (id, victim))),
            6 => links.extend((1..=count).map(|id| (victim, id))),
            7 => links.extend((1..=count).flat_map(|id| [(id, victim), (victim, id)])),
            _ => links.extend([(victim, other), (other, victim)]),
        }
        if !links.is_empty() {
            self.note(|| format!("cut {links:?}"));
            self.cut.extend(&links);
            let waits = if self.restless {
                [200, 700, 1500]
            } else {
                [200, 1500, 4000]
            };
            let wait = self.rng.pick(&waits);
            self.enqueue(wait * MILLISECOND, Event::Mend(links));
        }
    }
}

fn told(wire: &Wire) -> String {
    match wire {
        Wire::Ours(bytes) => {
            raft::Message::decode(bytes.clone()).map_or("?".into(), |message| message.to_string())
        }
        Wire::Theirs(message) => format!(
            "{:?} t{} index {} log_term {} commit {} reject {} entries {}",
            message.get_msg_type(),
            message.term,
            message.index,
            message.log_term,
            message.commit,
            message.reject,
            message.entries.len()
        ),
    }
}
