//! Prints what applying, reading, removing and loading cost with a million keys. Run with `--release`.
//!
//! `cargo run --release -p synod-state --example put_rate [keys] [value bytes]`

use bytes::Bytes;
use prost::Message;
use std::time::{Duration, Instant};
use synod_state::{
    Answer, Batch, Budget, Command, Compact, DeleteRange, Group, Loader, Operation, Put, Query,
    Range, Settings, SnapshotHeader, State,
};

const COMMANDS_PER_BATCH: u64 = 256;

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|argument| argument.parse::<u64>().expect("a number"));
    let keys = arguments.next().unwrap_or(1_000_000);
    let value_bytes = arguments.next().unwrap_or(256) as usize;
    let mut bench = Bench {
        state: State::new(Settings::default()),
        index: 0,
        keys,
        value: Bytes::from(vec![7; value_bytes]),
    };
    let before = resident_bytes();
    bench.puts("put, new keys in random order", |number| {
        scatter(number, keys)
    });
    let used = resident_bytes() - before;
    println!(
        "memory: {:.1} MiB resident, {} bytes per key",
        used as f64 / 1048576.0,
        used / keys
    );
    bench.puts("put, known keys in random order", |number| {
        scatter(number + 17, keys)
    });
    bench.range(
        "count of all keys",
        Range {
            count_only: true,
            ..all()
        },
    );
    let answer = bench.range("range over all keys", all());
    drop(answer);
    bench.compact();
    let loaded = bench.snapshot();
    bench.state = loaded;
    bench.puts("put after loading, known keys", |number| {
        scatter(number + 31, keys)
    });
    bench.churn();
    bench.delete_all();
    bench.compact();
    println!(
        "memory in the end: {:.1} MiB resident",
        (resident_bytes() - before) as f64 / 1048576.0
    );
}

/// A permutation of `0..keys`, nearly.
fn scatter(number: u64, keys: u64) -> u64 {
    (number % keys).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11
}

fn all() -> Range {
    Range {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        ..Range::default()
    }
}

struct Bench {
    state: State,
    index: u64,
    keys: u64,
    value: Bytes,
}

impl Bench {
    fn encode(&self, commands: Vec<Operation>) -> Vec<u8> {
        let commands = commands
            .into_iter()
            .map(|operation| Command {
                operation: Some(operation),
                ..Command::default()
            })
            .collect();
        Batch {
            format: 1,
            clock_ms: 0,
            wall_ms: 0,
            groups: vec![Group {
                commands,
                ..Group::default()
            }],
        }
        .encode_to_vec()
    }

    fn apply(&mut self, batch: &[u8]) -> (u64, Duration) {
        self.index += 1;
        self.state
            .apply_begin(self.index, batch)
            .expect("a batch of this version");
        let (mut slices, mut longest) = (0, Duration::ZERO);
        loop {
            let start = Instant::now();
            let applied = self.state.apply_step(Budget(1000));
            longest = longest.max(start.elapsed());
            slices += 1;
            if applied.is_some() {
                return (slices, longest);
            }
        }
    }

    fn puts(&mut self, what: &str, name: impl Fn(u64) -> u64) {
        let (mut spent, mut slowest) = (Duration::ZERO, Duration::ZERO);
        for first in (0..self.keys).step_by(COMMANDS_PER_BATCH as usize) {
            let numbers = first..(first + COMMANDS_PER_BATCH).min(self.keys);
            let put = |number| Put {
                key: format!("key/{:028}", name(number)).into(),
                value: self.value.clone(),
                ..Put::default()
            };
            let batch = self.encode(numbers.map(|number| Operation::Put(put(number))).collect());
            let (start, computed) = (Instant::now(), Computed::start());
            self.apply(&batch);
            spent += computed.elapsed();
            slowest = slowest.max(start.elapsed());
        }
        println!(
            "{what}: {:.2} us each, slowest batch of {COMMANDS_PER_BATCH} {:.2} ms",
            micros(spent, self.keys),
            millis(slowest)
        );
    }

    fn range(&mut self, what: &str, range: Range) -> Answer {
        let mut cursor = self.state.query_begin(Query::Range(range));
        let (computed, mut longest) = (Computed::start(), Duration::ZERO);
        loop {
            let start = Instant::now();
            let answer = self.state.query_step(&mut cursor, Budget(1000));
            longest = longest.max(start.elapsed());
            if let Some((answer, _)) = answer {
                println!(
                    "{what}: {:.3} us per key, longest slice {:.2} ms",
                    micros(computed.elapsed(), self.keys),
                    millis(longest)
                );
                return answer;
            }
        }
    }

