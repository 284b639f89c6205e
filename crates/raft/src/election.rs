//! Elections: pre-vote, vote, stickiness, and how fast a dead leader is replaced (Raft paper §5.2, §5.4.1; thesis §4.2.3, §9.6).
//!
//! A voter that heard from a live leader within the shortest election timeout ignores requests for votes, unless the leader itself asked
//! for the election. A member whose leader's process is known to be gone behaves as if its timer had fired.

use crate::candidate::Candidate;
use crate::leader::Leader;
use crate::message::Body;
use crate::quorum::Tally;
use crate::raft::{Part, Raft};
use crate::{Effect, Index, PeerId, Standing, Term, Vote};

impl Raft {
    /// Heard from a live leader lately, or leads itself.
    pub(crate) fn is_sticky(&self) -> bool {
        let heard_lately = |heard| self.core.now.since(heard) < self.core.settings.election_min;
        matches!(self.part, Part::Leader(_)) || self.core.leader_heard.is_some_and(heard_lately)
    }

    /// Follows in `term`, the leader of which is perhaps known.
    pub(crate) fn become_follower(&mut self, term: Term, leader: Option<PeerId>) {
        let followed = matches!(self.part, Part::Follower);
        if term > self.core.term() {
            self.set_leader(None);
            self.core.leader_heard = None;
            self.core.set_vote(Vote {
                term,
                candidate: None,
            });
        }
        if let Part::Leader(former) = std::mem::replace(&mut self.part, Part::Follower) {
            former.rounds.fail_all(&mut self.core.effects);
            // Accepted in the term that ended; they must not be proposed in another.
            self.core
                .effects
                .retain(|effect| !matches!(effect, Effect::Forwarded { .. }));
            self.core.leader_heard = None;
        }
        self.set_leader(leader);
        if !followed || self.election_deadline.is_none() {
            self.draw_election_deadline();
        }
    }

    pub(crate) fn set_leader(&mut self, leader: Option<PeerId>) {
        if self.core.leader == leader {
            return;
        }
        self.core.leader = leader;
        self.core.reads.fail_asked(&mut self.core.effects);
        self.core.forwards.next_epoch();
    }

    /// The leader of this term spoke.
    pub(crate) fn follow(&mut self, leader: PeerId) {
        let term = self.core.term();
        assert!(
            !matches!(self.part, Part::Leader(_)),
            "two leaders in term {term}: {} and {leader}",
            self.core.id
        );
        assert!(
            self.core.leader.is_none_or(|known| known == leader),
            "two leaders in term {term}: {:?} and {leader}",
            self.core.leader
        );
        self.part = Part::Follower;
        self.set_leader(Some(leader));
        self.core.leader_heard = Some(self.core.now);
        self.gone = None;
        self.election_deadline = Some(self.core.now + self.election_timeout);
    }

    pub(crate) fn draw_election_deadline(&mut self) {
        self.election_timeout = self.core.random_election_timeout();
        self.election_deadline = Some(self.core.now + self.election_timeout);
    }

    /// No leader was heard for too long, or no election was won.
    pub(crate) fn on_election_timeout(&mut self) {
        self.core.leader_heard = None;
        self.set_leader(None);
        if self.core.is_electable() {
            self.ask_pre_votes();
        } else {
            // Nothing to do before a leader speaks.
            self.part = Part::Follower;
            self.election_deadline = None;
        }
    }

    /// The leader's process is gone: ask for votes almost at once.
    pub(crate) fn on_leader_gone(&mut self, leader: PeerId) {
        self.core.leader_heard = None;
        self.set_leader(None);
        self.gone = Some(leader);
        let wait = self.core.random_leader_gone_wait();
        self.election_deadline = Some(self.core.now + wait);
    }

    /// Whose process was gone speaks: it runs again, and may say yes.
    pub(crate) fn on_returned(&mut self, peer: PeerId) {
        self.gone = None;
        if let Part::PreCandidate(candidate) | Part::Candidate(candidate) = &mut self.part {
            candidate.forget(peer);
        }
    }

    fn voters_but_me(&self) -> Vec<PeerId> {
        let configuration = self.core.configuration();
        let mut voters: Vec<PeerId> = configuration
            .voters
            .union(&configuration.outgoing)
            .copied()
            .collect();
        voters.retain(|voter| *voter != self.core.id);
        voters
    }

