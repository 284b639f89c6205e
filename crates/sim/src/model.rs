//! A second, naive state machine: what the decided batches mean, written without an eye to speed and without a look at the real one. Replies,
//! reads and watch events of the real members are compared with it. It keeps the whole history and forgets nothing.

mod clients;
mod keys;
mod locks;
mod ranges;
mod space;
mod transactions;
mod users;

use keys::Keys;
pub use keys::{Change, in_range};
pub use locks::{Claim, Locks, Moment};
pub use users::{Asking, Users};

use crate::clock::Micros;
use bytes::Bytes;
use clients::{Admission, Clients, Ids};
use space::Space;
use state::auth::{AuthRejection, Caller};
use state::client::{ClientOperation, ClientRejection, ClientReply, Register};
use state::id::{Add, IdOperation, IdRejection, IdReply, TakeSegment, TakeWorker};
use state::lock::{LockCommand, Woken};
use state::{
    Batch, Command, KeyValue, Operation, Range, RangeReply, Rejection, Reply, Txn, TxnReply,
};
use std::collections::BTreeMap;

/// A broken promise and what is wrong.
pub type Broken = (&'static str, String);

/// A lease as decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Time to live.
    pub ttl_ms: u64,
    /// When it ends, on the replicated clock.
    pub deadline_ms: u64,
    /// True time when the batch that granted or last renewed it was formed.
    pub renewed_at: Micros,
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
    /// Users as each change of theirs left them.
    pub users: Vec<Users>,
}

/// The model.
#[derive(Debug, Default)]
pub struct Model {
    clock_ms: u64,
    wall_ms: u64,
    /// The cell's counter.
    ordinal: u64,
    keys: Keys,
    leases: BTreeMap<i64, Lease>,
    locks: Locks,
    clients: Clients,
    ids: Ids,
    space: Space,
    users: Users,
}

/// Time to live with the allowance for drifting clocks (DESIGN: State, clock).
fn with_drift(ttl_ms: u64) -> u64 {
    ttl_ms + ttl_ms / 50
}

impl Model {
    /// An empty store.
    pub fn new() -> Model {
        Model::default()
    }

    /// The store that these changes lead to from an empty one on: a history as a member tells it.
    ///
    /// # Errors
    /// They are no history: the broken promise and what is wrong.
    pub fn replay(changes: impl IntoIterator<Item = Change>) -> Result<Model, Broken> {
        let mut model = Model::new();
        for change in changes {
            model.keys.follow(change)?;
        }
        Ok(model)
    }

    /// The newest revision.
    pub fn revision(&self) -> i64 {
        self.keys.revision()
    }

    /// The oldest readable revision.
    pub fn compacted(&self) -> i64 {
        self.keys.compacted()
    }

    /// The replicated clock.
    pub fn clock_ms(&self) -> u64 {
        self.clock_ms
    }

    /// All changes, in order.
    pub fn changes(&self) -> &[Change] {
        self.keys.changes()
    }

