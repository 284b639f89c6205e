//! The model on small histories whose outcome is known.

use super::*;
use state::{Compact, DeleteRange, Group, LeaseGrant, Put};

fn batch(clock_ms: u64, operations: Vec<Operation>) -> Batch {
    let commands = operations
        .into_iter()
        .map(|operation| Command {
            operation: Some(operation),
            ..Command::default()
        })
        .collect();
    Batch {
        format: 1,
        clock_ms,
        wall_ms: 0,
        groups: vec![Group {
            commands,
            ..Group::default()
        }],
    }
}

fn put(key: &'static str, value: &'static str, lease: i64) -> Operation {
    Operation::Put(Put {
        key: key.into(),
        value: value.into(),
        lease,
        prev_kv: true,
        ..Put::default()
    })
}

#[test]
fn revisions_rise_by_one_per_changing_command() {
    let mut model = Model::new();
    let gone = Operation::DeleteRange(DeleteRange {
        key: "x".into(),
        ..DeleteRange::default()
    });
    let applied = model
        .apply(&batch(1, vec![put("a", "1", 0), gone, put("a", "2", 0)]), 0)
        .unwrap();
    assert_eq!(
        applied
            .outcomes
            .iter()
            .map(|outcome| outcome.revision)
            .collect::<Vec<_>>(),
        [2, 2, 3]
    );
    assert_eq!(model.key_at(b"a", 2).unwrap().value, "1");
    assert_eq!(model.key_at(b"a", 3).unwrap().version, 2);
    assert!(matches!(&applied.outcomes[2].reply, Reply::Put { prev: Some(kv) } if kv.value == "1"));
}

#[test]
fn a_lease_ends_with_its_keys_in_one_revision() {
    let mut model = Model::new();
    let grant = Operation::LeaseGrant(LeaseGrant {
        id: 7,
        ttl_ms: 1000,
    });
    model
        .apply(
            &batch(1000, vec![grant, put("a", "1", 7), put("b", "1", 7)]),
            0,
        )
        .unwrap();
    assert!(
        model
            .apply(&batch(2019, vec![]), 0)
            .unwrap()
            .expired
            .is_empty()
    );
    let applied = model.apply(&batch(2020, vec![]), 0).unwrap();
    assert_eq!((applied.expired.len(), model.revision()), (1, 4));
    assert!(model.key_at(b"a", 4).is_none() && model.key_at(b"b", 4).is_none());
    assert!(
        model.changes()[2..]
            .iter()
            .all(|change| change.deleted && change.revision == 4)
    );
}

#[test]
fn a_renewal_in_the_batch_of_the_deadline_saves_the_lease() {
    let mut model = Model::new();
    let grant = Operation::LeaseGrant(LeaseGrant {
        id: 7,
        ttl_ms: 1000,
    });
    model.apply(&batch(0, vec![grant]), 0).unwrap();
    let mut late = batch(5000, vec![]);
    late.groups[0].renewals = vec![7, 8];
    let applied = model.apply(&late, 0).unwrap();
    assert_eq!(
        (applied.renewals, applied.expired),
        (vec![(7, Some(1000)), (8, None)], vec![])
    );
}

#[test]
fn a_told_history_is_followed_and_checked() {
    let change = |revision, deleted, create_revision, version| Change {
        revision,
        deleted,
        kv: KeyValue {
            key: "a".into(),
            create_revision,
            mod_revision: revision,
            version,
            ..KeyValue::default()
        },
    };
    let broken = |changes: &[Change]| Model::replay(changes.to_vec()).unwrap_err().0;
    let told = [
        change(2, false, 2, 1),
        change(3, false, 2, 2),
        change(4, true, 0, 0),
        change(5, false, 5, 1),
    ];
    assert_eq!(Model::replay(told.clone()).unwrap().revision(), 5);
    assert_eq!(broken(&[told[0].clone(), told[2].clone()]), "KV3");
    assert_eq!(broken(&[told[1].clone()]), "KV3");
    assert_eq!(broken(&[change(2, false, 2, 2)]), "W9");
    assert_eq!(broken(&[change(2, true, 0, 0)]), "W9");
}

#[test]
fn a_falling_clock_is_refused() {
    let mut model = Model::new();
    model.apply(&batch(10, vec![]), 0).unwrap();
    assert!(model.apply(&batch(9, vec![]), 0).is_err());
}

#[test]
fn compaction_goes_forward_only() {
    let mut model = Model::new();
    let compact = |revision| Operation::Compact(Compact { revision });
    let applied = model
        .apply(
            &batch(
                0,
                vec![put("a", "1", 0), compact(2), compact(2), compact(9)],
            ),
            0,
        )
        .unwrap();
    let replies: Vec<_> = applied
        .outcomes
        .into_iter()
        .skip(1)
        .map(|outcome| outcome.reply)
        .collect();
    assert_eq!(replies[0], Reply::Compact);
    assert_eq!(
        replies[1],
        Reply::Rejected(Rejection::Compacted { compacted: 2 })
    );
    assert_eq!(
        replies[2],
        Reply::Rejected(Rejection::FutureRevision { current: 2 })
    );
}
