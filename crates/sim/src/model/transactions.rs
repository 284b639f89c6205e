//! Transactions of the model, by the words of etcd's API: all comparisons, of inner transactions too, look at the state before; then what will run is
//! checked, in its order; then it runs, and each step sees those before it.

use super::Keys;
use super::keys::growth;
use super::space::Room;
use state::{Compare, KeyValue, Rejection, Reply, StepReply, Txn, TxnOperation, TxnReply, TxnStep};
use std::cmp::Ordering;

/// The steps of a transaction that will run.
struct Course<'a> {
    succeeded: bool,
    steps: Vec<Step<'a>>,
}

enum Step<'a> {
    Alone(&'a TxnStep),
    Inner(Course<'a>),
}

impl Course<'_> {
    /// All steps of it and of those in it, in the order in which they run.
    fn flat(&self) -> Vec<&TxnStep> {
        let steps = self.steps.iter().map(|step| match step {
            Step::Alone(step) => vec![*step],
            Step::Inner(course) => course.flat(),
        });
        steps.flatten().collect()
    }
}

impl Keys {
    /// Runs a transaction, if there is room for all that it puts.
    pub fn txn(&mut self, txn: &Txn, room: Room) -> Reply {
        if !is_whole(txn) {
            return Reply::Rejected(Rejection::Invalid(String::new()));
        }
        let course = self.course(txn, self.revision());
        let mut grows = 0;
        for step in course.flat() {
            let checked = match step {
                TxnStep::Put(put) => {
                    grows += growth(put);
                    self.check_put(put)
                }
                TxnStep::Range(range) => self.check_revision(range.revision),
                TxnStep::DeleteRange(_) | TxnStep::Txn(_) => Ok(()),
            };
            if let Err(rejection) = checked {
                return Reply::Rejected(rejection);
            }
        }
        if let Err(rejection) = room.check(self.bytes(), grows) {
            return Reply::Rejected(rejection);
        }
        let before = self.changes().len();
        let reply = self.follow_course(&course, before);
        self.end_of_command(before);
        Reply::Txn(reply)
    }

    /// What a transaction that writes nothing is told in a view, compacted or not.
    pub fn read_txn(&self, txn: &Txn, view: i64) -> TxnReply {
        self.read_course(&self.course(txn, view), view)
    }

    /// The revisions such a transaction names in the ranges that it runs in a view, in their order.
    pub fn named_revisions(&self, txn: &Txn, view: i64) -> Vec<i64> {
        let course = self.course(txn, view);
        let named = course.flat().into_iter().filter_map(|step| match step {
            TxnStep::Range(range) if range.revision > 0 => Some(range.revision),
            _ => None,
        });
        named.collect()
    }

    fn course<'a>(&self, txn: &'a Txn, view: i64) -> Course<'a> {
        let succeeded = txn.compares.iter().all(|compare| self.holds(compare, view));
        let chosen = if succeeded {
            &txn.success
        } else {
            &txn.failure
        };
        let step = |operation: &'a TxnOperation| match operation.step.as_ref() {
            Some(TxnStep::Txn(inner)) => Step::Inner(self.course(inner, view)),
            step => Step::Alone(step.expect("whole, as was checked")),
        };
        Course {
            succeeded,
            steps: chosen.iter().map(step).collect(),
        }
    }

    /// Runs what was decided on; the changes from number `before` on are its own.
    fn follow_course(&mut self, course: &Course<'_>, before: usize) -> TxnReply {
        let next = self.revision() + 1;
        let reached = |keys: &Keys| keys.revision() + i64::from(keys.changes().len() > before);
        let (mut steps, mut revisions) = (Vec::new(), Vec::new());
        for step in &course.steps {
            let (reply, inner) = match step {
                Step::Inner(course) => (StepReply::Txn(self.follow_course(course, before)), true),
                Step::Alone(step) => (self.take_step(step, next), false),
            };
            steps.push(reply);
            revisions.push(if inner { 0 } else { reached(self) });
        }
        TxnReply {
            succeeded: course.succeeded,
            steps,
            revisions,
            revision: reached(self),
        }
    }

    fn take_step(&mut self, step: &TxnStep, next: i64) -> StepReply {
        match step {
            TxnStep::Range(range) => StepReply::Range(self.range(range, next)),
            TxnStep::Put(put) => StepReply::Put {
                prev: self.set(put, next),
            },
            TxnStep::DeleteRange(delete) => {
                let gone = self.remove_range(delete, next);
                StepReply::DeleteRange {
                    deleted: gone.len() as i64,
                    prev: if delete.prev_kv { gone } else { Vec::new() },
                }
            }
            TxnStep::Txn(_) => unreachable!("an inner transaction is a course of its own"),
        }
    }

    fn read_course(&self, course: &Course<'_>, view: i64) -> TxnReply {
        let read = |step: &Step<'_>| match step {
            Step::Alone(TxnStep::Range(range)) => (StepReply::Range(self.range(range, view)), view),
            Step::Alone(step) => panic!("{step:?} writes"),
            Step::Inner(course) => (StepReply::Txn(self.read_course(course, view)), 0),
        };
        let (steps, revisions) = course.steps.iter().map(read).unzip();
        TxnReply {
            succeeded: course.succeeded,
            steps,
            revisions,
            revision: view,
        }
    }

    /// A comparison over a range holds if it holds for each of its keys; without any, if it holds for a key that is not there.
    fn holds(&self, compare: &Compare, view: i64) -> bool {
        let kvs = self.range_at(&compare.key, &compare.range_end, view);
        if kvs.is_empty() {
            // The value of a key that is not there compares with nothing.
            return compare.target != VALUE && holds_for(compare, &KeyValue::default());
        }
        kvs.iter().all(|kv| holds_for(compare, kv))
    }
}

/// etcd's number for comparisons of the value.
const VALUE: i32 = 3;

/// Numbers that the API does not know: such a target is always equal, such a result always right.
fn holds_for(compare: &Compare, kv: &KeyValue) -> bool {
    let order = match compare.target {
        0 => kv.version.cmp(&compare.number),
        1 => kv.create_revision.cmp(&compare.number),
        2 => kv.mod_revision.cmp(&compare.number),
        VALUE => kv.value.cmp(&compare.value),
        4 => kv.lease.cmp(&compare.number),
        _ => Ordering::Equal,
    };
    match compare.result {
        0 => order.is_eq(),
        1 => order.is_gt(),
        2 => order.is_lt(),
        3 => order.is_ne(),
        _ => true,
    }
}

/// Every step says what it is, and every put names a key.
fn is_whole(txn: &Txn) -> bool {
    let mut steps = txn.success.iter().chain(&txn.failure);
    steps.all(|operation| match &operation.step {
        None => false,
        Some(TxnStep::Put(put)) => !put.key.is_empty(),
        Some(TxnStep::Txn(inner)) => is_whole(inner),
        Some(TxnStep::Range(_) | TxnStep::DeleteRange(_)) => true,
    })
}
