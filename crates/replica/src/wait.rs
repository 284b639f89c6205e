//! Acquisitions of locks that wait: who at this member is to hear how they end (docs/decisions/0015).
//!
//! A wait is not part of the state, so it ends with this member. A client that asks again, here or elsewhere, finds its place or its grant. When
//! the last one here that waits for an acquisition goes away, the acquisition is given up, unless it was repeated elsewhere since.

use crate::effect::{Body, Failure};
use crate::input::Ticket;
use crate::replica::Replica;
use crate::upkeep::OWN;
use raft::Instant;
use state::lock::{
    Acquire, Claimant, Leave, LockCommand, LockOperation, LockReply, Outcome, Release, Woken,
};
use state::{Command, Operation, Reply};
use std::collections::{BTreeMap, BTreeSet};

/// Requests that may come to wait, at most.
const WAITS_MAX: usize = 65_536;

/// See the module.
#[derive(Default)]
pub(crate) struct Waits {
    /// Requests that may come to wait, or do.
    requests: BTreeMap<Ticket, Request>,
    /// Those that do.
    waiting: BTreeMap<Claimant, BTreeSet<Ticket>>,
    /// Began to wait in the batch that is being answered.
    fresh: BTreeSet<Claimant>,
}

struct Request {
    claimant: Claimant,
    /// Nobody wants the outcome any more.
    cancelled: bool,
}

/// The acquisition for which a command may wait.
fn waits_for(command: &Command) -> Option<Claimant> {
    let Some(Operation::Lock(LockCommand { operation })) = &command.operation else {
        return None;
    };
    match operation {
        Some(LockOperation::Acquire(Acquire {
            claimant, wait_ms, ..
        }))
        | Some(LockOperation::Leave(Leave { claimant, wait_ms })) => {
            Some(*claimant).filter(|_| *wait_ms > 0)
        }
        _ => None,
    }
}

impl Replica {
    /// Remembers a command that may come to wait.
    pub(crate) fn note_wait(&mut self, ticket: Ticket, command: &Command) -> Result<(), Failure> {
        let Some(claimant) = waits_for(command) else {
            return Ok(());
        };
        if self.waits.requests.len() >= WAITS_MAX {
            return Err(Failure::Overloaded {
                queue: "acquisitions that wait",
                limit: WAITS_MAX,
            });
        }
        let request = Request {
            claimant,
            cancelled: false,
        };
        self.waits.requests.insert(ticket, request);
        Ok(())
    }

    /// Takes the reply to a command that may wait; `None` if it does, and the reply comes later.
    pub(crate) fn hold_wait(
        &mut self,
        now: Instant,
        ticket: Ticket,
        reply: Reply,
    ) -> Option<Reply> {
        let Some(request) = self.waits.requests.get(&ticket) else {
            return Some(reply);
        };
        let claimant = request.claimant;
        if let Reply::Lock(LockReply::Waiting { .. }) = reply {
            self.waits
                .waiting
                .entry(claimant)
                .or_default()
                .insert(ticket);
            self.waits.fresh.insert(claimant);
            if request.cancelled {
                self.drop_wait(now, ticket);
            }
            return None;
        }
        if request.cancelled && matches!(reply, Reply::Lock(LockReply::Granted { .. })) {
            self.give_up(now, ticket);
        }
        self.waits.requests.remove(&ticket);
        Some(reply)
    }

    /// Tells who waits how it ended, as far as it did in the batch at `index`.
    pub(crate) fn on_woken(&mut self, index: u64, woken: Vec<Woken>) {
        mutated!(
            LostWakeUp,
            if self.waits.fresh.is_empty() {
                return;
            }
        );
        let waiting = &self.waits.waiting;
        let mut ended: BTreeMap<Claimant, Option<Outcome>> = woken
            .into_iter()
            .filter(|woken| waiting.contains_key(&woken.claimant))
            .map(|woken| (woken.claimant, Some(woken.outcome)))
            .collect();
        let fresh = std::mem::take(&mut self.waits.fresh);
        for &claimant in &fresh {
            ended.entry(claimant).or_default();
        }
        for (claimant, outcome) in ended {
            self.end_wait(index, claimant, outcome, fresh.contains(&claimant));
        }
    }

