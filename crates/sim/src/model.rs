//! A second, naive state machine: what the decided batches mean, written without an eye to speed and without a look at the real one. Replies,
//! reads and watch events of the real members are compared with it. It keeps the whole history and forgets nothing.

mod clients;
mod locks;

pub use locks::{Claim, Locks, Moment};

use crate::clock::Micros;
use bytes::Bytes;
use clients::{Admission, Clients, Ids};
use state::client::{ClientOperation, ClientRejection, ClientReply, Register};
use state::id::{Add, IdOperation, IdRejection, IdReply, TakeSegment, TakeWorker};
use state::lock::{LockCommand, Woken};
use state::{
    Batch, Command, Compare, KeyValue, Operation, Put, Range, RangeReply, Rejection, Reply,
    StepReply, Txn, TxnOperation, TxnReply, TxnStep,
};
use std::collections::{BTreeMap, BTreeSet};

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its revision.
    pub revision: i64,
    /// The key was removed.
    pub deleted: bool,
    /// The key after the change; for a removal only key and revision.
    pub kv: KeyValue,
}

/// A lease as decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Time to live.
    pub ttl_ms: u64,
    /// When it ends, on the replicated clock.
    pub deadline_ms: u64,
    /// True time when the batch that granted or last renewed it was formed.
    pub renewed_at: Micros,
    /// Its keys.
    pub keys: BTreeSet<Bytes>,
}

/// What one command of the log did.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The trace id it carried.
    pub trace: Bytes,
    /// The reply it deserves.
    pub reply: Reply,
    /// The revision after it.
    pub revision: i64,
}

/// A lease that ended by time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// Which.
    pub id: i64,
    /// As it was.
    pub lease: Lease,
}

/// What one batch did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// By its commands, in order.
    pub outcomes: Vec<Outcome>,
    /// By its renewals: the lease, and its time to live if there is one.
    pub renewals: Vec<(i64, Option<u64>)>,
    /// By its clock.
    pub expired: Vec<Expiry>,
    /// Acquisitions that began to hold, or ended, otherwise than by being released.
    pub woken: Vec<Woken>,
}

/// The model.
#[derive(Debug)]
pub struct Model {
    revision: i64,
    compacted: i64,
    clock_ms: u64,
    wall_ms: u64,
    /// The cell's counter.
    ordinal: u64,
    history: BTreeMap<Bytes, Vec<Change>>,
    changes: Vec<Change>,
    leases: BTreeMap<i64, Lease>,
    /// The compacted revision in force from each revision on.
    compactions: Vec<(i64, i64)>,
    locks: Locks,
    clients: Clients,
    ids: Ids,
}

/// Time to live with the allowance for drifting clocks (DESIGN: State, clock).
fn with_drift(ttl_ms: u64) -> u64 {
    ttl_ms + ttl_ms / 50
}

impl Default for Model {
    fn default() -> Model {
        Model::new()
    }
}

impl Model {
    /// An empty store.
    pub fn new() -> Model {
        Model {
            revision: 1,
            // As in etcd: an empty store may be compacted up to revision 0, once.
            compacted: -1,
            clock_ms: 0,
            wall_ms: 0,
            ordinal: 0,
            history: BTreeMap::new(),
            changes: Vec::new(),
            leases: BTreeMap::new(),
            compactions: Vec::new(),
            locks: Locks::default(),
            clients: Clients::default(),
            ids: Ids::default(),
        }
    }

    /// The store that these changes lead to from an empty one on: a history as a member tells it.
    ///
    /// # Errors
    /// They are no history: the broken promise and what is wrong.
    pub fn replay(
        changes: impl IntoIterator<Item = Change>,
    ) -> Result<Model, (&'static str, String)> {
        let mut model = Model::new();
        for change in changes {
            model.check_next(&change)?;
            model.revision = change.revision;
            model.record(change);
        }
        Ok(model)
    }

    fn check_next(&self, change: &Change) -> Result<(), (&'static str, String)> {
        let (revision, kv) = (self.revision, &change.kv);
        let next = revision + 1;
        let again = !self.changes.is_empty() && change.revision == revision;
        if !again && change.revision != next || kv.mod_revision != change.revision {
            return Err(("KV3", format!("{change:?} follows revision {revision}")));
        }
        let before = self.key_at(&kv.key, change.revision);
        let expected = match (&before, change.deleted) {
            (None, true) => return Err(("W9", format!("{change:?} removes an absent key"))),
            (_, true) => (0, 0),
            (None, false) => (change.revision, 1),
            (Some(before), false) => (before.create_revision, before.version + 1),
        };
        if (kv.create_revision, kv.version) != expected {
            return Err(("W9", format!("{change:?} follows {before:?}")));
        }
        Ok(())
    }

