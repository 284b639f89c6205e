//! Raft's five properties, C1 to C3, and the log's duty to give back what it made durable.
//!
//! Keeps each member's log as its persists describe it, twice: as the process believes it, and as far as it is durable. The first member
//! that knows an entry to be committed fixes it for all, for ever: *the chain*.

mod acknowledged;
mod changes;
mod mirror;
mod recovery;
mod rules;

pub use self::acknowledged::declared_loss;
use self::mirror::Mirror;
pub use self::recovery::Recovery;
use self::rules::Rules;
pub use self::rules::is_quorum;
use super::{Check, broken, is_batch};
use crate::clock::Micros;
use crate::trace::hash_bytes;
use raft::{Configuration, Entry, Payload, PeerId, Persist, Role, SnapshotMark, Term, Vote};
use std::collections::{BTreeMap, BTreeSet};

/// What the oracle knows of one member.
#[derive(Debug, Default)]
struct Known {
    /// The log as the running process believes it.
    log: Mirror,
    /// The log as far as it is durable.
    durable: Mirror,
    /// Persists asked for and not yet durable, in order.
    waiting: Vec<Persist>,
    role: Option<(Role, Term)>,
    /// The newest term this process led.
    led: Option<Term>,
    commit: u64,
    applied: u64,
    /// Where its log ended when its present turn began.
    turn_began_at: u64,
    /// Its log has lost entries and said so; this many entries were decided when it came back.
    forgets: Option<u64>,
}

/// The first sight of an entry at an index and term.
#[derive(Clone, Copy, Debug)]
struct Sighting {
    payload: u64,
    previous_term: u64,
    at: Micros,
}

/// A decided entry.
#[derive(Clone, Debug)]
pub struct Decided {
    /// The entry.
    pub entry: Entry,
    /// True time when a leader formed it.
    pub formed_at: Micros,
    /// The term in which it was decided: that of the entry, or of the first entry behind it that a later leader could count.
    pub decided_in: Term,
}

/// The oracle.
#[derive(Debug)]
pub struct Consensus {
    members: Vec<Known>,
    sightings: BTreeMap<(u64, u64), Sighting>,
    leaders: BTreeMap<Term, usize>,
    chain: Vec<Decided>,
    state_hashes: BTreeMap<u64, (u64, usize)>,
    rules: Rules,
    /// The cluster that was founded, and its first configuration.
    founded: Option<(u64, Configuration)>,
    /// The newest decided configuration.
    decided_configuration: Configuration,
    /// Everybody who belonged to a decided configuration that was replaced.
    belonged: BTreeSet<PeerId>,
    /// The one it replaced, until somebody asks.
    replaced_configuration: Option<Configuration>,
    /// The feature level somebody asked to switch on.
    feature_level: u32,
}

fn payload_hash(payload: &Payload) -> u64 {
    match payload {
        Payload::Noop => 1,
        Payload::Batch(bytes) => hash_bytes(bytes),
        Payload::Configuration(configuration) => {
            hash_bytes(format!("{configuration:?}").as_bytes())
        }
    }
}

impl Consensus {
    /// Knows nothing yet of so many members.
    pub fn new(members: usize) -> Consensus {
        Consensus {
            members: (0..members).map(|_| Known::default()).collect(),
            sightings: BTreeMap::new(),
            leaders: BTreeMap::new(),
            chain: Vec::new(),
            state_hashes: BTreeMap::new(),
            rules: Rules::default(),
            founded: None,
            decided_configuration: Configuration::default(),
            belonged: BTreeSet::new(),
            replaced_configuration: None,
            feature_level: 0,
        }
    }

    /// The decided entries from index 1 on.
    pub fn chain(&self) -> &[Decided] {
        &self.chain
    }

    /// The member with the newest term's leadership, as far as it believes so itself.
    pub fn leader(&self) -> Option<usize> {
        let leading = |(member, known): (usize, &Known)| match known.role {
            Some((Role::Leader, term)) => Some((term, member)),
            _ => None,
        };
        self.members
            .iter()
            .enumerate()
            .filter_map(leading)
            .max()
            .map(|(_, member)| member)
    }

    /// The member believes that it leads.
    pub fn leads(&self, member: usize) -> bool {
        matches!(self.members[member].role, Some((Role::Leader, _)))
    }

    /// Something of the term that this member leads is decided.
    pub fn leads_decided(&self, member: usize) -> bool {
        let newest = self.chain.last().map(|decided| decided.entry.term);
        matches!(self.members[member].role, Some((Role::Leader, term)) if Some(term) == newest)
    }

