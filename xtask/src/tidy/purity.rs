//! What the pure crates must not name: clock, socket, file, thread, environment, hash order, randomness, async.
//! The manifest bans (see `arrows`) stop crates; this stops the standard library.

use super::arrows::PURE;
use super::{File, line_of};

/// Modules of `std` that reach outside the process or depend on the run.
const BANNED_MODULES: &[&str] = &["env", "fs", "net", "os", "process", "thread"];
/// Clocks; `std::time::Duration` is a number and fine.
const BANNED_CLOCKS: &[&str] = &["Instant", "SystemTime"];
/// Words that are wrong wherever they stand.
const BANNED_WORDS: &[(&str, &str)] = &[
    ("HashMap", "its order differs between members; use BTreeMap"),
    ("HashSet", "its order differs between members; use BTreeSet"),
    ("RandomState", "it is seeded by the operating system"),
    ("thread_local", "state belongs to the replica"),
    ("async", "async lives in server, client and cli"),
    ("await", "async lives in server, client and cli"),
    ("tokio", "the runtime lives in server, client and cli"),
    ("rand", "randomness is a seeded field"),
    ("getrandom", "randomness is a seeded field"),
    ("println", "pure crates do not print"),
    ("eprintln", "pure crates do not print"),
    ("f32", "no floats in decisions"),
    ("f64", "no floats in decisions"),
];

pub fn check(files: &[File], problems: &mut Vec<String>) {
    for file in files.iter().filter(|file| is_pure_source(file)) {
        let code = file.logic();
        for (word, why) in BANNED_WORDS {
            for offset in words(&code, word) {
                problems.push(format!(
                    "{}:{}: {word} in a pure crate: {why}",
                    file.path,
                    line_of(&code, offset)
                ));
            }
        }
        for (offset, path) in std_paths(&code) {
            if let Some(banned) = banned_path(&path) {
                problems.push(format!(
                    "{}:{}: std::{banned} in a pure crate; pass its result in as an argument",
                    file.path,
                    line_of(&code, offset)
                ));
            }
        }
    }
}

fn is_pure_source(file: &File) -> bool {
    file.path.ends_with(".rs")
        && file.path.contains("/src/")
        && file.crate_name().is_some_and(|name| PURE.contains(&name))
        && !crate::source::is_test_file(&file.path)
        && !is_mutations(&file.path)
}

/// Bugs put in on purpose are chosen per thread. `arrows` sees that no released binary has this file.
fn is_mutations(path: &str) -> bool {
    path.ends_with("/src/mutation.rs")
}

/// Offsets at which `word` stands as a whole word.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).filter_map(move |(offset, _)| {
        let before = code[..offset].chars().next_back().is_some_and(part_of_word);
        let after = code[offset + word.len()..]
            .chars()
            .next()
            .is_some_and(part_of_word);
        (!before && !after).then_some(offset)
    })
}

/// Every path that begins with `std::`, groups expanded: `std::{fs, time::{Duration, Instant}}` gives `fs`, `time::Duration`, `time::Instant`.
fn std_paths(code: &str) -> Vec<(usize, String)> {
    let mut paths = Vec::new();
    for offset in words(code, "std") {
        let rest = code[offset + 3..].trim_start();
        if let Some(rest) = rest.strip_prefix("::") {
            expand(rest, "", &mut |path| paths.push((offset, path)));
        }
    }
    paths
}

/// Expands one use tree and returns what is left of the text behind it.
fn expand<'a>(text: &'a str, prefix: &str, found: &mut dyn FnMut(String)) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = expand(rest, prefix, found).trim_start();
            match rest.strip_prefix(',') {
                Some(after) if after.trim_start().starts_with('}') => {
                    return &after.trim_start()[1..];
                }
                Some(after) => rest = after,
                None => return rest.strip_prefix('}').unwrap_or(""),
            }
        }
    }
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    let path = format!("{prefix}{}", &text[..end]);
    match text[end..].trim_start().strip_prefix("::") {
        Some(rest) if end > 0 => expand(rest, &format!("{path}::"), found),
        _ => {
            found(path);
            &text[end..]
        }
    }
}

fn banned_path(path: &str) -> Option<String> {
    let mut segments = path.split("::");
    let module = segments.next().unwrap_or_default();
    if BANNED_MODULES.contains(&module) {
        return Some(module.to_string());
    }
    let clock = segments
        .next()
        .filter(|name| module == "time" && BANNED_CLOCKS.contains(name))?;
    Some(format!("time::{clock}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems_of(text: &str) -> Vec<String> {
        let files = [File {
            path: "crates/raft/src/x.rs".into(),
            text: text.into(),
        }];
        let mut problems = Vec::new();
        check(&files, &mut problems);
        problems
    }

    #[test]
    fn clocks_files_and_hash_order_are_found() {
        assert_eq!(problems_of("use std::{collections::HashMap, time::{Duration, Instant}, fs};\nfn f() { std::thread::yield_now() }").len(), 4);
    }

    #[test]
    fn durations_ordered_maps_comments_and_tests_are_fine() {
        let text = "// HashMap\nuse std::{collections::BTreeMap, time::Duration};\nuse crate::Instant;\n#[cfg(test)]\nmod tests { use std::collections::HashSet; }\n";
        assert_eq!(problems_of(text), Vec::<String>::new());
    }
}
