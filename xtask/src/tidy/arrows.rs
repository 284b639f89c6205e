//! Which crate may use which, and what the pure ones may use at all. The table is the one of ARCHITECTURE.md.

use super::File;
use toml::{Table, Value};

/// The crates of ours that each crate may depend on. A crate that is missing here is a mistake: add it with its arrows.
const ARROWS: &[(&str, &[&str])] = &[
    ("raft", &[]),
    ("state", &[]),
    ("proto", &[]),
    ("ids", &[]),
    ("tls", &[]),
    ("fencing", &[]),
    ("log", &["raft"]),
    ("replica", &["raft", "state"]),
    ("etcd", &["state", "proto"]),
    ("native", &["state", "proto", "etcd"]),
    (
        "server",
        &[
            "proto", "tls", "fencing", "ids", "raft", "state", "replica", "log", "etcd", "native",
        ],
    ),
    ("client", &["proto", "ids", "tls", "fencing"]),
    ("sim", &["raft", "state", "replica", "log", "etcd"]),
    (
        "cli",
        &["server", "client", "tls", "sim", "proto", "replica"],
    ),
];

/// Crates without clock, socket, file, thread, environment, hash order or unseeded randomness.
pub const PURE: &[&str] = &["raft", "state", "replica", "etcd", "native", "ids"];

/// What a pure crate may take from outside: bytes and arithmetic.
const PURE_MAY_USE: &[&str] = &["base64", "bytes", "prost", "crc32c", "xxhash-rust"];

/// Never, anywhere: a second TLS, a system library, or known loss bugs (DESIGN: Dependencies).
const BANNED: &[&str] = &["openssl-sys", "native-tls", "figment", "fjall", "rsa"];

pub fn check(files: &[File], problems: &mut Vec<String>) {
    let ours: Vec<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    for file in files
        .iter()
        .filter(|file| file.path.starts_with("crates/") && file.path.ends_with("Cargo.toml"))
    {
        let name = file.crate_name().expect("the path begins with crates/");
        let Some((_, allowed)) = ARROWS.iter().find(|(owner, _)| *owner == name) else {
            problems.push(format!("{}: crate {name} has no arrows; add it to ARROWS in xtask/src/tidy/arrows.rs and to ARCHITECTURE.md", file.path));
            continue;
        };
        let manifest: Table = match file.text.parse() {
            Ok(manifest) => manifest,
            Err(error) => {
                problems.push(format!("{}: {error}", file.path));
                continue;
            }
        };
        check_manifest(&file.path, name, &manifest, allowed, &ours, problems);
    }
    let root = files.iter().find(|file| file.path == "Cargo.toml");
    if root.is_some_and(|root| root.text.contains("\"mutations\"")) {
        problems.push("Cargo.toml: the feature mutations is turned on for everybody; a released binary must not have it".into());
    }
    check_lock(files, problems);
}

fn check_manifest(
    path: &str,
    name: &str,
    manifest: &Table,
    allowed: &[&str],
    ours: &[&str],
    problems: &mut Vec<String>,
) {
    for dependency in dependencies(manifest, "dependencies") {
        if ours.contains(&dependency.as_str()) && !allowed.contains(&dependency.as_str()) {
            problems.push(format!("{path}: {name} must not use {dependency}; the arrows of ARCHITECTURE.md allow {allowed:?}"));
        }
        if PURE.contains(&name)
            && !ours.contains(&dependency.as_str())
            && !PURE_MAY_USE.contains(&dependency.as_str())
        {
            problems.push(format!(
                "{path}: {name} is pure and must not use {dependency}; allowed are {PURE_MAY_USE:?}"
            ));
        }
    }
    check_mutations(path, manifest, problems);
    // Tests may look further down, never up: a dev-dependency on `server` would let a pure crate's tests need sockets.
    for dependency in dependencies(manifest, "dev-dependencies") {
        if ours.contains(&dependency.as_str())
            && dependency == "server"
            && !["cli", "client"].contains(&name)
        {
            problems.push(format!("{path}: tests of {name} must not use server"));
        }
    }
    let inherits = manifest
        .get("lints")
        .and_then(|lints| lints.get("workspace"))
        .and_then(Value::as_bool);
    if inherits != Some(true) {
        problems.push(format!("{path}: add [lints] workspace = true"));
    }
}

