use super::*;
use crate::bolt::{Damage, Reader};
use bytes::Bytes;
use prost::Message;
use proto::mvccpb;
use state::{
    Batch, Budget, Command, Compact, DeleteRange, FORMAT, Group, LeaseGrant, Operation, Put,
    Settings, State,
};

/// A state and how to change it.
struct Subject(State);

impl Subject {
    fn new() -> Subject {
        Subject(State::new(Settings::default()))
    }

    fn apply(&mut self, operation: Operation) {
        let command = Command {
            operation: Some(operation),
            ..Command::default()
        };
        let batch = Batch {
            format: FORMAT,
            clock_ms: self.0.clock_ms() + 1,
            groups: vec![Group {
                commands: vec![command],
                ..Group::default()
            }],
            ..Batch::default()
        };
        let index = self.0.applied() + 1;
        self.0.apply_begin(index, &batch.encode_to_vec()).unwrap();
        while self.0.apply_step(Budget(1 << 20)).is_none() {}
    }

    fn put(&mut self, key: &str, value: &str, lease: i64) {
        self.apply(Operation::Put(Put {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            lease,
            ..Put::default()
        }));
    }

    fn delete(&mut self, key: &str, range_end: &str) {
        self.apply(Operation::DeleteRange(DeleteRange {
            key: key.to_owned().into(),
            range_end: range_end.to_owned().into(),
            ..DeleteRange::default()
        }));
    }

    fn compact(&mut self, revision: i64) {
        self.apply(Operation::Compact(Compact { revision }));
        while self.0.background_step(Budget(1 << 20)) {}
    }

    fn snapshot(&mut self) -> Vec<u8> {
        let header = SnapshotHeader {
            index: self.0.applied(),
            term: 3,
            ..SnapshotHeader::default()
        };
        let mut cursor = self.0.snapshot_begin(header);
        let mut bytes = Vec::new();
        while let Some(piece) = self.0.snapshot_step(&mut cursor, 1000) {
            bytes.extend_from_slice(&piece);
        }
        self.0.snapshot_cancel(cursor);
        bytes
    }
}

type Entry = (Vec<u8>, Vec<u8>, Vec<u8>);

fn exported(snapshot: &[u8], in_any_order: bool) -> Vec<Entry> {
    let members = [Member {
        id: 0xab,
        name: "n1".into(),
        peer_ur_ls: vec!["http://h:2380".into()],
        ..Member::default()
    }];
    let mut export = Export::plan(snapshot, &members).unwrap();
    export.kept_is_sorted &= !in_any_order;
    let told = export.bytes();
    let mut file = Vec::new();
    export
        .write(|piece| {
            file.extend_from_slice(&piece);
            true
        })
        .unwrap();
    assert_eq!(file.len() as u64, told);
    let mut entries = Vec::new();
    Reader::open(&file[..])
        .unwrap()
        .walk(|bucket, key, value| {
            entries.push((bucket.to_vec(), key.to_vec(), value.to_vec()));
            Ok::<(), Damage>(())
        })
        .unwrap();
    entries
}

fn bucket<'a>(entries: &'a [Entry], name: &str) -> Vec<(&'a [u8], &'a [u8])> {
    entries
        .iter()
        .filter(|(bucket, ..)| bucket == name.as_bytes())
        .map(|(_, key, value)| (&key[..], &value[..]))
        .collect()
}

fn key(main: u8, sub: u8, mark: &[u8]) -> Vec<u8> {
    [
        &[0, 0, 0, 0, 0, 0, 0, main, b'_', 0, 0, 0, 0, 0, 0, 0, sub],
        mark,
    ]
    .concat()
}

#[test]
fn records_are_etcds() {
    let mut subject = Subject::new();
    subject.apply(Operation::LeaseGrant(LeaseGrant {
        id: 9,
        ttl_ms: 60_000,
    }));
    subject.put("a", "1", 9);
    subject.put("b", "2", 0);
    subject.put("a", "3", 0);
    subject.delete("a", "c");
    let entries = exported(&subject.snapshot(), false);
    let keys = bucket(&entries, "key");
    let names: Vec<_> = keys.iter().map(|(key, _)| key.to_vec()).collect();
    let expected = [
        key(2, 0, b""),
        key(3, 0, b""),
        key(4, 0, b""),
        key(5, 0, b"t"),
        key(5, 1, b"t"),
    ];
    assert_eq!(names, expected);
    let put = mvccpb::KeyValue::decode(keys[2].1).unwrap();
    let expected = mvccpb::KeyValue {
        key: "a".into(),
        create_revision: 2,
        mod_revision: 4,
        version: 2,
        value: "3".into(),
        lease: 0,
    };
    assert_eq!(put, expected);
    // Of a removal etcd keeps the name of the key and nothing else.
    assert_eq!(keys[3].1, [0x0a, 1, b'a']);
    assert_eq!(
        bucket(&entries, "lease"),
        [(&9_i64.to_be_bytes()[..], &[8, 9, 16, 60][..])]
    );
    assert_eq!(
        bucket(&entries, "members"),
        [(
            &b"ab"[..],
            &br#"{"id":171,"peerURLs":["http://h:2380"],"name":"n1","clientURLs":[]}"#[..]
        )]
    );
    let meta = bucket(&entries, "meta");
    let value = |name: &[u8]| meta.iter().find(|(key, _)| *key == name).map(|(_, v)| *v);
    assert_eq!(value(b"storageVersion"), Some(&b"3.6.0"[..]));
    assert_eq!(value(b"term"), Some(&3_u64.to_be_bytes()[..]));
    assert_eq!(value(b"finishedCompactRev"), None);
}

#[test]
fn old_keys_come_in_order_however_they_lie() {
    let mut subject = Subject::new();
    for round in 0..8 {
        for n in 0..200 {
            // Some keys change in each round, so that compaction moves the others.
            if n % (round + 1) == 0 {
                subject.put(&format!("k{n}"), &"v".repeat(100 + n), 0);
            }
        }
        let revision = subject.0.revision();
        subject.compact(revision - 3);
    }
    let snapshot = subject.snapshot();
    let entries = exported(&snapshot, false);
    assert_eq!(entries, exported(&snapshot, true));
    let keys = bucket(&entries, "key");
    assert!(keys.is_sorted_by(|a, b| a.0 < b.0));
    let live: std::collections::BTreeSet<Bytes> = keys
        .iter()
        .map(|(_, value)| mvccpb::KeyValue::decode(*value).unwrap().key)
        .collect();
    assert_eq!(live.len(), 200);
    let compacted = subject.0.compacted() as u64;
    let meta = bucket(&entries, "meta");
    let finished = meta.iter().find(|(key, _)| *key == b"finishedCompactRev");
    assert_eq!(finished.unwrap().1[..8], compacted.to_be_bytes());
}

#[test]
fn damage_is_told_and_nobody_is_forced_to_take_all() {
    let mut subject = Subject::new();
    for n in 0..1000 {
        subject.put(&format!("k{n}"), &"v".repeat(100), 0);
    }
    let mut snapshot = subject.snapshot();
    let export = Export::plan(&snapshot[..], &[]).unwrap();
    let mut pieces = 0;
    let stopped = export.write(|_| {
        pieces += 1;
        pieces < 2
    });
    assert_eq!((stopped, pieces), (Err(ExportError::Stopped), 2));
    let end = snapshot.len();
    snapshot[end / 2] ^= 1;
    assert!(matches!(
        Export::plan(&snapshot[..], &[]).err(),
        Some(ExportError::Unreadable(_))
    ));
    assert!(Export::plan(&snapshot[..end / 3], &[]).is_err());
}
