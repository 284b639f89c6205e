//! What must hold whoever leads: Raft's five properties (Raft paper, figure 3), only what was proposed is decided, nothing acknowledged is
//! lost, and confirmed reads miss nothing. A violation panics with what was seen.

use crate::member::{Member, Slot};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub struct Oracle {
    /// What was decided at each index, by the first member that applied it.
    pub decided: BTreeMap<u64, Slot>,
    /// Where each payload was decided.
    places: BTreeMap<Bytes, u64>,
    proposed: BTreeSet<Bytes>,
    /// Proposals whose leader has not applied them yet: (member, index) to term and payload.
    waiting: BTreeMap<(u64, u64), (u64, Bytes)>,
    /// Proposals whose leader applied them in the term it proposed them in: their clients were told.
    pub acknowledged: BTreeMap<u64, Bytes>,
    /// The leader of each term.
    pub leaders: BTreeMap<u64, u64>,
    /// How far each member applied since it started.
    pub applied: BTreeMap<u64, u64>,
    /// The term and the commit index each member was seen at since it started.
    seen: BTreeMap<u64, (u64, u64)>,
    /// The term, length and end of the log of who led when it was seen last.
    leading: BTreeMap<u64, (u64, usize, Option<Slot>)>,
    /// What was decided when each read began.
    reads: BTreeMap<u64, u64>,
    pub reads_ready: u64,
}

impl Oracle {
    pub fn on_start(&mut self, id: u64) {
        self.applied.insert(id, 0);
        self.seen.remove(&id);
        self.leading.remove(&id);
        // Their clients get no answer any more.
        self.waiting.retain(|(member, _), _| *member != id);
        self.reads.retain(|read, _| read >> 48 != id);
    }

    pub fn on_propose(&mut self, id: u64, (index, term): (u64, u64), payload: Bytes) {
        self.waiting.insert((id, index), (term, payload));
    }

    /// A payload that a member may append from now on.
    pub fn may_be_decided(&mut self, payload: Bytes) {
        assert!(self.proposed.insert(payload), "proposals are unique");
    }

    pub fn on_applied(&mut self, id: u64, index: u64, slot: Slot) {
        let before = self.applied.insert(id, index).expect("it was started");
        assert_eq!(
            index,
            before + 1,
            "member {id} applies {index} after {before}"
        );
        if let Some((term, payload)) = self.waiting.remove(&(id, index))
            && (slot.term, &slot.payload) == (term, &payload)
        {
            self.acknowledged.insert(index, payload);
        }
        if let Some(first) = self.decided.get(&index) {
            assert_eq!(
                *first, slot,
                "C1: member {id} decides something else at {index}"
            );
            return;
        }
        if !slot.payload.is_empty() {
            assert!(
                self.proposed.contains(&slot.payload),
                "C3: nobody proposed {slot:?}, decided at {index}"
            );
            let place = self.places.insert(slot.payload.clone(), index);
            assert_eq!(place, None, "decided twice: {slot:?} at {index} too");
        }
        self.decided.insert(index, slot);
    }

    pub fn on_read(&mut self, read: u64) {
        self.reads.insert(read, self.newest());
    }

    pub fn on_read_ready(&mut self, read: u64, index: u64) {
        if let Some(floor) = self.reads.remove(&read) {
            assert!(
                index >= floor,
                "read {read:x} at {index}, but {floor} was decided before it began"
            );
            self.reads_ready += 1;
        }
    }

    /// The highest index decided anywhere.
    pub fn newest(&self) -> u64 {
        self.decided.last_key_value().map_or(0, |(index, _)| *index)
    }

    /// What must hold of a member after each of its steps.
    pub fn check(&mut self, id: u64, member: &dyn Member) {
        if !member.is_up() {
            return;
        }
        let (term, commit) = (member.term(), member.commit());
        let (term_before, commit_before) = self.seen.insert(id, (term, commit)).unwrap_or_default();
        assert!(
            term >= term_before,
            "term of {id} fell from {term_before} to {term}"
        );
        assert!(
            commit >= commit_before,
            "commit of {id} fell from {commit_before} to {commit}"
        );
        if !member.leads() {
            self.leading.remove(&id);
            return;
        }
        let log = member.log();
        let now = (term, log.len(), log.last().cloned());
        match self.leading.insert(id, now) {
            Some((term_before, length, end)) if term_before == term => {
                let still = length.checked_sub(1).and_then(|last| log.get(last));
                assert_eq!(
                    still,
                    end.as_ref(),
                    "leader {id} of term {term} changed its log at {length}"
                );
            }
            _ => self.on_leader(id, term, log),
        }
    }

    fn on_leader(&mut self, id: u64, term: u64, log: &[Slot]) {
        let first = *self.leaders.entry(term).or_insert(id);
        assert_eq!(first, id, "two leaders in term {term}");
        for (index, slot) in &self.decided {
            let own = log.get(*index as usize - 1);
            assert_eq!(
                own,
                Some(slot),
                "leader {id} of term {term} lacks what was decided at {index}"
            );
        }
    }

    /// Log matching: logs with the same term at an index are equal up to there.
    pub fn check_logs(members: &[Box<dyn Member>]) {
        for (nth, a) in members.iter().enumerate() {
            for b in &members[nth + 1..] {
                let (a, b) = (a.log(), b.log());
                let last_equal = (0..a.len().min(b.len()))
                    .rev()
                    .find(|at| a[*at].term == b[*at].term);
                let through = last_equal.map_or(0, |at| at + 1);
                assert!(
                    a[..through] == b[..through],
                    "logs agree at {through} and differ before"
                );
            }
        }
    }

    /// At rest every member has applied the same, and what was acknowledged is in it.
    pub fn check_end(&self) {
        for (index, payload) in &self.acknowledged {
            let slot = self.decided.get(index);
            assert!(
                slot.is_some_and(|slot| slot.payload == *payload),
                "acknowledged at {index} and lost: {payload:?}"
            );
        }
        for (id, applied) in &self.applied {
            assert_eq!(
                *applied,
                self.newest(),
                "member {id} applied less than was decided"
            );
        }
    }
}
