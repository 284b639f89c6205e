//! The one binary: runs members and talks to them. Results go to stdout, talk to stderr.

/// The standard macro panics when stderr takes nothing, as on a full disk or when its reader went away. Talk is not worth a process: what cannot be
/// said is lost. The modules below use this one.
macro_rules! eprintln {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

mod alarm;
mod cert;
mod deadline;
mod dev;
mod doctor;
mod elect;
mod environment;
mod fencing;
mod group;
mod guarded;
mod id;
mod job;
mod keys;
mod latch;
mod lease;
mod lock;
mod logging;
mod member;
mod migrate;
mod output;
mod password;
mod security;
mod serve;
mod session;
mod simulate;
mod snapshot;
mod status;
mod terminal;
mod together;
mod txn;
mod users;
mod watch;

use clap::{Args, Parser, Subcommand};
use client::Client;
use output::{Failed, Output};
use std::process::ExitCode;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EXAMPLES: &str = "\
Examples:
  synod dev                                three members in this terminal
  synod put hello world                    set a key
  synod get hello                          read it
  synod watch --prefix svc/                hear of changes under svc/
  synod lock nightly -- ./backup.sh        run it when nobody else does
  synod status --all                       how each member is
  synod doctor                             what is wrong, and what to do

Exit codes: 0 done, 1 refused, 2 wrong usage, 3 no member could be reached or its answer was lost, \
4 this member was removed from its cluster.";

/// A consistent core: locks, election, membership, configuration and sequencing for other systems.
#[derive(Parser)]
#[command(name = "synod", version, after_help = EXAMPLES, arg_required_else_help = true, max_term_width = 120)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every client command understands.
#[derive(Args)]
#[command(next_help_heading = "Options of client commands")]
struct Global {
    /// Members to talk to, as HOST:PORT separated by commas; the first that can serve does
    #[arg(
        long,
        global = true,
        env = "SYNOD_ENDPOINTS",
        default_value = "127.0.0.1:2379",
        value_delimiter = ',',
        value_name = "HOST:PORT,..."
    )]
    endpoints: Vec<String>,
    /// How long a request may take, all endpoints together; `status` and `doctor`: all requests together
    #[arg(long, global = true, default_value = "5s", value_parser = duration, value_name = "DURATION")]
    timeout: Duration,
    /// How to print results; the JSON form is stable
    #[arg(long, short, global = true, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    security: security::SecurityArgs,
    /// The user, with its password after a colon; without one it is asked for
    #[arg(
        id = "login-user",
        long = "user",
        global = true,
        env = "SYNOD_USER",
        hide_env_values = true,
        value_name = "NAME[:PASSWORD]"
    )]
    user: Option<String>,
    /// The user's password, if it is not in --user
    #[arg(
        long,
        global = true,
        env = "SYNOD_PASSWORD",
        hide_env_values = true,
        value_name = "PASSWORD"
    )]
    password: Option<String>,
}

/// Stands in commands that talk to no member for [`Global`], which clap would offer there as well.
#[derive(Args)]
struct NoGlobal {
    #[arg(long, hide = true, value_parser = refuse::<String>)]
    endpoints: Option<String>,
    #[arg(long, hide = true, value_parser = refuse::<Duration>)]
    timeout: Option<Duration>,
    #[arg(long, short, hide = true, value_parser = refuse::<Output>)]
    output: Option<Output>,
    #[command(flatten)]
    _security: security::NoSecurityArgs,
    #[arg(id = "login-user", long = "user", hide = true, value_parser = refuse::<String>)]
    user: Option<String>,
    #[arg(long = "password", hide = true, value_parser = refuse::<String>)]
    password: Option<String>,
}

/// The arguments of a command that talks to no member.
#[derive(Args)]
struct Alone<T: Args> {
    #[command(flatten)]
    args: T,
    #[command(flatten)]
    _no_global: NoGlobal,
}

fn refuse<T>(_: &str) -> Result<T, String> {
    Err("this command talks to no member; leave the option out".into())
}

