//! A put through a follower, as a collector sees it.

#[path = "../../../ports.rs"]
mod ports;

use super::otlp::{ExportRequest, ExportResponse, Kind, ResourceSpans, WireSpan};
use super::*;
use crate::config::Settings;
use crate::{Handle, Member};
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use prost::Message;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(30);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CLIENT_SPAN: &str = "b7ad6b7169203331";

/// Takes spans as a collector does; what it is told comes out of the channel.
async fn collector() -> (SocketAddr, mpsc::UnboundedReceiver<ResourceSpans>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (told, hears) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (connection, _) = listener.accept().await.unwrap();
            let told = told.clone();
            let service = service_fn(move |request: http::Request<Incoming>| {
                let told = told.clone();
                async move {
                    assert_eq!(request.uri().path(), otlp::PATH);
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    // Behind the five bytes that gRPC puts before each message.
                    let request = ExportRequest::decode(&body[5..]).unwrap();
                    for spans in request.resource_spans {
                        told.send(spans).unwrap();
                    }
                    let message = ExportResponse {}.encode_to_vec();
                    let framed = [&[0, 0, 0, 0, message.len() as u8], &message[..]].concat();
                    let mut trailers = http::HeaderMap::new();
                    trailers.insert("grpc-status", "0".parse().unwrap());
                    let frames = [Frame::data(Bytes::from(framed)), Frame::trailers(trailers)];
                    let body = StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>)));
                    let response = http::Response::builder();
                    let response = response.header("content-type", "application/grpc");
                    Ok::<_, Infallible>(response.body(body).unwrap())
                }
            });
            tokio::spawn(async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                let _ = builder
                    .serve_connection(TokioIo::new(connection), service)
                    .await;
            });
        }
    });
    (address, hears)
}

fn members(directory: &std::path::Path, collector: SocketAddr) -> Vec<Member> {
    let ports = ports::free_ports(3).unwrap();
    let peers: Vec<_> = ports
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    let cluster: Vec<String> = (1..)
        .zip(&peers)
        .map(|(n, peer)| format!("n{n}={peer}"))
        .collect();
    let start = |(n, peer): (usize, &String)| {
        let pairs = [
            ("name", format!("n{n}")),
            (
                "data-dir",
                directory.join(format!("n{n}")).display().to_string(),
            ),
            ("client-addr", "127.0.0.1:0".into()),
            ("peer-addr", peer.clone()),
            ("cluster", cluster.join(",")),
            ("log-segment-bytes", "1MiB".into()),
            ("disk-low-water-bytes", "0".into()),
            ("enable-distributed-tracing", "true".into()),
            ("distributed-tracing-address", collector.to_string()),
        ];
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value));
        Member::start(Settings::default().flags(pairs).resolve().unwrap()).unwrap()
    };
    (1..).zip(&peers).map(start).collect()
}

