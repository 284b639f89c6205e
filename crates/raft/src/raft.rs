//! The surface of consensus: what can be asked of it, and the way of each input. The roles behind it live in their own files.

use crate::amnesia::Recovering;
use crate::candidate::Candidate;
use crate::core::Core;
use crate::fetch::Fetches;
use crate::forward::{Acceptance, ForwardOrigin};
use crate::leader::{AppendAnswer, Leader, RoundAnswer, Verdict};
use crate::log::{Log, Position};
use crate::membership::{self, Membership};
use crate::message::Body;
use crate::persist::Writes;
use crate::read::{LocalReads, RemoteRead};
use crate::rng::Rng;
use crate::{
    Configuration, Effect, Entry, Index, Input, Instant, Message, Payload, PeerId, PersistSequence,
    ReadSequence, Restored, Role, Settings, SnapshotMark, Standing, Term, Vote,
};
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;

/// Why a proposal was not taken. Nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposeError {
    /// This member does not lead, or it leads and is handing over.
    NotLeader {
        /// Who does, if known.
        leader: Option<PeerId>,
    },
    /// Too many uncommitted bytes; try again later.
    Overloaded {
        /// Uncommitted now.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
}

/// Why a change of membership was not begun. Nothing was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// This member does not lead.
    NotLeader {
        /// Who does, if known.
        leader: Option<PeerId>,
    },
    /// An earlier change is not finished, or no entry of this term is committed yet.
    Busy,
    /// The change makes no sense; the text says why.
    Invalid(String),
}

/// Why leadership was not handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferError {
    /// This member does not lead.
    NotLeader {
        /// Who does, if known.
        leader: Option<PeerId>,
    },
    /// The target is no voter, is not reachable, or there is no other voter.
    BadTarget,
}

/// What a member says of itself, for status pages and for the layer above.
#[derive(Clone, Debug)]
pub struct Status {
    /// Who it is.
    pub id: PeerId,
    /// Its role.
    pub role: Role,
    /// The present term.
    pub term: Term,
    /// The leader, if known.
    pub leader: Option<PeerId>,
    /// The high-water mark: entries up to here are decided.
    pub commit: Index,
    /// The last index in the log.
    pub last: Index,
    /// The first index the log still has.
    pub first: Index,
    /// How far the member may be believed.
    pub standing: Standing,
    /// The configuration in force.
    pub configuration: Configuration,
    /// A leader's view of the others: how far each one's log is known to match.
    pub progress: Vec<(PeerId, Index)>,
}

/// What a role needs beyond [`Core`].
#[derive(Debug)]
pub(crate) enum Part {
    Follower,
    PreCandidate(Candidate),
    Candidate(Candidate),
    Leader(Box<Leader>),
}

/// What [`Effect::RoleChanged`] tells, and the standing.
type Announcement = (Role, Term, Option<PeerId>, Standing);

/// One member's consensus.
#[derive(Debug)]
pub struct Raft {
    pub(crate) core: Core,
    pub(crate) part: Part,
    /// When to stand for election unless a leader is heard. None while leading, and while not electable and without a leader.
    pub(crate) election_deadline: Option<Instant>,
    /// The silence borne at present; drawn anew for each election.
    pub(crate) election_timeout: Duration,
    /// The leader whose process is known to be gone.
    pub(crate) gone: Option<PeerId>,
    announced: Announcement,
    /// The time last asked for, if it has not come yet.
    timer: Option<Instant>,
    /// Something happened since the last turn ended.
    unsettled: bool,
}

