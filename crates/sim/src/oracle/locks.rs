//! F1 to F8: what the decided log makes of locks, what clients are told of it, and that nobody waits for an end that has come.
//!
//! The [`Model`] foretells each reply; this looks at what it foretells as the promises say it, and at how waits end, of which a member tells
//! long after the command, or not at all.

use super::blame::is_nearly_over;
use super::{Check, broken};
use crate::model::{Claim, Locks as State, Model};
use bytes::Bytes;
use replica::{Body, Response};
use state::lock::{
    Acquire, Claimant, GuardRejection, Kind, Leave, LockCommand, LockOperation, LockRejection,
    LockReply, Mode, Outcome, Release, Woken,
};
use state::{Command, Guard, Operation, Rejection, Reply};
use std::collections::{BTreeMap, BTreeSet};

/// The oracle.
#[derive(Debug, Default)]
pub struct Locks {
    /// How waits ended, by index; of each batch the last.
    ends: BTreeMap<Claimant, Vec<End>>,
    /// Where waits began.
    begins: BTreeMap<Claimant, BTreeSet<u64>>,
    /// Requests that wait, with their index.
    waits: BTreeMap<u64, (Claimant, u64)>,
    /// Acquisitions of which a client gave a wait up, so that a member may.
    given_up: BTreeSet<Claimant>,
    /// The newest token of each name.
    tokens: BTreeMap<Bytes, u64>,
    /// The newest tokens of each name under which guarded commands were applied.
    guards: BTreeMap<Bytes, Passed>,
    /// By token: when its grant was given, and when it was gone.
    lives: BTreeMap<u64, (u64, Option<u64>)>,
    grants: u64,
    refused: u64,
}

/// The newest token that was let pass, and the newest of a grant that excludes all others.
#[derive(Clone, Copy, Debug, Default)]
struct Passed {
    newest: u64,
    alone: u64,
}

/// The end of a wait.
#[derive(Clone, Debug)]
struct End {
    index: u64,
    outcome: Outcome,
    /// The acquisition waits all the same: for others to leave its barrier, although its time was over, or because it was asked for anew.
    goes_on: bool,
}

/// The acquisition that a command is about, if it may wait.
fn waiting_for(command: &Command) -> Option<Claimant> {
    let Some(Operation::Lock(LockCommand { operation })) = &command.operation else {
        return None;
    };
    match operation {
        Some(
            LockOperation::Acquire(Acquire {
                claimant, wait_ms, ..
            })
            | LockOperation::Leave(Leave { claimant, wait_ms }),
        ) => Some(*claimant).filter(|_| *wait_ms > 0),
        _ => None,
    }
}

/// What whoever waits is told of its end.
fn told(outcome: &Outcome) -> Reply {
    let rejection = match outcome {
        Outcome::Granted { token } => return Reply::Lock(LockReply::Granted { token: *token }),
        Outcome::Passed => return Reply::Lock(LockReply::Passed),
        Outcome::TimedOut => LockRejection::TimedOut,
        Outcome::Cancelled => LockRejection::Cancelled,
        Outcome::SessionEnded => LockRejection::SessionNotFound,
        Outcome::Forced { reason } => LockRejection::Forced {
            reason: reason.clone(),
        },
    };
    Reply::Rejected(Rejection::Lock(rejection))
}

impl Locks {
    /// Grants, and guarded commands that were refused.
    pub fn counts(&self) -> (u64, u64) {
        (self.grants, self.refused)
    }

    /// A command without a request of its own: a member gives up what its client no longer waits for, and says as of which repetition.
    pub fn is_giving_up(&self, command: &Command) -> bool {
        let Some(Operation::Lock(LockCommand {
            operation: Some(LockOperation::Release(Release { claimant, joined })),
        })) = &command.operation
        else {
            return false;
        };
        *joined != 0 && self.given_up.contains(claimant)
    }

    /// Nobody waits for this request any more.
    pub fn on_lost(&mut self, request: u64, command: &Command) {
        self.waits.remove(&request);
        self.given_up.extend(waiting_for(command));
    }

    /// The wait of a request was answered, or it failed.
    pub fn on_ended(&mut self, request: u64) {
        self.waits.remove(&request);
    }

