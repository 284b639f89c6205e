//! The two threads that wait for the disk: one for the log, one for snapshots, so that a snapshot never delays a sync.
//!
//! Group commit is natural: whatever queued up during one sync goes into the next. Followers far behind are fed in between (`feed.rs`). Nothing here decides; the replica says what to
//! write and hears when it is durable. A failing disk is retried for ever and complained about: until it works again no `Persisted` is told, so this member
//! neither votes nor acknowledges, and the others go on without it (PROPERTIES R3).

use crate::feed::Feed;
use crate::{Metrics, OpenSnapshot};
use bytes::Bytes;
use log::{Disk, Log, ReadEntries, SnapshotReader, Snapshots, StoreError};
use raft::{Index, Persist, PersistSequence, SnapshotMark};
use replica::Input;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

/// Bytes of entries gathered for one sync at most.
const GROUP_BYTES_MAX: usize = 256 << 10;
/// The replica hears of the length of the log when it has changed by this much: each time would wake the loop twice for one sync.
const LOG_BYTES_STEP: u64 = 64 << 10;
/// Bytes of entries by which followers far behind get nearer to the end of the log in a second.
const FEED_BYTES_PER_SECOND: u64 = 16 << 20;
/// Bytes of entries read for them at once, about.
const FEED_PIECE_BYTES: usize = 32 << 10;
/// Bytes of entries they get without a pause.
const FEED_BURST_BYTES: usize = 1 << 20;
/// Bytes of a snapshot they get in a second: a gigabyte in half a minute.
const SNAPSHOT_BYTES_PER_SECOND: u64 = 32 << 20;
/// How often free space is looked at, also while nothing is written: others fill the disk too. And how often a full disk is tried again.
const SPACE_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a failed disk is left alone before the next try: doubles from the first to the second.
const RETRY_WAIT: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];

/// What the log's thread is asked to do. Not bounded by count: consensus bounds the bytes it has in flight, on a leader and on a follower.
#[allow(clippy::large_enum_variant, reason = "a handful waits at a time")]
pub(crate) enum LogTask {
    Persist(Persist),
    Fetch {
        from: Index,
        bytes_max: usize,
    },
    /// Entries for a follower that is far behind: at their time.
    Feed {
        from: Index,
    },
    Release(Index),
    /// The log is whole again: forget the mark that entries were lost.
    Sound,
}

/// What the snapshots' thread is asked to do. The replica asks for one piece at a time per snapshot.
pub(crate) enum SnapshotTask {
    Stage {
        id: u64,
        offset: u64,
        bytes: Bytes,
    },
    Finish {
        id: u64,
        mark: SnapshotMark,
        bytes: u64,
        checksum: u32,
    },
    Abort {
        id: u64,
    },
    Read {
        index: Index,
        offset: u64,
        bytes_max: usize,
    },
    Discard(String),
    /// Open the newest for a reader of its own.
    Open(oneshot::Sender<Result<OpenSnapshot, String>>),
}

/// The loop's ends of both threads. Dropping it without [`DiskThreads::stop`] lets them finish what is queued, unwatched.
pub(crate) struct DiskThreads {
    pub(crate) log: Sender<LogTask>,
    pub(crate) snapshots: Sender<SnapshotTask>,
    giving_up: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl DiskThreads {
    /// Starts both threads. Outcomes come back as inputs of the replica: at most one per task, and a few about the disk itself.
    pub(crate) fn start<D>(
        name: &str,
        log: Log<D>,
        snapshots: Snapshots<D>,
        inputs: UnboundedSender<Input>,
        metrics: Arc<Metrics>,
    ) -> DiskThreads
    where
        D: Disk + Send + 'static,
        Log<D>: Send,
        Snapshots<D>: Send,
        SnapshotReader<D>: Send,
    {
        let giving_up = Arc::new(AtomicBool::new(false));
        let (log_in, log_tasks) = channel();
        let (snapshots_in, snapshot_tasks) = channel();
        let log_thread = LogThread::new(log, inputs.clone(), metrics.clone(), giving_up.clone());
        let threads = vec![
            spawn(format!("{name}-log"), move || log_thread.run(&log_tasks)),
            spawn(format!("{name}-snap"), move || {
                run_snapshots(snapshots, &snapshot_tasks, &inputs, &metrics)
            }),
        ];
        DiskThreads {
            log: log_in,
            snapshots: snapshots_in,
            giving_up,
            threads,
        }
    }

    /// Lets both threads finish what is queued, then ends them. A disk that fails now is not waited for.
    pub(crate) fn stop(self) {
        self.giving_up.store(true, Relaxed);
        drop(self.log);
        drop(self.snapshots);
        for thread in self.threads {
            if thread.join().is_err() {
                error!("a disk thread panicked");
            }
        }
    }
}

fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let member = tracing::Span::current();
    let named = move || member.in_scope(body);
    std::thread::Builder::new()
        .name(name)
        .spawn(named)
        .expect("the system has room for a thread")
}

