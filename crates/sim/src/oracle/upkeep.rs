//! What members propose of their own accord: limits that were set for them, and compaction of history that is old enough, no other.

use super::{Check, broken};
use crate::clock::Micros;
use crate::model::Model;
use state::{Command, Operation};
use std::collections::BTreeSet;

/// Clocks drift by so many of a thousand at most, each way.
const DRIFT: u64 = 20;

/// What members are set to do.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// The limits on bytes, each of some member.
    pub limits: BTreeSet<u64>,
    /// How long history is kept at least; `None`: for ever.
    pub retention: Option<Micros>,
}

/// The oracle.
#[derive(Debug)]
pub struct Upkeep {
    own: Own,
    /// The revision from each time on.
    revisions: Vec<(Micros, i64)>,
}

impl Upkeep {
    /// Nothing is known yet.
    pub fn new(own: Own) -> Upkeep {
        Upkeep {
            own,
            revisions: vec![(0, 1)],
        }
    }

    /// A batch that was formed at this time led to the model's revision.
    pub fn on_batch(&mut self, formed_at: Micros, model: &Model) {
        let revision = model.revision();
        if self.revisions.last().is_none_or(|last| last.1 < revision) {
            self.revisions.push((formed_at, revision));
        }
    }

    /// A command of nobody's was decided; `false` if it is none that members propose.
    ///
    /// # Errors
    /// It is not what the members are set to do.
    pub fn on_own(
        &self,
        command: &Command,
        formed_at: Micros,
    ) -> Result<bool, (&'static str, String)> {
        match &command.operation {
            Some(Operation::SetBytesMax(set)) => {
                if !self.own.limits.contains(&set.bytes_max) {
                    broken!(
                        "limits",
                        "the limit becomes {}, which is none of {:?}",
                        set.bytes_max,
                        self.own.limits
                    );
                }
                Ok(true)
            }
            Some(Operation::AutoCompact(compact)) => {
                self.check_age(compact.revision, formed_at)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// What is much older than is kept has gone, now that nothing has been wrong for long.
    pub fn check_gone(&self, at: Micros, model: &Model) -> Check {
        let Some(retention) = self.own.retention else {
            return Ok(());
        };
        let old = self
            .revisions
            .partition_point(|(reached, _)| reached + 3 * retention < at);
        let revision = old.checked_sub(1).map_or(0, |last| self.revisions[last].1);
        if model.compacted() < revision {
            broken!(
                "retention",
                "history is compacted to {}, and {revision} was the newest {} us ago",
                model.compacted(),
                3 * retention
            );
        }
        Ok(())
    }

    /// What came after `revision` may be young; that it was the newest is long ago.
    fn check_age(&self, revision: i64, formed_at: Micros) -> Check {
        let Some(retention) = self.own.retention else {
            broken!(
                "retention",
                "history is compacted to {revision}, and is to be kept"
            );
        };
        let reached = self
            .revisions
            .partition_point(|(_, reached)| *reached < revision);
        let at = self.revisions.get(reached).map_or(formed_at, |(at, _)| *at);
        let age = formed_at.saturating_sub(at);
        if age < retention - retention * DRIFT / 1000 {
            broken!(
                "retention",
                "history is compacted to {revision}, which is {age} us old, and {retention} us are kept"
            );
        }
        Ok(())
    }
}