    /// A command of a request was decided, and this is its reply.
    pub fn on_decided(
        &mut self,
        (request, index): (u64, u64),
        command: &Command,
        reply: &Reply,
        model: &Model,
    ) -> Check {
        if let Reply::Lock(LockReply::Waiting { claimant, .. }) = reply {
            self.waits.insert(request, (*claimant, index));
            self.begins.entry(*claimant).or_default().insert(index);
        }
        for guard in &command.guards {
            if let Reply::Rejected(Rejection::Guard(_)) = reply {
                self.refused += 1;
                continue;
            }
            // Whoever may not write is told so before guards are looked at.
            if let Reply::Rejected(Rejection::Auth(_)) = reply {
                continue;
            }
            let Guard { name, token, .. } = guard;
            let alone = model.locks().mode(*token) == Some(Mode::Exclusive);
            let passed = self.guards.entry(name.clone()).or_default();
            // Of grants that share the lock, an older one is as good as a newer one until one that excludes them was made.
            let above = if alone { passed.newest } else { passed.alone };
            if *token < above {
                broken!(
                    "F3",
                    "request {request} is applied with token {token} of {name:?} after one with {above}"
                );
            }
            passed.newest = passed.newest.max(*token);
            if alone {
                passed.alone = passed.alone.max(*token);
            }
        }
        Ok(())
    }

    /// F1, F4 and F5 as a command of a batch left the locks, or the time that passed before the first one.
    pub fn check(model: &Model) -> Check {
        let locks = model.locks();
        for (name, known) in locks.names() {
            let holders: Vec<&Claim> = locks.holders(name).collect();
            check_holders(&holders, known.kind, known.limit)
                .map_err(|(property, text)| (property, format!("{name:?}: {text}")))?;
            let owner_lives = |claim: &&Claim| model.leases().contains_key(&claim.claimant.session);
            if let Some(dead) = holders.iter().find(|claim| !owner_lives(claim)) {
                broken!(
                    "F4",
                    "{name:?} is held by {dead:?}, whose session has ended"
                );
            }
            check_front(locks, name, &holders, model.clock_ms())?;
        }
        Ok(())
    }

    /// A batch was decided: what it makes of those who hold and who wait must be as promised.
    pub fn on_batch(&mut self, index: u64, woken: &[Woken], model: &Model) -> Check {
        let locks = model.locks();
        let held: BTreeSet<u64> = locks.claims().iter().map(|claim| claim.token).collect();
        for (token, (_, gone)) in &mut self.lives {
            if gone.is_none() && !held.contains(token) {
                *gone = Some(index);
            }
        }
        for Woken { claimant, outcome } in woken {
            let ends = self.ends.entry(*claimant).or_default();
            ends.retain(|end| end.index < index);
            ends.push(End {
                index,
                outcome: outcome.clone(),
                goes_on: locks.claim(*claimant).is_some_and(Claim::waits),
            });
            let Outcome::Granted { token } = outcome else {
                continue;
            };
            self.grants += 1;
            let gone = (!held.contains(token)).then_some(index);
            self.lives.insert(*token, (index, gone));
            let Some(claim) = model.locks().claim(*claimant) else {
                continue;
            };
            let newest = self.tokens.entry(claim.name.clone()).or_default();
            if claim.token == *token && *token <= *newest {
                broken!("F2", "{:?} gets token {token} after {newest}", claim.name);
            }
            *newest = (*newest).max(*token);
        }
        Ok(())
    }

    /// How a wait that began at an index may be told to have ended, by a member that has applied up to another one.
    pub fn check_told(&self, request: u64, model: &Model, response: &Response) -> Check {
        let Some((claimant, since)) = self.waits.get(&request) else {
            broken!("F5", "it never waited")
        };
        let upto = response.stamp.index;
        let ends = self.ends.get(claimant).into_iter().flatten();
        let mut possible = ends.filter(|end| (*since..=upto).contains(&end.index));
        let matches = |outcome: &Outcome| Body::Reply(told(outcome)) == response.body;
        if possible.any(|end| matches(&end.outcome)) {
            return Ok(());
        }
        let claim = model.locks().claim(*claimant);
        let property = match &response.body {
            Body::Reply(Reply::Lock(LockReply::Granted { token })) => {
                self.promise_of_grant((*claimant, *since), *token, model)
            }
            Body::Reply(Reply::Rejected(Rejection::Lock(LockRejection::SessionNotFound))) => "L1",
            _ => "F5",
        };
        broken!(
            property,
            "{claimant:?} waits since index {since}, and the log says {claim:?}; it ended {:?}",
            self.ends.get(claimant)
        )
    }

