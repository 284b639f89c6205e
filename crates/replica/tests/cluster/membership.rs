//! The cell's configuration: changed by an operator, published by members, and mended when one comes back empty.

use crate::harness::*;
use raft::{Configuration, Incarnation, MemberId, PeerId};
use replica::{Advertised, Body, Failure, Input, Introduction, Settings};

fn advertising(nth: u64) -> Settings {
    let advertised = Advertised {
        peer_addresses: vec![format!("host{nth}:2380")],
        client_addresses: vec![format!("host{nth}:2379")],
        feature_level: 0,
        priority: 0,
    };
    Settings {
        advertised: Some(advertised),
        ..Settings::default()
    }
}

fn in_force(cell: &Cell, nth: u64) -> Configuration {
    (*cell.replica(nth).status().raft.configuration).clone()
}

#[test]
fn members_publish_where_they_are_reached() {
    let mut cell = Cell::settled();
    for nth in 1..=3 {
        cell.kill(nth);
    }
    for nth in 1..=3 {
        cell.settings = advertising(nth);
        cell.start(nth);
    }
    cell.elect();
    cell.advance(5000);
    for nth in 1..=3 {
        for (id, member) in in_force(&cell, nth).members {
            assert_eq!(
                member.client_addresses,
                vec![format!("host{}:2379", id.0)],
                "as member {nth} knows it"
            );
        }
    }
    // A new address replaces the old one; nothing changes when nothing is new.
    let leader = cell.leader().unwrap();
    let before = cell.replica(leader).status().applied;
    cell.advance(10_000);
    assert_eq!(
        cell.replica(leader).status().applied,
        before,
        "no change without need"
    );
    let moved = cell.follower();
    cell.kill(moved);
    cell.settings = advertising(77);
    cell.start(moved);
    cell.advance(5000);
    assert_eq!(
        in_force(&cell, leader).members[&MemberId(moved)].client_addresses,
        vec!["host77:2379"]
    );
}

#[test]
fn an_operator_changes_members_on_the_leader() {
    let mut cell = Cell::settled();
    let leader = cell.leader().unwrap();
    let gone = cell.follower();
    let mut target = in_force(&cell, leader);
    target.voters.remove(&member(gone));
    target.members.remove(&MemberId(gone));
    let ticket = cell.ticket();
    cell.input(
        gone,
        Input::ChangeMembership {
            ticket,
            target: target.clone(),
        },
    );
    cell.settle();
    let failure = cell.failure(ticket);
    assert!(
        matches!(&failure, Failure::MembershipRefused(refusal) if refusal.text.contains(&format!("ask n{leader}"))),
        "{failure:?}"
    );
    let ticket = cell.ticket();
    cell.input(
        leader,
        Input::ChangeMembership {
            ticket,
            target: target.clone(),
        },
    );
    cell.advance(1000);
    target.departed = vec![MemberId(gone)];
    assert_eq!(
        cell.response(ticket).body,
        Body::MembershipChanged(target.clone())
    );
    assert_eq!(in_force(&cell, leader), target);
    cell.kill(gone);
    cell.put(leader, "k", "v");
}

#[test]
fn a_change_that_makes_no_sense_is_refused() {
    let mut cell = Cell::settled();
    let leader = cell.leader().unwrap();
    let ticket = cell.ticket();
    cell.input(
        leader,
        Input::ChangeMembership {
            ticket,
            target: Configuration::default(),
        },
    );
    cell.settle();
    assert!(matches!(
        cell.failure(ticket),
        Failure::MembershipRefused(_)
    ));
}

/// An empty directory of this id asks under the name of member `nth`, for the place of `replaces`.
fn introduction(nth: u64, id: u64, replaces: u64) -> Introduction {
    let listed = (1..=3)
        .map(|n| (format!("n{n}"), format!("host{n}:2380")))
        .collect();
    Introduction {
        name: format!("n{nth}"),
        member: MemberId(id),
        incarnation: Incarnation(0),
        replaces: Some(PeerId {
            member: MemberId(replaces),
            incarnation: Incarnation(1),
        }),
        listed,
    }
}

