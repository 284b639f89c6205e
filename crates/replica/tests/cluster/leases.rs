//! Leases by the replicated clock, through leader changes and pauses (L1–L7).

use crate::harness::*;
use replica::{Body, Consistency};
use state::{Answer, Query, Reply};

const TTL: u64 = 5000;

fn with_lease(cell: &mut Cell, id: i64, ttl_ms: u64) {
    let leader = cell.leader().unwrap();
    cell.grant(leader, id, ttl_ms);
    let ticket = cell.propose(leader, put_with_lease(&format!("leased{id}"), "v", id));
    cell.settle();
    cell.response(ticket);
}

/// On a member of the majority, by a linearizable read.
fn is_alive(cell: &mut Cell, nth: u64, id: i64) -> bool {
    cell.get(nth, &format!("leased{id}")).is_some()
}

fn renew(cell: &mut Cell, nth: u64, id: i64) -> Option<u64> {
    let ticket = cell.keep_alive(nth, id);
    cell.advance(50);
    match cell.response(ticket).body {
        Body::KeepAlive(ttl_ms) => ttl_ms,
        other => panic!("{other:?}"),
    }
}

#[test]
fn l1_l2_a_lease_ends_after_its_ttl_and_soon() {
    let mut cell = Cell::settled();
    with_lease(&mut cell, 7, TTL);
    let follower = cell.follower();
    cell.advance(TTL - 100);
    assert!(is_alive(&mut cell, follower, 7));
    cell.advance(100 + TTL / 50 + 1000);
    assert!(!is_alive(&mut cell, follower, 7));
    cell.check_equal();
}

#[test]
fn l1_keep_alives_on_any_member_keep_a_lease_alive() {
    let mut cell = Cell::settled();
    with_lease(&mut cell, 7, TTL);
    for n in 0..20 {
        cell.advance(TTL / 2);
        assert_eq!(renew(&mut cell, 1 + n % 3, 7), Some(TTL));
    }
    assert!(is_alive(&mut cell, 1, 7));
}

#[test]
fn l1_l2_through_a_change_of_leader() {
    let mut cell = Cell::settled();
    with_lease(&mut cell, 7, TTL);
    cell.advance(2000);
    let leader = cell.leader().unwrap();
    let follower = cell.follower();
    let killed_at = cell.now;
    cell.kill(leader);
    cell.elect();
    let without_leader_ms = (cell.now - killed_at) / 1000;
    cell.advance((TTL - 2000 - 100).saturating_sub(without_leader_ms));
    assert!(
        is_alive(&mut cell, follower, 7),
        "the new leader went on from the clock of the old one, not ahead of it"
    );
    cell.advance(100 + TTL / 50 + without_leader_ms + 1000);
    assert!(!is_alive(&mut cell, follower, 7));
}

#[test]
fn l1_the_new_leader_counts_from_its_last_entry_not_from_what_it_had_applied() {
    let mut cell = Cell::settled();
    let leader = cell.leader().unwrap();
    with_lease(&mut cell, 7, TTL);
    cell.advance(3000);
    // A renewal that is in every log, but that only the old leader knows to be decided, when it dies.
    let ticket = cell.keep_alive(leader, 7);
    cell.settle();
    cell.response(ticket);
    let renewed_at = cell.now;
    cell.kill(leader);
    cell.elect();
    let follower = cell.follower();
    cell.advance(TTL - 100 - (cell.now - renewed_at) / 1000);
    assert!(
        is_alive(&mut cell, follower, 7),
        "the acknowledged renewal counts in full"
    );
}

#[test]
fn l6_leader_churn_does_not_extend_a_lease_for_ever() {
    let mut cell = Cell::settled();
    with_lease(&mut cell, 7, TTL);
    let start = cell.now;
    let mut without_leader = 0;
    while (cell.now - start) / 1000 < TTL + TTL / 50 + 1000 + without_leader / 1000 {
        let leader = cell.leader().unwrap();
        let at = cell.now;
        cell.kill(leader);
        cell.advance(10);
        cell.start(leader);
        cell.elect();
        without_leader += cell.now - at;
        cell.advance(300);
    }
    let leader = cell.leader().unwrap();
    assert!(
        !is_alive(&mut cell, leader, 7),
        "after {} ms, {} of them without a leader",
        (cell.now - start) / 1000,
        without_leader / 1000
    );
}

#[test]
fn l1_a_paused_leader_ends_no_lease_when_it_wakes() {
    let mut cell = Cell::new(1);
    cell.elect();
    with_lease(&mut cell, 7, TTL);
    cell.hosts.get_mut(&1).unwrap().paused = true;
    cell.advance(60_000);
    cell.hosts.get_mut(&1).unwrap().paused = false;
    cell.advance(1000);
    assert!(
        is_alive(&mut cell, 1, 7),
        "time in which nobody led does not count"
    );
    assert_eq!(renew(&mut cell, 1, 7), Some(TTL));
    cell.advance(TTL + TTL / 50 + 1000);
    assert!(!is_alive(&mut cell, 1, 7));
}

#[test]
fn l7_wall_clock_jumps_change_nothing() {
    let mut cell = Cell::settled();
    with_lease(&mut cell, 7, TTL);
    cell.advance(1000);
    cell.wall_ms += 1_000_000_000;
    cell.put(1, "x", "1");
    cell.advance(1000);
    cell.wall_ms -= 1_500_000_000;
    cell.put(1, "x", "2");
    cell.advance(2900);
    assert!(is_alive(&mut cell, 1, 7));
    cell.advance(100 + TTL / 50 + 1000);
    assert!(!is_alive(&mut cell, 1, 7));
}

