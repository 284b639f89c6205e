//! Raft's rules, seen in what members say to each other: nothing is said before it is durable, an election stands on votes and a decision on
//! durable entries of a quorum. A broken rule is seen at once; what it would destroy may take a rare accident to show.

use super::acknowledged::{Acknowledged, declared_loss};
use super::{Consensus, Known, Mirror};
use crate::oracle::{Check, broken};
use raft::{Body, Configuration, Message, PeerId, Term};
use std::collections::{BTreeMap, BTreeSet};

/// What the rules look at beside the members' logs.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// The members by number, of whom that is known.
    ids: BTreeMap<usize, PeerId>,
    /// What was durable on disks that are gone or forgot some of it: what they acknowledged before was true then.
    former: Vec<(PeerId, Mirror)>,
    /// The configuration the logs begin with.
    first: Configuration,
    /// Who granted a vote, by term and candidate.
    votes: BTreeMap<(Term, PeerId), BTreeSet<PeerId>>,
    /// Who granted a pre-vote, by the term campaigned for and candidate.
    pre_votes: BTreeMap<(Term, PeerId), BTreeSet<PeerId>>,
    /// How far a member's log matches the leader's, as it acknowledged.
    pub(super) acknowledged: Acknowledged,
    /// Who was told to stand for election, and in which term.
    told: BTreeSet<(Term, PeerId)>,
}

impl Rules {
    /// The member of this id, if one has it.
    pub(super) fn member(&self, id: PeerId) -> Option<usize> {
        let mut ids = self.ids.iter();
        ids.find(|(_, known)| **known == id)
            .map(|(member, _)| *member)
    }

    /// Who a member is, if that is known.
    pub(super) fn id(&self, member: usize) -> Option<PeerId> {
        self.ids.get(&member).copied()
    }

    /// The first configuration of the cluster.
    pub(super) fn begin(&mut self, first: &Configuration) {
        self.first = first.clone();
    }

    /// The disk of a member is gone, or has forgotten.
    pub(super) fn keep_former(&mut self, member: usize, durable: Mirror) {
        if let Some(id) = self.id(member) {
            self.former.push((id, durable));
        }
    }
}

impl Consensus {
    /// Says who a member is from now on, so that quorums can be counted.
    pub fn set_id(&mut self, member: usize, id: PeerId) {
        self.rules.ids.insert(member, id);
    }

    /// The configuration in force in a member's own log.
    pub fn configuration(&self, member: usize) -> &Configuration {
        let known = self.members[member].log.configurations.last();
        known.map_or(&self.rules.first, |(_, configuration)| configuration)
    }

    /// The configurations in force in a member's own log at some time in its present turn.
    fn configurations_in_turn(&self, member: usize) -> impl Iterator<Item = &Configuration> {
        let Known {
            log, turn_began_at, ..
        } = &self.members[member];
        let before = log
            .configurations
            .partition_point(|(index, _)| index <= turn_began_at);
        let first = (before == 0).then_some(&self.rules.first);
        let since = log.configurations[before.saturating_sub(1)..].iter();
        first.into_iter().chain(since.map(|(_, next)| next))
    }

    /// A quorum of the member's configuration is among those that `agrees`; true while quorums are not looked at.
    fn is_quorum(&self, member: usize, agrees: impl Fn(PeerId) -> bool) -> bool {
        self.rules.ids.is_empty() || is_quorum(self.configuration(member), agrees)
    }

