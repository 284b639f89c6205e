//! Who is in the cell, as clients may see it: the configuration, completed by what members told of themselves when they connected.

use crate::handle::MemberView;
use crate::wire::Party;
use raft::{Configuration, Member, MemberId, PeerId};
use std::collections::BTreeMap;

/// The table behind [`crate::Handle::members`].
#[derive(Clone, Debug, Default)]
pub(crate) struct MemberTable {
    configuration: Configuration,
    /// Client addresses, by the members' own word.
    told: BTreeMap<MemberId, Vec<String>>,
    /// Members speak TLS to each other: all or none do.
    secure: bool,
}

impl MemberTable {
    /// Begins with what this member says of itself.
    pub(crate) fn new(me: &Party, secure: bool) -> MemberTable {
        let mut table = MemberTable {
            secure,
            ..MemberTable::default()
        };
        table
            .told
            .insert(MemberId(me.member), me.client_addresses.clone());
        table
    }

    pub(crate) fn configure(&mut self, configuration: Configuration) {
        self.configuration = configuration;
    }

    /// Notes what a member told; `true` if that is new. Strangers are not remembered: they may tell again when they belong here.
    pub(crate) fn told(&mut self, party: &Party) -> bool {
        let id = MemberId(party.member);
        if party.client_addresses.is_empty() || !self.configuration.members.contains_key(&id) {
            return false;
        }
        self.told
            .insert(id, party.client_addresses.clone())
            .as_ref()
            != Some(&party.client_addresses)
    }

    /// A member's name, or its id if it has none.
    pub(crate) fn name(&self, id: MemberId) -> String {
        self.configuration
            .members
            .get(&id)
            .filter(|member| !member.name.is_empty())
            .map_or_else(|| id.to_string(), |member| member.name.clone())
    }

    /// Peer addresses as clients are to see them: what speaks TLS is written as a URL.
    fn shown(&self, addresses: &[String]) -> Vec<String> {
        let scheme = if self.secure { "https://" } else { "" };
        addresses
            .iter()
            .map(|address| format!("{scheme}{address}"))
            .collect()
    }

    /// All members by id, by the configuration in force.
    pub(crate) fn view(&self) -> Vec<MemberView> {
        self.view_of(&self.configuration)
    }

    /// The members of a configuration by id.
    pub(crate) fn view_of(&self, configuration: &Configuration) -> Vec<MemberView> {
        let view = |(id, member): (&MemberId, &Member)| {
            let peer = PeerId {
                member: *id,
                incarnation: member.incarnation,
            };
            MemberView {
                id: id.0,
                name: member.name.clone(),
                peer_addresses: self.shown(&member.peer_addresses),
                client_addresses: self
                    .told
                    .get(id)
                    .unwrap_or(&member.client_addresses)
                    .clone(),
                is_learner: configuration.learners.contains(&peer) && member.stays_learner,
                votes: configuration.is_voter(peer),
            }
        };
        configuration.members.iter().map(view).collect()
    }
}
