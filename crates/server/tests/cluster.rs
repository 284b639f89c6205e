//! Real members in one process: sockets, disks, threads and all.

#[path = "../../ports.rs"]
mod ports;

use bytes::Bytes;
use replica::{Body, Consistency, Failure, Response, WatchBody, WatchCreate, WatchRequest};
use state::{Answer, Command, Operation, Put, Query, Range};
use std::collections::BTreeMap;
use std::time::Duration;
use synod_server::config::Settings;
use synod_server::{Config, Handle, Member, StartError};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

/// More than anything here needs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster whose members come and go while their directories stay.
struct Cluster {
    directory: TempDir,
    listed: String,
    members: Vec<Option<Member>>,
}

impl Cluster {
    fn new(size: usize) -> Cluster {
        let listed: Vec<String> = (1..)
            .zip(ports::free_ports(size).expect("ports"))
            .map(|(number, port)| format!("n{number}=127.0.0.1:{port}"))
            .collect();
        let directory = tempfile::tempdir().expect("a directory");
        let members = (0..size).map(|_| None).collect();
        Cluster {
            directory,
            listed: listed.join(","),
            members,
        }
    }

    fn config(&self, at: usize) -> Config {
        self.config_but(at, &[])
    }

    /// The member's configuration with other values of these flags.
    fn config_but(&self, at: usize, other: &[(&str, &str)]) -> Config {
        let name = format!("n{}", at + 1);
        let peer_addr = self
            .listed
            .split(',')
            .nth(at)
            .and_then(|part| part.split_once('='))
            .expect("it is listed")
            .1;
        let data_dir = self.directory.path().join(&name);
        let flags = [
            ("name", name.as_str()),
            ("data-dir", data_dir.to_str().expect("a readable path")),
            ("client-addr", "127.0.0.1:0"),
            ("peer-addr", peer_addr),
            ("cluster", &self.listed),
            ("log-segment-bytes", "1MiB"),
            ("disk-low-water-bytes", "0"),
            ("snapshot-log-bytes", "1MiB"),
        ];
        let flags: BTreeMap<&str, &str> = flags.iter().chain(other).copied().collect();
        let flags = flags
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        Settings::default()
            .flags(flags)
            .resolve()
            .expect("the settings are good")
    }

    fn start(&mut self, at: usize) {
        self.members[at] = Some(Member::start(self.config(at)).expect("its ports are free"));
    }

    fn start_all(&mut self) {
        for at in 0..self.members.len() {
            self.start(at);
        }
    }

