//! The chain of segments that make up the log, found by their headers and replayed batch by batch.

use crate::history::History;
use crate::scan::{Image, Listing, Scan, ScanEnd, read_header, scan};
use crate::segment::{Header, Standing, Tail, judge_tail};
use crate::{Disk, Identity, OpenError};
use std::collections::BTreeMap;

/// A segment of the chain.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Its generation.
    pub generation: u64,
    /// Sectors of its file.
    pub sectors: u64,
    /// What it says of itself.
    pub header: Header,
}

/// What the files turned out to be.
#[derive(Debug, Default)]
pub struct Findings {
    /// Files that hold nothing.
    pub unused: Vec<u64>,
    /// The same, but they are not fit to be used again.
    pub worn: Vec<u64>,
    /// The chain, oldest first.
    pub chain: Vec<Link>,
    /// Damaged segments, each with what is wrong; files behind the damage too.
    pub damaged: BTreeMap<u64, String>,
    /// Something that was acknowledged may have been in a damaged place.
    pub lost: bool,
}

/// What is kept of the chain.
#[derive(Default)]
pub struct Kept {
    /// The segments with their good batches, oldest first. Only in the last can damage follow.
    pub segments: Vec<(Link, Scan)>,
    /// What they say of the log.
    pub history: History,
    /// The standing after the last batch.
    pub end: Option<Standing>,
}

impl Findings {
    /// A file in which no segment was begun.
    pub fn is_empty_file(&self, generation: u64) -> bool {
        self.unused.contains(&generation) || self.worn.contains(&generation)
    }

    /// A segment of the chain that is not damaged.
    pub fn copied(&self, generation: u64) -> bool {
        self.chain.iter().any(|link| link.generation == generation)
    }

    /// Gives up a part of the chain because of damage before it.
    fn cut(&mut self, links: &[Link]) {
        self.lost = !mutated!(CutAtDamage);
        for link in links {
            self.damaged
                .entry(link.generation)
                .or_insert_with(|| "what comes before it is damaged".into());
        }
    }
}

/// Finds the newest segment and walks back along the headers. `start` is the index of the snapshot.
pub fn find_chain<D: Disk>(
    disk: &mut D,
    listing: &Listing,
    identity: &Identity,
    start: u64,
) -> Result<Findings, OpenError> {
    let mut findings = Findings::default();
    let mut newest = None;
    for (&generation, &sectors) in listing.logs.iter().rev() {
        let image = Image::load(disk, generation, sectors)?;
        if image.batch(0, 0).is_some() {
            newest = Some(generation);
            break;
        }
        match judge_tail(&image.bytes, generation, 0, 0) {
            Tail::Unwritten => findings.unused.push(generation),
            Tail::Worn => findings.worn.push(generation),
            Tail::Damaged(sector) => {
                findings
                    .damaged
                    .insert(generation, format!("it is damaged at sector {sector}"));
                findings.lost = true;
            }
        }
    }
    // A member that belongs to a cluster has begun a log.
    findings.lost |= newest.is_none() && (identity.cluster != 0 || listing.quarantined);
    while let Some(from) = newest.take() {
        let broken = walk(disk, listing, identity, from, &mut findings.chain)?;
        let Some(broken) = broken else { break };
        findings
            .damaged
            .insert(broken, "it is damaged at sector 0".into());
        // The snapshot stands for everything before the first segment of the chain.
        if findings
            .chain
            .first()
            .is_some_and(|link| link.header.base <= start)
        {
            break;
        }
        let links = std::mem::take(&mut findings.chain);
        findings.cut(&links);
        newest = whole_before(disk, listing, broken)?;
    }
    Ok(findings)
}

