//! Writes inputs to begin with into `seeds/TARGET`: good ones, in the formats as they are now.

use bytes::Bytes;
use etcd::bolt::{Planner, Writer};
use prost::Message;
use proto::etcdserverpb as pb;
use proto::synod::v1;
use state::{
    Batch, Budget, Command, Group, Operation, SnapshotHeader, State, TxnOperation, TxnStep,
};
use std::path::Path;
use std::{fs, io};

const MAGIC_BYTES: usize = 8;
const BLOCK_HEADER_BYTES: usize = 20;
/// As in `targets/snapshot.rs`.
const SECTIONS: [&[u8]; 7] = [
    b"header", b"state", b"auth", b"lease", b"kept", b"history", b"end",
];

fn main() -> io::Result<()> {
    let batches = batches();
    let framed = batches.iter().flat_map(|batch| {
        let length = (batch.len() as u16).to_le_bytes();
        length.into_iter().chain(batch.iter().copied())
    });
    write("batch", "life", &framed.collect::<Vec<u8>>())?;
    let snapshot = snapshot(&batches);
    write("snapshot", "blocks", &blocks(&snapshot))?;
    write("snapshot", "raw", &[&[1][..], &snapshot].concat())?;
    write("bolt", "two-buckets", &bolt())?;
    write("bolt", "etcd", &etcd_file())?;
    write("native", "locks", &native_life())?;
    requests()
}

fn write(target: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("seeds")
        .join(target);
    fs::create_dir_all(&directory)?;
    fs::write(directory.join(name), bytes)
}

fn put(key: &'static str, lease: i64) -> state::Put {
    state::Put {
        key: Bytes::from_static(key.as_bytes()),
        value: Bytes::from_static(b"value"),
        lease,
        ..state::Put::default()
    }
}

fn batches() -> Vec<Vec<u8>> {
    let grant = state::LeaseGrant {
        id: 5,
        ttl_ms: 10_000,
        ..state::LeaseGrant::default()
    };
    let remove = state::DeleteRange {
        key: Bytes::from_static(b"a"),
        range_end: Bytes::from_static(b"b"),
        ..state::DeleteRange::default()
    };
    let txn = state::Txn {
        success: vec![
            TxnOperation {
                step: Some(TxnStep::Put(put("b", 0))),
            },
            TxnOperation {
                step: Some(TxnStep::DeleteRange(remove.clone())),
            },
        ],
        ..state::Txn::default()
    };
    let compact = state::Compact {
        revision: 3,
        ..state::Compact::default()
    };
    let operations = [
        Operation::LeaseGrant(grant),
        Operation::Put(put("a", 5)),
        Operation::Put(put("a", 0)),
        Operation::Txn(txn),
        Operation::DeleteRange(remove),
        Operation::Compact(compact),
        Operation::LeaseRevoke(state::LeaseRevoke { id: 5 }),
    ];
    let batch = |(at, operation): (usize, Operation)| {
        let command = Command {
            operation: Some(operation),
            ..Command::default()
        };
        let batch = Batch {
            format: state::FORMAT,
            clock_ms: 1000 * at as u64,
            wall_ms: 1_800_000_000_000,
            groups: vec![Group {
                member: 1,
                incarnation: 1,
                boot: 1,
                sequence: at as u64,
                commands: vec![command],
                ..Group::default()
            }],
        };
        batch.encode_to_vec()
    };
    operations.into_iter().enumerate().map(batch).collect()
}

fn snapshot(batches: &[Vec<u8>]) -> Vec<u8> {
    let mut state = State::new(state::Settings::default());
    for (index, batch) in (1..).zip(&batches[..4]) {
        state.apply_begin(index, batch).expect("a good batch");
        while state.apply_step(Budget(1000)).is_none() {}
    }
    let mut cursor = state.snapshot_begin(SnapshotHeader {
        format: 1,
        cluster: 1,
        index: 4,
        term: 1,
        ..SnapshotHeader::default()
    });
    let mut snapshot = Vec::new();
    while let Some(bytes) = state.snapshot_step(&mut cursor, 1000) {
        snapshot.extend_from_slice(&bytes);
    }
    snapshot
}

fn blocks(snapshot: &[u8]) -> Vec<u8> {
    let mut input = vec![0];
    let mut rest = &snapshot[MAGIC_BYTES..];
    while let Some((header, tail)) = rest.split_first_chunk::<BLOCK_HEADER_BYTES>() {
        let length = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
        let (content, tail) = tail.split_at(length as usize);
        rest = tail;
        let is_it = |name: &&[u8]| header.starts_with(name) && header[name.len()] == 0;
        let section = SECTIONS.iter().position(is_it).expect("a known section");
        let length = (content.len() as u16).to_le_bytes();
        input.extend_from_slice(&[section as u8, header[8], header[10], length[0], length[1]]);
        input.extend_from_slice(content);
    }
    input
}

fn bolt() -> Vec<u8> {
    let entries: Vec<(Vec<u8>, Vec<u8>)> = (0..200_u32)
        .map(|number| (number.to_be_bytes().to_vec(), vec![7; 40]))
        .collect();
    let mut planner = Planner::new();
    planner.bucket(b"empty");
    planner.bucket(b"key");
    for (key, value) in &entries {
        planner.entry(key, value.len());
    }
    let mut writer = Writer::new(planner.finish());
    for (key, value) in &entries {
        writer.entry(key, value);
    }
    writer.take()
}

