//! Leases: keep-alives and remaining time.

use super::*;

#[tokio::test]
async fn keep_alives_are_answered_in_order_and_the_stream_ends_well() {
    let port = start().await;
    let mut lease = LeaseClient::new(port.channel().await);
    let id = lease
        .lease_grant(LeaseGrantRequest { ttl: 60, id: 0 })
        .await
        .unwrap()
        .into_inner()
        .id;
    assert!(id > 0);
    let requests = (0..600).map(move |n| LeaseKeepAliveRequest {
        id: if n % 2 == 0 { id } else { n },
    });
    let mut answers = lease
        .lease_keep_alive(futures_util::stream::iter(requests))
        .await
        .unwrap()
        .into_inner();
    for n in 0..600 {
        let answer = answers
            .message()
            .await
            .unwrap()
            .expect("each request is answered");
        assert_eq!(
            (answer.id, answer.ttl),
            if n % 2 == 0 { (id, 60) } else { (n, 0) }
        );
    }
    assert_eq!(answers.message().await.unwrap(), None);
}

#[tokio::test]
async fn remaining_time_elapses_while_nothing_else_happens() {
    let port = start().await;
    let mut lease = LeaseClient::new(port.channel().await);
    let grant = LeaseGrantRequest { ttl: 5, id: 5 };
    lease.lease_grant(grant).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2000)).await;
    let ask = LeaseTimeToLiveRequest { id: 5, keys: false };
    let answer = lease.lease_time_to_live(ask).await.unwrap().into_inner();
    assert_eq!(answer.granted_ttl, 5);
    assert!((2..=3).contains(&answer.ttl), "{}", answer.ttl);
}
