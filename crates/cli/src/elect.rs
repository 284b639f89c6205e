//! `elect NAME -- CMD`, and who leads: `elect leader | observe`.

use crate::job::{self, JobArgs, NoCommand, name_beside};
use crate::lock::{not_in_time, wait};
use crate::output::{Failed, Output, lease_text, line};
use clap::{Args, Subcommand};
use client::election::{Leader, Leaders, leader};
use client::{Client, Election, Session};
use serde_json::{Value, json};
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  synod elect scheduler --text 10.0.0.7:80 -- ./schedule.sh   run it when this one leads
  synod elect --name leader -- ./run.sh      the election called leader; behind a subcommand, `-- CMD` is refused
  synod elect leader scheduler               who leads
  synod elect observe scheduler              hear of every new leader

The command gets the fencing token in SYNOD_TOKEN. If leadership is lost while it runs, it and all that it started get SIGTERM, and SIGKILL after --grace. \
The exit code is the command's.";

#[derive(Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, arg_required_else_help = true)]
pub(crate) struct ElectArgs {
    #[command(subcommand)]
    command: Option<ElectCommand>,
    #[command(flatten)]
    campaign: CampaignArgs,
}

#[derive(Args)]
struct CampaignArgs {
    /// The election
    #[arg(value_name = "NAME", required_unless_present = "other_name", value_parser = name_beside::<ElectCommand>)]
    name: Option<String>,
    /// The election, if its name is also a subcommand's
    #[arg(long = "name", value_name = "NAME", conflicts_with = "name")]
    other_name: Option<String>,
    /// The leader's word, for those who look: its address, say [default: this machine and process]
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Wait for so long at most [default: for ever]
    #[arg(long, value_name = "DURATION", value_parser = wait)]
    wait: Option<Duration>,
    /// Among those who wait, higher ones lead first
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    priority: i32,
    #[command(flatten)]
    job: JobArgs,
}

#[derive(Subcommand)]
enum ElectCommand {
    /// Print who leads
    Leader(NameArgs),
    /// Print who leads, now and after each change, until interrupted
    Observe(NameArgs),
}

#[derive(Args)]
struct NameArgs {
    /// The election
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    _no_command: NoCommand,
}

pub(crate) async fn run(client: &Client, output: Output, args: ElectArgs) -> Result<(), Failed> {
    match args.command {
        None => campaign(client, args.campaign).await,
        Some(ElectCommand::Leader(args)) => match leader(client, &args.name).await? {
            Some(leader) => print(output, &args.name, Some(&leader)),
            None => Err(Failed::Refused(format!("nobody leads {:?}", args.name))),
        },
        Some(ElectCommand::Observe(args)) => {
            let mut leaders = Leaders::of(client, &args.name);
            loop {
                print(output, &args.name, leaders.next().await?.as_ref())?;
            }
        }
    }
}

async fn campaign(client: &Client, args: CampaignArgs) -> Result<(), Failed> {
    let name = args.name.or(args.other_name);
    let name = name.expect("one is required without a subcommand");
    let session = Session::open_with_ttl(client, args.job.ttl).await?;
    let election = Election::new(&session, &name).with_priority(args.priority);
    let text = job::owner(args.text);
    let leadership = match args.wait {
        None => Some(election.campaign(&text).await?),
        Some(time) => election.campaign_within(&text, time).await?,
    };
    let Some(leadership) = leadership else {
        let _ = session.close().await;
        return Err(not_in_time(&name, args.wait));
    };
    job::run(&args.job, leadership.into_guard()).await
}

fn print(output: Output, name: &str, leader: Option<&Leader>) -> Result<(), Failed> {
    match (output, leader) {
        (Output::Text, Some(leader)) => line(&leader.text),
        (Output::Text, None) => {
            eprintln!("nobody leads {name:?}");
            Ok(())
        }
        (Output::Json, None) => line(json!({ "name": name, "leader": Value::Null })),
        (Output::Json, Some(leader)) => line(json!({
            "name": name,
            "leader": {
                "text": leader.text,
                "token": leader.token,
                "session": lease_text(leader.session),
                "since_unix_ms": leader.since_unix_ms,
            },
        })),
    }
}
