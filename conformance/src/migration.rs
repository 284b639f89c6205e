//! Copying from a real etcd while its clients go on: killed and resumed, with a member of the destination dying, from an etcd with certificates and users.
//! What the destination has at the end must be what the source has, in the same order.

use crate::Outcome;
use crate::certificates::Certificates;
use crate::connection::Connection;
use crate::load;
use crate::process::{Cluster, Place, Product, Program, signal};
use crate::random::Random;
use crate::report::Report;
use crate::restore::synod;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::request_op::Request as Op;
use proto::mvccpb::KeyValue;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::{sleep, timeout};

/// How long members get to serve, and a migration to say what is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
const PREFIX: &str = "move/";
const VALUE_BYTES: usize = 256;
/// Clients that change the source meanwhile, and the keys they share.
const WRITERS: u64 = 4;
const WRITERS_KEYS: u64 = 500;
/// A writer's pause between two changes.
const WRITERS_PAUSE: Duration = Duration::from_millis(5);
/// How long writers go on once everything is mirrored.
const MIRRORED: Duration = Duration::from_secs(3);
/// Keys of the etcd with certificates and users.
const SECURED_KEYS: usize = 20;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// A real etcd, of any version.
    pub reference: PathBuf,
    /// The binary under test.
    pub subject: PathBuf,
    /// Keys to begin with.
    pub keys: u64,
    /// Of all choices.
    pub seed: u64,
    /// Where everything lies.
    pub directory: PathBuf,
}

/// Runs it. True when all held.
///
/// # Errors
/// When the members cannot even be started.
pub async fn run(plan: &Plan) -> Outcome<bool> {
    let mut report = Report::default();
    let (etcd, subject) = (Program::at(&plan.reference)?, Program::at(&plan.subject)?);
    if subject.product != Product::Synod {
        return Err("subject: Synod is what things move to; pass its binary".into());
    }
    let source = Cluster::start(&etcd, 1, &plan.directory.join("source"), &[])?;
    source.ready().await?;
    report.note(format!(
        "{} is filled with {} keys",
        etcd.label(),
        plan.keys
    ));
    load::fill(&source.clients(), PREFIX, plan.keys, VALUE_BYTES).await?;
    at_rest(&mut report, plan, &subject, &source).await?;
    while_written(&mut report, plan, &subject, &source).await?;
    drop(source);
    secured(&mut report, plan, &etcd, &subject).await?;
    Ok(report.finish())
}

/// A plain copy, and how fast it is.
async fn at_rest(
    report: &mut Report,
    plan: &Plan,
    subject: &Program,
    source: &Cluster,
) -> Outcome<()> {
    let target = Cluster::start(subject, 3, &plan.directory.join("at-rest"), &[])?;
    target.ready().await?;
    let since = Instant::now();
    let (done, said) = synod(subject, &words(&arguments(source, &target, &[]))).await?;
    let seconds = since.elapsed().as_secs_f64();
    report.check("copied while nobody writes", done, said);
    report.note(format!(
        "{} keys in {seconds:.1} s, compared: {:.0} a second",
        plan.keys,
        plan.keys as f64 / seconds
    ));
    Ok(())
}