/// Bugs put in on purpose are for tests: only a dev-dependency, or a feature of that very name, may turn them on.
fn check_mutations(path: &str, manifest: &Table, problems: &mut Vec<String>) {
    let turned_on = |value: &Value| value.to_string().contains("mutations\"");
    for table in ["dependencies", "build-dependencies", "target"] {
        if manifest.get(table).is_some_and(turned_on) {
            problems.push(format!(
                "{path}: [{table}] turns the feature mutations on; a released binary must not have it"
            ));
        }
    }
    let features = manifest.get("features").and_then(Value::as_table);
    for (name, value) in features.into_iter().flatten() {
        if name != "mutations" && turned_on(value) {
            problems.push(format!(
                "{path}: feature {name} turns the feature mutations on; a released binary must not have it"
            ));
        }
    }
}

/// The keys of a dependency table and of its per-target forms.
fn dependencies(manifest: &Table, kind: &str) -> Vec<String> {
    let mut names: Vec<String> = manifest
        .get(kind)
        .and_then(Value::as_table)
        .map(|table| table.keys().cloned().collect())
        .unwrap_or_default();
    if let Some(targets) = manifest.get("target").and_then(Value::as_table) {
        for target in targets.values().filter_map(Value::as_table) {
            names.extend(
                target
                    .get(kind)
                    .and_then(Value::as_table)
                    .into_iter()
                    .flat_map(|table| table.keys().cloned()),
            );
        }
    }
    names
}

fn check_lock(files: &[File], problems: &mut Vec<String>) {
    let Some(lock) = files.iter().find(|file| file.path == "Cargo.lock") else {
        problems.push("Cargo.lock: missing; the binary's dependencies are pinned".into());
        return;
    };
    for banned in BANNED {
        if lock.text.contains(&format!("name = \"{banned}\"\n")) {
            problems.push(format!("Cargo.lock: {banned} came in; find it with `cargo tree -i {banned}` and take another way"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems_of(path: &str, text: &str) -> Vec<String> {
        let files = [
            File {
                path: path.into(),
                text: text.into(),
            },
            File {
                path: "Cargo.lock".into(),
                text: String::new(),
            },
        ];
        let mut problems = Vec::new();
        check(&files, &mut problems);
        problems
    }

    #[test]
    fn mutations_outside_of_tests_are_a_problem() {
        let head = "[lints]\nworkspace = true\n";
        let turned_on = [
            "[dependencies]\nraft = { workspace = true, features = [\"mutations\"] }\n",
            "[features]\ndefault = [\"raft/mutations\"]\n",
            "[features]\ndefault = [\"mutations\"]\nmutations = []\n",
        ];
        for text in turned_on {
            let problems = problems_of("crates/log/Cargo.toml", &format!("{head}{text}"));
            assert_eq!(problems.len(), 1, "{text} {problems:?}");
        }
        let fine = "[features]\nmutations = [\"raft/mutations\"]\n[dev-dependencies]\nraft = { features = [\"mutations\"] }\n";
        let problems = problems_of("crates/log/Cargo.toml", &format!("{head}{fine}"));
        assert_eq!(problems, Vec::<String>::new());
    }

    #[test]
    fn an_arrow_upwards_is_a_problem() {
        let problems = problems_of(
            "crates/raft/Cargo.toml",
            "[lints]\nworkspace = true\n[dependencies]\nstate.workspace = true\n",
        );
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(
            problems[0].contains("raft must not use state"),
            "{problems:?}"
        );
    }

    #[test]
    fn a_pure_crate_takes_no_runtime_even_for_one_target() {
        let problems = problems_of(
            "crates/replica/Cargo.toml",
            "[lints]\nworkspace = true\n[target.'cfg(unix)'.dependencies]\ntokio = \"1\"\n",
        );
        assert!(
            problems
                .iter()
                .any(|problem| problem.contains("pure and must not use tokio")),
            "{problems:?}"
        );
    }

    #[test]
    fn an_unknown_crate_is_a_problem() {
        assert!(problems_of("crates/utils/Cargo.toml", "")[0].contains("has no arrows"));
    }
}
