//! Faults of the schedule happen.

use super::*;

/// Messages kept at most to come again.
const OLD_MESSAGES: usize = 300;

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
            Fault::Mend(links) => links
                .iter()
                .for_each(|(from, to)| self.network.set_cut(*from, *to, false)),
            Fault::Heal => self.network.heal(),
            Fault::Pause(member) => self.pause(member),
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
            Fault::Replay(count) => self.replay(count),
            // What such a disk has begun ends with the stall: no later than all faults do.
            Fault::Stall(member, time) => {
                let until = (self.now + time).min(self.heal_at);
                let machine = &mut self.members[member];
                machine.stalled_until = machine.stalled_until.max(until);
            }
            Fault::Slow(member, times) => self.members[member].slow = times,
            Fault::CrashInSnapshot(member, effects) => {
                self.members[member].doomed_in_snapshot = Some(effects)
            }
            Fault::FlipBits(member, bits) => {
                let machine = &mut self.members[member];
                for _ in 0..bits {
                    // Who it is stands in two tiny files. Without them a member needs an operator, which is not to be the usual case.
                    let any = self.rng.chance(50);
                    let concerns =
                        |name: &str| any || name.starts_with("log") || name.starts_with("snapshot");
                    machine.rotten |= machine.platter.flip_any_bit(concerns);
                }
            }
            Fault::Wipe(member) => {
                if self.members[member].in_service {
                    self.wipe(member);
                }
            }
            Fault::Reconfigure(change) => self.reconfigure(change),
            Fault::Upgrade(member) => self.upgrade(member),
            Fault::SwitchOn => self.switch_on(),
            Fault::Aimed(aim) => self.aim(aim),
            Fault::FailWrites(member, count) => self.members[member].platter.fail_writes(count),
            Fault::FailReads(member, count) => {
                let machine = &mut self.members[member];
                machine.platter.fail_reads(count);
                machine.rotten |= machine.platter.was_damaged();
            }
            Fault::FailSyncs(member, count) => self.members[member].platter.fail_syncs(count),
        }
    }

    /// Old messages arrive once more, of whatever terms and boots.
    fn replay(&mut self, count: u32) {
        let Some(old) = self.old_messages.as_ref().filter(|old| !old.is_empty()) else {
            return;
        };
        for _ in 0..count {
            let OldMessage { from, to, message } = self.rng.pick(old);
            let event = Event::Deliver {
                from: from.0,
                to: to.0,
                sender: from.1,
                addressee: to.1,
                message: message.clone(),
            };
            self.queue.plan(self.now + self.rng.below(10_000), event);
        }
    }

    /// Keeps some messages to come again.
    pub(crate) fn keep_message(&mut self, old: impl FnOnce() -> OldMessage) {
        let Some(kept) = &mut self.old_messages else {
            return;
        };
        if kept.len() < OLD_MESSAGES {
            kept.push(old());
        } else if self.rng.chance(20) {
            let place = self.rng.below(OLD_MESSAGES as u64) as usize;
            kept[place] = old();
        }
    }

    fn pause(&mut self, member: usize) {
        let machine = &mut self.members[member];
        if machine.process.is_some() && !machine.paused {
            machine.paused = true;
            machine.paused_at = self.now;
        }
    }

    pub(super) fn resume(&mut self, member: usize) {
        let machine = &mut self.members[member];
        if std::mem::take(&mut machine.paused) {
            self.leases.on_resumed(member, self.now - machine.paused_at);
            self.wake_threads(member);
        }
    }
}
