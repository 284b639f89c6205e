//! Which permissions a command or query needs. Writes are held against them when they are applied, reads in the view that answers them, so
//! nobody acts on rights that were taken before (source: `etcdserver/apply/apply_auth.go` and `txn/txn.go` of etcd 3.6).
//!
//! Some rules are those of etcd 3.7, which closed gaps of 3.6: leases need a user, listing them the right to read their keys, and compaction and raising
//! or lowering an alarm are for administrators.

use super::{Auth, AuthChange, AuthOperation, AuthRejection, PermissionKind, Principal};
use crate::kv::View;
use crate::lock::{Claimant, LockCommand, LockOperation, LockQuery};
use crate::{Command, DeleteRange, Operation, Put, Query, Range, State, Txn, TxnStep};
use std::ops::Bound;

type Checked = Result<(), AuthRejection>;

impl State {
    /// Users, roles and permissions.
    pub fn auth(&self) -> &Auth {
        &self.auth
    }

    /// Whether the principal may ask this, at the revision that a query begun now sees.
    ///
    /// # Errors
    /// It may not; see [`AuthRejection`].
    pub fn authorise_query(&self, principal: Principal<'_>, query: &Query) -> Checked {
        if !self.auth.is_enabled() {
            return Ok(());
        }
        let asking = Asking {
            state: self,
            view: self.view(),
            principal,
        };
        match query {
            Query::Range(range) => asking.range(range),
            Query::Txn(txn) => {
                // As in etcd, a transaction that names no key is for everybody, but not by an old token.
                if principal.revision != 0 {
                    self.auth.admitted(principal)?;
                }
                asking.txn(txn)
            }
            Query::LeaseTimeToLive { id, keys: true } => asking.lease(*id, PermissionKind::Read),
            Query::LeaseTimeToLive { keys: false, .. } | Query::Alarms => asking.user(),
            Query::Leases | Query::Sessions { .. } => asking.leases(),
            Query::HashKv { .. } => self.auth.check_admin(principal),
            Query::Lock(query) => asking.ask_lock(query),
            Query::Position => Ok(()),
        }
    }

    /// Whether a command's principal may do it.
    pub(crate) fn authorise(&self, command: &Command) -> Checked {
        if !self.auth.is_enabled() {
            return Ok(());
        }
        let principal = Principal {
            user: &command.principal,
            revision: command.auth_revision,
        };
        mutated!(
            CheckedWhenLetIn,
            if (1..self.auth.revision()).contains(&principal.revision) {
                return Ok(());
            }
        );
        let asking = Asking {
            state: self,
            view: self.keys.present(),
            principal,
        };
        for guard in &command.guards {
            asking.check(PermissionKind::Read, &guard.name, &[])?;
        }
        match &command.operation {
            Some(Operation::Put(put)) => asking.put(put),
            Some(Operation::DeleteRange(delete)) => asking.delete_range(delete),
            Some(Operation::Txn(txn)) => asking.txn(txn),
            Some(Operation::LeaseRevoke(revoke)) => {
                asking.lease(revoke.id, PermissionKind::Write)?;
                asking.locks_of(revoke.id)
            }
            // A member's own, and what is refused anyway.
            Some(
                Operation::SetFeatureLevel(_)
                | Operation::SetBytesMax(_)
                | Operation::AutoCompact(_),
            )
            | None => Ok(()),
            Some(Operation::LeaseGrant(_) | Operation::Client(_) | Operation::Id(_)) => {
                asking.user()
            }
            Some(Operation::Lock(command)) => asking.change_lock(command),
            // It is drawn when the first token is to be signed, whoever holds that.
            Some(Operation::Auth(AuthChange {
                operation: Some(AuthOperation::DrawSigningSeed(_)),
            })) => asking.user(),
            Some(Operation::Auth(_) | Operation::Compact(_) | Operation::SetAlarm(_)) => {
                self.auth.check_admin(principal)
            }
        }
    }
}

/// A principal before the rights of all, and what it sees.
#[derive(Clone, Copy)]
struct Asking<'a> {
    state: &'a State,
    view: View,
    principal: Principal<'a>,
}