    /// A member says something: whatever it speaks of is durable.
    pub fn on_send(&mut self, member: usize, to: PeerId, message: &Message) -> Check {
        let Some(&from) = self.rules.ids.get(&member) else {
            return Ok(());
        };
        let Message { term, body, .. } = message;
        if let Some((_, boot)) = declared_loss(message) {
            self.rules.acknowledged.note_boot(from, boot);
        }
        let known = &self.members[member];
        let durable = &known.durable;
        if known.forgets.is_some() && counts(body) {
            broken!(
                "R2",
                "n{} has lost entries and says what counts: {body:?}",
                member + 1
            );
        }
        if *term > durable.vote.term {
            broken!(
                "persist before speak",
                "n{} speaks of term {term}, and {} is durable: {body:?}",
                member + 1,
                durable.vote.term
            );
        }
        match body {
            Body::AppendReply {
                matched,
                rejected: None,
                ..
            } => {
                // A snapshot may have taken the place of the log since, but not yet of what was asked of the disk before.
                let own = known.log.term(matched.0);
                if !holds(
                    durable,
                    matched.0,
                    own.or_else(|| self.decided_term(matched.0)),
                ) {
                    broken!(
                        "persist before speak",
                        "n{} acknowledges index {matched}, and its log is durable up to {}",
                        member + 1,
                        durable.last()
                    );
                }
                self.rules.acknowledged.note((*term, to, from), matched.0);
            }
            Body::VoteReply { granted: true } => {
                if (durable.vote.term, durable.vote.candidate) != (*term, Some(to)) {
                    broken!(
                        "persist before speak",
                        "n{} gives {to} its vote of term {term}, and {:?} is durable",
                        member + 1,
                        durable.vote
                    );
                }
                self.rules
                    .votes
                    .entry((*term, to))
                    .or_default()
                    .insert(from);
            }
            Body::PreVoteReply {
                campaign,
                granted: true,
            } => {
                self.rules
                    .pre_votes
                    .entry((*campaign, to))
                    .or_default()
                    .insert(from);
            }
            Body::TimeoutNow => {
                self.rules.told.insert((*term, to));
            }
            _ => {}
        }
        Ok(())
    }

    /// A member stands for election: a quorum told it that it may win, or the leader told it to.
    pub(super) fn check_candidacy(&self, member: usize, term: Term) -> Check {
        let Some(id) = self.rules.ids.get(&member) else {
            return Ok(());
        };
        let told = self.rules.told.contains(&(Term(term.0 - 1), *id));
        let granted = self.rules.pre_votes.get(&(term, *id));
        let agrees =
            |voter| voter == *id || granted.is_some_and(|granted| granted.contains(&voter));
        if !told && !self.is_quorum(member, agrees) {
            broken!(
                "V1",
                "n{} stands for election in term {term} though no quorum answered its pre-vote: {granted:?}",
                member + 1
            );
        }
        Ok(())
    }

    /// A member leads: a quorum gave it their votes of this very term.
    pub(super) fn check_votes(&self, member: usize, term: Term) -> Check {
        let Some(id) = self.rules.ids.get(&member) else {
            return Ok(());
        };
        let granted = self.rules.votes.get(&(term, *id));
        let own = self.members[member].durable.vote;
        let agrees = |voter| match voter == *id {
            true => (own.term, own.candidate) == (term, Some(*id)),
            false => granted.is_some_and(|granted| granted.contains(&voter)),
        };
        if !self.is_quorum(member, agrees) {
            broken!(
                "election safety",
                "n{} leads term {term} with the votes of {granted:?}, which are no quorum; its own is {own:?}",
                member + 1
            );
        }
        Ok(())
    }

    /// The entry at `index` was just found to be decided by this member: it leads, the entry is of its term, and a quorum has it for good.
    pub(super) fn check_decision(&self, member: usize, index: u64) -> Check {
        let known = &self.members[member];
        let term = known.log.term(index);
        if self.rules.ids.is_empty() {
            return Ok(());
        }
        if known.led.is_none() || known.led.map(|led| led.0) != term {
            broken!(
                "C2",
                "n{} decides index {index} of term {term:?}, and led {:?} last",
                member + 1,
                known.led
            );
        }
        // What was counted before the turn appended a change of the members was counted without that change.
        self.check_counted(member, index, self.configurations_in_turn(member))
    }

