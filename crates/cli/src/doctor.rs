//! `doctor`: asks every member how it is, and says in plain words what is wrong and what to do.

mod judge;

use crate::deadline::Deadline;
use crate::member::bare;
use crate::output::{Failed, Output, line};
use crate::terminal::{table, text};
use clap::Args;
use client::{Client, ClientError, Code, Security};
use judge::{Finding, Grade, Member, Patient, Space, Unexamined, disk_findings, judge};
use proto::synodpb::{ListMembersResponse, MemberInfo};
use serde_json::json;
use server::examine::{SyncTimes, free_bytes, wall_ms};
use std::path::PathBuf;

/// What a member has unless it is told otherwise.
const DEFAULT_LOW_WATER_BYTES: u64 = 256 << 20;

const EXAMPLES: &str = "\
Examples:
  synod doctor                          every member of the cluster, by the addresses they tell clients
  synod doctor --no-disk                without writing to their disks
  synod doctor --data-dir /var/lib/n1   whether this machine's disk will do, before a member runs on it

Exit codes: 0 nothing is wrong, warnings aside; 1 something is, or this user may not ask; 3 no member could be reached.";

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
            let free_bytes = free_bytes(directory).map_err(failed)?;
            let space = Space {
                free_bytes,
                low_water_bytes: DEFAULT_LOW_WATER_BYTES,
                is_low: free_bytes < DEFAULT_LOW_WATER_BYTES,
            };
            let times = Some((times.median, times.worst));
            disk_findings("this machine", times, Some(space), None)
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
    let deadline = Deadline::of(client);
    let listed = listed(client, deadline).await?;
    let mut asked = tokio::task::JoinSet::new();
    for (place, info) in listed.members.iter().enumerate() {
        if info.client_addresses.is_empty() {
            continue;
        }
        let alone = Client::secured(&info.client_addresses, security)?
            .with_user_of(client)
            .with_one_try();
        asked.spawn(async move { (place, ask(&alone, disk, deadline).await) });
    }
    let mut answers: Vec<_> = listed.members.iter().map(|_| None).collect();
    for (place, answer) in asked.join_all().await {
        answers[place] = Some(answer);
    }
    if let Some(text) = refusal(answers.iter().flatten()) {
        return Err(Failed::Refused(text));
    }
    let members = listed.members.into_iter().zip(answers);
    let members = members.map(|(info, answer)| {
        let answer = match answer {
            Some(Ok(member)) => Ok(member),
            Some(Err(error @ ClientError::Refused { .. })) => {
                Err(Unexamined::Refused(error.to_string()))
            }
            Some(Err(error)) => Err(Unexamined::Silent(error.to_string())),
            None => Err(Unexamined::Silent(
                "it never told where clients reach it".into(),
            )),
        };
        (info, answer)
    });
    Ok(Patient {
        members: members.collect(),
    })
}

/// Why nobody can be examined, if it is not for want of an answer: then it is this user who may not.
fn refusal<'a>(
    mut answers: impl Iterator<Item = &'a Result<Member, ClientError>> + Clone,
) -> Option<String> {
    if answers.clone().any(Result::is_ok) {
        return None;
    }
    answers.find_map(|answer| match answer {
        Err(ClientError::Refused { code, message, .. }) => Some(match code {
            Code::PermissionDenied => {
                format!("{message}: doctor needs a user with the role root")
            }
            _ => message.clone(),
        }),
        _ => None,
    })
}

/// Who the members are, also from one that cannot ask the others.
async fn listed(client: &Client, deadline: Deadline) -> Result<ListMembersResponse, Failed> {
    match deadline.most(client).members().await {
        Ok(answer) => Ok(answer.message),
        Err(ClientError::Unreachable { .. } | ClientError::Unknown { .. }) => {
            let known = deadline.most(client).member_list().await?.message;
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

async fn ask(client: &Client, disk: bool, deadline: Deadline) -> Result<Member, ClientError> {
    let status = deadline.rest(client).status().await?.message;
    // The clock is asked for by itself: an answer that waited for a disk tells little of it.
    let before = wall_ms();
    let told = deadline.rest(client).examine(false).await?.message;
    let after = wall_ms();
    let clock_ms = told.wall_ms as i64;
    let (examined, unmeasured) = match disk {
        false => (told, None),
        true => match deadline.rest(client).examine(true).await {
            Ok(answer) => (answer.message, None),
            // It has answered all the same.
            Err(error) => (told, Some(error.to_string())),
        },
    };
    let middle = before + after.saturating_sub(before) / 2;
    Ok(Member {
        status,
        clock_ahead_ms: clock_ms - middle as i64,
        examined,
        unmeasured,
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