struct LogThread<D: Disk> {
    log: Log<D>,
    inputs: UnboundedSender<Input>,
    metrics: Arc<Metrics>,
    giving_up: Arc<AtomicBool>,
    short_of_space: bool,
    space_checked: Instant,
    log_bytes_told: u64,
    feed: Feed<Index>,
}

impl<D: Disk> LogThread<D> {
    fn new(
        log: Log<D>,
        inputs: UnboundedSender<Input>,
        metrics: Arc<Metrics>,
        giving_up: Arc<AtomicBool>,
    ) -> LogThread<D> {
        let now = Instant::now();
        let mut thread = LogThread {
            log,
            inputs,
            metrics,
            giving_up,
            short_of_space: false,
            space_checked: now,
            log_bytes_told: 0,
            feed: Feed::new(FEED_BYTES_PER_SECOND, FEED_BURST_BYTES, now),
        };
        // The replica must know before it admits its first change.
        thread.check_space();
        thread
    }

    fn run(mut self, tasks: &Receiver<LogTask>) {
        let mut aside = Vec::new();
        while let Some(first) = self.next(tasks) {
            let mut persisted = None;
            let mut group_bytes = 0;
            let mut task = Some(first);
            while let Some(next) = task {
                match next {
                    LogTask::Persist(persist) => {
                        group_bytes += persist.entries.iter().map(entry_bytes).sum::<usize>();
                        self.log.append(&persist);
                        self.metrics.log_persists.inc();
                        persisted = Some(persist.sequence);
                    }
                    // Reads and releases wait until the group is durable: somebody waits for the group.
                    later => aside.push(later),
                }
                task = if group_bytes < GROUP_BYTES_MAX {
                    tasks.try_recv().ok()
                } else {
                    None
                };
            }
            if let Some(sequence) = persisted {
                self.sync(sequence);
                self.feed.grown(group_bytes);
            }
            for task in aside.drain(..) {
                self.aside(task);
            }
        }
    }