    /// The terms of the entries in a member's log as far as it is durable, from the first the log has on.
    pub fn log_terms(&self, member: usize) -> Vec<u64> {
        let log = &self.members[member].durable;
        log.entries.iter().map(|entry| entry.term.0).collect()
    }

    /// True time when the newest batch in a member's log was formed.
    pub fn newest_batch_formed_at(&self, member: usize) -> Micros {
        let log = &self.members[member].log;
        let in_log = log
            .entries
            .iter()
            .rev()
            .find(|entry| is_batch(entry))
            .and_then(|entry| {
                let sighting = self.sightings.get(&(entry.index.0, entry.term.0))?;
                Some(sighting.at)
            });
        let before = &self.chain[..self.chain.len().min(log.start as usize)];
        let mut before = before.iter().rev();
        let mut in_snapshot = || before.find(|decided| is_batch(&decided.entry));
        in_log
            .or_else(|| in_snapshot().map(|decided| decided.formed_at))
            .unwrap_or_default()
    }

    /// The leader, the first index of its log that is not decided, and true time when that was formed.
    pub fn oldest_undecided(&self) -> Option<(usize, u64, Micros)> {
        let leader = self.leader()?;
        let entry = self.members[leader].log.get(self.chain.len() as u64 + 1)?;
        let sighting = self.sightings.get(&(entry.index.0, entry.term.0))?;
        Some((leader, entry.index.0, sighting.at))
    }

    /// The number of the oldest write of a member that is not durable.
    pub fn oldest_write(&self, member: usize) -> Option<u64> {
        let waiting = self.members[member].waiting.first();
        waiting.map(|persist| persist.sequence)
    }

    /// Number of terms that had a leader.
    pub fn terms_led(&self) -> usize {
        self.leaders.len()
    }

    /// A turn of a member begins: what it asks for and says from now on comes of that.
    pub fn on_turn(&mut self, member: usize) {
        let known = &mut self.members[member];
        known.turn_began_at = known.log.last();
    }

    /// A member asks for something to be made durable.
    pub fn on_persist(&mut self, member: usize, persist: &Persist, at: Micros) -> Check {
        if let Some(mark) = &persist.reset {
            self.check_mark(member, mark)?;
            let log = &self.members[member].log;
            if log.last() > mark.index.0 && log.term(mark.index.0) == Some(mark.term.0) {
                let (last, name) = (log.last(), member + 1);
                broken!(
                    "C2",
                    "n{name} drops its log up to {last} for a snapshot of index {}, which is of the same history",
                    mark.index
                );
            }
        }
        if let Some(vote) = persist.vote
            && vote.term > self.members[member].log.vote.term
            && vote.candidate.is_some()
            && vote.candidate == self.rules.id(member)
        {
            self.check_candidacy(member, vote.term)?;
        }
        let known = &mut self.members[member];
        if let Some(vote) = persist.vote {
            check_vote(known.log.vote, vote)
                .map_err(|text| ("election safety", format!("n{}: {text}", member + 1)))?;
        }
        if let (Some((Role::Leader, term)), Some(first)) = (known.role, persist.entries.first())
            && first.index.0 <= known.log.last()
            && known.log.vote.term == term
        {
            broken!(
                "leader append-only",
                "n{} leads term {term} and overwrites index {} of {}",
                member + 1,
                first.index,
                known.log.last()
            );
        }
        if let Some(first) = persist.entries.first()
            && persist.reset.is_none()
            && (first.index.0 > known.log.last() + 1 || first.index.0 <= known.commit)
        {
            let (last, commit) = (known.log.last(), known.commit);
            broken!(
                "C2",
                "n{} appends at index {} with last {last} and commit {commit}",
                member + 1,
                first.index
            );
        }
        if let Some(first) = persist.entries.first()
            && persist.reset.is_none()
            && known
                .log
                .get(first.index.0)
                .is_some_and(|held| held.term == first.term)
        {
            let (last, name) = (known.log.last(), member + 1);
            broken!(
                "C2",
                "n{name} writes index {} of term {} again and drops its log up to {last} behind it",
                first.index,
                first.term
            );
        }
        known.log.apply(persist);
        known.waiting.push(persist.clone());
        for entry in &persist.entries {
            self.sight(member, entry, at)?;
        }
        Ok(())
    }

