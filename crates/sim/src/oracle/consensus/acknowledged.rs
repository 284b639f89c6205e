//! What leaders count: what was acknowledged to them in their term (C2), and nothing from before a loss that they have heard of (R2).

use super::Consensus;
use super::rules::holds;
use crate::oracle::{Check, broken};
use raft::{Body, Boot, Index, Message, PeerId, Role, Term};
use std::collections::BTreeMap;

/// Term, leader and member.
type Link = (Term, PeerId, PeerId);

/// What members acknowledged.
#[derive(Debug, Default)]
pub(super) struct Acknowledged {
    /// How many processes of a member there were, the present one included.
    processes: BTreeMap<PeerId, u64>,
    /// The number of the process of this boot, if it said that entries are lost.
    boots: BTreeMap<Boot, u64>,
    /// How far a member's log matches the leader's, by the number of the process that said so.
    said: BTreeMap<Link, BTreeMap<u64, u64>>,
    /// The newest process of a member that said to its leader that entries are lost.
    lost: BTreeMap<Link, u64>,
}

impl Acknowledged {
    /// A process of this member begins.
    pub(super) fn begin(&mut self, id: PeerId) {
        *self.processes.entry(id).or_default() += 1;
    }

    fn process(&self, id: PeerId) -> u64 {
        self.processes.get(&id).copied().unwrap_or_default()
    }

    /// The member's present process has this boot.
    pub(super) fn note_boot(&mut self, id: PeerId, boot: Boot) {
        self.boots.insert(boot, self.process(id));
    }

    /// The member acknowledges that much to its leader.
    pub(super) fn note(&mut self, link: Link, matched: u64) {
        let process = self.process(link.2);
        let said = self.said.entry(link).or_default();
        let newest = said.entry(process).or_default();
        *newest = matched.max(*newest);
    }

    /// The most that was acknowledged by a process that began no earlier.
    fn since(&self, link: Link, process: u64) -> u64 {
        let said = self.said.get(&link);
        let since = said.and_then(|said| said.range(process..).map(|(_, index)| *index).max());
        since.unwrap_or_default()
    }
}

/// A follower's message that says of its process that entries are lost: its term and boot.
pub fn declared_loss(message: &Message) -> Option<(Term, Boot)> {
    match message.body {
        Body::AppendReply {
            boot,
            amnesiac: true,
            ..
        }
        | Body::HeartbeatReply {
            boot,
            amnesiac: true,
            ..
        } => Some((message.term, boot)),
        _ => None,
    }
}

impl Consensus {
    /// A message arrives at a member, in which a follower says that it has lost entries.
    pub fn on_loss_heard(&mut self, member: usize, from: PeerId, term: Term, boot: Boot) {
        let Some(id) = self.rules.id(member) else {
            return;
        };
        let acknowledged = &mut self.rules.acknowledged;
        let Some(&process) = acknowledged.boots.get(&boot) else {
            return;
        };
        if self.members[member].role == Some((Role::Leader, term)) {
            let newest = acknowledged.lost.entry((term, id, from)).or_default();
            *newest = process.max(*newest);
        }
    }

    /// A leader counts only what was acknowledged to it in its term; of a member that has lost entries since, only what that holds.
    pub fn check_progress(&self, member: usize, term: Term, progress: &[(PeerId, Index)]) -> Check {
        let Some(leader) = self.rules.id(member) else {
            return Ok(());
        };
        let acknowledged = &self.rules.acknowledged;
        for (peer, matched) in progress {
            let link = (term, leader, *peer);
            let ever = acknowledged.since(link, 0);
            if matched.0 > ever {
                broken!(
                    "C2",
                    "n{} counts on index {matched} at {peer}, which acknowledged {ever} in term {term}",
                    member + 1
                );
            }
            let Some(&lost) = acknowledged.lost.get(&link) else {
                continue;
            };
            let since = acknowledged.since(link, lost);
            let own = self.members[member].log.term(matched.0);
            let there = self.rules.member(*peer).map(|peer| &self.members[peer]);
            if matched.0 > since
                && !there.is_some_and(|known| holds(&known.durable, matched.0, own))
            {
                broken!(
                    "R2",
                    "n{} counts on index {matched} at {peer}, which has lost it, said so, and acknowledged {since} since",
                    member + 1
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::peer;
    use super::*;
    use raft::{Entry, Incarnation, Payload, Persist, Vote};

    fn acknowledges(matched: u64, boot: u64, amnesiac: bool) -> Message {
        Message {
            term: Term(1),
            to: Incarnation(1),
            body: Body::AppendReply {
                matched: Index(matched),
                rejected: None,
                boot: Boot(boot),
                amnesiac,
            },
        }
    }

    /// Two members, of which the first leads term 1; the other has its entry and acknowledged it.
    fn pair() -> Consensus {
        let mut oracle = Consensus::new(2);
        for member in 0..2 {
            oracle.set_id(member, peer(member));
            let persist = Persist {
                sequence: 0,
                vote: Some(Vote {
                    term: Term(1),
                    candidate: None,
                }),
                reset: None,
                entries: vec![Entry {
                    term: Term(1),
                    index: Index(1),
                    payload: Payload::Noop,
                }],
                commit: Index(0),
            };
            oracle.on_persist(member, &persist, 0).unwrap();
            oracle.on_durable(member, 1);
        }
        oracle.members[0].role = Some((Role::Leader, Term(1)));
        let said = acknowledges(1, 1, false);
        oracle.on_send(1, peer(0), &said).unwrap();
        oracle
    }

    #[test]
    fn a_leader_counts_what_was_acknowledged_in_its_term() {
        let oracle = pair();
        let progress = [(peer(1), Index(1))];
        oracle.check_progress(0, Term(1), &progress).unwrap();
        let early = oracle.check_progress(0, Term(2), &progress);
        assert_eq!(early.unwrap_err().0, "C2");
    }

    #[test]
    fn a_leader_counts_nothing_from_before_a_loss_it_has_heard_of() {
        let mut oracle = pair();
        let progress = [(peer(1), Index(1))];
        let vote = oracle.members[1].durable.vote;
        let lost = super::super::Recovery {
            vote: Some(vote),
            snapshot: None,
            last: Index(0),
            entries: Vec::new(),
            entries_lost: true,
            rotten: true,
        };
        oracle.on_stop(1);
        oracle.on_recovery(1, lost).unwrap();
        let says = acknowledges(0, 2, true);
        oracle.on_send(1, peer(0), &says).unwrap();
        oracle.check_progress(0, Term(1), &progress).unwrap();
        let (term, boot) = declared_loss(&says).unwrap();
        oracle.on_loss_heard(0, peer(1), term, boot);
        let counted = oracle.check_progress(0, Term(1), &progress);
        assert_eq!(counted.unwrap_err().0, "R2");
    }
}
