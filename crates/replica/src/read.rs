//! Reads at the freshness asked for (DESIGN: Reads), in slices.
//!
//! A linearizable read waits for a confirmed round of consensus; all reads of a turn share one. Then it waits until the index of the round is applied, as
//! does a read with a stamp. What may be served begins at once: a small query ends in its first slice, a large one goes on beside others in turn.
//! Every read ends with an answer or a failure, whatever becomes of the leader.

use crate::effect::{Body, Failure};
use crate::input::{Consistency, Ticket};
use crate::replica::Replica;
use raft::{Instant, ReadSequence};
use state::auth::Caller;
use state::{Answer, Budget, Query, QueryCursor, Rejection};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// The first slice of a query is this part of a turn; most end in it.
const FIRST_PARTS: u64 = 8;
/// The later ones.
const SLICE_PARTS: u64 = 4;
/// What beginning a query costs.
const BEGIN_UNITS: u64 = 2;
/// Large queries that go on in turn; further ones wait after their first slice, so that not all collect their answers at once.
const RUNNING_MAX: usize = 16;
/// Rounds of consensus under way at most; reads that come meanwhile share the next.
const ROUNDS_MAX: usize = 4;
/// Cancelled tickets remembered at most. Forgetting one only means that its outcome is told after all.
const CANCELLED_MAX: usize = 65_536;

/// All reads of this member.
#[derive(Default)]
pub(crate) struct Reads {
    /// Reads without an outcome.
    live: usize,
    /// Waiting for the next round.
    to_confirm: Vec<Read>,
    rounds: BTreeMap<ReadSequence, Round>,
    /// Waiting for an index to be applied.
    by_index: BTreeMap<u64, Vec<Read>>,
    /// May begin.
    to_begin: VecDeque<Read>,
    /// Begun, not ended; the first [`RUNNING_MAX`] get slices in turn.
    running: VecDeque<Running>,
    cancelled: BTreeSet<Ticket>,
    /// Confirmed rounds whose index is not applied yet: (index, when asked).
    confirmed: VecDeque<(u64, Instant)>,
    /// The state was the newest at some time not before this one.
    fresh_at: Option<Instant>,
}

struct Read {
    ticket: Ticket,
    caller: Caller,
    query: Query,
    since: Instant,
    want: Want,
}

/// What a read waits for, and so how it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    Confirmed,
    Stamp,
    Bounded,
    Nothing,
}

struct Round {
    begun: Instant,
    reads: Vec<Read>,
}

struct Running {
    ticket: Ticket,
    cursor: QueryCursor,
    stamp_index: u64,
}

impl Reads {
    pub(crate) fn is_waiting(&self) -> bool {
        self.live > 0
    }

    /// Every read that has not begun, taken out.
    fn take_waiting(&mut self) -> Vec<Read> {
        let mut reads = std::mem::take(&mut self.to_confirm);
        reads.extend(
            std::mem::take(&mut self.rounds)
                .into_values()
                .flat_map(|round| round.reads),
        );
        reads.extend(std::mem::take(&mut self.by_index).into_values().flatten());
        reads.extend(std::mem::take(&mut self.to_begin));
        reads
    }
}

impl Replica {
    /// Takes a client's read.
    pub(crate) fn read(
        &mut self,
        now: Instant,
        ticket: Ticket,
        caller: Caller,
        consistency: Consistency,
        query: Query,
    ) {
        let limit = self.limits.pending_queries_max;
        if self.reads.live >= limit {
            return self.reply(
                ticket,
                Err(Failure::Overloaded {
                    queue: "queries",
                    limit,
                }),
            );
        }
        let asks = mutated!(
            ReadCheckedWhenAsked,
            match self.state.authorise_query(caller.principal(), &query) {
                Ok(()) => Caller {
                    user: state::auth::ROOT.into(),
                    revision: u64::MAX,
                },
                Err(_) => caller,
            },
            caller
        );
        let read = |want| Read {
            ticket,
            caller: asks,
            query,
            since: now,
            want,
        };
        match consistency {
            Consistency::Linearizable => self.reads.to_confirm.push(read(Want::Confirmed)),
            Consistency::AtLeast(stamp) => {
                if stamp.cluster != self.cluster || stamp.cell != self.cell {
                    return self.reply(ticket, Err(Failure::ForeignStamp));
                }
                if stamp.index <= self.state.applied() || mutated!(StampNotWaited) {
                    self.reads.to_begin.push_back(read(Want::Nothing));
                } else {
                    self.reads
                        .by_index
                        .entry(stamp.index)
                        .or_default()
                        .push(read(Want::Stamp));
                }
            }
            Consistency::Bounded(age_max) => {
                if self
                    .reads
                    .fresh_at
                    .is_some_and(|at| now.since(at) <= age_max)
                    || mutated!(BoundedIgnoresFreshness)
                {
                    self.reads.to_begin.push_back(read(Want::Nothing));
                } else {
                    // An idle member has asked nobody lately. It asks now, and refuses only if nobody confirms.
                    self.reads.to_confirm.push(read(Want::Bounded));
                }
            }
            Consistency::Local if mutated!(LocalReadNeedsLeader) => {
                self.reads.to_confirm.push(read(Want::Nothing))
            }
            Consistency::Local => self.reads.to_begin.push_back(read(Want::Nothing)),
        }
        self.reads.live += 1;
    }

