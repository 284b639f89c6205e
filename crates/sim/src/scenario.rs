//! Scenarios to look at: the stories of the field, played by the real replicas in the simulated world. A script says what goes wrong and
//! which messages wait; what the members do about it is their own, and the verdict is found by the run.

mod elections;
mod logs;
mod members;
mod memory;
mod stage;

pub use stage::Checked;

use crate::clock::Micros;
use crate::oracle::Violation;
use crate::timeline::{Timeline, Window};
use stage::Stage;

/// A story.
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is about, in a sentence.
    pub about: &'static str,
    members: usize,
    settings: fn() -> raft::Settings,
    script: fn(&mut Stage<'_>),
}

/// What came of a story.
pub struct Played {
    /// The statements about it, and whether they held.
    pub checks: Vec<Checked>,
    /// What happened.
    pub timeline: Timeline,
    /// Number of members.
    pub members: usize,
    /// When the story was told; what follows is rest.
    pub end: Micros,
    /// The promise that was broken, if one was.
    pub violation: Option<Violation>,
}

impl Played {
    /// Every statement held.
    pub fn held(&self) -> bool {
        self.checks.iter().all(|check| check.held)
    }

    /// What a picture should show.
    pub fn window(&self) -> Window {
        Window {
            from: 0,
            to: self.end + 300_000,
        }
    }

    /// The statements, each with yes or no.
    pub fn verdict(&self) -> String {
        let line = |check: &Checked| {
            let word = if check.held { "yes" } else { "NO " };
            format!("  {word}  {}", check.text)
        };
        let lines: Vec<String> = self.checks.iter().map(line).collect();
        format!("Verdict, as this run found it:\n{}", lines.join("\n"))
    }
}

impl Scenario {
    /// Plays it; `tell` gets a line for each thing that happens.
    pub fn play(&self, tell: &mut dyn FnMut(&str)) -> Played {
        let mut stage = Stage::new(self.members, (self.settings)(), tell);
        (self.script)(&mut stage);
        stage.finish()
    }

    /// The scenario of this name.
    pub fn named(name: &str) -> Option<&'static Scenario> {
        SCENARIOS.iter().find(|scenario| scenario.name == name)
    }
}

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "raft-split-vote",
        about: "two members stand for election at the same time, and neither wins",
        members: 3,
        settings: raft::Settings::default,
        script: elections::split_vote,
    },
    Scenario {
        name: "raft-partition-heal",
        about: "the network splits: the minority elects nobody, and an old leader lingers and decides nothing",
        members: 5,
        settings: raft::Settings::default,
        script: elections::partition_heal,
    },
    Scenario {
        name: "raft-divergent-logs",
        about: "a follower misses entries, another has extra ones, a third both; the leader makes them equal",
        members: 5,
        settings: raft::Settings::default,
        script: logs::divergent_logs,
    },
    Scenario {
        name: "raft-figure-8",
        about: "an entry of an old term is on a majority and is still overwritten, which is why nobody counted it",
        members: 5,
        settings: logs::one_entry_each,
        script: logs::figure_8,
    },
    Scenario {
        name: "raft-figure-8-decided",
        about: "the same, but an entry of the leader's own term is decided first, and with it the old one",
        members: 5,
        settings: logs::one_entry_each,
        script: logs::figure_8_decided,
    },
    Scenario {
        name: "power-loss-all",
        about: "all machines lose power at the moment of an acknowledgement, and nothing acknowledged is lost",
        members: 3,
        settings: raft::Settings::default,
        script: memory::power_loss_all,
    },
    Scenario {
        name: "raft-amnesia",
        about: "a member lost an entry that it had acknowledged, and does not count before it has it again",
        members: 3,
        settings: raft::Settings::default,
        script: memory::amnesia,
    },
    Scenario {
        name: "wiped-member",
        about: "a member comes back with an empty disk: it founds nothing, votes for nobody, and learns before it counts",
        members: 3,
        settings: raft::Settings::default,
        script: members::wiped_member,
    },
    Scenario {
        name: "membership-joint",
        about: "two of five members leave at once: in between, a majority of the five and one of the three are needed",
        members: 5,
        settings: raft::Settings::default,
        script: members::joint,
    },
    Scenario {
        name: "membership-2015",
        about: "two leaders in a row change one voter each: the flaw of single-server changes, and what keeps it out",
        members: 5,
        settings: raft::Settings::default,
        script: members::flaw_of_2015,
    },
];
