//! Members that come and go by an operator's word: places prepared and taken, learners promoted, many replaced at once, refusals that name the reason.

use crate::harness::*;
use raft::{Configuration, Incarnation, MemberId, PeerId};
use replica::{
    Advertised, Body, ChangeRequest, Failure, Input, Introduction, MemberChange, RefusalReason,
    Settings, Ticket,
};

fn in_force(cell: &Cell, nth: u64) -> Configuration {
    (*cell.replica(nth).status().raft.configuration).clone()
}

fn ask(cell: &mut Cell, nth: u64, changes: Vec<MemberChange>, as_etcd: bool) -> Ticket {
    let ticket = cell.ticket();
    let request = ChangeRequest { changes, as_etcd };
    cell.input(nth, Input::ChangeMembers { ticket, request });
    cell.advance(1000);
    ticket
}

/// Asks the leader for a change that must succeed.
fn change(cell: &mut Cell, changes: Vec<MemberChange>) -> Configuration {
    let leader = cell.leader().expect("somebody leads");
    let ticket = ask(cell, leader, changes, false);
    match cell.response(ticket).body {
        Body::MembershipChanged(configuration) => configuration,
        other => panic!("{other:?}"),
    }
}

fn refusal(cell: &mut Cell, changes: Vec<MemberChange>, as_etcd: bool) -> (RefusalReason, String) {
    let leader = cell.leader().expect("somebody leads");
    let before = in_force(cell, leader);
    let ticket = ask(cell, leader, changes, as_etcd);
    assert_eq!(in_force(cell, leader), before, "a refusal changes nothing");
    match cell.failure(ticket) {
        Failure::MembershipRefused(refusal) => (refusal.reason, refusal.text),
        other => panic!("{other:?}"),
    }
}

fn add(id: u64, stays_learner: bool) -> MemberChange {
    MemberChange::Add {
        member: MemberId(id),
        peer_addresses: vec![format!("host{id}:2380")],
        stays_learner,
        replaces: None,
    }
}

fn replacement(id: u64, replaced: u64) -> MemberChange {
    MemberChange::Add {
        member: MemberId(id),
        peer_addresses: vec![format!("host{id}:2380")],
        stays_learner: false,
        replaces: Some(MemberId(replaced)),
    }
}

fn peer(id: u64) -> PeerId {
    PeerId {
        member: MemberId(id),
        incarnation: Incarnation(1),
    }
}

/// What a process with an empty directory of this id says when it comes to the place of member `nth`.
fn newcomer(nth: u64, directory: u64) -> Introduction {
    Introduction {
        name: format!("n{nth}"),
        member: MemberId(directory),
        incarnation: Incarnation(0),
        replaces: None,
        listed: vec![
            ("n1".into(), "host1:2380".into()),
            (format!("n{nth}"), format!("host{nth}:2380")),
        ],
    }
}

/// Lets a process with an empty directory take the place of member `nth`, and starts it there.
fn take_place(cell: &mut Cell, nth: u64) {
    let leader = cell.leader().expect("somebody leads");
    cell.input(leader, Input::Join(newcomer(nth, 1000 + nth)));
    cell.advance(500);
    let member = &in_force(cell, leader).members[&MemberId(nth)];
    assert_eq!(member.taken_by, Some(MemberId(1000 + nth)));
    assert_eq!(member.name, format!("n{nth}"));
    cell.add_host(nth, peer(nth), configuration(3));
    cell.start(nth);
}

#[test]
fn a_prepared_member_takes_its_place_and_votes_once_it_has_caught_up() {
    let mut cell = Cell::settled();
    for n in 0..20 {
        cell.put(1, &format!("k{n}"), "v");
    }
    let prepared = change(&mut cell, vec![add(4, false)]);
    assert!(prepared.learners.contains(&peer(4)));
    assert!(prepared.members[&MemberId(4)].is_vacant());
    // Nobody waits for it, and it is no voter before it starts, however long that takes.
    cell.put(1, "before", "v");
    cell.advance(20_000);
    let leader = cell.leader().expect("somebody leads");
    assert!(in_force(&cell, leader).learners.contains(&peer(4)));

    take_place(&mut cell, 4);
    cell.advance(3000);
    let configuration = in_force(&cell, leader);
    assert!(configuration.voters.contains(&peer(4)), "{configuration}");
    assert_eq!(configuration.voters.len(), 4);
    assert_eq!(cell.get(4, "before").as_deref(), Some("v"));
    cell.check_equal();
}

