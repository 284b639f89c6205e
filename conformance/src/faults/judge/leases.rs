//! L1, L2, L4, L5 by what clients saw: a lease's keys go together, not before its time to live has passed since it was last heard of, and not long
//! after.
//!
//! When a batch was formed is not known here, only between which moments. L1 is judged with the earliest moment of the last acknowledged renewal and the
//! latest of the end, L2 the other way round, so that nothing is called broken that may have been well.

use super::Verdict;
use crate::faults::history::Record;
use sim::recorded::{Check, Expiry, Lease, Leases, Model};
use std::collections::{BTreeMap, BTreeSet};

/// A time without an acknowledged change that counts as time without a leader.
const LEADERLESS_MICROS: u64 = 300_000;

/// What a change of leaders may cost the replicated clock: the new one goes on from the last batch, and the old leader made one at least this often.
const CHANGE_MICROS: u64 = 600_000;

/// Judges each lease that had keys.
pub fn check(records: &[Record], model: &Model, ends_in_time: bool, verdict: &mut Verdict) {
    let oracle = watch_leaders(records);
    let shown = first_shown(records);
    let until = records
        .iter()
        .filter(|r| r.key == "kend" && r.ok())
        .map(|r| r.called)
        .max();
    for mut life in lives(records).into_values() {
        life.uncertain |= !ends_in_time;
        let Some(end) = end_of(&life, model, &shown) else {
            continue;
        };
        let judged = life.judge(&end, oracle.clone(), until);
        verdict.leases += 1;
        verdict.note(
            judged.map_err(|(property, text)| (property, format!("lease {:x}: {text}", life.id))),
        );
    }
}

/// What clients did with one lease.
#[derive(Default)]
struct Life {
    id: i64,
    ttl: u64,
    /// Call and return of the grant and of each acknowledged renewal.
    heard: Vec<(u64, u64)>,
    /// A renewal or a revocation has an unknown outcome, or it was revoked: its end is not by time, or nobody knows since when.
    uncertain: bool,
    revoked: bool,
    /// A client was told that it is gone.
    told_gone: Option<u64>,
}

/// How a lease ended.
struct End {
    /// Revisions at which its keys went.
    revisions: BTreeSet<i64>,
    /// Some of its keys are still there.
    lives: bool,
    /// When somebody first saw that it had.
    seen: Option<u64>,
}

fn lives(records: &[Record]) -> BTreeMap<i64, Life> {
    let mut lives: BTreeMap<i64, Life> = BTreeMap::new();
    for record in records
        .iter()
        .filter(|record| record.kind == "grant" && record.ok())
    {
        let heard = vec![(record.called, record.returned)];
        lives.insert(
            record.lease,
            Life {
                id: record.lease,
                ttl: record.ttl,
                heard,
                ..Life::default()
            },
        );
    }
    for record in records {
        let Some(life) = lives.get_mut(&record.lease) else {
            continue;
        };
        match (record.kind.as_str(), record.outcome.as_str()) {
            ("renew", "ok") => life.heard.push((record.called, record.returned)),
            ("renew", "refused") if record.error.contains("lease not found") => {
                let told = life.told_gone.unwrap_or(u64::MAX);
                life.told_gone = Some(told.min(record.returned));
            }
            ("renew", _) => life.uncertain = true,
            ("revoke", "ok" | "unknown") => life.revoked = true,
            _ => {}
        }
    }
    lives
}

/// When any watch first showed each revision.
fn first_shown(records: &[Record]) -> BTreeMap<i64, u64> {
    let mut shown = BTreeMap::new();
    for record in records.iter().filter(|record| record.kind == "events") {
        for event in &record.events {
            let at = shown.entry(event.kv.modified).or_insert(u64::MAX);
            *at = record.called.min(*at);
        }
    }
    shown
}

/// How the lease ended; `None` if it never had keys that anybody would have missed.
fn end_of(life: &Life, model: &Model, shown: &BTreeMap<i64, u64>) -> Option<End> {
    let attached: BTreeSet<_> = model
        .changes()
        .iter()
        .filter(|change| change.kv.lease == life.id)
        .map(|change| &change.kv.key)
        .collect();
    let gone =
        |change: &&sim::recorded::Change| change.deleted && attached.contains(&change.kv.key);
    let removals: Vec<i64> = model
        .changes()
        .iter()
        .filter(gone)
        .map(|change| change.revision)
        .collect();
    let revisions: BTreeSet<i64> = removals.iter().copied().collect();
    let seen = revisions
        .iter()
        .filter_map(|revision| shown.get(revision).copied())
        .chain(life.told_gone)
        .min();
    (!attached.is_empty()).then_some(End {
        lives: removals.len() < attached.len(),
        revisions,
        seen,
    })
}

impl Life {
    fn judge(&self, end: &End, mut oracle: Leases, until: Option<u64>) -> Check {
        if end.revisions.len() > 1 || end.lives && !end.revisions.is_empty() {
            return Err((
                "L4",
                format!(
                    "its keys went at revisions {:?}, some stayed: {}",
                    end.revisions, end.lives
                ),
            ));
        }
        if self.revoked {
            return Ok(());
        }
        let (first, last) = self.heard.iter().fold((0, 0), |(called, returned), heard| {
            (heard.0.max(called), heard.1.max(returned))
        });
        if let Some(seen) = end.seen {
            if first > seen {
                return Err((
                    "L5",
                    format!(
                        "a renewal called at {first} us was acknowledged, and its end had been seen at {seen} us"
                    ),
                ));
            }
            oracle.on_expiry(
                &Expiry {
                    id: self.id,
                    lease: self.lease(first),
                },
                seen,
            )?;
        }
        match end.seen.filter(|_| !end.lives).or(until) {
            Some(at) if !self.uncertain => oracle.check_age(self.id, &self.lease(last), at),
            _ => Ok(()),
        }
    }

    fn lease(&self, renewed_at: u64) -> Lease {
        Lease {
            ttl_ms: self.ttl * 1000,
            deadline_ms: 0,
            renewed_at,
        }
    }
}

/// The oracle, told when nobody led and who came to lead.
fn watch_leaders(records: &[Record]) -> Leases {
    let mut oracle = Leases::default();
    let mut told: Vec<&Record> = records.iter().filter(|record| record.ok()).collect();
    told.sort_by_key(|record| record.returned);
    let (mut before, mut term) = (None, 0);
    for record in told {
        if record.term > term {
            term = record.term;
            oracle.on_change(record.returned, CHANGE_MICROS);
        }
        if record.changed() {
            let led = before.is_none_or(|before| record.returned - before <= LEADERLESS_MICROS);
            oracle.sample(record.returned, led, true);
            before = Some(record.returned);
        }
    }
    oracle
}
