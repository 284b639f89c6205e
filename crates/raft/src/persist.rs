//! Persist before speak: what is being made durable, and what may be said only afterwards.
//!
//! Changes of one turn gather in one [`Persist`]. Sequences become durable in order. A message that depends on a write is held here until
//! that write's sequence is durable. Source: Raft thesis §3.8, §10.2.1 (the leader writes in parallel with replication).

use crate::message::Body;
use crate::{
    Effect, Entry, Index, Instant, Message, PeerId, Persist, PersistSequence, SnapshotMark, Vote,
};
use std::collections::VecDeque;

/// A write handed to the disk and not yet durable.
#[derive(Debug)]
struct Write {
    sequence: PersistSequence,
    issued: Instant,
    /// How far the present log is durable once this write is. A later truncation lowers it.
    last: Index,
}

#[derive(Debug)]
struct Held {
    after: PersistSequence,
    to: PeerId,
    message: Message,
}

#[derive(Debug)]
pub(crate) struct Writes {
    /// What this turn gathered; its sequence is not given yet.
    vote: Option<Vote>,
    reset: Option<SnapshotMark>,
    entries: Vec<Entry>,
    /// The last index of the log with all that is gathered.
    last: Index,
    /// The sequence the next persist will have.
    next: PersistSequence,
    durable: PersistSequence,
    /// The newest sequence that holds a vote record, and the newest that holds entries or a reset.
    vote_sequence: PersistSequence,
    log_sequence: PersistSequence,
    outstanding: VecDeque<Write>,
    durable_index: Index,
    held: VecDeque<Held>,
}

impl Writes {
    pub(crate) fn new(durable_index: Index) -> Writes {
        Writes {
            vote: None,
            reset: None,
            entries: Vec::new(),
            last: durable_index,
            next: 1,
            durable: 0,
            vote_sequence: 0,
            log_sequence: 0,
            outstanding: VecDeque::new(),
            durable_index,
            held: VecDeque::new(),
        }
    }

    pub(crate) fn set_vote(&mut self, vote: Vote) {
        self.vote = Some(vote);
        self.vote_sequence = self.next;
    }

    /// Gathers an entry. Its index may lie before the end: then everything from it on is replaced.
    pub(crate) fn push(&mut self, entry: Entry) {
        if entry.index <= self.last {
            self.truncate(entry.index);
        }
        assert!(
            entry.index == self.last.next(),
            "write gap: entry {} after {}",
            entry.index,
            self.last
        );
        self.last = entry.index;
        self.log_sequence = self.next;
        self.entries.push(entry);
    }

    fn truncate(&mut self, from: Index) {
        let keep = self.entries.partition_point(|entry| entry.index < from);
        self.entries.truncate(keep);
        self.last = from.prev();
        self.durable_index = self.durable_index.min(self.last);
        for write in &mut self.outstanding {
            write.last = write.last.min(self.last);
        }
    }

    pub(crate) fn reset(&mut self, mark: SnapshotMark) {
        self.entries.clear();
        self.last = mark.index;
        // The snapshot is durable already, and all of the log that counts is in it.
        self.durable_index = mark.index;
        for write in &mut self.outstanding {
            write.last = Index(0);
        }
        self.reset = Some(mark);
        self.log_sequence = self.next;
    }

    /// Closes what this turn gathered into a persist, if there is anything.
    pub(crate) fn seal(&mut self, now: Instant, commit: Index) -> Option<Persist> {
        if self.vote.is_none() && self.reset.is_none() && self.entries.is_empty() {
            return None;
        }
        let sequence = self.next;
        self.next += 1;
        self.outstanding.push_back(Write {
            sequence,
            issued: now,
            last: self.last,
        });
        Some(Persist {
            sequence,
            vote: self.vote.take(),
            reset: self.reset.take(),
            entries: std::mem::take(&mut self.entries),
            commit,
        })
    }

    /// Notes that everything up to `sequence` is durable.
    pub(crate) fn complete(&mut self, sequence: PersistSequence) {
        assert!(
            sequence < self.next,
            "persisted {sequence} was never issued; the next is {}",
            self.next
        );
        if sequence <= self.durable {
            return;
        }
        self.durable = sequence;
        while self
            .outstanding
            .front()
            .is_some_and(|write| write.sequence <= sequence)
        {
            let write = self.outstanding.pop_front().expect("just seen");
            self.durable_index = self.durable_index.max(write.last);
        }
    }

    /// Gives the messages that waited for what is durable now, in order. Of several successful append answers to one peer only the
    /// last is given: it says all that the others say.
    pub(crate) fn release(&mut self, effects: &mut VecDeque<Effect>) {
        let mut ready: Vec<(PeerId, Message)> = Vec::new();
        let mut waiting = VecDeque::new();
        for held in self.held.drain(..) {
            if held.after > self.durable {
                waiting.push_back(held);
                continue;
            }
            if is_append_success(&held.message) {
                ready.retain(|(to, message)| *to != held.to || !is_append_success(message));
            }
            ready.push((held.to, held.message));
        }
        self.held = waiting;
        effects.extend(
            ready
                .into_iter()
                .map(|(to, message)| Effect::Send { to, message }),
        );
    }

    /// Sends a message once the vote record (term included) is durable, and the log too if `with_log`.
    pub(crate) fn send(
        &mut self,
        effects: &mut VecDeque<Effect>,
        to: PeerId,
        message: Message,
        with_log: bool,
    ) {
        let with_log = with_log && !mutated!(AcknowledgeBeforeDurable);
        let after = if with_log {
            self.vote_sequence.max(self.log_sequence)
        } else {
            self.vote_sequence
        };
        if after <= self.durable || mutated!(VoteBeforeDurable) {
            effects.push_back(Effect::Send { to, message });
        } else {
            self.held.push_back(Held { after, to, message });
        }
    }

    /// Drops messages of an older term that were not sent yet: nobody counts them any more.
    pub(crate) fn forget_held(&mut self) {
        self.held.clear();
    }

    pub(crate) fn vote_is_durable(&self) -> bool {
        self.vote_sequence <= self.durable
    }

    /// How far the present log is durable.
    pub(crate) fn durable_index(&self) -> Index {
        self.durable_index
    }

    /// When the oldest write still under way was handed to the disk.
    pub(crate) fn oldest_issued(&self) -> Option<Instant> {
        self.outstanding.front().map(|write| write.issued)
    }
}

fn is_append_success(message: &Message) -> bool {
    matches!(message.body, Body::AppendReply { rejected: None, .. })
}
