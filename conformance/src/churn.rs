//! Members die with SIGKILL, one after another or all at once, while clients go on; nothing acknowledged may be lost, and no read may go back.

use crate::Outcome;
use crate::connection::{Connection, leader_of};
use crate::etcdctl::Etcdctl;
use crate::ledger::Sum;
use crate::process::{Cluster, Program};
use crate::random::Random;
use crate::report::Report;
use crate::workload::Workload;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Longer than any member waits for a silent leader.
const SILENCE: Duration = Duration::from_millis(2500);

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The binary, Synod's or etcd's.
    pub program: PathBuf,
    /// Members.
    pub members: usize,
    /// Writers, and as many readers; with none only the command runs, which may then empty the keys.
    pub writers: usize,
    /// How long to go on.
    pub duration: Duration,
    /// The seed of who dies when.
    pub seed: u64,
    /// Kill all members at once instead of one.
    pub power: bool,
    /// Members that are never killed, counted from the first: for commands that know one address only.
    pub spared: usize,
    /// A command to run meanwhile; the churn ends with it.
    pub command: Option<String>,
    /// Where the members live.
    pub directory: PathBuf,
}

/// Runs it. True when nothing was lost.
///
/// # Errors
/// When members cannot be started, or do not come back.
pub async fn run(plan: &Plan) -> Outcome<bool> {
    let program = Program::at(&plan.program)?;
    let mut cluster = Cluster::start(&program, plan.members, &plan.directory, &[])?;
    let addresses = cluster.clients();
    cluster.ready().await?;
    println!("{}", cluster.label());
    let etcdctl = Etcdctl::find(&cluster.endpoints());
    if etcdctl.is_none() {
        println!("skipped: etcdctl as a writer; it is not installed (Debian: etcd-client)");
    }
    let workload = match plan.writers {
        0 => None,
        writers => Some(Workload::start(&addresses, writers, plan.seed, etcdctl).await?),
    };
    let mut command = plan
        .command
        .as_ref()
        .map(|command| start(command, &cluster))
        .transpose()?;
    let mut random = Random::new(plan.seed);
    let mut deaths = Deaths::default();
    let since = Instant::now();
    let ended = loop {
        match &mut command {
            Some(command) => {
                if let Some(status) = command.try_wait()? {
                    break Some(status);
                }
            }
            None if since.elapsed() > plan.duration => break None,
            None => {}
        }
        if plan.power {
            lose_power(&mut cluster, &mut random, &mut deaths).await?;
        } else {
            lose_one(&mut cluster, plan.spared, &mut random, &mut deaths).await?;
        }
    };
    let mut report = Report::default();
    report.note(format!(
        "{} followers, {} leaders and {} whole clusters died",
        deaths.followers, deaths.leaders, deaths.clusters
    ));
    report.check(
        "members died meanwhile",
        deaths.followers + deaths.leaders + deaths.clusters > 0,
        "yes",
    );
    if let Some(workload) = workload {
        judge(&mut report, &workload.settle().await?.sum());
    }
    for at in 0..plan.members {
        report.check(
            "every member runs at the end",
            cluster.runs(at),
            &cluster.members()[at].name,
        );
    }
    if let Some(status) = ended {
        report.check("the command ended well", status.success(), status);
    }
    Ok(report.finish())
}

/// Whether the clients of this test saw what they may see.
fn judge(report: &mut Report, sum: &Sum) {
    report.note(format!("{} writes acknowledged, {} of unknown outcome, {} reads; longest time without an acknowledged write {:?}", sum.acknowledged, sum.unknown, sum.reads, sum.longest_gap));
    report.check("clients wrote meanwhile", sum.acknowledged > 0, "yes");
    let name = "nothing lost, nothing back, nothing twice";
    for breach in &sum.breaches {
        report.check(name, false, breach);
    }
    if sum.breaches.is_empty() {
        report.check(name, true, "ledger, watch, counter, lease and hashes agree");
    }
}

#[derive(Default)]
struct Deaths {
    followers: u64,
    leaders: u64,
    clusters: u64,
}

/// A follower and the leader in turn.
async fn lose_one(
    cluster: &mut Cluster,
    spared: usize,
    random: &mut Random,
    deaths: &mut Deaths,
) -> Outcome<()> {
    tokio::time::sleep(Duration::from_millis(500 + random.below(1000))).await;
    let leader = leader_of(&cluster.clients(), Duration::from_secs(20)).await?;
    let wants_leader = deaths.leaders < deaths.followers;
    if wants_leader && leader < spared {
        // It is not to die, but it must not lead for ever either: after this silence somebody else does.
        cluster.pause(leader, true)?;
        tokio::time::sleep(SILENCE).await;
        cluster.pause(leader, false)?;
        return Ok(());
    }
    let candidates: Vec<usize> = (spared..cluster.members().len())
        .filter(|at| (*at == leader) == wants_leader)
        .collect();
    let victim = match candidates.as_slice() {
        // The leader is spared: somebody else dies instead.
        [] => (spared..cluster.members().len())
            .next()
            .ok_or("every member is spared")?,
        some => *random.pick(some),
    };
    cluster.kill(victim);
    if victim == leader {
        deaths.leaders += 1
    } else {
        deaths.followers += 1
    }
    tokio::time::sleep(Duration::from_millis(random.below(2000))).await;
    cluster.start_member(victim)?;
    ready(cluster, victim).await
}

/// All at once, and all back, in random order.
async fn lose_power(
    cluster: &mut Cluster,
    random: &mut Random,
    deaths: &mut Deaths,
) -> Outcome<()> {
    tokio::time::sleep(Duration::from_millis(1000 + random.below(2000))).await;
    cluster.kill_all();
    deaths.clusters += 1;
    let count = cluster.members().len();
    let first = random.below(count as u64) as usize;
    for at in 0..count {
        cluster.start_member((first + at) % count)?;
        tokio::time::sleep(Duration::from_millis(random.below(200))).await;
    }
    for at in 0..count {
        ready(cluster, at).await?;
    }
    Ok(())
}

async fn ready(cluster: &Cluster, at: usize) -> Outcome<()> {
    let member = &cluster.members()[at];
    let result = Connection::new(member.client)
        .ready(Duration::from_secs(60))
        .await;
    result.map_err(|error| {
        format!(
            "{} did not come back: {error}\n{}",
            member.name,
            cluster.log_tail(at, 30)
        )
        .into()
    })
}

fn start(command: &str, cluster: &Cluster) -> Outcome<tokio::process::Child> {
    let mut shell = tokio::process::Command::new("sh");
    shell
        .args(["-c", command])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    shell
        .env("ETCD_ENDPOINT", cluster.clients()[0].to_string())
        .env("ENDPOINTS", cluster.endpoints());
    Ok(shell.spawn()?)
}
