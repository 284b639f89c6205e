//! How a member comes to its loop: directory, identity, cluster, consensus, connections.

use crate::accept::{Acceptor, Question};
use crate::bootstrap;
use crate::clock::Clock;
use crate::config::Config;
use crate::disk::DiskThreads;
use crate::greet::{self, Me, SharedMe};
use crate::members::MemberTable;
use crate::node::Node;
use crate::peers::{PeerEvent, Peers};
use crate::server::StartError;
use crate::wire::FEATURE_LEVEL;
use crate::{Handle, Metrics};
use log::{FileDisk, Identity, OpenError, Opened, Recovered};
use raft::{Boot, Index, PeerId, Restored, SnapshotMark, Standing, Term};
use replica::{Advertised, BootstrapOutcome, Introduction, KnownCluster, Replica};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{info, warn};

/// Events of other members that wait for the loop; when full, their connections are not read.
const PEER_EVENTS_MAX: usize = 1024;
/// Bootstrap questions that wait for an answer.
const QUESTIONS_MAX: usize = 64;
/// The one cell of this release.
const CELL: u64 = 1;

/// A member that may begin.
pub(crate) struct Started {
    pub(crate) node: Node,
    pub(crate) handle: Handle,
    pub(crate) acceptor: JoinHandle<()>,
}

/// Opens the directory, finds the cluster and builds the loop.
///
/// # Errors
/// The directory cannot be used, or the member can belong to no cluster it was told of.
pub(crate) async fn start(
    config: &Config,
    peer_listener: TcpListener,
) -> Result<Started, StartError> {
    let clock = Clock::start();
    let boot = Boot(greet::random_id());
    let metrics = Arc::new(Metrics::default());
    let opened = open(config)?;
    let (mut log, snapshots, mut identity, recovered) = (
        opened.log,
        opened.snapshots,
        opened.identity,
        opened.recovered,
    );
    for what in &recovered.quarantined {
        warn!(what, "damaged data was set aside");
    }

    let mut me = Me {
        id: PeerId {
            member: identity.member,
            incarnation: identity.incarnation,
        },
        boot,
        name: config.name.clone(),
        cluster: identity.cluster,
        cell: CELL,
        peer_addresses: vec![config.advertise_peer_addr.clone()],
        client_addresses: vec![config.advertise_client_addr.clone()],
    };
    let shared_me: Arc<SharedMe> = Arc::new(RwLock::new(Arc::new(me.clone())));
    let (events, peer_events) = mpsc::channel::<PeerEvent>(PEER_EVENTS_MAX);
    let (questions_in, mut questions) = mpsc::channel::<Question>(QUESTIONS_MAX);
    let acceptor = Arc::new(Acceptor::new(
        shared_me.clone(),
        events.clone(),
        questions_in,
        metrics.clone(),
    ));
    let acceptor = AbortOnDrop(tokio::spawn(acceptor.run(peer_listener)));

    let introduction = Introduction {
        name: config.name.clone(),
        member: identity.member,
        listed: config.cluster.clone().into_iter().collect(),
    };
    if identity.cluster == 0 {
        let outcome = bootstrap::find_cluster(
            Arc::new(me.clone()),
            introduction.clone(),
            clock,
            &mut questions,
        )
        .await;
        identity = match outcome {
            BootstrapOutcome::Start {
                id,
                cluster,
                configuration,
            } => Identity {
                member: id.member,
                incarnation: id.incarnation,
                cluster,
                bootstrap: configuration,
            },
            BootstrapOutcome::Refused(reason) => return Err(StartError::Bootstrap(reason)),
        };
        let written = log.write_identity(&identity);
        written.map_err(|error| {
            StartError::Directory(format!(
                "{}: cannot be written: {error:?}",
                config.data_dir.display()
            ))
        })?;
        info!(
            cluster = format_args!("{:x}", identity.cluster),
            "member belongs to a cluster now"
        );
        me.id = PeerId {
            member: identity.member,
            incarnation: identity.incarnation,
        };
        me.cluster = identity.cluster;
        *shared_me.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(me.clone());
    }

    let restored = restored(config, &identity, boot, recovered)?;
    let configuration = restored
        .configurations
        .last()
        .map_or(&restored.snapshot.configuration, |(_, newest)| newest)
        .clone();
    let (inputs, disk_inputs) = mpsc::unbounded_channel();
    let disk = DiskThreads::start(&config.name, log, snapshots, inputs, metrics.clone());
    let boot = replica::Boot {
        cluster: identity.cluster,
        cell: CELL,
        restored,
        seed: greet::random(),
    };
    let replica = Replica::new(replica_settings(config), boot, clock.now());
    let (handle, inbox) = Handle::new(identity.cluster, replica.status(), metrics.clone());

    let mut members = MemberTable::new(&me.party());
    members.configure(configuration.clone());
    inbox.members.send_replace(members.view());
    let mut peers = Peers::new(Arc::new(me), events, metrics.clone());
    peers.configure(&configuration);
    let known = {
        let handle = handle.clone();
        move || {
            let status = handle.status();
            KnownCluster {
                cluster: identity.cluster,
                bootstrap: identity.bootstrap.clone(),
                current: status.raft.configuration.clone(),
                leader: status.raft.leader,
            }
        }
    };
    tokio::spawn(bootstrap::answer_questions(
        questions,
        introduction,
        handle.clone(),
        known,
    ));
    let node = Node {
        replica,
        clock,
        inbox,
        peers,
        peer_events,
        disk,
        disk_inputs,
        members,
        metrics,
    };
    Ok(Started {
        node,
        handle,
        acceptor: acceptor.keep(),
    })
}

