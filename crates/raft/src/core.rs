//! What a member is in every role: its log, votes, writes and outbox. The roles borrow it while they act.

use crate::amnesia::Recovering;
use crate::fetch::Fetches;
use crate::forward::ForwardOrigin;
use crate::log::{Log, Position, weight};
use crate::membership::Membership;
use crate::message::Body;
use crate::persist::Writes;
use crate::read::LocalReads;
use crate::rng::Rng;
use crate::{
    Boot, Configuration, Effect, Entry, Index, Instant, Message, Payload, PeerId, Settings,
    Standing, Term, Vote,
};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// The longest random wait before a member whose leader's process is gone asks for votes.
const LEADER_GONE_WAIT_MAX: Duration = Duration::from_millis(30);

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) settings: Settings,
    pub(crate) id: PeerId,
    pub(crate) boot: Boot,
    pub(crate) rng: Rng,
    /// The newest time told. Never falls.
    pub(crate) now: Instant,
    pub(crate) vote: Vote,
    pub(crate) leader: Option<PeerId>,
    /// When the leader was heard last; `None` once its silence, or the end of its process, is known.
    pub(crate) leader_heard: Option<Instant>,
    pub(crate) standing: Standing,
    pub(crate) recovering: Recovering,
    pub(crate) log: Log,
    pub(crate) membership: Membership,
    /// Members that should lead only if no other can.
    pub(crate) reluctant: BTreeSet<PeerId>,
    pub(crate) commit: Index,
    /// The highest commit index that a leader told, whether the entries are here or not.
    pub(crate) commit_heard: Index,
    /// The last entry given out by `take_committed`.
    pub(crate) taken: Index,
    /// What was given out made a state that is not to be believed; nothing more is given before a snapshot takes its place.
    pub(crate) state_lost: bool,
    pub(crate) writes: Writes,
    pub(crate) fetches: Fetches,
    pub(crate) reads: LocalReads,
    pub(crate) forwards: ForwardOrigin,
    pub(crate) effects: VecDeque<Effect>,
}

impl Core {
    pub(crate) fn term(&self) -> Term {
        self.vote.term
    }

    pub(crate) fn configuration(&self) -> &Configuration {
        self.membership.current()
    }

    /// May stand for election: as a voter, or as one of before while the change that ends this is not known to be committed. Such a
    /// member may be the only one with a log new enough, and leads just until the change is (Raft thesis §4.2.2).
    pub(crate) fn is_electable(&self) -> bool {
        let votes = self.configuration().is_voter(self.id);
        let voted = || self.membership.committed(self.commit).is_voter(self.id);
        self.standing == Standing::Sound && (votes || voted())
    }

    /// How gladly a member is seen leading: willing before reluctant, then by priority.
    pub(crate) fn preference(&self, peer: PeerId) -> (bool, u32) {
        let willing = !self.reluctant.contains(&peer);
        (willing, self.configuration().priority(peer))
    }

    pub(crate) fn random_election_timeout(&mut self) -> Duration {
        self.rng
            .between(self.settings.election_min, self.settings.election_max)
    }

    pub(crate) fn random_leader_gone_wait(&mut self) -> Duration {
        self.rng.between(Duration::ZERO, LEADER_GONE_WAIT_MAX)
    }

    /// Sends a message as soon as the term and vote it speaks of are durable.
    pub(crate) fn send(&mut self, to: PeerId, body: Body) {
        let message = Message {
            term: self.vote.term,
            to: to.incarnation,
            body,
        };
        self.writes.send(&mut self.effects, to, message, false);
    }

    /// Sends a message as soon as the log it speaks of is durable, too.
    pub(crate) fn send_after_log(&mut self, to: PeerId, body: Body) {
        let message = Message {
            term: self.vote.term,
            to: to.incarnation,
            body,
        };
        self.writes.send(&mut self.effects, to, message, true);
    }

    pub(crate) fn set_vote(&mut self, vote: Vote) {
        assert!(
            vote.term >= self.vote.term,
            "term regression {} → {}",
            self.vote.term,
            vote.term
        );
        assert!(
            vote.term > self.vote.term
                || self.vote.candidate.is_none()
                || vote.candidate == self.vote.candidate,
            "second vote in term {}: {:?} after {:?}",
            vote.term,
            vote.candidate,
            self.vote.candidate
        );
        if vote == self.vote {
            return;
        }
        if vote.term > self.vote.term {
            self.writes.forget_held();
        }
        self.vote = vote;
        self.writes.set_vote(vote);
    }

