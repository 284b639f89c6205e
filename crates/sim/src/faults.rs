//! What goes wrong, and when: a schedule drawn from the seed before the run begins, as plain values, so that a run can be replayed with a
//! smaller one.

use crate::clock::Micros;
use crate::network::Weather;
use crate::rng::Rng;
use log::memory_disk::Survival;
use std::fmt;

/// One thing that goes wrong, or is mended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9`: the disk's cache stays.
    Crash(usize),
    /// The process dies between two effects of a coming turn.
    CrashAtEffect(usize, u32),
    /// The process dies in the middle of its disk operations; with the power or without.
    CrashAtDisk(usize, u64, Option<Survival>),
    /// The machine loses power.
    PowerLoss(usize, Survival),
    /// All machines lose power.
    PowerLossAll(Survival),
    /// All machines lose power at the very moment a member acknowledges a change.
    PowerLossAtReply(Survival),
    /// Starts the process if it does not run.
    Start(usize),
    /// Cuts these links, each from one member to another.
    Cut(Vec<(usize, usize)>),
    /// Mends all links.
    Heal,
    /// Stops the process for a while: SIGSTOP.
    Pause(usize),
    /// Lets it run again: SIGCONT.
    Resume(usize),
    /// The weather changes.
    Weather(Weather),
    /// Steps the wall clock, in milliseconds.
    StepWall(usize, i64),
    /// Changes the drift of the monotonic clock, in millionths.
    Drift(usize, i64),
    /// Both ends see their connection close; it can be made anew at once.
    Disconnect(usize, usize),
    /// An operator asks the member to hand leadership over.
    Transfer(usize),
    /// The next syncs of this disk fail.
    FailSyncs(usize, u32),
    /// This disk has room for so many bytes from now on.
    Capacity(usize, u64),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |member: &usize| format!("n{}", member + 1);
        match self {
            Fault::Crash(m) => write!(f, "{} is killed", name(m)),
            Fault::CrashAtEffect(m, n) => write!(
                f,
                "{} will be killed before its effect {n} from now",
                name(m)
            ),
            Fault::CrashAtDisk(m, n, None) => write!(
                f,
                "{} will be killed after {n} more disk operations",
                name(m)
            ),
            Fault::CrashAtDisk(m, n, Some(_)) => write!(
                f,
                "{} will lose power after {n} more disk operations",
                name(m)
            ),
            Fault::PowerLoss(m, survival) => write!(
                f,
                "{} loses power ({survival:?} of the unsynced survives)",
                name(m)
            ),
            Fault::PowerLossAll(survival) => {
                write!(f, "all lose power ({survival:?} of the unsynced survives)")
            }
            Fault::PowerLossAtReply(survival) => {
                write!(
                    f,
                    "all will lose power when a change is acknowledged ({survival:?} of the unsynced survives)"
                )
            }
            Fault::Start(m) => write!(f, "{} is to run", name(m)),
            Fault::Cut(links) => {
                write!(f, "cut:")?;
                links
                    .iter()
                    .try_for_each(|(from, to)| write!(f, " {}→{}", name(from), name(to)))
            }
            Fault::Heal => write!(f, "all links are mended"),
            Fault::Pause(m) => write!(f, "{} is paused", name(m)),
            Fault::Resume(m) => write!(f, "{} goes on", name(m)),
            Fault::Weather(weather) => write!(f, "{weather:?}"),
            Fault::StepWall(m, by) => {
                write!(f, "the wall clock of {} is stepped by {by} ms", name(m))
            }
            Fault::Drift(m, drift) => {
                write!(f, "the clock of {} drifts by {drift} millionths", name(m))
            }
            Fault::Disconnect(a, b) => {
                write!(f, "the connection of {} and {} breaks", name(a), name(b))
            }
            Fault::Transfer(m) => write!(f, "{} is asked to hand over", name(m)),
            Fault::Capacity(m, bytes) => {
                write!(f, "the disk of {} has room for {bytes} bytes", name(m))
            }
            Fault::FailSyncs(m, n) => write!(f, "the next {n} syncs of {} fail", name(m)),
        }
    }
}

