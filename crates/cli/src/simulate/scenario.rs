//! A scenario: a story played by real replicas, told as it happens, with the verdict that the run found.

use crate::output::{Failed, line};
use sim::{SCENARIOS, Scenario};

/// Lists the scenarios.
pub(super) const LIST: &str = "list";

pub(super) fn run(name: &str) -> Result<(), Failed> {
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
    if played.held() {
        Ok(())
    } else {
        Err(Failed::Refused("the verdict does not hold".into()))
    }
}
