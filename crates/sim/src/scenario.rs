//! Scenarios to look at: the stories of the field, played by the real replicas in the simulated world. A script says what goes wrong and
//! which messages wait; what the members do about it is their own, and the verdict is found by the run. The locks of others are small models in
//! a small world of their own.

mod elections;
mod locks;
mod logs;
mod members;
mod memory;
mod stage;

pub use stage::Checked;

use crate::clock::Micros;
use crate::oracle::Violation;
use crate::picture::{Picture, View};
use crate::timeline::{Timeline, Window};
use stage::Stage;

pub use locks::table as locks_table;

/// A story.
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is about, in a sentence.
    pub about: &'static str,
    script: Script,
}

/// How a story is played.
#[derive(Clone, Copy)]
enum Script {
    /// By so many real members.
    Members(usize, fn() -> raft::Settings, fn(&mut Stage<'_>)),
    /// By the lock of others, in a world of its own; with what is known to come of it.
    Scene(fn() -> locks::Scene, &'static str),
}

/// What came of a story.
pub struct Played {
    /// What was found out, in sentences.
    pub findings: Vec<String>,
    /// The statements about it, and whether they held.
    pub checks: Vec<Checked>,
    /// What happened to members.
    pub timeline: Timeline,
    /// Number of members.
    pub members: usize,
    /// When the story was told; what follows is rest.
    pub end: Micros,
    /// The promise that was broken, if one was.
    pub violation: Option<Violation>,
    scene: Option<locks::Scene>,
}

impl Played {
    /// Every statement held.
    pub fn held(&self) -> bool {
        self.checks.iter().all(|check| check.held)
    }

    /// A picture of it for a browser; alone, or as a page.
    pub fn picture(&self, title: String, alone: bool) -> String {
        let notes: Vec<String> = self.verdict().lines().map(str::to_owned).collect();
        if let Some(scene) = &self.scene {
            return match alone {
                true => locks::svg(scene),
                false => locks::page(scene, &title, &notes),
            };
        }
        let picture = Picture {
            title,
            notes,
            timeline: &self.timeline,
            members: self.members,
            view: View::Window(Window {
                from: 0,
                to: self.end + 300_000,
            }),
        };
        match alone {
            true => picture.svg(),
            false => picture.page(),
        }
    }

    /// What was found, and the statements, each with yes or no.
    pub fn verdict(&self) -> String {
        let found = self.findings.iter().map(|text| format!("  -    {text}"));
        let line = |check: &Checked| {
            let word = if check.held { "yes" } else { "NO " };
            format!("  {word}  {}", check.text)
        };
        let lines: Vec<String> = found.chain(self.checks.iter().map(line)).collect();
        format!("Verdict, as this run found it:\n{}", lines.join("\n"))
    }
}

impl Scenario {
    /// Plays it; `tell` gets a line for each thing that happens.
    pub fn play(&self, tell: &mut dyn FnMut(&str)) -> Played {
        match self.script {
            Script::Members(members, settings, script) => {
                let mut stage = Stage::new(members, settings(), tell);
                script(&mut stage);
                stage.finish()
            }
            Script::Scene(scene, known) => locks::play(scene, known, tell),
        }
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = &'static Scenario> {
        RAFT.iter().chain(locks::SCENARIOS)
    }

    /// The scenario of this name.
    pub fn named(name: &str) -> Option<&'static Scenario> {
        Scenario::all().find(|scenario| scenario.name == name)
    }
}

/// Stories of consensus.
const RAFT: &[Scenario] = &[
    Scenario {
        name: "raft-split-vote",
        about: "two members stand for election at the same time, and neither wins",
        script: Script::Members(3, raft::Settings::default, elections::split_vote),
    },
    Scenario {
        name: "raft-partition-heal",
        about: "the network splits: the minority elects nobody, and an old leader lingers and decides nothing",
        script: Script::Members(5, raft::Settings::default, elections::partition_heal),
    },
    Scenario {
        name: "raft-divergent-logs",
        about: "a follower misses entries, another has extra ones, a third both; the leader makes them equal",
        script: Script::Members(5, raft::Settings::default, logs::divergent_logs),
    },
    Scenario {
        name: "raft-figure-8",
        about: "an entry of an old term is on a majority and is still overwritten, which is why nobody counted it",
        script: Script::Members(5, logs::one_entry_each, logs::figure_8),
    },
    Scenario {
        name: "raft-figure-8-decided",
        about: "the same, but an entry of the leader's own term is decided first, and with it the old one",
        script: Script::Members(5, logs::one_entry_each, logs::figure_8_decided),
    },
    Scenario {
        name: "power-loss-all",
        about: "all machines lose power at the moment of an acknowledgement, and nothing acknowledged is lost",
        script: Script::Members(3, raft::Settings::default, memory::power_loss_all),
    },
    Scenario {
        name: "raft-amnesia",
        about: "a member lost an entry that it had acknowledged, and does not count before it has it again",
        script: Script::Members(3, raft::Settings::default, memory::amnesia),
    },
    Scenario {
        name: "wiped-member",
        about: "a member comes back with an empty disk: it founds nothing, votes for nobody, and learns before it counts",
        script: Script::Members(3, raft::Settings::default, members::wiped_member),
    },
    Scenario {
        name: "membership-joint",
        about: "two of five members leave at once: in between, a majority of the five and one of the three are needed",
        script: Script::Members(5, raft::Settings::default, members::joint),
    },
    Scenario {
        name: "membership-2015",
        about: "two leaders in a row change one voter each: the flaw of single-server changes, and what keeps it out",
        script: Script::Members(5, raft::Settings::default, members::flaw_of_2015),
    },
];
