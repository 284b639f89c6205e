//! Changes in words. Every kind is named: a new one does not compile before it has words.

use super::{range, text};
use state::auth::{AuthChange, AuthOperation, Permission, PermissionKind};
use state::client::{ClientCommand, ClientOperation, Register};
use state::id::{IdCommand, IdOperation};
use state::lock::{Acquire, LockCommand, LockOperation, Mode};
use state::{AlarmKind, Command, Guard, Operation, SetAlarm, TxnOperation, TxnStep};

/// Steps of a transaction that are named.
const STEPS_MAX: usize = 4;

/// What a command does.
pub fn command(command: &Command) -> String {
    let asked = command.operation.as_ref();
    let guards = command.guards.iter().map(guard);
    asked.map_or("nothing".into(), operation) + &guards.collect::<String>()
}

fn operation(operation: &Operation) -> String {
    match operation {
        Operation::Put(put) => format!("put {} = {}", text(&put.key), text(&put.value)),
        Operation::DeleteRange(delete) => {
            format!("delete {}", range(&delete.key, &delete.range_end))
        }
        Operation::Txn(txn) => {
            let condition = match txn.compares.len() {
                0 => "at once".into(),
                1 => "if 1 comparison holds".into(),
                many => format!("if {many} comparisons hold"),
            };
            let (success, failure) = (steps(&txn.success), steps(&txn.failure));
            format!("{condition}: {success}; else: {failure}")
        }
        Operation::Compact(compact) => format!("compact up to revision {}", compact.revision),
        Operation::AutoCompact(compact) => {
            format!("forget old history, up to revision {}", compact.revision)
        }
        Operation::LeaseGrant(grant) => format!("lease {:x} for {} ms", grant.id, grant.ttl_ms),
        Operation::LeaseRevoke(revoke) => format!("revoke lease {:x}", revoke.id),
        Operation::SetFeatureLevel(set) => format!("switch feature level {} on", set.level),
        Operation::Auth(AuthChange { operation }) => {
            operation.as_ref().map_or("nothing".into(), users)
        }
        Operation::SetBytesMax(set) => format!("limit the state to {} bytes", set.bytes_max),
        Operation::SetAlarm(set) => alarm(set),
        Operation::Lock(LockCommand { operation }) => {
            operation.as_ref().map_or("nothing".into(), lock)
        }
        Operation::Client(ClientCommand { operation }) => match operation {
            Some(ClientOperation::Register(Register { lease })) => {
                format!("register a client that ends with lease {lease:x}")
            }
            None => "nothing".into(),
        },
        Operation::Id(IdCommand { operation }) => {
            operation.as_ref().map_or("nothing".into(), identifiers)
        }
    }
}

fn guard(guard: &Guard) -> String {
    format!(
        ", guarded by token {} of {}",
        guard.token,
        text(&guard.name)
    )
}

fn alarm(set: &SetAlarm) -> String {
    let verb = if set.raise { "raise" } else { "lower" };
    let kind = match set.kind() {
        AlarmKind::NoSpace => "no space is left",
        AlarmKind::Corrupt => "the states differ",
    };
    format!("{verb} the alarm that {kind}")
}

fn steps(steps: &[TxnOperation]) -> String {
    let step = |operation: &TxnOperation| match &operation.step {
        Some(TxnStep::Put(put)) => format!("put {}", text(&put.key)),
        Some(TxnStep::DeleteRange(delete)) => {
            format!("delete {}", range(&delete.key, &delete.range_end))
        }
        Some(TxnStep::Range(read)) => format!("read {}", range(&read.key, &read.range_end)),
        Some(TxnStep::Txn(_)) => "a transaction inside this one".into(),
        None => "nothing".into(),
    };
    let words: Vec<String> = steps.iter().take(STEPS_MAX).map(step).collect();
    match steps.len().saturating_sub(STEPS_MAX) {
        0 if words.is_empty() => "nothing".into(),
        0 => words.join(", "),
        more => format!("{} and {more} more", words.join(", ")),
    }
}

