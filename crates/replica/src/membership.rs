//! The cell's configuration, kept true: changes an operator asks for, addresses members publish, members that come to take a place, and learners that have
//! caught up. One change is under way at a time; the leader begins the next when it is decided.

use crate::admission::Joining;
use crate::catch_up::CatchUp;
use crate::member_change::{self, Standings};
use crate::member_request::MemberRequests;
use crate::message::Message;
use crate::replica::Replica;
use crate::settings::Advertised;
use raft::{Configuration, Index, Instant, Member, MemberId, PeerId, Role};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How often a member publishes again.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(500);
/// How often a leader looks whether learners have caught up.
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(100);
/// How soon a leader looks again whether the change an operator waits for may begin.
const REQUEST_INTERVAL: Duration = Duration::from_millis(20);
/// Members whose publications wait for the leader at most.
const PUBLISHED_MAX: usize = 1024;

/// Changes of the configuration under way.
pub(crate) struct Membership {
    /// What operators ask for.
    pub(crate) requests: MemberRequests,
    /// What members published and the configuration does not say yet. Of the present leadership only.
    published: BTreeMap<PeerId, Advertised>,
    /// Members that ask for admission. Of the present leadership only.
    pub(crate) joining: Joining,
    /// How learners come on. Of the present leadership only.
    catch_up: CatchUp,
    /// When each member was last heard of.
    heard: BTreeMap<PeerId, Heard>,
    /// When this member became the leader it is, or the last one it was.
    leads_since: Instant,
    /// When to look again.
    tend_at: Option<Instant>,
    /// This member has told that it left.
    departed: bool,
}

/// What is known of a member's presence.
struct Heard {
    /// When its last message came.
    at: Instant,
    /// Its connection has not closed since.
    connected: bool,
}

impl Membership {
    pub(crate) fn new(boot: u64) -> Membership {
        Membership {
            requests: MemberRequests::new(boot),
            published: BTreeMap::new(),
            joining: Joining::new(),
            catch_up: CatchUp::default(),
            heard: BTreeMap::new(),
            leads_since: Instant(0),
            tend_at: None,
            departed: false,
        }
    }

    /// When something is to be looked after.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        self.tend_at
    }

    /// A message of this member arrived.
    pub(crate) fn heard(&mut self, now: Instant, from: PeerId) {
        let heard = Heard {
            at: now,
            connected: true,
        };
        self.heard.insert(from, heard);
    }

    /// The connection from this member closed.
    pub(crate) fn lost(&mut self, peer: PeerId) {
        if let Some(heard) = self.heard.get_mut(&peer) {
            heard.connected = false;
        }
    }

    /// A leadership begins.
    pub(crate) fn elected(&mut self, now: Instant) {
        self.leads_since = now;
    }

    /// The leadership is so old that every member has had the time to speak up.
    pub(crate) fn leads_for(&self, now: Instant, long: Duration) -> bool {
        now.since(self.leads_since) > long
    }

    /// Looks after the configuration with the next turn.
    pub(crate) fn look(&mut self, now: Instant) {
        self.tend_at = Some(now);
    }

    /// The leadership these were told to is over; they will be told again to the next.
    pub(crate) fn forget_told(&mut self) {
        self.published.clear();
        self.joining.clear();
        self.catch_up.forget_all();
    }
}

/// What the leader knows of the others at an instant.
struct Known<'a> {
    replica: &'a Replica,
    now: Instant,
    status: raft::Status,
}

impl Standings for Known<'_> {
    fn is_heard(&self, peer: PeerId) -> bool {
        let patience = self.replica.election_max / 2;
        let present = |heard: &Heard| heard.connected && self.now.since(heard.at) <= patience;
        peer == self.replica.me
            || self
                .replica
                .membership
                .heard
                .get(&peer)
                .is_some_and(present)
    }

    fn is_caught_up(&self, peer: PeerId) -> bool {
        self.is_heard(peer) && self.replica.membership.catch_up.is_caught_up(peer)
    }

    fn lacks(&self, peer: PeerId) -> u64 {
        let matched = self
            .status
            .progress
            .iter()
            .find(|(other, _)| *other == peer);
        let matched = matched.map_or(Index(0), |(_, matched)| *matched);
        self.status.last.0 - matched.0
    }
}

