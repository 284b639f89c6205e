//! The log against a plain list of terms.

use super::*;
use bytes::Bytes;
use proptest::prelude::*;

fn entry(index: u64, term: u64) -> Entry {
    Entry {
        index: Index(index),
        term: Term(term),
        payload: Payload::Batch(Bytes::from_static(b"0123456789")),
    }
}

fn log_of(terms: &[u64]) -> Log {
    let mut log = Log::new(Position::default(), &[], Index(0), usize::MAX);
    for (nth, &term) in terms.iter().enumerate() {
        log.append(entry(nth as u64 + 1, term));
    }
    log
}

#[derive(Clone, Debug)]
enum Step {
    Append { term_step: u64 },
    Truncate { part: u64 },
    Compact { part: u64 },
    Evict,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0u64..3).prop_map(|term_step| Step::Append { term_step: term_step.saturating_sub(1) }),
        1 => (0u64..100).prop_map(|part| Step::Truncate { part }),
        1 => (0u64..100).prop_map(|part| Step::Compact { part }),
        1 => Just(Step::Evict),
    ];
    prop::collection::vec(step, 1..80)
}

proptest! {
    #[test]
    fn terms_are_those_of_a_plain_list(steps in steps()) {
        let mut log = Log::new(Position::default(), &[], Index(0), 200);
        // Terms of indexes 0, 1, 2, …; those before `base` are forgotten.
        let mut terms = vec![0u64];
        let mut base = 0usize;
        for step in steps {
            let last = terms.len() - 1;
            match step {
                Step::Append { term_step } => {
                    let term = terms[last].max(1) + term_step;
                    log.append(entry(last as u64 + 1, term));
                    terms.push(term);
                }
                Step::Truncate { part } if last > base => {
                    let from = base + 1 + part as usize % (last - base);
                    log.truncate(Index(from as u64));
                    terms.truncate(from);
                }
                Step::Compact { part } => {
                    base += part as usize % (last - base + 1);
                    log.compact(Index(base as u64));
                }
                Step::Evict => log.evict(log.last(), log.last()),
                Step::Truncate { .. } => {}
            }
            prop_assert_eq!(log.last(), Index(terms.len() as u64 - 1));
            prop_assert_eq!(log.last_term(), Term(*terms.last().unwrap()));
            for (index, &term) in terms.iter().enumerate() {
                let expected = (index >= base).then_some(Term(term));
                prop_assert_eq!(log.term_at(Index(index as u64)), expected, "term at {}", index);
            }
            prop_assert_eq!(log.term_at(log.last().next()), None);
            let weighed: usize = log.cache.iter().map(weight).sum();
            prop_assert_eq!(weighed, log.cache_bytes);
        }
    }

    #[test]
    fn agreeable_is_the_newest_that_fits(
        term_steps in prop::collection::vec(0u64..2, 1..30), limit_index in 0u64..40, limit_term in 0u64..20,
    ) {
        let terms: Vec<u64> = term_steps.iter().scan(1, |term, step| { *term += step; Some(*term) }).collect();
        let log = log_of(&terms);
        let found = log.last_agreeable(Position { index: Index(limit_index), term: Term(limit_term) });
        let by_hand = (0..=limit_index.min(terms.len() as u64))
            .rev()
            .find(|&index| index == 0 || terms[index as usize - 1] <= limit_term)
            .unwrap();
        prop_assert_eq!(found.index, Index(by_hand));
        prop_assert_eq!(Some(found.term), log.term_at(found.index));
    }
}

#[test]
fn slice_is_bounded_and_gives_at_least_one() {
    let log = log_of(&[1, 1, 1, 1]);
    let one = weight(&entry(1, 1));
    assert_eq!(log.slice(Index(2), Index(4), 1).unwrap().len(), 1);
    assert_eq!(log.slice(Index(2), Index(4), 2 * one).unwrap().len(), 2);
    assert_eq!(log.slice(Index(2), Index(3), usize::MAX).unwrap().len(), 2);
}

#[test]
fn slice_says_where_missing_entries_are() {
    let mut log = log_of(&[1, 1, 1, 1]);
    log.cache_bytes_max = 2 * weight(&entry(1, 1));
    log.evict(Index(4), Index(0));
    assert_eq!(log.slice(Index(1), Index(4), 100), Err(Missing::Evicted));
    assert_eq!(
        log.slice(Index(3), Index(3), 100).unwrap()[0].index,
        Index(3)
    );
    log.compact(Index(1));
    assert_eq!(log.slice(Index(1), Index(4), 100), Err(Missing::Compacted));
    assert_eq!(log.slice(Index(2), Index(4), 100), Err(Missing::Evicted));
}

#[test]
fn evict_keeps_what_it_is_told_to_keep() {
    let mut log = log_of(&[1, 1, 1, 1]);
    log.cache_bytes_max = 0;
    log.evict(Index(2), Index(2));
    assert_eq!(log.cached(Index(2)), None);
    assert!(
        log.cached(Index(3)).is_some(),
        "entry 3 may be uncommitted and must stay"
    );
}

#[test]
fn evict_keeps_little_of_what_all_followers_have() {
    let mut log = log_of(&[]);
    let payload = Payload::Batch(vec![0; RECENT_BYTES / 4].into());
    for index in 1..=12 {
        log.append(Entry {
            payload: payload.clone(),
            ..entry(index, 1)
        });
    }
    let all = log.cache_bytes;
    log.cache_bytes_max = all;
    log.evict(Index(12), Index(0));
    assert_eq!(log.cache_bytes, all, "followers wait for all of it");
    log.evict(Index(12), Index(6));
    assert!(log.cached(Index(6)).is_none() && log.cached(Index(7)).is_some());
    log.evict(Index(12), Index(12));
    assert!(log.cache_bytes <= RECENT_BYTES, "{}", log.cache_bytes);
    assert!(log.cached(Index(12)).is_some(), "the newest stay");
}

#[test]
#[should_panic(expected = "log gap: entry 3 after 1")]
fn a_gap_is_a_bug() {
    log_of(&[1]).append(entry(3, 1));
}

#[test]
#[should_panic(expected = "log term regression 2 → 1 at 2")]
fn a_falling_term_is_a_bug() {
    log_of(&[2]).append(entry(2, 1));
}
