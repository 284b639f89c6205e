//! Faults of the schedule happen.

use super::*;

impl World {
    pub(super) fn planned_fault(&mut self, position: usize) {
        let fault = self.faults[position].fault.clone();
        self.trace
            .note(self.now, "", &[23, position as u64], || fault.to_string());
        self.timeline
            .note(self.now, None, || What::Fault(fault.clone()));
        self.fault(fault);
    }

    /// Lets something go wrong, or mends it.
    pub(crate) fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Crash(member) => self.stop(member, None),
            Fault::CrashAtEffect(member, effects) => {
                if let Some(process) = &mut self.members[member].process {
                    process.doomed_after = Some(effects);
                }
            }
            Fault::CrashAtDisk(member, operations, survival) => {
                if self.members[member].process.is_some() {
                    self.members[member].platter.set_fuse(operations, survival);
                }
            }
            Fault::PowerLoss(member, survival) => self.stop(member, Some(survival)),
            Fault::PowerLossAtReply(survival) => self.power_fails_at_reply = Some(survival),
            Fault::PowerLossAll(survival) => {
                (0..self.members.len()).for_each(|member| self.stop(member, Some(survival)))
            }
            Fault::Start(member) => self.start(member),
            Fault::Cut(links) => links
                .iter()
                .for_each(|(from, to)| self.network.set_cut(*from, *to, true)),
            Fault::Heal => self.network.heal(),
            Fault::Pause(member) => {
                self.members[member].paused = self.members[member].process.is_some()
            }
            Fault::Resume(member) => self.resume(member),
            Fault::Weather(weather) => self.network.set_weather(weather),
            Fault::StepWall(member, by_ms) => self.members[member].clock.step_wall(by_ms),
            Fault::Drift(member, drift) => self.members[member].clock.set_drift(self.now, drift),
            Fault::Disconnect(a, b) => {
                for (at, peer) in [(a, b), (b, a)] {
                    let when = self.now + self.rng.between(1, 500);
                    self.queue.plan(when, Event::PeerLost { at, peer });
                }
            }
            Fault::Transfer(member) => self.give(member, Input::Transfer { target: None }),
            Fault::Capacity(member, bytes) => self.members[member].platter.set_capacity(bytes),
            Fault::FailSyncs(member, count) => self.members[member].platter.fail_syncs(count),
        }
    }

    pub(super) fn resume(&mut self, member: usize) {
        if std::mem::take(&mut self.members[member].paused) {
            self.wake_threads(member);
        }
    }
}