    /// The client is gone: the read is dropped where it is met next.
    pub(crate) fn cancel_read(&mut self, ticket: Ticket) {
        if self.reads.live == 0 || self.reads.cancelled.len() >= CANCELLED_MAX {
            self.reads.cancelled.clear();
        }
        if self.reads.live > 0 {
            self.reads.cancelled.insert(ticket);
        }
    }

    /// Begins a round for the reads that wait for one, if a leader is known; after a start also without one.
    pub(crate) fn confirm_reads(&mut self, now: Instant) {
        if (self.reads.to_confirm.is_empty() && !self.wants_first_round())
            || self.leader.is_none()
            || self.reads.rounds.len() >= ROUNDS_MAX
        {
            return;
        }
        let sequence = self.raft.read(now);
        let reads = std::mem::take(&mut self.reads.to_confirm);
        self.reads
            .rounds
            .insert(sequence, Round { begun: now, reads });
    }

    /// After a start one round is asked for without a read, to learn how far the state must come to be as new as what others have seen.
    fn wants_first_round(&self) -> bool {
        self.reads.rounds.is_empty() && !self.is_caught_up() && self.reads.confirmed.is_empty()
    }

    /// Since the start, a confirmed round was reached.
    pub(crate) fn is_caught_up(&self) -> bool {
        self.reads.fresh_at.is_some()
    }

    /// A round was confirmed: its reads wait for its index.
    pub(crate) fn on_read_ready(&mut self, sequence: ReadSequence, index: u64, asked: Instant) {
        mutated!(FreshBeforeApplied, self.reads.fresh_at = Some(asked));
        self.reads.confirmed.push_back((index, asked));
        if let Some(round) = self.reads.rounds.remove(&sequence) {
            self.reads
                .by_index
                .entry(mutated!(ReadBeforeApplied, 0, index))
                .or_default()
                .extend(round.reads);
        }
        self.release_reads(self.state.applied());
    }

    /// A round cannot be confirmed: its reads ask again with the next turn, while their time lasts.
    pub(crate) fn on_read_failed(&mut self, sequence: ReadSequence) {
        if let Some(round) = self.reads.rounds.remove(&sequence) {
            self.reads.to_confirm.extend(round.reads);
        }
    }

    /// Entries up to `index` were applied.
    pub(crate) fn reads_applied(&mut self, _now: Instant, index: u64) {
        if !self.reads.by_index.is_empty() || !self.reads.confirmed.is_empty() {
            self.release_reads(index);
        }
    }

    fn release_reads(&mut self, applied: u64) {
        if self.snapshots.is_loading() && !self.serving {
            return;
        }
        let reads = &mut self.reads;
        while let Some(first) = reads.by_index.first_entry()
            && *first.key() <= applied
        {
            reads.to_begin.extend(first.remove());
        }
        reads.confirmed.retain(|&(index, asked)| {
            if index <= applied {
                reads.fresh_at = reads.fresh_at.max(Some(asked));
            }
            index > applied
        });
    }

    /// Works on queries for one slice; `true` while more are waiting.
    pub(crate) fn run_queries(&mut self) -> bool {
        if !self.serving {
            return false;
        }
        let mut left = self.limits.query_units;
        while left > 0
            && let Some(read) = self.reads.to_begin.pop_front()
        {
            left = left.saturating_sub(self.begin_query(read));
        }
        // Large queries go on even while small ones keep coming: they get what is left, and at least one slice.
        let mut slices = (left / self.slice_units()).max(1);
        while slices > 0 && !self.reads.running.is_empty() {
            self.run_slice();
            slices -= 1;
        }
        !self.reads.to_begin.is_empty() || !self.reads.running.is_empty()
    }

    /// Begins a query and gives it its first slice; gives the units it took.
    fn begin_query(&mut self, read: Read) -> u64 {
        let Read {
            ticket,
            caller,
            query,
            ..
        } = read;
        if self.reads.cancelled.remove(&ticket) {
            self.reads.live -= 1;
            return 1;
        }
        // A view in the midst of a batch has seen a part of it: its stamp names that batch.
        let seen = self
            .applying
            .at_work()
            .map_or(self.state.applied(), |index| index.0);
        let stamp_index = mutated!(StampTooNew, self.raft.commit().0, seen);
        if let Err(denied) = self.state.authorise_query(caller.principal(), &query) {
            let answer = Answer::Rejected(Rejection::Auth(denied));
            let revision = self.state.revision();
            self.end_query(ticket, Body::Answer(answer), revision, stamp_index);
            return BEGIN_UNITS;
        }
        let mut cursor = self.state.query_begin(query);
        let first_units = (self.limits.query_units / FIRST_PARTS).max(1);
        match self.state.query_step(&mut cursor, Budget(first_units)) {
            Some((answer, revision)) => {
                self.end_query(ticket, Body::Answer(answer), revision, stamp_index);
                BEGIN_UNITS
            }
            None => {
                self.reads.running.push_back(Running {
                    ticket,
                    cursor,
                    stamp_index,
                });
                first_units
            }
        }
    }

