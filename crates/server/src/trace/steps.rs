//! The steps of traced changes through this member, seen from the loop: admission, append, sync, commit, apply.
//!
//! Nothing below the loop knows of traces. A change's envelope names its request's span; the loop sees the entry it rides in when it is handed to the
//! log, when that is durable, when it is decided, and when it is applied.

use super::{SpanId, Tracer, Value, now};
use prost::Message;
use raft::{Payload, Persist, PersistSequence};
use replica::Status;
use state::{Batch, Command};
use std::collections::VecDeque;

/// Changes followed at the same time at most; further ones have no steps.
const FOLLOWED_MAX: usize = 4096;

/// Follows changes.
pub(crate) struct Steps {
    tracer: Tracer,
    /// In the order of their indexes.
    followed: VecDeque<Followed>,
    turn_began: u64,
}

struct Followed {
    span: SpanId,
    index: u64,
    term: u64,
    handed: PersistSequence,
    appended: u64,
    synced: bool,
    committed: Option<u64>,
    applied: bool,
}

impl Steps {
    pub(crate) fn new(tracer: Tracer) -> Steps {
        Steps {
            tracer,
            followed: VecDeque::new(),
            turn_began: 0,
        }
    }

    /// A turn of the loop begins.
    pub(crate) fn turn(&mut self) {
        if self.tracer.is_on() {
            self.turn_began = now();
        }
    }

    /// A change was taken from the doors' queue, in which it waited since then.
    pub(crate) fn admitted(&self, command: &Command, since: Option<u64>) {
        if let (Some(since), Some(span)) = (since, SpanId::from_bytes(&command.trace)) {
            self.tracer
                .step(span, "admission", (since, now()), Vec::new());
        }
    }

    /// Entries are handed to the log.
    pub(crate) fn handed(&mut self, persist: &Persist) {
        let (true, Some(first)) = (self.tracer.is_on(), persist.entries.first()) else {
            return;
        };
        // What they overwrite is never decided.
        while self
            .followed
            .back()
            .is_some_and(|it| it.index >= first.index.0)
        {
            self.followed.pop_back();
        }
        let appended = now();
        for entry in &persist.entries {
            let Payload::Batch(bytes) = &entry.payload else {
                continue;
            };
            let Ok(batch) = Batch::decode(bytes.clone()) else {
                continue;
            };
            let commands = batch.groups.iter().flat_map(|group| &group.commands);
            for span in commands.filter_map(|command| SpanId::from_bytes(&command.trace)) {
                if self.followed.len() >= FOLLOWED_MAX {
                    return;
                }
                let followed = Followed {
                    span,
                    index: entry.index.0,
                    term: entry.term.0,
                    handed: persist.sequence,
                    appended,
                    synced: false,
                    committed: None,
                    applied: false,
                };
                self.tracer.step(
                    span,
                    "append",
                    (self.turn_began, appended),
                    followed.place(),
                );
                self.followed.push_back(followed);
            }
        }
    }

    /// All that was handed to the log up to this is durable.
    pub(crate) fn durable(&mut self, upto: PersistSequence) {
        for it in self.followed.iter_mut() {
            if !it.synced && it.handed <= upto {
                it.synced = true;
                self.tracer
                    .step(it.span, "sync", (it.appended, now()), it.place());
            }
        }
        self.forget();
    }

    /// Whether there is anything to look for at the end of a turn.
    pub(crate) fn is_following(&self) -> bool {
        !self.followed.is_empty()
    }

    /// Looks how far the log has come.
    pub(crate) fn look(&mut self, status: &Status) {
        for it in self.followed.iter_mut() {
            if it.committed.is_none() && it.index <= status.raft.commit.0 {
                let committed = now();
                it.committed = Some(committed);
                self.tracer
                    .step(it.span, "commit", (it.appended, committed), it.place());
            }
            if let Some(committed) = it.committed
                && !it.applied
                && it.index <= status.applied
            {
                it.applied = true;
                self.tracer
                    .step(it.span, "apply", (committed, now()), it.place());
            }
        }
        self.forget();
    }

    fn forget(&mut self) {
        while self
            .followed
            .front()
            .is_some_and(|it| it.synced && it.applied)
        {
            self.followed.pop_front();
        }
    }
}

impl Followed {
    fn place(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("synod.index", Value::Number(self.index as i64)),
            ("synod.term", Value::Number(self.term as i64)),
        ]
    }
}
