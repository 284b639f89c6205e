//! What an operator does: changes members, replaces disks, stops members that were removed, switches features on.

use super::*;
use crate::faults::Change;
use raft::{Incarnation, MemberId};
use replica::ChangeRequest;
use state::{Command, Operation, SetFeatureLevel};
use std::collections::BTreeSet;

/// Requests of the operator are numbered from here.
const OPERATOR: u64 = 1 << 40;

/// Who was removed runs on for so long at most: then every member must serve again.
const RETIRES_WITHIN: Micros = 3_000_000;

impl World {
    /// A machine gets an empty disk; its process is down or goes down.
    pub(super) fn wipe(&mut self, member: usize) {
        self.stop(member, None);
        self.members[member].platter.wipe();
        self.members[member].rotten = false;
        self.consensus.on_wiped(member);
        self.counts.wiped_disks += 1;
    }

    /// Who is started is told whom to ask: those it was first told of, unless none of them belongs to the cluster and has its data. (If all that
    /// are listed are blank, they found a cluster: nobody is left who could tell them of the one there was.)
    pub(super) fn tell_members(&mut self, member: usize) {
        let configuration = self.consensus.decided_configuration();
        let own = &self.members[member].lane;
        let named = configuration.members.values().map(|other| &other.name);
        // A machine that takes its own place is named twice for a while.
        let others: BTreeSet<&String> = named.filter(|name| *name != own).collect();
        let others: Vec<String> = others.into_iter().cloned().collect();
        let knows = |name: &String| {
            self.members.iter().any(|other| {
                other.lane == *name && other.asking.is_none() && configuration.contains(other.id)
            })
        };
        let machine = &self.members[member];
        let mut asked = machine.listed.iter().filter(|name| *name != own);
        if others.is_empty() || asked.any(knows) {
            return;
        }
        let machine = &mut self.members[member];
        machine.joins = true;
        machine.listed = others;
        machine.listed.push(machine.lane.clone());
    }

    /// The disk cannot be used; the operator has seen it.
    pub(super) fn new_disk(&mut self, member: usize) {
        let machine = &self.members[member];
        if machine.process.is_none() && machine.asking.is_none() && machine.rotten {
            self.wipe(member);
            self.start(member);
        }
    }

    /// A removed member is stopped; its machine is spare. One that was replaced by itself, with another id or incarnation, is not.
    pub(super) fn retire(&mut self, member: usize) {
        let machine = &self.members[member];
        let mut named = self.consensus.decided_configuration().members.values();
        let replaced = named.any(|other| other.name == machine.lane);
        let removed = self.consensus.was_removed(machine.id);
        if removed
            && !replaced
            && self.members[member].asking.is_none()
            && self.members[member].in_service
        {
            self.stop(member, None);
            self.members[member].in_service = false;
        }
    }

    /// A configuration was decided: whom it removes is stopped, now or later, and whoever was stopped too early runs again.
    pub(crate) fn on_configuration_decided(&mut self, before: &Configuration) {
        let now = self.consensus.decided_configuration();
        let removed: BTreeSet<PeerId> = before
            .peers()
            .into_iter()
            .filter(|peer| !now.contains(*peer))
            .collect();
        let added: BTreeSet<PeerId> = now
            .peers()
            .into_iter()
            .filter(|peer| !before.contains(*peer))
            .collect();
        for member in 0..self.members.len() {
            let machine = &mut self.members[member];
            if removed.contains(&machine.id) {
                let at = self.now + self.rng.wait(1_000_000).min(RETIRES_WITHIN);
                self.queue.plan(at, Event::Retire(member));
            } else if added.contains(&machine.id) && !machine.in_service {
                machine.in_service = true;
                self.queue.plan(self.now, Event::Start(member));
            }
        }
    }

    /// Asks the leader for another set of members, if there is something to change.
    pub(super) fn reconfigure(&mut self, change: Change) {
        let Some(leader) = self.consensus.leader() else {
            return;
        };
        let current = self.consensus.decided_configuration().clone();
        if current.is_joint() {
            return;
        }
        if let (Change::Add(choice), true) = (change, self.asks_any) {
            return self.prepare_place(&current, choice);
        }
        let Some(target) = self.target(&current, change) else {
            return;
        };
        if self.asks_any {
            self.ask_for_changes(&current, &target);
        } else {
            self.ask_for_members(leader, target);
        }
    }

