//! Reading segments as they lie on the disk, for recovery.

use crate::history::History;
use crate::index::{BatchEffect, Place};
use crate::record::{Record, decode_all};
use crate::sector::{SECTOR_BYTES, Sector, SectorAddress, parse};
use crate::segment::{
    Batch, BatchParts, Header, HeaderError, Standing, batch_at, file_name, parse_name,
};
use crate::{Disk, DiskError, DiskFile, OpenError};
use bytes::Bytes;
use raft::Payload;
use std::collections::BTreeMap;

/// The log's files in a directory: generation and sectors of each.
#[derive(Debug, Default)]
pub struct Listing {
    /// Files that hold a segment, or nothing yet.
    pub logs: BTreeMap<u64, u64>,
    /// Whole files that wait.
    pub spares: BTreeMap<u64, u64>,
    /// Files that were being filled with zeros.
    pub blanks: BTreeMap<u64, u64>,
    /// Higher than any generation in a name, set aside ones included.
    pub generation_next: u64,
    /// A segment was set aside earlier.
    pub quarantined: bool,
}

impl Listing {
    /// Looks at the names only.
    pub fn read<D: Disk>(disk: &mut D) -> Result<Listing, OpenError> {
        let mut listing = Listing {
            generation_next: 1,
            ..Listing::default()
        };
        for name in disk.list().map_err(OpenError::Disk)? {
            let stem = name.split('.').next().unwrap_or(&name);
            let kinds: [(&str, &mut BTreeMap<u64, u64>); 3] = [
                ("log-", &mut listing.logs),
                ("spare-", &mut listing.spares),
                ("blank-", &mut listing.blanks),
            ];
            for (prefix, files) in kinds {
                let Some((generation, sectors)) = parse_name(prefix, stem) else {
                    continue;
                };
                listing.generation_next = listing.generation_next.max(generation + 1);
                if stem == name {
                    files.insert(generation, sectors);
                } else {
                    listing.quarantined = true;
                }
            }
        }
        Ok(listing)
    }
}

/// A segment file in memory.
pub struct Image {
    /// From its name.
    pub generation: u64,
    /// Its content. Where the file is shorter than its name says, bytes that read as damage.
    pub bytes: Vec<u8>,
}

impl Image {
    /// Reads a whole segment file.
    pub fn load<D: Disk>(disk: &mut D, generation: u64, sectors: u64) -> Result<Image, OpenError> {
        let length = usize::try_from(sectors)
            .ok()
            .and_then(|sectors| sectors.checked_mul(SECTOR_BYTES));
        let name = file_name(generation, sectors);
        let length = length
            .ok_or_else(|| OpenError::Foreign(format!("'{name}' names an impossible length")))?;
        let mut file = disk.open(&name).map_err(OpenError::Disk)?;
        let held = file.len().map_err(OpenError::Disk)?.min(length as u64) as usize;
        let mut bytes = vec![0; held];
        read_fully(&mut file, &mut bytes).map_err(OpenError::Disk)?;
        bytes.truncate(held / SECTOR_BYTES * SECTOR_BYTES);
        bytes.resize(length, 0xff);
        Ok(Image { generation, bytes })
    }

    /// The batch at `sector`, if it is whole.
    pub fn batch(&self, sector: u64, number: u32) -> Option<Batch> {
        batch_at(&self.bytes, self.generation, sector, number).ok()
    }
}

fn read_fully<F: DiskFile>(file: &mut F, bytes: &mut [u8]) -> Result<(), DiskError> {
    let mut at = 0;
    while at < bytes.len() {
        match file.read_at(at as u64, &mut bytes[at..])? {
            0 => return Err(DiskError::Failed("a file ended before its length".into())),
            read => at += read,
        }
    }
    Ok(())
}

/// Reads a segment's header; `None` if its first sector is not whole.
pub fn read_header<D: Disk>(
    disk: &mut D,
    generation: u64,
    sectors: u64,
) -> Result<Option<Header>, OpenError> {
    let mut file = disk
        .open(&file_name(generation, sectors))
        .map_err(OpenError::Disk)?;
    let mut sector = [0xff; SECTOR_BYTES];
    if file.read_at(0, &mut sector).map_err(OpenError::Disk)? < SECTOR_BYTES {
        return Ok(None);
    }
    let Sector::Whole {
        address, payload, ..
    } = parse(&sector)
    else {
        return Ok(None);
    };
    if address
        != (SectorAddress {
            generation,
            batch: 0,
            position: 0,
        })
    {
        return Ok(None);
    }
    Header::decode(&mut Bytes::copy_from_slice(payload))
        .map(Some)
        .map_err(|error| refuse(generation, error))
}

