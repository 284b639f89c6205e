//! The limit on bytes of the model: what is counted, what is refused, and the alarm. Of what is counted besides keys it knows leases only, so the limit means
//! something in lives without locks, numbered requests and identifiers.

use state::{Command, Operation, Rejection, Txn, TxnStep};

/// Counted for every record in history besides its key and value.
pub(super) const RECORD_BYTES: u64 = 64;
/// Counted for every lease.
const LEASE_BYTES: u64 = 128;
/// The alarm goes when this part of the limit is free.
const FREE_PARTS: u64 = 16;

/// The limit in force, and whether the alarm is raised.
#[derive(Debug, Default)]
pub(super) struct Space {
    bytes_max: Option<u64>,
    full: bool,
}

/// What there is room for, besides the keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    bytes_max: u64,
    other_bytes: u64,
}

impl Room {
    /// Keys of `bytes` may grow by so much.
    pub(super) fn check(self, bytes: u64, growth: u64) -> Result<(), Rejection> {
        if growth > 0 && bytes + self.other_bytes + growth > self.bytes_max {
            return Err(self.refusal(bytes));
        }
        Ok(())
    }

    /// A lease more fits.
    pub(super) fn check_lease(self, bytes: u64) -> Result<(), Rejection> {
        self.check(bytes, LEASE_BYTES)
    }

    fn refusal(self, bytes: u64) -> Rejection {
        Rejection::NoSpace {
            bytes: bytes + self.other_bytes,
            bytes_max: self.bytes_max,
        }
    }

    fn is_enough(self, bytes: u64) -> bool {
        bytes + self.other_bytes <= self.bytes_max - self.bytes_max / FREE_PARTS
    }
}

impl Space {
    /// Sets the limit.
    pub(super) fn set(&mut self, bytes_max: u64) {
        self.bytes_max = Some(bytes_max);
    }

    /// What there is room for beside so many leases.
    pub(super) fn room(&self, leases: usize) -> Room {
        Room {
            bytes_max: self.bytes_max.unwrap_or(u64::MAX / 2),
            other_bytes: leases as u64 * LEASE_BYTES,
        }
    }

    /// What is counted besides keys.
    #[cfg(test)]
    pub(super) fn other_bytes(&self, leases: usize) -> u64 {
        self.room(leases).other_bytes
    }

    /// Under the alarm nothing that grows is let in, whether it would fit or not.
    pub(super) fn check_alarm(
        &self,
        command: &Command,
        bytes: u64,
        leases: usize,
    ) -> Result<(), Rejection> {
        if self.full && grows(command) {
            return Err(self.room(leases).refusal(bytes));
        }
        Ok(())
    }

    /// Something did not fit.
    pub(super) fn note_refusal(&mut self, bytes: u64, leases: usize) {
        self.full |= !self.room(leases).is_enough(bytes);
    }

    /// Something may have become free.
    pub(super) fn note_room(&mut self, bytes: u64, leases: usize) {
        self.full &= !self.room(leases).is_enough(bytes);
    }
}

/// The workload's commands that make the state grow.
fn grows(command: &Command) -> bool {
    match &command.operation {
        Some(Operation::Put(_) | Operation::LeaseGrant(_)) => true,
        Some(Operation::Txn(txn)) => may_put(txn),
        _ => false,
    }
}

fn may_put(txn: &Txn) -> bool {
    let mut steps = txn.success.iter().chain(&txn.failure);
    steps.any(|operation| match &operation.step {
        Some(TxnStep::Put(_)) => true,
        Some(TxnStep::Txn(inner)) => may_put(inner),
        _ => false,
    })
}
