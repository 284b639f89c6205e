//! `group join | list | watch`: who is there.

use crate::job::{self, JobArgs};
use crate::output::{Failed, Output, lease_text, line};
use crate::terminal::{table, text};
use clap::{Args, Subcommand};
use client::group::{Attributes, GroupMember, Members, members};
use client::{Client, Group, Session};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const EXAMPLES: &str = "\
Examples:
  synod group join workers --attribute addr=10.0.0.7:80 --attribute zone=a -- ./worker.sh   in it while it runs
  synod group list workers                   who is in it, with attributes
  synod group watch workers                  hear of who comes, changes and leaves

A member leaves when its command ends, or when its session does: after --ttl if its process dies or is cut off. The command gets the token of its \
membership in SYNOD_TOKEN; later members have greater ones. If the membership is lost while it runs, it gets SIGTERM, and SIGKILL after --grace.";

#[derive(Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum GroupCommand {
    /// Be in a group while a command runs, or until interrupted
    Join(JoinArgs),
    /// List who is in a group, in the order they came
    List(NameArgs),
    /// Print who is in a group, now and after each change, until interrupted
    Watch(NameArgs),
}

#[derive(Args)]
pub(crate) struct JoinArgs {
    #[command(flatten)]
    group: NameArgs,
    /// What this member says of itself; may be repeated
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = attribute)]
    attributes: Vec<(String, String)>,
    #[command(flatten)]
    job: JobArgs,
}

#[derive(Args)]
pub(crate) struct NameArgs {
    /// The group
    #[arg(value_name = "NAME")]
    name: String,
}

fn attribute(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write a name, an equals sign and a value, as in zone=a".into()),
    }
}

pub(crate) async fn run(
    client: &Client,
    output: Output,
    command: GroupCommand,
) -> Result<(), Failed> {
    match command {
        GroupCommand::Join(args) => join(client, args).await,
        GroupCommand::List(args) => list(client, output, &args.name).await,
        GroupCommand::Watch(args) => watch(client, output, &args.name).await,
    }
}

async fn join(client: &Client, args: JoinArgs) -> Result<(), Failed> {
    let mut attributes = Attributes::new();
    for (name, value) in args.attributes {
        if let Some(other) = attributes.insert(name.clone(), value) {
            return Err(Failed::Usage(format!(
                "--attribute {name}: it was {other:?} already; give each name once"
            )));
        }
    }
    let session = Session::open_with_ttl(client, args.job.ttl).await?;
    let membership = Group::new(&session, &args.group.name)
        .join(&attributes)
        .await?;
    job::run(&args.job, membership.into_guard()).await
}

async fn list(client: &Client, output: Output, name: &str) -> Result<(), Failed> {
    let all = members(client, name).await?;
    match output {
        Output::Json => all.iter().try_for_each(|member| line(member_json(member))),
        Output::Text if all.is_empty() => {
            eprintln!("nobody is in {name:?}");
            Ok(())
        }
        Output::Text => {
            let mut rows = table(["TOKEN", "SESSION", "ATTRIBUTES"]);
            for member in &all {
                rows.add_row(vec![
                    member.token.to_string(),
                    lease_text(member.session),
                    attributes_text(member),
                ]);
            }
            line(text(&rows))
        }
    }
}

async fn watch(client: &Client, output: Output, name: &str) -> Result<(), Failed> {
    let mut answers = Members::of(client, name);
    let mut before: Option<BTreeMap<u64, GroupMember>> = None;
    loop {
        let now = answers.next().await?;
        match output {
            Output::Json => {
                let all: Vec<Value> = now.values().map(member_json).collect();
                line(json!({ "name": name, "members": all }))?;
            }
            Output::Text => {
                if now.is_empty() {
                    eprintln!("nobody is in {name:?}");
                }
                changes(before.as_ref(), now)?;
            }
        }
        before = Some(now.clone());
    }
}

/// A line for each member that differs; for each that is there, the first time.
fn changes(
    before: Option<&BTreeMap<u64, GroupMember>>,
    now: &BTreeMap<u64, GroupMember>,
) -> Result<(), Failed> {
    let told = |what: &str, member: &GroupMember| {
        let token = member.token;
        let rest = attributes_text(member);
        line(format!("{what} {token} {rest}").trim_end())
    };
    let known = before.into_iter().flatten();
    for (_, member) in known.filter(|(token, _)| !now.contains_key(token)) {
        told("left", member)?;
    }
    for (token, member) in now {
        match before.map(|before| before.get(token)) {
            None => told("here", member)?,
            Some(None) => told("joined", member)?,
            Some(Some(other)) if other.attributes != member.attributes => {
                told("changed", member)?;
            }
            Some(Some(_)) => {}
        }
    }
    Ok(())
}

fn attributes_text(member: &GroupMember) -> String {
    let pairs = member.attributes.iter();
    let pairs: Vec<String> = pairs
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join(" ")
}

fn member_json(member: &GroupMember) -> Value {
    json!({
        "token": member.token,
        "session": lease_text(member.session),
        "since_unix_ms": member.since_unix_ms,
        "attributes": member.attributes,
    })
}
