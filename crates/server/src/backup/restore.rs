//! A data directory for one member of a new cluster, made from the file of a snapshot. Members restored from the same file with the same list form
//! one cluster: its id and theirs follow from the two.

use super::file::{Loaded, Sha, Summary, load};
use super::{BackupError, Raised};
use log::{FileDisk, Identity, Opened, Settings, StoreError};
use raft::{
    Configuration, Incarnation, Index, Member, MemberId, PeerId, Persist, SnapshotMark, Term, Vote,
};
use sha2::{Digest, Sha256};
use state::{SnapshotHeader, State};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The incarnation of members that begin together.
const FIRST_INCARNATION: Incarnation = Incarnation(1);
/// The one cell of this release.
const CELL: u64 = 1;
/// Bytes of the snapshot written at once.
const PIECE_BYTES: usize = 1 << 20;
/// What is made first lies in here, so that a directory half made is taken for none.
const UNFINISHED: &str = "restoring";
/// What a directory may hold before: what file systems put at the top of a mount.
const TOLERATED: [&str; 2] = ["lost+found", UNFINISHED];
/// Taken for a data directory only with this, so it comes last.
const VERSION_FILE: &str = "version";
const LOCK_FILE: &str = "lock";

/// What to restore, and for whom.
#[derive(Clone, Debug)]
pub struct Restoration {
    /// The file.
    pub file: PathBuf,
    /// The directory to make. It must be empty, or not exist.
    pub data_dir: PathBuf,
    /// The member's name.
    pub name: String,
    /// All members of the new cluster, by name, with the addresses at which they reach each other.
    pub cluster: BTreeMap<String, String>,
    /// How far to raise.
    pub raised: Raised,
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Restored {
    /// What the file said.
    pub summary: Summary,
    /// The new cluster.
    pub cluster: u64,
    /// The member.
    pub member: u64,
    /// Its first index.
    pub index: u64,
    /// Its first revision: all before it count as compacted.
    pub revision: i64,
}

impl Restoration {
    /// Looks whether the wishes fit each other.
    ///
    /// # Errors
    /// The name is not in the list.
    pub fn check(&self) -> Result<(), BackupError> {
        let Restoration { name, cluster, .. } = self;
        if cluster.contains_key(name) {
            return Ok(());
        }
        let known: Vec<&str> = cluster.keys().map(String::as_str).collect();
        Err(BackupError(format!(
            "name: {name} is not in --cluster, which lists {}; list every member, this one included",
            known.join(", ")
        )))
    }
}

/// Makes the directory.
///
/// # Errors
/// The list, the file or the directory cannot be used. A directory that was begun is no data directory; restoring once more begins anew.
pub fn restore(restoration: &Restoration) -> Result<Restored, BackupError> {
    let Restoration {
        file,
        data_dir,
        name,
        cluster,
        raised,
    } = restoration;
    restoration.check()?;
    check_empty(data_dir)?;
    let Loaded { summary, mut state } = load(file, *raised)?;
    let plan = Plan::new(&summary.sha256, *raised, cluster)?;
    let member = plan.members[name];
    let mark = SnapshotMark {
        index: Index(state.applied()),
        term: Term(summary.term),
        configuration: plan.configuration,
    };
    let identity = Identity {
        member,
        directory: member,
        incarnation: FIRST_INCARNATION,
        cluster: plan.cluster,
        bootstrap: mark.configuration.clone(),
    };
    write(data_dir, &mut state, &mark, &identity)
        .map_err(|why| BackupError(format!("data-dir: {}: {why}", data_dir.display())))?;
    Ok(Restored {
        summary,
        cluster: plan.cluster,
        member: member.0,
        index: mark.index.0,
        revision: state.revision(),
    })
}

/// Who the members of the new cluster are.
struct Plan {
    cluster: u64,
    members: BTreeMap<String, MemberId>,
    configuration: Configuration,
}

impl Plan {
    fn new(
        content: &Sha,
        raised: Raised,
        listed: &BTreeMap<String, String>,
    ) -> Result<Plan, BackupError> {
        let mut seed = Sha256::new();
        seed.update(b"synod restore\0");
        seed.update(content);
        seed.update(raised.generation().to_le_bytes());
        for (name, address) in listed {
            for text in [name, address] {
                seed.update((text.len() as u64).to_le_bytes());
                seed.update(text);
            }
        }
        let cluster = number(seed);
        let mut members = BTreeMap::new();
        let mut configuration = Configuration::default();
        for (name, address) in listed {
            let mut seed = Sha256::new();
            seed.update(b"synod restored member\0");
            seed.update(cluster.to_le_bytes());
            seed.update(name);
            let member = MemberId(number(seed));
            members.insert(name.clone(), member);
            configuration.voters.insert(PeerId {
                member,
                incarnation: FIRST_INCARNATION,
            });
            let place = Member {
                incarnation: FIRST_INCARNATION,
                name: name.clone(),
                peer_addresses: vec![address.clone()],
                ..Member::default()
            };
            if configuration.members.insert(member, place).is_some() {
                return Err(BackupError(format!(
                    "cluster: {name} comes to the same id as another member; give it another name"
                )));
            }
        }
        Ok(Plan {
            cluster,
            members,
            configuration,
        })
    }
}

/// The first bytes of a hash as an id, which is never 0.
fn number(seed: Sha256) -> u64 {
    let sha: Sha = seed.finalize().into();
    u64::from_le_bytes(*sha.first_chunk().expect("a hash is longer")).max(1)
}

fn check_empty(data_dir: &Path) -> Result<(), BackupError> {
    let wrong = |why: String| BackupError(format!("data-dir: {} {why}", data_dir.display()));
    let entries = match fs::read_dir(data_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(wrong(format!("cannot be read: {error}"))),
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !TOLERATED.contains(&name.as_str()) {
            return Err(wrong(format!(
                "is not empty: it holds '{name}'; give an empty directory, or one that does not exist"
            )));
        }
    }
    Ok(())
}

/// Writes a directory in which the log begins behind the snapshot, durably.
fn write(
    data_dir: &Path,
    state: &mut State,
    mark: &SnapshotMark,
    identity: &Identity,
) -> Result<(), String> {
    let unfinished = data_dir.join(UNFINISHED);
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(|error| error.to_string())?;
    }
    let disk = FileDisk::open(&unfinished).map_err(|error| error.to_string())?;
    let Opened {
        mut log,
        mut snapshots,
        ..
    } = log::open(disk, Settings::default(), identity.member)
        .map_err(|error| format!("{error:?}"))?;
    let failed = |error: StoreError| match error {
        StoreError::Full => "the disk is full".to_owned(),
        StoreError::Failed(error) => error.to_string(),
        StoreError::Damaged(what) => what,
    };
    let header = SnapshotHeader {
        cluster: identity.cluster,
        cell: CELL,
        index: mark.index.0,
        term: mark.term.0,
        configuration: mark.configuration.encode(),
        ..SnapshotHeader::default()
    };
    let (mut bytes, mut checksum) = (0, 0);
    let mut cursor = state.snapshot_begin(header);
    while let Some(piece) = state.snapshot_step(&mut cursor, PIECE_BYTES) {
        snapshots.stage(0, bytes, &piece).map_err(failed)?;
        bytes += piece.len() as u64;
        checksum = crc32c::crc32c_append(checksum, &piece);
    }
    state.snapshot_cancel(cursor);
    snapshots
        .stage_finish(0, mark, bytes, checksum)
        .map_err(failed)?;
    log.write_identity(identity).map_err(failed)?;
    log.append(&Persist {
        sequence: 1,
        vote: Some(Vote {
            term: mark.term,
            candidate: None,
        }),
        reset: Some(mark.clone()),
        entries: Vec::new(),
        commit: mark.index,
    });
    log.sync().map_err(failed)?;
    drop((log, snapshots));
    take_over(data_dir, &unfinished)
        .map_err(|error| format!("cannot be completed: {error}; restore once more"))
}

/// Moves everything to its place, what makes it a data directory last.
fn take_over(data_dir: &Path, unfinished: &Path) -> std::io::Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(unfinished)? {
        names.push(entry?.file_name());
    }
    names.sort_by_key(|name| name == VERSION_FILE);
    let directory = fs::File::open(data_dir)?;
    for name in names {
        if name == LOCK_FILE {
            fs::remove_file(unfinished.join(name))?;
            continue;
        }
        if name == VERSION_FILE {
            directory.sync_all()?;
        }
        fs::rename(unfinished.join(&name), data_dir.join(&name))?;
    }
    fs::remove_dir(unfinished)?;
    directory.sync_all()
}
