//! `synod serve`: one member in the foreground.

use crate::environment;
use crate::logging::{self, LogArgs};
use crate::output::Failed;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use server::config::{ETCD_FLAGS, SETTINGS, SWITCH, Settings};
use server::{Config, Member, StartError};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tracing::warn;

/// Signals this close together are one: timeout(1) sends its signal to the process and to its group, and a terminal and a supervisor may both send theirs.
const ONE_SIGNAL: Duration = Duration::from_millis(500);

const EXAMPLES: &str = "\
Examples:
  synod serve
  synod serve --name n1 --data-dir n1 --client-addr 127.0.0.1:2379 --peer-addr 127.0.0.1:2380 \\
              --cluster n1=127.0.0.1:2380,n2=127.0.0.1:22380,n3=127.0.0.1:32380
  SYNOD_NAME=n2 synod serve --config synod.toml

Each setting may be given as a flag, as an environment variable (SYNOD_ and its name in capitals) or in the TOML file named by --config \
(its name as the key); flags win over the environment, and that over the file. etcd's flags and ETCD_ variables are understood as well: one that means \
nothing here is accepted with a warning, an unknown one is refused.

SIGTERM and SIGINT stop the member in order: it hands over leadership, answers what it was asked, and leaves.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    /// A TOML file with settings
    #[arg(long, env = "SYNOD_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingFlags,
    #[command(flatten)]
    etcd: EtcdFlags,
    #[command(flatten)]
    log: LogArgs,
}

/// One flag for each setting of the server's table, so that nothing about a setting is written twice.
pub(crate) struct SettingFlags(Vec<(String, String)>);

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        SETTINGS.iter().fold(command, |command, setting| {
            let help = format!("{} [default: {}]", setting.help, setting.default);
            let arg = Arg::new(setting.name)
                .long(setting.name)
                .value_name(setting.value)
                // Written twice, the last one counts, as with etcd.
                .overrides_with(setting.name)
                .help(help);
            // `--switch` alone turns it on.
            command.arg(if setting.value == SWITCH {
                arg.num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value("true")
            } else {
                arg
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<SettingFlags, clap::Error> {
        let written = |name: &str| matches.get_one::<String>(name).cloned();
        Ok(SettingFlags(
            SETTINGS
                .iter()
                .filter_map(|setting| Some((setting.name.to_owned(), written(setting.name)?)))
                .collect(),
        ))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// etcd's flags, by the server's table of them. Not in the help: who comes from etcd knows them, and `docs/operate/etcd-flags.md` lists them.
pub(crate) struct EtcdFlags(Vec<(&'static str, String)>);

impl Args for EtcdFlags {
    fn augment_args(command: Command) -> Command {
        ETCD_FLAGS
            .iter()
            .filter(|flag| flag.is_beside_settings())
            .fold(command, |command, flag| {
                // etcd's switches are written without a value, or with one after '='.
                let switch = Arg::new(flag.name)
                    .long(flag.name)
                    .overrides_with(flag.name)
                    .hide(true);
                command.arg(if flag.is_switch() {
                    switch
                        .num_args(0..=1)
                        .require_equals(true)
                        .default_missing_value("true")
                } else {
                    switch.num_args(1)
                })
            })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for EtcdFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<EtcdFlags, clap::Error> {
        let beside = ETCD_FLAGS.iter().filter(|flag| flag.is_beside_settings());
        let written = beside
            .filter_map(|flag| Some((flag.name, matches.get_one::<String>(flag.name)?.clone())));
        Ok(EtcdFlags(written.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn settings(args: &ServeArgs) -> Result<Settings, Failed> {
    let mut settings = Settings::default();
    if let Some(path) = &args.config {
        settings = settings.file(path).map_err(usage)?;
    }
    let variable = |name: &str| std::env::var(name).ok();
    Ok(settings
        .etcd_environment(variable, variables())
        .map_err(usage)?
        .environment(variable)
        .etcd_flags(args.etcd.0.clone())
        .map_err(usage)?
        .flags(args.settings.0.clone()))
}

/// The names of the environment.
fn variables() -> impl Iterator<Item = String> {
    std::env::vars_os().filter_map(|(name, _)| name.into_string().ok())
}

fn usage(error: server::config::ConfigError) -> Failed {
    Failed::Usage(error.to_string())
}

pub(crate) fn run(args: &ServeArgs) -> Result<(), Failed> {
    // Before the settings, so that what is wrong with them is told in the form of the log as well.
    logging::start(&args.log, "info")?;
    start(args).map_err(|failed| logging::tell(&args.log, failed))
}

fn start(args: &ServeArgs) -> Result<(), Failed> {
    let settings = settings(args)?;
    // Before a setting is refused: it may be for want of the one that was misspelt.
    for warning in settings.warnings() {
        warn!("{warning}");
    }
    for warning in environment::warnings(variables()) {
        warn!("{warning}");
    }
    let config = settings.resolve().map_err(usage)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failed::system)?;
    runtime.block_on(serve(config))
}

async fn serve(config: Config) -> Result<(), Failed> {
    let mut leave = Leave::new()?;
    let mut member = Member::start(config).map_err(failed)?;
    tokio::select! {
        ended = member.ended() => return ended.map_err(failed),
        () = leave.asked() => {}
    }
    member.stop(true);
    tokio::select! {
        ended = member.ended() => ended.map_err(failed),
        // Asked twice: whoever asks cannot wait.
        () = leave.asked_again() => {
            member.kill();
            Err(Failed::Refused("stopped at once, without handing over".into()))
        }
    }
}

pub(crate) fn failed(error: StartError) -> Failed {
    match error {
        StartError::Departed(text) => Failed::Departed(text),
        error => Failed::Refused(error.to_string()),
    }
}

/// The signals that ask a process to leave.
pub(crate) struct Leave {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Leave {
    pub(crate) fn new() -> Result<Leave, Failed> {
        let terminate = signal(SignalKind::terminate()).map_err(Failed::system)?;
        let interrupt = signal(SignalKind::interrupt()).map_err(Failed::system)?;
        Ok(Leave {
            terminate,
            interrupt,
        })
    }

    pub(crate) async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Waits for another signal than the one just taken.
    pub(crate) async fn asked_again(&mut self) {
        let since = Instant::now();
        loop {
            self.asked().await;
            if since.elapsed() >= ONE_SIGNAL {
                return;
            }
        }
    }
}
