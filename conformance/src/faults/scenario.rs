//! The scenarios by name: what each does and needs.

use super::field::{Field, Ground};
use super::{clocks, disks, networks, processes, storm};
use crate::Outcome;
use crate::process::Product;

/// One kind of fault, played for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// SIGKILL.
    Kill,
    /// SIGSTOP.
    Pause,
    /// Members cut off, both ways.
    PartitionFull,
    /// Members cut off, one way.
    PartitionOneway,
    /// Two sides that only one member can reach.
    PartitionBridge,
    /// Slow, narrow and silent connections.
    Delay,
    /// Disks without space.
    DiskFull,
    /// Files with flipped bits.
    Bitflip,
    /// Wall clocks that jump.
    ClockStep,
    /// Deaths, pauses and cuts on top of one another.
    Storm,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Scenario; 10] = [
        Scenario::Kill,
        Scenario::Pause,
        Scenario::PartitionFull,
        Scenario::PartitionOneway,
        Scenario::PartitionBridge,
        Scenario::Delay,
        Scenario::DiskFull,
        Scenario::Bitflip,
        Scenario::ClockStep,
        Scenario::Storm,
    ];

    /// Its name on the command line, and what it does.
    pub fn name_and_deed(self) -> (&'static str, &'static str) {
        match self {
            Scenario::Kill => (
                "kill",
                "a follower, the leader, then all members die with SIGKILL and are started again",
            ),
            Scenario::Pause => (
                "pause",
                "the leader is stopped with SIGSTOP beyond an election; the leader, a follower, then all beyond a lease's time to live",
            ),
            Scenario::PartitionFull => (
                "partition-full",
                "the leader, a follower, then everybody is cut off from the others",
            ),
            Scenario::PartitionOneway => (
                "partition-oneway",
                "the leader is heard by nobody, or hears nobody; the same for a follower",
            ),
            Scenario::PartitionBridge => (
                "partition-bridge",
                "two sides that cannot reach each other, and one member that reaches both",
            ),
            Scenario::Delay => (
                "delay",
                "messages take long, one member's very long; a narrow line; a connection that is open and silent",
            ),
            Scenario::DiskFull => (
                "disk-full",
                "the leader's disk, a follower's, then all disks fill to the last block, and get their space back",
            ),
            Scenario::Bitflip => (
                "bitflip",
                "bits of a log, a snapshot or an identity change while their member is down",
            ),
            Scenario::ClockStep => (
                "clock-step",
                "the wall clock of one member, then of all, jumps by seconds, an hour, years, either way",
            ),
            Scenario::Storm => (
                "storm",
                "deaths, pauses, one-way cuts and recoveries on top of one another, at random",
            ),
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.name_and_deed().0
    }

    /// What it needs around the members.
    pub fn ground(self) -> Ground {
        match self {
            Scenario::PartitionFull
            | Scenario::PartitionOneway
            | Scenario::PartitionBridge
            | Scenario::Storm => Ground::Namespaces,
            Scenario::Delay => Ground::Proxies,
            Scenario::DiskFull => Ground::SmallDisks,
            Scenario::ClockStep => Ground::Walls,
            Scenario::Kill | Scenario::Pause | Scenario::Bitflip => Ground::Plain,
        }
    }

    /// Why it cannot be played, if so.
    pub fn missing(self, product: Product) -> Option<String> {
        let synod_only = matches!(
            self,
            Scenario::DiskFull | Scenario::Bitflip | Scenario::ClockStep
        );
        if synod_only && product == Product::Etcd {
            return Some("it is about what Synod promises of disks and clocks".into());
        }
        self.ground().missing()
    }

    /// Flags that its members get.
    pub fn flags(self) -> &'static [&'static str] {
        match self {
            Scenario::DiskFull => &[
                "--log-segment-bytes",
                "2MiB",
                "--disk-low-water-bytes",
                "8MiB",
                "--snapshot-log-bytes",
                "4MiB",
            ],
            Scenario::Bitflip => &[
                "--log-segment-bytes",
                "1MiB",
                "--snapshot-log-bytes",
                "1MiB",
                "--snapshot-keep-entries",
                "100",
            ],
            _ => &[],
        }
    }

    /// Plays it until its time is over; everything is healed then.
    ///
    /// # Errors
    /// When something cannot be done, or does not come back.
    pub async fn play(self, field: &mut Field) -> Outcome<()> {
        match self {
            Scenario::Kill => processes::kill(field).await,
            Scenario::Pause => processes::pause(field).await,
            Scenario::PartitionFull => networks::full(field).await,
            Scenario::PartitionOneway => networks::oneway(field).await,
            Scenario::PartitionBridge => networks::bridge(field).await,
            Scenario::Delay => networks::delay(field).await,
            Scenario::DiskFull => disks::full(field).await,
            Scenario::Bitflip => disks::bitflip(field).await,
            Scenario::ClockStep => clocks::step(field).await,
            Scenario::Storm => storm::storm(field).await,
        }
    }
}
