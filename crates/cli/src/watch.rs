//! `watch`: prints changes until interrupted.

use crate::keys::{RangeArgs, event_json, key_text};
use crate::output::{Failed, Output, bytes_line, line};
use clap::Args;
use client::Client;
use proto::etcdserverpb as pb;
use proto::mvccpb::event::EventType;
use serde_json::json;

const EXAMPLES: &str = "\
Examples:
  synod watch hello
  synod watch --prefix config/ --revision 7  from revision 7 on, what was missed included
  synod watch --prefix '' --output json      every change, one JSON value per line

The watch survives the loss of a member: it goes on at another endpoint without missing or repeating a change.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    range: RangeArgs,
    /// First revision wanted [default: from now on]
    #[arg(long, alias = "rev", value_name = "REVISION")]
    revision: Option<i64>,
    /// Print the state before each change too
    #[arg(long, alias = "prev-kv")]
    prev: bool,
    /// Say now and then how far the watch has come when nothing happens
    #[arg(long)]
    progress: bool,
    /// End after this many changes
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

pub(crate) async fn run(client: &Client, output: Output, args: WatchArgs) -> Result<(), Failed> {
    let (key, range_end) = args.range.bounds();
    let mut watch = client.watch(pb::WatchCreateRequest {
        key: key.into(),
        range_end: range_end.into(),
        start_revision: args.revision.unwrap_or(0),
        prev_kv: args.prev,
        progress_notify: args.progress,
        ..pb::WatchCreateRequest::default()
    });
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut is_new = true;
    while let Some(response) = watch.next().await? {
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        if response.canceled {
            let why = match (response.compact_revision, response.cancel_reason.as_str()) {
                (0, "") => "the member ended the watch".to_owned(),
                (0, reason) => reason.to_owned(),
                (compacted, _) => format!(
                    "history before revision {compacted} is gone; pass --revision {compacted} or later"
                ),
            };
            return Err(Failed::Refused(why));
        }
        if response.created {
            // Again when it goes on at another endpoint, with nothing missed: nobody needs to know.
            if std::mem::take(&mut is_new) {
                let first = args.revision.unwrap_or(revision + 1);
                eprintln!("watching from revision {first}");
            }
        } else if response.events.is_empty() {
            match output {
                Output::Text => eprintln!("progress: revision {revision}"),
                Output::Json => line(json!({ "progress": revision }))?,
            }
        }
        for event in &response.events {
            print(output, event)?;
            left -= 1;
            if left == 0 {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn print(output: Output, event: &proto::mvccpb::Event) -> Result<(), Failed> {
    if output == Output::Json {
        return line(event_json(event));
    }
    let kv = event.kv.clone().unwrap_or_default();
    let deleted = event.r#type() == EventType::Delete;
    line(if deleted { "DELETE" } else { "PUT" })?;
    if let Some(prev) = &event.prev_kv {
        key_text(prev)?;
    }
    bytes_line(&kv.key)?;
    if deleted {
        Ok(())
    } else {
        bytes_line(&kv.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        watch: WatchArgs,
    }

    /// It printed without end.
    #[test]
    fn a_watch_of_no_changes_is_refused() {
        let count = |count| {
            let line = Line::try_parse_from(["watch", "a", "--count", count]);
            line.map(|line| line.watch.count)
        };
        assert_eq!(count("1").expect("one change"), Some(1));
        let refused = count("0").expect_err("none at all").to_string();
        assert!(refused.contains("1.."), "{refused}");
    }
}
