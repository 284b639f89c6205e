//! What is said beside the lanes: who leads, what goes wrong, what the storyteller says.

use crate::clock::Micros;
use crate::faults::Fault;
use crate::timeline::{Moment, What, name, sentence};
use raft::Role;
use std::collections::BTreeSet;

/// Lines of a note at most.
const LINES_MAX: usize = 8;

/// The members of the largest group that still hear each other; the first of equals.
pub fn largest_side(members: usize, links: &[(usize, usize)]) -> BTreeSet<usize> {
    let joined = |a: usize, b: usize| !links.contains(&(a, b)) && !links.contains(&(b, a));
    let mut best = BTreeSet::new();
    let mut left: BTreeSet<usize> = (0..members).collect();
    while let Some(first) = left.pop_first() {
        let mut side = BTreeSet::from([first]);
        while let Some(next) = left
            .iter()
            .copied()
            .find(|b| side.iter().any(|a| joined(*a, *b)))
        {
            left.remove(&next);
            side.insert(next);
        }
        if side.len() > best.len() {
            best = side;
        }
    }
    best
}

/// A cut in words: by its sides if it parts all of them, else link by link.
fn cut_text(links: &[(usize, usize)]) -> String {
    let members: BTreeSet<usize> = links.iter().flat_map(|(a, b)| [*a, *b]).collect();
    let side = largest_side(members.len(), links);
    let others: BTreeSet<usize> = members.difference(&side).copied().collect();
    let parts = side.iter().all(|a| {
        let apart = |b: &usize| links.contains(&(*a, *b)) && links.contains(&(*b, *a));
        others.iter().all(apart)
    });
    let names = |side: BTreeSet<usize>| side.into_iter().map(name).collect::<Vec<_>>().join(" ");
    if parts && links.len() == 2 * side.len() * others.len() {
        format!("cut: {} from {}", names(others), names(side))
    } else {
        Fault::Cut(links.to_vec()).to_string()
    }
}

/// What the notes have said already.
#[derive(Default)]
pub struct Seen {
    configuration: String,
    fault_at: Option<Micros>,
    leading: BTreeSet<usize>,
}

/// What is said of a moment, and how it is marked.
pub fn note_of(moment: &Moment, seen: &mut Seen) -> Option<(&'static str, String)> {
    let who = moment.member.map_or(String::new(), name);
    let told = format!("{who} {}", sentence(moment));
    let (class, text) = match &moment.what {
        What::Note(text) => ("note", text.clone()),
        What::Healed => ("note", "Everything is mended.".into()),
        What::Fault(fault) => {
            seen.fault_at = Some(moment.at);
            match fault {
                Fault::Start(_) => return None,
                Fault::Cut(links) => ("fault", cut_text(links)),
                fault => ("fault", fault.to_string()),
            }
        }
        What::Violation { property, text } => {
            ("badtext", format!("VIOLATION of {property}: {text}"))
        }
        What::Dies { .. } => {
            seen.leading.remove(&moment.member?);
            if seen.fault_at == Some(moment.at) {
                return None;
            }
            ("fault", told)
        }
        What::Role {
            role: Role::Leader, ..
        } => {
            seen.leading.insert(moment.member?);
            ("fact", told)
        }
        What::Role {
            role: Role::Candidate,
            ..
        } => ("fact", told),
        What::Role { term, .. } => {
            if !seen.leading.remove(&moment.member?) {
                return None;
            }
            ("fact", format!("{who} leads no longer (term {term})"))
        }
        What::Starts { .. } if moment.at == 0 => return None,
        What::Configuration(text) if moment.at == 0 || seen.configuration == *text => {
            seen.configuration = text.clone();
            return None;
        }
        What::Starts { .. } | What::CannotStart(_) | What::Installs { .. } => ("fact", told),
        What::Configuration(text) => {
            seen.configuration = text.clone();
            ("fact", told)
        }
        _ => return None,
    };
    Some((class, text))
}

/// A text in lines of so many characters.
pub fn wrap(text: &str, chars: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() < chars => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    // A text that goes on and on is told in full elsewhere.
    if lines.len() > LINES_MAX {
        lines.truncate(LINES_MAX);
        lines[LINES_MAX - 1].push_str(" ...");
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_is_told_by_its_sides_if_it_parts_them() {
        let both = |a: usize, b: usize| [(a, b), (b, a)];
        let parted = [both(0, 1), both(0, 2)].concat();
        assert_eq!(cut_text(&parted), "cut: n1 from n2 n3");
        assert_eq!(cut_text(&[(0, 1)]), "cut: n1→n2");
        assert_eq!(largest_side(3, &parted), BTreeSet::from([1, 2]));
    }

    #[test]
    fn a_long_note_is_wrapped_and_bounded() {
        let lines = wrap(&"word ".repeat(500), 56);
        assert_eq!(lines.len(), LINES_MAX);
        assert!(lines.iter().all(|line| line.len() <= 60));
    }
}
