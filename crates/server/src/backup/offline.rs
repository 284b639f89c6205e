//! The state of a cluster saved from the data directory of one of its members that is stopped: when too few members are left for the cluster to answer.
//!
//! What the directory's snapshot and log hold is taken whole, entries that were not known to be decided as well: each may have been acknowledged by
//! those who are gone, and one that was not may take effect as any request without an answer may.

use super::BackupError;
use super::file::{BackupWriter, Sha};
use log::{Disk, FileDisk, Log, OpenError, Opened, ReadEntries, Snapshots};
use raft::{Configuration, Entry, Index, MemberId, Payload, Term};
use state::{ApplyError, Budget, Loader, SnapshotHeader, State};
use std::io::Write;
use std::path::Path;

/// Bytes read or written at once.
const PIECE_BYTES: usize = 1 << 20;
/// The one cell of this release.
const CELL: u64 = 1;

/// Writes the file of a snapshot from the directory of a member that does not run; gives the file back, with the hash of its content. The directory is
/// opened as a start opens it: damage is set aside.
///
/// # Errors
/// The directory is in use, is no member's, or what it holds does not make a state.
pub fn save_directory<W: Write>(data_dir: &Path, file: W) -> Result<(W, Sha), BackupError> {
    let wrong = |why: String| BackupError(format!("data-dir: {} {why}", data_dir.display()));
    if !data_dir.join("version").exists() {
        return Err(wrong(
            "is no data directory of a member; give that of one that has stopped".into(),
        ));
    }
    let disk = FileDisk::open(data_dir).map_err(|error| wrong(error.to_string()))?;
    let Opened {
        mut log,
        mut snapshots,
        identity,
        recovered,
    } = log::open(disk, log::Settings::default(), MemberId(0)).map_err(|error| {
        wrong(match error {
            OpenError::Locked => "is in use: stop the member first".into(),
            other => format!("cannot be read: {other:?}"),
        })
    })?;
    if identity.cluster == 0 {
        return Err(wrong("belongs to no cluster yet".into()));
    }
    let mut replay = Replay {
        state: load(&mut snapshots).map_err(wrong)?,
        term: recovered
            .snapshot
            .as_ref()
            .map_or(Term(0), |mark| mark.term),
        configuration: recovered
            .snapshot
            .map_or(identity.bootstrap, |mark| mark.configuration),
    };
    replay.all(&mut log, recovered.last).map_err(wrong)?;
    let header = SnapshotHeader {
        cluster: identity.cluster,
        cell: CELL,
        index: replay.state.applied(),
        term: replay.term.0,
        configuration: replay.configuration.encode(),
        ..SnapshotHeader::default()
    };
    write(&mut replay.state, header, file)
        .map_err(|error| BackupError(format!("the file cannot be written: {error}")))
}

/// The state of the directory's snapshot; an empty one if there is none.
fn load<D: Disk>(snapshots: &mut Snapshots<D>) -> Result<State, String> {
    let settings = state::Settings::default();
    let Some((mark, bytes, _)) = snapshots.snapshot() else {
        return Ok(State::new(settings));
    };
    let mut loader = Loader::new(settings);
    let mut at = 0;
    while at < bytes {
        let piece = snapshots
            .snapshot_read(mark.index, at, PIECE_BYTES)
            .map_err(|error| format!("has a snapshot that cannot be read: {error:?}"))?;
        if piece.is_empty() {
            return Err(format!("has a snapshot that ends at byte {at} of {bytes}"));
        }
        loader
            .feed(&piece)
            .map_err(|error| format!("has a snapshot that makes no state: {error:?}"))?;
        at += piece.len() as u64;
    }
    let (state, _) = loader
        .finish()
        .map_err(|error| format!("has a snapshot that makes no state: {error:?}"))?;
    Ok(state)
}

/// The log applied to a state.
struct Replay {
    state: State,
    term: Term,
    configuration: Configuration,
}

impl Replay {
    fn all<D: Disk>(&mut self, log: &mut Log<D>, last: Index) -> Result<(), String> {
        while self.state.applied() < last.0 {
            let from = Index(self.state.applied() + 1);
            match log.read(from, PIECE_BYTES) {
                ReadEntries::Entries(entries) => {
                    entries.into_iter().try_for_each(|entry| self.one(entry))?;
                }
                ReadEntries::Absent => return Err(format!("has no entry {from} in its log")),
                ReadEntries::Damaged(damage) => {
                    return Err(format!("has a damaged log: {}", damage.what));
                }
            }
        }
        Ok(())
    }

    fn one(&mut self, entry: Entry) -> Result<(), String> {
        let index = entry.index.0;
        self.term = entry.term;
        match entry.payload {
            Payload::Batch(batch) => {
                self.state
                    .apply_begin(index, &batch)
                    .map_err(|error| match error {
                        ApplyError::NewerVersion { needed, known } => format!(
                            "needs feature level {needed} at entry {index}, this binary knows {known}; use the version that wrote it"
                        ),
                        ApplyError::Malformed(why) => {
                            format!("has an entry {index} that is no batch: {why}")
                        }
                    })?;
                while self.state.apply_step(Budget(u64::MAX)).is_none() {}
            }
            Payload::Noop => self.state.apply_nothing(index),
            Payload::Configuration(configuration) => {
                self.state.apply_nothing(index);
                self.configuration = configuration;
            }
        }
        Ok(())
    }
}

fn write<W: Write>(
    state: &mut State,
    header: SnapshotHeader,
    file: W,
) -> std::io::Result<(W, Sha)> {
    let mut writer = BackupWriter::new(file);
    let mut cursor = state.snapshot_begin(header);
    let mut written = Ok(());
    while let Some(piece) = state.snapshot_step(&mut cursor, PIECE_BYTES) {
        written = writer.write(&piece);
        if written.is_err() {
            break;
        }
    }
    state.snapshot_cancel(cursor);
    written?;
    let (file, _, sha) = writer.finish()?;
    Ok((file, sha))
}
