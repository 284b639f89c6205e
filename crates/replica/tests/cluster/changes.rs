//! Changes: proposed anywhere, decided once, answered once.

use crate::harness::*;
use raft::Role;
use replica::{Consistency, Failure, Input, Limits, Settings, Ticket};

#[test]
fn a_put_on_any_member_is_read_on_every_member() {
    let mut cell = Cell::settled();
    for nth in 1..=3 {
        let response = cell.put(nth, &format!("k{nth}"), "v");
        assert_eq!(response.revision, 1 + nth as i64);
        for at in 1..=3 {
            assert_eq!(
                cell.get(at, &format!("k{nth}")).as_deref(),
                Some("v"),
                "put on {nth}, read on {at}"
            );
        }
    }
    cell.advance(200);
    cell.check_equal();
}

#[test]
fn a_lone_member_serves() {
    let mut cell = Cell::new(1);
    cell.elect();
    cell.put(1, "a", "1");
    assert_eq!(cell.get(1, "a").as_deref(), Some("1"));
}

#[test]
fn commands_of_one_turn_travel_in_one_entry() {
    let mut cell = Cell::settled();
    let leader = cell.leader().unwrap();
    let before = cell.replica(leader).status().applied;
    let tickets: Vec<Ticket> = (0..500)
        .map(|n| cell.propose(leader, put(&format!("k{n}"), "v")))
        .collect();
    cell.settle();
    for ticket in tickets {
        cell.response(ticket);
    }
    assert_eq!(cell.replica(leader).status().applied, before + 1);
}

#[test]
fn a_batch_is_bounded() {
    let limits = Limits {
        batch_bytes_max: 1000,
        ..Limits::default()
    };
    let mut cell = Cell::with(
        3,
        Settings {
            limits,
            ..Settings::default()
        },
    );
    cell.elect();
    let follower = cell.follower();
    let before = cell.replica(follower).status().applied;
    let tickets: Vec<Ticket> = (0..100)
        .map(|n| cell.propose(follower, put(&format!("k{n}"), &"v".repeat(100))))
        .collect();
    cell.settle();
    tickets
        .into_iter()
        .for_each(|ticket| drop(cell.response(ticket)));
    cell.advance(200);
    let entries = cell.replica(follower).status().applied - before;
    assert!(
        (10..=20).contains(&entries),
        "{entries} entries for about 12 kB"
    );
}

#[test]
fn a_command_is_refused_when_it_is_too_large() {
    let mut cell = Cell::settled();
    let ticket = cell.propose(1, put("k", &"v".repeat(2 << 20)));
    cell.settle();
    assert!(
        matches!(cell.failure(ticket), Failure::TooLarge { bytes_max, .. } if bytes_max == 3 << 19)
    );
}

#[test]
fn overload_is_answered_at_once() {
    let limits = Limits {
        pending_commands_max: 10,
        pending_queries_max: 5,
        ..Limits::default()
    };
    let mut cell = Cell::with(
        3,
        Settings {
            limits,
            ..Settings::default()
        },
    );
    cell.elect();
    let tickets: Vec<Ticket> = (0..12)
        .map(|n| cell.propose(1, put(&format!("k{n}"), "v")))
        .collect();
    let reads: Vec<Ticket> = (0..7)
        .map(|_| cell.read(1, Consistency::Linearizable, range("k0", "")))
        .collect();
    cell.settle();
    for (nth, ticket) in tickets.into_iter().enumerate() {
        if nth < 10 {
            cell.response(ticket);
        } else {
            assert_eq!(
                cell.failure(ticket),
                Failure::Overloaded {
                    queue: "commands",
                    limit: 10
                }
            );
        }
    }
    for (nth, ticket) in reads.into_iter().enumerate() {
        if nth < 5 {
            cell.response(ticket);
        } else {
            assert_eq!(
                cell.failure(ticket),
                Failure::Overloaded {
                    queue: "queries",
                    limit: 5
                }
            );
        }
    }
    cell.put(1, "again", "v");
}

