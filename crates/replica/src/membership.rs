//! The cell's configuration, kept true: changes an operator asks for, addresses members publish, and the admission of members that come back empty.
//!
//! Admission: a member with a wiped directory has a new id. The leader puts it in place of the silent member of the same name, as a learner, and makes it
//! a voter once it has caught up. The old id leaves with the same change, so it never counts again. A member that lost the record of its votes keeps its id
//! and comes back in the same way as the next incarnation.

use crate::bootstrap::Introduction;
use crate::effect::{Body, Failure};
use crate::input::Ticket;
use crate::message::Message;
use crate::replica::Replica;
use crate::settings::Advertised;
use raft::{
    ChangeError, Configuration, Incarnation, Index, Instant, Member, MemberId, PeerId, Role, Term,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// How often a member publishes again, and a leader looks whether learners have caught up.
const TEND_INTERVAL: Duration = Duration::from_millis(500);
/// A learner this many entries behind the end of the log has caught up.
const CAUGHT_UP_ENTRIES: u64 = 1000;
/// The incarnation of an id the cell has not seen before.
const FIRST_INCARNATION: Incarnation = Incarnation(1);
/// Members whose publications wait for the leader at most.
const PUBLISHED_MAX: usize = 1024;

/// Changes of the configuration under way.
#[derive(Default)]
pub(crate) struct Membership {
    /// The operator's change that is not finished.
    change: Option<Change>,
    /// What members published and the configuration does not say yet. Of the present leadership only.
    published: BTreeMap<PeerId, Advertised>,
    /// Members that ask for admission. Of the present leadership only.
    joining: BTreeMap<String, Introduction>,
    /// When each member was last heard of.
    heard: BTreeMap<PeerId, Instant>,
    /// When to look again.
    tend_at: Option<Instant>,
}

struct Change {
    ticket: Ticket,
    index: Index,
    term: Term,
}

impl Membership {
    /// When something is to be looked after.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        self.tend_at
    }

    /// A message of this member arrived.
    pub(crate) fn heard(&mut self, now: Instant, from: PeerId) {
        self.heard.insert(from, now);
    }

    /// Looks after the configuration with the next turn.
    pub(crate) fn look(&mut self, now: Instant) {
        self.tend_at = Some(now);
    }

    /// The leadership these were told to is over; they will be told again to the next.
    pub(crate) fn forget_asked(&mut self) {
        self.published.clear();
        self.joining.clear();
    }
}

impl Replica {
    /// Begins a change an operator asks for.
    pub(crate) fn change_membership(
        &mut self,
        now: Instant,
        ticket: Ticket,
        target: Configuration,
    ) {
        if self.membership.change.is_some() {
            return self.reply(
                ticket,
                Err(Failure::MembershipRefused(
                    "an earlier change is not finished".to_owned(),
                )),
            );
        }
        match self.raft.change_membership(now, target) {
            Ok(index) => {
                self.membership.change = Some(Change {
                    ticket,
                    index,
                    term: self.term,
                })
            }
            Err(ChangeError::NotLeader { leader: None }) => {
                self.reply(ticket, Err(Failure::NoLeader))
            }
            Err(ChangeError::NotLeader {
                leader: Some(leader),
            }) => {
                let name = self
                    .configuration
                    .members
                    .get(&leader.member)
                    .map_or("", |member| member.name.as_str());
                let text = format!("this member does not lead; ask {name} (member {leader})");
                self.reply(ticket, Err(Failure::MembershipRefused(text)));
            }
            Err(ChangeError::Busy) => {
                let text = "an earlier change is not finished, or the leader has just been elected; try again".to_owned();
                self.reply(ticket, Err(Failure::MembershipRefused(text)));
            }
            Err(ChangeError::Invalid(text)) => {
                self.reply(ticket, Err(Failure::MembershipRefused(text)))
            }
        }
    }

    /// A configuration was applied: the change it ends is told.
    pub(crate) fn on_configuration_applied(&mut self, index: Index) {
        let done = !self.applying.configuration.is_joint();
        if let Some(change) = self
            .membership
            .change
            .take_if(|change| done && change.index <= index)
        {
            let body = Body::MembershipChanged(self.applying.configuration.clone());
            let response = self.response(body, self.state.revision(), index.0);
            self.reply(change.ticket, Ok(response));
        }
    }

    /// An entry of a later term was applied: a change begun before may be finished by the new leader, or be gone.
    pub(crate) fn on_membership_term_applied(&mut self, term: Term) {
        if let Some(change) = self.membership.change.take_if(|change| change.term < term) {
            self.reply(change.ticket, Err(Failure::Unknown));
        }
    }

    /// The member stops, or its state is replaced.
    pub(crate) fn fail_change(&mut self, failure: Failure) {
        if let Some(change) = self.membership.change.take() {
            self.reply(change.ticket, Err(failure));
        }
    }

    /// A member says what the configuration is to say of it.
    pub(crate) fn on_publish(&mut self, now: Instant, from: PeerId, advertised: Advertised) {
        if self.role == Role::Leader && self.membership.published.len() < PUBLISHED_MAX {
            self.membership.published.insert(from, advertised);
            self.membership.look(now);
        }
    }

