//! Snapshots: their bytes, and that damaged or hostile ones are refused without harm (PROPERTIES R1, S3).

mod support;

use bytes::Bytes;
use prost::Message;
use support::{Requests, Rng};
use synod_state::*;

fn apply(state: &mut State, operations: Vec<Operation>) {
    let commands = operations
        .into_iter()
        .map(|operation| Command {
            operation: Some(operation),
            ..Command::default()
        })
        .collect();
    let batch = Batch {
        format: 1,
        clock_ms: 1000,
        wall_ms: 2000,
        groups: vec![Group {
            commands,
            ..Group::default()
        }],
    };
    state
        .apply_begin(state.applied() + 1, &batch.encode_to_vec())
        .unwrap();
    state.apply_step(Budget(u64::MAX)).unwrap();
}

fn put(key: &'static str, value: &'static str, lease: i64) -> Operation {
    Operation::Put(Put {
        key: Bytes::from_static(key.as_bytes()),
        value: Bytes::from_static(value.as_bytes()),
        lease,
        ..Put::default()
    })
}

/// A state with leases, kept records, history, a removal at the compacted revision.
fn small() -> State {
    let mut state = State::new(Settings::default());
    let removal = DeleteRange {
        key: Bytes::from_static(b"b"),
        ..DeleteRange::default()
    };
    apply(
        &mut state,
        vec![
            Operation::LeaseGrant(LeaseGrant {
                id: 7,
                ttl_ms: 5000,
            }),
            put("a", "1", 0),
            put("b", "1", 7),
            put("a", "2", 0),
            Operation::DeleteRange(removal),
            put("c", "1", 7),
            put("a", "3", 7),
            Operation::Compact(Compact { revision: 5 }),
        ],
    );
    state
}

/// A state in which a removal is not wholly written down: of five keys one was put again, and one more was reached.
fn removing() -> State {
    let mut state = State::new(Settings {
        removal_keys_min: 4,
        removal_keys_per_batch: 1,
        ..Settings::default()
    });
    let puts = ["a", "b", "c", "d", "e"].map(|key| put(key, "1", 0));
    apply(&mut state, puts.to_vec());
    let removal = DeleteRange {
        key: Bytes::from_static(b"a"),
        range_end: Bytes::from_static(b"f"),
        ..DeleteRange::default()
    };
    apply(
        &mut state,
        vec![Operation::DeleteRange(removal), put("c", "2", 0)],
    );
    assert_eq!((state.complete(), state.revision()), (6, 8));
    state
}

fn write(state: &mut State, bytes_max: usize) -> Vec<u8> {
    let header = SnapshotHeader {
        index: state.applied(),
        term: 3,
        cluster: 1,
        cell: 2,
        configuration: Bytes::from_static(b"c"),
        ..SnapshotHeader::default()
    };
    let mut cursor = state.snapshot_begin(header);
    let mut all = Vec::new();
    while let Some(bytes) = state.snapshot_step(&mut cursor, bytes_max) {
        all.extend_from_slice(&bytes);
    }
    state.snapshot_cancel(cursor);
    all
}

fn load(bytes: &[u8], piece: usize) -> Result<(State, SnapshotHeader), SnapshotError> {
    let mut loader = Loader::new(Settings::default());
    for piece in bytes.chunks(piece) {
        loader.feed(piece)?;
    }
    loader.finish()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn snapshot_has_its_bytes() {
    let mut state = small();
    let golden = include_str!("snapshot.hex")
        .split_whitespace()
        .collect::<String>();
    assert_eq!(hex(&write(&mut state, 1 << 20)), golden);
}

#[test]
fn snapshot_of_a_pending_removal_has_its_bytes() {
    let mut state = removing();
    let golden = include_str!("snapshot_removing.hex")
        .split_whitespace()
        .collect::<String>();
    let bytes = write(&mut state, 1 << 20);
    assert_eq!(hex(&bytes), golden);
    let (mut loaded, _) = load(&bytes, 1 << 20).unwrap();
    assert_eq!(
        (loaded.hash(), loaded.bytes(), loaded.complete()),
        (state.hash(), state.bytes(), 6)
    );
    // The default writes the rest down at once.
    apply(&mut loaded, vec![]);
    (0..3).for_each(|_| apply(&mut state, vec![]));
    assert_eq!((loaded.complete(), state.complete()), (8, 8));
    assert_eq!((loaded.keys(), loaded.bytes()), (1, state.bytes()));
    let mut events = Vec::new();
    let next = loaded.events(7, Budget(100), &mut |event| {
        events.push((event.revision, event.key.to_vec(), event.deleted))
    });
    let removed = [b"c", b"a", b"b", b"d", b"e"].map(|key| (7, key.to_vec(), true));
    assert_eq!(next, Ok(9));
    assert_eq!(events[..5], removed);
    assert_eq!(events[5..], [(8, b"c".to_vec(), false)]);
}

#[test]
fn snapshot_loads_in_pieces_of_any_length() {
    let mut state = small();
    for bytes_max in [1, 64, 1 << 20] {
        let bytes = write(&mut state, bytes_max);
        for piece in [1, 7, bytes.len()] {
            let (loaded, header) = load(&bytes, piece).unwrap();
            assert_eq!(
                (
                    loaded.hash(),
                    loaded.applied(),
                    loaded.revision(),
                    loaded.bytes()
                ),
                (state.hash(), 1, 7, state.bytes())
            );
            assert_eq!(
                (header.clock_ms, header.wall_ms, header.ordinal, header.term),
                (1000, 2000, 8, 3)
            );
        }
    }
}

#[test]
fn r1_a_flipped_bit_is_refused_anywhere() {
    for mut state in [small(), removing()] {
        let bytes = write(&mut state, 1 << 20);
        for at in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[at / 8] ^= 1 << (at % 8);
            let refused = load(&damaged, damaged.len()).err();
            assert!(refused.is_some(), "bit {at} was flipped and nobody noticed");
        }
    }
}

