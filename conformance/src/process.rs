//! Members as real processes: start, kill, stop, empty, and what the kernel says of them. Every child dies with its handle.

#[path = "../../crates/ports.rs"]
mod ports;

use crate::Outcome;
use crate::connection::Connection;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub use ports::free_ports;

/// How long a member may take to serve after its start.
const START_MAX: Duration = Duration::from_secs(30);

/// What a binary is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// etcd, any version.
    Etcd,
    /// Synod.
    Synod,
}

/// A binary and what it says of itself.
#[derive(Clone, Debug)]
pub struct Program {
    /// Where it lies.
    pub path: PathBuf,
    /// What it is.
    pub product: Product,
    /// Its version, as in `3.5.1`.
    pub version: String,
}

impl Program {
    /// Asks a binary who it is.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn at(path: &Path) -> Outcome<Program> {
        let output = Command::new(path)
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("cannot run {}: {error}", path.display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let first = text.lines().next().unwrap_or_default();
        let product = if first.starts_with("etcd") {
            Product::Etcd
        } else {
            Product::Synod
        };
        let version = first
            .split_whitespace()
            .next_back()
            .unwrap_or("unknown")
            .to_string();
        Ok(Program {
            path: fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf()),
            product,
            version,
        })
    }

    /// Name and version, for tables.
    pub fn label(&self) -> String {
        match self.product {
            Product::Etcd => format!("etcd {}", self.version),
            Product::Synod => format!("Synod {}", self.version),
        }
    }
}

/// One member: its place on disk and network, and its process when it runs.
#[derive(Debug)]
pub struct Member {
    /// Its name, `n1` and so on.
    pub name: String,
    /// Where clients reach it.
    pub client: SocketAddr,
    /// Where the others reach it.
    pub peer: SocketAddr,
    /// Its data directory.
    pub data: PathBuf,
    place: Place,
    child: Option<Child>,
    /// It takes a place that was prepared for it in a cluster that runs.
    joins: bool,
}

/// Where a member runs, when it is not simply on loopback.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where clients reach it.
    pub client: SocketAddr,
    /// Where the others reach it.
    pub peer: SocketAddr,
    /// Where it listens for them: another address when something stands between.
    pub peer_listen: SocketAddr,
    /// A program with arguments that starts the member, such as one that enters a network namespace.
    pub wrapper: Vec<String>,
    /// Variables of its environment.
    pub environment: Vec<(String, String)>,
}

impl Place {
    /// Places on loopback, with ports of their own.
    ///
    /// # Errors
    /// When there are no free ports.
    pub fn on_loopback(count: usize) -> Outcome<Vec<Place>> {
        let ports = free_ports(count * 2)?;
        let loopback = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let place = |at: usize| Place {
            client: loopback(ports[2 * at]),
            peer: loopback(ports[2 * at + 1]),
            peer_listen: loopback(ports[2 * at + 1]),
            wrapper: Vec::new(),
            environment: Vec::new(),
        };
        Ok((0..count).map(place).collect())
    }
}

/// A cluster of processes on loopback, in a directory of its own.
#[derive(Debug)]
pub struct Cluster {
    program: Program,
    directory: PathBuf,
    members: Vec<Member>,
    /// Flags given to each member besides the usual.
    extra: Vec<String>,
}

impl Cluster {
    /// Starts `count` members with empty data directories under `directory`, which is emptied first.
    ///
    /// # Errors
    /// When a process cannot be started.
    pub fn start(
        program: &Program,
        count: usize,
        directory: &Path,
        extra: &[&str],
    ) -> Outcome<Cluster> {
        if directory.exists() {
            fs::remove_dir_all(directory)?;
        }
        Cluster::start_at(program, Place::on_loopback(count)?, directory, extra)
    }

    /// Starts a member at each of these places, with data directories under `directory` as they are.
    ///
    /// # Errors
    /// When a process cannot be started.
    pub fn start_at(
        program: &Program,
        places: Vec<Place>,
        directory: &Path,
        extra: &[&str],
    ) -> Outcome<Cluster> {
        fs::create_dir_all(directory)?;
        let members = places.into_iter().enumerate().map(|(at, place)| {
            let name = format!("n{}", at + 1);
            Member {
                client: place.client,
                peer: place.peer,
                data: directory.join(&name),
                name,
                place,
                child: None,
                joins: false,
            }
        });
        let extra = extra.iter().map(|flag| flag.to_string()).collect();
        let mut cluster = Cluster {
            program: program.clone(),
            directory: directory.to_path_buf(),
            members: members.collect(),
            extra,
        };
        for at in 0..cluster.members.len() {
            cluster.start_member(at)?;
        }
        Ok(cluster)
    }

