//! `snapshot`: the state of a cluster kept in a file, and new clusters made from it.

use crate::output::{Failed, Output, hex, line};
use clap::{Args, Subcommand};
use client::{Client, Piece};
use serde_json::{Map, Value, json};
use server::backup::{
    BackupError, BackupWriter, Kind, Raised, Restoration, Restored, Summary, load, restore,
    save_directory,
};
use server::config::{parse_bytes, parse_cluster};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often progress is shown.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);
/// Bytes written to the file at once.
const BUFFER_BYTES: usize = 1 << 20;
/// How far saving and checking stand back behind what else runs on the machine, which may be a member.
const NICENESS: i32 = 10;

#[derive(Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Save the state of the cluster to a file, while it goes on
    ///
    /// Keys with their history, leases, locks, users and all else, as they are when the command is given or a little later. The file is checked when it
    /// is complete, and takes the place of an older one only then.
    Save(SaveArgs),
    /// Check a file to the last byte, and show what is in it; etcd's files as well
    Status {
        /// The file
        file: PathBuf,
    },
    /// Make the data directory of a member of a new cluster from a file
    ///
    /// Give the command once per member, with the same file and the same list, on whatever machine it is to run. Clients of the old cluster notice: its
    /// revisions count as compacted, grants of locks and tokens are void. The file may also be etcd's: one that `etcdctl snapshot save` wrote, or
    /// member/snap/db of a data directory whose etcd is stopped.
    Restore(RestoreArgs),
}

#[derive(Args)]
pub(crate) struct SaveArgs {
    /// Where to
    file: PathBuf,
    /// Bytes per second at most [default: 32MiB]
    #[arg(long, value_parser = speed, value_name = "SIZE")]
    rate: Option<u64>,
    /// Take it from the data directory of a member that is stopped, when too few are left to answer
    #[arg(long, conflicts_with = "rate", value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct RestoreArgs {
    /// The file
    file: PathBuf,
    /// The directory to make; it must be empty, or not exist
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// The member's name
    #[arg(long)]
    name: String,
    /// All members of the new cluster, as NAME=HOST:PORT with their peer addresses, separated by commas; the same for each
    #[arg(long, value_parser = cluster, value_name = "NAME=HOST:PORT,...")]
    cluster: Cluster,
    /// How many restorations the clients will have seen, with this one; a higher one than the last time
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    generation: u64,
}

type Cluster = BTreeMap<String, String>;

fn cluster(text: &str) -> Result<Cluster, String> {
    parse_cluster(text)
}

fn speed(text: &str) -> Result<u64, String> {
    parse_bytes(text)
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "write a number and a unit, such as 8MiB".into())
}

impl From<BackupError> for Failed {
    fn from(error: BackupError) -> Failed {
        Failed::Refused(error.0)
    }
}

impl SnapshotCommand {
    /// It needs a member that runs.
    pub(crate) fn talks(&self) -> bool {
        matches!(self, SnapshotCommand::Save(args) if args.data_dir.is_none())
    }
}

/// Runs a command that needs no member.
pub(crate) fn run(output: Output, command: SnapshotCommand) -> Result<(), Failed> {
    match command {
        SnapshotCommand::Save(args) => {
            stand_back();
            let data_dir = args.data_dir.expect("without one a member is asked");
            check_target(&args.file)?;
            complete(output, &args.file, |part| {
                let out = File::create(part).map_err(|error| written(part, &error))?;
                let out = BufWriter::with_capacity(BUFFER_BYTES, out);
                let (out, _) = save_directory(&data_dir, out)?;
                sync(out).map_err(|error| written(part, &error))
            })
        }
        SnapshotCommand::Status { file } => {
            stand_back();
            let summary = load(&file, Raised::new(1)?)?.summary;
            show(output, &summary)
        }
        SnapshotCommand::Restore(args) => {
            let usage = |error: BackupError| Failed::Usage(error.0);
            let restoration = Restoration {
                file: args.file,
                data_dir: args.data_dir,
                name: args.name,
                cluster: args.cluster,
                raised: Raised::new(args.generation).map_err(usage)?,
            };
            restoration.check().map_err(usage)?;
            let restored = restore(&restoration)?;
            show_restored(output, &restoration, &restored)
        }
    }
}

/// Lets others go first. Where that is refused, saving is merely less polite.
fn stand_back() {
    let _ = rustix::process::setpriority_process(None, NICENESS);
}

/// `snapshot save`.
pub(crate) async fn save(
    client: &Client,
    output: Output,
    command: SnapshotCommand,
) -> Result<(), Failed> {
    let SnapshotCommand::Save(SaveArgs { file, rate, .. }) = command else {
        unreachable!("the others need no member");
    };
    stand_back();
    check_target(&file)?;
    let received = receive(client, &beside(&file), rate.unwrap_or(0)).await;
    complete(output, &file, |_| received)
}

/// Has a file written under another name, reads it back, and lets it take the place of an older one only then.
fn complete(
    output: Output,
    file: &Path,
    write: impl FnOnce(&Path) -> Result<(), Failed>,
) -> Result<(), Failed> {
    let part = beside(file);
    let checked = write(&part).and_then(|()| {
        let summary = load(&part, Raised::new(1)?)?.summary;
        fs::rename(&part, file).map_err(|error| written(file, &error))?;
        sync_directory(file).map_err(|error| written(file, &error))?;
        Ok(summary)
    });
    let summary = checked.inspect_err(|_| {
        let _ = fs::remove_file(&part);
    })?;
    show(output, &summary)
}

/// Refuses to put the file in the place of something that is none, such as a device.
fn check_target(file: &Path) -> Result<(), Failed> {
    match fs::metadata(file) {
        Ok(found) if !found.is_file() => Err(Failed::Refused(format!(
            "{}: is there and is no regular file, so it is not replaced; name another file",
            file.display()
        ))),
        _ => Ok(()),
    }
}