impl Asking<'_> {
    fn check(self, kind: PermissionKind, key: &[u8], range_end: &[u8]) -> Checked {
        let Asking {
            state, principal, ..
        } = self;
        state.auth.check_range(principal, kind, key, range_end)
    }

    /// Some user is needed, whatever it may do.
    fn user(self) -> Checked {
        self.state.auth.check_user(self.principal)
    }

    fn is_admin(self) -> bool {
        self.state.auth.check_admin(self.principal).is_ok()
    }

    fn range(self, range: &Range) -> Checked {
        self.check(PermissionKind::Read, &range.key, &range.range_end)
    }

    fn put(self, put: &Put) -> Checked {
        self.check(PermissionKind::Write, &put.key, &[])?;
        if put.prev_kv {
            self.check(PermissionKind::Read, &put.key, &[])?;
        }
        // Whoever attaches a key to a lease must be able to end it, or others could never.
        if put.lease != 0 && !put.ignore_lease {
            self.lease(put.lease, PermissionKind::Write)?;
        }
        Ok(())
    }

    fn delete_range(self, delete: &DeleteRange) -> Checked {
        self.check(PermissionKind::Write, &delete.key, &delete.range_end)?;
        if delete.prev_kv {
            self.check(PermissionKind::Read, &delete.key, &delete.range_end)?;
        }
        Ok(())
    }

    /// Both branches, whichever is taken: otherwise the answer would tell what the comparisons found.
    fn txn(self, txn: &Txn) -> Checked {
        for compare in &txn.compares {
            self.check(PermissionKind::Read, &compare.key, &compare.range_end)?;
        }
        let failure = mutated!(OtherBranchUnchecked, &[][..], &txn.failure[..]);
        for step in txn.success.iter().chain(failure) {
            match &step.step {
                Some(TxnStep::Range(range)) => self.range(range)?,
                Some(TxnStep::Put(put)) => self.put(put)?,
                Some(TxnStep::DeleteRange(delete)) => self.delete_range(delete)?,
                Some(TxnStep::Txn(txn)) => self.txn(txn)?,
                None => {}
            }
        }
        Ok(())
    }

    /// All keys of a lease. Who may do everything is not held up by their number.
    fn lease(self, lease: i64, kind: PermissionKind) -> Checked {
        self.user()?;
        if self.is_admin() {
            return Ok(());
        }
        self.lease_keys(lease, kind)
    }

    /// All keys of all leases.
    fn leases(self) -> Checked {
        self.user()?;
        if self.is_admin() {
            return Ok(());
        }
        let table = self.state.leases.pin();
        table
            .range(Bound::Unbounded)
            .try_for_each(|lease| self.lease_keys(lease.id, PermissionKind::Read))
    }

    fn lease_keys(self, lease: i64, kind: PermissionKind) -> Checked {
        let mut checked = Ok(());
        self.state.leases.candidates(lease, None, |key| {
            if self.state.attached(lease, key, &self.view) {
                checked = self.check(kind, key, &[]);
            }
            checked.is_ok()
        });
        checked
    }

    /// The name of a lock is protected by the permissions of the key that is called so.
    fn change_lock(self, command: &LockCommand) -> Checked {
        let write = PermissionKind::Write;
        match &command.operation {
            Some(LockOperation::Acquire(acquire)) => self.check(write, &acquire.name, &[]),
            // A member's own, for a wait that nobody waits for any more: whose it was may have lost its permissions since.
            Some(LockOperation::Release(release)) if release.joined != 0 => Ok(()),
            Some(LockOperation::Release(release)) => self.claim(write, release.claimant),
            Some(LockOperation::SetValue(set)) => self.claim(write, set.claimant),
            Some(LockOperation::Leave(leave)) => self.claim(write, leave.claimant),
            Some(LockOperation::SetLatch(set)) => self.check(write, &set.name, &[]),
            Some(LockOperation::CountDown(count)) => self.check(write, &count.name, &[]),
            Some(LockOperation::Force(_)) => self.state.auth.check_admin(self.principal),
            None => self.user(),
        }
    }

    fn ask_lock(self, query: &LockQuery) -> Checked {
        let read = PermissionKind::Read;
        match query {
            // Everything from there on.
            LockQuery::List { from, .. } if from.is_empty() => self.check(read, &[0], &[0]),
            LockQuery::List { from, .. } => self.check(read, from, &[0]),
            LockQuery::Show { name, .. } | LockQuery::Check { name, .. } => {
                self.check(read, name, &[])
            }
            LockQuery::Claim { claimant } => self.claim(read, *claimant),
            LockQuery::Own { claimant } => self.claim(PermissionKind::Write, *claimant),
        }
    }

    /// The lock of an acquisition. Of one that is not there, nothing can be learned.
    fn claim(self, kind: PermissionKind, claimant: Claimant) -> Checked {
        match self.state.locks.claim(claimant) {
            Some(claim) => self.check(kind, &claim.name, &[]),
            None => self.user(),
        }
    }

    /// All locks that end with a lease. Who may do everything is not held up by their number.
    fn locks_of(self, lease: i64) -> Checked {
        if self.state.auth.check_admin(self.principal).is_ok() {
            return Ok(());
        }
        let mut claims = self.state.locks.claims_of(lease);
        claims.try_for_each(|claim| self.check(PermissionKind::Write, &claim.name, &[]))
    }
}
