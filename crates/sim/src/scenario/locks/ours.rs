//! Our lock under the troubles of others: real members, real messages. A has the lock and writes under its guard; B, and sometimes more, want it.

use crate::faults::Fault;
use crate::scenario::stage::Stage;
use bytes::Bytes;
use log::memory_disk::Survival;
use state::lock::{
    Acquire, Claimant, GUARD_MODEL, LockCommand, LockOperation, LockRejection, LockReply, Release,
};
use state::{Guard, LeaseGrant, LeaseRevoke, Operation, Put, Rejection, Reply};

const LOCK: &str = "job";

/// Sessions: A's is short, those of others live through the story.
const A: i64 = 1;
const B: i64 = 2;
const SHORT_MS: u64 = 10_000;
const LONG_MS: u64 = 600_000;

/// An hour.
const HOUR_MS: i64 = 3_600_000;

fn name(session: i64) -> char {
    char::from(b'A' + (session - 1) as u8)
}

fn lock(operation: LockOperation) -> Operation {
    Operation::Lock(LockCommand {
        operation: Some(operation),
    })
}

fn acquire(session: i64, delay_ms: u64) -> Operation {
    lock(LockOperation::Acquire(Acquire {
        name: LOCK.into(),
        claimant: Claimant { session, id: 1 },
        wait_ms: u64::MAX,
        delay_ms,
        ..Acquire::default()
    }))
}

fn release(session: i64) -> Operation {
    let claimant = Claimant { session, id: 1 };
    lock(LockOperation::Release(Release {
        claimant,
        joined: 0,
    }))
}

impl Stage<'_> {
    fn open_session(&mut self, session: i64, ttl_ms: u64) {
        let (id, grant) = (
            session,
            LeaseGrant {
                id: session,
                ttl_ms,
            },
        );
        let request = self.propose(0, Operation::LeaseGrant(grant), Vec::new());
        self.until(&format!("session {id} is open"), |stage| {
            stage.done(request)
        });
    }

    /// Asks for the lock.
    fn want(&mut self, member: usize, session: i64) -> u64 {
        self.propose(member, acquire(session, 0), Vec::new())
    }

    /// The token that a request was told; nothing if it still waits.
    fn token(&self, request: u64) -> Option<u64> {
        match self.reply(request)? {
            Reply::Lock(LockReply::Granted { token }) => Some(*token),
            _ => None,
        }
    }

    /// Asks for the lock and gets it.
    fn get(&mut self, member: usize, session: i64) -> u64 {
        let request = self.want(member, session);
        let who = name(session);
        self.until(&format!("{who} has the lock"), |stage| {
            stage.token(request).is_some()
        });
        self.token(request).unwrap_or(0)
    }

    /// Writes under the guard of a token; true if the write was taken, false if the guard was refused.
    fn write(&mut self, member: usize, session: i64, token: u64) -> bool {
        let put = Put {
            key: "x".into(),
            value: Bytes::from(name(session).to_string()),
            ..Put::default()
        };
        let guard = Guard {
            model: GUARD_MODEL,
            name: LOCK.into(),
            token,
        };
        let request = self.propose(member, Operation::Put(put), vec![guard]);
        self.until("the write was answered", |stage| {
            stage.reply(request).is_some()
        });
        match self.reply(request) {
            Some(Reply::Put { .. }) => true,
            Some(Reply::Rejected(Rejection::Guard(_))) => false,
            other => panic!("{other:?} answers a write"),
        }
    }

    fn give_back(&mut self, member: usize, session: i64) -> Option<Reply> {
        let request = self.propose(member, release(session), Vec::new());
        self.until("the release was answered", |stage| {
            stage.reply(request).is_some()
        });
        self.reply(request).cloned()
    }

    fn check_refused(&mut self, what: &str, taken: bool) {
        self.check(&format!("{what} is refused by its guard"), !taken);
    }

    /// Ends the sessions that are left, so that the cluster comes to rest.
    fn end_sessions(&mut self, member: usize, sessions: &[i64]) {
        for id in sessions {
            let revoke = Operation::LeaseRevoke(LeaseRevoke { id: *id });
            let request = self.propose(member, revoke, Vec::new());
            self.until("a session is ended", |stage| stage.reply(request).is_some());
        }
    }

    /// n1 leads, A has the lock and has written once; gives its token.
    fn begin_locked(&mut self) -> u64 {
        self.say("Three members, n1 leads. A and B open sessions; A gets the lock and writes under its guard.");
        self.elect(0);
        self.hush_decisions();
        self.open_session(A, SHORT_MS);
        self.open_session(B, LONG_MS);
        let token = self.get(1, A);
        self.write(1, A, token);
        token
    }
}

