//! `synod sim`: one life of a simulated cluster.

use crate::output::{Failed, line};
use clap::Args;
use clap::builder::PossibleValuesParser;
use sim::{Options, Profile};

const EXAMPLES: &str = "\
Examples:
  synod sim --seed 42                      one run; the same seed gives the same run
  synod sim --seed 1 --runs 100            seeds 1 to 100, until one fails
  synod sim --seed 8213 --profile crashy --trace";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SimArgs {
    /// Everything in the run follows from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Which faults happen
    #[arg(long, default_value = "chaos", value_parser = PossibleValuesParser::new(Profile::ALL.map(Profile::name)))]
    profile: String,
    /// Number of members [default: drawn from the seed]
    #[arg(long, value_name = "COUNT")]
    members: Option<usize>,
    /// Simulated seconds with faults
    #[arg(long, value_name = "COUNT", default_value_t = sim::SECONDS)]
    seconds: u64,
    /// Seeds to run, one after the other, until one fails
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    runs: u64,
    /// Print everything that happened
    #[arg(long)]
    trace: bool,
}

pub(crate) fn run(args: &SimArgs) -> Result<(), Failed> {
    let profile = Profile::named(&args.profile).expect("only known profiles are let through");
    for seed in args.seed..args.seed.saturating_add(args.runs) {
        let options = Options {
            members: args.members,
            seconds: args.seconds,
            trace: args.trace,
            ..Options::new(seed, profile)
        };
        let report = sim::run(&options);
        if args.trace {
            line(&report.trace)?;
        }
        line(report.to_string().trim_end())?;
        if !report.violations.is_empty() {
            return Err(Failed::Refused(format!(
                "a promise was broken; replay with: {}",
                report.replay
            )));
        }
    }
    Ok(())
}