impl Raft {
    /// Starts a member from what its disk gave back. `seed` feeds election jitter and nothing else.
    ///
    /// # Panics
    /// If `restored` contradicts itself.
    pub fn new(settings: Settings, restored: Restored, seed: u64, now: Instant) -> Raft {
        let Restored {
            id,
            boot,
            mut vote,
            snapshot,
            mut terms,
            mut last,
            mut configurations,
            standing,
        } = restored;
        let base = Position {
            index: snapshot.index,
            term: snapshot.term,
        };
        let mut writes = Writes::new(last);
        if terms.first().is_some_and(|(_, term)| *term < base.term) {
            // A crash came between the snapshot and the reset of the log: what the log has after it conflicts with it, and was
            // never committed. An entry of the snapshot's term or a later one would prove that the logs match there.
            terms.clear();
            configurations.clear();
            last = base.index;
            writes.reset(snapshot.clone());
        }
        let mut membership = Membership::new(snapshot.index, snapshot.configuration);
        for (index, configuration) in configurations {
            membership.append(index, configuration);
        }
        let log = Log::new(base, &terms, last, settings.cache_bytes_max);
        if vote.term < log.last_term() {
            // A new incarnation begins with somebody's log and no vote of its own.
            vote = Vote {
                term: log.last_term(),
                candidate: None,
            };
            writes.set_vote(vote);
        }
        let core = Core {
            settings,
            id,
            boot,
            rng: Rng::new(seed),
            now,
            vote,
            leader: None,
            leader_heard: None,
            standing,
            recovering: Recovering::default(),
            log,
            membership,
            commit: base.index,
            taken: base.index,
            writes,
            fetches: Fetches::default(),
            reads: LocalReads::default(),
            forwards: ForwardOrigin::new(),
            effects: VecDeque::new(),
        };
        let announced = (Role::Follower, core.term(), None, standing);
        let mut raft = Raft {
            core,
            part: Part::Follower,
            election_deadline: None,
            election_timeout: Duration::ZERO,
            gone: None,
            announced,
            timer: None,
            unsettled: true,
        };
        raft.draw_election_deadline();
        raft.core.configuration_changed();
        let configuration = raft.core.configuration();
        let alone = configuration.voters.len() == 1 && !configuration.is_joint();
        if alone && raft.core.is_electable() {
            // Nobody else to hear from.
            raft.on_election_timeout();
            raft.announce();
        }
        raft
    }

    /// Takes an input.
    pub fn handle(&mut self, now: Instant, input: Input) {
        self.observe(now);
        match input {
            Input::Message { from, message } => self.on_message(from, message),
            Input::Persisted(sequence) => self.on_persisted(sequence),
            Input::Fetched { from, entries } => self.on_fetched(from, entries),
            Input::PeerLost { peer, refused } => self.on_peer_lost(peer, refused),
            Input::SnapshotStaged(mark) => self.on_snapshot_staged(mark),
            Input::SnapshotSent { to, index } => {
                if let Part::Leader(leader) = &mut self.part
                    && let Some(progress) = leader.progress.get_mut(&to)
                {
                    progress.on_snapshot_sent(index, self.core.now);
                }
            }
            Input::TimerFired => self.on_timer(),
        }
        self.announce();
    }

    /// Gives the next effect; `None` when there is nothing to do until the next input.
    pub fn poll(&mut self) -> Option<Effect> {
        if self.core.effects.is_empty() && self.unsettled {
            self.settle();
        }
        self.core.effects.pop_front()
    }

    /// Appends a batch, on the leader.
    ///
    /// # Errors
    /// See [`ProposeError`]; nothing was appended.
    pub fn propose(&mut self, now: Instant, batch: Bytes) -> Result<Index, ProposeError> {
        self.observe(now);
        let Part::Leader(leader) = &mut self.part else {
            return Err(ProposeError::NotLeader {
                leader: self.core.leader,
            });
        };
        if let Some(transfer) = leader.transfer {
            return Err(ProposeError::NotLeader {
                leader: Some(transfer.target),
            });
        }
        if !leader.admits(&self.core) {
            let (bytes, bytes_max) = (
                leader.uncommitted_bytes(),
                self.core.settings.uncommitted_bytes_max,
            );
            return Err(ProposeError::Overloaded { bytes, bytes_max });
        }
        Ok(leader.propose(&mut self.core, Payload::Batch(batch)))
    }

