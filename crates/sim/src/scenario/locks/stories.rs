//! Which lock meets which trouble. What comes of it is found by playing it.

use super::queues::{ETCD, Queues, Recipe as Queue, ZOOKEEPER};
use super::scene::{Cast, Fault, Found, Millis, Play, Played, TTL};
use super::stores::{REDIS, Recipe as Store, Release, Stores, Words};

/// When everything has had its time.
const END: Millis = 60_000;

/// An hour.
const HOUR: Millis = 3_600_000;

/// The clients: A has the lock when the trouble begins, B and C want it.
const A: usize = 0;
const CLIENTS: usize = 3;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Messages are late, or lost.
    Network,
    /// The holder's program gets no time.
    Pause,
    /// A wall clock jumps.
    Clock,
    /// The holder's program dies.
    Crash,
    /// The server that keeps the lock dies, and another one takes its place.
    FailOver,
}

/// A lock of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    /// `SET NX`, removed by whoever is done.
    Setnx,
    /// The same with a time to live.
    SetnxExpiry,
    /// Removed only by whoever set it, after a look.
    GetDel,
    /// Removed only by whoever set it, in one step.
    Redis,
    /// The same on most of five servers.
    Redlock,
    /// The same with a mark that the resource asks for.
    UuidMark,
    /// A row with a time, by the clocks of the clients.
    DbRow,
    /// ZooKeeper's recipe.
    Zk,
    /// The same with nodes that stay.
    ZkPersistent,
    /// etcd's lock.
    Etcd,
}

impl Other {
    fn store(self) -> Option<Store> {
        let plain = Store {
            release: Release::Plain,
            ..REDIS
        };
        Some(match self {
            Other::Setnx => Store {
                expires: false,
                ..plain
            },
            Other::SetnxExpiry => plain,
            Other::GetDel => Store {
                release: Release::LookFirst,
                ..REDIS
            },
            Other::Redis | Other::UuidMark => REDIS,
            Other::Redlock => Store {
                servers: 5,
                replica: false,
                ..REDIS
            },
            Other::DbRow => Store {
                client_clock: true,
                words: Words::Database,
                ..REDIS
            },
            Other::Zk | Other::ZkPersistent | Other::Etcd => return None,
        })
    }

    fn servers(self) -> Vec<&'static str> {
        match self {
            Other::Redlock => vec!["redis 1", "redis 2", "redis 3", "redis 4", "redis 5"],
            Other::DbRow => vec!["database", "replica"],
            Other::Zk | Other::ZkPersistent => vec!["ZooKeeper"],
            Other::Etcd => vec!["etcd"],
            _ => vec!["redis", "replica"],
        }
    }

    fn resource(self) -> usize {
        CLIENTS + self.servers().len()
    }

    fn play_with(self, clients: Vec<(&'static str, Millis)>, faults: Vec<Fault>) -> Played {
        let count = clients.len();
        let cast = Cast {
            clients,
            servers: self.servers(),
            marks: self == Other::UuidMark,
        };
        if let Some(store) = self.store() {
            return Play::run(Stores::new(store, count), &cast, faults, END);
        }
        let queue = match self {
            Other::Etcd => ETCD,
            Other::ZkPersistent => Queue {
                ephemeral: false,
                ..ZOOKEEPER
            },
            _ => ZOOKEEPER,
        };
        Play::run(Queues::new(queue, count), &cast, faults, END)
    }

    fn play(self, faults: Vec<Fault>) -> Played {
        self.play_with(vec![("A", 0), ("B", 5_000), ("C", 6_000)], faults)
    }

    /// The schedules of a trouble that are tried; the lock must stand all of them.
    fn schedules(self, trouble: Trouble) -> Vec<Vec<Fault>> {
        let (resource, server) = (self.resource(), CLIENTS);
        let servers = server..resource;
        let late = |window, by| vec![Fault::Delay((A, resource), window, by)];
        // Redlock: A's lock is on just as many servers as it needs.
        let just_enough = |faults: Vec<Fault>| {
            let lost = [server + 3, server + 4].map(|to| Fault::Cut((A, to), (0, 100)));
            let lost = lost.into_iter().filter(|_| self == Other::Redlock);
            lost.chain(faults).collect::<Vec<Fault>>()
        };
        match trouble {
            Trouble::Network => {
                let cut = |way: fn(usize) -> (usize, usize)| {
                    let window = (5_000, END);
                    servers.clone().map(move |to| Fault::Cut(way(to), window))
                };
                vec![
                    late((8_000, 9_000), 20_000),
                    late((0, 100), 12_000),
                    cut(|to| (A, to)).chain(cut(|to| (to, A))).collect(),
                ]
            }
            Trouble::Pause => vec![
                vec![Fault::Pause(A, 1_000, 22_000)],
                // Between its last look at the time and its write.
                vec![Fault::Pause(A, 7_500, 22_000)],
            ],
            Trouble::Clock => {
                let lanes = 0..resource;
                let jump = |lane| just_enough(vec![Fault::Clock(lane, 1_000, HOUR)]);
                lanes.map(jump).collect()
            }
            Trouble::Crash => vec![vec![Fault::Kill(A, 1_000)]],
            Trouble::FailOver if self == Other::Redlock => {
                let third = server + 2;
                let faults = vec![Fault::Kill(third, 1_000), Fault::Restart(third, 3_000)];
                vec![just_enough(faults)]
            }
            Trouble::FailOver if self.store().is_some() => vec![vec![
                Fault::Cut((server, server + 1), (0, 2_000)),
                Fault::Kill(server, 1_000),
                Fault::Promote(server + 1, 3_000),
            ]],
            Trouble::FailOver => {
                vec![vec![
                    Fault::Kill(server, 1_000),
                    Fault::Restart(server, 3_000),
                ]]
            }
        }
    }

    /// Lets the lock meet a trouble: the first of its schedules that breaks it, or the first.
    pub fn meets(self, trouble: Trouble) -> Played {
        let schedules = self.schedules(trouble);
        let mut played = schedules.into_iter().map(|faults| self.play(faults));
        let first = played.next().expect("there is a schedule");
        if is_broken(&first.found) {
            return first;
        }
        let broken = played.find(|played| is_broken(&played.found));
        broken.unwrap_or(first)
    }
}