/// A copy and a mirror, both killed on the way, while clients change the source and a member of the destination dies.
async fn while_written(
    report: &mut Report,
    plan: &Plan,
    subject: &Program,
    source: &Cluster,
) -> Outcome<()> {
    let mut target = Cluster::start(subject, 3, &plan.directory.join("while-written"), &[])?;
    target.ready().await?;
    let writers = Writers::start(source.clients()[0], plan.seed).await?;
    let flags = arguments(source, &target, &["--mirror"]);

    let mut first = Migration::start(subject, &flags)?;
    let copying = first.says("at source revision").await;
    first.kill().await?;
    report.step("killed while it copies", copying);

    let mut second = Migration::start(subject, &flags)?;
    let resumed = second.says("going on after source revision").await;
    report.step("it goes on where it was", resumed);
    let mirroring = second.says("mirroring from revision").await;
    report.step("it comes to mirroring", mirroring);
    second.kill().await?;

    let mut third = Migration::start(subject, &flags)?;
    let mirroring = third.says("mirroring from revision").await;
    report.step("killed and begun again, it mirrors", mirroring);
    target.kill(0);
    sleep(MIRRORED).await;
    target.start_member(0)?;
    target.ready().await?;
    sleep(MIRRORED).await;
    let changes = writers.stop().await?;
    let (done, said) = third.finish().await?;
    report.check(
        "a member died, the writers stopped, Ctrl-C: the two are the same",
        done && said.contains("are the same in both"),
        format!("{changes} changes meanwhile; {said}"),
    );
    let there = contents(source.clients()[0]).await?;
    let here = contents(target.clients()[1]).await?;
    report.check(
        "the same keys, values and leases, created and changed in the same order",
        there == here,
        format!("{} and {} keys", there.len(), here.len()),
    );
    Ok(())
}

/// From an etcd that wants certificates and users, to a Synod that wants its own.
async fn secured(
    report: &mut Report,
    plan: &Plan,
    etcd: &Program,
    subject: &Program,
) -> Outcome<()> {
    let directory = plan.directory.join("secured");
    let old = Secured::start(etcd, &directory.join("old"), &subject.path, "old's").await?;
    let new = Secured::start(subject, &directory.join("new"), &subject.path, "new's").await?;
    for number in 0..SECURED_KEYS {
        let key = format!("{PREFIX}{number}");
        let (put, said) = old.ask(subject, &["put", &key, "secret"]).await?;
        if !put {
            return Err(format!("the source takes no keys: {said}").into());
        }
    }
    let from = ["migrate", "etcd", "--to", &new.endpoint];
    let (taken, said) = old.ask(subject, &from).await?;
    report.check(
        "without certificates for the destination nothing is copied",
        !taken,
        said,
    );
    let (ca, cert, key) = (
        new.file("ca.pem"),
        new.file("load.pem"),
        new.file("load-key.pem"),
    );
    let certificates = ["--to-cacert", &ca, "--to-cert", &cert, "--to-key", &key];
    let (taken, said) = old
        .ask(subject, &[&from[..], &certificates].concat())
        .await?;
    report.check("nor without a user there", !taken, said);
    let user = format!("root:{}", new.password);
    let all = [
        &from[..],
        &certificates,
        &["--to-user", &user, "--until-caught-up"],
    ]
    .concat();
    let (done, said) = old.ask(subject, &all).await?;
    report.check(
        "with certificates and users on both sides everything is copied",
        done && said.contains(&format!("{SECURED_KEYS} keys")),
        said,
    );
    Ok(())
}

fn arguments(source: &Cluster, target: &Cluster, more: &[&str]) -> Vec<String> {
    let (from, to) = (source.endpoints(), target.endpoints());
    let usual = ["migrate", "etcd", "--endpoints", &from, "--to", &to];
    let all = usual.into_iter().chain(more.iter().copied());
    all.map(str::to_owned).collect()
}

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// A migration under way.
struct Migration {
    child: Child,
    talk: Lines<BufReader<ChildStderr>>,
}

impl Migration {
    fn start(program: &Program, arguments: &[String]) -> Outcome<Migration> {
        let mut child = Command::new(&program.path)
            .args(arguments)
            .env_remove("SYNOD_ENDPOINTS")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let talk = child.stderr.take().ok_or("standard error was asked for")?;
        Ok(Migration {
            child,
            talk: BufReader::new(talk).lines(),
        })
    }

