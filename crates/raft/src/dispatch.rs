//! The way of each input to whom it concerns, and what every message must pass first: meant for this incarnation, from one that still
//! counts, of a term that may move this member.

use crate::forward::Acceptance;
use crate::leader::{AppendAnswer, RoundAnswer, Verdict};
use crate::log::Position;
use crate::message::Body;
use crate::raft::{Part, Raft};
use crate::read::RemoteRead;
use crate::{Effect, Entry, Index, Message, PeerId, PersistSequence, SnapshotMark, Standing};

impl Raft {
    pub(crate) fn on_timer(&mut self) {
        self.timer = None;
        let now = self.core.now;
        self.ask_leader_again();
        match &mut self.part {
            Part::Leader(leader) => {
                let verdict = leader.tick(&mut self.core);
                self.judge(verdict);
            }
            _ if self
                .election_deadline
                .is_some_and(|deadline| deadline <= now) =>
            {
                self.on_election_timeout()
            }
            _ => {}
        }
    }

    fn judge(&mut self, verdict: Verdict) {
        if verdict == Verdict::LeadsOn {
            return;
        }
        if let Part::Leader(leader) = &mut self.part
            && !self.core.configuration().voters.contains(&self.core.id)
        {
            leader.resign(&mut self.core);
        }
        self.become_follower(self.core.term(), None);
    }

    pub(crate) fn on_persisted(&mut self, sequence: PersistSequence) {
        self.core.writes.complete(sequence);
        self.core.writes.release(&mut self.core.effects);
        match &mut self.part {
            Part::Leader(leader) => {
                let verdict = leader.advance_commit(&mut self.core);
                self.judge(verdict);
            }
            Part::Candidate(_) if self.core.writes.vote_is_durable() => {
                self.on_vote_reply(self.core.id, true)
            }
            _ => {}
        }
        self.core.check_recovery();
    }

    pub(crate) fn on_fetched(&mut self, from: Index, entries: Vec<Entry>) {
        let released = entries.is_empty();
        let (peers, entries) = self.core.fetches.fetched(&self.core.log, from, entries);
        assert!(
            !released
                || from != self.core.taken.next()
                || from > self.core.takeable()
                || from <= self.core.log.base().index,
            "the log lost entry {from}, which is committed and not applied"
        );
        let Part::Leader(leader) = &mut self.part else {
            return;
        };
        for peer in peers {
            if let Some(progress) = leader.progress.get_mut(&peer) {
                progress.on_fetched(
                    &mut self.core,
                    peer,
                    from,
                    (released || !entries.is_empty()).then_some(&entries),
                );
            }
        }
    }

    /// Followers that wait for entries which cannot be read back need a snapshot in their place.
    pub(crate) fn on_unreadable(&mut self, from: Index) {
        let (peers, _) = self.core.fetches.fetched(&self.core.log, from, Vec::new());
        let Part::Leader(leader) = &mut self.part else {
            return;
        };
        for peer in peers {
            if let Some(progress) = leader.progress.get_mut(&peer) {
                progress.on_fetched(&mut self.core, peer, from, Some(&Vec::new()));
            }
        }
    }

    pub(crate) fn on_peer_lost(&mut self, peer: PeerId, refused: bool) {
        if let Part::Leader(leader) = &mut self.part {
            if let Some(progress) = leader.progress.get_mut(&peer) {
                progress.on_lost();
            }
        } else if self.core.leader == Some(peer) {
            // What was asked over that connection may be lost; forwards in it show as a gap later.
            self.core.reads.fail_asked(&mut self.core.effects);
            if refused {
                self.on_leader_gone(peer);
            }
        }
    }

    pub(crate) fn on_snapshot_staged(&mut self, mark: SnapshotMark) {
        if !matches!(self.part, Part::Leader(_)) {
            self.core.on_snapshot_staged(mark);
        }
    }

    /// Whether a message of a later term makes this member move there. Those who do not belong to the cell cannot, unless they lead or
    /// may be elected: a configuration that names them may not have come here yet (Raft thesis §4.1).
    fn may_raise_term(&self, from: PeerId, body: &Body) -> bool {
        match body {
            Body::PreVote { .. } => false,
            Body::Vote { transfer, .. } => *transfer || !self.is_sticky(),
            Body::Append { .. } | Body::Heartbeat { .. } => true,
            _ => self.core.configuration().contains(from),
        }
    }

