//! A cell whose members live in this process and come and go.

#[path = "../../../ports.rs"]
mod ports;

use server::config::Settings;
use server::{Config, Member};
use std::time::Duration;
use synod_client::{Client, Session};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// More than anything here needs on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Members with addresses that stay.
pub struct Cell {
    directory: TempDir,
    peers: String,
    clients: Vec<String>,
    members: Vec<Option<Member>>,
}

impl Cell {
    /// So many members, of which all serve.
    pub async fn start(size: usize) -> Cell {
        let ports = ports::free_ports(size * 2).expect("ports");
        let peers: Vec<String> = (1..)
            .zip(&ports[..size])
            .map(|(number, port)| format!("n{number}=127.0.0.1:{port}"))
            .collect();
        let clients = ports[size..].iter();
        let mut cell = Cell {
            directory: tempfile::tempdir().expect("a directory"),
            peers: peers.join(","),
            clients: clients.map(|port| format!("127.0.0.1:{port}")).collect(),
            members: (0..size).map(|_| None).collect(),
        };
        for at in 0..size {
            cell.start_member(at);
        }
        cell.leader().await;
        cell
    }

    fn config(&self, at: usize) -> Config {
        let name = format!("n{}", at + 1);
        let peer = self.peers.split(',').nth(at).expect("it is listed");
        let directory = self.directory.path().join(&name);
        let flags = [
            ("name", name.as_str()),
            ("data-dir", directory.to_str().expect("a readable path")),
            ("client-addr", &self.clients[at]),
            ("peer-addr", peer.split_once('=').expect("it has a name").1),
            ("cluster", &self.peers),
            ("log-segment-bytes", "1MiB"),
            ("disk-low-water-bytes", "0"),
        ];
        let flags = flags.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = Settings::default().flags(flags).resolve();
        settings.expect("the settings are good")
    }

    /// Starts a member, anew with the data it has.
    pub fn start_member(&mut self, at: usize) {
        self.members[at] = Some(Member::start(self.config(at)).expect("its ports are free"));
    }

    /// Ends a member as SIGKILL would.
    pub fn kill(&mut self, at: usize) {
        self.members[at].take().expect("it runs").kill();
    }

    /// The leader's number, once there is one.
    pub async fn leader(&self) -> usize {
        let since = Instant::now();
        loop {
            for (at, member) in self.members.iter().enumerate() {
                let Some(member) = member else { continue };
                let client = self.client_of(at);
                let status = client.with_timeout(Duration::from_secs(1)).status().await;
                let leads = status.is_ok_and(|status| {
                    let status = status.message;
                    let member = status.header.map_or(0, |header| header.member_id);
                    status.leader == member && member != 0
                });
                if leads {
                    assert_eq!(member.client_addr().to_string(), self.clients[at]);
                    return at;
                }
            }
            assert!(since.elapsed() < PATIENCE, "nobody leads");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// A client of all members.
    pub fn client(&self) -> Client {
        Client::new(&self.clients)
            .expect("addresses are endpoints")
            .with_timeout(PATIENCE)
    }

    /// A client of one member.
    pub fn client_of(&self, at: usize) -> Client {
        Client::new([&self.clients[at]])
            .expect("an address is an endpoint")
            .with_timeout(PATIENCE)
    }

    /// A session through all members.
    pub async fn session(&self) -> Session {
        let session = Session::open(&self.client()).await;
        session.expect("a session is opened")
    }
}
