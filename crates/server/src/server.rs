//! One running member: from an empty or filled directory to serving, and back to nothing held.
//!
//! A member has a thread with a runtime of its own, so that one process may run several (`synod dev`, tests).

use crate::auth::Authenticator;
use crate::config::{Address, Config};
use crate::examine::Examiner;
use crate::handle::Control;
use crate::http::{Entrance, Origins};
use crate::listen::{bind_all, listen_all};
use crate::node::End;
use crate::start::{Started, start};
use crate::tls::{Admission, Certificates, Port};
use crate::{Handle, Metrics};
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tracing::{error, info, info_span, warn};

/// How long a member stays away before it begins anew: a disk that fails for good is not to be asked without a pause.
const REOPEN_WAIT: Duration = Duration::from_millis(500);
/// How long it waits for its ports then, when somebody else has them.
const PORTS_PATIENCE: Duration = Duration::from_secs(60);
/// How long connections may take to end when the member begins anew.
const FAREWELL: Duration = Duration::from_millis(200);

/// Why a member does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartError {
    /// An address cannot be listened on.
    Listen(String),
    /// Another process listens on the address.
    Taken {
        /// The setting it comes from.
        setting: &'static str,
        /// The address.
        address: String,
    },
    /// The data directory cannot be used.
    Directory(String),
    /// Its disk fails; that may pass.
    Disk(String),
    /// Its certificates cannot be used.
    Tls(String),
    /// It cannot belong to the cluster it was told of.
    Bootstrap(String),
    /// It cannot authenticate users as it was told to.
    Auth(String),
    /// It was removed from its cluster, and does not come back under this identity.
    Departed(String),
    /// It was stopped before it had started.
    Stopped,
    /// It met a fault of its own; the message is in the log.
    Fault,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Listen(text)
            | StartError::Directory(text)
            | StartError::Disk(text)
            | StartError::Tls(text)
            | StartError::Bootstrap(text)
            | StartError::Auth(text)
            | StartError::Departed(text) => f.write_str(text),
            StartError::Taken { setting, address } => write!(
                f,
                "{setting}: {address} cannot be listened on: another process has it; stop that one, or pass another --{setting}"
            ),
            StartError::Stopped => f.write_str("stopped before it had started"),
            StartError::Fault => f.write_str("the member met a fault of its own and ended; its message is above, please report it"),
        }
    }
}

impl std::error::Error for StartError {}

impl StartError {
    pub(crate) fn departed(config: &Config, id: raft::PeerId) -> StartError {
        let directory = config.data_dir.display();
        StartError::Departed(format!(
            "member {} ({}) was removed from the cluster and does not come back under this identity; to bring this machine back, run `synod member add {}`, and start it with an empty --data-dir ({directory} is not needed any more)",
            config.name, id.member, config.advertise_peer_addr
        ))
    }
}

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
    bound: Bound,
}