#[test]
fn without_a_leader_changes_wait_two_elections_then_fail() {
    let mut cell = Cell::settled();
    let leader = cell.leader().unwrap();
    let follower = cell.follower();
    cell.isolate(follower);
    cell.advance(5000);
    assert_eq!(cell.hosts[&follower].leader, None);
    let ticket = cell.propose(follower, put("k", "v"));
    cell.advance(1500);
    assert_eq!(cell.outcome(ticket), None, "held");
    cell.advance(1000);
    assert_eq!(cell.failure(ticket), Failure::NoLeader);
    cell.heal();
    cell.advance(3000);
    assert_eq!(cell.get(leader, "k"), None, "nothing happened");
}

#[test]
fn a_change_held_back_without_a_leader_is_sent_when_there_is_one() {
    let mut cell = Cell::settled();
    let leader = cell.leader().unwrap();
    let follower = cell.follower();
    cell.kill(leader);
    let ticket = cell.propose(follower, put("k", "v"));
    cell.settle();
    cell.advance(2000);
    cell.response(ticket);
    assert_eq!(cell.get(follower, "k").as_deref(), Some("v"));
}

#[test]
fn a_change_of_leader_costs_time_and_no_errors_and_nothing_is_applied_twice() {
    let mut cell = Cell::settled();
    let leader = cell.leader().unwrap();
    let follower = cell.follower();
    // The forwards reach a leader that is cut off from the others: they are lost with its leadership.
    let other = (1..=3)
        .find(|&nth| nth != leader && nth != follower)
        .unwrap();
    for nth in [follower, other] {
        cell.cut.insert((leader, nth));
    }
    let tickets: Vec<Ticket> = (0..10)
        .map(|n| cell.propose(follower, put(&format!("k{n}"), "v")))
        .collect();
    cell.settle();
    assert!(tickets.iter().all(|&ticket| cell.outcome(ticket).is_none()));
    cell.isolate(leader);
    cell.advance(1900);
    for &ticket in &tickets {
        cell.response(ticket);
    }
    cell.heal();
    cell.advance(2000);
    cell.check_equal();
    assert_eq!(
        cell.replica(follower).status().revision,
        11,
        "each of the ten changes once"
    );
}

#[test]
fn a_forward_lost_with_its_connection_is_sent_again_under_the_same_leader() {
    let mut cell = Cell::settled();
    let (leader, follower) = (cell.leader().unwrap(), cell.follower());
    cell.cut.insert((follower, leader));
    let ticket = cell.propose(follower, put("k", "v"));
    cell.settle();
    cell.heal();
    cell.advance(1500);
    cell.response(ticket);
    assert_eq!(cell.leader(), Some(leader));
    assert_eq!(cell.replica(leader).status().revision, 2, "once");
}