    /// Appends an entry to the log and to what is being made durable. A configuration takes effect.
    pub(crate) fn append(&mut self, entry: Entry) {
        self.log.append(entry.clone());
        if let Payload::Configuration(configuration) = &entry.payload {
            self.membership.append(entry.index, configuration.clone());
            self.configuration_changed();
        }
        self.writes.push(entry);
    }

    /// Drops the log from `from` on; what a configuration there changed is undone.
    pub(crate) fn truncate(&mut self, from: Index) {
        assert!(
            from > self.commit,
            "truncation at {from} of committed entries through {}",
            self.commit
        );
        self.log.truncate(from);
        self.fetches.truncate(from);
        if self.membership.truncate(from) {
            self.configuration_changed();
        }
    }

    pub(crate) fn configuration_changed(&mut self) {
        let configuration = Configuration::clone(self.membership.current());
        self.effects
            .push_back(Effect::ConfigurationChanged(configuration));
    }

    pub(crate) fn last_position(&self) -> Position {
        Position {
            index: self.log.last(),
            term: self.log.last_term(),
        }
    }

    /// The commit index with its term.
    pub(crate) fn commit_position(&self) -> Position {
        let term = self.log.term_at(self.commit);
        Position {
            index: self.commit,
            term: term.expect("the log reaches from its base, at or before commit, past commit"),
        }
    }

    pub(crate) fn commit_to(&mut self, index: Index) {
        assert!(
            index <= self.log.last(),
            "commit {index} past the end of the log {}",
            self.log.last()
        );
        assert!(
            index >= self.commit,
            "commit regression {} → {index}",
            self.commit
        );
        self.commit = index;
    }

    /// What may be given to the state: decided, and durable here.
    pub(crate) fn takeable(&self) -> Index {
        let decided = mutated!(ApplyUndecided, self.log.last(), self.commit);
        decided.min(self.writes.durable_index())
    }

    /// Frees entries; `replicated`: the followers have them up to here.
    pub(crate) fn evict(&mut self, replicated: Index) {
        let upto = self.takeable();
        self.log.evict(upto, replicated.min(self.taken));
    }

    pub(crate) fn take_committed(&mut self, bytes_max: usize) -> Vec<Entry> {
        let upto = self.takeable();
        if self.taken >= upto || self.state_lost {
            return Vec::new();
        }
        let from = self.taken.next();
        let entries = match self.log.slice(from, upto, bytes_max) {
            Ok(entries) => entries,
            Err(_) => match self.fetches.take_for_state(from, upto, bytes_max) {
                Some(entries) => entries,
                None => {
                    self.fetches
                        .want_for_state(&mut self.effects, from, bytes_max);
                    return Vec::new();
                }
            },
        };
        for (offset, entry) in entries.iter().enumerate() {
            let known = self.log.term_at(entry.index);
            assert!(
                entry.index.0 == from.0 + offset as u64,
                "entry {} taken for {}",
                entry.index,
                from.0 + offset as u64
            );
            assert!(
                known == Some(entry.term),
                "entry {} of term {} taken, the log says {known:?}",
                entry.index,
                entry.term
            );
        }
        if let Some(last) = entries.last() {
            self.taken = last.index;
        }
        entries
    }

    /// The bytes of the entries in `(after, through]`; only those in memory count.
    pub(crate) fn cached_weight(&self, after: Index, through: Index) -> usize {
        (after.0 + 1..=through.0)
            .filter_map(|index| self.log.cached(Index(index)))
            .map(weight)
            .sum()
    }

    /// Whether a candidate's log is at least as new as this one (Raft paper §5.4.1).
    pub(crate) fn is_up_to_date(&self, last_index: Index, last_term: Term) -> bool {
        mutated!(VoteWithoutLogCheck, return true);
        mutated!(LongerLogWins, return last_index >= self.log.last());
        (last_term, last_index) >= (self.log.last_term(), self.log.last())
    }
}
