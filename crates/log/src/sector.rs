//! Sectors: the unit a disk writes whole. Each says to which batch of which segment generation it belongs, and carries a checksum.
//!
//! A *batch* is what one sync makes durable: a run of sectors. Layout of a sector (little-endian), 512 bytes:
//!
//! | bytes | content |
//! |---|---|
//! | 0..4 | CRC32C of bytes 4..512 |
//! | 4..12 | generation of the segment |
//! | 12..16 | number of the batch in its segment, from 0 |
//! | 16..20 | position of the sector in its batch, from 0 |
//! | 20..22 | payload bytes used |
//! | 22..24 | flags: bit 0: last sector of its batch |
//! | 24..512 | payload; zeros behind what is used |
//!
//! Knows nothing of what the payload means.

/// Bytes of a sector.
pub const SECTOR_BYTES: usize = 512;
/// Bytes of its header.
pub const SECTOR_HEADER_BYTES: usize = 24;
/// Bytes of payload it holds.
pub const SECTOR_PAYLOAD_BYTES: usize = SECTOR_BYTES - SECTOR_HEADER_BYTES;

const FLAG_LAST: u16 = 1;

/// Which sector of which batch of which segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectorAddress {
    /// The segment's generation: unique among all segments this directory ever had.
    pub generation: u64,
    /// The batch in the segment.
    pub batch: u32,
    /// The sector in the batch.
    pub position: u32,
}

/// What a sector of a segment file turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sector<'a> {
    /// Never written.
    Zero,
    /// Whole.
    Whole {
        /// Where it belongs.
        address: SectorAddress,
        /// It ends its batch.
        last: bool,
        /// What it holds.
        payload: &'a [u8],
    },
    /// Neither.
    Damaged,
}

/// Sectors a payload of this length takes; an empty one takes one.
pub fn sectors_for(payload_bytes: usize) -> usize {
    payload_bytes.div_ceil(SECTOR_PAYLOAD_BYTES).max(1)
}

/// Judges one sector of 512 bytes.
pub fn parse(sector: &[u8]) -> Sector<'_> {
    assert!(
        sector.len() == SECTOR_BYTES,
        "a sector of {} bytes",
        sector.len()
    );
    if sector.iter().all(|byte| *byte == 0) {
        return Sector::Zero;
    }
    let checksum = u32::from_le_bytes(field(sector, 0));
    if crc32c::crc32c(&sector[4..]) != checksum && !mutated!(ServeCorrupt) {
        return Sector::Damaged;
    }
    let used = usize::from(u16::from_le_bytes(field(sector, 20)));
    let flags = u16::from_le_bytes(field(sector, 22));
    if used > SECTOR_PAYLOAD_BYTES || flags & !FLAG_LAST != 0 {
        return Sector::Damaged;
    }
    Sector::Whole {
        address: SectorAddress {
            generation: u64::from_le_bytes(field(sector, 4)),
            batch: u32::from_le_bytes(field(sector, 12)),
            position: u32::from_le_bytes(field(sector, 16)),
        },
        last: flags & FLAG_LAST != 0,
        payload: &sector[SECTOR_HEADER_BYTES..SECTOR_HEADER_BYTES + used],
    }
}

fn field<const N: usize>(sector: &[u8], at: usize) -> [u8; N] {
    sector[at..at + N]
        .try_into()
        .expect("a field of a whole sector")
}

/// Cuts the parts of a payload, one after the other, into the sectors of one batch and appends these to `out`.
pub fn frame(out: &mut Vec<u8>, generation: u64, batch: u32, parts: &[&[u8]]) {
    let total: usize = parts.iter().map(|part| part.len()).sum();
    let count = sectors_for(total);
    let count_u32 = u32::try_from(count).expect("a batch below 2 TiB");
    out.reserve(count * SECTOR_BYTES);
    let mut parts = parts.iter().copied();
    let mut rest: &[u8] = &[];
    let mut left = total;
    for position in 0..count_u32 {
        let start = out.len();
        let used = left.min(SECTOR_PAYLOAD_BYTES);
        left -= used;
        let flags = if position + 1 == count_u32 {
            FLAG_LAST
        } else {
            0
        };
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&generation.to_le_bytes());
        out.extend_from_slice(&batch.to_le_bytes());
        out.extend_from_slice(&position.to_le_bytes());
        out.extend_from_slice(&(used as u16).to_le_bytes());
        out.extend_from_slice(&flags.to_le_bytes());
        let mut wanted = used;
        while wanted > 0 {
            if rest.is_empty() {
                rest = parts.next().expect("as many bytes as counted");
                continue;
            }
            let taken = wanted.min(rest.len());
            out.extend_from_slice(&rest[..taken]);
            rest = &rest[taken..];
            wanted -= taken;
        }
        out.resize(start + SECTOR_BYTES, 0);
        let checksum = crc32c::crc32c(&out[start + 4..]);
        out[start..start + 4].copy_from_slice(&checksum.to_le_bytes());
    }
    assert!(left == 0, "{left} bytes of a batch left unframed");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framed_sectors_parse_back() {
        for length in [0usize, 1, 487, 488, 489, 2000] {
            let payload: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let (front, back) = payload.split_at(length / 3);
            let mut framed = Vec::new();
            frame(&mut framed, 9, 4, &[front, &[], back]);
            assert_eq!(framed.len(), sectors_for(length) * SECTOR_BYTES);
            let mut found = Vec::new();
            for (i, sector) in framed.chunks(SECTOR_BYTES).enumerate() {
                let Sector::Whole {
                    address,
                    last,
                    payload,
                } = parse(sector)
                else {
                    panic!("sector {i} of {length} bytes")
                };
                assert_eq!(
                    address,
                    SectorAddress {
                        generation: 9,
                        batch: 4,
                        position: i as u32
                    }
                );
                assert_eq!(last, i + 1 == sectors_for(length));
                found.extend_from_slice(payload);
            }
            assert_eq!(found, payload);
        }
    }

    #[test]
    fn any_flipped_bit_is_damage() {
        let mut framed = Vec::new();
        frame(&mut framed, 1, 0, &[b"one"]);
        for bit in 0..SECTOR_BYTES * 8 {
            let mut flipped = framed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse(&flipped), Sector::Damaged, "bit {bit}");
        }
    }

    #[test]
    fn golden_sector() {
        let mut framed = Vec::new();
        frame(&mut framed, 0x0102_0304_0506_0708, 5, &[b"synod"]);
        let mut expected = vec![0; SECTOR_BYTES];
        expected[..29].copy_from_slice(&[
            0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1, 5, 0, 0, 0, 0, 0, 0, 0, 5, 0, 1, 0, b's', b'y',
            b'n', b'o', b'd',
        ]);
        let checksum = u32::from_le_bytes(framed[..4].try_into().unwrap());
        expected[..4].copy_from_slice(&framed[..4]);
        assert_eq!(framed, expected);
        assert_eq!(checksum, crc32c::crc32c(&expected[4..]));
    }
}
