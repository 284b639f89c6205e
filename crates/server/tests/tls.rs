//! TLS of real members: over sockets, with certificates from files, renewed while connections live.

mod authority;
#[path = "../../ports.rs"]
mod ports;

use authority::{Place, connect, flags};
use std::time::Duration;
use synod_server::config::Settings;
use synod_server::{Config, Member};
use tls::{Trust, Usage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// More than anything here needs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A member alone, with these settings beside its own.
async fn alone(place: &Place, name: &str, more: &[(&str, String)]) -> Member {
    let data_dir = place.path(name).display().to_string();
    let own = [
        ("name", name.to_owned()),
        ("data-dir", data_dir),
        ("client-addr", "127.0.0.1:0".to_owned()),
        ("peer-addr", "127.0.0.1:0".to_owned()),
        ("log-segment-bytes", "1MiB".to_owned()),
        ("disk-low-water-bytes", "0".to_owned()),
    ];
    let member = Member::start(config(own.iter().chain(more))).expect("its certificates are good");
    let ready = timeout(PATIENCE, member.ready()).await;
    let handle = ready.expect("it starts in time").expect("it starts");
    until("a leader", || handle.status().raft.leader.is_some()).await;
    member
}

fn config<'a>(settings: impl Iterator<Item = &'a (&'a str, String)>) -> Config {
    Settings::default()
        .flags(settings.map(|(name, value)| ((*name).to_owned(), value.clone())))
        .resolve()
        .expect("the settings are good")
}

/// Settings by which every client must show a certificate.
fn demanding(place: &Place) -> Vec<(&'static str, String)> {
    place.issue(Usage::Server, "server");
    place.issue(Usage::Client, "alice");
    flags(
        place,
        &[
            ("cert-file", "server.pem"),
            ("key-file", "server-key.pem"),
            ("trusted-ca-file", "ca.pem"),
        ],
    )
}

/// What a page answers over a connection that stays open.
async fn ask(
    stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin),
    request: &str,
) -> std::io::Result<String> {
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).await?;
        answer.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&answer);
        let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let length = head.lines().find_map(|line| {
                let line = line.to_ascii_lowercase();
                line.strip_prefix("content-length: ")?.trim().parse().ok()
            });
            length.is_some_and(|length: usize| body.len() >= length)
        });
        if whole || read == 0 {
            return Ok(text.into_owned());
        }
    }
}

const HEALTH: &str = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n";

