//! The schedule of a run, drawn from its seed.

use super::{Aim, Change, Fault, Planned, Profile};
use crate::clock::Micros;
use crate::network::Weather;
use crate::rng::Rng;
use log::memory_disk::Survival;

/// Draws the schedule of a run: faults between `from` and `until`, ordered by time.
pub fn draw(
    profile: Profile,
    members: usize,
    from: Micros,
    until: Micros,
    rng: &mut Rng,
) -> Vec<Planned> {
    let rates = profile.rates();
    let mut plan = Vec::new();
    let frail = draw_frail(members, rng);
    let kinds: [(Micros, DrawOne); 30] = [
        (rates.crash, |drawing, at| drawing.crash(at)),
        (rates.power, |drawing, at| drawing.power_loss(at)),
        (rates.power_all, |drawing, at| drawing.power_loss_all(at)),
        (rates.cut, |drawing, at| drawing.cut(at)),
        (rates.weather, |drawing, at| drawing.weather(at)),
        (rates.pause, |drawing, at| drawing.pause(at)),
        (rates.wall, |drawing, at| drawing.step_wall(at)),
        (rates.drift, |drawing, at| drawing.drift(at)),
        (rates.disconnect, |drawing, at| drawing.disconnect(at)),
        (rates.transfer, |drawing, at| drawing.transfer(at)),
        (rates.sync_errors, |drawing, at| drawing.sync_errors(at)),
        (rates.full, |drawing, at| drawing.full(at)),
        (rates.replay, |drawing, at| drawing.replay(at)),
        (rates.slow, |drawing, at| drawing.slow(at)),
        (rates.snapshot_crash, |drawing, at| {
            drawing.snapshot_crash(at)
        }),
        (rates.flip, |drawing, at| drawing.flip(at)),
        (rates.wipe, |drawing, at| drawing.wipe(at)),
        (rates.leap, |drawing, at| drawing.leap(at)),
        (rates.change, |drawing, at| drawing.change(at)),
        (rates.upgrade, |drawing, at| drawing.upgrade(at)),
        (rates.breeze, |drawing, at| drawing.breeze(at)),
        (rates.write_errors, |drawing, at| drawing.write_errors(at)),
        (rates.read_errors, |drawing, at| drawing.read_errors(at)),
        (rates.leader, |drawing, at| drawing.leader(at)),
        (rates.dethrone, |drawing, at| drawing.dethrone(at)),
        (rates.sender, |drawing, at| drawing.sender(at)),
        (rates.hold, |drawing, at| drawing.hold(at)),
        (rates.race, |drawing, at| drawing.race(at)),
        (rates.late_votes, |drawing, at| drawing.late_votes(at)),
        (rates.late_answers, |drawing, at| drawing.late_answers(at)),
    ];
    for (mean, draw_one) in kinds {
        if mean == 0 {
            continue;
        }
        let mut at = from + rng.wait(mean);
        while at < until {
            draw_one(
                &mut Drawing {
                    plan: &mut plan,
                    rng,
                    members: members + profile.spares(),
                    frail: &frail,
                },
                at,
            );
            at += rng.wait(mean);
        }
    }
    plan.sort_by_key(|planned| planned.at);
    plan
}

/// Draws a fault of one kind at a time, and what mends it.
type DrawOne = fn(&mut Drawing<'_>, Micros);

pub(super) struct Drawing<'a> {
    plan: &'a mut Vec<Planned>,
    pub(super) rng: &'a mut Rng,
    pub(super) members: usize,
    frail: &'a [usize],
}

/// The minority whose disks rot and are lost; those of the others are sound, or nothing could be promised.
fn draw_frail(members: usize, rng: &mut Rng) -> Vec<usize> {
    let first = rng.below(members as u64) as usize;
    (0..(members - 1) / 2)
        .map(|n| (first + n) % members)
        .collect()
}

