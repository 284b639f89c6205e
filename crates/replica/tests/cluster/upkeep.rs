//! What a leader proposes of its own accord.

use crate::harness::{Cell, put};
use raft::MemberId;
use replica::{AutoCompaction, Consistency, Failure, Input, Limits, Settings};
use state::{Answer, LeaseGrant, Operation, Query, Rejection, Reply};
use std::time::Duration;

fn limited(bytes_max: u64) -> Settings {
    Settings {
        limits: Limits {
            state_bytes_max: Some(bytes_max),
            ..Limits::default()
        },
        ..Settings::default()
    }
}

fn bytes_max(cell: &Cell) -> Vec<u64> {
    (1..=3)
        .map(|nth| cell.replica(nth).status().state_bytes_max)
        .collect()
}

fn reply(cell: &mut Cell, nth: u64, key: &str) -> Reply {
    let ticket = cell.propose(nth, put(key, &"v".repeat(100)));
    cell.settle();
    match cell.response(ticket).body {
        replica::Body::Reply(reply) => reply,
        other => panic!("no reply: {other:?}"),
    }
}

/// Until now each member held growing writes against its own setting, while applying: this cell would have fallen apart.
#[test]
fn kv5_members_with_different_limits_agree() {
    let mut cell = Cell::with(3, limited(1000));
    cell.elect();
    assert_eq!(bytes_max(&cell), [1000; 3]);
    let follower = cell.follower();
    cell.settings = limited(500);
    cell.kill(follower);
    cell.start(follower);
    cell.advance(2000);
    let leader = cell.leader().expect("a leader");
    for n in 0..10 {
        reply(&mut cell, leader, &format!("k{n}"));
    }
    cell.check_equal();
    assert_eq!(bytes_max(&cell), [1000; 3], "the leader's limit holds");
    let target = Some(MemberId(follower));
    cell.input(leader, Input::Transfer { target });
    cell.advance(2000);
    assert_eq!(cell.leader(), Some(follower));
    assert_eq!(bytes_max(&cell), [500; 3], "the new leader's limit holds");
    cell.check_equal();
}

#[test]
fn a_full_state_raises_an_alarm_that_goes_with_a_compaction() {
    let mut cell = Cell::with(3, limited(1000));
    let leader = cell.elect();
    let mut refused = None;
    for n in 0..8 {
        refused = Some(reply(&mut cell, leader, &format!("k{}", n % 2)));
    }
    assert!(
        matches!(refused, Some(Reply::Rejected(Rejection::NoSpace { .. }))),
        "{refused:?}"
    );
    for nth in 1..=3 {
        assert_eq!(cell.replica(nth).status().alarms.len(), 1, "member {nth}");
    }
    let ticket = cell.read(cell.follower(), Consistency::Linearizable, Query::Alarms);
    cell.settle();
    let replica::Body::Answer(Answer::Alarms(alarms)) = cell.response(ticket).body else {
        panic!("no alarms were told");
    };
    assert_eq!(alarms[0].member, leader, "whose write did not fit");
    let revision = cell.replica(leader).status().revision;
    cell.compact(leader, revision);
    assert_eq!(reply(&mut cell, leader, "k0"), Reply::Put { prev: None });
    assert!(cell.replica(leader).status().alarms.is_empty());
    cell.check_equal();
}

#[test]
fn history_is_compacted_after_a_change_of_leader_too() {
    let settings = Settings {
        auto_compaction: AutoCompaction::Periodic(Duration::from_secs(10)),
        ..Settings::default()
    };
    let mut cell = Cell::with(3, settings);
    let first = cell.elect();
    for n in 0..24 {
        let leader = cell.leader().expect("a leader");
        reply(&mut cell, leader, &format!("k{}", n % 3));
        if n == 8 {
            cell.kill(first);
        }
        cell.advance(1000);
    }
    let leader = cell.leader().expect("a leader");
    assert_ne!(leader, first);
    let status = cell.replica(leader).status();
    // A revision a second: those of the last ten stay, and some more, as compactions are ten seconds apart.
    assert!(status.compacted > 1, "nothing was compacted");
    assert!(status.compacted <= status.revision - 10, "{status:?}");
    cell.start(first);
    cell.advance(2000);
    cell.check_equal();
}

#[test]
fn leases_beyond_the_limit_are_refused_until_some_end() {
    let settings = Settings {
        limits: Limits {
            leases_max: 2,
            ..Limits::default()
        },
        ..Settings::default()
    };
    let mut cell = Cell::with(3, settings);
    let leader = cell.elect();
    cell.grant(leader, 1, 5000);
    cell.grant(leader, 2, 60_000);
    let grant = |id| Operation::LeaseGrant(LeaseGrant { id, ttl_ms: 60_000 });
    let refused = cell.propose(leader, grant(3));
    cell.settle();
    assert_eq!(cell.failure(refused), Failure::TooManyLeases { limit: 2 });
    cell.advance(6000);
    cell.grant(leader, 3, 60_000);
}
