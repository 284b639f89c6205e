//! Watches (W1–W12).

mod behind;
mod large;
mod progress;
mod random;

use crate::harness::*;
use replica::{
    Event, Input, Limits, Settings, StreamId, WatchBody, WatchCreate, WatchRequest, WatchResponse,
};
use state::{Operation, TxnOperation, TxnStep};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const PLENTY: u32 = 1_000_000;

fn create(key: &str, end: &str) -> WatchCreate {
    WatchCreate {
        key: key.to_owned().into(),
        range_end: end.to_owned().into(),
        ..WatchCreate::default()
    }
}

fn from(start_revision: i64, create: WatchCreate) -> WatchCreate {
    WatchCreate {
        start_revision,
        ..create
    }
}

/// Opens a stream with one watch and credit; gives its first response.
fn open(cell: &mut Cell, nth: u64, stream: u64, create: WatchCreate) -> WatchResponse {
    cell.credit(nth, stream, PLENTY);
    cell.watch(nth, stream, WatchRequest::Create(create));
    cell.settle();
    let mut heard = cell.heard(nth, stream);
    let first = heard.remove(0);
    cell.watched.insert((nth, StreamId(stream)), heard);
    first
}

fn events(responses: &[WatchResponse]) -> Vec<Arc<Event>> {
    let mut all = Vec::new();
    for response in responses {
        if let WatchBody::Events { events, .. } = &response.body {
            all.extend(events.iter().cloned());
        }
    }
    all
}

/// (revision, key, value or "-")
fn short(events: &[Arc<Event>]) -> Vec<(i64, String, String)> {
    let text = |bytes: &bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let one = |event: &Arc<Event>| {
        (
            event.kv.mod_revision,
            text(&event.kv.key),
            if event.deleted {
                "-".to_owned()
            } else {
                text(&event.kv.value)
            },
        )
    };
    events.iter().map(one).collect()
}

fn txn(steps: Vec<Operation>) -> Operation {
    let step = |operation| match operation {
        Operation::Put(put) => TxnStep::Put(put),
        Operation::DeleteRange(delete) => TxnStep::DeleteRange(delete),
        other => panic!("{other:?}"),
    };
    let success = steps
        .into_iter()
        .map(|operation| TxnOperation {
            step: Some(step(operation)),
        })
        .collect();
    Operation::Txn(state::Txn {
        success,
        ..state::Txn::default()
    })
}

fn apply(cell: &mut Cell, nth: u64, operation: Operation) -> i64 {
    let ticket = cell.propose(nth, operation);
    cell.settle();
    cell.response(ticket).revision
}

#[test]
fn w1_watch_is_ordered_and_w2_hears_nothing_twice_and_w3_watch_has_no_gap() {
    let mut cell = Cell::settled();
    let follower = cell.follower();
    assert_eq!(
        open(&mut cell, follower, 1, create("k", "l")).body,
        WatchBody::Created
    );
    for n in 0..50 {
        cell.put(1 + n % 3, &format!("k{}", n % 7), &n.to_string());
        if n == 25 {
            let leader = cell.leader().unwrap();
            cell.isolate(leader);
            cell.advance(3000);
            cell.heal();
            cell.elect();
        }
    }
    cell.advance(200);
    let revisions: Vec<i64> = events(&cell.heard(follower, 1))
        .iter()
        .map(|event| event.kv.mod_revision)
        .collect();
    assert_eq!(revisions, (2..=51).collect::<Vec<i64>>());
}

