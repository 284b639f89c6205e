//! The file of a snapshot that was saved: a snapshot of ours as `state` writes it, then its end. Read back, it is checked to the last byte; so is a
//! file of etcd's, which is taken as well.
//!
//! ```text
//! content   8 "SYNODEND"   32 SHA-256 of the content
//! ```

use super::{BackupError, Raised};
use etcd::bolt::{MAGIC as BOLT_MAGIC, Source};
use sha2::{Digest, Sha256};
use state::{Loader, Settings, SnapshotError, State};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What the content begins with, and the name of its first section.
const MAGIC: [u8; 16] = *b"SYNODSNPheader\0\0";
/// A snapshot in the data directory of a member begins with the first half of it.
const MAGIC_BYTES: usize = 8;
/// What the end begins with.
const END_MAGIC: [u8; 8] = *b"SYNODEND";
const SHA_BYTES: u64 = 32;
const END_BYTES: u64 = END_MAGIC.len() as u64 + SHA_BYTES;
/// Where a file of etcd's says what it is.
const BOLT_MAGIC_AT: usize = 16;
/// bbolt writes whole sectors; a hash left over behind them is the one that etcd's snapshots end with.
const SECTOR_BYTES: u64 = 512;
/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;

/// A SHA-256.
pub type Sha = [u8; SHA_BYTES as usize];

/// Writes the file of a snapshot.
pub struct BackupWriter<W: Write> {
    out: W,
    sha: Sha256,
    bytes: u64,
}

impl<W: Write> BackupWriter<W> {
    /// Begins.
    pub fn new(out: W) -> BackupWriter<W> {
        BackupWriter {
            out,
            sha: Sha256::new(),
            bytes: 0,
        }
    }

    /// Adds content.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.sha.update(piece);
        self.bytes += piece.len() as u64;
        self.out.write_all(piece)
    }

    /// Ends the file; gives it, the bytes in it, and the hash of its content.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(mut self) -> io::Result<(W, u64, Sha)> {
        let sha: Sha = self.sha.finalize().into();
        self.out.write_all(&END_MAGIC)?;
        self.out.write_all(&sha)?;
        self.out.flush()?;
        Ok((self.out, self.bytes + END_BYTES, sha))
    }
}

/// Whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Saved by `synod snapshot save`.
    Synod,
    /// A bbolt file of etcd's: saved by `etcdctl snapshot save`, or the `member/snap/db` of a data directory.
    Etcd,
}

/// What a file says of itself, and what was found to be so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Whose it is.
    pub kind: Kind,
    /// Bytes of the file.
    pub bytes: u64,
    /// Of the content.
    pub sha256: Sha,
    /// The file ends with that hash. A data directory's has none.
    pub has_hash: bool,
    /// The cluster it is from; 0 if the file does not tell.
    pub cluster: u64,
    /// Index of the last log entry in it.
    pub index: u64,
    /// Term of that entry.
    pub term: u64,
    /// The newest revision.
    pub revision: i64,
    /// The oldest readable revision; 0 before the first compaction.
    pub compacted: i64,
    /// Live keys.
    pub keys: u64,
    /// Leases.
    pub leases: u64,
    /// Users.
    pub users: u64,
    /// Keys that named a lease which was gone.
    pub adrift: u64,
}

/// A file that was read and found whole.
pub struct Loaded {
    /// What it says.
    pub summary: Summary,
    /// The first state of the cluster that goes on from it.
    pub(super) state: State,
}

/// A file, by position.
struct Open<'a> {
    file: &'a File,
    length: u64,
}

impl Source for Open<'_> {
    fn length(&self) -> u64 {
        self.length
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<(), String> {
        self.file
            .read_exact_at(into, at)
            .map_err(|error| format!("it cannot be read at byte {at}: {error}"))
    }
}