#[derive(Subcommand)]
enum Command {
    /// Run one member
    Serve(Alone<serve::ServeArgs>),
    /// Run a whole cluster on loopback in this terminal, to try things out
    Dev(Alone<dev::DevArgs>),
    /// Set a key
    Put(guarded::Guarded<keys::PutArgs>),
    /// Read keys
    Get(keys::GetArgs),
    /// Remove keys
    Del(guarded::Guarded<keys::DelArgs>),
    /// Compare, then change several keys, all or nothing
    Txn(guarded::Guarded<txn::TxnArgs>),
    /// Hear of changes to keys
    Watch(watch::WatchArgs),
    /// Forget history before a revision
    Compact(keys::CompactArgs),
    /// Leases: keys that go away when their owner does
    #[command(subcommand)]
    Lease(lease::LeaseCommand),
    /// Locks: run a command while nobody else does
    Lock(lock::LockArgs),
    /// Elections: run a command on one machine at a time
    Elect(elect::ElectArgs),
    Semaphore(together::SemaphoreArgs),
    Barrier(together::BarrierArgs),
    /// Latches: wait until so many things are done
    #[command(subcommand)]
    Latch(latch::LatchCommand),
    /// Groups: who is there, with attributes
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// Identifiers that are never given out twice
    #[command(subcommand)]
    Id(id::IdCommand),
    /// Sessions: what locks live on
    #[command(subcommand)]
    Session(session::SessionCommand),
    /// Fencing tokens: the keys that sign them
    #[command(subcommand)]
    Fencing(fencing::FencingCommand),
    /// Members of the cluster
    #[command(subcommand)]
    Member(member::MemberCommand),
    /// Whether requests need a user
    #[command(subcommand)]
    Auth(users::AuthCommand),
    /// Users: who may talk to the cluster
    #[command(subcommand)]
    User(users::UserCommand),
    /// Roles: which keys their users may read and write
    #[command(subcommand)]
    Role(users::RoleCommand),
    /// Alarms: what stops the cluster from taking writes
    #[command(subcommand)]
    Alarm(alarm::AlarmCommand),
    /// Keep the state of the cluster in a file, and make new clusters from it
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotCommand),
    /// Move over what lives in an etcd
    #[command(subcommand)]
    Migrate(migrate::MigrateCommand),
    /// Show how each endpoint is
    Status(status::StatusArgs),
    /// Examine every member and say what is wrong and what to do
    Doctor(doctor::DoctorArgs),
    /// Make an authority and certificates of one's own, for TLS
    Cert(Alone<cert::CertArgs>),
    /// Run a whole cluster on simulated time under faults drawn from a seed
    Sim(Alone<simulate::SimArgs>),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let printed = error.print();
            // Help and version are results; everything else is wrong usage.
            if error.use_stderr() {
                return ExitCode::from(2);
            }
            return ended(printed.map_err(Failed::from));
        }
    };
    ended(run(cli))
}

fn ended(outcome: Result<(), Failed>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            failed.print();
            failed.exit_code()
        }
    }
}

fn run(cli: Cli) -> Result<(), Failed> {
    match cli.command {
        Command::Serve(command) => serve::run(&command.args),
        Command::Dev(command) => dev::run(&command.args),
        Command::Cert(command) => cert::run(&command.args),
        Command::Sim(command) => simulate::run(&command.args),
        Command::Snapshot(command) if !command.talks() => snapshot::run(cli.global.output, command),
        command => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(Failed::system)?;
            runtime.block_on(talk(cli.global, command))
        }
    }
}

async fn talk(global: Global, command: Command) -> Result<(), Failed> {
    let security = global.security.security();
    let client = Client::secured(&global.endpoints, &security)
        .map_err(Failed::from)?
        .with_timeout(global.timeout);
    let client = match &global.user {
        Some(user) => {
            let (name, password) = password::user(user, global.password)?;
            client.with_user(name, password)
        }
        None => client,
    };
    let output = global.output;
    match command {
        Command::Put(args) => {
            let (client, args) = args.split(&client)?;
            keys::put(&client, output, args).await
        }
        Command::Get(args) => keys::get(&client, output, args).await,
        Command::Del(args) => {
            let (client, args) = args.split(&client)?;
            keys::del(&client, output, args).await
        }
        Command::Txn(args) => {
            let (client, args) = args.split(&client)?;
            txn::run(&client, output, &args).await
        }
        Command::Watch(args) => watch::run(&client, output, args).await,
        Command::Compact(args) => keys::compact(&client, output, &args).await,
        Command::Lease(command) => lease::run(&client, output, command).await,
        Command::Lock(args) => lock::run(&client, output, args).await,
        Command::Elect(args) => elect::run(&client, output, args).await,
        Command::Semaphore(args) => together::semaphore(&client, args).await,
        Command::Barrier(args) => together::barrier(&client, args).await,
        Command::Latch(command) => latch::run(&client, output, command).await,
        Command::Group(command) => group::run(&client, output, command).await,
        Command::Id(command) => id::run(&client, output, command).await,
        Command::Session(command) => session::run(&client, output, command).await,
        Command::Fencing(command) => fencing::run(&client, output, command).await,
        Command::Member(command) => member::run(&client, &security, output, command).await,
        Command::Status(args) => status::status(&client, &security, output, &args).await,
        Command::Snapshot(command) => snapshot::save(&client, output, command).await,
        Command::Migrate(command) => migrate::run(client, output, command).await,
        Command::Doctor(args) => doctor::run(&client, &security, output, &args).await,
        Command::Alarm(command) => alarm::run(&client, output, command).await,
        Command::Auth(command) => users::auth(&client, output, command).await,
        Command::User(command) => users::user(&client, output, command).await,
        Command::Role(command) => users::role(&client, output, command).await,
        Command::Serve(_) | Command::Dev(_) | Command::Cert(_) | Command::Sim(_) => {
            unreachable!("they need no client")
        }
    }
}