    /// Asks any member for what leads from one configuration to another: who is to vote, and who is to go; and sometimes that one who stays is reached elsewhere.
    fn ask_for_changes(&mut self, current: &Configuration, target: &Configuration) {
        let vote = target.voters.difference(&current.voters);
        let gone = current.members.keys();
        let gone = gone.filter(|id| !target.members.contains_key(id));
        let mut changes: Vec<MemberChange> = vote
            .map(|peer| MemberChange::Promote(peer.member))
            .chain(gone.map(|id| MemberChange::Remove(*id)))
            .collect();
        if changes.is_empty() {
            return;
        }
        let mut stays = current.members.iter();
        let moves =
            stays.find(|(id, known)| target.members.contains_key(id) && !known.name.is_empty());
        if let Some((id, known)) = moves.filter(|_| self.operator.is_multiple_of(2)) {
            changes.push(MemberChange::Move {
                member: *id,
                peer_addresses: vec![format!("{}:{}", known.name, 2381 + self.operator)],
            });
        }
        self.ask_any(changes);
    }

    /// Asks any member for a place for a spare machine, and starts that with an empty disk: it takes the place by its address.
    fn prepare_place(&mut self, current: &Configuration, choice: u64) {
        let Some(member) = self.spare(current, choice) else {
            return;
        };
        let lane = &self.members[member].lane;
        let address = format!("{lane}:2380");
        let mut known = current.members.values();
        if known.any(|other| other.name == *lane || other.peer_addresses.contains(&address)) {
            return;
        }
        self.start_spare(member, true);
        let id = MemberId(self.rng.next());
        self.ask_any(vec![MemberChange::Add {
            member: id,
            peer_addresses: vec![address],
            stays_learner: choice & (1 << 21) != 0,
            replaces: None,
        }]);
    }

    fn ask_any(&mut self, changes: Vec<MemberChange>) {
        self.counts.changes += 1;
        self.operator += 1;
        let number = OPERATOR + self.operator;
        self.wanted.insert(number, changes.clone());
        let member = self.rng.below(self.members.len() as u64) as usize;
        let request = ChangeRequest {
            changes,
            as_etcd: false,
        };
        let ticket = Ticket(number);
        self.give(member, Input::ChangeMembers { ticket, request });
    }

    /// M1: what an operator is told came of a change was decided, and is what was asked for.
    pub(super) fn told_operator(&mut self, request: u64, outcome: &Result<Response, Failure>) {
        let Some(changes) = self.wanted.remove(&request) else {
            return;
        };
        let Ok(Response {
            body: Body::MembershipChanged(configuration),
            ..
        }) = outcome
        else {
            return;
        };
        let came = |it: &Configuration, change: &MemberChange| match change {
            MemberChange::Promote(id) => it.voters.iter().any(|peer| peer.member == *id),
            MemberChange::Remove(id) => !it.members.contains_key(id),
            MemberChange::Move {
                member,
                peer_addresses,
            } => {
                let moved = it.members.get(member);
                moved.is_some_and(|it| it.peer_addresses == *peer_addresses)
            }
            MemberChange::Add { member, .. } => it.members.contains_key(member),
        };
        // What is told may be a later one.
        let done = |it: &Configuration| changes.iter().all(|change| came(it, change));
        let consensus = &self.consensus;
        if !consensus.was_decided(done) || !consensus.was_decided(|it| it == configuration) {
            let text = format!(
                "{changes:?} were asked for, and {configuration} is said to have come of it"
            );
            self.fail("M1", text);
        }
    }

    /// Asks a member for this configuration.
    pub(crate) fn ask_for_members(&mut self, member: usize, target: Configuration) {
        self.counts.changes += 1;
        self.operator += 1;
        let ticket = Ticket(OPERATOR + self.operator);
        self.give(member, Input::ChangeMembership { ticket, target });
    }

