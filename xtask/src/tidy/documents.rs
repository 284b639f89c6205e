//! What people read: links resolve, commands in the README exist, no page names a machine, each crate says what it is.

use super::{File, line_of};
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// Beginnings of paths that exist on one machine only. Written in parts so that this file passes its own rule.
const MACHINE_PATHS: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/tmp/", "wt"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Use", "rs/"),
];

/// Binaries of ours outside `crates/`, each in a directory of its name.
const TOOLS: &[&str] = &["conformance", "bench"];

pub fn check(root: &Path, files: &[File], problems: &mut Vec<String>) {
    for file in files {
        check_machine_paths(file, problems);
        if file.path.ends_with(".md") {
            check_links(root, files, file, problems);
            check_commands(root, files, file, problems);
        }
        if file.is_crate_root() {
            check_header(file, problems);
        }
    }
}

fn check_machine_paths(file: &File, problems: &mut Vec<String>) {
    if file.path == "Cargo.lock" {
        return;
    }
    for path in MACHINE_PATHS {
        for (offset, _) in file.text.match_indices(path) {
            // `https://host/home/x` and `$dir/work/x` are other things.
            let before = file.text[..offset].chars().next_back();
            if !before.is_some_and(|c| c.is_alphanumeric() || "._-}/*".contains(c)) {
                problems.push(format!(
                    "{}:{}: names a path of one machine ({path}…)",
                    file.path,
                    line_of(&file.text, offset)
                ));
            }
        }
    }
}

fn check_header(file: &File, problems: &mut Vec<String>) {
    let first = file.text.lines().next().unwrap_or_default();
    if !first.starts_with("//! ") || first.contains("See Cargo.toml") {
        problems.push(format!(
            "{}: begin with `//! `: what the crate owns, its invariants, what it lacks on purpose",
            file.path
        ));
    }
}

fn check_links(root: &Path, files: &[File], file: &File, problems: &mut Vec<String>) {
    for (line, target) in links(&file.text) {
        if target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
        let there = if path.is_empty() {
            PathBuf::from(&file.path)
        } else {
            normal(&Path::new(&file.path).parent().expect("a file").join(path))
        };
        if !root.join(&there).exists() {
            problems.push(format!(
                "{}:{line}: link to {target}, which is not there",
                file.path
            ));
            continue;
        }
        let page = files
            .iter()
            .find(|other| Path::new(&other.path) == there && other.path.ends_with(".md"));
        if let Some(page) = page
            && !anchor.is_empty()
            && !anchors(&page.text).contains(anchor)
        {
            problems.push(format!(
                "{}:{line}: link to {target}: {} has no such heading",
                file.path, page.path
            ));
        }
    }
}

/// Inline links outside code: line and target.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (number, line) in prose(text) {
        let mut rest = line;
        while let Some(at) = rest.find("](") {
            rest = &rest[at + 2..];
            let end = rest.find([')', ' ']).unwrap_or(rest.len());
            links.push((number, rest[..end].to_string()));
        }
    }
    links
}

/// Lines outside fenced code, numbered from one.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((number + 1, line))
    })
}

fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter_map(|(_, line)| {
        line.strip_prefix('#')
            .map(|rest| rest.trim_start_matches('#').trim())
    });
    let word = |c: char| (c.is_alphanumeric() || c == '-' || c == '_').then_some(c);
    headings
        .map(|heading| {
            heading
                .to_lowercase()
                .replace(' ', "-")
                .chars()
                .filter_map(word)
                .collect()
        })
        .collect()
}

fn normal(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

/// Commands in fenced blocks that call this repository's own programs: package, subcommand and long flags must exist.
fn check_commands(root: &Path, files: &[File], file: &File, problems: &mut Vec<String>) {
    for (line, command) in commands(&file.text) {
        if let Err(reason) = check_command(root, files, &command) {
            problems.push(format!("{}:{line}: `{command}`: {reason}", file.path));
        }
    }
}

fn commands(text: &str) -> Vec<(usize, String)> {
    let mut fenced = false;
    let mut commands = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        let command = line.trim().trim_start_matches("$ ");
        let command = command.split(" #").next().unwrap_or(command).trim();
        let first = program(command);
        if fenced && (["cargo", ".ci/run", "synod"].contains(&first) || TOOLS.contains(&first)) {
            commands.push((number + 1, command.to_string()));
        }
    }
    commands
}

