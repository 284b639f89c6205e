//! Disks without space, and files with flipped bits.

use super::bits::{self, Target};
use super::field::{Field, said};
use crate::connection::Connection;
use crate::faults::system::run;
use crate::{Outcome, http};
use proto::etcdserverpb as pb;
use std::time::{Duration, Instant};

/// How long a disk stays full.
const FULL_MILLIS: u64 = 6_000;
/// What is put while a disk is full.
const BULK_PUTS: usize = 20;
const BULK_BYTES: usize = 256 << 10;
/// How soon a full cluster must say so, and a cluster with one full disk must serve.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long a member with damaged files may take until it serves or says why not.
const REPAIR_LIMIT: Duration = Duration::from_secs(20);

/// The leader's disk, a follower's, then all of them.
///
/// # Errors
/// When the disks cannot be filled, or nobody leads any more.
pub async fn full(field: &mut Field) -> Outcome<()> {
    let kind = field.disks[0].kind();
    field.report.note(format!("each member on {kind}"));
    for round in 0.. {
        if !field.goes_on(round, 3) {
            break;
        }
        let full: Vec<usize> = match round % 3 {
            2 => (0..field.count()).collect(),
            round => vec![field.pick(round == 0).await?],
        };
        let names: Vec<String> = full.iter().map(|at| field.name(*at)).collect();
        for at in &full {
            tokio::task::block_in_place(|| field.disks[*at].fill())?;
        }
        field
            .note(format!("no space on the disk of {}", names.join(", ")))
            .await?;
        // More than the space that is kept in reserve, so that the log itself finds none.
        for _ in 0..BULK_PUTS {
            let other = (full[0] + 1) % field.count();
            let _ = field.put_bytes_aside(other, BULK_BYTES).await;
        }
        field.sleep(FULL_MILLIS).await;
        if full.len() < field.count() {
            let other = (0..field.count())
                .find(|at| !full.contains(at))
                .expect("one has space");
            let put = until(field, other, |answer: &Result<_, tonic::Status>| {
                answer.is_ok()
            })
            .await;
            field.report.check(
                "R3: one full disk does not stop the others",
                put.is_ok(),
                said(&put),
            );
            for at in &full {
                let (name, failures) = (field.name(*at), log_failures(field, *at).await?);
                field
                    .report
                    .note(format!("{name} could not write its log {failures} times"));
            }
        } else {
            all_full(field).await;
        }
        for disk in &field.disks {
            disk.release()?;
        }
        field.healed().await?;
    }
    Ok(())
}

/// How often a member could not write its log, by its metrics.
async fn log_failures(field: &Field, at: usize) -> Outcome<String> {
    let client = field.cluster.members()[at].client;
    let (_, metrics) = http::request(client, "/metrics", None).await?;
    let failures = |line: &str| {
        line.strip_prefix("synod_log_failures_total ")
            .map(String::from)
    };
    let found = metrics.lines().find_map(failures);
    Ok(found.ok_or("no synod_log_failures_total in /metrics")?)
}

/// Growing writes are refused with a reason, and deletes pass.
async fn all_full(field: &mut Field) {
    let refused = |answer: &Result<_, tonic::Status>| {
        answer
            .as_ref()
            .is_err_and(|status| status.code() == tonic::Code::ResourceExhausted)
    };
    let put = until(field, 0, refused).await;
    field.report.check(
        "R3: without space anywhere a write is refused with a reason",
        refused(&put),
        said(&put),
    );
    let mut connection = Connection::new(field.cluster.clients()[0]);
    let delete = pb::DeleteRangeRequest {
        key: "absent".into(),
        ..Default::default()
    };
    let deleted = tokio::time::timeout(ANSWER_LIMIT, connection.kv.delete_range(delete)).await;
    let detail = match &deleted {
        Ok(Ok(_)) => "yes".to_string(),
        Ok(Err(status)) => status.to_string(),
        Err(_) => format!("no answer within {ANSWER_LIMIT:?}"),
    };
    field
        .report
        .check("R3: deletes pass", matches!(deleted, Ok(Ok(_))), detail);
}

/// Tries to put until the answer is the one wanted, or time is up; gives the last answer.
async fn until(
    field: &Field,
    at: usize,
    wanted: impl Fn(&Result<i64, tonic::Status>) -> bool,
) -> Result<i64, tonic::Status> {
    let since = Instant::now();
    loop {
        let answer = field.put_aside(at).await;
        if wanted(&answer) || since.elapsed() > ANSWER_LIMIT {
            return answer;
        }
        field.sleep(100).await;
    }
}

/// Bits flip in files of a member that is down: it must serve again with equal state, or refuse with a reason.
///
/// # Errors
/// When a member does not come back with its old files.
pub async fn bitflip(field: &mut Field) -> Outcome<()> {
    for round in 0.. {
        if !field.goes_on(round, 4) {
            break;
        }
        let target = [Target::Log, Target::Snapshot, Target::Log, Target::Identity][round % 4];
        let victim = field.pick(round % 2 == 0).await?;
        let (name, data) = (
            field.name(victim),
            field.cluster.members()[victim].data.clone(),
        );
        field.cluster.kill(victim);
        let aside = data.with_extension("whole");
        run(&format!("rm -rf {}", aside.display()))?;
        run(&format!("cp -a {} {}", data.display(), aside.display()))?;
        let place = bits::flip(&data, target, &mut field.random)?;
        field
            .note(format!("{name} killed, bits flipped in {place}"))
            .await?;
        let log_before = field.cluster.log_tail(victim, usize::MAX).len();
        field.cluster.start_member(victim)?;
        let serves = serves_or_ends(field, victim).await;
        let log = field.cluster.log_tail(victim, usize::MAX);
        let reason = reason(log.get(log_before..).unwrap_or_default());
        // A member that cannot know who it is must not guess; everything else it gets back from the others.
        let held = serves || target == Target::Identity && reason.is_some();
        let what = format!("R1: {name} repairs itself, or cannot know who it is and says so");
        let how = if serves { "serves" } else { "does not serve" };
        let reason = reason.unwrap_or_else(|| "says nothing of damage".into());
        field.report.check(&what, held, format!("{how}; {reason}"));
        if !serves {
            field.cluster.kill(victim);
            run(&format!("rm -rf {}", data.display()))?;
            run(&format!("cp -a {} {}", aside.display(), data.display()))?;
            field.note(format!("{name} gets its files back")).await?;
            field.cluster.start_member(victim)?;
            field.listens(victim).await?;
        }
        field.healed().await?;
    }
    Ok(())
}

/// True as soon as the member serves, false as soon as it has ended or time is up.
async fn serves_or_ends(field: &mut Field, at: usize) -> bool {
    let since = Instant::now();
    let mut connection = Connection::new(field.cluster.members()[at].client);
    while since.elapsed() < REPAIR_LIMIT && field.cluster.runs(at) {
        if connection.ready(Duration::from_millis(200)).await.is_ok() {
            return true;
        }
    }
    false
}

/// The first line of a log that names damage.
fn reason(log: &str) -> Option<String> {
    let named = |line: &&str| {
        [
            "damage",
            "corrupt",
            "checksum",
            "quarantine",
            "does not match",
        ]
        .iter()
        .any(|word| line.contains(word))
    };
    log.lines().find(named).map(|line| line.trim().to_string())
}
