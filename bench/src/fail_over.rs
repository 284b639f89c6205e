//! How long writes stand still after the leader's process is killed.

use conformance::Outcome;
use conformance::connection::{Connection, leader_of};
use conformance::process::Cluster;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Between two attempts at one survivor; the error of the measurement.
const ATTEMPT_EVERY: Duration = Duration::from_millis(5);
/// Longer than any fail-over.
const LIMIT: Duration = Duration::from_secs(20);

/// Kills the leader and gives the time until the first write that began after it was acknowledged; then brings it back.
///
/// # Errors
/// When no write was acknowledged in time, or the member did not come back.
pub async fn once(cluster: &mut Cluster) -> Outcome<Duration> {
    let addresses = cluster.clients();
    let leader = leader_of(&addresses, LIMIT).await?;
    let mut survivors = Vec::new();
    for address in addresses
        .iter()
        .enumerate()
        .filter(|(at, _)| *at != leader)
        .map(|(_, address)| *address)
    {
        let mut connection = Connection::new(address);
        connection.ready(LIMIT).await?;
        survivors.push(connection);
    }
    cluster.kill(leader);
    let since = Instant::now();
    let (done, mut first) = mpsc::channel(1);
    // A fresh attempt every few milliseconds, none waits for another: a request stuck behind the dead leader must not hide the new one.
    let attempts = tokio::spawn(async move {
        loop {
            for survivor in &survivors {
                let (mut survivor, done) = (survivor.clone(), done.clone());
                tokio::spawn(async move {
                    if survivor.put("bench/fail-over", "1").await.is_ok() {
                        // Only the first counts; the channel is full or closed for the others.
                        let _ = done.try_send(since.elapsed());
                    }
                });
            }
            tokio::time::sleep(ATTEMPT_EVERY).await;
        }
    });
    let elapsed = tokio::time::timeout(LIMIT, first.recv()).await;
    attempts.abort();
    cluster.start_member(leader)?;
    Connection::new(addresses[leader]).ready(LIMIT).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    elapsed.ok().flatten().ok_or_else(|| {
        format!("no write was acknowledged within {LIMIT:?} of the leader's death").into()
    })
}
