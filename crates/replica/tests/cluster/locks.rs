//! Acquisitions that wait: who waits is told, whatever becomes of leaders and states (F5).

use crate::harness::*;
use replica::{Body, Failure, Input, Limits, Settings, Ticket};
use state::lock::{
    Acquire, Claimant, Leave, LockCommand, LockOperation, LockRejection, LockReply, Mode, Release,
};
use state::{LeaseRevoke, Operation, Rejection, Reply};

fn lock(operation: LockOperation) -> Operation {
    Operation::Lock(LockCommand {
        operation: Some(operation),
    })
}

fn acquire(session: i64, wait_ms: u64) -> Operation {
    lock(LockOperation::Acquire(Acquire {
        name: "a".into(),
        claimant: Claimant { session, id: 1 },
        wait_ms,
        ..Acquire::default()
    }))
}

fn release(session: i64) -> Operation {
    lock(LockOperation::Release(Release {
        claimant: Claimant { session, id: 1 },
        joined: 0,
    }))
}

/// A cell with sessions 1 to 3; the first holds the lock.
fn with_holder(settings: Settings) -> Cell {
    let mut cell = Cell::with(3, settings);
    let leader = cell.elect();
    for session in 1..=3 {
        cell.grant(leader, session, 600_000);
    }
    let ticket = cell.propose(leader, acquire(1, u64::MAX));
    cell.settle();
    granted(&cell, ticket);
    cell
}

fn reply(cell: &Cell, ticket: Ticket) -> Reply {
    match cell.response(ticket).body {
        Body::Reply(reply) => reply,
        other => panic!("{other:?} is no reply"),
    }
}

fn granted(cell: &Cell, ticket: Ticket) -> u64 {
    match reply(cell, ticket) {
        Reply::Lock(LockReply::Granted { token }) => token,
        other => panic!("{other:?} is no grant"),
    }
}

fn refused(rejection: LockRejection) -> Reply {
    Reply::Rejected(Rejection::Lock(rejection))
}

#[test]
fn a_waiter_at_any_member_is_told_of_its_grant() {
    let mut cell = with_holder(Settings::default());
    let (leader, follower) = (cell.leader().unwrap(), cell.follower());
    let second = cell.propose(follower, acquire(2, u64::MAX));
    cell.settle();
    let third = cell.propose(leader, acquire(3, 2000));
    cell.settle();
    assert_eq!((cell.outcome(second), cell.outcome(third)), (None, None));
    cell.propose(leader, release(1));
    cell.settle();
    let token = granted(&cell, second);
    assert_eq!(cell.outcome(third), None);
    // Its time ends with nobody doing anything.
    cell.advance(2500);
    assert_eq!(reply(&cell, third), refused(LockRejection::TimedOut));
    // Asked once more, the grant is the same.
    let again = cell.propose(leader, acquire(2, u64::MAX));
    cell.settle();
    assert_eq!(granted(&cell, again), token);
    cell.check_equal();
}

/// Batches decided so far.
fn decided(cell: &Cell) -> u64 {
    let leader = cell.leader().unwrap();
    cell.replica(leader).status().applied
}

#[test]
fn who_would_wait_anyway_rides_with_the_next_batch() {
    let mut cell = with_holder(Settings::default());
    let (leader, follower) = (cell.leader().unwrap(), cell.follower());
    let before = decided(&cell);
    let second = cell.propose(follower, acquire(2, u64::MAX));
    cell.settle();
    let third = cell.propose(leader, acquire(3, u64::MAX));
    cell.settle();
    assert_eq!(decided(&cell), before, "nobody needs an answer yet");
    cell.propose(leader, release(1));
    cell.settle();
    granted(&cell, second);
    assert_eq!(cell.outcome(third), None);
    assert_eq!(decided(&cell), before + 1);
}

#[test]
fn who_would_wait_anyway_takes_its_place_soon() {
    let mut cell = with_holder(Settings::default());
    let follower = cell.follower();
    let before = decided(&cell);
    cell.propose(follower, acquire(2, u64::MAX));
    cell.settle();
    assert_eq!(decided(&cell), before);
    cell.advance(5);
    assert_eq!(decided(&cell), before + 1);
}

#[test]
fn who_only_tries_a_lock_is_answered_at_once() {
    let mut cell = with_holder(Settings::default());
    let follower = cell.follower();
    let tried = cell.propose(follower, acquire(2, 0));
    cell.settle();
    assert_eq!(reply(&cell, tried), Reply::Lock(LockReply::Busy));
}

#[test]
fn a_wait_goes_on_through_a_change_of_leader() {
    let mut cell = with_holder(Settings::default());
    let (leader, follower) = (cell.leader().unwrap(), cell.follower());
    let waiting = cell.propose(follower, acquire(2, u64::MAX));
    cell.settle();
    cell.kill(leader);
    let leader = cell.elect();
    assert_eq!(cell.outcome(waiting), None);
    // Repeated elsewhere: both are told.
    let again = cell.propose(leader, acquire(2, u64::MAX));
    cell.settle();
    assert_eq!(cell.outcome(again), None);
    cell.propose(leader, release(1));
    cell.settle();
    assert_eq!(granted(&cell, waiting), granted(&cell, again));
}

