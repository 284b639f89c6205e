//! Holds a recorded history against what Synod promises, with the simulator's own oracles: the store's model, the search for a linearization, the
//! watch oracle and the lease oracle. Knows nothing of how the history came about.
//!
//! Everything starts from the accounts that members give of themselves at the end: every change since the beginning. They must be equal, and a
//! history at all; then each answer, watch and lease is compared with them.

mod accounts;
mod answers;
mod leases;
mod order;
mod service;
#[cfg(test)]
mod tests;
mod watches;

use crate::faults::history::Record;
pub use service::HEALED;
use sim::recorded::{Check, Model};
use std::time::Duration;

/// The key that scenarios write themselves, beside the load.
pub const ASIDE: &str = "aside";

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Finding {
    /// By its name in PROPERTIES.
    pub property: &'static str,
    /// What was seen.
    pub text: String,
}

/// What came of a history.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Everything that must not be; empty for a good history.
    pub findings: Vec<Finding>,
    /// Operations answered.
    pub answered: usize,
    /// Changes of unknown outcome.
    pub unknown: usize,
    /// Operations that were refused.
    pub refused: usize,
    /// Keys whose history was searched.
    pub keys: usize,
    /// Of them, those whose search was given up.
    pub undecided: usize,
    /// Events that watches showed.
    pub events: u64,
    /// Leases whose end was judged.
    pub leases: usize,
    /// The newest revision.
    pub revision: i64,
    /// The longest time without an acknowledged change.
    pub gap: Duration,
    /// For each time everything was healed: how long until the cluster, and until every member, acknowledged a change.
    pub resumed: Vec<(Duration, Duration)>,
}

/// What depends on the product.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// So long after a healing some member acknowledges a change.
    pub cluster: Duration,
    /// And every member.
    pub member: Duration,
    /// Leases end in time (L2). etcd gives each lease its whole time anew when the leader changes.
    pub leases_end: bool,
}

impl Verdict {
    fn note(&mut self, check: Check) {
        if let Err((property, text)) = check {
            self.findings.push(Finding { property, text });
        }
    }
}

/// Judges a history.
pub fn judge(records: &[Record], promise: Promise) -> Verdict {
    let mut verdict = Verdict::default();
    let operations = |outcome: &str| records.iter().filter(|r| r.outcome == outcome).count();
    (verdict.answered, verdict.refused) = (operations("ok"), operations("refused"));
    verdict.unknown = records
        .iter()
        .filter(|record| record.writes() && record.outcome == "unknown")
        .count();
    if verdict.answered == 0 {
        verdict.note(Err(("V1", "nothing was ever answered".into())));
    }
    let model = match accounts::compare(records, &mut verdict) {
        Ok(model) => model,
        Err(broken) => {
            verdict.note(Err(broken));
            Model::new()
        }
    };
    verdict.revision = model.revision();
    answers::check(records, &model, &mut verdict);
    order::check(records, &model, &mut verdict);
    watches::check(records, &model, &mut verdict);
    leases::check(records, &model, promise.leases_end, &mut verdict);
    service::check(records, promise, &mut verdict);
    verdict
}
