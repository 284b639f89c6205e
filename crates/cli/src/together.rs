//! `semaphore` and `barrier`: commands that run beside a bounded number of others, or together with them.

use crate::job::{self, JobArgs};
use crate::lock::{not_in_time, wait};
use crate::output::Failed;
use clap::Args;
use client::{Barrier, Client, Semaphore, Session};
use std::time::Duration;

const SEMAPHORE_EXAMPLES: &str = "\
Examples:
  synod semaphore builds --limit 4 -- make   four at a time
  synod semaphore memory --limit 64 --permits 16 -- ./big.sh

`synod lock list NAME` tells who has permits and who waits. The exit code is the command's.";

/// Run a command beside a bounded number of others
#[derive(Args)]
#[command(after_help = SEMAPHORE_EXAMPLES)]
pub(crate) struct SemaphoreArgs {
    /// The semaphore
    #[arg(value_name = "NAME")]
    name: String,
    /// How many permits there are; the same for all who use it at a time
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// How many permits to take
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    permits: u64,
    /// Wait for so long at most; 0s: not at all [default: for ever]
    #[arg(long, value_name = "DURATION", value_parser = wait)]
    wait: Option<Duration>,
    /// Who has the permits, for those who look [default: this machine and process]
    #[arg(long, value_name = "TEXT")]
    owner: Option<String>,
    #[command(flatten)]
    job: JobArgs,
}

pub(crate) async fn semaphore(client: &Client, args: SemaphoreArgs) -> Result<(), Failed> {
    let session = Session::open_with_ttl(client, args.job.ttl).await?;
    let semaphore =
        Semaphore::new(&session, &args.name, args.limit).with_text(&job::owner(args.owner));
    let guard = match args.wait {
        None => Some(semaphore.acquire(args.permits).await?),
        Some(Duration::ZERO) => semaphore.try_acquire(args.permits).await?,
        Some(time) => semaphore.acquire_within(args.permits, time).await?,
    };
    let Some(guard) = guard else {
        let _ = session.close().await;
        return Err(not_in_time(&args.name, args.wait));
    };
    job::run(&args.job, guard).await
}

const BARRIER_EXAMPLES: &str = "\
Examples:
  synod barrier load-test --parties 3        wait until three have come
  synod barrier load-test --parties 3 -- ./load.sh   begin together; each ends when its own command has";

/// Wait for others, then go on together
#[derive(Args)]
#[command(after_help = BARRIER_EXAMPLES)]
pub(crate) struct BarrierArgs {
    /// The barrier
    #[arg(value_name = "NAME")]
    name: String,
    /// How many must come; the same for all
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=1000))]
    parties: u64,
    /// Wait for so long at most [default: for ever]
    #[arg(long, value_name = "DURATION", value_parser = wait)]
    wait: Option<Duration>,
    #[command(flatten)]
    job: JobArgs,
}

pub(crate) async fn barrier(client: &Client, args: BarrierArgs) -> Result<(), Failed> {
    let session = Session::open_with_ttl(client, args.job.ttl).await?;
    let barrier = Barrier::new(&session, &args.name, args.parties);
    let inside = match args.wait {
        None => Some(barrier.enter().await?),
        Some(time) => barrier.enter_within(time).await?,
    };
    let Some(inside) = inside else {
        let _ = session.close().await;
        return Err(Failed::Refused(format!(
            "barrier {:?}: not all {} had come within {:?}",
            args.name,
            args.parties,
            args.wait.unwrap_or_default()
        )));
    };
    if args.job.command.is_empty() {
        inside.into_guard().release().await?;
        return Ok(session.close().await?);
    }
    job::run(&args.job, inside.into_guard()).await
}
