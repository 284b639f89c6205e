//! Snapshots: taken, sent, resumed, loaded.

use crate::harness::*;
use bytes::Bytes;
use raft::Index;
use replica::{
    Body, Consistency, Failure, Input, Limits, Message, Settings, Ticket, WatchBody, WatchCreate,
    WatchRequest,
};

fn small_log() -> Settings {
    let limits = Limits {
        snapshot_log_bytes: 20_000,
        snapshot_keep_entries: 1,
        ..Limits::default()
    };
    Settings {
        limits,
        ..Settings::default()
    }
}

fn fill(cell: &mut Cell, nth: u64, rounds: u64) {
    for n in 0..rounds {
        let tickets: Vec<Ticket> = (0..50)
            .map(|m| {
                cell.propose(
                    nth,
                    put(&format!("k{m:03}"), &format!("{n}-{}", "v".repeat(40))),
                )
            })
            .collect();
        cell.settle();
        tickets
            .into_iter()
            .for_each(|ticket| drop(cell.response(ticket)));
    }
}

#[test]
fn the_log_is_cut_behind_a_snapshot_and_a_restart_loads_it() {
    let mut cell = Cell::with(3, small_log());
    let leader = cell.elect();
    fill(&mut cell, leader, 40);
    cell.advance(200);
    for host in cell.hosts.values() {
        let (mark, _) = host.disk.snapshot.as_ref().expect("a snapshot was taken");
        assert!(
            host.disk.released + 2 >= mark.index.0,
            "released to {} at {}",
            host.disk.released,
            mark.index
        );
        assert!(
            host.disk.entries.len() < 40,
            "{} entries are left",
            host.disk.entries.len()
        );
    }
    let before = cell.replica(leader).status();
    for nth in 1..=3 {
        cell.kill(nth);
    }
    for nth in 1..=3 {
        cell.start(nth);
    }
    cell.elect();
    cell.check_equal();
    let after = cell.replica(leader).status();
    assert_eq!((after.revision, after.keys), (before.revision, before.keys));
    assert!(after.serving);
    cell.put(leader, "k", "after");
}

/// A member that was killed, and the leader, whose log no longer has what it lacks.
fn one_long_gone(cell: &mut Cell) -> (u64, u64) {
    cell.elect();
    let gone = cell.follower();
    cell.kill(gone);
    let leader = cell.elect();
    // More than one piece of 256 KiB, so that a transfer can be torn.
    for n in 0..12 {
        let tickets: Vec<Ticket> = (0..10)
            .map(|m| cell.propose(leader, put(&format!("large{n}.{m}"), &"x".repeat(20_000))))
            .collect();
        cell.settle();
        tickets
            .into_iter()
            .for_each(|ticket| drop(cell.response(ticket)));
    }
    (gone, leader)
}

#[test]
fn a_member_long_gone_catches_up_by_snapshot() {
    for lose_chunks in [0, 2, 3] {
        let mut cell = Cell::with(3, small_log());
        let (gone, leader) = one_long_gone(&mut cell);
        fill(&mut cell, leader, 20);
        let released = cell.hosts[&leader].disk.released;
        assert!(
            released > cell.hosts[&gone].disk.entries.len() as u64,
            "the log no longer has what it lacks"
        );
        cell.lose_chunks = lose_chunks;
        cell.start(gone);
        cell.advance(60_000);
        assert!(cell.snapshot_chunks > 1, "{} pieces", cell.snapshot_chunks);
        cell.check_equal();
        assert_eq!(
            cell.get(gone, "large11.9").map(|value| value.len()),
            Some(20_000)
        );
    }
}

/// A leader that began to send its snapshot is followed by one whose newest is older.
#[test]
fn a_transfer_that_broke_off_gives_way_to_an_older_snapshot() {
    let mut cell = Cell::with(3, small_log());
    let (gone, leader) = one_long_gone(&mut cell);
    let (mut mark, _) = cell.hosts[&leader]
        .disk
        .snapshot
        .clone()
        .expect("it has one");
    mark.index = Index(mark.index.0 + 1000);
    let before = (1..=3).find(|nth| ![gone, leader].contains(nth));
    cell.start(gone);
    let message = Message::SnapshotChunk {
        mark,
        bytes_total: 1 << 20,
        checksum: 7,
        offset: 0,
        bytes: Bytes::from(vec![1; 256 << 10]),
    };
    let from = cell.hosts[&before.expect("there are three")].id;
    cell.input(gone, Input::Message { from, message });
    cell.advance(1000);
    assert!(
        cell.get_with(gone, "large0.0", Consistency::Local)
            .is_none(),
        "a transfer under way gives way at once"
    );
    cell.advance(3000);
    cell.check_equal();
}

