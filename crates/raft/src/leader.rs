//! Leading: appending, replicating, committing, and making sure that it still leads.
//!
//! Invariants: the leader never overwrites or drops entries of its log; it commits by counting only entries of its own term (Raft paper
//! §5.4.2, figure 8); its own log counts only as far as it is durable here. What it does with time is in `tick`.

use crate::amnesia::Suspicion;
use crate::core::Core;
use crate::forward::ForwardStreams;
use crate::log::weight;
use crate::membership;
use crate::message::{Body, Rejection};
use crate::progress::{Flow, Progress};
use crate::quorum;
use crate::read::{RemoteRead, Rounds};
use crate::transfer::Transfer;
use crate::{Boot, Configuration, Entry, Index, Instant, Payload, PeerId};
use std::collections::BTreeMap;

/// What a step of the leader leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Verdict {
    LeadsOn,
    /// It lost contact with a quorum, or belongs to the voters no more.
    StepsDown,
}

/// An answer to an append, as it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AppendAnswer {
    pub(crate) matched: Index,
    pub(crate) rejected: Option<Rejection>,
    pub(crate) boot: Boot,
    pub(crate) amnesiac: bool,
}

/// An answer to a heartbeat of this leader.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoundAnswer {
    pub(crate) round: u64,
    pub(crate) sent: Instant,
    pub(crate) boot: Boot,
    pub(crate) amnesiac: bool,
}

#[derive(Debug)]
pub(crate) struct Leader {
    pub(crate) since: Instant,
    /// The no-op of this term. Before it is committed there are no reads and no changes of membership.
    first_own: Index,
    pub(crate) progress: BTreeMap<PeerId, Progress>,
    /// Members removed by a committed change, kept informed until they know or this time has come.
    departing: BTreeMap<PeerId, Instant>,
    uncommitted_bytes: usize,
    pub(crate) rounds: Rounds,
    pub(crate) streams: ForwardStreams,
    pub(crate) transfer: Option<Transfer>,
    pub(crate) preference_rests_until: Instant,
    heartbeat_due: Instant,
}

impl Leader {
    /// Begins a leadership: appends its no-op, so that what came before can be committed.
    pub(crate) fn new(core: &mut Core) -> Leader {
        let mut leader = Leader {
            since: core.now,
            first_own: core.log.last().next(),
            progress: BTreeMap::new(),
            departing: BTreeMap::new(),
            uncommitted_bytes: 0,
            rounds: Rounds::default(),
            streams: ForwardStreams::default(),
            transfer: None,
            preference_rests_until: core.now,
            heartbeat_due: core.now,
        };
        leader.follow_configuration(core);
        mutated!(NoNoop, return leader);
        leader.append(core, Payload::Noop);
        leader.tick_heartbeat(core);
        leader
    }

    /// Keeps a progress for each other member of the configuration in force.
    fn follow_configuration(&mut self, core: &Core) {
        let peers = core.configuration().peers();
        for &peer in peers.iter().filter(|peer| **peer != core.id) {
            self.departing.remove(&peer);
            self.progress
                .entry(peer)
                .or_insert_with(|| Progress::new(core.log.last().next(), core.now));
        }
        let patience = core.now + core.settings.election_max;
        for &peer in self.progress.keys().filter(|peer| !peers.contains(peer)) {
            self.departing.entry(peer).or_insert(patience);
        }
        // A target stays a voter: no change begins during a transfer, and leaving a joint configuration keeps its voters.
        if let Some(Transfer { target, .. }) = self.transfer {
            let voters = &core.configuration().voters;
            assert!(
                voters.contains(&target),
                "transfer to {target} of {voters:?}"
            );
        }
    }

    /// Forgets removed members that know of it, or have had time to.
    fn dismiss_departed(&mut self, core: &Core) {
        let removed_at = core.membership.current_index();
        let progress = &mut self.progress;
        self.departing.retain(|peer, patience| {
            let known =
                progress[peer].matched >= removed_at && progress[peer].commit_told >= removed_at;
            let stays = !known && core.now < *patience;
            if !stays {
                progress.remove(peer);
            }
            stays
        });
    }

