//! Loading a snapshot: builds a state from bytes that nobody vouches for. Every number is checked before it is used; nothing is allocated on
//! the word of a length; at the end the counters, the totals and the hash must agree with what was built.

mod rows;

use crate::auth::{Auth, Store};
use crate::bounds::Bounds;
use crate::hash;
use crate::index::Slot;
use crate::kv::Keys;
use crate::lease::Lease;
use crate::record::{self, NEVER, NewRecord, logical_size};
use crate::snapshot::{
    ANSWERED, AUTH, BLOCK_HEADER_BYTES, CLAIM, CLIENT, Counters, END, HEADER, HISTORY, KEPT, LEASE,
    LEASE_RECORD_BYTES, LOCK, MAGIC, NUMBER, OPTIONAL, PendingRemoval, SECTION_VERSION,
    SNAPSHOT_FORMAT, STATE, SnapshotHeader, Totals, WORKER, checksum,
};
use crate::space::Space;
use crate::{Settings, State};
use prost::Message;

/// A longer block is damage: one record is bounded by what a request may hold.
const BLOCK_BYTES_MAX: usize = 1 << 30;

/// Why a snapshot cannot be loaded. Nothing was taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotError {
    /// It is damaged: where, and what was expected.
    Corrupt(String),
    /// It is of a newer format.
    NewerFormat {
        /// Its format.
        format: u32,
        /// The newest known here.
        known: u32,
    },
}

/// Builds a state from a snapshot's bytes, in slices.
pub struct Loader {
    state: State,
    /// Bytes fed that are no whole block yet.
    rest: Vec<u8>,
    /// Bytes taken in before `rest`.
    taken: u64,
    header: Option<SnapshotHeader>,
    counters: Option<Counters>,
    totals: Totals,
    section: Section,
    /// Of the last record of the history.
    revision: i64,
    last_lease: Option<i64>,
    /// The first failure; the loader is of no use afterwards.
    failed: Option<SnapshotError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Section {
    Magic,
    Header,
    State,
    Auth,
    Lease,
    Lock,
    Claim,
    Client,
    Answered,
    Number,
    Worker,
    Kept,
    History,
    End,
}

type Checked<T> = Result<T, String>;

impl Loader {
    /// Begins.
    pub fn new(settings: Settings) -> Loader {
        Loader {
            state: State::new(settings),
            rest: Vec::new(),
            taken: 0,
            header: None,
            counters: None,
            totals: Totals::default(),
            section: Section::Magic,
            revision: 0,
            last_lease: None,
            failed: None,
        }
    }

