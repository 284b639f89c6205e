//! One running member: from an empty or filled directory to serving, and back to nothing held.
//!
//! A member has a thread with a runtime of its own, so that one process may run several (`synod dev`, tests).

use crate::accept::{Acceptor, Question};
use crate::bootstrap;
use crate::clock::Clock;
use crate::config::Config;
use crate::disk::DiskThreads;
use crate::greet::{self, Me, SharedMe};
use crate::handle::Control;
use crate::members::MemberTable;
use crate::node::Node;
use crate::peers::{PeerEvent, Peers};
use crate::wire::FEATURE_LEVEL;
use crate::{Handle, Metrics};

use log::{FileDisk, Identity, OpenError, Opened, Recovered};
use raft::{Boot, Index, PeerId, Restored, SnapshotMark, Standing, Term};
use replica::{Advertised, BootstrapOutcome, Introduction, KnownCluster, Replica};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::{info, info_span, warn};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// Events of other members that wait for the loop; when full, their connections are not read.
const PEER_EVENTS_MAX: usize = 4096;
/// Bootstrap questions that wait for an answer.
const QUESTIONS_MAX: usize = 64;
/// The one cell of this release.
const CELL: u64 = 1;

/// Why a member does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartError {
    /// An address cannot be listened on.
    Listen(String),
    /// The data directory cannot be used.
    Directory(String),
    /// It cannot belong to the cluster it was told of.
    Bootstrap(String),
    /// It was stopped before it had started.
    Stopped,
    /// It met a fault of its own; the message is in the log.
    Fault,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Listen(text) | StartError::Directory(text) | StartError::Bootstrap(text) => f.write_str(text),
            StartError::Stopped => f.write_str("stopped before it had started"),
            StartError::Fault => f.write_str("the member met a fault of its own and ended; its message is above, please report it"),
        }
    }
}

impl std::error::Error for StartError {}

/// How far a member has come.
#[derive(Clone)]
enum Phase {
    Starting,
    Running(Handle),
    Ended(Result<(), StartError>),
}

/// How a member is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// Hand over leadership if `transfer`, answer what was asked, sync, leave.
    Orderly { transfer: bool },
    /// Leave at once, as a crash would.
    Abrupt,
}

/// A member running on its own thread. Dropping it ends the member abruptly.
pub struct Member {
    thread: Option<std::thread::JoinHandle<()>>,
    stop: Option<oneshot::Sender<Stop>>,
    phase: watch::Receiver<Phase>,
    client_addr: SocketAddr,
    peer_addr: SocketAddr,
}

impl Member {
    /// Starts a member: takes its ports, then goes on by itself. It serves once [`Member::ready`] gives a handle.
    ///
    /// # Errors
    /// The ports cannot be had. Everything later is told by [`Member::ready`] and [`Member::ended`].
    pub fn start(config: Config) -> Result<Member, StartError> {
        let (stop, stop_out) = oneshot::channel();
        let (phase_in, phase) = watch::channel(Phase::Starting);
        let (bound_in, bound) = std::sync::mpsc::channel();
        let span = info_span!("member", name = config.name);
        let body = move || {
            // One member per thread: whatever happens on it is told under the member's name.
            let _named = span.entered();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("the system has room for a runtime");
            let outcome = runtime.block_on(run(config, bound_in, &phase_in, stop_out));
            // Connections that still linger are cut with the runtime.
            drop(runtime);
            phase_in.send_replace(Phase::Ended(outcome));
        };
        let thread = std::thread::Builder::new()
            .name("member".into())
            .spawn(body)
            .expect("the system has room for a thread");
        match bound.recv() {
            Ok((client_addr, peer_addr)) => Ok(Member {
                thread: Some(thread),
                stop: Some(stop),
                phase,
                client_addr,
                peer_addr,
            }),
            Err(_) => {
                let _ = thread.join();
                match phase.borrow().clone() {
                    Phase::Ended(Err(error)) => Err(error),
                    _ => Err(StartError::Fault),
                }
            }
        }
    }

    /// Waits until the member belongs to a cluster and serves.
    ///
    /// # Errors
    /// It ended before that.
    pub async fn ready(&self) -> Result<Handle, StartError> {
        let mut phase = self.phase.clone();
        let reached = phase
            .wait_for(|phase| !matches!(phase, Phase::Starting))
            .await
            .map_err(|_| StartError::Fault)?;
        match &*reached {
            Phase::Running(handle) => Ok(handle.clone()),
            Phase::Ended(Err(error)) => Err(error.clone()),
            Phase::Ended(Ok(())) | Phase::Starting => Err(StartError::Stopped),
        }
    }

    /// Waits until the member has ended by itself or was stopped. The wait may outlive this value.
    ///
    /// # Errors
    /// Why it could not start.
    pub fn ended(&self) -> impl Future<Output = Result<(), StartError>> + Send + use<> {
        let mut phase = self.phase.clone();
        async move {
            let reached = phase
                .wait_for(|phase| matches!(phase, Phase::Ended(_)))
                .await
                .map_err(|_| StartError::Fault)?;
            match &*reached {
                Phase::Ended(outcome) => outcome.clone(),
                Phase::Starting | Phase::Running(_) => unreachable!("waited for the end"),
            }
        }
    }

    /// Asks the member to stop in order: it hands over leadership (unless all members stop), answers what it was asked, syncs and leaves.
    /// [`Member::ended`] tells when it is done.
    pub fn stop(&mut self, transfer: bool) {
        self.end(Stop::Orderly { transfer });
    }

    /// Ends the member at once, as a crash would, and waits until it holds nothing any more.
    pub fn kill(mut self) {
        self.end(Stop::Abrupt);
        self.join();
    }

