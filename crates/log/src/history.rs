//! What the records say of the log as a whole, replayed in order: where it starts and ends, its terms, its configurations.

use raft::{Configuration, Index, SnapshotMark, Term};

/// The log so far.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Entries up to this index are not here.
    pub base: u64,
    /// The last entry; `base` if there is none.
    pub last: u64,
    terms: Vec<(Index, Term)>,
    configurations: Vec<(Index, Configuration)>,
}

impl History {
    /// A log whose next entry is `base + 1`.
    pub fn new(base: u64) -> History {
        History {
            base,
            last: base,
            ..History::default()
        }
    }

    /// The log starts anew after `mark`.
    pub fn on_reset(&mut self, mark: &SnapshotMark) {
        *self = History::new(mark.index.0);
    }

    /// An entry, perhaps over another; `false` if it leaves a gap.
    #[must_use]
    pub fn on_entry(
        &mut self,
        index: Index,
        term: Term,
        configuration: Option<Configuration>,
    ) -> bool {
        if index.0 == 0 || index.0 > self.last + 1 {
            return false;
        }
        if index.0 <= self.last {
            self.base = self.base.min(index.0 - 1);
            self.terms.retain(|(first, _)| *first < index);
            self.configurations.retain(|(at, _)| *at < index);
        }
        if self.terms.last().is_none_or(|(_, last)| *last != term) {
            self.terms.push((index, term));
        }
        self.configurations
            .extend(configuration.map(|configuration| (index, configuration)));
        self.last = index.0;
        true
    }

    /// The term of the entry at `index`, if it is here.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index.0 <= self.base || index.0 > self.last {
            return None;
        }
        let behind = self.terms.partition_point(|(first, _)| *first <= index);
        Some(self.terms[behind - 1].1)
    }

    /// First index of each run of equal terms after `index`.
    pub fn terms_after(&self, index: Index) -> Vec<(Index, Term)> {
        let spanning = self.term_at(index.next()).map(|term| (index.next(), term));
        let later = self
            .terms
            .iter()
            .copied()
            .filter(|(first, _)| *first > index.next());
        spanning.into_iter().chain(later).collect()
    }

    /// The configurations after `index`.
    pub fn configurations_after(&self, index: Index) -> Vec<(Index, Configuration)> {
        self.configurations
            .iter()
            .filter(|(at, _)| *at > index)
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overwrite_voids_what_was_behind() {
        let mut history = History::new(0);
        for (index, term) in [(1, 1), (2, 1), (3, 2), (4, 3), (3, 4)] {
            let configuration = (index > 2).then(Configuration::default);
            assert!(history.on_entry(Index(index), Term(term), configuration));
        }
        assert_eq!(
            (
                history.last,
                history.term_at(Index(2)),
                history.term_at(Index(4))
            ),
            (3, Some(Term(1)), None)
        );
        assert_eq!(
            history.terms_after(Index(0)),
            [(Index(1), Term(1)), (Index(3), Term(4))]
        );
        assert_eq!(
            history.terms_after(Index(1)),
            [(Index(2), Term(1)), (Index(3), Term(4))]
        );
        assert_eq!(history.configurations_after(Index(0)).len(), 1);
        assert!(!history.on_entry(Index(5), Term(4), None));
    }

    #[test]
    fn a_reset_begins_anew() {
        let mut history = History::new(0);
        assert!(history.on_entry(Index(1), Term(1), None));
        history.on_reset(&SnapshotMark {
            index: Index(9),
            term: Term(3),
            configuration: Configuration::default(),
        });
        assert_eq!(
            (history.base, history.last, history.terms_after(Index(0))),
            (9, 9, vec![])
        );
        assert!(history.on_entry(Index(10), Term(3), None));
        assert_eq!(history.terms_after(Index(9)), [(Index(10), Term(3))]);
    }
}
