//! The disk of a test: what is durable, and what a restart gives back.

use raft::{
    Boot, Configuration, Entry, Index, Payload, PeerId, Persist, Restored, SnapshotMark, Standing,
    Term, Vote,
};
use std::collections::BTreeMap;
use synod_raft as raft;

/// What a disk holds durably.
#[derive(Clone, Debug)]
pub struct Disk {
    pub vote: Vote,
    pub snapshot: SnapshotMark,
    pub entries: BTreeMap<Index, Entry>,
    pub entries_lost: bool,
    /// The commit index written last.
    pub commit: Index,
}

impl Disk {
    pub fn new(configuration: Configuration) -> Disk {
        let snapshot = SnapshotMark {
            index: Index(0),
            term: Term(0),
            configuration,
        };
        Disk {
            vote: Vote::default(),
            snapshot,
            entries: BTreeMap::new(),
            entries_lost: false,
            commit: Index(0),
        }
    }

    pub(super) fn write(&mut self, persist: &Persist) {
        if let Some(vote) = persist.vote {
            self.vote = vote;
        }
        if let Some(mark) = &persist.reset {
            assert!(
                self.snapshot.index >= mark.index,
                "reset to a snapshot that is not durable"
            );
            self.entries.clear();
        }
        self.commit = self.commit.max(persist.commit);
        if let Some(first) = persist.entries.first() {
            self.entries.split_off(&first.index);
        }
        for entry in &persist.entries {
            self.entries.insert(entry.index, entry.clone());
        }
    }

    pub(super) fn restored(&self, id: PeerId, boot: Boot) -> Restored {
        let after: Vec<&Entry> = self
            .entries
            .range(self.snapshot.index.next()..)
            .map(|(_, entry)| entry)
            .collect();
        let mut terms: Vec<(Index, Term)> = Vec::new();
        let mut configurations = Vec::new();
        for entry in &after {
            if terms.last().is_none_or(|(_, term)| *term != entry.term) {
                terms.push((entry.index, entry.term));
            }
            if let Payload::Configuration(configuration) = &entry.payload {
                configurations.push((entry.index, configuration.clone()));
            }
        }
        Restored {
            id,
            boot,
            vote: self.vote,
            snapshot: self.snapshot.clone(),
            terms,
            last: after
                .last()
                .map_or(self.snapshot.index, |entry| entry.index),
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
