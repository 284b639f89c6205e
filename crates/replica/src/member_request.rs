//! Operators' requests on their way: any member takes one and sends it to the leader, which judges it when no other change is under way and answers where
//! in the log the change begins, or why not. Who asked hears the outcome when the member asked has applied the change's last configuration.
//!
//! A message that is lost is not sent again: after a while the caller hears that the outcome is unknown, and looks at the members.

use crate::effect::{Body, Failure};
use crate::input::Ticket;
use crate::member_change::{self, ChangeRequest, Refusal, RefusalReason};
use crate::message::Message;
use crate::replica::Replica;
use raft::{ChangeError, Configuration, Index, Instant, PeerId, Role, Term};
use std::collections::{BTreeMap, VecDeque};

/// Requests that wait at a member, and at the leader, at most; more are refused.
const REQUESTS_MAX: usize = 64;

/// Where a request's change begins in the log; all that it changes is decided once this is applied and no configuration is joint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeBegun {
    /// The entry.
    pub index: Index,
    /// Its term.
    pub term: Term,
}

/// Requests of this member's clients, and, on the leader, those that wait for their turn.
pub(crate) struct MemberRequests {
    asked: BTreeMap<u64, Asked>,
    last: u64,
    waiting: VecDeque<Waiting>,
}

impl MemberRequests {
    /// Begins to number requests from `boot`: answers to those of an earlier life of this member may still be on their way.
    pub(crate) fn new(boot: u64) -> MemberRequests {
        MemberRequests {
            asked: BTreeMap::new(),
            last: boot >> 1,
            waiting: VecDeque::new(),
        }
    }
}

/// A request of a client here.
struct Asked {
    ticket: Ticket,
    since: Instant,
    /// When it was sent to the leader.
    term: Term,
    begun: Option<ChangeBegun>,
    /// The entry it began with was applied here: nothing undoes it.
    decided: bool,
}

/// A request that waits at the leader.
struct Waiting {
    from: PeerId,
    sequence: u64,
    since: Instant,
    request: ChangeRequest,
}

impl Replica {
    /// Takes a client's request.
    pub(crate) fn on_change_request(
        &mut self,
        now: Instant,
        ticket: Ticket,
        request: ChangeRequest,
    ) {
        let Some(leader) = self.leader else {
            return self.reply(ticket, Err(Failure::NoLeader));
        };
        let Some(sequence) = self.note_request(now, ticket) else {
            return;
        };
        if leader == self.me {
            self.on_change_asked(now, self.me, sequence, request);
        } else {
            self.send(leader, Message::ChangeAsked { sequence, request });
        }
    }

    /// Changes to exactly this configuration, on the leader.
    pub(crate) fn change_membership(
        &mut self,
        now: Instant,
        ticket: Ticket,
        target: Configuration,
    ) {
        let Some(sequence) = self.note_request(now, ticket) else {
            return;
        };
        match self.begin_change(now, target) {
            Ok(begun) => self.on_change_answered(sequence, Ok(begun)),
            Err(refusal) => {
                self.membership.requests.asked.remove(&sequence);
                self.reply(ticket, Err(Failure::MembershipRefused(refusal)));
            }
        }
    }

    fn note_request(&mut self, now: Instant, ticket: Ticket) -> Option<u64> {
        let requests = &mut self.membership.requests;
        if requests.asked.len() >= REQUESTS_MAX {
            let failure = Failure::Overloaded {
                queue: "membership changes",
                limit: REQUESTS_MAX,
            };
            self.reply(ticket, Err(failure));
            return None;
        }
        requests.last += 1;
        let asked = Asked {
            ticket,
            since: now,
            term: self.term,
            begun: None,
            decided: false,
        };
        requests.asked.insert(requests.last, asked);
        Some(requests.last)
    }

    /// A member asks the leader for a change.
    pub(crate) fn on_change_asked(
        &mut self,
        now: Instant,
        from: PeerId,
        sequence: u64,
        request: ChangeRequest,
    ) {
        let waiting = &mut self.membership.requests.waiting;
        if self.role != Role::Leader {
            let refusal = Refusal::new(RefusalReason::NotLeader, "this member does not lead");
            return self.answer_change(from, sequence, Err(refusal));
        }
        if waiting.len() >= REQUESTS_MAX {
            let text = format!("{REQUESTS_MAX} changes of members wait already; try again later");
            let refusal = Refusal::new(RefusalReason::Busy, text);
            return self.answer_change(from, sequence, Err(refusal));
        }
        waiting.push_back(Waiting {
            from,
            sequence,
            since: now,
            request,
        });
        self.membership.look(now);
    }

    /// Begins the next change that is asked for, if there is one; the leader may change the configuration now.
    pub(crate) fn begin_requested_change(&mut self, now: Instant) -> bool {
        let Some(next) = self.membership.requests.waiting.pop_front() else {
            return false;
        };
        let target =
            member_change::target(&self.configuration, &next.request, &self.standings(now));
        let outcome = target.and_then(|target| {
            if target == self.configuration {
                // All is as wanted.
                return Ok(ChangeBegun {
                    index: self.raft.commit(),
                    term: self.term,
                });
            }
            self.begin_change(now, target)
        });
        self.answer_change(next.from, next.sequence, outcome);
        true
    }

