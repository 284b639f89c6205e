//! `conformance <test>`: each test starts what it needs, says what it does, and exits with 0 only if everything held.

use clap::{Args, Parser, Subcommand};
use conformance::faults::{self, Scenario};
use conformance::process::until_stopped;
use conformance::{
    abuse, auth, backup, certificates, churn, differential, fencing, guards, ids, kubernetes,
    migration, replace, resources, restore, smoke, upgrade, wiped,
};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

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
    /// Members die one after another, or all at once, while clients go on
    Churn {
        #[command(flatten)]
        program: Binary,
        /// Members
        #[arg(long, default_value_t = 3)]
        members: usize,
        /// Writers, and as many readers; with 0 only the command runs, which may then empty the keys
        #[arg(long, default_value_t = 8)]
        writers: usize,
        /// Seconds to go on
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// Seed of who dies when
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Kill all members at once instead of one
        #[arg(long)]
        power: bool,
        /// Members never killed, counted from the first
        #[arg(long, default_value_t = 0)]
        spared: usize,
        /// Shell command to run meanwhile, with ETCD_ENDPOINT and ENDPOINTS set; the churn ends with it
        #[arg(long, required_if_eq("writers", "0"))]
        command: Option<String>,
    },
    /// Certificates of all members are replaced under load; no request may fail
    Certificates {
        #[command(flatten)]
        program: Binary,
        /// Seconds to go on
        #[arg(long, default_value_t = 20)]
        seconds: u64,
        /// Seed of the load
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// All members are replaced by others, one by one, under continuous writes
    Replace {
        #[command(flatten)]
        program: Binary,
        /// Clients that write
        #[arg(long, default_value_t = 16)]
        clients: usize,
        /// Keys of 256 bytes that new members have to catch up with
        #[arg(long, default_value_t = 20_000)]
        keys: u64,
    },
    /// Members are stopped and started one after the other, with another binary if one is named, while clients stay connected
    Upgrade {
        #[command(flatten)]
        program: Binary,
        /// The binary to start them with; without it the same
        #[arg(long, value_parser = found, value_name = "BINARY")]
        to: Option<PathBuf>,
        /// Rounds over all members
        #[arg(long, default_value_t = 1)]
        rounds: usize,
        /// Seed of the load
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// A holder of locks is stopped until its sessions are over, and goes on: each of its guarded writes must be refused, through every API
    Fencing {
        #[command(flatten)]
        program: Binary,
        /// How often the holder is stopped
        #[arg(long, default_value_t = 10)]
        rounds: usize,
        /// Locks that it holds each time; somebody else takes every second one meanwhile
        #[arg(long, default_value_t = 100)]
        locks: usize,
    },
    /// The process that `fencing` stops
    #[command(hide = true)]
    HoldLocks {
        /// The members
        #[arg(long, value_delimiter = ',')]
        endpoints: Vec<std::net::SocketAddr>,
    },
    /// The same for what is not Synod: tables, objects and files must refuse what the stopped holder writes late, as docs/operate/fencing.md shows it
    FencingResources {
        #[command(flatten)]
        program: Binary,
        /// How often the holder is stopped for each thing that may happen meanwhile
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Fail when a database or store is not installed
        #[arg(long)]
        require: bool,
    },
    /// The process that `fencing-resources` stops
    #[command(hide = true)]
    HoldResources {
        /// The members
        #[arg(long, value_delimiter = ',')]
        endpoints: Vec<String>,
        /// What to write to
        #[arg(long)]
        resources: String,
    },
    /// Guarded puts by the published clients of etcd for Python and Go: applied while the lock is held, refused once it is lost
    Guards {
        #[command(flatten)]
        program: Binary,
    },
    /// Members lose their disks and are started with their old flags
    Wiped {
        #[command(flatten)]
        program: Binary,
    },
    /// The same users, roles, permissions and tokens in a real etcd and in Synod; every answer compared
    Auth {
        /// A real etcd
        #[arg(long, default_value = "etcd", value_parser = found, value_name = "BINARY")]
        reference: PathBuf,
        /// The binary under test
        #[arg(long, default_value = "target/release/synod", value_parser = found, value_name = "BINARY")]
        subject: PathBuf,
        /// Members of the subject
        #[arg(long, default_value_t = 1)]
        members: usize,
    },
    /// A cluster is saved, goes on, dies and is restored; clients that lived through it must notice
    Restore {
        #[command(flatten)]
        program: Binary,
        /// Also save a state of so many keys while clients put, and tell what they felt
        #[arg(long, default_value_t = 0)]
        load_keys: u64,
    },
    /// Moving in from a real etcd and out to one: by snapshot, by database, by copying while it runs; everything compared
    Backup {
        /// A real etcd
        #[arg(long, default_value = "etcd", value_parser = found, value_name = "BINARY")]
        reference: PathBuf,
        /// The binary under test
        #[arg(long, default_value = "target/release/synod", value_parser = found, value_name = "BINARY")]
        subject: PathBuf,
        /// etcd's tool for files; without it nothing moves out
        #[arg(long, value_parser = found, value_name = "BINARY")]
        etcdutl: Option<PathBuf>,
        /// Changes before each move
        #[arg(long, default_value_t = 2_000)]
        operations: u64,
        /// Seed of all choices
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Copying from a real etcd while its clients go on: killed and resumed, from an etcd with certificates and users; tells how fast
    Migrate {
        /// A real etcd, of any version
        #[arg(long, default_value = "etcd", value_parser = found, value_name = "BINARY")]
        reference: PathBuf,
        /// The binary under test
        #[arg(long, default_value = "target/release/synod", value_parser = found, value_name = "BINARY")]
        subject: PathBuf,
        /// Keys to begin with
        #[arg(long, default_value_t = 20_000)]
        keys: u64,
        /// Seed of all choices
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Broken, greedy and malicious clients
    Abuse {
        #[command(flatten)]
        program: Binary,
    },
    /// The requests of a kube-apiserver's storage, one by one and then all at once
    Kubernetes {
        /// The binary under test: Synod's, or etcd's for comparison
        #[arg(long, default_value = "target/release/synod", value_parser = found, value_name = "BINARY")]
        subject: PathBuf,
        /// Members
        #[arg(long, default_value_t = 3)]
        members: usize,
        /// Objects in the store
        #[arg(long, default_value_t = 50_000)]
        objects: usize,
        /// Bytes of each
        #[arg(long, default_value_t = 2048)]
        object_bytes: usize,
        /// Watches
        #[arg(long, default_value_t = 1000)]
        watches: usize,
        /// Resources the objects belong to; an apiserver watches each once
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
        resources: u16,
        /// Clients that change objects at the same time
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..))]
        writers: u16,
        /// Changes made while all watch
        #[arg(long, default_value_t = 20_000)]
        changes: usize,
        /// Seed of all choices
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Processes, networks, disks and clocks fail under load from etcd's own client, whose history is judged by the simulator's oracles
    Faults {
        /// Scenarios to play; all of them if none is named
        #[arg(value_parser = scenario, value_name = "SCENARIO")]
        scenarios: Vec<Scenario>,
        /// The binary under test: Synod's, or etcd's for comparison
        #[arg(long, default_value = "target/release/synod", value_parser = found, value_name = "BINARY")]
        subject: PathBuf,
        /// Members
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=5))]
        members: u8,
        /// Seconds in which faults happen, per scenario; each of its rounds is played once, however short this is
        #[arg(long, default_value_t = 40)]
        seconds: u64,
        /// Seed of all choices
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Fail when a scenario cannot be played here
        #[arg(long)]
        require: bool,
        /// Name the scenarios and stop
        #[arg(long)]
        list: bool,
        /// Judge a history recorded before and stop
        #[arg(long, value_name = "FILE")]
        check: Option<PathBuf>,
    },
    /// Identifiers made by processes that are killed, while members die and their clocks step: none comes twice
    Ids {
        #[command(flatten)]
        program: Binary,
        /// Processes that make ids
        #[arg(long, default_value_t = 8)]
        processes: usize,
        /// How many ids, half of them ordered by time, half from ranges
        #[arg(long, default_value_t = 100_000_000)]
        count: u64,
        /// How often each process is killed for each kind
        #[arg(long, default_value_t = 3)]
        kills: usize,
        /// Seed of all choices
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// What a process of `ids` does
    #[command(hide = true)]
    MakeIds {
        #[arg(long)]
        endpoints: String,
        #[arg(long, value_enum)]
        kind: ids::Kind,
        #[arg(long)]
        count: u64,
        #[arg(long)]
        file: PathBuf,
    },
    /// A few minutes of everything; part of .ci/run
    Smoke {
        #[command(flatten)]
        program: Binary,
    },
}

