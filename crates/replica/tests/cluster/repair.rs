//! Repair: damage that a running member meets, and votes that are lost (PROPERTIES R1, R2).

use crate::disk::SEGMENT_ENTRIES;
use crate::harness::*;
use raft::{Incarnation, MemberId, PeerId, Standing};
use replica::{Consistency, Failure, Input, Introduction, Limits, Message, Settings};

/// Snapshots only when they are needed, and next to nothing of the log in memory.
fn cold() -> Settings {
    let limits = Limits {
        snapshot_log_bytes: 1 << 30,
        snapshot_keep_entries: 1,
        ..Limits::default()
    };
    let raft = raft::Settings {
        cache_bytes_max: 200,
        ..raft::Settings::default()
    };
    Settings {
        limits,
        raft,
        ..Settings::default()
    }
}

fn fill(cell: &mut Cell, nth: u64, count: u64) {
    for n in 0..count {
        cell.put(nth, &format!("k{n:03}"), &format!("{n}"));
    }
}

fn last(cell: &Cell, nth: u64) -> u64 {
    cell.replica(nth).status().raft.last.0
}

fn standing(cell: &Cell, nth: u64) -> Standing {
    cell.replica(nth).status().raft.standing
}

#[test]
fn r1_a_damaged_log_of_a_leader_is_healed_from_its_state() {
    let mut cell = Cell::with(3, cold());
    let leader = cell.elect();
    let behind = cell.follower();
    cell.kill(behind);
    fill(&mut cell, leader, 60);
    let end = last(&cell, leader);
    cell.hosts
        .get_mut(&leader)
        .unwrap()
        .disk
        .damage(end - 40, end - 39);
    cell.start(behind);
    cell.advance(5000);
    assert_eq!(cell.leader(), Some(leader), "it leads on");
    let disk = &cell.hosts[&leader].disk;
    assert!(
        disk.damaged.is_empty() && disk.quarantined.len() == 1,
        "{:?}",
        disk.quarantined
    );
    assert!(cell.hosts[&leader].reopened.is_empty());
    cell.put(leader, "after", "v");
    cell.check_equal();
    assert_eq!(cell.get(behind, "k059").as_deref(), Some("59"));
}

/// Found by the simulator (chaos 3001913): the damaged part of the log also held what was not decided yet. The leader waited to take a snapshot of that, and
/// that waited for the follower that waited for the snapshot.
#[test]
fn r1_a_damaged_log_that_holds_undecided_entries_does_not_keep_a_follower_behind() {
    let mut cell = Cell::with(3, cold());
    let leader = cell.elect();
    let behind = cell.follower();
    let other = (1..=3).find(|nth| ![leader, behind].contains(nth)).unwrap();
    cell.kill(behind);
    fill(&mut cell, leader, 60);
    while !(6..12).contains(&(last(&cell, leader) % SEGMENT_ENTRIES)) {
        cell.put(leader, "more", "v");
    }
    let decided = last(&cell, leader);
    cell.kill(other);
    let undecided = cell.propose(leader, put("undecided", "v"));
    cell.settle();
    assert_eq!(last(&cell, leader), decided + 1);
    let disk = &mut cell.hosts.get_mut(&leader).unwrap().disk;
    disk.damage(decided - 4, decided - 4);
    cell.start(behind);
    cell.advance(3000);
    assert_eq!(cell.leader(), Some(leader), "it leads on");
    assert!(matches!(cell.outcome(undecided), Some(Ok(_))));
    assert_eq!(cell.get(behind, "k059").as_deref(), Some("59"));
    let disk = &cell.hosts[&leader].disk;
    assert!(
        disk.damaged.is_empty() && disk.quarantined.len() == 1,
        "the next snapshot makes the damaged part needless: {:?}",
        disk.quarantined
    );
}

