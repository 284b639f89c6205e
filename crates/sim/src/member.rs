//! A member as its machine sees it: a disk, a clock, and at most one process that runs the real replica on the real log.

use crate::clock::{Clock, Micros};
use crate::oracle::Recovery;
use log::memory_disk::{MemoryDisk, Platter};
use log::{Identity, Log, OpenError, Opened, ReadEntries, Snapshots};
use raft::{
    Boot, Configuration, Index, Instant, MemberId, PeerId, Persist, Restored, SnapshotMark,
    Standing,
};
use replica::{Advertised, Bootstrap, Input, Introduction, Now, Replica};
use std::collections::VecDeque;

/// A machine.
pub struct Member {
    /// Who it is.
    pub id: PeerId,
    /// Its name in the trace.
    pub lane: String,
    /// Its disk.
    pub platter: Platter,
    /// Its clocks.
    pub clock: Clock,
    /// What runs on it.
    pub process: Option<Process>,
    /// Its process is stopped and gets no time.
    pub paused: bool,
    /// When it was stopped last.
    pub paused_at: Micros,
    /// Number of the present (or last) process.
    pub life: u64,
    /// Since when it leads without reaching a majority.
    pub cut_off_since: Option<u64>,
    /// A process with an empty directory that looks for its cluster.
    pub asking: Option<Asking>,
    /// It was told that there is a cluster to join, and of members that are there now.
    pub joins: bool,
    /// The names it was told at its start, itself included.
    pub listed: Vec<String>,
    /// The machine is in use; a spare one is not.
    pub in_service: bool,
    /// Its disk takes so many times as long as others.
    pub slow: u64,
    /// Its disk does nothing until then.
    pub stalled_until: u64,
    /// Bits of its disk were flipped.
    pub rotten: bool,
    /// It has lost the record of its votes and must become a new incarnation.
    pub votes_lost: bool,
    /// Its process begins a new incarnation.
    pub began_again: bool,
    /// Its process dies at this effect of its next snapshot transfer.
    pub doomed_in_snapshot: Option<u32>,
    /// The newest behaviour its program knows.
    pub feature_level: u32,
    /// Its limit on the bytes of the state.
    pub bytes_max: Option<u64>,
}

/// A process that belongs to no cluster yet.
pub struct Asking {
    /// The asking.
    pub bootstrap: Bootstrap,
    opened: Opened<MemoryDisk>,
    boot: u64,
}

impl Member {
    /// A machine with an empty disk.
    pub fn new(lane: String, platter: Platter, clock: Clock, listed: Vec<String>) -> Member {
        Member {
            id: PeerId::default(),
            lane,
            platter,
            clock,
            process: None,
            paused: false,
            paused_at: 0,
            life: 0,
            cut_off_since: None,
            asking: None,
            joins: false,
            listed,
            in_service: true,
            slow: 1,
            stalled_until: 0,
            rotten: false,
            votes_lost: false,
            began_again: false,
            doomed_in_snapshot: None,
            feature_level: 0,
            bytes_max: None,
        }
    }

    /// What it says of itself before it belongs to a cluster.
    pub fn introduction(&self) -> Introduction {
        let listed = self.listed.iter();
        Introduction {
            name: self.lane.clone(),
            member: self.id.member,
            incarnation: if self.votes_lost {
                self.id.incarnation
            } else {
                raft::Incarnation(0)
            },
            replaces: None,
            listed: listed
                .map(|name| (name.clone(), format!("{name}:2380")))
                .collect(),
        }
    }
}

/// A running process.
pub struct Process {
    /// The replica.
    pub replica: Replica,
    /// Its log.
    pub log: Log<MemoryDisk>,
    /// Its snapshots.
    pub snapshots: Snapshots<MemoryDisk>,
    /// What waits for the next turn.
    pub inbox: VecDeque<Input>,
    /// A turn is planned.
    pub turn_planned: bool,
    /// When the last turn ended.
    pub busy_until: u64,
    /// The time the replica wants to be called at.
    pub timer: Option<Instant>,
    /// Number of the newest timer; older ones are void.
    pub timer_generation: u64,
    /// What the log's thread has to do.
    pub log_tasks: VecDeque<LogTask>,
    /// The log's thread is at work.
    pub log_busy: bool,
    /// Persists given to the log and not yet synced.
    pub appended_unsynced: usize,
    /// What the snapshots' thread has to do.
    pub snapshot_tasks: VecDeque<SnapshotTask>,
    /// The snapshots' thread is at work.
    pub snapshot_busy: bool,
    /// The process dies before its effect of this number from now.
    pub doomed_after: Option<u32>,
    /// When a snapshot took the place of its log last.
    pub installed_at: Option<Micros>,
    /// The last sync of the log failed, and the next one is to come.
    pub log_fails: bool,
    /// The replica was told that the disk is full.
    pub told_full: bool,
    /// Position told to the oracles last: commit and applied index.
    pub told: (u64, u64),
    /// Whose the directory is.
    pub identity: Identity,
    /// The log is known to have lost entries.
    pub entries_lost: bool,
}

