//! Measures the log on the real disk: batches of one size, one write and one sync each.
//!
//! `cargo run --release -p synod-log --example sync_rate -- [DIR] [BATCHES] [BYTES]` (defaults: a new directory under the system's
//! temporary one, 5000, 4096). Prints batches per second and sync times, beside those of the same writes to a plain file that was filled
//! with zeros before: one of these after each of the log's, so that both meet the same disk.

use bytes::Bytes;
use raft::{Entry, Index, MemberId, Payload, Persist, Term};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use synod_log::{Disk, DiskFile, FileDisk, Log, ReadEntries, RealFile, Settings, open};

/// Entries kept readable, as a member does for slow followers.
const KEPT: u64 = 1000;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let scratch = || std::env::temp_dir().join(format!("synod-sync-rate-{}", std::process::id()));
    let directory = arguments.next().map_or_else(scratch, PathBuf::from);
    let mut number = |default: u64| {
        arguments
            .next()
            .map_or(default, |text| text.parse().expect("a number"))
    };
    let (batches, bytes) = (number(5000), number(4096) as usize);

    let mut log = open_log(&directory.join("log"));
    let mut plain = Plain::new(&directory.join("plain"));
    let payload = Bytes::from(vec![7; bytes]);
    let (mut log_times, mut plain_times) = (Vec::new(), Vec::new());
    for n in 1..=batches {
        let entry = Entry {
            term: Term(1),
            index: Index(n),
            payload: Payload::Batch(payload.clone()),
        };
        log.append(&Persist {
            sequence: n,
            vote: None,
            reset: None,
            entries: vec![entry],
            commit: Index(0),
        });
        log_times.push(timed(|| log.sync().expect("the disk works")));
        plain_times.push(timed(|| plain.write(&payload)));
        if n % KEPT == 0 {
            log.release(Index(n - KEPT));
        }
    }
    report("log", bytes, log_times);
    report("plain file", bytes, plain_times);

    drop(log);
    let begun = Instant::now();
    let mut log = open_log(&directory.join("log"));
    println!("recovery: {:.1?}", begun.elapsed());
    assert!(
        matches!(log.read(Index(batches), 1), ReadEntries::Entries(_)),
        "the last entry is there"
    );
    println!("in {}", directory.display());
}

fn open_log(directory: &Path) -> Log<FileDisk> {
    std::fs::create_dir_all(directory).expect("the directory can be made");
    let disk = FileDisk::open(directory).expect("the directory opens");
    open(disk, Settings::default(), MemberId(1))
        .expect("the log opens")
        .log
}

struct Plain {
    file: RealFile,
    at: u64,
}

impl Plain {
    const BYTES: u64 = 16 << 20;

    fn new(directory: &Path) -> Plain {
        std::fs::create_dir_all(directory).expect("the directory can be made");
        let mut disk = FileDisk::open(directory).expect("the directory opens");
        let mut file = disk.create("plain").expect("a file can be made");
        file.write_at(0, &vec![0; Plain::BYTES as usize])
            .expect("the disk works");
        file.sync().expect("the disk works");
        Plain { file, at: 0 }
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.at + bytes.len() as u64 > Plain::BYTES {
            self.at = 0;
        }
        self.file.write_at(self.at, bytes).expect("the disk works");
        self.file.sync().expect("the disk works");
        self.at += bytes.len() as u64;
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

fn report(what: &str, bytes: usize, mut times: Vec<Duration>) {
    times.sort();
    let total: Duration = times.iter().sum();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!(
        "{what}: {:.0} batches of {bytes} bytes per second; p50 {:.1?}, p99 {:.1?}, max {:.1?}",
        times.len() as f64 / total.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}