    /// What is counted against the limit on bytes, in a life without locks, numbered requests and identifiers.
    #[cfg(test)]
    pub fn bytes(&self) -> u64 {
        self.keys.bytes() + self.space.other_bytes(self.leases.len())
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

    /// The users.
    #[cfg(test)]
    pub fn users(&self) -> &Users {
        &self.users
    }

    /// The locks.
    pub fn locks(&self) -> &Locks {
        &self.locks
    }

    /// A compaction to `compacted` was decided before the store reached `revision`, or at it.
    pub fn was_compacted_to(&self, compacted: i64, revision: i64) -> bool {
        self.keys.was_compacted_to(compacted, revision)
    }

    /// The key as of `revision`, compacted or not.
    pub fn key_at(&self, key: &[u8], revision: i64) -> Option<KeyValue> {
        self.keys.key_at(key, revision)
    }

    /// The keys that hung on a lease at a revision.
    pub fn leased_at(&self, lease: i64, revision: i64) -> Vec<Bytes> {
        self.keys.leased_at(Some(lease), revision)
    }

    /// Answers a range in a view at revision `view`.
    pub fn range(&self, range: &Range, view: i64) -> RangeReply {
        self.keys.range(range, view)
    }

    /// Answers a transaction that writes nothing, in a view at revision `view`.
    pub fn read_txn(&self, txn: &Txn, view: i64) -> TxnReply {
        self.keys.read_txn(txn, view)
    }

    /// The revisions that such a transaction names in the ranges it runs there.
    pub fn named_revisions(&self, txn: &Txn, view: i64) -> Vec<i64> {
        self.keys.named_revisions(txn, view)
    }

    /// Applies a decided batch that its leader formed at true time `formed_at`.
    ///
    /// # Errors
    /// See [`Model::apply_watched`].
    #[cfg(test)]
    pub fn apply(&mut self, batch: &Batch, formed_at: Micros) -> Result<Applied, Broken> {
        self.apply_watched(batch, formed_at, |_| Ok(()))
    }

    /// The same, and lets `look` see what time made of the locks, and each command that concerns them.
    ///
    /// # Errors
    /// The batch breaks a rule of batches, or what `look` says: the broken promise and what is wrong.
    pub fn apply_watched(
        &mut self,
        batch: &Batch,
        formed_at: Micros,
        look: impl Fn(&Model) -> Result<(), Broken>,
    ) -> Result<Applied, Broken> {
        if batch.clock_ms < self.clock_ms {
            let (before, clock_ms) = (self.clock_ms, batch.clock_ms);
            let text = format!("the replicated clock falls from {before} to {clock_ms} ms");
            return Err(("L7", text));
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
        self.note_room();
        look(self)?;
        for command in batch.groups.iter().flat_map(|group| &group.commands) {
            let (reply, revision) = self.run_once(command, formed_at);
            self.note_room();
            if let Some(Operation::Lock(_) | Operation::LeaseRevoke(_)) = command.operation {
                look(self)?;
            }
            if reply == Reply::Auth {
                applied.users.push(self.users.clone());
            }
            applied.outcomes.push(Outcome {
                trace: command.trace.clone(),
                reply,
                revision,
            });
        }
        applied.woken = self.locks.take_woken();
        Ok(applied)
    }

    /// Lowers the alarm if there is room again.
    fn note_room(&mut self) {
        let (bytes, leases) = (self.keys.bytes(), self.leases.len());
        self.space.note_room(bytes, leases);
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
            match self.clients.admit(command, alive) {
                Admission::Runs => {}
                Admission::Ran(reply, revision) => return (reply, revision),
                Admission::Refused(rejection) => {
                    let reply = Reply::Rejected(Rejection::Client(rejection));
                    return (reply, self.revision());
                }
            }
        }
        let (bytes, leases) = (self.keys.bytes(), self.leases.len());
        let allowed = self.allowed(command);
        let room = || self.space.check_alarm(command, bytes, leases);
        let reply = match allowed.map_err(Rejection::Auth).and_then(|()| room()) {
            Ok(()) => self.run_guarded(command, formed_at),
            Err(rejection) => Reply::Rejected(rejection),
        };
        if let Reply::Rejected(Rejection::NoSpace { .. }) = reply {
            self.space.note_refusal(bytes, leases);
        }
        self.ordinal += 1;
        // Let in anew, it may run.
        let late = reply == Reply::Rejected(Rejection::Auth(AuthRejection::OldRevision));
        if client != 0 && !late {
            self.clients.keep(client, sequence, &reply, self.revision());
        }
        (reply, self.revision())
    }

    /// Whether the user of a command may make it (S1).
    fn allowed(&self, command: &Command) -> Result<(), AuthRejection> {
        let caller = Caller {
            user: command.principal.clone(),
            revision: command.auth_revision,
        };
        let revision = self.revision();
        self.asking(&self.users, &caller, revision).change(command)
    }

    /// A caller before these users, at a revision.
    pub fn asking<'a>(&'a self, users: &'a Users, caller: &'a Caller, revision: i64) -> Asking<'a> {
        Asking {
            users,
            caller,
            keys: &self.keys,
            revision,
            locks: &self.locks,
        }
    }

    fn run_guarded(&mut self, command: &Command, formed_at: Micros) -> Reply {
        let guarded = self.with_locks(|locks, moment| locks.check_guards(&command.guards, moment));
        match guarded {
            Ok(()) => self.run(command, formed_at),
            Err(rejection) => Reply::Rejected(Rejection::Guard(rejection)),
        }
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
            self.note_room();
            applied.expired.push(Expiry { id, lease });
        }
    }

    /// Ends a lease, gives up its locks and removes its keys, these in one revision. `lost` if its time was over.
    fn end_lease(&mut self, id: i64, lost: bool) {
        self.with_locks(|locks, moment| locks.end_session(id, lost, moment));
        self.clients.end(id);
        self.ids.end(id);
        self.leases.remove(&id).expect("the caller has looked");
        self.keys.end_lease(id);
    }

    fn run(&mut self, command: &Command, formed_at: Micros) -> Reply {
        let room = self.space.room(self.leases.len());
        match command.operation.as_ref() {
            Some(Operation::Put(put)) => self.keys.put(put, room),
            Some(Operation::DeleteRange(delete)) => self.keys.delete_range(delete),
            Some(Operation::Txn(txn)) => self.keys.txn(txn, room),
            Some(Operation::Compact(compact)) => self.keys.compact(compact.revision),
            Some(Operation::LeaseGrant(grant)) => {
                if grant.id == 0 {
                    return Reply::Rejected(Rejection::Invalid(String::new()));
                }
                if self.leases.contains_key(&grant.id) {
                    return Reply::Rejected(Rejection::LeaseExists);
                }
                if let Err(rejection) = room.check_lease(self.keys.bytes()) {
                    return Reply::Rejected(rejection);
                }
                let deadline_ms = self.clock_ms + with_drift(grant.ttl_ms);
                let lease = Lease {
                    ttl_ms: grant.ttl_ms,
                    deadline_ms,
                    renewed_at: formed_at,
                };
                self.leases.insert(grant.id, lease);
                self.keys.begin_lease(grant.id);
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
            Some(Operation::SetBytesMax(set)) => {
                self.space.set(set.bytes_max);
                Reply::SetBytesMax
            }
            Some(Operation::AutoCompact(compact)) => self.keys.compact(compact.revision),
            Some(Operation::Lock(LockCommand {
                operation: Some(operation),
            })) => {
                let said = self.with_locks(|locks, moment| locks.run(operation, moment));
                said.map_or_else(|no| Reply::Rejected(Rejection::Lock(no)), Reply::Lock)
            }
            Some(Operation::Client(change)) => {
                let Some(ClientOperation::Register(register)) = change.operation else {
                    unreachable!("the workload asks for something")
                };
                self.register(register, &command.principal)
            }
            Some(Operation::Id(command)) => {
                let operation = command.operation.as_ref();
                let said = self.hand_out(operation.expect("the workload asks for something"));
                said.map_or_else(|no| Reply::Rejected(Rejection::Id(no)), Reply::Id)
            }
            Some(Operation::Auth(change)) => match self.users.change(change) {
                Ok(()) => Reply::Auth,
                Err(rejection) => Reply::Rejected(Rejection::Auth(rejection)),
            },
            Some(Operation::SetAlarm(_) | Operation::Lock(_)) => {
                unreachable!("no workload of this model does that")
            }
            None => Reply::Rejected(Rejection::Invalid(String::new())),
        }
    }

    fn register(&mut self, Register { lease }: Register, principal: &str) -> Reply {
        if !self.is_alive(lease) {
            return Reply::Rejected(Rejection::Client(ClientRejection::LeaseNotFound));
        }
        let client = match self.clients.of_lease(lease) {
            Some((client, owner)) if owner == principal => client,
            Some(_) => return Reply::Rejected(Rejection::Client(ClientRejection::Unknown)),
            None => {
                self.ordinal += 1;
                self.clients.register(self.ordinal, lease, principal);
                self.ordinal
            }
        };
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
}

#[cfg(test)]
mod tests;