    /// Which promise it breaks that one who waits is told of a grant that the log does not give.
    fn promise_of_grant(
        &self,
        (claimant, since): (Claimant, u64),
        token: u64,
        model: &Model,
    ) -> &'static str {
        let ends = self.ends.get(&claimant).into_iter().flatten();
        let mut since_then = ends.filter(|end| end.index >= since);
        if since_then.any(|end| end.outcome == Outcome::SessionEnded) {
            return "F4";
        }
        // Given meanwhile, but to another one: it came before its turn.
        if self.lives.get(&token).is_some_and(|life| life.0 >= since) {
            return "F5";
        }
        let claim = model.locks().claim(claimant);
        claim.map_or("F5", |claim| obstacle(model, &claim.name))
    }

    /// F5, V1: a member that has applied the end of a wait has told whoever waits there. `waiting` are the requests it has not answered, each with
    /// whether its state came by snapshot since: that tells only who waits now, of no time that was over, and not who asked anew after an end.
    pub fn check_nobody_is_forgotten(
        &self,
        applied: u64,
        waiting: impl Iterator<Item = (u64, bool)>,
        model: &Model,
    ) -> Check {
        for (request, restored) in waiting {
            let Some((claimant, since)) = self.waits.get(&request) else {
                continue;
            };
            // Repeated since, it may wait again.
            let repeated = |(other, at): &(Claimant, u64)| other == claimant && at > since;
            if self.waits.values().any(repeated) {
                continue;
            }
            let waits = model.locks().claim(*claimant).is_some_and(Claim::waits);
            let ends = self.ends.get(claimant).into_iter().flatten();
            let mut over = ends.filter(|end| end.index > *since && end.index <= applied);
            let begins = self.begins.get(claimant);
            let again = |end: &End| {
                let mut later = begins.into_iter().flat_map(|it| it.range(end.index + 1..));
                later.next().is_some_and(|begin| *begin <= applied)
            };
            // Given up and asked for anew by one batch, at one member: that goes on, and has its end with the new wait.
            let at_once =
                |end: &End| end.goes_on && begins.is_some_and(|it| it.contains(&end.index));
            let excused = |end: &End| at_once(end) || restored && (end.goes_on || again(end));
            if let Some(end) = over.find(|end| !excused(end)).filter(|_| !waits) {
                broken!(
                    "F5",
                    "request {request} waits since index {since}, and was not told at {applied}: {end:?}"
                );
            }
        }
        Ok(())
    }

    /// Whether a token may have been said to be held, or not, in a view at this index or in the midst of its batch.
    pub fn check_held(&self, token: u64, said: bool, index: u64) -> Check {
        let life = self.lives.get(&token).copied();
        let possible = match (life, said) {
            (None, said) => !said,
            (Some((given, gone)), true) => given <= index && gone.is_none_or(|gone| gone >= index),
            (Some((given, gone)), false) => {
                given >= index || gone.is_some_and(|gone| gone <= index)
            }
        };
        if !possible {
            broken!("F3", "the grant of token {token} was there {life:?}");
        }
        Ok(())
    }

    /// The request waits, as long as others make it.
    pub fn is_waiting(&self, request: u64) -> bool {
        self.waits.contains_key(&request)
    }
}

