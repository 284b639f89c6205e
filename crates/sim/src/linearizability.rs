//! Decides whether the history of one key is linearizable: the search of Wing and Gong with the memory of Lowe ("Testing for
//! linearizability", 2017). Knows nothing of the simulator.
//!
//! Linearizability is local (Herlihy and Wing): a history is linearizable if each key's part is, so callers split by key. An operation whose
//! outcome is unknown may take effect once at any time after its call, or never.

use std::collections::BTreeSet;

/// A value of a key: a number unique to the write that made it. `None`: the key is absent.
pub type Value = Option<u64>;

/// What an operation did to the key, and what it saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Saw this value.
    Read(Value),
    /// Set this value (`None`: removed the key), whatever was there.
    Write(Value),
    /// Removed the key if it was there and saw whether it was.
    Delete {
        /// It was there.
        existed: bool,
    },
    /// Set `new` because the key was `expected`.
    Swap {
        /// What had to be there.
        expected: Value,
        /// What is there now.
        new: Value,
    },
    /// Found another value than the expected one, and changed nothing.
    SwapRefused {
        /// What had to be there.
        expected: Value,
        /// What was there.
        found: Value,
    },
    /// Found another value than the expected one, which is not told, and changed nothing.
    Refused {
        /// What had to be there.
        expected: Value,
    },
}

impl Action {
    /// The value after the action on `before`; `None` if what it saw contradicts `before`.
    fn apply(self, before: Value) -> Option<Value> {
        match self {
            Action::Read(seen) => (seen == before).then_some(before),
            Action::Write(value) => Some(value),
            Action::Delete { existed } => (existed == before.is_some()).then_some(None),
            Action::Swap { expected, new } => (expected == before).then_some(new),
            Action::SwapRefused { expected, found } => {
                (found == before && expected != before).then_some(before)
            }
            Action::Refused { expected } => (expected != before).then_some(before),
        }
    }
}

/// One operation of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// When it was called.
    pub called: u64,
    /// When it returned; `None`: nobody knows whether it took effect.
    pub returned: Option<u64>,
    /// What it did.
    pub action: Action,
}

/// What the search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Some legal order respects real time.
    Linearizable,
    /// None does. Names the operations (by position in the history) that could not be placed at the farthest point reached.
    Violation {
        /// They.
        stuck: Vec<usize>,
    },
    /// The search was given up after its budget.
    Undecided,
}

/// Checks the history of one key that starts with `initial`. `budget` bounds the steps of the search.
pub fn check(initial: Value, history: &[Operation], budget: u64) -> Verdict {
    Search::new(initial, history).run(budget)
}

/// A set of operations. What is not placed is few: calls under way, and those whose outcome nobody knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Placed {
    /// One more than the last that is placed (positions are by call).
    end: usize,
    /// Which before it are not, ascending.
    missing: Vec<usize>,
}

impl Placed {
    /// With this one more, which is not placed yet.
    fn with(&self, position: usize) -> Placed {
        let mut next = self.clone();
        if position < self.end {
            next.missing.retain(|missing| *missing != position);
        } else {
            next.missing.extend(self.end..position);
            next.end = position + 1;
        }
        next
    }

    /// Those of the first `count` operations that are not placed, ascending.
    fn rest(&self, count: usize) -> impl Iterator<Item = usize> + '_ {
        self.missing.iter().copied().chain(self.end..count)
    }
}

/// A point the search has reached.
struct Point {
    placed: Placed,
    value: Value,
    /// What may come next, the first to be tried last.
    candidates: Vec<usize>,
}

struct Search<'a> {
    history: &'a [Operation],
    /// Positions in `history`, ordered by call.
    order: Vec<usize>,
    initial: Value,
}

