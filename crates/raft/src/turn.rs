//! The end of a turn: what was gathered since the last one goes to the disk, to the others, and into one timer.

use crate::core::Core;
use crate::message::Body;
use crate::raft::{Part, Raft};
use crate::{Effect, PeerId};

impl Raft {
    /// Tells of a new role, term, leader or standing.
    pub(crate) fn announce(&mut self) {
        let present = (
            self.role(),
            self.core.term(),
            self.core.leader,
            self.core.standing,
        );
        if present != self.announced {
            self.announced = present;
            let (role, term, leader, _) = present;
            self.core
                .effects
                .push_back(Effect::RoleChanged { role, term, leader });
        }
    }

    /// Ends a turn: gives the disk what was gathered, then says what may be said.
    pub(crate) fn settle(&mut self) {
        self.unsettled = false;
        if let Some(persist) = self.core.writes.seal(self.core.now, self.core.commit) {
            self.core.effects.push_back(Effect::Persist(persist));
        }
        let replicated = match &mut self.part {
            Part::Leader(leader) => {
                leader.settle(&mut self.core);
                leader.replicated(&self.core)
            }
            _ => {
                self.ask_leader_for_reads();
                self.core.log.last()
            }
        };
        self.core.evict(replicated);
        self.set_timer();
    }

    fn ask_leader_for_reads(&mut self) {
        let Some(reads) = self.core.reads.take_open() else {
            return;
        };
        match self.core.leader {
            Some(leader) => {
                let patience = self.core.settings.election_min;
                let request = self.core.reads.ask(reads, self.core.now, patience);
                self.send_read_index(leader, request);
            }
            None => reads.fail(&mut self.core.effects),
        }
    }

    /// Asks again what the leader has not answered for long, and fails what it has not for too long.
    pub(crate) fn ask_leader_again(&mut self) {
        let Core {
            reads,
            effects,
            now,
            settings,
            ..
        } = &mut self.core;
        let again = reads.expire(effects, *now, settings.election_min);
        if let Some(leader) = self.core.leader {
            for request in again {
                self.send_read_index(leader, request);
            }
        }
    }

    fn send_read_index(&mut self, leader: PeerId, request: u64) {
        let boot = self.core.boot;
        self.core.send(leader, Body::ReadIndex { boot, request });
    }

    /// Asks for the earliest time at which something is due. A timer that is set for earlier stays: it will find nothing to do and be set anew.
    fn set_timer(&mut self) {
        let role = match &self.part {
            Part::Leader(leader) => Some(leader.deadline()),
            _ => self.election_deadline,
        };
        let reads = self.core.reads.deadline();
        let Some(due) = role.into_iter().chain(reads).min() else {
            return;
        };
        if self.timer.is_none_or(|timer| due < timer) {
            self.timer = Some(due);
            self.core.effects.push_back(Effect::SetTimer(due));
        }
    }
}
