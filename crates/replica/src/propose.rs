//! Changes on their way into the log: admission, groups, batches, and who waits for which outcome.
//!
//! Commands that arrive in one turn make one *group*, encoded as they come, so that no command is copied or encoded twice. A leader puts its own groups
//! and those forwarded to it into one batch per turn; a follower forwards each group. Nobody delays a lone command, but with several batches under way
//! the next ones wait and grow: fewer, larger entries are cheaper for every member.
//!
//! A group is found again when its entry is applied. One that certainly was not and will not be appended (its forward was refused, or an entry of a
//! later term was applied before it) goes back into the queue and is sent again while the hold time lasts; then it fails, and says so.

use crate::departure::{BATCHES_UNDER_WAY_MAX, Departure, Riders};
use crate::effect::Failure;
use crate::input::Ticket;
use crate::replica::Replica;
use bytes::{Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint};
use raft::{Index, Instant, PeerId, ProposeError, Role, Term};
use state::{Command, Group, Operation};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Version of the batch format written here.
const BATCH_FORMAT: u32 = 1;
/// Shortest wait before an empty batch is tried.
const CLOCK_BATCH_RETRY: Duration = Duration::from_millis(1);
/// Bytes of commands waiting for their outcome at most.
const PENDING_BYTES_MAX: usize = 64 << 20;
/// A forward without an outcome for so long may have been lost.
const PROBE_AFTER: Duration = Duration::from_millis(500);
/// A command that was sent and of which nothing was heard ends as unknown after this, in addition to two elections.
const OUTCOME_TIMEOUT: Duration = Duration::from_secs(5);

/// Tags of the batch and group fields written by hand here (see `state::Batch`, `state::Group`).
mod tag {
    pub const BATCH_FORMAT: u32 = 1;
    pub const BATCH_CLOCK: u32 = 2;
    pub const BATCH_WALL: u32 = 3;
    pub const BATCH_GROUPS: u32 = 4;
    pub const GROUP_MEMBER: u32 = 1;
    pub const GROUP_INCARNATION: u32 = 2;
    pub const GROUP_BOOT: u32 = 3;
    pub const GROUP_SEQUENCE: u32 = 4;
    pub const GROUP_RENEWALS: u32 = 5;
    pub const GROUP_COMMANDS: u32 = 6;
}

/// Everything on its way into the log.
pub(crate) struct Proposals {
    me: PeerId,
    boot: u64,
    last_sequence: u64,
    /// The group being gathered.
    open: Option<OpenGroup>,
    /// Own groups to send, by number.
    to_send: VecDeque<u64>,
    /// Groups of other members for the next batch. Of the present leadership only.
    forwarded: VecDeque<Forwarded>,
    /// Own groups without an outcome.
    pending: BTreeMap<u64, PendingGroup>,
    /// Indexes of the batches proposed and not yet applied.
    pub(crate) under_way: VecDeque<Index>,
    pub(crate) departure: Departure,
    /// Commands without an outcome.
    pub(crate) commands: usize,
    keep_alives: usize,
    bytes: usize,
}

struct OpenGroup {
    sequence: u64,
    encoded: BytesMut,
    waiting: Waiting,
    /// Somebody needs it (see `departure`).
    urgent: bool,
    riders: Riders,
}

/// A group of another member.
struct Forwarded {
    encoded: Bytes,
    riders: Riders,
}

/// Who waits for a group.
#[derive(Default)]
struct Waiting {
    /// Per command, in order.
    commands: Vec<Ticket>,
    /// Per lease to renew.
    renewals: BTreeMap<i64, Vec<Ticket>>,
}

impl Waiting {
    fn tickets(self) -> impl Iterator<Item = Ticket> {
        self.commands
            .into_iter()
            .chain(self.renewals.into_values().flatten())
    }
}

struct PendingGroup {
    encoded: Bytes,
    waiting: Waiting,
    riders: Riders,
    since: Instant,
    sent: Sent,
    /// Its index, if it gets one, is above: so much was decided when it was last sent.
    above: Index,
}