#[test]
fn a_watch_from_now_on_hears_no_old_history_after_a_restart() {
    let mut cell = Cell::settled();
    for n in 0..100 {
        cell.put(1, &format!("k{n}"), "v");
    }
    for nth in 1..=3 {
        cell.kill(nth);
    }
    for nth in 1..=3 {
        cell.start(nth);
        cell.credit(nth, 1, PLENTY);
        cell.watch(nth, 1, WatchRequest::Create(create("k", "l")));
    }
    cell.settle();
    cell.elect();
    cell.put(1, "k5", "new");
    cell.advance(200);
    for nth in 1..=3 {
        let heard = cell.heard(nth, 1);
        assert_eq!(heard[0].body, WatchBody::Created);
        assert_eq!(
            short(&events(&heard)),
            vec![(102, "k5".to_owned(), "new".to_owned())],
            "on member {nth}"
        );
    }
}

#[test]
fn without_a_quorum_watches_begin_after_two_elections() {
    let mut cell = Cell::settled();
    cell.put(1, "k", "v");
    cell.isolate(1);
    cell.kill(1);
    cell.start(1);
    cell.credit(1, 1, PLENTY);
    cell.watch(1, 1, WatchRequest::Create(create("k", "")));
    cell.advance(1900);
    assert_eq!(cell.heard(1, 1), vec![]);
    cell.advance(200);
    assert_eq!(cell.heard(1, 1).len(), 1);
}

#[test]
fn w5_resuming_begins_with_the_first_event_at_or_after_the_revision() {
    let mut cell = Cell::settled();
    for n in 0..20 {
        cell.put(1, &format!("k{}", n % 2), &n.to_string());
    }
    cell.advance(200);
    for nth in 1..=3 {
        for start in [1, 2, 10, 21] {
            open(&mut cell, nth, start as u64, from(start, create("k0", "")));
            let heard = short(&events(&cell.heard(nth, start as u64)));
            let expected: Vec<i64> = (start.max(2)..=21)
                .filter(|revision| revision % 2 == 0)
                .collect();
            assert_eq!(
                heard.iter().map(|event| event.0).collect::<Vec<_>>(),
                expected,
                "from {start} on member {nth}"
            );
        }
    }
}

#[test]
fn w7_filters_and_ranges_are_exact() {
    let mut cell = Cell::new(1);
    cell.elect();
    let watches = [
        (1, create("b", "")),
        (2, create("b", "d")),
        (3, create("c", "\0")),
        (4, create("", "\0")),
        (
            5,
            WatchCreate {
                no_put: true,
                ..create("a", "z")
            },
        ),
        (
            6,
            WatchCreate {
                no_delete: true,
                ..create("a", "z")
            },
        ),
    ];
    for (stream, create) in watches {
        open(&mut cell, 1, stream, create);
    }
    for key in ["a", "b", "ba", "c", "d"] {
        cell.put(1, key, "v");
    }
    cell.delete(1, "b", "c");
    let keys = |cell: &mut Cell, stream| -> String {
        short(&events(&cell.heard(1, stream)))
            .iter()
            .map(|(_, key, value)| format!("{key}{} ", if value == "-" { "-" } else { "" }))
            .collect()
    };
    assert_eq!(keys(&mut cell, 1), "b b- ");
    assert_eq!(keys(&mut cell, 2), "b ba c b- ba- ");
    assert_eq!(keys(&mut cell, 3), "c d ");
    assert_eq!(keys(&mut cell, 4), "a b ba c d b- ba- ");
    assert_eq!(keys(&mut cell, 5), "b- ba- ");
    assert_eq!(keys(&mut cell, 6), "a b ba c d ");
}