    /// Sends bytes to the leader of this very term on this member's forwarding stream, on a follower, and gives the sequence used (rising
    /// over this boot). [`Effect::Forwarded`] on the leader names it, [`Effect::ForwardRefused`] here if it was refused; silence is possible:
    /// a forward of term t was certainly never appended once an entry of a later term is committed.
    ///
    /// # Errors
    /// No leader is known, or this member leads itself: then use [`Raft::propose`].
    pub fn forward(&mut self, now: Instant, body: Bytes) -> Result<u64, ProposeError> {
        self.observe(now);
        let leader = match self.core.leader {
            Some(leader) if leader != self.core.id => leader,
            leader => return Err(ProposeError::NotLeader { leader }),
        };
        let place = self.core.forwards.next();
        let boot = self.core.boot;
        let (epoch, position, sequence) = (place.epoch, place.position, place.sequence);
        self.core.send(
            leader,
            Body::Forward {
                boot,
                epoch,
                position,
                sequence,
                body,
            },
        );
        Ok(sequence)
    }

    /// Begins a confirmed read on any member; all reads begun before the next `poll` share one round.
    /// Ends in [`Effect::ReadReady`] or [`Effect::ReadFailed`].
    pub fn read(&mut self, now: Instant) -> ReadSequence {
        self.observe(now);
        self.core.reads.begin()
    }

    /// Begins a change to the given voters and learners (members included), through a joint configuration if needed, on the leader.
    ///
    /// # Errors
    /// See [`ChangeError`]; nothing was appended.
    pub fn change_membership(
        &mut self,
        now: Instant,
        target: Configuration,
    ) -> Result<Index, ChangeError> {
        self.observe(now);
        let Part::Leader(leader) = &mut self.part else {
            return Err(ChangeError::NotLeader {
                leader: self.core.leader,
            });
        };
        if let Some(transfer) = leader.transfer {
            return Err(ChangeError::NotLeader {
                leader: Some(transfer.target),
            });
        }
        if !leader.may_change_membership(&self.core) {
            return Err(ChangeError::Busy);
        }
        let step = membership::first_step(self.core.configuration(), &target)
            .map_err(ChangeError::Invalid)?;
        Ok(leader.propose(&mut self.core, Payload::Configuration(step)))
    }

    /// Hands leadership over: to `target`, or to the best of the others by priority and log.
    ///
    /// # Errors
    /// See [`TransferError`].
    pub fn transfer(&mut self, now: Instant, target: Option<PeerId>) -> Result<(), TransferError> {
        self.observe(now);
        let Part::Leader(leader) = &mut self.part else {
            return Err(TransferError::NotLeader {
                leader: self.core.leader,
            });
        };
        let target = leader
            .choose_target(&self.core, target)
            .ok_or(TransferError::BadTarget)?;
        leader.begin_transfer(&self.core, target);
        Ok(())
    }

    /// Takes the next committed entries in order, each once, up to about `bytes_max` (at least one). Empty if there are none, or while they
    /// are fetched from disk. What is given is durable on this member.
    pub fn take_committed(&mut self, bytes_max: usize) -> Vec<Entry> {
        self.core.take_committed(bytes_max)
    }

    /// Notes that the state's own snapshot at `mark` is durable: entries up to `keep_from` (exclusive) may be forgotten.
    ///
    /// # Panics
    /// If the mark is not a point of the history that was taken by this member.
    pub fn compact(&mut self, mark: SnapshotMark, keep_from: Index) {
        assert!(
            mark.index <= self.core.taken,
            "snapshot at {} of a state at {}",
            mark.index,
            self.core.taken
        );
        let known = self.core.log.term_at(mark.index);
        assert!(
            known.is_none_or(|term| term == mark.term),
            "snapshot at {} of term {}, the log says {known:?}",
            mark.index,
            mark.term
        );
        let through = keep_from.prev().min(mark.index);
        self.core.log.compact(through);
        self.core.membership.compact(self.core.log.base().index);
    }

    /// What this member says of itself.
    pub fn status(&self) -> Status {
        let core = &self.core;
        let progress = match &self.part {
            Part::Leader(leader) => leader.matched(core.configuration()),
            _ => Vec::new(),
        };
        Status {
            id: core.id,
            role: self.role(),
            term: core.term(),
            leader: core.leader,
            commit: core.commit,
            last: core.log.last(),
            first: core.log.first(),
            standing: core.standing,
            configuration: core.configuration().clone(),
            progress,
        }
    }

