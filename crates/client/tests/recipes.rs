//! The recipes that are no locks, against members in this process.

mod cell;

use cell::{Cell, PATIENCE};
use std::collections::BTreeSet;
use std::time::Duration;
use synod_client::{
    Barrier, Cache, Claim, Counter, Group, Ids, Kv, Latch, Level, Log, NamedLease, Op, Queue,
    Segments, Session, Txn, Unique, lease,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

#[tokio::test]
async fn a_barrier_lets_all_in_together_and_out_together() {
    let cell = Cell::start(1).await;
    let session = cell.session().await;
    let mut parties = JoinSet::new();
    let barrier = Barrier::new(&session, "b", 3);
    for _ in 0..2 {
        let barrier = barrier.clone();
        parties.spawn(async move { barrier.enter().await?.leave().await });
    }
    let first = timeout(Duration::from_millis(200), parties.join_next()).await;
    assert!(first.is_err(), "it opened for two of three");
    let last = barrier.enter().await.expect("all are there");
    last.leave().await.expect("all leave");
    while let Some(party) = timeout(PATIENCE, parties.join_next())
        .await
        .expect("in time")
    {
        party.expect("it ends").expect("it passed");
    }
}

#[tokio::test]
async fn a_latch_opens_when_it_is_counted_down() {
    let cell = Cell::start(1).await;
    let session = cell.session().await;
    let latch = Latch::new(&session, "l");
    latch.wait().await.expect("one that was never set is open");
    latch.set(2).await.expect("it is set");
    assert!(
        !latch
            .wait_within(Duration::from_millis(100))
            .await
            .expect("an answer")
    );
    assert_eq!(latch.count_down().await.expect("it counts"), 1);
    let waiting = tokio::spawn({
        let latch = latch.clone();
        async move { latch.wait().await }
    });
    assert_eq!(latch.left().await.expect("an answer"), 1);
    assert_eq!(latch.count_down().await.expect("it counts"), 0);
    let passed = timeout(PATIENCE, waiting).await.expect("in time");
    passed.expect("it ends").expect("it is open");
}

#[tokio::test]
async fn a_group_tells_who_comes_changes_and_leaves() {
    let cell = Cell::start(1).await;
    let (first, second) = (cell.session().await, cell.session().await);
    let attributes = |value: &str| [("at".to_owned(), value.to_owned())].into();
    let group = Group::new(&first, "g");
    let ours = group.join(&attributes("a")).await.expect("it joins");
    let mut members = group.observe();
    assert_eq!(members.next().await.expect("an answer").len(), 1);
    let theirs = Group::new(&second, "g").join(&attributes("b")).await;
    let theirs = theirs.expect("it joins");
    let known = members.next().await.expect("an answer");
    assert_eq!(known.len(), 2);
    theirs.update(&attributes("c")).await.expect("it is in");
    let known = members.next().await.expect("an answer");
    assert_eq!(known[&theirs.guard().token()].attributes, attributes("c"));
    // Whoever's session ends has left.
    drop(theirs);
    second.close().await.expect("it ends");
    let known = members.next().await.expect("an answer");
    assert_eq!(known.keys().collect::<Vec<_>>(), [&ours.guard().token()]);
    let listed = group.members().await.expect("an answer");
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].attributes, attributes("a"));
}

#[tokio::test]
async fn e1_additions_count_once_although_leaders_die() {
    let mut cell = Cell::start(3).await;
    let session = cell.session().await;
    let mut adding = JoinSet::new();
    for _ in 0..8 {
        let counter = Counter::new(&session, "c");
        adding.spawn(async move {
            for _ in 0..50 {
                counter.add(1).await.expect("it is added");
                sleep(Duration::from_millis(5)).await;
            }
        });
    }
    for _ in 0..2 {
        sleep(Duration::from_millis(150)).await;
        let leader = cell.leader().await;
        cell.kill(leader);
        sleep(Duration::from_millis(50)).await;
        cell.start_member(leader);
        cell.leader().await;
    }
    while let Some(added) = timeout(PATIENCE, adding.join_next())
        .await
        .expect("in time")
    {
        added.expect("it ends");
    }
    let sum = Counter::new(&session, "c").get().await;
    assert_eq!(sum.expect("an answer"), 400);
}

#[tokio::test]
async fn i1_ids_are_unique_and_rise() {
    let cell = Cell::start(1).await;
    let (first, second) = (cell.session().await, cell.session().await);
    let mut all = BTreeSet::new();
    for session in [&first, &second] {
        let (ids, numbers) = (Ids::new(session), Segments::new(session, "n", 64));
        let mut last = (0, 0);
        for _ in 0..1000 {
            let next = (
                ids.next().await.expect("an id"),
                numbers.next().await.expect("a number"),
            );
            assert!(
                next.0 > last.0 && next.1 > last.1,
                "{next:?} after {last:?}"
            );
            assert!(all.insert(next.0) && all.insert(next.1), "{next:?} again");
            last = next;
        }
    }
    let parts = Ids::new(&first).parts(*all.last().expect("some"));
    assert_eq!(parts.expect("an id").worker, 1, "the second session's");
}