/// Work for the log's thread.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "a handful waits at a time")]
pub enum LogTask {
    /// Write, sync, tell.
    Persist(Persist),
    /// Read back.
    Fetch(Index, usize),
    /// Forget.
    Release(Index),
}

/// Work for the snapshots' thread.
#[derive(Debug)]
pub enum SnapshotTask {
    /// Write a piece.
    Stage(u64, u64, bytes::Bytes),
    /// End a file.
    Finish(u64, SnapshotMark, u64, u32),
    /// Drop a file.
    Abort(u64),
    /// Read a piece.
    Read(Index, u64, usize),
}

/// What all members of a world have in common.
#[derive(Clone, Debug)]
pub struct Common {
    /// Settings of every replica.
    pub replica: replica::Settings,
    /// Settings of every log.
    pub log: log::Settings,
    /// Members see to it that the configuration says what is true of them.
    pub publishes: bool,
}

/// Why a process did not start.
#[derive(Debug)]
pub enum StartError {
    /// Its fuse burned while it opened its directory.
    Stopped,
    /// The disk failed or is full; a later start may succeed.
    Disk(String),
    /// What says whose the directory is, is damaged: only an operator can help.
    Spoiled(String),
    /// The log refused.
    Refused(String),
}

/// What started.
#[derive(Debug)]
pub enum Started {
    /// A member, on what was found.
    Runs(Box<Recovery>),
    /// A process that looks for its cluster.
    Asks,
}

impl Member {
    /// Opens the directory and starts a process on it; tells what was found there.
    pub fn start(&mut self, common: &Common, boot: u64, now: Now) -> Result<Started, StartError> {
        self.life += 1;
        let started = self.open(common, boot, now);
        match started {
            Err(_) if self.platter.burned() => Err(StartError::Stopped),
            started => started,
        }
    }

    fn open(&mut self, common: &Common, boot: u64, now: Now) -> Result<Started, StartError> {
        let disk = self.platter.start_process();
        let new_member = MemberId(boot.rotate_left(32) | 1);
        let opened =
            log::open(disk, common.log.clone(), new_member).map_err(|error| match error {
                OpenError::Disk(error) => StartError::Disk(error.to_string()),
                OpenError::Foreign(what) | OpenError::Damaged(what) if self.rotten => {
                    StartError::Spoiled(what)
                }
                OpenError::NewerVersion { found, .. } if self.rotten => {
                    StartError::Spoiled(format!("it says that version {found} wrote it"))
                }
                error => StartError::Refused(format!("{error:?}")),
            })?;
        let identity = &opened.identity;
        self.id = PeerId {
            member: identity.member,
            incarnation: identity.incarnation,
        };
        if !opened.recovered.quarantined.is_empty() && !self.rotten {
            return Err(StartError::Refused(format!(
                "a sound disk is called damaged: {:?}",
                opened.recovered.quarantined
            )));
        }
        if opened.recovered.vote.is_none() && !self.rotten {
            return Err(StartError::Refused("the vote record is lost".into()));
        }
        // Who belongs to no cluster yet has voted for nobody: there is nothing to lose.
        self.votes_lost = opened.recovered.vote.is_none() && identity.cluster != 0;
        if identity.cluster == 0 || self.votes_lost {
            let bootstrap = if self.votes_lost {
                Bootstrap::again(self.introduction(), identity.cluster, now.monotonic)
            } else if self.joins {
                Bootstrap::joining(self.introduction(), now.monotonic)
            } else {
                Bootstrap::new(self.introduction(), now.monotonic)
            };
            self.asking = Some(Asking {
                bootstrap,
                opened,
                boot,
            });
            return Ok(Started::Asks);
        }
        self.run(common, opened, boot, now)
            .map(|recovery| Started::Runs(Box::new(recovery)))
    }