/// How far a group has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// Nothing of it has left this queue.
    Not,
    /// In a batch of this member's leadership.
    Proposed(Term),
    /// Sent to the leader of a term, as this number of raft's.
    Forwarded(Term, u64),
}

impl Proposals {
    pub(crate) fn new(me: PeerId, boot: u64) -> Proposals {
        Proposals {
            me,
            boot,
            last_sequence: 0,
            open: None,
            to_send: VecDeque::new(),
            forwarded: VecDeque::new(),
            pending: BTreeMap::new(),
            under_way: VecDeque::new(),
            departure: Departure::default(),
            commands: 0,
            keep_alives: 0,
            bytes: 0,
        }
    }

    /// Somebody waits for an outcome.
    pub(crate) fn is_waiting(&self) -> bool {
        self.open.is_some() || !self.pending.is_empty()
    }

    fn open_group(&mut self) -> &mut OpenGroup {
        let (me, boot) = (self.me, self.boot);
        self.open.get_or_insert_with(|| {
            self.last_sequence += 1;
            let mut encoded = BytesMut::with_capacity(256);
            prost::encoding::fixed64::encode(tag::GROUP_MEMBER, &me.member.0, &mut encoded);
            prost::encoding::uint32::encode(
                tag::GROUP_INCARNATION,
                &me.incarnation.0,
                &mut encoded,
            );
            prost::encoding::fixed64::encode(tag::GROUP_BOOT, &boot, &mut encoded);
            prost::encoding::uint64::encode(tag::GROUP_SEQUENCE, &self.last_sequence, &mut encoded);
            OpenGroup {
                sequence: self.last_sequence,
                encoded,
                waiting: Waiting::default(),
                urgent: false,
                riders: Riders::new(),
            }
        })
    }

    /// Ends the group being gathered and queues it.
    fn close_group(&mut self, now: Instant) {
        let Some(mut open) = self.open.take() else {
            return;
        };
        let leases: Vec<i64> = open.waiting.renewals.keys().copied().collect();
        if !leases.is_empty() {
            prost::encoding::int64::encode_packed(tag::GROUP_RENEWALS, &leases, &mut open.encoded);
        }
        let encoded = open.encoded.freeze();
        self.bytes += encoded.len();
        self.pending.insert(
            open.sequence,
            PendingGroup {
                encoded,
                waiting: open.waiting,
                riders: if open.urgent {
                    Riders::new()
                } else {
                    open.riders
                },
                since: now,
                sent: Sent::Not,
                above: Index(0),
            },
        );
        self.to_send.push_back(open.sequence);
    }

    /// Something waits for the next batch.
    pub(crate) fn has_queued(&self) -> bool {
        !self.to_send.is_empty() || !self.forwarded.is_empty()
    }

    /// What of each group that waits for the next batch only begins to wait for a lock.
    pub(crate) fn riders(&mut self) -> impl Iterator<Item = &mut Riders> {
        let Proposals {
            to_send,
            pending,
            forwarded,
            ..
        } = self;
        let first = to_send.front().copied().unwrap_or(u64::MAX);
        let own = pending
            .range_mut(first..)
            .filter(|(_, group)| group.sent == Sent::Not)
            .map(|(_, group)| &mut group.riders);
        own.chain(forwarded.iter_mut().map(|group| &mut group.riders))
    }

    /// Takes a group out of the books.
    fn end(&mut self, sequence: u64) -> Option<Waiting> {
        let group = self.pending.remove(&sequence)?;
        self.bytes -= group.encoded.len();
        self.commands -= group.waiting.commands.len();
        self.keep_alives -= group.waiting.renewals.values().map(Vec::len).sum::<usize>();
        Some(group.waiting)
    }