#[test]
fn r1_a_cut_snapshot_is_refused_at_any_length() {
    let bytes = write(&mut small(), 64);
    for length in 0..bytes.len() {
        assert!(
            matches!(
                load(&bytes[..length], 1 << 20),
                Err(SnapshotError::Corrupt(_))
            ),
            "cut at {length}"
        );
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(load(&longer, 1 << 20).is_err());
}

/// Blocks as (place, length of the content).
fn blocks(bytes: &[u8]) -> Vec<(usize, usize)> {
    let (mut at, mut blocks) = (8, Vec::new());
    while at < bytes.len() {
        let length = u32::from_le_bytes(bytes[at + 12..at + 16].try_into().unwrap()) as usize;
        blocks.push((at, length));
        at += 20 + length;
    }
    blocks
}

fn sign(bytes: &mut [u8], (at, length): (usize, usize)) {
    let checksum = crc32c::crc32c_append(
        crc32c::crc32c(&bytes[at..at + 16]),
        &bytes[at + 20..at + 20 + length],
    );
    bytes[at + 16..at + 20].copy_from_slice(&checksum.to_le_bytes());
}

#[test]
fn s3_hostile_content_with_right_checksums_is_refused_without_a_panic() {
    let mut rng = Rng(1);
    let mut state = State::new(Settings::default());
    for _ in 0..60 {
        let operation = Requests {
            rng: &mut rng,
            revision: state.revision(),
        }
        .command()
        .operation
        .unwrap();
        apply(&mut state, vec![operation]);
    }
    for sample in [
        write(&mut small(), 1 << 20),
        write(&mut removing(), 1 << 20),
        write(&mut state, 4096),
    ] {
        let (blocks, original) = (blocks(&sample), load(&sample, 1000).unwrap().0.hash());
        for _ in 0..20_000 / (1 + sample.len() / 1000) {
            let mut hostile = sample.clone();
            let block = blocks[rng.below(blocks.len() as u64) as usize];
            for _ in 0..1 + rng.below(3) {
                let at = block.0 + 20 + rng.below(block.1.max(1) as u64) as usize;
                if at < hostile.len() && block.1 > 0 {
                    hostile[at] = [0, 1, 0x7f, 0x80, 0xff, rng.next() as u8][rng.below(6) as usize];
                }
            }
            if rng.chance(20) {
                // Blocks may also come twice, or not at all.
                let from = hostile[block.0..block.0 + 20 + block.1].to_vec();
                let at = blocks[rng.below(blocks.len() as u64) as usize].0;
                hostile.splice(at..at, from);
            } else {
                sign(&mut hostile, block);
            }
            // What the hash does not cover (the term, an empty block more) may differ; the state may not.
            if let Ok((loaded, _)) = load(&hostile, hostile.len()) {
                assert_eq!(loaded.hash(), original, "another state was taken for ours");
            }
        }
    }
}

#[test]
fn newer_formats_are_told_from_damage() {
    let bytes = write(&mut small(), 1 << 20);
    let first = blocks(&bytes)[0];
    let mut newer = bytes.clone();
    newer[first.0 + 8] = 2;
    sign(&mut newer, first);
    assert_eq!(
        load(&newer, 1000).err(),
        Some(SnapshotError::NewerFormat {
            format: 2,
            known: 1
        })
    );
    let mut unknown = bytes.clone();
    unknown[first.0] = b'x';
    sign(&mut unknown, first);
    assert_eq!(
        load(&unknown, 1000).err(),
        Some(SnapshotError::NewerFormat {
            format: 2,
            known: 1
        })
    );
    // A section marked as optional may be passed over.
    let mut optional = unknown[..first.0 + 20 + first.1].to_vec();
    optional[first.0 + 10] = 1;
    sign(&mut optional, first);
    optional.extend_from_slice(&bytes[8..]);
    assert!(load(&optional, 1000).is_ok());
}

#[test]
fn kv5_limit_and_alarms_are_part_of_the_hash_and_of_a_snapshot() {
    let mut full = small();
    let (bytes, hash) = (full.bytes(), full.hash());
    let limit = Operation::SetBytesMax(SetBytesMax { bytes_max: bytes });
    apply(&mut full, vec![limit]);
    let limited = full.hash();
    assert_ne!(limited, hash);
    let corrupt = SetAlarm {
        kind: AlarmKind::Corrupt as i32,
        member: 9,
        raise: true,
    };
    apply(
        &mut full,
        vec![put("d", "", 0), Operation::SetAlarm(corrupt)],
    );
    assert_ne!(full.hash(), limited);
    let (loaded, _) = load(&write(&mut full, 100), 7).expect("it is whole");
    assert_eq!(loaded.hash(), full.hash());
    assert_eq!(loaded.bytes_max(), bytes);
    let kinds: Vec<AlarmKind> = loaded.alarms().map(|alarm| alarm.kind).collect();
    assert_eq!(kinds, [AlarmKind::NoSpace, AlarmKind::Corrupt]);
}
