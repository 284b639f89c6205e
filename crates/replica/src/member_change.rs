//! What an operator wants of the members, and what the leader makes of it: the configuration to change to, or a refusal that names the reason.
//!
//! A place is prepared for a new member before it starts; a process with an empty directory and that peer address then takes it (`admission.rs`). It comes
//! up as a learner and becomes a voter once it has caught up, so that a member that never starts weakens nobody. Refusals protect the quorum: a change is
//! not begun if the leader hears of no majority of those who would decide afterwards.

use raft::{Configuration, Incarnation, Member, MemberId, PeerId};
use std::fmt;

/// The incarnation of an id the cell has not seen before.
pub(crate) const FIRST_INCARNATION: Incarnation = Incarnation(1);
/// Members, voters and learners, at most.
const MEMBERS_MAX: usize = 64;
/// Learners that etcd admits at once.
const ETCD_LEARNERS_MAX: usize = 1;
/// Addresses of one member at most.
const ADDRESSES_MAX: usize = 16;

/// One thing an operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// Prepare a place for a member that has not started.
    Add {
        /// Its id: random, and new to the cell.
        member: MemberId,
        /// Where the others will reach it, as `host:port`.
        peer_addresses: Vec<String>,
        /// It becomes a voter only when an operator says so.
        stays_learner: bool,
        /// The member that leaves when this one becomes a voter.
        replaces: Option<MemberId>,
    },
    /// Make a learner a voter.
    Promote(MemberId),
    /// Let a member go.
    Remove(MemberId),
    /// The others reach the member here from now on.
    Move {
        /// Which.
        member: MemberId,
        /// Where, as `host:port`.
        peer_addresses: Vec<String>,
    },
}

/// Changes that happen together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeRequest {
    /// What is wanted, in order.
    pub changes: Vec<MemberChange>,
    /// Refuse also what etcd refuses although it does no harm here: a second learner, and members added while others are not there.
    pub as_etcd: bool,
}

/// Why a change of members was refused, by what the caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    /// Only the leader changes members that way; ask it.
    NotLeader,
    /// Another change is under way; try again.
    Busy,
    /// No member has this id.
    UnknownMember,
    /// A member has this id.
    MemberExists,
    /// Another member has this address.
    AddressTaken,
    /// It votes, or will without being promoted.
    NotALearner,
    /// It lacks too much of the log, or never started; try again later.
    NotCaughtUp,
    /// As many learners as etcd admits are there.
    TooManyLearners,
    /// Too few of those who would vote have ever started.
    NotEnoughStarted,
    /// Too few of those who would vote are heard of.
    LosesQuorum,
    /// It makes no sense.
    Invalid,
}

/// A refusal. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For programs.
    pub reason: RefusalReason,
    /// For people.
    pub text: String,
}

