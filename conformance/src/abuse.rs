//! Broken, greedy and malicious clients: each gets a clear error, the members' memory stays bounded, and others notice nothing.

use crate::connection::Connection;
use crate::load::{Figures, Load, Work};
use crate::process::{Cluster, Program};
use crate::report::Report;
use crate::{Failure, Outcome, raw};
use bytes::Bytes;
use proto::etcdserverpb as pb;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

/// Idle connections opened to one member.
const IDLE_CONNECTIONS: usize = 10_000;
/// What one idle connection may cost a member.
const IDLE_BYTES_MAX: u64 = 40 * 1024;
/// Clients that open a watch and never read.
const DEAF_WATCHERS: usize = 20;
/// What one of them may cost a member.
const DEAF_BYTES_MAX: u64 = 4 << 20;

/// Runs all. True when all held.
///
/// # Errors
/// When the members cannot even be started.
pub async fn run(program: &Path, directory: &Path) -> Outcome<bool> {
    let program = Program::at(program)?;
    let mut report = Report::default();
    let cluster = Cluster::start(&program, 3, directory, &[])?;
    cluster.ready().await?;
    report.note(format!("{} at {}", program.label(), cluster.endpoints()));
    let mut abuse = Abuse {
        cluster,
        report: &mut report,
        calm: Figures::default(),
    };
    // The first seconds of a process are no measure of its rest.
    abuse.others().await;
    abuse.calm = abuse.others().await;
    abuse
        .report
        .note(format!("puts of others in calm: {}", said(&abuse.calm)));
    abuse.broken_messages().await;
    abuse.impossible_requests().await;
    abuse.oversized().await;
    abuse.garbage().await;
    abuse.slow_senders().await?;
    abuse.deaf_watchers().await?;
    abuse.idle_connections().await?;
    abuse.alive_at_the_end().await;
    Ok(report.finish())
}

struct Abuse<'a> {
    cluster: Cluster,
    report: &'a mut Report,
    /// What other clients saw before.
    calm: Figures,
}

