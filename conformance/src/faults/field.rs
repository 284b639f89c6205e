//! What a scenario plays on: a running cluster with whatever can be broken about it, and the load beside it.

use super::judge::ASIDE;
use super::load::Load;
use super::network::Network;
use super::proxy::Proxies;
use super::small_disk::SmallDisk;
use super::wall::Wall;
use crate::Outcome;
use crate::connection::{Connection, leader_of};
use crate::process::{Cluster, Place, Program};
use crate::random::Random;
use crate::report::Report;
use std::path::Path;
use std::time::{Duration, Instant};
use tonic::Status;

/// What a scenario needs around the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// Processes on loopback.
    Plain,
    /// A network namespace for each.
    Namespaces,
    /// A proxy before each.
    Proxies,
    /// A small disk for each.
    SmallDisks,
    /// A wall clock for each.
    Walls,
}

impl Ground {
    /// Why it cannot be had here, if so.
    pub fn missing(self) -> Option<String> {
        match self {
            Ground::Plain | Ground::Proxies => None,
            Ground::Namespaces => Network::missing(),
            Ground::SmallDisks => SmallDisk::missing(),
            Ground::Walls => Wall::missing(),
        }
    }
}

/// Everything. What is declared first goes first: the load before the members, the members before what they stand on.
pub struct Field {
    /// The load, until it is finished.
    pub load: Option<Load>,
    /// The members.
    pub cluster: Cluster,
    /// With [`Ground::Namespaces`].
    pub network: Option<Network>,
    /// With [`Ground::Proxies`].
    pub proxies: Option<Proxies>,
    /// With [`Ground::SmallDisks`], one per member.
    pub disks: Vec<SmallDisk>,
    /// With [`Ground::Walls`], one per member.
    pub walls: Vec<Wall>,
    /// All choices.
    pub random: Random,
    /// What is said.
    pub report: Report,
    until: Instant,
}

/// How long a put beside the load waits for its answer.
const PUT_LIMIT: Duration = Duration::from_secs(2);
/// How long a member may take to serve again after a start.
const START_LIMIT: Duration = Duration::from_secs(30);

impl Field {
    /// Starts the members, and once they serve the load.
    ///
    /// # Errors
    /// When something cannot be started.
    pub async fn new(
        program: &Program,
        ground: Ground,
        members: usize,
        flags: &[&str],
        directory: &Path,
        random: Random,
    ) -> Outcome<Field> {
        std::fs::create_dir_all(directory)?;
        let network = (ground == Ground::Namespaces)
            .then(|| Network::new(members))
            .transpose()?;
        let proxies = match ground {
            Ground::Proxies => Some(Proxies::new(members).await?),
            _ => None,
        };
        let mut places = match (&network, &proxies) {
            (Some(network), _) => network.places(),
            (_, Some(proxies)) => proxies.places(),
            _ => Place::on_loopback(members)?,
        };
        let (mut disks, mut walls) = (Vec::new(), Vec::new());
        for (at, place) in places.iter_mut().enumerate() {
            let name = format!("n{}", at + 1);
            if ground == Ground::SmallDisks {
                disks.push(SmallDisk::mount(&directory.join(&name))?);
            }
            if ground == Ground::Walls {
                let wall = Wall::new(&directory.join(format!("{name}.wall")))?;
                place.environment = wall.environment();
                walls.push(wall);
            }
        }
        let cluster = Cluster::start_at(program, places, directory, flags)?;
        let field = Field {
            load: None,
            cluster,
            network,
            proxies,
            disks,
            walls,
            random,
            report: Report::default(),
            until: Instant::now(),
        };
        for at in 0..members {
            field.serves(at).await?;
        }
        Ok(field)
    }

