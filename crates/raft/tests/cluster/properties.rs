//! Raft's properties (Raft paper, figure 3), checked on a running cluster of a test.

use super::Cluster;
use raft::{Index, Term};
use synod_raft as raft;

impl Cluster {
    /// Election safety and leader completeness, at the moment a member begins to lead.
    pub(super) fn check_leader(&mut self, member: u64, term: Term) {
        let id = self.nodes[&member].id;
        // Election safety.
        let first = *self.leaders.entry(term).or_insert(id);
        assert_eq!(first, id, "two leaders in term {term}");
        // Leader completeness: whatever was decided is in the log of every later leader.
        for (index, entry) in &self.decided {
            if let Some(known) = self.raft(member).term_at(*index) {
                assert_eq!(
                    known, entry.term,
                    "leader {member} of term {term} lacks {entry}"
                );
            } else {
                assert!(
                    *index < self.raft(member).status().first,
                    "leader {member} of term {term} ends before {entry}"
                );
            }
        }
    }

    /// What must hold after every step of a member.
    pub(super) fn check(&mut self, member: u64) {
        let Some(node) = self.nodes.get_mut(&member) else {
            return;
        };
        let Some(raft) = &node.raft else { return };
        assert!(
            raft.term() >= node.term,
            "term of {member} fell from {} to {}",
            node.term,
            raft.term()
        );
        assert!(
            raft.commit() >= node.commit,
            "commit of {member} fell from {} to {}",
            node.commit,
            raft.commit()
        );
        (node.term, node.commit) = (raft.term(), raft.commit());
    }

    /// Log matching: two logs with the same term at an index are equal up to there.
    pub fn check_log_matching(&self) {
        let up: Vec<u64> = self
            .nodes
            .keys()
            .copied()
            .filter(|member| self.is_up(*member))
            .collect();
        for (nth, &a) in up.iter().enumerate() {
            for &b in &up[nth + 1..] {
                let (log_a, log_b) = (self.raft(a), self.raft(b));
                let (status_a, status_b) = (log_a.status(), log_b.status());
                let first = status_a.first.max(status_b.first).0;
                let mut index = status_a.last.min(status_b.last).0;
                while index >= first && log_a.term_at(Index(index)) != log_b.term_at(Index(index)) {
                    index -= 1;
                }
                while index >= first {
                    let (at_a, at_b) = (log_a.term_at(Index(index)), log_b.term_at(Index(index)));
                    assert_eq!(
                        at_a, at_b,
                        "logs of {a} and {b} agree later and differ at {index}"
                    );
                    index -= 1;
                }
            }
        }
    }
}
