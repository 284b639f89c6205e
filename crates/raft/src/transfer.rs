//! Handing leadership over (Raft thesis §3.10): on request, to a preferred member, or away from a stalled disk.
//!
//! The leader takes no proposals, waits until the target has its whole log, and tells it to stand for election at once. If nothing has come
//! of it after an election timeout, it leads on.

use crate::core::Core;
use crate::leader::Leader;
use crate::progress::{Flow, Progress};
use crate::{Instant, PeerId};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    pub(crate) target: PeerId,
    pub(crate) deadline: Instant,
    /// The target was told to stand for election.
    pub(crate) told: bool,
}

impl Leader {
    /// The voters that could lead, best first: by willingness and priority, then by log.
    fn heirs(&self, core: &Core) -> Vec<PeerId> {
        let mut heirs: Vec<PeerId> = self
            .progress
            .iter()
            .filter(|(peer, progress)| self.is_heir(core, **peer, progress))
            .map(|(peer, _)| *peer)
            .collect();
        heirs.sort_by_key(|peer| {
            std::cmp::Reverse((core.preference(*peer), self.progress[peer].matched))
        });
        heirs
    }

    /// A voter that is there and whose answers come in time.
    fn is_heir(&self, core: &Core, peer: PeerId, progress: &Progress) -> bool {
        core.configuration().voters.contains(&peer)
            && progress.counts()
            && core.now.since(progress.contact) < core.settings.election_min
    }

    /// A voter whose disk answers: nothing sent to it has waited long.
    fn is_timely(&self, core: &Core, peer: PeerId) -> bool {
        let progress = &self.progress[&peer];
        let late = |sent: Instant| core.now.since(sent) >= core.settings.disk_stall / 2;
        progress.flow == Flow::Replicate
            && progress.matched >= core.commit
            && !progress.oldest_sent().is_some_and(late)
    }

    /// Chooses whom to hand over to when asked; `None`: nobody fits.
    pub(crate) fn choose_target(&self, core: &Core, wanted: Option<PeerId>) -> Option<PeerId> {
        let heirs = self.heirs(core);
        match wanted {
            Some(wanted) => heirs.into_iter().find(|heir| *heir == wanted),
            None => heirs.first().copied(),
        }
    }

    pub(crate) fn begin_transfer(&mut self, core: &Core, target: PeerId) {
        self.transfer = Some(Transfer {
            target,
            deadline: core.now + core.settings.election_max,
            told: false,
        });
    }

    /// Gives up a transfer that led nowhere.
    pub(crate) fn expire_transfer(&mut self, core: &Core) {
        if self
            .transfer
            .is_some_and(|transfer| transfer.deadline <= core.now)
        {
            self.transfer = None;
            // A try that failed is not repeated at once.
            self.preference_rests_until = core.now + core.settings.election_max * 10;
        }
    }

    /// Looks, now and then, whether another member should lead: when the own disk stalls, or one that is preferred to this one is ready.
    pub(crate) fn consider_transfer(&mut self, core: &Core) {
        if self.transfer.is_some() {
            return;
        }
        let stalled = core
            .writes
            .oldest_issued()
            .is_some_and(|issued| core.now.since(issued) >= core.settings.disk_stall)
            && !mutated!(StalledLeaderStays);
        let heirs = self.heirs(core);
        if stalled {
            if let Some(&heir) = heirs.iter().find(|heir| self.is_timely(core, **heir)) {
                self.begin_transfer(core, heir);
            }
            return;
        }
        let stable = core.now.since(self.since) >= core.settings.election_max
            && core.now >= self.preference_rests_until
            && self.may_change_membership(core);
        if !stable {
            return;
        }
        let own = core.preference(core.id);
        let preferred = heirs
            .into_iter()
            .find(|heir| core.preference(*heir) > own && self.is_timely(core, *heir));
        if let Some(heir) = preferred {
            self.begin_transfer(core, heir);
        }
    }
}
