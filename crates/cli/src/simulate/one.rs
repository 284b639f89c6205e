//! One run, told or not.

use super::SimArgs;
use crate::output::{Failed, line};
use sim::{Options, Picture, Profile, Report};

/// Microseconds before a failure that its picture shows.
const BEFORE_A_FAILURE: u64 = 3_000_000;

pub(super) fn run(args: &SimArgs, profile: Profile) -> Result<(), Failed> {
    super::check_picture(args.picture.as_ref())?;
    let drawn = args.trace || args.picture.is_some();
    let options = Options {
        timeline: drawn.then(|| args.window()),
        ..args.options(args.seed, profile)
    };
    let report = sim::run(&options);
    if args.trace {
        line(report.timeline.text(args.detail()).trim_end())?;
    }
    line(report.to_string().trim_end())?;
    if drawn {
        let name = || format!("synod-sim-{profile}-{}.html", args.seed).into();
        let picture = picture(args, &report);
        super::write_picture(args.picture.clone().unwrap_or_else(name), |alone| {
            if alone { picture.svg() } else { picture.page() }
        })?;
    }
    verdict(&report)
}

/// The picture of a run: of all of it, or of what led to a failure.
fn picture<'a>(args: &SimArgs, report: &'a Report) -> Picture<'a> {
    let mut window = args.window();
    if let Some(violation) = report.violations.first()
        && args.from.is_none()
        && args.to.is_none()
    {
        window.from = violation.at.saturating_sub(BEFORE_A_FAILURE);
    }
    Picture {
        title: report.replay.clone(),
        notes: report
            .to_string()
            .lines()
            .map(str::trim)
            .map(str::to_owned)
            .collect(),
        timeline: &report.timeline,
        members: report.machines,
        window,
    }
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
