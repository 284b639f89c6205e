//! Measures the log on the real disk: batches of one size, one write and one sync each.
//!
//! `cargo run --release -p synod-log --example sync_rate -- [DIR] [BATCHES] [BYTES]` (defaults: a new directory under the system's
//! temporary one, 5000, 4096). Prints batches per second, sync times, and what a plain preallocated file does on the same disk.

use bytes::Bytes;
use raft::{Entry, Index, MemberId, Payload, Persist, Term};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use synod_log::{Disk, DiskFile, FileDisk, ReadEntries, Settings, open};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().map_or_else(
        || std::env::temp_dir().join(format!("synod-sync-rate-{}", std::process::id())),
        PathBuf::from,
    );
    let mut number = |default: u64| {
        arguments
            .next()
            .map_or(default, |text| text.parse().expect("a number"))
    };
    let (batches, bytes) = (number(5000), number(4096) as usize);
    std::fs::create_dir_all(&directory).expect("the directory can be made");
    let log = measure_log(&directory.join("log"), batches, bytes);
    let plain = measure_plain(&directory.join("plain"), batches, bytes);
    report("log", bytes, log);
    report("plain file", bytes, plain);
    println!("in {}", directory.display());
}

fn measure_log(directory: &Path, batches: u64, bytes: usize) -> Vec<Duration> {
    std::fs::create_dir_all(directory).expect("the directory can be made");
    let disk = FileDisk::open(directory).expect("the directory opens");
    let mut log = open(disk, Settings::default(), MemberId(1))
        .expect("an empty directory opens")
        .log;
    let payload = Bytes::from(vec![7; bytes]);
    let mut times = Vec::new();
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
        });
        let begun = Instant::now();
        log.sync().expect("the disk works");
        times.push(begun.elapsed());
        if n % 10_000 == 0 {
            log.release(Index(n - 5000));
        }
    }
    let begun = Instant::now();
    let disk = {
        drop(log);
        FileDisk::open(directory).expect("the directory opens")
    };
    let mut opened = open(disk, Settings::default(), MemberId(1)).expect("it opens again");
    println!(
        "recovery of {batches} entries: {:.1?}, last {}",
        begun.elapsed(),
        opened.recovered.last
    );
    assert!(matches!(
        opened.log.read(Index(batches), 1),
        ReadEntries::Entries(_)
    ));
    times
}

fn measure_plain(directory: &Path, batches: u64, bytes: usize) -> Vec<Duration> {
    std::fs::create_dir_all(directory).expect("the directory can be made");
    let mut disk = FileDisk::open(directory).expect("the directory opens");
    let mut file = disk.create("plain").expect("a file can be made");
    let length = 16 << 20;
    file.write_at(0, &vec![0; length]).expect("the disk works");
    file.sync().expect("the disk works");
    let content = vec![7; bytes];
    let mut times = Vec::new();
    for n in 0..batches {
        let begun = Instant::now();
        let offset = n as usize * bytes % (length - bytes);
        file.write_at(offset as u64, &content)
            .expect("the disk works");
        file.sync().expect("the disk works");
        times.push(begun.elapsed());
    }
    times
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
