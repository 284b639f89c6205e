//! What security costs: tokens and permissions against none, puts beside password log-ins, TLS against plain text. One cluster of Synod each, the two
//! sides in turn, A B A B.

use crate::Common;
use crate::table::{markdown, median, short};
use clap::Args;
use client::proto::authpb::{Permission, permission::Type};
use client::proto::etcdserverpb as pb;
use client::{Client, Security};
use conformance::Outcome;
use conformance::process::{Cluster, Product, Program};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Keys the load chooses from.
const KEYS: u64 = 10_000;
/// Bytes of a value.
const VALUE_BYTES: usize = 256;
/// Connections that the clients share.
const CONNECTIONS: usize = 16;
/// How long a cluster may take to serve.
const START_MAX: Duration = Duration::from_secs(30);
const ROOT: (&str, &str) = ("root", "root's");
const WRITER: (&str, &str) = ("writer", "writer's");
/// Users whose first log-ins are measured, in each round anew: a member hashes some twenty a second, so these last for ten seconds on each of three.
const NEWCOMERS: usize = 150;

/// What to measure.
#[derive(Args, Clone, Debug)]
pub struct Plan {
    #[command(flatten)]
    common: Common,
    /// Clients, one request in flight each
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// Seconds of each load
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Times that each side has its turn; the median is reported
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Password log-ins per second
    #[arg(long, default_value_t = 200)]
    logins: u32,
    /// A second of each, once: shows that it works, measures nothing
    #[arg(long)]
    quick: bool,
}

impl Plan {
    fn duration(&self) -> Duration {
        Duration::from_secs(if self.quick { 1 } else { self.seconds })
    }

    fn rounds(&self) -> usize {
        if self.quick { 1 } else { self.rounds }
    }
}

/// Runs a plan and prints its tables.
///
/// # Errors
/// When a program cannot be run.
pub async fn run(plan: &Plan) -> Outcome<()> {
    let programs = plan.common.programs()?;
    let program = programs
        .iter()
        .find(|program| program.product == Product::Synod)
        .ok_or("none of --programs is Synod")?;
    tokens(plan, program).await?;
    tls(plan, program).await
}

/// Puts without users, with tokens and permissions, and beside log-ins.
async fn tokens(plan: &Plan, program: &Program) -> Outcome<()> {
    let cluster = Cluster::start(program, plan.common.members, &plan.common.directory(), &[])?;
    cluster.ready().await?;
    let endpoints = endpoints(&cluster, "http");
    let root = Client::new(&endpoints)?.with_user(ROOT.0, ROOT.1);
    make_users(&root).await?;
    let open = clients(&endpoints, &Security::default(), None)?;
    let known = clients(&endpoints, &Security::default(), Some(WRITER))?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let (mut again, mut anew) = (Beside::default(), Beside::default());
    for round in 0..plan.rounds() {
        let newcomers = newcomers(round);
        add_users(&endpoints, &newcomers).await?;
        without.push(drive(plan, &cluster, &open).await);
        root.auth_enable(pb::AuthEnableRequest {}).await?;
        with.push(drive(plan, &cluster, &known).await);
        again.push(beside_logins(plan, &cluster, &[WRITER.0.into()], &known).await);
        anew.push(beside_logins(plan, &cluster, &newcomers, &known).await);
        root.auth_disable(pb::AuthDisableRequest {}).await?;
    }
    let rows = vec![
        head(),
        row("no users", &without, &without),
        row("tokens and permissions", &with, &without),
        row(
            &format!("and {} password log-ins/s", short(median(&again.logins))),
            &again.puts,
            &with,
        ),
        row(
            &format!(
                "and as many first log-ins as are hashed, {}/s",
                short(median(&anew.logins))
            ),
            &anew.puts,
            &with,
        ),
    ];
    plan.common.publish(&format!(
        "{} clients put values of {VALUE_BYTES} bytes; the goals are at least 0.95 of the rate with tokens, and at most 1.20 of the p99 beside {} log-ins/s:\n\n{}",
        plan.clients,
        plan.logins,
        markdown(&rows)
    ))
}

