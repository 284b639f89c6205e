//! L1 to L5 by what members say of leases: which there are, how long they have left, which keys hang on them, and what renewals did.

use super::{Check, broken};
use crate::model::{Applied, Lease, Model};
use state::{Command, LeaseView, Operation, Reply};
use std::collections::{BTreeMap, BTreeSet};

/// A lease as some batch left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    ttl_ms: u64,
    deadline_ms: u64,
}

impl Row {
    fn of(lease: &Lease) -> Row {
        let &Lease {
            ttl_ms,
            deadline_ms,
            ..
        } = lease;
        Row {
            ttl_ms,
            deadline_ms,
        }
    }

    /// Renewed at a clock.
    fn renewed(self, clock_ms: u64) -> Row {
        let deadline_ms = clock_ms + self.ttl_ms + self.allowance();
        Row {
            deadline_ms,
            ..self
        }
    }

    fn allowance(self) -> u64 {
        self.ttl_ms / 50
    }

    /// What is left of the time granted, without the allowance.
    fn remaining_ms(self, clock_ms: u64) -> u64 {
        let upto = self.deadline_ms.saturating_sub(self.allowance());
        upto.saturating_sub(clock_ms).min(self.ttl_ms)
    }
}

/// The oracle.
#[derive(Debug, Default)]
pub struct LeaseViews {
    /// By lease: from which index on it was so. It ends with `None`.
    rows: BTreeMap<i64, Vec<(u64, Option<Row>)>>,
    /// The replicated clock after each index, where it changed.
    clocks: Vec<(u64, u64)>,
    /// What the renewals of each batch did: the lease, and its time to live if there was one.
    renewals: BTreeMap<u64, Vec<(i64, Option<u64>)>>,
    /// Leases that came and went, or went and came, in one batch: a view in its midst may see anything between.
    restless: BTreeSet<(u64, i64)>,
}

impl LeaseViews {
    /// A batch was decided at an index.
    pub fn on_batch(&mut self, index: u64, applied: &Applied, commands: &[Command], model: &Model) {
        if !applied.renewals.is_empty() {
            self.renewals.insert(index, applied.renewals.clone());
        }
        let mut touched: BTreeSet<i64> = applied.renewals.iter().map(|(id, _)| *id).collect();
        let mut changed: BTreeSet<i64> = applied.expired.iter().map(|it| it.id).collect();
        for (outcome, command) in applied.outcomes.iter().zip(commands) {
            let id = match (&command.operation, &outcome.reply) {
                (_, Reply::LeaseGrant { id, .. }) => *id,
                (Some(Operation::LeaseRevoke(revoke)), Reply::LeaseRevoke) => revoke.id,
                _ => continue,
            };
            if !changed.insert(id) {
                self.restless.insert((index, id));
            }
        }
        if self.clocks.last().is_none_or(|it| it.1 < model.clock_ms()) {
            self.clocks.push((index, model.clock_ms()));
        }
        touched.append(&mut changed);
        for id in touched {
            let (rows, row) = (
                self.rows.entry(id).or_default(),
                model.leases().get(&id).map(Row::of),
            );
            if rows.last().map_or(row.is_some(), |last| last.1 != row) {
                rows.push((index, row));
            }
        }
    }

    fn at(&self, id: i64, index: u64) -> Option<Row> {
        let rows = self.rows.get(&id)?;
        let after = rows.partition_point(|(from, _)| *from <= index);
        rows[after.checked_sub(1)?].1
    }

    fn clock_at(&self, index: u64) -> u64 {
        let after = self.clocks.partition_point(|(from, _)| *from <= index);
        after.checked_sub(1).map_or(0, |last| self.clocks[last].1)
    }

    /// The lease before the batch at an index, and after it: a view in its midst may see either.
    fn around(&self, id: i64, index: u64) -> [Option<Row>; 2] {
        [index.saturating_sub(1), index].map(|index| self.at(id, index))
    }

    /// Whether a lease was said to be there, or not.
    fn check_life(&self, id: i64, said: bool, index: u64) -> Check {
        if self.restless.contains(&(index, id)) {
            return Ok(());
        }
        let around = self.around(id, index);
        if around.iter().all(|row| row.is_some() != said) {
            let lived = self.rows.get(&id);
            let property = if said { "L5" } else { "L1" };
            broken!(
                property,
                "lease {id} is said to live: {said}; it was {lived:?}"
            );
        }
        Ok(())
    }

    /// What a renewal was told to have done at an index, by a client that knew of `floor` when it asked.
    pub fn check_renewal(&self, id: i64, ttl_ms: Option<u64>, (index, floor): (u64, u64)) -> Check {
        let renewals = self.renewals.get(&index).into_iter().flatten();
        let of_lease = renewals.filter(|(of, _)| *of == id);
        let decided: Vec<Option<u64>> = of_lease.map(|(_, ttl_ms)| *ttl_ms).collect();
        if !decided.contains(&ttl_ms) || index <= floor {
            let over = ttl_ms.is_some() && decided.contains(&None);
            let property = if over { "L5" } else { "L3" };
            broken!(
                property,
                "index {index} decides {decided:?} (floor {floor})"
            );
        }
        Ok(())
    }

    /// A list of all leases.
    pub fn check_list(&self, ids: &[i64], index: u64) -> Check {
        ids.iter()
            .try_for_each(|id| self.check_life(*id, true, index))?;
        let missing = self.rows.keys().filter(|id| !ids.contains(id));
        for id in missing {
            self.check_life(*id, false, index)?;
        }
        Ok(())
    }

