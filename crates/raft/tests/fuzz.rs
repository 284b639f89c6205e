//! Randomized runs of a cluster of pure Rafts: messages lost, duplicated and reordered, slow disks, crashes that lose what is not durable,
//! lost entries, lost disks, membership changes. The cluster checks Raft's properties after every step; at the end, with faults gone, it
//! must serve again. A failure names its seed: `FUZZ_SEED=n cargo test -p synod-raft --test fuzz` replays it with its trace.

mod cluster;

use cluster::{Cluster, Disk, configuration, peer};
use raft::{Configuration, Index, Input, PeerId, Role, Settings, Standing};
use std::collections::BTreeSet;
use std::time::Duration;
use synod_raft as raft;

const SEEDS: u64 = 400;
const STEPS: usize = 1500;

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

struct Fuzz {
    cluster: Cluster,
    rng: Rng,
    proposals: usize,
    /// Members cut off from the others.
    isolated: BTreeSet<u64>,
    /// The incarnation lost with its disk and not yet replaced in the configuration.
    lost: Option<PeerId>,
    /// How likely faults are, in percent.
    faults: usize,
    /// The faults that happen most in this run.
    favourites: [usize; 2],
    /// How fast time passes: fast means many elections.
    pace: u64,
    /// How often a disk does nothing when it could, in percent.
    slow_disks: usize,
}

impl Fuzz {
    fn new(seed: u64) -> Fuzz {
        let mut rng = Rng(seed);
        let settings = Settings {
            append_bytes_max: [1, 100, 500][rng.below(3)],
            inflight_count_max: 1 + rng.below(6),
            cache_bytes_max: 300 + rng.below(3000),
            ..Settings::default()
        };
        let mut cluster = Cluster::new(settings, seed);
        let count = [1, 3, 3, 3, 4, 5][rng.below(6)];
        let voters: Vec<PeerId> = (1..=count).map(|member| peer(member, 0)).collect();
        for member in 1..=(count + 2) {
            cluster.add(peer(member, 0), Disk::new(configuration(&voters, &[])));
        }
        let faults = [0, 10, 40, 70][rng.below(4)];
        let slow_disks = [0, 0, 70, 90][rng.below(4)];
        Fuzz {
            favourites: [rng.below(10), rng.below(10)],
            pace: [1, 1, 8][rng.below(3)],
            cluster,
            rng,
            proposals: 0,
            isolated: BTreeSet::new(),
            lost: None,
            faults,
            slow_disks,
        }
    }

    fn any_member(&mut self) -> u64 {
        let members: Vec<u64> = self.cluster.nodes.keys().copied().collect();
        members[self.rng.below(members.len())]
    }