fn check_command(root: &Path, files: &[File], command: &str) -> Result<(), String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    match words.as_slice() {
        [".ci/run", ..] => root
            .join(".ci/run")
            .exists()
            .then_some(())
            .ok_or("no such script".into()),
        ["cargo", "xtask", task, ..] => ["check", "fix", "tidy"]
            .contains(task)
            .then_some(())
            .ok_or(format!("xtask has no {task}")),
        ["cargo", "run", rest @ ..]
        | ["cargo", "test", rest @ ..]
        | ["cargo", "build", rest @ ..] => {
            let own: Vec<&str> = rest
                .iter()
                .copied()
                .take_while(|word| *word != "--")
                .collect();
            let package = package(&own);
            if let Some(package) = package
                && !files.iter().any(|file| {
                    file.path.ends_with("Cargo.toml")
                        && file.text.contains(&format!("name = \"{package}\""))
                })
            {
                return Err(format!("there is no package {package}"));
            }
            let arguments = &rest[(own.len() + 1).min(rest.len())..];
            match package {
                _ if words[1] != "run" => Ok(()),
                None | Some("synod") => check_arguments(files, "crates/", arguments),
                Some(package) => check_arguments(files, &format!("{package}/"), arguments),
            }
        }
        ["cargo", ..] => Ok(()),
        [first, arguments @ ..] => match program(first) {
            tool if TOOLS.contains(&tool) => check_arguments(files, &format!("{tool}/"), arguments),
            _ => check_arguments(files, "crates/", arguments),
        },
        [] => Ok(()),
    }
}

/// The program a command calls, without the directory it is built into.
fn program(command: &str) -> &str {
    let first = command.split_whitespace().next().unwrap_or_default();
    let built = first
        .trim_start_matches("./")
        .strip_prefix("target/release/");
    built.unwrap_or(first)
}

fn package<'a>(words: &[&'a str]) -> Option<&'a str> {
    let at = words
        .iter()
        .position(|word| ["-p", "--package", "--bin"].contains(word))?;
    words.get(at + 1).copied()
}

/// Looks for the subcommand among the variants of clap's enums and for each long flag among their fields.
fn check_arguments(files: &[File], under: &str, arguments: &[&str]) -> Result<(), String> {
    let sources: Vec<&File> = files
        .iter()
        .filter(|file| file.path.starts_with(under) && file.path.ends_with(".rs"))
        .collect();
    let variants = subcommands(&sources);
    if let Some(name) = arguments.first().filter(|word| {
        !word.starts_with('-') && word.chars().all(|c| c.is_alphanumeric() || c == '-')
    }) && !variants.contains(&name.replace('-', ""))
    {
        return Err(format!("there is no subcommand {name}"));
    }
    for flag in arguments
        .iter()
        .filter_map(|word| word.strip_prefix("--"))
        .filter(|flag| !flag.is_empty())
    {
        let flag = flag.split('=').next().unwrap_or(flag);
        let field = format!(" {}:", flag.replace('-', "_"));
        let named = format!("\"{flag}\"");
        if !["help", "version"].contains(&flag)
            && !sources
                .iter()
                .any(|file| file.text.contains(&field) || file.text.contains(&named))
        {
            return Err(format!("there is no flag --{flag}"));
        }
    }
    Ok(())
}

/// Lower-case variants of every enum that derives `Subcommand`.
fn subcommands(sources: &[&File]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in sources {
        for (at, _) in file.text.match_indices("Subcommand") {
            let Some(body) = file.text[at..]
                .find("enum ")
                .filter(|distance| *distance < 400)
            else {
                continue;
            };
            let mut depth = 0;
            for line in file.text[at + body..].lines() {
                let word: String = line
                    .trim()
                    .chars()
                    .take_while(|c| c.is_alphanumeric())
                    .collect();
                if depth == 1 && word.starts_with(char::is_uppercase) {
                    names.insert(word.to_lowercase());
                }
                depth += line.matches(['{', '(']).count();
                depth -= line.matches(['}', ')']).count().min(depth);
                if depth == 0 && line.contains('}') {
                    break;
                }
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File {
            path: path.into(),
            text: text.into(),
        }
    }

    #[test]
    fn subcommands_and_flags_are_looked_up() {
        let cli = file(
            "crates/cli/src/main.rs",
            "#[derive(Subcommand)]\nenum Command {\n    /// Serves.\n    Serve { data_dir: String },\n    Get(Get),\n}\n",
        );
        let files = [cli];
        assert_eq!(
            check_command(Path::new("."), &files, "synod serve --data-dir x"),
            Ok(())
        );
        assert!(check_command(Path::new("."), &files, "synod serve --dir x").is_err());
        assert!(check_command(Path::new("."), &files, "cargo run --release -- fetch").is_err());
    }

    #[test]
    fn links_in_code_are_not_links() {
        assert_eq!(
            links("see [a](b.md#c) and\n```\n[x](y)\n```\n"),
            vec![(1, "b.md#c".to_string())]
        );
    }

    #[test]
    fn headings_become_anchors() {
        assert!(anchors("# A b, c\n").contains("a-b-c"));
    }
}