/// Reads and checks a file, and makes the first state of a new cluster of it. The key that signs tokens follows from the content, as all members that
/// are restored must have the same.
///
/// # Errors
/// It cannot be read, is damaged, newer, or no snapshot.
pub fn load(path: &Path, raised: Raised) -> Result<Loaded, BackupError> {
    let wrong = |why: String| BackupError(format!("{}: {why}", path.display()));
    let file = File::open(path).map_err(|error| wrong(format!("cannot be opened: {error}")))?;
    let length = file
        .metadata()
        .map_err(|error| wrong(error.to_string()))?
        .len();
    let whole = Open {
        file: &file,
        length,
    };
    let mut front = [0; BOLT_MAGIC_AT + 4];
    if length < front.len() as u64 {
        return Err(wrong(format!("it has {length} bytes, and is no snapshot")));
    }
    whole.read(0, &mut front).map_err(wrong)?;
    let loaded = if front[..MAGIC.len()] == MAGIC {
        load_own(&whole, raised)
    } else if front[..MAGIC_BYTES] == MAGIC[..MAGIC_BYTES] {
        Err("it is a snapshot from the data directory of a member; save one with `synod snapshot save`".into())
    } else if front[BOLT_MAGIC_AT..] == BOLT_MAGIC.to_le_bytes() {
        load_etcd(&whole, raised)
    } else {
        Err("byte 0: it begins neither as a snapshot of Synod nor as one of etcd".into())
    };
    loaded.map_err(wrong)
}

fn load_own(whole: &Open<'_>, raised: Raised) -> Result<Loaded, String> {
    let end = whole.length.saturating_sub(END_BYTES);
    let content = Open {
        file: whole.file,
        length: end,
    };
    let mut last = [0; END_BYTES as usize];
    whole.read(end, &mut last)?;
    if last[..END_MAGIC.len()] != END_MAGIC {
        return Err(format!(
            "it is cut short: its end is missing at byte {}",
            whole.length
        ));
    }
    let mut loader = Loader::new(Settings::default());
    // A damaged block is named by its place; the hash only says that something is wrong.
    let sha256 = digest(&content, |piece| loader.feed(piece).map_err(text))?;
    check_sha(&sha256, &last[END_MAGIC.len()..])?;
    let (mut state, header) = loader.finish().map_err(text)?;
    let summary = Summary {
        kind: Kind::Synod,
        bytes: whole.length,
        sha256,
        has_hash: true,
        cluster: header.cluster,
        index: header.index,
        term: header.term,
        revision: state.revision(),
        compacted: state.compacted(),
        keys: state.keys(),
        leases: state.leases() as u64,
        users: state.auth().users().count() as u64,
        adrift: 0,
    };
    let key = raised.token_key(state.auth().token_key(), &sha256);
    state
        .restore(raised.raise(), &key)
        .map_err(|full| full.to_string())?;
    Ok(Loaded { summary, state })
}

fn load_etcd(whole: &Open<'_>, raised: Raised) -> Result<Loaded, String> {
    let has_hash = whole.length % SECTOR_BYTES == SHA_BYTES;
    let content = Open {
        file: whole.file,
        length: whole.length - if has_hash { SHA_BYTES } else { 0 },
    };
    let sha256 = digest(&content, |_| Ok(()))?;
    if has_hash {
        let mut told = [0; SHA_BYTES as usize];
        whole.read(content.length, &mut told)?;
        check_sha(&sha256, &told)?;
    }
    let key = raised.token_key(&[], &sha256);
    let imported = etcd::import::import(&content, Settings::default(), raised.raise(), &key)
        .map_err(|error| error.to_string())?;
    let state = imported.state;
    let summary = Summary {
        kind: Kind::Etcd,
        bytes: whole.length,
        sha256,
        has_hash,
        cluster: 0,
        index: imported.index,
        term: imported.term,
        revision: imported.revision,
        compacted: imported.compacted,
        keys: state.keys(),
        leases: state.leases() as u64,
        users: state.auth().users().count() as u64,
        adrift: imported.adrift,
    };
    Ok(Loaded { summary, state })
}

/// Reads all of it once.
fn digest(
    content: &Open<'_>,
    mut each: impl FnMut(&[u8]) -> Result<(), String>,
) -> Result<Sha, String> {
    let (mut sha, mut at) = (Sha256::new(), 0);
    let mut buffer = vec![0; READ_BYTES];
    while at < content.length {
        let piece = &mut buffer[..(content.length - at).min(READ_BYTES as u64) as usize];
        content.read(at, piece)?;
        sha.update(&piece);
        each(piece)?;
        at += piece.len() as u64;
    }
    Ok(sha.finalize().into())
}

fn check_sha(found: &Sha, told: &[u8]) -> Result<(), String> {
    if found[..] == *told {
        Ok(())
    } else {
        Err("it is damaged: its content does not match the hash at its end".into())
    }
}

fn text(error: SnapshotError) -> String {
    match error {
        SnapshotError::Corrupt(why) => format!("it is damaged: {why}"),
        SnapshotError::NewerFormat { format, known } => format!(
            "it has format {format}, up to {known} is known here; use the version that saved it, or a newer one"
        ),
    }
}
