//! Repair: damage that a running member meets, and votes that are lost (PROPERTIES R1, R2).

use crate::harness::*;
use raft::{Incarnation, MemberId, PeerId, Standing};
use replica::{Consistency, Input, Introduction, Limits, Settings};

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
