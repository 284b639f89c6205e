use super::*;
use log::{FileDisk, Opened, Settings};
use prost::Message;
use state::{Batch, Budget, Command, FORMAT, Group, Operation, Put, SnapshotHeader, State};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn content() -> Vec<u8> {
    let mut state = State::new(state::Settings::default());
    let put = |key: &'static str| Command {
        operation: Some(Operation::Put(Put {
            key: key.into(),
            value: "value".into(),
            ..Put::default()
        })),
        ..Command::default()
    };
    let batch = Batch {
        format: FORMAT,
        groups: vec![Group {
            commands: vec![put("a"), put("b"), put("a")],
            ..Group::default()
        }],
        ..Batch::default()
    };
    state.apply_begin(1, &batch.encode_to_vec()).unwrap();
    while state.apply_step(Budget(100)).is_none() {}
    let header = SnapshotHeader {
        cluster: 0xC1,
        cell: 1,
        index: 1,
        term: 5,
        ..SnapshotHeader::default()
    };
    let mut cursor = state.snapshot_begin(header);
    let mut bytes = Vec::new();
    while let Some(piece) = state.snapshot_step(&mut cursor, 100) {
        bytes.extend_from_slice(&piece);
    }
    state.snapshot_cancel(cursor);
    bytes
}

fn file(content: &[u8]) -> Vec<u8> {
    let mut writer = BackupWriter::new(Vec::new());
    for piece in content.chunks(37) {
        writer.write(piece).unwrap();
    }
    let (file, bytes, _) = writer.finish().unwrap();
    assert_eq!(bytes, file.len() as u64);
    file
}

fn save(directory: &Path, bytes: &[u8]) -> PathBuf {
    let path = directory.join("file");
    fs::write(&path, bytes).unwrap();
    path
}

fn first() -> Raised {
    Raised::new(1).unwrap()
}

fn restoration(file: &Path, data_dir: &Path, name: &str, raised: Raised) -> Restoration {
    let names = ["n1", "n2", "n3"];
    let address = |name: &&str| ((*name).to_owned(), format!("{name}.example:2380"));
    Restoration {
        file: file.to_owned(),
        data_dir: data_dir.to_owned(),
        name: name.to_owned(),
        cluster: names.iter().map(address).collect::<BTreeMap<_, _>>(),
        raised,
    }
}

#[test]
fn a_file_tells_what_is_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = save(directory.path(), &file(&content()));
    let summary = load(&path, first()).unwrap().summary;
    assert_eq!((summary.kind, summary.cluster), (Kind::Synod, 0xC1));
    assert_eq!((summary.index, summary.term), (1, 5));
    assert_eq!((summary.revision, summary.keys), (4, 2));
    assert!(summary.has_hash);
}

#[test]
fn a_file_cut_or_changed_anywhere_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let whole = file(&content());
    for length in 0..whole.len() {
        let path = save(directory.path(), &whole[..length]);
        assert!(load(&path, first()).is_err(), "{length} bytes");
    }
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        let path = save(directory.path(), &bytes);
        assert!(load(&path, first()).is_err(), "byte {at}");
    }
    let mut bytes = whole.clone();
    bytes[30] ^= 1;
    let text = load(&save(directory.path(), &bytes), first())
        .err()
        .unwrap()
        .0;
    assert!(
        text.contains("it is damaged: block at byte 8: checksum"),
        "{text}"
    );
}

#[test]
fn a_newer_format_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let mut content = content();
    // The version of the first block, whose checksum is made good.
    content[16] = 7;
    let length = u32::from_le_bytes(content[20..24].try_into().unwrap()) as usize;
    let checksum =
        crc32c::crc32c_append(crc32c::crc32c(&content[8..24]), &content[28..28 + length]);
    content[24..28].copy_from_slice(&checksum.to_le_bytes());
    let path = save(directory.path(), &file(&content));
    let text = load(&path, first()).err().unwrap().0;
    assert!(
        text.contains("it has format 7, up to 1 is known here"),
        "{text}"
    );
}

#[test]
fn members_restored_apart_are_one_cluster() {
    let directory = tempfile::tempdir().unwrap();
    let path = save(directory.path(), &file(&content()));
    let mut clusters = Vec::new();
    for name in ["n1", "n2", "n3"] {
        let data_dir = directory.path().join(name);
        let restored = restore(&restoration(&path, &data_dir, name, first())).unwrap();
        assert_eq!(restored.revision, 4 + 1_000_000_000);
        let Opened {
            snapshots,
            identity,
            recovered,
            ..
        } = log::open(
            FileDisk::open(&data_dir).unwrap(),
            Settings::default(),
            raft::MemberId(99),
        )
        .unwrap();
        assert_eq!(identity.member.0, restored.member);
        assert_eq!(identity.cluster, restored.cluster);
        let (mark, ..) = snapshots.snapshot().unwrap();
        assert_eq!((mark.index.0, mark.term.0), (restored.index, 5));
        assert_eq!(restored.index, 1 + (1 << 40));
        assert_eq!((recovered.last, recovered.commit), (mark.index, mark.index));
        assert_eq!(recovered.vote.map(|vote| vote.term), Some(mark.term));
        assert!(!recovered.entries_lost, "{:?}", recovered.quarantined);
        assert!(mark.configuration.members.contains_key(&identity.member));
        clusters.push((identity.cluster, identity.bootstrap, mark.configuration));
    }
    assert!(clusters.iter().all(|other| *other == clusters[0]));
    assert_eq!(clusters[0].1, clusters[0].2);

    let again = directory.path().join("again");
    let second = restore(&restoration(&path, &again, "n1", Raised::new(2).unwrap())).unwrap();
    assert_ne!(second.cluster, clusters[0].0);
    assert_eq!(second.revision, 4 + 2_000_000_000);
}

#[test]
fn what_cannot_be_used_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = save(directory.path(), &file(&content()));
    let text = |restoration: &Restoration| restore(restoration).unwrap_err().0;
    let used = directory.path().join("used");
    fs::create_dir(&used).unwrap();
    fs::write(used.join("photo.jpg"), b"").unwrap();
    let refused = text(&restoration(&path, &used, "n1", first()));
    assert!(
        refused.contains("is not empty: it holds 'photo.jpg'"),
        "{refused}"
    );
    let new = directory.path().join("new");
    let refused = text(&restoration(&path, &new, "n9", first()));
    assert!(refused.starts_with("name: n9 is not in --cluster, which lists n1, n2, n3"));
    assert!(!new.exists());
    assert!(Raised::new(0).is_err() && Raised::new(5000).is_err());

    // One that was interrupted is begun anew.
    fs::create_dir_all(new.join("restoring")).unwrap();
    fs::write(new.join("restoring").join("half"), b"").unwrap();
    restore(&restoration(&path, &new, "n1", first())).unwrap();
    assert!(!new.join("restoring").exists());
}