    fn target(&mut self, current: &Configuration, change: Change) -> Option<Configuration> {
        let mut target = current.clone();
        let surplus = current.voters.len().saturating_sub(self.voters_min);
        let nth = |peers: &BTreeSet<PeerId>, choice: u64| {
            peers.iter().nth(choice as usize % peers.len()).copied()
        };
        match change {
            Change::Add(choice) => self.add_spare(&mut target, choice)?,
            Change::Remove(choice) => {
                let leaves = if current.learners.is_empty() || choice % 2 == 0 {
                    (surplus > 0).then(|| nth(&current.voters, choice / 2))?
                } else {
                    nth(&current.learners, choice / 2)
                };
                leave(&mut target, leaves?);
            }
            Change::Demote(choice) => {
                let voter = (surplus > 0).then(|| nth(&current.voters, choice))??;
                target.voters.remove(&voter);
                target.learners.insert(voter);
            }
            Change::Replace(choice) => {
                // Only who has joined: an empty member that was made a voter before it started would never vote.
                let joined = |peer: &&PeerId| {
                    self.member_of(**peer)
                        .and_then(|member| self.members[member].process.as_ref())
                        .is_some_and(|process| process.replica.status().applied > 0)
                };
                let caught_up: Vec<PeerId> =
                    current.learners.iter().filter(joined).copied().collect();
                // One that came back with a new disk is a learner in place of the voter it was: it is no surplus.
                let voters = current.voters.len() + caught_up.len();
                let mut leaving = voters.saturating_sub(self.voters_min).min(2);
                target.learners.retain(|peer| !caught_up.contains(peer));
                target.voters.extend(&caught_up);
                while leaving > 0 {
                    leave(&mut target, nth(&current.voters, choice + leaving as u64)?);
                    leaving -= 1;
                }
            }
        }
        (target != *current).then_some(target)
    }

    /// A machine that belongs to nobody.
    fn spare(&self, current: &Configuration, choice: u64) -> Option<usize> {
        let spare: Vec<usize> = (0..self.members.len())
            .filter(|member| !current.contains(self.members[*member].id))
            .filter(|member| {
                let machine = &self.members[*member];
                !machine.in_service || machine.asking.is_some() && *member >= self.voters_min
            })
            .collect();
        spare.get(choice as usize % spare.len().max(1)).copied()
    }

    /// Starts a spare machine that does not run yet, perhaps with an empty disk.
    fn start_spare(&mut self, member: usize, empty: bool) {
        if !self.members[member].in_service {
            self.members[member].in_service = true;
            self.members[member].feature_level = self.consensus.feature_level_needed();
            if empty {
                self.wipe(member);
                // Nobody, until its disk can be read: not who it was, who was removed.
                self.members[member].id = PeerId::default();
            }
            self.start(member);
        }
    }

    /// A spare machine starts, and is to be a learner once it has an id. One that was removed earlier may come back with the disk it had.
    fn add_spare(&mut self, target: &mut Configuration, choice: u64) -> Option<()> {
        let member = self.spare(target, choice)?;
        let comes_back = choice & (1 << 20) != 0 && self.members[member].id.member != MemberId(0);
        self.start_spare(member, !comes_back);
        let machine = &self.members[member];
        if machine.id.member == MemberId(0) {
            return None;
        }
        // Of an id that is new to the cluster, the first incarnation is admitted.
        let id = PeerId {
            incarnation: machine.id.incarnation.max(Incarnation(1)),
            ..machine.id
        };
        let known = raft::Member {
            incarnation: id.incarnation,
            name: machine.lane.clone(),
            peer_addresses: vec![format!("{}:2380", machine.lane)],
            ..raft::Member::default()
        };
        let taken = target
            .members
            .values()
            .any(|other| other.name == known.name);
        if taken {
            return None;
        }
        target.learners.insert(id);
        target.members.insert(id.member, known);
        Some(())
    }

    /// Restarts a process with the next version of the program.
    pub(super) fn upgrade(&mut self, member: usize) {
        self.members[member].feature_level = 1;
        if self.members[member].in_service {
            self.stop(member, None);
            let at = self.now + self.rng.between(50_000, 500_000);
            self.queue.plan(at, Event::Start(member));
        }
    }

    /// Switches the new feature on, if every member has said that it knows it, and nobody waits to become one without.
    pub(super) fn switch_on(&mut self) {
        let configuration = self.consensus.decided_configuration();
        let known = configuration
            .members
            .values()
            .all(|member| member.feature_level >= 1);
        let waits = |machine: &Member| {
            machine.in_service && !configuration.contains(machine.id) && machine.feature_level == 0
        };
        let Some(leader) = self.consensus.leader() else {
            return;
        };
        if !known || configuration.members.is_empty() || self.members.iter().any(waits) {
            return;
        }
        self.consensus.need_feature_level(1);
        self.counts.switched_on += 1;
        self.operator += 1;
        let request = OPERATOR + self.operator;
        let command = Command {
            trace: crate::oracle::trace_id(request),
            operation: Some(Operation::SetFeatureLevel(SetFeatureLevel { level: 1 })),
            ..Command::default()
        };
        self.ask(
            OPERATOR as usize,
            leader,
            request,
            Request::Propose(command),
        );
    }
}

fn leave(target: &mut Configuration, peer: PeerId) {
    target.voters.remove(&peer);
    target.learners.remove(&peer);
    target.members.remove(&peer.member);
}