    /// A quorum of one of these configurations, by which a member may have counted, has its entry at `index` for good.
    pub(super) fn check_counted<'a>(
        &self,
        member: usize,
        index: u64,
        by: impl IntoIterator<Item = &'a Configuration>,
    ) -> Check {
        let term = self.members[member].log.term(index);
        let has = |voter: PeerId| {
            let member = self.rules.ids.iter().find(|(_, id)| **id == voter);
            let held = |log| holds(log, index, term);
            let former = self.rules.former.iter().filter(|(id, _)| *id == voter);
            member.is_some_and(|(member, _)| held(&self.members[*member].durable))
                || former.into_iter().any(|(_, log)| held(log))
        };
        let mut by = by.into_iter();
        if !self.rules.ids.is_empty() && !by.any(|configuration| is_quorum(configuration, has)) {
            let last: Vec<u64> = self
                .members
                .iter()
                .map(|known| known.durable.last())
                .collect();
            broken!(
                "C2",
                "n{} decides index {index} of term {term:?}, which is not durable on a quorum; the durable logs end at {last:?}",
                member + 1
            );
        }
        Ok(())
    }
}

/// Of each half of the configuration, a majority is among those that `agrees`.
pub fn is_quorum(configuration: &Configuration, agrees: impl Fn(PeerId) -> bool) -> bool {
    let majority = |voters: &BTreeSet<PeerId>| {
        voters.is_empty()
            || voters.iter().filter(|voter| agrees(**voter)).count() > voters.len() / 2
    };
    majority(&configuration.voters) && majority(&configuration.outgoing)
}

/// A message that counts: nobody may say it who may have forgotten what it acknowledged.
fn counts(body: &Body) -> bool {
    match body {
        Body::VoteReply { granted } | Body::PreVoteReply { granted, .. } => *granted,
        Body::AppendReply { amnesiac, .. } | Body::HeartbeatReply { amnesiac, .. } => !amnesiac,
        Body::Vote { .. } => true,
        _ => false,
    }
}

/// The log has the entry of this term at the index, or had it before a snapshot took its place.
pub(super) fn holds(log: &Mirror, index: u64, term: Option<u64>) -> bool {
    index <= log.start || (term.is_some() && log.term(index) == term)
}

#[cfg(test)]
mod tests {
    use super::super::tests::peer;
    use super::*;
    use raft::{Entry, Incarnation, Index, Payload, Persist, Role, Vote};

    /// Three members, of which the first leads term 1 with the vote of the second; each has the entry of index 1, durable if `durable` says so.
    fn cell(durable: [bool; 3]) -> Consensus {
        let mut oracle = Consensus::new(3);
        let first = Configuration {
            voters: (0..3).map(peer).collect(),
            ..Configuration::default()
        };
        oracle.on_founded(7, &first).unwrap();
        (0..3).for_each(|member| oracle.set_id(member, peer(member)));
        oracle.rules.told.insert((Term(0), peer(0)));
        for (member, durable) in durable.into_iter().enumerate() {
            let vote = Vote {
                term: Term(1),
                candidate: Some(peer(0)),
            };
            let entry = Entry {
                term: Term(1),
                index: Index(1),
                payload: Payload::Noop,
            };
            for (vote, entries) in [(Some(vote), vec![]), (None, vec![entry])] {
                let reset = None;
                let persist = Persist {
                    sequence: 0,
                    vote,
                    reset,
                    entries,
                    commit: Index(0),
                };
                oracle.on_persist(member, &persist, 0).unwrap();
            }
            oracle.on_durable(member, 1 + usize::from(durable));
        }
        oracle
    }

    fn say(body: Body) -> Message {
        Message {
            term: Term(1),
            to: Incarnation(1),
            body,
        }
    }