/// A whole batch of a segment, and what it does.
pub struct Scanned {
    /// Where it lies.
    pub place: Place,
    /// Sectors it takes.
    pub sectors: u64,
    /// The chain after it.
    pub chain: u64,
    /// What it leaves.
    pub standing: Standing,
    /// What happened, encoded.
    pub records: Bytes,
    /// The same, as a whole.
    pub effect: BatchEffect,
}

/// How a scan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanEnd {
    /// At the limit.
    Limit,
    /// No whole batch follows.
    NotWhole,
    /// A whole batch follows that does not continue the one before.
    ChainBroken,
}

/// The batches of a segment up to a limit, or to the first that is not whole.
pub struct Scan {
    /// They, in order.
    pub batches: Vec<Scanned>,
    /// The sector behind them.
    pub sector: u64,
    /// How it ended.
    pub end: ScanEnd,
    /// What follows is damaged.
    pub damaged: bool,
}

/// Reads the batches of a segment in order and replays them into `history`, at most `limit`. `chain` is the chain before the segment.
///
/// # Errors
/// A batch is whole and yet not one this version wrote.
pub fn scan(
    image: &Image,
    limit: Option<u32>,
    mut chain: u64,
    history: &mut History,
) -> Result<Scan, OpenError> {
    let mut scan = Scan {
        batches: Vec::new(),
        sector: 0,
        end: ScanEnd::Limit,
        damaged: false,
    };
    while limit.is_none_or(|limit| scan.batches.len() < limit as usize) {
        let Some(batch) = image.batch(scan.sector, scan.batches.len() as u32) else {
            scan.end = ScanEnd::NotWhole;
            break;
        };
        let parts = batch
            .parts()
            .map_err(|error| refuse(image.generation, error))?;
        if parts.chain != parts.chain_after(chain) && !mutated!(ServeCorrupt) {
            scan.end = ScanEnd::ChainBroken;
            break;
        }
        chain = parts.chain;
        let effect = replay(&parts, history).map_err(|text| {
            OpenError::Damaged(format!(
                "segment {:x}, batch {}: {text}",
                image.generation, batch.number
            ))
        })?;
        let place = Place {
            generation: image.generation,
            batch: batch.number,
            sector: batch.sector,
        };
        let BatchParts {
            standing, records, ..
        } = parts;
        scan.batches.push(Scanned {
            place,
            sectors: batch.sectors,
            chain,
            standing,
            records,
            effect,
        });
        scan.sector += batch.sectors;
    }
    Ok(scan)
}

fn replay(parts: &BatchParts, history: &mut History) -> Result<BatchEffect, String> {
    let mut effect = BatchEffect::default();
    let mut gap = None;
    decode_all(parts.records.clone(), |record| match record {
        Record::Reset(mark) => {
            effect.on_reset(mark.index.0);
            history.on_reset(&mark);
        }
        Record::Entry(entry) => {
            let configuration = match entry.payload {
                Payload::Configuration(configuration) => Some(configuration),
                Payload::Noop | Payload::Batch(_) => None,
            };
            if !history.on_entry(entry.index, entry.term, configuration)
                || !effect.on_entry(entry.index.0)
            {
                gap.get_or_insert(entry.index);
            }
        }
    })?;
    match gap {
        Some(index) => Err(format!("a gap before entry {index}")),
        None => Ok(effect),
    }
}

/// What a header that this version did not write means for the whole directory.
pub fn refuse(generation: u64, error: HeaderError) -> OpenError {
    match error {
        HeaderError::Newer(found) => OpenError::NewerVersion {
            found,
            known: crate::segment::FORMAT,
        },
        HeaderError::Malformed(text) => {
            OpenError::Damaged(format!("segment {generation:x}: {text}"))
        }
    }
}
