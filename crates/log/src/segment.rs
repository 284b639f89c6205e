//! Segments: the files of the log, and the batches in them.
//!
//! The payload of a batch is, in this order (little-endian):
//!
//! | bytes | content |
//! |---|---|
//! | 72, batch 0 only | header: see [`Header`] |
//! | 44 | standing: number of cells (4 bytes, 1), then per cell: see [`Standing`] |
//! | 8 | chain: hash of everything in this batch but itself, seeded with the chain of the batch before |
//! | the rest | records |
//!
//! Because the header is part of the first batch, a segment begins whole or not at all. Because each batch repeats vote and loss mark, only damage
//! to the very last batch can hide a vote.
//!
//! Batch `n + 1` is written only after the sync of batch `n` returned. So any sector of a later batch proves that the earlier ones were durable.

use crate::record::CELL;
use crate::sector::{SECTOR_BYTES, SECTOR_PAYLOAD_BYTES, Sector, SectorAddress, frame, parse};
use bytes::Bytes;
use raft::{Incarnation, MemberId, PeerId, Term, Vote};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The newest format of segments known here.
pub const FORMAT: u32 = 1;

const MAGIC: &[u8; 8] = b"synodlog";
const HEADER_BYTES: usize = 72;
const STANDING_BYTES: usize = 4 + 40;
const CHAIN_BYTES: usize = 8;
const _: () = assert!(HEADER_BYTES + STANDING_BYTES + CHAIN_BYTES <= SECTOR_PAYLOAD_BYTES);

const FLAG_VOTE_KNOWN: u8 = 1;
const FLAG_CANDIDATE: u8 = 2;
const FLAG_ENTRIES_LOST: u8 = 4;

/// A place between two batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point {
    /// The segment; 0 is "before the first".
    pub generation: u64,
    /// How many batches of it count.
    pub batches: u32,
    /// The chain after them.
    pub chain: u64,
}

/// What the first batch of a segment says of the segment. On disk: magic `synodlog` (8), format (4), length of the header (4), member (8),
/// sectors of the file (8), generation of the previous segment (8), how many batches of it count (4), zeros (4), the chain after them (8),
/// index of the last entry before this segment (8), zeros (8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The directory the log belongs to, by its own id.
    pub member: MemberId,
    /// Length of the file.
    pub sectors: u64,
    /// Where the log before this segment ends. What the previous segment holds behind that never happened.
    pub previous: Point,
    /// Index of the last entry there.
    pub base: u64,
}

/// What every batch repeats of a member's promises, as of its end. On disk, per cell: cell (8), term (8), member voted for (8), its incarnation (4),
/// flags (1: bit 0 the vote is known, bit 1 there is a candidate, bit 2 entries were lost), zeros (3), commit index (8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The newest vote; `None`: lost.
    pub vote: Option<Vote>,
    /// Entries that were acknowledged may be missing.
    pub entries_lost: bool,
    /// Entries up to here were known to be decided; all of them are in the log at the end of this batch, or in the snapshot.
    pub commit: u64,
}

/// Why a first batch is not a segment's of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// A newer format.
    Newer(u32),
    /// Something else; in words.
    Malformed(String),
}

/// Why there is no batch where one was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotWhole {
    /// A sector is not the batch's.
    Broken,
    /// The image ends before the batch does.
    Ended,
}

/// One whole batch, as found in a segment.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its number.
    pub number: u32,
    /// The sector it starts at.
    pub sector: u64,
    /// Sectors it takes.
    pub sectors: u64,
    payload: Bytes,
}

/// The parts of a batch's payload.
#[derive(Clone, Debug)]
pub struct BatchParts {
    /// After the batch.
    pub standing: Standing,
    /// After the batch.
    pub chain: u64,
    /// What happened.
    pub records: Bytes,
    /// What the chain covers besides the records.
    front: Bytes,
}

impl BatchParts {
    /// The chain as it should be, if it was `before` ahead of this batch.
    pub fn chain_after(&self, before: u64) -> u64 {
        chain(before, &self.front, &self.records)
    }
}

fn chain(before: u64, front: &[u8], records: &[u8]) -> u64 {
    xxh3_64_with_seed(records, xxh3_64_with_seed(front, before))
}