    fn property(check: Check) -> &'static str {
        check.expect_err("a broken rule").0
    }

    fn acknowledges(matched: u64) -> Message {
        say(Body::AppendReply {
            matched: Index(matched),
            rejected: None,
            boot: raft::Boot(1),
            amnesiac: false,
        })
    }

    #[test]
    fn what_is_said_is_durable() {
        let mut oracle = cell([true, true, false]);
        oracle.on_send(1, peer(0), &acknowledges(1)).unwrap();
        let early = oracle.on_send(2, peer(0), &acknowledges(1));
        assert_eq!(property(early), "persist before speak");
        let vote = say(Body::VoteReply { granted: true });
        oracle.on_send(2, peer(0), &vote).unwrap();
        assert_eq!(
            property(oracle.on_send(2, peer(1), &vote)),
            "persist before speak"
        );
    }

    #[test]
    fn an_election_stands_on_votes_of_its_term() {
        let mut oracle = cell([true, true, true]);
        let alone = oracle.on_role(0, Role::Leader, Term(1));
        assert_eq!(property(alone), "election safety");
        let vote = say(Body::VoteReply { granted: true });
        oracle.on_send(1, peer(0), &vote).unwrap();
        oracle.on_role(0, Role::Leader, Term(1)).unwrap();
    }

    #[test]
    fn a_candidacy_stands_on_pre_votes() {
        let oracle = cell([true, true, true]);
        oracle.check_candidacy(0, Term(1)).unwrap();
        assert_eq!(property(oracle.check_candidacy(1, Term(2))), "V1");
    }

    #[test]
    fn a_decision_is_durable_on_a_quorum() {
        let decide = |durable| {
            let mut oracle = led_cell(durable);
            oracle.on_progress(0, 1, 0, None)
        };
        assert_eq!(decide([false, true, true]), Ok(1));
        assert_eq!(decide([true, false, false]).unwrap_err().0, "C2");
    }

    /// A cell whose first member leads.
    fn led_cell(durable: [bool; 3]) -> Consensus {
        let mut oracle = cell(durable);
        let vote = say(Body::VoteReply { granted: true });
        oracle.on_send(1, peer(0), &vote).unwrap();
        oracle.on_role(0, Role::Leader, Term(1)).unwrap();
        oracle
    }

    /// An entry that begins a move from the three members to those of these numbers, or ends it.
    fn change(index: u64, voters: std::ops::Range<usize>, is_joint: bool) -> Persist {
        let outgoing = if is_joint { 0..3 } else { 0..0 };
        let configuration = Configuration {
            voters: voters.map(peer).collect(),
            outgoing: outgoing.map(peer).collect(),
            ..Configuration::default()
        };
        Persist {
            sequence: 0,
            vote: None,
            reset: None,
            entries: vec![Entry {
                term: Term(1),
                index: Index(index),
                payload: Payload::Configuration(configuration),
            }],
            commit: Index(0),
        }
    }

    #[test]
    fn a_decision_in_the_turn_of_a_change_stands_on_the_voters_before() {
        let decide = |durable, turns_later| {
            let mut oracle = led_cell(durable);
            oracle.on_turn(0);
            oracle.on_persist(0, &change(2, 0..4, true), 0).unwrap();
            (0..turns_later).for_each(|_| oracle.on_turn(0));
            oracle.on_progress(0, 1, 0, None)
        };
        assert_eq!(decide([true, true, false], 0), Ok(1));
        assert_eq!(decide([true, false, false], 0).unwrap_err().0, "C2");
        assert_eq!(decide([true, true, true], 1), Ok(1));
        assert_eq!(decide([true, true, false], 1).unwrap_err().0, "C2");
    }

    #[test]
    fn a_joint_configuration_stands_on_both_halves_though_its_turn_leaves_it() {
        let decide = |holders| {
            let mut oracle = led_cell([true; 3]);
            for member in 0..3 {
                let joint = change(2, 0..1, true);
                oracle.on_persist(member, &joint, 0).unwrap();
            }
            (0..holders).for_each(|member| oracle.on_durable(member, 1));
            oracle.on_turn(0);
            oracle.on_persist(0, &change(3, 0..1, false), 0).unwrap();
            oracle.on_progress(0, 2, 0, None)
        };
        assert_eq!(decide(2), Ok(2));
        assert_eq!(decide(1).unwrap_err().0, "C2");
    }
}
