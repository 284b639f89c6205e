//! KV1 without trust in any revision: for each key, some legal order of its operations respects real time.

use super::Verdict;
use super::answers::short;
use crate::faults::history::Record;
use sim::linearizability::{self, Action, Operation, Value};
use sim::recorded::Model;
use std::collections::{BTreeMap, BTreeSet};

/// Steps the search may take per key.
const SEARCH_BUDGET: u64 = 400_000;

/// Searches the history of each key that only its clients change.
pub fn check(records: &[Record], model: &Model, verdict: &mut Verdict) {
    // What was written and never appeared took no effect: leaving it out keeps the search small, and a read of it is refused all the same.
    let appeared: BTreeSet<&[u8]> = model
        .changes()
        .iter()
        .map(|change| &*change.kv.value)
        .collect();
    let mut keys: BTreeMap<&str, Vec<(&Record, Operation)>> = BTreeMap::new();
    for record in records.iter().filter(|record| record.key.starts_with('k')) {
        let effective = record.ok()
            || record
                .value
                .as_ref()
                .is_none_or(|value| appeared.contains(value.as_bytes()));
        if let Some(operation) = operation(record).filter(|_| effective) {
            keys.entry(&record.key)
                .or_default()
                .push((record, operation));
        }
    }
    for (key, history) in keys {
        let operations: Vec<Operation> = history.iter().map(|(_, operation)| *operation).collect();
        verdict.keys += 1;
        match linearizability::check(None, &operations, SEARCH_BUDGET) {
            linearizability::Verdict::Linearizable => {}
            linearizability::Verdict::Undecided => verdict.undecided += 1,
            linearizability::Verdict::Violation { stuck } => {
                let stuck: Vec<String> = stuck.iter().map(|at| short(history[*at].0)).collect();
                let text = format!(
                    "the history of {key:?} has no legal order; none can go on with any of {stuck:?}"
                );
                verdict.note(Err(("KV1", text)));
            }
        }
    }
}

fn operation(record: &Record) -> Option<Operation> {
    let number = |value: &Option<String>| -> Value { value.as_ref()?.parse().ok() };
    let (expected, value) = (number(&record.expected), number(&record.value));
    let action = match (record.kind.as_str(), record.outcome.as_str()) {
        (_, "refused") => return None,
        ("put", _) => Action::Write(value),
        ("swap", "ok") if !record.done => Action::SwapRefused {
            expected,
            found: number(&record.found),
        },
        ("swap", _) => Action::Swap {
            expected,
            new: value,
        },
        ("delete", "ok") => Action::Delete {
            existed: record.done,
        },
        ("delete", _) => Action::Write(None),
        ("get", "ok") if !record.local => Action::Read(value),
        _ => return None,
    };
    Some(Operation {
        called: record.called,
        returned: record.ok().then_some(record.returned),
        action,
    })
}
