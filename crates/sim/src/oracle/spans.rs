//! L5: what is told of leases and their keys is what the log says of them.

use super::{Check, broken};
use crate::model::{Applied, Model};
use state::{Command, LeaseView, Operation, Reply};
use std::collections::{BTreeMap, BTreeSet};

/// One life of a lease; an id may have several.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// The index that granted it.
    from: u64,
    /// The index that ended it.
    to: Option<u64>,
    ttl_ms: u64,
}

impl Span {
    /// It was there at some time while an index was applied, or behind it.
    fn touches(&self, index: u64) -> bool {
        self.from <= index && self.to.is_none_or(|to| to >= index)
    }

    /// It was there all the while.
    fn covers(&self, index: u64) -> bool {
        self.from < index && self.to.is_none_or(|to| to > index)
    }
}

/// The lives of all leases.
#[derive(Debug, Default)]
pub struct LeaseSpans {
    spans: BTreeMap<i64, Vec<Span>>,
}

impl LeaseSpans {
    /// A batch was decided.
    pub fn on_batch(&mut self, index: u64, applied: &Applied, commands: &[Command]) {
        for expiry in &applied.expired {
            self.end(expiry.id, index);
        }
        for (outcome, command) in applied.outcomes.iter().zip(commands) {
            match (&command.operation, &outcome.reply) {
                (_, &Reply::LeaseGrant { id, ttl_ms }) => {
                    let span = Span {
                        from: index,
                        to: None,
                        ttl_ms,
                    };
                    self.spans.entry(id).or_default().push(span);
                }
                (Some(Operation::LeaseRevoke(revoke)), Reply::LeaseRevoke) => {
                    self.end(revoke.id, index)
                }
                _ => {}
            }
        }
    }

    fn end(&mut self, id: i64, index: u64) {
        if let Some(span) = self.spans.get_mut(&id).and_then(|spans| spans.last_mut()) {
            span.to.get_or_insert(index);
        }
    }

    fn of(&self, id: i64) -> &[Span] {
        self.spans.get(&id).map_or(&[], Vec::as_slice)
    }

    /// What was told of a lease at an index, which may have been at work, and a revision.
    pub fn check_view(
        &self,
        (id, keys): (i64, bool),
        view: Option<&LeaseView>,
        (index, revision): (u64, i64),
        model: &Model,
    ) -> Check {
        let spans = self.of(id);
        let Some(view) = view else {
            if spans.iter().any(|span| span.covers(index)) {
                broken!("L5", "the lease lived {spans:?}");
            }
            return Ok(());
        };
        let mut lived = spans.iter().filter(|span| span.touches(index));
        if !lived.any(|span| span.ttl_ms == view.granted_ms) || view.id != id {
            broken!("L5", "the lease lived {spans:?}");
        }
        let expected = model.keys_of_lease(id, revision);
        if keys && view.keys != expected || !keys && !view.keys.is_empty() {
            broken!("L5", "its keys are {expected:?}");
        }
        Ok(())
    }

    /// What was told of all leases at an index, which may have been at work.
    pub fn check_list(&self, told: &[i64], index: u64) -> Check {
        if !told.is_sorted_by(|a, b| a < b) {
            broken!("L5", "one is named twice");
        }
        let told: BTreeSet<i64> = told.iter().copied().collect();
        for id in &told {
            if !self.of(*id).iter().any(|span| span.touches(index)) {
                broken!("L5", "lease {id} lived {:?}", self.of(*id));
            }
        }
        for (id, spans) in &self.spans {
            if !told.contains(id) && spans.iter().any(|span| span.covers(index)) {
                broken!("L5", "lease {id} is left out, and lived {spans:?}");
            }
        }
        Ok(())
    }
}