    /// Where it listens for clients.
    pub fn client_addr(&self) -> SocketAddr {
        self.client_addr
    }

    /// Where it listens for members.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer_addr
    }

    fn end(&mut self, how: Stop) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(how);
        }
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.end(Stop::Abrupt);
        self.join();
    }
}

/// Everything a member is, from its start to its end.
async fn run(
    mut config: Config,
    bound: std::sync::mpsc::Sender<(SocketAddr, SocketAddr)>,
    phase: &watch::Sender<Phase>,
    stop: oneshot::Receiver<Stop>,
) -> Result<(), StartError> {
    let peer_listener = listen(bind("peer-addr", &config.peer_addr).await?, "peer-addr")?;
    // Bound, so that a taken port is told at once; not listening, so that clients turn to other members until this one serves.
    let client_socket = bind("client-addr", &config.client_addr).await?;
    let client_addr = client_socket
        .local_addr()
        .map_err(|error| StartError::Listen(error.to_string()))?;
    let peer_addr = peer_listener
        .local_addr()
        .map_err(|error| StartError::Listen(error.to_string()))?;
    config.bound(client_addr, peer_addr);
    let _ = bound.send((client_addr, peer_addr));
    drop(bound);

    let mut stop = stop;
    let started = tokio::select! {
        started = start(&config, peer_listener) => started?,
        _ = &mut stop => return Ok(()),
    };
    let Started {
        node,
        handle,
        acceptor,
    } = started;
    let mut node = tokio::spawn(node.run());
    let client_listener = listen(client_socket, "client-addr")?;
    let limits = crate::http::Limits {
        request_bytes_max: config.request_bytes_max as usize,
        state_bytes_max: config.state_bytes_max,
    };
    let (door_stop, door_stopped) = oneshot::channel::<()>();
    let mut door = tokio::spawn(crate::http::serve(
        client_listener,
        handle.clone(),
        limits,
        async { drop(door_stopped.await) },
    ));
    let addresses = (
        config.advertise_client_addr.as_str(),
        config.advertise_peer_addr.as_str(),
    );
    info!(client_addr = addresses.0, peer_addr = addresses.1, data_dir = %config.data_dir.display(), "member serves");
    phase.send_replace(Phase::Running(handle.clone()));

    let how = tokio::select! {
        how = &mut stop => how.unwrap_or(Stop::Abrupt),
        ended = &mut node => {
            // The loop ends only when told; anything else is a broken invariant, whose message the panic has printed.
            ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
            return Ok(());
        }
    };
    if let Stop::Orderly { transfer } = how {
        info!("member stops");
        let deadline = tokio::time::Instant::now() + config.stop_timeout;
        if transfer {
            // Whoever does not answer within two elections is not going to.
            let patience = tokio::time::Instant::now() + 2 * config.election_timeout;
            hand_over(&handle, deadline.min(patience)).await;
        }
        let _ = door_stop.send(());
        handle.control(Control::EndWatches);
        if tokio::time::timeout_at(deadline, &mut door).await.is_err() {
            warn!("requests were still open when the time to stop was over, they are cut off");
        }
    }
    door.abort();
    acceptor.abort();
    handle.control(Control::Stop);
    let _ = node.await;
    info!("member stopped");
    Ok(())
}

/// A member that may begin.
struct Started {
    node: Node,
    handle: Handle,
    acceptor: JoinHandle<()>,
}

/// Opens the directory, finds the cluster and builds the loop.
async fn start(config: &Config, peer_listener: TcpListener) -> Result<Started, StartError> {
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

async fn bind(name: &str, address: &str) -> Result<TcpSocket, StartError> {
    let failed = |reason: String| {
        StartError::Listen(format!("{name}: {address} cannot be listened on: {reason}"))
    };
    let target = match address.parse() {
        Ok(target) => target,
        Err(_) => {
            let mut targets = tokio::net::lookup_host(address)
                .await
                .map_err(|error| failed(error.to_string()))?;
            targets
                .next()
                .ok_or_else(|| failed("it resolves to nothing".into()))?
        }
    };
    let socket = match target {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let socket = socket.map_err(|error| failed(error.to_string()))?;
    socket
        .set_reuseaddr(true)
        .map_err(|error| failed(error.to_string()))?;
    socket.bind(target).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => failed(format!(
            "another process has it; stop that one, or pass another --{name}"
        )),
        _ => failed(error.to_string()),
    })?;
    Ok(socket)
}

fn listen(socket: TcpSocket, name: &str) -> Result<TcpListener, StartError> {
    let address = socket
        .local_addr()
        .map_or_else(|_| String::new(), |address| address.to_string());
    socket.listen(BACKLOG).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            StartError::Listen(format!("{name}: {address} cannot be listened on: another process has it; stop that one, or pass another --{name}"))
        }
        _ => StartError::Listen(format!("{name}: {address} cannot be listened on: {error}")),
    })
}

/// Hands leadership over before a leader leaves, so that nobody waits for an election.
async fn hand_over(handle: &Handle, deadline: tokio::time::Instant) {
    let status = handle.status();
    let others = status
        .raft
        .configuration
        .voters
        .iter()
        .any(|voter| *voter != status.raft.id);
    if status.raft.leader != Some(status.raft.id) || !others {
        return;
    }
    match tokio::time::timeout_at(deadline, handle.transfer_leadership(None)).await {
        Ok(Ok(())) => info!("leadership handed over"),
        Ok(Err(_)) | Err(_) => warn!("nobody took leadership over, the others will elect"),
    }
}
