//! Which promise is broken when a member says anything else than the log. What is seen first may be a consequence only: whoever lets a stale
//! guard pass shows a key that nobody was to write, at a revision that nobody knows.
//!
//! Nothing is judged here. It is asked once something is wrong, and gives that its name.

use crate::model::{Change, Lease, Model, in_range};
use replica::Event;
use state::client::ClientRejection;
use state::id::IdRejection;
use state::lock::{LockRejection, LockReply};
use state::{Command, KeyValue, Operation, RangeReply, Rejection, Reply, TxnStep};

/// What is known of commands that were to change nothing.
#[derive(Debug, Default)]
pub struct Blame {
    refused: Vec<Refused>,
    /// The newest revision that members and log agreed on.
    agreed: i64,
}

/// A command that would have changed keys, and was refused by the log.
#[derive(Debug)]
struct Refused {
    /// The revision that stood.
    revision: i64,
    command: Command,
    /// The promise that refuses it.
    promise: &'static str,
}

impl Refused {
    fn touches(&self, key: &[u8]) -> bool {
        writes(&self.command).any(|(first, end)| in_range(key, first, end))
    }
}

/// The ranges of keys that a command may change.
fn writes(command: &Command) -> impl Iterator<Item = (&[u8], &[u8])> {
    let (single, success, failure) = match &command.operation {
        Some(Operation::Put(put)) => (Some((&put.key[..], &[][..])), &[][..], &[][..]),
        Some(Operation::DeleteRange(it)) => {
            (Some((&it.key[..], &it.range_end[..])), &[][..], &[][..])
        }
        Some(Operation::Txn(txn)) => (None, &txn.success[..], &txn.failure[..]),
        _ => (None, &[][..], &[][..]),
    };
    let steps = success.iter().chain(failure);
    let of_steps = steps.filter_map(|it| match &it.step {
        Some(TxnStep::Put(put)) => Some((&put.key[..], &[][..])),
        Some(TxnStep::DeleteRange(it)) => Some((&it.key[..], &it.range_end[..])),
        _ => None,
    });
    single.into_iter().chain(of_steps)
}

impl Blame {
    /// The log has decided a command at a revision, with this reply.
    pub fn on_decided(&mut self, command: &Command, reply: &Reply, revision: i64) {
        let Reply::Rejected(rejection) = reply else {
            return;
        };
        let promise = match rejection {
            Rejection::Auth(_) => "S1",
            Rejection::Guard(_) => "F3",
            Rejection::Client(_) => "E2",
            _ => return,
        };
        if writes(command).next().is_some() {
            let command = command.clone();
            self.refused.push(Refused {
                revision,
                command,
                promise,
            });
        }
    }

    /// A member stood, behind a command, at the revision at which the log stands there. (A read may be in the midst of a batch.)
    pub fn agree(&mut self, revision: i64) {
        self.agreed = self.agreed.max(revision);
    }

    /// What was refused from one revision on, before another one, and concerns a key or any.
    fn refused(&self, from: i64, before: i64, key: Option<&[u8]>) -> Option<&'static str> {
        let late = self.refused.iter().rev();
        let mut late = late.take_while(|it| it.revision >= from);
        let concerns = |it: &&Refused| key.is_none_or(|key| it.touches(key));
        let found = late.find(|it| it.revision < before && concerns(it));
        found.map(|it| it.promise)
    }

    /// A member stands at a revision where the log stands at another one.
    pub fn of_revision(&self, told: i64, log: i64, model: &Model) -> &'static str {
        if let Some(promise) = self.refused(self.agreed, told, None) {
            return promise;
        }
        let changes = model.changes();
        let since = changes.partition_point(|change| change.revision <= self.agreed);
        let mut since = changes[since..].iter();
        let some_ended = since.any(|change| ended_with_lease(change, model));
        let may_have_ended = || {
            let clock_ms = model.clock_ms();
            let mut leases = model.leases().iter();
            leases.any(|(id, lease)| {
                is_nearly_over(lease, clock_ms) && !model.leased_at(*id, log).is_empty()
            })
        };
        if told < log && some_ended {
            return "L4";
        }
        if told > log && (some_ended || may_have_ended()) {
            return "L1";
        }
        "KV3"
    }

    /// An event tells of something that is not in the log, where `expected` was to come, after all up to revision `heard`.
    pub fn of_event(
        &self,
        event: &Event,
        expected: Option<&Change>,
        heard: i64,
        model: &Model,
    ) -> &'static str {
        let (key, revision) = (&event.kv.key[..], event.kv.mod_revision);
        if let Some(promise) = self.refused(revision - 1, revision, Some(key)) {
            return promise;
        }
        if let Some(change) = change_at(model, revision, key) {
            if change.deleted == event.deleted && differ_in_creation(&change.kv, &event.kv) {
                return "W9";
            }
        } else if let Some(promise) = self.refused(heard, revision, None) {
            return promise;
        }
        if expected.is_some_and(|change| ended_with_lease(change, model)) {
            return "L4";
        }
        let before = model.key_at(key, revision - 1);
        let lease = before.as_ref().map_or(0, |kv| kv.lease);
        if event.deleted && lease != 0 {
            let mut later = model.changes().iter();
            let removed = later.any(|it| it.revision <= revision && it.kv.key == key && it.deleted);
            if !removed || model.leases().contains_key(&lease) {
                return "L1";
            }
        }
        let same = |change: &&Change| change.kv.key == key && change.kv.value == event.kv.value;
        if revision > model.revision() || model.changes().iter().any(|it| same(&it)) {
            return "KV3";
        }
        "W1"
    }

    /// A range shows other keys than the log does, at `present` or at an earlier revision.
    pub fn of_range(
        &self,
        expected: &RangeReply,
        found: &RangeReply,
        present: bool,
        model: &Model,
    ) -> &'static str {
        let is_in = |key: &[u8], among: &RangeReply| among.kvs.iter().any(|kv| kv.key == key);
        for kv in &found.kvs {
            let known = expected.kvs.iter().find(|it| it.key == kv.key);
            if known == Some(kv) {
                continue;
            }
            let newest = kv.mod_revision;
            if let Some(promise) = self.refused(newest - 1, newest, Some(&kv.key)) {
                return promise;
            }
            if known.is_some_and(|known| differ_in_creation(known, kv)) {
                return "W9";
            }
            let ended = |id: i64| id != 0 && !model.leases().contains_key(&id);
            if present && known.is_none() && ended(kv.lease) {
                return "L4";
            }
        }
        let gone = |kv: &&KeyValue| !is_in(&kv.key, found);
        for kv in expected.kvs.iter().filter(gone) {
            if present && kv.lease != 0 && !found.more {
                return "L1";
            }
            if present && let Some(promise) = self.refused(self.agreed, i64::MAX, Some(&kv.key)) {
                return promise;
            }
        }
        "KV4"
    }
}

