//! Reads at every level of freshness.

use crate::harness::*;
use replica::{Body, Consistency, Failure, Input, Stamp, Ticket};
use state::{Answer, Query};
use std::time::Duration;

#[test]
fn a_linearizable_read_on_any_member_sees_what_was_acknowledged_before() {
    let mut cell = Cell::settled();
    for n in 0..30 {
        cell.put(1 + n % 3, "k", &n.to_string());
        assert_eq!(cell.get(1 + (n + 1) % 3, "k"), Some(n.to_string()));
    }
}

#[test]
fn reads_of_one_turn_share_a_round() {
    let mut cell = Cell::settled();
    let follower = cell.follower();
    cell.put(follower, "k", "v");
    let reads: Vec<Ticket> = (0..200)
        .map(|_| cell.read(follower, Consistency::Linearizable, range("k", "")))
        .collect();
    let turns = cell.hosts[&follower].turns;
    cell.settle();
    for read in reads {
        assert_eq!(value(&cell.response(read)).as_deref(), Some("v"));
    }
    assert!(
        cell.hosts[&follower].turns - turns < 15,
        "{} turns",
        cell.hosts[&follower].turns - turns
    );
}

#[test]
fn a_linearizable_read_without_a_quorum_fails_as_leaderless() {
    let mut cell = Cell::settled();
    let leader = cell.leader().unwrap();
    cell.put(leader, "k", "v");
    cell.isolate(leader);
    let read = cell.read(leader, Consistency::Linearizable, range("k", ""));
    cell.advance(200);
    assert_eq!(cell.outcome(read), None, "a deposed leader must not answer");
    cell.advance(8000);
    assert_eq!(cell.failure(read), Failure::NoLeader);
    // V2: what may be stale is still answered.
    let local = cell.read(leader, Consistency::Local, range("k", ""));
    cell.settle();
    assert_eq!(value(&cell.response(local)).as_deref(), Some("v"));
}

#[test]
fn a_read_during_an_election_is_answered_by_the_next_leader() {
    let mut cell = Cell::settled();
    let follower = cell.follower();
    cell.put(follower, "k", "v");
    let leader = cell.leader().unwrap();
    let read = cell.read(follower, Consistency::Linearizable, range("k", ""));
    cell.kill(leader);
    cell.advance(1900);
    assert_eq!(value(&cell.response(read)).as_deref(), Some("v"));
}

#[test]
fn kv7_a_stamp_is_never_undercut() {
    let mut cell = Cell::settled();
    let leader = cell.leader().unwrap();
    let follower = cell.follower();
    cell.put(leader, "k", "old");
    cell.advance(200);
    cell.isolate(follower);
    let stamp = cell.put(leader, "k", "new").stamp;
    assert_eq!(stamp.cluster, CLUSTER);
    let read = cell.read(follower, Consistency::AtLeast(stamp), range("k", ""));
    let local = cell.read(follower, Consistency::Local, range("k", ""));
    cell.settle();
    assert_eq!(cell.outcome(read), None, "it waits");
    let local = cell.response(local);
    assert_eq!(value(&local).as_deref(), Some("old"));
    assert!(local.stamp < stamp, "KV8: a stale answer says so");
    cell.heal();
    cell.advance(1500);
    let response = cell.response(read);
    assert_eq!(value(&response).as_deref(), Some("new"));
    assert!(response.stamp >= stamp);
}

#[test]
fn a_stamp_that_is_not_reached_fails_as_too_stale() {
    let mut cell = Cell::settled();
    let follower = cell.follower();
    let mut stamp = cell.put(follower, "k", "v").stamp;
    stamp.index += 1000;
    let read = cell.read(follower, Consistency::AtLeast(stamp), range("k", ""));
    cell.advance(10_000);
    let leader = Some(member(cell.leader().unwrap()).member);
    assert_eq!(cell.failure(read), Failure::TooStale { leader });
}

