//! `synod dev`: a whole cluster on loopback, in one process.

use crate::cert::Place;
use crate::logging::{self, LogArgs};
use crate::output::{Failed, line};
use crate::serve::{self, Leave};
use crate::terminal::bold;
use clap::Args;
use server::config::Settings;
use server::{Config, Member, StartError};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Members at most: their ports are fixed.
const MEMBERS_MAX: u16 = 5;
/// Where the directory says how many members it was made with.
const MEMBERS_FILE: &str = "members";
/// Length of the files of each member's log.
const LOG_SEGMENT: &str = "16MiB";
/// How long the cluster may take to find a leader before a word is said about it.
const LEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// The name in the certificate that `--tls` makes for clients.
const CLIENT: &str = "dev";

const EXAMPLES: &str = "\
Examples:
  synod dev                    three members, data kept in ./synod-dev
  synod dev --ephemeral        the same, nothing kept
  synod dev --members 1
  synod dev --tls              with certificates, which clients must show too

Clients find the members at 127.0.0.1, ports 2379, 22379, 32379 and so on. Ctrl-C stops all of them; the next start goes on with the same data.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DevArgs {
    /// How many members, 1 to 5; fixed for a data directory once it is made [default: 3]
    #[arg(long, value_name = "COUNT")]
    members: Option<u16>,
    /// Where to keep their data
    #[arg(long, value_name = "DIR", default_value = "./synod-dev")]
    data_dir: PathBuf,
    /// Keep nothing: the data lives in a temporary directory that is removed at the end
    #[arg(long, conflicts_with = "data_dir")]
    ephemeral: bool,
    /// Speak TLS on all ports, with certificates made for this, and demand one from every client
    #[arg(long)]
    tls: bool,
    #[command(flatten)]
    log: LogArgs,
}