    /// Puts groups that certainly were not appended back into the queue, before all newer ones.
    fn send_again(&mut self, lost: impl Fn(Sent) -> bool) {
        let mut again: Vec<u64> = Vec::new();
        for (&sequence, group) in &mut self.pending {
            if group.sent != Sent::Not && lost(group.sent) {
                group.sent = Sent::Not;
                again.push(sequence);
            }
        }
        for sequence in again.into_iter().rev() {
            self.to_send.push_front(sequence);
        }
    }
}

impl Replica {
    /// Takes a client's change into the group of this turn, or refuses it at once.
    pub(crate) fn propose(&mut self, now: Instant, ticket: Ticket, command: &Command) {
        if let Err(failure) = self
            .admit(command)
            .and_then(|()| self.note_wait(ticket, command))
        {
            return self.reply(ticket, Err(failure));
        }
        let rides = self.role == Role::Leader && self.state.would_wait(command);
        let bytes = {
            let group = self.proposals.open_group();
            group.urgent |= !rides;
            if rides && !group.urgent {
                group.riders.push(command.clone());
            }
            prost::encoding::message::encode(tag::GROUP_COMMANDS, command, &mut group.encoded);
            group.waiting.commands.push(ticket);
            group.encoded.len()
        };
        self.proposals.commands += 1;
        if bytes >= self.limits.batch_bytes_max {
            self.proposals.close_group(now);
        }
    }

    fn admit(&self, command: &Command) -> Result<(), Failure> {
        let limits = &self.limits;
        if self.proposals.commands >= limits.pending_commands_max {
            return Err(Failure::Overloaded {
                queue: "commands",
                limit: limits.pending_commands_max,
            });
        }
        if self.proposals.bytes >= PENDING_BYTES_MAX {
            return Err(Failure::Overloaded {
                queue: "bytes of commands",
                limit: PENDING_BYTES_MAX,
            });
        }
        let bytes = prost::Message::encoded_len(command);
        if bytes > limits.command_bytes_max {
            return Err(Failure::TooLarge {
                bytes,
                bytes_max: limits.command_bytes_max,
            });
        }
        if matches!(command.operation, Some(Operation::LeaseGrant(_)))
            && self.state.leases() >= limits.leases_max
        {
            return Err(Failure::TooManyLeases {
                limit: limits.leases_max,
            });
        }
        // Users and roles are not counted in the state's limit, but fill the disk all the same.
        let grows = command.grows() || matches!(command.operation, Some(Operation::Auth(_)));
        if self.space.is_short() && grows {
            return Err(Failure::DiskFull);
        }
        Ok(())
    }

    /// Takes a client's keep-alive: all of one turn travel together, one renewal per lease. They are admitted beside commands, not after them, so that a
    /// flood of writes does not end leases.
    pub(crate) fn keep_alive(&mut self, ticket: Ticket, lease: i64) {
        let limit = self.limits.pending_commands_max;
        if self.proposals.keep_alives >= limit {
            return self.reply(
                ticket,
                Err(Failure::Overloaded {
                    queue: "keep-alives",
                    limit,
                }),
            );
        }
        let group = self.proposals.open_group();
        group.urgent = true;
        group
            .waiting
            .renewals
            .entry(lease)
            .or_default()
            .push(ticket);
        self.proposals.keep_alives += 1;
        mutated!(
            KeepAliveBeforeApply,
            self.acknowledge_at_once(ticket, lease)
        );
    }

    /// Sends what was gathered: into a batch on the leader, forwarded on a follower. Without a leader it stays.
    pub(crate) fn send_proposals(&mut self, now: Instant, wall_ms: u64) {
        self.proposals.close_group(now);
        if self.role == Role::Leader {
            self.send_batches(now, wall_ms);
        } else if self.leader.is_some() {
            self.forward_groups(now);
        }
    }

    fn send_batches(&mut self, now: Instant, wall_ms: u64) {
        if !self.clock.is_ready() {
            return;
        }
        while self.batch_is_due(now) && self.propose_batch(now, wall_ms) {}
        if self.clock_batch_is_due() {
            self.propose_batch(now, wall_ms);
        }
    }