    /// Takes the next bytes, of any length.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let fed = if self.rest.is_empty() {
            // Whole blocks are read where they are.
            let result = self.take_blocks(bytes);
            result.map(|used| self.rest.extend_from_slice(&bytes[used..]))
        } else {
            let mut rest = std::mem::take(&mut self.rest);
            rest.extend_from_slice(bytes);
            let result = self.take_blocks(&rest);
            result.map(|used| {
                rest.drain(..used);
                self.rest = rest;
            })
        };
        fed.inspect_err(|error| self.failed = Some(error.clone()))
    }

    /// Ends: checks that all was there and that the hash matches.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub fn finish(mut self) -> Result<(State, SnapshotHeader), SnapshotError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.section != Section::End || !self.rest.is_empty() {
            return Err(SnapshotError::Corrupt(format!(
                "the snapshot ends at byte {} without its end section",
                self.taken + self.rest.len() as u64
            )));
        }
        let (Some(header), Some(counters)) = (self.header.take(), self.counters.take()) else {
            return Err(SnapshotError::Corrupt("the snapshot has no header".into()));
        };
        conclude(&mut self.state, &header, &counters, self.revision)
            .map_err(SnapshotError::Corrupt)?;
        Ok((self.state, header))
    }

    /// Takes whole blocks from the front; gives how many bytes they had.
    fn take_blocks(&mut self, bytes: &[u8]) -> Result<usize, SnapshotError> {
        let mut used = 0;
        if self.section == Section::Magic {
            let Some(magic) = bytes.get(..MAGIC.len()) else {
                return Ok(0);
            };
            if magic != MAGIC {
                return Err(SnapshotError::Corrupt(
                    "these bytes are no snapshot: the magic number is missing".into(),
                ));
            }
            self.section = Section::Header;
            used = MAGIC.len();
            self.taken += used as u64;
        }
        while let Some(header) = bytes[used..].get(..BLOCK_HEADER_BYTES) {
            let length =
                u32::from_le_bytes(header[12..16].try_into().expect("four bytes")) as usize;
            if length > BLOCK_BYTES_MAX {
                return Err(self.corrupt(format!(
                    "a block of {length} bytes, at most {BLOCK_BYTES_MAX} are allowed"
                )));
            }
            let Some(content) = bytes[used + BLOCK_HEADER_BYTES..].get(..length) else {
                break;
            };
            self.take_block(header, content)?;
            used += BLOCK_HEADER_BYTES + length;
            self.taken += (BLOCK_HEADER_BYTES + length) as u64;
        }
        Ok(used)
    }

    fn corrupt(&self, reason: String) -> SnapshotError {
        SnapshotError::Corrupt(format!("block at byte {}: {reason}", self.taken))
    }

    fn take_block(&mut self, header: &[u8], content: &[u8]) -> Result<(), SnapshotError> {
        let expected = u32::from_le_bytes(header[16..20].try_into().expect("four bytes"));
        let found = checksum(&header[..16], content);
        if expected != found {
            return Err(self.corrupt(format!("checksum {found:08x}, expected {expected:08x}")));
        }
        let name = header[..8]
            .split(|&byte| byte == 0)
            .next()
            .unwrap_or_default();
        let version = u16::from_le_bytes([header[8], header[9]]);
        let flags = u16::from_le_bytes([header[10], header[11]]);
        let section = match name {
            HEADER => Section::Header,
            STATE => Section::State,
            AUTH => Section::Auth,
            LEASE => Section::Lease,
            LOCK => Section::Lock,
            CLAIM => Section::Claim,
            CLIENT => Section::Client,
            ANSWERED => Section::Answered,
            NUMBER => Section::Number,
            WORKER => Section::Worker,
            KEPT => Section::Kept,
            HISTORY => Section::History,
            END => Section::End,
            _ if flags & OPTIONAL != 0 => return Ok(()),
            _ => {
                return Err(SnapshotError::NewerFormat {
                    format: u32::from(version).max(SNAPSHOT_FORMAT + 1),
                    known: SNAPSHOT_FORMAT,
                });
            }
        };
        if version > SECTION_VERSION {
            return Err(SnapshotError::NewerFormat {
                format: u32::from(version),
                known: u32::from(SECTION_VERSION),
            });
        }
        self.enter(section).map_err(|reason| self.corrupt(reason))?;
        match section {
            Section::Magic => unreachable!("no block has this section"),
            Section::Header => self.take_header(content),
            Section::State => self.take_counters(content),
            Section::Auth => self.take_auth(content),
            Section::Lease => self
                .take_leases(content)
                .map_err(|reason| self.corrupt(reason)),
            Section::Lock
            | Section::Claim
            | Section::Client
            | Section::Answered
            | Section::Number
            | Section::Worker => self
                .take_rows(section, content)
                .map_err(|reason| self.corrupt(reason)),
            Section::Kept | Section::History => self
                .take_records(content, section)
                .map_err(|reason| self.corrupt(reason)),
            Section::End => {
                let totals =
                    Totals::decode(content).map_err(|error| self.corrupt(error.to_string()))?;
                if totals == self.totals {
                    Ok(())
                } else {
                    Err(self.corrupt(format!(
                        "{:?} were read, {totals:?} were written",
                        self.totals
                    )))
                }
            }
        }
    }

    /// Sections come in order; the single ones once.
    fn enter(&mut self, section: Section) -> Checked<()> {
        let (header, counters) = (self.header.is_some(), self.counters.is_some());
        let right = match section {
            Section::Magic => false,
            Section::Header => !header,
            Section::State => header && !counters,
            Section::Auth => counters && self.section == Section::State,
            Section::End => counters && self.section != Section::End,
            _ => counters && section >= self.section,
        };
        if !right {
            return Err(format!(
                "section {section:?} does not belong after {:?}",
                self.section
            ));
        }
        self.section = section;
        Ok(())
    }

    fn take_header(&mut self, content: &[u8]) -> Result<(), SnapshotError> {
        let header =
            SnapshotHeader::decode(content).map_err(|error| self.corrupt(error.to_string()))?;
        if header.format > SNAPSHOT_FORMAT {
            return Err(SnapshotError::NewerFormat {
                format: header.format,
                known: SNAPSHOT_FORMAT,
            });
        }
        if header.format == 0 {
            return Err(self.corrupt("the header has no format".into()));
        }
        self.header = Some(header);
        Ok(())
    }

    fn take_counters(&mut self, content: &[u8]) -> Result<(), SnapshotError> {
        let counters =
            Counters::decode(content).map_err(|error| self.corrupt(error.to_string()))?;
        if counters.feature_level > self.state.settings.level_known {
            return Err(SnapshotError::NewerFormat {
                format: counters.feature_level,
                known: self.state.settings.level_known,
            });
        }
        let Counters {
            revision,
            compacted,
            ..
        } = counters;
        if !(1..NEVER - 1).contains(&revision) || !(-1..=revision).contains(&compacted) {
            return Err(self.corrupt(format!("revision {revision}, compacted at {compacted}")));
        }
        if let Some(removal) = &counters.removal
            && !(compacted + 1..=revision).contains(&removal.revision)
        {
            return Err(self.corrupt(format!(
                "a removal at {}, history goes from {compacted} to {revision}",
                removal.revision
            )));
        }
        if let Some(record) = &counters.space {
            self.state.space = Space::from_record(record).map_err(|reason| self.corrupt(reason))?;
        }
        self.state.keys.compacted = compacted;
        self.counters = Some(counters);
        Ok(())
    }

    fn take_auth(&mut self, content: &[u8]) -> Result<(), SnapshotError> {
        let store = Store::decode(content).map_err(|error| self.corrupt(error.to_string()))?;
        self.state.auth = Auth::from_store(store);
        Ok(())
    }

    fn take_leases(&mut self, content: &[u8]) -> Checked<()> {
        if !content.len().is_multiple_of(LEASE_RECORD_BYTES) {
            return Err(format!(
                "{} bytes of leases, not a multiple of {LEASE_RECORD_BYTES}",
                content.len()
            ));
        }
        for lease in content.chunks_exact(LEASE_RECORD_BYTES) {
            let word =
                |at: usize| u64::from_le_bytes(lease[at..at + 8].try_into().expect("eight bytes"));
            let lease = Lease {
                id: word(0) as i64,
                ttl_ms: word(8),
                deadline_ms: word(16),
            };
            if lease.id == 0 || self.last_lease.is_some_and(|last| lease.id <= last) {
                return Err(format!("lease {} after {:?}", lease.id, self.last_lease));
            }
            self.last_lease = Some(lease.id);
            self.state.leases.set(lease);
            self.totals.leases += 1;
        }
        Ok(())
    }

    fn take_records(&mut self, mut content: &[u8], section: Section) -> Checked<()> {
        let counters = self
            .counters
            .as_ref()
            .expect("the section comes after the counters");
        let newest = counters.revision;
        while !content.is_empty() {
            let (record, length) = record::parse(content)
                .ok_or("a record is cut short or says what no record says")?;
            content = &content[length..];
            if !(2..=newest).contains(&record.revision) {
                return Err(format!(
                    "a record of revision {}, the newest is {newest}",
                    record.revision
                ));
            }
            if section == Section::Kept {
                self.state.keys.restore_kept(&record)?;
                self.totals.kept += 1;
            } else {
                if record.revision < self.revision {
                    return Err(format!(
                        "a record of revision {} after one of {}",
                        record.revision, self.revision
                    ));
                }
                self.revision = record.revision;
                if let Some(removal) = &counters.removal
                    && record.revision >= removal.revision
                {
                    self.state.keys.restore_removal(removal)?;
                }
                let keys = &mut self.state.keys;
                let pending = keys.removal.as_ref().map(|removal| removal.revision);
                let replaced = if pending == Some(record.revision) {
                    keys.restore_removed(&record)?
                } else {
                    keys.restore_history(&record)?
                };
                if let Some(lease) = replaced.filter(|&lease| lease != 0 && lease != record.lease) {
                    self.state.leases.detach(lease, record.key);
                }
                self.totals.history += 1;
            }
            if record.lease != 0 {
                self.state.leases.attach(record.lease, record.key);
            }
        }
        Ok(())
    }
}

