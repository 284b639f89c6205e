//! One run from one seed, and what came of it.

use crate::clients::Load;
use crate::clock::Micros;
use crate::faults::{self, Planned, Profile};
use crate::oracle::Violation;
use crate::rng::Rng;
use crate::timeline::{Timeline, Window};
use crate::world::{Counts, Setup, Tight, World};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Everything follows from it.
    pub seed: u64,
    /// Which faults.
    pub profile: Profile,
    /// Number of members; `None`: drawn from the seed, mostly three, sometimes five.
    pub members: Option<usize>,
    /// Seconds of simulated time with faults.
    pub seconds: u64,
    /// Keep the text of the trace.
    pub trace: bool,
    /// Keep the timeline, its many moments inside this window.
    pub timeline: Option<Window>,
    /// A bug put in on purpose, to see that it is found.
    #[cfg(feature = "mutations")]
    pub mutation: Option<crate::mutation::Mutation>,
    /// Of the faults drawn from the seed, let only these happen, by their place in the schedule; `None`: all. A shrunk run is named so.
    pub only_faults: Option<Vec<usize>>,
    /// Mend everything after this many seconds already, though the faults are drawn for `seconds`.
    pub heal_at: Option<u64>,
}

impl Options {
    /// A run of this seed and profile, as the command line gives it.
    pub fn new(seed: u64, profile: Profile) -> Options {
        Options {
            seed,
            profile,
            members: None,
            seconds: SECONDS,
            trace: false,
            timeline: None,
            #[cfg(feature = "mutations")]
            mutation: None,
            only_faults: None,
            heal_at: None,
        }
    }
}

impl Options {
    /// True time at which everything is mended.
    fn healed_at(&self) -> Micros {
        self.heal_at
            .map_or(self.seconds, |seconds| self.seconds.min(seconds))
            * 1_000_000
    }

    /// The number of members, and the draws that follow.
    fn draw_members(&self) -> (Rng, usize) {
        let mut rng = Rng::fork(self.seed, 10);
        let drawn = if rng.chance(200) { 5 } else { 3 };
        (rng, self.members.unwrap_or(drawn))
    }
}

/// The faults that happen in a run, each with its place among all that are drawn from the seed.
pub fn schedule(options: &Options) -> Vec<(usize, Planned)> {
    let (_, members) = options.draw_members();
    let drawn = faults::draw(
        options.profile,
        members,
        1_000_000,
        options.seconds * 1_000_000,
        &mut Rng::fork(options.seed, 11),
    );
    let wanted = |place: usize, planned: &Planned| {
        planned.at < options.healed_at()
            && options
                .only_faults
                .as_ref()
                .is_none_or(|only| only.contains(&place))
    };
    drawn
        .into_iter()
        .enumerate()
        .filter(|(place, planned)| wanted(*place, planned))
        .collect()
}

/// Seconds of simulated time with faults, unless asked otherwise.
pub const SECONDS: u64 = 60;

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The profile.
    pub profile: Profile,
    /// Number of members at the beginning.
    pub members: usize,
    /// Number of machines: the members, and spare ones that may become some.
    pub machines: usize,
    /// Hash over everything that happened.
    pub trace_hash: u64,
    /// The text of the trace, if it was asked for.
    pub trace: String,
    /// The timeline, if it was asked for.
    pub timeline: Timeline,
    /// Broken promises; a run ends with the first.
    pub violations: Vec<Violation>,
    /// What happened, in numbers.
    pub stats: Stats,
    /// The command line that runs this again.
    pub replay: String,
}

/// What happened in a run, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Simulated time.
    pub simulated: Micros,
    /// Events, turns, messages and the like.
    pub counts: Counts,
    /// Entries decided.
    pub decided: u64,
    /// The newest revision.
    pub revision: i64,
    /// Terms that had a leader.
    pub terms_led: u64,
    /// Requests answered.
    pub answered: u64,
    /// Requests that failed or were never answered.
    pub failed: u64,
    /// Leases that ended by time.
    pub expiries: u64,
    /// Watch events delivered.
    pub watch_events: u64,
    /// Locks granted.
    pub grants: u64,
    /// Guarded writes that were refused.
    pub guards_refused: u64,
    /// Requests answered once more as before.
    pub repeated: u64,
    /// Changes of users.
    pub user_changes: u64,
    /// Requests that their users might not make.
    pub denied: u64,
    /// Bytes written to all disks.
    pub bytes_written: u64,
    /// Syncs of all disks.
    pub syncs: u64,
    /// Keys whose history was found linearizable.
    pub keys_checked: u64,
    /// Keys whose search was given up.
    pub searches_given_up: u64,
}