    /// Proposes one batch of what waits (perhaps nothing: only its clock counts then). `false` if raft does not take it now; then everything stays.
    fn propose_batch(&mut self, now: Instant, wall_ms: u64) -> bool {
        let bytes_max = self.limits.batch_bytes_max;
        let proposals = &mut self.proposals;
        let (mut own, mut others, mut bytes) = (0, 0, 0);
        // Both kinds in turn, so that neither member starves the other.
        loop {
            let before = own + others;
            if let Some(group) = proposals.forwarded.get(others)
                && (bytes == 0 || bytes + group.encoded.len() <= bytes_max)
            {
                bytes += group.encoded.len();
                others += 1;
            }
            if let Some(sequence) = proposals.to_send.get(own) {
                let group = &proposals.pending[sequence].encoded;
                if bytes == 0 || bytes + group.len() <= bytes_max {
                    bytes += group.len();
                    own += 1;
                }
            }
            if own + others == before {
                break;
            }
        }
        let time = self.clock.stamp(wall_ms);
        let mut batch = BytesMut::with_capacity(bytes + 16 * (own + others) + 32);
        prost::encoding::uint32::encode(tag::BATCH_FORMAT, &BATCH_FORMAT, &mut batch);
        prost::encoding::uint64::encode(tag::BATCH_CLOCK, &time.clock_ms, &mut batch);
        prost::encoding::uint64::encode(tag::BATCH_WALL, &time.wall_ms, &mut batch);
        let own_groups = proposals
            .to_send
            .iter()
            .take(own)
            .map(|sequence| &proposals.pending[sequence].encoded);
        let forwarded = proposals.forwarded.iter().take(others);
        let forwarded = forwarded.map(|group| &group.encoded);
        for group in forwarded.chain(own_groups) {
            encode_key(tag::BATCH_GROUPS, WireType::LengthDelimited, &mut batch);
            encode_varint(group.len() as u64, &mut batch);
            batch.extend_from_slice(group);
        }
        match self.raft.propose(now, batch.freeze()) {
            Ok(index) => {
                proposals.under_way.push_back(index);
                proposals.departure.left();
                proposals.forwarded.drain(..others);
                for sequence in proposals.to_send.drain(..own) {
                    let group = proposals
                        .pending
                        .get_mut(&sequence)
                        .expect("a queued group is pending");
                    group.sent = Sent::Proposed(self.term);
                    group.above = index.prev();
                }
                true
            }
            Err(ProposeError::NotLeader { .. } | ProposeError::Overloaded { .. }) => false,
        }
    }

    fn forward_groups(&mut self, now: Instant) {
        let decided = self.raft.decided();
        while let Some(&sequence) = self.proposals.to_send.front() {
            let group = self
                .proposals
                .pending
                .get_mut(&sequence)
                .expect("a queued group is pending");
            match self.raft.forward(now, group.encoded.clone()) {
                Ok(number) => {
                    group.sent = Sent::Forwarded(self.term, number);
                    group.above = decided;
                    self.proposals.to_send.pop_front();
                }
                Err(_) => return,
            }
        }
    }

    /// Takes a group forwarded by another member into the next batch. Bytes that are no group of that member are dropped: they would poison the log.
    pub(crate) fn on_forwarded(&mut self, origin: PeerId, boot: u64, body: Bytes) {
        let Ok(group) = <Group as prost::Message>::decode(body.clone()) else {
            return;
        };
        if group.member == origin.member.0
            && group.incarnation == origin.incarnation.0
            && group.boot == boot
        {
            let riders = if group.renewals.is_empty() {
                self.riders(group.commands)
            } else {
                Riders::new()
            };
            self.proposals.forwarded.push_back(Forwarded {
                encoded: body,
                riders,
            });
        }
    }

    /// Forwards from this number of raft's on were refused: they were not and will not be appended.
    pub(crate) fn on_forward_refused(&mut self, first: u64) {
        self.proposals
            .send_again(|sent| matches!(sent, Sent::Forwarded(_, number) if number >= first));
    }