/// Takes over the counters and checks them against what was built.
fn conclude(
    state: &mut State,
    header: &SnapshotHeader,
    counters: &Counters,
    last: i64,
) -> Checked<()> {
    if last > counters.revision {
        return Err(format!(
            "history up to {last}, but the revision is {}",
            counters.revision
        ));
    }
    if let Some(removal) = &counters.removal {
        state.keys.restore_removal(removal)?;
    }
    state.keys.revision = counters.revision;
    state.keys.chain = counters.chain;
    state.feature_level = counters.feature_level;
    state.ordinal = header.ordinal;
    state.clock.clock_ms = header.clock_ms;
    state.clock.wall_ms = header.wall_ms;
    state.applied = header.index;
    let Keys { live, bytes, .. } = state.keys;
    if (live, bytes) != (counters.keys, counters.bytes) {
        return Err(format!(
            "{live} keys and {bytes} bytes were read, {} and {} were written",
            counters.keys, counters.bytes
        ));
    }
    let view = state.keys.present();
    let attached = |lease, key: &[u8]| state.attached(lease, key, &view);
    if let Some((lease, key)) = state.leases.dangling(attached) {
        return Err(format!(
            "key {key:?} hangs on lease {lease}, which does not exist"
        ));
    }
    state.show();
    state.hash_applied = state.compute_hash();
    if state.hash_applied != header.hash {
        return Err(format!(
            "hash {:016x}, expected {:016x}",
            state.hash_applied, header.hash
        ));
    }
    Ok(())
}