impl<'a> Search<'a> {
    fn new(initial: Value, history: &'a [Operation]) -> Search<'a> {
        let mut order: Vec<usize> = (0..history.len()).collect();
        order.sort_by_key(|position| (history[*position].called, *position));
        Search {
            history,
            order,
            initial,
        }
    }

    /// Depth first over (what is placed, the value then); a pair seen once is never searched again.
    fn run(&self, budget: u64) -> Verdict {
        let start = self.point(Placed::default(), self.initial);
        if self.complete(&start.placed) {
            return Verdict::Linearizable;
        }
        let mut seen = BTreeSet::from([(start.placed.clone(), start.value)]);
        let mut farthest = start.placed.clone();
        let mut path = vec![start];
        let mut steps = 0;
        while let Some(point) = path.last_mut() {
            let Some(candidate) = point.candidates.pop() else {
                path.pop();
                continue;
            };
            steps += 1;
            if steps > budget {
                return Verdict::Undecided;
            }
            let Some(after) = self.at(candidate).action.apply(point.value) else {
                continue;
            };
            let placed = point.placed.with(candidate);
            if self.complete(&placed) {
                return Verdict::Linearizable;
            }
            if placed.end > farthest.end {
                farthest = placed.clone();
            }
            if seen.insert((placed.clone(), after)) {
                path.push(self.point(placed, after));
            }
        }
        let stuck = self
            .candidates(&farthest)
            .into_iter()
            .map(|position| self.order[position])
            .collect();
        Verdict::Violation { stuck }
    }

    fn point(&self, placed: Placed, value: Value) -> Point {
        let mut candidates = self.candidates(&placed);
        candidates.reverse();
        Point {
            placed,
            value,
            candidates,
        }
    }

    fn at(&self, position: usize) -> &Operation {
        &self.history[self.order[position]]
    }

    fn complete(&self, placed: &Placed) -> bool {
        placed
            .rest(self.order.len())
            .all(|position| self.at(position).returned.is_none())
    }

    /// Operations that may come next: not placed, and called before every other unplaced one returned. Those that must
    /// happen come before those that may.
    fn candidates(&self, placed: &Placed) -> Vec<usize> {
        let mut deadline = u64::MAX;
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for position in placed.rest(self.order.len()) {
            let operation = self.at(position);
            if operation.called > deadline {
                break;
            }
            match operation.returned {
                Some(returned) => {
                    deadline = deadline.min(returned);
                    known.push(position);
                }
                None => unknown.push(position),
            }
        }
        known.append(&mut unknown);
        known.retain(|position| self.at(*position).called <= deadline);
        known
    }
}

#[cfg(test)]
mod tests {
    use super::Action::*;
    use super::*;

    fn op(called: u64, returned: u64, action: Action) -> Operation {
        Operation {
            called,
            returned: Some(returned),
            action,
        }
    }

    fn unknown(called: u64, action: Action) -> Operation {
        Operation {
            called,
            returned: None,
            action,
        }
    }

    #[track_caller]
    fn good(history: &[Operation]) {
        assert_eq!(check(None, history, 1 << 20), Verdict::Linearizable);
    }

    #[track_caller]
    fn bad(history: &[Operation]) {
        assert!(
            matches!(check(None, history, 1 << 20), Verdict::Violation { .. }),
            "accepted: {history:?}"
        );
    }

    #[test]
    fn an_empty_history_is_linearizable() {
        good(&[]);
    }

    #[test]
    fn a_read_sees_the_last_write() {
        good(&[op(0, 1, Write(Some(1))), op(2, 3, Read(Some(1)))]);
        bad(&[op(0, 1, Write(Some(1))), op(2, 3, Read(None))]);
        bad(&[
            op(0, 1, Write(Some(1))),
            op(2, 3, Write(Some(2))),
            op(4, 5, Read(Some(1))),
        ]);
    }

    #[test]
    fn a_read_beside_a_write_sees_either() {
        good(&[
            op(0, 10, Write(Some(1))),
            op(2, 3, Read(None)),
            op(4, 5, Read(Some(1))),
        ]);
        // Herlihy and Wing: once seen, never unseen.
        bad(&[
            op(0, 10, Write(Some(1))),
            op(2, 3, Read(Some(1))),
            op(4, 5, Read(None)),
        ]);
    }

    #[test]
    fn two_readers_agree_on_the_order_of_two_writes() {
        // Independent reads of independent writes, on one key: the second pair contradicts the first.
        bad(&[
            op(0, 100, Write(Some(1))),
            op(0, 100, Write(Some(2))),
            op(10, 11, Read(Some(1))),
            op(12, 13, Read(Some(2))),
            op(14, 15, Read(Some(1))),
        ]);
        good(&[
            op(0, 100, Write(Some(1))),
            op(0, 100, Write(Some(2))),
            op(10, 11, Read(Some(1))),
            op(12, 13, Read(Some(2))),
        ]);
    }

