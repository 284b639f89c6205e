//! Answers with many keys, written piece by piece: a range over a million keys is never held twice, and no single step of writing it is long.

use crate::Header;
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{self, WireType};
use proto::etcdserverpb::RangeResponse;
use state::{KeyValue, RangeReply};

/// The answer to a range on its way to the wire. Measure it first, then take its pieces; together they are the message.
pub struct RangeMessage {
    /// Everything but the keys. Fields may come in any order, so it goes first.
    head: Bytes,
    keys: std::vec::IntoIter<KeyValue>,
    /// Keys measured so far.
    measured: usize,
    bytes: usize,
}

const KEYS_TAG: u32 = 2;

impl RangeMessage {
    /// Takes over an answer.
    pub fn new(header: Header, reply: RangeReply) -> RangeMessage {
        let head = RangeResponse {
            header: Some(header.into()),
            kvs: Vec::new(),
            more: reply.more,
            count: reply.count,
        };
        let head = Bytes::from(head.encode_to_vec());
        RangeMessage {
            bytes: head.len(),
            head,
            keys: reply.kvs.into_iter(),
            measured: 0,
        }
    }

    /// Measures up to `keys` more keys; `true` while some are left.
    pub fn measure(&mut self, keys: usize) -> bool {
        let rest = &self.keys.as_slice()[self.measured..];
        let step = &rest[..rest.len().min(keys)];
        self.bytes += step
            .iter()
            .map(|kv| entry_len(key_value_len(kv)))
            .sum::<usize>();
        self.measured += step.len();
        step.len() < rest.len()
    }

    /// Bytes of the message.
    ///
    /// # Panics
    /// It is not wholly measured.
    pub fn bytes(&self) -> usize {
        assert!(
            self.measured >= self.keys.len(),
            "measured {} keys of {}",
            self.measured,
            self.keys.len()
        );
        self.bytes
    }

    /// Writes a piece of about `bytes_max` bytes (at least one key) to `buffer`; `false` when nothing is left to write.
    pub fn write_piece(&mut self, buffer: &mut BytesMut, bytes_max: usize) -> bool {
        let begin = buffer.len();
        buffer.put(std::mem::take(&mut self.head));
        while buffer.len() - begin < bytes_max {
            let Some(kv) = self.keys.next() else { break };
            encoding::encode_key(KEYS_TAG, WireType::LengthDelimited, buffer);
            encoding::encode_varint(key_value_len(&kv) as u64, buffer);
            write_key_value(&kv, buffer);
        }
        buffer.len() > begin
    }

    /// Takes up to `keys` of the keys not yet written, to be dropped by the caller in its own time.
    pub fn drop_some(&mut self, keys: usize) -> bool {
        self.keys.by_ref().take(keys).for_each(drop);
        self.keys.len() > 0
    }

    /// Keys not yet written.
    pub fn keys_left(&self) -> usize {
        self.keys.len()
    }
}

fn entry_len(len: usize) -> usize {
    encoding::key_len(KEYS_TAG) + encoding::encoded_len_varint(len as u64) + len
}

/// Bytes a key takes as a message.
pub fn key_value_len(kv: &KeyValue) -> usize {
    bytes_len(1, &kv.key)
        + number_len(2, kv.create_revision)
        + number_len(3, kv.mod_revision)
        + number_len(4, kv.version)
        + bytes_len(5, &kv.value)
        + number_len(6, kv.lease)
}

/// Writes a key as a message.
pub fn write_key_value(kv: &KeyValue, buffer: &mut BytesMut) {
    write_bytes(1, &kv.key, buffer);
    write_number(2, kv.create_revision, buffer);
    write_number(3, kv.mod_revision, buffer);
    write_number(4, kv.version, buffer);
    write_bytes(5, &kv.value, buffer);
    write_number(6, kv.lease, buffer);
}

fn bytes_len(tag: u32, bytes: &Bytes) -> usize {
    if bytes.is_empty() {
        0
    } else {
        encoding::bytes::encoded_len(tag, bytes)
    }
}

fn number_len(tag: u32, number: i64) -> usize {
    if number == 0 {
        0
    } else {
        encoding::int64::encoded_len(tag, &number)
    }
}

fn write_bytes(tag: u32, bytes: &Bytes, buffer: &mut BytesMut) {
    if !bytes.is_empty() {
        encoding::bytes::encode(tag, bytes, buffer);
    }
}

fn write_number(tag: u32, number: i64, buffer: &mut BytesMut) {
    if number != 0 {
        encoding::int64::encode(tag, &number, buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::Answer;

    fn reply(keys: i64) -> RangeReply {
        let kv = |n: i64| KeyValue {
            key: Bytes::from(format!("key/{n}")),
            value: Bytes::from(vec![b'v'; n as usize % 300]),
            create_revision: n + 2,
            mod_revision: n * 1000 + 2,
            version: n + 1,
            lease: n % 3,
        };
        RangeReply {
            kvs: (0..keys).map(kv).collect(),
            more: true,
            count: keys + 7,
        }
    }

    #[test]
    fn pieces_together_are_the_message() {
        let header = Header {
            cluster: 1,
            member: 2,
            term: 3,
            revision: 4,
        };
        for keys in [0, 1, 500] {
            let mut message = RangeMessage::new(header, reply(keys));
            while message.measure(7) {}
            let bytes = message.bytes();
            let mut written = BytesMut::new();
            while message.write_piece(&mut written, 1000) {}
            assert_eq!(written.len(), bytes, "{keys} keys");
            let expected = crate::range_response(header, Answer::Range(reply(keys))).unwrap();
            assert_eq!(RangeResponse::decode(written.freeze()).unwrap(), expected);
        }
    }

    #[test]
    fn pieces_stay_near_their_size() {
        let mut message = RangeMessage::new(Header::default(), reply(500));
        let mut piece = BytesMut::new();
        while message.write_piece(&mut piece, 1000) {
            assert!(piece.len() < 1000 + 400, "{}", piece.len());
            piece.clear();
        }
        assert_eq!(message.keys_left(), 0);
    }
}
