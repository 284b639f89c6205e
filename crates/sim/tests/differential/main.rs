//! Differential Raft: members on our `raft` and members on the published `raft` crate (raft-rs 0.7, its default codec) in one simulated cluster,
//! three and five members in every mix, under lost, repeated, late and reordered messages, cut links, slow disks, pauses, crashes that lose what
//! was not durable, and hand-overs. Whoever leads, they must agree (`oracle.rs`): Raft's five properties, only what was proposed is decided, nothing
//! acknowledged is lost, confirmed reads miss nothing; and once faults end the cluster must decide something new and be whole.
//!
//! **The common subset**: pre-vote, votes with stickiness, append with conflict hints, heartbeats with the commit index, check-quorum, ReadIndex,
//! leadership transfer, restart from what is durable. Both sides get the same timing: heartbeat 100 ms, elections after 500 to 1000 ms of silence;
//! raft-rs counts ticks of 50 ms. Both commit only entries of the own term, write on the leader while they replicate, and answer when durable.
//!
//! **What is translated** (`translate.rs`), message by message:
//!
//! | ours | raft-rs | what differs |
//! |---|---|---|
//! | `PreVote`, `PreVoteReply` | `MsgRequestPreVote`, `…Response` | raft-rs puts the campaign's term into the message's own; a refusal there names no campaign: the translator remembers what was asked |
//! | `Vote`, `VoteReply` | `MsgRequestVote`, `…Response` | a transfer is a flag here, a context there; raft-rs may tell commit positions in these: left out |
//! | `Append` | `MsgAppend` | same fields; a no-op is an entry without data there |
//! | `AppendReply` | `MsgAppendResponse` | rejection: hint index and term map one to one; the follower's commit index is left out |
//! | `Heartbeat`, `HeartbeatReply` | `MsgHeartbeat`, `…Response` | round, process and send time travel in the context, which raft-rs gives back; the other way the translator numbers rounds and keeps the contexts. Ours tells commit index *and term* and lets the follower judge; raft-rs tells what the follower is known to have and is believed. The translator judges for it |
//! | `StaleTerm` | `MsgAppendResponse` of index 0 | what a leader of an older term is told |
//! | `ReadIndex`, `ReadIndexReply` | `MsgReadIndex`, `…Resp` | raft-rs passes a misdirected request on in the asker's name; ours is from whom the connection says, for the leader of exactly one term. What is passed on from one language to the other, or comes to another leader, is dropped |
//! | `TimeoutNow` | `MsgTimeoutNow` | |
//!
//! **Outside**: snapshots (logs are never compacted here: ours sends them beside the messages, raft-rs inside); changes of membership (one entry
//! with the whole configuration here, a delta there); incarnations, boot nonces and members that lost entries (raft-rs has no such thing; every member
//! is sound and in its first incarnation); forwarding (ours in numbered streams, raft-rs unnumbered: proposals are made at leaders); hand-over by
//! priority or from a stalled disk; raft-rs's vote priorities and group commit.
//!
//! `DIFFERENTIAL_SEEDS=1000 cargo test -p synod-sim --test differential` runs more; a failure prints how to see its run. Figures: `docs/design/differential-raft.md`.

// Where the build of raft-rs brings its protoc along (docs/decisions/0011-a-published-raft-in-the-tests.md).
#![cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

mod cluster;
mod disk;
mod member;
mod oracle;
mod ours;
mod random;
mod theirs;
mod translate;

use cluster::{Cluster, Done, Mix};
use ours::Plant;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs per mix in `cargo test`; `DIFFERENTIAL_SEEDS` sets another number.
const SEEDS: u64 = 15;

/// Clusters of three and five in every mix.
fn mixes() -> Vec<Mix> {
    let of = |count: u64| {
        (0..=count).map(move |ours| Mix {
            ours,
            theirs: count - ours,
        })
    };
    of(3).chain(of(5)).collect()
}

fn number_of(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is a number, not {text}")),
    )
}

/// Says how to replay a run that panics.
struct ReplayHint(Mix, u64);

impl Drop for ReplayHint {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let ReplayHint(Mix { ours, theirs }, seed) = self;
            eprintln!(
                "replay with DIFFERENTIAL_OURS={ours} DIFFERENTIAL_THEIRS={theirs} DIFFERENTIAL_SEED={seed} \
                 cargo test -p synod-sim --test differential replay -- --nocapture"
            );
        }
    }
}

fn run(mix: Mix, seed: u64) -> Done {
    let _hint = ReplayHint(mix, seed);
    Cluster::new(mix, seed, None, false).run()
}

#[test]
fn members_on_both_libraries_agree() {
    let seeds = number_of("DIFFERENTIAL_SEEDS").unwrap_or(SEEDS);
    for mix in mixes() {
        let mut all = Done::default();
        let mut slowest = 0;
        for seed in 0..seeds {
            let done = run(mix, seed);
            all.decided += done.decided;
            all.acknowledged += done.acknowledged;
            all.reads += done.reads;
            all.led_by_ours += done.led_by_ours;
            all.led_by_theirs += done.led_by_theirs;
            all.crashes += done.crashes;
            all.messages += done.messages;
            all.translated += done.translated;
            slowest = slowest.max(done.healed_after);
        }
        println!(
            "{} ours + {} theirs, {seeds} seeds: {} decided, {} acknowledged, {} reads, led by ours {} and theirs {} times, {} crashes, \
             {} messages, {} of them translated, whole again after {} ms at most",
            mix.ours,
            mix.theirs,
            all.decided,
            all.acknowledged,
            all.reads,
            all.led_by_ours,
            all.led_by_theirs,
            all.crashes,
            all.messages,
            all.translated,
            slowest / 1000
        );
        assert!(
            all.acknowledged > 0 && all.reads > 0 && all.crashes > 0,
            "the runs did nothing: {all:?}"
        );
        assert_eq!(all.led_by_ours > 0, mix.ours > 0, "{all:?}");
        assert_eq!(all.led_by_theirs > 0, mix.theirs > 0, "{all:?}");
        assert_eq!(
            all.translated > 0,
            mix.ours > 0 && mix.theirs > 0,
            "{all:?}"
        );
    }
}

/// Prints one run as it happens, the one named by the environment.
#[test]
fn replay() {
    let mix = Mix {
        ours: number_of("DIFFERENTIAL_OURS").unwrap_or(2),
        theirs: number_of("DIFFERENTIAL_THEIRS").unwrap_or(1),
    };
    let named = number_of("DIFFERENTIAL_SEED");
    let seed = named.unwrap_or(0);
    let first = Cluster::new(mix, seed, None, named.is_some()).run();
    let second = Cluster::new(mix, seed, None, false).run();
    assert_eq!(first, second, "a seed says all");
}

#[test]
fn planted_bugs_are_found() {
    let plants = [
        Plant::TrustsTheCache,
        Plant::StoresNoVote,
        Plant::ForgesAcknowledgements,
        Plant::GrantsEveryVote,
        Plant::SkipsTheReadBarrier,
        Plant::BelievesEveryCommit,
    ];
    for plant in plants {
        let mix = Mix { ours: 2, theirs: 1 };
        let caught = (0..400).find(|seed| {
            let cluster = Cluster::new(mix, *seed, Some(plant), false);
            catch_unwind(AssertUnwindSafe(|| cluster.run())).is_err()
        });
        println!("{plant:?}: seed {caught:?}");
        assert!(caught.is_some(), "{plant:?} was not found");
    }
}