    /// A new round of votes. A process known to be gone will not answer yes.
    fn new_candidate(&self) -> Candidate {
        let mut candidate = Candidate::default();
        if let Some(gone) = self.gone {
            candidate.record(gone, false);
        }
        candidate
    }

    fn ask_pre_votes(&mut self) {
        let mut candidate = self.new_candidate();
        candidate.record(self.core.id, true);
        self.draw_election_deadline();
        if candidate.tally(self.core.configuration()) == Tally::Won || mutated!(NoPreVote) {
            return self.campaign(false);
        }
        self.part = Part::PreCandidate(candidate);
        let (last, campaign) = (self.core.last_position(), Term(self.core.term().0 + 1));
        for voter in self.voters_but_me() {
            self.core.send(
                voter,
                Body::PreVote {
                    campaign,
                    last_index: last.index,
                    last_term: last.term,
                },
            );
        }
    }

    /// Stands for election in the next term. The requests leave, and the own vote counts, once that vote is durable.
    pub(crate) fn campaign(&mut self, transfer: bool) {
        assert!(
            self.core.is_electable(),
            "{} stands for election and must not",
            self.core.id
        );
        self.set_leader(None);
        self.core.leader_heard = None;
        self.core.set_vote(Vote {
            term: Term(self.core.term().0 + 1),
            candidate: Some(self.core.id),
        });
        self.part = Part::Candidate(self.new_candidate());
        self.draw_election_deadline();
        let last = self.core.last_position();
        for voter in self.voters_but_me() {
            self.core.send(
                voter,
                Body::Vote {
                    last_index: last.index,
                    last_term: last.term,
                    transfer,
                },
            );
        }
    }

    pub(crate) fn on_pre_vote(
        &mut self,
        from: PeerId,
        campaign: Term,
        last_index: Index,
        last_term: Term,
    ) {
        if self.is_sticky() || self.core.standing != Standing::Sound {
            return;
        }
        let granted = campaign > self.core.term() && self.core.is_up_to_date(last_index, last_term);
        self.core
            .send(from, Body::PreVoteReply { campaign, granted });
    }

    /// Answers a request for a vote in the present term.
    pub(crate) fn on_vote(&mut self, from: PeerId, last_index: Index, last_term: Term) {
        if self.core.standing != Standing::Sound {
            return;
        }
        let term = self.core.term();
        let free = match self.core.vote.candidate {
            Some(candidate) => candidate == from,
            None => self.core.leader.is_none(),
        };
        let granted = free && self.core.is_up_to_date(last_index, last_term);
        if granted {
            self.core.set_vote(Vote {
                term,
                candidate: Some(from),
            });
            self.become_follower(term, None);
            self.draw_election_deadline();
        }
        self.core.send(from, Body::VoteReply { granted });
    }

    pub(crate) fn on_pre_vote_reply(&mut self, from: PeerId, campaign: Term, granted: bool) {
        if campaign.0 != self.core.term().0 + 1 {
            return;
        }
        let Part::PreCandidate(candidate) = &mut self.part else {
            return;
        };
        candidate.record(from, granted);
        match candidate.tally(self.core.configuration()) {
            Tally::Won => self.campaign(false),
            Tally::Lost => self.on_election_lost(),
            Tally::Pending => {}
        }
    }

    pub(crate) fn on_vote_reply(&mut self, from: PeerId, granted: bool) {
        let Part::Candidate(candidate) = &mut self.part else {
            return;
        };
        candidate.record(from, granted);
        match candidate.tally(self.core.configuration()) {
            Tally::Won => self.become_leader(),
            Tally::Lost => self.on_election_lost(),
            Tally::Pending => {}
        }
    }

    /// Waits for the next chance; shortly, if the old leader is known to be gone.
    fn on_election_lost(&mut self) {
        self.part = Part::Follower;
        if self.gone.is_some() {
            let heartbeat = self.core.settings.heartbeat;
            let wait = self.core.rng.between(heartbeat / 4, heartbeat);
            self.election_deadline = Some(self.core.now + wait);
        }
    }

    fn become_leader(&mut self) {
        assert!(
            matches!(self.part, Part::Candidate(_)),
            "leader without candidacy in term {}",
            self.core.term()
        );
        self.gone = None;
        self.election_deadline = None;
        self.set_leader(Some(self.core.id));
        self.part = Part::Leader(Box::new(Leader::new(&mut self.core)));
    }
}
