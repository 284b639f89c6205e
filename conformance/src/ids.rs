//! Identifiers made by many processes that are killed and started again, while members are killed and their wall clocks step: none may come twice, and
//! each process's rise (PROPERTIES I1).
//!
//! Each life of a process writes down what it made, as differences in few bytes each; in the end all files are merged and neighbours compared.

use crate::connection::Connection;
use crate::faults::wall::Wall;
use crate::process::{Cluster, Place, Program};
use crate::random::Random;
use crate::report::Report;
use crate::{Failure, Outcome};
use client::{Client, Ids, Segments, Session};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Numbers fetched at a time.
const SEGMENT: u64 = 100_000;
/// Time between faults of members: long enough for an election and some work.
const FAULTS: Duration = Duration::from_secs(3);
/// How long a process takes at most once nobody kills it any more.
const PATIENCE: Duration = Duration::from_secs(600);

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The binary of the members.
    pub program: PathBuf,
    /// Processes that make ids.
    pub processes: usize,
    /// How many ids, half of them ordered by time, half from ranges.
    pub count: u64,
    /// How often each process is killed for each kind.
    pub kills: usize,
    /// Seed of all choices.
    pub seed: u64,
    /// Where members and processes write.
    pub directory: PathBuf,
}

/// How ids are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// 64 bits ordered by time.
    Time,
    /// Numbers from ranges.
    Ranges,
}

/// What one process does: makes so many ids and writes them down.
///
/// # Errors
/// When none can be made, or written.
pub async fn make(endpoints: &str, kind: Kind, count: u64, file: &Path) -> Outcome<()> {
    let client = Client::new(endpoints.split(','))?.with_timeout(Duration::from_secs(60));
    let session = Session::open(&client).await?;
    let mut file = BufWriter::new(File::create(file)?);
    let (ids, numbers) = (
        Ids::new(&session),
        Segments::new(&session, "conformance", SEGMENT),
    );
    let mut last = 0;
    for _ in 0..count {
        let id = match kind {
            Kind::Time => ids.next().await?,
            Kind::Ranges => numbers.next().await?,
        };
        if id <= last {
            return Err(format!("{id} came after {last}").into());
        }
        put(&mut file, id - last)?;
        last = id;
    }
    file.flush()?;
    // The next process need not wait for it to run out.
    Ok(session.close().await?)
}

/// Runs a plan; true if all held.
///
/// # Errors
/// When something could not be run.
pub async fn run(plan: &Plan) -> Outcome<bool> {
    let mut report = Report::default();
    let program = Program::at(&plan.program)?;
    std::fs::create_dir_all(&plan.directory)?;
    let mut places = Place::on_loopback(3)?;
    let mut walls = Vec::new();
    match Wall::missing() {
        Some(why) => report.skip("steps of the members' wall clocks", &why),
        None => {
            for (at, place) in places.iter_mut().enumerate() {
                let wall = Wall::new(&plan.directory.join(format!("wall-{at}")))?;
                place.environment = wall.environment();
                walls.push(wall);
            }
        }
    }
    let mut cluster = Cluster::start_at(&program, places, &plan.directory.join("members"), &[])?;
    for address in cluster.clients() {
        Connection::new(address)
            .ready(Duration::from_secs(30))
            .await?;
    }
    let mut random = Random::new(plan.seed);
    for kind in [Kind::Time, Kind::Ranges] {
        let began = Instant::now();
        let files = lives(plan, kind, &mut cluster, &walls, &mut random).await?;
        let took = began.elapsed();
        let (made, twice) = merged(&files)?;
        let seen = format!(
            "{made} ids from {} lives of {} processes in {:.0} s, {twice} of them twice",
            files.len(),
            plan.processes,
            took.as_secs_f64()
        );
        let held = twice == 0 && made >= plan.count / 2;
        report.check(&format!("{kind:?}: no id comes twice"), held, seen);
        for file in files {
            std::fs::remove_file(file)?;
        }
    }
    Ok(report.finish())
}

/// A process that makes ids, through all its lives.
struct Maker {
    child: Option<Child>,
    files: Vec<PathBuf>,
    /// What is still to be made by the present life and those after it.
    left: u64,
    /// When it is killed next, while there are kills left.
    dies: Instant,
    kills: usize,
}

/// Lets all processes make their ids, and kills them, members and clocks meanwhile; gives the files.
async fn lives(
    plan: &Plan,
    kind: Kind,
    cluster: &mut Cluster,
    walls: &[Wall],
    random: &mut Random,
) -> Outcome<Vec<PathBuf>> {
    let each = (plan.count / 2).div_ceil(plan.processes as u64);
    let mut makers = Vec::new();
    for _ in 0..plan.processes {
        let mut maker = Maker {
            child: None,
            files: Vec::new(),
            left: each,
            dies: Instant::now() + soon(random),
            kills: plan.kills,
        };
        start(plan, kind, cluster, &mut maker, makers.len())?;
        makers.push(maker);
    }
    let began = Instant::now();
    let mut fault = Instant::now() + Duration::from_secs(2);
    let mut down = None;
    while makers.iter().any(|maker| maker.child.is_some()) {
        if began.elapsed() > PATIENCE {
            return Err(format!("not all ids are made after {PATIENCE:?}").into());
        }
        sleep(Duration::from_millis(20)).await;
        for (slot, maker) in makers.iter_mut().enumerate() {
            live_on(plan, kind, cluster, maker, slot, random)?;
        }
        if Instant::now() < fault {
            continue;
        }
        fault = Instant::now() + FAULTS;
        if let Some(wall) = walls.get(random.below(3) as usize) {
            wall.step(random.below(7200) as i64 - 3600)?;
        }
        match down.take() {
            Some(at) => cluster.start_member(at)?,
            None => {
                let at = random.below(3) as usize;
                cluster.kill(at);
                down = Some(at);
            }
        }
    }
    if let Some(at) = down {
        cluster.start_member(at)?;
    }
    Ok(makers.into_iter().flat_map(|maker| maker.files).collect())
}