#[test]
fn a_place_is_taken_once() {
    let mut cell = Cell::settled();
    change(&mut cell, vec![add(4, false)]);
    let leader = cell.leader().expect("somebody leads");
    // Another name, or an address nobody prepared, is not let in.
    let mut stranger = newcomer(5, 77);
    stranger.listed.push(("n4".into(), "host4:2380".into()));
    cell.input(leader, Input::Join(stranger));
    cell.advance(1000);
    assert!(in_force(&cell, leader).members[&MemberId(4)].is_vacant());

    take_place(&mut cell, 4);
    // A second directory at that address, while the first lives, and one whose name is another member's.
    for directory in [78, 79] {
        cell.input(leader, Input::Join(newcomer(4, directory)));
        cell.advance(1000);
    }
    let configuration = in_force(&cell, leader);
    let member = &configuration.members[&MemberId(4)];
    assert_eq!(member.taken_by, Some(MemberId(1004)));
    assert!(configuration.voters.contains(&peer(4)), "{configuration}");
}

#[test]
fn a_learner_of_etcds_tools_stays_one_until_it_is_promoted() {
    let mut cell = Cell::settled();
    let leader = cell.leader().expect("somebody leads");
    let ticket = ask(&mut cell, leader, vec![add(4, true)], true);
    cell.response(ticket);
    let promote = || vec![MemberChange::Promote(MemberId(4))];
    let (reason, text) = refusal(&mut cell, promote(), true);
    assert_eq!(reason, RefusalReason::NotCaughtUp);
    assert!(text.contains("never started"), "{text}");
    let (reason, _) = refusal(&mut cell, vec![add(5, true)], true);
    assert_eq!(reason, RefusalReason::TooManyLearners);

    take_place(&mut cell, 4);
    cell.advance(10_000);
    assert!(in_force(&cell, leader).learners.contains(&peer(4)));
    let ticket = ask(&mut cell, leader, promote(), true);
    cell.response(ticket);
    assert!(in_force(&cell, leader).voters.contains(&peer(4)));
    let (reason, _) = refusal(&mut cell, promote(), true);
    assert_eq!(reason, RefusalReason::NotALearner);
}

#[test]
fn any_member_takes_a_request_and_tells_its_outcome() {
    let mut cell = Cell::settled();
    let follower = cell.follower();
    let ticket = ask(&mut cell, follower, vec![add(4, true)], false);
    let Body::MembershipChanged(configuration) = cell.response(ticket).body else {
        panic!("another answer");
    };
    assert!(configuration.learners.contains(&peer(4)));
    let ticket = ask(&mut cell, follower, vec![add(4, true)], false);
    assert!(
        matches!(cell.failure(ticket), Failure::MembershipRefused(refusal) if refusal.reason == RefusalReason::MemberExists)
    );
    // What is so already is no change, and no error.
    let same = MemberChange::Move {
        member: MemberId(4),
        peer_addresses: vec!["host4:2380".into()],
    };
    let ticket = ask(&mut cell, follower, vec![same], true);
    cell.response(ticket);
}

#[test]
fn refusals_name_the_reason() {
    let mut cell = Cell::settled();
    let (reason, text) = refusal(
        &mut cell,
        vec![MemberChange::Remove(MemberId(0xabc))],
        false,
    );
    assert_eq!(reason, RefusalReason::UnknownMember);
    assert!(text.contains("no member has id abc"), "{text}");
    let everybody = (1..=3).map(|id| MemberChange::Remove(MemberId(id)));
    let (reason, _) = refusal(&mut cell, everybody.collect(), false);
    assert_eq!(reason, RefusalReason::NotEnoughStarted);
    change(&mut cell, vec![add(4, true)]);
    let taken = MemberChange::Move {
        member: MemberId(1),
        peer_addresses: vec!["host4:2380".into()],
    };
    let (reason, text) = refusal(&mut cell, vec![taken], false);
    assert_eq!(reason, RefusalReason::AddressTaken);
    assert!(text.contains("host4:2380"), "{text}");

    // With one of three gone, a second must not leave, and the one that is gone may.
    let gone = cell.follower();
    cell.kill(gone);
    cell.advance(5000);
    let leader = cell.leader().expect("somebody leads");
    let other = (1..=3).find(|&nth| nth != leader && nth != gone);
    let other = other.expect("three members");
    let (reason, text) = refusal(
        &mut cell,
        vec![MemberChange::Remove(MemberId(other))],
        false,
    );
    assert_eq!(reason, RefusalReason::LosesQuorum);
    assert!(text.contains(&format!("n{gone}")), "{text}");
    let left = change(&mut cell, vec![MemberChange::Remove(MemberId(gone))]);
    assert_eq!(left.voters.len(), 2);
    assert_eq!(left.departed, [MemberId(gone)]);
    // An id that left never comes back.
    let (reason, _) = refusal(&mut cell, vec![add(gone, false)], false);
    assert_eq!(reason, RefusalReason::MemberExists);
}

