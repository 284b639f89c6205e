//! What each level of a read promises, by the names that books give it (docs/design/levels.md; PROPERTIES KV7, KV8, V2).

mod cell;

use cell::Cell;
use std::time::Duration;
use synod_client::{Compare, Kv, Level, Op, Queue, Stamp, Txn};
use tokio::task::JoinHandle;

/// How often each is tried.
const ROUNDS: u32 = 40;

/// Three members, the keys through one of them, and those through each of the others.
async fn members() -> (Cell, Kv, Vec<Kv>) {
    let cell = Cell::start(3).await;
    let leader = cell.leader().await;
    let writer = Kv::new(&cell.client_of(leader));
    let others = (0..3).filter(|at| *at != leader);
    let readers = others.map(|at| Kv::new(&cell.client_of(at))).collect();
    (cell, writer, readers)
}

/// Writes rising numbers, `first` before `second`, until it is aborted.
fn writing(writer: &Kv) -> JoinHandle<()> {
    let writer = writer.clone();
    tokio::spawn(async move {
        for number in 1_u32.. {
            for key in ["first", "second"] {
                writer.put_as(key, &number).await.expect("it is put");
            }
        }
    })
}

async fn number(kv: &Kv, key: &str) -> u32 {
    kv.get_as(key).await.expect("an answer").unwrap_or(0)
}

/// What the reads of this value have seen.
fn stamp(kv: &Kv) -> Stamp {
    kv.stamp().expect("it has seen something")
}

#[tokio::test]
async fn linearizable_sees_what_was_acknowledged_to_anybody() {
    let (_cell, writer, readers) = members().await;
    for round in 1..=ROUNDS {
        writer.put_as("k", &round).await.expect("it is put");
        for reader in &readers {
            assert_eq!(number(reader, "k").await, round);
        }
    }
}

#[tokio::test]
async fn causal_holds_over_a_channel_of_ones_own() {
    let (_cell, writer, readers) = members().await;
    for round in 1..=ROUNDS {
        // The picture is stored; who is told about it, with the stamp, finds it, and whoever hears of what that one did finds both.
        writer.put_as("picture", &round).await.expect("it is put");
        let first = readers[0].at(Level::AtLeast(stamp(&writer)));
        assert_eq!(number(&first, "picture").await, round);
        first.put_as("thumbnail", &round).await.expect("it is put");
        let second = readers[1].at(Level::AtLeast(stamp(&first)));
        assert_eq!(number(&second, "thumbnail").await, round);
        assert_eq!(number(&second, "picture").await, round);
    }
}

#[tokio::test]
async fn the_image_and_queue_case() {
    let cell = Cell::start(3).await;
    let leader = cell.leader().await;
    let session = cell.session().await;
    let (images, mut queue) = (Kv::of(&session), Queue::new(&session, "resize"));
    let worker = Kv::new(&cell.client_of((leader + 1) % 3));
    for round in 1..=ROUNDS {
        images.put_as("image", &round).await.expect("it is put");
        let message = stamp(&images).to_string();
        queue.push(message).await.expect("it is pushed");
        // The worker reads at another member, with the stamp that came in the message.
        let message = queue.pop().await.expect("a message");
        let seen = Stamp::new(String::from_utf8(message).expect("it is text"));
        assert_eq!(
            number(&worker.at(Level::AtLeast(seen)), "image").await,
            round
        );
    }
}

#[tokio::test]
async fn reads_are_monotonic_and_writes_in_order_over_all_members() {
    let (_cell, writer, readers) = members().await;
    let writing = writing(&writer);
    let mut seen = (0, 0);
    let mut level = Level::Local;
    for round in 0..ROUNDS as usize {
        // Sequential, PRAM and monotonic reads: one client going from member to member.
        let reader = readers[round % 2].at(level);
        let second = number(&reader, "second").await;
        level = Level::AtLeast(stamp(&reader));
        let first = number(&reader.at(level.clone()), "first").await;
        assert!(first >= second, "{first} was written before {second}");
        assert!(
            (first, second) >= seen && second >= seen.1,
            "{seen:?} to {first}, {second}"
        );
        seen = (first, second);
        level = Level::AtLeast(stamp(&reader));
    }
    writing.abort();
}

#[tokio::test]
async fn kv8_a_local_read_is_a_prefix_of_history() {
    let (_cell, writer, readers) = members().await;
    let writing = writing(&writer);
    for round in 0..ROUNDS as usize {
        let reader = readers[round % 2].at(Level::Local);
        let txn = Txn::new().then(Op::get("first")).then(Op::get("second"));
        let answer = reader.txn(txn).await.expect("an answer");
        let value = |at| match answer.read(at).first() {
            Some(kv) => serde_json::from_slice::<u32>(&kv.value).expect("a number"),
            None => 0,
        };
        let (first, second) = (value(0), value(1));
        assert!(first == second || first == second + 1, "{first}, {second}");
    }
    writing.abort();
}

#[tokio::test]
async fn test_and_set_writes_only_over_the_version_that_was_read() {
    let (_cell, writer, readers) = members().await;
    writer.put("k", "first").await.expect("it is put");
    let read = readers[0]
        .get("k")
        .await
        .expect("an answer")
        .expect("a value");
    let set = |value: &str| {
        Txn::new()
            .when(Compare::mod_revision("k", read.mod_revision))
            .then(Op::put("k", value))
    };
    assert!(
        readers[0]
            .txn(set("second"))
            .await
            .expect("an answer")
            .succeeded
    );
    assert!(
        !readers[1]
            .txn(set("third"))
            .await
            .expect("an answer")
            .succeeded
    );
    let found = writer.get("k").await.expect("an answer").expect("a value");
    assert_eq!(found.value, "second");
}

#[tokio::test]
async fn v2_without_a_majority_local_reads_still_answer() {
    let (mut cell, writer, _) = members().await;
    writer.put("k", "v").await.expect("it is put");
    for at in 0..3 {
        let reader = Kv::new(&cell.client_of(at)).at(Level::AtLeast(stamp(&writer)));
        reader.get("k").await.expect("all have it");
    }
    cell.kill(0);
    cell.kill(1);
    let client = cell.client_of(2).with_timeout(Duration::from_secs(3));
    let alone = Kv::new(&client);
    let local = alone.at(Level::Local).get("k").await;
    assert_eq!(local.expect("an answer").expect("a value").value, "v");
    let fresh = alone.get("k").await.expect_err("nobody can confirm it");
    assert!(fresh.is_transient(), "{fresh}");
}
