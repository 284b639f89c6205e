//! I1: no id twice, whatever clocks, restarts and renewals do; the ids of one issuer rise.

use proptest::prelude::*;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;
use synod_ids::{Generator, Layout, NotYet, Parts, Segments, Window};

const START: u64 = 1_800_000_000_000;

fn small() -> Layout {
    Layout::new(2, 2, 1_577_836_800_000).expect("a layout")
}

fn window(worker: u32, from: u64, until: u64) -> Window {
    Window {
        worker,
        now_ms: START + from,
        from_ms: START + from,
        until_ms: START + until,
    }
}

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

#[test]
fn an_id_says_when_it_was_made_and_by_whom() {
    let layout = Layout::default();
    let mut generator = Generator::new(layout, window(513, 0, 1000), ms(77));
    let ids = [77, 77, 80].map(|clock| generator.next(ms(clock)).expect("an id"));
    let parts = ids.map(|id| layout.parts(id).expect("an id"));
    let expected = [(0, 0), (0, 1), (3, 0)].map(|(after, sequence)| Parts {
        unix_ms: START + after,
        worker: 513,
        sequence,
    });
    assert_eq!(parts, expected);
    // 222 163 200 000 ms since 2020 in the upper bits, as any decoder of this layout reads it.
    assert_eq!(ids[0], (222_163_200_000 << 22) | (513 << 12));
    assert_eq!(layout.parts(1 << 63), None);
}

#[test]
fn a_layout_that_leaves_no_time_is_refused() {
    for (worker, sequence) in [(0, 12), (10, 0), (21, 1), (13, 12)] {
        let error = Layout::new(worker, sequence, 0).expect_err("no layout");
        let text = error.to_string();
        assert!(
            text.contains(&format!(
                "{worker} bits to the worker and {sequence} to the sequence"
            )),
            "{text}"
        );
    }
    assert_eq!(Layout::new(12, 12, 0).expect("a layout").workers(), 4096);
}

#[test]
fn a_full_millisecond_waits_for_the_next_or_borrows_it() {
    let mut strict = Generator::new(small(), window(1, 0, 100), ms(0));
    for _ in 0..4 {
        strict.next(ms(0)).expect("four a millisecond");
    }
    assert_eq!(strict.next(ms(0)), Err(NotYet::Wait(ms(1))));
    strict.next(ms(1)).expect("a millisecond later");

    let mut borrowing = Generator::new(small(), window(1, 0, 100), ms(0)).with_ahead(ms(10));
    let made = (0..100).take_while(|_| borrowing.next(ms(0)).is_ok());
    assert_eq!(made.count(), 44, "the present millisecond and ten more");
    assert_eq!(borrowing.next(ms(0)), Err(NotYet::Wait(ms(1))));
}

#[test]
fn i1_an_id_never_leaves_its_window() {
    let mut generator = Generator::new(small(), window(1, 0, 3), ms(0)).with_ahead(ms(1000));
    let made = (0..100).take_while(|_| generator.next(ms(0)).is_ok());
    assert_eq!(made.count(), 12, "three milliseconds of four");
    assert_eq!(generator.next(ms(0)), Err(NotYet::WindowOver));
    assert_eq!(generator.left(ms(0)), ms(0));
    generator.renew(window(1, 3, 6), ms(1));
    generator.next(ms(1)).expect("in the next window");
    assert_eq!(
        generator.next(ms(50)),
        Err(NotYet::WindowOver),
        "time that passed is over, too"
    );
}

#[test]
fn segments_ask_for_the_next_before_the_present_one_ends() {
    let mut segments = Segments::new();
    assert!(segments.wants());
    assert_eq!(segments.take(), None);
    segments.give(1..=4).expect("wanted");
    assert!(!segments.wants());
    assert_eq!([segments.take(), segments.take()], [Some(1), Some(2)]);
    assert!(segments.wants(), "half is used");
    segments.give(9..=10).expect("wanted");
    assert_eq!(segments.give(20..=30), Err(20..=30), "one waits already");
    let rest: Vec<u64> = std::iter::from_fn(|| segments.take()).collect();
    assert_eq!(rest, [3, 4, 9, 10]);
    segments.give(u64::MAX..=u64::MAX).expect("wanted");
    assert_eq!([segments.take(), segments.take()], [Some(u64::MAX), None]);
}

/// What the cell keeps: up to where each worker number was ever lent, and by whom it is held.
#[derive(Default)]
struct Cell {
    used_until: BTreeMap<u32, u64>,
    held: BTreeSet<u32>,
}

impl Cell {
    fn lend(&mut self, wall: u64, length: u64, renewed: Option<u32>) -> Option<Window> {
        let worker = renewed.or_else(|| (0..4).find(|number| !self.held.contains(number)))?;
        self.held.insert(worker);
        let used = self.used_until.entry(worker).or_insert(0);
        let from_ms = START + wall.max(*used);
        *used = wall.max(*used) + length;
        Some(Window {
            worker,
            now_ms: START + wall,
            from_ms,
            until_ms: START + *used,
        })
    }
}

#[derive(Clone, Debug)]
enum Step {
    Make(usize, u8),
    Renew(usize),
    Restart(usize),
    Pass(u8),
    ClockBack(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3_usize, 1..40_u8).prop_map(|(who, count)| Step::Make(who, count)),
        2 => (0..3_usize).prop_map(Step::Renew),
        1 => (0..3_usize).prop_map(Step::Restart),
        2 => (0..20_u8).prop_map(Step::Pass),
        1 => (0..3_usize).prop_map(Step::ClockBack),
    ]
}

proptest! {
    #[test]
    fn i1_no_id_twice_and_each_issuer_rises(steps in prop::collection::vec(step(), 1..200), ahead in 0..50_u64) {
        let mut cell = Cell::default();
        let mut wall = 0;
        let mut clocks = [1_000_000_u64; 3];
        let begin = |cell: &mut Cell, wall: u64, clock: u64| {
            let lent = cell.lend(wall, 10, None).expect("three of four numbers are used at most");
            Generator::new(small(), lent, ms(clock)).with_ahead(ms(ahead))
        };
        let mut issuers: Vec<(Generator, u64, u32)> = Vec::new();
        for clock in clocks {
            let worker = (0..4).find(|number| !cell.held.contains(number)).expect("a number");
            issuers.push((begin(&mut cell, wall, clock), 0, worker));
        }
        let mut all = BTreeSet::new();
        for step in steps {
            match step {
                Step::Make(who, count) => {
                    let (generator, last, _) = &mut issuers[who];
                    for _ in 0..count {
                        let Ok(id) = generator.next(ms(clocks[who])) else { break };
                        prop_assert!(all.insert(id), "{id} twice");
                        prop_assert!(id > *last, "{id} after {last}");
                        *last = id;
                    }
                }
                Step::Renew(who) => {
                    let (generator, _, worker) = &mut issuers[who];
                    let lent = cell.lend(wall, 10, Some(*worker)).expect("its own number");
                    generator.renew(lent, ms(clocks[who]));
                }
                Step::Restart(who) => {
                    cell.held.remove(&issuers[who].2);
                    let worker = (0..4).find(|number| !cell.held.contains(number)).expect("a number");
                    issuers[who] = (begin(&mut cell, wall, clocks[who]), 0, worker);
                }
                Step::Pass(time) => {
                    wall += u64::from(time);
                    for clock in &mut clocks {
                        *clock += u64::from(time);
                    }
                }
                Step::ClockBack(who) => clocks[who] -= clocks[who].min(500),
            }
        }
    }
}
