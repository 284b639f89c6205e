use super::*;
use crate::bolt::{Planner, Writer};
use state::{Answer, Budget, KeyValue, Query, Range};

const RAISE: Raise = Raise {
    positions: 1000,
    revisions: 100,
};

/// Entries of a file, by bucket.
type Entries = BTreeMap<&'static str, BTreeMap<Vec<u8>, Vec<u8>>>;

fn file(entries: &Entries) -> Vec<u8> {
    let mut planner = Planner::new();
    for (bucket, entries) in entries {
        planner.bucket(bucket.as_bytes());
        for (key, value) in entries {
            planner.entry(key, value.len());
        }
    }
    let mut writer = Writer::new(planner.finish());
    for (key, value) in entries.values().flatten() {
        writer.entry(key, value);
    }
    writer.take()
}

fn revision(main: i64, sub: i64, removed: bool) -> Vec<u8> {
    let mut bytes = [&main.to_be_bytes()[..], b"_", &sub.to_be_bytes()].concat();
    if removed {
        bytes.push(b't');
    }
    bytes
}

fn change(key: &str, create_revision: i64, mod_revision: i64, version: i64, lease: i64) -> Vec<u8> {
    let change = mvccpb::KeyValue {
        key: key.to_owned().into(),
        create_revision,
        mod_revision,
        version,
        value: format!("{key}{version}").into(),
        lease,
    };
    change.encode_to_vec()
}

fn removed(key: &str) -> Vec<u8> {
    let change = mvccpb::KeyValue {
        key: key.to_owned().into(),
        ..mvccpb::KeyValue::default()
    };
    change.encode_to_vec()
}

fn lease(id: i64, ttl: i64) -> (Vec<u8>, Vec<u8>) {
    (
        id.to_be_bytes().to_vec(),
        LeaseRecord { id, ttl }.encode_to_vec(),
    )
}

/// What an etcd leaves: garbage of before a compaction, keys removed and made again, one put twice in a transaction, one whose lease is gone.
fn typical() -> Entries {
    let mut all = Entries::new();
    all.insert("alarm", BTreeMap::new());
    all.insert(
        "auth",
        [
            (b"authEnabled".to_vec(), vec![1]),
            (b"authRevision".to_vec(), 9_u64.to_be_bytes().to_vec()),
        ]
        .into(),
    );
    let permission = authpb::Permission {
        perm_type: authpb::permission::Type::Readwrite.into(),
        key: "a".into(),
        range_end: "b".into(),
    };
    let role = |name: &'static str, key_permission| authpb::Role {
        name: name.into(),
        key_permission,
    };
    let user = |name: &'static str, roles: &[&str]| authpb::User {
        name: name.into(),
        password: "$2a$10$hash".into(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        options: None,
    };
    all.insert(
        "authRoles",
        [
            (
                b"app".to_vec(),
                role("app", vec![permission]).encode_to_vec(),
            ),
            (b"root".to_vec(), role("root", vec![]).encode_to_vec()),
        ]
        .into(),
    );
    all.insert(
        "authUsers",
        [
            (b"ann".to_vec(), user("ann", &["app"]).encode_to_vec()),
            (b"root".to_vec(), user("root", &["root"]).encode_to_vec()),
        ]
        .into(),
    );
    all.insert(
        "key",
        [
            (revision(2, 0, false), change("a", 2, 2, 1, 0)),
            (revision(3, 0, false), change("a", 2, 3, 2, 7)),
            (revision(4, 0, false), change("b", 4, 4, 1, 0)),
            (revision(5, 0, true), removed("b")),
            (revision(6, 0, false), change("b", 6, 6, 1, 0)),
            (revision(6, 1, false), change("c", 6, 6, 1, 99)),
            (revision(7, 0, false), change("d", 7, 7, 1, 0)),
            (revision(8, 0, true), removed("d")),
            // Bumped by etcd's own restore.
            (revision(20, 0, false), vec![]),
        ]
        .into(),
    );
    all.insert("lease", [lease(7, 60), lease(-8, 5)].into());
    all.insert(
        "meta",
        [
            (b"consistent_index".to_vec(), 77_u64.to_be_bytes().to_vec()),
            (b"finishedCompactRev".to_vec(), revision(5, 0, false)),
            (b"term".to_vec(), 3_u64.to_be_bytes().to_vec()),
        ]
        .into(),
    );
    all
}

fn read(entries: &Entries) -> Result<Imported, ImportError> {
    let key = Bytes::from_static(b"token key");
    import(&file(entries)[..], Settings::default(), RAISE, &key)
}