impl Member {
    /// Starts a member: takes its ports, then goes on by itself. It serves once [`Member::ready`] gives a handle.
    ///
    /// # Errors
    /// The ports cannot be had. Everything later is told by [`Member::ready`] and [`Member::ended`].
    pub fn start(config: Config) -> Result<Member, StartError> {
        let (stop, stop_out) = oneshot::channel();
        let (phase_in, phase) = watch::channel(Phase::Starting);
        let (bound_in, bound) = std::sync::mpsc::channel::<Bound>();
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
            Ok(bound) => Ok(Member {
                thread: Some(thread),
                stop: Some(stop),
                phase,
                bound,
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

    /// Where it listens for clients, first of all.
    pub fn client_addr(&self) -> SocketAddr {
        self.bound.clients[0]
    }

    /// Where it listens for clients.
    pub fn client_addrs(&self) -> &[SocketAddr] {
        &self.bound.clients
    }

    /// Where it shows metrics and health besides.
    pub fn metrics_addrs(&self) -> &[SocketAddr] {
        &self.bound.metrics
    }

    /// Where it listens for members, first of all.
    pub fn peer_addr(&self) -> SocketAddr {
        self.bound.peers[0]
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

/// Everything a member is, from its start to its end. It may live several lives: damage to its disk makes it begin anew from its directory.
async fn run(
    mut config: Config,
    tell_bound: std::sync::mpsc::Sender<Bound>,
    phase: &watch::Sender<Phase>,
    mut stop: oneshot::Receiver<Stop>,
) -> Result<(), StartError> {
    let metrics = Arc::new(Metrics::default());
    let certificates = Certificates::load(&config, &metrics)?;
    let mut ports = Ports::take(&Wanted::of(&config)).await?;
    let bound = ports.bound()?;
    let users = Authenticator::new(&config.auth).map_err(StartError::Auth)?;
    let users = Arc::new(users);
    config.bound(&bound.clients, bound.peers[0]);
    let wanted = Wanted::again(&bound);
    let _ = tell_bound.send(bound);
    drop(tell_bound);

    let mut renewing = JoinSet::new();
    renewing.spawn(certificates.clone().renew());
    loop {
        let ended = live(
            &config,
            &certificates,
            ports,
            users.clone(),
            metrics.clone(),
            phase,
            &mut stop,
        )
        .await;
        let why = match ended {
            Ok(End::Stopped) => return Ok(()),
            Ok(End::Reopen(why)) => why,
            // Once it has served, a failing disk is waited for.
            Err(StartError::Disk(why)) if metrics.reopenings.get() > 0 => why,
            Err(error) => return Err(error),
        };
        metrics.reopenings.inc();
        error!(reason = why, "member begins anew from its data directory");
        phase.send_replace(Phase::Starting);
        ports = tokio::select! {
            taken = Ports::take_back(&wanted) => taken?,
            _ = &mut stop => return Ok(()),
        };
    }
}

/// The addresses a member was given.
#[derive(Debug)]
struct Bound {
    peers: Vec<SocketAddr>,
    clients: Vec<SocketAddr>,
    metrics: Vec<SocketAddr>,
}

/// The addresses a member wants.
struct Wanted {
    peers: Vec<String>,
    clients: Vec<String>,
    metrics: Vec<String>,
}

impl Wanted {
    fn of(config: &Config) -> Wanted {
        let places = |addresses: &[Address]| addresses.iter().map(|it| it.at.clone()).collect();
        Wanted {
            peers: config.peer_addrs.clone(),
            clients: places(&config.client_addrs),
            metrics: places(&config.metrics_addrs),
        }
    }

    /// Those it had.
    fn again(bound: &Bound) -> Wanted {
        let texts =
            |addresses: &[SocketAddr]| addresses.iter().map(SocketAddr::to_string).collect();
        Wanted {
            peers: texts(&bound.peers),
            clients: texts(&bound.clients),
            metrics: texts(&bound.metrics),
        }
    }
}

/// The ports of a member. Members are listened to at once; clients only when it serves, so that they turn to others until then.
struct Ports {
    peers: Vec<TcpListener>,
    clients: Vec<TcpSocket>,
    metrics: Vec<TcpSocket>,
}

impl Ports {
    async fn take(wanted: &Wanted) -> Result<Ports, StartError> {
        let peers = bind_all("peer-addr", &wanted.peers).await?;
        Ok(Ports {
            peers: listen_all(peers, "peer-addr")?,
            clients: bind_all("client-addr", &wanted.clients).await?,
            metrics: bind_all("metrics-addr", &wanted.metrics).await?,
        })
    }

    /// Takes the ports of a member that begins anew, after a pause. Somebody else may have been given one meanwhile, as the port of an outgoing
    /// connection for example, and it comes back.
    async fn take_back(wanted: &Wanted) -> Result<Ports, StartError> {
        let since = tokio::time::Instant::now();
        let mut told = false;
        loop {
            tokio::time::sleep(REOPEN_WAIT).await;
            match Ports::take(wanted).await {
                Err(StartError::Taken { setting, address }) if since.elapsed() < PORTS_PATIENCE => {
                    if !told {
                        warn!(setting, address, patience = ?PORTS_PATIENCE, "another process took the member's port, it waits for it");
                        told = true;
                    }
                }
                taken => return taken,
            }
        }
    }

    fn bound(&self) -> Result<Bound, StartError> {
        let failed = |error: std::io::Error| StartError::Listen(error.to_string());
        let of = |sockets: &[TcpSocket]| -> std::io::Result<Vec<SocketAddr>> {
            sockets.iter().map(TcpSocket::local_addr).collect()
        };
        let peers: Result<_, _> = self.peers.iter().map(TcpListener::local_addr).collect();
        Ok(Bound {
            peers: peers.map_err(failed)?,
            clients: of(&self.clients).map_err(failed)?,
            metrics: of(&self.metrics).map_err(failed)?,
        })
    }
}

/// Where clients come in: their ports, and those for metrics alone.
fn entrances(
    config: &Config,
    certificates: &Certificates,
    metrics: &Arc<Metrics>,
    clients: Vec<TcpSocket>,
    pages: Vec<TcpSocket>,
) -> Result<Vec<Entrance>, StartError> {
    let secure = certificates.client.is_some();
    let entrance = |(listener, address): (TcpListener, &Address), pages_only: bool| {
        let speaks_tls = address.speaks_tls(secure);
        if secure && !speaks_tls && !pages_only {
            warn!(
                address = address.at,
                "clients are served in plain text at this address, although there are certificates"
            );
        }
        let tls = certificates.client.clone().filter(|_| speaks_tls);
        let admission = Admission::new(Port::Client, tls, metrics.clone());
        Entrance::new(listener, admission, pages_only)
    };
    let clients = listen_all(clients, "client-addr")?.into_iter();
    let pages = listen_all(pages, "metrics-addr")?.into_iter();
    let clients = clients.zip(&config.client_addrs);
    let pages = pages.zip(&config.metrics_addrs);
    Ok(clients
        .map(|it| entrance(it, false))
        .chain(pages.map(|it| entrance(it, true)))
        .collect())
}

/// One life of a member: from its directory to its end.
async fn live(
    config: &Config,
    certificates: &Certificates,
    ports: Ports,
    users: Arc<Authenticator>,
    metrics: Arc<Metrics>,
    phase: &watch::Sender<Phase>,
    stop: &mut oneshot::Receiver<Stop>,
) -> Result<End, StartError> {
    let started = tokio::select! {
        started = start(config, certificates, ports.peers, metrics.clone()) => started?,
        _ = &mut *stop => return Ok(End::Stopped),
    };
    let Started {
        node,
        handle,
        acceptor,
        leave,
    } = started;
    let mut node = tokio::spawn(node.run());
    let entrances = entrances(config, certificates, &metrics, ports.clients, ports.metrics)?;
    let limits = crate::http::Limits {
        request_bytes_max: config.request_bytes_max as usize,
        txn_operations_max: config.txn_operations_max,
        concurrent_streams_max: config.concurrent_streams_max,
        connections_max: config.connections_max,
    };
    let (door_stop, door_stopped) = oneshot::channel::<()>();
    let mut door = tokio::spawn(crate::http::serve(
        entrances,
        handle.clone(),
        users,
        Examiner::new(config),
        limits,
        Origins::new(&config.cors),
        async { drop(door_stopped.await) },
    ));
    phase.send_replace(Phase::Running(handle.clone()));

    let mut departed = false;
    let how = tokio::select! {
        how = &mut *stop => how.unwrap_or(Stop::Abrupt),
        never = announce(&handle, config, certificates) => match never {},
        () = leave.notified() => {
            departed = true;
            // The others may still be told that its last change is decided.
            tokio::time::sleep(FAREWELL).await;
            Stop::Orderly { transfer: false }
        }
        ended = &mut node => {
            // The loop ends by itself only to begin anew; anything else is a broken invariant, whose message the panic has printed.
            let end = ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
            let _ = door_stop.send(());
            // Answers that are on their way may still arrive.
            if tokio::time::timeout(FAREWELL, &mut door).await.is_err() {
                door.abort();
                // The port must be free again. A task that has ended must not be awaited a second time.
                let _ = door.await;
            }
            acceptor.abort();
            let _ = acceptor.await;
            return Ok(end);
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
    if departed {
        return Err(StartError::departed(config, handle.status().raft.id));
    }
    Ok(End::Stopped)
}

/// Says that the member serves once it knows a leader, and that it waits for one if that takes long. Has nothing to say after that, and never ends.
async fn announce(handle: &Handle, config: &Config, certificates: &Certificates) -> Infallible {
    let client_addr = config.client_addresses_told().join(",");
    let mut changes = handle.status_changes();
    let mut led = std::pin::pin!(changes.wait_for(|status| status.raft.leader.is_some()));
    let found = match tokio::time::timeout(2 * config.election_timeout, &mut led).await {
        Ok(found) => found.is_ok(),
        Err(_) => {
            warn!(
                client_addr,
                "member waits for a leader: too few of the others can be reached"
            );
            led.await.is_ok()
        }
    };
    if found {
        info!(client_addr, peer_addr = config.advertise_peer_addr, peer_tls = certificates.peer.is_some(), data_dir = %config.data_dir.display(), "member serves");
    }
    std::future::pending().await
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
