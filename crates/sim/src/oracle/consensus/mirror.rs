//! A member's log as its persists describe it.

use raft::{Configuration, Entry, Payload, Persist, Vote};

/// A member's log, as told by its persists.
#[derive(Clone, Debug, Default)]
pub(super) struct Mirror {
    /// The log starts after this index.
    pub(super) start: u64,
    pub(super) start_term: u64,
    pub(super) entries: Vec<Entry>,
    pub(super) vote: Vote,
    /// Configurations and where they took effect; none: the first one is in force.
    pub(super) configurations: Vec<(u64, Configuration)>,
}

impl Mirror {
    pub(super) fn last(&self) -> u64 {
        self.start + self.entries.len() as u64
    }

    pub(super) fn get(&self, index: u64) -> Option<&Entry> {
        let position = index.checked_sub(self.start + 1)?;
        self.entries.get(position as usize)
    }

    pub(super) fn term(&self, index: u64) -> Option<u64> {
        if index == self.start {
            Some(self.start_term)
        } else {
            self.get(index).map(|entry| entry.term.0)
        }
    }

    pub(super) fn apply(&mut self, persist: &Persist) {
        if let Some(vote) = persist.vote {
            self.vote = vote;
        }
        if let Some(mark) = &persist.reset {
            *self = Mirror {
                start: mark.index.0,
                start_term: mark.term.0,
                entries: Vec::new(),
                vote: self.vote,
                configurations: vec![(mark.index.0, mark.configuration.clone())],
            };
        }
        if let Some(first) = persist.entries.first() {
            let keep = first.index.0.saturating_sub(self.start + 1) as usize;
            self.entries.truncate(keep);
            self.configurations
                .retain(|(index, _)| *index < first.index.0);
            let behind = (self.start + 1).saturating_sub(first.index.0) as usize;
            self.entries
                .extend(persist.entries.iter().skip(behind).cloned());
        }
        self.configurations
            .extend(persist.entries.iter().filter_map(configuration_of));
    }
}

/// The configuration in an entry, and its index.
pub(super) fn configuration_of(entry: &Entry) -> Option<(u64, Configuration)> {
    match &entry.payload {
        Payload::Configuration(configuration) => Some((entry.index.0, configuration.clone())),
        Payload::Noop | Payload::Batch(_) => None,
    }
}