/// Found by the simulator (chaos 35): a leader with a damaged log and a full disk went on leading, and fed nobody.
#[test]
fn r1_a_leader_that_cannot_feed_a_follower_leaves_that_to_another() {
    let mut cell = Cell::with(3, cold());
    let leader = cell.elect();
    let behind = cell.follower();
    cell.kill(behind);
    fill(&mut cell, leader, 60);
    let end = last(&cell, leader);
    let disk = &mut cell.hosts.get_mut(&leader).unwrap().disk;
    disk.damage(end - 40, end - 39);
    disk.staging_fails = true;
    cell.start(behind);
    cell.advance(5000);
    assert_ne!(cell.leader(), Some(leader), "it hands over");
    assert_eq!(cell.get(behind, "k059").as_deref(), Some("59"));
    cell.hosts.get_mut(&leader).unwrap().disk.staging_fails = false;
    let next = cell.elect();
    cell.put(next, "after", "v");
    cell.check_equal();
}

#[test]
fn r1_a_lone_member_heals_its_log_too() {
    let mut cell = Cell::with(1, cold());
    cell.elect();
    fill(&mut cell, 1, 40);
    cell.hosts.get_mut(&1).unwrap().disk.damage(10, 11);
    // Somebody asks for what is damaged.
    cell.input(
        1,
        Input::Unreadable {
            from: raft::Index(10),
            through: raft::Index(16),
        },
    );
    cell.advance(1000);
    let disk = &cell.hosts[&1].disk;
    assert!(
        disk.snapshot.is_some() && disk.damaged.is_empty(),
        "{:?}",
        disk.quarantined
    );
    cell.kill(1);
    cell.start(1);
    cell.elect();
    assert_eq!(standing(&cell, 1), Standing::Sound);
    assert_eq!(cell.get(1, "k039").as_deref(), Some("39"));
}

#[test]
fn r1_damage_in_what_is_not_applied_begins_anew_and_is_repaired_by_the_others() {
    let mut cell = Cell::with(3, cold());
    let leader = cell.elect();
    fill(&mut cell, leader, 60);
    let victim = cell.follower();
    cell.kill(victim);
    cell.start(victim);
    cell.kill(victim);
    // Found not by recovery but when the state asks for it.
    let end = last(&cell, leader);
    cell.begin_unseen_damage(victim, end - 30, end - 29);
    cell.advance(3000);
    assert_eq!(
        cell.hosts[&victim].reopened.len(),
        1,
        "{:?}",
        cell.hosts[&victim].reopened
    );
    assert_eq!(cell.hosts[&victim].disk.quarantined.len(), 1);
    assert_eq!(standing(&cell, victim), Standing::Sound);
    assert!(!cell.hosts[&victim].disk.entries_lost);
    cell.put(leader, "after", "v");
    cell.check_equal();
}

#[test]
fn r2_a_member_that_lost_entries_does_not_count_until_it_matches() {
    let mut cell = Cell::with(3, cold());
    let leader = cell.elect();
    let victim = cell.follower();
    let other = (1..=3).find(|&nth| nth != leader && nth != victim).unwrap();
    fill(&mut cell, leader, 30);
    cell.kill(victim);
    cell.hosts.get_mut(&victim).unwrap().disk.damage(5, 5);
    cell.kill(other);
    cell.start(victim);
    // The leader and the forgetful member are no quorum.
    let ticket = cell.propose(leader, put("uncounted", "v"));
    cell.advance(3000);
    assert!(!matches!(cell.outcome(ticket), Some(Ok(_))));
    assert_eq!(standing(&cell, victim), Standing::EntriesLost);
    cell.start(other);
    cell.elect();
    cell.advance(3000);
    assert_eq!(standing(&cell, victim), Standing::Sound);
    assert_eq!(cell.get(victim, "k029").as_deref(), Some("29"));
    cell.check_equal();
}

#[test]
fn r1_a_damaged_snapshot_found_while_it_is_sent_is_taken_anew() {
    let mut settings = cold();
    settings.limits.snapshot_log_bytes = 2_000;
    let mut cell = Cell::with(3, settings);
    let leader = cell.elect();
    let behind = cell.follower();
    cell.kill(behind);
    fill(&mut cell, leader, 100);
    assert!(cell.hosts[&leader].disk.released > 5);
    cell.hosts.get_mut(&leader).unwrap().disk.snapshot_damaged = true;
    cell.start(behind);
    cell.advance(5000);
    assert_eq!(cell.leader(), Some(leader));
    assert!(cell.hosts[&leader].disk.quarantined[0].starts_with("snapshot"));
    cell.put(leader, "after", "v");
    cell.check_equal();
}