impl Refusal {
    pub(crate) fn new(reason: RefusalReason, text: impl Into<String>) -> Refusal {
        Refusal {
            reason,
            text: text.into(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What the leader knows of the members beside the configuration.
pub(crate) trait Standings {
    /// It was heard of just now.
    fn is_heard(&self, peer: PeerId) -> bool;
    /// It follows so closely that it could vote.
    fn is_caught_up(&self, peer: PeerId) -> bool;
    /// How many entries it lacks, as far as known.
    fn lacks(&self, peer: PeerId) -> u64;
}

/// The configuration that a request leads to.
///
/// # Errors
/// See [`RefusalReason`].
pub(crate) fn target(
    current: &Configuration,
    request: &ChangeRequest,
    standings: &impl Standings,
) -> Result<Configuration, Refusal> {
    let mut target = current.clone();
    let changes = mutated!(
        FirstChangeOnly,
        request.changes.get(..1).unwrap_or_default(),
        &request.changes
    );
    for change in changes {
        match change {
            MemberChange::Add {
                member,
                peer_addresses,
                stays_learner,
                replaces,
            } => {
                let place = Member {
                    incarnation: FIRST_INCARNATION,
                    peer_addresses: peer_addresses.clone(),
                    stays_learner: *stays_learner,
                    replaces: *replaces,
                    ..Member::default()
                };
                check_addresses(&target, *member, peer_addresses)?;
                if request.as_etcd {
                    check_as_etcd(&target, *stays_learner, standings)?;
                }
                add(&mut target, *member, place)?;
            }
            MemberChange::Promote(member) => {
                promote(&mut target, *member, request.as_etcd, standings)?
            }
            MemberChange::Remove(member) => {
                known(&target, *member)?;
                remove(&mut target, *member);
            }
            MemberChange::Move {
                member,
                peer_addresses,
            } => {
                known(&target, *member)?;
                check_addresses(&target, *member, peer_addresses)?;
                relocate(&mut target, *member, peer_addresses);
            }
        }
    }
    if target.voters != current.voters {
        if request.as_etcd {
            check_started(&target)?;
        }
        check_quorum(&target, standings)?;
    }
    Ok(target)
}

/// Refuses unless a majority of the voters is heard of.
pub(crate) fn check_quorum(
    target: &Configuration,
    standings: &impl Standings,
) -> Result<(), Refusal> {
    if target.voters.is_empty() {
        let text = "the last voter cannot be removed: nobody would be left to decide";
        return Err(Refusal::new(RefusalReason::NotEnoughStarted, text));
    }
    let silent: Vec<String> = target
        .voters
        .iter()
        .filter(|peer| !standings.is_heard(**peer))
        .map(|peer| shown(target, peer.member))
        .collect();
    if (target.voters.len() - silent.len()) * 2 > target.voters.len() {
        return Ok(());
    }
    let text = format!(
        "the cluster would lose its quorum: of the {} voters then, {} cannot be heard now; bring them back first, or remove those",
        target.voters.len(),
        silent.join(", ")
    );
    Err(Refusal::new(RefusalReason::LosesQuorum, text))
}

/// A member's name, or what stands for it.
pub(crate) fn shown(configuration: &Configuration, id: MemberId) -> String {
    match configuration.members.get(&id) {
        Some(member) if !member.name.is_empty() => member.name.clone(),
        Some(member) => format!("{id} at {}", member.peer_addresses.join(",")),
        None => id.to_string(),
    }
}

/// Lets a member go. Whoever was to replace it just joins.
pub(crate) fn remove(target: &mut Configuration, id: MemberId) {
    target.voters.retain(|peer| peer.member != id);
    target.learners.retain(|peer| peer.member != id);
    target.members.remove(&id);
    for member in target.members.values_mut() {
        member.replaces.take_if(|replaced| *replaced == id);
    }
}

/// Makes a learner a voter; the member it replaces goes.
pub(crate) fn make_voter(target: &mut Configuration, peer: PeerId) {
    target.learners.remove(&peer);
    target.voters.insert(peer);
    let member = target
        .members
        .get_mut(&peer.member)
        .expect("a learner is a member");
    member.stays_learner = false;
    if let Some(replaced) = member.replaces.take() {
        remove(target, replaced);
    }
}

fn peer(target: &Configuration, id: MemberId) -> Option<PeerId> {
    let incarnation = target.members.get(&id)?.incarnation;
    Some(PeerId {
        member: id,
        incarnation,
    })
}

fn known(target: &Configuration, id: MemberId) -> Result<PeerId, Refusal> {
    peer(target, id).ok_or_else(|| {
        let known: Vec<String> = target.members.keys().map(MemberId::to_string).collect();
        let text = format!("no member has id {id}; known are {}", known.join(", "));
        Refusal::new(RefusalReason::UnknownMember, text)
    })
}

fn check_addresses(
    target: &Configuration,
    id: MemberId,
    addresses: &[String],
) -> Result<(), Refusal> {
    if addresses.is_empty() || addresses.len() > ADDRESSES_MAX {
        let text = format!(
            "{} peer addresses for one member, 1 to {ADDRESSES_MAX} are allowed",
            addresses.len()
        );
        return Err(Refusal::new(RefusalReason::Invalid, text));
    }
    for (other, member) in target.members.iter().filter(|(other, _)| **other != id) {
        if let Some(taken) = addresses
            .iter()
            .find(|address| member.peer_addresses.contains(address))
        {
            let text = format!(
                "peer address {taken} is that of {}; give each member its own",
                shown(target, *other)
            );
            return Err(Refusal::new(RefusalReason::AddressTaken, text));
        }
    }
    Ok(())
}

fn add(target: &mut Configuration, id: MemberId, place: Member) -> Result<(), Refusal> {
    if target.members.contains_key(&id) || target.departed.contains(&id) || id == MemberId(0) {
        let text = format!("id {id} is or was a member's; take another");
        return Err(Refusal::new(RefusalReason::MemberExists, text));
    }
    if target.members.len() >= MEMBERS_MAX {
        let text = format!("the cluster has {MEMBERS_MAX} members, more are not allowed");
        return Err(Refusal::new(RefusalReason::Invalid, text));
    }
    if let Some(replaced) = place.replaces {
        let peer = known(target, replaced)?;
        let other = target
            .members
            .values()
            .any(|member| member.replaces == Some(replaced));
        if !target.voters.contains(&peer) || other || place.stays_learner {
            let text = format!(
                "{} cannot be replaced: it is no voter, or another member is to replace it",
                shown(target, replaced)
            );
            return Err(Refusal::new(RefusalReason::Invalid, text));
        }
    }
    target.learners.insert(PeerId {
        member: id,
        incarnation: place.incarnation,
    });
    target.members.insert(id, place);
    Ok(())
}

fn promote(
    target: &mut Configuration,
    id: MemberId,
    as_etcd: bool,
    standings: &impl Standings,
) -> Result<(), Refusal> {
    let peer = known(target, id)?;
    let member = &target.members[&id];
    // To etcd's tools a member that will vote by itself is a voter already.
    if !target.learners.contains(&peer) || (as_etcd && !member.stays_learner) {
        let text = format!("{} is no learner", shown(target, id));
        return Err(Refusal::new(RefusalReason::NotALearner, text));
    }
    if !standings.is_caught_up(peer) {
        let name = shown(target, id);
        let text = if member.is_vacant() {
            format!("{name} has never started; start it, then promote it")
        } else if !standings.is_heard(peer) {
            format!("{name} cannot be heard now; bring it back, then promote it")
        } else {
            format!(
                "{name} has not caught up, it lacks {} entries; try again later",
                standings.lacks(peer)
            )
        };
        return Err(Refusal::new(RefusalReason::NotCaughtUp, text));
    }
    make_voter(target, peer);
    Ok(())
}

fn relocate(target: &mut Configuration, id: MemberId, addresses: &[String]) {
    let member = target.members.get_mut(&id).expect("it is known");
    if member.overruled.is_empty() && !member.is_vacant() {
        member.overruled = member.peer_addresses.clone();
    }
    member.peer_addresses = addresses.to_vec();
    if member.overruled == addresses {
        member.overruled.clear();
    }
}

/// Those who vote by etcd's count: a member that will vote by itself counts from the beginning.
fn counted(target: &Configuration) -> Vec<PeerId> {
    let joining = target
        .learners
        .iter()
        .filter(|peer| !target.members[&peer.member].stays_learner);
    target.voters.iter().chain(joining).copied().collect()
}

/// Refuses an addition that etcd refuses.
fn check_as_etcd(
    target: &Configuration,
    stays_learner: bool,
    standings: &impl Standings,
) -> Result<(), Refusal> {
    let counted = counted(target);
    let started = counted
        .iter()
        .filter(|peer| !target.members[&peer.member].is_vacant())
        .count();
    let after = counted.len() + 1;
    // etcd lets a single member take a second one.
    if !stays_learner && started < after / 2 + 1 && !(started == 1 && after == 2) {
        let text = format!(
            "of {after} members then, only {started} have ever started; start those that were added first"
        );
        return Err(Refusal::new(RefusalReason::NotEnoughStarted, text));
    }
    let silent: Vec<String> = counted
        .iter()
        .filter(|peer| !standings.is_heard(**peer))
        .map(|peer| shown(target, peer.member))
        .collect();
    if !silent.is_empty() {
        let text = format!(
            "{} cannot be heard now; bring them back first",
            silent.join(", ")
        );
        return Err(Refusal::new(RefusalReason::LosesQuorum, text));
    }
    let learners = target
        .learners
        .iter()
        .filter(|peer| target.members[&peer.member].stays_learner);
    if stays_learner && learners.count() >= ETCD_LEARNERS_MAX {
        let text = "a learner is there already; promote or remove it first";
        return Err(Refusal::new(RefusalReason::TooManyLearners, text));
    }
    Ok(())
}

/// Refuses what would leave too few started members, by etcd's count.
fn check_started(target: &Configuration) -> Result<(), Refusal> {
    let counted = counted(target);
    let started = counted
        .iter()
        .filter(|peer| !target.members[&peer.member].is_vacant())
        .count();
    if started < counted.len() / 2 + 1 {
        let text = format!(
            "of {} members then, only {started} have ever started",
            counted.len()
        );
        return Err(Refusal::new(RefusalReason::NotEnoughStarted, text));
    }
    Ok(())
}