fn wait(wait_ms: u64) -> String {
    match wait_ms {
        0 => "without waiting".into(),
        u64::MAX => "and wait".into(),
        wait_ms => format!("and wait {wait_ms} ms"),
    }
}

fn lock(operation: &LockOperation) -> String {
    match operation {
        LockOperation::Acquire(acquire) => acquisition(acquire),
        LockOperation::Release(release) => {
            format!("release what session {:x} has", release.claimant.session)
        }
        LockOperation::SetValue(set) => format!(
            "say {} with what session {:x} has",
            text(&set.value),
            set.claimant.session
        ),
        LockOperation::Force(force) => format!(
            "take lock {} from the holder of token {}: {}",
            text(&force.name),
            force.token,
            force.reason
        ),
        LockOperation::SetLatch(set) => {
            format!("set latch {} to {}", text(&set.name), set.count)
        }
        LockOperation::CountDown(count) => {
            format!("count latch {} down by {}", text(&count.name), count.by)
        }
        LockOperation::Leave(leave) => format!(
            "leave the barrier as session {:x} {}",
            leave.claimant.session,
            wait(leave.wait_ms)
        ),
    }
}

fn acquisition(acquire: &Acquire) -> String {
    let (name, session) = (text(&acquire.name), acquire.claimant.session);
    let what = match acquire.mode() {
        Mode::Exclusive => format!("lock {name}"),
        Mode::Shared => format!("share lock {name}"),
        Mode::Permits => format!(
            "take {} of {} permits of {name}",
            acquire.permits, acquire.limit
        ),
        Mode::Member => return format!("join group {name} for session {session:x}"),
        Mode::Pass => format!("pass latch {name}"),
        Mode::Enter => format!("enter barrier {name} with {}", acquire.limit),
    };
    format!("{what} for session {session:x} {}", wait(acquire.wait_ms))
}

fn users(operation: &AuthOperation) -> String {
    match operation {
        AuthOperation::Enable(_) => "switch authentication on".into(),
        AuthOperation::Disable(_) => "switch authentication off".into(),
        AuthOperation::UserAdd(add) => format!("add user {}", add.user),
        AuthOperation::UserDelete(delete) => format!("delete user {}", delete.user),
        AuthOperation::UserPassword(set) => format!("give user {} another password", set.user),
        AuthOperation::UserGrantRole(grant) => {
            format!("give user {} the role {}", grant.user, grant.role)
        }
        AuthOperation::UserRevokeRole(revoke) => {
            format!("take the role {} from user {}", revoke.role, revoke.user)
        }
        AuthOperation::RoleAdd(add) => format!("add role {}", add.role),
        AuthOperation::RoleDelete(delete) => format!("delete role {}", delete.role),
        AuthOperation::RoleGrantPermission(grant) => format!(
            "let role {} {}",
            grant.role,
            grant.permission.as_ref().map_or("nothing".into(), right)
        ),
        AuthOperation::RoleRevokePermission(revoke) => format!(
            "take {} from role {}",
            range(&revoke.key, &revoke.range_end),
            revoke.role
        ),
        AuthOperation::DrawSigningSeed(_) => "draw a key to sign tokens with".into(),
        AuthOperation::RotateSigningSeed(_) => "draw another key to sign tokens with".into(),
        AuthOperation::DropVerifyingKey(_) => "drop an old key that verifies tokens".into(),
    }
}

fn right(permission: &Permission) -> String {
    let what = match permission.kind() {
        PermissionKind::Read => "read",
        PermissionKind::Write => "write",
        PermissionKind::ReadWrite => "read and write",
    };
    format!("{what} {}", range(&permission.key, &permission.range_end))
}

fn identifiers(operation: &IdOperation) -> String {
    match operation {
        IdOperation::Segment(take) => {
            format!("take {} numbers of {}", take.count, text(&take.name))
        }
        IdOperation::Add(add) => format!("add {} to counter {}", add.delta, text(&add.name)),
        IdOperation::Worker(take) => format!(
            "take a worker number of {} for session {:x} and {} ms",
            text(&take.pool),
            take.session,
            take.ahead_ms
        ),
    }
}
