//! Responses of watches on their way to the wire. A revision with a million changes is measured and written in pieces, and the changes are
//! shared with all other streams until then.

use bytes::{Bytes, BytesMut};
use etcd::{key_value_len, write_key_value};
use prost::Message;
use prost::encoding::{self, WireType};
use proto::etcdserverpb::WatchResponse;
use replica::Event;
use state::KeyValue;
use std::sync::Arc;

const EVENTS_TAG: u32 = 11;
const EVENT_TYPE_TAG: u32 = 1;
const EVENT_KV_TAG: u32 = 2;
const EVENT_PREV_KV_TAG: u32 = 3;

/// The number of a removal.
const DELETE: i32 = 1;

/// A response with changes. Measure it first, then take its pieces; together they are the message.
pub(crate) struct EventsMessage {
    /// Everything but the changes.
    head: Bytes,
    events: std::vec::IntoIter<Arc<Event>>,
    measured: usize,
    bytes: usize,
}

impl EventsMessage {
    /// Takes over a response, which must have no changes of its own.
    pub fn new(response: &WatchResponse, events: Vec<Arc<Event>>) -> EventsMessage {
        let head = Bytes::from(response.encode_to_vec());
        EventsMessage {
            bytes: head.len(),
            head,
            events: events.into_iter(),
            measured: 0,
        }
    }

    /// Measures up to `events` more changes; `true` while some are left.
    pub fn measure(&mut self, events: usize) -> bool {
        let rest = &self.events.as_slice()[self.measured..];
        let step = &rest[..rest.len().min(events)];
        self.bytes += step
            .iter()
            .map(|event| field_len(EVENTS_TAG, event_len(event)))
            .sum::<usize>();
        self.measured += step.len();
        step.len() < rest.len()
    }

    /// Bytes of the message, once it is wholly measured.
    pub fn bytes(&self) -> usize {
        assert!(
            self.measured >= self.events.len(),
            "measured {} events of {}",
            self.measured,
            self.events.len()
        );
        self.bytes
    }

    /// Writes a piece of about `bytes_max` bytes (at least one change); `false` when nothing is left to write.
    pub fn write_piece(&mut self, buffer: &mut BytesMut, bytes_max: usize) -> bool {
        let begin = buffer.len();
        buffer.extend_from_slice(&std::mem::take(&mut self.head));
        while buffer.len() - begin < bytes_max {
            let Some(event) = self.events.next() else {
                break;
            };
            begin_field(EVENTS_TAG, event_len(&event), buffer);
            write_event(&event, buffer);
        }
        buffer.len() > begin
    }
}

fn event_len(event: &Event) -> usize {
    let kind = if event.deleted {
        encoding::int32::encoded_len(EVENT_TYPE_TAG, &DELETE)
    } else {
        0
    };
    kind + kv_len(EVENT_KV_TAG, &event.kv)
        + event
            .prev
            .as_ref()
            .map_or(0, |prev| kv_len(EVENT_PREV_KV_TAG, prev))
}

fn write_event(event: &Event, buffer: &mut BytesMut) {
    if event.deleted {
        encoding::int32::encode(EVENT_TYPE_TAG, &DELETE, buffer);
    }
    write_kv(EVENT_KV_TAG, &event.kv, buffer);
    if let Some(prev) = &event.prev {
        write_kv(EVENT_PREV_KV_TAG, prev, buffer);
    }
}

fn kv_len(tag: u32, kv: &KeyValue) -> usize {
    field_len(tag, key_value_len(kv))
}

fn write_kv(tag: u32, kv: &KeyValue, buffer: &mut BytesMut) {
    begin_field(tag, key_value_len(kv), buffer);
    write_key_value(kv, buffer);
}

fn field_len(tag: u32, len: usize) -> usize {
    encoding::key_len(tag) + encoding::encoded_len_varint(len as u64) + len
}

fn begin_field(tag: u32, len: usize, buffer: &mut BytesMut) {
    encoding::encode_key(tag, WireType::LengthDelimited, buffer);
    encoding::encode_varint(len as u64, buffer);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::mvccpb;

    fn kv(key: String, value: usize, revision: i64) -> KeyValue {
        KeyValue {
            key: key.into(),
            value: vec![1; value].into(),
            mod_revision: revision,
            version: revision % 3,
            ..Default::default()
        }
    }

    #[test]
    fn pieces_together_are_the_message() {
        let events: Vec<_> = (0..300)
            .map(|n| {
                Arc::new(Event {
                    deleted: n % 3 == 0,
                    kv: kv(format!("k{n}"), n * 7 % 200, n as i64),
                    prev: (n % 2 == 0).then(|| kv(format!("k{n}"), n, 5)),
                })
            })
            .collect();
        let head = WatchResponse {
            watch_id: 9,
            fragment: true,
            ..Default::default()
        };
        let mut message = EventsMessage::new(&head, events.clone());
        while message.measure(11) {}
        let bytes = message.bytes();
        let mut written = BytesMut::new();
        let mut pieces = 0;
        while message.write_piece(&mut written, 1000) {
            pieces += 1;
        }
        assert!(pieces > 10, "{pieces}");
        assert_eq!(written.len(), bytes);
        let expected: Vec<mvccpb::Event> = events
            .iter()
            .map(|event| super::super::watch::event_of(event))
            .collect();
        assert_eq!(
            WatchResponse::decode(written.freeze()).unwrap(),
            WatchResponse {
                events: expected,
                ..head
            }
        );
    }
}