fn soon(random: &mut Random) -> Duration {
    Duration::from_millis(300 + random.below(2000))
}

fn start(
    plan: &Plan,
    kind: Kind,
    cluster: &Cluster,
    maker: &mut Maker,
    slot: usize,
) -> Outcome<()> {
    let name = format!("{kind:?}-{slot}-{}", maker.files.len());
    let file = plan.directory.join(name);
    let kind = match kind {
        Kind::Time => "time",
        Kind::Ranges => "ranges",
    };
    let child = Command::new(std::env::current_exe()?)
        .args([
            "make-ids",
            "--endpoints",
            &cluster.endpoints(),
            "--kind",
            kind,
        ])
        .args(["--count", &maker.left.to_string(), "--file"])
        .arg(&file)
        .stdin(Stdio::null())
        .spawn()?;
    maker.child = Some(child);
    maker.files.push(file);
    Ok(())
}

/// Kills a process whose time has come, and starts it again until it has made all it should.
fn live_on(
    plan: &Plan,
    kind: Kind,
    cluster: &Cluster,
    maker: &mut Maker,
    slot: usize,
    random: &mut Random,
) -> Outcome<()> {
    let Some(child) = &mut maker.child else {
        return Ok(());
    };
    if let Some(status) = child.try_wait()? {
        maker.child = None;
        return match status.success() {
            true => Ok(()),
            false => Err(format!("a process that makes ids ended with {status}").into()),
        };
    }
    if maker.kills == 0 || Instant::now() < maker.dies {
        return Ok(());
    }
    child.kill()?;
    child.wait()?;
    maker.child = None;
    maker.kills -= 1;
    maker.dies = Instant::now() + soon(random);
    let file = maker.files.last().expect("it has a file");
    // It may have been killed before it had one.
    let made = Made::open(file).map_or(0, |made| made.count() as u64);
    if made == 0 {
        File::create(file)?;
    }
    maker.left = maker.left.saturating_sub(made).max(1);
    start(plan, kind, cluster, maker, slot)
}

/// How many ids there are in these files, and how many of them come twice.
fn merged(files: &[PathBuf]) -> Outcome<(u64, u64)> {
    let mut all = files
        .iter()
        .map(|file| Made::open(file))
        .collect::<Outcome<Vec<Made>>>()?;
    let mut next: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    for (number, made) in all.iter_mut().enumerate() {
        next.extend(made.next().map(|id| Reverse((id, number))));
    }
    let (mut count, mut twice, mut last) = (0, 0, None);
    while let Some(Reverse((id, number))) = next.pop() {
        count += 1;
        twice += u64::from(last == Some(id));
        last = Some(id);
        next.extend(all[number].next().map(|id| Reverse((id, number))));
    }
    Ok((count, twice))
}

/// The ids that one life wrote down, rising. What it did not finish writing is left out.
struct Made {
    file: BufReader<File>,
    last: u64,
}

impl Made {
    fn open(file: &Path) -> Outcome<Made> {
        let file = File::open(file).map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(Made {
            file: BufReader::new(file),
            last: 0,
        })
    }
}

impl Iterator for Made {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let (mut difference, mut shift) = (0, 0);
        loop {
            let mut byte = [0];
            self.file.read_exact(&mut byte).ok()?;
            difference |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                break;
            }
            shift += 7;
        }
        self.last += difference;
        Some(self.last)
    }
}

/// Writes seven bits at a time, the lowest first.
fn put(file: &mut impl Write, mut number: u64) -> Result<(), Failure> {
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            return Ok(file.write_all(&[low])?);
        }
        file.write_all(&[low | 0x80])?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(directory: &Path, name: &str, ids: &[u64], torn: bool) -> PathBuf {
        let path = directory.join(name);
        let mut file = File::create(&path).unwrap();
        let mut last = 0;
        for id in ids {
            put(&mut file, id - last).unwrap();
            last = *id;
        }
        if torn {
            file.write_all(&[0x80]).unwrap();
        }
        path
    }

    #[test]
    fn ids_that_come_twice_are_counted_over_all_files() {
        let directory = std::env::temp_dir().join(format!("synod-ids-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let large = u64::MAX >> 1;
        let files = [
            written(&directory, "a", &[1, 300, large], true),
            written(&directory, "b", &[2, 301], false),
            written(&directory, "c", &[], false),
        ];
        assert_eq!(merged(&files).unwrap(), (5, 0));
        let again = written(&directory, "d", &[300, large], false);
        let files = [&files[..], &[again]].concat();
        assert_eq!(merged(&files).unwrap(), (7, 2));
        std::fs::remove_dir_all(directory).unwrap();
    }
}
