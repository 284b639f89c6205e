//! Applying a batch in slices: renewals, then leases that ended, then waits that ended, then commands. A command is done before the next one begins.

use crate::auth::AuthRejection;
use crate::bounds::{Bounds, End};
use crate::client::{Admission, Request};
use crate::command::FORMAT;
use crate::delete::Deletion;
use crate::kv::Visit;
use crate::lease::{LEASE_BYTES, Lease};
use crate::lock::{Locks, Then};
use crate::record::logical_size;
use crate::state::Visible;
use crate::txn::{Access, Progress, TxnRun, apply_put, check_put, is_valid};
use crate::{
    Applied, ApplyError, Batch, Budget, Command, Compact, DeleteRange, Group, GroupApplied,
    LeaseGrant, LeaseRevoke, Operation, Put, Rejection, Reply, SetBytesMax, SetFeatureLevel, State,
};
use bytes::Bytes;
use prost::Message;
use std::ops::Bound;

/// Leases that end by time in one batch; the rest end in the next one.
const EXPIRED_LEASES_MAX: usize = 1000;
/// Keys removed by leases that end in one batch, after which no further lease ends in it.
const EXPIRED_KEYS_MAX: u64 = 100_000;

/// Acquisitions of locks that end in one batch because their sessions ended by time; a session with more ends over several.
const EXPIRED_CLAIMS_MAX: u64 = 4096;
/// Waits that end and locks that open again in one batch; the rest in the next one.
const TIMERS_MAX: u64 = 4096;

/// A batch at work.
pub(crate) struct Work {
    index: u64,
    clock_ms: u64,
    groups: Vec<Group>,
    stage: Stage,
    job: Option<Job>,
    applied: Applied,
    expired_keys: u64,
    /// Acquisitions that may still end with sessions.
    claims_left: u64,
    /// The client's request at work.
    request: Option<Request>,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Renew {
        group: usize,
        at: usize,
    },
    Expire,
    /// Ends waits and opens locks.
    Timers {
        left: u64,
    },
    Command {
        group: usize,
        at: usize,
    },
    /// Writes a pending removal down.
    Remove {
        keys: u64,
    },
}

/// A command that may take more than one slice.
enum Job {
    Delete(Deletion),
    Txn(Box<TxnRun>),
    Revoke(Revocation),
    Lock(Then),
    /// Writes the pending removal down, because the command cannot be run before.
    Complete(Command),
}

/// How far a command came at once.
enum Begun {
    Done(Reply),
    Takes(Job),
}

/// Ending what hangs on a lease: its acquisitions of locks, its keys, and then itself.
struct Revocation {
    id: i64,
    after: Option<Vec<u8>>,
    deleted: u64,
}

/// How far a revocation came.
enum Revoked {
    Wholly,
    /// As far as the fuel allowed.
    Partly,
    /// As far as one batch may go.
    ForNow,
}

impl Work {
    /// It may have changed locks and not settled them: nobody should see them so.
    pub(crate) fn unsettles_locks(&self) -> bool {
        matches!(self.stage, Stage::Timers { .. })
            || matches!(self.job, Some(Job::Revoke(_) | Job::Lock(_)))
    }
}

impl State {
    pub(crate) fn begin(&mut self, index: u64, batch: &[u8]) -> Result<(), ApplyError> {
        assert!(
            self.work.is_none(),
            "a batch begins at {index} while another is at work"
        );
        assert_eq!(index, self.applied + 1, "a batch is applied out of order");
        // One copy of the whole batch, shared by its fields, instead of one for each.
        let batch = Batch::decode(Bytes::copy_from_slice(batch))
            .map_err(|error| ApplyError::Malformed(error.to_string()))?;
        if batch.format > FORMAT {
            return Err(ApplyError::NewerVersion {
                needed: batch.format,
                known: FORMAT,
            });
        }
        let commands = batch.groups.iter().flat_map(|group| &group.commands);
        if let Some(needed) = commands
            .map(needed_level)
            .max()
            .filter(|&needed| needed > self.settings.level_known)
        {
            return Err(ApplyError::NewerVersion {
                needed,
                known: self.settings.level_known,
            });
        }
        let groups = batch.groups.iter().map(|group| GroupApplied {
            member: group.member,
            incarnation: group.incarnation,
            boot: group.boot,
            sequence: group.sequence,
            renewals: Vec::with_capacity(group.renewals.len()),
            replies: Vec::with_capacity(group.commands.len()),
        });
        self.work = Some(Box::new(Work {
            index,
            clock_ms: batch.clock_ms,
            applied: Applied {
                groups: groups.collect(),
                ..Applied::default()
            },
            groups: batch.groups,
            stage: Stage::Renew { group: 0, at: 0 },
            job: None,
            expired_keys: 0,
            claims_left: EXPIRED_CLAIMS_MAX,
            request: None,
        }));
        self.clock.advance(batch.clock_ms, batch.wall_ms);
        Ok(())
    }