    /// Log matching: at one index and term there is one entry, and before it everywhere an entry of the same term.
    fn sight(&mut self, member: usize, entry: &Entry, at: Micros) -> Check {
        let known = &self.members[member].log;
        let Some(previous_term) = known.term(entry.index.0 - 1) else {
            return Ok(());
        };
        let payload = payload_hash(&entry.payload);
        let seen = *self
            .sightings
            .entry((entry.index.0, entry.term.0))
            .or_insert(Sighting {
                payload,
                previous_term,
                at,
            });
        if seen.payload != payload || seen.previous_term != previous_term {
            let text = format!(
                "n{} holds another entry than first seen at index {} term {}",
                member + 1,
                entry.index,
                entry.term
            );
            broken!(
                "log matching",
                "{text}: payloads {:x} {payload:x}, terms before {} {previous_term}",
                seen.payload,
                seen.previous_term
            );
        }
        Ok(())
    }

    /// The oldest `count` persists waited for are durable now.
    pub fn on_durable(&mut self, member: usize, count: usize) {
        let known = &mut self.members[member];
        for persist in known.waiting.drain(..count) {
            known.durable.apply(&persist);
        }
    }

    /// A member changed its role.
    pub fn on_role(&mut self, member: usize, role: Role, term: Term) -> Check {
        let known = &mut self.members[member];
        if let Some((_, before)) = known.role
            && term < before
        {
            broken!(
                "election safety",
                "n{} goes back from term {before} to {term}",
                member + 1
            );
        }
        known.role = Some((role, term));
        if role != Role::Leader {
            return Ok(());
        }
        if let Some(other) = self.leaders.insert(term, member)
            && other != member
        {
            broken!(
                "election safety",
                "n{} and n{} both lead term {term}",
                other + 1,
                member + 1
            );
        }
        self.members[member].led = Some(term);
        self.check_votes(member, term)?;
        self.check_completeness(member, term)
    }

    /// The term of a decided index.
    fn decided_term(&self, index: u64) -> Option<u64> {
        let place = index.checked_sub(1)? as usize;
        self.chain.get(place).map(|decided| decided.entry.term.0)
    }

    /// Leader completeness: a leader's log holds everything decided in earlier terms. An entry of an earlier term may be decided in a later one (figure 8 of
    /// the Raft paper), and a candidate that was stopped meanwhile may find only then that it was elected in between.
    fn check_completeness(&self, member: usize, term: Term) -> Check {
        let log = &self.members[member].log;
        let decided_before = self
            .chain
            .partition_point(|decided| decided.decided_in < term);
        let Some(newest) = self.chain[..decided_before].last() else {
            return Ok(());
        };
        let index = newest.entry.index.0;
        if index > log.start && log.term(index) != Some(newest.entry.term.0) {
            let text = format!(
                "n{} leads term {term} without the decided index {index} of term {}",
                member + 1,
                newest.entry.term
            );
            broken!(
                "leader completeness",
                "{text} (its log goes from {} to {})",
                log.start + 1,
                log.last()
            );
        }
        Ok(())
    }

    fn check_mark(&self, member: usize, mark: &SnapshotMark) -> Check {
        match self.chain.get((mark.index.0 as usize).wrapping_sub(1)) {
            Some(decided) if decided.entry.term == mark.term => self.check_members(member, mark),
            Some(decided) => {
                let found = decided.entry.term;
                broken!(
                    "C1",
                    "n{} takes a snapshot of index {} term {}, decided in {found}",
                    member + 1,
                    mark.index,
                    mark.term
                )
            }
            None => broken!(
                "C3",
                "n{} takes a snapshot of index {}, which is not decided",
                member + 1,
                mark.index
            ),
        }
    }

