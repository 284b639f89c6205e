//! `latch set | count-down | wait | show`: many wait until so many things are done.

use crate::lock::wait as duration;
use crate::output::{Failed, Output, line};
use clap::{Args, Subcommand};
use client::{Client, Latch, Session};
use serde_json::json;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  synod latch set tables-loaded 3            three things are to be done
  synod latch count-down tables-loaded       one of them is
  synod latch wait tables-loaded --wait 10m && ./start.sh

A latch that was never set, or has come to 0, is open. Whoever waits holds nothing: an open latch lets everybody pass until it is set again.";

#[derive(Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum LatchCommand {
    /// Say how often it has to be counted down; 0 opens it
    #[command(visible_alias = "create")]
    Set(SetArgs),
    /// Count it down and print what is left
    CountDown(CountDownArgs),
    /// Wait until it is open, as one that was never set is; the exit code is 1 if it was not in time
    Wait(WaitArgs),
    /// Print what is left
    Show(NameArgs),
}

#[derive(Args)]
pub(crate) struct NameArgs {
    /// The latch
    #[arg(value_name = "NAME")]
    name: String,
}

#[derive(Args)]
pub(crate) struct SetArgs {
    #[command(flatten)]
    latch: NameArgs,
    /// How often
    #[arg(value_name = "COUNT")]
    count: u64,
}

#[derive(Args)]
pub(crate) struct CountDownArgs {
    #[command(flatten)]
    latch: NameArgs,
    /// By how much; what is left never falls below 0
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    by: u64,
}

#[derive(Args)]
pub(crate) struct WaitArgs {
    #[command(flatten)]
    latch: NameArgs,
    /// Wait for so long at most; 0s: not at all [default: for ever]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    wait: Option<Duration>,
}

pub(crate) async fn run(
    client: &Client,
    output: Output,
    command: LatchCommand,
) -> Result<(), Failed> {
    // With a session each change is made once, however often it has to be sent.
    let session = Session::open(client).await?;
    let ran = in_session(&session, output, command).await;
    // What is left of it ends by itself.
    let _ = session.close().await;
    ran
}

async fn in_session(
    session: &Session,
    output: Output,
    command: LatchCommand,
) -> Result<(), Failed> {
    let (name, left) = match command {
        LatchCommand::Set(SetArgs { latch, count }) => {
            Latch::new(session, &latch.name).set(count).await?;
            (latch.name, count)
        }
        LatchCommand::CountDown(CountDownArgs { latch, by }) => {
            let left = Latch::new(session, &latch.name).count_down_by(by).await?;
            (latch.name, left)
        }
        LatchCommand::Show(NameArgs { name }) => {
            let left = Latch::new(session, &name).left().await?;
            (name, left)
        }
        LatchCommand::Wait(WaitArgs { latch, wait }) => {
            return until_open(session, output, &latch.name, wait).await;
        }
    };
    match output {
        Output::Text => line(left),
        Output::Json => line(json!({ "name": name, "left": left })),
    }
}

async fn until_open(
    session: &Session,
    output: Output,
    name: &str,
    wait: Option<Duration>,
) -> Result<(), Failed> {
    let latch = Latch::new(session, name);
    let open = match wait {
        None => latch.wait().await.map(|()| true)?,
        Some(time) => latch.wait_within(time).await?,
    };
    match (open, output) {
        (true, Output::Text) => Ok(()),
        (true, Output::Json) => line(json!({ "name": name, "left": 0 })),
        (false, _) => Err(Failed::Refused(format!(
            "latch {name:?} was not open within {:?}, {} to count down",
            wait.unwrap_or_default(),
            latch.left().await?
        ))),
    }
}