/// A change that needs the member that is gone would be begun and never decided: found by killing one and removing another within a second.
#[test]
fn m1_a_member_just_gone_does_not_count_as_there() {
    let mut cell = Cell::settled();
    let gone = cell.follower();
    cell.kill(gone);
    let leader = cell.leader().expect("somebody leads");
    let lost = Input::PeerLost {
        peer: peer(gone),
        refused: true,
    };
    cell.input(leader, lost);
    let other = (1..=3).find(|&nth| nth != leader && nth != gone);
    let changes = vec![MemberChange::Remove(MemberId(other.expect("three")))];
    let (reason, _) = refusal(&mut cell, changes, false);
    assert_eq!(reason, RefusalReason::LosesQuorum);
    cell.put(leader, "k", "v");
}

#[test]
fn as_etcd_members_are_not_added_while_others_are_missing() {
    let mut cell = Cell::settled();
    let leader = cell.leader().expect("somebody leads");
    let ticket = ask(&mut cell, leader, vec![add(4, false)], true);
    cell.response(ticket);
    // Three of five have started: etcd takes that one too, were all heard of.
    let (reason, text) = refusal(&mut cell, vec![add(5, false)], true);
    assert_eq!(reason, RefusalReason::LosesQuorum, "{text}");
    change(&mut cell, vec![add(5, false)]);
    let (reason, _) = refusal(&mut cell, vec![add(6, false)], true);
    assert_eq!(reason, RefusalReason::NotEnoughStarted);
    let (reason, _) = refusal(&mut cell, vec![add(6, true)], true);
    assert_eq!(reason, RefusalReason::LosesQuorum);
}

#[test]
fn all_members_are_replaced_in_one_change() {
    let mut cell = Cell::settled();
    for n in 0..20 {
        cell.put(1, &format!("k{n}"), "v");
    }
    let pairs = [(4, 1), (5, 2), (6, 3)];
    let changes = pairs.map(|(new, old)| replacement(new, old));
    change(&mut cell, changes.into());
    for id in [4, 5] {
        take_place(&mut cell, id);
        cell.advance(3000);
    }
    let leader = cell.leader().expect("somebody leads");
    assert_eq!(
        in_force(&cell, leader).voters,
        [peer(1), peer(2), peer(3)].into(),
        "none leaves before all that replace them have caught up"
    );
    take_place(&mut cell, 6);
    cell.advance(5000);
    for id in 4..=6 {
        let configuration = in_force(&cell, id);
        assert_eq!(configuration.voters, [peer(4), peer(5), peer(6)].into());
        assert_eq!(
            configuration.departed,
            [MemberId(1), MemberId(2), MemberId(3)]
        );
    }
    for old in 1..=3 {
        assert!(cell.hosts[&old].departed, "n{old} heard that it left");
        cell.kill(old);
    }
    cell.advance(3000);
    cell.put(4, "after", "v");
    assert_eq!(cell.get(6, "k7").as_deref(), Some("v"));
}

#[test]
fn a_removed_leader_hears_it_and_the_others_go_on() {
    let mut cell = Cell::settled();
    let leader = cell.leader().expect("somebody leads");
    let asked = cell.follower();
    let changes = vec![MemberChange::Remove(MemberId(leader))];
    let ticket = ask(&mut cell, asked, changes, false);
    cell.advance(1000);
    cell.response(ticket);
    assert!(cell.hosts[&leader].departed);
    cell.kill(leader);
    let next = cell.elect();
    assert_ne!(next, leader);
    cell.put(next, "k", "v");
}

#[test]
fn an_operators_word_on_an_address_stands_until_the_member_tells_another() {
    let advertising = |port: u64| Settings {
        advertised: Some(Advertised {
            peer_addresses: vec![format!("host9:{port}")],
            ..Advertised::default()
        }),
        ..Settings::default()
    };
    let mut cell = Cell::settled();
    let moved = cell.follower();
    cell.kill(moved);
    cell.settings = advertising(1);
    cell.start(moved);
    cell.advance(5000);
    let address = |cell: &Cell| {
        let leader = cell.leader().expect("somebody leads");
        in_force(cell, leader).members[&MemberId(moved)].peer_addresses[0].clone()
    };
    assert_eq!(address(&cell), "host9:1");
    let word = MemberChange::Move {
        member: MemberId(moved),
        peer_addresses: vec!["other:1".into()],
    };
    change(&mut cell, vec![word]);
    for _ in 0..2 {
        cell.advance(5000);
        assert_eq!(address(&cell), "other:1");
        cell.kill(moved);
        cell.start(moved);
    }
    cell.kill(moved);
    cell.settings = advertising(2);
    cell.start(moved);
    cell.advance(5000);
    assert_eq!(address(&cell), "host9:2");
}