/// The promise that a reply keeps, so that another one breaks it.
pub fn promise(command: &Command, reply: &Reply, model: &Model) -> &'static str {
    if let Reply::Rejected(Rejection::Guard(GuardRejection::NotHeld { name, .. })) = reply {
        return if is_closed(model, name) { "F7" } else { "F2" };
    }
    if !command.guards.is_empty() {
        return "F3";
    }
    if command.client != 0 {
        return match reply {
            Reply::Rejected(Rejection::Client(_)) => "E2",
            _ => "E1",
        };
    }
    let Some(Operation::Lock(LockCommand { operation })) = &command.operation else {
        return match &command.operation {
            Some(Operation::Id(_)) => "I1",
            Some(Operation::Client(_)) => "E2",
            _ => "KV6",
        };
    };
    match (operation, reply) {
        (_, Reply::Lock(LockReply::Granted { .. })) => "F2",
        (Some(LockOperation::Acquire(acquire)), Reply::Lock(_)) => obstacle(model, &acquire.name),
        (Some(LockOperation::Acquire(_)), _) => "F4",
        (Some(LockOperation::Release(release)), _) => {
            let lease = model.leases().get(&release.claimant.session);
            let over = lease.is_some_and(|lease| is_nearly_over(lease, model.clock_ms()));
            if over { "L1" } else { "F8" }
        }
        _ => "F6",
    }
}

/// Which promise keeps a lock from whoever wants it.
fn obstacle(model: &Model, name: &Bytes) -> &'static str {
    let ends = |claim: &Claim| {
        let lease = model.leases().get(&claim.claimant.session);
        lease.is_some_and(|lease| is_nearly_over(lease, model.clock_ms()))
    };
    if model.locks().holders(name).any(ends) {
        return "L1";
    }
    if is_closed(model, name) {
        "F7"
    } else if model.locks().holders(name).next().is_some() {
        "F1"
    } else {
        "F5"
    }
}

/// The lock of a lost session is closed for a while.
fn is_closed(model: &Model, name: &Bytes) -> bool {
    let known = model.locks().names().get(name);
    known.is_some_and(|name| name.closed_until_ms > model.clock_ms())
}

/// F1: who holds a lock may hold it together.
fn check_holders(holders: &[&Claim], kind: Kind, limit: u64) -> Check {
    let alone = holders.iter().any(|claim| claim.mode == Mode::Exclusive);
    let grants: BTreeSet<u64> = holders.iter().map(|claim| claim.token).collect();
    if alone && grants.len() > 1 {
        broken!("F1", "held alone and by others: {holders:?}");
    }
    let permits: u64 = holders.iter().map(|claim| claim.permits).sum();
    if kind == Kind::Semaphore && permits > limit {
        broken!("F1", "{permits} permits of {limit} are held: {holders:?}");
    }
    Ok(())
}