    /// A member tells its commit and applied indexes and the hash of its state. Newly decided entries join the chain; gives how many.
    pub fn on_progress(
        &mut self,
        member: usize,
        commit: u64,
        applied: u64,
        state_hash: Option<u64>,
    ) -> Result<usize, (&'static str, String)> {
        let known = &mut self.members[member];
        if commit < known.commit || applied < known.applied {
            let text = format!(
                "n{} goes back: commit {} to {commit}, applied {} to {applied}",
                member + 1,
                known.commit,
                known.applied
            );
            broken!("C2", "{text}");
        }
        if applied > commit {
            broken!(
                "C3",
                "n{} applied {applied}, beyond its commit {commit}",
                member + 1
            );
        }
        let (mut joined, mut fresh) = (0, Vec::new());
        for index in known.commit.max(known.log.start) + 1..=commit {
            let Some(entry) = known.log.get(index) else {
                broken!(
                    "C3",
                    "n{} commits index {index}, beyond its log's last {}",
                    member + 1,
                    known.log.last()
                );
            };
            match self.chain.get(index as usize - 1) {
                Some(decided) => {
                    let same =
                        decided.entry.term == entry.term && decided.entry.payload == entry.payload;
                    if !same {
                        let text =
                            format!("n{} commits another entry at index {index}", member + 1);
                        broken!(
                            "C1",
                            "{text}: term {} for {}",
                            entry.term,
                            decided.entry.term
                        );
                    }
                }
                None => {
                    if index as usize != self.chain.len() + 1 {
                        broken!(
                            "C3",
                            "n{} commits index {index} while {} is the last decided",
                            member + 1,
                            self.chain.len()
                        );
                    }
                    let sighting = self.sightings.get(&(index, entry.term.0));
                    let formed_at = sighting.map_or(0, |sighting| sighting.at);
                    // Who counts it is the first to know; who had to stop then tells it later than what came after.
                    let told_in = known.role.map_or(entry.term, |(_, term)| term);
                    let before = self.chain.last().map(|decided| decided.decided_in);
                    self.chain.push(Decided {
                        entry: entry.clone(),
                        formed_at,
                        decided_in: told_in.max(entry.term).max(before.unwrap_or_default()),
                    });
                    joined += 1;
                    fresh.extend(match &entry.payload {
                        Payload::Configuration(next) => Some((index, next.clone())),
                        _ => None,
                    });
                }
            }
        }
        known.commit = commit;
        known.applied = applied;
        if joined > 0 {
            self.check_decision(member, commit)?;
        }
        for (index, next) in fresh {
            // In force since it was appended: it was counted by itself, whatever took its place in the same turn.
            self.check_counted(member, index, [&next])?;
            self.check_change(&next, index)?;
        }
        if let Some(hash) = state_hash {
            self.check_state(member, applied, hash)?;
        }
        Ok(joined)
    }

    /// KV5: the state's hash at an index is the same everywhere.
    fn check_state(&mut self, member: usize, applied: u64, hash: u64) -> Check {
        let (seen, by) = *self.state_hashes.entry(applied).or_insert((hash, member));
        if seen != hash {
            broken!(
                "KV5",
                "the state of n{} at index {applied} has hash {hash:x}, that of n{} {seen:x}",
                member + 1,
                by + 1
            );
        }
        Ok(())
    }
}