    fn append(&mut self, core: &mut Core, payload: Payload) -> Index {
        let entry = Entry {
            term: core.term(),
            index: core.log.last().next(),
            payload,
        };
        let index = entry.index;
        self.uncommitted_bytes += weight(&entry);
        core.append(entry);
        index
    }

    pub(crate) fn uncommitted_bytes(&self) -> usize {
        self.uncommitted_bytes
    }

    /// New proposals are taken: not while handing over, not over the limit.
    pub(crate) fn admits(&self, core: &Core) -> bool {
        self.transfer.is_none() && self.uncommitted_bytes < core.settings.uncommitted_bytes_max
    }

    pub(crate) fn propose(&mut self, core: &mut Core, payload: Payload) -> Index {
        let index = self.append(core, payload);
        self.follow_configuration_at(core, index);
        index
    }

    fn follow_configuration_at(&mut self, core: &Core, index: Index) {
        if core.membership.current_index() == index {
            self.follow_configuration(core);
        }
    }

    /// An entry of this term is committed: the commit index is the true one (Raft thesis §6.4).
    pub(crate) fn has_own_commit(&self, core: &Core) -> bool {
        core.commit >= self.first_own
    }

    /// A change may begin: none is under way, and this leader's commit index is true (the flaw of single-server changes found in 2015).
    pub(crate) fn may_change_membership(&self, core: &Core) -> bool {
        (self.has_own_commit(core) || mutated!(SingleServerChange))
            && !core.configuration().is_joint()
            && core.membership.current_index() <= core.commit
    }

    /// How far every follower that is being fed has the log. One that is down, or far behind, is fed from disk anyway.
    pub(crate) fn replicated(&self, core: &Core) -> Index {
        self.progress
            .values()
            .filter(|progress| progress.flow == Flow::Replicate)
            .map(|progress| progress.matched)
            .fold(core.log.last(), Index::min)
    }

    /// Sends a round to those who must answer for a quorum, or to everybody.
    fn send_round(&mut self, core: &mut Core, everybody: bool) -> u64 {
        let number = self.rounds.next();
        let voters = core.configuration();
        let asked: Vec<PeerId> = self
            .progress
            .iter()
            .filter(|(peer, p)| everybody || (p.counts() && voters.is_voter(**peer)))
            .map(|(peer, _)| *peer)
            .collect();
        for peer in asked {
            self.send_heartbeat(core, peer, number);
        }
        number
    }

    /// Sends the commit index in a heartbeat; round 0 wants no answer.
    fn send_heartbeat(&mut self, core: &mut Core, peer: PeerId, round: u64) {
        let Some(progress) = self.progress.get_mut(&peer) else {
            return;
        };
        let commit = core.commit_position();
        progress.commit_told = commit.index;
        let recovery = progress
            .suspicion
            .and_then(|suspicion| suspicion.recovery());
        let body = Body::Heartbeat {
            round,
            boot: core.boot,
            sent: core.now,
            commit: commit.index,
            commit_term: commit.term,
            recovery,
        };
        core.send(peer, body);
    }

    /// Does what the turn has gathered: a round for its reads, appends, news of commits.
    pub(crate) fn settle(&mut self, core: &mut Core) {
        if let Some(reads) = core.reads.take_open() {
            self.rounds.hold(reads, core.now);
        }
        let readable = self.has_own_commit(core) || mutated!(ReadBeforeOwnCommit);
        if self.rounds.has_waiting() && readable {
            let number = self.send_round(core, false);
            self.rounds.ride(number, core.commit, core.now);
            self.confirm_rounds(core);
        }
        let mut uninformed = Vec::new();
        for (&peer, progress) in &mut self.progress {
            progress.pump(core, peer);
            if progress.flow == Flow::Replicate
                && progress.commit_told < core.commit
                && core.commit < progress.next
            {
                uninformed.push(peer);
            }
        }
        for peer in uninformed {
            self.send_heartbeat(core, peer, 0);
        }
        if !self.departing.is_empty() {
            self.dismiss_departed(core);
        }
        if let Some(transfer) = &mut self.transfer
            && !transfer.told
            && self
                .progress
                .get(&transfer.target)
                .is_some_and(|target| target.matched == core.log.last())
        {
            transfer.told = true;
            let target = transfer.target;
            core.send(target, Body::TimeoutNow);
        }
    }

