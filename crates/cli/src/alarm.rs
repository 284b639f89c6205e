//! `alarm list` and `alarm disarm`.

use crate::output::{Failed, Output, json_head, line};
use crate::terminal::{table, text};
use clap::Subcommand;
use client::{Answer, Client};
use proto::etcdserverpb as pb;
use serde_json::{Value, json};

#[derive(Subcommand)]
pub(crate) enum AlarmCommand {
    /// List the alarms that are raised
    List,
    /// Lower all alarms; the one for want of space goes by itself when there is room
    Disarm,
}

pub(crate) async fn run(
    client: &Client,
    output: Output,
    command: AlarmCommand,
) -> Result<(), Failed> {
    let mut listed = client.alarm(pb::AlarmRequest::default()).await?;
    if let AlarmCommand::Disarm = command {
        let raised = std::mem::take(&mut listed.message.alarms);
        for alarm in raised {
            let request = pb::AlarmRequest {
                action: pb::alarm_request::AlarmAction::Deactivate.into(),
                member_id: alarm.member_id,
                alarm: alarm.alarm,
            };
            let lowered = client.alarm(request).await?;
            listed.message.alarms.extend(lowered.message.alarms);
        }
    }
    show(&listed, output)
}

/// Shows what is raised, or was lowered.
fn show(answer: &Answer<pb::AlarmResponse>, output: Output) -> Result<(), Failed> {
    let rows = answer.message.alarms.iter().map(|alarm| {
        let member = format!("{:x}", alarm.member_id);
        (member, alarm.alarm().as_str_name())
    });
    match output {
        Output::Text => {
            let mut table = table(["MEMBER", "ALARM"]);
            for (member, kind) in rows {
                table.add_row([&member, kind]);
            }
            line(text(&table))
        }
        Output::Json => {
            let mut result = json_head(answer, answer.message.header.as_ref());
            let alarms = rows.map(|(member, kind)| json!({ "member": member, "alarm": kind }));
            result.insert("alarms".into(), alarms.collect());
            line(Value::Object(result))
        }
    }
}
