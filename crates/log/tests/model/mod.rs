//! A log kept in a map, to compare the real one with; and a driver that does random work on both.
#![allow(dead_code, reason = "each test file uses a part of it")]

use bytes::Bytes;
use raft::{
    Configuration, Entry, Incarnation, Index, Member, MemberId, Payload, PeerId, Persist,
    SnapshotMark, Term, Vote,
};
use std::collections::BTreeMap;
use synod_log::memory_disk::{MemoryDisk, Platter};
use synod_log::{Log, Opened, ReadEntries, Recovered, Settings, Snapshots, StoreError, open};

/// splitmix64 (Steele, Lea, Flood).
pub struct Rng(pub u64);

impl Rng {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

pub const MEMBER: MemberId = MemberId(7);

pub fn settings(segment_bytes: u64) -> Settings {
    Settings {
        segment_bytes,
        low_water_bytes: 0,
    }
}

pub fn configuration(n: u64) -> Configuration {
    let mut configuration = Configuration::default();
    let peer = PeerId {
        member: MemberId(n),
        incarnation: Incarnation(1),
    };
    configuration.voters.insert(peer);
    let member = Member {
        incarnation: Incarnation(1),
        name: format!("n{n}"),
        ..Member::default()
    };
    configuration.members.insert(peer.member, member);
    configuration
}

/// What a log says of itself, as of some moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    pub vote: Vote,
    pub base: u64,
    pub commit: u64,
    pub entries: BTreeMap<u64, Entry>,
}

impl Model {
    pub fn last(&self) -> u64 {
        self.entries
            .last_key_value()
            .map_or(self.base, |(last, _)| *last)
    }

    pub fn term_of_last(&self) -> u64 {
        self.entries
            .last_key_value()
            .map_or(0, |(_, entry)| entry.term.0)
    }

    pub fn apply(&mut self, persist: &Persist) {
        if let Some(vote) = persist.vote {
            self.vote = vote;
        }
        if let Some(mark) = &persist.reset {
            self.entries.clear();
            self.base = mark.index.0;
        }
        self.commit = self.commit.max(persist.commit.0);
        for entry in &persist.entries {
            self.entries.split_off(&entry.index.0);
            self.entries.insert(entry.index.0, entry.clone());
        }
    }

    /// The log that recovery makes of it beside this snapshot.
    pub fn beside(&self, snapshot: Option<&SnapshotMark>) -> Model {
        let mut model = self.clone();
        let Some(mark) = snapshot else { return model };
        let other = model
            .entries
            .get(&mark.index.0)
            .is_some_and(|entry| entry.term != mark.term);
        if other || model.last() < mark.index.0 {
            model.entries.clear();
        }
        model.base = model.base.max(mark.index.0);
        model.entries = model.entries.split_off(&(mark.index.0 + 1));
        model
    }

    /// Why what was recovered is not this, if it is not.
    pub fn differs(&self, log: &mut Log<MemoryDisk>, recovered: &Recovered) -> Option<String> {
        let expected = self.beside(recovered.snapshot.as_ref());
        let start = recovered.snapshot.as_ref().map_or(0, |mark| mark.index.0);
        if recovered.vote != Some(expected.vote) {
            return Some(format!(
                "vote {:?}, not {:?}",
                recovered.vote, expected.vote
            ));
        }
        if recovered.last.0 != expected.last() {
            return Some(format!("last {}, not {}", recovered.last, expected.last()));
        }
        let commit = expected.commit.min(expected.last()).max(start);
        if recovered.commit.0 != commit {
            return Some(format!("commit {}, not {commit}", recovered.commit));
        }
        let found = read_all(log, start + 1);
        if !found.iter().eq(expected.entries.values()) {
            let indexes: Vec<_> = found
                .iter()
                .map(|entry| (entry.index.0, entry.term.0))
                .collect();
            let wanted: Vec<_> = expected
                .entries
                .values()
                .map(|entry| (entry.index.0, entry.term.0))
                .collect();
            return Some(format!("entries {indexes:?}, not {wanted:?}"));
        }
        let mut terms = Vec::new();
        let mut configurations = Vec::new();
        for entry in expected.entries.values() {
            if terms.last().is_none_or(|(_, term)| *term != entry.term) {
                terms.push((entry.index, entry.term));
            }
            if let Payload::Configuration(configuration) = &entry.payload {
                configurations.push((entry.index, configuration.clone()));
            }
        }
        if recovered.terms != terms {
            return Some(format!("terms {:?}, not {terms:?}", recovered.terms));
        }
        if recovered.configurations != configurations {
            return Some(format!(
                "configurations {:?}, not {configurations:?}",
                recovered.configurations
            ));
        }
        None
    }
}