    pub(crate) fn on_append_answer(
        &mut self,
        core: &mut Core,
        from: PeerId,
        answer: AppendAnswer,
    ) -> Verdict {
        if answer.amnesiac {
            self.distrust(from, answer.boot);
        }
        let Some(progress) = self.progress.get_mut(&from) else {
            return Verdict::LeadsOn;
        };
        if progress
            .suspicion
            .is_some_and(|suspicion| !answer.amnesiac || !suspicion.is_about(answer.boot))
        {
            // From before its loss, or before the leader knows that it is over.
            return Verdict::LeadsOn;
        }
        let from_before = progress.suspicion.is_none() && progress.is_from_before(answer.boot);
        if from_before && !mutated!(CountBeforeLoss) {
            return Verdict::LeadsOn;
        }
        match answer.rejected {
            Some(rejection) => progress.on_rejected(core, rejection),
            None if answer.matched <= core.log.last() => {
                progress.on_matched(core, answer.matched);
                return self.advance_commit(core);
            }
            None => {}
        }
        Verdict::LeadsOn
    }

    pub(crate) fn on_round_answer(
        &mut self,
        core: &mut Core,
        from: PeerId,
        answer: RoundAnswer,
    ) -> Verdict {
        if answer.round == 0 || answer.round > self.rounds.newest() {
            return Verdict::LeadsOn;
        }
        if answer.amnesiac {
            self.distrust(from, answer.boot);
        }
        let Some(progress) = self.progress.get_mut(&from) else {
            return Verdict::LeadsOn;
        };
        let believed_again = !answer.amnesiac
            && progress
                .suspicion
                .is_some_and(|suspicion| suspicion.ends_at(answer.round));
        if believed_again {
            progress.believe(answer.boot);
        }
        progress.on_alive(core, from, answer.sent);
        if progress.counts() && answer.round > progress.round_acked {
            progress.on_newest_round(answer.round, answer.boot);
            progress.contact = progress.contact.max(answer.sent);
            self.confirm_rounds(core);
        }
        if believed_again {
            // What it acknowledged meanwhile counts from now on, and it does not say so again.
            return self.advance_commit(core);
        }
        Verdict::LeadsOn
    }

    fn distrust(&mut self, peer: PeerId, boot: Boot) {
        let since_round = mutated!(
            DistrustEndsEarly,
            self.rounds.newest(),
            self.rounds.newest() + 1
        );
        if let Some(progress) = self.progress.get_mut(&peer)
            && !progress
                .suspicion
                .is_some_and(|suspicion| suspicion.is_about(boot))
        {
            progress.distrust(Suspicion::new(boot, since_round));
        }
    }

    /// Looks which rounds a quorum has answered; answers the reads that waited, and lets members that lost entries know where to get.
    fn confirm_rounds(&mut self, core: &mut Core) {
        let newest = self.rounds.newest();
        let acked = |peer: PeerId| match self.progress.get(&peer) {
            _ if peer == core.id => newest,
            Some(progress) if progress.counts() => progress.round_acked,
            _ => 0,
        };
        let answered = quorum::reached(core.configuration(), acked);
        let confirmed = mutated!(SkipReadBarrier, newest, answered);
        if confirmed <= self.rounds.confirmed() {
            return;
        }
        for round in self.rounds.confirm(confirmed) {
            if let Some(reads) = round.local {
                reads.ready(&mut core.effects, round.index, round.sent);
            }
            for RemoteRead {
                origin,
                boot,
                request,
            } in round.remote
            {
                core.send(
                    origin,
                    Body::ReadIndexReply {
                        boot,
                        request,
                        index: round.index,
                    },
                );
            }
        }
        if self.has_own_commit(core) {
            let commit = core.commit_position();
            for suspicion in self
                .progress
                .values_mut()
                .filter_map(|progress| progress.suspicion.as_mut())
            {
                suspicion.on_confirmed(confirmed, commit);
            }
        }
    }