async fn make_users(root: &Client) -> Outcome<()> {
    for (name, password) in [ROOT, WRITER] {
        let user = pb::AuthUserAddRequest {
            name: name.into(),
            password: password.into(),
            ..Default::default()
        };
        root.user_add(user).await?;
    }
    for role in ["root", "writes"] {
        root.role_add(pb::AuthRoleAddRequest { name: role.into() })
            .await?;
    }
    let permission = Permission {
        perm_type: Type::Readwrite.into(),
        key: "bench/".into(),
        range_end: "bench0".into(),
    };
    let grant = pb::AuthRoleGrantPermissionRequest {
        name: "writes".into(),
        perm: Some(permission),
    };
    root.role_grant_permission(grant).await?;
    for (user, role) in [(ROOT.0, "root"), (WRITER.0, "writes")] {
        let grant = pb::AuthUserGrantRoleRequest {
            user: user.into(),
            role: role.into(),
        };
        root.user_grant_role(grant).await?;
    }
    Ok(())
}

/// Names of users that nobody has logged in as, nor will in another round.
fn newcomers(round: usize) -> Vec<String> {
    let name = |number| format!("newcomer-{round}-{number}");
    (0..NEWCOMERS).map(name).collect()
}

/// Adds users, each with the writer's password under a salt of its own.
async fn add_users(endpoints: &[String], names: &[String]) -> Outcome<()> {
    let mut added = JoinSet::new();
    for (nth, endpoint) in endpoints.iter().enumerate() {
        // A member may not know yet that authentication is off again.
        let client = Client::new([endpoint])?.with_user(ROOT.0, ROOT.1);
        let names: Vec<String> = names[nth..]
            .iter()
            .step_by(endpoints.len())
            .cloned()
            .collect();
        added.spawn(async move {
            for name in names {
                let user = pb::AuthUserAddRequest {
                    name,
                    password: WRITER.1.into(),
                    ..Default::default()
                };
                client.user_add(user).await?;
            }
            Ok::<(), client::ClientError>(())
        });
    }
    while let Some(done) = added.join_next().await {
        done??;
    }
    Ok(())
}

/// What came of puts beside log-ins.
#[derive(Default)]
struct Beside {
    puts: Vec<Figures>,
    /// Log-ins answered a second.
    logins: Vec<f64>,
}

impl Beside {
    fn push(&mut self, (puts, logins): (Figures, f64)) {
        self.puts.push(puts);
        self.logins.push(logins);
    }
}

/// The load, and at the same time so many log-ins a second by these users in turn; gives how many were answered a second.
async fn beside_logins(
    plan: &Plan,
    cluster: &Cluster,
    users: &[String],
    clients: &[Client],
) -> (Figures, f64) {
    let mut asked = JoinSet::new();
    let every = Duration::from_secs(1) / plan.logins.max(1);
    let mut tick = tokio::time::interval(every);
    let doors: Vec<Client> = endpoints(cluster, "http")
        .iter()
        .filter_map(|endpoint| Client::new([endpoint]).ok())
        .collect();
    let load = drive(plan, cluster, clients);
    let mut load = std::pin::pin!(load);
    let (since, mut answered) = (Instant::now(), 0);
    for number in 0.. {
        tokio::select! {
            figures = &mut load => {
                let seconds = since.elapsed().as_secs_f64();
                return (figures, f64::from(answered) / seconds);
            }
            _ = tick.tick() => {
                let door = doors[number % doors.len()].clone();
                let request = pb::AuthenticateRequest {
                    name: users[number / doors.len() % users.len()].clone(),
                    password: WRITER.1.into(),
                };
                asked.spawn(async move { door.authenticate(request).await.is_ok() });
            }
            Some(done) = asked.join_next(), if !asked.is_empty() => {
                answered += u32::from(done.unwrap_or(false));
            }
        }
    }
    unreachable!("the load ends")
}

/// Puts in plain text and in TLS, to two clusters of which one rests.
async fn tls(plan: &Plan, program: &Program) -> Outcome<()> {
    let start = |name: &str, flags: &[&str]| {
        let directory = plan.common.directory().join(name);
        Cluster::start(program, plan.common.members, Path::new(&directory), flags)
    };
    let plain = start("plain", &[])?;
    let secure = start("secure", &["--auto-tls", "--peer-auto-tls"])?;
    plain.ready().await?;
    let trusting = Security {
        insecure_skip_verify: true,
        ..Security::default()
    };
    let open = clients(&endpoints(&plain, "http"), &Security::default(), None)?;
    let hidden = clients(&endpoints(&secure, "https"), &trusting, None)?;
    serves(&hidden[0]).await?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds() {
        without.push(drive(plan, &plain, &open).await);
        with.push(drive(plan, &secure, &hidden).await);
    }
    let rows = vec![
        head(),
        row("plain text", &without, &without),
        row("TLS for clients and members", &with, &without),
    ];
    plan.common.publish(&format!(
        "{} clients put values of {VALUE_BYTES} bytes:\n\n{}",
        plan.clients,
        markdown(&rows)
    ))
}