    /// The role or term changed: what others forwarded to the old leadership is lost by the rules of forwarding, and they know.
    pub(crate) fn drop_forwarded(&mut self) {
        self.proposals.forwarded.clear();
        self.proposals.under_way.clear();
        self.proposals.departure.left();
        mutated!(ResendOnLeaderChange, self.proposals.send_again(|_| true));
    }

    /// The first entry of a later term was applied: what was sent in earlier terms and has not been applied never will be.
    pub(crate) fn on_term_applied(&mut self, applied: Term) {
        self.proposals.send_again(|sent| match sent {
            Sent::Not => false,
            Sent::Proposed(term) | Sent::Forwarded(term, _) => term < applied,
        });
    }

    /// Entries up to `index` were applied.
    pub(crate) fn batches_applied(&mut self, index: Index) {
        while self
            .proposals
            .under_way
            .front()
            .is_some_and(|&first| first <= index)
        {
            self.proposals.under_way.pop_front();
        }
        self.look_at_riders();
    }

    /// Answers those who wait for a group that was applied at `index`.
    pub(crate) fn on_group_applied(
        &mut self,
        now: Instant,
        index: u64,
        group: state::GroupApplied,
    ) {
        let proposals = &mut self.proposals;
        let own = group.member == proposals.me.member.0
            && group.incarnation == proposals.me.incarnation.0
            && (group.boot == proposals.boot || mutated!(ReplyAcrossBoots));
        if !own {
            return;
        }
        let sequence = group.sequence;
        // Absent if it was given up as unknown before.
        let Some(mut waiting) = proposals.end(sequence) else {
            return;
        };
        assert_eq!(
            waiting.commands.len(),
            group.replies.len(),
            "replies to the commands of group {sequence} at index {index}"
        );
        let tickets = std::mem::take(&mut waiting.commands);
        for (lease, ttl_ms) in group.renewals {
            for ticket in waiting.renewals.remove(&lease).unwrap_or_default() {
                let response = self.response(
                    crate::effect::Body::KeepAlive(ttl_ms),
                    self.state.revision(),
                    index,
                );
                self.reply(ticket, Ok(response));
            }
        }
        assert!(
            waiting.renewals.is_empty(),
            "renewals of group {sequence} without an answer: {:?}",
            waiting.renewals
        );
        for (ticket, (reply, revision)) in tickets.into_iter().zip(group.replies) {
            let Some(reply) = self.hold_wait(now, ticket, reply) else {
                continue;
            };
            let response = self.response(crate::effect::Body::Reply(reply), revision, index);
            self.reply(ticket, Ok(response));
        }
    }

    /// A snapshot at `index` replaces the state: what was sent may be in it or not, unless so much had been decided before.
    pub(crate) fn sent_proposals_unknown(&mut self, index: Index) {
        let sent: Vec<u64> = self
            .proposals
            .pending
            .iter()
            .filter(|(_, group)| group.sent != Sent::Not && group.above < index)
            .map(|(&sequence, _)| sequence)
            .collect();
        for sequence in sent {
            self.fail_group(sequence, &Failure::Unknown);
        }
    }

    /// The member stops: everybody hears of it.
    pub(crate) fn halt_proposals(&mut self) {
        self.proposals.close_group(Instant(0));
        self.proposals.to_send.clear();
        let all: Vec<(u64, bool)> = self
            .proposals
            .pending
            .iter()
            .map(|(&sequence, group)| (sequence, group.sent == Sent::Not))
            .collect();
        for (sequence, unsent) in all {
            self.fail_group(
                sequence,
                if unsent {
                    &Failure::Halted
                } else {
                    &Failure::Unknown
                },
            );
        }
    }

    fn fail_group(&mut self, sequence: u64, failure: &Failure) {
        if let Some(waiting) = self.proposals.end(sequence) {
            for ticket in waiting.tickets() {
                self.forget_wait(ticket);
                self.reply(ticket, Err(failure.clone()));
            }
        }
    }

