//! The client port over real connections, in front of a real replica in memory.

mod auth;
mod gateway;
mod keys;
mod leases;
mod limits;
mod native;
mod pages;
mod queues;
mod sockets;
mod stop;
mod watches;

use super::*;
use crate::memory_member;
use bytes::Bytes;
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::lease_client::LeaseClient;
use proto::etcdserverpb::maintenance_client::MaintenanceClient;
use proto::etcdserverpb::watch_client::WatchClient;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{
    CompactionRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseTimeToLiveRequest,
    PutRequest, RangeRequest, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest,
    WatchRequest, WatchResponse,
};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request};

const LIMITS: Limits = Limits {
    request_bytes_max: 3 << 19,
    txn_operations_max: 128,
    concurrent_streams_max: 10_000,
    connections_max: 1000,
};

struct Port {
    address: SocketAddr,
    handle: Handle,
    /// Dropping it stops the server.
    stop: oneshot::Sender<()>,
}

async fn start() -> Port {
    start_with(auth::users()).await
}

async fn start_with(users: Arc<Authenticator>) -> Port {
    Port::open(memory_member::start(), users, LIMITS).await
}

async fn start_limited(limits: Limits) -> Port {
    Port::open(memory_member::start(), auth::users(), limits).await
}

/// Of a member whose directory is the system's temporary one.
fn examiner() -> Examiner {
    Examiner {
        name: "n1".into(),
        data_dir: std::env::temp_dir(),
        election_timeout: Duration::from_millis(500),
        disk_low_water_bytes: 256 << 20,
        measuring: Semaphore::new(1),
    }
}

impl Port {
    /// In front of a member with these limits.
    async fn limited_to(limits: replica::Limits) -> Port {
        Port::open(memory_member::limited_to(limits), auth::users(), LIMITS).await
    }

    async fn open(handle: Handle, users: Arc<Authenticator>, limits: Limits) -> Port {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let admission = Admission::new(crate::tls::Port::Client, None, Arc::default());
        let stopping = async { drop(stopped.await) };
        let entrances = vec![Entrance::new(listener, admission, false)];
        let serving = serve(
            entrances,
            handle.clone(),
            users,
            examiner(),
            limits,
            Origins::new(&["*".into()]),
            stopping,
        );
        tokio::spawn(serving);
        Port {
            address,
            handle,
            stop,
        }
    }

    async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address))
            .unwrap()
            .connect()
            .await
            .unwrap()
    }

    async fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel().await).max_decoding_message_size(1 << 30)
    }

    /// Speaks HTTP by hand: one request, the whole answer.
    async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn post(&self, path: &str, body: &str) -> String {
        let length = body.len();
        self.raw(&format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")).await
    }

    async fn get(&self, path: &str) -> String {
        self.raw(&format!("GET {path} HTTP/1.0\r\n\r\n")).await
    }
}

fn put(key: &str, value: impl Into<Bytes>) -> PutRequest {
    PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: value.into(),
        ..Default::default()
    }
}

fn range(key: &str) -> RangeRequest {
    RangeRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        ..Default::default()
    }
}

/// An open watch stream: what to say, and what is heard.
struct Watching {
    say: mpsc::UnboundedSender<WatchRequest>,
    hear: tonic::Streaming<WatchResponse>,
}

impl Watching {
    async fn open(port: &Port) -> Watching {
        let (say, requests) = mpsc::unbounded_channel();
        let hear = WatchClient::new(port.channel().await)
            .watch(UnboundedReceiverStream::new(requests))
            .await
            .unwrap()
            .into_inner();
        Watching { say, hear }
    }

    fn say(&self, request: RequestUnion) {
        self.say
            .send(WatchRequest {
                request_union: Some(request),
            })
            .unwrap();
    }

    fn create(&self, create: WatchCreateRequest) {
        self.say(RequestUnion::CreateRequest(create));
    }

    async fn hear(&mut self) -> WatchResponse {
        self.hear.message().await.unwrap().unwrap()
    }
}

fn all_keys() -> WatchCreateRequest {
    WatchCreateRequest {
        key: Bytes::from_static(b"a"),
        range_end: Bytes::from_static(b"\0"),
        ..Default::default()
    }
}
