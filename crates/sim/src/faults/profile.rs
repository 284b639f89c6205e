//! Which faults a run meets, and how often.

use crate::clock::Micros;
use std::fmt;

/// Which faults a run meets, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// Nothing goes wrong.
    Calm,
    /// Messages are lost, doubled, reordered; links are cut.
    Lossy,
    /// Processes and machines go down.
    Crashy,
    /// Bits flip on the disks of a minority, and some of those disks are lost whole.
    Bitrot,
    /// Clocks step and drift, processes pause.
    Clockwork,
    /// Members come and go, are upgraded, and die while they do.
    Churn,
    /// Members are far apart.
    Geo,
    /// All of it.
    Chaos,
}

impl Profile {
    /// All of them.
    pub const ALL: [Profile; 8] = [
        Profile::Calm,
        Profile::Lossy,
        Profile::Crashy,
        Profile::Bitrot,
        Profile::Clockwork,
        Profile::Churn,
        Profile::Geo,
        Profile::Chaos,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Calm => "calm",
            Profile::Lossy => "lossy",
            Profile::Crashy => "crashy",
            Profile::Bitrot => "bitrot",
            Profile::Clockwork => "clockwork",
            Profile::Churn => "churn",
            Profile::Geo => "geo",
            Profile::Chaos => "chaos",
        }
    }

    /// The profile of this name.
    pub fn named(name: &str) -> Option<Profile> {
        Profile::ALL
            .into_iter()
            .find(|profile| profile.name() == name)
    }

    /// Clocks drift from the start.
    pub fn drifts(self) -> bool {
        matches!(self, Profile::Clockwork | Profile::Chaos)
    }

    /// Machines beside the members that may become some.
    pub fn spares(self) -> usize {
        match self {
            Profile::Churn => 2,
            Profile::Chaos => 1,
            _ => 0,
        }
    }

    /// Members are far apart: tens of milliseconds, differently for each way.
    pub fn is_far_apart(self) -> bool {
        self == Profile::Geo
    }

    /// Mean microseconds between faults of each kind; 0: never.
    pub(super) fn rates(self) -> Rates {
        const S: Micros = 1_000_000;
        const NONE: Rates = Rates {
            crash: 0,
            power: 0,
            power_all: 0,
            cut: 0,
            weather: 0,
            pause: 0,
            wall: 0,
            drift: 0,
            disconnect: 0,
            transfer: 0,
            sync_errors: 0,
            full: 0,
            replay: 0,
            slow: 0,
            snapshot_crash: 0,
            flip: 0,
            wipe: 0,
            leap: 0,
            change: 0,
            upgrade: 0,
            breeze: 0,
            write_errors: 0,
            read_errors: 0,
            leader: 0,
            dethrone: 0,
            sender: 0,
            hold: 0,
            race: 0,
            late_votes: 0,
            late_answers: 0,
        };
        match self {
            Profile::Calm => NONE,
            Profile::Lossy => Rates {
                cut: 6 * S,
                weather: 5 * S,
                disconnect: 8 * S,
                transfer: 20 * S,
                replay: 4 * S,
                leader: 20 * S,
                dethrone: 15 * S,
                hold: 12 * S,
                race: 30 * S,
                late_votes: 30 * S,
                late_answers: 20 * S,
                ..NONE
            },
            Profile::Crashy => Rates {
                crash: 5 * S,
                power: 8 * S,
                power_all: 25 * S,
                transfer: 20 * S,
                sync_errors: 10 * S,
                slow: 10 * S,
                full: 25 * S,
                snapshot_crash: 15 * S,
                breeze: 20 * S,
                write_errors: 15 * S,
                read_errors: 25 * S,
                leader: 30 * S,
                dethrone: 20 * S,
                sender: 8 * S,
                race: 20 * S,
                ..NONE
            },
            Profile::Clockwork => Rates {
                pause: 5 * S,
                wall: 4 * S,
                drift: 5 * S,
                crash: 25 * S,
                transfer: 20 * S,
                leap: 15 * S,
                leader: 30 * S,
                dethrone: 30 * S,
                race: 40 * S,
                ..NONE
            },
            Profile::Bitrot => Rates {
                flip: 8 * S,
                wipe: 30 * S,
                crash: 15 * S,
                power: 20 * S,
                breeze: 20 * S,
                write_errors: 30 * S,
                read_errors: 15 * S,
                leader: 40 * S,
                dethrone: 40 * S,
                sender: 30 * S,
                ..NONE
            },
            Profile::Churn => Rates {
                change: 4 * S,
                upgrade: 20 * S,
                crash: 12 * S,
                power: 25 * S,
                wipe: 40 * S,
                cut: 20 * S,
                pause: 20 * S,
                transfer: 15 * S,
                snapshot_crash: 20 * S,
                leader: 40 * S,
                dethrone: 30 * S,
                sender: 30 * S,
                ..NONE
            },
            Profile::Geo => Rates {
                cut: 15 * S,
                crash: 20 * S,
                disconnect: 4 * S,
                transfer: 20 * S,
                pause: 25 * S,
                leader: 30 * S,
                dethrone: 25 * S,
                hold: 30 * S,
                race: 45 * S,
                late_votes: 60 * S,
                late_answers: 40 * S,
                ..NONE
            },
            Profile::Chaos => Rates {
                crash: 10 * S,
                power: 15 * S,
                power_all: 40 * S,
                cut: 12 * S,
                weather: 10 * S,
                pause: 12 * S,
                wall: 15 * S,
                drift: 15 * S,
                disconnect: 15 * S,
                transfer: 25 * S,
                sync_errors: 20 * S,
                full: 30 * S,
                replay: 12 * S,
                slow: 20 * S,
                snapshot_crash: 25 * S,
                flip: 40 * S,
                wipe: 60 * S,
                leap: 40 * S,
                change: 15 * S,
                upgrade: 60 * S,
                breeze: 40 * S,
                write_errors: 30 * S,
                read_errors: 30 * S,
                leader: 40 * S,
                dethrone: 30 * S,
                sender: 25 * S,
                hold: 30 * S,
                race: 40 * S,
                late_votes: 40 * S,
                late_answers: 40 * S,
            },
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    pub(super) crash: Micros,
    pub(super) power: Micros,
    pub(super) power_all: Micros,
    pub(super) cut: Micros,
    pub(super) weather: Micros,
    pub(super) pause: Micros,
    pub(super) wall: Micros,
    pub(super) drift: Micros,
    pub(super) disconnect: Micros,
    pub(super) transfer: Micros,
    pub(super) sync_errors: Micros,
    pub(super) full: Micros,
    pub(super) replay: Micros,
    pub(super) slow: Micros,
    pub(super) snapshot_crash: Micros,
    pub(super) flip: Micros,
    pub(super) wipe: Micros,
    pub(super) leap: Micros,
    pub(super) change: Micros,
    pub(super) upgrade: Micros,
    pub(super) breeze: Micros,
    pub(super) write_errors: Micros,
    pub(super) read_errors: Micros,
    pub(super) leader: Micros,
    pub(super) dethrone: Micros,
    pub(super) sender: Micros,
    pub(super) hold: Micros,
    pub(super) race: Micros,
    pub(super) late_votes: Micros,
    pub(super) late_answers: Micros,
}
