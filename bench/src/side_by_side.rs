//! The main table: the same load on each program in turn, A B A B, so that the machine's moods strike both.

use crate::Common;
use crate::fail_over;
use crate::table::{markdown, median, mib, short, times};
use clap::Args;
use conformance::Outcome;
use conformance::load::{Load, Work, fill};
use conformance::process::{Cluster, Program};
use std::collections::BTreeMap;
use std::time::Duration;

/// Keys the load chooses from.
const KEYS: u64 = 10_000;
/// Bytes of a value.
const VALUE_BYTES: usize = 256;
/// Keys for the measurement of memory.
const MEMORY_KEYS: u64 = 200_000;

/// What to measure.
#[derive(Args, Clone, Debug)]
pub struct Plan {
    #[command(flatten)]
    common: Common,
    /// Numbers of clients, one request in flight each
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256")]
    clients: Vec<usize>,
    /// Seconds of each load
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Times that each program has its turn; the median is reported
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Fail-overs to measure for each program
    #[arg(long, default_value_t = 5)]
    fail_overs: usize,
    /// Leave out memory and fail-over
    #[arg(long)]
    load_only: bool,
}

/// One load on one program in one round.
#[derive(Clone, Copy, Debug)]
struct Measured {
    rate: f64,
    p50: f64,
    p99: f64,
    cpu_us: f64,
    errors: u64,
}