impl Abuse<'_> {
    fn victim(&self) -> SocketAddr {
        self.cluster.clients()[0]
    }

    /// A second of ordinary puts through the abused member.
    async fn others(&self) -> Figures {
        let load = Load {
            addresses: vec![self.victim()],
            clients: 4,
            work: Work::Put,
            keys: 100,
            prefix: "others/",
            value_bytes: 256,
            duration: Duration::from_secs(2),
            seed: 1,
        };
        load.drive().await
    }

    /// Whether others are served as in calm. A busy machine has bad seconds of its own, so one good probe of three is enough.
    async fn check_others(&mut self, during: &str) {
        const PROBES: usize = 3;
        let limit = self.calm.quantile_ms(0.99) * 3.0 + 25.0;
        let mut seen = Vec::new();
        let mut held = false;
        while !held && seen.len() < PROBES {
            let figures = self.others().await;
            held =
                figures.errors == 0 && figures.operations > 0 && figures.quantile_ms(0.99) <= limit;
            seen.push(said(&figures));
        }
        self.report.check(
            &format!("others during {during}"),
            held,
            format!("{}; p99 at most {limit:.1} ms", seen.join("; ")),
        );
    }

    /// Bytes that are no message, through a well-behaved connection, which must live on.
    async fn broken_messages(&mut self) {
        let connection = Connection::new(self.victim());
        let wrong_wire_type = Bytes::from_static(&[0x0d, 1, 2, 3]);
        let endless_varint = Bytes::from(vec![0xff; 40]);
        let length_past_end = Bytes::from_static(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x07, b'k']);
        let group = Bytes::from_static(&[0x0b, 0x0b, 0x0b, 0x0b]);
        let nested = raw::nested_transactions(5_000);
        let calls = [
            ("wrong wire type", "/etcdserverpb.KV/Put", wrong_wire_type),
            ("endless varint", "/etcdserverpb.KV/Range", endless_varint),
            (
                "length past the end",
                "/etcdserverpb.KV/DeleteRange",
                length_past_end,
            ),
            (
                "unterminated groups",
                "/etcdserverpb.Lease/LeaseGrant",
                group,
            ),
            (
                "transactions nested 5000 deep",
                "/etcdserverpb.KV/Txn",
                nested,
            ),
        ];
        for (what, path, bytes) in calls {
            let answer = raw::call(&connection, path, bytes).await;
            let clear = answer.as_ref().is_err_and(|status| {
                matches!(
                    status.code(),
                    Code::Internal | Code::InvalidArgument | Code::ResourceExhausted
                )
            });
            self.report.check(
                &format!("malformed: {what}"),
                clear,
                format!("{answer:?}").chars().take(160).collect::<String>(),
            );
        }
        let unknown = raw::call(&connection, "/etcdserverpb.KV/Nonsense", Bytes::new()).await;
        self.report.check(
            "unknown method",
            unknown
                .as_ref()
                .is_err_and(|status| status.code() == Code::Unimplemented),
            format!("{unknown:?}").chars().take(160).collect::<String>(),
        );
        let unknown = raw::call(&connection, "/nonsense.Nonsense/Nonsense", Bytes::new()).await;
        self.report.check(
            "unknown service",
            unknown
                .as_ref()
                .is_err_and(|status| status.code() == Code::Unimplemented),
            format!("{unknown:?}").chars().take(160).collect::<String>(),
        );
        let put = connection.clone().put("abuse/after", "1").await;
        self.report
            .check("the connection lives on", put.is_ok(), format!("{put:?}"));
    }

    async fn impossible_requests(&mut self) {
        let mut connection = Connection::new(self.victim());
        let empty = connection.put("", "x").await;
        self.refused(
            "empty key",
            empty.map(|_| ()),
            Code::InvalidArgument,
            "key is not provided",
        );
        let range = connection
            .kv
            .range(pb::RangeRequest {
                key: "a".into(),
                sort_order: 77,
                ..Default::default()
            })
            .await;
        self.refused(
            "unknown sort order",
            range.map(|_| ()),
            Code::InvalidArgument,
            "invalid sort option",
        );
        let future = connection
            .kv
            .range(pb::RangeRequest {
                key: "a".into(),
                revision: i64::MAX,
                ..Default::default()
            })
            .await;
        self.refused(
            "revision of the far future",
            future.map(|_| ()),
            Code::OutOfRange,
            "future revision",
        );
        let compare = pb::Compare {
            key: "a".into(),
            target: 99,
            result: 99,
            ..Default::default()
        };
        let txn = connection
            .kv
            .txn(pb::TxnRequest {
                compare: vec![compare],
                ..Default::default()
            })
            .await;
        // etcd answers an unknown target as if it had compared nothing; only that there is an answer is asked.
        self.report.check(
            "unknown compare target",
            answered(&txn),
            format!("{:?}", txn.map(|txn| txn.into_inner().succeeded)),
        );
        let op = pb::RequestOp {
            request: Some(pb::request_op::Request::RequestPut(pb::PutRequest {
                key: "many".into(),
                ..Default::default()
            })),
        };
        let txn = connection
            .kv
            .txn(pb::TxnRequest {
                success: vec![op; 10_001],
                ..Default::default()
            })
            .await;
        self.refused(
            "10 001 operations in a transaction",
            txn.map(|_| ()),
            Code::InvalidArgument,
            "too many operations",
        );
        self.deadly_transaction(&mut connection).await;
        let grant = connection
            .lease
            .lease_grant(pb::LeaseGrantRequest {
                ttl: i64::MAX,
                id: 0,
            })
            .await;
        self.refused(
            "a lease for ever",
            grant.map(|_| ()),
            Code::OutOfRange,
            "too large lease TTL",
        );
        let compact = connection
            .kv
            .compact(pb::CompactionRequest {
                revision: i64::MAX,
                physical: true,
            })
            .await;
        self.refused(
            "compaction of the future",
            compact.map(|_| ()),
            Code::OutOfRange,
            "future revision",
        );
    }

    /// A transaction that deletes up to the end of all keys and puts one of them keeping its lease. etcd 3.6.7 dies of it on every member.
    async fn deadly_transaction(&mut self, connection: &mut Connection) {
        use pb::request_op::Request;
        if self.cluster.program().product == crate::process::Product::Etcd {
            self.report.skip(
                "a delete to the end and a put that keeps its lease",
                "etcd dies of it",
            );
            return;
        }
        let seeded = connection.put("zz", "1").await;
        let delete = pb::DeleteRangeRequest {
            key: "zy".into(),
            range_end: vec![0].into(),
            ..Default::default()
        };
        let put = pb::PutRequest {
            key: "zz".into(),
            value: "2".into(),
            ignore_lease: true,
            ..Default::default()
        };
        let ops = [
            Request::RequestDeleteRange(delete),
            Request::RequestPut(put),
        ];
        let success = ops
            .map(|request| pb::RequestOp {
                request: Some(request),
            })
            .to_vec();
        let txn = connection
            .kv
            .txn(pb::TxnRequest {
                success,
                ..Default::default()
            })
            .await;
        let held = seeded.is_ok() && answered(&txn) && (0..3).all(|at| self.cluster.runs(at));
        let said = txn
            .map(|txn| txn.into_inner().succeeded)
            .map_err(|status| status.message().to_string());
        self.report.check(
            "a delete to the end and a put that keeps its lease",
            held,
            format!("{said:?}"),
        );
    }

    async fn oversized(&mut self) {
        let mut connection = Connection::new(self.victim());
        for (megabytes, codes) in [
            (1.6, vec![Code::InvalidArgument]),
            (3.0, vec![Code::ResourceExhausted, Code::OutOfRange]),
            (64.0, vec![Code::ResourceExhausted, Code::OutOfRange]),
        ] {
            let value = vec![b'x'; (megabytes * 1024.0 * 1024.0) as usize];
            let put = connection
                .kv
                .put(pb::PutRequest {
                    key: "large".into(),
                    value: value.into(),
                    ..Default::default()
                })
                .await;
            let clear = put
                .as_ref()
                .is_err_and(|status| codes.contains(&status.code()));
            self.report.check(
                &format!("a put of {megabytes} MiB"),
                clear,
                format!(
                    "{:?}",
                    put.map_err(|status| (status.code(), status.message().to_string()))
                ),
            );
        }
        self.check_others("oversized requests").await;
    }

    /// Bytes that are no protocol at all, to the client port and to the peer port.
    async fn garbage(&mut self) {
        let member = &self.cluster.members()[0];
        for (what, address) in [("client", member.client), ("peer", member.peer)] {
            for bytes in raw::garbage() {
                // What the member answers, if anything, is its affair; that it goes on is checked below.
                if let Ok(mut stream) = TcpStream::connect(address).await {
                    let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(&bytes))
                        .await;
                }
            }
            let runs = self.cluster.runs(0);
            self.report.check(
                &format!("garbage to the {what} port"),
                runs,
                "the member runs",
            );
        }
        self.check_others("garbage").await;
    }

    /// Connections that send a byte now and then and never finish a request.
    async fn slow_senders(&mut self) -> Outcome<()> {
        let address = self.victim();
        let mut slow = Vec::new();
        for _ in 0..500 {
            let mut stream = TcpStream::connect(address).await?;
            stream
                .write_all(
                    b"POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\nX-A: ",
                )
                .await?;
            slow.push(stream);
        }
        let dripping = tokio::spawn(async move {
            loop {
                for stream in &mut slow {
                    let _ = stream.write_all(b"a").await;
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        });
        self.check_others("500 slow senders").await;
        dripping.abort();
        Ok(())
    }

    /// Watch streams nobody reads, while much is written under them.
    async fn deaf_watchers(&mut self) -> Outcome<()> {
        let before = self.resident();
        let since = Instant::now();
        self.write_much().await?;
        let alone = since.elapsed();
        let written = self.resident().saturating_sub(before);
        self.check_others("nothing, after 40 MB of writes").await;
        let mut connections = Vec::new();
        for _ in 0..DEAF_WATCHERS {
            connections.push(deaf_watch(self.victim()).await?);
        }
        let before = self.resident();
        let since = Instant::now();
        self.write_much().await?;
        self.report.note(format!(
            "40 MB of writes took {alone:?} alone, {:?} under watchers that never read",
            since.elapsed()
        ));
        self.check_others("watchers that never read").await;
        let grown = self.resident().saturating_sub(before);
        let limit = written + DEAF_WATCHERS as u64 * DEAF_BYTES_MAX;
        let detail = format!(
            "{} MiB more while writing with them, {} MiB without, at most {} MiB",
            grown >> 20,
            written >> 20,
            limit >> 20
        );
        self.report.check(
            "memory with watchers that never read",
            grown <= limit,
            detail,
        );
        drop(connections);
        self.check_others("nothing, after those watchers went")
            .await;
        Ok(())
    }

    /// 40 MB over few keys.
    async fn write_much(&self) -> Outcome<()> {
        let writers = (0..8).map(|writer| {
            let mut connection = Connection::new(self.victim());
            tokio::spawn(async move {
                for at in 0..250 {
                    let put = pb::PutRequest {
                        key: format!("much/{writer}/{}", at % 5).into(),
                        value: vec![b'm'; 20_000].into(),
                        ..Default::default()
                    };
                    connection.kv.put(put).await?;
                }
                Ok::<(), tonic::Status>(())
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await??;
        }
        Ok(())
    }

    async fn idle_connections(&mut self) -> Outcome<()> {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        rustix::process::setrlimit(
            rustix::process::Resource::Nofile,
            rustix::process::Rlimit {
                current: limit.maximum,
                maximum: limit.maximum,
            },
        )?;
        let before = self.resident();
        let since = Instant::now();
        let mut connections = Vec::new();
        while connections.len() < IDLE_CONNECTIONS {
            match tokio::time::timeout(Duration::from_secs(5), TcpStream::connect(self.victim()))
                .await
            {
                Ok(Ok(mut stream)) => {
                    // An HTTP/2 client that says hello and then nothing.
                    stream
                        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
                        .await?;
                    connections.push(stream);
                }
                failed => {
                    self.report.check(
                        "idle connections are accepted",
                        false,
                        format!("{} of {IDLE_CONNECTIONS}: {failed:?}", connections.len()),
                    );
                    break;
                }
            }
        }
        self.report.note(format!(
            "{} idle connections after {:?}",
            connections.len(),
            since.elapsed()
        ));
        self.check_others("10 000 idle connections").await;
        let each = self.resident().saturating_sub(before) / connections.len().max(1) as u64;
        self.report.check(
            "memory of an idle connection",
            each <= IDLE_BYTES_MAX,
            format!("{each} bytes, at most {IDLE_BYTES_MAX}"),
        );
        let mut fresh = Connection::new(self.victim());
        let put = tokio::time::timeout(Duration::from_secs(5), fresh.put("abuse/idle", "1"))
            .await
            .map_err(|_| Failure::from("no answer within 5 s"));
        self.report.check(
            "one more client is served",
            matches!(put, Ok(Ok(_))),
            format!("{put:?}"),
        );
        Ok(())
    }

    async fn alive_at_the_end(&mut self) {
        for at in 0..3 {
            let runs = self.cluster.runs(at);
            let name = self.cluster.members()[at].name.clone();
            self.report.check("the member still runs", runs, name);
        }
        let revision = Connection::new(self.victim()).put("abuse/end", "1").await;
        for address in self.cluster.clients() {
            let read = Connection::new(address).get("abuse/end").await;
            self.report.check(
                "and serves",
                revision.is_ok() && matches!(read, Ok((Some(_), _))),
                format!("{read:?}"),
            );
        }
    }

    fn refused(&mut self, what: &str, answer: Result<(), tonic::Status>, code: Code, text: &str) {
        let clear = answer
            .as_ref()
            .is_err_and(|status| status.code() == code && status.message().contains(text));
        self.report.check(
            what,
            clear,
            format!(
                "{:?}",
                answer.map_err(|status| (status.code(), status.message().to_string()))
            ),
        );
    }

    fn resident(&self) -> u64 {
        self.cluster.resident().first().copied().unwrap_or(0)
    }
}

/// Whether the server answered, be it with an error of its own.
fn answered<T>(answer: &Result<T, tonic::Status>) -> bool {
    answer.as_ref().map_or_else(
        |status| !matches!(status.code(), Code::Unavailable | Code::Unknown),
        |_| true,
    )
}

/// A watch whose answers nobody takes; it lives as long as what is given back.
async fn deaf_watch(address: SocketAddr) -> Outcome<impl Sized> {
    let mut connection = Connection::new(address);
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let create = pb::WatchCreateRequest {
        key: "much/".into(),
        range_end: "much0".into(),
        prev_kv: true,
        ..Default::default()
    };
    sender
        .send(pb::WatchRequest {
            request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
        })
        .await?;
    let messages = connection
        .watch
        .watch(ReceiverStream::new(receiver))
        .await?
        .into_inner();
    Ok((connection, sender, messages))
}

fn said(figures: &Figures) -> String {
    format!(
        "{:.0}/s, p50 {:.1} ms, p99 {:.1} ms, {} errors",
        figures.rate(),
        figures.quantile_ms(0.5),
        figures.quantile_ms(0.99),
        figures.errors
    )
}