    #[test]
    fn an_unknown_write_may_come_late_or_never() {
        good(&[unknown(0, Write(Some(1))), op(5, 6, Read(None))]);
        good(&[
            unknown(0, Write(Some(1))),
            op(5, 6, Read(None)),
            op(7, 8, Read(Some(1))),
        ]);
        bad(&[
            unknown(0, Write(Some(1))),
            op(5, 6, Read(Some(1))),
            op(7, 8, Read(None)),
        ]);
        bad(&[op(5, 6, Read(Some(1))), unknown(7, Write(Some(1)))]);
    }

    #[test]
    fn an_unknown_write_takes_effect_once() {
        bad(&[
            unknown(0, Write(Some(1))),
            op(1, 2, Read(Some(1))),
            op(3, 4, Write(Some(2))),
            op(5, 6, Read(Some(2))),
            op(7, 8, Read(Some(1))),
        ]);
    }

    #[test]
    fn a_swap_needs_what_it_expected() {
        good(&[
            op(0, 1, Write(Some(1))),
            op(
                2,
                3,
                Swap {
                    expected: Some(1),
                    new: Some(2),
                },
            ),
            op(4, 5, Read(Some(2))),
        ]);
        bad(&[
            op(0, 1, Write(Some(1))),
            op(
                2,
                3,
                Swap {
                    expected: Some(9),
                    new: Some(2),
                },
            ),
        ]);
        // A lost update: both swaps from the same value succeed.
        bad(&[
            op(0, 1, Write(Some(1))),
            op(
                2,
                9,
                Swap {
                    expected: Some(1),
                    new: Some(2),
                },
            ),
            op(
                2,
                9,
                Swap {
                    expected: Some(1),
                    new: Some(3),
                },
            ),
        ]);
        good(&[
            op(0, 1, Write(Some(1))),
            op(
                2,
                9,
                Swap {
                    expected: Some(1),
                    new: Some(2),
                },
            ),
            op(
                2,
                9,
                SwapRefused {
                    expected: Some(1),
                    found: Some(2),
                },
            ),
        ]);
        bad(&[
            op(0, 1, Write(Some(1))),
            op(
                2,
                9,
                SwapRefused {
                    expected: Some(1),
                    found: Some(1),
                },
            ),
        ]);
    }

    #[test]
    fn a_delete_sees_whether_the_key_was_there() {
        good(&[
            op(0, 1, Write(Some(1))),
            op(2, 3, Delete { existed: true }),
            op(4, 5, Delete { existed: false }),
        ]);
        bad(&[
            op(0, 1, Write(Some(1))),
            op(2, 3, Delete { existed: false }),
        ]);
        bad(&[op(0, 1, Delete { existed: true })]);
    }

    #[test]
    fn the_stuck_operation_is_named() {
        let history = [
            op(0, 1, Write(Some(1))),
            op(2, 3, Read(Some(1))),
            op(4, 5, Read(Some(7))),
        ];
        assert_eq!(
            check(None, &history, 1 << 20),
            Verdict::Violation { stuck: vec![2] }
        );
    }

    #[test]
    fn a_budget_ends_the_search() {
        let history: Vec<_> = (0..40)
            .map(|n| unknown(0, Write(Some(n))))
            .chain([op(1, 2, Read(Some(99)))])
            .collect();
        assert_eq!(check(None, &history, 1000), Verdict::Undecided);
    }

    /// Histories made by a real register are accepted, with any overlap; with one read falsified to a value overwritten before
    /// it began they are refused.
    #[test]
    fn made_histories_are_judged_rightly() {
        let mut rng = crate::rng::Rng::new(42);
        for _ in 0..100 {
            let mut value = None;
            let mut history = Vec::new();
            for moment in 1..60u64 {
                // Each takes effect at `moment * 10`, is called before and returns after.
                let (called, returned) = (
                    moment * 10 - rng.below(40).min(moment * 10),
                    moment * 10 + rng.below(40),
                );
                let action = match rng.below(4) {
                    0 => Action::Read(value),
                    1 => Action::Delete {
                        existed: value.is_some(),
                    },
                    2 => Action::Swap {
                        expected: value,
                        new: Some(moment),
                    },
                    _ => Action::Write(Some(moment)),
                };
                value = action.apply(value).unwrap();
                let returned = (!rng.chance(50)).then_some(returned);
                history.push(Operation {
                    called,
                    returned,
                    action,
                });
            }
            assert_eq!(check(None, &history, 1 << 22), Verdict::Linearizable);
            history.push(op(10_000, 10_001, Write(Some(1000))));
            history.push(op(10_002, 10_003, Read(Some(59))));
            assert_ne!(check(None, &history, 1 << 14), Verdict::Linearizable);
        }
    }
}