impl Keys {
    /// Takes a record from below the compacted revision: a live key.
    pub(crate) fn restore_kept(&mut self, record: &NewRecord<'_>) -> Checked<()> {
        if record.revision >= self.compacted || record.deleted {
            return Err(format!(
                "revision {} is kept, but history begins at {}",
                record.revision, self.compacted
            ));
        }
        let mut unique = true;
        self.index
            .upsert(&mut self.log, record.key, |log, slot| match slot {
                None => Slot::new(log.settle(record), false),
                Some(slot) => {
                    unique = false;
                    slot
                }
            });
        if !unique {
            return Err(format!("key {:?} is kept twice", record.key));
        }
        self.add_live(record);
        self.bytes += logical_size(record.key.len(), record.value.len());
        Ok(())
    }

    /// Begins a removal that is not wholly written down, unless it has begun: all keys it covers are there now.
    fn restore_removal(&mut self, removal: &PendingRemoval) -> Checked<()> {
        let PendingRemoval {
            key,
            range_end,
            revision,
        } = removal;
        if self.removal.is_none() {
            self.begin_removal(&Bounds::new(key, range_end), *revision, 0)
                .ok_or_else(|| format!("the removal at {revision} has no keys left"))?;
        }
        Ok(())
    }

    /// Takes a record of the pending removal; gives the lease of the version it replaced.
    fn restore_removed(&mut self, record: &NewRecord<'_>) -> Checked<Option<i64>> {
        let lease = if record.deleted {
            self.write_removal_of(record.key)
        } else {
            None
        };
        if lease.is_none() || self.removal.is_none() {
            return Err(format!(
                "revision {} of key {:?} is not of the removal pending there",
                record.revision, record.key
            ));
        }
        Ok(lease)
    }

    /// Takes the next record of the history; gives the lease of the version it replaced.
    fn restore_history(&mut self, record: &NewRecord<'_>) -> Checked<Option<i64>> {
        if record.revision < self.compacted {
            return Err(format!(
                "revision {} in the history, which begins at {}",
                record.revision, self.compacted
            ));
        }
        // At the compacted revision itself, what a record replaced is no longer there.
        let first = record.revision == self.compacted;
        let (mut replaced, mut garbage) = (None, 0);
        let slot = self.index.get(&self.log, record.key);
        if slot.is_some_and(|slot| self.is_covered(slot, record.revision)) {
            return Err(format!(
                "revision {} of key {:?} comes before its removal",
                record.revision, record.key
            ));
        }
        if let Some(slot) = slot {
            let old = self.log.record(slot.position());
            if !old.deleted {
                garbage = old.size();
                replaced = Some((old.lease, old.revision, old.create_revision, old.version));
            }
        }
        let follows = match replaced {
            _ if record.deleted => replaced.is_some() || first,
            Some((_, _, create_revision, version)) => {
                (record.create_revision, record.version) == (create_revision, version + 1)
            }
            None => (record.create_revision, record.version) == (record.revision, 1) || first,
        };
        if !follows {
            return Err(format!(
                "revision {} of key {:?} does not follow from the one before",
                record.revision, record.key
            ));
        }
        self.index.upsert(&mut self.log, record.key, |log, slot| {
            if let Some(slot) = slot {
                let length = log.record(slot.position()).length;
                log.supersede(slot.position(), record.revision, length, slot.deleted());
            }
            let previous = slot.map(Slot::position);
            let position = log.append(&NewRecord {
                previous,
                ..*record
            });
            Slot::new(position, record.deleted)
        });
        let size = logical_size(record.key.len(), record.value.len());
        if let Some((lease, revision, create_revision, version)) = replaced {
            self.live_sum = self.live_sum.wrapping_sub(hash::live(
                hash::key(record.key),
                revision,
                create_revision,
                version,
                lease,
            ));
            self.live -= 1;
        }
        if !record.deleted {
            self.add_live(record);
        }
        if first {
            // What the compaction made superfluous is not counted.
            self.bytes -= garbage;
            self.bytes += if record.deleted { 0 } else { size };
        } else {
            self.bytes += size;
            self.log
                .add_garbage(garbage + if record.deleted { size } else { 0 });
        }
        Ok(replaced.map(|(lease, ..)| lease))
    }

    fn add_live(&mut self, record: &NewRecord<'_>) {
        let NewRecord {
            revision,
            create_revision,
            version,
            lease,
            ..
        } = *record;
        self.live_sum = self.live_sum.wrapping_add(hash::live(
            hash::key(record.key),
            revision,
            create_revision,
            version,
            lease,
        ));
        self.live += 1;
    }
}
