//! The numbers on the wire, as bytes written down once: a renumbered field would break every client.

use bytes::Bytes;
use prost::Message;
use synod_proto::etcdserverpb::{
    Compare, PutRequest, RangeRequest, ResponseHeader, WatchResponse, compare,
};
use synod_proto::mvccpb::{Event, KeyValue};

#[test]
fn put_request_bytes() {
    let put = PutRequest {
        key: Bytes::from_static(b"k"),
        value: Bytes::from_static(b"v"),
        lease: 7,
        prev_kv: true,
        ignore_value: false,
        ignore_lease: true,
    };
    assert_eq!(
        put.encode_to_vec(),
        b"\x0a\x01k\x12\x01v\x18\x07\x20\x01\x30\x01"
    );
}

#[test]
fn range_request_bytes() {
    let range = RangeRequest {
        key: Bytes::from_static(b"a"),
        range_end: Bytes::from_static(b"\0"),
        serializable: true,
        max_create_revision: 3,
        ..Default::default()
    };
    assert_eq!(
        range.encode_to_vec(),
        b"\x0a\x01a\x12\x01\0\x38\x01\x68\x03"
    );
}

#[test]
fn compare_range_end_is_field_64() {
    let compare = Compare {
        key: Bytes::from_static(b"k"),
        range_end: Bytes::from_static(b"z"),
        target: compare::CompareTarget::Lease.into(),
        target_union: Some(compare::TargetUnion::Lease(1)),
        ..Default::default()
    };
    assert_eq!(
        compare.encode_to_vec(),
        b"\x10\x04\x1a\x01k\x40\x01\x82\x04\x01z"
    );
}

#[test]
fn watch_events_are_field_11() {
    let response = WatchResponse {
        header: Some(ResponseHeader {
            revision: 2,
            ..Default::default()
        }),
        events: vec![Event {
            kv: Some(KeyValue {
                key: Bytes::from_static(b"k"),
                ..Default::default()
            }),
            ..Default::default()
        }],
        ..Default::default()
    };
    assert_eq!(
        response.encode_to_vec(),
        b"\x0a\x02\x18\x02\x5a\x05\x12\x03\x0a\x01k"
    );
}
