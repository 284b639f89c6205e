//! A scenario: a story played by real replicas, told as it happens, with the verdict that the run found.

use crate::output::{Failed, line};
use sim::Scenario;
use std::path::PathBuf;

/// Lists the scenarios.
pub(super) const LIST: &str = "list";

pub(super) fn run(name: &str, picture: Option<PathBuf>) -> Result<(), Failed> {
    if name == LIST {
        return Scenario::all().try_for_each(|scenario| {
            line(format_args!("{:<24} {}", scenario.name, scenario.about))
        });
    }
    let scenario = Scenario::named(name).ok_or_else(|| {
        Failed::Usage(format!(
            "--scenario: there is none named {name}; pass --scenario {LIST} to see them"
        ))
    })?;
    super::check_picture(picture.as_ref())?;
    line(format_args!("{}: {}\n", scenario.name, scenario.about))?;
    let mut told = Ok(());
    let played = scenario.play(&mut |text| {
        if told.is_ok() {
            told = line(text);
        }
    });
    told?;
    line(format_args!("\n{}", played.verdict()))?;
    let path = picture.unwrap_or_else(|| format!("synod-sim-{}.html", scenario.name).into());
    let title = format!("{}: {}", scenario.name, scenario.about);
    super::write_picture(path, |alone| played.picture(title, alone))?;
    if played.held() {
        Ok(())
    } else {
        Err(Failed::Refused("the verdict does not hold".into()))
    }
}
