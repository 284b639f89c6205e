//! A member as its machine sees it: a disk, a clock, and at most one process that runs the real replica on the real log.

use crate::clock::Clock;
use crate::oracle::Recovery;
use log::memory_disk::{MemoryDisk, Platter};
use log::{Identity, Log, OpenError, ReadEntries, Snapshots};
use raft::{
    Boot, Configuration, Index, Instant, PeerId, Persist, Restored, SnapshotMark, Standing,
};
use replica::{Input, Now, Replica};
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
    /// Number of the present (or last) process.
    pub life: u64,
    /// Since when it leads without reaching a majority.
    pub cut_off_since: Option<u64>,
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
    /// The replica was told that the disk is full.
    pub told_full: bool,
    /// Position told to the oracles last: commit and applied index.
    pub told: (u64, u64),
}

/// Work for the log's thread.
#[derive(Debug)]
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
    /// The cluster.
    pub cluster: u64,
    /// Its first configuration.
    pub configuration: Configuration,
    /// Settings of every replica.
    pub replica: replica::Settings,
    /// Settings of every log.
    pub log: log::Settings,
}

/// Why a process did not start.
#[derive(Debug)]
pub enum StartError {
    /// Its fuse burned while it opened its directory.
    Stopped,
    /// The disk failed or is full; a later start may succeed.
    Disk(String),
    /// The log refused.
    Refused(String),
}

impl Member {
    /// Opens the directory and starts a process on it; tells what was found there.
    pub fn start(&mut self, common: &Common, boot: u64, now: Now) -> Result<Recovery, StartError> {
        self.life += 1;
        let disk = self.platter.start_process();
        let (process, recovery) = match self.open(disk, common, boot, now) {
            Ok(opened) => opened,
            Err(_) if self.platter.burned() => return Err(StartError::Stopped),
            Err(error) => return Err(error),
        };
        self.process = Some(process);
        Ok(recovery)
    }

    fn open(
        &self,
        disk: MemoryDisk,
        common: &Common,
        boot: u64,
        now: Now,
    ) -> Result<(Process, Recovery), StartError> {
        let opened =
            log::open(disk, common.log.clone(), self.id.member).map_err(|error| match error {
                OpenError::Disk(error) => StartError::Disk(error.to_string()),
                error => StartError::Refused(format!("{error:?}")),
            })?;
        let (mut log, recovered) = (opened.log, opened.recovered);
        if opened.identity.cluster == 0 {
            let identity = Identity {
                member: self.id.member,
                incarnation: self.id.incarnation,
                cluster: common.cluster,
                bootstrap: common.configuration.clone(),
            };
            log.write_identity(&identity)
                .map_err(|error| StartError::Disk(format!("{error:?}")))?;
        }
        if !recovered.quarantined.is_empty() && !self.platter.was_damaged() {
            return Err(StartError::Refused(format!(
                "a sound disk is called damaged: {:?}",
                recovered.quarantined
            )));
        }
        let first = SnapshotMark {
            configuration: common.configuration.clone(),
            index: Index(0),
            term: raft::Term(0),
        };
        let restored = Restored {
            id: self.id,
            boot: Boot(boot),
            vote: mutated!(
                ForgetVote,
                raft::Vote::default(),
                recovered.vote.unwrap_or_default()
            ),
            snapshot: recovered.snapshot.clone().unwrap_or(first),
            terms: recovered.terms.clone(),
            last: recovered.last,
            configurations: recovered.configurations.clone(),
            commit: recovered.commit,
            standing: if recovered.entries_lost {
                Standing::EntriesLost
            } else {
                Standing::Sound
            },
        };
        let recovery = Recovery {
            vote: recovered.vote,
            entries: read_all(
                &mut log,
                recovered
                    .snapshot
                    .as_ref()
                    .map_or(Index(0), |mark| mark.index),
                recovered.last,
            )
            .map_err(StartError::Refused)?,
            snapshot: recovered.snapshot,
            last: recovered.last,
            entries_lost: recovered.entries_lost,
        };
        let start = replica::Boot {
            cluster: common.cluster,
            cell: 1,
            restored,
            seed: boot,
        };
        let process = Process {
            replica: Replica::new(common.replica.clone(), start, now),
            log,
            snapshots: opened.snapshots,
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
            told_full: false,
            told: (0, 0),
        };
        Ok((process, recovery))
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
