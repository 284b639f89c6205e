//! The rules of this repository that neither the compiler nor clippy knows. Each module is one family; each problem says where and what to do.

mod arrows;
mod documents;
mod purity;
pub mod sizes;

use crate::source;
use std::fs;
use std::path::Path;

/// One text file of the repository: its path from the root, with slashes, and its contents.
pub struct File {
    /// Path from the repository's root.
    pub path: String,
    /// The contents.
    pub text: String,
}

impl File {
    /// The name of the crate directory under `crates/`, when the file lies in one.
    fn crate_name(&self) -> Option<&str> {
        self.path.strip_prefix("crates/")?.split('/').next()
    }

    /// Whether it is the first file of a crate.
    fn is_crate_root(&self) -> bool {
        self.path.ends_with("/src/lib.rs") || self.path.ends_with("/src/main.rs")
    }

    /// The code without comments, literals and tests.
    fn logic(&self) -> String {
        source::without_tests(&source::code_only(&self.text))
    }
}

/// Everything that is wrong, one line each.
pub fn problems(root: &Path) -> Vec<String> {
    let files = files(root);
    let mut problems = Vec::new();
    arrows::check(&files, &mut problems);
    purity::check(&files, &mut problems);
    documents::check(root, &files, &mut problems);
    sizes::check(&files, &mut problems);
    problems
}

/// All text files of the repository, in path order, without what git ignores at its top.
fn files(root: &Path) -> Vec<File> {
    let mut files = Vec::new();
    collect(root, root, &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(
        files.iter().any(|file| file.path == "Cargo.toml"),
        "{} is not the repository's root",
        root.display()
    );
    files
}

fn collect(root: &Path, directory: &Path, files: &mut Vec<File>) {
    const SKIPPED: [&str; 5] = ["target", ".git", "synod-data", "synod-dev", "node_modules"];
    let entries = fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("cannot list {}: {error}", directory.display()));
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        if SKIPPED.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, files);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let relative = path
                .strip_prefix(root)
                .expect("listed below the root")
                .to_string_lossy()
                .replace('\\', "/");
            files.push(File {
                path: relative,
                text,
            });
        }
    }
}

/// The number of the line at a byte offset, from one.
fn line_of(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_repository_is_tidy() {
        let problems = super::problems(&crate::root());
        assert!(
            problems.is_empty(),
            "{} problems:\n{}",
            problems.len(),
            problems.join("\n")
        );
    }
}
