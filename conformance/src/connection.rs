//! One gRPC connection to one member, with a client for each service.

use crate::Outcome;
use proto::etcdserverpb as pb;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// Answers larger than this are refused here; far above what a test asks for.
const ANSWER_BYTES_MAX: usize = 1 << 31;

/// Clients of all services on one connection. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The member's address.
    pub address: SocketAddr,
    /// Keys.
    pub kv: pb::kv_client::KvClient<Channel>,
    /// Watches.
    pub watch: pb::watch_client::WatchClient<Channel>,
    /// Leases.
    pub lease: pb::lease_client::LeaseClient<Channel>,
    /// Members.
    pub cluster: pb::cluster_client::ClusterClient<Channel>,
    /// Status, hashes, alarms.
    pub maintenance: pb::maintenance_client::MaintenanceClient<Channel>,
    /// The connection itself.
    pub channel: Channel,
}

impl Connection {
    /// Prepares a connection; it is made at the first call and again whenever it was lost.
    ///
    /// # Panics
    /// Never: a socket address is a valid URI.
    pub fn new(address: SocketAddr) -> Connection {
        let endpoint =
            Endpoint::from_shared(format!("http://{address}")).expect("an address makes a URI");
        let channel = endpoint
            .connect_timeout(Duration::from_secs(2))
            .tcp_nodelay(true)
            .connect_lazy();
        let all = ANSWER_BYTES_MAX;
        Connection {
            address,
            kv: pb::kv_client::KvClient::new(channel.clone())
                .max_decoding_message_size(all)
                .max_encoding_message_size(all),
            watch: pb::watch_client::WatchClient::new(channel.clone())
                .max_decoding_message_size(all),
            lease: pb::lease_client::LeaseClient::new(channel.clone())
                .max_decoding_message_size(all),
            cluster: pb::cluster_client::ClusterClient::new(channel.clone()),
            maintenance: pb::maintenance_client::MaintenanceClient::new(channel.clone())
                .max_decoding_message_size(all),
            channel,
        }
    }

    /// Waits until the member answers a linearizable read, which takes a leader and a majority.
    ///
    /// # Errors
    /// With the last answer, when `limit` has passed.
    pub async fn ready(&mut self, limit: Duration) -> Outcome<()> {
        let since = Instant::now();
        loop {
            let read = self.kv.range(pb::RangeRequest {
                key: "health".into(),
                ..Default::default()
            });
            let error = match tokio::time::timeout(Duration::from_secs(2), read).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(status)) => format!("{:?}: {}", status.code(), status.message()),
                Err(_) => "no answer within 2 s".to_string(),
            };
            if since.elapsed() > limit {
                return Err(
                    format!("{} does not serve after {limit:?}: {error}", self.address).into(),
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Puts one key.
    ///
    /// # Errors
    /// As the server says.
    pub async fn put(&mut self, key: &str, value: &str) -> Result<i64, Status> {
        let request = pb::PutRequest {
            key: key.to_string().into(),
            value: value.to_string().into(),
            ..Default::default()
        };
        let response = self.kv.put(request).await?.into_inner();
        Ok(response.header.unwrap_or_default().revision)
    }

    /// Reads one key linearizably: its value and revision of change, and the store's revision.
    ///
    /// # Errors
    /// As the server says.
    pub async fn get(&mut self, key: &str) -> Result<(Option<(String, i64)>, i64), Status> {
        let request = pb::RangeRequest {
            key: key.to_string().into(),
            ..Default::default()
        };
        let response = self.kv.range(request).await?.into_inner();
        let found = response.kvs.first().map(|kv| {
            (
                String::from_utf8_lossy(&kv.value).into_owned(),
                kv.mod_revision,
            )
        });
        Ok((found, response.header.unwrap_or_default().revision))
    }

    /// What the member says of itself.
    ///
    /// # Errors
    /// As the server says.
    pub async fn status(&mut self) -> Result<pb::StatusResponse, Status> {
        Ok(self
            .maintenance
            .status(pb::StatusRequest {})
            .await?
            .into_inner())
    }
}

/// The index in `addresses` of the member that leads, once one says so.
///
/// # Errors
/// When none is found within `limit`.
pub async fn leader_of(addresses: &[SocketAddr], limit: Duration) -> Outcome<usize> {
    let since = Instant::now();
    loop {
        for (at, address) in addresses.iter().enumerate() {
            let mut connection = Connection::new(*address);
            if let Ok(Ok(status)) =
                tokio::time::timeout(Duration::from_millis(500), connection.status()).await
                && status.leader != 0
                && status.leader == status.header.map_or(0, |header| header.member_id)
            {
                return Ok(at);
            }
        }
        if since.elapsed() > limit {
            return Err(format!("no leader among {addresses:?} within {limit:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}
