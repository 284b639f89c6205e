//! File sizes: a file is one noun. Files above the limit are listed with their size, and a listed file may shrink but not grow.

use super::{File, files};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// Where the files above the limit are listed.
pub const LIST: &str = "xtask/oversized.txt";
/// Lines of logic (no blank lines, comments or tests) above which a file must be split or listed.
const LINES_MAX: usize = 600;

/// Sizes in the list are rounded up to this.
const LINES_STEP: usize = 50;

pub fn check(files: &[File], problems: &mut Vec<String>) {
    let listed = listed(files);
    for (path, lines) in oversized(files) {
        match listed.get(&path) {
            None => problems.push(format!("{path}: {lines} lines of logic, at most {LINES_MAX}; ask which noun is hiding in it, or list it with `cargo xtask fix`")),
            Some(before) if lines > *before => {
                problems.push(format!("{path}: grew to {lines} lines of logic from {before} while over the limit of {LINES_MAX}; split it, or `cargo xtask fix`"));
            }
            Some(_) => {}
        }
    }
}

/// Writes the list anew from what is there.
///
/// # Errors
/// When the list cannot be written.
pub fn rewrite(root: &Path) -> std::io::Result<()> {
    let mut text = String::from(
        "# Files over the limit of lines of logic. They may shrink, not grow. Written by `cargo xtask fix`.\n",
    );
    for (path, lines) in oversized(&files(root)) {
        // Rounded up, so that a line more is no reason to touch the list.
        writeln!(text, "{} {path}", lines.next_multiple_of(LINES_STEP))
            .expect("writing to a string");
    }
    std::fs::write(root.join(LIST), text)
}

fn oversized(files: &[File]) -> BTreeMap<String, usize> {
    files
        .iter()
        .filter(|file| file.path.ends_with(".rs") && !crate::source::is_test_file(&file.path))
        .map(|file| {
            (
                file.path.clone(),
                file.logic()
                    .lines()
                    .filter(|line| !line.trim().is_empty())
                    .count(),
            )
        })
        .filter(|(_, lines)| *lines > LINES_MAX)
        .collect()
}

fn listed(files: &[File]) -> BTreeMap<String, usize> {
    let text = files
        .iter()
        .find(|file| file.path == LIST)
        .map_or("", |file| file.text.as_str());
    let entries = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(' '));
    entries
        .filter_map(|(lines, path)| Some((path.to_string(), lines.parse().ok()?)))
        .collect()
}
