//! V1: once everything is healed, service resumes within the promised time.

use super::{Promise, Verdict};
use crate::faults::history::Record;
use std::collections::BTreeMap;
use std::time::Duration;

/// The text of a mark that says: from here on nothing is broken.
pub const HEALED: &str = "healed";

/// Finds the first acknowledged change after each healing, at any member and at each.
pub fn check(records: &[Record], promise: Promise, verdict: &mut Verdict) {
    let mut changes: Vec<&Record> = records.iter().filter(|record| record.changed()).collect();
    changes.sort_by_key(|record| record.returned);
    let gaps = changes
        .windows(2)
        .map(|pair| pair[1].returned - pair[0].returned);
    verdict.gap = Duration::from_micros(gaps.max().unwrap_or(0));
    let marks: Vec<&Record> = records
        .iter()
        .filter(|record| record.kind == "mark")
        .collect();
    for (at, mark) in marks
        .iter()
        .enumerate()
        .filter(|(_, mark)| mark.key.starts_with(HEALED))
    {
        let until = marks.get(at + 1).map_or(u64::MAX, |next| next.called);
        let after: Vec<&&Record> = changes
            .iter()
            .filter(|record| record.called >= mark.called && record.called < until)
            .collect();
        let first = after
            .first()
            .map(|record| Duration::from_micros(record.returned - mark.called));
        let mut members: BTreeMap<i64, Duration> = BTreeMap::new();
        for record in after.iter().filter(|record| record.key.starts_with('p')) {
            members
                .entry(record.member)
                .or_insert(Duration::from_micros(record.returned - mark.called));
        }
        let count = records
            .iter()
            .filter(|r| r.key.starts_with('p'))
            .map(|r| r.member + 1)
            .max()
            .unwrap_or(0);
        let slowest = (0..count)
            .map(|member| members.get(&member).copied().unwrap_or(Duration::MAX))
            .max();
        let (cluster, member) = (
            first.unwrap_or(Duration::MAX),
            slowest.unwrap_or(Duration::MAX),
        );
        for (took, limit, who) in [
            (cluster, promise.cluster, "the cluster"),
            (member, promise.member, "the slowest member"),
        ] {
            if took > limit {
                let took = if took == Duration::MAX {
                    "never again".into()
                } else {
                    format!("after {took:?}")
                };
                let text = format!(
                    "{who} acknowledged a change {took}, {limit:?} are promised; {} at {} us",
                    mark.key, mark.called
                );
                verdict.note(Err(("V1", text)));
            }
        }
        verdict.resumed.push((cluster, member));
    }
}
