//! Records: what a batch carries, in the order it happened. Two kinds: an entry, and "the log starts anew after this snapshot".
//!
//! A record is `kind` (1 byte), `cell` (varint; the first release has cell 0 only), `length` of the body (varint), body.
//!
//! | kind | body |
//! |---|---|
//! | 1 entry | term (varint), index (varint), payload kind (1 byte: 0 no-op, 1 batch, 2 configuration), payload |
//! | 2 reset | index (varint), term (varint), configuration |
//!
//! The vote is no record: every batch repeats it (see `segment`).

use bytes::Bytes;
use raft::{Configuration, Entry, Index, Payload, SnapshotMark, Term};

/// The cell all records belong to, as long as a node has one.
pub const CELL: u64 = 0;

const KIND_ENTRY: u8 = 1;
const KIND_RESET: u8 = 2;
const PAYLOAD_NOOP: u8 = 0;
const PAYLOAD_BATCH: u8 = 1;
const PAYLOAD_CONFIGURATION: u8 = 2;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An entry. It may overwrite: stored entries at its index or later are void.
    Entry(Entry),
    /// The log starts anew after this snapshot: all earlier entries are void.
    Reset(SnapshotMark),
}

/// Appends an entry record.
pub fn encode_entry(out: &mut Vec<u8>, entry: &Entry) {
    let configuration;
    let (kind, payload): (u8, &[u8]) = match &entry.payload {
        Payload::Noop => (PAYLOAD_NOOP, &[]),
        Payload::Batch(bytes) => (PAYLOAD_BATCH, bytes),
        Payload::Configuration(value) => {
            configuration = value.encode();
            (PAYLOAD_CONFIGURATION, &configuration)
        }
    };
    let length = varint_bytes(entry.term.0) + varint_bytes(entry.index.0) + 1 + payload.len();
    encode_head(out, KIND_ENTRY, length);
    put_varint(out, entry.term.0);
    put_varint(out, entry.index.0);
    out.push(kind);
    out.extend_from_slice(payload);
}

/// Appends a reset record.
pub fn encode_reset(out: &mut Vec<u8>, mark: &SnapshotMark) {
    let configuration = mark.configuration.encode();
    let length = varint_bytes(mark.index.0) + varint_bytes(mark.term.0) + configuration.len();
    encode_head(out, KIND_RESET, length);
    put_varint(out, mark.index.0);
    put_varint(out, mark.term.0);
    out.extend_from_slice(&configuration);
}

fn encode_head(out: &mut Vec<u8>, kind: u8, length: usize) {
    out.push(kind);
    put_varint(out, CELL);
    put_varint(out, length as u64);
}

/// The records of a batch, one after the other. The checksums have been verified, so anything malformed is a newer or a faulty writer's.
///
/// # Errors
/// What is wrong, in words.
pub fn decode_all(mut records: Bytes, mut each: impl FnMut(Record)) -> Result<(), String> {
    while !records.is_empty() {
        let kind = take_byte(&mut records)?;
        let cell = take_varint(&mut records)?;
        if cell != CELL {
            return Err(format!("a record of cell {cell}"));
        }
        let length = take_varint(&mut records)?;
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= records.len());
        let mut body = records.split_to(length.ok_or("a record longer than its batch")?);
        each(match kind {
            KIND_ENTRY => Record::Entry(decode_entry(&mut body)?),
            KIND_RESET => Record::Reset(decode_reset(&mut body)?),
            _ => return Err(format!("a record of unknown kind {kind}")),
        });
    }
    Ok(())
}

fn decode_entry(body: &mut Bytes) -> Result<Entry, String> {
    let term = Term(take_varint(body)?);
    let index = Index(take_varint(body)?);
    let payload = match take_byte(body)? {
        PAYLOAD_NOOP if body.is_empty() => Payload::Noop,
        PAYLOAD_BATCH => Payload::Batch(std::mem::take(body)),
        PAYLOAD_CONFIGURATION => {
            Payload::Configuration(decode_configuration(std::mem::take(body))?)
        }
        kind => return Err(format!("an entry payload of unknown kind {kind}")),
    };
    Ok(Entry {
        term,
        index,
        payload,
    })
}

fn decode_reset(body: &mut Bytes) -> Result<SnapshotMark, String> {
    let index = Index(take_varint(body)?);
    let term = Term(take_varint(body)?);
    let configuration = decode_configuration(std::mem::take(body))?;
    Ok(SnapshotMark {
        index,
        term,
        configuration,
    })
}

fn decode_configuration(bytes: Bytes) -> Result<Configuration, String> {
    Configuration::decode(bytes)
        .map_err(|error| format!("a configuration that cannot be read: {error:?}"))
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_bytes(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

fn take_byte(bytes: &mut Bytes) -> Result<u8, String> {
    if bytes.is_empty() {
        return Err("a record cut short".into());
    }
    Ok(bytes.split_to(1)[0])
}

fn take_varint(bytes: &mut Bytes) -> Result<u64, String> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take_byte(bytes)?;
        if shift == 63 && byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a number longer than 64 bits".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: Vec<u8>) -> Result<Vec<Record>, String> {
        let mut records = Vec::new();
        decode_all(Bytes::from(bytes), |record| records.push(record))?;
        Ok(records)
    }

    fn entry(term: u64, index: u64, payload: Payload) -> Entry {
        Entry {
            term: Term(term),
            index: Index(index),
            payload,
        }
    }

    #[test]
    fn golden_records() {
        let mut out = Vec::new();
        encode_entry(&mut out, &entry(1, 300, Payload::Noop));
        encode_entry(
            &mut out,
            &entry(2, 3, Payload::Batch(Bytes::from_static(b"abc"))),
        );
        let expected = [1, 0, 4, 1, 0xac, 2, 0, 1, 0, 6, 2, 3, 1, b'a', b'b', b'c'];
        assert_eq!(out, expected);
    }

    #[test]
    fn records_come_back() {
        let configuration = Configuration::default();
        let mark = SnapshotMark {
            index: Index(u64::MAX),
            term: Term(7),
            configuration: configuration.clone(),
        };
        let entries = [
            entry(1, 1, Payload::Noop),
            entry(
                u64::MAX,
                u64::MAX,
                Payload::Batch(Bytes::from(vec![7; 1000])),
            ),
            entry(3, 128, Payload::Batch(Bytes::new())),
            entry(4, 5, Payload::Configuration(configuration)),
        ];
        let mut out = Vec::new();
        for entry in &entries {
            encode_entry(&mut out, entry);
        }
        encode_reset(&mut out, &mark);
        let mut expected: Vec<Record> = entries.into_iter().map(Record::Entry).collect();
        expected.push(Record::Reset(mark));
        assert_eq!(decoded(out), Ok(expected));
    }

    #[test]
    fn cut_or_unknown_records_are_refused() {
        let mut out = Vec::new();
        encode_entry(
            &mut out,
            &entry(2, 3, Payload::Batch(Bytes::from_static(b"abc"))),
        );
        for length in 1..out.len() {
            assert!(decoded(out[..length].to_vec()).is_err(), "cut at {length}");
        }
        out[0] = 9;
        assert_eq!(decoded(out), Err("a record of unknown kind 9".into()));
        assert_eq!(decoded(vec![1, 4, 0]), Err("a record of cell 4".into()));
    }
}
