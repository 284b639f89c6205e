//! What each level of a read promises: the rows of docs/operate/levels.md. Writes and reads go to different members, so that whoever is told too little
//! reads too early.

use crate::cluster::{Cluster, PATIENCE};
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{Compare, PutRequest, RequestOp};
use proto::synod::v1;
use proto::synod::v1::kv_client::KvClient;
use std::time::Instant;
use tokio::sync::mpsc;
use tonic::transport::Channel;

/// Enough that a read which is let in too early is caught.
const ROUNDS: u64 = 200;

/// A key's value and the stamp of the answer.
struct Seen {
    value: u64,
    stamp: String,
}

async fn put(channel: &Channel, key: &'static str, value: u64) -> String {
    let request = v1::PutRequest {
        key: key.into(),
        value: value.to_string().into(),
        ..Default::default()
    };
    let answer = KvClient::new(channel.clone()).put(request).await;
    answer
        .expect("a put")
        .into_inner()
        .header
        .expect("a header")
        .stamp
}

async fn get(channel: &Channel, key: &'static str, level: v1::Level, stamp: &str) -> Seen {
    let request = v1::GetRequest {
        consistency: Some(v1::Consistency {
            level: level.into(),
            stamp: stamp.into(),
            age_ms: 60_000,
        }),
        key: key.into(),
        revision: 0,
    };
    let answer = KvClient::new(channel.clone()).get(request).await;
    let answer = answer.expect("a read").into_inner();
    let text = answer.kv.map_or_else(Vec::new, |kv| kv.value.to_vec());
    Seen {
        value: String::from_utf8_lossy(&text).parse().unwrap_or(0),
        stamp: answer.header.expect("a header").stamp,
    }
}

async fn channels() -> (Cluster, [Channel; 3]) {
    let cluster = Cluster::start().await;
    cluster.leader().await;
    let channels = [0, 1, 2].map(|at| cluster.channel(at));
    (cluster, channels)
}

/// The member asked in a round, and the one after it.
fn two(channels: &[Channel; 3], round: u64) -> (&Channel, &Channel) {
    let at = (round % 3) as usize;
    (&channels[at], &channels[(at + 1) % 3])
}

#[tokio::test]
async fn linearizable_read_sees_all_that_was_answered_before() {
    let (_cluster, channels) = channels().await;
    for round in 1..=ROUNDS {
        let (one, other) = two(&channels, round);
        put(one, "k", round).await;
        let seen = get(other, "k", v1::Level::Linearizable, "").await;
        assert_eq!(seen.value, round);
    }
}

#[tokio::test]
async fn own_stamp_gives_read_your_writes_and_monotonic_reads() {
    let (_cluster, channels) = channels().await;
    for round in 1..=ROUNDS {
        let (one, other) = two(&channels, round);
        let written = put(one, "k", round).await;
        let mine = get(other, "k", v1::Level::AtLeast, &written).await;
        assert_eq!(mine.value, round, "its own write is missing");
        // What one member showed, the next one shows too.
        let later = get(one, "k", v1::Level::AtLeast, &mine.stamp).await;
        assert!(
            later.value >= mine.value,
            "{} after {}",
            later.value,
            mine.value
        );
    }
}

/// The image and the queue: the image goes into the store, its name through another channel, with the stamp.
#[tokio::test]
async fn stamp_through_another_channel_is_causal() {
    let (_cluster, channels) = channels().await;
    let (queue, mut jobs) = mpsc::channel::<(u64, String)>(1);
    let writer = channels[0].clone();
    let writing = tokio::spawn(async move {
        for image in 1..=ROUNDS {
            let stamp = put(&writer, "image", image).await;
            queue
                .send((image, stamp))
                .await
                .expect("the other side is there");
        }
    });
    while let Some((image, stamp)) = jobs.recv().await {
        let seen = get(&channels[2], "image", v1::Level::AtLeast, &stamp).await;
        assert!(seen.value >= image, "{} instead of {image}", seen.value);
    }
    writing.await.expect("it writes");
}

