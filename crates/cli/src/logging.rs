//! Where events of a running member go: stderr, as lines for people or as JSON for programs.

use crate::output::Failed;
use clap::{Args, ValueEnum};
use std::io::IsTerminal;
use tracing::{Level, error};
use tracing_subscriber::EnvFilter;

/// The forms of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people
    #[value(alias = "console")]
    Text,
    /// One JSON object per line
    Json,
}

#[derive(Args)]
#[command(next_help_heading = "Log options")]
pub(crate) struct LogArgs {
    /// How to write the log to stderr
    #[arg(long, env = "SYNOD_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// What to log: error, warn, info, debug, or per module such as info,synod_server::peers=debug [default: RUST_LOG, else info; warn in dev]
    #[arg(long, env = "SYNOD_LOG_LEVEL", value_name = "LEVEL")]
    log_level: Option<String>,
}

/// Starts logging for the process.
pub(crate) fn start(args: &LogArgs, default: &str) -> Result<(), Failed> {
    let variable = |name: &str| std::env::var(name).ok();
    let written = args
        .log_level
        .clone()
        .or_else(|| variable("RUST_LOG"))
        .or_else(|| variable("ETCD_LOG_LEVEL"));
    let text = match written.as_deref() {
        // etcd's levels above error.
        Some("dpanic" | "panic" | "fatal") => "error",
        Some(text) => text,
        None => default,
    };
    let refuse = |why: String| {
        Failed::Usage(format!(
            "--log-level: {text:?} {why}; use error, warn, info, debug or trace"
        ))
    };
    // A bare word that is no level would be taken as the name of a module, and silence everything else.
    if text.chars().all(|c| c.is_ascii_alphanumeric())
        && text
            .parse::<tracing_subscriber::filter::LevelFilter>()
            .is_err()
    {
        return Err(refuse("is no level".into()));
    }
    let filter = EnvFilter::try_new(text).map_err(|error| refuse(error.to_string()))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A line that stderr does not take is lost. Told there, as is the default, it would end the thread that logged it.
        .log_internal_errors(false);
    match args.log_format {
        LogFormat::Text => builder
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

/// Logs why the process ends, if the log is for programs. Gives what is left to print.
pub(crate) fn tell(args: &LogArgs, failed: Failed) -> Failed {
    match &failed {
        Failed::Refused(reason) | Failed::Usage(reason) | Failed::Departed(reason)
            // A filter may leave errors of this module out, and this one must not be lost.
            if args.log_format == LogFormat::Json && tracing::enabled!(Level::ERROR) =>
        {
            error!(reason, "member ends");
            Failed::Command(failed.code())
        }
        _ => failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Args;

    #[test]
    fn the_example_of_a_level_names_a_module_that_there_is() {
        let command = LogArgs::augment_args(clap::Command::new("synod"));
        let mut arguments = command.get_arguments();
        let level = arguments.find(|it| it.get_id() == "log_level");
        let help = level
            .and_then(clap::Arg::get_help)
            .expect("it is explained");
        let path = std::any::type_name::<server::Member>();
        let (library, _) = path.split_once("::").expect("a path");
        assert!(help.to_string().contains(&format!(",{library}::peers=")));
    }
}