    /// Waits for a task. Meanwhile it feeds who is far behind, and looks how much space there is. `None` when the member stops.
    fn next(&mut self, tasks: &Receiver<LogTask>) -> Option<LogTask> {
        loop {
            let now = Instant::now();
            if let Some(from) = self.feed.next(now) {
                let bytes = self.fetch(from, FEED_PIECE_BYTES);
                self.feed.served(now, bytes);
            }
            if self.space_checked.elapsed() >= SPACE_CHECK_INTERVAL {
                self.check_space();
            }
            let space_due = self.space_checked + SPACE_CHECK_INTERVAL;
            let due = self.feed.due().map_or(space_due, |due| due.min(space_due));
            match tasks.recv_timeout(due.saturating_duration_since(now)) {
                Ok(task) => return Some(task),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn sync(&mut self, sequence: PersistSequence) {
        let mut wait = RETRY_WAIT[0];
        loop {
            let started = Instant::now();
            match self.log.sync() {
                Ok(()) => {
                    self.metrics.log_syncs.observe(started.elapsed());
                    break;
                }
                Err(StoreError::Full) => {
                    self.metrics.log_failures.inc();
                    self.tell_space(true);
                    wait = SPACE_CHECK_INTERVAL;
                }
                Err(StoreError::Damaged(what)) => unreachable!("a sync reads nothing: {what}"),
                Err(StoreError::Failed(reason)) => {
                    self.metrics.log_failures.inc();
                    error!(%reason, retry_in_ms = wait.as_millis() as u64, "log cannot be written, this member stands aside until it can");
                }
            }
            if self.giving_up.load(Relaxed) {
                return;
            }
            std::thread::sleep(wait);
            wait = (wait * 2).min(RETRY_WAIT[1]);
        }
        self.tell_quarantined();
        let _ = self.inputs.send(Input::Persisted(sequence));
        let log_bytes = self.log.log_bytes();
        if log_bytes.abs_diff(self.log_bytes_told) >= LOG_BYTES_STEP {
            self.log_bytes_told = log_bytes;
            let _ = self.inputs.send(Input::LogBytes(log_bytes));
        }
    }

    fn check_space(&mut self) {
        self.space_checked = Instant::now();
        let short = self.log.low_on_space();
        self.tell_space(short);
    }

    fn tell_space(&mut self, short: bool) {
        if self.short_of_space != short {
            self.short_of_space = short;
            self.metrics.low_on_space.set(short.into());
            if short {
                error!(
                    "disk is nearly full, only deletes and compaction are admitted; free some space, service returns by itself"
                );
            } else {
                info!("disk has space again");
            }
            let _ = self.inputs.send(Input::DiskFull(short));
        }
    }

    /// A damaged part of the log became needless and was set aside.
    fn tell_quarantined(&mut self) {
        for what in self.log.take_quarantined() {
            self.metrics.files_quarantined.inc();
            self.metrics.repairs.inc();
            warn!(
                what,
                "damaged part of the log is replaced by a snapshot and set aside"
            );
        }
    }

    /// Reads entries back; gives their bytes.
    fn fetch(&mut self, from: Index, bytes_max: usize) -> usize {
        let mut bytes = 0;
        let input = match self.log.read(from, bytes_max) {
            ReadEntries::Entries(entries) => {
                bytes = entries.iter().map(entry_bytes).sum();
                Input::Fetched { from, entries }
            }
            ReadEntries::Absent => Input::Fetched {
                from,
                entries: Vec::new(),
            },
            ReadEntries::Damaged(found) => {
                if found.is_news {
                    self.metrics.damage_found.inc();
                    let (index, what) = (from.0, found.what);
                    error!(index, what, "log is damaged, it is being repaired");
                }
                Input::Unreadable {
                    from,
                    through: found.through,
                }
            }
        };
        let _ = self.inputs.send(input);
        bytes
    }

    fn aside(&mut self, task: LogTask) {
        match task {
            LogTask::Fetch { from, bytes_max } => {
                self.fetch(from, bytes_max);
            }
            LogTask::Feed { from } => self.feed.ask(from),
            LogTask::Release(upto) => {
                self.log.release(upto);
                self.tell_quarantined();
            }
            LogTask::Sound => {
                // Durable with the next sync; a crash before it only means making the log good once more.
                self.log.clear_entries_lost();
                self.metrics.repairs.inc();
                info!("log is whole again: what was lost came from the other members");
            }
            LogTask::Persist(_) => unreachable!("persists are appended at once"),
        }
    }
}

fn entry_bytes(entry: &raft::Entry) -> usize {
    match &entry.payload {
        raft::Payload::Batch(bytes) => bytes.len() + 32,
        raft::Payload::Noop | raft::Payload::Configuration(_) => 256,
    }
}

fn run_snapshots<D: Disk + 'static>(
    mut snapshots: Snapshots<D>,
    tasks: &Receiver<SnapshotTask>,
    inputs: &UnboundedSender<Input>,
    metrics: &Metrics,
) where
    SnapshotReader<D>: Send,
{
    let mut feed = Feed::new(SNAPSHOT_BYTES_PER_SECOND, 0, Instant::now());
    while let Some(task) = next_of_snapshots(tasks, &mut feed) {
        let input = match task {
            SnapshotTask::Stage { id, offset, bytes } => {
                let written = offset + bytes.len() as u64;
                let outcome = snapshots.stage(id, offset, &bytes);
                Input::Staged {
                    id,
                    bytes: kept(outcome, "snapshot piece was not written", metrics)
                        .map(|()| written),
                }
            }
            SnapshotTask::Finish {
                id,
                mark,
                bytes,
                checksum,
            } => {
                let outcome = snapshots.stage_finish(id, &mark, bytes, checksum);
                let outcome = kept(outcome, "snapshot was not taken", metrics).map(|()| bytes);
                if outcome.is_some() {
                    metrics.snapshots.inc();
                    info!(index = mark.index.0, bytes, "snapshot is durable");
                }
                Input::Staged { id, bytes: outcome }
            }
            SnapshotTask::Abort { id } => {
                snapshots.stage_abort(id);
                continue;
            }
            SnapshotTask::Open(waiter) => {
                let opened = match snapshots.reader() {
                    Ok(Some(reader)) => Ok(OpenSnapshot::new(reader)),
                    Ok(None) => Err("there is no snapshot".into()),
                    Err(why) => Err(why),
                };
                let _ = waiter.send(opened);
                continue;
            }
            SnapshotTask::Discard(why) => {
                if let Some(what) = snapshots.discard(&why) {
                    tell_damaged(&what, metrics);
                }
                continue;
            }
            SnapshotTask::Read {
                index,
                offset,
                bytes_max,
            } => {
                let outcome = snapshots.snapshot_read(index, offset, bytes_max);
                let bytes = kept(outcome, "snapshot was not read", metrics);
                feed.served(Instant::now(), bytes.as_ref().map_or(0, Bytes::len));
                Input::SnapshotRead {
                    index,
                    offset,
                    bytes,
                }
            }
        };
        if inputs.send(input).is_err() {
            return;
        }
    }
}

/// Waits for a task; reads wait for their time. `None` when the member stops.
fn next_of_snapshots(
    tasks: &Receiver<SnapshotTask>,
    feed: &mut Feed<SnapshotTask>,
) -> Option<SnapshotTask> {
    loop {
        let now = Instant::now();
        if let Some(read) = feed.next(now) {
            return Some(read);
        }
        let task = match feed.due() {
            None => tasks.recv().ok()?,
            Some(due) => match tasks.recv_timeout(due - now) {
                Ok(task) => task,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return None,
            },
        };
        match task {
            read @ SnapshotTask::Read { .. } => feed.ask(read),
            other => return Some(other),
        }
    }
}

fn tell_damaged(what: &str, metrics: &Metrics) {
    metrics.damage_found.inc();
    metrics.files_quarantined.inc();
    error!(what, "snapshot is damaged, it is being replaced");
}

fn kept<T>(outcome: Result<T, StoreError>, failed: &'static str, metrics: &Metrics) -> Option<T> {
    match outcome {
        Ok(value) => Some(value),
        Err(StoreError::Full) => {
            warn!(reason = "the disk is full", "{failed}");
            None
        }
        Err(StoreError::Failed(reason)) => {
            warn!(%reason, "{failed}");
            None
        }
        Err(StoreError::Damaged(what)) => {
            tell_damaged(&what, metrics);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::memory_disk::Platter;
    use raft::MemberId;

    const MARK: u64 = 1 << 20;

    #[test]
    fn a_disk_that_others_fill_is_noticed_at_the_start_and_while_nothing_is_written() {
        let platter = Platter::new(1);
        platter.set_capacity(MARK);
        let settings = log::Settings {
            segment_bytes: 64 << 10,
            low_water_bytes: MARK,
        };
        let log = log::open(platter.start_process(), settings, MemberId(1))
            .expect("it opens")
            .log;
        let (inputs, mut told) = tokio::sync::mpsc::unbounded_channel();
        let mut thread = LogThread::new(log, inputs, Arc::default(), Arc::default());
        assert!(matches!(told.try_recv(), Ok(Input::DiskFull(true))));

        for (capacity, short) in [(MARK * 2, false), (MARK, true)] {
            platter.set_capacity(capacity);
            let (idle, tasks) = channel();
            let listener = std::thread::spawn(move || {
                let since = Instant::now();
                while told.is_empty() && since.elapsed() < 10 * SPACE_CHECK_INTERVAL {
                    std::thread::sleep(SPACE_CHECK_INTERVAL / 50);
                }
                drop(idle);
                told
            });
            assert!(thread.next(&tasks).is_none(), "nobody asked for anything");
            told = listener.join().expect("it does not panic");
            let heard = told.try_recv();
            assert!(matches!(heard, Ok(Input::DiskFull(is)) if is == short));
        }
    }
}
