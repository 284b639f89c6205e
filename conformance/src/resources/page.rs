//! What docs/operate/fencing.md shows is what runs here: its blocks, by the names behind their languages.

use std::fmt::Write;

const PAGE: &str = include_str!("../../../docs/operate/fencing.md");

/// The text of a block.
///
/// # Panics
/// The page has no block of that name.
pub fn block(name: &str) -> &'static str {
    let mut from = 0;
    while let Some(fence) = PAGE[from..].find("```").map(|at| from + at) {
        let head = &PAGE[fence + 3..];
        let (names, text) = head.split_once('\n').unwrap_or((head, ""));
        let end = text.find("```").unwrap_or(text.len());
        // The first word is the language.
        if names.split(' ').skip(1).any(|one| one == name) {
            return &text[..end];
        }
        from = fence + 3 + names.len() + 1 + end + 3;
    }
    panic!("docs/operate/fencing.md has no block {name}");
}

/// A parameter of a statement.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// As it is.
    Number(u64),
    /// Quoted.
    Text(&'a str),
}

/// A statement with its parameters, which stand in it as `:name`.
pub fn filled(text: &str, parameters: &[(&str, Value)]) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(':') {
        let (before, name) = (&rest[..at], &rest[at + 1..]);
        let length = name.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (name, behind) = name.split_at(length);
        filled += before;
        let known = parameters.iter().find(|(known, _)| *known == name);
        let written = match known {
            Some((_, Value::Number(number))) => write!(filled, "{number}"),
            Some((_, Value::Text(text))) => write!(filled, "'{}'", text.replace('\'', "''")),
            None => write!(filled, ":{name}"),
        };
        written.expect("a text takes whatever comes");
        rest = behind;
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_by_any_of_their_names() {
        assert_eq!(block("sqlite/row-write"), block("mariadb/row-write"));
        assert!(block("postgresql/setup").contains("RAISE EXCEPTION"));
        assert!(block("fenced-file.sh").starts_with("#!/bin/sh\n"));
    }

    #[test]
    fn parameters_are_put_in_and_nothing_else_is_changed() {
        let text = "SELECT a::b, ':' FROM t WHERE n = :token AND s = :item;";
        let parameters = [("token", Value::Number(7)), ("item", Value::Text("it's"))];
        assert_eq!(
            filled(text, &parameters),
            "SELECT a::b, ':' FROM t WHERE n = 7 AND s = 'it''s';"
        );
    }
}