pub fn pause(stage: &mut Stage<'_>) {
    let a = stage.begin_locked();
    stage.say(
        "A's program is stopped: nobody keeps its session alive. B asks for the lock and waits.",
    );
    let wants = stage.want(2, B);
    stage.pass(5_000);
    let waits = stage.token(wants).is_none();
    stage.until("B has the lock", |stage| stage.token(wants).is_some());
    let b = stage.token(wants).unwrap_or(0);
    stage.say("A's session has ended, and B has the lock. B writes. Then A goes on, and knows of nothing.");
    let first = stage.write(2, B, b);
    let stale = stage.write(1, A, a);
    let second = stage.write(2, B, b);
    stage.give_back(2, B);
    stage.say("B has left. Nobody has the lock; A tries again all the same.");
    let later = stage.write(1, A, a);
    stage.check("B waited while A's session lived", waits);
    stage.check(&format!("tokens rise: A had {a}, B has {b}"), a < b);
    stage.check("both writes of B are taken", first && second);
    stage.check_refused("A's write in the middle of B's work", stale);
    stage.check_refused("A's write while nobody has the lock", later);
    stage.end_sessions(0, &[B]);
}

pub fn network(stage: &mut Stage<'_>) {
    let a = stage.begin_locked();
    stage.say("A sends its second write, which is twenty seconds on its way. A hears nothing, gives up, and gives the lock back.");
    let released = stage.give_back(1, A);
    let b = stage.get(2, B);
    let first = stage.write(2, B, b);
    stage.say("Now A's write arrives.");
    let late = stage.write(1, A, a);
    let second = stage.write(2, B, b);
    let held =
        matches!(released, Some(Reply::Lock(LockReply::Released { token, .. })) if token == a);
    stage.check("A's release is of its own grant", held);
    stage.check("both writes of B are taken", first && second);
    stage.check_refused("A's late write", late);
    stage.end_sessions(0, &[A, B]);
}

pub fn clock(stage: &mut Stage<'_>) {
    let a = stage.begin_locked();
    let wants = stage.want(2, B);
    stage.say("The wall clocks of all members jump: of the leader an hour ahead, of the others an hour back.");
    stage.fault(Fault::StepWall(0, HOUR_MS));
    stage.fault(Fault::StepWall(1, -HOUR_MS));
    stage.fault(Fault::StepWall(2, -HOUR_MS));
    stage.pass(6_000);
    let waits = stage.token(wants).is_none();
    let own = stage.write(1, A, a);
    stage.give_back(1, A);
    stage.until("B has the lock", |stage| stage.token(wants).is_some());
    let b = stage.token(wants).unwrap_or(0);
    stage.check("B waited: A's session did not end early", waits);
    stage.check("A's write six seconds after the jump is taken", own);
    stage.check(&format!("tokens rise: A had {a}, B has {b}"), a < b);
    stage.end_sessions(0, &[A, B]);
}

pub fn crash(stage: &mut Stage<'_>) {
    let a = stage.begin_locked();
    stage.say("A's machine dies with the lock. B asks for it.");
    let (began, wants) = (stage.now(), stage.want(2, B));
    stage.until("B has the lock", |stage| stage.token(wants).is_some());
    let (b, waited) = (
        stage.token(wants).unwrap_or(0),
        (stage.now() - began) / 1000,
    );
    let write = stage.write(2, B, b);
    stage.check(
        &format!("B has the lock when A's session of {SHORT_MS} ms is over, and not much later"),
        (SHORT_MS - 1_000..SHORT_MS + 1_500).contains(&waited),
    );
    stage.check("B's write is taken", write && a < b);
    stage.end_sessions(0, &[B]);
}