#[test]
fn a_transfer_resumes_after_the_receiver_restarts() {
    let mut cell = Cell::with(3, small_log());
    let (gone, _) = one_long_gone(&mut cell);
    // From the third piece on all are lost.
    cell.lose_chunks = 3;
    cell.start(gone);
    cell.advance(300);
    cell.kill(gone);
    cell.lose_chunks = 0;
    cell.start(gone);
    cell.advance(40_000);
    cell.check_equal();
}

/// A cell of one whose disk works again, after a snapshot could not be written.
fn one_whose_snapshot_failed() -> Cell {
    let mut cell = Cell::with(1, small_log());
    cell.elect();
    cell.hosts.get_mut(&1).unwrap().disk.staging_fails = true;
    fill(&mut cell, 1, 20);
    assert!(cell.hosts[&1].disk.snapshot.is_none());
    cell.hosts.get_mut(&1).unwrap().disk.staging_fails = false;
    cell
}

#[test]
fn a_failed_write_of_a_snapshot_is_tried_again_later() {
    let mut cell = one_whose_snapshot_failed();
    cell.advance(11_000);
    fill(&mut cell, 1, 1);
    assert!(cell.hosts[&1].disk.snapshot.is_some());
}

/// The disk of a leader was full when its snapshot was to be written, and a follower waits for that.
#[test]
fn a_snapshot_that_is_waited_for_is_tried_again_soon() {
    let mut cell = Cell::with(3, small_log());
    cell.elect();
    let gone = cell.follower();
    let leader = cell.leader().expect("elected");
    cell.kill(gone);
    for nth in (1..=3).filter(|&nth| nth != gone) {
        cell.hosts.get_mut(&nth).unwrap().disk.staging_fails = true;
    }
    fill(&mut cell, leader, 20);
    assert!(cell.hosts[&leader].disk.snapshot.is_none());
    cell.hosts.get_mut(&leader).unwrap().disk.staging_fails = false;
    let unreadable = Input::Unreadable {
        from: Index(2),
        through: Index(9),
    };
    cell.input(leader, unreadable);
    cell.advance(2_500);
    assert!(cell.hosts[&leader].disk.snapshot.is_some());
}

/// So is any, once the disk has room again.
#[test]
fn a_snapshot_is_tried_again_when_the_disk_has_room() {
    let mut cell = one_whose_snapshot_failed();
    cell.input(1, Input::DiskFull(true));
    cell.advance(1_000);
    assert!(cell.hosts[&1].disk.snapshot.is_none());
    cell.input(1, Input::DiskFull(false));
    cell.advance(100);
    assert!(cell.hosts[&1].disk.snapshot.is_some());
}

#[test]
fn w11_watches_go_on_after_a_restore_or_hear_of_the_compaction() {
    let mut cell = Cell::with(3, small_log());
    let leader = cell.elect();
    let behind = cell.follower();
    for stream in [1, 2] {
        cell.watch(
            behind,
            stream,
            WatchRequest::Create(WatchCreate {
                key: "k".into(),
                range_end: "l".into(),
                ..WatchCreate::default()
            }),
        );
        cell.credit(behind, stream, 1_000_000);
    }
    fill(&mut cell, leader, 2);
    cell.advance(200);
    let first: usize = events(&cell.heard(behind, 1)).len();
    assert_eq!(first, 100);
    cell.isolate(behind);
    fill(&mut cell, leader, 40);
    cell.heal();
    cell.advance(10_000);
    cell.check_equal();
    assert!(cell.snapshot_chunks > 0);
    let revisions: Vec<i64> = events(&cell.heard(behind, 1))
        .iter()
        .map(|event| event.kv.mod_revision)
        .collect();
    assert_eq!(
        revisions,
        (102..=2101).collect::<Vec<i64>>(),
        "no gap and nothing twice"
    );

    cell.isolate(behind);
    fill(&mut cell, leader, 40);
    let compacted = cell.replica(leader).status().revision - 5;
    cell.compact(leader, compacted);
    fill(&mut cell, leader, 40);
    cell.heal();
    cell.advance(10_000);
    cell.check_equal();
    let heard = cell.heard(behind, 1);
    assert!(
        heard
            .iter()
            .any(|response| response.body == WatchBody::Compacted { compacted })
            || events(&heard).len() == 4000,
        "{:?}",
        heard.last()
    );
}