/// The data directory, removed at the end if it is to be.
struct Directory {
    path: PathBuf,
    ephemeral: bool,
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.ephemeral {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

pub(crate) fn run(args: &DevArgs) -> Result<(), Failed> {
    logging::start(&args.log, "warn")?;
    let path = if args.ephemeral {
        std::env::temp_dir().join(format!("synod-dev-{}", std::process::id()))
    } else {
        args.data_dir.clone()
    };
    let directory = Directory {
        path,
        ephemeral: args.ephemeral,
    };
    let members = members(args, &directory.path)?;
    let places = (1..=members).flat_map(|number| [client_addr(number), peer_addr(number)]);
    all_free(places)?;
    make(&directory.path, members)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failed::system)?;
    let certificates = match args.tls {
        true => Some(Place::for_dev(directory.path.join("certs"), CLIENT)?),
        false => None,
    };
    runtime.block_on(dev(members, &directory, certificates.as_ref()))
}

/// How many members to run: as many as the directory was made with.
fn members(args: &DevArgs, directory: &Path) -> Result<u16, Failed> {
    let made_with = std::fs::read_to_string(directory.join(MEMBERS_FILE))
        .ok()
        .and_then(|text| text.trim().parse::<u16>().ok());
    let wanted = args.members.or(made_with).unwrap_or(3);
    if !(1..=MEMBERS_MAX).contains(&wanted) {
        return Err(Failed::Usage(format!(
            "--members: {wanted} is out of bounds, 1 to {MEMBERS_MAX} is allowed"
        )));
    }
    if let Some(made_with) = made_with.filter(|made_with| *made_with != wanted) {
        let shown = directory.display();
        return Err(Failed::Usage(format!(
            "--members: {wanted} differs from the {made_with} that {shown} was made with; pass --members {made_with}, or another --data-dir"
        )));
    }
    Ok(wanted)
}

/// Makes the directory, which says how many members it was made with.
fn make(directory: &Path, members: u16) -> Result<(), Failed> {
    let written = std::fs::create_dir_all(directory)
        .and_then(|()| std::fs::write(directory.join(MEMBERS_FILE), format!("{members}\n")));
    written.map_err(|error| {
        Failed::Refused(format!(
            "data-dir: {} cannot be written: {error}",
            directory.display()
        ))
    })
}

/// Looks whether the addresses can be had, before a directory is made for who is to be there.
fn all_free(mut addresses: impl Iterator<Item = String>) -> Result<(), Failed> {
    let is_taken = |address: &String| {
        std::net::TcpListener::bind(address)
            .is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
    };
    match addresses.find(is_taken) {
        Some(address) => Err(taken(&address)),
        None => Ok(()),
    }
}

fn client_addr(number: u16) -> String {
    format!("127.0.0.1:{}", port(number, 2379))
}

fn peer_addr(number: u16) -> String {
    format!("127.0.0.1:{}", port(number, 2380))
}

fn port(number: u16, base: u16) -> u16 {
    if number == 1 {
        base
    } else {
        number * 10_000 + base
    }
}

/// Settings by which a member speaks TLS.
fn tls_flags(place: &Place) -> Vec<(&'static str, String)> {
    let (certificate, key) = (place.pem("server"), place.key("server"));
    let authority = place.shown("ca.pem");
    vec![
        ("cert-file", certificate.clone()),
        ("key-file", key.clone()),
        ("trusted-ca-file", authority.clone()),
        ("peer-cert-file", certificate),
        ("peer-key-file", key),
        ("peer-trusted-ca-file", authority),
    ]
}

fn config(
    number: u16,
    members: u16,
    directory: &Path,
    certificates: Option<&Place>,
) -> Result<Config, Failed> {
    let cluster: Vec<String> = (1..=members)
        .map(|number| format!("n{number}={}", peer_addr(number)))
        .collect();
    let mut flags = vec![
        ("name", format!("n{number}")),
        (
            "data-dir",
            directory.join(format!("n{number}")).display().to_string(),
        ),
        ("client-addr", client_addr(number)),
        ("peer-addr", peer_addr(number)),
        ("cluster", cluster.join(",")),
        // Several members share one disk that is nobody's production.
        ("log-segment-bytes", LOG_SEGMENT.to_owned()),
    ];
    flags.extend(certificates.map(tls_flags).unwrap_or_default());
    let flags = flags
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    Settings::default()
        .flags(flags)
        .resolve()
        .map_err(|error| Failed::Usage(error.to_string()))
}

fn counted(members: usize) -> String {
    match members {
        1 => "1 member".into(),
        _ => format!("{members} members"),
    }
}

async fn dev(
    members: u16,
    directory: &Directory,
    certificates: Option<&Place>,
) -> Result<(), Failed> {
    let mut leave = Leave::new()?;
    let resumed = directory.path.join("n1").is_dir();
    eprintln!("starting {}", counted(usize::from(members)));
    let mut running = Vec::new();
    for number in 1..=members {
        let config = config(number, members, &directory.path, certificates)?;
        running.push(Member::start(config).map_err(failed)?);
    }
    let outcome = tokio::select! {
        outcome = watch_over(&running, resumed, directory, certificates) => outcome,
        () = leave.asked() => Ok(()),
    };
    eprintln!("stopping {}", counted(running.len()));
    for member in &mut running {
        // All leave together, so there is nobody to hand over to.
        member.stop(false);
    }
    let all_ended = async {
        for member in &running {
            let _ = member.ended().await;
        }
    };
    tokio::select! {
        () = all_ended => {}
        () = leave.asked_again() => {}
    }
    outcome
}

/// Says what runs where, then waits for a member that ends by itself.
async fn watch_over(
    running: &[Member],
    resumed: bool,
    directory: &Directory,
    certificates: Option<&Place>,
) -> Result<(), Failed> {
    let mut handles = Vec::new();
    for member in running {
        handles.push(member.ready().await.map_err(failed)?);
    }
    let elected = async {
        while !handles
            .iter()
            .any(|handle| handle.status().raft.leader.is_some())
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(LEADER_TIMEOUT, elected).await.is_err() {
        eprintln!(
            "no leader was found within {} s; run again with --log-level info to see why",
            LEADER_TIMEOUT.as_secs()
        );
    }
    let leader = handles
        .iter()
        .find_map(|handle| handle.status().raft.leader);
    let count = if running.len() == 1 {
        "1 member runs".to_owned()
    } else {
        format!("{} members run", running.len())
    };
    line(format_args!(
        "{} ({}):",
        bold(&count),
        if resumed { "resumed" } else { "new" }
    ))?;
    for (number, handle) in (1..).zip(&handles) {
        let leads = if leader.is_some_and(|leader| leader.member.0 == handle.member()) {
            "  leads"
        } else {
            ""
        };
        line(format_args!("  n{number}  {}{leads}", client_addr(number)))?;
    }
    let kept = if directory.ephemeral {
        "removed at the end"
    } else {
        "kept; run the same again to resume"
    };
    line(format_args!(
        "data in {} ({kept})",
        directory.path.display()
    ))?;
    say_next(running.len() as u16, certificates)?;
    line("")?;
    line("Ctrl-C stops everything.")?;
    first_end(running).await
}

/// Lines to type next.
fn say_next(members: u16, certificates: Option<&Place>) -> Result<(), Failed> {
    let endpoints: Vec<String> = (1..=members).map(client_addr).collect();
    let endpoints = endpoints.join(",");
    let program = program();
    line("")?;
    line(format_args!("{} in another terminal:", bold("Try")))?;
    let mut etcdctl = String::new();
    if let Some(place) = certificates {
        let (ca, pem, key) = (place.shown("ca.pem"), place.pem(CLIENT), place.key(CLIENT));
        line(format_args!(
            "  export SYNOD_CACERT={ca} SYNOD_CERT={pem} SYNOD_KEY={key}"
        ))?;
        etcdctl = format!(" --cacert={ca} --cert={pem} --key={key}");
    }
    line(format_args!("  {program} put hello world"))?;
    line(format_args!("  {program} get hello"))?;
    line(format_args!("  {program} status --endpoints {endpoints}"))?;
    line(format_args!(
        "  etcdctl --endpoints={endpoints}{etcdctl} put hello world"
    ))
}

fn failed(error: StartError) -> Failed {
    match error {
        StartError::Taken { address, .. } => taken(&address),
        error => serve::failed(error),
    }
}

fn taken(address: &str) -> Failed {
    Failed::Refused(format!(
        "{address} is taken by another process, and the ports of `synod dev` are fixed; stop that one: another `synod dev` or `synod serve`?"
    ))
}

async fn first_end(running: &[Member]) -> Result<(), Failed> {
    let mut ends = tokio::task::JoinSet::new();
    for member in running {
        ends.spawn(member.ended());
    }
    match ends.join_next().await {
        Some(Ok(Err(error))) => Err(failed(error)),
        _ => Ok(()),
    }
}

/// How the user called this program, as far as it can be typed again.
fn program() -> String {
    let called = std::env::args().next().unwrap_or_default();
    let by_cargo: BTreeSet<&str> = ["target/release/synod", "target/debug/synod"].into();
    match by_cargo.get(called.as_str()) {
        Some(&"target/release/synod") => "cargo run --release --".into(),
        Some(_) => "cargo run --".into(),
        None if called.is_empty() => "synod".into(),
        None => called,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_told() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("it has one").to_string();
        let free = || "127.0.0.1:0".to_owned();
        assert!(all_free([free()].into_iter()).is_ok());
        let Err(Failed::Refused(told)) = all_free([free(), address.clone()].into_iter()) else {
            panic!("a taken port was passed over")
        };
        assert!(told.starts_with(&address), "{told}");
    }
}