    /// Flips a bit in each of the given sectors of the newest segment of a stopped member's log.
    fn damage_log(&self, at: usize, sectors: impl Fn(usize, &[u8]) -> bool) {
        let names = std::fs::read_dir(self.config(at).data_dir).expect("a directory");
        let mut segments: Vec<_> = names
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| {
                path.file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with("log-"))
            })
            .collect();
        segments.sort();
        let written =
            |path: &std::path::PathBuf| std::fs::read(path).expect("a file")[..512] != [0; 512];
        let newest = segments
            .iter()
            .rfind(|path| written(path))
            .expect("a segment");
        let mut bytes = std::fs::read(newest).expect("a file");
        for (number, sector) in bytes.chunks_mut(512).enumerate() {
            if sector.iter().any(|byte| *byte != 0) && sectors(number, sector) {
                sector[100] ^= 1;
            }
        }
        std::fs::write(newest, bytes).expect("it is written");
    }

    /// Flips a bit of a stopped member's snapshot; false while it has none.
    fn damage_snapshot(&self, at: usize) -> bool {
        let names = std::fs::read_dir(self.config(at).data_dir).expect("a directory");
        let mut paths = names.map(|entry| entry.expect("an entry").path());
        let is_snapshot = |path: &std::path::PathBuf| {
            let name = path.file_name().expect("a name").to_string_lossy();
            name.starts_with("snapshot-") && !name.contains("damaged")
        };
        let Some(path) = paths.find(is_snapshot) else {
            return false;
        };
        let mut bytes = std::fs::read(&path).expect("a file");
        bytes[70_000] ^= 1;
        std::fs::write(path, bytes).expect("it is written");
        true
    }

    /// Puts ten large keys until a member has a snapshot, damages that, and starts the member with it.
    async fn with_damaged_snapshot(&mut self, at: usize) {
        let value = "v".repeat(64 << 10);
        let handle = self.handle((at + 1) % self.members.len()).await;
        for n in 0.. {
            assert!(n < 10, "no snapshot after {n} rounds");
            for key in 0..10 {
                put(&handle, &format!("key{key}"), &value).await;
            }
            self.converged().await;
            self.kill(at);
            let damaged = self.damage_snapshot(at);
            self.start(at);
            if damaged {
                return;
            }
            self.handle(at).await;
        }
    }

    fn quarantined(&self, at: usize) -> usize {
        let names = std::fs::read_dir(self.config(at).data_dir).expect("a directory");
        names
            .map(|entry| entry.expect("an entry").file_name())
            .filter(|name| name.to_string_lossy().contains(".damaged-"))
            .count()
    }

    /// Waits until all members vote, believe themselves and have the same state.
    async fn converged(&self) {
        let since = Instant::now();
        loop {
            let mut told = Vec::new();
            for at in 0..self.members.len() {
                told.push(self.handle(at).await.status_now().await);
            }
            let sound = told.iter().all(|status| {
                status.raft.standing == raft::Standing::Sound
                    && status.raft.configuration.voters.contains(&status.raft.id)
                    && status.raft.configuration == told[0].raft.configuration
            });
            let equal = told.iter().all(|status| {
                (status.applied, status.state_hash) == (told[0].applied, told[0].state_hash)
            });
            if sound && equal && told[0].raft.configuration.voters.len() == told.len() {
                return;
            }
            assert!(since.elapsed() < PATIENCE, "the members differ: {told:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn handle(&self, at: usize) -> Handle {
        let ready = self.members[at].as_ref().expect("it runs").ready();
        timeout(PATIENCE, ready)
            .await
            .expect("it starts in time")
            .expect("it starts")
    }

    fn kill(&mut self, at: usize) {
        self.members[at].take().expect("it runs").kill();
    }

    fn wipe(&self, at: usize) {
        std::fs::remove_dir_all(self.config(at).data_dir).expect("its directory is there");
    }

    async fn stop_all(&mut self) {
        for member in self.members.iter_mut().flatten() {
            member.stop(false);
        }
        for member in self.members.iter_mut().filter_map(Option::take) {
            timeout(PATIENCE, member.ended())
                .await
                .expect("it stops in time")
                .expect("it stops in order");
        }
    }

    /// Which member leads, once one does and knows it.
    async fn leader(&self) -> usize {
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            for at in (0..self.members.len()).filter(|at| self.members[*at].is_some()) {
                let raft = self.handle(at).await.status().raft.clone();
                if raft.leader == Some(raft.id) {
                    return at;
                }
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("nobody leads");
    }
}

/// Puts, again while it is certain that nothing happened.
async fn put(handle: &Handle, key: &str, value: &str) -> Response {
    let put = Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        ..Put::default()
    };
    let command = Command {
        operation: Some(Operation::Put(put)),
        ..Command::default()
    };
    let since = Instant::now();
    loop {
        match handle.propose(command.clone()).await {
            Ok(response) => return response,
            Err(Failure::NoLeader | Failure::LeaderChanged) if since.elapsed() < PATIENCE => {
                sleep(Duration::from_millis(10)).await
            }
            Err(failure) => panic!("{key} was not put: {failure:?}"),
        }
    }
}

/// Reads a key at the newest state.
async fn get(handle: &Handle, key: &str) -> Option<Bytes> {
    let range = Range {
        key: Bytes::copy_from_slice(key.as_bytes()),
        ..Range::default()
    };
    let since = Instant::now();
    loop {
        match handle
            .read(Consistency::Linearizable, Query::Range(range.clone()))
            .await
        {
            Ok(Response {
                body: Body::Answer(Answer::Range(reply)),
                ..
            }) => return reply.kvs.into_iter().next().map(|kv| kv.value),
            Err(_) if since.elapsed() < PATIENCE => sleep(Duration::from_millis(10)).await,
            other => panic!("{key} was not read: {other:?}"),
        }
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_killed_leader_and_a_restart_of_all() {
    let mut cluster = Cluster::new(3);
    cluster.start_all();
    let handle = cluster.handle(0).await;
    put(&handle, "first", "1").await;
    for at in 0..3 {
        assert_eq!(
            get(&cluster.handle(at).await, "first").await.as_deref(),
            Some(&b"1"[..]),
            "member {at}"
        );
    }

    let leader = cluster.leader().await;
    cluster.kill(leader);
    let follower = cluster.handle((leader + 1) % 3).await;
    put(&follower, "second", "2").await;
    cluster.start(leader);
    assert_eq!(
        get(&cluster.handle(leader).await, "second")
            .await
            .as_deref(),
        Some(&b"2"[..])
    );

    cluster.stop_all().await;
    cluster.start_all();
    let handle = cluster.handle(2).await;
    assert_eq!(get(&handle, "first").await.as_deref(), Some(&b"1"[..]));
    assert_eq!(get(&handle, "second").await.as_deref(), Some(&b"2"[..]));
    cluster.stop_all().await;
}

#[tokio::test]
async fn members_learn_where_clients_reach_each_other() {
    let mut cluster = Cluster::new(3);
    cluster.start_all();
    let mut expected: Vec<String> = Vec::new();
    for at in 0..3 {
        cluster.handle(at).await;
        expected.push(
            cluster.members[at]
                .as_ref()
                .expect("it runs")
                .client_addr()
                .to_string(),
        );
    }
    expected.sort();
    for at in 0..3 {
        let handle = cluster.handle(at).await;
        let since = Instant::now();
        loop {
            let members = handle.members();
            let mut known: Vec<String> = members
                .iter()
                .flat_map(|member| member.client_addresses.clone())
                .collect();
            known.sort();
            if known == expected {
                let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
                assert!(
                    ["n1", "n2", "n3"].iter().all(|name| names.contains(name)),
                    "{names:?}"
                );
                break;
            }
            assert!(
                since.elapsed() < PATIENCE,
                "member {at} knows {known:?}, not {expected:?}"
            );
            sleep(Duration::from_millis(20)).await;
        }
    }
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_leader_that_stops_hands_over_first() {
    let mut cluster = Cluster::new(3);
    cluster.start_all();
    put(&cluster.handle(0).await, "key", "value").await;
    let leader = cluster.leader().await;
    let other = cluster.handle((leader + 1) % 3).await;
    let term = other.status_now().await.raft.term;
    let mut member = cluster.members[leader].take().expect("it runs");
    member.stop(true);
    timeout(PATIENCE, member.ended())
        .await
        .expect("it stops in time")
        .expect("it stops in order");
    let after = other.status_now().await.raft.clone();
    assert_eq!(after.term.0, term.0 + 1, "one hand-over and no election");
    put(&other, "key", "again").await;
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_wiped_member_waits_alone_and_is_admitted_by_the_others() {
    let mut cluster = Cluster::new(3);
    cluster.start_all();
    let handle = cluster.handle(0).await;
    put(&handle, "key", "value").await;
    let id = handle.cluster();

    // With the others gone it founds nothing, whatever its flags say.
    let wiped = 2;
    cluster.stop_all().await;
    cluster.wipe(wiped);
    cluster.start(wiped);
    let ready = cluster.members[wiped].as_ref().expect("it runs").ready();
    assert!(
        timeout(Duration::from_secs(2), ready).await.is_err(),
        "a wiped member started alone"
    );

    cluster.start(0);
    cluster.start(1);
    let readmitted = cluster.handle(wiped).await;
    assert_eq!(readmitted.cluster(), id);
    assert_eq!(
        get(&readmitted, "key").await.as_deref(),
        Some(&b"value"[..])
    );
    cluster.stop_all().await;
}

/// The leader cannot be heard by who is not where the configuration says, so it must find that out by itself.
#[tokio::test]
async fn a_member_that_starts_at_another_address_is_found_there() {
    let mut cluster = Cluster::new(3);
    cluster.start_all();
    put(&cluster.handle(0).await, "key", "value").await;
    cluster.converged().await;
    let moves = (cluster.leader().await + 1) % 3;
    cluster.kill(moves);
    let address = format!("127.0.0.1:{}", ports::free_ports(1).expect("a port")[0]);
    let before = cluster.config(moves).advertise_peer_addr;
    let listed = cluster.listed.replace(&before, &address);
    let moved = [("peer-addr", address.as_str()), ("cluster", &listed)];
    let config = cluster.config_but(moves, &moved);
    cluster.members[moves] = Some(Member::start(config).expect("its ports are free"));
    cluster.converged().await;
    let handle = cluster.handle(moves).await;
    assert_eq!(get(&handle, "key").await.as_deref(), Some(&b"value"[..]));
    let since = Instant::now();
    let told = |status: &raft::Status| {
        let member = &status.configuration_decided.members[&status.id.member];
        member.peer_addresses == [address.clone()]
    };
    while !told(&handle.status_now().await.raft) {
        assert!(since.elapsed() < PATIENCE, "the address is not told");
        sleep(Duration::from_millis(20)).await;
    }
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_member_does_not_start_under_anothers_name() {
    let mut cluster = Cluster::new(3);
    cluster.start_all();
    put(&cluster.handle(0).await, "key", "value").await;
    cluster.converged().await;
    cluster.kill(2);
    let config = cluster.config_but(2, &[("name", "n2")]);
    let started = Member::start(config).expect("its ports are free");
    let refused = timeout(PATIENCE, started.ended())
        .await
        .expect("it ends in time");
    let text = refused.expect_err("that is another's name").to_string();
    assert!(
        text.contains("is the directory of n3") && text.contains("pass --name n3"),
        "{text}"
    );
    cluster.start(2);
    cluster.converged().await;
    cluster.stop_all().await;
}

#[tokio::test]
async fn r1_entries_damaged_on_a_stopped_member_come_back_from_the_others() {
    let mut cluster = Cluster::new(3);
    cluster.start_all();
    let handle = cluster.handle(0).await;
    for n in 0..50 {
        put(&handle, &format!("key{n}"), "value").await;
    }
    cluster.converged().await;
    let victim = (cluster.leader().await + 1) % 3;
    cluster.kill(victim);
    cluster.damage_log(victim, |number, _| number == 10);
    cluster.start(victim);
    cluster.converged().await;
    assert_eq!(cluster.quarantined(victim), 1);
    let healed = cluster.handle(victim).await;
    assert_eq!(
        healed.status().raft.id.incarnation.0,
        1,
        "its votes were intact"
    );
    assert_eq!(healed.metrics().damage_found.get(), 1);
    assert_eq!(get(&healed, "key49").await.as_deref(), Some(&b"value"[..]));
    cluster.stop_all().await;
}

/// Found by `conformance faults bitflip`: the member ended when it was to begin anew.
#[tokio::test]
async fn r1_a_snapshot_damaged_on_a_stopped_member_is_replaced_by_the_others() {
    let mut cluster = Cluster::new(3);
    cluster.start_all();
    let victim = (cluster.leader().await + 1) % 3;
    cluster.with_damaged_snapshot(victim).await;
    cluster.converged().await;
    assert_eq!(cluster.quarantined(victim), 1);
    let healed = cluster.handle(victim).await;
    assert_eq!(
        get(&healed, "key9").await.map(|value| value.len()),
        Some(64 << 10)
    );
    cluster.stop_all().await;
}

#[tokio::test]
async fn r2_a_member_that_lost_its_votes_is_admitted_as_a_new_incarnation() {
    let mut cluster = Cluster::new(3);
    cluster.start_all();
    let handle = cluster.handle(0).await;
    for n in 0..20 {
        put(&handle, &format!("key{n}"), "value").await;
    }
    cluster.converged().await;
    let victim = (cluster.leader().await + 1) % 3;
    cluster.kill(victim);
    cluster.damage_log(victim, |number, _| number >= 10);
    cluster.start(victim);
    let healed = cluster.handle(victim).await;
    cluster.converged().await;
    assert_eq!(healed.status().raft.id.incarnation.0, 2);
    // Its vote is needed now, and it remembers it over a restart.
    cluster.kill(victim);
    cluster.start(victim);
    let other = (0..3).find(|at| *at != victim).expect("two others");
    cluster.handle(victim).await;
    cluster.kill(other);
    let healed = cluster.handle(victim).await;
    put(&healed, "after", "value").await;
    assert_eq!(healed.status().raft.id.incarnation.0, 2);
    cluster.stop_all().await;
}

/// The same inside a process that goes on, whose port somebody else took meanwhile.
#[tokio::test]
async fn r2_a_member_that_begins_anew_waits_for_its_ports_and_misses_its_votes() {
    let mut cluster = Cluster::new(3);
    cluster.start_all();
    let victim = (cluster.leader().await + 1) % 3;
    cluster.with_damaged_snapshot(victim).await;
    // The damage ends its first life. Whoever gets its port before the second one may do with its directory as he likes.
    let since = Instant::now();
    let port = loop {
        match std::net::TcpListener::bind(&cluster.config(victim).peer_addrs[0]) {
            Ok(port) => break port,
            Err(error) => assert!(
                since.elapsed() < PATIENCE,
                "its port is never free: {error}"
            ),
        }
        sleep(Duration::from_millis(2)).await;
    };
    cluster.damage_log(victim, |number, _| number >= 10);
    sleep(Duration::from_millis(1200)).await;
    drop(port);
    cluster.converged().await;
    let healed = cluster.handle(victim).await;
    assert_eq!(healed.status().raft.id.incarnation.0, 2);
    let metrics = healed.metrics();
    assert_eq!((metrics.votes_lost.get(), metrics.reopenings.get()), (1, 1));
    assert_eq!(
        get(&healed, "key9").await.map(|value| value.len()),
        Some(64 << 10)
    );
    cluster.stop_all().await;
}

/// With a data directory that was copied, two processes are one member. They took each other's connections in turn, a thousand times a second.
#[tokio::test]
async fn the_copy_of_a_member_is_turned_away_while_the_member_runs() {
    let mut cluster = Cluster::new(3);
    cluster.start_all();
    cluster.converged().await;
    let own = cluster.config(1);
    let data_dir = cluster.directory.path().join("copy");
    std::fs::create_dir(&data_dir).expect("a directory");
    for entry in std::fs::read_dir(&own.data_dir).expect("a directory") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), data_dir.join(entry.file_name())).expect("it is copied");
    }
    let member = cluster.handle(1).await;
    // Two lanes to each of the others; that for pieces of snapshots may come later.
    let connects = 4;
    let since = Instant::now();
    while member.metrics().peer_connects.get() < connects {
        assert!(since.elapsed() < PATIENCE, "its lanes are not up");
        sleep(Duration::from_millis(20)).await;
    }
    let port = ports::free_ports(1).expect("a port")[0];
    let copy = Config {
        data_dir,
        peer_addrs: vec![format!("127.0.0.1:{port}")],
        ..own
    };
    let copy = Member::start(copy).expect("its ports are free");
    let other = cluster.handle(0).await;
    let since = Instant::now();
    while other.metrics().peer_refusals.get() < 3 {
        assert!(since.elapsed() < PATIENCE, "the copy is not turned away");
        sleep(Duration::from_millis(20)).await;
    }
    put(&member, "k", "v").await;
    cluster.converged().await;
    assert_eq!(member.metrics().peer_connects.get(), connects);
    copy.kill();
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_directory_or_a_port_in_use_is_refused_with_the_fix() {
    let mut cluster = Cluster::new(1);
    cluster.start(0);
    cluster.handle(0).await;

    let second = Config {
        peer_addrs: vec!["127.0.0.1:0".into()],
        ..cluster.config(0)
    };
    let member = Member::start(second).expect("its ports are free");
    let Err(StartError::Directory(text)) = timeout(PATIENCE, member.ended())
        .await
        .expect("it ends in time")
    else {
        panic!("two members share a directory")
    };
    assert!(
        text.contains("in use by another process") && text.contains("--data-dir"),
        "{text}"
    );

    let data_dir = cluster.directory.path().join("other");
    let Err(StartError::Taken { setting, address }) = Member::start(Config {
        data_dir,
        ..cluster.config(0)
    }) else {
        panic!("two members share a port")
    };
    assert_eq!(
        (setting, address),
        ("peer-addr", cluster.config(0).peer_addrs[0].clone())
    );
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_watch_hears_every_change_in_order_and_ends_with_the_member() {
    let mut cluster = Cluster::new(1);
    cluster.start(0);
    let handle = cluster.handle(0).await;
    let mut stream = handle.watch();
    let create = WatchCreate {
        key: Bytes::from_static(b"k"),
        ..WatchCreate::default()
    };
    stream.request(WatchRequest::Create(create)).await;
    let created = timeout(PATIENCE, stream.next())
        .await
        .expect("in time")
        .expect("an answer");
    assert_eq!(created.body, WatchBody::Created);

    // More than the stream's credit, taken only afterwards.
    const CHANGES: i64 = 300;
    for number in 0..CHANGES {
        put(&handle, "k", &number.to_string()).await;
    }
    let mut heard = Vec::new();
    while heard.len() < CHANGES as usize {
        let response = timeout(PATIENCE, stream.next())
            .await
            .expect("in time")
            .expect("the stream lives");
        if let WatchBody::Events { events, .. } = response.body {
            heard.extend(events.iter().map(|event| event.kv.mod_revision));
        }
    }
    let first = heard[0];
    assert_eq!(heard, (first..first + CHANGES).collect::<Vec<_>>());

    cluster.stop_all().await;
    assert_eq!(
        timeout(PATIENCE, stream.next()).await.expect("in time"),
        None
    );
}
