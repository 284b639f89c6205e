//! One run, told or not.

use super::SimArgs;
use crate::output::{Failed, line};
use sim::{Options, Profile, Report};

pub(super) fn run(args: &SimArgs, profile: Profile) -> Result<(), Failed> {
    let options = Options {
        timeline: args.trace.then(|| args.window()),
        ..args.options(args.seed, profile)
    };
    let report = sim::run(&options);
    if args.trace {
        line(report.timeline.text(args.detail()).trim_end())?;
    }
    line(report.to_string().trim_end())?;
    verdict(&report)
}

/// Fails if a promise was broken.
pub(super) fn verdict(report: &Report) -> Result<(), Failed> {
    match report.violations.first() {
        None => Ok(()),
        Some(violation) => Err(Failed::Refused(format!(
            "{} was broken; replay with: {}",
            violation.property, report.replay
        ))),
    }
}
