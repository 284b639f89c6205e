//! `lease grant | revoke | keep-alive | ttl | list`.

use crate::output::{Failed, Output, bytes_line, json_head, lease_id, lease_text, line, put_bytes};
use clap::{Args, Subcommand};
use client::Client;
use proto::etcdserverpb as pb;
use serde_json::{Map, Value, json};
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  id=$(synod lease grant 60s)
  synod put service/a 10.0.0.1 --lease $id
  synod lease keep-alive $id &               as long as this runs, the key stays";

#[derive(Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum LeaseCommand {
    /// Make a lease and print its id
    Grant(GrantArgs),
    /// End a lease and remove its keys
    Revoke(IdArgs),
    /// Renew a lease until interrupted
    KeepAlive(KeepAliveArgs),
    /// Show how long a lease has left
    Ttl(TtlArgs),
    /// List all leases
    List,
}

#[derive(Args)]
pub(crate) struct GrantArgs {
    /// Time to live: seconds, or a number with a unit
    #[arg(value_name = "TTL", value_parser = seconds)]
    ttl: i64,
    /// The id wanted [default: chosen for you]
    #[arg(long, value_name = "ID", value_parser = lease_id)]
    id: Option<i64>,
}

#[derive(Args)]
pub(crate) struct IdArgs {
    /// The lease, as `lease grant` printed it
    #[arg(value_name = "ID", value_parser = lease_id)]
    id: i64,
}

#[derive(Args)]
pub(crate) struct KeepAliveArgs {
    #[command(flatten)]
    lease: IdArgs,
    /// Renew it once and end
    #[arg(long)]
    once: bool,
}

#[derive(Args)]
pub(crate) struct TtlArgs {
    #[command(flatten)]
    lease: IdArgs,
    /// List its keys too
    #[arg(long)]
    keys: bool,
}

fn seconds(text: &str) -> Result<i64, String> {
    let duration = match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => server::config::parse_duration(text),
    };
    match duration {
        Some(duration) if duration.is_zero() => Err("at least 1s is needed".into()),
        Some(duration) if duration.subsec_millis() == 0 => {
            Ok(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX))
        }
        _ => Err("write whole seconds, such as 60 or 5m".into()),
    }
}

pub(crate) async fn run(
    client: &Client,
    output: Output,
    command: LeaseCommand,
) -> Result<(), Failed> {
    match command {
        LeaseCommand::Grant(args) => grant(client, output, &args).await,
        LeaseCommand::Revoke(args) => revoke(client, output, &args).await,
        LeaseCommand::KeepAlive(args) => keep_alive(client, output, &args).await,
        LeaseCommand::Ttl(args) => ttl(client, output, &args).await,
        LeaseCommand::List => list(client, output).await,
    }
}

async fn grant(client: &Client, output: Output, args: &GrantArgs) -> Result<(), Failed> {
    let answer = client
        .lease_grant(pb::LeaseGrantRequest {
            ttl: args.ttl,
            id: args.id.unwrap_or(0),
        })
        .await?;
    let response = &answer.message;
    if !response.error.is_empty() {
        return Err(Failed::Refused(response.error.clone()));
    }
    match output {
        Output::Text => {
            eprintln!("granted for {} s", response.ttl);
            line(lease_text(response.id))
        }
        Output::Json => {
            let mut result = json_head(&answer, response.header.as_ref());
            result.insert("id".into(), lease_text(response.id).into());
            result.insert("ttl_seconds".into(), response.ttl.into());
            line(Value::Object(result))
        }
    }
}

async fn revoke(client: &Client, output: Output, args: &IdArgs) -> Result<(), Failed> {
    let answer = client
        .lease_revoke(pb::LeaseRevokeRequest { id: args.id })
        .await?;
    match output {
        Output::Text => line(format_args!("revoked {}", lease_text(args.id))),
        Output::Json => line(Value::Object(json_head(
            &answer,
            answer.message.header.as_ref(),
        ))),
    }
}

async fn keep_alive(client: &Client, output: Output, args: &KeepAliveArgs) -> Result<(), Failed> {
    let id = args.lease.id;
    loop {
        let response = client.lease_keep_alive(id).await?.message;
        if response.ttl <= 0 {
            return Err(Failed::Refused(format!(
                "lease {} is gone: it expired or was revoked",
                lease_text(id)
            )));
        }
        match output {
            Output::Text => line(format_args!(
                "{} kept alive for {} s",
                lease_text(id),
                response.ttl
            ))?,
            Output::Json => line(json!({ "id": lease_text(id), "ttl_seconds": response.ttl }))?,
        }
        if args.once {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(
            response.ttl.unsigned_abs() * 1000 / 3,
        ))
        .await;
    }
}

async fn ttl(client: &Client, output: Output, args: &TtlArgs) -> Result<(), Failed> {
    let id = args.lease.id;
    let answer = client
        .lease_time_to_live(pb::LeaseTimeToLiveRequest {
            id,
            keys: args.keys,
        })
        .await?;
    let response = &answer.message;
    if response.ttl < 0 {
        return Err(Failed::Refused(format!(
            "there is no lease {}: it expired, was revoked or never was",
            lease_text(id)
        )));
    }
    match output {
        Output::Text => {
            line(format_args!(
                "{} has {} s left of {} s",
                lease_text(id),
                response.ttl,
                response.granted_ttl
            ))?;
            response.keys.iter().try_for_each(|key| bytes_line(key))
        }
        Output::Json => {
            let mut result = json_head(&answer, response.header.as_ref());
            result.insert("id".into(), lease_text(id).into());
            result.insert("ttl_seconds".into(), response.ttl.into());
            result.insert("granted_ttl_seconds".into(), response.granted_ttl.into());
            if args.keys {
                result.insert(
                    "keys".into(),
                    response.keys.iter().map(|key| key_json(key)).collect(),
                );
            }
            line(Value::Object(result))
        }
    }
}

fn key_json(key: &[u8]) -> Value {
    let mut map = Map::new();
    put_bytes(&mut map, "key", key);
    Value::Object(map)
}

async fn list(client: &Client, output: Output) -> Result<(), Failed> {
    let answer = client.lease_list().await?;
    let ids = answer
        .message
        .leases
        .iter()
        .map(|lease| lease_text(lease.id));
    match output {
        Output::Text => ids.into_iter().try_for_each(line),
        Output::Json => {
            let mut result = json_head(&answer, answer.message.header.as_ref());
            result.insert("leases".into(), ids.collect());
            line(Value::Object(result))
        }
    }
}