    pub(crate) fn step(&mut self, budget: Budget) -> Option<Applied> {
        let mut work = self.work.take().expect("a batch was begun");
        let mut fuel = budget.0.max(1);
        while fuel > 0 {
            if self.advance(&mut work, &mut fuel) {
                self.finish(&mut work);
                return Some(work.applied);
            }
        }
        self.work = Some(work);
        None
    }

    fn finish(&mut self, work: &mut Work) {
        let (woken, changed) = self.locks.take_events();
        work.applied.woken = woken;
        work.applied.locks_changed = changed.into_iter().collect();
        self.applied = work.index;
        self.show();
        self.hash_applied = self.compute_hash();
    }

    /// Shows what the command at work did.
    pub(crate) fn show(&mut self) {
        self.keys.commit();
        self.note_room();
        self.visible = Visible {
            revision: self.keys.revision,
            compacted: self.keys.compacted.max(0),
            clock: self.clock,
            keys: self.keys.live - self.keys.removal.as_ref().map_or(0, |removal| removal.left),
            bytes: self.counted_bytes(),
            end: self.keys.log.end(),
        };
    }

    /// One step of a batch; true when all is done.
    fn advance(&mut self, work: &mut Work, fuel: &mut u64) -> bool {
        // A job gets what is left before this step is counted: with a budget of one it would never come further.
        if let Some(job) = work.job.take() {
            self.advance_job(work, job, fuel);
            *fuel = fuel.saturating_sub(1);
            return false;
        }
        *fuel = fuel.saturating_sub(1);
        match work.stage {
            Stage::Renew { group, at } => match work.groups.get(group) {
                None => {
                    mutated!(
                        WaitsEndBeforeLeases,
                        while self.with_locks(Locks::fire_timer) {
                            while !self.settle_locks(&mut { u64::MAX }) {}
                        }
                    );
                    work.stage = Stage::Expire;
                }
                Some(renewing) => match renewing.renewals.get(at) {
                    None => {
                        work.stage = Stage::Renew {
                            group: group + 1,
                            at: 0,
                        }
                    }
                    Some(&id) => {
                        work.applied.groups[group]
                            .renewals
                            .push((id, self.renew(id)));
                        work.stage = Stage::Renew { group, at: at + 1 };
                    }
                },
            },
            Stage::Expire => {
                let enough = work.applied.expired.len() >= EXPIRED_LEASES_MAX
                    || work.expired_keys >= EXPIRED_KEYS_MAX
                    || work.claims_left == 0;
                match self.leases.first_expired(work.clock_ms).filter(|_| !enough) {
                    Some(id) => {
                        work.job = Some(Job::Revoke(Revocation {
                            id,
                            after: None,
                            deleted: 0,
                        }))
                    }
                    None => work.stage = Stage::Timers { left: TIMERS_MAX },
                }
            }
            Stage::Timers { left } => {
                if !self.settle_locks(fuel) {
                    return false;
                }
                if left > 0 && self.with_locks(Locks::fire_timer) {
                    work.stage = Stage::Timers { left: left - 1 };
                } else {
                    self.show();
                    work.stage = Stage::Command { group: 0, at: 0 };
                }
            }
            Stage::Command { group, at } => match work.groups.get_mut(group) {
                None => {
                    work.stage = Stage::Remove {
                        keys: self.settings.removal_keys_per_batch,
                    }
                }
                Some(commanding) => match commanding.commands.get_mut(at) {
                    None => {
                        work.stage = Stage::Command {
                            group: group + 1,
                            at: 0,
                        }
                    }
                    Some(command) => {
                        let command = std::mem::take(command);
                        self.begin_command(work, command, fuel);
                    }
                },
            },
            Stage::Remove { keys } => {
                if keys == 0 || self.keys.removal.is_none() {
                    return true;
                }
                let written = self.keys.write_removal(&mut self.leases, keys, fuel);
                work.stage = Stage::Remove {
                    keys: keys - written,
                };
            }
        }
        false
    }

