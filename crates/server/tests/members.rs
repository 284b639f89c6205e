//! Real members that come and go while clients write: places are taken, all members are replaced, those that left stop and stay away.

#[path = "../../ports.rs"]
mod ports;

use bytes::Bytes;
use raft::MemberId;
use replica::{ChangeRequest, Failure, MemberChange};
use state::{Command, Operation, Put};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use synod_server::config::Settings;
use synod_server::{Config, Handle, Member, StartError};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

/// More than anything here needs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Processes by number, each with the peer address it was given.
struct Field {
    directory: TempDir,
    addresses: Vec<String>,
    running: Vec<Option<Member>>,
}

impl Field {
    /// Addresses for so many members; the first three found the cluster.
    async fn of(size: usize) -> Field {
        let ports = ports::free_ports(size).expect("ports");
        // By host name: each connection resolves it.
        let addresses = ports.iter().map(|port| format!("localhost:{port}"));
        let mut field = Field {
            directory: tempfile::tempdir().expect("a directory"),
            addresses: addresses.collect(),
            running: (0..size).map(|_| None).collect(),
        };
        for at in 0..3 {
            field.start(at, false);
        }
        for at in 0..3 {
            field.handle(at).await;
        }
        field
    }

    fn data_dir(&self, at: usize) -> PathBuf {
        self.directory.path().join(format!("n{}", at + 1))
    }

    fn config(&self, at: usize, joins: bool) -> Config {
        let listed: Vec<String> = (0..3)
            .chain([at].into_iter().filter(|at| *at > 2))
            .map(|at| format!("n{}={}", at + 1, self.addresses[at]))
            .collect();
        let name = format!("n{}", at + 1);
        let data_dir = self.data_dir(at);
        let flags = [
            ("name", name.as_str()),
            ("data-dir", data_dir.to_str().expect("a readable path")),
            ("client-addr", "127.0.0.1:0"),
            ("peer-addr", &self.addresses[at]),
            ("cluster", &listed.join(",")),
            ("cluster-state", if joins { "existing" } else { "new" }),
            ("log-segment-bytes", "1MiB"),
            ("disk-low-water-bytes", "0"),
        ];
        let flags = flags.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Settings::default()
            .flags(flags)
            .resolve()
            .expect("the settings are good")
    }

    fn start(&mut self, at: usize, joins: bool) {
        let member = Member::start(self.config(at, joins)).expect("its ports are free");
        self.running[at] = Some(member);
    }

    async fn handle(&self, at: usize) -> Handle {
        let ready = self.running[at].as_ref().expect("it runs").ready();
        timeout(PATIENCE, ready)
            .await
            .expect("it starts in time")
            .expect("it starts")
    }

    /// How a member ended by itself.
    async fn ended(&mut self, at: usize) -> Result<(), StartError> {
        let member = self.running[at].take().expect("it runs");
        timeout(PATIENCE, member.ended())
            .await
            .expect("it ends in time")
    }

    fn prepare(&self, at: usize, replaces: Option<u64>) -> MemberChange {
        MemberChange::Add {
            member: MemberId(0x1000 + at as u64),
            peer_addresses: vec![self.addresses[at].clone()],
            stays_learner: false,
            replaces: replaces.map(MemberId),
        }
    }

    async fn stop_all(&mut self) {
        for member in self.running.iter_mut().flatten() {
            member.stop(false);
        }
        for member in self.running.iter_mut().filter_map(Option::take) {
            timeout(PATIENCE, member.ended())
                .await
                .expect("it stops in time")
                .expect("it stops in order");
        }
    }
}

async fn change(handle: &Handle, changes: Vec<MemberChange>) -> raft::Configuration {
    let since = Instant::now();
    loop {
        let request = ChangeRequest {
            changes: changes.clone(),
            as_etcd: false,
        };
        match handle.change_members(request).await {
            Ok(configuration) => return configuration,
            Err(Failure::NoLeader | Failure::LeaderChanged) if since.elapsed() < PATIENCE => {
                sleep(Duration::from_millis(20)).await
            }
            Err(failure) => panic!("{changes:?}: {failure:?}"),
        }
    }
}

/// Waits until these members, and no others, vote, as this one knows it.
async fn voters(handle: &Handle, expected: &[u64]) {
    let since = Instant::now();
    loop {
        let status = handle.status_now().await;
        let configuration = &status.raft.configuration_decided;
        let voters: Vec<u64> = configuration
            .voters
            .iter()
            .map(|voter| voter.member.0)
            .collect();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        if voters == expected && !configuration.is_joint() {
            return;
        }
        assert!(
            since.elapsed() < PATIENCE,
            "{configuration}, not {expected:x?}"
        );
        sleep(Duration::from_millis(20)).await;
    }
}

async fn put(handle: &Handle, key: &str) -> Result<(), Failure> {
    let put = Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::from_static(b"value"),
        ..Put::default()
    };
    let command = Command {
        operation: Some(Operation::Put(put)),
        ..Command::default()
    };
    handle.propose(command).await.map(|_| ())
}