    /// Ends what has waited too long: unsent groups say why, sent ones are unknown.
    pub(crate) fn sweep_proposals(&mut self, now: Instant) {
        self.probe_forwards(now);
        let hold = self.hold();
        let unsent = match self.leader {
            None => Failure::NoLeader,
            Some(_) => Failure::Overloaded {
                queue: "batches under way",
                limit: BATCHES_UNDER_WAY_MAX,
            },
        };
        let mut failed = Vec::new();
        for (&sequence, group) in &self.proposals.pending {
            let age = now.since(group.since);
            match group.sent {
                Sent::Not if age > hold => failed.push((sequence, true)),
                Sent::Proposed(_) | Sent::Forwarded(..) if age > OUTCOME_TIMEOUT + hold => {
                    failed.push((sequence, false))
                }
                _ => {}
            }
        }
        if failed.iter().any(|&(_, was_unsent)| was_unsent) {
            let pending = &self.proposals.pending;
            self.proposals
                .to_send
                .retain(|sequence| now.since(pending[sequence].since) <= hold);
        }
        for (sequence, was_unsent) in failed {
            self.fail_group(
                sequence,
                if was_unsent || mutated!(UnknownToldAsRefused) {
                    &unsent
                } else {
                    &Failure::Unknown
                },
            );
        }
    }

    /// A forward that was lost with a connection is noticed by the leader only when another follows. If none does, an empty one is sent: the leader's
    /// replica drops it, but the gap before it is refused, and what was lost is sent again.
    fn probe_forwards(&mut self, now: Instant) {
        let (term, pending) = (self.term, &self.proposals.pending);
        let waits = |group: &PendingGroup| {
            matches!(group.sent, Sent::Forwarded(sent, _) if sent == term)
                && now.since(group.since) > PROBE_AFTER
        };
        if self.leader.is_some() && self.role != Role::Leader && pending.values().any(waits) {
            // Refused only if the leader just went; then its successor's first entry tells.
            let _ = self.raft.forward(now, Bytes::new());
        }
    }

    /// How long a request waits for a leader before it fails: two elections.
    pub(crate) fn hold(&self) -> Duration {
        self.election_max * 2
    }

    /// How long a request of which nothing is heard stays.
    pub(crate) fn outcome_timeout(&self) -> Duration {
        OUTCOME_TIMEOUT + self.hold()
    }

    /// An empty batch is needed: a removal is being written down, and that goes on with batches only; or for its clock: the earliest lease deadline has passed, or the log's clock is too far behind while there are leases.
    fn clock_batch_is_due(&self) -> bool {
        let idle = self.proposals.under_way.is_empty();
        if idle && self.clock.is_ready() && self.is_removing() {
            return true;
        }
        let Some(deadline) = self.state.next_deadline_ms() else {
            return false;
        };
        let (Some(clock), Some(last)) = (self.clock.clock_ms(), self.clock.last_clock_ms()) else {
            return false;
        };
        // A batch under way whose clock has passed the deadline will end the lease, or at least some: applying is bounded per batch.
        let expiry = deadline <= clock && (last < deadline || idle);
        let expiry = expiry && !mutated!(LeasesEndAtCheckpoints);
        expiry || idle && self.clock.until_checkpoint() == Some(Duration::ZERO)
    }

    fn is_removing(&self) -> bool {
        self.state.complete() < self.state.revision()
    }

    /// When an empty batch will be needed, on a leader.
    pub(crate) fn clock_batch_at(&self, now: Instant) -> Option<Instant> {
        if !self.proposals.under_way.is_empty() {
            // Looked at again when it is applied.
            return None;
        }
        let wait = if self.is_removing() {
            self.clock.clock_ms().map(|_| Duration::ZERO)?
        } else {
            self.clock
                .until(self.state.next_deadline_ms()?)?
                .min(self.clock.until_checkpoint()?)
        };
        // A raft that takes no batch now must not be asked in a loop.
        Some(now + wait.max(CLOCK_BATCH_RETRY))
    }
}
