//! Locks as a part of the state: commands, the ends of sessions and what is due, each in slices.

use crate::lock::{
    Claimant, GUARDS_MAX, LockAnswer, LockCommand, LockOperation, LockQuery, LockRejection, Locks,
    Moment, Then,
};
use crate::{Command, Guard, Operation, Rejection, State};

/// What there is to know of an acquisition to tell whoever waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acquisition {
    /// Token of the grant; 0 before it.
    pub token: u64,
    /// Ordinal of its last repetition.
    pub joined: u64,
    /// It waits: for its grant, or for the others to leave its barrier.
    pub waits: bool,
}

impl State {
    /// Does something with the locks at the clock of the batch.
    pub(crate) fn with_locks<R>(
        &mut self,
        act: impl FnOnce(&mut Locks, &mut Moment<'_>) -> R,
    ) -> R {
        let State {
            locks,
            leases,
            clock,
            ordinal,
            ..
        } = self;
        let mut moment = Moment {
            leases,
            clock_ms: clock.clock_ms,
            wall_ms: clock.wall_ms,
            ordinal,
            ending: None,
        };
        act(locks, &mut moment)
    }

    /// Begins a command; the locks are to be settled next.
    pub(crate) fn change_lock(&mut self, command: &LockCommand) -> Result<Then, Rejection> {
        match self.locks.growth(command) {
            0 => {}
            growth => self.check_space(growth)?,
        }
        self.with_locks(|locks, moment| locks.change(command, moment))
            .map_err(Rejection::Lock)
    }

    /// Whether a command's guards hold.
    pub(crate) fn check_guards(&mut self, guards: &[Guard]) -> Result<(), Rejection> {
        if guards.len() > GUARDS_MAX {
            return Err(Rejection::Lock(LockRejection::Limit {
                what: "guards of a command".into(),
                value: guards.len() as u64,
                min: 0,
                max: GUARDS_MAX as u64,
            }));
        }
        self.with_locks(|locks, moment| locks.check_guards(guards, moment))
            .map_err(Rejection::Guard)
    }

    /// Lets in who may be; true when all are.
    pub(crate) fn settle_locks(&mut self, fuel: &mut u64) -> bool {
        self.with_locks(|locks, moment| locks.settle(moment, fuel))
    }

    /// Whether a command would, as things stand, begin to wait for a lock: nobody loses time if it is decided a little later.
    pub fn would_wait(&self, command: &Command) -> bool {
        let Some(Operation::Lock(LockCommand {
            operation: Some(LockOperation::Acquire(acquire)),
        })) = &command.operation
        else {
            return false;
        };
        self.locks.would_wait(acquire)
    }

    /// An acquisition, as it is after the last batch.
    pub fn acquisition(&self, claimant: Claimant) -> Option<Acquisition> {
        self.locks.claim(claimant).map(|claim| Acquisition {
            token: claim.token,
            joined: claim.joined,
            waits: claim.waits(),
        })
    }

    /// Answers a question about locks as they are after the last finished command.
    pub(crate) fn ask_locks(&self, query: &LockQuery) -> LockAnswer {
        let clock = self.visible.clock;
        let moment = Moment {
            leases: &self.leases,
            clock_ms: clock.clock_ms,
            wall_ms: clock.wall_ms,
            ordinal: &mut 0,
            ending: None,
        };
        self.locks.ask(query, &moment)
    }
}