#[test]
fn r1_a_damaged_snapshot_at_the_start_comes_from_the_others() {
    let mut settings = cold();
    settings.limits.snapshot_log_bytes = 2_000;
    let mut cell = Cell::with(3, settings);
    let leader = cell.elect();
    fill(&mut cell, leader, 100);
    let victim = cell.follower();
    cell.kill(victim);
    cell.hosts.get_mut(&victim).unwrap().disk.snapshot_damaged = true;
    cell.start(victim);
    cell.advance(5000);
    let host = &cell.hosts[&victim];
    assert_eq!((host.reopened.len(), host.halted.as_ref()), (1, None));
    assert!(
        host.disk.quarantined[0].starts_with("snapshot"),
        "{:?}",
        host.disk.quarantined
    );
    assert!(host.disk.snapshot.is_some() && !host.disk.entries_lost);
    assert_eq!(standing(&cell, victim), Standing::Sound);
    cell.put(leader, "after", "v");
    cell.check_equal();
}

#[test]
fn r2_a_member_that_lost_its_votes_comes_back_as_the_next_incarnation() {
    let mut cell = Cell::with(3, cold());
    let leader = cell.elect();
    fill(&mut cell, leader, 30);
    let victim = cell.follower();
    cell.kill(victim);
    cell.elect();
    let ask = |incarnation| {
        let listed = (1..=3).map(|n| (format!("n{n}"), format!("host{n}:2380")));
        Input::Join(Introduction {
            name: format!("n{victim}"),
            member: MemberId(victim),
            incarnation: Incarnation(incarnation),
            replaces: Some(PeerId {
                member: MemberId(victim),
                incarnation: Incarnation(incarnation),
            }),
            listed: listed.collect(),
        })
    };
    let configuration = |cell: &Cell| cell.replica(leader).status().raft.configuration_decided;
    for wanted in [2, 3] {
        let next = PeerId {
            member: MemberId(victim),
            incarnation: Incarnation(wanted),
        };
        for _ in 0..5 {
            cell.advance(1000);
            cell.input(leader, ask(wanted - 1));
        }
        cell.advance(1000);
        let decided = configuration(&cell);
        assert!(decided.learners.contains(&next), "{decided}");
        assert_eq!(decided.peers().len(), 3, "{decided}");
    }
    // It starts as that, with the log it has and no vote.
    let next = PeerId {
        member: MemberId(victim),
        incarnation: Incarnation(3),
    };
    let host = cell.hosts.get_mut(&victim).unwrap();
    host.id = next;
    host.disk.vote = raft::Vote::default();
    cell.start(victim);
    cell.advance(3000);
    let decided = configuration(&cell);
    assert!(
        decided.voters.contains(&next) && decided.voters.len() == 3,
        "{decided}"
    );
    // Its vote is needed now.
    let other = (1..=3).find(|&nth| nth != leader && nth != victim).unwrap();
    cell.kill(other);
    cell.advance(3000);
    cell.put(leader, "after", "v");
    assert_eq!(cell.get(victim, "after").as_deref(), Some("v"));
}

#[test]
fn v2_a_member_restarted_alone_shows_what_it_knew_to_be_decided() {
    let mut cell = Cell::with(3, cold());
    let leader = cell.elect();
    fill(&mut cell, leader, 30);
    let survivor = cell.follower();
    for nth in 1..=3 {
        cell.kill(nth);
    }
    cell.start(survivor);
    cell.advance(3000);
    // All but what was decided with the very last write.
    assert_eq!(
        cell.get_with(survivor, "k028", Consistency::Local)
            .as_deref(),
        Some("28")
    );
}

