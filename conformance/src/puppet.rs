//! A process of this program that does what lines on its input tell it, answers in lines of JSON, and can be stopped as if its machine had paused.

use crate::process::signal;
use crate::{Failure, Outcome};
use rustix::process::Signal;
use serde::de::DeserializeOwned;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The process; it dies when this is dropped.
pub(crate) struct Puppet {
    child: Child,
    say: ChildStdin,
    hear: Lines<BufReader<ChildStdout>>,
}

impl Puppet {
    /// Starts this program with other arguments.
    pub(crate) fn start(arguments: &[&str]) -> Outcome<Puppet> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let ends = (child.stdin.take(), child.stdout.take());
        let (Some(say), Some(hear)) = ends else {
            return Err(format!("{}: it has no pipes", arguments[0]).into());
        };
        Ok(Puppet {
            child,
            say,
            hear: BufReader::new(hear).lines(),
        })
    }

    /// Tells it something.
    pub(crate) async fn say(&mut self, text: &str) -> Outcome<()> {
        self.say.write_all(format!("{text}\n").as_bytes()).await?;
        Ok(())
    }

    /// Its next answer.
    pub(crate) async fn hear<T: DeserializeOwned>(&mut self) -> Outcome<T> {
        let line = tokio::time::timeout(PATIENCE, self.hear.next_line()).await??;
        let line = line.ok_or("the process has ended")?;
        serde_json::from_str(&line).map_err(|error| Failure::from(format!("{line}: {error}")))
    }

    /// Stops it, or lets it go on.
    pub(crate) fn pause(&self, paused: bool) -> Outcome<()> {
        let id = self.child.id().ok_or("the process has ended")?;
        signal(id, if paused { Signal::STOP } else { Signal::CONT })
    }
}