    /// A member with an empty directory asks for its cluster.
    pub(crate) fn on_join(&mut self, now: Instant, introduction: Introduction) {
        // An id the cell knows is not admitted: it belongs to a founder that has yet to start, or to a learner just admitted, and the answer to its query
        // tells it so.
        let named = self
            .configuration
            .members
            .iter()
            .find(|(_, member)| member.name == introduction.name);
        let replaces = named.is_some_and(|(&id, member)| {
            if id != introduction.member {
                return !self
                    .configuration
                    .members
                    .contains_key(&introduction.member);
            }
            // Of those the cell knows, one that lost its votes becomes the next incarnation, unless it has been admitted as that already.
            let newest = PeerId {
                member: id,
                incarnation: member.incarnation,
            };
            introduction.incarnation > Incarnation(0)
                && (member.incarnation <= introduction.incarnation
                    || !self.configuration.learners.contains(&newest))
        });
        if self.role == Role::Leader && replaces {
            self.membership
                .joining
                .insert(introduction.name.clone(), introduction);
            self.membership.look(now);
        }
    }

    /// Looks whether something about the configuration is to be done, if it is time.
    pub(crate) fn tend_membership(&mut self, now: Instant) {
        if self.membership.tend_at.is_none_or(|at| at > now) {
            return;
        }
        self.membership.tend_at = None;
        let unpublished = self.publish(now);
        let changing = self.role == Role::Leader && self.improve_configuration(now);
        if unpublished || changing {
            self.membership.tend_at = Some(now + TEND_INTERVAL);
        }
    }

    /// Tells the leader what the configuration should say of this member and does not; `true` while it does not.
    fn publish(&mut self, now: Instant) -> bool {
        let Some(advertised) = self.advertised.clone() else {
            return false;
        };
        if self
            .configuration
            .members
            .get(&self.me.member)
            .is_none_or(|member| {
                member.incarnation != self.me.incarnation || says(member, &advertised)
            })
        {
            return false;
        }
        match self.leader {
            Some(leader) if leader == self.me => {
                self.on_publish(now, self.me, advertised);
                true
            }
            Some(leader) => {
                let Advertised {
                    peer_addresses,
                    client_addresses,
                    feature_level,
                } = advertised;
                self.send(
                    leader,
                    Message::Publish {
                        peer_addresses,
                        client_addresses,
                        feature_level,
                    },
                );
                true
            }
            // A leader that becomes known makes it look again.
            None => false,
        }
    }

    /// Begins the next change that the leader makes by itself; `true` while there are more.
    fn improve_configuration(&mut self, now: Instant) -> bool {
        if self.configuration.is_joint() || !self.clock.is_ready() {
            return true;
        }
        let mut target = self.configuration.clone();
        for (peer, advertised) in std::mem::take(&mut self.membership.published) {
            if let Some(member) = target
                .members
                .get_mut(&peer.member)
                .filter(|member| member.incarnation == peer.incarnation)
            {
                member.peer_addresses = advertised.peer_addresses;
                member.client_addresses = advertised.client_addresses;
                member.feature_level = advertised.feature_level;
            }
        }
        if target == self.configuration
            && let Some((_, introduction)) = self.membership.joining.pop_first()
        {
            self.admit_member(now, &mut target, &introduction);
        }
        if target == self.configuration {
            self.promote_learner(&mut target);
        }
        if target != self.configuration {
            // Refused while another change is under way: members publish and ask again.
            let _ = self.raft.change_membership(now, target);
            return true;
        }
        !self.configuration.learners.is_empty() || !self.membership.joining.is_empty()
    }

    /// Puts a member that comes back, empty or without its votes, in place of the silent one of its name.
    fn admit_member(&self, now: Instant, target: &mut Configuration, introduction: &Introduction) {
        let Some((&old_id, old)) = target
            .members
            .iter()
            .find(|(_, member)| member.name == introduction.name)
        else {
            return;
        };
        let old_peer = PeerId {
            member: old_id,
            incarnation: old.incarnation,
        };
        let silent = self
            .membership
            .heard
            .get(&old_peer)
            .is_none_or(|&at| now.since(at) > self.hold());
        // A member of that name that still speaks is not replaced by a second one that took its name.
        if old_peer == self.me || !silent {
            return;
        }
        let address = introduction
            .listed
            .iter()
            .find(|(name, _)| *name == introduction.name)
            .map(|(_, address)| address.clone());
        let incarnation = if old_id == introduction.member {
            Incarnation(old.incarnation.0.max(introduction.incarnation.0) + 1)
        } else {
            FIRST_INCARNATION
        };
        let member = Member {
            incarnation,
            name: introduction.name.clone(),
            peer_addresses: address.map_or(old.peer_addresses.clone(), |address| vec![address]),
            client_addresses: Vec::new(),
            feature_level: 0,
            priority: old.priority,
        };
        target.voters.remove(&old_peer);
        target.learners.remove(&old_peer);
        target.members.remove(&old_id);
        target.learners.insert(PeerId {
            member: introduction.member,
            incarnation,
        });
        target.members.insert(introduction.member, member);
    }

    /// Makes a learner that has caught up a voter.
    fn promote_learner(&self, target: &mut Configuration) {
        if target.learners.is_empty() {
            return;
        }
        let status = self.raft.status();
        let caught_up = |peer: &PeerId| {
            status.progress.iter().any(|(other, matched)| {
                other == peer && matched.0 > 0 && matched.0 + CAUGHT_UP_ENTRIES >= status.last.0
            })
        };
        if let Some(peer) = target.learners.iter().copied().find(caught_up) {
            target.learners.remove(&peer);
            target.voters.insert(peer);
        }
    }

    /// The member of the configuration in force with this id, in its present incarnation.
    pub(crate) fn peer(&self, member: MemberId) -> Option<PeerId> {
        let incarnation = self.configuration.members.get(&member)?.incarnation;
        Some(PeerId {
            member,
            incarnation,
        })
    }
}

fn says(member: &Member, advertised: &Advertised) -> bool {
    member.peer_addresses == advertised.peer_addresses
        && member.client_addresses == advertised.client_addresses
        && member.feature_level == advertised.feature_level
}