/// Name of the file of the segment `generation`. It holds a segment, or nothing but zeros and sectors of earlier generations.
pub fn file_name(generation: u64, sectors: u64) -> String {
    format!("log-{generation:016x}-{sectors:08x}")
}

/// Name of a whole file kept for a later segment.
pub fn spare_name(generation: u64, sectors: u64) -> String {
    format!("spare-{generation:016x}-{sectors:08x}")
}

/// Name of a file that is being filled with zeros.
pub fn blank_name(generation: u64, sectors: u64) -> String {
    format!("blank-{generation:016x}-{sectors:08x}")
}

/// Generation and sectors in a name with this prefix (`log-`, `spare-`, `blank-`).
pub fn parse_name(prefix: &str, name: &str) -> Option<(u64, u64)> {
    let (generation, sectors) = name.strip_prefix(prefix)?.split_once('-')?;
    let shaped = generation.len() == 16 && sectors.len() >= 8;
    let lower = name.bytes().all(|byte| !byte.is_ascii_uppercase());
    if !shaped || !lower {
        return None;
    }
    Some((
        u64::from_str_radix(generation, 16).ok()?,
        u64::from_str_radix(sectors, 16).ok()?,
    ))
}

/// Bytes of payload that a batch with these records takes.
pub fn payload_bytes(first: bool, records: usize) -> usize {
    (if first { HEADER_BYTES } else { 0 }) + STANDING_BYTES + CHAIN_BYTES + records
}

/// Appends the sectors of a batch to `out`; gives the chain after it. `header` belongs to batch 0 and to no other.
pub fn encode_batch(
    out: &mut Vec<u8>,
    at: (u64, u32),
    header: Option<&Header>,
    standing: &Standing,
    before: u64,
    records: &[u8],
) -> u64 {
    let (generation, number) = at;
    assert!(
        header.is_some() == (number == 0),
        "batch {number} with header: {}",
        header.is_some()
    );
    let mut front = [0; HEADER_BYTES + STANDING_BYTES];
    let mut length = 0;
    if let Some(header) = header {
        front[..HEADER_BYTES].copy_from_slice(&header.encode());
        length = HEADER_BYTES;
    }
    front[length..length + STANDING_BYTES].copy_from_slice(&standing.encode());
    let front = &front[..length + STANDING_BYTES];
    let after = chain(before, front, records);
    frame(
        out,
        generation,
        number,
        &[front, &after.to_le_bytes(), records],
    );
    after
}

/// Reads the batch that starts at `sector` of an image.
///
/// # Errors
/// It is not whole.
pub fn batch_at(
    image: &[u8],
    generation: u64,
    sector: u64,
    number: u32,
) -> Result<Batch, NotWhole> {
    let mut payload = Vec::new();
    let start = sector as usize * SECTOR_BYTES;
    let sectors = image
        .get(start..)
        .ok_or(NotWhole::Ended)?
        .chunks_exact(SECTOR_BYTES);
    for (position, bytes) in sectors.enumerate() {
        let Sector::Whole {
            address,
            last,
            payload: piece,
        } = parse(bytes)
        else {
            return Err(NotWhole::Broken);
        };
        let fits = address
            == (SectorAddress {
                generation,
                batch: number,
                position: position as u32,
            });
        if !fits || (!last && piece.len() != SECTOR_PAYLOAD_BYTES) {
            return Err(NotWhole::Broken);
        }
        payload.extend_from_slice(piece);
        if last {
            return Ok(Batch {
                number,
                sector,
                sectors: position as u64 + 1,
                payload: payload.into(),
            });
        }
    }
    Err(NotWhole::Ended)
}

impl Batch {
    /// Takes it apart.
    ///
    /// # Errors
    /// It was not written by this version.
    pub fn parts(&self) -> Result<BatchParts, HeaderError> {
        let mut rest = self.payload.clone();
        if self.number == 0 {
            Header::decode(&mut rest)?;
        }
        let malformed = |what: &str| HeaderError::Malformed(what.into());
        if rest.len() < STANDING_BYTES + CHAIN_BYTES {
            return Err(malformed("a batch too short for its standing"));
        }
        let standing = Standing::decode(&rest.split_to(STANDING_BYTES))
            .ok_or_else(|| malformed("a standing of another cell, or an unknown flag"))?;
        let front = self.payload.slice(..self.payload.len() - rest.len());
        let chain = u64::from_le_bytes(
            rest.split_to(CHAIN_BYTES)[..]
                .try_into()
                .expect("eight bytes"),
        );
        Ok(BatchParts {
            standing,
            chain,
            records: rest,
            front,
        })
    }
}