    /// The newest revision.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The oldest readable revision.
    pub fn compacted(&self) -> i64 {
        self.compacted.max(0)
    }

    /// The replicated clock.
    pub fn clock_ms(&self) -> u64 {
        self.clock_ms
    }

    /// All changes, in order.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The leases.
    pub fn leases(&self) -> &BTreeMap<i64, Lease> {
        &self.leases
    }

    /// The cell's counter.
    #[cfg(test)]
    pub fn ordinal(&self) -> u64 {
        self.ordinal
    }

    /// The locks.
    pub fn locks(&self) -> &Locks {
        &self.locks
    }

    /// A compaction to `compacted` was decided before the store reached `revision`, or at it.
    pub fn was_compacted_to(&self, compacted: i64, revision: i64) -> bool {
        self.compactions
            .iter()
            .any(|(at, to)| *to == compacted && *at <= revision)
    }

    /// Applies a decided batch that its leader formed at true time `formed_at`.
    ///
    /// # Errors
    /// The batch breaks a rule of batches; the text says which.
    pub fn apply(&mut self, batch: &Batch, formed_at: Micros) -> Result<Applied, String> {
        if batch.clock_ms < self.clock_ms {
            return Err(format!(
                "the replicated clock falls from {} to {} ms",
                self.clock_ms, batch.clock_ms
            ));
        }
        self.clock_ms = batch.clock_ms;
        self.wall_ms = self.wall_ms.max(batch.wall_ms);
        let mut applied = Applied::default();
        for group in &batch.groups {
            for id in &group.renewals {
                applied.renewals.push((*id, self.renew(*id, formed_at)));
            }
        }
        self.expire(&mut applied);
        self.with_locks(Locks::pass_time);
        for group in &batch.groups {
            for command in &group.commands {
                let (reply, revision) = self.run_once(command, formed_at);
                applied.outcomes.push(Outcome {
                    trace: command.trace.clone(),
                    reply,
                    revision,
                });
            }
        }
        applied.woken = self.locks.take_woken();
        Ok(applied)
    }

