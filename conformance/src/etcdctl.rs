//! The real `etcdctl`, when it is installed (Debian: etcd-client).

use crate::Outcome;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// A way to call etcdctl against some members.
#[derive(Clone, Debug)]
pub struct Etcdctl {
    path: PathBuf,
    endpoints: String,
}

/// What a call gave.
#[derive(Clone, Debug)]
pub struct Called {
    /// Whether the exit code was 0.
    pub success: bool,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub error: String,
}

impl Etcdctl {
    /// Finds it on the path, or in the environment variable `ETCDCTL`.
    pub fn find(endpoints: &str) -> Option<Etcdctl> {
        let named = std::env::var_os("ETCDCTL").map(PathBuf::from);
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let path = named.or_else(|| {
            std::env::split_paths(&paths)
                .map(|directory| directory.join("etcdctl"))
                .find(|path| path.is_file())
        })?;
        Some(Etcdctl {
            path,
            endpoints: endpoints.to_string(),
        })
    }

    /// Starts a call that goes on by itself, such as a watch, and takes its output until it holds `wanted` or the limit has passed.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn follow(
        &self,
        arguments: &[&str],
        wanted: &str,
        limit: Duration,
    ) -> Outcome<Called> {
        let mut command = self.command(arguments);
        let mut child = command
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", self.path.display()))?;
        let mut stdout = child.stdout.take().ok_or("no standard output")?;
        let mut output = Vec::new();
        let taking = async {
            while stdout
                .read_buf(&mut output)
                .await
                .is_ok_and(|bytes| bytes > 0)
            {
                if String::from_utf8_lossy(&output).contains(wanted) {
                    break;
                }
            }
        };
        // A limit that passes is an answer too: what came until then.
        let _ = tokio::time::timeout(limit, taking).await;
        let output = String::from_utf8_lossy(&output).trim_end().to_string();
        Ok(Called {
            success: output.contains(wanted),
            output,
            error: String::new(),
        })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={}", self.endpoints))
            .args(arguments);
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Calls it with standard input and a limit of time.
    ///
    /// # Errors
    /// When it cannot be started. A call that takes too long is a call without success.
    pub async fn call(&self, arguments: &[&str], input: &str, limit: Duration) -> Outcome<Called> {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", self.path.display()))?;
        let mut stdin = child.stdin.take().ok_or("no standard input")?;
        stdin.write_all(input.as_bytes()).await?;
        drop(stdin);
        match tokio::time::timeout(limit, child.wait_with_output()).await {
            Ok(output) => {
                let output = output?;
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_string();
                Ok(Called {
                    success: output.status.success(),
                    output: text(&output.stdout),
                    error: text(&output.stderr),
                })
            }
            Err(_) => Ok(Called {
                success: false,
                output: String::new(),
                error: format!("no end within {limit:?}"),
            }),
        }
    }
}
