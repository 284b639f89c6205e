//! With TLS on, no byte of user data crosses in clear (PROPERTIES S2): somebody in the middle keeps all bytes while recognisable data pass, between
//! clients and a member and between members. Without TLS the same somebody reads it all, so that finding nothing means something.

#[path = "../authority/mod.rs"]
#[expect(dead_code, reason = "nobody is revoked here")]
mod authority;
#[path = "../../../ports.rs"]
mod ports;
mod tap;

use authority::{Place, connect, flags};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper_util::rt::TokioIo;
use proto::etcdserverpb as etcd;
use proto::etcdserverpb::{
    auth_client::AuthClient, kv_client::KvClient, watch_client::WatchClient,
};
use proto::synod::v1;
use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use synod_server::config::Settings;
use synod_server::{Config, Handle, Member};
use tap::Tap;
use tls::{Credentials, Usage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::{Channel, Endpoint};

/// More than anything here needs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

// What no one in the middle may read.
const KEY: &str = "mark-of-a-key";
const VALUE: &str = "mark-of-a-later-value";
const BEFORE: &str = "mark-of-a-value-before";
const NATIVE_KEY: &str = "mark-of-a-native-key";
const NATIVE_VALUE: &str = "mark-of-a-native-value";
const LOCK: &str = "mark-of-a-lock";
const LOCK_TEXT: &str = "mark-of-the-text-of-a-lock";
const USER: &str = "mark-of-a-user";
const PASSWORD: &str = "mark-of-a-password";
const JSON_KEY: &str = "mark-of-a-key-in-json";
const JSON_VALUE: &str = "mark-of-a-value-in-json";

fn config(settings: &[(&str, String)]) -> Config {
    let flags = settings.iter();
    Settings::default()
        .flags(flags.map(|(name, value)| ((*name).to_owned(), value.clone())))
        .resolve()
        .expect("the settings are good")
}

fn base64(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

/// A gRPC connection, with TLS or without.
async fn channel(address: SocketAddr, credentials: Option<&Credentials>) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URI");
    let Some(credentials) = credentials else {
        return endpoint.connect().await.expect("it listens");
    };
    let stream = connect(address, credentials, "h2").await.expect("let in");
    let mut stream = Some(TokioIo::new(stream));
    let once = tower::service_fn(move |_| {
        let stream = stream.take();
        ready(stream.ok_or(io::Error::other("the connection was lost")))
    });
    let connected = endpoint.connect_with_connector(once).await;
    connected.expect("it speaks HTTP/2")
}

/// Posts JSON, and gives the whole answer.
async fn post(
    address: SocketAddr,
    credentials: Option<&Credentials>,
    path: &str,
    body: &str,
    token: &str,
) -> String {
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: {token}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = match credentials {
        Some(credentials) => {
            let stream = connect(address, credentials, "http/1.1").await;
            say(stream.expect("let in"), &request).await
        }
        None => {
            say(
                TcpStream::connect(address).await.expect("it listens"),
                &request,
            )
            .await
        }
    };
    assert!(
        answer.starts_with("HTTP/1.1 200"),
        "{path} {body}: {answer}"
    );
    answer
}

async fn say(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, request: &str) -> String {
    let written = stream.write_all(request.as_bytes()).await;
    written.expect("it takes the request");
    stream.flush().await.expect("it takes the request");
    let mut answer = Vec::new();
    // How a connection ends is of no interest here.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn put(key: &str, value: &str) -> etcd::PutRequest {
    etcd::PutRequest {
        key: key.as_bytes().to_vec().into(),
        value: value.as_bytes().to_vec().into(),
        ..Default::default()
    }
}

/// A client of etcd's API: puts and reads, and hears of it by a watch with what was there before.
async fn as_a_client_of_etcd(channel: &Channel) {
    let mut kv = KvClient::new(channel.clone());
    kv.put(put(KEY, BEFORE)).await.expect("put");
    let create = etcd::WatchCreateRequest {
        key: KEY.as_bytes().to_vec().into(),
        prev_kv: true,
        ..Default::default()
    };
    let create = etcd::WatchRequest {
        request_union: Some(etcd::watch_request::RequestUnion::CreateRequest(create)),
    };
    let asked = tokio_stream::StreamExt::chain(tokio_stream::once(create), tokio_stream::pending());
    let watch = WatchClient::new(channel.clone()).watch(asked).await;
    let mut told = watch.expect("a watch").into_inner();
    assert!(
        told.message()
            .await
            .expect("an answer")
            .expect("one")
            .created
    );
    kv.put(put(KEY, VALUE)).await.expect("put");
    let events = told
        .message()
        .await
        .expect("an answer")
        .expect("one")
        .events;
    let event = events.first().expect("an event");
    assert_eq!(event.kv.as_ref().expect("a key").value, VALUE.as_bytes());
    assert_eq!(
        event.prev_kv.as_ref().expect("one").value,
        BEFORE.as_bytes()
    );
    let range = etcd::RangeRequest {
        key: KEY.as_bytes().to_vec().into(),
        ..Default::default()
    };
    let read = kv.range(range).await.expect("read").into_inner();
    assert_eq!(read.kvs[0].value, VALUE.as_bytes());
}

/// A client of the native API: a key, and a lock with a text.
async fn as_a_native_client(channel: &Channel) {
    let mut kv = v1::kv_client::KvClient::new(channel.clone());
    let request = v1::PutRequest {
        key: NATIVE_KEY.as_bytes().to_vec().into(),
        value: NATIVE_VALUE.as_bytes().to_vec().into(),
        ..Default::default()
    };
    kv.put(request).await.expect("put");
    let mut sessions = v1::session_client::SessionClient::new(channel.clone());
    let request = v1::OpenSessionRequest {
        ttl_ms: 60_000,
        session: 0,
    };
    let session = sessions.open(request).await.expect("a session");
    let mut locks = v1::lock_client::LockClient::new(channel.clone());
    let request = v1::AcquireRequest {
        name: LOCK.into(),
        session: session.into_inner().session,
        id: 1,
        text: LOCK_TEXT.into(),
        ..Default::default()
    };
    locks.acquire(request).await.expect("the lock");
    let request = v1::ShowLockRequest {
        name: LOCK.into(),
        ..Default::default()
    };
    let shown = locks.show(request).await.expect("shown").into_inner();
    assert_eq!(shown.acquisitions[0].text, LOCK_TEXT);
}

/// Makes users and switches authentication on.
async fn as_an_administrator(channel: &Channel) {
    let mut auth = AuthClient::new(channel.clone());
    for (name, password) in [("root", "x"), (USER, PASSWORD)] {
        let request = etcd::AuthUserAddRequest {
            name: name.into(),
            password: password.into(),
            ..Default::default()
        };
        auth.user_add(request).await.expect("a user");
        let role = etcd::AuthUserGrantRoleRequest {
            user: name.into(),
            role: "root".into(),
        };
        if name == "root" {
            let request = etcd::AuthRoleAddRequest {
                name: "root".into(),
            };
            auth.role_add(request).await.expect("a role");
        }
        auth.user_grant_role(role).await.expect("granted");
    }
    let enable = etcd::AuthEnableRequest {};
    auth.auth_enable(enable).await.expect("switched on");
    let request = etcd::AuthenticateRequest {
        name: USER.into(),
        password: PASSWORD.into(),
    };
    auth.authenticate(request).await.expect("let in");
}

/// A user of the gateway, from the password on; gives the token.
async fn as_a_user_of_the_gateway(address: SocketAddr, tls: Option<&Credentials>) -> String {
    let login = format!(r#"{{"name":"{USER}","password":"{PASSWORD}"}}"#);
    let answer = post(address, tls, "/v3/auth/authenticate", &login, "").await;
    let (_, token) = answer.split_once(r#""token":""#).expect("a token");
    let (token, _) = token.split_once('"').expect("a token");
    let (key, value) = (base64(JSON_KEY), base64(JSON_VALUE));
    let body = format!(r#"{{"key":"{key}","value":"{value}"}}"#);
    post(address, tls, "/v3/kv/put", &body, token).await;
    let body = format!(r#"{{"key":"{key}"}}"#);
    let answer = post(address, tls, "/v3/kv/range", &body, token).await;
    assert!(answer.contains(&value), "{answer}");
    token.to_owned()
}

/// All that clients do through somebody in the middle; gives those of their words that were read there, and all there were.
async fn read_between_clients_and_a_member(tls: bool) -> (Vec<String>, Vec<String>) {
    let place = Place::new();
    let mut settings = vec![
        ("name", "n1".to_owned()),
        ("data-dir", place.path("n1").display().to_string()),
        ("client-addr", "127.0.0.1:0".to_owned()),
        ("peer-addr", "127.0.0.1:0".to_owned()),
        ("log-segment-bytes", "1MiB".to_owned()),
        ("disk-low-water-bytes", "0".to_owned()),
    ];
    if tls {
        place.issue(Usage::Server, "server");
        place.issue(Usage::Client, USER);
        settings.extend(flags(
            &place,
            &[
                ("cert-file", "server.pem"),
                ("key-file", "server-key.pem"),
                ("trusted-ca-file", "ca.pem"),
            ],
        ));
    }
    let member = Member::start(config(&settings)).expect("its settings are good");
    let ready = timeout(PATIENCE, member.ready()).await;
    let handle = ready.expect("it starts in time").expect("it starts");
    until("a leader", || handle.status().raft.leader.is_some()).await;
    let tap = Tap::new("127.0.0.1:0", member.client_addr()).await;
    let credentials = tls.then(|| place.client(Some(USER)));
    let credentials = credentials.as_ref();
    let grpc = channel(tap.address, credentials).await;
    as_a_client_of_etcd(&grpc).await;
    as_a_native_client(&grpc).await;
    as_an_administrator(&grpc).await;
    let token = as_a_user_of_the_gateway(tap.address, credentials).await;
    let (key, value) = (base64(JSON_KEY), base64(JSON_VALUE));
    let marks = [
        KEY,
        VALUE,
        BEFORE,
        NATIVE_KEY,
        NATIVE_VALUE,
        LOCK,
        LOCK_TEXT,
        USER,
        PASSWORD,
        &key,
        &value,
        &token,
    ];
    assert!(tap.bytes() > 5_000, "{} bytes passed", tap.bytes());
    let owned = |marks: &[&str]| marks.iter().map(|mark| (*mark).to_owned()).collect();
    (owned(&tap.seen(&marks)), owned(&marks))
}

#[tokio::test]
async fn s2_nothing_between_clients_and_a_member_crosses_in_clear() {
    let (seen, _) = read_between_clients_and_a_member(true).await;
    assert_eq!(seen, Vec::<String>::new());
}

#[tokio::test]
async fn s2_without_tls_all_between_clients_and_a_member_is_read() {
    let (seen, all) = read_between_clients_and_a_member(false).await;
    assert_eq!(seen, all);
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(since.elapsed() < PATIENCE, "waited for {what} in vain");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Three members; each reaches the others through somebody in the middle.
struct Cluster {
    configs: Vec<Config>,
    members: Vec<Option<Member>>,
    taps: Vec<Tap>,
}

impl Cluster {
    async fn start(place: &Place, tls: bool) -> Cluster {
        let ports = ports::free_ports(6).expect("ports");
        let (own, tapped) = ports.split_at(3);
        let address = |port: &u16| format!("127.0.0.1:{port}");
        let listed = (1..).zip(tapped);
        let listed: Vec<String> = listed
            .map(|(number, port)| format!("n{number}={}", address(port)))
            .collect();
        let mut cluster = Cluster {
            configs: Vec::new(),
            members: Vec::new(),
            taps: Vec::new(),
        };
        for at in 0..3 {
            let to = address(&own[at]).parse().expect("an address");
            cluster.taps.push(Tap::new(&address(&tapped[at]), to).await);
            let name = format!("n{}", at + 1);
            let mut settings = vec![
                ("name", name.clone()),
                ("data-dir", place.path(&name).display().to_string()),
                ("client-addr", "127.0.0.1:0".to_owned()),
                ("peer-addr", address(&own[at])),
                ("cluster", listed.join(",")),
                ("log-segment-bytes", "1MiB".to_owned()),
                ("snapshot-log-bytes", "1MiB".to_owned()),
                ("snapshot-keep-entries", "0".to_owned()),
                ("disk-low-water-bytes", "0".to_owned()),
            ];
            let (certificate, key) = (format!("{name}.pem"), format!("{name}-key.pem"));
            if tls {
                place.issue(Usage::Server, &name);
                settings.extend(flags(
                    place,
                    &[
                        ("peer-cert-file", &certificate),
                        ("peer-key-file", &key),
                        ("peer-trusted-ca-file", "ca.pem"),
                    ],
                ));
            }
            cluster.configs.push(config(&settings));
        }
        cluster.members = cluster.configs.iter().map(Cluster::member).collect();
        cluster
    }

    fn member(config: &Config) -> Option<Member> {
        Some(Member::start(config.clone()).expect("its ports are free"))
    }

    async fn handle(&self, at: usize) -> Handle {
        let member = self.members[at].as_ref().expect("it runs");
        let ready = timeout(PATIENCE, member.ready()).await;
        ready.expect("it starts in time").expect("it starts")
    }

    /// Puts a key at a member.
    async fn put(&self, at: usize, key: &str, value: &str) {
        let address = self.members[at].as_ref().expect("it runs").client_addr();
        let body = format!(r#"{{"key":"{}","value":"{}"}}"#, base64(key), base64(value));
        post(address, None, "/v3/kv/put", &body, "").await;
    }

    fn seen<'a>(&self, marks: &[&'a str]) -> Vec<&'a str> {
        let taps = self.taps.iter();
        let all: Vec<&str> = taps.flat_map(|tap| tap.seen(marks)).collect();
        let seen = marks.iter().filter(|mark| all.contains(mark));
        seen.copied().collect()
    }
}

/// What somebody between members reads: while all are there, and while one that was away is sent a snapshot.
async fn read_between_members(tls: bool) -> [Vec<&'static str>; 2] {
    let place = Place::new();
    let mut cluster = Cluster::start(&place, tls).await;
    let mut handles = Vec::new();
    for at in 0..3 {
        handles.push(cluster.handle(at).await);
    }
    let leader = || {
        let told = handles.iter().map(Handle::status);
        told.map(|status| status.raft.clone())
            .position(|raft| raft.leader == Some(raft.id))
    };
    until("a leader", || leader().is_some()).await;
    let leading = leader().expect("one leads");
    let (follower, away) = ((leading + 1) % 3, (leading + 2) % 3);
    until("followers", || {
        let told = handles.iter().map(Handle::status);
        told.into_iter().all(|status| status.raft.leader.is_some())
    })
    .await;
    cluster.put(leading, KEY, "of the leader").await;
    cluster.put(follower, NATIVE_KEY, VALUE).await;
    let log = cluster.seen(&[KEY, NATIVE_KEY, VALUE]);

    // The log that the others keep no longer reaches back to where it was when it went.
    let last = handles[away].status().raft.last;
    cluster.members[away].take().expect("it runs").kill();
    let mut round = 0;
    let text = format!("{BEFORE} {}", "v".repeat(64 << 10));
    while [leading, follower]
        .iter()
        .any(|at| handles[*at].status().raft.first <= last.next())
    {
        round += 1;
        assert!(round < 400, "the log still reaches back to {last}");
        cluster
            .put(leading, &format!("{LOCK}-{}", round % 8), &text)
            .await;
    }
    cluster.taps.iter().for_each(Tap::forget);
    cluster.members[away] = Cluster::member(&cluster.configs[away]);
    let handle = cluster.handle(away).await;
    until("the one that was away", || {
        handle.status().applied >= handles[leading].status().applied
    })
    .await;
    let first = handle.status().raft.first;
    assert!(
        first > last.next(),
        "its log begins at {first} after {last}: no snapshot came"
    );
    let snapshot = cluster.seen(&[LOCK, BEFORE]);
    [log, snapshot]
}

#[tokio::test]
async fn s2_nothing_between_members_crosses_in_clear() {
    assert_eq!(read_between_members(true).await, [[""; 0]; 2]);
}

#[tokio::test]
async fn s2_without_tls_all_between_members_is_read() {
    let seen = read_between_members(false).await;
    assert_eq!(seen, [vec![KEY, NATIVE_KEY, VALUE], vec![LOCK, BEFORE]]);
}