fn events(responses: &[replica::WatchResponse]) -> Vec<std::sync::Arc<replica::Event>> {
    let mut all = Vec::new();
    for response in responses {
        if let WatchBody::Events { events, .. } = &response.body {
            all.extend(events.iter().cloned());
        }
    }
    all
}

#[test]
fn what_was_sent_before_a_restore_ends_as_unknown() {
    let mut cell = Cell::with(3, small_log());
    let leader = cell.elect();
    let behind = cell.follower();
    // The forward arrives, its outcome does not come back in entries but inside a snapshot.
    let others: Vec<u64> = (1..=3).filter(|&nth| nth != behind).collect();
    for &nth in &others {
        cell.cut.insert((nth, behind));
    }
    let ticket = cell.propose(behind, put("mine", "v"));
    cell.settle();
    assert_eq!(cell.outcome(ticket), None);
    fill(&mut cell, leader, 40);
    assert_eq!(cell.get(leader, "mine").as_deref(), Some("v"));
    cell.heal();
    cell.advance(3000);
    assert_eq!(cell.failure(ticket), Failure::Unknown);
    assert_eq!(cell.get(behind, "mine").as_deref(), Some("v"));
}

/// Found by the simulator (bitrot 10071): a member that knew how much was decided when it sent a command knows that no snapshot of less holds it.
#[test]
fn what_was_sent_after_hearing_of_more_than_a_snapshot_has_is_answered() {
    let mut cell = Cell::with(3, small_log());
    let leader = cell.elect();
    let behind = cell.follower();
    cell.isolate(behind);
    fill(&mut cell, leader, 40);
    cell.advance(2000);
    let ticket = cell.propose(behind, put("mine", "v"));
    let chunks = cell.snapshot_chunks;
    cell.heal();
    cell.advance(1000);
    assert!(cell.snapshot_chunks > chunks, "it came by a snapshot");
    let revision = cell.response(ticket).revision;
    assert_eq!(revision, cell.replica(leader).status().revision);
    assert_eq!(cell.get(behind, "mine").as_deref(), Some("v"));
}

#[test]
fn requests_that_come_before_the_state_is_loaded_are_answered_after() {
    let mut cell = Cell::with(1, small_log());
    cell.elect();
    fill(&mut cell, 1, 20);
    cell.kill(1);
    cell.start(1);
    let read = cell.read(1, Consistency::Local, range("k001", ""));
    cell.watch(
        1,
        1,
        WatchRequest::Create(WatchCreate {
            key: "k001".into(),
            ..WatchCreate::default()
        }),
    );
    cell.credit(1, 1, 10);
    cell.input(1, Input::LogBytes(0));
    cell.advance(3000);
    assert!(value(&cell.response(read)).is_some_and(|value| value.starts_with("19-")));
    let heard = cell.heard(1, 1);
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!(heard[0].body, WatchBody::Created);
}

#[test]
fn checkpoint_holds_what_was_applied_before_it_was_asked_for() {
    let mut cell = Cell::with(3, Settings::default());
    let leader = cell.elect();
    cell.put(leader, "a", "1");
    let follower = cell.follower();
    for nth in [leader, follower] {
        let asked = cell.replica(nth).status().applied;
        let ticket = cell.ticket();
        cell.input(nth, Input::Checkpoint(ticket));
        cell.settle();
        let response = cell.response(ticket);
        let Body::Checkpoint(index) = response.body else {
            panic!("{response:?}")
        };
        assert!(index.0 >= asked, "{index:?} is older than {asked}");
        let (mark, _) = cell.hosts[&nth]
            .disk
            .snapshot
            .as_ref()
            .expect("it was taken");
        assert_eq!(mark.index, index);
        // Nothing changed since: the same one will do.
        let again = cell.ticket();
        cell.input(nth, Input::Checkpoint(again));
        cell.settle();
        assert_eq!(cell.response(again).body, Body::Checkpoint(index));
    }
    let given_up = cell.ticket();
    cell.put(leader, "b", "2");
    cell.input(leader, Input::Checkpoint(given_up));
    cell.input(leader, Input::Cancel(given_up));
    cell.settle();
    assert!(cell.outcome(given_up).is_none());
}