/// A fault and its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// When, in true time.
    pub at: Micros,
    /// What.
    pub fault: Fault,
}

/// Which faults a run meets, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// Nothing goes wrong.
    Calm,
    /// Messages are lost, doubled, reordered; links are cut.
    Lossy,
    /// Processes and machines go down.
    Crashy,
    /// Clocks step and drift, processes pause.
    Clockwork,
    /// All of it.
    Chaos,
}

impl Profile {
    /// All of them.
    pub const ALL: [Profile; 5] = [
        Profile::Calm,
        Profile::Lossy,
        Profile::Crashy,
        Profile::Clockwork,
        Profile::Chaos,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Calm => "calm",
            Profile::Lossy => "lossy",
            Profile::Crashy => "crashy",
            Profile::Clockwork => "clockwork",
            Profile::Chaos => "chaos",
        }
    }

    /// The profile of this name.
    pub fn named(name: &str) -> Option<Profile> {
        Profile::ALL
            .into_iter()
            .find(|profile| profile.name() == name)
    }

    /// Clocks drift from the start.
    pub fn drifts(self) -> bool {
        matches!(self, Profile::Clockwork | Profile::Chaos)
    }

    /// Mean microseconds between faults of each kind; 0: never.
    fn rates(self) -> Rates {
        const S: Micros = 1_000_000;
        const NONE: Rates = Rates {
            crash: 0,
            power: 0,
            power_all: 0,
            cut: 0,
            weather: 0,
            pause: 0,
            wall: 0,
            drift: 0,
            disconnect: 0,
            transfer: 0,
            sync_errors: 0,
            full: 0,
        };
        match self {
            Profile::Calm => NONE,
            Profile::Lossy => Rates {
                cut: 6 * S,
                weather: 5 * S,
                disconnect: 8 * S,
                transfer: 20 * S,
                ..NONE
            },
            Profile::Crashy => Rates {
                crash: 5 * S,
                power: 8 * S,
                power_all: 25 * S,
                transfer: 20 * S,
                sync_errors: 10 * S,
                ..NONE
            },
            Profile::Clockwork => Rates {
                pause: 5 * S,
                wall: 4 * S,
                drift: 5 * S,
                crash: 25 * S,
                transfer: 20 * S,
                ..NONE
            },
            Profile::Chaos => Rates {
                crash: 10 * S,
                power: 15 * S,
                power_all: 40 * S,
                cut: 12 * S,
                weather: 10 * S,
                pause: 12 * S,
                wall: 15 * S,
                drift: 15 * S,
                disconnect: 15 * S,
                transfer: 25 * S,
                sync_errors: 20 * S,
                full: 30 * S,
            },
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Clone, Copy, Debug)]
struct Rates {
    crash: Micros,
    power: Micros,
    power_all: Micros,
    cut: Micros,
    weather: Micros,
    pause: Micros,
    wall: Micros,
    drift: Micros,
    disconnect: Micros,
    transfer: Micros,
    sync_errors: Micros,
    full: Micros,
}

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
    let kinds: [(Micros, DrawOne); 12] = [
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
                    members,
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

struct Drawing<'a> {
    plan: &'a mut Vec<Planned>,
    rng: &'a mut Rng,
    members: usize,
}

impl Drawing<'_> {
    fn add(&mut self, at: Micros, fault: Fault) {
        self.plan.push(Planned { at, fault });
    }

    fn member(&mut self) -> usize {
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
    fn outage(&mut self) -> Micros {
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
        let a = self.member();
        let b = (a + 1 + self.rng.below(self.members as u64 - 1) as usize) % self.members;
        self.add(at, Fault::Disconnect(a, b));
    }

    fn sync_errors(&mut self, at: Micros) {
        let (member, count) = (self.member(), self.rng.between(1, 4) as u32);
        self.add(at, Fault::FailSyncs(member, count));
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