/// F5: nobody waits in front of a lock that is free and open.
fn check_front(locks: &State, name: &Bytes, holders: &[&Claim], clock_ms: u64) -> Check {
    let known = &locks.names()[name];
    let free = holders.is_empty() && known.closed_until_ms <= clock_ms;
    let waits = locks.waiters(name);
    let ready = match known.kind {
        Kind::Lock | Kind::Semaphore | Kind::Group => !waits.is_empty(),
        Kind::Latch => known.limit == 0 && !waits.is_empty(),
        Kind::Barrier => waits.len() as u64 >= known.limit,
    };
    if free && ready {
        broken!("F5", "{name:?} is free, and {:?} waits", waits[0]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::{Batch, Group, LeaseGrant, Put};

    fn lock(operation: LockOperation) -> Command {
        Command {
            operation: Some(Operation::Lock(LockCommand {
                operation: Some(operation),
            })),
            ..Command::default()
        }
    }

    fn acquire(session: i64, mode: Mode) -> Command {
        lock(LockOperation::Acquire(Acquire {
            name: "l".into(),
            claimant: Claimant { session, id: 1 },
            mode: mode.into(),
            wait_ms: u64::MAX,
            ..Acquire::default()
        }))
    }

    fn release(session: i64) -> Command {
        lock(LockOperation::Release(Release {
            claimant: Claimant { session, id: 1 },
            joined: 0,
        }))
    }

    fn guarded(token: u64) -> Command {
        Command {
            guards: vec![Guard {
                model: 1,
                name: "l".into(),
                token,
            }],
            operation: Some(Operation::Put(Put {
                key: "k".into(),
                ..Put::default()
            })),
            ..Command::default()
        }
    }

    /// Two sessions share a lock; gives the model and their tokens.
    fn shared() -> (Model, Vec<u64>) {
        let mut model = Model::new();
        let grant = |id| Command {
            operation: Some(Operation::LeaseGrant(LeaseGrant { id, ttl_ms: 60_000 })),
            ..Command::default()
        };
        apply(&mut model, (1..=3).map(grant).collect());
        let both = [1, 2].map(|session| acquire(session, Mode::Shared));
        apply(&mut model, both.to_vec());
        let tokens = model.locks().claims().iter().map(|claim| claim.token);
        let tokens = tokens.collect();
        (model, tokens)
    }

    fn apply(model: &mut Model, commands: Vec<Command>) -> Vec<Reply> {
        let batch = Batch {
            format: 1,
            groups: vec![Group {
                commands,
                ..Group::default()
            }],
            ..Batch::default()
        };
        let applied = model.apply(&batch, 0).unwrap();
        let outcomes = applied.outcomes.into_iter();
        outcomes.map(|outcome| outcome.reply).collect()
    }

    /// Found by the simulator: the lock had changed hands by the end of the batch.
    #[test]
    fn those_who_share_a_lock_may_write_in_any_order_until_it_changes_hands() {
        let (mut model, tokens) = shared();
        let mut oracle = Locks::default();
        let writes = vec![
            guarded(tokens[1]),
            guarded(tokens[0]),
            release(1),
            release(2),
            acquire(3, Mode::Exclusive),
        ];
        let replies = apply(&mut model, writes.clone());
        for (write, reply) in writes.iter().zip(&replies).take(2) {
            assert_eq!(*reply, Reply::Put { prev: None });
            oracle.on_decided((1, 1), write, reply, &model).unwrap();
        }
        let alone = guarded(model.locks().claims()[0].token);
        let done = Reply::Put { prev: None };
        oracle.on_decided((2, 2), &alone, &done, &model).unwrap();
        let stale = oracle.on_decided((3, 3), &writes[0], &done, &model);
        assert_eq!(stale.unwrap_err().0, "F3");
    }

    /// Decides a batch at an index whose commands are those of requests, and lets the oracle see it.
    fn decide((model, oracle): (&mut Model, &mut Locks), index: u64, commands: &[(u64, Command)]) {
        let batch = Batch {
            format: 1,
            groups: vec![Group {
                commands: commands
                    .iter()
                    .map(|(_, command)| command.clone())
                    .collect(),
                ..Group::default()
            }],
            ..Batch::default()
        };
        let applied = model.apply(&batch, 0).unwrap();
        oracle.on_batch(index, &applied.woken, model).unwrap();
        for ((request, command), outcome) in commands.iter().zip(&applied.outcomes) {
            let decided = oracle.on_decided((*request, index), command, &outcome.reply, model);
            decided.unwrap();
        }
    }

    /// Found by the simulator: one client's wait was given up and began anew in one batch, at the member where an earlier request waited for the
    /// same acquisition. That one waits on, and nobody has to say that it ended until it does.
    #[test]
    fn a_wait_that_ends_and_begins_in_one_batch_goes_on() {
        let (mut model, tokens) = shared();
        assert_eq!(tokens.len(), 2);
        let mut oracle = Locks::default();
        let wants = || acquire(3, Mode::Exclusive);
        let mut step = |oracle: &mut Locks, index, commands: &[(u64, Command)]| {
            decide((&mut model, oracle), index, commands);
            let applied = if index == 12 { 11 } else { index };
            let waiting = [(5, false)].into_iter();
            oracle.check_nobody_is_forgotten(applied, waiting, &model)
        };
        step(&mut oracle, 10, &[(5, wants())]).unwrap();
        step(&mut oracle, 11, &[(6, release(3)), (7, wants())]).unwrap();
        oracle.on_lost(7, &wants());
        // It is let in where the member that was asked has not come yet.
        step(&mut oracle, 12, &[(8, release(1)), (9, release(2))]).unwrap();
        let forgotten = step(&mut oracle, 13, &[]);
        assert_eq!(forgotten.unwrap_err().0, "F5");
    }
}