#[tokio::test]
async fn all_clients_with_stamps_see_writes_in_one_order() {
    let (_cluster, channels) = channels().await;
    let writer = channels[0].clone();
    let writing = tokio::spawn(async move {
        for round in 1..=ROUNDS {
            put(&writer, "a", round).await;
            put(&writer, "b", round).await;
        }
    });
    let mut stamp = put(&channels[1], "c", 0).await;
    while !writing.is_finished() {
        // b is written after a: whoever has seen it sees that a as well, at whichever member.
        let b = get(&channels[1], "b", v1::Level::AtLeast, &stamp).await;
        let a = get(&channels[2], "a", v1::Level::AtLeast, &b.stamp).await;
        assert!(a.value >= b.value, "a is {}, b was {}", a.value, b.value);
        stamp = a.stamp;
    }
    writing.await.expect("it writes");
}

#[tokio::test]
async fn local_read_is_a_state_that_existed() {
    let (_cluster, channels) = channels().await;
    let writer = channels[0].clone();
    let writing = tokio::spawn(async move {
        for round in 1..=ROUNDS {
            put(&writer, "a", round).await;
            put(&writer, "b", round).await;
        }
    });
    while !writing.is_finished() {
        let request = v1::RangeRequest {
            consistency: Some(v1::Consistency {
                level: v1::Level::Local.into(),
                ..Default::default()
            }),
            key: "a".into(),
            range_end: "c".into(),
            ..Default::default()
        };
        let answer = KvClient::new(channels[2].clone()).range(request).await;
        let answer = answer.expect("a local read").into_inner();
        let value = |key: &str| {
            let found = answer.kvs.iter().find(|kv| kv.key == key);
            let text = found.map(|kv| String::from_utf8_lossy(&kv.value).into_owned());
            text.map_or(0, |text| text.parse::<u64>().expect("a number"))
        };
        let (a, b) = (value("a"), value("b"));
        assert!(a == b || a == b + 1, "no state had a at {a} and b at {b}");
    }
    writing.await.expect("it writes");
}

#[tokio::test]
async fn bounded_read_without_a_quorum_answers_until_its_bound_and_then_says_so() {
    let (mut cluster, channels) = channels().await;
    put(&channels[0], "k", 1).await;
    let stays = (cluster.leader().await + 1) % 3;
    get(&channels[stays], "k", v1::Level::Linearizable, "").await;
    for at in 0..3 {
        if at != stays {
            cluster.members[at].take().expect("it runs").kill();
        }
    }
    let read = |level: v1::Level, age_ms| v1::GetRequest {
        consistency: Some(v1::Consistency {
            level: level.into(),
            stamp: String::new(),
            age_ms,
        }),
        key: "k".into(),
        revision: 0,
    };
    let mut keys = KvClient::new(channels[stays].clone());
    let local = keys
        .get(read(v1::Level::Local, 0))
        .await
        .expect("what it has");
    assert_eq!(local.into_inner().kv.expect("it is there").value, "1");
    let bounded = keys.get(read(v1::Level::Bounded, 60_000)).await;
    bounded.expect("it is not older than a minute");
    let since = Instant::now();
    let refused = loop {
        match keys.get(read(v1::Level::Bounded, 100)).await {
            Err(refused) => break refused,
            Ok(_) => assert!(since.elapsed() < PATIENCE, "its bound is never over"),
        }
    };
    let reason = refused.metadata().get("synod-reason").expect("a reason");
    assert_eq!(reason, "too-stale", "{refused}");
}

/// PNUTS' test-and-set: a write that counts only if nobody wrote since.
#[tokio::test]
async fn write_on_condition_of_a_revision_happens_once() {
    let (_cluster, channels) = channels().await;
    let request = v1::PutRequest {
        key: "k".into(),
        ..Default::default()
    };
    let put = KvClient::new(channels[0].clone()).put(request).await;
    let revision = put
        .expect("a put")
        .into_inner()
        .header
        .expect("a header")
        .revision;
    let mut succeeded = 0;
    for channel in &channels {
        let compare = Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: "k".into(),
            target_union: Some(TargetUnion::ModRevision(revision)),
            ..Default::default()
        };
        let put = PutRequest {
            key: "k".into(),
            ..Default::default()
        };
        let txn = v1::TxnRequest {
            compare: vec![compare],
            success: vec![RequestOp {
                request: Some(Request::RequestPut(put)),
            }],
            ..Default::default()
        };
        let answer = KvClient::new(channel.clone()).txn(txn).await;
        succeeded += u32::from(answer.expect("a transaction").into_inner().succeeded);
    }
    assert_eq!(succeeded, 1);
}
