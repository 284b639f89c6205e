//! Revisions of many events: whole, in fragments, in slices (W4).

use super::*;

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
