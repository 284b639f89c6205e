//! Confirmed reads without a log entry (ReadIndex, Raft thesis §6.4), batched.
//!
//! All reads begun in one turn share a request: on the leader a round of heartbeats, elsewhere one message to the leader, which rides in the
//! leader's next round. A round counts by the leader's own number and process, and only after an entry of the leader's own term is
//! committed. Time is used only to give up, never to answer.

use crate::{Boot, Effect, Index, Instant, PeerId, ReadSequence};
use std::collections::VecDeque;
use std::time::Duration;

/// Requests of other members waiting at a leader at most; more are dropped and time out where they began.
const REMOTE_READS_MAX: usize = 4096;

/// Times a request is sent to the leader.
const TRIES: u32 = 4;

/// Reads that share their fate: first and last sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadRange {
    first: ReadSequence,
    last: ReadSequence,
}

impl ReadRange {
    pub(crate) fn ready(self, effects: &mut VecDeque<Effect>, index: Index, asked: Instant) {
        effects.extend((self.first..=self.last).map(|read| Effect::ReadReady {
            read,
            index,
            asked,
        }));
    }

    pub(crate) fn fail(self, effects: &mut VecDeque<Effect>) {
        effects.extend((self.first..=self.last).map(|read| Effect::ReadFailed { read }));
    }
}

/// A request sent to the leader.
#[derive(Debug)]
struct Asked {
    request: u64,
    reads: ReadRange,
    /// When it was sent first: an answer may be to that.
    sent: Instant,
    /// When it is sent again: what was said may be lost, or its answer far away.
    again_at: Instant,
}

/// The reads of this member, in any role.
#[derive(Debug, Default)]
pub(crate) struct LocalReads {
    newest: ReadSequence,
    /// Begun since the last turn.
    open: Option<ReadRange>,
    asked: VecDeque<Asked>,
    newest_request: u64,
}

impl LocalReads {
    pub(crate) fn begin(&mut self) -> ReadSequence {
        self.newest += 1;
        match &mut self.open {
            Some(open) => open.last = self.newest,
            None => {
                self.open = Some(ReadRange {
                    first: self.newest,
                    last: self.newest,
                })
            }
        }
        self.newest
    }

    pub(crate) fn take_open(&mut self) -> Option<ReadRange> {
        self.open.take()
    }

    /// Notes a request to the leader and gives its number.
    pub(crate) fn ask(&mut self, reads: ReadRange, now: Instant, patience: Duration) -> u64 {
        self.newest_request += 1;
        self.asked.push_back(Asked {
            request: self.newest_request,
            reads,
            sent: now,
            again_at: now + patience,
        });
        self.newest_request
    }

    pub(crate) fn on_reply(&mut self, effects: &mut VecDeque<Effect>, request: u64, index: Index) {
        let Ok(place) = self
            .asked
            .binary_search_by_key(&request, |asked| asked.request)
        else {
            return;
        };
        let asked = self.asked.remove(place).expect("just found");
        asked.reads.ready(effects, index, asked.sent);
    }

    /// When a request is sent again, or given up.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.asked.iter().map(|asked| asked.again_at).min()
    }

    /// Gives up what has waited for [`TRIES`] times `patience`, and gives the requests that are to be sent again. Under their old number: the answer to what was
    /// sent first is as good, and a leader may be so far away that it comes after the second.
    pub(crate) fn expire(
        &mut self,
        effects: &mut VecDeque<Effect>,
        now: Instant,
        patience: Duration,
    ) -> Vec<u64> {
        while self
            .asked
            .front()
            .is_some_and(|asked| asked.sent + patience * TRIES <= now)
        {
            self.asked
                .pop_front()
                .expect("just seen")
                .reads
                .fail(effects);
        }
        let due = self.asked.iter_mut().filter(|asked| asked.again_at <= now);
        due.map(|asked| {
            asked.again_at = now + patience;
            asked.request
        })
        .collect()
    }

    /// The leader changed: what was asked of it is not answered any more. What was begun this turn may still be asked of the new one.
    pub(crate) fn fail_asked(&mut self, effects: &mut VecDeque<Effect>) {
        for asked in self.asked.drain(..) {
            asked.reads.fail(effects);
        }
    }
}

/// Another member's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RemoteRead {
    pub(crate) origin: PeerId,
    pub(crate) boot: Boot,
    pub(crate) request: u64,
}

/// Reads that wait for one round.
#[derive(Debug)]
pub(crate) struct Round {
    number: u64,
    pub(crate) index: Index,
    pub(crate) sent: Instant,
    pub(crate) local: Option<ReadRange>,
    pub(crate) remote: Vec<RemoteRead>,
}

/// A leader's rounds and the reads that wait for them.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    newest: u64,
    confirmed: u64,
    pending: VecDeque<Round>,
    /// Begun, but nothing of the leader's own term is committed yet; with the time the first was begun.
    held: Vec<(ReadRange, Instant)>,
    remote: Vec<RemoteRead>,
}

impl Rounds {
    /// Gives the next round's number.
    pub(crate) fn next(&mut self) -> u64 {
        self.newest += 1;
        self.newest
    }

    pub(crate) fn newest(&self) -> u64 {
        self.newest
    }

    pub(crate) fn confirmed(&self) -> u64 {
        self.confirmed
    }

    pub(crate) fn hold(&mut self, reads: ReadRange, now: Instant) {
        self.held.push((reads, now));
    }

    pub(crate) fn add_remote(&mut self, read: RemoteRead) {
        if self.remote.len() < REMOTE_READS_MAX {
            self.remote.push(read);
        }
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.held.is_empty() || !self.remote.is_empty()
    }

    /// Lets everything that waits ride in round `number`, sent now.
    pub(crate) fn ride(&mut self, number: u64, index: Index, now: Instant) {
        let remote = std::mem::take(&mut self.remote);
        let mut locals = self.held.drain(..);
        let first = locals.next().map(|(reads, _)| reads);
        self.pending.push_back(Round {
            number,
            index,
            sent: now,
            local: first,
            remote,
        });
        for (reads, _) in locals {
            self.pending.push_back(Round {
                number,
                index,
                sent: now,
                local: Some(reads),
                remote: Vec::new(),
            });
        }
    }

    /// A quorum answered every round through `number`: gives the reads that waited for them.
    pub(crate) fn confirm(&mut self, number: u64) -> Vec<Round> {
        assert!(
            number <= self.newest,
            "round {number} confirmed, the newest is {}",
            self.newest
        );
        self.confirmed = self.confirmed.max(number);
        let confirmed = self
            .pending
            .partition_point(|round| round.number <= self.confirmed);
        self.pending.drain(..confirmed).collect()
    }

    /// Fails what has waited too long.
    pub(crate) fn expire(
        &mut self,
        effects: &mut VecDeque<Effect>,
        now: Instant,
        patience: Duration,
    ) {
        while self
            .pending
            .front()
            .is_some_and(|round| round.sent + patience <= now)
        {
            let round = self.pending.pop_front().expect("just seen");
            if let Some(reads) = round.local {
                reads.fail(effects);
            }
        }
        self.held.retain(|(reads, begun)| {
            let waits = *begun + patience > now;
            if !waits {
                reads.fail(effects);
            }
            waits
        });
    }

    /// The leader leads no more: fails everything.
    pub(crate) fn fail_all(self, effects: &mut VecDeque<Effect>) {
        let pending = self.pending.into_iter().filter_map(|round| round.local);
        for reads in pending.chain(self.held.into_iter().map(|(reads, _)| reads)) {
            reads.fail(effects);
        }
    }
}
