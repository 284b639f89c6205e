//! Commands that run while something is held: told by a signal when it is lost, and ended if they do not listen.

use crate::output::{Failed, line};
use client::Guard;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::io::IsTerminal;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

/// What is said of an exit by a signal, as shells do.
const BY_SIGNAL: i32 = 128;

/// What such commands have in common.
#[derive(clap::Args)]
pub(crate) struct JobArgs {
    /// How long the lock lasts if this process is cut off or dies
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = crate::duration)]
    pub ttl: Duration,
    /// How long the command has to end after it was told by SIGTERM that the lock is lost, before SIGKILL
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = crate::duration)]
    pub grace: Duration,
    /// The command, and its arguments; without one, it is held until this process is told to end
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// Who waits and holds, for those who look: this machine and process, unless it was said.
pub(crate) fn owner(said: Option<String>) -> String {
    said.unwrap_or_else(|| {
        let system = rustix::system::uname();
        let host = system.nodename().to_string_lossy().into_owned();
        format!("{host}, process {}", std::process::id())
    })
}

/// Runs the command while the guard holds, then gives it up. Ends as the command does.
pub(crate) async fn run(args: &JobArgs, guard: Guard) -> Result<(), Failed> {
    let ended = match args.command.split_first() {
        Some((program, arguments)) => {
            let mut command = Command::new(program);
            command
                .args(arguments)
                .env("SYNOD_TOKEN", guard.token().to_string())
                .env("SYNOD_LOCK", guard.name())
                .env("SYNOD_SESSION", format!("{:x}", guard.session().number()));
            supervise(command, &guard, args.grace)
                .await
                .map_err(|error| Failed::Usage(format!("{program}: {error}")))
        }
        None => hold(&guard).await,
    };
    let session = guard.session().clone();
    let released = guard.release().await;
    // Whatever is left of it ends with its session.
    let _ = session.close().await;
    match ended? {
        Ended {
            lost: Some(reason),
            code,
        } => {
            eprintln!("error: the lock is lost: {reason}");
            Err(Failed::Command(if code == 0 { 1 } else { code }))
        }
        Ended { code: 0, .. } => Ok(released?),
        Ended { code, .. } => Err(Failed::Command(code)),
    }
}

/// How it ended.
struct Ended {
    code: u8,
    /// How the lock was lost, if it was before the command ended.
    lost: Option<String>,
}

/// Holds without a command.
async fn hold(guard: &Guard) -> Result<Ended, Failed> {
    line(guard.token())?;
    eprintln!("held until interrupted");
    let mut signals = Signals::new()?;
    let lost = tokio::select! {
        reason = guard.lost() => Some(reason),
        _ = signals.next() => None,
    };
    Ok(Ended { code: 0, lost })
}

/// The signals that ask a process to end.
struct Signals([(tokio::signal::unix::Signal, Signal); 3]);

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals([
            (signal(SignalKind::interrupt())?, Signal::INT),
            (signal(SignalKind::terminate())?, Signal::TERM),
            (signal(SignalKind::hangup())?, Signal::HUP),
        ]))
    }

    async fn next(&mut self) -> Signal {
        let [(int, _), (term, _), (hup, _)] = &mut self.0;
        let which = tokio::select! {
            _ = int.recv() => 0,
            _ = term.recv() => 1,
            _ = hup.recv() => 2,
        };
        self.0[which].1
    }
}

/// A running command.
struct Job {
    child: Child,
    pid: Pid,
    /// It leads a process group of its own, which signals reach as a whole. Not so on a terminal, whose keys go to the group in front.
    group: bool,
}

impl Job {
    fn send(&self, signal: Signal) {
        // It may be gone already; then there is nobody to tell.
        let _ = if self.group {
            kill_process_group(self.pid, signal)
        } else {
            kill_process(self.pid, signal)
        };
    }
}

async fn supervise(mut command: Command, guard: &Guard, grace: Duration) -> std::io::Result<Ended> {
    let mut signals = Signals::new()?;
    let group = !std::io::stdin().is_terminal();
    if group {
        command.process_group(0);
    }
    let child = command.kill_on_drop(true).spawn()?;
    let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let mut job = Job {
        child,
        pid: pid.expect("it was not waited for yet"),
        group,
    };
    let lost = guard.lost();
    tokio::pin!(lost);
    loop {
        tokio::select! {
            // What is lost is lost, even if the command has just ended.
            biased;
            reason = &mut lost => {
                job.send(Signal::TERM);
                let status = tokio::select! {
                    status = job.child.wait() => status?,
                    () = sleep(grace) => {
                        job.send(Signal::KILL);
                        job.child.wait().await?
                    }
                };
                return Ok(Ended { code: code(status), lost: Some(reason) });
            }
            status = job.child.wait() => {
                return Ok(Ended { code: code(status?), lost: None });
            }
            signal = signals.next() => {
                // A terminal has sent its own to the command as well.
                if group || signal != Signal::INT {
                    job.send(signal);
                }
            }
        }
    }
}

fn code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| BY_SIGNAL + signal));
    u8::try_from(code.unwrap_or(1)).unwrap_or(u8::MAX)
}