/// A task that ends when the one who waits for it leaves early.
struct AbortOnDrop(JoinHandle<()>);

impl AbortOnDrop {
    fn abort(&self) {
        self.0.abort();
    }

    fn keep(mut self) -> JoinHandle<()> {
        std::mem::replace(&mut self.0, tokio::spawn(std::future::ready(())))
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.abort();
    }
}

fn open(config: &Config) -> Result<Opened<FileDisk>, StartError> {
    let shown = config.data_dir.display();
    let disk = FileDisk::open(&config.data_dir).map_err(|error| {
        StartError::Directory(format!("data-dir: {shown} cannot be used: {error}"))
    })?;
    let settings = log::Settings {
        segment_bytes: config.log_segment_bytes,
        low_water_bytes: config.disk_low_water_bytes,
    };
    log::open(disk, settings, greet::random_member()).map_err(|error| {
        StartError::Directory(match error {
            OpenError::Locked => format!("data-dir: {shown} is in use by another process; stop that one, or pass another --data-dir"),
            OpenError::NewerVersion { found, known } => {
                format!("data-dir: {shown} was written by a newer version (format {found}, up to {known} is known here); run that version")
            }
            OpenError::Foreign(what) => format!("data-dir: {shown} holds {what}, which is not Synod's; pass an empty directory"),
            OpenError::Damaged(what) => format!("data-dir: {shown} is damaged: {what}"),
            OpenError::Disk(reason) => format!("data-dir: {shown} cannot be read: {reason}"),
        })
    })
}

/// What consensus starts from, by what recovery found.
fn restored(
    config: &Config,
    identity: &Identity,
    boot: Boot,
    recovered: Recovered,
) -> Result<Restored, StartError> {
    let snapshot = recovered.snapshot.unwrap_or_else(|| SnapshotMark {
        index: Index(0),
        term: Term(0),
        configuration: identity.bootstrap.clone(),
    });
    let Some(vote) = recovered.vote else {
        let shown = config.data_dir.display();
        return Err(StartError::Directory(format!(
            "data-dir: {shown} has lost the record of this member's votes, so it may not vote again; keep the directory for inspection, and let \
             the other members go on"
        )));
    };
    Ok(Restored {
        id: PeerId {
            member: identity.member,
            incarnation: identity.incarnation,
        },
        boot,
        vote,
        snapshot,
        terms: recovered.terms,
        last: recovered.last,
        configurations: recovered.configurations,
        standing: if recovered.entries_lost {
            Standing::EntriesLost
        } else {
            Standing::Sound
        },
    })
}

fn replica_settings(config: &Config) -> replica::Settings {
    let raft = raft::Settings {
        heartbeat: config.heartbeat_interval,
        election_min: config.election_timeout,
        election_max: 2 * config.election_timeout,
        ..raft::Settings::default()
    };
    let state = state::Settings {
        state_bytes_max: config.state_bytes_max,
        ..state::Settings::default()
    };
    let limits = replica::Limits {
        command_bytes_max: config.request_bytes_max as usize,
        snapshot_log_bytes: config.snapshot_log_bytes,
        snapshot_keep_entries: config.snapshot_keep_entries,
        ..replica::Limits::default()
    };
    let advertised = Advertised {
        peer_addresses: vec![config.advertise_peer_addr.clone()],
        client_addresses: vec![config.advertise_client_addr.clone()],
        feature_level: FEATURE_LEVEL,
    };
    replica::Settings {
        raft,
        state,
        limits,
        advertised: Some(advertised),
    }
}