    /// Moves the commit index to what a quorum has durably, if that is of this term.
    pub(crate) fn advance_commit(&mut self, core: &mut Core) -> Verdict {
        let durable = core.writes.durable_index();
        let own = mutated!(CountUndurableOwnLog, core.log.last(), durable);
        let matched = |peer: PeerId| match self.progress.get(&peer) {
            _ if peer == core.id => own,
            Some(progress) if progress.counts() => progress.matched,
            _ => Index(0),
        };
        let decided = quorum::reached(core.configuration(), matched);
        mutated!(CommitNeedsAll, {
            let voters = core.configuration().voters.iter();
            let all = voters.map(|voter| matched(*voter)).min();
            if all.is_some_and(|all| all < decided) {
                return Verdict::LeadsOn;
            }
        });
        let own_term = core.log.term_at(decided) == Some(core.term());
        if decided <= core.commit || !(own_term || mutated!(CommitOldTermByCounting)) {
            return Verdict::LeadsOn;
        }
        let counted_from = core.commit.max(self.first_own.prev());
        self.uncommitted_bytes -= core.cached_weight(counted_from, decided);
        core.commit_to(decided);
        self.on_configuration_committed(core)
    }

    /// Leaves a joint configuration once it is committed; leaves the leadership once a configuration without this member is.
    fn on_configuration_committed(&mut self, core: &mut Core) -> Verdict {
        if core.membership.current_index() > core.commit {
            return Verdict::LeadsOn;
        }
        if core.configuration().is_joint() {
            let next = membership::leave(core.configuration());
            self.propose(core, Payload::Configuration(next));
            return Verdict::LeadsOn;
        }
        if core.configuration().voters.contains(&core.id) {
            Verdict::LeadsOn
        } else {
            Verdict::StepsDown
        }
    }

    /// Says good-bye: tells everybody what is committed, and the best voter to stand for election.
    pub(crate) fn resign(&mut self, core: &mut Core) {
        let peers: Vec<PeerId> = self.progress.keys().copied().collect();
        for peer in peers {
            self.send_heartbeat(core, peer, 0);
        }
        if let Some(heir) = self.choose_target(core, None) {
            core.send(heir, Body::TimeoutNow);
        }
    }

    /// When the leader next has to do something by itself.
    pub(crate) fn deadline(&self) -> Instant {
        self.transfer.map_or(self.heartbeat_due, |transfer| {
            transfer.deadline.min(self.heartbeat_due)
        })
    }

    /// Time passed: checks that a quorum was heard from, sends a round to everybody.
    pub(crate) fn tick(&mut self, core: &mut Core) -> Verdict {
        let patience = core.settings.election_min;
        self.rounds.expire(&mut core.effects, core.now, patience);
        self.expire_transfer(core);
        if core.now < self.heartbeat_due {
            return Verdict::LeadsOn;
        }
        let silence = core.now.since(self.quorum_contact(core));
        if silence >= core.settings.election_max && !mutated!(LingeringLeader) {
            return Verdict::StepsDown;
        }
        self.consider_transfer(core);
        self.tick_heartbeat(core);
        Verdict::LeadsOn
    }

    fn tick_heartbeat(&mut self, core: &mut Core) {
        self.heartbeat_due = core.now + core.settings.heartbeat;
        if let Some(transfer) = &mut self.transfer {
            // It may have been lost.
            transfer.told = false;
        }
        self.send_round(core, true);
        self.confirm_rounds(core);
    }

    /// The newest time at which a quorum is known to have followed: when rounds were sent that it answered.
    fn quorum_contact(&self, core: &Core) -> Instant {
        quorum::reached(core.configuration(), |peer| {
            match self.progress.get(&peer) {
                _ if peer == core.id => core.now,
                Some(progress) if progress.counts() => progress.contact,
                _ => Instant(0),
            }
        })
    }

    /// How far each other member's log is known to match.
    pub(crate) fn matched(&self, configuration: &Configuration) -> Vec<(PeerId, Index)> {
        self.progress
            .iter()
            .filter(|(peer, _)| configuration.contains(**peer))
            .map(|(peer, p)| (*peer, p.matched))
            .collect()
    }
}
