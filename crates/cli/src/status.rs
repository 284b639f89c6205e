//! `status`: how each endpoint is.

use crate::deadline::Deadline;
use crate::member::bare;
use crate::output::{Failed, Output, json_head, line};
use crate::terminal::{table, text};
use clap::Args;
use client::{Answer, Client, ClientError, Security};
use proto::etcdserverpb as pb;
use serde_json::{Map, Value, json};

#[derive(Args)]
pub(crate) struct StatusArgs {
    /// Ask every member of the cluster, by the addresses they tell clients
    #[arg(long)]
    all: bool,
}

type Told = (String, Result<Answer<pb::StatusResponse>, ClientError>);

pub(crate) async fn status(
    client: &Client,
    security: &Security,
    output: Output,
    args: &StatusArgs,
) -> Result<(), Failed> {
    let deadline = Deadline::of(client);
    let known;
    let client = if args.all {
        let members = deadline.most(client).member_list().await?.message.members;
        known = Client::secured(
            members
                .iter()
                .filter_map(|member| member.client_ur_ls.first()),
            security,
        )?
        .with_user_of(client);
        &known
    } else {
        client
    };
    let mut asked = tokio::task::JoinSet::new();
    for (place, alone) in client.each().into_iter().enumerate() {
        let alone = deadline.rest(&alone).with_one_try();
        let endpoint = alone.endpoints().next().unwrap_or_default().to_owned();
        asked.spawn(async move { (place, (endpoint, alone.status().await)) });
    }
    let mut told: Vec<(usize, Told)> = asked.join_all().await;
    told.sort_by_key(|(place, _)| *place);
    let told: Vec<Told> = told.into_iter().map(|(_, told)| told).collect();
    match output {
        Output::Text => line(text(&status_table(&told)))?,
        Output::Json => {
            let newest = newest_index(&told);
            for told in &told {
                line(status_json(told, newest))?;
            }
        }
    }
    outcome(&told)
}

/// A refusal is an answer; it counts where nobody was silent.
fn outcome(told: &[Told]) -> Result<(), Failed> {
    let mut silent = Vec::new();
    let mut refusal = None;
    for (endpoint, answer) in told {
        match answer {
            Ok(_) => {}
            Err(error @ ClientError::Refused { .. }) => {
                refusal.get_or_insert_with(|| error.to_string());
            }
            Err(_) => silent.push(endpoint.as_str()),
        }
    }
    match refusal {
        _ if !silent.is_empty() => Err(Failed::Unreachable(format!(
            "no answer from {}",
            silent.join(", ")
        ))),
        Some(text) => Err(Failed::Refused(text)),
        None => Ok(()),
    }
}

fn status_table(told: &[Told]) -> comfy_table::Table {
    let mut table = table([
        "ENDPOINT",
        "ID",
        "VERSION",
        "ROLE",
        "TERM",
        "LOG INDEX",
        "APPLIED",
        "BEHIND",
        "REVISION",
        "SIZE",
        "ERRORS",
    ]);
    let newest = newest_index(told);
    for (endpoint, answer) in told {
        let row = match answer {
            Ok(answer) => {
                let status = &answer.message;
                let header = status.header.unwrap_or_default();
                vec![
                    bare(endpoint).to_owned(),
                    format!("{:x}", header.member_id),
                    status.version.clone(),
                    role(status).into(),
                    status.raft_term.to_string(),
                    status.raft_index.to_string(),
                    status.raft_applied_index.to_string(),
                    newest.saturating_sub(status.raft_applied_index).to_string(),
                    header.revision.to_string(),
                    size(status.db_size_in_use.unsigned_abs()),
                    status.errors.join("; "),
                ]
            }
            Err(error) => {
                let mut row = vec![bare(endpoint).to_owned()];
                row.extend(std::iter::repeat_n("-".to_owned(), 9));
                row.push(error.to_string());
                row
            }
        };
        table.add_row(row);
    }
    table
}

/// The newest entry that any of them knows of.
fn newest_index(told: &[Told]) -> u64 {
    let answers = told.iter().filter_map(|(_, answer)| answer.as_ref().ok());
    answers
        .map(|answer| answer.message.raft_index)
        .max()
        .unwrap_or(0)
}

fn role(status: &pb::StatusResponse) -> &'static str {
    let me = status.header.map_or(0, |header| header.member_id);
    match status.leader {
        _ if status.is_learner => "learner",
        0 => "no leader",
        leader if leader == me => "leader",
        _ => "follower",
    }
}

fn status_json((endpoint, answer): &Told, newest: u64) -> Value {
    match answer {
        Ok(answer) => {
            let status = &answer.message;
            let mut result: Map<String, Value> = json_head(answer, status.header.as_ref());
            result.insert("endpoint".into(), endpoint.as_str().into());
            result.insert("version".into(), status.version.as_str().into());
            result.insert("role".into(), role(status).into());
            result.insert("leader".into(), format!("{:x}", status.leader).into());
            result.insert("log_index".into(), status.raft_index.into());
            result.insert("applied_index".into(), status.raft_applied_index.into());
            let behind = newest.saturating_sub(status.raft_applied_index);
            result.insert("entries_behind".into(), behind.into());
            result.insert("size_bytes".into(), status.db_size_in_use.into());
            result.insert("errors".into(), status.errors.clone().into());
            Value::Object(result)
        }
        Err(error) => {
            let how = match error {
                ClientError::Refused { .. } => "refused",
                _ => "unreachable",
            };
            json!({ "endpoint": endpoint, how: error.to_string() })
        }
    }
}

/// A number of bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    match [(30, "GiB"), (20, "MiB"), (10, "KiB")]
        .into_iter()
        .find(|(shift, _)| bytes >= 1 << shift)
    {
        Some((shift, unit)) => format!("{:.1} {unit}", bytes as f64 / (1u64 << shift) as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::Code;

    #[test]
    fn who_refuses_answers() {
        let refused = || {
            Err(ClientError::Refused {
                code: Code::PermissionDenied,
                reason: String::new(),
                message: "etcdserver: permission denied".into(),
            })
        };
        let silent = || {
            Err(ClientError::Unreachable {
                reason: "h3: no answer in time".into(),
            })
        };
        let told = |answers: [Told; 2]| outcome(&answers);
        let ended = told([("h1".into(), refused()), ("h2".into(), refused())]);
        assert!(
            matches!(&ended, Err(Failed::Refused(text)) if text == "etcdserver: permission denied"),
            "{ended:?}"
        );
        let ended = told([("h1".into(), refused()), ("h3".into(), silent())]);
        assert!(
            matches!(&ended, Err(Failed::Unreachable(text)) if text == "no answer from h3"),
            "{ended:?}"
        );
        let line = status_json(&("h1".into(), refused()), 0);
        assert!(line["refused"].is_string() && line.get("unreachable").is_none());
    }
}
