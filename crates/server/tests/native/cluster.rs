//! Three real members, and what all tests do with them.

#[path = "../../../ports.rs"]
mod ports;

use proto::synod::v1;
use proto::synod::v1::session_client::SessionClient;
use std::time::Duration;
use synod_server::config::Settings;
use synod_server::{Config, Member};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use tonic::transport::{Channel, Endpoint};

/// More than anything here needs on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// They, and where they live.
pub struct Cluster {
    /// `None`: killed.
    pub members: Vec<Option<Member>>,
    _directory: TempDir,
}

impl Cluster {
    /// Starts them and waits until they serve.
    pub async fn start() -> Cluster {
        let ports = ports::free_ports(3).expect("ports");
        let peers: Vec<_> = ports
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        let listed = (1..).zip(&peers).map(|(at, peer)| format!("n{at}={peer}"));
        let listed = listed.collect::<Vec<_>>().join(",");
        let directory = tempfile::tempdir().expect("a directory");
        let member = |at: usize| {
            let name = format!("n{}", at + 1);
            let data = directory.path().join(&name);
            let flags = [
                ("name", name),
                ("data-dir", data.display().to_string()),
                ("client-addr", "127.0.0.1:0".into()),
                ("peer-addr", peers[at].clone()),
                ("cluster", listed.clone()),
                ("log-segment-bytes", "1MiB".into()),
                ("disk-low-water-bytes", "0".into()),
            ];
            let flags = flags.map(|(name, value)| (name.to_owned(), value));
            let config: Config = Settings::default()
                .flags(flags)
                .resolve()
                .expect("the settings are good");
            Some(Member::start(config).expect("its ports are free"))
        };
        let members: Vec<_> = (0..3).map(member).collect();
        for member in members.iter().flatten() {
            member.ready().await.expect("a member that starts");
        }
        Cluster {
            members,
            _directory: directory,
        }
    }

    /// A connection to one of them.
    pub fn channel(&self, at: usize) -> Channel {
        let address = self.members[at].as_ref().expect("it runs").client_addr();
        let endpoint = Endpoint::from_shared(format!("http://{address}"));
        endpoint.expect("an address makes a URI").connect_lazy()
    }

    /// Where the leader is.
    pub async fn leader(&self) -> usize {
        let since = Instant::now();
        loop {
            for (at, member) in self.members.iter().enumerate() {
                let Some(member) = member else { continue };
                let status = member.ready().await.expect("it serves").status();
                if status.raft.leader == Some(status.raft.id) {
                    return at;
                }
            }
            assert!(since.elapsed() < PATIENCE, "nobody leads");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Opens a session that outlives the test.
pub async fn open(channel: &Channel) -> i64 {
    let request = v1::OpenSessionRequest {
        ttl_ms: 60_000,
        session: 0,
    };
    let since = Instant::now();
    loop {
        match SessionClient::new(channel.clone()).open(request).await {
            Ok(opened) => return opened.into_inner().session,
            // As any client does: the reason says that another try can help.
            Err(status) => assert!(since.elapsed() < PATIENCE, "{status}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}
