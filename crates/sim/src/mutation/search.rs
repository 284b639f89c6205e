//! Looking for what finds a bug: lives of seeds in order, and the scenarios.

use super::{Mutation, choose};
use crate::{Options, Profile, Report, Scenario, run};
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Simulated seconds with faults of each life.
const SECONDS: u64 = 20;

/// Where a bug is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the life of a seed.
    Life(Profile, u64),
    /// In a scenario.
    Story(&'static str),
}

/// That a bug is seen, and as what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Where.
    pub place: Place,
    /// The promise that was broken.
    pub property: String,
}

/// The first life in which the bug shows: each seed in all profiles before the next seed.
pub fn find(mutation: Mutation, profiles: &[Profile], mut seeds: Range<u64>) -> Option<Report> {
    seeds.find_map(|seed| {
        let mut reports = profiles
            .iter()
            .map(|profile| live(*profile, seed, Some(mutation)));
        reports.find(|report| !report.violations.is_empty())
    })
}

/// The first life in which the bug shows, or else the first scenario.
pub fn search(mutation: Mutation, seeds: Range<u64>) -> Option<Sight> {
    let life = find(mutation, &Profile::ALL, seeds).map(|report| Sight {
        place: Place::Life(report.profile, report.seed),
        property: report.violations[0].property.into(),
    });
    life.or_else(|| Scenario::all().find_map(|story| sight_in(mutation, story)))
}

/// The bug as it shows at a place, if it does.
pub fn look_at(mutation: Mutation, place: &Place) -> Option<Sight> {
    match place {
        Place::Life(profile, seed) => {
            let report = live(*profile, *seed, Some(mutation));
            let violation = report.violations.first()?;
            Some(Sight {
                place: place.clone(),
                property: violation.property.into(),
            })
        }
        Place::Story(name) => sight_in(mutation, Scenario::named(name)?),
    }
}

/// One life of a seed, as the search has it.
pub fn live(profile: Profile, seed: u64, mutation: Option<Mutation>) -> Report {
    run(&options(profile, seed, mutation))
}

/// The options of such a life.
pub fn options(profile: Profile, seed: u64, mutation: Option<Mutation>) -> Options {
    Options {
        seconds: SECONDS,
        mutation,
        ..Options::new(seed, profile)
    }
}

fn sight_in(mutation: Mutation, story: &Scenario) -> Option<Sight> {
    let _put_in = choose(Some(mutation));
    let played = catch_unwind(AssertUnwindSafe(|| story.play(&mut |_| {})));
    let property = match played {
        Err(_) => "assertion",
        Ok(played) => played.violation?.property,
    };
    Some(Sight {
        place: Place::Story(story.name),
        property: property.into(),
    })
}

/// As in the table: profile and seed, or the scenario's name.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Life(profile, seed) => write!(f, "{profile} | {seed}"),
            Place::Story(name) => write!(f, "{name} | "),
        }
    }
}

impl Place {
    /// Reads two cells of the table.
    pub fn parse(first: &str, second: &str) -> Option<Place> {
        match Profile::named(first) {
            Some(profile) => Some(Place::Life(profile, second.parse().ok()?)),
            None => Scenario::named(first).map(|story| Place::Story(story.name)),
        }
    }
}
