//! `synod sim`: whole clusters on simulated time. One run, many runs, a smaller failing run, or a scenario to look at.

mod batch;
mod one;
mod scenario;
mod shrinking;

use crate::output::Failed;
use clap::builder::PossibleValuesParser;
use clap::{ArgGroup, Args};
use sim::{Detail, Options, Profile, Window};
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  synod sim --seed 42                                one run; the same seed gives the same run, on any machine
  synod sim --seed 42 --trace                        tell what happens in it
  synod sim --profile crashy --seed 8213 --shrink    look for a smaller run that fails in the same way
  synod sim --scenario raft-split-vote               a story from the books, played by the real thing
  synod sim --scenario redlock-pause                 what breaks a lock; synod-pause is ours under the same trouble
  synod sim --seeds 0..200 --profile all --threads 2 --random-for 120s

Exit code: 0 all promises kept, 1 a promise was broken, 2 the command line makes no sense.";

/// The word for all profiles.
const ALL: &str = "all";

#[derive(Args)]
#[command(after_help = EXAMPLES, group(ArgGroup::new("shown").args(["trace", "picture"]).multiple(true)))]
pub(crate) struct SimArgs {
    /// Play a story to look at, such as raft-split-vote; "list" lists them
    #[arg(long, value_name = "NAME", conflicts_with_all = ["seed", "seeds", "profile", "members", "seconds", "random_for", "threads", "shrink", "heal_at", "only_faults", "trace", "from", "to", "detail"])]
    scenario: Option<String>,
    /// Everything in the run follows from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run these seeds, the last one excluded, and print a line for each profile
    #[arg(long, value_name = "FROM..TO", value_parser = seed_range, conflicts_with_all = ["seed", "trace", "shrink"])]
    seeds: Option<std::ops::Range<u64>>,
    /// Which faults happen; "all" needs --seeds or --random-for
    #[arg(long, default_value = "chaos", value_parser = profiles())]
    profile: String,
    /// Number of members [default: drawn from the seed]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u8).range(1..=9))]
    members: Option<u8>,
    /// Simulated seconds with faults
    #[arg(long, value_name = "COUNT", default_value_t = sim::SECONDS, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    seconds: u64,
    /// After the seeds, run seeds that nobody chose for this long; they are printed
    #[arg(long, value_name = "DURATION", value_parser = crate::duration, conflicts_with_all = ["seed", "trace", "shrink"])]
    random_for: Option<Duration>,
    /// Runs at the same time, with --seeds and --random-for
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
    /// If the run fails, look for a smaller one that fails in the same way
    #[arg(long)]
    shrink: bool,
    /// Stop looking after this long
    #[arg(long, value_name = "DURATION", default_value = "120s", value_parser = crate::duration, requires = "shrink")]
    shrink_for: Duration,
    /// Mend everything after so many seconds already (a shrunk run says so)
    #[arg(long, value_name = "SECONDS")]
    heal_at: Option<u64>,
    /// Let only these faults of the schedule happen, by their places, or "none" (a shrunk run says so)
    #[arg(long, value_name = "PLACES", value_parser = places)]
    only_faults: Option<Places>,
    /// Tell what happens: elections, decisions, crashes, partitions, requests, verdicts
    #[arg(long, conflicts_with = "shrink")]
    trace: bool,
    /// Where to write the picture of one run; a name that ends in .svg gets it without a page around it [default with --trace: synod-sim-....html here]
    #[arg(long, value_name = "FILE", value_parser = picture, conflicts_with_all = ["seeds", "random_for", "shrink"])]
    picture: Option<PathBuf>,
    /// How much is told
    #[arg(long, value_enum, default_value_t = Telling::Story, requires = "trace")]
    detail: Telling,
    /// Tell from this simulated time on; the picture has all at a glance, and each message from here
    #[arg(long, value_name = "DURATION", value_parser = time, requires = "shown")]
    from: Option<Duration>,
    /// Tell up to this simulated time, and draw each message up to here
    #[arg(long, value_name = "DURATION", value_parser = time, requires = "shown")]
    to: Option<Duration>,
}

fn picture(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let known = |ending: &std::ffi::OsStr| ending == "svg" || ending == "html";
    if !path.extension().is_some_and(known) {
        return Err("write a name that ends in .html or .svg".into());
    }
    Ok(path)
}

/// Whether the picture can be written is found out before a long run.
fn check_picture(path: Option<&PathBuf>) -> Result<(), Failed> {
    let Some(path) = path else {
        return Ok(());
    };
    let file = std::fs::File::options()
        .append(true)
        .create(true)
        .open(path);
    file.map(drop).map_err(|error| {
        Failed::Usage(format!(
            "--picture: {} cannot be written: {error}",
            path.display()
        ))
    })
}

