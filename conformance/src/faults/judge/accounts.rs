//! KV3, KV5, W9: the members' own accounts of all changes are one history, and their hashes are equal.

use super::Verdict;
use crate::faults::history::Record;
use sim::recorded::{Change, Model};

/// The longest account as a model, once all agree as far as they go.
pub fn compare(records: &[Record], verdict: &mut Verdict) -> Result<Model, (&'static str, String)> {
    for record in records.iter().filter(|record| record.kind == "no-account") {
        let text = format!(
            "n{} does not answer in the end: {}",
            record.member + 1,
            record.error
        );
        verdict.note(Err(("V1", text)));
    }
    let told: Vec<&Record> = records.iter().filter(|r| r.kind == "account").collect();
    let Some(longest) = told.iter().max_by_key(|record| record.revision) else {
        return Err(("V1", "no member gives an account of its changes".into()));
    };
    for record in &told {
        verdict.note(agree(record, longest));
    }
    let changes: Vec<Change> = longest
        .events
        .iter()
        .map(|event| event.to_change())
        .collect();
    Model::replay(changes)
}

fn agree(one: &Record, other: &Record) -> Result<(), (&'static str, String)> {
    let (name, other_name) = (one.member + 1, other.member + 1);
    if one.start == other.start && one.hash != other.hash {
        let text = format!(
            "at revision {} the hash of n{name} is {:x} and that of n{other_name} {:x}",
            one.start, one.hash, other.hash
        );
        return Err(("KV5", text));
    }
    for (at, event) in one.events.iter().enumerate() {
        let same = other
            .events
            .get(at)
            .is_some_and(|theirs| theirs.to_change() == event.to_change());
        if !same {
            let text = format!(
                "change {at} is {event:?} on n{name} and {:?} on n{other_name}",
                other.events.get(at)
            );
            return Err(("KV5", text));
        }
    }
    Ok(())
}