/// Walks back from a segment along the headers, as far as there are files; gives the one whose header is damaged.
fn walk<D: Disk>(
    disk: &mut D,
    listing: &Listing,
    identity: &Identity,
    from: u64,
    chain: &mut Vec<Link>,
) -> Result<Option<u64>, OpenError> {
    let mut at = from;
    while let Some(&sectors) = listing.logs.get(&at) {
        let Some(header) = read_header(disk, at, sectors)? else {
            return Ok(Some(at));
        };
        if header.member != identity.directory {
            return Err(OpenError::Foreign(format!(
                "segment {at:x} of the log is of directory {}, not of {}",
                header.member, identity.directory
            )));
        }
        if header.sectors < sectors || header.previous.generation >= at {
            return Err(OpenError::Damaged(format!(
                "segment {at:x} of the log is not what its name says"
            )));
        }
        chain.insert(
            0,
            Link {
                generation: at,
                sectors,
                header,
            },
        );
        at = header.previous.generation;
    }
    Ok(None)
}

/// The newest segment before `generation` that was begun.
fn whole_before<D: Disk>(
    disk: &mut D,
    listing: &Listing,
    generation: u64,
) -> Result<Option<u64>, OpenError> {
    for (&older, &sectors) in listing.logs.range(..generation).rev() {
        if Image::load(disk, older, sectors)?.batch(0, 0).is_some() {
            return Ok(Some(older));
        }
    }
    Ok(None)
}

/// Replays the chain, up to the first damage. Damage that the snapshot at `start` makes good costs nothing.
pub fn replay_chain<D: Disk>(
    disk: &mut D,
    findings: &mut Findings,
    start: u64,
) -> Result<Kept, OpenError> {
    loop {
        let chain = findings.chain.clone();
        let Some((kept, damage)) = replay(disk, &chain, findings.lost)? else {
            return Ok(Kept {
                history: History::new(start),
                ..Kept::default()
            });
        };
        let Some((at, why)) = damage else {
            return Ok(kept);
        };
        findings.damaged.insert(chain[at].generation, why);
        match (at + 1..chain.len()).find(|later| chain[*later].header.base <= start) {
            Some(later) => findings.chain.drain(..later),
            None => {
                findings.cut(&chain[at + 1..]);
                findings.chain.truncate(at + 1);
                return Ok(kept);
            }
        };
    }
}

type Damage = (usize, String);

/// Replays the chain once; tells where it is damaged. If something is `lost` already, nobody knows where the chain should end.
fn replay<D: Disk>(
    disk: &mut D,
    chain: &[Link],
    lost: bool,
) -> Result<Option<(Kept, Option<Damage>)>, OpenError> {
    let Some(first) = chain.first() else {
        return Ok(None);
    };
    let mut kept = Kept {
        history: History::new(first.header.base),
        ..Kept::default()
    };
    let mut before = first.header.previous.chain;
    for (at, link) in chain.iter().enumerate() {
        if link.header.previous.chain != before {
            return Ok(Some((
                kept,
                Some((at, "it does not continue the segment before".into())),
            )));
        }
        let limit = chain.get(at + 1).map(|next| next.header.previous.batches);
        let image = Image::load(disk, link.generation, link.sectors)?;
        let mut scan = scan(&image, limit, before, &mut kept.history)?;
        let damaged = match scan.end {
            ScanEnd::Limit => None,
            ScanEnd::ChainBroken => Some(scan.sector),
            ScanEnd::NotWhole if limit.is_some() => Some(scan.sector),
            ScanEnd::NotWhole if lost || mutated!(DamagedTailIsTorn) => None,
            ScanEnd::NotWhole => match judge_tail(
                &image.bytes,
                link.generation,
                scan.sector,
                scan.batches.len() as u32,
            ) {
                Tail::Unwritten | Tail::Worn => None,
                Tail::Damaged(sector) => Some(sector),
            },
        };
        scan.damaged = damaged.is_some();
        if let Some(last) = scan.batches.last() {
            before = last.chain;
            kept.end = Some(last.standing);
        }
        kept.segments.push((*link, scan));
        if let Some(sector) = damaged {
            return Ok(Some((
                kept,
                Some((at, format!("it is damaged at sector {sector}"))),
            )));
        }
    }
    Ok(Some((kept, None)))
}