    fn up_member(&mut self) -> Option<u64> {
        let member = self.any_member();
        self.cluster.is_up(member).then_some(member)
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..40 => self.deliver_one(),
            40..55 => {
                let member = self.any_member();
                let count = 1 + self.rng.below(3);
                if !self.rng.chance(self.slow_disks) {
                    self.cluster.complete_writes(member, count);
                }
                self.cluster.answer_fetches(member);
            }
            55..70 => self.pass_time(),
            70..80 => self.propose(),
            80..84 => {
                if let Some(member) = self.up_member() {
                    for _ in 0..1 + self.rng.below(3) {
                        self.cluster.read(member);
                    }
                    self.cluster.drain(member);
                }
            }
            84..87 => self.cluster_chores(),
            87..89 => self.change_membership(),
            _ => {
                if self.rng.chance(self.faults) {
                    self.fault();
                }
            }
        }
    }

    fn deliver_one(&mut self) {
        for _ in 0..1 + self.rng.below(8) {
            if self.cluster.network.is_empty() {
                return;
            }
            // Mostly in order.
            let place = if self.rng.chance(80) {
                0
            } else {
                self.rng.below(self.cluster.network.len())
            };
            let envelope = self.cluster.network.remove(place);
            let cut = self.isolated.contains(&envelope.from.member.0)
                != self.isolated.contains(&envelope.to.member.0);
            if cut && self.rng.chance(30) {
                // It comes, much later.
                self.cluster.network.push(envelope);
                continue;
            }
            if cut || self.rng.chance(self.faults / 4) {
                continue;
            }
            if self.rng.chance(self.faults / 4) {
                self.cluster.network.push(envelope.clone());
            }
            self.cluster.deliver(envelope);
        }
    }

    fn pass_time(&mut self) {
        let time = self.pace * [1, 5, 20, 120][self.rng.below(4)];
        self.cluster.now = self.cluster.now + Duration::from_millis(time);
        for member in self.cluster.nodes.keys().copied().collect::<Vec<_>>() {
            if self.cluster.is_up(member) && self.rng.chance(80) {
                self.cluster.fire(member);
            }
        }
    }

    fn propose(&mut self) {
        self.proposals += 1;
        let batch = format!("p{}", self.proposals);
        let Some(member) = self.up_member() else {
            return;
        };
        if self.cluster.raft(member).role() == Role::Leader {
            let _ = self.cluster.propose(member, &batch);
        } else {
            let _ = self.cluster.forward(member, &batch);
        }
    }

    fn cluster_chores(&mut self) {
        let member = self.any_member();
        if self.cluster.nodes[&member].snapshots.is_empty() {
            if self.cluster.is_up(member) {
                let applied = self.cluster.nodes[&member].applied.0;
                let keep = self.rng.below(6) as u64;
                self.cluster
                    .compact(member, Index(applied.saturating_sub(keep)).next());
            }
        } else {
            let arrives = self.rng.chance(80);
            self.cluster.carry_snapshot(member, arrives);
        }
    }

    fn change_membership(&mut self) {
        let Some(leader) = self.cluster.leader() else {
            return;
        };
        if self.someone_forgot() {
            return;
        }
        if self.rng.chance(20) {
            let _ = self.cluster.transfer(leader, None);
            return;
        }
        let mut voters = Vec::new();
        let mut learners = Vec::new();
        for node in self.cluster.nodes.values() {
            match self.rng.below(10) {
                0..7 => voters.push(node.id),
                7..9 => learners.push(node.id),
                _ => {}
            }
        }
        if voters.len() >= 2 || (voters.len() == 1 && self.cluster.nodes.len() <= 3) {
            let _ = self
                .cluster
                .change(leader, configuration(&voters, &learners));
        }
    }

    fn fault(&mut self) {
        let member = match self.cluster.leader() {
            Some(leader) if self.rng.chance(40) => leader,
            _ => self.any_member(),
        };
        let kind = match self.rng.below(10) {
            0..3 => self.favourites[0],
            3..6 => self.favourites[1],
            _ => self.rng.below(10),
        };
        match kind {
            0..2 if self.cluster.is_up(member) => self.crash(member),
            2 | 8 | 9 if self.cluster.is_up(member) => {
                self.crash(member);
                self.cluster.start(member);
            }
            0..4 | 8 | 9 if !self.cluster.is_up(member) => self.cluster.start(member),
            4 if self.isolated.contains(&member) => self.isolated.clear(),
            4 => {
                self.isolated.insert(member);
            }
            5 => {
                let other = self.any_member();
                let (lost, refused) = (self.cluster.nodes[&other].id, !self.cluster.is_up(other));
                self.cluster.handle(
                    member,
                    Input::PeerLost {
                        peer: lost,
                        refused,
                    },
                );
            }
            6 => self.lose_entries(member),
            7 => self.lose_disk(member),
            _ => {}
        }
    }

    fn crash(&mut self, member: u64) {
        // A write under way may have reached the disk.
        if self.rng.chance(50) {
            let count = self.rng.below(3);
            self.cluster.nodes.get_mut(&member).unwrap().disk_held = false;
            self.cluster.complete_writes(member, count);
        }
        self.cluster.crash(member);
    }

    /// A restart finds the tail of the log gone, acknowledged entries included. One member at a time: more is beyond what any
    /// protocol survives.
    fn lose_entries(&mut self, member: u64) {
        if self.lost.is_some() || !self.bears_a_loss() {
            return;
        }
        self.cluster.crash(member);
        let keep = self.rng.below(4);
        let disk = &mut self.cluster.nodes.get_mut(&member).unwrap().disk;
        let lost: Vec<Index> = disk.entries.keys().rev().take(keep).copied().collect();
        disk.entries.retain(|index, _| !lost.contains(index));
        disk.entries_lost = true;
        self.cluster
            .note(format!("{member} loses entries {lost:?}"));
        self.cluster.start(member);
        // The worst moment: those who have what it lost are gone, those who never had it come back.
        if self.rng.chance(50) {
            if let Some(leader) = self.cluster.leader() {
                self.crash(leader);
            }
            self.isolated.clear();
        }
    }

    fn someone_forgot(&self) -> bool {
        self.cluster
            .nodes
            .values()
            .any(|node| node.disk.entries_lost)
    }

    /// Everybody is sound, and one voter can be spared: a quorum without it exists, now and when the changes in any log are done.
    fn bears_a_loss(&self) -> bool {
        let spares = |member: &u64| {
            let status = self.cluster.raft(*member).status();
            !status.configuration.is_joint() && status.configuration.voters.len() >= 3
        };
        let up: Vec<u64> = self
            .cluster
            .nodes
            .keys()
            .copied()
            .filter(|member| self.cluster.is_up(*member))
            .collect();
        !self.someone_forgot() && up.len() == self.cluster.nodes.len() && up.iter().all(spares)
    }

    /// A member comes back with an empty disk, as a new incarnation.
    fn lose_disk(&mut self, member: u64) {
        if self.lost.is_some() || !self.bears_a_loss() {
            return;
        }
        self.cluster.crash(member);
        let node = self.cluster.nodes.get_mut(&member).unwrap();
        self.lost = Some(node.id);
        let id = peer(member, node.id.incarnation.0 + 1);
        node.id = id;
        node.disk = Disk::new(Configuration::default());
        self.cluster.note(format!("{member} loses its disk"));
        self.cluster.start(member);
    }

    fn forget_lost(&mut self) {
        let Some(lost) = self.lost else { return };
        let Some(leader) = self.cluster.leader() else {
            return;
        };
        let status = self.cluster.raft(leader).status();
        if !status.configuration.contains(lost)
            && !status.configuration.is_joint()
            && status.commit == status.last
        {
            self.lost = None;
        }
    }

    /// With faults gone and time, the cluster serves again, everybody has everything, and every read has ended.
    fn recover(&mut self) {
        self.isolated.clear();
        for member in self.cluster.nodes.keys().copied().collect::<Vec<_>>() {
            if !self.cluster.is_up(member) {
                self.cluster.start(member);
            }
        }
        let mut leader = None;
        for round in 0..60 {
            self.cluster.run(Duration::from_millis(500), &|_, _| false);
            for member in self.cluster.nodes.keys().copied().collect::<Vec<_>>() {
                while !self.cluster.nodes[&member].snapshots.is_empty() {
                    self.cluster.carry_snapshot(member, true);
                }
            }
            leader = self.cluster.leader();
            let Some(l) = leader else { continue };
            let _ = self.cluster.propose(l, "end");
            if round >= 10 && self.is_whole(l) {
                break;
            }
        }
        let leader = leader.expect("a leader once faults are gone");
        assert!(
            self.is_whole(leader),
            "not whole: {:?}",
            self.cluster.raft(leader).status()
        );
        assert!(
            self.cluster.reads.is_empty(),
            "reads never ended: {:?}",
            self.cluster.reads
        );
    }

    fn is_whole(&mut self, leader: u64) -> bool {
        self.cluster.run(Duration::from_millis(300), &|_, _| false);
        let status = self.cluster.raft(leader).status();
        let peers = status.configuration.peers();
        status.role == Role::Leader
            && status.commit == status.last
            && self
                .cluster
                .nodes
                .values()
                .filter(|node| peers.contains(&node.id))
                .all(|node| {
                    let raft = node.raft.as_ref().unwrap();
                    raft.commit() == status.commit
                        && node.applied == status.commit
                        && raft.status().standing == Standing::Sound
                })
    }
}

