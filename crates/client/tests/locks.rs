//! Locks and sessions as a program uses them, against members in this process (PROPERTIES F1-F8).

mod cell;

use cell::{Cell, PATIENCE};
use std::time::Duration;
use synod_client::proto::synod::v1::{ForceReleaseRequest, ShowLockRequest};
use synod_client::{Client, Election, Kv, Mutex, RwLock, Semaphore, Session};
use tokio::time::{Instant, sleep, timeout};

/// Long enough to see that something does not happen.
const A_WHILE: Duration = Duration::from_millis(200);

/// Waits until so many wait for a name.
async fn until_waiting(client: &Client, name: &str, count: u64) {
    let since = Instant::now();
    loop {
        let request = ShowLockRequest {
            name: name.to_owned(),
            ..ShowLockRequest::default()
        };
        let shown = client.lock_show(request).await.expect("it is shown");
        let waiters = shown.message.lock.map_or(0, |lock| lock.waiters);
        if waiters == count {
            return;
        }
        assert!(since.elapsed() < PATIENCE, "{waiters} wait, not {count}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn f1_one_holds_and_f2_tokens_rise() {
    let cell = Cell::start(1).await;
    let (first, second) = (cell.session().await, cell.session().await);
    let ours = Mutex::new(&first, "m").lock().await.expect("it is free");
    let other = Mutex::new(&second, "m");
    assert!(other.try_lock().await.expect("an answer").is_none());
    let within = other.lock_within(A_WHILE).await;
    assert!(within.expect("an answer").is_none());

    let waiting = tokio::spawn(async move { other.lock().await });
    until_waiting(first.client(), "m", 1).await;
    let token = ours.token();
    ours.release().await.expect("it is held");
    let theirs = timeout(PATIENCE, waiting).await.expect("in time");
    let theirs = theirs.expect("it ends").expect("it is granted");
    assert!(theirs.token() > token, "{} after {token}", theirs.token());
    assert!(theirs.is_held());
}

#[tokio::test]
async fn what_is_dropped_is_given_up() {
    let cell = Cell::start(1).await;
    let (first, second) = (cell.session().await, cell.session().await);
    let ours = Mutex::new(&first, "m").lock().await.expect("it is free");
    let other = Mutex::new(&second, "m");
    // A wait,
    let waiting = tokio::spawn({
        let other = other.clone();
        async move { other.lock().await.map(drop) }
    });
    until_waiting(first.client(), "m", 1).await;
    waiting.abort();
    until_waiting(first.client(), "m", 0).await;
    // a guard,
    drop(ours);
    let theirs = timeout(PATIENCE, other.lock()).await.expect("in time");
    assert!(theirs.expect("it is granted").is_held());
    // and a session, with all its guards.
    let theirs = other.lock_within(PATIENCE).await.expect("an answer");
    let guard = theirs.expect("it is granted");
    drop((other, second));
    assert!(guard.is_held(), "a guard keeps its session");
    drop(guard);
    let ours = Mutex::new(&first, "m").lock_within(PATIENCE).await;
    assert!(ours.expect("an answer").is_some());
}

#[tokio::test]
async fn f5_a_waiter_outlives_the_leader() {
    let mut cell = Cell::start(3).await;
    let (first, second) = (cell.session().await, cell.session().await);
    let ours = Mutex::new(&first, "m").lock().await.expect("it is free");
    let other = Mutex::new(&second, "m");
    let waiting = tokio::spawn(async move { other.lock().await });
    until_waiting(first.client(), "m", 1).await;
    let leader = cell.leader().await;
    cell.kill(leader);
    sleep(A_WHILE).await;
    let token = ours.token();
    ours.release().await.expect("it is held");
    let theirs = timeout(PATIENCE, waiting).await.expect("in time");
    let theirs = theirs.expect("it ends").expect("it is granted");
    assert!(theirs.token() > token, "{} after {token}", theirs.token());
}

#[tokio::test]
async fn a_session_is_lost_before_anybody_else_can_have_its_lock() {
    let mut cell = Cell::start(3).await;
    let ttl = Duration::from_secs(2);
    let session = Session::open_with_ttl(&cell.client(), ttl).await;
    let session = session.expect("it is opened");
    let guard = Mutex::new(&session, "m").lock().await;
    let guard = guard.expect("it is free");
    sleep(ttl * 2).await;
    assert!(guard.is_held(), "it is renewed");
    assert!(timeout(A_WHILE, guard.lost()).await.is_err());

    // Two of three: nobody can renew it.
    for at in [0, 1] {
        cell.kill(at);
    }
    let cut = Instant::now();
    let reason = timeout(PATIENCE, guard.lost()).await.expect("in time");
    assert!(cut.elapsed() < ttl, "after {:?}: {reason}", cut.elapsed());
    assert!(!session.is_alive() && !guard.is_held());
    let refused = Mutex::new(&session, "n").lock().await.err();
    let refused = refused.expect("it is over").to_string();
    assert!(refused.starts_with("the session is lost"), "{refused}");

    for at in [0, 1] {
        cell.start_member(at);
    }
    let other = cell.session().await;
    let next = Mutex::new(&other, "m").lock_within(PATIENCE).await;
    let next = next.expect("an answer").expect("it is free again");
    assert!(next.token() > guard.token());
}

#[tokio::test]
async fn f3_a_write_guarded_by_a_grant_that_is_over_is_refused() {
    let cell = Cell::start(1).await;
    let session = cell.session().await;
    let guard = Mutex::new(&session, "m").lock().await.expect("it is free");
    let kv = Kv::of(&session).guarded(&guard);
    kv.put("k", "first").await.expect("it is held");

    let operator = cell.client();
    let force = ForceReleaseRequest {
        name: "m".into(),
        token: guard.token(),
        reason: "a test".into(),
        ..ForceReleaseRequest::default()
    };
    operator
        .lock_force_release(force)
        .await
        .expect("it is held");
    let reason = timeout(PATIENCE, guard.lost()).await.expect("in time");
    assert_eq!(reason, "it was taken away");
    let refused = async || {
        let refused = kv.put("k", "late").await.expect_err("it is over");
        assert_eq!(refused.reason(), "guard-not-held", "{refused}");
        assert!(!refused.is_transient());
    };
    refused().await;
    // The same when somebody has taken the lock meanwhile.
    let other = cell.session().await;
    let next = Mutex::new(&other, "m").lock().await.expect("it is free");
    let theirs = Kv::of(&other).guarded(&next);
    theirs.put("k", "second").await.expect("it is held");
    refused().await;
    let found = Kv::new(&operator).get("k").await.expect("an answer");
    assert_eq!(found.expect("a value").value, "second");
}

#[tokio::test]
async fn f8_a_reentrant_lock_is_free_after_its_last_release() {
    let cell = Cell::start(1).await;
    let session = cell.session().await;
    let lock = Mutex::new(&session, "m").reentrant();
    let outer = lock.lock().await.expect("it is free");
    let inner = lock.clone().lock().await.expect("it is ours");
    assert_eq!(inner.token(), outer.token());
    let stranger = Mutex::new(&session, "m");
    outer.release().await.expect("it is held");
    assert!(stranger.try_lock().await.expect("an answer").is_none());
    inner.release().await.expect("it is held");
    assert!(stranger.try_lock().await.expect("an answer").is_some());
}

#[tokio::test]
async fn readers_share_and_a_writer_is_alone() {
    let cell = Cell::start(1).await;
    let (first, second) = (cell.session().await, cell.session().await);
    let (ours, theirs) = (RwLock::new(&first, "rw"), RwLock::new(&second, "rw"));
    let reading = (
        ours.read().await.expect("it is free"),
        theirs.read().await.expect("readers share"),
    );
    assert!(theirs.try_write().await.expect("an answer").is_none());
    let mutex = Mutex::new(&second, "rw").try_lock().await;
    assert!(mutex.expect("an answer").is_none(), "it is the same lock");
    drop(reading);
    let writing = theirs.write_within(PATIENCE).await.expect("an answer");
    assert!(writing.is_some());
    assert!(ours.try_read().await.expect("an answer").is_none());
}

#[tokio::test]
async fn a_semaphore_has_so_many_permits() {
    let cell = Cell::start(1).await;
    let session = cell.session().await;
    let semaphore = Semaphore::new(&session, "s", 4);
    let large = semaphore.acquire(3).await.expect("they are free");
    let small = semaphore.acquire(1).await.expect("one is left");
    assert!(semaphore.try_acquire(1).await.expect("an answer").is_none());
    large.release().await.expect("it is held");
    let two = semaphore.try_acquire(2).await.expect("an answer");
    assert!(two.is_some());
    let other = Semaphore::new(&session, "s", 5).try_acquire(1).await;
    let refused = other.err().expect("another number").to_string();
    assert!(refused.contains('4'), "{refused}");
    small.release().await.expect("it is held");
}

#[tokio::test]
async fn leaders_are_followed_over_the_loss_of_members() {
    let mut cell = Cell::start(3).await;
    let (first, second) = (cell.session().await, cell.session().await);
    let election = Election::new(&first, "e");
    let mut leaders = election.observe();
    assert_eq!(leaders.next().await.expect("an answer"), None);
    let leads = election.campaign("first").await.expect("nobody leads");
    let told = leaders.next().await.expect("an answer").expect("a leader");
    assert_eq!((told.text.as_str(), told.token), ("first", leads.token()));
    leads.proclaim("first, again").await.expect("it leads");
    let told = leaders.next().await.expect("an answer").expect("a leader");
    assert_eq!(told.text, "first, again");

    let leader = cell.leader().await;
    cell.kill(leader);
    let candidate = Election::new(&second, "e");
    let waiting = tokio::spawn(async move { candidate.campaign("second").await });
    until_waiting(&cell.client(), "e", 1).await;
    leads.resign().await.expect("it leads");
    let follows = async {
        loop {
            match leaders.next().await.expect("an answer") {
                Some(told) if told.text == "second" => return told,
                _ => {}
            }
        }
    };
    let told = timeout(PATIENCE, follows).await.expect("in time");
    let leads = waiting.await.expect("it ends").expect("it leads");
    assert_eq!(told.token, leads.token());
}