/// What lies behind the last whole batch of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Nothing, or what is left of a batch that was never synced.
    Unwritten,
    /// The same, and a damaged sector in space that was certainly not in use.
    Worn,
    /// The batch there may have been synced: this sector is neither old nor validly of it.
    Damaged(u64),
}

/// Judges what lies at `sector` and behind, where a batch `number` may have been written and certainly no later one was, unless its sectors are found.
///
/// A sector never synced is old (zero, or of an earlier generation) or new, never mixed, and a synced one may be damaged but never becomes old again. So an
/// old sector within the batch proves that the batch was not synced.
pub fn judge_tail(image: &[u8], generation: u64, sector: u64, number: u32) -> Tail {
    let start = sector as usize * SECTOR_BYTES;
    let (mut unsynced, mut worn) = (false, false);
    for (position, bytes) in image[start..].chunks_exact(SECTOR_BYTES).enumerate() {
        match parse(bytes) {
            Sector::Zero => unsynced = true,
            Sector::Whole { address, .. } if address.generation < generation => unsynced = true,
            Sector::Whole { address, .. }
                if address
                    == (SectorAddress {
                        generation,
                        batch: number,
                        position: position as u32,
                    }) => {}
            Sector::Damaged if unsynced => worn = true,
            Sector::Damaged | Sector::Whole { .. } => {
                return Tail::Damaged(sector + position as u64);
            }
        }
    }
    if worn { Tail::Worn } else { Tail::Unwritten }
}

/// The standing at the end of a segment that is damaged somewhere: that of the last whole batch, if nothing behind it can have been synced. `None`: the
/// newest vote may have been in the damaged part.
pub fn standing_at_end(image: &[u8], generation: u64) -> Option<Standing> {
    let mut at = 0;
    let mut newest: Option<Batch> = None;
    while let Some(bytes) = image.get(at as usize * SECTOR_BYTES..(at as usize + 1) * SECTOR_BYTES)
    {
        let start = match parse(bytes) {
            Sector::Whole { address, .. }
                if address.generation == generation && address.position == 0 =>
            {
                Some(address.batch)
            }
            _ => None,
        };
        let batch = start.and_then(|number| batch_at(image, generation, at, number).ok());
        at += batch.as_ref().map_or(1, |batch| batch.sectors);
        newest = batch.or(newest);
    }
    let newest = newest?;
    match judge_tail(
        image,
        generation,
        newest.sector + newest.sectors,
        newest.number + 1,
    ) {
        Tail::Unwritten | Tail::Worn => Some(newest.parts().ok()?.standing),
        Tail::Damaged(_) => None,
    }
}

impl Header {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[12..16].copy_from_slice(&(HEADER_BYTES as u32).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.member.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.sectors.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.previous.generation.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.previous.batches.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.previous.chain.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.base.to_le_bytes());
        bytes
    }

    /// Takes a header off the front of a first batch.
    ///
    /// # Errors
    /// It is not one of this version.
    pub fn decode(payload: &mut Bytes) -> Result<Header, HeaderError> {
        if payload.len() < 16 || payload[..8] != MAGIC[..] {
            return Err(HeaderError::Malformed(
                "it does not begin like a segment".into(),
            ));
        }
        let format = u32::from_le_bytes(payload[8..12].try_into().expect("four bytes"));
        if format > FORMAT {
            return Err(HeaderError::Newer(format));
        }
        if payload.len() < HEADER_BYTES || payload[12..16] != (HEADER_BYTES as u32).to_le_bytes() {
            return Err(HeaderError::Malformed(
                "its header has another length".into(),
            ));
        }
        let bytes = payload.split_to(HEADER_BYTES);
        let number =
            |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let batches = u32::from_le_bytes(bytes[40..44].try_into().expect("four bytes"));
        Ok(Header {
            member: MemberId(number(16)),
            sectors: number(24),
            previous: Point {
                generation: number(32),
                batches,
                chain: number(48),
            },
            base: number(56),
        })
    }
}