    /// Ends a wait unless the state says that it goes on. One that ended and began again in this batch, here (`fresh`), goes on; one that ended
    /// while its acquisition waits all the same does not: whoever left a barrier and will wait no longer has left it.
    fn end_wait(&mut self, index: u64, claimant: Claimant, outcome: Option<Outcome>, fresh: bool) {
        let told = match self.state.acquisition(claimant) {
            Some(acquisition) if acquisition.waits && (fresh || outcome.is_none()) => return,
            Some(acquisition) if !acquisition.waits => {
                let token = acquisition.token;
                Ok(Reply::Lock(LockReply::Granted { token }))
            }
            // If nothing says how it ended, the client asks again.
            _ => outcome.map(Reply::from).ok_or(Failure::Unknown),
        };
        for ticket in self.waits.waiting.remove(&claimant).unwrap_or_default() {
            self.waits.requests.remove(&ticket);
            let revision = self.state.revision();
            let told = told.clone();
            let outcome = told.map(|reply| self.response(Body::Reply(reply), revision, index));
            self.reply(ticket, outcome);
        }
    }

    /// The state was replaced: looks again at everybody who waits.
    pub(crate) fn waits_restored(&mut self) {
        self.waits.fresh.clear();
        mutated!(SnapshotForgetsWaiters, return);
        let all: Vec<Claimant> = self.waits.waiting.keys().copied().collect();
        for claimant in all {
            self.end_wait(self.state.applied(), claimant, None, false);
        }
    }

    /// The member stops.
    pub(crate) fn halt_waits(&mut self) {
        let waiting = std::mem::take(&mut self.waits.waiting);
        for ticket in waiting.into_values().flatten() {
            self.waits.requests.remove(&ticket);
            self.reply(ticket, Err(Failure::Unknown));
        }
    }

    /// The request ended in another way than by its reply.
    pub(crate) fn forget_wait(&mut self, ticket: Ticket) {
        self.waits.requests.remove(&ticket);
    }

    /// Nobody wants the outcome of this request any more.
    pub(crate) fn cancel_wait(&mut self, now: Instant, ticket: Ticket) {
        let Some(request) = self.waits.requests.get_mut(&ticket) else {
            return;
        };
        request.cancelled = true;
        let claimant = request.claimant;
        let waits = self.waits.waiting.get(&claimant);
        if waits.is_some_and(|tickets| tickets.contains(&ticket)) {
            self.drop_wait(now, ticket);
        }
    }

    /// Takes a waiting request out; if it was the last of its acquisition here, that is given up.
    fn drop_wait(&mut self, now: Instant, ticket: Ticket) {
        let claimant = self.waits.requests[&ticket].claimant;
        let others = self
            .waits
            .waiting
            .get_mut(&claimant)
            .is_some_and(|tickets| {
                tickets.remove(&ticket);
                !tickets.is_empty()
            });
        if !others {
            self.waits.waiting.remove(&claimant);
            self.waits.fresh.remove(&claimant);
            self.give_up(now, ticket);
        }
        self.waits.requests.remove(&ticket);
    }

    /// Proposes to give an acquisition up, as it stands now: one that is repeated elsewhere goes on.
    fn give_up(&mut self, now: Instant, ticket: Ticket) {
        let claimant = self.waits.requests[&ticket].claimant;
        let Some(acquisition) = self.state.acquisition(claimant) else {
            return;
        };
        let release = LockOperation::Release(Release {
            claimant,
            joined: acquisition.joined,
        });
        let command = Command {
            operation: Some(Operation::Lock(LockCommand {
                operation: Some(release),
            })),
            ..Command::default()
        };
        self.propose(now, OWN, &command);
    }
}