/// The binary under test.
#[derive(Args)]
struct Binary {
    /// The binary under test: Synod's, or etcd's for comparison
    #[arg(long = "synod", default_value = "target/release/synod", value_parser = found, value_name = "BINARY")]
    path: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let directory = std::env::temp_dir().join(format!("synod-conformance-{}", std::process::id()));
    let held = until_stopped(run(arguments.test, directory.clone())).await;
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

async fn run(test: Test, directory: PathBuf) -> conformance::Outcome<bool> {
    match test {
        Test::Differential {
            reference,
            subject,
            members,
            seed,
            operations,
            differences_max,
        } => {
            let (reference, subject) = (on_path(reference), on_path(subject));
            differential::run(&differential::Plan {
                reference,
                subject,
                members,
                seed,
                operations,
                differences_max,
                directory,
            })
            .await
        }
        Test::Churn {
            program,
            members,
            writers,
            seconds,
            seed,
            power,
            spared,
            command,
        } => {
            let duration = Duration::from_secs(seconds);
            churn::run(&churn::Plan {
                program: program.path,
                members,
                writers,
                duration,
                seed,
                power,
                spared,
                command,
                directory,
            })
            .await
        }
        Test::Auth {
            reference,
            subject,
            members,
        } => {
            auth::run(&auth::Plan {
                reference,
                subject,
                members,
                directory,
            })
            .await
        }
        Test::Certificates {
            program,
            seconds,
            seed,
        } => {
            let duration = Duration::from_secs(seconds);
            certificates::run(&program.path, &directory, duration, seed).await
        }
        Test::Replace {
            program,
            clients,
            keys,
        } => replace::run(&program.path, &directory, clients, keys).await,
        Test::Upgrade {
            program,
            to,
            rounds,
            seed,
        } => {
            upgrade::run(&upgrade::Plan {
                to: to.unwrap_or_else(|| program.path.clone()),
                from: program.path,
                rounds,
                seed,
                directory,
            })
            .await
        }
        Test::Ids {
            program,
            processes,
            count,
            kills,
            seed,
        } => {
            ids::run(&ids::Plan {
                program: program.path,
                processes,
                count,
                kills,
                seed,
                directory,
            })
            .await
        }
        Test::MakeIds {
            endpoints,
            kind,
            count,
            file,
        } => {
            ids::make(&endpoints, kind, count, &file).await?;
            Ok(true)
        }
        Test::Fencing {
            program,
            rounds,
            locks,
        } => {
            fencing::run(&fencing::Plan {
                program: program.path,
                directory,
                rounds,
                locks,
            })
            .await
        }
        Test::HoldLocks { endpoints } => fencing::hold(endpoints).await,
        Test::FencingResources {
            program,
            rounds,
            require,
        } => {
            resources::run(&resources::Plan {
                program: program.path,
                directory,
                rounds,
                require,
            })
            .await
        }
        Test::HoldResources {
            endpoints,
            resources,
        } => resources::hold(endpoints, &resources).await,
        Test::Guards { program } => guards::run(&program.path, &directory).await,
        Test::Wiped { program } => wiped::run(&program.path, &directory).await,
        Test::Restore { program, load_keys } => {
            restore::run(&program.path, &directory, load_keys).await
        }
        Test::Backup {
            reference,
            subject,
            etcdutl,
            operations,
            seed,
        } => {
            backup::run(&backup::Plan {
                reference,
                subject,
                etcdutl,
                operations,
                seed,
                directory,
            })
            .await
        }
        Test::Migrate {
            reference,
            subject,
            keys,
            seed,
        } => {
            migration::run(&migration::Plan {
                reference,
                subject,
                keys,
                seed,
                directory,
            })
            .await
        }
        Test::Abuse { program } => abuse::run(&program.path, &directory).await,
        Test::Kubernetes {
            subject,
            members,
            objects,
            object_bytes,
            watches,
            resources,
            writers,
            changes,
            seed,
        } => {
            kubernetes::run(&kubernetes::Plan {
                program: subject,
                members,
                objects,
                object_bytes,
                watches,
                resources: resources.into(),
                writers: writers.into(),
                changes,
                seed,
                directory,
            })
            .await
        }
        Test::Faults { list: true, .. } => {
            for scenario in Scenario::ALL {
                let (name, deed) = scenario.name_and_deed();
                println!("{name:18} {deed}");
            }
            Ok(true)
        }
        Test::Faults {
            check: Some(file), ..
        } => faults::check(&file),
        Test::Faults {
            scenarios,
            subject,
            members,
            seconds,
            seed,
            require,
            ..
        } => {
            let scenarios = match scenarios.as_slice() {
                [] => Scenario::ALL.to_vec(),
                _ => scenarios,
            };
            faults::run(&faults::Plan {
                program: subject,
                members: members.into(),
                scenarios,
                duration: Duration::from_secs(seconds),
                seed,
                require,
                directory,
            })
            .await
        }
        Test::Smoke { program } => smoke::run(&program.path, &directory).await,
    }
}

fn scenario(name: &str) -> Result<Scenario, String> {
    let named = Scenario::ALL
        .into_iter()
        .find(|scenario| scenario.name() == name);
    named.ok_or_else(|| "no such scenario; --list names them".into())
}

fn found(name: &str) -> Result<PathBuf, String> {
    Ok(on_path(name.to_string()).into())
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
