//! A member's disk: what it is told is durable at once. Entries and the snapshot may be damaged; recovery then does what the log's does.

use bytes::Bytes;
use raft::{
    Boot, Configuration, Entry, Index, Payload, PeerId, Persist, Restored, SnapshotMark, Standing,
    Term, Vote,
};
use replica::Input;
use std::collections::{BTreeMap, BTreeSet};

/// Entries in one piece of the log: damage to one of them reaches no further.
pub const SEGMENT_ENTRIES: u64 = 16;

pub struct Disk {
    pub bootstrap: Configuration,
    pub vote: Vote,
    pub entries: BTreeMap<u64, Entry>,
    pub snapshot: Option<(SnapshotMark, Bytes)>,
    pub staging: BTreeMap<u64, Vec<u8>>,
    /// The commit index written last.
    pub commit: Index,
    /// The first index still there.
    pub released: u64,
    /// Writes to staging files fail.
    pub staging_fails: bool,
    /// Entries that do not match their checksum.
    pub damaged: BTreeSet<u64>,
    /// The snapshot does not match its checksum, beyond its beginning.
    pub snapshot_damaged: bool,
    /// Acknowledged entries may be missing.
    pub entries_lost: bool,
    /// What was set aside.
    pub quarantined: Vec<String>,
}

impl Disk {
    pub fn new(bootstrap: Configuration) -> Disk {
        Disk {
            bootstrap,
            vote: Vote::default(),
            entries: BTreeMap::new(),
            snapshot: None,
            staging: BTreeMap::new(),
            commit: Index(0),
            released: 0,
            staging_fails: false,
            damaged: BTreeSet::new(),
            snapshot_damaged: false,
            entries_lost: false,
            quarantined: Vec::new(),
        }
    }

    /// Damages the entries `first..=last`.
    pub fn damage(&mut self, first: u64, last: u64) {
        self.damaged.extend(first..=last);
    }

    pub fn persist(&mut self, persist: Persist) {
        if let Some(vote) = persist.vote {
            self.vote = vote;
        }
        self.commit = self.commit.max(persist.commit);
        if let Some(mark) = persist.reset {
            self.entries.clear();
            self.damaged.clear();
            self.released = mark.index.0;
        }
        for entry in persist.entries {
            self.entries.split_off(&entry.index.0);
            self.damaged.split_off(&entry.index.0);
            self.entries.insert(entry.index.0, entry);
        }
    }

    pub fn log_bytes(&self) -> u64 {
        let after = self.snapshot.as_ref().map_or(0, |(mark, _)| mark.index.0);
        let length = |entry: &Entry| match &entry.payload {
            Payload::Batch(bytes) => bytes.len() as u64,
            _ => 16,
        };
        self.entries
            .range(after + 1..)
            .map(|(_, entry)| length(entry))
            .sum()
    }

    pub fn fetch(&self, from: Index) -> Input {
        let mut entries: Vec<Entry> = Vec::new();
        for (&index, entry) in self.entries.range(from.0..).take(64) {
            if self.damaged.contains(&index) {
                break;
            }
            entries.push(entry.clone());
        }
        if entries.is_empty() && self.damaged.contains(&from.0) {
            let last = self.entries.last_key_value().map_or(0, |(last, _)| *last);
            let through = (from.0 / SEGMENT_ENTRIES + 1) * SEGMENT_ENTRIES;
            return Input::Unreadable {
                from,
                through: Index(through.min(last)),
            };
        }
        entries.retain(|entry| entry.index >= from);
        if entries.first().is_some_and(|entry| entry.index != from) {
            entries.clear();
        }
        Input::Fetched { from, entries }
    }

    pub fn release(&mut self, upto: Index) {
        self.entries = self.entries.split_off(&(upto.0 + 1));
        self.released = upto.0;
        let kept = self.damaged.split_off(&(upto.0 + 1));
        if !self.damaged.is_empty() {
            self.quarantined.push(format!("entries {:?}", self.damaged));
        }
        self.damaged = kept;
    }

    /// A piece of the snapshot; damage in it is found, and the snapshot set aside.
    pub fn read_snapshot(&mut self, index: Index, offset: u64, bytes_max: usize) -> Option<Bytes> {
        let (mark, bytes) = self.snapshot.as_ref()?;
        if mark.index != index {
            return None;
        }
        if self.snapshot_damaged {
            self.discard_snapshot();
            return None;
        }
        let start = (offset as usize).min(bytes.len());
        Some(bytes.slice(start..(start + bytes_max).min(bytes.len())))
    }

    pub fn discard_snapshot(&mut self) {
        if let Some((mark, _)) = self.snapshot.take() {
            self.quarantined.push(format!("snapshot {}", mark.index));
        }
        self.snapshot_damaged = false;
    }

    /// What a start finds: damage is set aside with all that comes behind it.
    pub fn recover(&mut self, id: PeerId, process: u64) -> Restored {
        if let Some(&first) = self.damaged.first() {
            self.quarantined.push(format!("entries {:?}", self.damaged));
            self.entries.split_off(&first);
            self.damaged.clear();
            self.entries_lost = true;
        }
        let snapshot = match &self.snapshot {
            Some((mark, _)) => mark.clone(),
            None => SnapshotMark {
                index: Index(0),
                term: Term(0),
                configuration: self.bootstrap.clone(),
            },
        };
        if self.released > snapshot.index.0 {
            self.entries.clear();
            self.released = 0;
            self.entries_lost = true;
        }
        let mut terms: Vec<(Index, Term)> = Vec::new();
        let mut configurations = Vec::new();
        let mut last = snapshot.index;
        for (&index, entry) in self.entries.range(snapshot.index.0 + 1..) {
            if terms.last().is_none_or(|&(_, term)| term != entry.term) {
                terms.push((Index(index), entry.term));
            }
            if let Payload::Configuration(configuration) = &entry.payload {
                configurations.push((Index(index), configuration.clone()));
            }
            last = Index(index);
        }
        self.commit = self.commit.min(last);
        Restored {
            id,
            boot: Boot(process),
            vote: self.vote,
            snapshot,
            terms,
            last,
            configurations,
            commit: self.commit,
            standing: if self.entries_lost {
                Standing::EntriesLost
            } else {
                Standing::Sound
            },
        }
    }
}
