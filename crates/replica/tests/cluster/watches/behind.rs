//! Watches that are behind: slow streams, and compaction passing them (W11, W12).

use super::*;

#[test]
fn w11_a_compacted_start_is_created_then_cancelled_with_the_revision() {
    let mut cell = Cell::settled();
    for n in 0..10 {
        cell.put(1, "k", &n.to_string());
    }
    cell.compact(1, 8);
    let first = open(&mut cell, 1, 1, from(3, create("k", "")));
    assert_eq!((first.watch, first.body), (0, WatchBody::Created));
    let heard = cell.heard(1, 1);
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!(
        (heard[0].watch, &heard[0].body),
        (0, &WatchBody::Compacted { compacted: 8 })
    );
    // The compacted revision itself is still there, as in etcd.
    open(&mut cell, 1, 2, from(8, create("k", "")));
    assert_eq!(events(&cell.heard(1, 2)).len(), 4);
}

#[test]
fn the_id_of_a_compacted_watch_stays_taken_until_it_is_canceled() {
    let mut cell = Cell::settled();
    for n in 0..10 {
        cell.put(1, "k", &n.to_string());
    }
    cell.compact(1, 8);
    let named = |start| WatchCreate {
        watch: 7,
        ..from(start, create("k", ""))
    };
    open(&mut cell, 1, 1, named(3));
    cell.heard(1, 1);
    let refused = open(&mut cell, 1, 1, named(9));
    assert!(
        matches!(&refused.body, WatchBody::Refused(reason) if reason.contains("duplicate watch ID")),
        "{refused:?}"
    );
    cell.watch(1, 1, WatchRequest::Cancel { watch: 7 });
    cell.settle();
    let canceled = cell.heard(1, 1);
    assert_eq!(
        (canceled[0].watch, &canceled[0].body),
        (7, &WatchBody::Canceled)
    );
    assert_eq!(open(&mut cell, 1, 1, named(9)).body, WatchBody::Created);
}

#[test]
fn w12_a_slow_stream_is_fed_from_history_and_skips_nothing() {
    let mut cell = Cell::new(1);
    cell.elect();
    cell.watch(1, 1, WatchRequest::Create(create("k", "l")));
    open(&mut cell, 1, 2, create("k", "l"));
    for n in 0..3000 {
        cell.propose(1, put(&format!("k{}", n % 10), &n.to_string()));
        if n % 100 == 0 {
            cell.settle();
        }
    }
    cell.settle();
    assert_eq!(cell.heard(1, 1), vec![], "no credit, not a word");
    assert_eq!(
        events(&cell.heard(1, 2)).len(),
        3000,
        "and nobody waits for it"
    );
    let mut all = Vec::new();
    for _ in 0..40 {
        cell.credit(1, 1, 1);
        cell.settle();
        all.extend(cell.heard(1, 1));
    }
    assert_eq!(all[0].body, WatchBody::Created);
    let revisions: Vec<i64> = events(&all)
        .iter()
        .map(|event| event.kv.mod_revision)
        .collect();
    assert_eq!(revisions, (2..=3001).collect::<Vec<i64>>());
    assert!(all.len() < 40, "{} responses for 3000 events", all.len());
}

#[test]
fn w12_a_slow_stream_is_cancelled_only_when_compaction_passes_it() {
    let mut cell = Cell::new(1);
    cell.elect();
    cell.credit(1, 1, 2);
    cell.watch(1, 1, WatchRequest::Create(create("k", "")));
    cell.put(1, "k", "1");
    for n in 0..10 {
        cell.put(1, "k", &n.to_string());
    }
    assert_eq!(events(&cell.heard(1, 1)).len(), 1);
    cell.compact(1, 3);
    cell.credit(1, 1, 1);
    cell.settle();
    let heard = events(&cell.heard(1, 1));
    assert_eq!(
        heard[0].kv.mod_revision, 3,
        "its cursor was at 3: still there"
    );
    for n in 0..10 {
        cell.put(1, "k", &n.to_string());
    }
    let next = heard.last().unwrap().kv.mod_revision + 1;
    cell.compact(1, next + 2);
    cell.credit(1, 1, 1);
    cell.settle();
    assert_eq!(
        cell.heard(1, 1).last().unwrap().body,
        WatchBody::Compacted {
            compacted: next + 2
        }
    );
}

#[test]
fn a_compaction_right_behind_a_change_cancels_no_watch_that_keeps_up() {
    let mut cell = Cell::new(1);
    cell.elect();
    open(&mut cell, 1, 1, create("k", ""));
    for n in 0..50 {
        let revision = apply(&mut cell, 1, put("k", &n.to_string()));
        cell.propose(1, put("k", "again"));
        cell.propose(1, Operation::Compact(state::Compact { revision }));
        cell.settle();
    }
    let heard = cell.heard(1, 1);
    assert_eq!(events(&heard).len(), 100);
    assert!(
        heard
            .iter()
            .all(|response| matches!(response.body, WatchBody::Events { .. }))
    );
}