    /// Begins a command, unless it is the repetition of one that ran.
    fn begin_command(&mut self, work: &mut Work, command: Command, fuel: &mut u64) {
        match self.admit(&command) {
            Admission::New(request) => {
                work.request = request;
                match self.command(command, fuel) {
                    Begun::Done(reply) => self.answer(work, reply),
                    Begun::Takes(job) => work.job = Some(job),
                }
            }
            Admission::Repeated(reply, revision) => self.tell(work, reply, revision),
            Admission::Refused(rejection) => {
                let reply = Reply::Rejected(Rejection::Client(rejection));
                self.tell(work, reply, self.keys.revision);
            }
        }
    }

    /// Ends the command at work with its reply.
    fn answer(&mut self, work: &mut Work, reply: Reply) {
        self.ordinal += 1;
        self.keys.commit();
        // Users changed since the request was let in: let in anew under the same number, it may run.
        let late = matches!(
            reply,
            Reply::Rejected(Rejection::Auth(AuthRejection::OldRevision))
        );
        if let Some(request) = work.request.take()
            && (!late || mutated!(LateRefusalKept))
        {
            self.keep_reply(request, &reply, self.keys.revision);
        }
        if let Reply::Rejected(Rejection::NoSpace { .. }) = reply
            && let Stage::Command { group, .. } = work.stage
        {
            self.note_refusal(work.groups[group].member);
        }
        self.tell(work, reply, self.keys.revision);
    }

    /// Gives a reply to the command at work and goes on to the next one.
    fn tell(&mut self, work: &mut Work, reply: Reply, revision: i64) {
        let Stage::Command { group, at } = work.stage else {
            unreachable!("a reply outside of the commands")
        };
        self.show();
        work.applied.groups[group].replies.push((reply, revision));
        work.stage = Stage::Command { group, at: at + 1 };
    }

    fn advance_job(&mut self, work: &mut Work, job: Job, fuel: &mut u64) {
        match job {
            Job::Delete(mut deletion) => {
                if deletion.step(&mut self.keys, &mut self.leases, fuel) {
                    let (deleted, prev) = deletion.finish();
                    mutated!(DeleteRaisesTwice, self.keys.revision += deleted.min(1));
                    self.answer(work, Reply::DeleteRange { deleted, prev });
                } else {
                    work.job = Some(Job::Delete(deletion));
                }
            }
            Job::Txn(mut txn) => {
                let space = (self.other_bytes(), self.bytes_max());
                match txn.step(
                    &mut Access::Write(&mut self.keys, &mut self.leases, space),
                    fuel,
                ) {
                    Progress::Pending => work.job = Some(Job::Txn(txn)),
                    Progress::Done(reply) => self.answer(work, Reply::Txn(reply)),
                    Progress::Refused(rejection) => self.answer(work, Reply::Rejected(rejection)),
                }
            }
            Job::Revoke(mut revocation) => {
                match (work.stage, self.revoke(work, &mut revocation, fuel)) {
                    (_, Revoked::Partly) => work.job = Some(Job::Revoke(revocation)),
                    (Stage::Expire, Revoked::Wholly) => {
                        work.applied.expired.push(revocation.id);
                        work.expired_keys += revocation.deleted;
                        self.show();
                    }
                    (Stage::Expire, Revoked::ForNow) => {}
                    _ => self.answer(work, Reply::LeaseRevoke),
                }
            }
            Job::Lock(then) => {
                if !self.settle_locks(fuel) {
                    work.job = Some(Job::Lock(then));
                    return;
                }
                match self.locks.conclude(then) {
                    Ok(reply) => self.answer(work, Reply::Lock(reply)),
                    Err(then) => work.job = Some(Job::Lock(then)),
                }
            }
            Job::Complete(command) => {
                if self.keys.removal.is_some() {
                    self.keys.write_removal(&mut self.leases, u64::MAX, fuel);
                    work.job = Some(Job::Complete(command));
                } else {
                    match self.command(command, fuel) {
                        Begun::Done(reply) => self.answer(work, reply),
                        Begun::Takes(job) => work.job = Some(job),
                    }
                }
            }
        }
    }

    /// Renews a lease at the batch's clock; its time to live, if there is such a lease.
    fn renew(&mut self, id: i64) -> Option<u64> {
        let old = *self.leases.get(id)?;
        let ttl_ms = old.ttl_ms;
        // Its time was over in an earlier batch, which had too much to end: whoever waited for its locks may have been told that it is gone.
        if old.deadline_ms <= self.visible.clock.clock_ms && !mutated!(EndedLeaseRenewed) {
            return None;
        }
        mutated!(
            LateRenewalRefused,
            if old.deadline_ms <= self.clock.clock_ms {
                return None;
            }
        );
        let from = mutated!(RenewalAddsUp, old.deadline_ms, self.clock.clock_ms);
        self.leases.set(Lease::new(id, ttl_ms, from));
        Some(ttl_ms)
    }

