//! A snapshot from another member or from a damaged disk: any bytes are a state or are refused. The input is cut into blocks with good checksums, because
//! what is behind a checksum would never be reached otherwise; the format's beginning and its checksums are fuzzed by the input's first byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use state::{Loader, Settings, SnapshotError, SnapshotHeader, State};

const MAGIC: &[u8] = b"SYNODSNP";
const SECTIONS: [&[u8; 8]; 8] = [
    b"header\0\0",
    b"state\0\0\0",
    b"auth\0\0\0\0",
    b"lease\0\0\0",
    b"kept\0\0\0\0",
    b"history\0",
    b"end\0\0\0\0\0",
    b"unknown\0",
];

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, rest)) = bytes.split_first() else {
        return;
    };
    let snapshot = if kind & 1 == 0 {
        blocks(rest)
    } else {
        rest.to_vec()
    };
    if let Ok((mut state, header)) = load(&snapshot) {
        let again = take(&mut state, header.clone());
        let (same, same_header) = load(&again).expect("what was written can be read");
        assert_eq!((state.hash(), header), (same.hash(), same_header));
    }
});

/// The input as blocks: section, version, flags, length, content; the last one's content is what is left.
fn blocks(mut rest: &[u8]) -> Vec<u8> {
    let mut snapshot = MAGIC.to_vec();
    while let Some(([section, version, flags, low, high], tail)) = rest.split_first_chunk::<5>() {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(tail.len());
        let (content, tail) = tail.split_at(length);
        rest = tail;
        let start = snapshot.len();
        snapshot.extend_from_slice(SECTIONS[usize::from(*section) % SECTIONS.len()]);
        snapshot.extend_from_slice(&u16::from(*version).to_le_bytes());
        snapshot.extend_from_slice(&u16::from(*flags).to_le_bytes());
        snapshot.extend_from_slice(&(length as u32).to_le_bytes());
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&snapshot[start..]), content);
        snapshot.extend_from_slice(&checksum.to_le_bytes());
        snapshot.extend_from_slice(content);
    }
    snapshot
}

fn load(snapshot: &[u8]) -> Result<(State, SnapshotHeader), SnapshotError> {
    let mut loader = Loader::new(Settings::default());
    let (first, second) = snapshot.split_at(snapshot.len() / 2);
    loader.feed(first)?;
    loader.feed(second)?;
    loader.finish()
}

fn take(state: &mut State, header: SnapshotHeader) -> Vec<u8> {
    let mut cursor = state.snapshot_begin(header);
    let mut snapshot = Vec::new();
    while let Some(bytes) = state.snapshot_step(&mut cursor, 1000) {
        snapshot.extend_from_slice(&bytes);
    }
    snapshot
}
