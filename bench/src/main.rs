//! `bench <scenario>`: starts etcd and Synod in turn on the same machine and disk, drives both with the same load, and prints tables in Markdown.
//! Ratios of interleaved runs are what counts; absolute figures of a shared machine move from hour to hour.

mod big_range;
mod catch_up;
mod fail_over;
mod ids;
mod locks;
mod security;
mod side_by_side;
mod table;

use clap::{Args, Parser, Subcommand};
use conformance::Outcome;
use conformance::process::{Program, until_stopped};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "bench", about = "Side by side with etcd")]
struct Arguments {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    /// Puts, reads and a mix; latency, CPU, memory, fail-over
    Etcd(side_by_side::Plan),
    /// Puts while a range over, and a delete of, a million keys go on
    BigRange(big_range::Plan),
    /// Puts while a member that missed many writes catches up
    CatchUp(catch_up::Plan),
    /// Locks and sessions: cycles, hand-offs, keep-alives
    Locks(locks::Plan),
    /// Ids in the SDK and one by one; Synod only
    Ids(ids::Plan),
    /// Puts with tokens against without, beside password log-ins, and in TLS against plain text; Synod only
    Security(security::Plan),
}

/// What every scenario needs to know.
#[derive(Args, Clone, Debug)]
struct Common {
    /// Binaries to compare, the first is the measure; names are looked up on the path
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "etcd,target/release/synod"
    )]
    programs: Vec<String>,
    /// Members of each cluster
    #[arg(long, default_value_t = 3)]
    members: usize,
    /// Where the members keep their data; decides which disk is measured
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Append the tables to this file
    #[arg(long)]
    out: Option<PathBuf>,
}

impl Common {
    fn programs(&self) -> Outcome<Vec<Program>> {
        self.programs
            .iter()
            .map(|name| Program::at(&on_path(name)))
            .collect()
    }

    fn directory(&self) -> PathBuf {
        let parent = self.directory.clone().unwrap_or_else(std::env::temp_dir);
        parent.join(format!("synod-bench-{}", std::process::id()))
    }

    /// Prints a table and appends it to the file asked for.
    fn publish(&self, text: &str) -> Outcome<()> {
        use std::io::Write;
        println!("{text}");
        if let Some(path) = &self.out {
            let mut file = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)?;
            writeln!(file, "{text}")?;
        }
        Ok(())
    }
}

// One thread: the load shares two cores with the servers, and hand-offs between threads would cost it more than a second core brings.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let scenario = Arguments::parse().scenario;
    let run = async {
        match scenario {
            Scenario::Etcd(plan) => side_by_side::run(&plan).await,
            Scenario::BigRange(plan) => big_range::run(&plan).await,
            Scenario::CatchUp(plan) => catch_up::run(&plan).await,
            Scenario::Locks(plan) => locks::run(&plan).await,
            Scenario::Ids(plan) => ids::run(&plan).await,
            Scenario::Security(plan) => security::run(&plan).await,
        }
    };
    match until_stopped(run).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::from(3)
        }
    }
}

fn on_path(name: &str) -> PathBuf {
    if name.contains('/') {
        return name.into();
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| name.into())
}
