//! `session list | close`.

use crate::output::{Failed, Output, lease_id, lease_text, line};
use crate::terminal::{table, text};
use clap::{Args, Subcommand};
use client::Client;
use proto::synod::v1 as api;
use serde_json::json;

const EXAMPLES: &str = "\
Examples:
  synod session list
  synod session close 1f2e                   its locks go to the next at once";

#[derive(Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum SessionCommand {
    /// List sessions and other leases
    List,
    /// End a session: its locks go to the next, its keys are removed
    Close(CloseArgs),
}

#[derive(Args)]
pub(crate) struct CloseArgs {
    /// The session, as `session list` prints it
    #[arg(value_name = "SESSION", value_parser = lease_id)]
    session: i64,
}

pub(crate) async fn run(
    client: &Client,
    output: Output,
    command: SessionCommand,
) -> Result<(), Failed> {
    match command {
        SessionCommand::List => list(client, output).await,
        SessionCommand::Close(CloseArgs { session }) => {
            let closed = client
                .session_close(api::CloseSessionRequest { session })
                .await;
            if let Err(error) = closed {
                return Err(match error.reason() {
                    // By the name that it has here.
                    "session-not-found" => Failed::Refused(format!(
                        "session {} has ended, or never was; `synod session list` shows those that there are",
                        lease_text(session)
                    )),
                    _ => error.into(),
                });
            }
            match output {
                Output::Text => line(format_args!("closed {}", lease_text(session))),
                Output::Json => line(json!({ "session": lease_text(session) })),
            }
        }
    }
}

async fn list(client: &Client, output: Output) -> Result<(), Failed> {
    let mut request = api::ListSessionsRequest::default();
    let mut rows = table(["SESSION", "TTL", "LEFT", "CLIENT", "ACQUISITIONS"]);
    loop {
        let page = client.session_list(request).await?.message;
        for one in &page.sessions {
            match output {
                Output::Json => line(json!({
                    "session": lease_text(one.session),
                    "ttl_ms": one.ttl_ms,
                    "remaining_ms": one.remaining_ms,
                    "client": one.client,
                    "acquisitions": one.acquisitions,
                }))?,
                Output::Text => {
                    rows.add_row(vec![
                        lease_text(one.session),
                        format!("{} ms", one.ttl_ms),
                        format!("{} ms", one.remaining_ms),
                        match one.client {
                            0 => "-".into(),
                            client => client.to_string(),
                        },
                        one.acquisitions.to_string(),
                    ]);
                }
            }
        }
        request = match page.sessions.last() {
            Some(last) if page.more => api::ListSessionsRequest {
                from: last.session + 1,
                ..api::ListSessionsRequest::default()
            },
            _ => break,
        };
    }
    match output {
        Output::Text => line(text(&rows)),
        Output::Json => Ok(()),
    }
}