    /// Ends what hangs on a lease; once all is gone, the lease.
    fn revoke(&mut self, work: &mut Work, revocation: &mut Revocation, fuel: &mut u64) -> Revoked {
        let id = revocation.id;
        let by_time = matches!(work.stage, Stage::Expire);
        let mut all = u64::MAX;
        let left = if by_time {
            &mut work.claims_left
        } else {
            &mut all
        };
        if !self.with_locks(|locks, moment| locks.end_session(id, by_time, moment, left, fuel)) {
            return if *left == 0 && self.locks.is_settled() {
                Revoked::ForNow
            } else {
                Revoked::Partly
            };
        }
        if !self.end_client(id, fuel) {
            return Revoked::Partly;
        }
        self.free_workers(id);
        let keys = &mut self.keys;
        let (mut last, mut stopped, mut deleted) = (None, false, 0);
        self.leases
            .candidates(id, revocation.after.as_deref(), |key| {
                *fuel = fuel.saturating_sub(1);
                keys.delete(Bound::Included(key), Bound::Included(key), |record| {
                    let remove =
                        record.lease == id && !(mutated!(ExpiryForgetsKeys) && record.version > 1);
                    deleted += u64::from(remove);
                    Visit {
                        remove,
                        more: false,
                    }
                });
                if *fuel == 0 {
                    (last, stopped) = (Some(key.to_vec()), true);
                }
                !stopped
            });
        revocation.deleted += deleted;
        if stopped {
            revocation.after = last;
            return Revoked::Partly;
        }
        self.leases.remove(id);
        Revoked::Wholly
    }

    /// Runs a command, or begins one that takes slices.
    fn command(&mut self, command: Command, fuel: &mut u64) -> Begun {
        if let Some(reason) = unsupported(&command) {
            return Begun::Done(invalid(reason));
        }
        if let Err(rejection) = self.authorise(&command) {
            return Begun::Done(Reply::Rejected(Rejection::Auth(rejection)));
        }
        if let Err(rejection) = self.check_alarms(&command) {
            return Begun::Done(Reply::Rejected(rejection));
        }
        if let Err(rejection) = self.check_guards(&command.guards) {
            return Begun::Done(Reply::Rejected(rejection));
        }
        if self.must_complete(&command) {
            return Begun::Takes(Job::Complete(command));
        }
        let done = match command.operation {
            None => Err(Rejection::Invalid("the command says nothing to do".into())),
            Some(Operation::Put(put)) => {
                *fuel = fuel.saturating_sub(put.value.len() as u64 / 4096);
                self.put(&put)
            }
            Some(Operation::DeleteRange(delete)) => match self.remove_at_once(&delete) {
                Some(deleted) => Ok(Reply::DeleteRange {
                    deleted,
                    prev: Vec::new(),
                }),
                None => return Begun::Takes(Job::Delete(Deletion::new(&delete))),
            },
            Some(Operation::Txn(txn)) if !is_valid(&txn) => Err(Rejection::Invalid(
                "a step of the transaction says nothing to do, or puts an empty key".into(),
            )),
            Some(Operation::Txn(txn)) => {
                return Begun::Takes(Job::Txn(Box::new(TxnRun::new(
                    txn,
                    self.keys.present(),
                    self.keys.compacted,
                ))));
            }
            Some(Operation::Compact(compact) | Operation::AutoCompact(compact)) => {
                self.compact(&compact)
            }
            Some(Operation::LeaseGrant(grant)) => self.grant(&grant),
            Some(Operation::LeaseRevoke(LeaseRevoke { id })) => match self.leases.get(id) {
                Some(_) => {
                    return Begun::Takes(Job::Revoke(Revocation {
                        id,
                        after: None,
                        deleted: 0,
                    }));
                }
                None => Err(Rejection::LeaseNotFound),
            },
            Some(Operation::SetFeatureLevel(SetFeatureLevel { level })) => {
                self.set_feature_level(level)
            }
            Some(Operation::Lock(command)) => match self.change_lock(&command) {
                Ok(then) => return Begun::Takes(Job::Lock(then)),
                Err(rejection) => Err(rejection),
            },
            Some(Operation::Client(change)) => self.change_client(&change, &command.principal),
            Some(Operation::Id(command)) => self.change_ids(&command),
            Some(Operation::Auth(change)) => self
                .auth
                .apply(&change)
                .map(|()| Reply::Auth)
                .map_err(Rejection::Auth),
            Some(Operation::SetBytesMax(SetBytesMax { bytes_max })) => {
                self.set_bytes_max(bytes_max);
                Ok(Reply::SetBytesMax)
            }
            Some(Operation::SetAlarm(change)) => self
                .set_alarm(&change)
                .map(|was_raised| Reply::SetAlarm { was_raised }),
        };
        Begun::Done(done.unwrap_or_else(Reply::Rejected))
    }