fn keys(state: &mut State) -> Vec<KeyValue> {
    let all = Range {
        key: Bytes::from_static(&[0]),
        range_end: Bytes::from_static(&[0]),
        ..Range::default()
    };
    let mut cursor = state.query_begin(Query::Range(all));
    loop {
        if let Some((Answer::Range(reply), _)) = state.query_step(&mut cursor, Budget(1000)) {
            return reply.kvs;
        }
    }
}

#[test]
fn live_keys_keep_revisions_versions_and_leases() {
    let mut imported = read(&typical()).unwrap();
    assert_eq!(
        (imported.revision, imported.compacted, imported.index),
        (20, 5, 77)
    );
    assert_eq!((imported.term, imported.adrift), (3, 1));
    let state = &mut imported.state;
    assert_eq!((state.revision(), state.compacted()), (120, 120));
    assert_eq!((state.applied(), state.leases()), (1077, 2));
    let found: Vec<_> = keys(state)
        .iter()
        .map(|kv| {
            let text = String::from_utf8_lossy(&kv.value).into_owned();
            let revisions = (kv.create_revision, kv.mod_revision, kv.version);
            (text, revisions, kv.lease)
        })
        .collect();
    let expected = [
        ("a2".to_owned(), (2, 3, 2), 7),
        ("b1".to_owned(), (6, 6, 1), 0),
        ("c1".to_owned(), (6, 6, 1), 0),
    ];
    assert_eq!(found, expected);
}

#[test]
fn users_and_roles_come_along() {
    let imported = read(&typical()).unwrap();
    let auth = imported.state.auth();
    assert!(auth.is_enabled());
    assert_eq!(&auth.token_key()[..], b"token key");
    assert_eq!(auth.revision(), 109);
    let ann = auth.user("ann").unwrap();
    assert_eq!(&ann.password_hash[..], b"$2a$10$hash");
    assert_eq!(ann.roles().collect::<Vec<_>>(), ["app"]);
    let permissions = auth.permissions("app").unwrap();
    assert_eq!(permissions.len(), 1);
    assert_eq!(
        (&permissions[0].key[..], &permissions[0].range_end[..]),
        (&b"a"[..], &b"b"[..])
    );
}

#[test]
fn an_empty_etcd_is_an_empty_state() {
    let mut all = Entries::new();
    all.insert("key", BTreeMap::new());
    all.insert("meta", [(b"consistent_index".to_vec(), vec![0; 8])].into());
    let imported = read(&all).unwrap();
    assert_eq!((imported.revision, imported.state.keys()), (1, 0));
}

#[test]
fn what_no_etcd_writes_is_refused_by_name() {
    let refused = |change: &dyn Fn(&mut Entries)| {
        let mut all = typical();
        change(&mut all);
        read(&all).err().expect("it is refused").0
    };
    let set = |bucket: &'static str, key: Vec<u8>, value: Vec<u8>| {
        refused(&move |all: &mut Entries| {
            all.entry(bucket)
                .or_default()
                .insert(key.clone(), value.clone());
        })
    };
    let text = set("key", b"short".to_vec(), vec![1]);
    assert!(text.ends_with("is no revision"), "{text}");
    let text = set("key", revision(9, 0, false), change("e", 8, 8, 1, 0));
    assert_eq!(text, "the change at revision 9/0 says that it is of 8");
    let text = set("key", revision(9, 0, false), change("e", 10, 9, 1, 0));
    assert!(text.contains("created at 10"), "{text}");
    let text = set("key", revision(9, 0, false), vec![0xff; 9]);
    assert!(text.starts_with("a change cannot be read"), "{text}");
    let (key, value) = (7_i64.to_be_bytes().to_vec(), lease(8, 1).1);
    let text = set("lease", key, value);
    assert_eq!(text, "lease 7 says that it is 8, of 1 seconds");
    let text = set("lease", lease(9, 0).0, lease(9, 0).1);
    assert_eq!(text, "lease 9 says that it is 9, of 0 seconds");
    let text = set("meta", b"term".to_vec(), vec![1]);
    assert_eq!(text, "the log's term has 1 bytes, not 8");
    let text = refused(&|all| {
        all.remove("authUsers");
    });
    assert!(text.contains("RootUserNotExist"), "{text}");
    let text = refused(&|all| {
        all.retain(|bucket, _| *bucket == "alarm");
    });
    assert_eq!(text, "the bbolt file has none of etcd's buckets");
}

#[test]
fn a_flipped_bit_anywhere_harms_nobody() {
    let whole = file(&typical());
    let key = Bytes::new();
    for at in (0..whole.len()).step_by(3) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        // Values have no checksum in bbolt: the hash at the end of a snapshot tells. Here it is enough to end, with whatever outcome.
        let _outcome = import(&bytes[..], Settings::default(), RAISE, &key);
    }
}
