//! Queries: pinned when they begin, answered in slices.

use crate::hash_kv::HashScan;
use crate::kv::{Found, View};
use crate::lease::Lease;
use crate::lock::{LockQuery, PAGE_MAX};
use crate::pins::{Need, Pin};
use crate::range::RangeScan;
use crate::table::Table;
use crate::txn::{Access, Progress, TxnRun, is_read_only};
use crate::{Answer, Budget, LeaseView, Query, Range, Rejection, SessionView, State, Txn, TxnStep};
use bytes::Bytes;
use std::ops::Bound;

/// A query under way.
pub struct QueryCursor {
    view: View,
    pin: Option<Pin>,
    reading: Reading,
}

enum Reading {
    Range(Box<RangeScan>),
    Txn(Box<TxnRun>),
    LeaseKeys {
        view: LeaseView,
        after: Option<Vec<u8>>,
    },
    Leases {
        table: Table<Lease>,
        next: Option<i64>,
        ids: Vec<i64>,
    },
    HashKv(HashScan),
    Lock(LockQuery),
    Ready(Answer),
    Answered,
}

impl State {
    /// What a query that begins now sees.
    pub(crate) fn view(&self) -> View {
        View {
            revision: self.visible.revision,
            end: Some(self.visible.end),
        }
    }

    pub(crate) fn begin_query(&mut self, query: Query) -> QueryCursor {
        let view = self.view();
        let (reading, pinned) = match query {
            Query::Range(range) => self.begin_range(range, view),
            Query::Txn(txn) => self.begin_txn(txn, view),
            Query::LeaseTimeToLive { id, keys } => self.begin_lease(id, keys, view),
            Query::Leases => (
                Reading::Leases {
                    table: self.leases.pin(),
                    next: Some(i64::MIN),
                    ids: Vec::with_capacity(self.leases.len()),
                },
                None,
            ),
            Query::HashKv { revision } => self.begin_hash(revision, view),
            Query::Alarms => (
                Reading::Ready(Answer::Alarms(self.alarms().collect())),
                None,
            ),
            Query::Sessions { from, limit } => (Reading::Ready(self.sessions(from, limit)), None),
            Query::Lock(query) => (Reading::Lock(query), None),
            Query::Position => (Reading::Ready(Answer::Position), None),
        };
        let pin = pinned.map(|(revision, need)| self.pins.take(revision, need));
        QueryCursor { view, pin, reading }
    }

    fn begin_range(&self, range: Range, view: View) -> (Reading, Option<(i64, Need)>) {
        let revision = range.revision;
        if let Err(rejection) = self.check_revision(revision) {
            return (Reading::Ready(Answer::Rejected(rejection)), None);
        }
        let view = if revision > 0 {
            View {
                revision,
                end: Some(self.visible.end).filter(|_| {
                    let newest = mutated!(OneBackSeesPresent, view.revision - 1, view.revision);
                    revision >= newest
                }),
            }
        } else {
            view
        };
        (
            Reading::Range(Box::new(RangeScan::new(range, view))),
            Some((view.revision, Need::Revision)),
        )
    }

    fn check_revision(&self, revision: i64) -> Result<(), Rejection> {
        if revision > self.visible.revision {
            return Err(Rejection::FutureRevision {
                current: self.visible.revision,
            });
        }
        let compacted = self.visible.compacted;
        let oldest = mutated!(CompactedServed, compacted - 1, compacted);
        if revision > 0 && revision < oldest {
            return Err(Rejection::Compacted { compacted });
        }
        Ok(())
    }

    fn begin_txn(&self, txn: Txn, view: View) -> (Reading, Option<(i64, Need)>) {
        if !is_read_only(&txn) {
            let reason = "a transaction that writes, or does not say what it does, is no query";
            return (
                Reading::Ready(Answer::Rejected(Rejection::Invalid(reason.into()))),
                None,
            );
        }
        let oldest = oldest_revision(&txn)
            .max(self.visible.compacted)
            .min(view.revision);
        (
            Reading::Txn(Box::new(TxnRun::new(txn, view, self.keys.compacted))),
            Some((oldest, Need::Revision)),
        )
    }

    fn begin_lease(&self, id: i64, keys: bool, view: View) -> (Reading, Option<(i64, Need)>) {
        let Some(lease) = self.leases.get(id) else {
            return (Reading::Ready(Answer::Lease(None)), None);
        };
        let remaining_ms = lease.remaining_ms(self.visible.clock.clock_ms);
        let lease_view = LeaseView {
            id,
            granted_ms: lease.ttl_ms,
            remaining_ms,
            keys: Vec::new(),
        };
        if !keys {
            return (Reading::Ready(Answer::Lease(Some(lease_view))), None);
        }
        (
            Reading::LeaseKeys {
                view: lease_view,
                after: None,
            },
            Some((view.revision, Need::LeaseKeys)),
        )
    }

