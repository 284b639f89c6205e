//! Decided entries become state, in slices, and those who wait hear of it.

use crate::effect::Effect;
use crate::member_request::ChangeBegun;
use crate::replica::Replica;
use raft::{Configuration, Entry, Index, Instant, Payload, Term};
use state::{ApplyError, Budget};
use std::collections::VecDeque;

/// Work in one turn, in the state's units of about a microsecond.
const TURN_UNITS: u64 = 500;
/// Work asked of the state at once. Small, because it does not tell how much of it a finished batch took.
const SLICE_UNITS: u64 = 64;
/// What a batch costs beside its commands.
const BATCH_UNITS: u64 = 4;
/// Bytes of decided entries taken from consensus at once.
const TAKE_BYTES: usize = 1 << 20;

/// Decided entries on their way into the state.
pub(crate) struct Applying {
    queue: VecDeque<Entry>,
    /// The batch at work.
    current: Option<(Index, Term)>,
    /// Term of the last entry applied.
    pub(crate) term: Term,
    /// The configuration in force at the last entry applied.
    pub(crate) configuration: Configuration,
}

impl Applying {
    pub(crate) fn new(term: Term, configuration: Configuration) -> Applying {
        Applying {
            queue: VecDeque::new(),
            current: None,
            term,
            configuration,
        }
    }

    /// Forgets what was taken: the state is about to be replaced.
    pub(crate) fn reset(&mut self) {
        self.queue.clear();
        self.current = None;
    }

    /// No batch is half applied.
    pub(crate) fn is_between_batches(&self) -> bool {
        self.current.is_none()
    }

    /// The batch at work.
    pub(crate) fn at_work(&self) -> Option<Index> {
        self.current.map(|(index, _)| index)
    }
}

impl Replica {
    /// Applies decided entries for one slice; `true` while more are waiting.
    pub(crate) fn apply_slice(&mut self, now: Instant) -> bool {
        if self.snapshots.is_loading() || self.repair.is_stopped() {
            return false;
        }
        let mut left = TURN_UNITS;
        while left > 0 && !self.is_halted() {
            if let Some((index, term)) = self.applying.current {
                let Some(applied) = self.state.apply_step(Budget(SLICE_UNITS)) else {
                    left = left.saturating_sub(SLICE_UNITS);
                    continue;
                };
                let commands: usize = applied
                    .groups
                    .iter()
                    .map(|group| group.replies.len() + group.renewals.len())
                    .sum();
                left = left.saturating_sub(BATCH_UNITS + (commands + applied.expired.len()) as u64);
                self.applying.current = None;
                for group in applied.groups {
                    self.on_group_applied(now, index.0, group);
                }
                self.on_woken(index.0, applied.woken);
                if !applied.locks_changed.is_empty() {
                    let changed = Effect::LocksChanged(applied.locks_changed);
                    self.effects.push_back(changed);
                }
                self.on_entry_applied(now, index, term);
                continue;
            }
            if self.applying.queue.is_empty() {
                self.applying
                    .queue
                    .extend(self.raft.take_committed(TAKE_BYTES));
            }
            let Some(entry) = self.applying.queue.pop_front() else {
                return false;
            };
            left -= 1;
            self.begin_entry(now, entry);
        }
        true
    }

    fn begin_entry(&mut self, now: Instant, entry: Entry) {
        let Entry {
            term,
            index,
            payload,
        } = entry;
        let applied = self.state.applied();
        assert!(
            index.0 == applied + 1,
            "entry {index} is decided where {} is to be applied",
            applied + 1
        );
        match payload {
            Payload::Batch(bytes) => match self.state.apply_begin(index.0, &bytes) {
                Ok(()) => self.applying.current = Some((index, term)),
                Err(ApplyError::NewerVersion { needed, known }) => self.halt(format!(
                    "entry {index} needs feature level {needed}, this binary knows {known}: update this member; it lost nothing"
                )),
                Err(ApplyError::Malformed(text)) => self.halt(format!(
                    "entry {index} of the log is no batch of commands ({text}): the log is not Synod's, or this binary is wrong; keep the data directory and report this"
                )),
            },
            Payload::Noop => {
                self.state.apply_nothing(index.0);
                self.on_entry_applied(now, index, term);
            }
            Payload::Configuration(configuration) => {
                self.state.apply_nothing(index.0);
                self.applying.configuration = configuration;
                self.on_configuration_applied(ChangeBegun { index, term });
                self.on_entry_applied(now, index, term);
            }
        }
    }

    fn on_entry_applied(&mut self, now: Instant, index: Index, term: Term) {
        assert!(
            term >= self.applying.term,
            "applied term {} → {term} at index {index}",
            self.applying.term
        );
        if term > self.applying.term {
            self.applying.term = term;
            self.on_term_applied(term);
            self.on_membership_term_applied(term);
        }
        if self.changes_wait() {
            self.tell_changes_done();
        }
        self.clock
            .applied(term, self.state.clock_ms(), self.state.wall_ms());
        self.batches_applied(index);
        self.hub.feed(&self.state);
        self.on_hash_index(now, index.0);
        self.reads_applied(now, index.0);
    }
}
