//! A scenario: a story played by real replicas, told as it happens, with the verdict that the run found.

use crate::output::{Failed, line};
use sim::{Picture, SCENARIOS, Scenario};
use std::path::PathBuf;

/// Lists the scenarios.
pub(super) const LIST: &str = "list";

pub(super) fn run(name: &str, picture: Option<PathBuf>) -> Result<(), Failed> {
    if name == LIST {
        return SCENARIOS.iter().try_for_each(|scenario| {
            line(format_args!("{:<24} {}", scenario.name, scenario.about))
        });
    }
    let scenario = Scenario::named(name).ok_or_else(|| {
        Failed::Usage(format!(
            "--scenario: there is none named {name}; pass --scenario {LIST} to see them"
        ))
    })?;
    line(format_args!("{}: {}\n", scenario.name, scenario.about))?;
    let mut told = Ok(());
    let played = scenario.play(&mut |text| {
        if told.is_ok() {
            told = line(text);
        }
    });
    told?;
    line(format_args!("\n{}", played.verdict()))?;
    let verdict = played.verdict();
    super::write_picture(
        picture.unwrap_or_else(|| format!("synod-sim-{}.html", scenario.name).into()),
        &Picture {
            title: format!("{}: {}", scenario.name, scenario.about),
            notes: verdict.lines().map(str::to_owned).collect(),
            timeline: &played.timeline,
            members: played.members,
            window: played.window(),
        },
    )?;
    if played.held() {
        Ok(())
    } else {
        Err(Failed::Refused("the verdict does not hold".into()))
    }
}
