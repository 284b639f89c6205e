//! `lock NAME -- CMD`, and looking at locks: `lock list | release | watch`.

use crate::job::{self, JobArgs, NoCommand, name_beside};
use crate::output::{Failed, Output, lease_text, line};
use crate::terminal::{table, text};
use clap::{Args, Subcommand};
use client::{Client, Holders, Mutex, RwLock, Session};
use proto::synod::v1 as api;
use proto::synod::v1::obstacle::Obstacle;
use serde_json::{Map, Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const EXAMPLES: &str = "\
Examples:
  synod lock nightly -- ./backup.sh          run it when nobody else does
  synod lock nightly --wait 0s -- ./backup.sh  or not at all
  synod lock config --shared -- ./read.sh    together with others that share
  synod lock nightly -- sh -c 'synod put last now --guarded'   write only while it is held
  synod lock --name list -- ./backup.sh      the lock called list; behind a subcommand, `-- CMD` is refused
  synod lock list                            what is locked
  synod lock list nightly                    who holds it, who waits, since when and why
  synod lock watch nightly                   hear of every new holder
  synod lock release nightly --force --reason 'host is gone'

The command gets the fencing token in SYNOD_TOKEN and the lock's name in SYNOD_LOCK. If the lock is lost while it runs, it and all \
that it started get SIGTERM, and SIGKILL after --grace, both before anybody else can have the lock if it stops in time. The exit code is the command's; 126 if \
it cannot be started, 127 if it is not found; 1 if the lock was not to be had, or was lost while the command ended well.";

#[derive(Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, arg_required_else_help = true)]
pub(crate) struct LockArgs {
    #[command(subcommand)]
    command: Option<LockCommand>,
    #[command(flatten)]
    hold: HoldArgs,
}

#[derive(Args)]
pub(crate) struct HoldArgs {
    /// The lock
    #[arg(value_name = "NAME", required_unless_present = "other_name", value_parser = name_beside::<LockCommand>)]
    name: Option<String>,
    /// The lock, if its name is also a subcommand's
    #[arg(long = "name", value_name = "NAME", conflicts_with = "name")]
    other_name: Option<String>,
    /// Wait for so long at most; 0s: not at all [default: for ever]
    #[arg(long, value_name = "DURATION", value_parser = wait)]
    wait: Option<Duration>,
    /// Hold it together with others that share
    #[arg(long)]
    shared: bool,
    /// Who holds it, for those who look [default: this machine and process]
    #[arg(long, value_name = "TEXT")]
    owner: Option<String>,
    /// Among those who wait, higher ones go first
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 0,
        allow_negative_numbers = true,
        conflicts_with = "shared"
    )]
    priority: i32,
    /// How long the lock stays closed if it is lost, at most 60s
    #[arg(long, value_name = "DURATION", value_parser = wait)]
    lock_delay: Option<Duration>,
    #[command(flatten)]
    job: JobArgs,
}

#[derive(Subcommand)]
enum LockCommand {
    /// List names in use, or who holds one and who waits
    List(ListArgs),
    /// Take a lock from its holder
    Release(ReleaseArgs),
    /// Print who holds a lock, now and after each change, until interrupted
    Watch(NameArgs),
}

#[derive(Args)]
struct ListArgs {
    /// The name [default: all names in use]
    #[arg(value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    _no_command: NoCommand,
}

#[derive(Args)]
struct NameArgs {
    /// The lock
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    _no_command: NoCommand,
}

#[derive(Args)]
struct ReleaseArgs {
    #[command(flatten)]
    lock: NameArgs,
    /// Yes, take it away; what its holder still does with the lock's token is refused from then on
    #[arg(long, required = true)]
    force: bool,
    /// Why, for the logs and for those who wait
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The token of the grant to take away [default: that of the only holder]
    #[arg(long, value_name = "TOKEN")]
    token: Option<u64>,
}

/// Reads a duration that may be none.
pub(crate) fn wait(text: &str) -> Result<Duration, String> {
    server::config::parse_duration(text)
        .ok_or_else(|| "write a number and a unit, such as 500ms or 5s; 0s for none".into())
}

pub(crate) async fn run(client: &Client, output: Output, args: LockArgs) -> Result<(), Failed> {
    match args.command {
        None => hold(client, args.hold).await,
        Some(LockCommand::List(ListArgs { name: None, .. })) => list(client, output).await,
        Some(LockCommand::List(ListArgs {
            name: Some(name), ..
        })) => show(client, output, name).await,
        Some(LockCommand::Release(args)) => release(client, output, args).await,
        Some(LockCommand::Watch(args)) => watch(client, output, &args.name).await,
    }
}