    pub(crate) fn on_message(&mut self, from: PeerId, message: Message) {
        let Message { term, to, body } = message;
        let for_another = to != self.core.id.incarnation && !mutated!(HearsForFormerSelf);
        if for_another
            || from.member == self.core.id.member
            || self.core.configuration().supersedes(from)
        {
            return;
        }
        if self.gone == Some(from) {
            self.on_returned(from);
        }
        if let Body::PreVote {
            campaign,
            last_index,
            last_term,
        } = body
        {
            return self.on_pre_vote(from, campaign, last_index, last_term);
        }
        if term < self.core.term() && !mutated!(IgnoreTerm) {
            // A voter that lags in terms may well agree to a newer one.
            if let Body::PreVoteReply { campaign, granted } = body {
                return self.on_pre_vote_reply(from, campaign, granted);
            }
            return self.on_stale(from, body);
        }
        if term > self.core.term() {
            if !self.may_raise_term(from, &body) {
                return;
            }
            self.become_follower(term, None);
        }
        match body {
            Body::Append { .. } | Body::Heartbeat { .. } => self.on_leader_message(from, body),
            Body::AppendReply { .. } | Body::HeartbeatReply { .. } => {
                self.on_follower_message(from, body)
            }
            Body::ReadIndex { .. } | Body::Forward { .. } => self.on_member_request(from, body),
            Body::Vote {
                last_index,
                last_term,
                ..
            } => self.on_vote(from, last_index, last_term),
            Body::VoteReply { granted } => self.on_vote_reply(from, granted),
            Body::PreVoteReply { campaign, granted } => {
                self.on_pre_vote_reply(from, campaign, granted)
            }
            Body::ReadIndexReply {
                boot,
                request,
                index,
            } if self.core.leader == Some(from)
                && (boot == self.core.boot || mutated!(ReadFromEarlierBoot)) =>
            {
                self.core
                    .reads
                    .on_reply(&mut self.core.effects, request, index);
            }
            Body::ForwardRefused {
                boot,
                epoch,
                position,
            } if self.core.leader == Some(from) && boot == self.core.boot => {
                if let Some(sequence) = self.core.forwards.on_refused(epoch, position) {
                    self.core
                        .effects
                        .push_back(Effect::ForwardRefused { sequence });
                }
            }
            Body::TimeoutNow if self.core.leader == Some(from) && self.core.is_electable() => {
                self.campaign(true)
            }
            Body::ReadIndexReply { .. }
            | Body::ForwardRefused { .. }
            | Body::TimeoutNow
            | Body::StaleTerm => {}
            Body::PreVote { .. } => unreachable!("handled above"),
        }
    }

    /// A message of an older term: who leads or stands there must learn of the newer one; the rest is past.
    fn on_stale(&mut self, from: PeerId, body: Body) {
        match body {
            Body::Append { .. } | Body::Heartbeat { .. } => self.core.send(from, Body::StaleTerm),
            Body::VoteReply { granted } if mutated!(CountStaleVotes) => {
                self.on_vote_reply(from, granted)
            }
            Body::AppendReply { .. } if mutated!(CountStaleAcknowledgements) => {
                self.on_follower_message(from, body)
            }
            Body::Forward { .. } if mutated!(ForwardOfEarlierTerm) => {
                self.on_member_request(from, body)
            }
            Body::Vote { .. } if !self.is_sticky() && self.core.standing == Standing::Sound => {
                self.core.send(from, Body::VoteReply { granted: false });
            }
            _ => {}
        }
    }

    fn on_leader_message(&mut self, from: PeerId, body: Body) {
        self.follow(from);
        if let Body::Append { commit, .. } | Body::Heartbeat { commit, .. } = body {
            self.core.commit_heard = self.core.commit_heard.max(commit);
        }
        match body {
            Body::Append {
                prev_index,
                prev_term,
                commit,
                entries,
            } => {
                self.core.on_append(
                    from,
                    Position {
                        index: prev_index,
                        term: prev_term,
                    },
                    commit,
                    entries,
                );
            }
            Body::Heartbeat {
                round,
                boot,
                sent,
                commit,
                commit_term,
                recovery,
            } => {
                self.core.on_commit_position(Position {
                    index: commit,
                    term: commit_term,
                });
                if let Some(recovery) = recovery {
                    self.core.recovering.on_recovery(self.core.boot, recovery);
                    self.core.check_recovery();
                }
                if round > 0 {
                    self.core.answer_round(from, round, boot, sent);
                }
            }
            _ => unreachable!("only a leader's messages come here"),
        }
    }

    fn on_follower_message(&mut self, from: PeerId, body: Body) {
        let Part::Leader(leader) = &mut self.part else {
            return;
        };
        match body {
            Body::AppendReply {
                matched,
                rejected,
                boot,
                amnesiac,
            } => {
                let verdict = leader.on_append_answer(
                    &mut self.core,
                    from,
                    AppendAnswer {
                        matched,
                        rejected,
                        boot,
                        amnesiac,
                    },
                );
                self.judge(verdict);
            }
            Body::HeartbeatReply {
                round,
                leader_boot,
                sent,
                boot,
                amnesiac,
            } if leader_boot == self.core.boot => {
                let verdict = leader.on_round_answer(
                    &mut self.core,
                    from,
                    RoundAnswer {
                        round,
                        sent,
                        boot,
                        amnesiac,
                    },
                );
                self.judge(verdict);
            }
            _ => {}
        }
    }

    /// What other members ask of the leader of exactly this term.
    fn on_member_request(&mut self, from: PeerId, body: Body) {
        let Part::Leader(leader) = &mut self.part else {
            return;
        };
        if !self.core.configuration().contains(from) {
            return;
        }
        match body {
            Body::ReadIndex { boot, request } => leader.rounds.add_remote(RemoteRead {
                origin: from,
                boot,
                request,
            }),
            Body::Forward {
                boot,
                epoch,
                position,
                sequence,
                body,
            } => {
                let admits = leader.admits(&self.core);
                match leader.streams.offer(from, boot, epoch, position, admits) {
                    Acceptance::Accepted => self.core.effects.push_back(Effect::Forwarded {
                        origin: from,
                        boot,
                        sequence,
                        body,
                    }),
                    Acceptance::Ignored => {}
                    Acceptance::Refused { position } => self.core.send(
                        from,
                        Body::ForwardRefused {
                            boot,
                            epoch,
                            position,
                        },
                    ),
                }
            }
            _ => unreachable!("only requests come here"),
        }
    }
}
