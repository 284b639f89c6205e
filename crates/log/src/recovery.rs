//! Recovery: from the files of the log to a log that may be believed, and a member that knows how far.
//!
//! 1. Find the newest segment, and by the headers the chain of segments it continues (`chain`).
//! 2. Replay the batches along the chain. Where the log ends, judge the rest of the file: never written, or damaged.
//! 3. Begin a new segment. It repeats what the page cache may only pretend to be durable (the last batch; everything of a segment that is
//!    hardly filled, so that restarts do not pile up files), with the vote and the loss mark. It is durable before anything is set aside.
//! 4. Set damaged files aside, recycle those that no longer count.
//!
//! A crash at any step is followed by the same recovery again.

use crate::chain::{Findings, Kept, find_chain, replay_chain};
use crate::history::History;
use crate::index::{BatchEffect, EntryIndex};
use crate::pool::Pool;
use crate::record::encode_reset;
use crate::scan::{Image, Listing};
use crate::sector::SECTOR_BYTES;
use crate::segment::{Point, Standing, blank_name, file_name, standing_at_end};
use crate::wal::{Segment, Wal, apply_effect};
use crate::{Disk, DiskError, Identity, OpenError, Settings, directory};
use raft::{Configuration, Index, SnapshotMark, Term, Vote};
use std::collections::{BTreeSet, VecDeque};

/// A segment filled to less than its length divided by this is copied whole into the new one.
const COPY_DIVISOR: u64 = 4;

/// A log that may be believed.
pub struct RecoveredLog<D: Disk> {
    /// The log, ready to be written to.
    pub wal: Wal<D>,
    /// The newest vote; `None` if it is lost.
    pub vote: Option<Vote>,
    /// Runs of terms after the snapshot.
    pub terms: Vec<(Index, Term)>,
    /// The last entry, or the snapshot.
    pub last: Index,
    /// Configurations after the snapshot.
    pub configurations: Vec<(Index, Configuration)>,
    /// Entries up to here are decided; at least what the snapshot has.
    pub commit: Index,
    /// Acknowledged entries may be missing.
    pub entries_lost: bool,
    /// What was set aside, in words.
    pub quarantined: Vec<String>,
}

/// Recovers the log of a directory whose newest snapshot is `snapshot`.
///
/// # Errors
/// The directory is not what it should be, or the disk failed. Nothing that counted is gone.
pub fn recover<D: Disk>(
    disk: &mut D,
    settings: &Settings,
    identity: &Identity,
    snapshot: Option<&SnapshotMark>,
) -> Result<RecoveredLog<D>, OpenError> {
    let start = snapshot.map_or(0, |mark| mark.index.0);
    let listing = Listing::read(disk)?;
    let mut findings = find_chain(disk, &listing, identity, start)?;
    let mut kept = replay_chain(disk, &mut findings, start)?;
    if kept.history.base > start {
        kept = detach(kept, &mut findings, start);
    }
    let standing = standing(disk, &listing, &findings, &kept)?;
    let reset = snapshot.filter(|mark| must_reset(&kept.history, mark));
    let mut history = kept.history.clone();
    if let Some(mark) = reset {
        history.on_reset(mark);
    }

    let mut pool = fill_pool(disk, settings, &listing);
    for generation in &findings.unused {
        pool.recycle(*generation, listing.logs[generation]);
    }
    for generation in &findings.worn {
        pool.discard(*generation, listing.logs[generation]);
    }
    let mut wal = Wal::new(identity.directory, pool, standing);
    let sealed = rebuild(disk, &mut wal, kept, reset)?;
    let kept: BTreeSet<u64> = wal
        .segments
        .iter()
        .map(|segment| segment.generation)
        .collect();
    wal.begin(sealed).map_err(OpenError::Disk)?;
    let quarantined = tidy(disk, &mut wal, &listing, &findings, &kept, standing)?;
    match wal.pool.prepare() {
        // Without the reserve the log still works; `low_on_space` tells.
        Ok(()) | Err(DiskError::Full) => {}
        Err(error) => return Err(OpenError::Disk(error)),
    }
    let after = Index(start);
    Ok(RecoveredLog {
        wal,
        vote: standing.vote,
        terms: history.terms_after(after),
        last: Index(history.last),
        configurations: history.configurations_after(after),
        commit: Index(standing.commit.min(history.last).max(start)),
        entries_lost: standing.entries_lost,
        quarantined,
    })
}

/// A snapshot was taken over while the log had not yet said so: the log is behind it, or has another entry in its place.
fn must_reset(history: &History, mark: &SnapshotMark) -> bool {
    history.last < mark.index.0
        || history
            .term_at(mark.index)
            .is_some_and(|term| term != mark.term)
}

/// The entries right after the snapshot are missing, so that none of those kept attaches to it.
fn detach(kept: Kept, findings: &mut Findings, start: u64) -> Kept {
    findings.lost = true;
    for (link, _) in &kept.segments {
        let why = format!(
            "the entries between the snapshot at {start} and {} are missing",
            kept.history.base + 1
        );
        findings.damaged.entry(link.generation).or_insert(why);
    }
    Kept {
        segments: Vec::new(),
        history: History::new(start),
        end: kept.end,
    }
}