async fn hold(client: &Client, args: HoldArgs) -> Result<(), Failed> {
    let name = args.name.or(args.other_name);
    let name = name.expect("one is required without a subcommand");
    let session = Session::open_with_ttl(client, args.job.ttl).await?;
    let delay = args.lock_delay.unwrap_or_default();
    let owner = job::owner(args.owner);
    let guard = if args.shared {
        let lock = RwLock::new(&session, &name)
            .with_lock_delay(delay)
            .with_text(&owner);
        match args.wait {
            None => Some(lock.read().await?),
            Some(Duration::ZERO) => lock.try_read().await?,
            Some(time) => lock.read_within(time).await?,
        }
    } else {
        let lock = Mutex::new(&session, &name)
            .with_lock_delay(delay)
            .with_priority(args.priority)
            .with_text(&owner);
        match args.wait {
            None => Some(lock.lock().await?),
            Some(Duration::ZERO) => lock.try_lock().await?,
            Some(time) => lock.lock_within(time).await?,
        }
    };
    let Some(guard) = guard else {
        let _ = session.close().await;
        return Err(not_in_time(&name, args.wait));
    };
    job::run(&args.job, guard).await
}

/// It was not to be had within the time.
pub(crate) fn not_in_time(name: &str, wait: Option<Duration>) -> Failed {
    let wait = wait.unwrap_or_default();
    Failed::Refused(if wait.is_zero() {
        format!("lock {name:?} is not free; `synod lock list {name}` tells who holds it")
    } else {
        format!(
            "lock {name:?} was not free within {wait:?}; `synod lock list {name}` tells who holds it"
        )
    })
}

/// All names in use, page by page.
async fn list(client: &Client, output: Output) -> Result<(), Failed> {
    let mut request = api::ListLocksRequest::default();
    let mut rows = table(["NAME", "KIND", "HOLDERS", "WAITERS", "TOKEN", "STATE"]);
    loop {
        let page = client.lock_list(request.clone()).await?.message;
        for lock in &page.locks {
            match output {
                Output::Json => line(lock_json(lock))?,
                Output::Text => {
                    let lock_name = lock.name.clone();
                    rows.add_row(vec![
                        lock_name,
                        kind(lock).to_owned(),
                        lock.holders.to_string(),
                        lock.waiters.to_string(),
                        lock.newest_token.to_string(),
                        state(lock),
                    ]);
                }
            }
        }
        match page.locks.last() {
            // The least name after it.
            Some(last) if page.more => request.from = format!("{}\0", last.name),
            _ => break,
        }
    }
    match output {
        Output::Text if rows.is_empty() => {
            eprintln!("nothing is locked");
            Ok(())
        }
        Output::Text => line(text(&rows)),
        Output::Json => Ok(()),
    }
}

/// Who holds a name, who waits.
async fn show(client: &Client, output: Output, name: String) -> Result<(), Failed> {
    let mut request = api::ShowLockRequest {
        name,
        ..api::ShowLockRequest::default()
    };
    let mut all = Vec::new();
    let lock = loop {
        let page = client.lock_show(request.clone()).await?.message;
        request.skip += page.acquisitions.len() as u64;
        all.extend(page.acquisitions);
        if !page.more {
            break page.lock;
        }
    };
    let Some(lock) = lock else {
        return match output {
            Output::Text => {
                eprintln!(
                    "{:?} is free: nobody holds it or waits for it",
                    request.name
                );
                Ok(())
            }
            Output::Json => line(json!({ "name": request.name, "holders": [], "waiters": [] })),
        };
    };
    match output {
        Output::Json => {
            let mut result = lock_map(&lock);
            let (holders, waiters): (Vec<_>, Vec<_>) = all.iter().partition(|one| one.token != 0);
            let json =
                |list: Vec<&api::Acquisition>| list.into_iter().map(acquisition_json).collect();
            result.insert("holders".into(), Value::Array(json(holders)));
            result.insert("waiters".into(), Value::Array(json(waiters)));
            line(Value::Object(result))
        }
        Output::Text => {
            let mut rows = table(["WHO", "SESSION", "ID", "TOKEN", "SINCE", "WAITS FOR"]);
            for one in &all {
                rows.add_row(vec![
                    one.text.clone(),
                    lease_text(one.session),
                    one.id.to_string(),
                    match one.token {
                        0 => "-".into(),
                        token => token.to_string(),
                    },
                    since(one.since_unix_ms),
                    one.waits_for.as_ref().map_or("-".into(), waits_for),
                ]);
            }
            eprintln!("{} {:?}: {}", kind(&lock), lock.name, state(&lock));
            line(text(&rows))
        }
    }
}

async fn release(client: &Client, output: Output, args: ReleaseArgs) -> Result<(), Failed> {
    let name = args.lock.name;
    let token = match args.token {
        Some(token) => token,
        None => only_holder(client, &name).await?,
    };
    let request = api::ForceReleaseRequest {
        change: None,
        name: name.clone(),
        token,
        reason: args.reason,
    };
    client.lock_force_release(request).await?;
    match output {
        Output::Text => line(format_args!("released {name} from the grant {token}")),
        Output::Json => line(json!({ "name": name, "token": token })),
    }
}

