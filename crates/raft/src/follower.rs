//! Following: taking entries, commits and snapshots from the leader.
//!
//! Invariants: what is committed is never dropped; an acknowledgement leaves only when what it speaks of is durable. Duplicates, delays and
//! reordering do no harm: entries that match stay, whatever else the message lacks (Raft paper §5.3).

use crate::core::Core;
use crate::log::Position;
use crate::message::{Body, Rejection};
use crate::{Effect, Entry, Index, PeerId, SnapshotMark, Standing};

impl Core {
    fn is_amnesiac(&self) -> bool {
        self.standing == Standing::EntriesLost
    }

    pub(crate) fn on_append(
        &mut self,
        from: PeerId,
        prev: Position,
        commit: Index,
        mut entries: Vec<Entry>,
    ) {
        let mut prev = prev;
        if prev.index < self.commit {
            // What is committed matches by safety; go on after it.
            let known = entries.partition_point(|entry| entry.index <= self.commit);
            if let Some(last_known) = known.checked_sub(1).map(|nth| &entries[nth]) {
                prev = Position {
                    index: last_known.index,
                    term: last_known.term,
                };
            }
            entries.drain(..known);
            if prev.index < self.commit {
                return self.acknowledge(from, self.commit);
            }
        }
        if !self.log.matches(prev) {
            mutated!(
                CommitOfRejectedAppend,
                self.learn_commit(commit.min(self.log.last()))
            );
            return self.reject(from, prev);
        }
        let last_new = entries.last().map_or(prev.index, |entry| entry.index);
        let matching = entries
            .iter()
            .take_while(|entry| self.log.term_at(entry.index) == Some(entry.term))
            .take_while(|_| !mutated!(DelayedAppendTruncates))
            .count();
        if let Some(first_new) = entries.get(matching) {
            if first_new.index <= self.log.last() {
                self.truncate(first_new.index);
            }
            for entry in entries.drain(matching..) {
                self.append(entry);
            }
        }
        self.learn_commit(commit.min(last_new));
        self.acknowledge(from, last_new);
    }

    fn learn_commit(&mut self, commit: Index) {
        if commit > self.commit {
            self.commit_to(commit);
        }
    }

    fn acknowledge(&mut self, to: PeerId, matched: Index) {
        let body = Body::AppendReply {
            matched,
            rejected: None,
            boot: self.boot,
            amnesiac: self.is_amnesiac(),
        };
        self.send_after_log(to, body);
    }

    /// Tells where the logs may agree at best, so that the leader can skip whole terms.
    fn reject(&mut self, to: PeerId, prev: Position) {
        let hint = self.log.last_agreeable(prev);
        assert!(
            hint.index >= self.commit,
            "hint {} before the commit index {}",
            hint.index,
            self.commit
        );
        let rejection = Rejection {
            prev_index: prev.index,
            hint_index: hint.index,
            hint_term: hint.term,
        };
        let body = Body::AppendReply {
            matched: Index(0),
            rejected: Some(rejection),
            boot: self.boot,
            amnesiac: self.is_amnesiac(),
        };
        self.send(to, body);
    }

    /// A commit index with its term: whoever has that entry has everything before it (Log Matching).
    pub(crate) fn on_commit_position(&mut self, commit: Position) {
        if commit.index > self.commit && self.log.matches(commit) {
            self.commit_to(commit.index);
        }
        mutated!(
            CommitByHeartbeat,
            self.learn_commit(commit.index.min(self.log.last()))
        );
    }

    pub(crate) fn answer_round(
        &mut self,
        to: PeerId,
        round: u64,
        leader_boot: crate::Boot,
        sent: crate::Instant,
    ) {
        let body = Body::HeartbeatReply {
            round,
            leader_boot,
            sent,
            boot: self.boot,
            amnesiac: self.is_amnesiac(),
        };
        self.send(to, body);
    }

    /// The log matches a leader's commit index that was confirmed after this member's loss: it may be believed again.
    pub(crate) fn check_recovery(&mut self) {
        if self.standing == Standing::EntriesLost
            && let Some(target) = self.recovering.target()
            && self.writes.durable_index() >= target.index
            && (target.index < self.log.base().index || self.log.matches(target))
        {
            self.standing = Standing::Sound;
        }
    }

    /// A snapshot from the leader is durable. Taken unless the log has that much anyway.
    pub(crate) fn on_snapshot_staged(&mut self, mark: SnapshotMark) {
        let base = Position {
            index: mark.index,
            term: mark.term,
        };
        if self.state_lost && self.log.matches(base) {
            // The log stays; only what was made of it is replaced.
            self.learn_commit(mark.index);
            self.taken = mark.index;
            self.state_lost = false;
            self.fetches.forget_state();
            self.effects.push_back(Effect::RestoreSnapshot(mark));
            return;
        }
        if mark.index <= self.commit {
            return;
        }
        if self.log.matches(base) && !mutated!(SnapshotDropsTail) {
            self.commit_to(mark.index);
            return;
        }
        self.state_lost = false;
        self.log.reset(base);
        self.membership =
            crate::membership::Membership::new(mark.index, mark.configuration.clone());
        self.commit = mark.index;
        self.taken = mark.index;
        self.fetches.forget_state();
        self.writes.reset(mark.clone());
        self.effects.push_back(Effect::RestoreSnapshot(mark));
        self.configuration_changed();
    }
}