    /// Waits for words on standard error.
    async fn says(&mut self, words: &str) -> Outcome<()> {
        let hearing = async {
            let mut last = String::new();
            while let Some(line) = self.talk.next_line().await? {
                if line.contains(words) {
                    return Ok(());
                }
                last = line;
            }
            Err(format!("it ended without saying {words:?}: {last}").into())
        };
        match timeout(PATIENCE, hearing).await {
            Ok(heard) => heard,
            Err(_) => Err(format!("it did not say {words:?} within {PATIENCE:?}").into()),
        }
    }

    async fn kill(&mut self) -> Outcome<()> {
        Ok(self.child.kill().await?)
    }

    /// Ctrl-C, and what it says at the end.
    async fn finish(mut self) -> Outcome<(bool, String)> {
        let id = self.child.id().ok_or("it has ended by itself")?;
        signal(id, rustix::process::Signal::INT)?;
        let ending = async {
            let mut last = String::new();
            while let Some(line) = self.talk.next_line().await? {
                last = line;
            }
            let mut said = String::new();
            if let Some(out) = &mut self.child.stdout {
                out.read_to_string(&mut said).await?;
            }
            let done = self.child.wait().await?.success();
            // What failed says why on standard error.
            let said = if done {
                said.trim_end().to_owned()
            } else {
                last
            };
            Ok((done, said))
        };
        timeout(PATIENCE, ending).await?
    }
}

/// Clients that change the source all the time.
struct Writers {
    stop: Arc<AtomicBool>,
    changes: Arc<AtomicU64>,
    running: Vec<tokio::task::JoinHandle<Result<(), tonic::Status>>>,
}

impl Writers {
    async fn start(address: SocketAddr, seed: u64) -> Outcome<Writers> {
        let (stop, changes) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let mut running = Vec::new();
        for number in 0..WRITERS {
            let mut client = Connection::new(address);
            let grant = pb::LeaseGrantRequest {
                id: 0,
                ttl: 600 + number as i64,
            };
            let lease = client.lease.lease_grant(grant).await?.into_inner().id;
            let mut random = Random::new(seed * 100 + number);
            let (stop, changes) = (stop.clone(), changes.clone());
            running.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    client.kv.txn(change(&mut random, lease)).await?;
                    changes.fetch_add(1, Ordering::Relaxed);
                    sleep(WRITERS_PAUSE).await;
                }
                Ok(())
            }));
        }
        Ok(Writers {
            stop,
            changes,
            running,
        })
    }

    /// Stops them; gives how much they changed.
    async fn stop(self) -> Outcome<u64> {
        self.stop.store(true, Ordering::Relaxed);
        for writer in self.running {
            writer.await??;
        }
        Ok(self.changes.load(Ordering::Relaxed))
    }
}

/// Some keys are put, with or without a lease, and some removed, in one transaction.
fn change(random: &mut Random, lease: i64) -> pb::TxnRequest {
    // Different keys: one may change only once in a transaction.
    let first = random.below(WRITERS_KEYS);
    let operation = |(nth, is_put): (u64, bool)| {
        let key = format!("{PREFIX}written/{:04}", (first + nth) % WRITERS_KEYS);
        pb::RequestOp {
            request: Some(if is_put {
                Op::RequestPut(pb::PutRequest {
                    key: key.into(),
                    value: vec![b'w'; VALUE_BYTES].into(),
                    lease: if nth == 1 { lease } else { 0 },
                    ..Default::default()
                })
            } else {
                Op::RequestDeleteRange(pb::DeleteRangeRequest {
                    key: key.into(),
                    ..Default::default()
                })
            }),
        }
    };
    let count = 1 + random.below(3);
    pb::TxnRequest {
        success: (0..count)
            .map(|nth| operation((nth, !random.chance(20))))
            .collect(),
        ..Default::default()
    }
}

/// A key as both sides must have it, in place of its revisions how many distinct ones are lower.
#[derive(Debug, PartialEq)]
struct Kept {
    key: bytes::Bytes,
    value: bytes::Bytes,
    lease: i64,
    created: usize,
    changed: usize,
}