async fn only_holder(client: &Client, name: &str) -> Result<u64, Failed> {
    let request = api::ShowLockRequest {
        name: name.to_owned(),
        limit: 2,
        ..api::ShowLockRequest::default()
    };
    let shown = client.lock_show(request).await?.message;
    let tokens = shown.acquisitions.iter().map(|one| one.token);
    let mut held = tokens.filter(|token| *token != 0);
    match (held.next(), held.next()) {
        (Some(token), None) => Ok(token),
        (None, _) => Err(Failed::Refused(format!("nobody holds {name:?}"))),
        (Some(_), Some(_)) => Err(Failed::Usage(format!(
            "{name:?} has several holders; say which with --token, as `synod lock list {name}` prints them"
        ))),
    }
}

async fn watch(client: &Client, output: Output, name: &str) -> Result<(), Failed> {
    let mut holders = Holders::of(client, name);
    loop {
        let now = holders.next().await?;
        match output {
            Output::Json => {
                let list: Vec<Value> = now.holders.iter().map(acquisition_json).collect();
                let waiters = now.lock.as_ref().map_or(0, |lock| lock.waiters);
                line(json!({ "name": name, "holders": list, "waiters": waiters }))?;
            }
            Output::Text if now.holders.is_empty() => line(format_args!("{name} is free"))?,
            Output::Text => {
                for one in &now.holders {
                    line(format_args!(
                        "{name} is held by {} (session {}) with the token {}",
                        one.text,
                        lease_text(one.session),
                        one.token
                    ))?;
                }
            }
        }
    }
}

fn kind(lock: &api::LockInfo) -> &'static str {
    match lock.kind() {
        api::Kind::Lock => "lock",
        api::Kind::Semaphore => "semaphore",
        api::Kind::Group => "group",
        api::Kind::Latch => "latch",
        api::Kind::Barrier => "barrier",
    }
}

fn state(lock: &api::LockInfo) -> String {
    match lock.kind() {
        _ if lock.closed_ms > 0 => format!("closed for {} ms, a session was lost", lock.closed_ms),
        api::Kind::Semaphore => format!("{} of {} permits in use", lock.used, lock.limit),
        api::Kind::Latch => format!("{} to count down", lock.limit),
        api::Kind::Barrier => format!("{} parties", lock.limit),
        api::Kind::Lock | api::Kind::Group if lock.holders == 0 => "free".into(),
        api::Kind::Lock => "held".into(),
        api::Kind::Group if lock.holders == 1 => "1 member".into(),
        api::Kind::Group => format!("{} members", lock.holders),
    }
}

fn waits_for(obstacle: &api::Obstacle) -> String {
    match obstacle.obstacle {
        Some(Obstacle::ClosedMs(ms)) => format!("{ms} ms: a session was lost"),
        Some(Obstacle::Ahead(count)) => format!("{count} before it"),
        Some(Obstacle::Holders(count)) => format!("{count} that hold it"),
        Some(Obstacle::Permits(count)) => format!("{count} permits"),
        Some(Obstacle::Latch(count)) => format!("{count} to count down"),
        Some(Obstacle::Parties(count)) => format!("{count} parties"),
        None => "-".into(),
    }
}

/// How long ago, by this machine's clock.
fn since(unix_ms: u64) -> String {
    let then = UNIX_EPOCH + Duration::from_millis(unix_ms);
    let passed = SystemTime::now().duration_since(then).unwrap_or_default();
    let seconds = passed.as_secs();
    match seconds {
        0..=119 => format!("{seconds}s ago"),
        120..=7199 => format!("{}m ago", seconds / 60),
        7200..=172_799 => format!("{}h ago", seconds / 3600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

fn lock_map(lock: &api::LockInfo) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("name".into(), lock.name.as_str().into());
    map.insert("kind".into(), kind(lock).into());
    map.insert("limit".into(), lock.limit.into());
    map.insert("holder_count".into(), lock.holders.into());
    map.insert("waiter_count".into(), lock.waiters.into());
    map.insert("used".into(), lock.used.into());
    map.insert("newest_token".into(), lock.newest_token.into());
    map.insert("closed_ms".into(), lock.closed_ms.into());
    map
}

fn lock_json(lock: &api::LockInfo) -> Value {
    Value::Object(lock_map(lock))
}

fn acquisition_json(one: &api::Acquisition) -> Value {
    let mut map = Map::new();
    map.insert("owner".into(), one.text.as_str().into());
    map.insert("session".into(), lease_text(one.session).into());
    map.insert("id".into(), one.id.into());
    if one.token != 0 {
        map.insert("token".into(), one.token.into());
    }
    if one.permits != 0 {
        map.insert("permits".into(), one.permits.into());
    }
    map.insert(
        "shared".into(),
        (one.mode() == api::LockMode::Shared).into(),
    );
    map.insert("since_unix_ms".into(), one.since_unix_ms.into());
    if let Some(obstacle) = &one.waits_for {
        map.insert("waits_for".into(), waits_for(obstacle).into());
    }
    Value::Object(map)
}