#[test]
fn proposals_of_a_deposed_leader_end_definitely() {
    let mut cell = Cell::settled();
    let leader = cell.leader().unwrap();
    cell.isolate(leader);
    let ticket = cell.propose(leader, put("k", "v"));
    cell.settle();
    cell.advance(3000);
    assert!(
        cell.hosts[&leader].role != Role::Leader,
        "check-quorum deposes it"
    );
    assert_eq!(cell.outcome(ticket), None, "it may still be applied");
    cell.heal();
    cell.advance(1000);
    cell.elect();
    // The new leader's first entry shows that it was lost; it was sent again, or failed because it had waited too long.
    match cell.outcome(ticket) {
        Some(Ok(_)) => assert_eq!(cell.get(leader, "k").as_deref(), Some("v")),
        Some(Err(Failure::LeaderChanged | Failure::Overloaded { .. } | Failure::NoLeader)) => {
            assert_eq!(cell.get(leader, "k"), None)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_outcome_that_cannot_be_known_is_told_as_unknown() {
    let mut cell = Cell::settled();
    let leader = cell.leader().unwrap();
    cell.isolate(leader);
    let ticket = cell.propose(leader, put("k", "v"));
    cell.settle();
    cell.advance(9000);
    assert_eq!(cell.failure(ticket), Failure::Unknown);
}

#[test]
fn a_full_disk_lets_only_pass_what_frees_space() {
    let mut cell = Cell::new(1);
    cell.elect();
    cell.put(1, "a", "1");
    cell.input(1, Input::DiskFull(true));
    cell.settle();
    let refused = cell.propose(1, put("b", "1"));
    cell.settle();
    assert_eq!(cell.failure(refused), Failure::DiskFull);
    cell.delete(1, "a", "");
    cell.compact(1, 2);
    cell.input(1, Input::DiskFull(false));
    cell.put(1, "b", "1");
}

#[test]
fn a_leader_with_a_full_disk_hands_over() {
    let mut cell = Cell::settled();
    let leader = cell.leader().unwrap();
    cell.input(leader, Input::DiskFull(true));
    cell.advance(1500);
    let new = cell.leader().unwrap();
    assert_ne!(new, leader);
    cell.put(new, "k", "v");
}

#[test]
fn r3_whoever_has_room_leads_in_the_end() {
    let mut cell = Cell::settled();
    let leader = cell.leader().unwrap();
    let [first, roomy]: [u64; 2] = (1..=3)
        .filter(|nth| *nth != leader)
        .collect::<Vec<u64>>()
        .try_into()
        .unwrap();
    cell.input(first, Input::DiskFull(true));
    cell.advance(1500);
    assert_eq!(cell.leader(), Some(leader), "it has room and leads on");
    // The only one with room is away: one without leads, and lets pass what frees space.
    cell.input(leader, Input::DiskFull(true));
    cell.isolate(roomy);
    cell.advance(5000);
    let short = cell.leader().unwrap();
    assert_ne!(short, roomy);
    cell.delete(short, "k", "");
    cell.heal();
    // A hand-over that failed is not tried again for ten elections.
    cell.advance(12_000);
    assert_eq!(cell.leader(), Some(roomy));
    cell.put(roomy, "k", "v");
    // Without room anywhere nobody is better than the one that leads.
    cell.input(roomy, Input::DiskFull(true));
    cell.advance(3000);
    let term = cell.replica(roomy).status().raft.term;
    cell.advance(20_000);
    assert_eq!(cell.replica(roomy).status().raft.term, term);
    cell.input(first, Input::DiskFull(false));
    cell.advance(5000);
    assert_eq!(cell.leader(), Some(first));
    cell.put(first, "k", "v");
}

#[test]
fn everything_survives_a_restart_of_all() {
    let mut cell = Cell::settled();
    for n in 0..100 {
        cell.put(1 + n % 3, &format!("k{n}"), "v");
    }
    for nth in 1..=3 {
        cell.kill(nth);
    }
    for nth in 1..=3 {
        cell.start(nth);
    }
    cell.elect();
    for n in 0..100 {
        assert_eq!(cell.get(1 + n % 3, &format!("k{n}")).as_deref(), Some("v"));
    }
    cell.check_equal();
}

#[test]
fn a_million_keys_deleted_delay_no_heartbeat() {
    // Fewer keys than the name says, in proportion: what counts is that the delete takes many turns.
    let mut cell = Cell::settled();
    let leader = cell.leader().unwrap();
    for n in 0..20 {
        let tickets: Vec<Ticket> = (0..1000)
            .map(|m| cell.propose(leader, put(&format!("k{n:02}{m:03}"), "v")))
            .collect();
        cell.settle();
        tickets
            .into_iter()
            .for_each(|ticket| drop(cell.response(ticket)));
    }
    let deleted = cell.propose(leader, delete("k", "l"));
    let turns = cell.hosts[&leader].turns;
    cell.settle();
    assert!(matches!(
        cell.response(deleted).body,
        replica::Body::Reply(state::Reply::DeleteRange {
            deleted: 20_000,
            ..
        })
    ));
    let turns = cell.hosts[&leader].turns - turns;
    assert!(turns > 20, "20000 keys in {turns} turns");
}