type Cell = (usize, &'static str, usize);

/// Runs a plan and prints its tables.
///
/// # Errors
/// When a program cannot be run.
pub async fn run(plan: &Plan) -> Outcome<()> {
    let programs = plan.common.programs()?;
    let mut cells: BTreeMap<Cell, Vec<Measured>> = BTreeMap::new();
    for round in 0..plan.rounds {
        for (number, program) in programs.iter().enumerate() {
            eprintln!(
                "round {} of {}, {}",
                round + 1,
                plan.rounds,
                program.label()
            );
            one_turn(plan, program, number, round as u64, &mut cells)
                .await
                .map_err(|error| format!("{}: {error}", program.label()))?;
        }
    }
    plan.common.publish(&loads(plan, &programs, &cells))?;
    if !plan.load_only {
        let mut rows = vec![
            [
                "",
                "resident MiB per member",
                "disk MiB per member",
                "fail-over ms (runs)",
                "median",
            ]
            .map(String::from)
            .to_vec(),
        ];
        for program in &programs {
            rows.push(
                memory_and_fail_over(plan, program)
                    .await
                    .map_err(|error| format!("{}: {error}", program.label()))?,
            );
        }
        plan.common.publish(&format!("After {MEMORY_KEYS} keys of {VALUE_BYTES} bytes, and after SIGKILL of the leader:\n\n{}", markdown(&rows)))?;
    }
    Ok(())
}

async fn started(plan: &Plan, program: &Program) -> Outcome<Cluster> {
    let cluster = Cluster::start(program, plan.common.members, &plan.common.directory(), &[])?;
    cluster.ready().await?;
    Ok(cluster)
}

async fn one_turn(
    plan: &Plan,
    program: &Program,
    number: usize,
    round: u64,
    cells: &mut BTreeMap<Cell, Vec<Measured>>,
) -> Outcome<()> {
    let cluster = started(plan, program).await?;
    fill(&cluster.clients(), "bench/", KEYS, VALUE_BYTES).await?;
    for (name, work) in [
        ("put", Work::Put),
        ("get", Work::Get),
        ("mixed", Work::Mixed),
    ] {
        for clients in &plan.clients {
            let load = Load {
                addresses: cluster.clients(),
                clients: *clients,
                work,
                keys: KEYS,
                prefix: "bench/",
                value_bytes: VALUE_BYTES,
                duration: Duration::from_secs(plan.seconds),
                seed: round,
            };
            let warm = Load {
                duration: Duration::from_millis(500),
                ..load.clone()
            };
            warm.drive().await;
            let before = cluster.cpu();
            let figures = load.drive().await;
            let cpu = cluster.cpu().saturating_sub(before);
            let cpu_us = cpu.as_micros() as f64 / figures.operations.max(1) as f64;
            let measured = Measured {
                rate: figures.rate(),
                p50: figures.quantile_ms(0.5),
                p99: figures.quantile_ms(0.99),
                cpu_us,
                errors: figures.errors,
            };
            eprintln!(
                "  {name:5} {clients:4} clients: {:8.0}/s, p50 {:7.2} ms, p99 {:7.2} ms, {:7.1} us CPU, {} errors",
                measured.rate, measured.p50, measured.p99, cpu_us, measured.errors
            );
            cells
                .entry((number, name, *clients))
                .or_default()
                .push(measured);
        }
    }
    std::fs::remove_dir_all(plan.common.directory()).ok();
    Ok(())
}

fn loads(plan: &Plan, programs: &[Program], cells: &BTreeMap<Cell, Vec<Measured>>) -> String {
    let mut head = vec!["work".to_string(), "clients".to_string()];
    for program in programs {
        let name = program.label();
        head.extend([
            format!("{name}: operations/s"),
            "p50 ms".into(),
            "p99 ms".into(),
            "server CPU us/operation".into(),
        ]);
    }
    head.extend([
        "throughput".to_string(),
        "p99".to_string(),
        "CPU".to_string(),
    ]);
    let mut rows = vec![head];
    let mut errors = 0;
    for work in ["put", "get", "mixed"] {
        for clients in &plan.clients {
            let mut row = vec![work.to_string(), clients.to_string()];
            let mut sums: Vec<[f64; 4]> = Vec::new();
            for number in 0..programs.len() {
                let runs = cells
                    .get(&(number, work, *clients))
                    .map(Vec::as_slice)
                    .unwrap_or_default();
                let of = |value: fn(&Measured) -> f64| {
                    median(&runs.iter().map(value).collect::<Vec<_>>())
                };
                let sum = [
                    of(|m| m.rate),
                    of(|m| m.p50),
                    of(|m| m.p99),
                    of(|m| m.cpu_us),
                ];
                errors += runs.iter().map(|m| m.errors).sum::<u64>();
                row.extend(sum.map(short));
                sums.push(sum);
            }
            let (first, last) = (sums[0], sums[sums.len() - 1]);
            row.extend([
                times(last[0], first[0]),
                times(last[2], first[2]),
                times(last[3], first[3]),
            ]);
            rows.push(row);
        }
    }
    let note = if errors > 0 {
        format!("\n{errors} requests ended with an error.\n")
    } else {
        String::new()
    };
    format!(
        "{} members, {} rounds of {} s, medians; the last columns are the last program against the first:\n\n{}{note}",
        plan.common.members,
        plan.rounds,
        plan.seconds,
        markdown(&rows)
    )
}

async fn memory_and_fail_over(plan: &Plan, program: &Program) -> Outcome<Vec<String>> {
    let mut cluster = started(plan, program).await?;
    fill(&cluster.clients(), "memory/", MEMORY_KEYS, VALUE_BYTES).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let all = |bytes: Vec<u64>| bytes.into_iter().map(mib).collect::<Vec<_>>().join(", ");
    let (resident, disk) = (all(cluster.resident()), all(cluster.disk()));
    let mut runs = Vec::new();
    if plan.common.members > 2 {
        for _ in 0..plan.fail_overs {
            let elapsed = fail_over::once(&mut cluster).await?;
            eprintln!("  fail-over after {elapsed:?}");
            runs.push(elapsed.as_secs_f64() * 1000.0);
        }
    }
    let list = runs
        .iter()
        .map(|run| format!("{run:.0}"))
        .collect::<Vec<_>>()
        .join(", ");
    drop(cluster);
    std::fs::remove_dir_all(plan.common.directory()).ok();
    Ok(vec![
        program.label(),
        resident,
        disk,
        list,
        short(median(&runs)),
    ])
}
