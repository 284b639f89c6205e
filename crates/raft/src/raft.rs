//! The surface of consensus: how a member starts, and what can be asked of it. The way of its inputs is in `dispatch.rs`, the end of a
//! turn in `turn.rs`; the roles live in their own files.

use crate::amnesia::Recovering;
use crate::candidate::Candidate;
use crate::core::Core;
use crate::fetch::Fetches;
use crate::forward::ForwardOrigin;
use crate::leader::Leader;
use crate::log::{Log, Position};
use crate::membership::{self, Membership};
use crate::message::Body;
use crate::persist::Writes;
use crate::read::LocalReads;
use crate::rng::Rng;
use crate::{
    ChangeError, Configuration, Effect, Entry, Index, Input, Instant, Payload, PeerId,
    ProposeError, ReadSequence, Restored, Role, Settings, SnapshotMark, Standing, Term,
    TransferError, Vote,
};
use bytes::Bytes;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

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
    /// It leads and takes no proposals, because leadership is being handed over.
    pub handing_over: bool,
    /// The configuration in force.
    pub configuration: Arc<Configuration>,
    /// The newest one known to be decided; no other can take its place unseen.
    pub configuration_decided: Arc<Configuration>,
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
pub(crate) type Announcement = (Role, Term, Option<PeerId>, Standing);

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
    pub(crate) announced: Announcement,
    /// The time last asked for, if it has not come yet.
    pub(crate) timer: Option<Instant>,
    /// Something happened since the last turn ended.
    pub(crate) unsettled: bool,
}

impl Raft {
    /// Starts a member from what its disk gave back. `seed` feeds election jitter and nothing else.
    ///
    /// # Panics
    /// If `restored` contradicts itself, or a leader's silence would be shorter than its heartbeat.
    pub fn new(settings: Settings, restored: Restored, seed: u64, now: Instant) -> Raft {
        let (heartbeat, silence) = (settings.heartbeat, settings.election_min);
        assert!(
            heartbeat < silence,
            "heartbeat {heartbeat:?} must be shorter than the election timeout {silence:?}"
        );
        let Restored {
            id,
            boot,
            mut vote,
            snapshot,
            mut terms,
            mut last,
            mut configurations,
            commit,
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
        mutated!(VoteTwiceAfterRestart, vote.candidate = None);
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
            reluctant: BTreeSet::new(),
            commit: commit.min(last).max(base.index),
            commit_heard: Index(0),
            taken: base.index,
            state_lost: false,
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
            Input::Unreadable { from } => self.on_unreadable(from),
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

    /// This member leads and a change may begin: none is under way, leadership is not being handed over, and an entry of this term is committed.
    pub fn may_change_membership(&self) -> bool {
        match &self.part {
            Part::Leader(leader) => {
                leader.transfer.is_none() && leader.may_change_membership(&self.core)
            }
            _ => false,
        }
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

    /// Says which members should lead only if no other can, instead of those said before: while this member leads, it hands over to one that is
    /// willing and whose disk answers, whatever their priorities.
    pub fn set_reluctant(&mut self, members: BTreeSet<PeerId>) {
        self.core.reluctant = members;
    }

    /// Takes the next committed entries in order, each once, up to about `bytes_max` (at least one). Empty if there are none, or while they
    /// are fetched from disk. What is given is durable on this member.
    pub fn take_committed(&mut self, bytes_max: usize) -> Vec<Entry> {
        self.core.take_committed(bytes_max)
    }

    /// The state is not to be believed, the log is: the next snapshot the log reaches back to is restored, wherever the state stands
    /// ([`Input::SnapshotStaged`]), and entries after it are given once more. Until then none are. The member votes and acknowledges all the while.
    pub fn forget_state(&mut self) {
        self.core.state_lost = true;
        self.core.fetches.forget_state();
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
        let (progress, handing_over) = match &self.part {
            Part::Leader(leader) => (
                leader.matched(core.configuration()),
                leader.transfer.is_some(),
            ),
            _ => (Vec::new(), false),
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
            handing_over,
            configuration: core.membership.current().clone(),
            configuration_decided: core.membership.committed(core.commit).clone(),
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

    /// The highest index known to be decided, whether the entries are here or not. What is proposed from now on comes after it.
    pub fn decided(&self) -> Index {
        self.core.commit.max(self.core.commit_heard)
    }

    /// The configuration in force.
    pub fn configuration(&self) -> &Configuration {
        self.core.configuration()
    }

    fn observe(&mut self, now: Instant) {
        self.core.now = self.core.now.max(now);
        self.unsettled = true;
    }
}