/// Writes a picture and says where it is. A name that ends in .svg gets the picture alone, any other a page.
fn write_picture(path: PathBuf, draw: impl FnOnce(bool) -> String) -> Result<(), Failed> {
    let alone = path.extension().is_some_and(|ending| ending == "svg");
    std::fs::write(&path, draw(alone)).map_err(|error| {
        Failed::Refused(format!(
            "--picture: {} cannot be written: {error}",
            path.display()
        ))
    })?;
    eprintln!("the picture is in {}", path.display());
    Ok(())
}

/// [`Detail`] on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Telling {
    /// What a person wants to know first
    Story,
    /// Each message too, but heartbeats
    Messages,
    /// Each message and each sync
    Everything,
}

/// Places of faults in a schedule.
type Places = std::sync::Arc<[usize]>;

impl SimArgs {
    fn options(&self, seed: u64, profile: Profile) -> Options {
        Options {
            members: self.members.map(usize::from),
            seconds: self.seconds,
            heal_at: self.heal_at,
            only_faults: self.only_faults.as_ref().map(|places| places.to_vec()),
            ..Options::new(seed, profile)
        }
    }

    /// What makes no sense together, of one run.
    fn check(&self, profile: Profile) -> Result<(), Failed> {
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from >= to
        {
            return Err(Failed::Usage(format!(
                "--from: {from:?} is not before --to {to:?}"
            )));
        }
        if let Some(at) = self.heal_at.filter(|at| *at > self.seconds) {
            return Err(Failed::Usage(format!(
                "--heal-at: {at} is after the end of the faults at --seconds {}",
                self.seconds
            )));
        }
        let all = Options {
            heal_at: None,
            only_faults: None,
            ..self.options(self.seed, profile)
        };
        let faults = sim::schedule(&all).len();
        let mut places = self.only_faults.iter().flat_map(|places| places.iter());
        match places.find(|place| **place >= faults) {
            Some(place) => Err(Failed::Usage(format!(
                "--only-faults: this run has {faults} faults, counted from 0, and none at place {place}"
            ))),
            None => Ok(()),
        }
    }

    fn asks_for_a_window(&self) -> bool {
        self.from.is_some() || self.to.is_some()
    }

    fn window(&self) -> Window {
        let micros = |time: Duration| time.as_micros() as u64;
        Window {
            from: self.from.map_or(0, micros),
            to: self.to.map_or(u64::MAX, micros),
        }
    }

    fn profiles(&self) -> Vec<Profile> {
        match Profile::named(&self.profile) {
            Some(profile) => vec![profile],
            None => Profile::ALL.to_vec(),
        }
    }

    fn detail(&self) -> Detail {
        match self.detail {
            Telling::Story => Detail::Story,
            Telling::Messages => Detail::Messages,
            Telling::Everything => Detail::Everything,
        }
    }
}

pub(crate) fn run(args: &SimArgs) -> Result<(), Failed> {
    if let Some(name) = &args.scenario {
        return scenario::run(name, args.picture.clone());
    }
    if args.seeds.is_some() || args.random_for.is_some() {
        return batch::run(args);
    }
    let Some(profile) = Profile::named(&args.profile) else {
        return Err(Failed::Usage(
            "--profile all: one run has one profile; pass --seeds 0..100 to run many".into(),
        ));
    };
    args.check(profile)?;
    if args.shrink {
        shrinking::run(args, profile)
    } else {
        one::run(args, profile)
    }
}

fn profiles() -> PossibleValuesParser {
    PossibleValuesParser::new(Profile::ALL.map(Profile::name).into_iter().chain([ALL]))
}

fn seed_range(text: &str) -> Result<std::ops::Range<u64>, String> {
    let range = || {
        let (from, to) = text.split_once("..")?;
        let range = from.parse().ok()?..to.parse().ok()?;
        (!range.is_empty()).then_some(range)
    };
    range().ok_or_else(|| "write two numbers, the first one smaller, such as 0..200".into())
}

fn places(text: &str) -> Result<Places, String> {
    if text == "none" {
        return Ok(Places::from([]));
    }
    text.split(',')
        .map(|place| place.trim().parse())
        .collect::<Result<Vec<usize>, _>>()
        .map(Places::from)
        .map_err(|_| "write numbers such as 3,7,12, or none".into())
}

/// A simulated time, which may be 0.
fn time(text: &str) -> Result<Duration, String> {
    server::config::parse_duration(text)
        .ok_or_else(|| "write a number and a unit, such as 1500ms or 12s".into())
}