    /// The members, in order.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// What runs.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Who runs where, in a line.
    pub fn label(&self) -> String {
        format!(
            "{}, {} members at {}, logs in {}",
            self.program.label(),
            self.members.len(),
            self.endpoints(),
            self.directory.display()
        )
    }

    /// The client addresses of all members.
    pub fn clients(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.client).collect()
    }

    /// The client addresses, comma separated, as clients' `--endpoints` want them.
    pub fn endpoints(&self) -> String {
        self.clients()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(",")
    }

    /// Waits until every member serves.
    ///
    /// # Errors
    /// One does not.
    pub async fn ready(&self) -> Outcome<()> {
        for address in self.clients() {
            Connection::new(address).ready(START_MAX).await?;
        }
        Ok(())
    }

    /// Starts a member that does not run, with the flags it always had.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start_member(&mut self, at: usize) -> Outcome<()> {
        assert!(
            self.members[at].child.is_none(),
            "{} runs already",
            self.members[at].name
        );
        let arguments = match self.program.product {
            Product::Etcd => self.etcd_arguments(at),
            Product::Synod => self.synod_arguments(at),
        };
        let member = &mut self.members[at];
        let log = self.directory.join(format!("{}.log", member.name));
        let log: File = OpenOptions::new().create(true).append(true).open(log)?;
        let words = member.place.wrapper.iter().map(OsString::from);
        let mut words = words.chain([self.program.path.clone().into_os_string()]);
        let mut command = Command::new(words.next().expect("the program at least"));
        command
            .args(words)
            .args(arguments)
            .args(&self.extra)
            .envs(
                member
                    .place
                    .environment
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        command
            .env_remove("SYNOD_ENDPOINTS")
            .env_remove("ETCDCTL_API");
        let child = command
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", self.program.path.display()))?;
        member.child = Some(child);
        Ok(())
    }

    /// Chooses name, ports and directory of one more member, which joins when it is started.
    ///
    /// # Errors
    /// When there are no free ports.
    pub fn prepare_member(&mut self) -> Outcome<usize> {
        let place = Place::on_loopback(1)?.remove(0);
        let at = self.members.len();
        let name = format!("n{}", at + 1);
        self.members.push(Member {
            client: place.client,
            peer: place.peer,
            data: self.directory.join(&name),
            name,
            place,
            child: None,
            joins: true,
        });
        Ok(at)
    }

    /// Starts members with another binary from now on.
    pub fn use_program(&mut self, program: &Program) {
        self.program = program.clone();
    }

    /// Kills a member with SIGKILL and waits until it is gone.
    pub fn kill(&mut self, at: usize) {
        if let Some(mut child) = self.members[at].child.take() {
            // An error means that it ended by itself, which is what is wanted here.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Kills all members, each before any is waited for, so that they die together.
    pub fn kill_all(&mut self) {
        for member in &mut self.members {
            if let Some(child) = &mut member.child {
                let _ = child.kill();
            }
        }
        for at in 0..self.members.len() {
            self.kill(at);
        }
    }

    /// Asks a member to stop and waits for it.
    ///
    /// # Errors
    /// When it still runs after `limit`; it is then killed.
    pub fn stop(&mut self, at: usize, limit: Duration) -> Outcome<()> {
        let Some(mut child) = self.members[at].child.take() else {
            return Ok(());
        };
        signal(child.id(), rustix::process::Signal::TERM)?;
        let since = Instant::now();
        while child.try_wait()?.is_none() {
            if since.elapsed() > limit {
                child.kill()?;
                child.wait()?;
                return Err(format!(
                    "{} did not stop within {limit:?} of SIGTERM",
                    self.members[at].name
                )
                .into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Pauses or resumes a member (SIGSTOP, SIGCONT).
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self, at: usize, paused: bool) -> Outcome<()> {
        let id = self.process_id(at).ok_or("the member does not run")?;
        signal(
            id,
            if paused {
                rustix::process::Signal::STOP
            } else {
                rustix::process::Signal::CONT
            },
        )
    }

    /// Empties the data directory of a member that does not run; its contents are put aside.
    ///
    /// # Errors
    /// When the directory cannot be moved.
    pub fn wipe(&self, at: usize) -> Outcome<()> {
        assert!(
            self.members[at].child.is_none(),
            "{} runs; stop it first",
            self.members[at].name
        );
        Ok(fs::rename(&self.members[at].data, self.aside(at))?)
    }

    /// Gives a member that does not run back the data directory it had before it was wiped.
    ///
    /// # Errors
    /// When there is none.
    pub fn restore(&self, at: usize) -> Outcome<()> {
        assert!(
            self.members[at].child.is_none(),
            "{} runs; stop it first",
            self.members[at].name
        );
        if self.members[at].data.exists() {
            fs::remove_dir_all(&self.members[at].data)?;
        }
        Ok(fs::rename(self.aside(at), &self.members[at].data)?)
    }

    fn aside(&self, at: usize) -> PathBuf {
        self.directory
            .join(format!("{}.aside", self.members[at].name))
    }

    /// Whether a member's process is alive.
    pub fn runs(&mut self, at: usize) -> bool {
        self.members[at]
            .child
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// The exit code of a member that ended by itself.
    pub fn ended(&mut self, at: usize) -> Option<i32> {
        let child = self.members[at].child.as_mut()?;
        child.try_wait().ok()??.code()
    }

    /// The process id of a member that was started and not stopped.
    pub fn process_id(&self, at: usize) -> Option<u32> {
        self.members[at].child.as_ref().map(Child::id)
    }

    /// CPU time, user and system, of all running members so far.
    pub fn cpu(&self) -> Duration {
        (0..self.members.len())
            .filter_map(|at| self.process_id(at))
            .filter_map(cpu_of)
            .sum()
    }

    /// Resident bytes of each running member.
    pub fn resident(&self) -> Vec<u64> {
        (0..self.members.len())
            .filter_map(|at| self.process_id(at))
            .filter_map(resident_of)
            .collect()
    }

    /// Bytes of each data directory on disk.
    pub fn disk(&self) -> Vec<u64> {
        self.members
            .iter()
            .map(|member| directory_bytes(&member.data))
            .collect()
    }

    /// The last lines of a member's log.
    pub fn log_tail(&self, at: usize, lines: usize) -> String {
        let text = fs::read(
            self.directory
                .join(format!("{}.log", self.members[at].name)),
        )
        .unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    fn synod_arguments(&self, at: usize) -> Vec<String> {
        let member = &self.members[at];
        let listed =
            |other: &&Member| !member.joins || other.child.is_some() || other.name == member.name;
        let peers = self.members.iter().filter(listed);
        let peers: Vec<String> = peers
            .map(|other| format!("{}={}", other.name, other.peer))
            .collect();
        let state = if member.joins { "existing" } else { "new" };
        let pairs = [
            ("--name", member.name.clone()),
            ("--data-dir", member.data.display().to_string()),
            ("--client-addr", member.client.to_string()),
            ("--peer-addr", member.place.peer_listen.to_string()),
            ("--cluster", peers.join(",")),
            ("--cluster-state", state.to_owned()),
        ];
        std::iter::once("serve".to_string())
            .chain(
                pairs
                    .into_iter()
                    .flat_map(|(flag, value)| [flag.to_string(), value]),
            )
            .collect()
    }

    fn etcd_arguments(&self, at: usize) -> Vec<String> {
        let member = &self.members[at];
        let peers: Vec<String> = self
            .members
            .iter()
            .map(|other| format!("{}=http://{}", other.name, other.peer))
            .collect();
        let pairs = [
            ("--name", member.name.clone()),
            ("--data-dir", member.data.display().to_string()),
            ("--listen-client-urls", format!("http://{}", member.client)),
            (
                "--advertise-client-urls",
                format!("http://{}", member.client),
            ),
            (
                "--listen-peer-urls",
                format!("http://{}", member.place.peer_listen),
            ),
            (
                "--initial-advertise-peer-urls",
                format!("http://{}", member.peer),
            ),
            ("--initial-cluster", peers.join(",")),
        ];
        pairs
            .into_iter()
            .flat_map(|(flag, value)| [flag.to_string(), value])
            .collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill_all();
    }
}

/// Runs a job to its end, or until somebody asks this process to stop. Then the job is dropped, and with it every member it started.
///
/// # Errors
/// Those of the job, or that it was interrupted.
pub async fn until_stopped<T>(job: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    tokio::select! {
        done = job => done,
        _ = interrupt.recv() => Err("interrupted".into()),
        _ = terminate.recv() => Err("asked to stop".into()),
    }
}

/// CPU time of a process, user and system; `None` when it is gone.
pub fn cpu_of(process: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in parentheses may hold spaces; fields are counted behind it. utime and stime are fields 14 and 15, in ticks of 10 ms.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

/// Resident bytes of a process; `None` when it is gone.
pub fn resident_of(process: u32) -> Option<u64> {
    status_kib(process, "VmRSS:")
}

/// The most bytes a process ever had resident; `None` when it is gone.
pub fn resident_max_of(process: u32) -> Option<u64> {
    status_kib(process, "VmHWM:")
}

fn status_kib(process: u32, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

fn directory_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(path) else {
        return 0;
    };
    let bytes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => directory_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    });
    bytes.sum()
}

pub(crate) fn signal(process: u32, signal: rustix::process::Signal) -> Outcome<()> {
    let id = rustix::process::Pid::from_raw(process as i32).ok_or("process ids are not 0")?;
    Ok(rustix::process::kill_process(id, signal)?)
}