impl Drawing<'_> {
    pub(super) fn add(&mut self, at: Micros, fault: Fault) {
        self.plan.push(Planned { at, fault });
    }

    pub(super) fn member(&mut self) -> usize {
        self.rng.below(self.members as u64) as usize
    }

    fn survival(&mut self) -> Survival {
        *self.rng.pick(&[
            Survival::Nothing,
            Survival::Coin,
            Survival::Coin,
            Survival::Everything,
        ])
    }

    /// How long something is down: often shorter than an election, sometimes much longer.
    pub(super) fn outage(&mut self) -> Micros {
        match self.rng.below(4) {
            0 => self.rng.between(1_000, 100_000),
            1 | 2 => self.rng.between(100_000, 2_000_000),
            _ => self.rng.between(2_000_000, 10_000_000),
        }
    }

    fn crash(&mut self, at: Micros) {
        let member = self.member();
        let fault = match self.rng.below(3) {
            0 => Fault::Crash(member),
            1 => Fault::CrashAtEffect(member, self.rng.below(30) as u32),
            _ => Fault::CrashAtDisk(member, self.rng.below(12), None),
        };
        self.add(at, fault);
        let outage = self.outage();
        self.add(at + outage, Fault::Start(member));
    }

    fn power_loss(&mut self, at: Micros) {
        let (member, survival) = (self.member(), self.survival());
        let fault = match self.rng.below(2) {
            0 => Fault::PowerLoss(member, survival),
            _ => Fault::CrashAtDisk(member, self.rng.below(12), Some(survival)),
        };
        self.add(at, fault);
        let outage = self.outage();
        self.add(at + outage, Fault::Start(member));
    }

    fn power_loss_all(&mut self, at: Micros) {
        let survival = self.survival();
        let at_reply = self.rng.chance(500);
        self.add(
            at,
            if at_reply {
                Fault::PowerLossAtReply(survival)
            } else {
                Fault::PowerLossAll(survival)
            },
        );
        for member in 0..self.members {
            let outage = self.outage();
            self.add(at + outage, Fault::Start(member));
        }
    }

    fn cut(&mut self, at: Micros) {
        let links = self.links();
        self.add(at, Fault::Cut(links));
        let outage = self.outage();
        self.add(at + outage, Fault::Heal);
    }

    /// One member alone, two sides, one way only, or some links at random.
    fn links(&mut self) -> Vec<(usize, usize)> {
        let members = self.members;
        let all = (0..members)
            .flat_map(|a| (0..members).map(move |b| (a, b)))
            .filter(|(a, b)| a != b);
        let (one, shape) = (self.member(), self.rng.below(5));
        let side = self.rng.below(1 << members);
        let on_side = |member: usize| side & (1 << member) != 0;
        all.filter(|(a, b)| match shape {
            0 => *a == one || *b == one,
            1 => *a == one,
            2 => *b == one,
            3 => on_side(*a) != on_side(*b),
            _ => self.rng.chance(400),
        })
        .collect()
    }

    fn weather(&mut self, at: Micros) {
        let rng = &mut *self.rng;
        let weather = Weather {
            latency_min: rng.between(50, 500),
            latency_extra: *rng.pick(&[100, 500, 2_000, 30_000]),
            loss: *rng.pick(&[0, 5, 50, 200]),
            duplicates: *rng.pick(&[0, 10, 100]),
            reordered: *rng.pick(&[0, 50, 300]),
            stragglers: *rng.pick(&[0, 2, 20]),
            encoded: 250,
        };
        self.add(at, Fault::Weather(weather));
        let outage = self.outage();
        self.add(at + outage, Fault::Weather(Weather::CALM));
    }

    /// Mild weather.
    fn breeze(&mut self, at: Micros) {
        let rng = &mut *self.rng;
        let weather = Weather {
            latency_extra: *rng.pick(&[100, 500, 2_000]),
            loss: *rng.pick(&[0, 5, 20]),
            duplicates: *rng.pick(&[0, 10]),
            reordered: *rng.pick(&[0, 50]),
            stragglers: *rng.pick(&[0, 2]),
            ..Weather::CALM
        };
        self.add(at, Fault::Weather(weather));
        let outage = self.outage();
        self.add(at + outage, Fault::Weather(Weather::CALM));
    }

    fn pause(&mut self, at: Micros) {
        let member = self.member();
        self.add(at, Fault::Pause(member));
        let outage = self.outage();
        self.add(at + outage, Fault::Resume(member));
    }

    fn step_wall(&mut self, at: Micros) {
        let member = self.member();
        let by = *self.rng.pick(&[1_000, 61_000, 3_600_000, 86_400_000]);
        let by = if self.rng.chance(500) { by } else { -by };
        self.add(at, Fault::StepWall(member, by));
    }

    fn drift(&mut self, at: Micros) {
        let member = self.member();
        let drift = self.rng.between(0, 20_000) as i64 - 10_000;
        self.add(at, Fault::Drift(member, drift));
    }

    fn disconnect(&mut self, at: Micros) {
        // Those of the leader, and perhaps again and again before anything is acknowledged.
        if self.rng.chance(500) {
            let mut at = at;
            for _ in 0..*self.rng.pick(&[1, 1, 4, 8]) {
                self.add(at, Fault::Aimed(Aim::Disconnect));
                at += self.rng.between(10_000, 150_000);
            }
            return;
        }
        let a = self.member();
        let b = (a + 1 + self.rng.below(self.members as u64 - 1) as usize) % self.members;
        self.add(at, Fault::Disconnect(a, b));
    }

    fn sync_errors(&mut self, at: Micros) {
        let (member, count) = (self.member(), self.rng.between(1, 4) as u32);
        self.add(at, Fault::FailSyncs(member, count));
    }

    fn write_errors(&mut self, at: Micros) {
        let (member, count) = (self.member(), self.rng.between(1, 4) as u32);
        self.add(at, Fault::FailWrites(member, count));
    }

    /// A read may fail once on any disk, but not again and again on more than a minority: what cannot be read is as good as lost. Often while the
    /// process starts, which reads the most.
    fn read_errors(&mut self, at: Micros) {
        let (mut member, mut count) = (self.member(), 1);
        if !self.frail.is_empty() && self.rng.chance(500) {
            member = *self.rng.pick(self.frail);
            count = self.rng.between(2, 12) as u32;
        }
        self.add(at, Fault::FailReads(member, count));
        if self.rng.chance(500) {
            self.add(at, Fault::Crash(member));
            let outage = self.outage();
            self.add(at + outage, Fault::Start(member));
        }
    }

    /// One disk fills, or all of them together.
    fn full(&mut self, at: Micros) {
        let (one, all) = (self.member(), self.rng.chance(300));
        let (bytes, outage) = (self.rng.below(1 << 20), self.outage());
        for member in (0..self.members).filter(|member| all || *member == one) {
            self.add(at, Fault::Capacity(member, bytes));
            self.add(
                at + outage,
                Fault::Capacity(member, log::memory_disk::CAPACITY_BYTES),
            );
        }
    }

    fn replay(&mut self, at: Micros) {
        let count = self.rng.between(1, 40) as u32;
        self.add(at, Fault::Replay(count));
    }

    /// A disk stalls, for less or more than an election takes, or is slow for a while.
    fn slow(&mut self, at: Micros) {
        let (member, outage) = (self.member(), self.outage());
        if self.rng.chance(500) {
            return self.add(at, Fault::Stall(member, outage));
        }
        let times = *self.rng.pick(&[3, 10, 50]);
        self.add(at, Fault::Slow(member, times));
        self.add(at + outage, Fault::Slow(member, 1));
    }

    fn snapshot_crash(&mut self, at: Micros) {
        let (member, effects) = (self.member(), self.rng.below(12) as u32);
        self.add(at, Fault::CrashInSnapshot(member, effects));
        // Whenever it dies, somebody starts it again.
        for after in [3_000_000, 10_000_000, 30_000_000] {
            self.add(at + after, Fault::Start(member));
        }
    }

    fn flip(&mut self, at: Micros) {
        let Some(&member) = self.frail.first().map(|_| self.rng.pick(self.frail)) else {
            return;
        };
        let bits = *self.rng.pick(&[1, 1, 1, 3, 20]);
        if self.rng.chance(500) {
            return self.add(at, Fault::FlipBits(member, bits));
        }
        self.add(at, Fault::Crash(member));
        self.add(at + 1, Fault::FlipBits(member, bits));
        let outage = self.outage();
        self.add(at + 2 + outage, Fault::Start(member));
    }

    fn wipe(&mut self, at: Micros) {
        let Some(&member) = self.frail.first().map(|_| self.rng.pick(self.frail)) else {
            return;
        };
        self.add(at, Fault::Wipe(member));
        let outage = self.outage();
        self.add(at + outage, Fault::Start(member));
    }

    /// A leap second: each machine's wall clock repeats or skips one, at once or smeared over a while.
    fn leap(&mut self, at: Micros) {
        let by_ms = if self.rng.chance(500) { 1_000 } else { -1_000 };
        let smeared = self.rng.chance(300);
        for member in 0..self.members {
            let after = self.rng.below(500_000);
            if !smeared {
                self.add(at + after, Fault::StepWall(member, by_ms));
                continue;
            }
            for step in 0..10 {
                let at = at + after + step * 500_000;
                self.add(at, Fault::StepWall(member, by_ms / 10));
            }
        }
    }

    fn change(&mut self, at: Micros) {
        let choice = self.rng.next();
        let change = match self.rng.below(6) {
            0 | 1 => Change::Add(choice),
            2 | 3 => Change::Remove(choice),
            4 => Change::Demote(choice),
            _ => Change::Replace(choice),
        };
        self.add(at, Fault::Reconfigure(change));
        // Leaders die while they change members.
        if self.rng.chance(300) {
            let after = self.rng.below(300_000);
            for member in 0..self.members {
                self.add(at + after, Fault::Transfer(member));
            }
        } else if self.rng.chance(300) {
            let after = self.rng.below(100_000);
            let member = self.member();
            self.add(at + after, Fault::Crash(member));
            let outage = self.outage();
            self.add(at + after + outage, Fault::Start(member));
        }
    }

    /// One machine after the other gets the next version. The operator tries to switch the feature on after each of them; all but the last try come too early.
    fn upgrade(&mut self, at: Micros) {
        let (first, mean) = (self.member(), *self.rng.pick(&[300_000, 2_000_000]));
        let mut at = at;
        for n in 0..self.members {
            self.add(at, Fault::Upgrade((first + n) % self.members));
            at += 100_000 + self.rng.wait(mean);
            self.add(at, Fault::SwitchOn);
        }
        // Members tell the leader what they know, which takes a moment.
        self.add(at + 2_000_000, Fault::SwitchOn);
    }

    fn transfer(&mut self, at: Micros) {
        for member in 0..self.members {
            self.add(at, Fault::Transfer(member));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_ordered_and_follows_from_the_seed() {
        for profile in Profile::ALL {
            let draw_with = |seed| draw(profile, 3, 1_000, 60_000_000, &mut Rng::new(seed));
            let plan = draw_with(5);
            assert_eq!(plan, draw_with(5));
            assert!(plan.windows(2).all(|pair| pair[0].at <= pair[1].at));
            assert_eq!(plan.is_empty(), profile == Profile::Calm);
            assert_eq!(Profile::named(profile.name()), Some(profile));
        }
    }

    #[test]
    fn everyone_who_goes_down_is_started_again() {
        let plan = draw(Profile::Chaos, 5, 0, 100_000_000, &mut Rng::new(1));
        for planned in &plan {
            let (Fault::Crash(m) | Fault::PowerLoss(m, _)) = &planned.fault else {
                continue;
            };
            assert!(
                plan.iter()
                    .any(|later| later.at >= planned.at && later.fault == Fault::Start(*m))
            );
        }
    }
}
