//! How the cell changes its members: the configurations in the log, and the steps between them (Raft thesis §4).
//!
//! A configuration takes effect when appended and goes again when truncated. Any change of voters goes through a joint configuration
//! (§4.3), one change at a time. Knows nothing of who leads; `leader.rs` decides when a step may be taken.

use crate::{Configuration, Index, PeerId};
use std::sync::Arc;

/// The configurations of the log, ascending; the first is the one in force at the log's base. Shared with whoever asks for the status.
#[derive(Debug)]
pub(crate) struct Membership {
    history: Vec<(Index, Arc<Configuration>)>,
}

impl Membership {
    pub(crate) fn new(base: Index, configuration: Configuration) -> Membership {
        Membership {
            history: vec![(base, Arc::new(configuration))],
        }
    }

    pub(crate) fn current(&self) -> &Arc<Configuration> {
        &self
            .history
            .last()
            .expect("there is always a configuration")
            .1
    }

    /// The newest configuration known to be committed, with the log committed through `commit`.
    pub(crate) fn committed(&self, commit: Index) -> &Arc<Configuration> {
        let after = self.history.partition_point(|(index, _)| *index <= commit);
        &self.history[after.saturating_sub(1)].1
    }

    /// The index at which the present configuration took effect.
    pub(crate) fn current_index(&self) -> Index {
        self.history
            .last()
            .expect("there is always a configuration")
            .0
    }

    pub(crate) fn append(&mut self, index: Index, configuration: Configuration) {
        assert!(
            index > self.current_index(),
            "configuration at {index} after one at {}",
            self.current_index()
        );
        self.history.push((index, Arc::new(configuration)));
    }

    /// Drops the configurations from `from` on; tells whether there were any.
    pub(crate) fn truncate(&mut self, from: Index) -> bool {
        let before = self.history.len();
        mutated!(TruncatedConfigurationStays, return false);
        while self.current_index() >= from && self.history.len() > 1 {
            self.history.pop();
        }
        self.history.len() < before
    }

    /// Forgets what was in force only before `base`.
    pub(crate) fn compact(&mut self, base: Index) {
        let after = self.history.partition_point(|(index, _)| *index <= base);
        self.history.drain(..after.saturating_sub(1));
    }
}

/// The next configuration on the way from `current` to `target`: joint if the voters differ, else `target` itself.
///
/// # Errors
/// The target makes no sense; the text says why.
pub(crate) fn first_step(
    current: &Configuration,
    target: &Configuration,
) -> Result<Configuration, String> {
    assert!(
        !current.is_joint(),
        "a change begun while one is under way: {current}"
    );
    validate(current, target)?;
    let single = target.voters.symmetric_difference(&current.voters).count() == 1;
    if target.voters == current.voters || (single && mutated!(SingleServerChange)) {
        let mut next = target.clone();
        next.note_departures(current);
        return Ok(next);
    }
    let (learners_next, learners) = target
        .learners
        .iter()
        .partition(|peer| current.voters.contains(peer));
    // Both halves must be known while both count; the target's word on a member is the newer one.
    let mut members = current.members.clone();
    members.extend(
        target
            .members
            .iter()
            .map(|(id, member)| (*id, member.clone())),
    );
    Ok(Configuration {
        voters: target.voters.clone(),
        outgoing: current.voters.clone(),
        learners,
        learners_next,
        members,
        departed: current.departed.clone(),
    })
}

/// What follows a joint configuration: the incoming half alone.
pub(crate) fn leave(joint: &Configuration) -> Configuration {
    let voters = joint.voters.clone();
    let learners: std::collections::BTreeSet<PeerId> = joint
        .learners
        .union(&joint.learners_next)
        .copied()
        .collect();
    let stays = |id: &crate::MemberId| {
        voters
            .iter()
            .chain(&learners)
            .any(|peer| peer.member == *id)
    };
    let members = joint
        .members
        .iter()
        .filter(|(id, _)| stays(id))
        .map(|(id, member)| (*id, member.clone()))
        .collect();
    let mut next = Configuration {
        voters,
        learners,
        members,
        ..Configuration::default()
    };
    next.note_departures(joint);
    next
}

fn validate(current: &Configuration, target: &Configuration) -> Result<(), String> {
    if target.voters.is_empty() {
        return Err("a cell needs at least one voter".into());
    }
    if !target.outgoing.is_empty() || !target.learners_next.is_empty() {
        return Err("the target of a change cannot itself be joint".into());
    }
    if (&target.voters, &target.learners, &target.members)
        == (&current.voters, &current.learners, &current.members)
    {
        return Err("the change changes nothing".into());
    }
    for peer in target.voters.iter().chain(&target.learners) {
        let Some(member) = target.members.get(&peer.member) else {
            return Err(format!("member {peer} is missing in the table of members"));
        };
        if member.incarnation != peer.incarnation {
            return Err(format!(
                "member {peer} is listed with incarnation {}",
                member.incarnation.0
            ));
        }
        if current.supersedes(*peer) {
            return Err(format!(
                "member {peer} was superseded by a later incarnation"
            ));
        }
    }
    if let Some(peer) = target.voters.intersection(&target.learners).next() {
        return Err(format!("member {peer} cannot be voter and learner"));
    }
    if let Some(id) = target.members.keys().find(|id| {
        !target
            .voters
            .iter()
            .chain(&target.learners)
            .any(|peer| peer.member == **id)
    }) {
        return Err(format!(
            "member {id} is listed but neither voter nor learner"
        ));
    }
    Ok(())
}