    fn begin_change(
        &mut self,
        now: Instant,
        target: Configuration,
    ) -> Result<ChangeBegun, Refusal> {
        let term = self.term;
        match self.raft.change_membership(now, target) {
            Ok(index) => Ok(ChangeBegun { index, term }),
            Err(ChangeError::NotLeader { leader }) => {
                let leader = leader.map_or_else(
                    || "nobody does".to_owned(),
                    |leader| {
                        let name = member_change::shown(&self.configuration, leader.member);
                        format!("ask {name} (member {leader})")
                    },
                );
                let text = format!("this member does not lead; {leader}");
                Err(Refusal::new(RefusalReason::NotLeader, text))
            }
            Err(ChangeError::Busy) => {
                let text = "an earlier change is not finished, or the leader has just been elected; try again";
                Err(Refusal::new(RefusalReason::Busy, text))
            }
            Err(ChangeError::Invalid(text)) => Err(Refusal::new(RefusalReason::Invalid, text)),
        }
    }

    fn answer_change(&mut self, to: PeerId, sequence: u64, outcome: Result<ChangeBegun, Refusal>) {
        if to == self.me {
            self.on_change_answered(sequence, outcome);
        } else {
            self.send(to, Message::ChangeAnswered { sequence, outcome });
        }
    }

    /// The leader has judged a request of this member.
    pub(crate) fn on_change_answered(
        &mut self,
        sequence: u64,
        outcome: Result<ChangeBegun, Refusal>,
    ) {
        let asked = &mut self.membership.requests.asked;
        match outcome {
            Ok(begun) => {
                if let Some(asked) = asked.get_mut(&sequence) {
                    asked.begun = Some(begun);
                    self.tell_changes_done();
                }
            }
            Err(refusal) => {
                if let Some(asked) = asked.remove(&sequence) {
                    let failure = match refusal.reason {
                        RefusalReason::NotLeader => Failure::LeaderChanged,
                        _ => Failure::MembershipRefused(refusal),
                    };
                    self.reply(asked.ticket, Err(failure));
                }
            }
        }
    }

    /// A configuration was applied.
    pub(crate) fn on_configuration_applied(&mut self, begun: ChangeBegun) {
        for asked in self.membership.requests.asked.values_mut() {
            asked.decided |= asked.begun == Some(begun);
        }
        self.tell_changes_done();
        self.note_departure();
    }

    /// Tells those whose change is decided whole.
    pub(crate) fn tell_changes_done(&mut self) {
        if self.applying.configuration.is_joint() {
            return;
        }
        let applied = self.state.applied();
        let done = self.take_asked(|asked| {
            let index = asked.begun.map(|begun| begun.index.0);
            let told = mutated!(ChangeToldAtOnce) && index.is_some();
            told || asked.decided || index.is_some_and(|index| index <= applied)
        });
        for asked in done {
            let body = Body::MembershipChanged(self.applying.configuration.clone());
            let response = self.response(body, self.state.revision(), applied);
            self.reply(asked.ticket, Ok(response));
        }
    }

    /// An entry of a later term was applied: a change begun before may be gone.
    pub(crate) fn on_membership_term_applied(&mut self, term: Term) {
        let lost = self.take_asked(|asked| !asked.decided && asked.term < term);
        for asked in lost {
            self.reply(asked.ticket, Err(Failure::Unknown));
        }
    }

    /// This member leads no more: those who still waited hear it.
    pub(crate) fn drop_waiting_changes(&mut self) {
        for waiting in std::mem::take(&mut self.membership.requests.waiting) {
            let refusal = Refusal::new(RefusalReason::NotLeader, "the leader changed");
            self.answer_change(waiting.from, waiting.sequence, Err(refusal));
        }
    }

    /// Looks through what waits for too long.
    pub(crate) fn sweep_changes(&mut self, now: Instant) {
        let patience = self.outcome_timeout();
        let old = self.take_asked(|asked| now.since(asked.since) > patience);
        for asked in old {
            self.reply(asked.ticket, Err(Failure::Unknown));
        }
        let waiting = &mut self.membership.requests.waiting;
        waiting.retain(|waiting| now.since(waiting.since) <= patience);
    }

    /// The member stops, or its state is replaced.
    pub(crate) fn fail_changes(&mut self, failure: &Failure) {
        for asked in self.take_asked(|_| true) {
            self.reply(asked.ticket, Err(failure.clone()));
        }
    }

    fn take_asked(&mut self, take: impl Fn(&Asked) -> bool) -> Vec<Asked> {
        let all = std::mem::take(&mut self.membership.requests.asked);
        let (taken, left) = all.into_iter().partition(|(_, asked)| take(asked));
        self.membership.requests.asked = left;
        let taken: BTreeMap<u64, Asked> = taken;
        taken.into_values().collect()
    }

    /// Somebody waits for a change of members.
    pub(crate) fn changes_wait(&self) -> bool {
        let requests = &self.membership.requests;
        !requests.asked.is_empty() || !requests.waiting.is_empty()
    }
}
