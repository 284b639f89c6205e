//! Who may come in: a process with an empty directory, or one that lost the record of its votes, asks for a place in the cell, and the leader gives it one.
//!
//! Three ways lead in, and all pass through a decided configuration, so that nobody ever votes twice under one identity. A place an operator prepared is
//! taken by the first empty directory that comes with its peer address: the directory's own id is written beside the place, and no other directory can go on
//! in it. A member whose directory was emptied is put in place of the silent member of its name, under its new id; the old id leaves with the same change.
//! A member that lost the record of its votes keeps its id and becomes the next incarnation. All are learners first.

use crate::bootstrap::Introduction;
use crate::member_change::FIRST_INCARNATION;
use crate::replica::Replica;
use raft::{Configuration, Incarnation, Instant, Member, MemberId, PeerId, Role};
use std::collections::BTreeMap;

/// Members that ask at the same time at most; more ask again.
const JOINING_MAX: usize = 64;

/// Members that ask for admission, by name.
pub(crate) type Joining = BTreeMap<String, Introduction>;

impl Introduction {
    /// Where it says that others reach it.
    pub(crate) fn address(&self) -> Option<&String> {
        let mine = self.listed.iter().find(|(name, _)| *name == self.name);
        mine.map(|(_, address)| address)
    }
}

/// The place an operator prepared for whoever comes with this address.
pub(crate) fn vacant_place(configuration: &Configuration, address: &String) -> Option<MemberId> {
    let fits = |member: &Member| member.is_vacant() && member.peer_addresses.contains(address);
    let mut places = configuration.members.iter();
    places.find(|(_, member)| fits(member)).map(|(id, _)| *id)
}

impl Replica {
    /// A member with an empty directory asks for its cluster.
    pub(crate) fn on_join(&mut self, now: Instant, introduction: Introduction) {
        if self.role == Role::Leader
            && self.membership.joining.len() < JOINING_MAX
            && self.has_place_for(&introduction)
        {
            self.membership
                .joining
                .insert(introduction.name.clone(), introduction);
            self.membership.look(now);
        }
    }

    /// A place is prepared for it, or it may take that of a silent member of its name.
    fn has_place_for(&self, introduction: &Introduction) -> bool {
        let members = &self.configuration.members;
        let asker = introduction.member;
        // An id that left never comes back, and a directory that has taken its place is told so in the answer to its query.
        let taken = |member: &Member| member.taken_by == Some(asker);
        if self.configuration.departed.contains(&asker) || members.values().any(taken) {
            return false;
        }
        let named = members
            .iter()
            .find(|(_, member)| member.name == introduction.name);
        let Some((&id, member)) = named else {
            return self.prepared_for(introduction).is_some();
        };
        let holder = PeerId {
            member: id,
            incarnation: member.incarnation,
        };
        if introduction.replaces != Some(holder) {
            // It was asked before this one was admitted, perhaps of a disk that is no more. If not, the answer tells whom to replace, and it asks again.
            false
        } else if id != asker {
            // An id the cell knows is not admitted: it belongs to a founder that has yet to start, or to a learner just admitted, and the answer to its
            // query tells it so.
            !members.contains_key(&asker)
        } else {
            // Of those the cell knows, one that lost its votes becomes the next incarnation, unless it has been admitted as that already.
            introduction.incarnation > Incarnation(0)
                && (member.incarnation <= introduction.incarnation
                    || !self.configuration.learners.contains(&holder))
        }
    }

    fn prepared_for(&self, introduction: &Introduction) -> Option<MemberId> {
        let blank = introduction.incarnation == Incarnation(0);
        let address = introduction.address().filter(|_| blank)?;
        vacant_place(&self.configuration, address)
    }

    /// Admits the next of those that ask.
    pub(crate) fn admit_next(&mut self, now: Instant, target: &mut Configuration) {
        let Some((_, introduction)) = self.membership.joining.pop_first() else {
            return;
        };
        if !self.has_place_for(&introduction) {
            return;
        }
        let named = target
            .members
            .values()
            .any(|member| member.name == introduction.name);
        match self.prepared_for(&introduction) {
            Some(place) if !named => {
                let member = target.members.get_mut(&place).expect("it is prepared");
                member.name = introduction.name;
                member.taken_by = Some(introduction.member);
                let peer = PeerId {
                    member: place,
                    incarnation: member.incarnation,
                };
                // It has yet to hear of it; until then a second one is not to push it out.
                self.membership.heard(now, peer);
            }
            _ => self.admit_anew(now, target, &introduction),
        }
    }

    /// Puts a member that comes back, empty or without its votes, in place of the silent one of its name.
    fn admit_anew(
        &mut self,
        now: Instant,
        target: &mut Configuration,
        introduction: &Introduction,
    ) {
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
        // A member of that name that still speaks, or has had no time to, is not replaced by a second one that took its name.
        if old_peer == self.me
            || self.is_heard(now, old_peer)
            || !self.membership.leads_for(now, self.hold())
        {
            return;
        }
        let incarnation = if old_id == introduction.member {
            Incarnation(old.incarnation.0.max(introduction.incarnation.0) + 1)
        } else {
            FIRST_INCARNATION
        };
        let address = introduction.address();
        let member = Member {
            incarnation,
            name: introduction.name.clone(),
            peer_addresses: address
                .map_or(old.peer_addresses.clone(), |address| vec![address.clone()]),
            priority: old.priority,
            stays_learner: old.stays_learner,
            replaces: old.replaces,
            ..Member::default()
        };
        target.voters.remove(&old_peer);
        target.learners.remove(&old_peer);
        target.members.remove(&old_id);
        let peer = PeerId {
            member: introduction.member,
            incarnation,
        };
        target.learners.insert(peer);
        target.members.insert(introduction.member, member);
        // It has yet to hear of it; until then a second process of its name is not to push it out.
        self.membership.heard(now, peer);
        for other in target.members.values_mut() {
            if other.replaces == Some(old_id) {
                other.replaces = Some(introduction.member);
            }
        }
    }
}
