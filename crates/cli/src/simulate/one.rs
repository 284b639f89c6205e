//! One run, told or not.

use super::SimArgs;
use crate::output::{Failed, line};
use sim::{Options, Picture, Profile, Report, View};

pub(super) fn run(args: &SimArgs, profile: Profile) -> Result<(), Failed> {
    super::check_picture(args.picture.as_ref())?;
    let drawn = args.trace || args.picture.is_some();
    let options = Options {
        timeline: drawn.then(|| args.window()),
        ..args.options(args.seed, profile)
    };
    let mut report = sim::run(&options);
    if args.trace {
        line(report.timeline.text(args.detail()).trim_end())?;
    }
    line(report.to_string().trim_end())?;
    if drawn {
        report = whole(args, options, report);
        let name = || format!("synod-sim-{profile}-{}.html", args.seed).into();
        let picture = picture(args, &report);
        super::write_picture(args.picture.clone().unwrap_or_else(name), |alone| {
            if alone { picture.svg() } else { picture.page() }
        })?;
    }
    verdict(&report)
}

/// A report that has all of what is drawn: of a long run less is kept than happens, so it is lived once more for the part that is drawn.
fn whole(args: &SimArgs, mut options: Options, report: Report) -> Report {
    if report.timeline.left_out() == 0 || args.asks_for_a_window() {
        return report;
    }
    options.timeline = Some(picture(args, &report).window());
    sim::run(&options)
}

/// The picture of a run: all of it at a glance, and a part of it message by message.
fn picture<'a>(args: &SimArgs, report: &'a Report) -> Picture<'a> {
    let verdict = match report.violations.first() {
        None => "yes  every promise was kept".into(),
        Some(violation) => format!("NO  {} was broken", violation.property),
    };
    let told = report.to_string();
    let told = told.lines().map(|line| line.trim().to_owned());
    Picture {
        title: report.replay.clone(),
        notes: std::iter::once(verdict).chain(told).collect(),
        timeline: &report.timeline,
        members: report.machines,
        view: View::Overview(args.asks_for_a_window().then(|| args.window())),
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