    /// The term of the entry at `index`; `None` if the log does not reach there, or starts later.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.core.log.term_at(index)
    }

    /// Its role.
    pub fn role(&self) -> Role {
        match self.part {
            Part::Follower => Role::Follower,
            Part::PreCandidate(_) => Role::PreCandidate,
            Part::Candidate(_) => Role::Candidate,
            Part::Leader(_) => Role::Leader,
        }
    }

    /// The present term.
    pub fn term(&self) -> Term {
        self.core.term()
    }

    /// The leader, if known.
    pub fn leader(&self) -> Option<PeerId> {
        self.core.leader
    }

    /// The high-water mark: entries up to here are decided.
    pub fn commit(&self) -> Index {
        self.core.commit
    }

    /// The configuration in force.
    pub fn configuration(&self) -> &Configuration {
        self.core.configuration()
    }

    fn observe(&mut self, now: Instant) {
        self.core.now = self.core.now.max(now);
        self.unsettled = true;
    }

    /// Tells of a new role, term, leader or standing.
    fn announce(&mut self) {
        let present = (
            self.role(),
            self.core.term(),
            self.core.leader,
            self.core.standing,
        );
        if present != self.announced {
            self.announced = present;
            let (role, term, leader, _) = present;
            self.core
                .effects
                .push_back(Effect::RoleChanged { role, term, leader });
        }
    }

    /// Ends a turn: gives the disk what was gathered, then says what may be said.
    fn settle(&mut self) {
        self.unsettled = false;
        if let Some(persist) = self.core.writes.seal(self.core.now) {
            self.core.effects.push_back(Effect::Persist(persist));
        }
        match &mut self.part {
            Part::Leader(leader) => leader.settle(&mut self.core),
            _ => self.ask_leader_for_reads(),
        }
        self.core.evict();
        self.set_timer();
    }

    fn ask_leader_for_reads(&mut self) {
        let Some(reads) = self.core.reads.take_open() else {
            return;
        };
        match self.core.leader {
            Some(leader) => {
                let request = self.core.reads.ask(reads, self.core.now);
                self.core.send(
                    leader,
                    Body::ReadIndex {
                        boot: self.core.boot,
                        request,
                    },
                );
            }
            None => reads.fail(&mut self.core.effects),
        }
    }

    /// Asks for the earliest time at which something is due. A timer that is set for earlier stays: it will find nothing to do and be set anew.
    fn set_timer(&mut self) {
        let role = match &self.part {
            Part::Leader(leader) => Some(leader.deadline()),
            _ => self.election_deadline,
        };
        let reads = self.core.reads.deadline(self.core.settings.election_min);
        let Some(due) = role.into_iter().chain(reads).min() else {
            return;
        };
        if self.timer.is_none_or(|timer| due < timer) {
            self.timer = Some(due);
            self.core.effects.push_back(Effect::SetTimer(due));
        }
    }

    fn on_timer(&mut self) {
        self.timer = None;
        let now = self.core.now;
        self.core
            .reads
            .expire(&mut self.core.effects, now, self.core.settings.election_min);
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

    fn on_persisted(&mut self, sequence: PersistSequence) {
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

    fn on_fetched(&mut self, from: Index, entries: Vec<Entry>) {
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

    fn on_peer_lost(&mut self, peer: PeerId, refused: bool) {
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

    fn on_snapshot_staged(&mut self, mark: SnapshotMark) {
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

    fn on_message(&mut self, from: PeerId, message: Message) {
        let Message { term, to, body } = message;
        if to != self.core.id.incarnation
            || from.member == self.core.id.member
            || self.core.configuration().supersedes(from)
        {
            return;
        }
        if let Body::PreVote {
            campaign,
            last_index,
            last_term,
        } = body
        {
            return self.on_pre_vote(from, campaign, last_index, last_term);
        }
        if term < self.core.term() {
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
            } if self.core.leader == Some(from) && boot == self.core.boot => {
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
            Body::Vote { .. } if !self.is_sticky() && self.core.standing == Standing::Sound => {
                self.core.send(from, Body::VoteReply { granted: false });
            }
            _ => {}
        }
    }

    fn on_leader_message(&mut self, from: PeerId, body: Body) {
        self.follow(from);
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
                leader.on_round_answer(
                    &mut self.core,
                    from,
                    RoundAnswer {
                        round,
                        sent,
                        boot,
                        amnesiac,
                    },
                );
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