impl Replica {
    /// What this member knows of the others, for judging a change.
    pub(crate) fn standings(&self, now: Instant) -> impl Standings + '_ {
        Known {
            replica: self,
            now,
            status: self.raft.status(),
        }
    }

    /// A message of this member arrived within two elections: it is not to be taken for gone.
    pub(crate) fn is_heard(&self, now: Instant, peer: PeerId) -> bool {
        let heard = self.membership.heard.get(&peer);
        heard.is_some_and(|heard| now.since(heard.at) <= self.hold())
    }

    /// A configuration was applied, or came with a snapshot: the shell hears if this member is none of the cell any more.
    pub(crate) fn note_departure(&mut self) {
        let configuration = &self.applying.configuration;
        let gone = !configuration.is_joint() && configuration.departed.contains(&self.me.member);
        if gone && !std::mem::replace(&mut self.membership.departed, true) {
            self.effects.push_back(crate::Effect::Departed);
        }
    }

    /// A member says what the configuration is to say of it.
    pub(crate) fn on_publish(&mut self, now: Instant, from: PeerId, advertised: Advertised) {
        if self.role == Role::Leader && self.membership.published.len() < PUBLISHED_MAX {
            self.membership.published.insert(from, advertised);
            self.membership.look(now);
        }
    }

    /// Looks whether something about the configuration is to be done, if it is time.
    pub(crate) fn tend_membership(&mut self, now: Instant) {
        if self.membership.tend_at.is_none_or(|at| at > now) {
            return;
        }
        self.membership.tend_at = None;
        let mut again = self.publish(now).then_some(PUBLISH_INTERVAL);
        if self.role == Role::Leader {
            self.watch_learners(now);
            let changing = self.improve_configuration(now);
            again = again.into_iter().chain(changing).min();
        }
        if let Some(wait) = again {
            self.membership.tend_at = Some(now + wait);
        }
    }

    /// Notes how far the learners are.
    fn watch_learners(&mut self, now: Instant) {
        let learners = &self.configuration.learners;
        let catch_up = &mut self.membership.catch_up;
        catch_up.retain(|peer| learners.contains(&peer));
        if learners.is_empty() {
            return;
        }
        let quick = (self.election_max / 2).max(CATCH_UP_INTERVAL * 2);
        let status = self.raft.status();
        for (peer, matched) in status.progress {
            if learners.contains(&peer) {
                catch_up.observe(now, peer, matched, status.last, quick);
            }
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
                self.send(leader, Message::Publish(advertised));
                true
            }
            // A leader that becomes known makes it look again.
            None => false,
        }
    }

    /// Begins the next change: what an operator waits for, else what the leader does by itself. `Some`: look again so soon.
    fn improve_configuration(&mut self, now: Instant) -> Option<Duration> {
        if !self.raft.may_change_membership() || !self.clock.is_ready() {
            return Some(REQUEST_INTERVAL);
        }
        if self.begin_requested_change(now) {
            return Some(REQUEST_INTERVAL);
        }
        let mut target = self.configuration.clone();
        for (peer, advertised) in std::mem::take(&mut self.membership.published) {
            if let Some(member) = target
                .members
                .get_mut(&peer.member)
                .filter(|member| member.incarnation == peer.incarnation)
            {
                note_published(member, advertised);
                mutated!(
                    KnowsForOthers,
                    member.feature_level = self.state_settings.level_known
                );
            }
        }
        if target == self.configuration {
            self.admit_next(now, &mut target);
        }
        if target == self.configuration {
            self.promote_learners(now, &mut target);
        }
        if target != self.configuration {
            // Refused while leadership is handed over: members publish and ask again.
            let _ = self.raft.change_membership(now, target);
            return Some(REQUEST_INTERVAL);
        }
        let waiting =
            !self.configuration.learners.is_empty() || !self.membership.joining.is_empty();
        waiting.then_some(CATCH_UP_INTERVAL)
    }

    /// Makes voters of learners that have caught up. Those that replace others do so together: none before all have.
    fn promote_learners(&self, now: Instant, target: &mut Configuration) {
        let standings = self.standings(now);
        let by_itself = |peer: &&PeerId| !target.members[&peer.member].stays_learner;
        let ready = |peers: BTreeSet<PeerId>| {
            let all = peers.iter().all(|peer| standings.is_caught_up(*peer));
            if all { peers } else { BTreeSet::new() }
        };
        let (replacing, joining): (BTreeSet<PeerId>, BTreeSet<PeerId>) = target
            .learners
            .iter()
            .filter(by_itself)
            .partition(|peer| target.members[&peer.member].replaces.is_some());
        let mut promoted = target.clone();
        let joining = joining.into_iter().flat_map(|peer| ready([peer].into()));
        for peer in joining.chain(ready(replacing)) {
            member_change::make_voter(&mut promoted, peer);
        }
        if promoted != *target && member_change::check_quorum(&promoted, &standings).is_ok() {
            *target = promoted;
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

/// Writes down what a member says of itself. An operator's word on its peer addresses stands until the member tells something new.
fn note_published(member: &mut Member, advertised: Advertised) {
    if member.overruled != advertised.peer_addresses {
        member.peer_addresses = advertised.peer_addresses;
        member.overruled.clear();
    }
    member.client_addresses = advertised.client_addresses;
    member.feature_level = advertised.feature_level;
    member.priority = advertised.priority;
}

/// The configuration says of a member what it says of itself.
fn says(member: &Member, advertised: &Advertised) -> bool {
    (member.peer_addresses == advertised.peer_addresses
        || member.overruled == advertised.peer_addresses)
        && member.client_addresses == advertised.client_addresses
        && member.feature_level == advertised.feature_level
        && member.priority == advertised.priority
}