fn run(seed: u64) -> (usize, u64) {
    let mut fuzz = Fuzz::new(seed);
    fuzz.cluster.traced = false;
    fuzz.cluster.live = std::env::var("FUZZ_SEED").is_ok();
    for step in 0..STEPS {
        fuzz.step();
        fuzz.forget_lost();
        if step % 100 == 0 {
            fuzz.cluster.check_log_matching();
        }
    }
    fuzz.cluster.check_log_matching();
    // A member that lost its disk and was not replaced yet may be one too few for a quorum.
    if fuzz.lost.is_none() {
        fuzz.recover();
    }
    fuzz.cluster.check_log_matching();
    (fuzz.cluster.decided.len(), fuzz.cluster.reads_ready)
}

/// Says how to replay a run that panics.
struct ReplayHint(u64);

impl Drop for ReplayHint {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "replay with FUZZ_SEED={} cargo test -p synod-raft --test fuzz",
                self.0
            );
        }
    }
}

#[test]
fn properties_hold_under_faults() {
    let seeds = match std::env::var("FUZZ_SEED") {
        Ok(seed) => {
            let seed: u64 = seed.parse().expect("FUZZ_SEED is a number");
            seed..seed + 1
        }
        Err(_) => {
            0..std::env::var("FUZZ_SEEDS").map_or(SEEDS, |seeds| {
                seeds.parse().expect("FUZZ_SEEDS is a number")
            })
        }
    };
    let (mut decided, mut reads) = (0, 0);
    for seed in seeds {
        let _hint = ReplayHint(seed);
        let (more_decided, more_reads) = run(seed);
        decided += more_decided;
        reads += more_reads;
    }
    println!("{decided} entries decided, {reads} reads confirmed");
    assert!(decided > 0 && reads > 0, "the runs did nothing");
}