#[tokio::test]
async fn kv7_a_client_reads_its_own_writes_at_any_member() {
    let cell = Cell::start(3).await;
    let writer = Kv::new(&cell.client_of(0));
    for round in 0..20 {
        let value = format!("value {round}");
        writer.put("k", &value).await.expect("it is put");
        let stamp = writer.stamp().expect("it has seen something");
        for at in 0..3 {
            let reader = Kv::new(&cell.client_of(at)).at(Level::AtLeast(stamp.clone()));
            let read = reader.get("k").await.expect("an answer").expect("a value");
            assert_eq!(read.value, value, "at member {at}");
            // From here on its own reads do not go back.
            let again = reader.at(Level::ReadYourWrites).get("k").await;
            assert_eq!(again.expect("an answer").expect("a value").value, value);
        }
    }
    let bounded = writer
        .at(Level::Bounded(Duration::from_secs(5)))
        .get("k")
        .await;
    assert!(bounded.expect("an answer").is_some());
    let nothing = writer.at(Level::Local).get("other").await;
    assert!(nothing.expect("an answer").is_none());
}

#[tokio::test]
async fn updates_build_on_each_other() {
    let cell = Cell::start(1).await;
    let kv = Kv::new(&cell.client());
    let mut updating = JoinSet::new();
    for _ in 0..8 {
        let kv = kv.clone();
        updating.spawn(async move {
            for _ in 0..10 {
                kv.update_as("sum", |sum: Option<u64>| sum.unwrap_or(0) + 1)
                    .await
                    .expect("it is written");
            }
        });
    }
    while let Some(updated) = updating.join_next().await {
        updated.expect("it ends");
    }
    assert_eq!(kv.get_as("sum").await.expect("an answer"), Some(80_u64));
    kv.put("sum", "no number").await.expect("it is put");
    let bad = kv.get_as::<u64>("sum").await.expect_err("it is none");
    assert!(bad.to_string().starts_with("the value of \"sum\""), "{bad}");
    assert!(kv.delete("sum").await.expect("an answer"));
    assert!(!kv.delete("sum").await.expect("an answer"));
}

#[tokio::test]
async fn a_queue_gives_each_value_to_one() {
    let cell = Cell::start(1).await;
    let session = cell.session().await;
    let mut taking = JoinSet::new();
    for _ in 0..4 {
        let mut queue = Queue::new(&session, "q");
        taking.spawn(async move {
            let mut taken = Vec::new();
            for _ in 0..10 {
                taken.push(queue.pop().await.expect("a value"));
            }
            taken
        });
    }
    let mut queue = Queue::new(&session, "q");
    for number in 0..40_u8 {
        queue.push([number]).await.expect("it is pushed");
    }
    let mut all = Vec::new();
    while let Some(taken) = timeout(PATIENCE, taking.join_next())
        .await
        .expect("in time")
    {
        all.extend(taken.expect("it ends"));
    }
    all.sort_unstable();
    assert_eq!(
        all,
        (0..40_u8).map(|number| vec![number]).collect::<Vec<_>>()
    );
    assert_eq!(queue.try_pop().await.expect("an answer"), None);
    // Alone one takes in the order of pushing.
    for number in 0..40_u8 {
        queue.push([number]).await.expect("it is pushed");
    }
    for number in 0..40_u8 {
        assert_eq!(queue.pop().await.expect("a value"), [number]);
    }
}

#[tokio::test]
async fn a_log_has_one_order_for_all() {
    let cell = Cell::start(1).await;
    let session = cell.session().await;
    let log = Log::new(&session, "l");
    let mut early = log.read(0);
    let mut appending = JoinSet::new();
    for writer in 0..4 {
        let log = log.clone();
        appending.spawn(async move {
            for step in 0..10 {
                log.append(format!("{writer} {step}"))
                    .await
                    .expect("it is appended");
            }
        });
    }
    let mut first = Vec::new();
    for _ in 0..40 {
        let record = timeout(PATIENCE, early.next()).await.expect("in time");
        first.push(record.expect("a record"));
    }
    while let Some(appended) = appending.join_next().await {
        appended.expect("it ends");
    }
    let mut late = log.read(first[5].position);
    for record in &first[5..] {
        assert_eq!(late.next().await.as_ref(), Ok(record));
    }
    assert!(first.is_sorted_by_key(|record| record.position));
    for writer in 0..4 {
        let own: Vec<_> = first
            .iter()
            .filter(|record| record.value[0] == b'0' + writer)
            .collect();
        assert!(own.is_sorted_by_key(|record| &record.value), "{own:?}");
    }
    log.trim(first[10].position).await.expect("it is trimmed");
    let left = log.read(0).next().await.expect("a record");
    assert_eq!(left, first[10]);
}

