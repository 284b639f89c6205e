//! A smaller run that fails in the same way.

use super::{SimArgs, one};
use crate::output::{Failed, line};
use sim::{Profile, Progress};
use std::time::Instant;

/// Runs made at most.
const RUNS_MAX: u64 = 2_000;

pub(super) fn run(args: &SimArgs, profile: Profile) -> Result<(), Failed> {
    let options = args.options(args.seed, profile);
    let all = sim::schedule(&options).len();
    let deadline = Instant::now() + args.shrink_for;
    let mut go_on = |progress: Progress| {
        if progress.smaller {
            eprintln!(
                "run {}: fails with {} of {all} faults, everything mended after {} s",
                progress.runs, progress.faults, progress.seconds
            );
        }
        progress.runs < RUNS_MAX && Instant::now() < deadline
    };
    let Some(shrunk) = sim::shrink(&options, &mut go_on) else {
        let report = sim::run(&options);
        line(report.to_string().trim_end())?;
        return line("nothing to shrink: this run keeps every promise");
    };
    let end = if shrunk.finished {
        "nothing smaller fails"
    } else {
        "stopped by its limit; --shrink-for gives more time"
    };
    line(format_args!(
        "after {} runs: {} of {all} faults are needed ({end})",
        shrunk.runs,
        shrunk.faults.len()
    ))?;
    for planned in &shrunk.faults {
        let (seconds, micros) = (planned.at / 1_000_000, planned.at % 1_000_000);
        line(format_args!(
            "  {seconds:>3}.{micros:06} s  {}",
            planned.fault
        ))?;
    }
    line(shrunk.report.to_string().trim_end())?;
    line(format_args!("look at it: {} --trace", shrunk.report.replay))?;
    one::verdict(&shrunk.report)
}