fn is_broken(found: &Found) -> bool {
    found.at_once || found.out_of_order || !found.stuck.is_empty()
}

// The stories that are known by name, where they are more than a lock and a trouble.

/// A removes the lock of B, because it did not know that its own had ended.
pub fn foreign_release() -> Played {
    Other::SetnxExpiry.play(vec![Fault::Pause(A, 1_000, 15_000)])
}

/// Between A's look and its removal, its lock ends, and B gets it.
pub fn get_del_race() -> Played {
    let late = Fault::Delay((A, CLIENTS), (8_007, 8_100), 4_000);
    Other::GetDel.play(vec![late])
}

/// The server that comes back too early is kept down until all it forgot has ended.
pub fn redlock_delayed_restart() -> Played {
    let (third, lost) = (CLIENTS + 2, [CLIENTS + 3, CLIENTS + 4]);
    let mut faults = vec![
        Fault::Kill(third, 1_000),
        Fault::Restart(third, 1_000 + TTL + 1_000),
    ];
    faults.extend(lost.map(|to| Fault::Cut((A, to), (0, 100))));
    Other::Redlock.play(faults)
}

/// Three ask at the same time, and each is first at some servers.
pub fn redlock_split_vote() -> Played {
    let near = [vec![0, 1], vec![2, 3], vec![4]];
    let mut faults = Vec::new();
    for (client, near) in near.into_iter().enumerate() {
        let far = (0..5).filter(|server| !near.contains(server));
        faults.extend(far.map(|to| Fault::Delay((client, CLIENTS + to), (0, 10), 5)));
    }
    Other::Redlock.play_with(vec![("A", 0), ("B", 0), ("C", 0)], faults)
}

/// Everybody watches the holder, and all come at once when it leaves.
pub fn zk_herd() -> Played {
    const NAMES: [&str; 21] = [
        "A", "B", "C", "D", "E", "F", "G", "H", "I", "J", "K", "L", "M", "N", "O", "P", "Q", "R",
        "S", "T", "U",
    ];
    let clients: Vec<(&str, Millis)> = NAMES.into_iter().zip(0..).collect();
    let cast = Cast {
        clients,
        servers: vec!["ZooKeeper"],
        marks: false,
    };
    let queue = Queue {
        herd: true,
        ..ZOOKEEPER
    };
    Play::run(Queues::new(queue, NAMES.len()), &cast, Vec::new(), 200_000)
}