#[test]
fn a_wiped_member_is_admitted_as_a_learner_then_votes() {
    let mut cell = Cell::settled();
    for n in 0..20 {
        cell.put(1, &format!("k{n}"), "v");
    }
    let wiped = cell.follower();
    cell.kill(wiped);
    let leader = cell.elect();
    let fresh = PeerId {
        member: MemberId(99),
        incarnation: Incarnation(1),
    };
    // While its predecessor may still be alive it is not admitted.
    cell.input(leader, Input::Join(introduction(wiped, 99, wiped)));
    cell.advance(100);
    assert!(!in_force(&cell, leader).members.contains_key(&MemberId(99)));
    // It asks every second.
    for _ in 0..5 {
        cell.advance(1000);
        cell.input(leader, Input::Join(introduction(wiped, 99, wiped)));
    }
    cell.advance(1000);
    let configuration = in_force(&cell, leader);
    assert!(configuration.learners.contains(&fresh), "{configuration}");
    assert!(
        !configuration.members.contains_key(&MemberId(wiped)),
        "the old one left: {configuration}"
    );
    assert_eq!(
        configuration.members[&MemberId(99)].peer_addresses,
        vec![format!("host{wiped}:2380")]
    );
    // It starts empty, from the configuration the cluster began with.
    cell.hosts.remove(&wiped);
    cell.add_host(99, fresh, crate::harness::configuration(3));
    cell.start(99);
    cell.advance(5000);
    let configuration = in_force(&cell, leader);
    assert!(configuration.voters.contains(&fresh), "{configuration}");
    assert_eq!(configuration.voters.len(), 3);
    cell.check_equal();
    // Its vote is needed now.
    let other = (1..=3).find(|&nth| nth != leader && nth != wiped).unwrap();
    cell.kill(other);
    cell.advance(3000);
    cell.put(leader, "after", "v");
    assert_eq!(cell.get(99, "after").as_deref(), Some("v"));
}

#[test]
fn a_late_question_of_an_earlier_disk_does_not_push_out_who_was_just_admitted() {
    let mut cell = Cell::settled();
    let wiped = cell.follower();
    cell.kill(wiped);
    let leader = cell.elect();
    cell.advance(3000);
    let is_member = |cell: &Cell, id| in_force(cell, leader).members.contains_key(&MemberId(id));
    cell.input(leader, Input::Join(introduction(wiped, 99, wiped)));
    cell.advance(500);
    assert!(is_member(&cell, 99));
    // What its first disk had asked was long on its way, and has yet to do with the member that was there then.
    for _ in 0..5 {
        cell.input(leader, Input::Join(introduction(wiped, 98, wiped)));
        cell.advance(1000);
        assert!(is_member(&cell, 99) && !is_member(&cell, 98));
    }
    // Another disk that has heard of it takes its place, for it never came.
    cell.input(leader, Input::Join(introduction(wiped, 97, 99)));
    // Neither does a second process of that name push out the one just admitted, which has yet to hear of it.
    cell.advance(500);
    cell.input(leader, Input::Join(introduction(wiped, 96, 97)));
    cell.advance(500);
    assert!(is_member(&cell, 97) && !is_member(&cell, 99));
}

#[test]
fn a_second_member_of_a_name_does_not_push_out_a_live_one() {
    let mut cell = Cell::settled();
    let leader = cell.leader().unwrap();
    let follower = cell.follower();
    for _ in 0..10 {
        cell.input(leader, Input::Join(introduction(follower, 99, follower)));
        cell.input(leader, Input::Join(introduction(leader, 98, leader)));
        cell.input(leader, Input::Join(introduction(7, 97, 7)));
        cell.input(
            leader,
            Input::Join(introduction(follower, follower, follower)),
        );
        cell.advance(1000);
    }
    assert_eq!(in_force(&cell, leader), crate::harness::configuration(3));
}

#[test]
fn two_wiped_of_three_are_never_admitted() {
    let mut cell = Cell::settled();
    cell.put(1, "k", "v");
    for nth in [2, 3] {
        cell.kill(nth);
    }
    for _ in 0..10 {
        cell.advance(1000);
        for nth in [2, 3] {
            cell.input(1, Input::Join(introduction(nth, 90 + nth, nth)));
        }
    }
    assert_eq!(in_force(&cell, 1), crate::harness::configuration(3));
}
