//! KV1, KV2, KV4, KV6, KV8, E1, C3: each answer is what the history says at the answer's own revision, and none goes back behind what anybody had
//! seen before it was asked.

use super::{ASIDE, Verdict};
use crate::faults::history::Record;
use sim::recorded::{Change, Check, Model};
use std::collections::{BTreeMap, BTreeSet};

/// Compares every answer.
pub fn check(records: &[Record], model: &Model, verdict: &mut Verdict) {
    let seen = Seen::of(records);
    let mut by_value: BTreeMap<&[u8], BTreeSet<i64>> = BTreeMap::new();
    let written = |change: &&Change| !change.deleted && change.kv.key != ASIDE;
    for change in model.changes().iter().filter(written) {
        by_value
            .entry(&change.kv.value)
            .or_default()
            .insert(change.revision);
    }
    for record in records.iter().filter(|record| !record.outcome.is_empty()) {
        let checked = match record.outcome.as_str() {
            "ok" => check_answer(record, model).and_then(|()| check_floor(record, &seen)),
            "refused" => check_refused(record, &by_value),
            _ => Ok(()),
        };
        verdict.note(
            checked.map_err(|(property, text)| (property, format!("{text}; {}", short(record)))),
        );
    }
    verdict.note(check_values(records, &by_value));
}

/// The newest revision that anybody had seen, by time.
struct Seen(Vec<(u64, i64)>);

impl Seen {
    fn of(records: &[Record]) -> Seen {
        let told = records
            .iter()
            .filter(|r| r.ok() || matches!(r.kind.as_str(), "events" | "progress"));
        let mut seen: Vec<(u64, i64)> = told.map(|r| (r.returned, r.revision)).collect();
        seen.sort_unstable();
        let mut newest = 0;
        for (_, revision) in &mut seen {
            newest = newest.max(*revision);
            *revision = newest;
        }
        Seen(seen)
    }

    fn before(&self, at: u64) -> i64 {
        let count = self.0.partition_point(|(returned, _)| *returned < at);
        count.checked_sub(1).map_or(0, |last| self.0[last].1)
    }
}

fn check_floor(record: &Record, seen: &Seen) -> Check {
    let floor = seen.before(record.called);
    let reads = matches!(record.kind.as_str(), "get" | "get-pair") && !record.local;
    let stale = if record.changed() {
        record.revision <= floor
    } else {
        record.revision < floor
    };
    if (reads || record.writes()) && stale {
        return Err((
            "KV1",
            format!("revision {floor} had been seen before it was asked"),
        ));
    }
    Ok(())
}

fn check_answer(record: &Record, model: &Model) -> Check {
    let at_revision = |key: &str| model.key_at(key.as_bytes(), record.revision);
    let value_there = |key: &str| at_revision(key).map(|kv| text(&kv.value));
    let lost = |what: &str| {
        Err((
            "KV2",
            format!("it is acknowledged, and the history has no such {what}"),
        ))
    };
    if record.revision > model.revision() {
        return Err((
            "KV2",
            format!(
                "its revision is beyond the end of the history, {}",
                model.revision()
            ),
        ));
    }
    match record.kind.as_str() {
        "put" | "swap" if record.changed() => {
            let written = changes_at(model, record.revision)
                .any(|change| is_put(change, &record.key, record));
            return if written { Ok(()) } else { lost("change") };
        }
        "put-pair" => {
            let half = |half: &str| {
                let key = format!("{}{half}", record.key);
                changes_at(model, record.revision).any(|change| is_put(change, &key, record))
            };
            return if half("a") && half("b") {
                Ok(())
            } else {
                lost("change of both keys")
            };
        }
        "delete" if record.done => {
            let removed = |change: &Change| change.deleted && change.kv.key == record.key;
            if !changes_at(model, record.revision).any(removed) {
                return lost("removal");
            }
        }
        "delete" => {
            if let Some(kv) = at_revision(&record.key) {
                return Err((
                    "KV4",
                    format!("it found nothing to remove, and there was {kv:?}"),
                ));
            }
        }
        "swap" => {
            let there = value_there(&record.key);
            if there != record.found || there == record.expected {
                return Err(("KV6", format!("the history says {there:?}")));
            }
        }
        "get" => {
            let there = at_revision(&record.key);
            let same = there.as_ref().map(|kv| text(&kv.value)) == record.value
                && there.as_ref().map_or(0, |kv| kv.mod_revision) == record.modified;
            if !same {
                let property = if record.local { "KV8" } else { "KV4" };
                return Err((property, format!("the history says {there:?}")));
            }
        }
        "get-pair" => check_pair(record, &value_there)?,
        _ => {}
    }
    Ok(())
}

fn check_pair(record: &Record, value_there: &dyn Fn(&str) -> Option<String>) -> Check {
    let found = |half: &str| {
        let key = format!("{}{half}", record.key);
        let kv = record.events.iter().find(|event| event.kv.key == key);
        (kv.map(|event| event.kv.value.clone()), value_there(&key))
    };
    let ((first, first_there), (second, second_there)) = (found("a"), found("b"));
    if first != second {
        return Err((
            "KV6",
            format!("half a transaction is seen: {first:?} and {second:?}"),
        ));
    }
    if (&first, &second) != (&first_there, &second_there) {
        return Err((
            "KV4",
            format!("the history says {first_there:?} and {second_there:?}"),
        ));
    }
    Ok(())
}

fn check_refused(record: &Record, by_value: &BTreeMap<&[u8], BTreeSet<i64>>) -> Check {
    let written = record.value.as_ref().filter(|_| record.writes());
    match written.and_then(|value| by_value.get(value.as_bytes())) {
        Some(revisions) => Err((
            "E1",
            format!("it was refused, and took effect at {revisions:?}"),
        )),
        None => Ok(()),
    }
}

/// Each value was written by somebody, and by one change only.
fn check_values(records: &[Record], by_value: &BTreeMap<&[u8], BTreeSet<i64>>) -> Check {
    let wanted: BTreeSet<&[u8]> = records
        .iter()
        .filter(|r| r.writes())
        .filter_map(|r| r.value.as_deref())
        .map(str::as_bytes)
        .collect();
    for (value, revisions) in by_value {
        let value_text = String::from_utf8_lossy(value);
        if !wanted.contains(value) {
            return Err((
                "C3",
                format!("{value_text:?} of revisions {revisions:?} was written by nobody"),
            ));
        }
        if revisions.len() > 1 {
            return Err((
                "E1",
                format!("the write of {value_text:?} took effect at {revisions:?}"),
            ));
        }
    }
    Ok(())
}

fn changes_at(model: &Model, revision: i64) -> impl Iterator<Item = &Change> {
    let changes = model.changes();
    let first = changes.partition_point(|change| change.revision < revision);
    changes[first..]
        .iter()
        .take_while(move |change| change.revision == revision)
}

fn is_put(change: &Change, key: &str, record: &Record) -> bool {
    let value = record.value.as_deref().unwrap_or_default();
    !change.deleted
        && change.kv.key == *key
        && change.kv.value == *value
        && change.kv.lease == record.lease
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A record without what says nothing.
pub fn short(record: &Record) -> String {
    let Record {
        kind,
        key,
        value,
        called,
        returned,
        client,
        member,
        revision,
        ..
    } = record;
    format!(
        "{kind} {key:?} {value:?} by client {client} at n{}, {called} to {returned} us, revision {revision}",
        member + 1
    )
}
