//! Commands of the system that need root: run, with what they said when they fail.

use crate::Outcome;
use std::process::{Command, Stdio};

/// Runs a command line (words separated by blanks) and gives its output.
///
/// # Errors
/// When it cannot be run or fails; the text is what it said.
pub fn run(line: &str) -> Outcome<String> {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().ok_or("no command")?)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{line}: {error}"))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{line}: {}", error.trim()).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether this process may do what root may.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The process that made a thing named `synod-faults-PROCESS-REST` (or a directory of ours) is gone, so that the thing is a leftover.
pub fn is_leftover(name: &str) -> bool {
    let ours = name
        .strip_prefix("synod-faults-")
        .or_else(|| name.strip_prefix("synod-conformance-"));
    let process = ours.and_then(|rest| rest.split('-').next());
    process.is_some_and(|process| {
        process.parse::<u32>().is_ok() && !std::path::Path::new("/proc").join(process).exists()
    })
}
