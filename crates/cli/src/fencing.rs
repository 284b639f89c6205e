//! `fencing keys | rotate | drop`: the keys of signed fencing tokens.

use crate::output::{Failed, Output, line};
use crate::terminal::{table, text};
use clap::{Args, Subcommand};
use client::Client;
use proto::synod::v1 as api;
use serde_json::json;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const EXAMPLES: &str = "\
Examples:
  synod fencing keys
  synod fencing rotate --keep 24h      tokens of the old key are good for a day more
  synod fencing rotate --keep 0s       the old key is known to others: refuse its tokens
  synod fencing drop 1f2e3d4c5b6a7988";

#[derive(Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum FencingCommand {
    /// List the keys that verify signed tokens
    Keys,
    /// Sign tokens with a new key from now on
    Rotate(RotateArgs),
    /// Stop verifying tokens that a key of before has signed
    Drop(DropArgs),
}

#[derive(Args)]
pub(crate) struct RotateArgs {
    /// How long the key of before goes on verifying; until it is dropped if this is left out
    #[arg(long, value_name = "DURATION", value_parser = keep)]
    keep: Option<Duration>,
}

#[derive(Args)]
pub(crate) struct DropArgs {
    /// The key, as `fencing keys` prints it
    #[arg(value_name = "KEY")]
    kid: String,
}

fn keep(text: &str) -> Result<Duration, String> {
    let keep = server::config::parse_duration(text);
    keep.ok_or_else(|| "write a number and a unit, such as 24h, or 0s".into())
}

pub(crate) async fn run(
    client: &Client,
    output: Output,
    command: FencingCommand,
) -> Result<(), Failed> {
    let keys = || async { client.lock_keys(api::KeysRequest {}).await };
    let keys = match command {
        FencingCommand::Keys => keys().await?.message.keys,
        FencingCommand::Rotate(RotateArgs { keep }) => {
            // Named, so that it is replaced once even if this request is sent twice.
            let known = keys().await?.message.keys;
            let signs = known.into_iter().find(|key| key.signs);
            let request = api::RotateKeyRequest {
                replaces: signs.map(|key| key.kid).unwrap_or_default(),
                keep_ms: keep.map(|keep| keep.as_millis() as u64),
            };
            client.lock_rotate_key(request).await?.message.keys
        }
        FencingCommand::Drop(DropArgs { kid }) => {
            let request = api::DropKeyRequest { kid };
            client.lock_drop_key(request).await?.message.keys
        }
    };
    print(output, &keys)
}

fn print(output: Output, keys: &[api::VerifyingKey]) -> Result<(), Failed> {
    let mut rows = table(["KEY", "SIGNS", "VERIFIES"]);
    for key in keys {
        match output {
            Output::Json => line(json!({
                "key": key.kid,
                "signs": key.signs,
                "until_unix_ms": key.until_unix_ms,
            }))?,
            Output::Text => {
                let signs = if key.signs { "yes" } else { "no" };
                rows.add_row(vec![key.kid.clone(), signs.into(), verifies(key)]);
            }
        }
    }
    match output {
        Output::Text => line(text(&rows)),
        Output::Json => Ok(()),
    }
}

/// For how long, by this machine's clock.
fn verifies(key: &api::VerifyingKey) -> String {
    match key.until_unix_ms {
        None if key.signs => "yes".into(),
        None => "until it is dropped".into(),
        Some(until) => {
            let until = UNIX_EPOCH + Duration::from_millis(until);
            let left = until.duration_since(SystemTime::now()).unwrap_or_default();
            match left.as_secs() {
                seconds @ 0..=119 => format!("for {seconds}s"),
                seconds @ 120..=7199 => format!("for {}m", seconds / 60),
                seconds => format!("for {}h", seconds / 3600),
            }
        }
    }
}
