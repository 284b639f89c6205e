//! `conformance <test>`: each test starts what it needs, says what it does, and exits with 0 only if everything held.

use clap::{Parser, Subcommand};
use conformance::differential;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "conformance",
    about = "Real clients and a real etcd against the real binary"
)]
struct Arguments {
    #[command(subcommand)]
    test: Test,
}

#[derive(Subcommand)]
enum Test {
    /// The same random operations to a real etcd and to Synod; every answer compared
    Differential {
        /// Address of a real etcd, or an etcd binary to start
        #[arg(long, default_value = "etcd")]
        reference: String,
        /// Address of one member of the subject, or a binary to start
        #[arg(long, default_value = "target/release/synod")]
        subject: String,
        /// Members to start when the subject is a binary
        #[arg(long, default_value_t = 1)]
        members: usize,
        /// Seed of all choices
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Operations to run
        #[arg(long, default_value_t = 100_000)]
        operations: u64,
        /// Differences to report before giving up
        #[arg(long, default_value_t = 1)]
        differences_max: u64,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let directory = std::env::temp_dir().join(format!("synod-conformance-{}", std::process::id()));
    let held = match Arguments::parse().test {
        Test::Differential {
            reference,
            subject,
            members,
            seed,
            operations,
            differences_max,
        } => {
            let reference = on_path(reference);
            differential::run(&differential::Plan {
                reference,
                subject,
                members,
                seed,
                operations,
                differences_max,
                directory: directory.clone(),
            })
            .await
        }
    };
    // Kept when something failed: the logs of the members lie there.
    match held {
        Ok(true) => {
            let _ = std::fs::remove_dir_all(&directory);
            ExitCode::SUCCESS
        }
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("conformance: {error}");
            ExitCode::from(3)
        }
    }
}

/// A bare name is looked up as the shell would.
fn on_path(name: String) -> String {
    if name.contains(['/', ':']) {
        return name;
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths)
        .map(|directory| directory.join(&name))
        .find(|path| path.is_file());
    found.map_or(name, |path: PathBuf| path.display().to_string())
}
