//! Removals of so many keys that they take effect at once and are written down later, with the batches that follow.

use crate::harness::*;
use replica::{Body, Consistency, Limits, Settings, WatchBody, WatchCreate, WatchRequest};
use state::{Answer, Reply};

const KEYS: usize = 40;

fn cell_of_three(limits: Limits) -> (Cell, u64) {
    let settings = Settings {
        limits,
        state: state::Settings {
            removal_keys_min: 3,
            removal_keys_per_batch: 2,
            ..state::Settings::default()
        },
        ..Settings::default()
    };
    let mut cell = Cell::with(3, settings);
    let leader = cell.elect();
    for n in 0..KEYS {
        cell.put(leader, &format!("k{n:02}"), "v");
    }
    (cell, leader)
}

/// Removes all keys, and stops as soon as the answer is there; gives the revision.
fn remove_all(cell: &mut Cell, nth: u64) -> i64 {
    let ticket = cell.propose(nth, delete("k", "l"));
    cell.settle_until(|cell| cell.outcome(ticket).is_some());
    let response = cell.response(ticket);
    assert_eq!(
        response.body,
        Body::Reply(Reply::DeleteRange {
            deleted: KEYS as i64,
            prev: vec![]
        })
    );
    assert!(
        is_pending(cell, nth),
        "it was written down before the answer"
    );
    response.revision
}

fn is_pending(cell: &Cell, nth: u64) -> bool {
    let status = cell.replica(nth).status();
    status.complete < status.revision
}

fn watch_all(cell: &mut Cell, nth: u64, start_revision: i64) {
    let create = WatchCreate {
        key: "k".into(),
        range_end: "l".into(),
        start_revision,
        prev_kv: true,
        ..WatchCreate::default()
    };
    cell.credit(nth, 1, 1_000_000);
    cell.watch(nth, 1, WatchRequest::Create(create));
}

/// What a watch heard since: (revision, key, removed), and whether each response ended with a whole revision.
fn heard(cell: &mut Cell, nth: u64) -> Vec<(i64, String, bool)> {
    let mut all = Vec::new();
    for response in cell.heard(nth, 1) {
        if let WatchBody::Events { events, fragment } = &response.body {
            assert!(!fragment, "no fragments were asked for (W4)");
            all.extend(events.iter().map(|event| {
                assert!(!event.deleted || event.prev.is_some(), "W8: {event:?}");
                let key = String::from_utf8(event.kv.key.to_vec()).unwrap();
                (event.kv.mod_revision, key, event.deleted)
            }));
        }
    }
    all
}

fn removed(revision: i64) -> Vec<(i64, String, bool)> {
    (0..KEYS)
        .map(|n| (revision, format!("k{n:02}"), true))
        .collect()
}

fn count(cell: &mut Cell, nth: u64) -> i64 {
    let ticket = cell.read(nth, Consistency::Local, range("k", "l"));
    cell.settle_until(|cell| cell.outcome(ticket).is_some());
    match cell.response(ticket).body {
        Body::Answer(Answer::Range(reply)) => {
            assert_eq!(reply.kvs.len() as i64, reply.count);
            reply.count
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn w3_w4_a_removal_shows_at_once_and_watches_hear_it_whole() {
    let (mut cell, leader) = cell_of_three(Limits::default());
    watch_all(&mut cell, leader, 0);
    cell.settle();
    let revision = remove_all(&mut cell, leader);
    assert_eq!(count(&mut cell, leader), 0);
    assert!(is_pending(&cell, leader));
    assert_eq!(heard(&mut cell, leader), [], "half of it was told");
    let ticket = cell.propose(leader, put("k07", "again"));
    cell.settle_until(|cell| cell.outcome(ticket).is_some());
    assert!(is_pending(&cell, leader), "the put waited for the removal");
    assert_eq!(count(&mut cell, leader), 1);
    // Nobody proposes anything: the leader itself brings it to its end.
    cell.settle();
    assert!(!is_pending(&cell, leader));
    let mut events = heard(&mut cell, leader);
    let put = events.pop();
    assert_eq!(put, Some((revision + 1, "k07".to_owned(), false)));
    events.sort();
    assert_eq!(events, removed(revision));
    cell.advance(200);
    cell.check_equal();
}

#[test]
fn kv5_the_next_leader_writes_the_removal_down() {
    let (mut cell, leader) = cell_of_three(Limits::default());
    remove_all(&mut cell, leader);
    cell.kill(leader);
    let next = cell.elect();
    cell.advance(100);
    assert!(!is_pending(&cell, next));
    assert_eq!(count(&mut cell, next), 0);
    cell.start(leader);
    cell.advance(1000);
    cell.check_equal();
}

#[test]
fn w3_a_removal_goes_on_after_a_restart_of_all() {
    let (mut cell, leader) = cell_of_three(Limits::default());
    let revision = remove_all(&mut cell, leader);
    for nth in 1..=3 {
        cell.kill(nth);
    }
    for nth in 1..=3 {
        cell.start(nth);
    }
    let leader = cell.elect();
    cell.advance(100);
    assert!((1..=3).all(|nth| !is_pending(&cell, nth)));
    watch_all(&mut cell, leader, revision);
    cell.settle();
    assert_eq!(heard(&mut cell, leader), removed(revision));
    cell.check_equal();
}

#[test]
fn w3_kv4_a_snapshot_carries_a_removal() {
    let limits = Limits {
        snapshot_log_bytes: 2000,
        snapshot_keep_entries: 0,
        ..Limits::default()
    };
    let (mut cell, leader) = cell_of_three(limits);
    let gone = cell.follower();
    cell.kill(gone);
    let revision = remove_all(&mut cell, leader);
    let index = cell.replica(leader).status().applied;
    // Until a snapshot of the time in between is there.
    let ticket = cell.propose(leader, put("other", &"x".repeat(4000)));
    cell.settle_until(|cell| {
        let snapshot = &cell.hosts[&leader].disk.snapshot;
        snapshot
            .as_ref()
            .is_some_and(|(mark, _)| mark.index.0 > index)
    });
    assert!(is_pending(&cell, leader));
    cell.response(ticket);
    for nth in 1..=3 {
        cell.kill(nth);
    }
    for nth in 1..=3 {
        cell.start(nth);
    }
    cell.elect();
    cell.advance(2000);
    for nth in 1..=3 {
        assert!(!is_pending(&cell, nth));
        assert_eq!(count(&mut cell, nth), 0);
        watch_all(&mut cell, nth, revision);
        cell.settle();
        assert_eq!(heard(&mut cell, nth), removed(revision), "on member {nth}");
    }
    cell.check_equal();
}