async fn contents(address: SocketAddr) -> Outcome<Vec<Kept>> {
    let request = pb::RangeRequest {
        key: PREFIX.into(),
        range_end: "move0".into(),
        ..Default::default()
    };
    let answer = Connection::new(address).kv.range(request).await?;
    let keys = answer.into_inner().kvs;
    let ranks = |revision: fn(&KeyValue) -> i64| {
        let mut revisions: Vec<i64> = keys.iter().map(revision).collect();
        revisions.sort_unstable();
        revisions.dedup();
        revisions
    };
    let created = ranks(|kv| kv.create_revision);
    let changed = ranks(|kv| kv.mod_revision);
    let rank = |ranks: &[i64], revision| ranks.partition_point(|other| *other < revision);
    let kept = keys.iter().map(|kv| Kept {
        key: kv.key.clone(),
        value: kv.value.clone(),
        lease: kv.lease,
        created: rank(&created, kv.create_revision),
        changed: rank(&changed, kv.mod_revision),
    });
    Ok(kept.collect())
}

/// One member that takes only clients with certificates and users.
struct Secured {
    _cluster: Cluster,
    certificates: Certificates,
    endpoint: String,
    password: &'static str,
}

impl Secured {
    async fn start(
        program: &Program,
        directory: &Path,
        synod: &Path,
        password: &'static str,
    ) -> Outcome<Secured> {
        let certificates = Certificates::make(synod, &directory.join("certificates"))?;
        let places = Place::on_loopback(1)?;
        let endpoint = format!("https://{}", places[0].client);
        let file = |name| certificates.file(name);
        let (own, key, ca) = (file("n1.pem"), file("n1-key.pem"), file("ca.pem"));
        let mut flags = vec!["--cert-file", &own, "--key-file", &key];
        flags.extend(["--trusted-ca-file", &ca, "--client-cert-auth"]);
        if program.product == Product::Etcd {
            flags.extend(["--listen-client-urls", &endpoint]);
            flags.extend(["--advertise-client-urls", &endpoint]);
        }
        let secured = Secured {
            _cluster: Cluster::start_at(program, places, directory, &flags)?,
            certificates,
            endpoint,
            password,
        };
        secured.enable_users(synod).await?;
        Ok(secured)
    }

    async fn enable_users(&self, program: &Path) -> Outcome<()> {
        let program = Program::at(program)?;
        let user = format!("root:{}", self.password);
        let commands: [&[&str]; 4] = [
            &["user", "add", &user],
            &["role", "add", "root"],
            &["user", "grant-role", "root", "root"],
            &["auth", "enable"],
        ];
        for command in commands {
            let certificates = self.flags();
            let command = command
                .iter()
                .copied()
                .chain(certificates.iter().map(String::as_str));
            let (done, said) = synod(&program, &command.collect::<Vec<_>>()).await?;
            // Synod has the role already.
            if !done && !said.contains("exists") {
                return Err(format!("{}: {said}", self.endpoint).into());
            }
        }
        Ok(())
    }

    /// Runs a client command against it, as its root.
    async fn ask(&self, program: &Program, command: &[&str]) -> Outcome<(bool, String)> {
        let mut flags = self.flags();
        flags.extend(["--user".to_owned(), format!("root:{}", self.password)]);
        let all = command
            .iter()
            .copied()
            .chain(flags.iter().map(String::as_str));
        synod(program, &all.collect::<Vec<_>>()).await
    }

    fn flags(&self) -> Vec<String> {
        let pairs = [
            ("--endpoints", self.endpoint.clone()),
            ("--cacert", self.file("ca.pem")),
            ("--cert", self.file("load.pem")),
            ("--key", self.file("load-key.pem")),
            ("--timeout", "30s".to_owned()),
        ];
        let flat = pairs.into_iter();
        flat.flat_map(|(flag, value)| [flag.to_owned(), value])
            .collect()
    }

    fn file(&self, name: &str) -> String {
        self.certificates.file(name)
    }
}
