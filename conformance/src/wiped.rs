//! A member that lost its disk and is started with its old flags must never form a cluster, nor elect, nor make the others forget.

use crate::connection::Connection;
use crate::process::{Cluster, Program};
use crate::report::Report;
use crate::{Outcome, load};
use proto::etcdserverpb as pb;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// How long a wiped member gets to do harm.
const PATIENCE: Duration = Duration::from_secs(6);

/// Runs all three cases. True when all held.
///
/// # Errors
/// When the members cannot even be started.
pub async fn run(program: &Path, directory: &Path) -> Outcome<bool> {
    let program = Program::at(program)?;
    let mut report = Report::default();
    one_of_three(&mut report, &program, directory).await?;
    two_of_three(&mut report, &program, directory).await?;
    two_without_the_third(&mut report, &program, directory).await?;
    Ok(report.finish())
}

async fn filled(program: &Program, directory: &Path) -> Outcome<(Cluster, u64)> {
    let cluster = Cluster::start(program, 3, directory, &[])?;
    cluster.ready().await?;
    load::fill(&cluster.clients(), "wiped/", 2_000, 100).await?;
    let id = cluster_id(cluster.clients()[0])
        .await
        .ok_or("no cluster id")?;
    Ok((cluster, id))
}

async fn one_of_three(report: &mut Report, program: &Program, directory: &Path) -> Outcome<()> {
    report.note("one of three loses its disk");
    let (mut cluster, id) = filled(program, directory).await?;
    cluster.kill(2);
    cluster.wipe(2)?;
    cluster.start_member(2)?;
    let survivors = &cluster.clients()[..2];
    let wiped = cluster.clients()[2];
    tokio::time::sleep(PATIENCE).await;
    for address in survivors {
        let mut connection = Connection::new(*address);
        let put = timely(connection.put("wiped/after", "1")).await;
        report.check(
            "the others take writes",
            put.is_some(),
            format!("{address}: {put:?}"),
        );
        let count = count(*address, false).await;
        report.check(
            "the others have everything",
            count.is_some_and(|count| count >= 2_000),
            format!("{address}: {count:?}"),
        );
        report.check(
            "the cluster is the same",
            cluster_id(*address).await == Some(id),
            format!("{address}: {id:x}"),
        );
    }
    not_infected(report, wiped, id).await;
    Ok(())
}

async fn two_of_three(report: &mut Report, program: &Program, directory: &Path) -> Outcome<()> {
    report.note("two of three lose their disks");
    let (mut cluster, id) = filled(program, directory).await?;
    for at in [1, 2] {
        cluster.kill(at);
        cluster.wipe(at)?;
    }
    for at in [1, 2] {
        cluster.start_member(at)?;
    }
    tokio::time::sleep(PATIENCE).await;
    nothing_elects(report, &cluster.clients(), id).await;
    let count = count(cluster.clients()[0], true).await;
    report.check(
        "the one with a disk still shows its keys locally",
        count.is_some_and(|count| count >= 2_000),
        format!("{count:?}"),
    );
    Ok(())
}

async fn two_without_the_third(
    report: &mut Report,
    program: &Program,
    directory: &Path,
) -> Outcome<()> {
    report.note("two of three lose their disks while the third is down");
    let (mut cluster, id) = filled(program, directory).await?;
    for at in 0..3 {
        cluster.kill(at);
    }
    for at in [1, 2] {
        cluster.wipe(at)?;
        cluster.start_member(at)?;
    }
    tokio::time::sleep(PATIENCE).await;
    nothing_elects(report, &cluster.clients()[1..], id).await;
    report.note("the third comes back");
    cluster.start_member(0)?;
    tokio::time::sleep(PATIENCE).await;
    nothing_elects(report, &cluster.clients(), id).await;
    report.note("the two disks are found again");
    cluster.kill_all();
    for at in [1, 2] {
        cluster.restore(at)?;
    }
    for (at, address) in cluster.clients().into_iter().enumerate() {
        cluster.start_member(at)?;
        if at == 2 {
            report.step(
                "a majority serves again",
                Connection::new(address)
                    .ready(Duration::from_secs(30))
                    .await,
            );
        }
    }
    for address in cluster.clients() {
        report.step(
            "a member serves again",
            Connection::new(address)
                .ready(Duration::from_secs(30))
                .await,
        );
        let count = count(address, false).await;
        report.check(
            "everything is there",
            count.is_some_and(|count| count >= 2_000),
            format!("{address}: {count:?}"),
        );
        report.check(
            "the cluster is the same",
            cluster_id(address).await == Some(id),
            format!("{address}: {id:x}"),
        );
    }
    Ok(())
}

/// A wiped member may be silent, refuse, or have been taken back with everything; it may not answer from an empty store.
async fn not_infected(report: &mut Report, wiped: SocketAddr, id: u64) {
    let its_id = cluster_id(wiped).await;
    report.check(
        "the wiped one knows no other cluster",
        its_id.is_none_or(|its_id| its_id == id || its_id == 0),
        format!("{its_id:x?}, the cluster is {id:x}"),
    );
    let count = count(wiped, true).await;
    report.check(
        "the wiped one shows nothing or everything",
        count.is_none_or(|count| count >= 2_000),
        format!("{count:?}"),
    );
}

async fn nothing_elects(report: &mut Report, addresses: &[SocketAddr], id: u64) {
    for address in addresses {
        let mut connection = Connection::new(*address);
        let put = timely(connection.put("wiped/never", "1")).await;
        report.check(
            "no write is acknowledged",
            put.is_none(),
            format!("{address}: {put:?}"),
        );
        let leader = timely(connection.status())
            .await
            .map_or(0, |status| status.leader);
        report.check(
            "no leader is known",
            leader == 0,
            format!("{address}: {leader:x}"),
        );
        let its_id = cluster_id(*address).await;
        report.check(
            "no other cluster is formed",
            its_id.is_none_or(|its_id| its_id == id || its_id == 0),
            format!("{address}: {its_id:x?}, the cluster was {id:x}"),
        );
    }
}

/// The cluster a member says it belongs to.
async fn cluster_id(address: SocketAddr) -> Option<u64> {
    let mut connection = Connection::new(address);
    // A local read: MemberList is linearizable by default.
    let local = pb::RangeRequest {
        key: "x".into(),
        serializable: true,
        ..Default::default()
    };
    timely(connection.kv.range(local))
        .await
        .and_then(|response| response.into_inner().header)
        .map(|header| header.cluster_id)
}

async fn count(address: SocketAddr, serializable: bool) -> Option<i64> {
    let mut connection = Connection::new(address);
    let request = pb::RangeRequest {
        key: "wiped/".into(),
        range_end: "wiped0".into(),
        count_only: true,
        serializable,
        ..Default::default()
    };
    timely(connection.kv.range(request))
        .await
        .map(|response| response.into_inner().count)
}

async fn timely<T>(call: impl Future<Output = Result<T, tonic::Status>>) -> Option<T> {
    tokio::time::timeout(Duration::from_secs(2), call)
        .await
        .ok()?
        .ok()
}
