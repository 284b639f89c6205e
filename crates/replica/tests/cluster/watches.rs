//! Watches (W1–W12).

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
fn a_response_holds_one_revision_while_credit_is_ample() {
    let mut cell = Cell::new(1);
    cell.elect();
    open(&mut cell, 1, 1, create("k", "l"));
    for n in 0..5 {
        cell.propose(1, put(&format!("k{n}"), "v"));
    }
    cell.settle();
    let heard = cell.heard(1, 1);
    assert_eq!(
        heard
            .iter()
            .map(|response| response.revision)
            .collect::<Vec<_>>(),
        vec![2, 3, 4, 5, 6]
    );
}

#[test]
fn w4_a_revision_is_never_split() {
    let mut cell = Cell::new(1);
    cell.elect();
    cell.credit(1, 1, 2);
    cell.watch(1, 1, WatchRequest::Create(create("k", "l")));
    for round in 0..20 {
        let steps = (0..10)
            .map(|n| put(&format!("k{n}"), &round.to_string()))
            .collect();
        apply(&mut cell, 1, txn(steps));
    }
    // Fed from history, one credit at a time.
    let mut all = cell.heard(1, 1);
    for _ in 0..30 {
        cell.credit(1, 1, 1);
        cell.settle();
        all.extend(cell.heard(1, 1));
    }
    let mut last = 0;
    for response in &all {
        let revisions: Vec<i64> = events(std::slice::from_ref(response))
            .iter()
            .map(|event| event.kv.mod_revision)
            .collect();
        for revision in revisions
            .iter()
            .copied()
            .collect::<std::collections::BTreeSet<i64>>()
        {
            assert_eq!(
                revisions.iter().filter(|&&other| other == revision).count(),
                10
            );
            assert!(revision > last);
            last = revision;
        }
    }
    assert_eq!(events(&all).len(), 200);
}

