//! The load: etcd's own client in a process of its own, which writes the history while faults happen, and takes marks from here.

use crate::Outcome;
use crate::faults::judge::HEALED;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};

/// The client at the end waits this long for members that do not answer, and a little more.
const END_LIMIT: Duration = Duration::from_secs(150);

/// A running load. Ends with its handle.
pub struct Load {
    child: Child,
    stdin: ChildStdin,
    history: PathBuf,
}

/// The binary of the load, built from `conformance/client` when it is not there yet.
///
/// # Errors
/// When it cannot be built; the reason is meant for a person.
pub fn program() -> Outcome<PathBuf> {
    if let Some(given) = std::env::var_os("FAULTS_CLIENT") {
        return Ok(given.into());
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("client.sh");
    let output = std::process::Command::new(&script)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| format!("{}: {error}", script.display()))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        let last = error.lines().last().unwrap_or("no word why").to_string();
        return Err(format!("etcd's Go client cannot be built: {last}").into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().into())
}

impl Load {
    /// Starts it against these members, with flags of its own.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(
        program: &Path,
        members: &[SocketAddr],
        seed: u64,
        history: &Path,
        more: &[String],
    ) -> Outcome<Load> {
        let endpoints: Vec<String> = members.iter().map(ToString::to_string).collect();
        let mut child = Command::new(program)
            .args([
                "-endpoints",
                &endpoints.join(","),
                "-seed",
                &seed.to_string(),
            ])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(File::create(history)?)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let stdin = child.stdin.take().ok_or("no standard input")?;
        Ok(Load {
            child,
            stdin,
            history: history.to_path_buf(),
        })
    }

    /// Puts a mark with the present time into the history.
    ///
    /// # Errors
    /// When the load has ended.
    pub async fn mark(&mut self, text: &str) -> Outcome<()> {
        let line = format!("mark {} {text}\n", monotonic_micros());
        Ok(self.stdin.write_all(line.as_bytes()).await?)
    }

    /// Says that from here on nothing is broken.
    ///
    /// # Errors
    /// When the load has ended.
    pub async fn healed(&mut self) -> Outcome<()> {
        self.mark(HEALED).await
    }

    /// Ends it, with the members' accounts; gives the file of the history.
    ///
    /// # Errors
    /// When it does not end, or not well.
    pub async fn finish(mut self) -> Outcome<PathBuf> {
        self.stdin.write_all(b"stop\n").await?;
        let status = tokio::time::timeout(END_LIMIT, self.child.wait()).await;
        let status =
            status.map_err(|_| format!("the load does not end within {END_LIMIT:?}"))??;
        if !status.success() {
            return Err(format!("the load ended with {status}").into());
        }
        Ok(self.history)
    }
}

/// The clock of the histories.
pub fn monotonic_micros() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}