/// Tells `wrong` that these others have another state at index 1024.
fn contradict(cell: &mut Cell, wrong: u64, others: &[(u64, u64)]) {
    for &(from, hash) in others {
        let message = Message::StateHash { index: 1024, hash };
        let from = member(from);
        cell.input(wrong, Input::Message { from, message });
    }
    cell.settle();
}

fn past_a_comparison(cell: &mut Cell) -> u64 {
    let leader = cell.elect();
    while cell.replica(leader).status().applied < 1100 {
        cell.put(leader, "k", "v");
        cell.advance(1);
    }
    assert!(
        cell.hosts.values().all(|host| host.disputes.is_empty()),
        "all agree"
    );
    leader
}

#[test]
fn kv5_a_state_that_a_majority_contradicts_is_replaced_while_its_member_votes() {
    for wrong_leads in [false, true] {
        let mut cell = Cell::with(3, cold());
        let leader = past_a_comparison(&mut cell);
        let wrong = if wrong_leads { leader } else { cell.follower() };
        let others: Vec<(u64, u64)> = (1..=3)
            .filter(|&nth| nth != wrong)
            .map(|nth| (nth, 1))
            .collect();
        contradict(&mut cell, wrong, &others[..1]);
        assert!(
            cell.replica(wrong).status().serving,
            "one other is no majority"
        );
        contradict(&mut cell, wrong, &others[1..]);
        assert!(
            !cell.replica(wrong).status().serving,
            "it serves nothing wrong"
        );
        assert!(cell.hosts[&wrong].disputes[0].contains("2 of 3 voters"));
        let read = cell.read(wrong, Consistency::Local, range("k", ""));
        cell.settle();
        assert_eq!(cell.outcome(read), None);
        cell.advance(5000);
        assert_ne!(cell.leader(), Some(wrong), "it does not lead");
        assert!(
            cell.replica(wrong).status().serving,
            "its state is another one"
        );
        assert_eq!(
            standing(&cell, wrong),
            Standing::Sound,
            "it votes all the while"
        );
        assert!(cell.hosts[&wrong].reopened.is_empty() && cell.hosts[&wrong].halted.is_none());
        cell.put(cell.leader().unwrap(), "k", "after");
        cell.check_equal();
        assert_eq!(
            cell.get_with(wrong, "k", Consistency::Local).as_deref(),
            Some("after")
        );
    }
}

#[test]
fn kv5_without_a_majority_there_is_an_alarm_and_no_more() {
    let mut cell = Cell::with(3, cold());
    let leader = past_a_comparison(&mut cell);
    let others: Vec<u64> = (1..=3).filter(|&nth| nth != leader).collect();
    contradict(&mut cell, leader, &[(others[0], 1), (others[1], 2)]);
    assert_eq!(
        cell.hosts[&leader].disputes.len(),
        1,
        "{:?}",
        cell.hosts[&leader].disputes
    );
    assert!(cell.replica(leader).status().serving);
    cell.put(leader, "k", "after");
}

#[test]
fn r3_deletes_on_full_disks_cut_the_log_and_space_returns() {
    let mut settings = cold();
    settings.limits.snapshot_log_bytes = 4_000;
    let mut cell = Cell::with(3, settings);
    let leader = cell.elect();
    fill(&mut cell, leader, 20);
    for nth in 1..=3 {
        cell.input(nth, Input::DiskFull(true));
    }
    cell.advance(3000);
    let leader = cell.elect();
    let refused = cell.propose(leader, put("more", "v"));
    cell.settle();
    assert_eq!(cell.failure(refused), Failure::DiskFull);
    for n in 0..20 {
        cell.delete(leader, &format!("k{n:03}"), "");
    }
    cell.advance(1000);
    for host in cell.hosts.values() {
        let (mark, _) = host.disk.snapshot.as_ref().expect("a snapshot cut the log");
        assert!(
            host.disk.released >= mark.index.0,
            "nothing is kept behind it"
        );
    }
    for nth in 1..=3 {
        cell.input(nth, Input::DiskFull(false));
    }
    cell.put(leader, "more", "v");
    cell.check_equal();
}