fn beside(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_os_string();
    name.push(".part");
    file.with_file_name(name)
}

fn sync_directory(file: &Path) -> std::io::Result<()> {
    let directory = file.parent().filter(|path| !path.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

fn written(file: &Path, error: &std::io::Error) -> Failed {
    Failed::Refused(format!("{}: cannot be written: {error}", file.display()))
}

/// Writes the stream of the state to a file.
async fn receive(client: &Client, part: &Path, bytes_per_second: u64) -> Result<(), Failed> {
    let cannot = |error: std::io::Error| written(part, &error);
    let out = BufWriter::with_capacity(BUFFER_BYTES, File::create(part).map_err(cannot)?);
    let mut writer = BackupWriter::new(out);
    let mut saving = client.save(bytes_per_second).await?;
    let mut progress = Progress::new();
    let mut received = 0;
    let told = loop {
        match saving.next().await? {
            Some(Piece::Content { bytes, remaining }) => {
                writer.write(&bytes).map_err(cannot)?;
                received += bytes.len() as u64;
                progress.show(received, received + remaining);
            }
            Some(Piece::End { sha256 }) => break sha256,
            None => {
                return Err(Failed::Unreachable(
                    "the member ended the stream of the state early; nothing was saved".into(),
                ));
            }
        }
    };
    progress.end();
    let (out, _, sha) = writer.finish().map_err(cannot)?;
    if told[..] != sha {
        return Err(Failed::Refused(
            "what came is not what the member sent: the hashes differ; nothing was saved, try again"
                .into(),
        ));
    }
    sync(out).map_err(cannot)
}

fn sync(out: BufWriter<File>) -> std::io::Result<()> {
    out.into_inner()
        .map_err(std::io::IntoInnerError::into_error)?
        .sync_all()
}

/// How far it is, on a terminal.
struct Progress {
    shown: Option<Instant>,
    wanted: bool,
}

impl Progress {
    fn new() -> Progress {
        Progress {
            shown: None,
            wanted: std::io::stderr().is_terminal(),
        }
    }

    fn show(&mut self, bytes: u64, all: u64) {
        let due = self
            .shown
            .is_none_or(|shown| shown.elapsed() >= PROGRESS_INTERVAL);
        if self.wanted && due {
            self.shown = Some(Instant::now());
            let mut talk = std::io::stderr();
            let _ = write!(talk, "\r{} of {} MiB ", bytes >> 20, all >> 20);
            let _ = talk.flush();
        }
    }

    fn end(&self) {
        if self.shown.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}

fn kind(summary: &Summary) -> &'static str {
    match summary.kind {
        Kind::Synod => "synod",
        Kind::Etcd => "etcd",
    }
}

fn json_of(summary: &Summary) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("kind".into(), kind(summary).into());
    if summary.cluster != 0 {
        map.insert("cluster".into(), format!("{:x}", summary.cluster).into());
    }
    for (name, value) in numbers(summary) {
        map.insert(name.into(), value.into());
    }
    map.insert("sha256".into(), hex(&summary.sha256).into());
    map.insert("hash_verified".into(), summary.has_hash.into());
    map
}

fn numbers(summary: &Summary) -> [(&'static str, i64); 9] {
    [
        ("index", summary.index as i64),
        ("term", summary.term as i64),
        ("revision", summary.revision),
        ("compacted", summary.compacted),
        ("keys", summary.keys as i64),
        ("leases", summary.leases as i64),
        ("users", summary.users as i64),
        ("keys_of_lost_leases", summary.adrift as i64),
        ("bytes", summary.bytes as i64),
    ]
}

fn show(output: Output, summary: &Summary) -> Result<(), Failed> {
    if output == Output::Json {
        return line(Value::Object(json_of(summary)));
    }
    let row = |name: &str, value: String| line(format_args!("{name:<10} {value}"));
    row("kind", kind(summary).into())?;
    if summary.cluster != 0 {
        row("cluster", format!("{:x}", summary.cluster))?;
    }
    for (name, value) in numbers(summary) {
        match (name, value) {
            ("keys_of_lost_leases", 0) => {}
            ("keys_of_lost_leases", _) => {
                row("warning", format!("{value} keys name a lease that is gone"))?;
            }
            _ => row(name, value.to_string())?,
        }
    }
    row("sha256", hex(&summary.sha256))?;
    row(
        "verified",
        if summary.has_hash {
            "yes, to the last byte".into()
        } else {
            "its structure only: the file has no hash at its end".into()
        },
    )
}

fn show_restored(
    output: Output,
    restoration: &Restoration,
    restored: &Restored,
) -> Result<(), Failed> {
    let Restoration { name, cluster, .. } = restoration;
    let list: Vec<String> = cluster
        .iter()
        .map(|(name, address)| format!("{name}={address}"))
        .collect();
    if output == Output::Json {
        return line(json!({
            "cluster": format!("{:x}", restored.cluster),
            "member": format!("{:x}", restored.member),
            "index": restored.index,
            "revision": restored.revision,
            "restored_from": json_of(&restored.summary),
        }));
    }
    line(format_args!(
        "restored {} keys into {}: member {name} ({:x}) of cluster {:x}, revision {}",
        restored.summary.keys,
        restoration.data_dir.display(),
        restored.member,
        restored.cluster,
        restored.revision
    ))?;
    eprintln!(
        "next: restore the other members from the same file with the same --cluster, then start each, this one with\n  synod serve --name {name} --data-dir {} --peer-addr {} --cluster {}",
        restoration.data_dir.display(),
        cluster[name],
        list.join(",")
    );
    Ok(())
}