    /// The asking has ended: the identity is made durable, and the member runs.
    pub fn join(
        &mut self,
        common: &Common,
        id: PeerId,
        cluster: u64,
        bootstrap: Configuration,
        now: Now,
    ) -> Result<Recovery, StartError> {
        let Asking {
            mut opened, boot, ..
        } = self.asking.take().expect("the caller has looked");
        opened.identity = Identity {
            member: id.member,
            directory: opened.identity.directory,
            incarnation: id.incarnation,
            cluster,
            bootstrap,
        };
        let written = opened.log.write_identity(&opened.identity);
        if self.platter.burned() {
            return Err(StartError::Stopped);
        }
        written.map_err(|error| StartError::Disk(format!("{error:?}")))?;
        self.began_again = std::mem::take(&mut self.votes_lost);
        if opened.recovered.vote.is_none() {
            // As the server does: it has voted for nobody yet, and never again as who it was.
            let recovered = &mut opened.recovered;
            let snapshot = recovered.snapshot.as_ref().map(|mark| mark.term);
            let newest = recovered.terms.last().map(|(_, term)| *term);
            let term = newest.or(snapshot).unwrap_or_default();
            opened.log.begin_incarnation(term);
            let synced = opened.log.sync();
            if self.platter.burned() {
                return Err(StartError::Stopped);
            }
            synced.map_err(|error| StartError::Disk(format!("{error:?}")))?;
            recovered.vote = Some(raft::Vote {
                term,
                candidate: None,
            });
            recovered.entries_lost = false;
        }
        self.id = id;
        let started = self.run(common, opened, boot, now);
        started.map_err(|error| match error {
            // It opened its directory long ago; a bit flipped since. The next start will find that.
            StartError::Refused(text) if self.rotten => StartError::Disk(text),
            error => error,
        })
    }

    fn run(
        &mut self,
        common: &Common,
        opened: Opened<MemoryDisk>,
        boot: u64,
        now: Now,
    ) -> Result<Recovery, StartError> {
        let Opened {
            mut log,
            snapshots,
            identity,
            recovered,
        } = opened;
        let Some(last_vote) = recovered.vote else {
            return Err(StartError::Refused("the vote record is lost".into()));
        };
        let first = SnapshotMark {
            configuration: identity.bootstrap.clone(),
            index: Index(0),
            term: raft::Term(0),
        };
        let snapshot_index = recovered.snapshot.as_ref().map(|mark| mark.index);
        let entries = read_all(&mut log, snapshot_index.unwrap_or(Index(0)), recovered.last)
            .map_err(StartError::Refused)?;
        let recovery = Recovery {
            vote: Some(last_vote),
            entries,
            snapshot: recovered.snapshot.clone(),
            last: recovered.last,
            entries_lost: recovered.entries_lost,
            rotten: self.rotten,
        };
        let restored = Restored {
            id: self.id,
            boot: Boot(boot),
            vote: mutated!(ForgetVote, raft::Vote::default(), last_vote),
            snapshot: recovered.snapshot.unwrap_or(first),
            terms: recovered.terms,
            last: recovered.last,
            configurations: recovered.configurations,
            commit: recovered.commit,
            standing: if recovered.entries_lost {
                Standing::EntriesLost
            } else {
                Standing::Sound
            },
        };
        let start = replica::Boot {
            cluster: identity.cluster,
            cell: 1,
            restored,
            seed: boot,
        };
        let mut settings = common.replica.clone();
        settings.state.level_known = self.feature_level;
        settings.limits.state_bytes_max = self.bytes_max;
        settings.advertised = common.publishes.then(|| Advertised {
            peer_addresses: vec![format!("{}:2380", self.lane)],
            client_addresses: vec![format!("{}:2379", self.lane)],
            feature_level: self.feature_level,
            priority: 0,
        });
        self.process = Some(Process {
            replica: Replica::new(settings, start, now),
            log,
            snapshots,
            inbox: VecDeque::new(),
            turn_planned: false,
            busy_until: 0,
            timer: None,
            timer_generation: 0,
            log_tasks: VecDeque::new(),
            log_busy: false,
            appended_unsynced: 0,
            snapshot_tasks: VecDeque::new(),
            snapshot_busy: false,
            doomed_after: None,
            installed_at: None,
            log_fails: false,
            told_full: false,
            told: (0, 0),
            identity,
            entries_lost: recovery.entries_lost,
        });
        Ok(recovery)
    }
}

/// Reads every entry after `after` back from the log.
fn read_all(
    log: &mut Log<MemoryDisk>,
    after: Index,
    last: Index,
) -> Result<Vec<raft::Entry>, String> {
    let mut entries: Vec<raft::Entry> = Vec::new();
    while after.0 + (entries.len() as u64) < last.0 {
        let from = Index(after.0 + entries.len() as u64 + 1);
        match log.read(from, 1 << 20) {
            ReadEntries::Entries(mut read) => entries.append(&mut read),
            other => {
                return Err(format!(
                    "the log goes up to {last} and gives at {from}: {other:?}"
                ));
            }
        }
    }
    Ok(entries)
}
