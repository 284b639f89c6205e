//! The client port over real connections, in front of a real replica in memory.

mod auth;

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
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request};

mod limits;
mod queues;

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
        let serving = serve(listener, admission, handle.clone(), users, limits, stopping);
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

#[tokio::test]
async fn put_is_read_back_with_header_and_stamp() {
    let port = start().await;
    let mut kv = port.kv().await;
    let answer = kv.put(put("k", "v")).await.unwrap();
    let stamp = answer
        .metadata()
        .get("synod-stamp")
        .expect("answers carry a stamp")
        .clone();
    let header = answer.into_inner().header.unwrap();
    assert_eq!(
        (header.cluster_id, header.member_id, header.revision),
        (0xc, 0xa, 2)
    );
    assert!(header.raft_term > 0);

    for consistency in [
        "linearizable",
        "local",
        "bounded=10s",
        &format!("at-least={}", stamp.to_str().unwrap()),
    ] {
        let mut request = Request::new(range("k"));
        request
            .metadata_mut()
            .insert("synod-consistency", consistency.parse().unwrap());
        let answer = kv.range(request).await.unwrap().into_inner();
        assert_eq!(answer.kvs[0].value, &b"v"[..], "{consistency}");
        assert_eq!(answer.header.unwrap().revision, 2);
    }
}

#[tokio::test]
async fn refusals_have_etcds_codes_and_texts() {
    let port = start().await;
    let mut kv = port.kv().await;
    let refused = kv.put(put("", "v")).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::InvalidArgument, "etcdserver: key is not provided")
    );
    let refused = kv
        .range(RangeRequest {
            revision: 99,
            ..range("k")
        })
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (
            Code::OutOfRange,
            "etcdserver: mvcc: required revision is a future revision"
        )
    );
    let refused = kv
        .put(PutRequest {
            lease: 5,
            ..put("k", "v")
        })
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::NotFound, "etcdserver: requested lease not found")
    );

    let mut request = Request::new(range("k"));
    request
        .metadata_mut()
        .insert("synod-consistency", "psychic".parse().unwrap());
    let refused = kv.range(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(
        refused.message().contains("psychic") && refused.message().contains("at-least=STAMP"),
        "{}",
        refused.message()
    );
}

/// Sends any message to any path.
async fn call<M: prost::Message + 'static>(
    channel: Channel,
    path: &'static str,
    message: M,
) -> tonic::Status {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<M, RangeRequest>::default();
    grpc.unary(
        Request::new(message),
        http::uri::PathAndQuery::from_static(path),
        codec,
    )
    .await
    .unwrap_err()
}

#[tokio::test]
async fn nonsense_is_refused_and_the_connection_lives_on() {
    let port = start().await;
    let channel = port.channel().await;
    let refused = call(
        channel.clone(),
        "/etcdserverpb.KV/Put",
        LeaseGrantRequest { ttl: 5, id: 6 },
    )
    .await;
    assert_eq!(refused.code(), Code::Internal);
    let refused = call(channel.clone(), "/etcdserverpb.KV/Nonsense", range("k")).await;
    assert_eq!(refused.code(), Code::Unimplemented);
    let refused = call(channel.clone(), "/no.such.Service/Call", range("k")).await;
    assert_eq!(refused.code(), Code::Unimplemented);
    assert!(KvClient::new(channel).range(range("k")).await.is_ok());
}

#[tokio::test]
async fn too_large_requests_are_refused_by_their_kind() {
    let port = start().await;
    let mut kv = port.kv().await;
    let refused = kv.put(put("k", vec![0; 1_600_000])).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::InvalidArgument, "etcdserver: request is too large")
    );
    let refused = kv.put(put("k", vec![0; 3_000_000])).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(
        refused
            .message()
            .starts_with("grpc: received message larger than max (3000"),
        "{}",
        refused.message()
    );
    assert!(kv.put(put("k", vec![0; 1_500_000])).await.is_ok());
}

