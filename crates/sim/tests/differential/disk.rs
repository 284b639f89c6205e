//! A member's disk: what is durable, and the writes that are not yet.

use crate::member::Slot;
use std::collections::VecDeque;

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub struct Durable {
    pub term: u64,
    /// The member voted for in `term`; 0 for none.
    pub vote: u64,
    /// Only raft-rs stores its commit index.
    pub commit: u64,
    pub log: Vec<Slot>,
}

/// Something to make durable at once. `M` is what may be said only afterwards.
#[derive(Debug)]
pub struct Write<M> {
    pub number: u64,
    /// Term and vote.
    pub vote: Option<(u64, u64)>,
    pub commit: Option<u64>,
    /// Entries from this index on; what was stored from there on is dropped.
    pub entries: Option<(u64, Vec<Slot>)>,
    pub afterwards: Vec<M>,
}

/// Writes become durable in order.
#[derive(Debug)]
pub struct Disk<M> {
    pub durable: Durable,
    under_way: VecDeque<Write<M>>,
}

impl<M> Disk<M> {
    pub fn new() -> Disk<M> {
        Disk {
            durable: Durable::default(),
            under_way: VecDeque::new(),
        }
    }

    pub fn write(&mut self, write: Write<M>) {
        self.under_way.push_back(write);
    }

    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// The oldest write is durable: its number, and what may be said now.
    pub fn complete(&mut self) -> Option<(u64, Vec<M>)> {
        let write = self.under_way.pop_front()?;
        if let Some((term, vote)) = write.vote {
            (self.durable.term, self.durable.vote) = (term, vote);
        }
        if let Some(commit) = write.commit {
            self.durable.commit = commit;
        }
        if let Some((first, slots)) = write.entries {
            overwrite(&mut self.durable.log, first, slots);
        }
        Some((write.number, write.afterwards))
    }

    /// The power fails: of the writes under way only the first `survivors` had reached the disk. Nothing more is said.
    pub fn crash(&mut self, survivors: usize) {
        for _ in 0..survivors {
            self.complete();
        }
        self.under_way.clear();
    }
}

/// Puts slots into a log from index `first` on, dropping what was there and after.
pub fn overwrite(log: &mut Vec<Slot>, first: u64, slots: impl IntoIterator<Item = Slot>) {
    let keep = first as usize - 1;
    assert!(
        keep <= log.len(),
        "entries from {first} leave a gap after {}",
        log.len()
    );
    log.truncate(keep);
    log.extend(slots);
}