/// How far the member may be believed: as the last batch says, unless that may be in a damaged place.
fn standing<D: Disk>(
    disk: &mut D,
    listing: &Listing,
    findings: &Findings,
    kept: &Kept,
) -> Result<Standing, OpenError> {
    if !findings.lost {
        return Ok(kept.end.unwrap_or(Standing {
            vote: Some(Vote::default()),
            entries_lost: false,
            commit: 0,
        }));
    }
    let begun = listing
        .logs
        .iter()
        .rev()
        .find(|(generation, _)| !findings.is_empty_file(**generation));
    let found = match begun {
        Some((&generation, &sectors)) => {
            let image = Image::load(disk, generation, sectors)?;
            standing_at_end(&image.bytes, generation).and_then(|standing| standing.vote)
        }
        None => None,
    };
    Ok(Standing {
        vote: mutated!(LostVoteIsNoVote, Some(found.unwrap_or_default()), found),
        entries_lost: true,
        // Not that of a later batch: it may speak of entries that are lost.
        commit: kept.end.map_or(0, |end| end.commit),
    })
}

fn fill_pool<D: Disk>(disk: &mut D, settings: &Settings, listing: &Listing) -> Pool<D> {
    let sectors = (settings.segment_bytes / SECTOR_BYTES as u64).max(1);
    let mut pool = Pool::new(disk.clone(), sectors, listing.generation_next);
    for (&generation, &sectors) in &listing.spares {
        pool.adopt_spare(generation, sectors);
    }
    for (&generation, &sectors) in &listing.blanks {
        let _dead_file_stays = disk.remove(&blank_name(generation, sectors));
    }
    pool
}

/// Gives the log its segments and entries back, and queues what the new segment repeats. Tells how many segments are to stay just as they are.
fn rebuild<D: Disk>(
    disk: &mut D,
    wal: &mut Wal<D>,
    kept: Kept,
    reset: Option<&SnapshotMark>,
) -> Result<usize, OpenError> {
    let base = kept
        .segments
        .first()
        .map_or(kept.history.base, |(link, _)| link.header.base);
    let mut index = EntryIndex::new(base);
    let mut segments: VecDeque<Segment<D>> = VecDeque::new();
    let (mut durable, mut position) = (Point::default(), 0);
    let (mut records, mut effect) = (Vec::new(), BatchEffect::default());
    let mut sealed = 0;
    let last = kept.segments.len().saturating_sub(1);
    for (n, (link, scan)) in kept.segments.into_iter().enumerate() {
        let hardly_filled = scan.sector <= link.sectors / COPY_DIVISOR;
        let stays = match scan.batches.len() {
            all if n < last => all,
            all if mutated!(TrustCacheAfterRestart) => all,
            _ if scan.damaged || hardly_filled => 0,
            all => all - 1,
        };
        if stays > 0 {
            let file = disk
                .open(&file_name(link.generation, link.sectors))
                .map_err(OpenError::Disk)?;
            segments.push_back(Segment {
                generation: link.generation,
                sectors: link.sectors,
                sectors_used: 0,
                last_entry: 0,
                damage: None,
                file,
            });
        }
        sealed += usize::from(stays == scan.batches.len());
        durable = link.header.previous;
        for (number, batch) in scan.batches.into_iter().enumerate() {
            if number < stays {
                apply_effect(
                    &mut index,
                    &mut segments,
                    batch.effect,
                    batch.place,
                    position,
                );
                position += batch.sectors * SECTOR_BYTES as u64;
                segments.back_mut().expect("just pushed").sectors_used += batch.sectors;
                durable = Point {
                    generation: link.generation,
                    batches: number as u32 + 1,
                    chain: batch.chain,
                };
            } else {
                records.extend_from_slice(&batch.records);
                assert!(
                    effect.then(batch.effect),
                    "a gap between batches that replayed without one"
                );
            }
        }
    }
    if let Some(mark) = reset {
        encode_reset(&mut records, mark);
        effect.on_reset(mark.index.0);
    }
    wal.restore(segments, index, durable, position);
    wal.append_encoded(&records, effect);
    Ok(sealed)
}

/// Sets damaged files aside and recycles those that no longer count; says what was set aside.
fn tidy<D: Disk>(
    disk: &mut D,
    wal: &mut Wal<D>,
    listing: &Listing,
    findings: &Findings,
    kept: &BTreeSet<u64>,
    standing: Standing,
) -> Result<Vec<String>, OpenError> {
    let mut quarantined = Vec::new();
    for (&generation, &sectors) in &listing.logs {
        if kept.contains(&generation) || findings.is_empty_file(generation) {
            continue;
        }
        let why = match findings.damaged.get(&generation) {
            Some(why) => Some(why.as_str()),
            // An earlier start noted the loss and did not come to this.
            None if standing.entries_lost && !findings.copied(generation) => {
                Some("it was left from a damaged log")
            }
            None => None,
        };
        let Some(why) = why else {
            wal.pool.recycle(generation, sectors);
            continue;
        };
        let name = file_name(generation, sectors);
        let aside = directory::quarantine(disk, &name).map_err(OpenError::Disk)?;
        quarantined.push(format!("'{name}' was set aside as '{aside}': {why}"));
    }
    Ok(quarantined)
}