fn put(key: &str) -> String {
    // Both "k" in base64.
    let body = format!(r#"{{"key":"{key}","value":"aw=="}}"#);
    format!(
        "POST /v3/kv/put HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn pages_and_gateway_are_served_over_tls() {
    let place = Place::new();
    let member = alone(&place, "n1", &demanding(&place)).await;
    let alice = place.client(Some("alice"));
    let mut stream = connect(member.client_addr(), &alice, "http/1.1")
        .await
        .expect("it is let in");
    assert!(
        ask(&mut stream, HEALTH)
            .await
            .expect("an answer")
            .contains(r#""health":"true""#)
    );
    assert!(
        ask(&mut stream, &put("aw=="))
            .await
            .expect("an answer")
            .contains(r#""revision":"2""#)
    );
    let list = "POST /v3/cluster/member/list HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}";
    let list = ask(&mut stream, list).await.expect("an answer");
    assert!(
        list.contains(&format!("https://{}", member.client_addr())),
        "{list}"
    );
    let metrics = "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n";
    let metrics = ask(&mut stream, metrics).await.expect("an answer");
    let expiry = "synod_tls_certificate_expiry_timestamp_seconds{port=\"client\"} ";
    assert!(metrics.contains(expiry), "{metrics}");
    assert!(
        !metrics.contains("{port=\"peer\"}"),
        "there is no TLS there"
    );
    // And HTTP/2 is there for those who can.
    let stream = connect(member.client_addr(), &alice, "h2")
        .await
        .expect("it is let in");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
}

#[tokio::test]
async fn nobody_else_is_let_in() {
    let (place, elsewhere) = (Place::new(), Place::new());
    let mut settings = demanding(&place);
    settings.extend(flags(&place, &[("client-crl-file", "revoked.pem")]));
    place.issue(Usage::Client, "bob");
    place.revoke("bob");
    let member = alone(&place, "n1", &settings).await;
    elsewhere.issue(Usage::Client, "mallory");
    let mut mallory = elsewhere.client(Some("mallory"));
    mallory.trust = Trust::Anyone;
    for (who, credentials) in [
        ("nobody", place.client(None)),
        ("bob", place.client(Some("bob"))),
        ("mallory", mallory),
    ] {
        let answered = async {
            let mut stream = connect(member.client_addr(), &credentials, "http/1.1").await?;
            ask(&mut stream, HEALTH).await
        };
        let answer = timeout(PATIENCE, answered)
            .await
            .expect("it is not left waiting");
        assert!(answer.is_err(), "{who} got {answer:?}");
    }
    let alice = place.client(Some("alice"));
    let mut stream = connect(member.client_addr(), &alice, "http/1.1")
        .await
        .expect("let in");
    assert!(ask(&mut stream, HEALTH).await.is_ok());
    let handle = member.ready().await.expect("it runs");
    assert_eq!(handle.metrics().handshake_failures.get(), 3);
}

#[tokio::test]
async fn plain_text_and_tls_are_told_apart_on_either_port() {
    let place = Place::new();
    let secure = alone(&place, "n1", &demanding(&place)).await;
    let mut plain = TcpStream::connect(secure.client_addr())
        .await
        .expect("it listens");
    let answer = ask(&mut plain, HEALTH).await.expect("an answer");
    assert!(
        answer.contains("Client sent an HTTP request to an HTTPS server"),
        "{answer}"
    );
    let mut grpc = TcpStream::connect(secure.client_addr())
        .await
        .expect("it listens");
    let answer = ask(&mut grpc, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.is_empty()));

    let open = alone(&place, "n2", &[]).await;
    let alice = place.client(Some("alice"));
    let refused = connect(open.client_addr(), &alice, "h2")
        .await
        .expect_err("it speaks plain text");
    assert!(refused.to_string().len() > 5);
    let mut plain = TcpStream::connect(open.client_addr())
        .await
        .expect("it listens");
    assert!(
        ask(&mut plain, HEALTH)
            .await
            .expect("an answer")
            .contains("true")
    );
    for member in [secure, open] {
        let handle = member.ready().await.expect("it runs");
        assert!(handle.metrics().handshake_failures.get() > 0);
    }
}

#[tokio::test]
async fn renewed_certificates_count_for_new_connections_and_leave_the_others_alone() {
    let place = Place::new();
    let member = alone(&place, "n1", &demanding(&place)).await;
    let alice = place.client(Some("alice"));
    let mut old = connect(member.client_addr(), &alice, "http/1.1")
        .await
        .expect("let in");
    ask(&mut old, HEALTH).await.expect("an answer");
    let shown = async || {
        let stream = connect(member.client_addr(), &alice, "http/1.1")
            .await
            .expect("let in");
        let chain = stream
            .get_ref()
            .1
            .peer_certificates()
            .expect("it shows one");
        chain[0].to_vec()
    };
    let before = shown().await;
    let handle = member.ready().await.expect("it runs");
    let metrics = handle.metrics();

    // What makes no sense changes nothing.
    std::fs::write(place.path("server-key.pem"), "nonsense").expect("written");
    until("the complaint", || metrics.certificate_failures.get() == 1).await;
    assert_eq!(shown().await, before);

    place.issue(Usage::Server, "server");
    until("the renewal", || metrics.certificate_renewals.get() == 1).await;
    assert_ne!(shown().await, before);
    assert!(
        ask(&mut old, HEALTH)
            .await
            .expect("it lives on")
            .contains("true")
    );

    // A revocation counts as well, and again for new connections only.
    let renewals = metrics.certificate_renewals.get();
    let other = Place::new();
    std::fs::copy(other.path("ca.pem"), place.path("ca.pem")).expect("copied");
    until("the new authority", || {
        metrics.certificate_renewals.get() > renewals
    })
    .await;
    let mut careless = place.client(Some("alice"));
    careless.trust = Trust::Anyone;
    let refused = async {
        let mut stream = connect(member.client_addr(), &careless, "http/1.1").await?;
        ask(&mut stream, HEALTH).await
    };
    assert!(refused.await.is_err());
    assert!(
        ask(&mut old, HEALTH)
            .await
            .expect("it lives on")
            .contains("true")
    );
}

#[tokio::test]
async fn those_who_only_occupy_places_keep_nobody_out() {
    let place = Place::new();
    let member = alone(&place, "n1", &demanding(&place)).await;
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(
            TcpStream::connect(member.client_addr())
                .await
                .expect("it listens"),
        );
    }
    let alice = place.client(Some("alice"));
    let begun = Instant::now();
    let mut stream = connect(member.client_addr(), &alice, "http/1.1")
        .await
        .expect("let in");
    assert!(
        ask(&mut stream, HEALTH)
            .await
            .expect("an answer")
            .contains("true")
    );
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn a_certificate_of_ones_own_making_is_made_once() {
    let place = Place::new();
    let auto = [("auto-tls", "true".to_owned())];
    let mut careless = place.client(None);
    careless.trust = Trust::Anyone;
    let mut shown = Vec::new();
    for _ in 0..2 {
        let member = alone(&place, "n1", &auto).await;
        let stream = connect(member.client_addr(), &careless, "h2")
            .await
            .expect("let in");
        shown.push(stream.get_ref().1.peer_certificates().expect("one")[0].to_vec());
        member.kill();
    }
    assert_eq!(shown[0], shown[1]);
}

/// Three members that speak TLS to each other; `of` gives the place of each one's certificates.
fn cluster(data: &Place, of: [Option<&Place>; 3], more: &[(&str, String)]) -> Vec<Member> {
    let ports = ports::free_ports(3).expect("ports");
    let addresses: Vec<_> = ports
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    let listed: Vec<String> = (1..)
        .zip(&addresses)
        .map(|(number, address)| format!("n{number}={address}"))
        .collect();
    let start = |at: usize| {
        let name = format!("n{}", at + 1);
        let mut settings = vec![
            ("name", name.clone()),
            ("data-dir", data.path(&name).display().to_string()),
            ("client-addr", "127.0.0.1:0".to_owned()),
            ("peer-addr", addresses[at].clone()),
            ("cluster", listed.join(",")),
            ("log-segment-bytes", "1MiB".to_owned()),
            ("disk-low-water-bytes", "0".to_owned()),
        ];
        if let Some(place) = of[at] {
            place.issue(Usage::Server, &name);
            let certificate = format!("{name}.pem");
            let key = format!("{name}-key.pem");
            settings.extend(flags(
                place,
                &[
                    ("peer-cert-file", &certificate),
                    ("peer-key-file", &key),
                    ("peer-trusted-ca-file", "ca.pem"),
                ],
            ));
            settings.extend(more.iter().cloned());
        }
        Member::start(config(settings.iter())).expect("its ports are free")
    };
    (0..3).map(start).collect()
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(since.elapsed() < PATIENCE, "waited for {what} in vain");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn members_find_each_other_over_tls_and_take_up_new_certificates() {
    let place = Place::new();
    let names = [("peer-cert-allowed-cn", "n1,n2,n3".to_owned())];
    let members = cluster(&place, [Some(&place); 3], &names);
    let mut handles = Vec::new();
    for member in &members {
        let ready = timeout(PATIENCE, member.ready()).await;
        handles.push(ready.expect("they start in time").expect("they start"));
    }
    let leads = || handles[0].status().raft.leader.is_some();
    until("a leader", leads).await;
    let mut plain = TcpStream::connect(members[0].client_addr())
        .await
        .expect("it listens");
    assert!(
        ask(&mut plain, &put("aw=="))
            .await
            .expect("an answer")
            .contains("revision")
    );
    let list = "POST /v3/cluster/member/list HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}";
    let list = ask(&mut plain, list).await.expect("an answer");
    assert_eq!(
        list.matches(r#""peerURLs":["https://"#).count(),
        3,
        "{list}"
    );

    let round_trips = || {
        let all = handles[0].metrics().peer_round_trips.all();
        all.len() == 2 && all.iter().all(|(_, times)| times.count() > 0)
    };
    until("answers to pings", round_trips).await;

    for name in ["n1", "n2", "n3"] {
        place.issue(Usage::Server, name);
    }
    until("the renewals", || {
        handles
            .iter()
            .all(|handle| handle.metrics().certificate_renewals.get() >= 1)
    })
    .await;
    let failures = |at: usize| handles[at].metrics().handshake_failures.get();
    assert_eq!([failures(0), failures(1), failures(2)], [0, 0, 0]);
    assert!(
        ask(&mut plain, &put("bA=="))
            .await
            .expect("an answer")
            .contains("revision")
    );
}

#[tokio::test]
async fn a_member_without_tls_or_of_another_authority_stays_outside() {
    let (place, elsewhere) = (Place::new(), Place::new());
    for odd in [None, Some(&elsewhere)] {
        let data = Place::new();
        let members = cluster(&data, [Some(&place), Some(&place), odd], &[]);
        // Founding takes all of them, and these are two at most.
        let mut founded = tokio::task::JoinSet::new();
        for member in members {
            founded.spawn(async move {
                timeout(Duration::from_secs(3), member.ready())
                    .await
                    .is_ok()
            });
        }
        assert_eq!(founded.join_all().await, [false; 3]);
    }
}

/// As kubeadm starts a member: several addresses for clients, and one in plain text for health and metrics.
#[tokio::test]
async fn several_addresses_are_served_each_in_its_way() {
    let place = Place::new();
    let mut settings = demanding(&place);
    settings.extend([
        (
            "client-addr",
            "127.0.0.1:0,https://127.0.0.1:0,http://127.0.0.1:0".to_owned(),
        ),
        ("metrics-addr", "http://127.0.0.1:0,127.0.0.1:0".to_owned()),
    ]);
    let member = alone(&place, "n1", &settings).await;
    let alice = place.client(Some("alice"));
    let [unsaid, https, http] = *member.client_addrs() else {
        panic!("{:?}", member.client_addrs())
    };
    let ask_secure = async |address, request: &str| {
        let mut stream = connect(address, &alice, "http/1.1").await?;
        ask(&mut stream, request).await
    };
    let ask_plain = async |address, request: &str| {
        let mut stream = TcpStream::connect(address).await?;
        ask(&mut stream, request).await
    };
    for address in [unsaid, https] {
        let answer = ask_secure(address, HEALTH).await.expect("an answer");
        assert!(answer.contains(r#""health":"true""#), "{answer}");
        let answer = ask_plain(address, HEALTH).await.expect("an answer");
        assert!(answer.contains("to an HTTPS server"), "{answer}");
    }
    let answer = ask_plain(http, &put("aw==")).await.expect("an answer");
    assert!(answer.contains(r#""revision":"2""#), "{answer}");

    let list = "POST /v3/cluster/member/list HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}";
    let list = ask_plain(http, list).await.expect("an answer");
    let told = format!(r#"["https://{unsaid}","https://{https}","http://{http}"]"#);
    assert!(list.contains(&told), "{told}: {list}");

    let [plain, secure] = *member.metrics_addrs() else {
        panic!("{:?}", member.metrics_addrs())
    };
    let metrics = "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n";
    let answer = ask_plain(plain, metrics).await.expect("an answer");
    assert!(answer.contains("etcd_server_has_leader 1"), "{answer}");
    let answer = ask_plain(plain, HEALTH).await.expect("an answer");
    assert!(answer.contains(r#""health":"true""#), "{answer}");
    let answer = ask_secure(secure, HEALTH).await.expect("an answer");
    assert!(answer.contains(r#""health":"true""#), "{answer}");
    // Nobody reads or writes keys there.
    let answer = ask_plain(plain, &put("aw==")).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    let call = "POST /etcdserverpb.KV/Range HTTP/1.1\r\nhost: x\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n";
    let answer = ask_plain(plain, call).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}