    fn slice_units(&self) -> u64 {
        (self.limits.query_units / SLICE_PARTS).max(1)
    }

    /// Gives the next large query a slice.
    fn run_slice(&mut self) {
        let Some(mut running) = self.reads.running.pop_front() else {
            return;
        };
        if self.reads.cancelled.remove(&running.ticket) {
            self.reads.live -= 1;
            return self.state.query_cancel(running.cursor);
        }
        let slice = Budget(self.slice_units());
        match self.state.query_step(&mut running.cursor, slice) {
            Some((answer, revision)) => self.end_query(
                running.ticket,
                Body::Answer(answer),
                revision,
                running.stamp_index,
            ),
            None => {
                let behind = self.reads.running.len().min(RUNNING_MAX - 1);
                self.reads.running.insert(behind, running);
            }
        }
    }

    fn end_query(&mut self, ticket: Ticket, body: Body, revision: i64, stamp_index: u64) {
        self.reads.live -= 1;
        let response = self.response(body, revision, stamp_index);
        self.reply(ticket, Ok(response));
    }

    fn fail_read(&mut self, read: &Read, failure: Failure) {
        self.reads.live -= 1;
        if !self.reads.cancelled.remove(&read.ticket) {
            self.reply(read.ticket, Err(failure));
        }
    }

    /// The state was replaced: queries under way lose their view. They changed nothing and may be asked again.
    pub(crate) fn drop_running_queries(&mut self) {
        for running in std::mem::take(&mut self.reads.running) {
            self.state.query_cancel(running.cursor);
            self.reads.live -= 1;
            if !self.reads.cancelled.remove(&running.ticket) {
                self.reply(running.ticket, Err(Failure::LeaderChanged));
            }
        }
    }

    /// After the state was replaced, stamps and rounds up to its index are reached.
    pub(crate) fn reads_restored(&mut self) {
        self.release_reads(self.state.applied());
    }

    /// The member stops: everybody hears of it.
    pub(crate) fn halt_reads(&mut self) {
        for read in self.reads.take_waiting() {
            self.fail_read(&read, Failure::Halted);
        }
        for running in std::mem::take(&mut self.reads.running) {
            self.reads.live -= 1;
            self.reply(running.ticket, Err(Failure::Halted));
        }
    }

    /// Ends reads that waited too long; asks again for rounds that were lost.
    pub(crate) fn sweep_reads(&mut self, now: Instant) {
        let lost: Vec<ReadSequence> = self
            .reads
            .rounds
            .iter()
            .filter(|(_, round)| now.since(round.begun) > self.hold())
            .map(|(&sequence, _)| sequence)
            .collect();
        for sequence in lost {
            self.on_read_failed(sequence);
        }
        let (hold, timeout, bounded) = (self.hold(), self.outcome_timeout(), self.election_max);
        let leaderless = self.leader.is_none();
        let too_old = |read: &Read| {
            let age_max: Duration = match read.want {
                Want::Confirmed if leaderless => hold,
                Want::Bounded => bounded,
                Want::Confirmed | Want::Stamp | Want::Nothing => timeout,
            };
            now.since(read.since) > age_max
        };
        let reads = &mut self.reads;
        let mut failed: Vec<Read> = reads
            .to_confirm
            .extract_if(.., |read| too_old(read))
            .collect();
        for round in reads.rounds.values_mut() {
            failed.extend(round.reads.extract_if(.., |read| too_old(read)));
        }
        for waiting in reads.by_index.values_mut() {
            failed.extend(waiting.extract_if(.., |read| too_old(read)));
        }
        reads.by_index.retain(|_, waiting| !waiting.is_empty());
        if !self.serving {
            let (old, young) = std::mem::take(&mut reads.to_begin)
                .into_iter()
                .partition::<Vec<Read>, _>(too_old);
            reads.to_begin.extend(young);
            failed.extend(old);
        }
        let leader = self.leader.map(|leader| leader.member);
        for read in failed {
            let failure = match read.want {
                Want::Confirmed if leader.is_none() => Failure::NoLeader,
                Want::Confirmed => Failure::LeaderChanged,
                Want::Stamp | Want::Bounded | Want::Nothing => Failure::TooStale { leader },
            };
            self.fail_read(&read, failure);
        }
    }
}