pub fn fail_over(stage: &mut Stage<'_>) {
    let a = stage.begin_locked();
    let wants = stage.want(2, B);
    stage.say("The leader is killed at this moment; n2 takes over.");
    stage.fault(Fault::Crash(0));
    stage.elect(1);
    stage.pass(2_000);
    let waits = stage.token(wants).is_none();
    let own = stage.write(1, A, a);
    stage.say("A is done.");
    stage.give_back(1, A);
    stage.until("B has the lock", |stage| stage.token(wants).is_some());
    let b = stage.token(wants).unwrap_or(0);
    let late = stage.write(1, A, a);
    stage.check(
        "B, who had asked n3 before, waited through the change of leaders and was told",
        waits && b > 0,
    );
    stage.check("A's write through the new leader is taken", own);
    stage.check(&format!("tokens rise: A had {a}, B has {b}"), a < b);
    stage.check_refused("a write of A after its release", late);
    stage.end_sessions(1, &[A, B]);
}

pub fn restart(stage: &mut Stage<'_>) {
    let a = stage.begin_locked();
    stage.say("All machines lose power, and come back.");
    stage.fault(Fault::PowerLossAll(Survival::Nothing));
    stage.pass(500);
    for member in 0..3 {
        stage.fault(Fault::Start(member));
    }
    stage.elect(2);
    let wants = stage.want(2, B);
    let again = stage.get(1, A);
    let waits = stage.token(wants).is_none();
    let own = stage.write(1, A, a);
    stage.give_back(1, A);
    stage.until("B has the lock", |stage| stage.token(wants).is_some());
    stage.check(
        &format!("A asks once more and hears the same grant, {a}"),
        again == a,
    );
    stage.check("B waits: nobody has forgotten whose the lock is", waits);
    stage.check("A's write is taken", own);
    stage.end_sessions(2, &[A, B]);
}

pub fn foreign_release(stage: &mut Stage<'_>) {
    let a = stage.begin_locked();
    stage.say("A's program is stopped until its session has ended and B has the lock. Then it gives back what it believes to have.");
    let b = stage.get(2, B);
    let undone = stage.give_back(1, A);
    let wants = {
        stage.open_session(3, LONG_MS);
        stage.want(0, 3)
    };
    stage.pass(1_000);
    let waits = stage.token(wants).is_none();
    let own = stage.write(2, B, b);
    let nothing = Some(Reply::Rejected(Rejection::Lock(LockRejection::NotHeld)));
    stage.check(
        "A's release takes nothing away: there is no such acquisition",
        undone == nothing,
    );
    stage.check("C waits, and B's write is taken", waits && own && a < b);
    stage.end_sessions(0, &[B, 3]);
}

pub fn herd(stage: &mut Stage<'_>) {
    stage.say("Three members, n1 leads. A has the lock, and twenty wait for it at all three.");
    stage.elect(0);
    stage.hush_decisions();
    for session in 1..=21 {
        stage.open_session(session, LONG_MS);
    }
    stage.get(0, A);
    let mut waiting = vec![stage.want(2, B)];
    stage.pass(50);
    waiting.extend((3..=21).map(|session| stage.want(session as usize % 3, session)));
    stage.pass(500);
    let told = |stage: &Stage<'_>| waiting.iter().filter(|it| stage.ended(**it)).count();
    let before = told(stage);
    stage.give_back(0, A);
    stage.pass(1_000);
    let after = told(stage);
    let first = stage.token(waiting[0]);
    stage.check(&format!("{before} of twenty were told something while A had the lock, and {after} when it gave it back"), (before, after) == (0, 1));
    stage.check("it was B, who had come first", first.is_some());
    let sessions: Vec<i64> = (1..=21).collect();
    stage.end_sessions(0, &sessions);
}

pub fn split_vote(stage: &mut Stage<'_>) {
    stage.say("Three members, n1 leads. A, B and C ask for the lock at the same moment, each another member.");
    stage.elect(0);
    stage.hush_decisions();
    for session in 1..=3 {
        stage.open_session(session, LONG_MS);
    }
    let began = stage.now();
    let asked: Vec<u64> = (1..=3)
        .map(|session| stage.want(session as usize - 1, session))
        .collect();
    let tokens = |stage: &Stage<'_>| asked.iter().filter_map(|it| stage.token(*it)).count();
    stage.until("one of them has it", |stage| tokens(stage) == 1);
    let millis = (stage.now() - began) / 1000;
    stage.pass(500);
    let still = tokens(stage);
    stage.check(
        "one of them has it at the first try, within 50 ms",
        millis < 50,
    );
    stage.check("the two others wait, and ask nothing more", still == 1);
    stage.end_sessions(0, &[1, 2, 3]);
}