    fn compact(&mut self) {
        let revision = self.state.revision();
        let batch = self.encode(vec![Operation::Compact(Compact { revision })]);
        let start = Computed::start();
        self.apply(&batch);
        println!("compaction: {:.2} ms", millis(start.elapsed()));
        let (start, mut longest) = (Computed::start(), Duration::ZERO);
        loop {
            let slice = Instant::now();
            let more = self.state.background_step(Budget(1000));
            longest = longest.max(slice.elapsed());
            if !more {
                break;
            }
        }
        println!(
            "freeing: {:.0} ms in all, longest slice {:.2} ms",
            millis(start.elapsed()),
            millis(longest)
        );
        println!("  {:.1} MiB resident", resident_bytes() as f64 / 1048576.0);
    }

    /// Random updates with a compaction every tenth of the keys, memory being freed behind.
    fn churn(&mut self) {
        let (keys, value) = (self.keys, self.value.clone());
        let mut resident_max = 0;
        for number in (0..keys * 3).step_by(COMMANDS_PER_BATCH as usize) {
            let put = |number| Put {
                key: format!("key/{:028}", scatter(number, keys)).into(),
                value: value.clone(),
                ..Put::default()
            };
            // Nine of ten updates go to a tenth of the keys.
            let numbers = (number..number + COMMANDS_PER_BATCH).map(|number| {
                let random = number.wrapping_mul(0xD134_2543_DE82_EF95) >> 20;
                if random % 10 == 0 {
                    random
                } else {
                    random % (keys / 10).max(1)
                }
            });
            let mut commands: Vec<_> = numbers.map(|number| Operation::Put(put(number))).collect();
            if number % (keys / 10).max(1) < COMMANDS_PER_BATCH {
                let revision = self.state.revision();
                commands.push(Operation::Compact(Compact { revision }));
            }
            let batch = self.encode(commands);
            self.apply(&batch);
            self.state.background_step(Budget(2000));
            resident_max = resident_max.max(resident_bytes());
        }
        println!(
            "updates with compaction: at most {:.1} MiB resident",
            resident_max as f64 / 1048576.0
        );
    }

    fn delete_all(&mut self) {
        let everything = DeleteRange {
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
            prev_kv: false,
        };
        let batch = self.encode(vec![Operation::DeleteRange(everything)]);
        let (start, begun) = (Computed::start(), Instant::now());
        self.apply(&batch);
        let first = begun.elapsed();
        // The puts behind it, each alone in its batch, as a lone client sends them.
        let (mut puts, mut alone) = (0u64, Vec::new());
        while self.state.complete() < self.state.revision() {
            let put = Put {
                key: format!("new/{puts:028}").into(),
                value: self.value.clone(),
                ..Put::default()
            };
            let batch = self.encode(vec![Operation::Put(put)]);
            let begun = Instant::now();
            self.apply(&batch);
            alone.push(begun.elapsed());
            puts += 1;
        }
        alone.sort();
        println!(
            "removal of all keys: {:.2} ms; written down at {:.3} us per key with {puts} puts, p50 {:.2} ms, p99 {:.2} ms",
            millis(first),
            micros(start.elapsed(), self.keys),
            millis(alone[alone.len() / 2]),
            millis(alone[alone.len() * 99 / 100])
        );
    }

    fn snapshot(&mut self) -> State {
        let start = Computed::start();
        let mut cursor = self.state.snapshot_begin(SnapshotHeader {
            index: self.state.applied(),
            ..SnapshotHeader::default()
        });
        let (mut blocks, mut bytes, mut longest) = (Vec::new(), 0, Duration::ZERO);
        loop {
            let slice = Instant::now();
            let Some(block) = self.state.snapshot_step(&mut cursor, 1 << 20) else {
                break;
            };
            longest = longest.max(slice.elapsed());
            bytes += block.len();
            blocks.push(block);
        }
        self.state.snapshot_cancel(cursor);
        println!(
            "snapshot: {:.0} ms, {} MiB, longest slice {:.2} ms",
            millis(start.elapsed()),
            bytes >> 20,
            millis(longest)
        );
        let start = Computed::start();
        let mut loader = Loader::new(Settings::default());
        blocks
            .iter()
            .for_each(|block| loader.feed(block).expect("our own snapshot"));
        let (loaded, _) = loader.finish().expect("our own snapshot");
        assert_eq!(loaded.hash(), self.state.hash());
        println!("loading: {:.0} ms", millis(start.elapsed()));
        loaded
    }
}

fn micros(spent: Duration, times: u64) -> f64 {
    spent.as_secs_f64() * 1e6 / times as f64
}

fn millis(spent: Duration) -> f64 {
    spent.as_secs_f64() * 1e3
}

/// Resident memory as Linux tells it; 0 elsewhere.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

/// Time this thread has computed, where Linux tells it: on a busy machine the wall clock measures the others. Elsewhere the wall clock.
struct Computed(Instant, Option<Duration>);

impl Computed {
    fn start() -> Computed {
        Computed(Instant::now(), Computed::now())
    }

    fn now() -> Option<Duration> {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        Some(Duration::from_nanos(text.split(' ').next()?.parse().ok()?))
    }

    fn elapsed(&self) -> Duration {
        match (Computed::now(), self.1) {
            (Some(now), Some(start)) => now - start,
            _ => self.0.elapsed(),
        }
    }
}
