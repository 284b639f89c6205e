//! Asking for votes, in earnest or beforehand: who answered what.

use crate::quorum::{self, Tally};
use crate::{Configuration, PeerId};
use std::collections::BTreeMap;

/// A round of votes of this member, or of pre-votes.
#[derive(Debug, Default)]
pub(crate) struct Candidate {
    answers: BTreeMap<PeerId, bool>,
}

impl Candidate {
    /// Notes an answer; the first one of a voter stands.
    pub(crate) fn record(&mut self, from: PeerId, granted: bool) {
        self.answers.entry(from).or_insert(granted);
    }

    /// Takes no answer of this one for granted.
    pub(crate) fn forget(&mut self, from: PeerId) {
        self.answers.remove(&from);
    }

    pub(crate) fn tally(&self, configuration: &Configuration) -> Tally {
        quorum::tally(configuration, |voter| self.answers.get(&voter).copied())
    }
}