    /// A page of sessions: short, so answered at once.
    fn sessions(&self, from: i64, limit: usize) -> Answer {
        let table = self.leases.pin();
        let mut leases = table.range(Bound::Included(&from));
        let view = |lease: &Lease| SessionView {
            id: lease.id,
            granted_ms: lease.ttl_ms,
            remaining_ms: lease.remaining_ms(self.visible.clock.clock_ms),
            client: self.clients.of_lease(lease.id).unwrap_or(0),
            acquisitions: self.locks.claims_count(lease.id),
        };
        let page = leases.by_ref().take(limit.min(PAGE_MAX));
        Answer::Sessions {
            sessions: page.map(view).collect(),
            more: leases.next().is_some(),
        }
    }

    fn begin_hash(&self, revision: i64, view: View) -> (Reading, Option<(i64, Need)>) {
        if let Err(rejection) = self.check_revision(revision) {
            return (Reading::Ready(Answer::Rejected(rejection)), None);
        }
        let revision = if revision > 0 {
            revision
        } else {
            view.revision
        };
        (
            Reading::HashKv(HashScan::new(&self.keys, revision)),
            Some((self.keys.compacted, Need::Walk)),
        )
    }

    pub(crate) fn step_query(
        &mut self,
        cursor: &mut QueryCursor,
        budget: Budget,
    ) -> Option<(Answer, i64)> {
        let mut fuel = budget.0.max(1);
        let answer = self.read(&mut cursor.reading, cursor.view, &mut fuel)?;
        cursor.reading = Reading::Answered;
        if let Some(pin) = cursor.pin.take() {
            self.pins.release(pin);
        }
        Some((answer, cursor.view.revision))
    }

    fn read(&self, reading: &mut Reading, pinned: View, fuel: &mut u64) -> Option<Answer> {
        match reading {
            Reading::Range(scan) => {
                if !scan.step(&self.keys, fuel) {
                    return None;
                }
                let Reading::Range(scan) = std::mem::replace(reading, Reading::Answered) else {
                    unreachable!("matched above")
                };
                Some(Answer::Range(scan.finish()))
            }
            Reading::Txn(txn) => match txn.step(&mut Access::Read(&self.keys, pinned), fuel) {
                Progress::Pending => None,
                Progress::Done(reply) => Some(Answer::Txn(reply)),
                Progress::Refused(rejection) => Some(Answer::Rejected(rejection)),
            },
            Reading::LeaseKeys { view, after } => {
                let mut stopped = None;
                self.leases.candidates(view.id, after.as_deref(), |key| {
                    *fuel = fuel.saturating_sub(1);
                    if self.attached(view.id, key, &pinned) {
                        view.keys.push(Bytes::copy_from_slice(key));
                    }
                    if *fuel == 0 {
                        stopped = Some(key.to_vec());
                    }
                    stopped.is_none()
                });
                if stopped.is_some() {
                    *after = stopped;
                    return None;
                }
                Some(Answer::Lease(Some(std::mem::take(view))))
            }
            Reading::Leases { table, next, ids } => {
                // Ids cost far less than keys.
                let some = usize::try_from(*fuel)
                    .unwrap_or(usize::MAX)
                    .saturating_mul(16);
                let Some(from) = *next else {
                    return Some(Answer::Leases(std::mem::take(ids)));
                };
                let before = ids.len();
                ids.extend(
                    table
                        .range(Bound::Included(&from))
                        .take(some)
                        .map(|lease| lease.id),
                );
                *next = ids
                    .last()
                    .filter(|_| ids.len() - before == some)
                    .and_then(|last| last.checked_add(1));
                if next.is_some() {
                    None
                } else {
                    Some(Answer::Leases(std::mem::take(ids)))
                }
            }
            Reading::Lock(_)
                if self
                    .work
                    .as_ref()
                    .is_some_and(|work| work.unsettles_locks()) =>
            {
                None
            }
            Reading::Lock(query) => Some(Answer::Lock(self.ask_locks(query))),
            Reading::HashKv(scan) => scan.step(&self.keys, fuel),
            Reading::Ready(answer) => Some(std::mem::replace(answer, Answer::Position)),
            Reading::Answered => panic!("a query is stepped after its answer"),
        }
    }

    /// The key hangs on the lease in a view.
    pub(crate) fn attached(&self, lease: i64, key: &[u8], view: &View) -> bool {
        let Some(slot) = self.keys.index.get(&self.keys.log, key) else {
            return false;
        };
        match self.keys.find(slot, view, &mut { u64::MAX }) {
            Found::Live(position) => self.keys.log.record(position).lease == lease,
            Found::Absent | Found::Further(_) => false,
        }
    }

    pub(crate) fn cancel_query(&mut self, cursor: QueryCursor) {
        if let Some(pin) = cursor.pin {
            self.pins.release(pin);
        }
    }
}

/// The oldest revision a transaction asks for by number; the largest number if it asks for none.
fn oldest_revision(txn: &Txn) -> i64 {
    let steps = txn
        .success
        .iter()
        .chain(&txn.failure)
        .filter_map(|operation| operation.step.as_ref());
    let revisions = steps.map(|step| match step {
        TxnStep::Range(range) if range.revision > 0 => range.revision,
        TxnStep::Txn(txn) => oldest_revision(txn),
        _ => i64::MAX,
    });
    revisions.min().unwrap_or(i64::MAX)
}