async fn put(address: SocketAddr, header: &str) -> String {
    let body = r#"{"key":"aw==","value":"dg=="}"#;
    let request = format!(
        "POST /v3/kv/put HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{header}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn shown(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_put_is_told_step_by_step_through_follower_and_leader() {
    let directory = tempfile::tempdir().unwrap();
    let (address, mut hears) = collector().await;
    let members = members(directory.path(), address);
    let mut handles: Vec<Handle> = Vec::new();
    for member in &members {
        let ready = timeout(PATIENCE, member.ready()).await;
        handles.push(ready.expect("it starts in time").expect("it starts"));
    }
    let leader = timeout(PATIENCE, async {
        loop {
            if let Some(leader) = handles[0].status().raft.leader {
                return leader.member.0;
            }
            sleep(Duration::from_millis(20)).await;
        }
    });
    let leader = leader.await.expect("there is a leader in time");
    let follower = handles.iter().position(|it| it.member() != leader).unwrap();
    let name = |at: usize| format!("n{}", at + 1);
    let leader = name(handles.iter().position(|it| it.member() == leader).unwrap());
    let asked = name(follower);
    let client = members[follower].client_addr();

    // Nobody asks for a trace of this one, nor does this client's trace go anywhere.
    let unsampled = format!("traceparent: 00-{TRACE}-{CLIENT_SPAN}-00\r\n");
    for header in ["", unsampled.as_str(), "traceparent: nonsense\r\n"] {
        assert!(put(client, header).await.contains("200 OK"), "{header}");
    }
    let header = format!("traceparent: 00-{TRACE}-{CLIENT_SPAN}-01\r\n");
    let answer = put(client, &header).await;
    assert!(answer.contains(r#""revision":"5""#), "{answer}");

    let mut spans: BTreeMap<(String, String), WireSpan> = BTreeMap::new();
    // Of each member append, sync, commit and apply; of the one that was asked the request and its admission.
    while spans.len() < 14 {
        let told = timeout(PATIENCE, hears.recv()).await;
        let told = told
            .unwrap_or_else(|_| panic!("only {:?}", spans.keys()))
            .unwrap();
        let of = |key: &str| {
            let attributes = told
                .resource
                .iter()
                .flat_map(|resource| &resource.attributes);
            let mut values = attributes.filter(|it| it.key == key);
            match values.next()?.value.as_ref()?.value.as_ref()? {
                Kind::Text(text) => Some(text.clone()),
                Kind::Number(_) => None,
            }
        };
        assert_eq!(of("service.name").as_deref(), Some("synod"));
        let member = of("service.instance.id").expect("it says who it is");
        for span in told.scope_spans.iter().flat_map(|scope| &scope.spans) {
            assert_eq!(shown(&span.trace_id), TRACE, "{span:?}");
            assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
            let told_before = spans.insert((member.clone(), span.name.clone()), span.clone());
            assert!(told_before.is_none(), "{span:?} was told twice");
        }
    }
    let request = &spans[&(asked.clone(), "etcdserverpb.KV/Put".into())];
    assert_eq!(shown(&request.parent_span_id), CLIENT_SPAN);
    assert!(spans.contains_key(&(asked.clone(), "admission".into())));
    assert!(!spans.contains_key(&(leader.clone(), "admission".into())));
    for ((_, name), span) in &spans {
        if name != "etcdserverpb.KV/Put" {
            assert_eq!(span.parent_span_id, request.span_id, "{name}");
            assert!(
                span.start_time_unix_nano >= request.start_time_unix_nano,
                "{name}"
            );
        }
    }
    // The follower appends what the leader has appended before.
    let begins = |member: &String| spans[&(member.clone(), "append".to_owned())].end_time_unix_nano;
    assert!(begins(&leader) <= begins(&asked));
    let mut sent = 0;
    for handle in &handles {
        sent += handle.metrics().trace_spans_sent.get();
        assert_eq!(handle.metrics().trace_spans_dropped.get(), 0);
    }
    assert!(sent <= 14);
}

#[test]
fn parents_are_read_as_the_standard_says() {
    let good = TraceParent::parse(&format!("00-{TRACE}-{CLIENT_SPAN}-01")).expect("it is one");
    assert_eq!(shown(&good.id.trace), TRACE);
    assert_eq!(shown(&good.id.span), CLIENT_SPAN);
    assert!(good.sampled);
    // A later version may have more parts.
    assert!(TraceParent::parse(&format!("01-{TRACE}-{CLIENT_SPAN}-00-more")).is_some());
    let zeros = "0".repeat(32);
    for text in [
        String::new(),
        format!("00-{TRACE}-{CLIENT_SPAN}"),
        format!("00-{TRACE}-{CLIENT_SPAN}-1"),
        format!("00-{TRACE}-{CLIENT_SPAN}-01-more"),
        format!("ff-{TRACE}-{CLIENT_SPAN}-01"),
        format!("00-{zeros}-{CLIENT_SPAN}-01"),
        format!("00-{TRACE}-{}-01", &zeros[..16]),
        format!("00-{}é-{CLIENT_SPAN}-01", &zeros[..30]),
    ] {
        assert!(TraceParent::parse(&text).is_none(), "{text}");
    }
}

#[test]
fn a_span_comes_back_from_an_envelope() {
    let id = SpanId::root();
    assert_eq!(SpanId::from_bytes(&id.to_bytes()), Some(id));
    // A trace without a span has no steps, and neither has anything else.
    assert_eq!(SpanId::from_bytes(&id.trace), None);
    assert_eq!(SpanId::from_bytes(b""), None);
}

#[tokio::test]
async fn one_in_a_million_is_traced_where_nobody_asks() {
    let settings = |samples_per_million| TraceSettings {
        collector: "127.0.0.1:1".into(),
        service: "s".into(),
        instance: "i".into(),
        samples_per_million,
    };
    let metrics = Arc::new(Metrics::default());
    let all = Tracer::start(Some(&settings(SAMPLED_OF)), &metrics);
    let none = Tracer::start(Some(&settings(0)), &metrics);
    assert!(all.request(None).is_some() && none.request(None).is_none());
    assert!(Tracer::off().request(None).is_none());
    let unsampled = TraceParent::parse(&format!("00-{TRACE}-{CLIENT_SPAN}-00"));
    assert!(all.request(unsampled).is_none(), "the client says no");
    // Nobody takes them: they are dropped and counted, and nobody waits.
    for _ in 0..SPANS_QUEUED_MAX + 10 {
        let span = all.request(None).expect("all are traced");
        all.answered(span, "/x.Y/Z", 0);
    }
    assert!(metrics.trace_spans_dropped.get() >= 10);
}