/// All entries from `from` on, read in pieces.
pub fn read_all(log: &mut Log<MemoryDisk>, from: u64) -> Vec<Entry> {
    let mut entries = Vec::new();
    loop {
        match log.read(Index(from + entries.len() as u64), 5000) {
            ReadEntries::Entries(more) => {
                assert!(!more.is_empty());
                entries.extend(more);
            }
            ReadEntries::Absent => return entries,
            ReadEntries::Damaged(found) => panic!("a log just recovered is damaged: {found:?}"),
        }
    }
}

/// A member's store and what it should hold.
pub struct Driver {
    pub platter: Platter,
    pub rng: Rng,
    pub settings: Settings,
    pub log: Log<MemoryDisk>,
    pub snapshots: Snapshots<MemoryDisk>,
    /// After the last good sync, and after each attempt since.
    pub outcomes: Vec<Model>,
    /// After every sync that succeeded.
    pub history: Vec<Model>,
    /// With everything appended.
    pub now: Model,
    /// The newest durable snapshot, and one that may be.
    pub snapshot: Option<SnapshotMark>,
    pub snapshot_tried: Option<SnapshotMark>,
    staged: u64,
}

impl Driver {
    pub fn start(seed: u64, segment_bytes: u64) -> Driver {
        let platter = Platter::new(seed);
        let settings = settings(segment_bytes);
        let opened =
            open(platter.start_process(), settings.clone(), MEMBER).expect("an empty disk opens");
        assert_eq!(opened.recovered.vote, Some(Vote::default()));
        let Opened { log, snapshots, .. } = opened;
        let (now, rng) = (Model::default(), Rng(seed ^ 0x5eed));
        Driver {
            platter,
            rng,
            settings,
            log,
            snapshots,
            outcomes: vec![now.clone()],
            history: vec![now.clone()],
            now,
            snapshot: None,
            snapshot_tried: None,
            staged: 0,
        }
    }

    /// Starts again after the platter was brought down; checks what is recovered.
    pub fn restart(&mut self) -> Result<(), String> {
        let opened = open(self.platter.start_process(), self.settings.clone(), MEMBER);
        let Opened {
            mut log,
            snapshots,
            recovered,
            ..
        } = opened.map_err(|error| format!("not opened: {error:?}"))?;
        if recovered.entries_lost || !recovered.quarantined.is_empty() {
            return Err(format!("damage without a cause: {recovered:?}"));
        }
        let possible = [&self.snapshot, &self.snapshot_tried];
        if !possible.contains(&&recovered.snapshot) {
            return Err(format!(
                "snapshot {:?}, not one of {possible:?}",
                recovered.snapshot
            ));
        }
        let differences: Vec<String> = self
            .outcomes
            .iter()
            .filter_map(|model| model.differs(&mut log, &recovered))
            .collect();
        if differences.len() == self.outcomes.len() {
            return Err(format!("{recovered:?}: {differences:?}"));
        }
        let model = self
            .outcomes
            .iter()
            .find(|model| model.differs(&mut log, &recovered).is_none())
            .expect("one does not differ");
        self.now = model.beside(recovered.snapshot.as_ref());
        self.outcomes = vec![self.now.clone()];
        self.snapshot = recovered.snapshot.clone();
        self.snapshot_tried = recovered.snapshot;
        (self.log, self.snapshots) = (log, snapshots);
        Ok(())
    }

    pub fn append(&mut self, persist: Persist) {
        self.log.append(&persist);
        self.now.apply(&persist);
    }

    pub fn sync(&mut self) -> Result<(), StoreError> {
        self.outcomes.push(self.now.clone());
        self.log.sync()?;
        self.outcomes = vec![self.now.clone()];
        self.history.push(self.now.clone());
        Ok(())
    }

    /// Does something; an error means that the disk refused.
    pub fn step(&mut self) -> Result<(), StoreError> {
        match self.rng.below(20) {
            0 => self.vote(),
            1 => self.install_snapshot()?,
            2 => self.take_snapshot()?,
            3..=5 => self.overwrite(),
            6..=14 => {
                let count = 1 + self.rng.below(6);
                self.entries(self.now.last() + 1, self.now.term_of_last().max(1), count);
            }
            _ => self.sync()?,
        }
        Ok(())
    }

