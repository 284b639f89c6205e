//! Entries read back from the durable log: for followers that lag behind the cache, and for the state after a restart.
//!
//! A few reads are under way at most; several that start at one index share one. What comes back is checked against the log's terms, so
//! an answer that outlived its question does no harm.

use crate::log::{Log, weight};
use crate::{Effect, Entry, Index, PeerId};
use std::collections::{BTreeMap, VecDeque};

/// Reads under way at most; more wait until one is answered.
const FETCHES_MAX: usize = 4;

#[derive(Debug, Default)]
struct Waiting {
    peers: Vec<PeerId>,
    state: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Fetches {
    waiting: BTreeMap<Index, Waiting>,
    /// Entries read for the state and not yet taken.
    for_state: VecDeque<Entry>,
}

impl Fetches {
    fn want(
        &mut self,
        effects: &mut VecDeque<Effect>,
        from: Index,
        bytes_max: usize,
    ) -> Option<&mut Waiting> {
        if !self.waiting.contains_key(&from) {
            if self.waiting.len() >= FETCHES_MAX {
                return None;
            }
            effects.push_back(Effect::Fetch { from, bytes_max });
        }
        Some(self.waiting.entry(from).or_default())
    }

    /// Asks for entries for a follower; `false` if too many reads are under way.
    pub(crate) fn want_for_peer(
        &mut self,
        effects: &mut VecDeque<Effect>,
        peer: PeerId,
        from: Index,
        bytes_max: usize,
    ) -> bool {
        match self.want(effects, from, bytes_max) {
            Some(waiting) => {
                waiting.peers.push(peer);
                true
            }
            None => false,
        }
    }

    pub(crate) fn want_for_state(
        &mut self,
        effects: &mut VecDeque<Effect>,
        from: Index,
        bytes_max: usize,
    ) {
        // The state needs one read at a time; an older one that is still under way answers first.
        if self.waiting.values().any(|waiting| waiting.state) {
            return;
        }
        if let Some(waiting) = self.want(effects, from, bytes_max) {
            waiting.state = true;
        }
    }

    /// Takes entries read for the state, if they start at `from`.
    pub(crate) fn take_for_state(
        &mut self,
        from: Index,
        upto: Index,
        bytes_max: usize,
    ) -> Option<Vec<Entry>> {
        while self
            .for_state
            .front()
            .is_some_and(|entry| entry.index < from)
        {
            self.for_state.pop_front();
        }
        if self.for_state.front()?.index != from {
            self.for_state.clear();
            return None;
        }
        let mut taken = Vec::new();
        let mut bytes = 0;
        while let Some(entry) = self.for_state.front() {
            bytes += weight(entry);
            if entry.index > upto || (!taken.is_empty() && bytes > bytes_max) {
                break;
            }
            taken.push(self.for_state.pop_front().expect("just seen"));
        }
        (!taken.is_empty()).then_some(taken)
    }

    /// Takes an answer; gives the followers that waited for it and what of it belongs to the present log.
    pub(crate) fn fetched(
        &mut self,
        log: &Log,
        from: Index,
        mut entries: Vec<Entry>,
    ) -> (Vec<PeerId>, Vec<Entry>) {
        let Some(waiting) = self.waiting.remove(&from) else {
            return (Vec::new(), Vec::new());
        };
        let mut expected = from;
        entries.retain(|entry| {
            let fits = entry.index == expected && log.term_at(entry.index) == Some(entry.term);
            if fits {
                expected = expected.next();
            }
            fits
        });
        if waiting.state {
            self.for_state = entries.iter().cloned().collect();
        }
        (waiting.peers, entries)
    }

    /// The log was cut: what was read from there on is no longer of it.
    pub(crate) fn truncate(&mut self, from: Index) {
        while self
            .for_state
            .back()
            .is_some_and(|entry| entry.index >= from)
        {
            self.for_state.pop_back();
        }
    }

    /// Forgets what was read for a state that is being replaced.
    pub(crate) fn forget_state(&mut self) {
        self.for_state.clear();
    }
}
