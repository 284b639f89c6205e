//! The incremental hash of the state: a chain over events, sums over what is live, and the counters (PROPERTIES KV5).
//! It depends on nothing that members may hold differently: not on places in memory, not on what was freed yet.

use crate::record::{NewRecord, Record};
use prost::Message;
use xxhash_rust::xxh3::xxh3_64;

/// Mixes one number into another, so that order counts.
pub(crate) fn mix(hash: u64, number: u64) -> u64 {
    let mixed = (hash ^ number)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .rotate_left(31);
    (mixed ^ mixed >> 29)
        .wrapping_mul(0xBF58_476D_1CE4_E5B9)
        .wrapping_add(number)
}

/// Mixes several numbers.
pub(crate) fn mix_all(numbers: &[u64]) -> u64 {
    numbers
        .iter()
        .fold(numbers.len() as u64, |hash, &number| mix(hash, number))
}

/// The chain after one more event.
pub(crate) fn chain(hash: u64, event: &Record<'_>) -> u64 {
    mix(hash, history(event))
}

/// What a live key adds to the sum of live keys.
pub(crate) fn live(
    key_hash: u64,
    revision: i64,
    create_revision: i64,
    version: i64,
    lease: i64,
) -> u64 {
    mix_all(&[
        key_hash,
        revision as u64,
        create_revision as u64,
        version as u64,
        lease as u64,
    ])
}

/// What a record adds to that sum while its key lives by it.
pub(crate) fn live_record(record: &Record<'_>) -> u64 {
    live(
        key(record.key),
        record.revision,
        record.create_revision,
        record.version,
        record.lease,
    )
}

/// The hash of a row that is written as a message.
pub(crate) fn message(row: &impl Message) -> u64 {
    // Most rows are small, and hashed so often that asking for memory each time would count.
    let mut room = [0; 256];
    let bytes = row.encoded_len();
    let Some(mut small) = room.get_mut(..bytes) else {
        return xxh3_64(&row.encode_to_vec());
    };
    row.encode(&mut small).expect("it has room");
    xxh3_64(&room[..bytes])
}

/// The hash of a key.
pub(crate) fn key(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// What the record of a removal adds to the hash of keys and history, whether it is written or not.
pub(crate) fn removal(revision: i64, removed: &[u8]) -> u64 {
    shared(&NewRecord::removal(revision, removed, None))
}

/// What a retained record adds to the hash of keys and history.
pub(crate) fn history(record: &Record<'_>) -> u64 {
    shared(&record.renewed())
}

/// The hash of the part of a record that is equal on all members.
fn shared(record: &NewRecord<'_>) -> u64 {
    let mut bytes = Vec::with_capacity(record.length_max());
    record.write_shared(&mut bytes);
    xxh3_64(&bytes)
}