#[test]
fn w8_prev_kv_is_the_state_one_revision_before_and_w9_creation_is_told() {
    let mut cell = Cell::new(1);
    cell.elect();
    open(
        &mut cell,
        1,
        1,
        WatchCreate {
            prev_kv: true,
            ..create("k", "")
        },
    );
    open(&mut cell, 1, 2, create("k", ""));
    let mut model: Option<String> = None;
    let mut expected = Vec::new();
    for n in 0..10 {
        if n % 4 == 3 {
            cell.delete(1, "k", "");
            expected.push((model.take(), None));
        } else {
            cell.put(1, "k", &n.to_string());
            expected.push((model.replace(n.to_string()), Some(n.to_string())));
        }
    }
    let text = |bytes: &bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let heard = events(&cell.heard(1, 1));
    assert_eq!(heard.len(), expected.len());
    for (event, (before, after)) in heard.iter().zip(&expected) {
        assert_eq!(event.prev.as_ref().map(|kv| text(&kv.value)), *before);
        assert_eq!((!event.deleted).then(|| text(&event.kv.value)), *after);
        let created = !event.deleted && event.kv.create_revision == event.kv.mod_revision;
        assert_eq!(created, before.is_none() && after.is_some());
    }
    assert!(
        events(&cell.heard(1, 2))
            .iter()
            .all(|event| event.prev.is_none()),
        "nobody gets what another asked for"
    );
    // From history it is the same.
    open(
        &mut cell,
        1,
        3,
        from(
            2,
            WatchCreate {
                prev_kv: true,
                ..create("k", "")
            },
        ),
    );
    assert_eq!(events(&cell.heard(1, 3)), heard);
}

#[test]
fn w10_a_watch_from_a_future_revision_hears_nothing_earlier() {
    let mut cell = Cell::settled();
    open(&mut cell, 1, 1, from(10, create("k", "l")));
    for n in 0..15 {
        cell.put(1, &format!("k{n}"), "v");
    }
    let revisions: Vec<i64> = events(&cell.heard(1, 1))
        .iter()
        .map(|event| event.kv.mod_revision)
        .collect();
    assert_eq!(revisions, (10..=16).collect::<Vec<i64>>());
}

#[test]
fn refusals_are_etcds() {
    let mut cell = Cell::new(1);
    cell.elect();
    let refused = |text: &str| (-1, WatchBody::Refused(text.to_owned()));
    let answer = |response: WatchResponse| (response.watch, response.body);
    assert_eq!(
        answer(open(&mut cell, 1, 1, create("b", "a"))),
        refused("mvcc: watcher range is empty")
    );
    assert_eq!(
        answer(open(&mut cell, 1, 2, from(-1, create("b", "")))),
        refused("etcdserver: mvcc: required revision has been compacted")
    );
    assert_eq!(
        answer(open(
            &mut cell,
            1,
            3,
            WatchCreate {
                watch: 5,
                ..create("b", "")
            }
        )),
        (5, WatchBody::Created)
    );
    assert_eq!(
        answer(open(
            &mut cell,
            1,
            3,
            WatchCreate {
                watch: 5,
                ..create("b", "")
            }
        )),
        refused("mvcc: duplicate watch ID provided on the WatchStream")
    );
}

#[test]
fn ids_count_from_zero_and_pass_over_those_in_use() {
    let mut cell = Cell::new(1);
    cell.elect();
    let ids: Vec<i64> = [0, 1, 0, 0, 0]
        .map(|watch| {
            open(
                &mut cell,
                1,
                1,
                WatchCreate {
                    watch,
                    ..create("b", "")
                },
            )
            .watch
        })
        .to_vec();
    assert_eq!(ids, vec![0, 1, 2, 3, 4]);
}

#[test]
fn a_cancelled_watch_says_so_last() {
    let mut cell = Cell::new(1);
    cell.elect();
    open(&mut cell, 1, 1, create("k", ""));
    cell.put(1, "k", "1");
    cell.watch(1, 1, WatchRequest::Cancel { watch: 0 });
    cell.watch(1, 1, WatchRequest::Cancel { watch: 0 });
    cell.watch(1, 1, WatchRequest::Cancel { watch: 9 });
    cell.put(1, "k", "2");
    let heard = cell.heard(1, 1);
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert_eq!((heard[1].watch, &heard[1].body), (0, &WatchBody::Canceled));
    cell.input(1, Input::WatchClosed(StreamId(1)));
    cell.put(1, "k", "3");
    assert_eq!(cell.replica(1).status().watchers, 0);
}