async fn serves(client: &Client) -> Outcome<()> {
    let since = Instant::now();
    loop {
        let range = pb::RangeRequest {
            key: "bench/".into(),
            ..Default::default()
        };
        match client.range(range).await {
            Ok(_) => return Ok(()),
            Err(error) if since.elapsed() > START_MAX => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

fn endpoints(cluster: &Cluster, scheme: &str) -> Vec<String> {
    let clients = cluster.clients().into_iter();
    clients
        .map(|address| format!("{scheme}://{address}"))
        .collect()
}

/// Clients with a connection each, to one member each in turn.
fn clients(
    endpoints: &[String],
    security: &Security,
    user: Option<(&str, &str)>,
) -> Outcome<Vec<Client>> {
    let one = |nth: usize| {
        let client = Client::secured([&endpoints[nth % endpoints.len()]], security)?;
        Ok(match user {
            Some((name, password)) => client.with_user(name, password),
            None => client,
        })
    };
    (0..CONNECTIONS).map(one).collect()
}

/// What came of a load.
#[derive(Default)]
struct Figures {
    rate: f64,
    p50: f64,
    p99: f64,
    /// Of all members, for each put, in microseconds.
    cpu_us: f64,
    errors: u64,
}

/// Puts with one request of each client in flight.
async fn drive(plan: &Plan, cluster: &Cluster, clients: &[Client]) -> Figures {
    // Tokens are fetched and connections made before anything is measured.
    for client in clients {
        let _ = client.put(put(0)).await;
    }
    let cpu = cluster.cpu();
    let until = Instant::now() + plan.duration();
    let mut running = JoinSet::new();
    for number in 0..plan.clients {
        let client = clients[number % clients.len()].clone();
        running.spawn(async move {
            let (mut micros, mut errors) = (Vec::new(), 0u64);
            let mut random = conformance::random::Random::new(number as u64);
            while Instant::now() < until {
                let since = Instant::now();
                match client.put(put(random.below(KEYS))).await {
                    Ok(_) => micros.push(since.elapsed().as_micros() as f64),
                    Err(_) => errors += 1,
                }
            }
            (micros, errors)
        });
    }
    let (mut all, mut errors) = (Vec::new(), 0);
    while let Some(ended) = running.join_next().await {
        let (micros, failed) = ended.expect("a client does not panic");
        all.extend(micros);
        errors += failed;
    }
    let cpu = cluster.cpu().saturating_sub(cpu);
    all.sort_by(f64::total_cmp);
    let at = |share: f64| {
        all.get((all.len() as f64 * share) as usize)
            .map_or(f64::NAN, |it| it / 1e3)
    };
    Figures {
        rate: all.len() as f64 / plan.duration().as_secs_f64(),
        p50: at(0.5),
        p99: at(0.99),
        cpu_us: cpu.as_micros() as f64 / all.len().max(1) as f64,
        errors,
    }
}

fn put(key: u64) -> pb::PutRequest {
    pb::PutRequest {
        key: format!("bench/{key:08}").into(),
        value: vec![b'x'; VALUE_BYTES].into(),
        ..Default::default()
    }
}

fn head() -> Vec<String> {
    let head = [
        "",
        "puts/s",
        "of the rate before",
        "p50 ms",
        "p99 ms",
        "of the p99 before",
        "CPU µs/put",
        "of the CPU before",
        "errors",
    ];
    head.map(String::from).to_vec()
}

fn row(name: &str, these: &[Figures], measure: &[Figures]) -> Vec<String> {
    let middle = |of: &[Figures], what: fn(&Figures) -> f64| {
        median(&of.iter().map(what).collect::<Vec<_>>())
    };
    let (rate, p99) = (middle(these, |it| it.rate), middle(these, |it| it.p99));
    let cpu = middle(these, |it| it.cpu_us);
    vec![
        name.to_owned(),
        short(rate),
        short(rate / middle(measure, |it| it.rate)),
        short(middle(these, |it| it.p50)),
        short(p99),
        short(p99 / middle(measure, |it| it.p99)),
        short(cpu),
        short(cpu / middle(measure, |it| it.cpu_us)),
        these.iter().map(|it| it.errors).sum::<u64>().to_string(),
    ]
}
