//! When the next batch leaves, on a leader: at once, if nothing speaks against it.
//!
//! What would only begin to wait for a lock takes a seat in the next batch that somebody needs; if there is none soon, it leaves alone. A contended
//! lock so costs one batch for each hand-over, not two that wait for each other's disk.

use crate::replica::Replica;
use raft::Instant;
use state::Command;
use std::time::Duration;

/// Batches proposed and not yet applied at most, before the next waits. One is being synced and replicated, one queues behind that sync; two more keep
/// members of different speed busy. With more, batches would stay small under load; with fewer, a command would wait out a round it could have shared.
pub(crate) const BATCHES_UNDER_WAY_MAX: usize = 4;
/// What nobody needs yet waits so long for a batch to ride with.
const RIDE_MAX: Duration = Duration::from_millis(5);
/// Shortest wait before a batch that could not leave is tried again.
const RETRY: Duration = Duration::from_millis(1);

/// See the module.
#[derive(Default)]
pub(crate) struct Departure {
    /// All that waits would ride with another batch; then it leaves alone.
    riding_until: Option<Instant>,
}

impl Departure {
    /// A batch left, or none ever will.
    pub(crate) fn left(&mut self) {
        self.riding_until = None;
    }

    /// When a batch has to leave though nobody needs it.
    pub(crate) fn due_at(&self, now: Instant) -> Option<Instant> {
        self.riding_until.map(|until| until.max(now + RETRY))
    }
}

/// What of a group only begins to wait, as things stood when it came: empty if somebody needs the group.
pub(crate) type Riders = Vec<Command>;

impl Replica {
    /// Whether all that these commands do is to begin to wait; then they ride.
    pub(crate) fn riders(&self, commands: Vec<Command>) -> Riders {
        let waits = |command| self.state.would_wait(command);
        if commands.iter().all(waits) {
            commands
        } else {
            Riders::new()
        }
    }

    /// Something was applied: who was to wait may not have to.
    pub(crate) fn look_at_riders(&mut self) {
        let state = &self.state;
        for riders in self.proposals.riders() {
            if !riders.iter().all(|command| state.would_wait(command)) {
                riders.clear();
            }
        }
    }

    /// A batch of what waits is to leave now.
    pub(crate) fn batch_is_due(&mut self, now: Instant) -> bool {
        let proposals = &mut self.proposals;
        if !proposals.has_queued() {
            return false;
        }
        if proposals.under_way.len() >= BATCHES_UNDER_WAY_MAX {
            // Looked at again when one is applied.
            proposals.departure.left();
            return false;
        }
        let urgent = proposals.riders().any(|riders| riders.is_empty());
        let riding_until = &mut proposals.departure.riding_until;
        urgent || *riding_until.get_or_insert(now + RIDE_MAX) <= now
    }
}