    /// One lease, with its keys if they were asked for, at a revision.
    pub fn check_view(
        &self,
        (id, keys): (i64, bool),
        view: Option<&LeaseView>,
        (index, revision): (u64, i64),
        model: &Model,
    ) -> Check {
        self.check_life(id, view.is_some(), index)?;
        let Some(view) = view else {
            return Ok(());
        };
        self.check_remaining(view, index)?;
        let hang = model.leased_at(id, revision);
        if keys && view.keys != hang {
            broken!("L4", "on lease {id} hang {hang:?} at revision {revision}");
        }
        Ok(())
    }

    fn check_remaining(&self, view: &LeaseView, index: u64) -> Check {
        if self.restless.contains(&(index, view.id)) {
            return Ok(());
        }
        let clocks = [index.saturating_sub(1), index].map(|index| self.clock_at(index));
        let [before, after] = self.around(view.id, index);
        // The batch may have renewed it before it ended it.
        let renewed = before.map(|row| row.renewed(clocks[1]));
        let rows = [before, after.or(renewed)];
        let rows: Vec<Row> = rows.into_iter().flatten().collect();
        if rows.iter().all(|row| row.ttl_ms != view.granted_ms) {
            broken!("L1", "the lease was granted otherwise: {rows:?}");
        }
        let of_row = |row: &Row| clocks.map(|clock_ms| row.remaining_ms(clock_ms));
        let possible: Vec<u64> = rows.iter().flat_map(of_row).collect();
        if !possible.contains(&view.remaining_ms) {
            let too_little = possible.iter().all(|left| *left > view.remaining_ms);
            let property = if too_little { "L1" } else { "L2" };
            broken!(
                property,
                "the lease has {possible:?} ms left, by the log; it is one of {rows:?}"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::{Batch, Command, Group, LeaseGrant, Operation};

    fn batch(clock_ms: u64, renewals: Vec<i64>, grants: &[i64]) -> Batch {
        let grant = |id: &i64| Command {
            operation: Some(Operation::LeaseGrant(LeaseGrant {
                id: *id,
                ttl_ms: 1_000,
            })),
            ..Command::default()
        };
        let commands = grants.iter().map(grant).collect();
        Batch {
            format: 1,
            clock_ms,
            groups: vec![Group {
                commands,
                renewals,
                ..Group::default()
            }],
            ..Batch::default()
        }
    }

    /// Granted at 0, renewed at 400 ms, over at 1420 ms.
    fn decided() -> (LeaseViews, Model) {
        let (mut views, mut model) = (LeaseViews::default(), Model::new());
        let batches = [
            batch(0, vec![], &[7]),
            batch(300, vec![], &[]),
            batch(400, vec![7], &[]),
            batch(1_419, vec![], &[]),
            batch(1_420, vec![], &[]),
            batch(1_500, vec![7], &[]),
        ];
        for (index, batch) in batches.iter().enumerate() {
            let applied = model.apply(batch, 0).unwrap();
            let commands: Vec<Command> = batch.groups[0].commands.clone();
            views.on_batch(index as u64 + 1, &applied, &commands, &model);
        }
        (views, model)
    }

    fn view(remaining_ms: u64) -> LeaseView {
        LeaseView {
            id: 7,
            granted_ms: 1_000,
            remaining_ms,
            keys: Vec::new(),
        }
    }

    #[test]
    fn a_lease_that_is_said_to_live_longer_or_shorter_is_seen() {
        let (views, model) = decided();
        let check = |view: Option<LeaseView>, index| {
            let checked = views.check_view((7, true), view.as_ref(), (index, 1), &model);
            checked.map_err(|(property, _)| property)
        };
        check(Some(view(700)), 2).unwrap();
        // In the midst of the batch that renews it.
        check(Some(view(700)), 3).unwrap();
        check(Some(view(1_000)), 3).unwrap();
        assert_eq!(check(Some(view(500)), 3).unwrap_err(), "L1");
        assert_eq!(check(Some(view(800)), 2).unwrap_err(), "L2");
        check(Some(view(1_000)), 4).unwrap();
        assert_eq!(check(None, 4).unwrap_err(), "L1");
        check(None, 5).unwrap();
        check(Some(view(0)), 5).unwrap();
        assert_eq!(check(Some(view(0)), 6).unwrap_err(), "L5");
        assert_eq!(check(Some(view(200)), 4).unwrap_err(), "L2");
        let attached = LeaseView {
            keys: vec!["k".into()],
            ..view(700)
        };
        assert_eq!(check(Some(attached), 2).unwrap_err(), "L4");
        let renewed = |ttl_ms, at| views.check_renewal(7, ttl_ms, at).map_err(|it| it.0);
        renewed(Some(1_000), (3, 2)).unwrap();
        assert_eq!(renewed(Some(1_000), (3, 3)), Err("L3"));
        assert_eq!(renewed(Some(1_000), (4, 2)), Err("L3"));
        renewed(None, (6, 2)).unwrap();
        assert_eq!(renewed(Some(1_000), (6, 2)), Err("L5"));
        assert_eq!(views.check_list(&[], 2).unwrap_err().0, "L1");
        assert_eq!(views.check_list(&[7], 6).unwrap_err().0, "L5");
    }
}
