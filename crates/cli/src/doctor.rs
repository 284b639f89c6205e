//! `doctor`: asks every member how it is, and says in plain words what is wrong and what to do.

mod judge;

use crate::member::bare;
use crate::output::{Failed, Output, line};
use crate::terminal::{table, text};
use clap::Args;
use client::{Client, ClientError, Security};
use judge::{Finding, Grade, Member, Patient, disk_findings, judge};
use proto::synodpb::{ListMembersResponse, MemberInfo};
use serde_json::json;
use server::examine::{SyncTimes, free_bytes, wall_ms};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  synod doctor                          every member of the cluster, by the addresses they tell clients
  synod doctor --no-disk                without writing to their disks
  synod doctor --data-dir /var/lib/n1   whether this machine's disk will do, before a member runs on it

Exit codes: 0 nothing is wrong, warnings aside; 1 something is; 3 no member could be reached.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DoctorArgs {
    /// Measure the disk of this directory, and ask no member
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Do not measure the members' disks: it takes 64 small synced writes on each
    #[arg(long, conflicts_with = "data_dir")]
    no_disk: bool,
}

pub(crate) async fn run(
    client: &Client,
    security: &Security,
    output: Output,
    args: &DoctorArgs,
) -> Result<(), Failed> {
    let findings = match &args.data_dir {
        Some(directory) => {
            let failed =
                |error| Failed::Refused(format!("data-dir: {}: {error}", directory.display()));
            let times = SyncTimes::measure(directory).map_err(failed)?;
            let free = free_bytes(directory).map_err(failed)?;
            disk_findings(
                "this machine",
                Some((times.median, times.worst)),
                free,
                None,
            )
        }
        None => judge(&examine(client, security, !args.no_disk).await?),
    };
    match output {
        Output::Text => print(&findings)?,
        Output::Json => {
            for finding in &findings {
                line(json!({
                    "check": finding.check,
                    "member": finding.member,
                    "result": finding.grade.word(),
                    "found": finding.found,
                    "advice": finding.advice,
                }))?;
            }
        }
    }
    let wrong = findings
        .iter()
        .filter(|it| it.grade == Grade::Wrong)
        .count();
    match wrong {
        0 => Ok(()),
        1 => Err(Failed::Refused("one thing is wrong".into())),
        _ => Err(Failed::Refused(format!("{wrong} things are wrong"))),
    }
}

/// Asks all members, each by itself: one that is down does not keep the others from being asked.
async fn examine(client: &Client, security: &Security, disk: bool) -> Result<Patient, Failed> {
    let listed = listed(client).await?;
    let mut asked = tokio::task::JoinSet::new();
    for (place, info) in listed.members.iter().enumerate() {
        if info.client_addresses.is_empty() {
            continue;
        }
        let alone = Client::secured(&info.client_addresses, security)?
            .with_timeout(client.timeout())
            .with_user_of(client)
            .with_one_try();
        asked.spawn(async move { (place, ask(&alone, disk).await) });
    }
    let mut answers: Vec<_> = listed.members.iter().map(|_| None).collect();
    for (place, answer) in asked.join_all().await {
        answers[place] = Some(answer);
    }
    let members = listed.members.into_iter().zip(answers);
    let members = members.map(|(info, answer)| match answer {
        Some(Ok(member)) => (info, Ok(member)),
        Some(Err(error)) => (info, Err(error.to_string())),
        None => (info, Err("it never told where clients reach it".into())),
    });
    Ok(Patient {
        members: members.collect(),
    })
}

/// Who the members are, also from one that cannot ask the others.
async fn listed(client: &Client) -> Result<ListMembersResponse, Failed> {
    match client.members().await {
        Ok(answer) => Ok(answer.message),
        Err(ClientError::Unreachable { .. } | ClientError::Unknown { .. }) => {
            let known = client.member_list().await?.message;
            let members = known.members.into_iter().map(|member| MemberInfo {
                id: member.id,
                name: member.name,
                peer_addresses: member.peer_ur_ls,
                client_addresses: member.client_ur_ls,
                role: i32::from(member.is_learner),
                ..MemberInfo::default()
            });
            Ok(ListMembersResponse {
                members: members.collect(),
                ..ListMembersResponse::default()
            })
        }
        Err(error) => Err(error.into()),
    }
}

async fn ask(client: &Client, disk: bool) -> Result<Member, ClientError> {
    let status = client.status().await?.message;
    // The clock is asked for by itself: an answer that waited for a disk tells little of it.
    let before = wall_ms();
    let told = client.examine(false).await?.message;
    let after = wall_ms();
    let examined = match disk {
        true => client.examine(true).await?.message,
        false => told.clone(),
    };
    let middle = before + after.saturating_sub(before) / 2;
    Ok(Member {
        status,
        clock_ahead_ms: told.wall_ms as i64 - middle as i64,
        examined,
    })
}

fn print(findings: &[Finding]) -> Result<(), Failed> {
    let mut table = table(["CHECK", "MEMBER", "RESULT", "FOUND"]);
    for finding in findings {
        table.add_row([
            finding.check.to_owned(),
            bare(&finding.member).to_owned(),
            finding.grade.word().to_owned(),
            finding.found.clone(),
        ]);
    }
    line(text(&table))?;
    let advised: Vec<&Finding> = findings.iter().filter(|it| !it.advice.is_empty()).collect();
    if !advised.is_empty() {
        line("\nAdvice:")?;
    }
    for (nth, finding) in advised.iter().enumerate() {
        let whose = match finding.member.as_str() {
            "" => String::new(),
            member => format!(" of {member}"),
        };
        line(format!(
            "  {}. {}{whose}: {}",
            nth + 1,
            finding.check,
            finding.advice
        ))?;
    }
    Ok(())
}