    fn vote(&mut self) {
        let candidate = (self.rng.below(2) == 0).then(|| PeerId {
            member: MemberId(self.rng.below(9)),
            incarnation: Incarnation(1),
        });
        let vote = Vote {
            term: Term(self.now.vote.term.0 + self.rng.below(2)),
            candidate,
        };
        self.append(Persist {
            sequence: 0,
            vote: Some(vote),
            reset: None,
            entries: Vec::new(),
            commit: Index(0),
        });
    }

    pub fn entries(&mut self, first: u64, term: u64, count: u64) {
        if count == 0 {
            return;
        }
        let commit = self.rng.below(self.now.last().min(first - 1) + 1);
        let entries = (first..first + count)
            .map(|index| self.entry(index, term))
            .collect();
        self.append(Persist {
            sequence: 0,
            vote: None,
            reset: None,
            entries,
            commit: Index(commit),
        });
    }

    fn entry(&mut self, index: u64, term: u64) -> Entry {
        let length = match self.rng.below(20) {
            0 => 20_000,
            1..=4 => 2000,
            _ => 100,
        };
        let length = self.rng.below(length) as usize;
        let fill = self.rng.below(256) as u8;
        let payload = match self.rng.below(12) {
            0 => Payload::Noop,
            1 => Payload::Configuration(configuration(self.rng.below(100))),
            _ => Payload::Batch(Bytes::from(vec![fill; length])),
        };
        Entry {
            term: Term(term),
            index: Index(index),
            payload,
        }
    }

    fn overwrite(&mut self) {
        let base = self
            .now
            .base
            .max(self.now.commit)
            .max(self.snapshot_tried.as_ref().map_or(0, |mark| mark.index.0));
        let depth = self
            .rng
            .below(8)
            .min(self.now.last() - base.min(self.now.last()));
        let (first, term) = (self.now.last() - depth + 1, self.now.term_of_last() + 1);
        let count = 1 + self.rng.below(4);
        self.entries(first, term, count);
    }

    fn stage(&mut self, mark: &SnapshotMark) -> Result<(), StoreError> {
        self.staged += 1;
        let bytes = Bytes::from(vec![self.staged as u8; 1000]);
        self.snapshot_tried = Some(mark.clone());
        self.snapshots.stage(self.staged, 0, &bytes)?;
        self.snapshots
            .stage_finish(self.staged, mark, 1000, crc32c::crc32c(&bytes))?;
        self.snapshot = Some(mark.clone());
        Ok(())
    }

    /// A snapshot from the leader: ahead of the log, or of other entries than it has.
    fn install_snapshot(&mut self) -> Result<(), StoreError> {
        self.sync()?;
        let index = self.now.last() + self.rng.below(10);
        if index <= self.snapshot.as_ref().map_or(0, |mark| mark.index.0) {
            return Ok(());
        }
        let mark = SnapshotMark {
            index: Index(index),
            term: Term(self.now.term_of_last() + 1),
            configuration: configuration(1),
        };
        self.stage(&mark)?;
        self.append(Persist {
            sequence: 0,
            vote: None,
            reset: Some(mark),
            entries: Vec::new(),
            commit: Index(0),
        });
        let more = self.rng.below(3);
        if more > 0 {
            self.entries(index + 1, self.now.term_of_last() + 1, more);
        }
        Ok(())
    }

    /// A snapshot of the member's own state, and the release of what it covers.
    fn take_snapshot(&mut self) -> Result<(), StoreError> {
        self.sync()?;
        let behind = self.rng.below(30);
        let Some((_, entry)) = self
            .now
            .entries
            .range(..=self.now.last().saturating_sub(behind))
            .next_back()
        else {
            return Ok(());
        };
        if entry.index.0 <= self.snapshot.as_ref().map_or(0, |mark| mark.index.0) {
            return Ok(());
        }
        let mark = SnapshotMark {
            index: entry.index,
            term: entry.term,
            configuration: configuration(2),
        };
        self.stage(&mark)?;
        self.log
            .release(Index(mark.index.0.saturating_sub(self.rng.below(10))));
        if mark.index.0 == self.now.last() {
            assert_eq!(self.log.log_bytes(), 0, "the snapshot covers all there is");
        }
        Ok(())
    }
}