/// The change of a key at a revision.
fn change_at<'a>(model: &'a Model, revision: i64, key: &[u8]) -> Option<&'a Change> {
    let changes = model.changes();
    let first = changes.partition_point(|change| change.revision < revision);
    let mut here = changes[first..].iter();
    let mut here = here
        .by_ref()
        .take_while(|change| change.revision == revision);
    here.find(|change| change.kv.key == key)
}

/// The key went with its lease.
pub fn ended_with_lease(change: &Change, model: &Model) -> bool {
    let before = model.key_at(&change.kv.key, change.revision - 1);
    let lease = before.map_or(0, |kv| kv.lease);
    change.deleted && lease != 0 && !model.leases().contains_key(&lease)
}

/// The same version of a key, but for when it was created.
fn differ_in_creation(a: &KeyValue, b: &KeyValue) -> bool {
    let same = KeyValue {
        create_revision: b.create_revision,
        version: b.version,
        ..a.clone()
    };
    a != b && same == *b
}

/// All but the allowance of a lease's time has passed: a session that a member says is gone may have been ended too early.
pub fn is_nearly_over(lease: &Lease, clock_ms: u64) -> bool {
    clock_ms + lease.ttl_ms / 50 >= lease.deadline_ms
}

/// A reply says that a lease is gone.
fn says_gone(reply: &Reply) -> bool {
    matches!(
        reply,
        Reply::Rejected(
            Rejection::LeaseNotFound
                | Rejection::Lock(LockRejection::SessionNotFound)
                | Rejection::Client(ClientRejection::LeaseNotFound)
                | Rejection::Id(IdRejection::SessionNotFound)
        )
    )
}

/// The promise that a reply breaks where the log says something else; `promise` is the one that the log's reply keeps. `told_before` is what the
/// client was told to the same request.
pub fn of_reply(
    promise: &'static str,
    expected: &Reply,
    found: &Reply,
    told_before: Option<&Reply>,
) -> &'static str {
    use ClientRejection::{Freed, Unknown, Window};
    let is = |what: fn(&Rejection) -> bool| {
        let says = |reply: &Reply| matches!(reply, Reply::Rejected(rejection) if what(rejection));
        says(expected) || says(found)
    };
    if is(|it| matches!(it, Rejection::Auth(_))) {
        return "S1";
    }
    match (expected, found) {
        // Refused by both, what is said of the lock differs.
        (Reply::Rejected(Rejection::Guard(_)), Reply::Rejected(Rejection::Guard(_))) => promise,
        _ if is(|it| matches!(it, Rejection::Guard(_))) => "F3",
        (Reply::Rejected(Rejection::Client(Freed { .. })), _) if told_before == Some(found) => "E3",
        (Reply::Rejected(Rejection::Client(Freed { .. } | Unknown)), _) => "E2",
        (_, Reply::Rejected(Rejection::Client(Freed { .. } | Window { .. }))) => "E3",
        (Reply::Rejected(Rejection::Client(Window { .. })), _) => "E3",
        // The record ends with its session.
        (_, Reply::Rejected(Rejection::Client(Unknown))) => "L1",
        (
            Reply::Rejected(Rejection::Lock(LockRejection::NotHeld)),
            Reply::Lock(LockReply::Released { .. }),
        ) => "F6",
        (Reply::Lock(LockReply::Granted { .. }), Reply::Lock(LockReply::Busy)) => "F5",
        _ if says_gone(found) && !says_gone(expected) => "L1",
        _ if promise == "KV6" && says_gone(expected) => "L2",
        (Reply::Put { prev: Some(a) }, Reply::Put { prev: Some(b) })
            if differ_in_creation(a, b) =>
        {
            "W9"
        }
        (Reply::Txn(a), Reply::Txn(b)) if a.succeeded == b.succeeded && a.steps == b.steps => "KV3",
        _ => promise,
    }
}