#[test]
fn a_broken_wait_is_given_up_unless_it_was_repeated_elsewhere() {
    let mut cell = with_holder(Settings::default());
    let (leader, follower) = (cell.leader().unwrap(), cell.follower());
    let broken = cell.propose(follower, acquire(2, u64::MAX));
    cell.settle();
    let behind = cell.propose(leader, acquire(3, u64::MAX));
    cell.settle();
    cell.input(follower, Input::Cancel(broken));
    cell.settle();
    cell.propose(leader, release(1));
    cell.settle();
    granted(&cell, behind);
    assert_eq!(cell.outcome(broken), None, "nobody listens");
    // Gone before it was applied, and free: it is let go all the same.
    cell.propose(leader, release(3));
    let gone = cell.propose(follower, acquire(2, u64::MAX));
    cell.input(follower, Input::Cancel(gone));
    cell.settle();
    let next = cell.propose(leader, acquire(1, u64::MAX));
    cell.settle();
    granted(&cell, next);
    // Two wait for one acquisition at one member: the wait goes on with the other.
    let first = cell.propose(follower, acquire(2, u64::MAX));
    let second = cell.propose(follower, acquire(2, u64::MAX));
    cell.settle();
    cell.input(follower, Input::Cancel(first));
    cell.settle();
    cell.propose(leader, release(1));
    cell.settle();
    granted(&cell, second);
}

#[test]
fn the_end_of_a_session_ends_its_wait() {
    let mut cell = with_holder(Settings::default());
    let (leader, follower) = (cell.leader().unwrap(), cell.follower());
    let waiting = cell.propose(follower, acquire(2, u64::MAX));
    cell.settle();
    cell.propose(leader, Operation::LeaseRevoke(LeaseRevoke { id: 2 }));
    cell.settle();
    assert_eq!(
        reply(&cell, waiting),
        refused(LockRejection::SessionNotFound)
    );
}

/// Who leaves a barrier keeps its place among those who leave when its time to wait is over; it was never told of that
/// (`synod sim --profile clockwork --seed 7`).
#[test]
fn who_waits_for_others_to_leave_a_barrier_is_told_when_time_is_over() {
    let mut cell = with_holder(Settings::default());
    let leader = cell.leader().unwrap();
    let enter = |session| {
        lock(LockOperation::Acquire(Acquire {
            name: "barrier".into(),
            claimant: Claimant { session, id: 7 },
            mode: Mode::Enter as i32,
            limit: 2,
            wait_ms: u64::MAX,
            ..Acquire::default()
        }))
    };
    let entered = [2, 3].map(|session| cell.propose(leader, enter(session)));
    cell.settle();
    for ticket in entered {
        granted(&cell, ticket);
    }
    let leave = lock(LockOperation::Leave(Leave {
        claimant: Claimant { session: 2, id: 7 },
        wait_ms: 500,
    }));
    let left = cell.propose(leader, leave);
    cell.settle();
    assert_eq!(cell.outcome(left), None);
    cell.advance(1000);
    assert_eq!(reply(&cell, left), refused(LockRejection::TimedOut));
}

/// A member whose state is replaced by a snapshot looks again at everybody who waits.
#[test]
fn a_snapshot_tells_who_waits() {
    let limits = Limits {
        snapshot_log_bytes: 20_000,
        snapshot_keep_entries: 1,
        ..Limits::default()
    };
    let mut cell = with_holder(Settings {
        limits,
        ..Settings::default()
    });
    let (leader, follower) = (cell.leader().unwrap(), cell.follower());
    let granted_meanwhile = cell.propose(follower, acquire(2, u64::MAX));
    cell.settle();
    let ended_meanwhile = cell.propose(follower, acquire(3, u64::MAX));
    // Until both wait: nobody else needs a batch.
    cell.advance(10);
    cell.isolate(follower);
    cell.propose(leader, release(1));
    let behind = cell.propose(leader, acquire(1, u64::MAX));
    cell.propose(leader, release(3));
    for n in 0..1000 {
        cell.propose(
            leader,
            put(&format!("k{}", n % 50), &format!("{n}-{}", "v".repeat(40))),
        );
        cell.settle();
    }
    cell.advance(200);
    assert_eq!(cell.outcome(granted_meanwhile), None);
    cell.heal();
    cell.advance(10_000);
    granted(&cell, granted_meanwhile);
    assert_eq!(
        cell.failure(ended_meanwhile),
        Failure::Unknown,
        "it came by snapshot, which says no more"
    );
    assert_eq!(cell.outcome(behind), None);
    cell.check_equal();
}
