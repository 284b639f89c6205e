//! Commands that run while something is held: told by a signal when it is lost, and ended if they do not listen.

mod foreground;
mod process;

use crate::output::{Failed, line};
use client::{ClientError, Guard};
use process::{Process, Signals};
use rustix::process::Signal;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// What is said of an exit by a signal, as shells do.
const BY_SIGNAL: i32 = 128;
/// What is said of a command that does not exist, and of one that cannot be started, as env(1) does.
const NOT_FOUND: u8 = 127;
const NOT_STARTED: u8 = 126;
/// How long giving the lock back may take: an election, but not much of the time of whoever waits for the exit code.
const GIVING_BACK: Duration = Duration::from_secs(3);
/// The same if it is lost already, and only its session is left to be closed.
const GIVING_BACK_LOST: Duration = Duration::from_secs(1);

/// What such commands have in common.
#[derive(clap::Args)]
pub(crate) struct JobArgs {
    /// How long the lock lasts if this process is cut off or dies
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = crate::duration)]
    pub ttl: Duration,
    /// How long the command, and what it started, has to end after it was told by SIGTERM that the lock is lost, before SIGKILL
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = crate::lock::wait)]
    pub grace: Duration,
    /// The command, and its arguments; without one, it is held until this process is told to end
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// Stands in subcommands beside `NAME -- CMD`: who writes a command there means the name.
#[derive(clap::Args)]
pub(crate) struct NoCommand {
    #[arg(last = true, hide = true, value_name = "CMD", value_parser = no_command)]
    _command: Vec<String>,
}

fn no_command(_: &str) -> Result<String, String> {
    Err("a subcommand runs no command, and reads nothing behind `--`; for a name that is also a subcommand's, write --name NAME -- CMD".into())
}

/// Reads a name that stands where subcommands do.
pub(crate) fn name_beside<S: clap::Subcommand>(text: &str) -> Result<String, String> {
    if S::has_subcommand(text) {
        return Err(format!(
            "it is a subcommand, which comes before all options; if it is the name, write --name {text}"
        ));
    }
    Ok(text.to_owned())
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
    let mut ended = match args.command.split_first() {
        Some((program, arguments)) => {
            let mut command = Command::new(program);
            command
                .args(arguments)
                .env("SYNOD_TOKEN", guard.token().to_string())
                .env("SYNOD_LOCK", guard.name())
                .env("SYNOD_SESSION", format!("{:x}", guard.session().number()));
            supervise(command, &guard, args.grace).await
        }
        None => hold(&guard).await,
    };
    let (name, ttl) = (guard.name().to_owned(), guard.session().ttl());
    let limit = match ended {
        Ok(Ended { lost: Some(_), .. }) => GIVING_BACK_LOST,
        _ => GIVING_BACK,
    };
    let returned = timeout(limit, give_back(guard)).await;
    if let Ok(Ended { lost, .. }) = &mut ended
        && lost.is_none()
    {
        let why = match returned {
            Ok(Ok(())) => None,
            Ok(Err(error)) if error.is_transient() => Some(error.to_string()),
            Ok(Err(error)) => {
                *lost = Some(error.to_string());
                None
            }
            Err(_) => Some(format!("no member has answered within {limit:?}")),
        };
        if let Some(why) = why {
            eprintln!(
                "warning: {name:?} could not be given back: {why}; others can have it after {ttl:?}, its --ttl"
            );
        }
    }
    match ended? {
        Ended {
            lost: Some(reason),
            code,
        } => {
            eprintln!("error: the lock is lost: {reason}");
            Err(Failed::Command(if code == 0 { 1 } else { code }))
        }
        Ended { code: 0, .. } => Ok(()),
        Ended { code, .. } => Err(Failed::Command(code)),
    }
}

/// Gives it up and closes its session, which does the same for what could not be given up. Refused if it was not held any more.
async fn give_back(guard: Guard) -> Result<(), ClientError> {
    let session = guard.session().clone();
    let released = guard.release().await;
    let closed = session.close().await;
    match released {
        Err(error) if error.is_transient() => closed,
        released => released,
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
    let mut signals = Signals::new(&[Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT])?;
    let lost = tokio::select! {
        reason = guard.lost() => Some(reason),
        _ = signals.next() => None,
    };
    Ok(Ended { code: 0, lost })
}

async fn supervise(command: Command, guard: &Guard, grace: Duration) -> Result<Ended, Failed> {
    let program = command.as_std().get_program().to_owned();
    // From here on no signal ends this process while the command goes on.
    let mut signals = Signals::for_command()?;
    let mut process = match Process::start(command) {
        Ok(process) => process,
        Err(error) => {
            eprintln!("error: cannot run {}: {error}", program.display());
            let code = match error.kind() {
                ErrorKind::NotFound => NOT_FOUND,
                _ => NOT_STARTED,
            };
            return Ok(Ended { code, lost: None });
        }
    };
    let lost = guard.lost();
    tokio::pin!(lost);
    let (status, lost) = loop {
        tokio::select! {
            // What is lost is lost, even if the command has just ended.
            biased;
            reason = &mut lost => break (process.end(&mut signals, grace).await?, Some(reason)),
            status = process.ended() => break (status?, None),
            signal = signals.next() => match signal {
                Signal::CHILD => {
                    // Once it is lost, the command hears of that before it goes on.
                    if process.stop_along().await && guard.is_held() {
                        process.go_on();
                    }
                }
                signal => process.send(signal),
            },
        }
    };
    process.leave(status);
    Ok(Ended {
        code: code(status),
        lost,
    })
}

fn code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| BY_SIGNAL + signal));
    u8::try_from(code.unwrap_or(1)).unwrap_or(u8::MAX)
}
