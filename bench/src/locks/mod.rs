//! Locks side by side: cycles of acquire and release on locks of one's own, hand-offs of one lock between many, sessions opened and closed. Ours by the
//! native API and by etcd's lock service, etcd's by its lock service; the load is the same closed loop. Locks of Redis and ZooKeeper as their clients
//! for Python have them, for whoever installed those.

mod load;
mod peers;
mod sessions;

use crate::Common;
use crate::table::{markdown, median, short, times};
use clap::Args;
use conformance::Outcome;
use conformance::connection::Connection;
use conformance::process::{Cluster, Product, Program};
use std::collections::BTreeMap;
use std::time::Duration;

/// What to measure.
#[derive(Args, Clone, Debug)]
pub struct Plan {
    #[command(flatten)]
    common: Common,
    /// Numbers of clients with a lock of their own each, and of clients that open and close sessions; 0 leaves these loads out
    #[arg(long, value_delimiter = ',', default_value = "1,16,64")]
    clients: Vec<usize>,
    /// Clients that want the same lock; 0 leaves that out
    #[arg(long, default_value_t = 64)]
    contenders: usize,
    /// Seconds of each load
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Times that each program has its turn; the median is reported
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Also measure what is installed of Redis and ZooKeeper (see bench/locks_peers.py)
    #[arg(long)]
    peers: bool,
    /// Sessions to keep alive; 0 leaves that out
    #[arg(long, default_value_t = 100_000)]
    sessions: usize,
    /// Seconds between renewals of each of them, a third of their time to live
    #[arg(long, default_value_t = 20)]
    renewal: u64,
    /// Seconds for which they are kept alive once all are open
    #[arg(long, default_value_t = 60)]
    keep: u64,
}

/// By which interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interface {
    Native,
    LockService,
}

/// A program spoken to by one of its interfaces.
#[derive(Clone)]
struct Contestant {
    program: Program,
    interface: Interface,
}

impl Contestant {
    fn label(&self) -> String {
        match self.interface {
            Interface::Native => format!("{}, native", self.program.label()),
            Interface::LockService => format!("{}, lock service", self.program.label()),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    /// One change, to hold the others against.
    Puts,
    /// Each client a lock of its own.
    Cycles,
    /// All the same one.
    HandOffs,
    /// A session, something held by it, its end.
    Sessions,
}

impl Work {
    fn label(self) -> &'static str {
        match self {
            Work::Puts => "put, to compare",
            Work::Cycles => "acquire and release",
            Work::HandOffs => "hand-offs of one lock",
            Work::Sessions => "open, hold, close",
        }
    }
}

/// One load in one round.
#[derive(Clone, Copy)]
struct Measured {
    rate: f64,
    cpu_us: f64,
}

/// What was measured of whom, per work and number of clients.
type Cells = BTreeMap<(Work, usize), BTreeMap<String, Vec<Measured>>>;

/// Runs a plan and prints its tables.
///
/// # Errors
/// When a program cannot be run, or does not answer.
pub async fn run(plan: &Plan) -> Outcome<()> {
    let mut contestants = Vec::new();
    for program in plan.common.programs()? {
        let interfaces: &[Interface] = match program.product {
            Product::Etcd => &[Interface::LockService],
            Product::Synod => &[Interface::LockService, Interface::Native],
        };
        contestants.extend(interfaces.iter().map(|interface| Contestant {
            program: program.clone(),
            interface: *interface,
        }));
    }
    if !plan.loads().is_empty() {
        compare(plan, &contestants).await?;
    }
    if plan.sessions > 0 {
        sessions::compare(plan, &contestants).await?;
    }
    Ok(())
}

impl Plan {
    fn loads(&self) -> Vec<(Work, usize)> {
        let all = |work| self.clients.iter().map(move |clients| (work, *clients));
        let loads: Vec<(Work, usize)> = all(Work::Cycles)
            .chain([(Work::HandOffs, self.contenders)])
            .chain(all(Work::Sessions))
            .filter(|(_, clients)| *clients > 0)
            .collect();
        let puts = loads.first().map(|_| (Work::Puts, 1));
        puts.into_iter().chain(loads).collect()
    }
}

async fn compare(plan: &Plan, contestants: &[Contestant]) -> Outcome<()> {
    let mut cells = Cells::new();
    let mut labels: Vec<String> = contestants.iter().map(Contestant::label).collect();
    for round in 1..=plan.rounds {
        for contestant in contestants {
            let label = contestant.label();
            eprintln!("round {round} of {}, {label}", plan.rounds);
            let cluster = started(plan, &contestant.program).await?;
            for (work, clients) in plan.loads() {
                let duration = Duration::from_secs(plan.seconds);
                let measured =
                    load::drive(&cluster, contestant.interface, work, clients, duration).await?;
                note(&mut cells, (work, clients), &label, measured);
            }
            drop(cluster);
            std::fs::remove_dir_all(plan.common.directory()).ok();
        }
        if plan.peers {
            eprintln!("round {round} of {}, peers", plan.rounds);
            for (label, load, measured) in peers::measure(plan).await? {
                note(&mut cells, load, &label, measured);
                if !labels.contains(&label) {
                    labels.push(label);
                }
            }
        }
    }
    plan.common.publish(&rates(plan, &labels, &cells))
}

fn note(cells: &mut Cells, load: (Work, usize), label: &str, measured: Measured) {
    eprintln!(
        "  {:22} {:4} clients: {:8.0}/s, {:7.1} us CPU, {label}",
        load.0.label(),
        load.1,
        measured.rate,
        measured.cpu_us
    );
    let of_load = cells.entry(load).or_default();
    of_load.entry(label.into()).or_default().push(measured);
}

async fn started(plan: &Plan, program: &Program) -> Outcome<Cluster> {
    let cluster = Cluster::start(program, plan.common.members, &plan.common.directory(), &[])?;
    for address in cluster.clients() {
        Connection::new(address)
            .ready(Duration::from_secs(30))
            .await?;
    }
    Ok(cluster)
}

fn rates(plan: &Plan, labels: &[String], cells: &Cells) -> String {
    let head = [
        "work",
        "clients",
        "lock",
        "per s",
        "server CPU us",
        "rate",
        "CPU",
    ];
    let mut rows = vec![head.map(String::from).to_vec()];
    for (work, clients) in plan.loads() {
        let mut first = None;
        for label in labels {
            let Some(runs) = cells[&(work, clients)].get(label) else {
                continue;
            };
            let rate = median(&runs.iter().map(|run| run.rate).collect::<Vec<_>>());
            let cpu = median(&runs.iter().map(|run| run.cpu_us).collect::<Vec<_>>());
            let (first_rate, first_cpu) = *first.get_or_insert((rate, cpu));
            rows.push(vec![
                work.label().to_string(),
                clients.to_string(),
                label.clone(),
                short(rate),
                short(cpu),
                times(rate, first_rate),
                times(cpu, first_cpu),
            ]);
        }
    }
    format!(
        "Locks and sessions, {} members, {} rounds of {} s, medians; the last columns are against the first of each group:\n\n{}",
        plan.common.members,
        plan.rounds,
        plan.seconds,
        markdown(&rows)
    )
}