#[tokio::test]
async fn client_deadline_is_kept() {
    let (_open, fate) = watch::channel(StreamFate::Open);
    let (handle, _stalled) = memory_member::stalled();
    let door = Door {
        handle,
        fate,
        txn_operations_max: 128,
        waiting: Waiting::default(),
        queueing: Arc::new(Semaphore::new(1)),
        users: auth::users(),
        exports: Arc::new(Semaphore::new(1)),
    };
    let services = Services {
        door,
        metrics: Arc::new(Metrics::new()),
        intake: Intake {
            bytes_max: 1000,
            arriving: Waiting::default(),
        },
    };
    let message = prost::Message::encode_to_vec(&put("k", "v"));
    let framed = [&(message.len() as u64).to_be_bytes()[3..], &message].concat();
    let request = http::Request::post("/etcdserverpb.KV/Put")
        .header("grpc-timeout", "20m")
        .body(http_body_util::Full::new(Bytes::from(framed)));
    let response = services.serve(request.unwrap()).await;
    assert_eq!(response.headers()["grpc-status"], "4");
    assert_eq!(
        response.headers()["grpc-message"],
        "context deadline exceeded"
    );
}

#[tokio::test]
async fn large_range_arrives_whole() {
    let port = start().await;
    let mut kv = port.kv().await;
    for n in 0..300 {
        kv.put(put(&format!("k{n:03}"), vec![n as u8; 3000]))
            .await
            .unwrap();
    }
    let whole = RangeRequest {
        range_end: Bytes::from_static(b"\0"),
        ..range("k")
    };
    let answer = kv.range(whole.clone()).await.unwrap().into_inner();
    assert_eq!((answer.count, answer.kvs.len()), (300, 300));
    assert!(
        answer
            .kvs
            .iter()
            .enumerate()
            .all(|(n, kv)| kv.key == format!("k{n:03}") && kv.value[..] == vec![n as u8; 3000])
    );

    let json = port
        .post("/v3/kv/range", r#"{"key":"aw==","range_end":"AA=="}"#)
        .await;
    assert!(json.contains(r#""count":"300"}"#));
    assert_eq!(json.matches(r#""create_revision""#).count(), 300);
}

#[tokio::test]
async fn unread_large_answers_do_not_hold_up_others() {
    let port = start().await;
    let mut kv = port.kv().await;
    for n in 0..12 {
        kv.put(put(&format!("k{n}"), vec![1; 300_000]))
            .await
            .unwrap();
    }
    // A client that asks and never reads: it takes the answer's headers only.
    let mut stalled = Vec::new();
    for _ in 0..5 {
        let body = r#"{"key":"aw==","range_end":"AA=="}"#;
        let mut stream = TcpStream::connect(port.address).await.unwrap();
        let request = format!(
            "POST /v3/kv/range HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.read_exact(&mut [0; 12]).await.unwrap();
        stalled.push(stream);
    }
    for n in 0..100 {
        kv.put(put("other", n.to_string())).await.unwrap();
    }
}

#[tokio::test]
async fn watch_tells_changes_until_it_is_canceled() {
    let port = start().await;
    let mut kv = port.kv().await;
    let mut watching = Watching::open(&port).await;
    watching.create(WatchCreateRequest {
        watch_id: 7,
        prev_kv: true,
        ..all_keys()
    });
    let created = watching.hear().await;
    assert_eq!(
        (created.watch_id, created.created, created.canceled),
        (7, true, false)
    );
    assert_eq!(created.header.unwrap().cluster_id, 0xc);

    kv.put(put("k", "1")).await.unwrap();
    kv.put(put("k", "2")).await.unwrap();
    let mut events = Vec::new();
    while events.len() < 2 {
        events.extend(watching.hear().await.events);
    }
    let first = events[0].kv.as_ref().unwrap();
    assert_eq!(
        (
            &first.value[..],
            first.mod_revision,
            events[0].prev_kv.is_none()
        ),
        (&b"1"[..], 2, true)
    );
    assert_eq!(events[1].prev_kv.as_ref().unwrap().value, &b"1"[..]);

    watching.say(RequestUnion::ProgressRequest(WatchProgressRequest {}));
    let progress = watching.hear().await;
    assert_eq!(
        (
            progress.watch_id,
            progress.events.len(),
            progress.header.unwrap().revision
        ),
        (-1, 0, 3)
    );

    watching.say(RequestUnion::CancelRequest(WatchCancelRequest {
        watch_id: 7,
    }));
    let canceled = watching.hear().await;
    assert_eq!(
        (
            canceled.watch_id,
            canceled.canceled,
            canceled.compact_revision
        ),
        (7, true, 0)
    );
}

#[tokio::test]
async fn watch_refusals_are_etcds() {
    let port = start().await;
    let mut watching = Watching::open(&port).await;
    let mut refused = async |create| {
        watching.create(create);
        let response = watching.hear().await;
        assert_eq!(
            (response.watch_id, response.created, response.canceled),
            (-1, true, true)
        );
        response.cancel_reason
    };
    let past = WatchCreateRequest {
        start_revision: -1,
        ..all_keys()
    };
    assert_eq!(
        refused(past).await,
        "etcdserver: mvcc: required revision has been compacted"
    );
    let empty = WatchCreateRequest {
        range_end: Bytes::from_static(b"A"),
        ..all_keys()
    };
    assert_eq!(refused(empty).await, "mvcc: watcher range is empty");
}

#[tokio::test]
async fn watch_from_a_compacted_revision_begins_and_ends() {
    let port = start().await;
    let mut kv = port.kv().await;
    for n in 0..5 {
        kv.put(put("k", n.to_string())).await.unwrap();
    }
    kv.compact(CompactionRequest {
        revision: 4,
        physical: false,
    })
    .await
    .unwrap();
    let mut watching = Watching::open(&port).await;
    watching.create(WatchCreateRequest {
        start_revision: 2,
        ..all_keys()
    });
    assert!(watching.hear().await.created);
    let ended = watching.hear().await;
    assert_eq!(
        (
            ended.canceled,
            ended.compact_revision,
            ended.cancel_reason.as_str()
        ),
        (true, 4, "")
    );
}

#[tokio::test]
async fn watch_goes_on_when_its_client_has_said_all() {
    let port = start().await;
    let mut watching = Watching::open(&port).await;
    watching.create(all_keys());
    assert!(watching.hear().await.created);
    let Watching { say, mut hear } = watching;
    drop(say);
    port.kv().await.put(put("k", "v")).await.unwrap();
    assert_eq!(hear.message().await.unwrap().unwrap().events.len(), 1);
}

#[tokio::test]
async fn keep_alives_are_answered_in_order_and_the_stream_ends_well() {
    let port = start().await;
    let mut lease = LeaseClient::new(port.channel().await);
    let id = lease
        .lease_grant(LeaseGrantRequest { ttl: 60, id: 0 })
        .await
        .unwrap()
        .into_inner()
        .id;
    assert!(id > 0);
    let requests = (0..600).map(move |n| LeaseKeepAliveRequest {
        id: if n % 2 == 0 { id } else { n },
    });
    let mut answers = lease
        .lease_keep_alive(futures_util::stream::iter(requests))
        .await
        .unwrap()
        .into_inner();
    for n in 0..600 {
        let answer = answers
            .message()
            .await
            .unwrap()
            .expect("each request is answered");
        assert_eq!(
            (answer.id, answer.ttl),
            if n % 2 == 0 { (id, 60) } else { (n, 0) }
        );
    }
    assert_eq!(answers.message().await.unwrap(), None);
}

#[tokio::test]
async fn remaining_time_elapses_while_nothing_else_happens() {
    let port = start().await;
    let mut lease = LeaseClient::new(port.channel().await);
    let grant = LeaseGrantRequest { ttl: 5, id: 5 };
    lease.lease_grant(grant).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2000)).await;
    let ask = LeaseTimeToLiveRequest { id: 5, keys: false };
    let answer = lease.lease_time_to_live(ask).await.unwrap().into_inner();
    assert_eq!(answer.granted_ttl, 5);
    assert!((2..=3).contains(&answer.ttl), "{}", answer.ttl);
}

#[tokio::test]
async fn gateway_speaks_etcds_json() {
    let port = start().await;
    let answer = port
        .post("/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy","unknown":1}"#)
        .await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("content-type: application/json"),
        "{answer}"
    );
    assert!(
        answer.contains(
            r#"{"header":{"cluster_id":"12","member_id":"10","revision":"2","raft_term":"1"}}"#
        ),
        "{answer}"
    );
    let answer = port.post("/v3beta/kv/range", r#"{"key":"Zm9v"}"#).await;
    let kv = r#""kvs":[{"key":"Zm9v","create_revision":"2","mod_revision":"2","version":"1","value":"YmFy"}],"count":"1"}"#;
    assert!(answer.ends_with(kv) || answer.contains(kv), "{answer}");
    let answer = port.post("/v3/kv/range", "").await;
    let refusal = r#"{"error":"etcdserver: key is not provided","code":3,"message":"etcdserver: key is not provided"}"#;
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.ends_with(refusal),
        "{answer}"
    );
    let answer = port.post("/v3/kv/range", "{").await;
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains(r#""code":3"#),
        "{answer}"
    );
    let answer = port.post("/v3/lease/keepalive", r#"{"ID":"5"}"#).await;
    assert!(
        answer.contains(r#"{"result":{"header":{"#) && answer.contains(r#""ID":"5"}}"#),
        "{answer}"
    );
    assert!(
        port.post("/v3/no/such", "{}")
            .await
            .starts_with("HTTP/1.1 404 ")
    );
    assert!(port.get("/v3/kv/put").await.starts_with("HTTP/1.0 501 "));
}

#[tokio::test]
async fn pages_answer_old_clients_too() {
    let port = start().await;
    // A linearizable answer shows that the member leads; the first check may come before.
    port.kv().await.put(put("k", "v")).await.unwrap();
    assert!(
        port.get("/health")
            .await
            .ends_with("{\"health\":\"true\",\"reason\":\"\"}")
    );
    assert!(
        port.get("/version")
            .await
            .ends_with(r#"{"etcdserver":"3.6.7","etcdcluster":"3.6.0","storage":"3.6.0"}"#)
    );
    assert!(port.get("/livez").await.ends_with("\r\n\r\nok\n"));
    let metrics = port.get("/metrics").await;
    let put = r#"grpc_server_handled_total{grpc_code="OK",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1"#;
    for line in [
        put,
        "etcd_server_has_leader 1",
        "etcd_server_is_leader 1",
        "etcd_debugging_mvcc_keys_total 1",
    ] {
        assert!(metrics.lines().any(|given| given == line), "{line}");
    }
}

#[tokio::test]
async fn checks_are_made_left_out_and_counted() {
    let port = start().await;
    port.kv().await.put(put("k", "v")).await.unwrap();
    let words = async |path: &str| {
        let page = port.get(path).await;
        let (_, words) = page.split_once("\r\n\r\n").expect("a page");
        words.to_owned()
    };
    assert_eq!(
        words("/readyz?verbose").await,
        "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n"
    );
    assert_eq!(
        words("/readyz?verbose&exclude=linearizable_read&exclude=non_learner&exclude=nothing")
            .await,
        "[+]data_corruption ok\n[+]serializable_read ok\nok\n"
    );
    assert_eq!(words("/readyz").await, "ok\n");
    assert_eq!(
        words("/livez?verbose").await,
        "[+]serializable_read ok\nok\n"
    );
    assert_eq!(
        words("/readyz/non_learner?verbose").await,
        "[+]non_learner ok\nok\n"
    );
    assert!(port.get("/livez/linearizable_read").await.contains(" 404 "));
    assert!(
        words("/health?serializable=true&exclude=NOSPACE")
            .await
            .contains("true")
    );
    let metrics = port.get("/metrics").await;
    for line in [
        r#"etcd_server_healthcheck{name="linearizable_read",type="readyz"} 1"#,
        r#"etcd_server_healthchecks_total{name="linearizable_read",type="readyz",status="success"} 2"#,
        r#"etcd_server_healthchecks_total{name="serializable_read",type="livez",status="success"} 1"#,
        "etcd_server_health_success 1",
    ] {
        assert!(
            metrics.lines().any(|given| given == line),
            "{line}\n{metrics}"
        );
    }
}

/// What etcd's own dashboard and alerts ask for (its `contrib/mixin`).
#[tokio::test]
async fn published_dashboards_find_their_names() {
    let port = start().await;
    port.kv().await.put(put("k", "v")).await.unwrap();
    let metrics = port.get("/metrics").await;
    for name in [
        "etcd_disk_backend_commit_duration_seconds",
        "etcd_disk_wal_fsync_duration_seconds",
        "etcd_mvcc_db_total_size_in_bytes",
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "etcd_network_client_grpc_received_bytes_total",
        "etcd_network_client_grpc_sent_bytes_total",
        "etcd_network_peer_received_bytes_total",
        "etcd_network_peer_round_trip_time_seconds",
        "etcd_network_peer_sent_bytes_total",
        "etcd_network_peer_sent_failures_total",
        "etcd_server_has_leader",
        "etcd_server_leader_changes_seen_total",
        "etcd_server_proposals_applied_total",
        "etcd_server_proposals_committed_total",
        "etcd_server_proposals_failed_total",
        "etcd_server_proposals_pending",
        "etcd_server_quota_backend_bytes",
        "grpc_server_handled_total",
        "grpc_server_handling_seconds",
        "grpc_server_started_total",
        "process_resident_memory_bytes",
    ] {
        assert!(metrics.contains(&format!("# TYPE {name} ")), "{name}");
    }
    let value = |name: &str| -> u64 {
        let line = metrics
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")));
        let value = line.and_then(|line| line.rsplit_once(' '));
        value.map_or(0, |(_, value)| value.parse().expect("a number"))
    };
    assert!(value("etcd_network_client_grpc_received_bytes_total") > 50);
    assert!(value("etcd_network_client_grpc_sent_bytes_total") > 50);
}

#[tokio::test]
async fn stop_ends_streams_with_a_status() {
    let port = start().await;
    let mut watching = Watching::open(&port).await;
    watching.create(all_keys());
    assert!(watching.hear().await.created);
    drop(port.stop);
    let ended = watching.hear.message().await.unwrap_err();
    assert_eq!(
        (ended.code(), ended.message()),
        (Code::Unavailable, "etcdserver: server stopped")
    );
}

#[test]
fn older_paths_are_understood() {
    let of = |path: &'static str| current_path(&Uri::from_static(path)).map(|uri| uri.to_string());
    assert_eq!(of("/v3beta/kv/range").as_deref(), Some("/v3/kv/range"));
    assert_eq!(of("/v3alpha/kv/put?x=1").as_deref(), Some("/v3/kv/put?x=1"));
    assert_eq!(of("/v3/kv/put"), None);
}

#[tokio::test]
async fn range_stream_tells_one_revision_page_by_page() {
    let port = start().await;
    let mut kv = port.kv().await;
    for n in 0..700 {
        kv.put(put(&format!("k{n:03}"), vec![b'v'; 4096]))
            .await
            .unwrap();
    }
    let all = RangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        ..Default::default()
    };
    for (limit, keys) in [(0, 700), (500, 500)] {
        let request = RangeRequest {
            limit,
            ..all.clone()
        };
        let mut stream = kv.range_stream(request).await.unwrap().into_inner();
        let (mut pages, mut told) = (0, Vec::new());
        let last = loop {
            let page = stream.message().await.unwrap().unwrap();
            let page = page.range_response.unwrap();
            pages += 1;
            if pages == 1 {
                // Later than the first page: nobody is to see it.
                kv.put(put("k000", "changed")).await.unwrap();
                kv.put(put("k999", "new")).await.unwrap();
            }
            told.extend(page.kvs);
            if let Some(header) = page.header {
                break (header, page.count, page.more);
            }
            assert_eq!((page.count, page.more), (0, false));
        };
        assert!(stream.message().await.unwrap().is_none());
        assert!(pages > 2, "{pages}");
        assert_eq!(told.len(), keys);
        assert!(told.iter().all(|kv| kv.mod_revision <= last.0.revision));
        assert!(told.is_sorted_by(|a, b| a.key < b.key));
        assert_eq!(last.2, limit > 0);
        kv.delete_range(proto::etcdserverpb::DeleteRangeRequest {
            key: "k999".into(),
            ..Default::default()
        })
        .await
        .unwrap();
        assert_eq!(last.1, 700);
    }
    let sorted = RangeRequest {
        sort_target: 3,
        ..all
    };
    let mut stream = kv.range_stream(sorted).await.unwrap().into_inner();
    assert_eq!(
        stream.message().await.unwrap_err().code(),
        Code::Unimplemented
    );
}
