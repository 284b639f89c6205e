//! What goes wrong, and when: a schedule drawn from the seed before the run begins, as plain values, so that a run can be replayed with a
//! smaller one.

mod aim;
mod draw;
mod draw_aims;
mod profile;

pub use aim::{Aim, Blow, Hold, Said, Strike, Way};
pub use draw::draw;
pub use profile::Profile;

use crate::clock::Micros;
use crate::network::Weather;
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
    /// Mends these.
    Mend(Vec<(usize, usize)>),
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
    /// The next writes to this disk fail.
    FailWrites(usize, u32),
    /// The next reads of this disk fail, whether the process is at work or starts.
    FailReads(usize, u32),
    /// This disk has room for so many bytes from now on.
    Capacity(usize, u64),
    /// So many old messages, of whatever terms and boots, arrive once more.
    Replay(u32),
    /// This disk does nothing for so long.
    Stall(usize, Micros),
    /// This disk takes so many times as long as usual.
    Slow(usize, u64),
    /// The process dies at its effect of this number from the first step of a snapshot transfer on.
    CrashInSnapshot(usize, u32),
    /// So many bits are flipped in files of this disk, whether the process is down or at work.
    FlipBits(usize, u32),
    /// The machine gets an empty disk, and starts with the flags it had.
    Wipe(usize),
    /// An operator changes the members.
    Reconfigure(Change),
    /// The process is restarted with the next version of the program.
    Upgrade(usize),
    /// An operator switches the new feature on, if all members know it.
    SwitchOn,
    /// What goes wrong, or with whom, depends on what members are doing.
    Aimed(Aim),
}

/// What an operator does to the cell's members. The number chooses among those it can be done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A spare machine becomes a learner, and by itself a voter.
    Add(u64),
    /// A member leaves.
    Remove(u64),
    /// A voter becomes a learner (and later by itself a voter again).
    Demote(u64),
    /// All learners become voters at once, and up to two voters leave: a joint change of many.
    Replace(u64),
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
            Fault::PowerLoss(m, survival) => {
                write!(f, "{} loses power ({})", name(m), survives(*survival))
            }
            Fault::PowerLossAll(survival) => {
                write!(f, "all lose power ({})", survives(*survival))
            }
            Fault::PowerLossAtReply(survival) => {
                write!(
                    f,
                    "all will lose power when a change is acknowledged ({})",
                    survives(*survival)
                )
            }
            Fault::Start(m) => write!(f, "{} is to run", name(m)),
            Fault::Cut(links) | Fault::Mend(links) => {
                let cut = matches!(self, Fault::Cut(_));
                f.write_str(if cut { "cut:" } else { "mended:" })?;
                links
                    .iter()
                    .try_for_each(|(from, to)| write!(f, " {}→{}", name(from), name(to)))
            }
            Fault::Heal => write!(f, "all links are mended"),
            Fault::Pause(m) => write!(f, "{} is paused", name(m)),
            Fault::Resume(m) => write!(f, "{} goes on", name(m)),
            Fault::Weather(weather) => f.write_str(&weather_text(weather)),
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
            Fault::Capacity(m, bytes) if *bytes == log::memory_disk::CAPACITY_BYTES => {
                write!(f, "the disk of {} has room again", name(m))
            }
            Fault::Capacity(m, bytes) => {
                write!(f, "the disk of {} has room for {bytes} bytes", name(m))
            }
            Fault::FailSyncs(m, n) => write!(f, "the next {n} syncs of {} fail", name(m)),
            Fault::FailWrites(m, n) => write!(f, "the next {n} writes of {} fail", name(m)),
            Fault::FailReads(m, n) => write!(f, "the next {n} reads of {} fail", name(m)),
            Fault::Replay(n) => write!(f, "{n} old messages arrive once more"),
            Fault::Stall(m, time) => {
                write!(f, "the disk of {} stalls for {}", name(m), span(*time))
            }
            Fault::Slow(m, 1) => write!(f, "the disk of {} is as fast as before", name(m)),
            Fault::Slow(m, n) => write!(f, "the disk of {} is {n} times slower", name(m)),
            Fault::CrashInSnapshot(m, n) => write!(
                f,
                "{} will be killed at effect {n} of its next snapshot transfer",
                name(m)
            ),
            Fault::FlipBits(m, n) => {
                write!(f, "{n} bits are flipped on the disk of {}", name(m))
            }
            Fault::Wipe(m) => write!(f, "{} gets an empty disk", name(m)),
            Fault::Reconfigure(change) => write!(f, "an operator {}", wanted(change)),
            Fault::Upgrade(m) => write!(f, "{} is restarted with the next version", name(m)),
            Fault::SwitchOn => write!(f, "an operator switches the new feature on"),
            Fault::Aimed(aim) => write!(f, "{aim}"),
        }
    }
}

/// A time in words, about as exact as a reader wants it.
fn span(time: Micros) -> String {
    match time {
        0..1_000 => format!("{time} us"),
        1_000..1_000_000 => format!("{} ms", time / 1_000),
        _ => format!("{}.{} s", time / 1_000_000, time / 100_000 % 10),
    }
}

fn survives(survival: Survival) -> &'static str {
    match survival {
        Survival::Nothing => "nothing of the unsynced survives",
        Survival::Everything => "all of the unsynced survives",
        Survival::Coin => "some of the unsynced survives",
    }
}

fn weather_text(weather: &Weather) -> String {
    if *weather == Weather::CALM {
        return "the network is quiet".into();
    }
    let rates = [
        (weather.loss, "are lost"),
        (weather.duplicates, "arrive twice"),
        (weather.reordered, "may overtake others"),
        (weather.stragglers, "are seconds late"),
    ];
    let mut text = format!(
        "the network changes: {} us and about {} more a way",
        weather.latency_min, weather.latency_extra
    );
    let mut of = " of a thousand messages";
    for (rate, what) in rates.iter().filter(|(rate, _)| *rate > 0) {
        text += &format!(", {rate}{of} {what}");
        of = "";
    }
    text
}

fn wanted(change: &Change) -> &'static str {
    match change {
        Change::Add(_) => "adds a member",
        Change::Remove(_) => "removes a member",
        Change::Demote(_) => "makes a voter a learner",
        Change::Replace(_) => "makes all learners voters and may let voters go",
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
