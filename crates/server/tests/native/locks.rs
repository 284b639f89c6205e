//! Locks, while members die and stop.

use crate::cluster::{Cluster, PATIENCE, open};
use proto::synod::v1;
use proto::synod::v1::lock_client::LockClient;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;
use tonic::transport::Channel;

type Acquired = Result<u64, Status>;

fn acquire(channel: Channel, session: i64) -> JoinHandle<Acquired> {
    tokio::spawn(async move {
        let request = v1::AcquireRequest {
            name: "nightly".into(),
            session,
            id: 1,
            ..Default::default()
        };
        let granted = LockClient::new(channel).acquire(request).await?;
        Ok(granted.into_inner().token)
    })
}

async fn ended(call: JoinHandle<Acquired>) -> Acquired {
    let ended = timeout(PATIENCE, call).await.expect("it never ends");
    ended.expect("it does not panic")
}

/// The sessions that wait, in their order.
async fn waiters(channel: &Channel) -> Vec<i64> {
    let request = v1::ShowLockRequest {
        name: "nightly".into(),
        ..Default::default()
    };
    let shown = LockClient::new(channel.clone()).show(request).await;
    let acquisitions = shown.map(|shown| shown.into_inner().acquisitions);
    let waiting = acquisitions.unwrap_or_default().into_iter();
    waiting
        .filter(|one| one.token == 0)
        .map(|one| one.session)
        .collect()
}

async fn until_waiting(channel: &Channel, sessions: &[i64]) {
    let since = Instant::now();
    while waiters(channel).await != sessions {
        assert!(since.elapsed() < PATIENCE, "they never wait: {sessions:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn release(channel: &Channel, session: i64) {
    let request = v1::ReleaseRequest {
        change: None,
        session,
        id: 1,
    };
    let since = Instant::now();
    while let Err(status) = LockClient::new(channel.clone())
        .release(request.clone())
        .await
    {
        let reason = status.metadata().get("synod-reason").cloned();
        // The one before was applied, although nobody could say so.
        if reason.is_some_and(|reason| reason == "not-held") {
            return;
        }
        assert!(since.elapsed() < PATIENCE, "{status}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn waiter_is_told_of_its_grant_although_the_leader_died() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let (one, two) = ((leader + 1) % 3, (leader + 2) % 3);
    let (one, two) = (cluster.channel(one), cluster.channel(two));
    let (first, second) = (open(&one).await, open(&two).await);
    let token = ended(acquire(one.clone(), first))
        .await
        .expect("it is free");
    let waiting = acquire(two.clone(), second);
    until_waiting(&one, &[second]).await;
    cluster.members[leader].take().expect("it runs").kill();
    release(&one, first).await;
    let next = ended(waiting).await.expect("its turn came");
    assert!(next > token, "{next} after {token}");
}

#[tokio::test]
async fn waiter_of_a_member_that_stops_keeps_its_place() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let stopping = (leader + 1) % 3;
    let (one, other) = (cluster.channel(leader), cluster.channel(stopping));
    let sessions = [open(&one).await, open(&one).await, open(&one).await];
    let [holder, early, late] = sessions;
    ended(acquire(one.clone(), holder))
        .await
        .expect("it is free");
    let first = acquire(other, early);
    until_waiting(&one, &[early]).await;
    let second = acquire(one.clone(), late);
    until_waiting(&one, &[early, late]).await;
    cluster.members[stopping]
        .as_mut()
        .expect("it runs")
        .stop(false);
    let told = ended(first).await.expect_err("its member stops");
    let class = told.metadata().get("synod-class").cloned();
    assert!(class.is_none_or(|class| class == "unknown"), "{told}");
    // Asked again elsewhere, it is still the first.
    let again = acquire(one.clone(), early);
    until_waiting(&one, &[early, late]).await;
    release(&one, holder).await;
    ended(again).await.expect("its turn came");
    until_waiting(&one, &[late]).await;
    release(&one, early).await;
    ended(second).await.expect("its turn came");
}