/// A vote record may follow another: the term does not fall, and within a term the vote is not taken back.
fn check_vote(before: Vote, after: Vote) -> Result<(), String> {
    let taken_back = after.term == before.term
        && before.candidate.is_some()
        && after.candidate != before.candidate;
    if after.term < before.term || taken_back {
        return Err(format!("{after:?} after {before:?}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use raft::{Incarnation, Index, MemberId};

    /// The first incarnation of a member.
    pub(super) fn peer(member: usize) -> PeerId {
        PeerId {
            member: MemberId(member as u64 + 1),
            incarnation: Incarnation(1),
        }
    }

    fn oracle() -> Consensus {
        Consensus::new(3)
    }

    fn entry(index: u64, term: u64, payload: &'static str) -> Entry {
        Entry {
            index: Index(index),
            term: Term(term),
            payload: Payload::Batch(Bytes::from_static(payload.as_bytes())),
        }
    }

    fn persist(entries: Vec<Entry>) -> Persist {
        Persist {
            sequence: 0,
            vote: None,
            reset: None,
            entries,
            commit: raft::Index(0),
        }
    }

    fn property(check: Result<usize, (&'static str, String)>) -> &'static str {
        check.expect_err("a violation").0
    }

    #[test]
    fn a_clean_run_passes() {
        let mut oracle = oracle();
        oracle.on_role(0, Role::Leader, Term(1)).unwrap();
        for member in 0..3 {
            oracle
                .on_persist(
                    member,
                    &persist(vec![entry(1, 1, "a"), entry(2, 1, "b")]),
                    5,
                )
                .unwrap();
            oracle.on_durable(member, 1);
        }
        assert_eq!(oracle.on_progress(0, 2, 2, Some(7)), Ok(2));
        assert_eq!(oracle.on_progress(1, 1, 1, None), Ok(0));
        assert_eq!(oracle.on_progress(1, 2, 2, Some(7)), Ok(0));
        assert_eq!(oracle.chain()[1].formed_at, 5);
    }

    #[test]
    fn two_leaders_of_a_term_are_seen() {
        let mut oracle = oracle();
        oracle.on_role(0, Role::Leader, Term(4)).unwrap();
        assert_eq!(
            oracle.on_role(1, Role::Leader, Term(4)).unwrap_err().0,
            "election safety"
        );
    }

    #[test]
    fn two_decisions_at_an_index_are_seen() {
        let mut oracle = oracle();
        oracle
            .on_persist(0, &persist(vec![entry(1, 1, "a")]), 0)
            .unwrap();
        oracle
            .on_persist(1, &persist(vec![entry(1, 2, "b")]), 0)
            .unwrap();
        assert_eq!(oracle.on_progress(0, 1, 1, None), Ok(1));
        assert_eq!(property(oracle.on_progress(1, 1, 1, None)), "C1");
    }

    #[test]
    fn two_entries_of_one_term_are_seen() {
        let mut oracle = oracle();
        oracle
            .on_persist(0, &persist(vec![entry(1, 1, "a")]), 0)
            .unwrap();
        let check = oracle.on_persist(1, &persist(vec![entry(1, 1, "b")]), 0);
        assert_eq!(check.unwrap_err().0, "log matching");
    }

    #[test]
    fn a_leader_without_a_decided_entry_is_seen() {
        let mut oracle = oracle();
        oracle
            .on_persist(0, &persist(vec![entry(1, 1, "a")]), 0)
            .unwrap();
        oracle.on_progress(0, 1, 1, None).unwrap();
        assert_eq!(
            oracle.on_role(1, Role::Leader, Term(2)).unwrap_err().0,
            "leader completeness"
        );
    }

    #[test]
    fn an_entry_of_an_earlier_term_is_missed_by_leaders_after_its_decision_only() {
        let mut oracle = oracle();
        let persisted = oracle.on_persist(0, &persist(vec![entry(1, 1, "a")]), 0);
        persisted.unwrap();
        oracle.on_role(0, Role::Leader, Term(3)).unwrap();
        oracle.on_progress(0, 1, 1, None).unwrap();
        // Elected before that, and stopped until now.
        oracle.on_role(1, Role::Leader, Term(2)).unwrap();
        assert_eq!(
            oracle.on_role(1, Role::Leader, Term(4)).unwrap_err().0,
            "leader completeness"
        );
    }

    #[test]
    fn a_state_that_differs_is_seen() {
        let mut oracle = oracle();
        for member in 0..2 {
            oracle
                .on_persist(member, &persist(vec![entry(1, 1, "a")]), 0)
                .unwrap();
        }
        oracle.on_progress(0, 1, 1, Some(1)).unwrap();
        assert_eq!(property(oracle.on_progress(1, 1, 1, Some(2))), "KV5");
    }

    fn recovery(last: u64, entries: Vec<Entry>, vote: Vote) -> Recovery {
        Recovery {
            vote: Some(vote),
            snapshot: None,
            last: Index(last),
            entries,
            entries_lost: false,
            rotten: false,
        }
    }

    #[test]
    fn a_restart_may_lose_what_was_not_durable_and_nothing_else() {
        let mut oracle = oracle();
        let vote = Vote {
            term: Term(3),
            candidate: Some(PeerId::default()),
        };
        oracle
            .on_persist(
                0,
                &Persist {
                    vote: Some(vote),
                    ..persist(vec![entry(1, 1, "a")])
                },
                0,
            )
            .unwrap();
        oracle.on_durable(0, 1);
        oracle
            .on_persist(0, &persist(vec![entry(2, 1, "b")]), 0)
            .unwrap();
        oracle.on_stop(0);
        oracle
            .on_recovery(0, recovery(1, vec![entry(1, 1, "a")], vote))
            .unwrap();
        assert_eq!(
            oracle
                .on_recovery(0, recovery(0, vec![], vote))
                .unwrap_err()
                .0,
            "KV2"
        );
        assert_eq!(
            oracle
                .on_recovery(0, recovery(1, vec![entry(1, 1, "x")], vote))
                .unwrap_err()
                .0,
            "KV2"
        );
        let forgotten = Vote {
            term: Term(3),
            candidate: None,
        };
        assert_eq!(
            oracle
                .on_recovery(0, recovery(1, vec![entry(1, 1, "a")], forgotten))
                .unwrap_err()
                .0,
            "KV2"
        );
    }

    #[test]
    fn older_entries_come_back_only_where_entries_were_lost() {
        let mut oracle = oracle();
        let vote = Vote::default();
        for entries in [vec![entry(1, 1, "a")], vec![entry(1, 2, "b")]] {
            oracle.on_persist(0, &persist(entries), 0).unwrap();
        }
        oracle.on_durable(0, 2);
        oracle.on_stop(0);
        let with = |text| recovery(1, vec![entry(1, 1, text)], vote);
        let found = oracle.on_recovery(0, with("a")).unwrap_err();
        assert_eq!(found.0, "KV2");
        let lost = Recovery {
            entries_lost: true,
            rotten: true,
            ..with("a")
        };
        oracle.on_recovery(0, lost).unwrap();
    }
}
