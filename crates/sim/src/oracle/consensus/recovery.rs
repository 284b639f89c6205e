//! Ends and beginnings of processes: a log gives back what it made durable (KV2), and who has forgotten something is not believed before the log is made
//! good (R2).

use super::mirror::{Mirror, configuration_of};
use super::{Check, Consensus, Known, check_vote};
use crate::oracle::broken;
use raft::{Entry, Index, SnapshotMark, Vote};

/// What a restart found on the disk.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// The vote record.
    pub vote: Option<Vote>,
    /// The snapshot the log starts after.
    pub snapshot: Option<SnapshotMark>,
    /// The last index.
    pub last: Index,
    /// The entries after the snapshot, as far as the log gives them.
    pub entries: Vec<Entry>,
    /// Entries are said to be missing.
    pub entries_lost: bool,
    /// Bits of the disk were flipped: something may be missing, if it is said.
    pub rotten: bool,
}

impl Consensus {
    /// The process is gone; what it had not made durable is uncertain now.
    pub fn on_stop(&mut self, member: usize) {
        let known = &mut self.members[member];
        known.role = None;
        known.led = None;
        known.commit = 0;
        known.applied = 0;
    }

    /// The log was opened again: everything that was durable must be there, unless something later took its place.
    pub fn on_recovery(&mut self, member: usize, found: Recovery) -> Check {
        let known = &self.members[member];
        let name = format!("n{}", member + 1);
        if found.entries_lost && !found.rotten && known.forgets.is_none() {
            broken!(
                "KV2",
                "{name} says that entries are lost, and its disk is sound"
            );
        }
        let durable = &known.durable;
        let vote = found.vote.unwrap_or_default();
        if let Err(text) = check_vote(durable.vote, vote) {
            broken!("KV2", "{name} comes back with an older vote: {text}");
        }
        let start = found.snapshot.as_ref().map_or(0, |mark| mark.index.0);
        if let Some(mark) = &found.snapshot {
            self.check_mark(member, mark)?;
        }
        // What a persist that was not yet durable may have dropped or replaced.
        let replaced_from = known
            .waiting
            .iter()
            .filter_map(|persist| persist.entries.first())
            .map(|entry| entry.index.0)
            .min();
        let reset_waits = known.waiting.iter().any(|persist| persist.reset.is_some());
        let bound = if reset_waits {
            start
        } else {
            durable
                .last()
                .min(replaced_from.map_or(u64::MAX, |index| index - 1))
        };
        if found.last.0 < bound && !found.entries_lost {
            broken!(
                "KV2",
                "{name} comes back with a log up to {}, and {bound} was durable",
                found.last
            );
        }
        let mut log = Mirror {
            start,
            start_term: found.snapshot.as_ref().map_or(0, |mark| mark.term.0),
            entries: Vec::new(),
            vote,
            configurations: Vec::new(),
        };
        if let Some(mark) = &found.snapshot {
            log.configurations
                .push((mark.index.0, mark.configuration.clone()));
        }
        for entry in found.entries {
            let index = entry.index.0;
            let expected = durable.get(index);
            // Whose log has lost entries and says so may have older ones back, over which the lost ones were written; it counts for nothing until it is whole.
            let older = |expected: &Entry| found.entries_lost && entry.term < expected.term;
            if let Some(expected) = expected
                && index <= bound
                && *expected != entry
                && !older(expected)
            {
                broken!(
                    "KV2",
                    "{name} comes back with another entry at {index}: term {} for {}",
                    entry.term,
                    expected.term
                );
            }
            if index != log.last() + 1 {
                broken!(
                    "KV2",
                    "{name} comes back with index {index} after {}",
                    log.last()
                );
            }
            log.configurations.extend(configuration_of(&entry));
            log.entries.push(entry);
        }
        if log.last() != found.last.0 {
            broken!(
                "KV2",
                "{name} says its log goes up to {}, and gives entries up to {}",
                found.last,
                log.last()
            );
        }
        if let Some(id) = self.rules.id(member) {
            self.rules.acknowledged.begin(id);
        }
        if found.entries_lost {
            let durable = self.members[member].durable.clone();
            self.rules.keep_former(member, durable);
        }
        let known = &mut self.members[member];
        *known = Known {
            durable: log.clone(),
            log,
            forgets: found.entries_lost.then_some(self.chain.len() as u64),
            ..Known::default()
        };
        Ok(())
    }

    /// R2: a member that had lost entries says that it can be believed again: it holds all that was decided when it came back.
    pub fn on_sound(&mut self, member: usize) -> Check {
        let Some(decided) = self.members[member].forgets.take() else {
            return Ok(());
        };
        let index = decided.min(self.chain.len() as u64);
        let term = self.decided_term(index);
        let known = &self.members[member];
        let durable = &known.durable;
        // A snapshot is durable before the log is asked to begin behind it.
        let resets = known.waiting.iter().filter_map(|it| it.reset.as_ref());
        let snapshot = resets.map(|mark| mark.index.0).max();
        let start = snapshot.unwrap_or_default().max(durable.start);
        if index > start && durable.term(index) != term {
            broken!(
                "R2",
                "n{} believes itself again without the decided index {index} (its log is durable from {} to {})",
                member + 1,
                durable.start + 1,
                durable.last()
            );
        }
        Ok(())
    }

    /// A member's disk is another one now, with nothing on it.
    pub fn on_wiped(&mut self, member: usize) {
        let known = std::mem::take(&mut self.members[member]);
        self.rules.keep_former(member, known.durable);
    }
}