/// Writes through a member until told to stop, and gives how long each put took, the retries of what was certainly not applied included.
fn write_on(handle: Handle, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<Vec<Duration>> {
    tokio::spawn(async move {
        let mut took = Vec::new();
        while !stop.load(Relaxed) {
            let begun = Instant::now();
            let key = format!("key{}", took.len());
            while let Err(failure) = put(&handle, &key).await {
                // What a client may repeat at another endpoint; nothing else may happen.
                assert!(
                    matches!(
                        failure,
                        Failure::NoLeader | Failure::LeaderChanged | Failure::Unknown
                    ),
                    "{key}: {failure:?}"
                );
                if stop.load(Relaxed)
                    || handle
                        .status()
                        .raft
                        .configuration
                        .departed
                        .contains(&MemberId(handle.member()))
                {
                    return took;
                }
                sleep(Duration::from_millis(5)).await;
            }
            took.push(begun.elapsed());
            sleep(Duration::from_millis(2)).await;
        }
        took
    })
}

#[tokio::test]
async fn all_members_are_replaced_one_by_one_while_clients_write() {
    let mut field = Field::of(6).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    let mut ids = Vec::new();
    for at in 0..3 {
        let handle = field.handle(at).await;
        ids.push(handle.member());
        writers.push(write_on(handle, stop.clone()));
    }
    for old in 0..3 {
        let new = old + 3;
        // Asked of the one that leaves: any member takes it.
        let handle = field.handle(old).await;
        change(&handle, vec![field.prepare(new, Some(ids[old]))]).await;
        field.start(new, true);
        let joined = field.handle(new).await;
        assert_eq!(
            joined.member(),
            0x1000 + new as u64,
            "it has the place's id"
        );
        ids[old] = joined.member();
        voters(&joined, &ids).await;
        writers.push(write_on(joined, stop.clone()));
        let Err(StartError::Departed(text)) = field.ended(old).await else {
            panic!("a removed member goes on");
        };
        assert!(text.contains("synod member add"), "{text}");
    }
    sleep(Duration::from_millis(200)).await;
    stop.store(true, Relaxed);
    let mut took = Vec::new();
    for writer in writers {
        took.extend(writer.await.expect("no write failed"));
    }
    took.sort();
    assert!(took.len() > 100, "{} writes", took.len());
    println!(
        "{} writes, p50 {:?}, p99 {:?}, longest {:?}",
        took.len(),
        took[took.len() / 2],
        took[took.len() * 99 / 100],
        took[took.len() - 1]
    );
    // Those that took places are members like any other: they come back by their directories.
    field.running[5].take().expect("it runs").kill();
    field.start(5, true);
    let back = field.handle(5).await;
    assert_eq!(back.member(), ids[2]);
    assert_eq!(put(&back, "after").await, Ok(()));
    field.stop_all().await;
}

#[tokio::test]
async fn a_member_removed_while_it_is_down_ends_when_it_comes_back() {
    let mut field = Field::of(3).await;
    let gone = field.handle(2).await.member();
    field.running[2].take().expect("it runs").kill();
    let handle = field.handle(0).await;
    change(&handle, vec![MemberChange::Remove(MemberId(gone))]).await;
    for _ in 0..2 {
        field.start(2, false);
        let Err(StartError::Departed(_)) = field.ended(2).await else {
            panic!("a removed member came back");
        };
    }
    // With an empty directory it is nobody before a place is prepared.
    std::fs::remove_dir_all(field.data_dir(2)).expect("it is there");
    field.start(2, true);
    let ready = field.running[2].as_ref().expect("it runs").ready();
    assert!(timeout(Duration::from_secs(2), ready).await.is_err());
    change(&handle, vec![field.prepare(2, None)]).await;
    let back = field.handle(2).await;
    assert_eq!(back.member(), 0x1002);
    let others = [
        field.handle(0).await.member(),
        field.handle(1).await.member(),
    ];
    voters(&handle, &[others[0], others[1], 0x1002]).await;
    field.stop_all().await;
}

#[tokio::test]
async fn a_lost_disk_costs_a_learner_its_id_and_not_its_part() {
    let mut field = Field::of(4).await;
    let handle = field.handle(0).await;
    let learner = MemberChange::Add {
        member: MemberId(0x1003),
        peer_addresses: vec![field.addresses[3].clone()],
        stays_learner: true,
        replaces: None,
    };
    change(&handle, vec![learner]).await;
    field.start(3, true);
    assert_eq!(field.handle(3).await.member(), 0x1003);
    field.running[3].take().expect("it runs").kill();
    std::fs::remove_dir_all(field.data_dir(3)).expect("it is there");
    field.start(3, true);
    let fresh = field.handle(3).await.member();
    assert_ne!(fresh, 0x1003);
    let configuration = handle.status_now().await.raft.configuration.clone();
    assert!(configuration.members[&MemberId(fresh)].stays_learner);
    assert!(configuration.departed.contains(&MemberId(0x1003)));
    field.stop_all().await;
}

#[tokio::test]
async fn the_member_of_the_highest_priority_leads() {
    let mut field = Field::of(3).await;
    for at in 0..3 {
        field.running[at].take().expect("it runs").kill();
    }
    for at in 0..3 {
        let mut config = field.config(at, false);
        config.leader_priority = at as u32;
        field.running[at] = Some(Member::start(config).expect("its ports are free"));
    }
    let preferred = field.handle(2).await;
    let since = Instant::now();
    while preferred.status().raft.leader != Some(preferred.status().raft.id) {
        assert!(since.elapsed() < PATIENCE, "another member leads");
        sleep(Duration::from_millis(20)).await;
    }
    field.stop_all().await;
}