#[test]
fn w4_fragments_reassemble_to_the_whole() {
    let mut cell = Cell::new(1);
    cell.elect();
    open(
        &mut cell,
        1,
        1,
        WatchCreate {
            fragment: true,
            ..create("k", "l")
        },
    );
    open(&mut cell, 1, 2, create("k", "l"));
    let steps = (0..50)
        .map(|n| put(&format!("k{n:02}"), &"v".repeat(100_000)))
        .collect();
    let limits = cell.settings.limits.command_bytes_max;
    assert!(
        limits < 5_000_000,
        "the transaction must fit: it is made in parts"
    );
    let revision = {
        // A delete of them all is one revision with fifty events; with their previous states it is large.
        for n in 0..50 {
            cell.put(1, &format!("k{n:02}"), &"v".repeat(100_000));
        }
        drop::<Vec<Operation>>(steps);
        cell.heard(1, 1);
        cell.heard(1, 2);
        open(
            &mut cell,
            1,
            3,
            WatchCreate {
                fragment: true,
                prev_kv: true,
                ..create("k", "l")
            },
        );
        open(
            &mut cell,
            1,
            4,
            WatchCreate {
                prev_kv: true,
                ..create("k", "l")
            },
        );
        cell.delete(1, "k", "l").revision
    };
    let whole = cell.heard(1, 4);
    assert_eq!(whole.len(), 1);
    let parts = cell.heard(1, 3);
    assert_eq!(parts.len(), 3, "5 MB in parts of 2 MiB");
    let marks: Vec<bool> = parts
        .iter()
        .map(|part| matches!(part.body, WatchBody::Events { fragment: true, .. }))
        .collect();
    assert_eq!(marks, vec![true, true, false]);
    assert!(parts.iter().all(|part| part.revision == revision));
    assert_eq!(events(&parts), events(&whole));
    assert_eq!(
        cell.heard(1, 1).len(),
        1,
        "small without the previous states"
    );
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
fn w6_progress_marks_never_go_back_and_nothing_follows_below() {
    let mut cell = Cell::settled();
    let follower = cell.follower();
    open(&mut cell, follower, 1, create("k", "l"));
    cell.watch(follower, 1, WatchRequest::Create(create("x", "")));
    let mut mark = 0;
    let mut all = Vec::new();
    for n in 0..30 {
        cell.put(1 + n % 3, &format!("k{n}"), "v");
        cell.watch(follower, 1, WatchRequest::Progress);
        cell.settle();
        all.extend(cell.heard(follower, 1));
    }
    let mut marks = 0;
    for response in &all {
        match &response.body {
            WatchBody::Progress => {
                assert_eq!(response.watch, -1);
                assert!(response.revision >= mark);
                mark = response.revision;
                marks += 1;
            }
            WatchBody::Events { events, .. } => assert!(
                events.iter().all(|event| event.kv.mod_revision > mark),
                "{response:?} after mark {mark}"
            ),
            _ => {}
        }
    }
    assert_eq!(marks, 30);
    assert!(mark >= 30);
}

#[test]
fn progress_of_a_stream_waits_for_all_of_its_watches() {
    let mut cell = Cell::new(1);
    cell.elect();
    for n in 0..10 {
        cell.put(1, "k", &n.to_string());
    }
    cell.credit(1, 1, 3);
    cell.watch(1, 1, WatchRequest::Create(create("other", "")));
    cell.watch(1, 1, WatchRequest::Create(from(2, create("k", ""))));
    cell.settle();
    for n in 0..10 {
        cell.put(1, "k", &n.to_string());
    }
    cell.watch(1, 1, WatchRequest::Progress);
    cell.settle();
    let heard = cell.heard(1, 1);
    assert!(
        heard
            .iter()
            .all(|response| response.body != WatchBody::Progress),
        "one of them is behind: {heard:?}"
    );
    cell.credit(1, 1, 100);
    cell.settle();
    let heard = cell.heard(1, 1);
    let last = heard.last().unwrap();
    assert_eq!(
        (last.watch, last.revision, &last.body),
        (-1, 21, &WatchBody::Progress)
    );
}

/// Found by `conformance faults storm`: a watch resumed at a member that had just restarted was told a mark of revision 1.
#[test]
fn w6_no_mark_is_below_where_a_watch_of_the_stream_began() {
    let limits = Limits {
        watch_progress_interval: Duration::from_secs(10),
        ..Limits::default()
    };
    let settings = Settings {
        limits,
        ..Settings::default()
    };
    let mut cell = Cell::with(1, settings);
    cell.elect();
    cell.put(1, "k", "2");
    let resumed = WatchCreate {
        progress_notify: true,
        ..from(5, create("k", ""))
    };
    open(&mut cell, 1, 1, resumed);
    cell.watch(1, 1, WatchRequest::Progress);
    cell.put(1, "other", "3");
    cell.advance(11_500);
    assert_eq!(cell.heard(1, 1), vec![]);
    cell.put(1, "other", "4");
    let heard = cell.heard(1, 1);
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!(
        (heard[0].watch, heard[0].revision, &heard[0].body),
        (-1, 4, &WatchBody::Progress)
    );
}

#[test]
fn an_idle_watch_that_asked_hears_of_progress() {
    let limits = Limits {
        watch_progress_interval: Duration::from_secs(10),
        ..Limits::default()
    };
    let mut cell = Cell::with(
        3,
        Settings {
            limits,
            ..Settings::default()
        },
    );
    cell.elect();
    open(
        &mut cell,
        1,
        1,
        WatchCreate {
            progress_notify: true,
            ..create("k", "")
        },
    );
    open(&mut cell, 1, 2, create("k", ""));
    cell.put(1, "x", "1");
    cell.put(1, "x", "2");
    cell.advance(11_500);
    let heard = cell.heard(1, 1);
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!(
        (heard[0].watch, heard[0].revision, &heard[0].body),
        (0, 3, &WatchBody::Progress)
    );
    assert_eq!(cell.heard(1, 2), vec![]);
    // One that has just heard an event needs no progress.
    cell.put(1, "k", "1");
    cell.heard(1, 1);
    cell.advance(10_000);
    assert_eq!(cell.heard(1, 1), vec![]);
    cell.advance(10_000);
    assert_eq!(cell.heard(1, 1).len(), 1);
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

#[test]
fn a_hundred_thousand_watches_of_one_key_are_served_in_slices() {
    let mut cell = Cell::new(1);
    cell.elect();
    for stream in 0..1000 {
        cell.credit(1, stream, PLENTY);
        for _ in 0..100 {
            cell.watch(1, stream, WatchRequest::Create(create("k", "")));
        }
    }
    cell.settle();
    assert_eq!(cell.replica(1).status().watchers, 100_000);
    cell.watched.clear();
    let turns = cell.hosts[&1].turns;
    cell.put(1, "k", "v");
    assert!(
        cell.hosts[&1].turns - turns >= 100,
        "{} turns",
        cell.hosts[&1].turns - turns
    );
    let count: usize = cell.watched.values().map(|heard| events(heard).len()).sum();
    assert_eq!(count, 100_000);
}

/// What one stream of the random test wants and heard.
struct Follower {
    nth: u64,
    create: WatchCreate,
    from: i64,
    heard: Vec<Arc<Event>>,
    compacted: bool,
    mark: i64,
}

/// W1–W8 and W12 together: random changes, compactions, credits and leader changes; every watch hears exactly the events of its range from its
/// start on, or the end by compaction.
#[test]
fn random_watches_hear_exactly_what_happened() {
    for seed in 1..=12u64 {
        let mut random = Random(seed);
        let mut cell = Cell::settled();
        let mut history: Vec<(i64, String, String)> = Vec::new();
        let mut followers: BTreeMap<u64, Follower> = BTreeMap::new();
        // A full watch on each member is the record of what happened.
        for nth in 1..=3 {
            open(&mut cell, nth, 0, create("", "\0"));
        }
        for round in 0..150u64 {
            match random.below(12) {
                0..=4 => {
                    let at = 1 + random.below(3);
                    for _ in 0..random.below(20) {
                        let key = format!("k{}", random.below(6));
                        let operation = match random.below(5) {
                            0 => delete(&key, ""),
                            1 => delete("k2", "k4"),
                            2 => txn(vec![
                                put("k0", &round.to_string()),
                                put("k5", &round.to_string()),
                            ]),
                            _ => put(&key, &round.to_string()),
                        };
                        cell.propose(at, operation);
                    }
                    cell.settle();
                }
                5 | 6 => {
                    let nth = 1 + random.below(3);
                    let newest = cell.replica(nth).status().revision;
                    let start = if random.below(2) == 0 {
                        0
                    } else {
                        1 + random.below(newest as u64 + 5) as i64
                    };
                    let (key, end) = [("k0", ""), ("k1", "k4"), ("k", "\0"), ("k5", "")]
                        [random.below(4) as usize];
                    let no_delete = random.below(4) == 0;
                    let create = WatchCreate {
                        no_delete,
                        prev_kv: random.below(2) == 0,
                        ..from(start, create(key, end))
                    };
                    let stream = round + 1;
                    cell.watch(nth, stream, WatchRequest::Create(create.clone()));
                    cell.settle();
                    let from = if start == 0 { newest + 1 } else { start };
                    followers.insert(
                        stream,
                        Follower {
                            nth,
                            create,
                            from,
                            heard: Vec::new(),
                            compacted: false,
                            mark: 0,
                        },
                    );
                }
                7..=9 => {
                    let streams: Vec<u64> = followers.keys().copied().collect();
                    for stream in streams {
                        if random.below(2) == 0 {
                            cell.credit(followers[&stream].nth, stream, random.below(4) as u32);
                            if random.below(4) == 0 {
                                cell.watch(followers[&stream].nth, stream, WatchRequest::Progress);
                            }
                        }
                    }
                    cell.settle();
                }
                10 => {
                    let newest = cell.replica(1).status().revision;
                    let revision = (newest - random.below(20) as i64).max(1);
                    cell.propose(1, Operation::Compact(state::Compact { revision }));
                    cell.settle();
                }
                _ => {
                    let leader = cell.leader().unwrap();
                    cell.isolate(leader);
                    cell.advance(2500);
                    cell.heal();
                    cell.elect();
                }
            }
            collect(&mut cell, &mut followers);
        }
        cell.advance(500);
        for stream in followers.keys().copied().collect::<Vec<_>>() {
            cell.credit(followers[&stream].nth, stream, PLENTY);
        }
        cell.settle();
        collect(&mut cell, &mut followers);
        history.extend(short(&events(&cell.heard(1, 0))));
        for nth in 2..=3 {
            assert_eq!(
                short(&events(&cell.heard(nth, 0))),
                history,
                "seed {seed}: members tell different histories"
            );
        }
        for (stream, follower) in &followers {
            let range = |key: &str| {
                let (start, end) = (&follower.create.key[..], &follower.create.range_end[..]);
                let key = key.as_bytes();
                if end.is_empty() {
                    key == start
                } else {
                    key >= start && (end == b"\0" || key < end)
                }
            };
            let expected: Vec<(i64, String, String)> = history
                .iter()
                .filter(|(revision, key, value)| {
                    *revision >= follower.from
                        && range(key)
                        && !(follower.create.no_delete && value == "-")
                })
                .cloned()
                .collect();
            let heard = short(&follower.heard);
            if follower.compacted {
                assert_eq!(
                    heard,
                    expected[..heard.len()],
                    "seed {seed} stream {stream}: a prefix before the compaction"
                );
            } else {
                assert_eq!(
                    heard, expected,
                    "seed {seed} stream {stream}: {:?}",
                    follower.create
                );
            }
        }
    }
}

fn collect(cell: &mut Cell, followers: &mut BTreeMap<u64, Follower>) {
    for (&stream, follower) in followers.iter_mut() {
        for response in cell.heard(follower.nth, stream) {
            match response.body {
                WatchBody::Events { events, .. } => {
                    assert!(
                        events
                            .iter()
                            .all(|event| event.kv.mod_revision > follower.mark),
                        "W6"
                    );
                    follower.heard.extend(events);
                }
                WatchBody::Compacted { .. } => follower.compacted = true,
                WatchBody::Progress => {
                    assert!(response.revision >= follower.mark, "W6");
                    follower.mark = response.revision;
                }
                _ => {}
            }
        }
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

#[test]
fn a_revision_with_very_many_events_is_matched_in_slices_and_told_whole() {
    let mut cell = Cell::new(1);
    cell.elect();
    for n in 0..40 {
        for m in 0..1000 {
            cell.propose(1, put(&format!("k{n:02}{m:03}"), "v"));
        }
        cell.settle();
    }
    open(&mut cell, 1, 1, create("k", "l"));
    open(&mut cell, 1, 2, create("k1", "k2"));
    open(&mut cell, 1, 3, create("other", ""));
    let deleted = cell.propose(1, delete("k", "l"));
    cell.propose(1, put("k15", "after"));
    // Watches that come while the large revision is being matched hear all of it or nothing.
    let (mut stream, mut starts) = (10, BTreeMap::new());
    for _ in 0..10_000 {
        cell.turn(1);
        let revision = cell.replica(1).status().revision;
        if revision >= 40_002 && stream < 40 {
            let start = [0, 40_002, 40_001, 40_003][stream as usize % 4];
            cell.credit(1, stream, PLENTY);
            cell.watch(
                1,
                stream,
                WatchRequest::Create(from(start, create("k", "l"))),
            );
            starts.insert(stream, if start == 0 { revision + 1 } else { start });
            stream += 1;
        }
    }
    assert_eq!(starts.len(), 30);
    cell.settle();
    let revision = cell.response(deleted).revision;
    assert_eq!(revision, 40_002);
    let heard = cell.heard(1, 1);
    assert_eq!(heard.len(), 2);
    assert_eq!(events(&heard[..1]).len(), 40_000);
    assert_eq!(events(&cell.heard(1, 2)).len(), 10_001);
    assert_eq!(cell.heard(1, 3), vec![]);
    for (stream, start) in starts {
        let heard = events(&cell.heard(1, stream));
        let count = |revision| {
            heard
                .iter()
                .filter(|event| event.kv.mod_revision == revision)
                .count()
        };
        let expected = (
            usize::from(start <= 40_001),
            if start <= 40_002 { 40_000 } else { 0 },
            usize::from(start <= 40_003),
        );
        assert_eq!(
            (count(40_001), count(40_002), count(40_003)),
            expected,
            "from {start}"
        );
    }
}