/// Reads a duration for clap.
fn duration(text: &str) -> Result<Duration, String> {
    match server::config::parse_duration(text) {
        Some(Duration::ZERO) => Err("it must be more than 0, such as 500ms or 5s".into()),
        Some(duration) => Ok(duration),
        None => Err("write a number and a unit, such as 500ms or 5s".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_flags_that_scripts_rely_on_are_understood() {
        for line in [
            "synod serve --name n1 --data-dir d --client-addr 127.0.0.1:2379 --peer-addr 127.0.0.1:2380 --cluster n1=127.0.0.1:2380 \
             --advertise-client-addr h:1 --advertise-peer-addr h:2 --config f",
            "synod serve",
            "synod serve --name a --name b --initial-cluster-token x --initial-cluster-token x --pre-vote --pre-vote=true",
            "synod dev --members 5 --data-dir d",
            "synod dev --ephemeral --tls",
            "synod cert --dir d server --name n1 --host a,10.0.0.1 --days 7 --replace",
            "synod get a --prefix --revision 3 --limit 2 --keys-only --consistency bounded=2s --endpoints a:1,b:2",
            "synod put k v --output json",
            "synod lease keep-alive 1f",
            "synod put k v --guard nightly:42 --guarded",
            "synod fencing rotate --keep 24h",
            "synod lock nightly -- ./backup.sh --full",
            "synod lock nightly --ttl 5s --wait 1m --shared --owner me -- true",
            "synod lock list",
            "synod lock list nightly --output json",
            "synod lock --name list -- true",
            "synod lock nightly --grace 0s -- true",
            "synod lock release nightly --force --reason why --token 7",
            "synod elect a --text me -- true",
            "synod elect observe a",
            "synod elect --name leader -- true",
            "synod semaphore s --limit 4 -- true",
            "synod barrier b --parties 3",
            "synod latch set l 3",
            "synod latch create l 3",
            "synod latch count-down l --by 2 --output json",
            "synod latch wait l --wait 10s",
            "synod group join g --attribute a=b --attribute c=d -- true",
            "synod group list g --output json",
            "synod group watch g",
            "synod id next --count 3",
            "synod id counter visits -1",
            "synod session list",
            "synod sim --seed 42",
            "synod snapshot save f --rate 8MiB --endpoints a:1",
            "synod snapshot save f --data-dir d",
            "synod snapshot status f --output json",
            "synod migrate etcd --endpoints a:1 --to b:1,c:1 --prefix p --until-caught-up --force",
            "synod snapshot restore f --data-dir d --name n1 --cluster n1=a:1,n2=b:1 --generation 2",
            "synod get a --endpoints https://a:1 --cacert ca.pem --cert me.pem --key me-key.pem",
            "synod put k v --insecure-skip-tls-verify --insecure-transport=false",
            "synod serve --cert-file c --key-file k --client-cert-auth --trusted-ca-file a --peer-auto-tls=true --tls-min-version TLS1.3",
        ] {
            assert!(
                Cli::try_parse_from(line.split_whitespace()).is_ok(),
                "{line}"
            );
        }
    }

    #[test]
    fn a_command_behind_a_subcommand_is_refused_with_the_way_to_mean_the_name() {
        for line in [
            "synod lock list -- ./deploy.sh",
            "synod lock list nightly -- ./deploy.sh",
            "synod lock watch -- ./deploy.sh",
            "synod lock release -- ./deploy.sh",
            "synod lock --ttl 5s list",
            "synod elect leader -- ./deploy.sh",
            "synod elect observe -- ./deploy.sh",
            "synod elect --text me leader -- ./deploy.sh",
        ] {
            let Err(error) = Cli::try_parse_from(line.split_whitespace()) else {
                panic!("{line} is understood");
            };
            let text = error.to_string();
            assert!(
                error.use_stderr() && text.contains("--name "),
                "{line}: {text}"
            );
        }
    }

    #[test]
    fn a_duration_of_0_is_called_too_short() {
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        let refused = duration("0s").expect_err("it is none");
        assert!(refused.contains("more than 0"), "{refused}");
        let refused = duration("5").expect_err("it has no unit");
        assert!(refused.contains("a number and a unit"), "{refused}");
    }
}