impl Standing {
    fn encode(&self) -> [u8; STANDING_BYTES] {
        let mut bytes = [0; STANDING_BYTES];
        bytes[..4].copy_from_slice(&1u32.to_le_bytes());
        bytes[4..12].copy_from_slice(&CELL.to_le_bytes());
        let mut flags = if self.entries_lost {
            FLAG_ENTRIES_LOST
        } else {
            0
        };
        if let Some(vote) = self.vote {
            flags |= FLAG_VOTE_KNOWN;
            bytes[12..20].copy_from_slice(&vote.term.0.to_le_bytes());
            if let Some(candidate) = vote.candidate {
                flags |= FLAG_CANDIDATE;
                bytes[20..28].copy_from_slice(&candidate.member.0.to_le_bytes());
                bytes[28..32].copy_from_slice(&candidate.incarnation.0.to_le_bytes());
            }
        }
        bytes[32] = flags;
        bytes[36..44].copy_from_slice(&self.commit.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Standing> {
        let number =
            |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let small =
            |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let flags = bytes[32];
        if small(0) != 1
            || number(4) != CELL
            || flags & !(FLAG_VOTE_KNOWN | FLAG_CANDIDATE | FLAG_ENTRIES_LOST) != 0
        {
            return None;
        }
        let candidate = PeerId {
            member: MemberId(number(20)),
            incarnation: Incarnation(small(28)),
        };
        let vote = Vote {
            term: Term(number(12)),
            candidate: (flags & FLAG_CANDIDATE != 0).then_some(candidate),
        };
        Some(Standing {
            vote: (flags & FLAG_VOTE_KNOWN != 0).then_some(vote),
            entries_lost: flags & FLAG_ENTRIES_LOST != 0,
            commit: number(36),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sector::SECTOR_HEADER_BYTES;

    fn standing() -> Standing {
        let candidate = PeerId {
            member: MemberId(0x0a0b),
            incarnation: Incarnation(3),
        };
        Standing {
            vote: Some(Vote {
                term: Term(5),
                candidate: Some(candidate),
            }),
            entries_lost: true,
            commit: 0x2122,
        }
    }

    fn header() -> Header {
        Header {
            member: MemberId(0x0102),
            sectors: 32,
            previous: Point {
                generation: 6,
                batches: 4,
                chain: 0x1112,
            },
            base: 99,
        }
    }

    #[test]
    fn golden_first_batch() {
        let mut image = Vec::new();
        let after = encode_batch(
            &mut image,
            (7, 0),
            Some(&header()),
            &standing(),
            0x1112,
            b"records",
        );
        let mut expected = Vec::new();
        expected.extend_from_slice(
            b"synodlog\x01\0\0\0\x48\0\0\0\x02\x01\0\0\0\0\0\0\x20\0\0\0\0\0\0\0",
        );
        expected.extend_from_slice(b"\x06\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\x12\x11\0\0\0\0\0\0\x63\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        expected.extend_from_slice(
            b"\x01\0\0\0\0\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x0b\x0a\0\0\0\0\0\0\x03\0\0\0\x07\0\0\0\x22\x21\0\0\0\0\0\0",
        );
        expected.extend_from_slice(&0xbcbd_a3dd_734e_e644_u64.to_le_bytes());
        expected.extend_from_slice(b"records");
        assert_eq!(image.len(), SECTOR_BYTES);
        assert_eq!(
            &image[SECTOR_HEADER_BYTES..SECTOR_HEADER_BYTES + expected.len()],
            &expected[..],
            "chain {after:#x}"
        );
    }

    #[test]
    fn batches_come_back_and_are_chained() {
        let records: Vec<u8> = (0..3000u32).map(|n| n as u8).collect();
        let mut image = Vec::new();
        let first = encode_batch(
            &mut image,
            (7, 0),
            Some(&header()),
            &standing(),
            0x1112,
            &records,
        );
        let none = Standing {
            vote: None,
            entries_lost: false,
            commit: 0,
        };
        let second = encode_batch(&mut image, (7, 1), None, &none, first, b"");
        let batch = batch_at(&image, 7, 0, 0).unwrap();
        let parts = batch.parts().unwrap();
        assert_eq!(
            (parts.standing, parts.chain, &parts.records[..]),
            (standing(), first, &records[..])
        );
        assert_eq!(
            (
                parts.chain_after(0x1112),
                parts.chain_after(0x1113) == first
            ),
            (first, false)
        );
        let parts = batch_at(&image, 7, batch.sectors, 1)
            .unwrap()
            .parts()
            .unwrap();
        assert_eq!(
            (parts.standing, parts.chain, parts.records.len()),
            (none, second, 0)
        );
        assert_eq!(
            batch_at(&image, 7, batch.sectors, 2).unwrap_err(),
            NotWhole::Broken
        );
        assert_eq!(batch_at(&image, 8, 0, 0).unwrap_err(), NotWhole::Broken);
        assert_eq!(
            batch_at(&image[..SECTOR_BYTES], 7, 0, 0).unwrap_err(),
            NotWhole::Ended
        );
        assert_eq!(standing_at_end(&image, 7), Some(none));
    }

    #[test]
    fn a_newer_format_is_named() {
        let mut payload = header().encode().to_vec();
        payload[8] = 2;
        assert_eq!(
            Header::decode(&mut Bytes::from(payload)),
            Err(HeaderError::Newer(2))
        );
    }

    #[test]
    fn names_come_back() {
        assert_eq!(parse_name("log-", &file_name(0xabc, 32)), Some((0xabc, 32)));
        assert_eq!(
            parse_name("spare-", &spare_name(u64::MAX, 1 << 40)),
            Some((u64::MAX, 1 << 40))
        );
        for foreign in [
            "log-1-2",
            "log-0000000000000ABC-00000020",
            "log-0000000000000abc",
            "snapshot-1",
            "log-000000000000000+-00000020",
        ] {
            assert_eq!(parse_name("log-", foreign), None, "{foreign}");
        }
    }

    /// A recycled segment file: batch 0 and half of batch 1 of generation 9 over sectors of generation 8.
    fn torn() -> (Vec<u8>, Vec<u8>) {
        let mut old = Vec::new();
        encode_batch(
            &mut old,
            (8, 0),
            Some(&header()),
            &standing(),
            0,
            &[1; 3900],
        );
        let mut new = Vec::new();
        let chain = encode_batch(&mut new, (9, 0), Some(&header()), &standing(), 0, b"");
        let mut second = Vec::new();
        encode_batch(&mut second, (9, 1), None, &standing(), chain, &[2; 1500]);
        old[..SECTOR_BYTES].copy_from_slice(&new);
        (old, second)
    }

    #[test]
    fn a_torn_batch_is_told_from_a_damaged_one() {
        let (clean, second) = torn();
        assert_eq!(judge_tail(&clean, 9, 1, 1), Tail::Unwritten);
        let sectors = second.len() / SECTOR_BYTES;
        for missing in 0..1u32 << sectors {
            let mut image = clean.clone();
            for sector in (0..sectors).filter(|sector| missing & 1 << sector == 0) {
                let (from, to) = (sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES);
                image[SECTOR_BYTES + from..SECTOR_BYTES + to].copy_from_slice(&second[from..to]);
            }
            assert_eq!(
                batch_at(&image, 9, 1, 1).is_ok(),
                missing == 0,
                "missing {missing:b}"
            );
            assert_eq!(
                judge_tail(&image, 9, 1, 1),
                Tail::Unwritten,
                "missing {missing:b}"
            );
            // The first sector that is not old decides.
            image[SECTOR_BYTES + 100] ^= 1;
            assert_eq!(
                judge_tail(&image, 9, 1, 1),
                Tail::Damaged(1),
                "missing {missing:b}"
            );
        }
        let mut worn = clean.clone();
        worn[3 * SECTOR_BYTES + 100] ^= 1;
        assert_eq!(judge_tail(&worn, 9, 1, 1), Tail::Worn);
    }

    #[test]
    fn a_sector_of_a_later_batch_proves_that_the_earlier_one_was_synced() {
        let (mut image, second) = torn();
        image[4 * SECTOR_BYTES..5 * SECTOR_BYTES].copy_from_slice(&second[..SECTOR_BYTES]);
        assert_eq!(judge_tail(&image, 9, 1, 0), Tail::Damaged(4));
    }
}
