//! Many runs on a few threads: seeds that were asked for, then seeds that nobody chose until the time is over. Each run is a world of its own.

use super::SimArgs;
use crate::output::{Failed, line};
use sim::{Profile, Report};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// A batch stops after so many failed runs.
const FAILURES_MAX: usize = 10;

/// What came of a profile's runs.
#[derive(Default)]
struct Tally {
    runs: u64,
    failed: u64,
    simulated_seconds: u64,
    answered: u64,
    restarts: u64,
    terms_led: u64,
    /// Over the hashes of all traces, whatever their order.
    hash: u64,
}

impl Tally {
    fn add(&mut self, report: &Report) {
        self.runs += 1;
        self.failed += u64::from(!report.violations.is_empty());
        self.simulated_seconds += report.stats.simulated / 1_000_000;
        self.answered += report.stats.answered;
        self.restarts += report.stats.counts.restarts;
        self.terms_led += report.stats.terms_led;
        self.hash = self.hash.wrapping_add(report.trace_hash);
    }
}

/// Runs by their number: which profile and seed.
struct Plan {
    profiles: Vec<Profile>,
    first: u64,
    /// Number of runs; a random batch ends by time.
    runs: u64,
    deadline: Option<Instant>,
}

impl Plan {
    fn run(&self, number: u64) -> Option<(Profile, u64)> {
        let in_time = self
            .deadline
            .is_none_or(|deadline| Instant::now() < deadline);
        let kinds = self.profiles.len() as u64;
        (number < self.runs && in_time).then(|| {
            (
                self.profiles[(number % kinds) as usize],
                self.first + number / kinds,
            )
        })
    }
}

pub(super) fn run(args: &SimArgs) -> Result<(), Failed> {
    let profiles = args.profiles();
    let kinds = profiles.len() as u64;
    let mut failed = 0;
    if let Some(seeds) = &args.seeds {
        let plan = Plan {
            profiles: profiles.clone(),
            first: seeds.start,
            runs: (seeds.end - seeds.start).saturating_mul(kinds),
            deadline: None,
        };
        line(format_args!(
            "seeds {}..{} of {}",
            seeds.start,
            seeds.end,
            names(&profiles)
        ))?;
        failed += run_plan(args, &plan)?;
    }
    if let Some(time) = args.random_for.filter(|_| failed == 0) {
        let plan = Plan {
            profiles: profiles.clone(),
            first: chosen_by_nobody(),
            runs: u64::MAX,
            deadline: Some(Instant::now() + time),
        };
        line(format_args!(
            "random seeds from {} of {}",
            plan.first,
            names(&profiles)
        ))?;
        failed += run_plan(args, &plan)?;
    }
    match failed {
        0 => Ok(()),
        1 => Err(Failed::Refused("1 run failed".into())),
        many => Err(Failed::Refused(format!("{many} runs failed"))),
    }
}

fn names(profiles: &[Profile]) -> String {
    let names: Vec<&str> = profiles.iter().map(|profile| profile.name()).collect();
    names.join(" ")
}

/// A first seed from the time and the process: small enough to be typed.
fn chosen_by_nobody() -> u64 {
    let since = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default();
    (since.as_nanos() as u64 ^ u64::from(std::process::id()) << 20) % 1_000_000_000
}

/// Runs a plan; prints each failure as it happens and a line per profile. Gives the number of failed runs.
fn run_plan(args: &SimArgs, plan: &Plan) -> Result<usize, Failed> {
    let began = Instant::now();
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let tallies: Mutex<BTreeMap<Profile, Tally>> = Mutex::default();
    let failures: Mutex<Vec<(Profile, u64, String)>> = Mutex::default();
    let worker = || {
        while !stop.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some((profile, seed)) = plan.run(number) else {
                return;
            };
            let report = sim::run(&args.options(seed, profile));
            tallies
                .lock()
                .expect("no worker panics")
                .entry(profile)
                .or_default()
                .add(&report);
            if !report.violations.is_empty() {
                let mut failures = failures.lock().expect("no worker panics");
                eprint!("{report}");
                failures.push((profile, seed, report.replay));
                stop.fetch_or(failures.len() >= FAILURES_MAX, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        (0..args.threads).for_each(|_| drop(scope.spawn(worker)));
    });
    let tallies = tallies.into_inner().expect("no worker panics");
    let runs: u64 = tallies.values().map(|tally| tally.runs).sum();
    for (profile, tally) in &tallies {
        line(format_args!(
            "  {:<10} {:>6} runs, {} failed; {} simulated s, {} requests answered, {} restarts, {} terms led; traces {:016x}",
            profile.name(),
            tally.runs,
            tally.failed,
            tally.simulated_seconds,
            tally.answered,
            tally.restarts,
            tally.terms_led,
            tally.hash
        ))?;
    }
    let mut failures = failures.into_inner().expect("no worker panics");
    failures.sort();
    for (.., replay) in &failures {
        line(format_args!("  replay: {replay}"))?;
    }
    let simulated: u64 = tallies.values().map(|tally| tally.simulated_seconds).sum();
    let took = began.elapsed();
    let names = failures.iter();
    let names: Vec<String> = names
        .map(|(profile, seed, _)| format!("{profile} {seed}"))
        .collect();
    let failed = match names.len() {
        0 => "none failed".into(),
        many => format!("{many} failed: {}", names.join(", ")),
    };
    line(format_args!(
        "  {runs} runs up to seed {}, {simulated} simulated s in {:.1} s: {:.0} for one; {failed}",
        plan.first + runs.saturating_sub(1) / plan.profiles.len() as u64,
        took.as_secs_f64(),
        simulated as f64 / took.as_secs_f64()
    ))?;
    Ok(failures.len())
}