/// The contents of a small etcd, in all the buckets that are read.
fn etcd_file() -> Vec<u8> {
    let revision = |main: u64, mark: &[u8]| {
        [&main.to_be_bytes()[..], b"_", &0_u64.to_be_bytes(), mark].concat()
    };
    let change = |key: &'static [u8], create_revision, mod_revision, version, lease| {
        let change = proto::mvccpb::KeyValue {
            key: Bytes::from_static(key),
            create_revision,
            mod_revision,
            version,
            value: Bytes::from_static(b"value"),
            lease,
        };
        change.encode_to_vec()
    };
    let user = proto::authpb::User {
        name: "root".into(),
        password: "hash".into(),
        roles: vec!["root".into()],
        options: None,
    };
    let role = proto::authpb::Role {
        name: "root".into(),
        key_permission: vec![proto::authpb::Permission {
            perm_type: 2,
            key: "a".into(),
            range_end: "b".into(),
        }],
    };
    let buckets: [(&[u8], Vec<(Vec<u8>, Vec<u8>)>); 6] = [
        (
            b"auth",
            vec![
                (b"authEnabled".to_vec(), vec![1]),
                (b"authRevision".to_vec(), 5_u64.to_be_bytes().to_vec()),
            ],
        ),
        (b"authRoles", vec![(b"root".to_vec(), role.encode_to_vec())]),
        (b"authUsers", vec![(b"root".to_vec(), user.encode_to_vec())]),
        (
            b"key",
            vec![
                (revision(2, b""), change(b"a", 2, 2, 1, 7)),
                (revision(3, b""), change(b"a", 2, 3, 2, 0)),
                (revision(4, b""), change(b"b", 4, 4, 1, 7)),
                (revision(5, b"t"), change(b"a", 0, 0, 0, 0)),
            ],
        ),
        (
            b"lease",
            vec![(7_u64.to_be_bytes().to_vec(), vec![8, 7, 16, 60])],
        ),
        (
            b"meta",
            vec![
                (b"consistent_index".to_vec(), 9_u64.to_be_bytes().to_vec()),
                (b"finishedCompactRev".to_vec(), revision(2, b"")),
                (b"term".to_vec(), 2_u64.to_be_bytes().to_vec()),
            ],
        ),
    ];
    let mut planner = Planner::new();
    for (bucket, entries) in &buckets {
        planner.bucket(bucket);
        for (key, value) in entries {
            planner.entry(key, value.len());
        }
    }
    let mut writer = Writer::new(planner.finish());
    for (key, value) in buckets.iter().flat_map(|(_, entries)| entries) {
        writer.entry(key, value);
    }
    writer.take()
}

/// A session that takes a lock, writes under it, and leaves; in the numbers of `targets/native.rs`.
fn native_life() -> Vec<u8> {
    let session = 7;
    let name = || "lock".into();
    let open = v1::OpenSessionRequest {
        session,
        ttl_ms: 5_000,
    };
    let acquire = v1::AcquireRequest {
        session,
        name: name(),
        id: 1,
        ..Default::default()
    };
    let other = v1::AcquireRequest {
        id: 2,
        wait_ms: Some(0),
        ..acquire.clone()
    };
    let guard = v1::Guard {
        name: name(),
        ..Default::default()
    };
    let put = v1::PutRequest {
        key: "key".into(),
        value: "value".into(),
        change: Some(v1::Change {
            guards: vec![guard],
            ..Default::default()
        }),
        ..Default::default()
    };
    let show = v1::ShowLockRequest {
        name: name(),
        ..Default::default()
    };
    let release = v1::ReleaseRequest {
        session,
        id: 1,
        ..Default::default()
    };
    let requests = [
        (9, open.encode_to_vec()),
        (12, acquire.encode_to_vec()),
        (12, other.encode_to_vec()),
        (0, put.encode_to_vec()),
        (31, show.encode_to_vec()),
        (20, release.encode_to_vec()),
    ];
    let framed = requests.into_iter().flat_map(|(kind, bytes)| {
        let [low, high] = (bytes.len() as u16).to_le_bytes();
        [kind, low, high].into_iter().chain(bytes)
    });
    framed.collect()
}

fn requests() -> io::Result<()> {
    let text = r#"{"compare":[{"key":"YQ==","target":"MOD","mod_revision":"3"}],"success":[{"request_put":{"key":"YQ==","value":"YQ=="}}],"failure":[{"request_range":{"key":"YQ==","sort_order":"DESCEND"}}]}"#;
    let txn: pb::TxnRequest = serde_json::from_str(text).expect("a good request");
    write("gateway", "txn", &[&[3], text.as_bytes()].concat())?;
    write("request", "txn", &[&[4][..], &txn.encode_to_vec()].concat())?;
    let range = pb::RangeRequest {
        key: b"a".as_slice().into(),
        range_end: b"b".as_slice().into(),
        limit: 5,
        ..pb::RangeRequest::default()
    };
    write(
        "request",
        "range",
        &[&[3][..], &range.encode_to_vec()].concat(),
    )
}