#[test]
fn l4_expiry_removes_all_keys_in_one_revision() {
    let mut cell = Cell::settled();
    let leader = cell.leader().unwrap();
    cell.grant(leader, 9, 1000);
    for n in 0..50 {
        let ticket = cell.propose(leader, put_with_lease(&format!("many{n}"), "v", 9));
        cell.settle();
        cell.response(ticket);
    }
    let before = cell.replica(leader).status().revision;
    cell.advance(2500);
    assert_eq!(cell.replica(leader).status().revision, before + 1);
    assert_eq!(cell.replica(leader).status().keys, 0);
}

#[test]
fn l5_a_keep_alive_after_expiry_says_so() {
    let mut cell = Cell::settled();
    with_lease(&mut cell, 7, 1000);
    cell.advance(2500);
    for nth in 1..=3 {
        assert_eq!(renew(&mut cell, nth, 7), None);
    }
    assert_eq!(
        renew(&mut cell, 1, 12345),
        None,
        "nor was there ever one of this id"
    );
}

#[test]
fn l3_a_renewal_that_was_not_decided_has_no_effect() {
    let mut cell = Cell::settled();
    with_lease(&mut cell, 7, TTL);
    let leader = cell.leader().unwrap();
    cell.isolate(leader);
    cell.advance(100);
    let lost = cell.keep_alive(leader, 7);
    cell.settle();
    let start = cell.now;
    let others: Vec<u64> = (1..=3).filter(|&nth| nth != leader).collect();
    while (cell.now - start) / 1000 < TTL + TTL / 50 + 3000 {
        cell.advance(100);
    }
    assert!(!is_alive(&mut cell, others[0], 7));
    assert!(cell.outcome(lost).is_none_or(|outcome| outcome.is_err()));
}

#[test]
fn keep_alives_of_one_turn_share_an_entry_and_each_is_answered() {
    let mut cell = Cell::settled();
    let leader = cell.leader().unwrap();
    for id in 1..=20 {
        cell.grant(leader, id, 60_000);
    }
    let follower = cell.follower();
    cell.advance(200);
    let before = cell.replica(follower).status().applied;
    let tickets: Vec<_> = (0..200)
        .map(|n| (n % 25 + 1, cell.keep_alive(follower, n % 25 + 1)))
        .collect();
    cell.settle();
    cell.advance(200);
    assert_eq!(cell.replica(follower).status().applied, before + 1);
    for (id, ticket) in tickets {
        let expected = (id <= 20).then_some(60_000);
        assert_eq!(cell.response(ticket).body, Body::KeepAlive(expected));
    }
}

#[test]
fn an_idle_cell_without_leases_proposes_nothing() {
    let mut cell = Cell::settled();
    with_lease(&mut cell, 7, TTL);
    with_lease(&mut cell, 8, 2 * TTL);
    let leader = cell.leader().unwrap();
    let before = cell.replica(leader).status().applied;
    cell.advance(3 * TTL);
    let entries = cell.replica(leader).status().applied - before;
    assert!(
        (2..=2 * TTL / 500 + 4).contains(&entries),
        "{entries} entries for two deadlines and the checkpoints while there are leases"
    );
    let leases = cell.read(leader, Consistency::Linearizable, Query::Leases);
    cell.settle();
    assert_eq!(
        cell.response(leases).body,
        Body::Answer(Answer::Leases(vec![]))
    );
    let before = cell.replica(leader).status().applied;
    cell.advance(60_000);
    assert_eq!(cell.replica(leader).status().applied, before);
}

#[test]
fn l2_a_restart_of_all_extends_a_lease_by_little() {
    let mut cell = Cell::settled();
    with_lease(&mut cell, 7, TTL);
    cell.advance(TTL - 1000);
    let start = cell.now;
    for nth in 1..=3 {
        cell.kill(nth);
    }
    for nth in 1..=3 {
        cell.start(nth);
    }
    let leader = cell.elect();
    let without_leader_ms = (cell.now - start) / 1000;
    assert!(is_alive(&mut cell, leader, 7));
    cell.advance(1000 + TTL / 50 + 1000 - without_leader_ms.min(1000));
    assert!(!is_alive(&mut cell, leader, 7));
}

#[test]
fn many_leases_that_end_together_all_end() {
    let mut cell = Cell::settled();
    let leader = cell.leader().unwrap();
    let tickets: Vec<_> = (1..=5000)
        .map(|id| {
            cell.propose(
                leader,
                state::Operation::LeaseGrant(state::LeaseGrant { id, ttl_ms: 2000 }),
            )
        })
        .collect();
    cell.settle();
    for ticket in tickets {
        assert!(matches!(
            cell.response(ticket).body,
            Body::Reply(Reply::LeaseGrant { .. })
        ));
    }
    cell.advance(2000 + 40 + 1000);
    let leases = cell.read(leader, Consistency::Linearizable, Query::Leases);
    cell.settle();
    assert_eq!(
        cell.response(leases).body,
        Body::Answer(Answer::Leases(vec![]))
    );
    cell.check_equal();
}