#[tokio::test]
async fn a_name_is_claimed_once() {
    let cell = Cell::start(1).await;
    let session = cell.session().await;
    let names = Unique::new(&session, "names");
    assert_eq!(names.claim("ann", "7").await, Ok(Claim::Ours));
    assert_eq!(names.claim("ann", "7").await, Ok(Claim::Ours));
    let theirs = Claim::Theirs { owner: b"7".into() };
    assert_eq!(names.claim("ann", "8").await, Ok(theirs));
    assert_eq!(names.give_back("ann", "8").await, Ok(false));
    assert_eq!(names.give_back("ann", "7").await, Ok(true));
    assert_eq!(names.owner("ann").await, Ok(None));
}

#[tokio::test]
async fn a_cache_follows_its_keys_over_the_loss_of_members() {
    let mut cell = Cell::start(3).await;
    let kv = Kv::new(&cell.client());
    kv.put("c/a", "1").await.expect("it is put");
    kv.put("d/a", "1").await.expect("it is put");
    let cache = Cache::open(&cell.client(), "c/").await.expect("it opens");
    assert_eq!(cache.all().len(), 1);
    for round in 0..3 {
        let leader = cell.leader().await;
        cell.kill(leader);
        kv.put("c/a", format!("{round}")).await.expect("it is put");
        kv.delete("c/b").await.expect("an answer");
        let revision = kv.put("c/b", "there").await.expect("it is put");
        let reached = timeout(PATIENCE, cache.reaches(revision)).await;
        reached.expect("in time");
        let value = cache.get("c/a").expect("it is there").value.clone();
        assert_eq!(value, format!("{round}"));
        assert_eq!(cache.all().len(), 2);
        cell.start_member(leader);
    }
}

/// It had the first 10 000 only, and did not say so.
#[tokio::test]
async fn a_list_has_all_keys_however_many() {
    const KEYS: usize = 10_500;
    let cell = Cell::start(1).await;
    let kv = Kv::new(&cell.client());
    let keys: Vec<String> = (0..KEYS).map(|at| format!("many/{at:05}")).collect();
    for some in keys.chunks(1500) {
        let puts = some.iter();
        let txn = puts.fold(Txn::new(), |txn, key| txn.then(Op::put(key, "v")));
        assert!(kv.txn(txn).await.expect("it is applied").succeeded);
    }
    kv.put("manz", "another").await.expect("it is applied");
    let listed = kv.list("many/").await.expect("an answer");
    let listed: Vec<&[u8]> = listed.iter().map(|kv| &kv.key[..]).collect();
    assert!(listed == keys.iter().map(String::as_bytes).collect::<Vec<_>>());
    let all = kv.list("").await.expect("an answer");
    assert_eq!(all.len(), KEYS + 1);
}

#[tokio::test]
async fn a_name_has_one_lease_and_is_renewed_by_it_or_by_the_name() {
    let cell = Cell::start(1).await;
    let client = cell.client();
    let ttl = Duration::from_secs(60);
    let register = || NamedLease::register(&client, "printer", ttl, "second floor");
    let first = register().await.expect("an answer").expect("it is free");
    assert!(register().await.expect("an answer").is_none());
    assert_eq!(first.refresh().await, Ok(ttl));
    assert_eq!(lease::refresh(&client, "printer").await, Ok(ttl));
    let kv = Kv::new(&client).fenced(first.fence());
    kv.put("k", "v").await.expect("the name is ours");
    first.clone().end().await.expect("it is there");
    for gone in [
        first.refresh().await,
        lease::refresh(&client, "printer").await,
    ] {
        assert_eq!(gone.expect_err("it is gone").reason(), "lease-not-found");
    }
    let next = register().await.expect("an answer").expect("it is free");
    assert!(next.fence().token > first.fence().token);
    let late = kv.put("k", "late").await.expect_err("it is not ours");
    assert_eq!(late.reason(), "guard-not-held");
}

/// It ended for want of renewals, because nothing in the loop ever waited.
#[tokio::test]
async fn a_session_outlives_a_loop_that_only_takes_numbers() {
    let cell = Cell::start(1).await;
    let session = Session::open_with_ttl(&cell.client(), Duration::from_secs(1)).await;
    let session = session.expect("it is opened");
    let numbers = Segments::new(&session, "n", 1_000_000);
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(3) {
        numbers.next().await.expect("a number");
    }
    assert!(session.is_alive());
}