    /// Starts the load, and the time in which faults happen.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn begin(
        &mut self,
        client: &Path,
        seed: u64,
        history: &Path,
        faulty: Duration,
    ) -> Outcome<()> {
        self.load = Some(Load::start(
            client,
            &self.cluster.clients(),
            seed,
            history,
            &[],
        )?);
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.until = Instant::now() + faulty;
        Ok(())
    }

    /// There is time for another round of faults, or the rounds of the plan have not all been played once.
    pub fn goes_on(&self, round: usize, plan: usize) -> bool {
        round < plan || Instant::now() < self.until
    }

    /// Members.
    pub fn count(&self) -> usize {
        self.cluster.members().len()
    }

    /// The name of a member.
    pub fn name(&self, at: usize) -> String {
        self.cluster.members()[at].name.clone()
    }

    /// Says what is done, here and in the history.
    ///
    /// # Errors
    /// When the load has ended.
    pub async fn note(&mut self, text: String) -> Outcome<()> {
        self.report.note(&text);
        match &mut self.load {
            Some(load) => load.mark(&text).await,
            None => Ok(()),
        }
    }

    /// From here on nothing is broken: marks it and leaves the cluster in peace for a while.
    ///
    /// # Errors
    /// When the load has ended.
    pub async fn healed(&mut self) -> Outcome<()> {
        if let Some(load) = &mut self.load {
            load.healed().await?;
        }
        self.sleep(4_000).await;
        Ok(())
    }

    /// Waits some milliseconds.
    pub async fn sleep(&self, millis: u64) {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    /// Who leads.
    ///
    /// # Errors
    /// When nobody does for long.
    pub async fn leader(&self) -> Outcome<usize> {
        leader_of(&self.cluster.clients(), Duration::from_secs(20)).await
    }

    /// The leader or one of the others.
    ///
    /// # Errors
    /// When nobody leads for long.
    pub async fn pick(&mut self, leads: bool) -> Outcome<usize> {
        let leader = self.leader().await?;
        let others: Vec<usize> = (0..self.count()).filter(|at| *at != leader).collect();
        Ok(if leads {
            leader
        } else {
            *self.random.pick(&others)
        })
    }

    /// Waits until a member serves.
    ///
    /// # Errors
    /// With the end of its log when it does not.
    pub async fn serves(&self, at: usize) -> Outcome<()> {
        let member = &self.cluster.members()[at];
        let ready = Connection::new(member.client).ready(START_LIMIT).await;
        ready.map_err(|error| {
            let log = self.cluster.log_tail(at, 20);
            format!("{} does not serve: {error}\n{log}", member.name).into()
        })
    }

    /// Waits until a member that was started listens to clients.
    ///
    /// # Errors
    /// With the end of its log when it does not.
    pub async fn listens(&self, at: usize) -> Outcome<()> {
        let (since, member) = (Instant::now(), &self.cluster.members()[at]);
        while tokio::net::TcpStream::connect(member.client).await.is_err() {
            if since.elapsed() > START_LIMIT {
                let log = self.cluster.log_tail(at, 20);
                return Err(format!("{} does not listen\n{log}", member.name).into());
            }
            self.sleep(20).await;
        }
        Ok(())
    }

    /// The namespaces of the members.
    ///
    /// # Errors
    /// When the ground is another.
    pub fn network(&self) -> Outcome<&Network> {
        let network = self.network.as_ref();
        network.ok_or_else(|| "no network namespaces".into())
    }

    /// Puts something through a member, beside the load.
    ///
    /// # Errors
    /// As the member says, or that it says nothing.
    pub async fn put_aside(&self, at: usize) -> Result<i64, Status> {
        self.put_bytes_aside(at, 1).await
    }

    /// Puts so many bytes through a member, beside the load.
    ///
    /// # Errors
    /// As the member says, or that it says nothing.
    pub async fn put_bytes_aside(&self, at: usize, bytes: usize) -> Result<i64, Status> {
        let mut connection = Connection::new(self.cluster.members()[at].client);
        let value = "0".repeat(bytes);
        let put = tokio::time::timeout(PUT_LIMIT, connection.put(ASIDE, &value)).await;
        put.unwrap_or_else(|_| {
            Err(Status::deadline_exceeded(format!(
                "no answer within {PUT_LIMIT:?}"
            )))
        })
    }
}

/// What came of a put, for a person.
pub fn said(answer: &Result<i64, Status>) -> String {
    match answer {
        Ok(revision) => format!("acknowledged at revision {revision}"),
        Err(status) => format!("{:?}: {}", status.code(), status.message()),
    }
}