    /// Does something with the locks at the present clock.
    fn with_locks<R>(&mut self, act: impl FnOnce(&mut Locks, &mut Moment<'_>) -> R) -> R {
        let mut moment = Moment {
            leases: &self.leases,
            clock_ms: self.clock_ms,
            ordinal: &mut self.ordinal,
            ending: None,
        };
        act(&mut self.locks, &mut moment)
    }

    fn is_alive(&self, session: i64) -> bool {
        let lease = self.leases.get(&session);
        lease.is_some_and(|lease| lease.deadline_ms > self.clock_ms)
    }

    /// Runs a command unless it is the repetition of one that ran (E1, E2).
    fn run_once(&mut self, command: &Command, formed_at: Micros) -> (Reply, i64) {
        let (client, sequence) = (command.client, command.sequence);
        if client != 0 {
            let (leases, clock_ms) = (&self.leases, self.clock_ms);
            let alive = |id: i64| leases.get(&id).is_some_and(|it| it.deadline_ms > clock_ms);
            let request = (client, sequence, command.acknowledged_below);
            match self.clients.admit(request, alive) {
                Admission::Runs => {}
                Admission::Ran(reply, revision) => return (reply, revision),
                Admission::Refused(rejection) => {
                    let reply = Reply::Rejected(Rejection::Client(rejection));
                    return (reply, self.revision);
                }
            }
        }
        let guarded = self.with_locks(|locks, moment| locks.check_guards(&command.guards, moment));
        let reply = match guarded {
            Ok(()) => self.run(command, formed_at),
            Err(rejection) => Reply::Rejected(Rejection::Guard(rejection)),
        };
        self.ordinal += 1;
        if client != 0 {
            self.clients.keep(client, sequence, &reply, self.revision);
        }
        (reply, self.revision)
    }

    fn renew(&mut self, id: i64, formed_at: Micros) -> Option<u64> {
        let deadline_of = |ttl_ms| self.clock_ms + with_drift(ttl_ms);
        let lease = self.leases.get_mut(&id)?;
        lease.deadline_ms = deadline_of(lease.ttl_ms);
        lease.renewed_at = formed_at;
        Some(lease.ttl_ms)
    }

    fn expire(&mut self, applied: &mut Applied) {
        let mut due: Vec<(u64, i64)> = self
            .leases
            .iter()
            .filter(|(_, lease)| lease.deadline_ms <= self.clock_ms)
            .map(|(id, lease)| (lease.deadline_ms, *id))
            .collect();
        due.sort_unstable();
        for (_, id) in due {
            let lease = self.leases.get(&id).expect("due leases exist").clone();
            self.end_lease(id, true);
            applied.expired.push(Expiry { id, lease });
        }
    }

    /// Ends a lease, gives up its locks and removes its keys, these in one revision. `lost` if its time was over.
    fn end_lease(&mut self, id: i64, lost: bool) {
        self.with_locks(|locks, moment| locks.end_session(id, lost, moment));
        self.clients.end(id);
        self.ids.end(id);
        let lease = self.leases.remove(&id).expect("the caller has looked");
        if !lease.keys.is_empty() {
            self.revision += 1;
            for key in &lease.keys {
                self.remove(key, self.revision);
            }
        }
    }

    fn run(&mut self, command: &Command, formed_at: Micros) -> Reply {
        match command.operation.as_ref() {
            // A put alone is told of a missing lease first, one in a transaction of a missing key.
            Some(Operation::Put(put))
                if put.lease != 0 && !self.leases.contains_key(&put.lease) =>
            {
                Reply::Rejected(Rejection::LeaseNotFound)
            }
            Some(Operation::Put(put)) => match self.check_put(put) {
                Err(rejection) => Reply::Rejected(rejection),
                Ok(()) => {
                    self.revision += 1;
                    Reply::Put {
                        prev: self.put(put, self.revision),
                    }
                }
            },
            Some(Operation::DeleteRange(delete)) => {
                let doomed = self.range_at(&delete.key, &delete.range_end, self.revision);
                if !doomed.is_empty() {
                    self.revision += 1;
                    doomed
                        .iter()
                        .for_each(|kv| self.remove(&kv.key, self.revision));
                }
                Reply::DeleteRange {
                    deleted: doomed.len() as i64,
                    prev: if delete.prev_kv { doomed } else { Vec::new() },
                }
            }
            Some(Operation::Txn(txn)) => self.txn(txn),
            Some(Operation::Compact(compact)) => self.compact(compact.revision),
            Some(Operation::LeaseGrant(grant)) => {
                if self.leases.contains_key(&grant.id) {
                    return Reply::Rejected(Rejection::LeaseExists);
                }
                let deadline_ms = self.clock_ms + with_drift(grant.ttl_ms);
                let lease = Lease {
                    ttl_ms: grant.ttl_ms,
                    deadline_ms,
                    renewed_at: formed_at,
                    keys: BTreeSet::new(),
                };
                self.leases.insert(grant.id, lease);
                Reply::LeaseGrant {
                    id: grant.id,
                    ttl_ms: grant.ttl_ms,
                }
            }
            Some(Operation::LeaseRevoke(revoke)) => {
                if !self.leases.contains_key(&revoke.id) {
                    return Reply::Rejected(Rejection::LeaseNotFound);
                }
                self.end_lease(revoke.id, false);
                Reply::LeaseRevoke
            }
            Some(Operation::SetFeatureLevel(_)) => Reply::SetFeatureLevel,
            Some(Operation::SetBytesMax(_)) => Reply::SetBytesMax,
            Some(Operation::AutoCompact(compact)) => self.compact(compact.revision),
            Some(Operation::Lock(LockCommand {
                operation: Some(operation),
            })) => {
                let said = self.with_locks(|locks, moment| locks.run(operation, moment));
                said.map_or_else(|no| Reply::Rejected(Rejection::Lock(no)), Reply::Lock)
            }
            Some(Operation::Client(command)) => {
                let Some(ClientOperation::Register(register)) = command.operation else {
                    unreachable!("the workload asks for something")
                };
                self.register(register)
            }
            Some(Operation::Id(command)) => {
                let operation = command.operation.as_ref();
                let said = self.hand_out(operation.expect("the workload asks for something"));
                said.map_or_else(|no| Reply::Rejected(Rejection::Id(no)), Reply::Id)
            }
            Some(Operation::Auth(_) | Operation::SetAlarm(_) | Operation::Lock(_)) => {
                unreachable!("no workload of this model does that")
            }
            None => Reply::Rejected(Rejection::Invalid(String::new())),
        }
    }

    fn register(&mut self, Register { lease }: Register) -> Reply {
        if !self.is_alive(lease) {
            return Reply::Rejected(Rejection::Client(ClientRejection::LeaseNotFound));
        }
        let client = self.clients.of_lease(lease).unwrap_or_else(|| {
            self.ordinal += 1;
            self.clients.register(self.ordinal, lease);
            self.ordinal
        });
        Reply::Client(ClientReply::Registered { client })
    }

    fn hand_out(&mut self, operation: &IdOperation) -> Result<IdReply, IdRejection> {
        match operation {
            IdOperation::Segment(TakeSegment { name, count }) => Ok(IdReply::Segment {
                first: self.ids.take(name, *count),
                count: *count,
            }),
            IdOperation::Add(Add { name, delta }) => Ok(IdReply::Counter {
                value: self.ids.add(name, *delta),
            }),
            IdOperation::Worker(take) => {
                let &TakeWorker {
                    session,
                    workers,
                    ahead_ms,
                    ref pool,
                } = take;
                if !self.is_alive(session) {
                    return Err(IdRejection::SessionNotFound);
                }
                let times = (self.wall_ms, ahead_ms);
                let given = self.ids.worker(pool, session, workers, times);
                let (worker, from_ms, until_ms) = given.ok_or(IdRejection::NoWorker)?;
                Ok(IdReply::Worker {
                    worker,
                    from_ms,
                    until_ms,
                    now_ms: self.wall_ms,
                })
            }
        }
    }

    fn compact(&mut self, revision: i64) -> Reply {
        if revision <= self.compacted {
            return Reply::Rejected(Rejection::Compacted {
                compacted: self.compacted(),
            });
        }
        if revision > self.revision {
            return Reply::Rejected(Rejection::FutureRevision {
                current: self.revision,
            });
        }
        self.compacted = revision;
        self.compactions.push((self.revision, revision));
        Reply::Compact
    }

    fn check_put(&self, put: &Put) -> Result<(), Rejection> {
        if (put.ignore_value || put.ignore_lease) && self.key_at(&put.key, self.revision).is_none()
        {
            return Err(Rejection::KeyNotFound);
        }
        if put.lease != 0 && !self.leases.contains_key(&put.lease) {
            return Err(Rejection::LeaseNotFound);
        }
        Ok(())
    }

    /// Sets a key at `revision`; gives what was there if it was asked for.
    fn put(&mut self, put: &Put, revision: i64) -> Option<KeyValue> {
        let before = self.key_at(&put.key, revision);
        let lease = if put.ignore_lease {
            before.as_ref().map_or(0, |kv| kv.lease)
        } else {
            put.lease
        };
        let value = if put.ignore_value {
            before.as_ref().map_or(Bytes::new(), |kv| kv.value.clone())
        } else {
            put.value.clone()
        };
        let (create_revision, version) = before
            .as_ref()
            .map_or((revision, 1), |kv| (kv.create_revision, kv.version + 1));
        self.detach(&put.key, before.as_ref());
        if let Some(attached) = self.leases.get_mut(&lease) {
            attached.keys.insert(put.key.clone());
        }
        let kv = KeyValue {
            key: put.key.clone(),
            value,
            create_revision,
            mod_revision: revision,
            version,
            lease,
        };
        self.record(Change {
            revision,
            deleted: false,
            kv,
        });
        before.filter(|_| put.prev_kv)
    }

    fn remove(&mut self, key: &Bytes, revision: i64) {
        let before = self.key_at(key, revision);
        self.detach(key, before.as_ref());
        let kv = KeyValue {
            key: key.clone(),
            mod_revision: revision,
            ..KeyValue::default()
        };
        self.record(Change {
            revision,
            deleted: true,
            kv,
        });
    }

    fn detach(&mut self, key: &Bytes, before: Option<&KeyValue>) {
        if let Some(lease) = before.and_then(|kv| self.leases.get_mut(&kv.lease)) {
            lease.keys.remove(key);
        }
    }

    fn record(&mut self, change: Change) {
        self.history
            .entry(change.kv.key.clone())
            .or_default()
            .push(change.clone());
        self.changes.push(change);
    }

    fn txn(&mut self, txn: &Txn) -> Reply {
        let succeeded = txn.compares.iter().all(|compare| self.holds(compare));
        let operations = if succeeded {
            &txn.success
        } else {
            &txn.failure
        };
        for operation in operations {
            if let Some(TxnStep::Put(put)) = &operation.step
                && let Err(rejection) = self.check_put(put)
            {
                return Reply::Rejected(rejection);
            }
        }
        let first_change = self.changes.len();
        let revision = self.revision + 1;
        let (mut steps, mut revisions) = (Vec::new(), Vec::new());
        for operation in operations {
            steps.push(self.step(operation, revision));
            let changed = self.changes.len() > first_change;
            revisions.push(if changed { revision } else { self.revision });
        }
        if self.changes.len() > first_change {
            self.revision = revision;
        }
        Reply::Txn(TxnReply {
            succeeded,
            steps,
            revisions,
            revision: self.revision,
        })
    }

    fn step(&mut self, operation: &TxnOperation, revision: i64) -> StepReply {
        match operation
            .step
            .as_ref()
            .expect("the workload sends whole steps")
        {
            TxnStep::Range(range) => StepReply::Range(self.range(range, revision)),
            TxnStep::Put(put) => StepReply::Put {
                prev: self.put(put, revision),
            },
            TxnStep::DeleteRange(delete) => {
                let doomed = self.range_at(&delete.key, &delete.range_end, revision);
                doomed.iter().for_each(|kv| self.remove(&kv.key, revision));
                StepReply::DeleteRange {
                    deleted: doomed.len() as i64,
                    prev: if delete.prev_kv { doomed } else { Vec::new() },
                }
            }
            TxnStep::Txn(_) => panic!("the workload nests no transactions"),
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        assert!(
            compare.range_end.is_empty(),
            "the workload compares single keys"
        );
        let kv = self.key_at(&compare.key, self.revision);
        let order = match compare.target {
            // etcd: comparing the value of an absent key never holds.
            3 => match &kv {
                Some(kv) => kv.value.cmp(&compare.value),
                None => return false,
            },
            target => {
                let kv = kv.unwrap_or_default();
                let number = match target {
                    0 => kv.version,
                    1 => kv.create_revision,
                    2 => kv.mod_revision,
                    4 => kv.lease,
                    _ => panic!("the workload compares by known targets, not {target}"),
                };
                number.cmp(&compare.number)
            }
        };
        match compare.result {
            0 => order.is_eq(),
            1 => order.is_gt(),
            2 => order.is_lt(),
            _ => order.is_ne(),
        }
    }

    /// The key as of `revision`, compacted or not.
    pub fn key_at(&self, key: &[u8], revision: i64) -> Option<KeyValue> {
        let changes = self.history.get(key)?;
        let last = changes
            .iter()
            .rev()
            .find(|change| change.revision <= revision)?;
        (!last.deleted).then(|| last.kv.clone())
    }

    fn range_at(&self, key: &Bytes, range_end: &[u8], revision: i64) -> Vec<KeyValue> {
        let candidates = self.history.range(key.clone()..).map(|(key, _)| key);
        let within = candidates.take_while(|candidate| in_range(candidate, key, range_end));
        within
            .filter_map(|key| self.key_at(key, revision))
            .collect()
    }

    /// Answers a range in a view at revision `view`: limit, keys-only, count-only and the historic revision; not the sort orders.
    pub fn range(&self, range: &Range, view: i64) -> RangeReply {
        let revision = if range.revision > 0 {
            range.revision
        } else {
            view
        };
        let mut kvs = self.range_at(&range.key, &range.range_end, revision);
        let count = kvs.len() as i64;
        if range.count_only {
            return RangeReply {
                kvs: Vec::new(),
                more: false,
                count,
            };
        }
        let more = range.limit > 0 && count > range.limit;
        if more {
            kvs.truncate(range.limit as usize);
        }
        if range.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        RangeReply { kvs, more, count }
    }
}

/// `key` lies in an etcd range: an empty end is the single key, one zero byte is "from there on".
pub fn in_range(key: &[u8], first: &[u8], range_end: &[u8]) -> bool {
    match range_end {
        [] => key == first,
        [0] => key >= first,
        end => key >= first && key < end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::{Compact, DeleteRange, Group, LeaseGrant};

    fn batch(clock_ms: u64, operations: Vec<Operation>) -> Batch {
        let commands = operations
            .into_iter()
            .map(|operation| Command {
                operation: Some(operation),
                ..Command::default()
            })
            .collect();
        Batch {
            format: 1,
            clock_ms,
            wall_ms: 0,
            groups: vec![Group {
                commands,
                ..Group::default()
            }],
        }
    }

    fn put(key: &'static str, value: &'static str, lease: i64) -> Operation {
        Operation::Put(Put {
            key: key.into(),
            value: value.into(),
            lease,
            prev_kv: true,
            ..Put::default()
        })
    }

    #[test]
    fn revisions_rise_by_one_per_changing_command() {
        let mut model = Model::new();
        let gone = Operation::DeleteRange(DeleteRange {
            key: "x".into(),
            ..DeleteRange::default()
        });
        let applied = model
            .apply(&batch(1, vec![put("a", "1", 0), gone, put("a", "2", 0)]), 0)
            .unwrap();
        assert_eq!(
            applied
                .outcomes
                .iter()
                .map(|outcome| outcome.revision)
                .collect::<Vec<_>>(),
            [2, 2, 3]
        );
        assert_eq!(model.key_at(b"a", 2).unwrap().value, "1");
        assert_eq!(model.key_at(b"a", 3).unwrap().version, 2);
        assert!(
            matches!(&applied.outcomes[2].reply, Reply::Put { prev: Some(kv) } if kv.value == "1")
        );
    }

    #[test]
    fn a_lease_ends_with_its_keys_in_one_revision() {
        let mut model = Model::new();
        let grant = Operation::LeaseGrant(LeaseGrant {
            id: 7,
            ttl_ms: 1000,
        });
        model
            .apply(
                &batch(1000, vec![grant, put("a", "1", 7), put("b", "1", 7)]),
                0,
            )
            .unwrap();
        assert!(
            model
                .apply(&batch(2019, vec![]), 0)
                .unwrap()
                .expired
                .is_empty()
        );
        let applied = model.apply(&batch(2020, vec![]), 0).unwrap();
        assert_eq!((applied.expired.len(), model.revision()), (1, 4));
        assert!(model.key_at(b"a", 4).is_none() && model.key_at(b"b", 4).is_none());
        assert!(
            model.changes()[2..]
                .iter()
                .all(|change| change.deleted && change.revision == 4)
        );
    }

    #[test]
    fn a_renewal_in_the_batch_of_the_deadline_saves_the_lease() {
        let mut model = Model::new();
        let grant = Operation::LeaseGrant(LeaseGrant {
            id: 7,
            ttl_ms: 1000,
        });
        model.apply(&batch(0, vec![grant]), 0).unwrap();
        let mut late = batch(5000, vec![]);
        late.groups[0].renewals = vec![7, 8];
        let applied = model.apply(&late, 0).unwrap();
        assert_eq!(
            (applied.renewals, applied.expired),
            (vec![(7, Some(1000)), (8, None)], vec![])
        );
    }

    #[test]
    fn a_told_history_is_followed_and_checked() {
        let change = |revision, deleted, create_revision, version| Change {
            revision,
            deleted,
            kv: KeyValue {
                key: "a".into(),
                create_revision,
                mod_revision: revision,
                version,
                ..KeyValue::default()
            },
        };
        let broken = |changes: &[Change]| Model::replay(changes.to_vec()).unwrap_err().0;
        let told = [
            change(2, false, 2, 1),
            change(3, false, 2, 2),
            change(4, true, 0, 0),
            change(5, false, 5, 1),
        ];
        assert_eq!(Model::replay(told.clone()).unwrap().revision(), 5);
        assert_eq!(broken(&[told[0].clone(), told[2].clone()]), "KV3");
        assert_eq!(broken(&[told[1].clone()]), "KV3");
        assert_eq!(broken(&[change(2, false, 2, 2)]), "W9");
        assert_eq!(broken(&[change(2, true, 0, 0)]), "W9");
    }

    #[test]
    fn a_falling_clock_is_refused() {
        let mut model = Model::new();
        model.apply(&batch(10, vec![]), 0).unwrap();
        assert!(model.apply(&batch(9, vec![]), 0).is_err());
    }

    #[test]
    fn compaction_goes_forward_only() {
        let mut model = Model::new();
        let compact = |revision| Operation::Compact(Compact { revision });
        let applied = model
            .apply(
                &batch(
                    0,
                    vec![put("a", "1", 0), compact(2), compact(2), compact(9)],
                ),
                0,
            )
            .unwrap();
        let replies: Vec<_> = applied
            .outcomes
            .into_iter()
            .skip(1)
            .map(|outcome| outcome.reply)
            .collect();
        assert_eq!(replies[0], Reply::Compact);
        assert_eq!(
            replies[1],
            Reply::Rejected(Rejection::Compacted { compacted: 2 })
        );
        assert_eq!(
            replies[2],
            Reply::Rejected(Rejection::FutureRevision { current: 2 })
        );
    }
}
