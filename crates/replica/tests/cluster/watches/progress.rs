//! Progress marks (W6).

use super::*;

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