#[test]
fn a_foreign_stamp_is_refused() {
    let mut cell = Cell::settled();
    for stamp in [
        Stamp {
            cluster: 1,
            cell: CELL,
            index: 1,
        },
        Stamp {
            cluster: CLUSTER,
            cell: 9,
            index: 1,
        },
    ] {
        let read = cell.read(1, Consistency::AtLeast(stamp), range("k", ""));
        cell.settle();
        assert_eq!(cell.failure(read), Failure::ForeignStamp);
    }
}

#[test]
fn a_bounded_read_is_served_while_fresh_and_refused_when_not() {
    let mut cell = Cell::settled();
    let follower = cell.follower();
    cell.put(follower, "k", "v");
    let second = Consistency::Bounded(Duration::from_secs(1));
    cell.advance(2000);
    // Nobody has asked the leader lately: it asks now.
    assert_eq!(cell.get_with(follower, "k", second).as_deref(), Some("v"));
    cell.isolate(follower);
    cell.advance(900);
    assert_eq!(
        cell.get_with(follower, "k", second).as_deref(),
        Some("v"),
        "fresh enough, and no quorum is needed"
    );
    cell.advance(200);
    let stale = cell.read(follower, second, range("k", ""));
    cell.advance(1500);
    assert!(matches!(cell.failure(stale), Failure::TooStale { .. }));
}

#[test]
fn a_large_query_ends_beside_small_ones_and_changes() {
    let mut cell = Cell::settled();
    let leader = cell.leader().unwrap();
    for n in 0..10 {
        let tickets: Vec<Ticket> = (0..1000)
            .map(|m| cell.propose(leader, put(&format!("k{n:02}{m:03}"), "v")))
            .collect();
        cell.settle();
        tickets
            .into_iter()
            .for_each(|ticket| drop(cell.response(ticket)));
    }
    let large = cell.read(leader, Consistency::Local, range("k", "l"));
    let other = cell.read(leader, Consistency::Local, range("k", "l"));
    cell.turn(leader);
    assert_eq!(cell.outcome(large), None);
    let small = cell.read(leader, Consistency::Local, range("k00000", ""));
    cell.turn(leader);
    assert_eq!(value(&cell.response(small)).as_deref(), Some("v"));
    assert_eq!(
        cell.outcome(large),
        None,
        "a small one does not wait for a large one"
    );
    // A change in between is not seen: the view is pinned.
    let change = cell.propose(leader, put("k00000", "changed"));
    cell.settle();
    cell.response(change);
    for ticket in [large, other] {
        let response = cell.response(ticket);
        let Body::Answer(Answer::Range(reply)) = &response.body else {
            panic!("{response:?}")
        };
        assert_eq!(reply.kvs.len(), 10_000);
        assert_eq!(value(&response).as_deref(), Some("v"));
        assert_eq!(response.revision, 10_001);
    }
}

#[test]
fn a_cancelled_read_is_not_answered() {
    let mut cell = Cell::settled();
    let reads: Vec<Ticket> = (0..3)
        .map(|_| cell.read(1, Consistency::Linearizable, Query::Position))
        .collect();
    cell.input(1, Input::Cancel(reads[1]));
    cell.settle();
    assert!(cell.outcome(reads[0]).is_some() && cell.outcome(reads[2]).is_some());
    assert_eq!(cell.outcome(reads[1]), None);
}

#[test]
fn an_idle_member_asks_for_no_wakeups_beyond_consensus() {
    let mut cell = Cell::settled();
    cell.put(1, "k", "v");
    cell.advance(1000);
    let before: Vec<u64> = cell.hosts.values().map(|host| host.turns).collect();
    let start = cell.now;
    cell.advance(10_000);
    assert_eq!(cell.now - start, 10_000_000);
    for (host, before) in cell.hosts.values().zip(before) {
        // The harness itself gives each member some turns per event of any other; a busy tick would give thousands more.
        let turns = host.turns - before;
        assert!(turns < 3000, "{turns} turns in 10 s");
    }
}
