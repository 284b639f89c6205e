//! Locks known from practice, each under the troubles that locks meet, and ours under the same.

mod ours;
mod queues;
mod scene;
mod stores;
mod stories;
mod told;

use super::{Checked, Played, Scenario, Script};
use crate::timeline::Timeline;
use stories::{Other, Trouble};

pub use scene::Played as Scene;

/// A lock of others meets something. What is known to come of it is compared with what is found.
pub fn play(scene: fn() -> Scene, known: &str, tell: &mut dyn FnMut(&str)) -> Played {
    let scene = scene();
    told::tell(&scene, tell);
    let word = scene.found.word();
    let text = match word {
        "holds" => "the lock holds".into(),
        word => format!("the lock is broken: {word}"),
    };
    let held = word == known;
    Played {
        findings: told::findings(&scene.found),
        checks: vec![Checked { text, held }],
        timeline: Timeline::default(),
        members: 0,
        end: 0,
        violation: None,
        scene: Some(scene),
    }
}

/// The picture of a scene alone, and a page that shows it.
pub use told::{show as page, svg};

/// A lock and what is to be known of it.
struct Row {
    what: &'static str,
    /// Under each [`Trouble`], by the scenario that finds it.
    scenarios: [&'static str; 5],
}

const ROWS: &[Row] = &[
    Row {
        what: "`SET NX`, then `DEL`",
        scenarios: [
            "setnx-network",
            "setnx-pause",
            "setnx-clock",
            "setnx-crash",
            "setnx-failover",
        ],
    },
    Row {
        what: "`SET NX PX`, then `DEL`",
        scenarios: [
            "setnx-expiry-network",
            "setnx-expiry",
            "setnx-expiry-clock",
            "setnx-expiry-crash",
            "setnx-expiry-failover",
        ],
    },
    Row {
        what: "`SET NX PX`, removed if one's own",
        scenarios: [
            "redis-network",
            "redis-pause",
            "redis-clock",
            "redis-crash",
            "redis-failover",
        ],
    },
    Row {
        what: "Redlock, five servers",
        scenarios: [
            "redlock-network",
            "redlock-pause",
            "redlock-clock-jump",
            "redlock-crash",
            "redlock-crash-restart",
        ],
    },
    Row {
        what: "the same key, and a mark that the resource compares",
        scenarios: [
            "uuid-mark",
            "uuid-mark-pause",
            "uuid-mark-clock",
            "uuid-mark-crash",
            "uuid-mark-failover",
        ],
    },
    Row {
        what: "a database row with a time",
        scenarios: [
            "db-row-network",
            "db-row-pause",
            "db-row-clock",
            "db-row-crash",
            "db-row-failover",
        ],
    },
    Row {
        what: "ZooKeeper, persistent nodes",
        scenarios: [
            "zk-persistent-network",
            "zk-persistent-pause",
            "zk-persistent-clock",
            "zk-persistent",
            "zk-persistent-failover",
        ],
    },
    Row {
        what: "ZooKeeper, ephemeral nodes",
        scenarios: [
            "zk-network",
            "zk-pause",
            "zk-clock",
            "zk-crash",
            "zk-failover",
        ],
    },
    Row {
        what: "etcd",
        scenarios: [
            "etcd-network",
            "etcd-pause",
            "etcd-clock",
            "etcd-crash",
            "etcd-failover",
        ],
    },
    Row {
        what: "Synod, with guarded writes",
        scenarios: [
            "synod-network",
            "synod-pause",
            "synod-clock",
            "synod-crash",
            "synod-failover",
        ],
    },
];

/// The table of all locks and troubles, found by playing each scenario.
pub fn table() -> String {
    let mut table = String::from(
        "| lock | network: a late message | pause of the holder | clock jumps | crash of the holder | fail-over of the service |\n|---|---|---|---|---|---|\n",
    );
    for row in ROWS {
        table += &format!("| {} |", row.what);
        for name in row.scenarios {
            let scenario = Scenario::named(name).expect("each cell has a scenario");
            let played = scenario.play(&mut |_| {});
            let word = match &played.scene {
                Some(scene) => scene.found.word(),
                None if played.held() => "holds",
                None => "broken",
            };
            let word = match word {
                "holds" => word.to_owned(),
                word => format!("**{word}**"),
            };
            table += &format!(" {word}<br>`{name}` |");
        }
        table += "\n";
    }
    table
}

/// A lock of others under a trouble, and what is known to come of it.
macro_rules! other {
    ($name:literal, $about:literal, $known:literal, $other:ident, $trouble:ident) => {
        Scenario {
            name: $name,
            about: $about,
            script: Script::Scene(|| Other::$other.meets(Trouble::$trouble), $known),
        }
    };
    ($name:literal, $about:literal, $known:literal, $scene:path) => {
        Scenario {
            name: $name,
            about: $about,
            script: Script::Scene($scene, $known),
        }
    };
}

/// Ours.
macro_rules! ours {
    ($name:literal, $about:literal, $script:path) => {
        Scenario {
            name: $name,
            about: $about,
            script: Script::Members(3, raft::Settings::default, $script),
        }
    };
}

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    // Redis, one server.
    other!(
        "setnx-crash",
        "a lock without an end: its holder dies, and nobody ever gets it",
        "stuck",
        Setnx,
        Crash
    ),
    other!(
        "setnx-network",
        "a lock without an end: a write of its holder arrives after that of the next one",
        "order broken",
        Setnx,
        Network
    ),
    other!(
        "setnx-pause",
        "a lock without an end: its holder is stopped, and all wait for it",
        "holds",
        Setnx,
        Pause
    ),
    other!(
        "setnx-clock",
        "a lock without an end: clocks jump, and nobody looks at them",
        "holds",
        Setnx,
        Clock
    ),
    other!(
        "setnx-failover",
        "a lock without an end: the replica that takes over has never heard of it",
        "two at once",
        Setnx,
        FailOver
    ),
    other!(
        "setnx-expiry",
        "a lock that ends by itself: it ends while its holder is stopped, which then goes on",
        "two at once",
        SetnxExpiry,
        Pause
    ),
    other!(
        "setnx-expiry-network",
        "a lock that ends by itself, removed by whoever is done: also late, when it is another's",
        "two at once",
        SetnxExpiry,
        Network
    ),
    other!(
        "setnx-expiry-clock",
        "a lock that ends by itself: the server's clock jumps, and it ends at once",
        "two at once",
        SetnxExpiry,
        Clock
    ),
    other!(
        "setnx-expiry-crash",
        "a lock that ends by itself: its holder dies, and the next one gets it in time",
        "holds",
        SetnxExpiry,
        Crash
    ),
    other!(
        "setnx-expiry-failover",
        "a lock that ends by itself: the replica that takes over has never heard of it",
        "two at once",
        SetnxExpiry,
        FailOver
    ),
    other!(
        "foreign-release",
        "a holder whose lock has ended removes that of another, who loses it in the midst of the work",
        "two at once",
        stories::foreign_release
    ),
    other!(
        "get-del-race",
        "look whose the lock is, then remove it: in between it becomes another's",
        "two at once",
        stories::get_del_race
    ),
    other!(
        "redis-failover",
        "a key that its owner alone removes: the replica that takes over has never heard of it",
        "two at once",
        Redis,
        FailOver
    ),
    other!(
        "redis-network",
        "a key that its owner alone removes: a write arrives after that of the next holder",
        "order broken",
        Redis,
        Network
    ),
    other!(
        "redis-pause",
        "a key that its owner alone removes: it ends while its holder is stopped, which then goes on",
        "two at once",
        Redis,
        Pause
    ),
    other!(
        "redis-clock",
        "a key that its owner alone removes: the server's clock jumps, and it ends at once",
        "two at once",
        Redis,
        Clock
    ),
    other!(
        "redis-crash",
        "a key that its owner alone removes: its holder dies, and the next one gets it in time",
        "holds",
        Redis,
        Crash
    ),
    // Redlock.
    other!(
        "redlock-clock-jump",
        "five servers: one clock jumps, and that server's vote is given twice",
        "two at once",
        Redlock,
        Clock
    ),
    other!(
        "redlock-pause",
        "five servers: the lock ends while its holder is stopped, which then goes on",
        "two at once",
        Redlock,
        Pause
    ),
    other!(
        "redlock-crash-restart",
        "five servers: one forgets its vote in a restart and gives it again",
        "two at once",
        Redlock,
        FailOver
    ),
    other!(
        "redlock-delayed-restart",
        "the same, but the server is kept down until what it forgot has ended",
        "holds",
        stories::redlock_delayed_restart
    ),
    other!(
        "redlock-split-vote",
        "three ask at the same time, nobody gets a majority, and all try again",
        "holds",
        stories::redlock_split_vote
    ),
    other!(
        "redlock-network",
        "five servers: a write arrives after that of the next holder",
        "order broken",
        Redlock,
        Network
    ),
    other!(
        "redlock-crash",
        "five servers: the holder dies, and the next one gets the lock in time",
        "holds",
        Redlock,
        Crash
    ),
    // A mark at the resource.
    other!(
        "uuid-mark",
        "the resource takes writes of whoever marked it last: a late mark shuts the rightful holder out",
        "order broken",
        UuidMark,
        Network
    ),
    other!(
        "uuid-mark-pause",
        "the resource takes writes of whoever marked it last: a holder that was stopped is refused",
        "holds",
        UuidMark,
        Pause
    ),
    other!(
        "uuid-mark-clock",
        "the resource takes writes of whoever marked it last: a clock jumps, and the first holder is refused",
        "holds",
        UuidMark,
        Clock
    ),
    other!(
        "uuid-mark-crash",
        "the resource takes writes of whoever marked it last: the holder dies",
        "holds",
        UuidMark,
        Crash
    ),
    other!(
        "uuid-mark-failover",
        "the resource takes writes of whoever marked it last: the lock is lost, and the first holder is refused",
        "holds",
        UuidMark,
        FailOver
    ),
    // A row of a database.
    other!(
        "db-row-clock",
        "a row with a time, which clients compare with their own clocks: one is ahead",
        "two at once",
        DbRow,
        Clock
    ),
    other!(
        "db-row-failover",
        "a row with a time: the replica that takes over does not have it yet",
        "two at once",
        DbRow,
        FailOver
    ),
    other!(
        "db-row-network",
        "a row with a time: a write arrives after that of the next holder",
        "order broken",
        DbRow,
        Network
    ),
    other!(
        "db-row-pause",
        "a row with a time: it is over while its holder is stopped, which then goes on",
        "two at once",
        DbRow,
        Pause
    ),
    other!(
        "db-row-crash",
        "a row with a time: its holder dies, and the next one gets it in time",
        "holds",
        DbRow,
        Crash
    ),
    // Queues of nodes.
    other!(
        "zk-pause",
        "ZooKeeper: the session ends while its holder is stopped between its last look and its write",
        "two at once",
        Zk,
        Pause
    ),
    other!(
        "zk-persistent",
        "ZooKeeper, nodes that do not go with sessions: the holder dies, and nobody ever gets the lock",
        "stuck",
        ZkPersistent,
        Crash
    ),
    other!(
        "zk-herd",
        "ZooKeeper, everybody watches the holder: each release wakes all, for one to get the lock",
        "holds",
        stories::zk_herd
    ),
    other!(
        "zk-network",
        "ZooKeeper: a write arrives after that of the next holder",
        "order broken",
        Zk,
        Network
    ),
    other!(
        "zk-clock",
        "ZooKeeper: clocks jump, and nobody looks at them",
        "holds",
        Zk,
        Clock
    ),
    other!(
        "zk-crash",
        "ZooKeeper: the holder dies, its session ends, and the next one gets the lock",
        "holds",
        Zk,
        Crash
    ),
    other!(
        "zk-failover",
        "ZooKeeper: another server leads, and knows all that was decided",
        "holds",
        Zk,
        FailOver
    ),
    other!(
        "zk-persistent-network",
        "ZooKeeper, nodes that do not go with sessions: a write arrives after that of the next holder",
        "order broken",
        ZkPersistent,
        Network
    ),
    other!(
        "zk-persistent-pause",
        "ZooKeeper, nodes that do not go with sessions: the holder is stopped, then told that its session is over",
        "stuck",
        ZkPersistent,
        Pause
    ),
    other!(
        "zk-persistent-clock",
        "ZooKeeper, nodes that do not go with sessions: clocks jump",
        "holds",
        ZkPersistent,
        Clock
    ),
    other!(
        "zk-persistent-failover",
        "ZooKeeper, nodes that do not go with sessions: another server leads",
        "holds",
        ZkPersistent,
        FailOver
    ),
    other!(
        "etcd-pause",
        "etcd: the lease ends while its holder is stopped between its last look and its write",
        "two at once",
        Etcd,
        Pause
    ),
    other!(
        "etcd-network",
        "etcd: a write arrives after that of the next holder",
        "order broken",
        Etcd,
        Network
    ),
    other!(
        "etcd-clock",
        "etcd: clocks jump, and nobody looks at them",
        "holds",
        Etcd,
        Clock
    ),
    other!(
        "etcd-crash",
        "etcd: the holder dies, its lease ends, and the next one gets the lock",
        "holds",
        Etcd,
        Crash
    ),
    other!(
        "etcd-failover",
        "etcd: another member leads, and knows all that was decided",
        "holds",
        Etcd,
        FailOver
    ),
    // Ours.
    ours!(
        "synod-pause",
        "ours: the session ends while the holder is stopped; its guarded writes are refused from then on",
        ours::pause
    ),
    ours!(
        "synod-network",
        "ours: a guarded write that arrives after the next holder's is refused",
        ours::network
    ),
    ours!(
        "synod-clock",
        "ours: all wall clocks jump an hour, and nothing happens",
        ours::clock
    ),
    ours!(
        "synod-crash",
        "ours: the holder dies, its session ends, and the next one gets the lock",
        ours::crash
    ),
    ours!(
        "synod-failover",
        "ours: the leader is killed; the lock stays whose it was, and who waits is told in its turn",
        ours::fail_over
    ),
    ours!(
        "synod-restart",
        "ours: all members lose power and come back; asking once more gives the same grant",
        ours::restart
    ),
    ours!(
        "synod-foreign-release",
        "ours: a release by whoever had the lock before takes nothing away",
        ours::foreign_release
    ),
    ours!(
        "synod-herd",
        "ours: twenty wait, and a release wakes one",
        ours::herd
    ),
    ours!(
        "synod-split-vote",
        "ours: three ask at the same time, and one has the lock at the first try",
        ours::split_vote
    ),
];