    /// The command needs a pending removal to be complete: it removes many keys itself, or makes records superfluous that are not written yet.
    fn must_complete(&self, command: &Command) -> bool {
        let Some(removal) = &self.keys.removal else {
            return false;
        };
        match &command.operation {
            Some(Operation::DeleteRange(delete)) if !delete.prev_kv => {
                let bounds = Bounds::new(&delete.key, &delete.range_end);
                self.keys.count_max(&bounds) > self.settings.removal_keys_min
            }
            Some(
                Operation::Compact(Compact { revision })
                | Operation::AutoCompact(Compact { revision }),
            ) => (removal.revision..=self.keys.revision).contains(revision),
            _ => false,
        }
    }

    /// Removes a range without looking at each of its keys, if they are many, or none; gives how many they were.
    fn remove_at_once(&mut self, delete: &DeleteRange) -> Option<i64> {
        let bounds = Bounds::new(&delete.key, &delete.range_end);
        if bounds.end == End::Single {
            return None;
        }
        if self.keys.count(&bounds) == Some(0) {
            return Some(0);
        }
        if delete.prev_kv || self.keys.removal.is_some() {
            return None;
        }
        let (revision, keys_min) = (self.keys.revision + 1, self.settings.removal_keys_min);
        let deleted = self.keys.begin_removal(&bounds, revision, keys_min)?;
        self.keys.changed = true;
        Some(deleted as i64)
    }

    fn put(&mut self, put: &Put) -> Result<Reply, Rejection> {
        if put.key.is_empty() {
            return Err(Rejection::Invalid("the key is empty".into()));
        }
        // As in etcd, a put alone is told of a missing lease first, one in a transaction of a missing key.
        if put.lease != 0 && self.leases.get(put.lease).is_none() {
            return Err(Rejection::LeaseNotFound);
        }
        check_put(put, &self.keys, &self.leases, &self.keys.present())?;
        self.check_space(logical_size(put.key.len(), put.value.len()))?;
        let prev = apply_put(put, &mut self.keys, &mut self.leases);
        Ok(Reply::Put { prev })
    }

    fn compact(&mut self, compact: &Compact) -> Result<Reply, Rejection> {
        let Compact { revision } = *compact;
        if revision <= self.keys.compacted {
            return Err(Rejection::Compacted {
                compacted: self.keys.compacted.max(0),
            });
        }
        if revision > self.keys.revision {
            return Err(Rejection::FutureRevision {
                current: self.keys.revision,
            });
        }
        self.keys.compact(mutated!(
            CompactionWaitsForReaders,
            self.pins.oldest().unwrap_or(revision).min(revision),
            revision
        ));
        Ok(Reply::Compact)
    }

    fn grant(&mut self, grant: &LeaseGrant) -> Result<Reply, Rejection> {
        let LeaseGrant { id, ttl_ms } = *grant;
        if id == 0 {
            return Err(Rejection::Invalid("the lease id is 0".into()));
        }
        if self.leases.get(id).is_some() && !mutated!(TakenLeaseGranted) {
            return Err(Rejection::LeaseExists);
        }
        self.check_space(LEASE_BYTES)?;
        self.leases.set(Lease::new(id, ttl_ms, self.clock.clock_ms));
        Ok(Reply::LeaseGrant { id, ttl_ms })
    }

    fn set_feature_level(&mut self, level: u32) -> Result<Reply, Rejection> {
        if level < self.feature_level {
            return Err(Rejection::Invalid(format!(
                "feature level {level} is below the present {}",
                self.feature_level
            )));
        }
        self.feature_level = level;
        Ok(Reply::SetFeatureLevel)
    }
}

fn invalid(reason: &str) -> Reply {
    Reply::Rejected(Rejection::Invalid(reason.into()))
}

/// The feature level a binary must know to apply a command.
fn needed_level(command: &Command) -> u32 {
    match command.operation {
        Some(Operation::SetFeatureLevel(SetFeatureLevel { level })) => command.version.max(level),
        _ => command.version,
    }
}

/// Parts of the envelope whose meaning is not built yet: refusing them is right, passing over them would break a promise.
fn unsupported(command: &Command) -> Option<&'static str> {
    (command.session != 0).then_some("sessions of connections are not known at this feature level")
}