/// Runs one world to its end. The same options give the same report, on every machine.
pub fn run(options: &Options) -> Report {
    #[cfg(feature = "mutations")]
    let _put_in = crate::mutation::choose(options.mutation);
    let (mut rng, members) = options.draw_members();
    let heal_at = options.healed_at();
    let tight = draw_tight(options.seed);
    let setup = Setup {
        seed: options.seed,
        members,
        spares: options.profile.spares(),
        far_apart: options.profile.is_far_apart(),
        faults: schedule(options)
            .into_iter()
            .map(|(_, planned)| planned)
            .collect(),
        heal_at,
        load: Load {
            writers: 4,
            // Enough for several leases to end in one batch, sometimes.
            lessees: if options.seed.is_multiple_of(4) {
                12
            } else {
                2
            },
            watchers: 2,
            programs: if tight.is_some() { 0 } else { 2 },
            think: *rng.pick(&[50_000, 200_000, 400_000, 3_000_000]),
            keys: rng.between(3, 8),
            bulk: rng.chance(200) || tight.is_some(),
            users: options.seed % 7 == 3,
        },
        tight,
        drifts: options.profile.drifts(),
        trace: options.trace,
        timeline: options.timeline,
        directed: None,
    };
    let mut report = Report {
        seed: options.seed,
        profile: options.profile,
        members,
        machines: members + options.profile.spares(),
        trace_hash: 0,
        trace: String::new(),
        timeline: Timeline::default(),
        violations: Vec::new(),
        stats: Stats::default(),
        replay: replay(options),
    };
    let mut world = match guarded(|| World::new(setup)) {
        Ok(world) => world,
        Err(text) => {
            let property = "assertion";
            report.violations.push(Violation {
                at: 0,
                property,
                text,
            });
            return report;
        }
    };
    let searched = guarded(|| {
        world.run();
        match world.violation {
            None => world.history.check_linearizability(),
            Some(_) => Ok((0, 0)),
        }
    });
    let searched = searched
        .unwrap_or_else(|text| Err(("assertion", text)))
        .unwrap_or_else(|(property, text)| {
            world.fail(property, text);
            (0, 0)
        });
    report.violations.extend(world.violation.take());
    report.stats = stats(&world, searched);
    report.trace_hash = world.trace.hash();
    report.timeline = std::mem::take(&mut world.timeline);
    report.trace = std::mem::replace(&mut world.trace, crate::trace::Trace::new(false)).into_text();
    report
}

/// Every fourteenth life has little room: without programs, of whose locks and numbers the model does not know what they take.
fn draw_tight(seed: u64) -> Option<Tight> {
    let mut rng = Rng::fork(seed, 12);
    (seed % 14 == 13).then(|| Tight {
        bytes_max: rng.between(40 << 10, 160 << 10),
        retention: rng.between(1_500_000, 3_000_000),
    })
}

/// Runs `work`; a panic in it (a broken assertion of a member) gives its words.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
        text.unwrap_or_else(|| "a panic without words".into())
    })
}

fn stats(world: &World, (keys_checked, searches_given_up): (u64, u64)) -> Stats {
    let (answered, failed) = world.history.counts();
    let disks = world.disk_counts();
    let (grants, guards_refused) = world.history.locks().counts();
    let (user_changes, denied) = world.history.rights().counts();
    Stats {
        simulated: world.now,
        counts: world.counts,
        decided: world.consensus.chain().len() as u64,
        revision: world.history.model().revision(),
        terms_led: world.consensus.terms_led() as u64,
        answered,
        failed,
        expiries: world.leases.expiries(),
        watch_events: world.clients.events_delivered(),
        grants,
        guards_refused,
        repeated: world.history.once().repeated(),
        user_changes,
        denied,
        bytes_written: disks.iter().map(|counts| counts.bytes_written).sum(),
        syncs: disks.iter().map(|counts| counts.syncs).sum(),
        keys_checked,
        searches_given_up,
    }
}

fn replay(options: &Options) -> String {
    let mut line = format!(
        "synod sim --profile {} --seed {}",
        options.profile, options.seed
    );
    if let Some(members) = options.members {
        line += &format!(" --members {members}");
    }
    if options.seconds != SECONDS {
        line += &format!(" --seconds {}", options.seconds);
    }
    if let Some(seconds) = options.heal_at {
        line += &format!(" --heal-at {seconds}");
    }
    if let Some(only) = &options.only_faults {
        let places: Vec<String> = only.iter().map(usize::to_string).collect();
        let places = if places.is_empty() {
            "none".into()
        } else {
            places.join(",")
        };
        line += &format!(" --only-faults {places}");
    }
    line
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = &self.stats;
        let counts = &stats.counts;
        writeln!(
            f,
            "seed {} profile {}: {} members, {}.{} s, {} events, {} terms led, {} entries decided, revision {}",
            self.seed,
            self.profile,
            self.members,
            stats.simulated / 1_000_000,
            stats.simulated / 100_000 % 10,
            counts.events,
            stats.terms_led,
            stats.decided,
            stats.revision
        )?;
        writeln!(
            f,
            "  {} requests answered, {} failed; {} leases ended by time, {} watch events; {} restarts, {} power losses, {} snapshots, {} installed",
            stats.answered,
            stats.failed,
            stats.expiries,
            stats.watch_events,
            counts.restarts,
            counts.power_losses,
            counts.snapshots,
            counts.installs
        )?;
        writeln!(
            f,
            "  {} locks granted, {} guarded writes refused, {} requests answered again as before",
            stats.grants, stats.guards_refused, stats.repeated
        )?;
        if stats.user_changes > 0 {
            writeln!(
                f,
                "  {} changes of users, {} requests denied",
                stats.user_changes, stats.denied
            )?;
        }
        writeln!(
            f,
            "  trace {:016x}; {} key histories linearizable, {} too long to decide",
            self.trace_hash, stats.keys_checked, stats.searches_given_up
        )?;
        for violation in &self.violations {
            writeln!(f, "  VIOLATION {violation}")?;
            writeln!(f, "  replay: {}", self.replay)?;
        }
        Ok(())
    }
}
