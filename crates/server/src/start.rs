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
use crate::space::SpaceWatch;
use crate::tls::{Admission, Certificates, Port};
use crate::trace::{Steps, Tracer};
use crate::wire::FEATURE_LEVEL;
use crate::{Handle, Metrics};
use futures_util::FutureExt;
use futures_util::future::join_all;
use log::{Disk, FileDisk, Identity, OpenError, Opened, Recovered};
use raft::{
    Boot, Configuration, Incarnation, Index, MemberId, PeerId, Restored, SnapshotMark, Standing,
    Term, Vote,
};
use replica::{Advertised, Bootstrap, BootstrapOutcome, Introduction, KnownCluster, Replica};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

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
    /// Told when the member was removed from the cluster.
    pub(crate) leave: Arc<Notify>,
}

/// Opens the directory, finds the cluster and builds the loop.
///
/// # Errors
/// The directory cannot be used, or the member can belong to no cluster it was told of.
pub(crate) async fn start(
    config: &Config,
    certificates: &Certificates,
    peer_listeners: Vec<TcpListener>,
    metrics: Arc<Metrics>,
) -> Result<Started, StartError> {
    let clock = Clock::start();
    let boot = Boot(greet::random_id());
    let Opened {
        mut log,
        snapshots,
        mut identity,
        mut recovered,
    } = open(config)?;
    tell_damage(config, &identity, &recovered, &metrics);
    // Who belongs to no cluster yet has voted for nobody: there is nothing to lose.
    let votes_lost = recovered.vote.is_none() && identity.cluster != 0;

    let mut me = Me {
        id: peer_of(&identity),
        boot,
        name: config.name.clone(),
        // To the others it belongs to no cluster until it counts as a new incarnation.
        cluster: if votes_lost { 0 } else { identity.cluster },
        cell: CELL,
        peer_addresses: vec![config.advertise_peer_addr.clone()],
        client_addresses: config.client_addresses_told(),
        tls: certificates.peer.clone(),
    };
    let shared_me: Arc<SharedMe> = Arc::new(RwLock::new(Arc::new(me.clone())));
    let (events, peer_events) = mpsc::channel::<PeerEvent>(PEER_EVENTS_MAX);
    let (questions_in, mut questions) = mpsc::channel::<Question>(QUESTIONS_MAX);
    let (departed, departed_out) = watch::channel(Vec::new());
    let acceptor = Arc::new(Acceptor::new(
        shared_me.clone(),
        events.clone(),
        questions_in,
        departed_out,
        Admission::new(Port::Peer, certificates.peer.clone(), metrics.clone()),
        metrics.clone(),
    ));
    let accepting = peer_listeners
        .into_iter()
        .map(|listener| acceptor.clone().run(listener));
    let acceptor = AbortOnDrop(tokio::spawn(join_all(accepting).map(drop)));

    let mut introduction = Introduction {
        name: config.name.clone(),
        member: identity.member,
        incarnation: if votes_lost {
            identity.incarnation
        } else {
            Incarnation(0)
        },
        replaces: None,
        listed: config.cluster.clone().into_iter().collect(),
    };
    if me.cluster == 0 {
        let now = clock.monotonic();
        let asking = if votes_lost {
            Bootstrap::again(introduction.clone(), identity.cluster, now)
        } else if config.cluster_exists {
            Bootstrap::joining(introduction.clone(), now)
        } else {
            Bootstrap::new(introduction.clone(), now)
        };
        let outcome =
            bootstrap::find_cluster(Arc::new(me.clone()), asking, clock, &mut questions).await;
        identity = match outcome {
            BootstrapOutcome::Start {
                id,
                cluster,
                configuration,
            } => Identity {
                member: id.member,
                directory: identity.directory,
                incarnation: id.incarnation,
                cluster,
                bootstrap: configuration,
            },
            BootstrapOutcome::Refused(reason) => return Err(StartError::Bootstrap(reason)),
        };
        let cannot_write = |error| {
            StartError::Disk(format!(
                "data-dir: {} cannot be written: {error:?}",
                config.data_dir.display()
            ))
        };
        log.write_identity(&identity).map_err(cannot_write)?;
        if recovered.vote.is_none() {
            begin_incarnation(&mut log, &mut recovered).map_err(cannot_write)?;
        }
        if votes_lost {
            warn!(
                incarnation = identity.incarnation.0,
                "member was admitted as a new incarnation, it learns before it votes"
            );
            metrics.votes_lost.inc();
        }
        info!(
            cluster = format_args!("{:x}", identity.cluster),
            incarnation = identity.incarnation.0,
            "member belongs to a cluster now"
        );
        // In a place that was prepared it has the place's id from now on.
        introduction.member = identity.member;
        me.id = peer_of(&identity);
        me.cluster = identity.cluster;
        *shared_me.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(me.clone());
    }

    let restored = restored(&identity, boot, recovered);
    if decided(&restored).departed.contains(&identity.member) {
        return Err(StartError::departed(config, me.id));
    }
    let configuration = restored
        .configurations
        .last()
        .map_or(&restored.snapshot.configuration, |(_, newest)| newest)
        .clone();
    check_name(config, me.id.member, &configuration)?;
    let (inputs, disk_inputs) = mpsc::unbounded_channel();
    let disk = DiskThreads::start(&config.name, log, snapshots, inputs, metrics.clone());
    let boot = replica::Boot {
        cluster: identity.cluster,
        cell: CELL,
        restored,
        seed: greet::random(),
    };
    let replica = Replica::new(replica_settings(config), boot, clock.now());
    let tracer = Tracer::start(config.traces.as_ref(), &metrics);
    let (handle, inbox) = Handle::new(
        identity.cluster,
        replica.status(),
        metrics.clone(),
        tracer.clone(),
    );

    let mut members = MemberTable::new(&me.party(), me.tls.is_some());
    members.configure(configuration.clone());
    inbox.members.send_replace(members.clone());
    let mut peers = Peers::new(Arc::new(me), events, metrics.clone());
    peers.configure(&configuration);
    let known = {
        let handle = handle.clone();
        move || {
            let status = handle.status();
            KnownCluster {
                cluster: identity.cluster,
                bootstrap: identity.bootstrap.clone(),
                current: (*status.raft.configuration_decided).clone(),
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
    let leave = Arc::new(Notify::new());
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
        space: SpaceWatch::new(config.state_bytes_warn),
        departed,
        leave: leave.clone(),
        steps: Steps::new(tracer),
    };
    Ok(Started {
        leave,
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

fn peer_of(identity: &Identity) -> PeerId {
    PeerId {
        member: identity.member,
        incarnation: identity.incarnation,
    }
}

/// Tells the operator what was found damaged, and what comes of it.
fn tell_damage(config: &Config, identity: &Identity, recovered: &Recovered, metrics: &Metrics) {
    for what in &recovered.quarantined {
        metrics.damage_found.inc();
        metrics.files_quarantined.inc();
        error!(what, directory = %config.data_dir.display(), "damaged data was set aside");
    }
    let doubt = if identity.cluster == 0 {
        return;
    } else if recovered.vote.is_none() {
        "the record of this member's votes is lost: it asks to be admitted as a new incarnation, and counts again when it has caught up"
    } else if recovered.entries_lost {
        "this member may have lost entries: it does not count until the others have made its log good"
    } else {
        return;
    };
    let newest = recovered.configurations.last().map(|(_, newest)| newest);
    let at_snapshot = recovered.snapshot.as_ref().map(|mark| &mark.configuration);
    let configuration = newest.or(at_snapshot).unwrap_or(&identity.bootstrap);
    if configuration.voters.len() < 2 {
        error!(
            "{doubt}; but no other member votes, so nobody can: restore a snapshot of the keys into a new data directory"
        );
    } else {
        warn!("{doubt}");
    }
}

/// The log goes on as that of a new incarnation, which voted for nobody and acknowledged nothing. The identity says so already.
fn begin_incarnation(
    log: &mut log::Log<FileDisk>,
    recovered: &mut Recovered,
) -> Result<(), log::StoreError> {
    let snapshot = recovered.snapshot.as_ref().map(|mark| mark.term);
    let newest = recovered.terms.last().map(|(_, term)| *term);
    let term = newest.or(snapshot).unwrap_or_default();
    log.begin_incarnation(term);
    log.sync()?;
    recovered.vote = Some(Vote {
        term,
        candidate: None,
    });
    recovered.entries_lost = false;
    Ok(())
}

fn open(config: &Config) -> Result<Opened<FileDisk>, StartError> {
    let shown = config.data_dir.display();
    let cannot_be_used =
        |error| StartError::Directory(format!("data-dir: {shown} cannot be used: {error}"));
    let mut disk = FileDisk::open(&config.data_dir).map_err(cannot_be_used)?;
    if has_lost_its_identity(&disk.list().map_err(cannot_be_used)?) {
        return Err(StartError::Directory(format!(
            "data-dir: {shown} is damaged: its 'identity' file is gone, and its log is there; put the file back, or empty the directory to let this member join as a new incarnation"
        )));
    }
    let settings = log::Settings {
        segment_bytes: config.log_segment_bytes,
        low_water_bytes: config.disk_low_water_bytes,
    };
    log::open(disk, settings, greet::random_member()).map_err(|error| {
        StartError::Directory(match error {
            OpenError::Disk(reason) => return StartError::Disk(format!("data-dir: {shown} cannot be read: {reason}")),
            OpenError::Locked => format!("data-dir: {shown} is in use by another process; stop that one, or pass another --data-dir"),
            OpenError::NewerVersion { found, known } => {
                format!("data-dir: {shown} was written by a newer version (format {found}, up to {known} is known here); run that version")
            }
            OpenError::Foreign(what) => format!("data-dir: {shown} is not this member's: {what}; pass an empty directory, or the one of this member"),
            OpenError::Damaged(what) => format!("data-dir: {shown} is damaged: {what}"),
        })
    })
}

/// Whether a directory of ours holds a log and no record of whose it is. The first start writes that record before the log, and opening the directory would
/// make another, as if it were new.
fn has_lost_its_identity(names: &[String]) -> bool {
    let has = |name: &str| names.iter().any(|other| other == name);
    has("version") && !has("identity") && names.iter().any(|name| name.starts_with("log-"))
}

/// What consensus starts from, by what recovery found.
fn restored(identity: &Identity, boot: Boot, recovered: Recovered) -> Restored {
    let snapshot = recovered.snapshot.unwrap_or_else(|| SnapshotMark {
        index: Index(0),
        term: Term(0),
        configuration: identity.bootstrap.clone(),
    });
    Restored {
        id: peer_of(identity),
        boot,
        vote: recovered
            .vote
            .expect("a member without its votes began a new incarnation"),
        snapshot,
        terms: recovered.terms,
        last: recovered.last,
        configurations: recovered.configurations,
        commit: recovered.commit,
        standing: if recovered.entries_lost {
            Standing::EntriesLost
        } else {
            Standing::Sound
        },
    }
}

/// A member that took another's name would tell the cluster the other's address for its own. (One that has only replayed what was before it came may
/// meet its predecessor's name.)
fn check_name(
    config: &Config,
    id: MemberId,
    configuration: &Configuration,
) -> Result<(), StartError> {
    let members = &configuration.members;
    let Some(own) = members.get(&id).filter(|own| own.name != config.name) else {
        return Ok(());
    };
    let Some((other, _)) = members.iter().find(|(_, other)| other.name == config.name) else {
        return Ok(());
    };
    Err(StartError::Bootstrap(format!(
        "name: {} is the directory of {own}, and {name} is another member of its cluster ({other}); pass --name {own}, or {name}'s --data-dir",
        config.data_dir.display(),
        own = own.name,
        name = config.name,
    )))
}

/// The newest configuration known to be decided.
fn decided(restored: &Restored) -> &Configuration {
    let mut newest_first = restored.configurations.iter().rev();
    newest_first
        .find(|(index, _)| *index <= restored.commit)
        .map_or(&restored.snapshot.configuration, |(_, newest)| newest)
}

fn replica_settings(config: &Config) -> replica::Settings {
    let raft = raft::Settings {
        heartbeat: config.heartbeat_interval,
        election_min: config.election_timeout,
        election_max: 2 * config.election_timeout,
        ..raft::Settings::default()
    };
    let limits = replica::Limits {
        command_bytes_max: config.request_bytes_max as usize,
        state_bytes_max: Some(config.state_bytes_max),
        watches_max: config.watches_max,
        stream_watches_max: config.stream_watches_max,
        leases_max: config.leases_max,
        snapshot_log_bytes: config.snapshot_log_bytes,
        snapshot_keep_entries: config.snapshot_keep_entries,
        ..replica::Limits::default()
    };
    let advertised = Advertised {
        peer_addresses: vec![config.advertise_peer_addr.clone()],
        client_addresses: config.client_addresses_told(),
        feature_level: FEATURE_LEVEL,
        priority: config.leader_priority,
    };
    replica::Settings {
        raft,
        state: state::Settings::default(),
        limits,
        auto_compaction: config.auto_compaction,
        advertised: Some(advertised),
    }
}
