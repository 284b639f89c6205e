//! The two threads of a member that do the blocking part of its work: one for its log, one for its snapshots.

use super::*;
use crate::director;
use crate::member::SnapshotTask;
use log::{ReadEntries, StoreError};

/// Bytes of entries the log's thread writes before one sync.
const SYNC_BYTES_MAX: usize = 256 << 10;

impl World {
    // The log's thread.

    pub(super) fn give_log(&mut self, member: usize, task: LogTask) {
        if let Some(process) = &mut self.members[member].process {
            process.log_tasks.push_back(task);
            self.start_log(member);
        }
    }

    fn start_log(&mut self, member: usize) {
        let takes = self.disk_latency(member);
        let machine = &mut self.members[member];
        let Some(process) = machine
            .process
            .as_mut()
            .filter(|process| !process.log_busy && !process.log_tasks.is_empty())
        else {
            return;
        };
        process.log_busy = true;
        self.queue.plan(
            self.now + takes,
            Event::LogDone {
                member,
                life: machine.life,
            },
        );
    }

    /// How long a disk takes to write and sync: mostly as this world's disks do, sometimes much longer.
    fn disk_latency(&mut self, member: usize) -> u64 {
        if self.director.is_some() {
            return director::SYNC;
        }
        let usual = if self.rng.chance(5) {
            self.rng.between(5_000, 40_000)
        } else {
            self.rng.between(self.disk_speed, self.disk_speed * 4)
        };
        let machine = &self.members[member];
        machine.stalled_until.saturating_sub(self.now) + usual * machine.slow
    }

    /// The log's thread did what was queued: appends, one sync for all of them, reads and releases in their order.
    pub(crate) fn log_done(&mut self, member: usize, life: u64) {
        if self.members[member].paused {
            return;
        }
        let Some(process) = self.running(member, life) else {
            return;
        };
        process.log_busy = false;
        let mut bytes = 0;
        let mut appended = 0;
        let mut newest = None;
        while let Some(LogTask::Persist(persist)) = process.log_tasks.front() {
            if bytes > SYNC_BYTES_MAX {
                break;
            }
            bytes += persist.entries.iter().map(entry_bytes).sum::<usize>();
            process.log.append(persist);
            newest = Some(persist.sequence);
            appended += 1;
            process.log_tasks.pop_front();
        }
        if let Some(newest) = newest {
            return self.sync_log(member, life, newest, appended);
        }
        let mut answers = Vec::new();
        match process.log_tasks.pop_front() {
            Some(LogTask::Fetch(from, bytes_max)) => match process.log.read(from, bytes_max) {
                ReadEntries::Entries(entries) => answers.push(Input::Fetched { from, entries }),
                ReadEntries::Absent => answers.push(Input::Fetched {
                    from,
                    entries: Vec::new(),
                }),
                ReadEntries::Damaged(found) if self.members[member].platter.was_damaged() => {
                    answers.push(Input::Unreadable {
                        from,
                        through: found.through,
                    });
                }
                ReadEntries::Damaged(found) => {
                    return self.fail(
                        "R1",
                        format!("n{} finds a sound record damaged: {found:?}", member + 1),
                    );
                }
            },
            Some(LogTask::Release(upto)) => process.log.release(upto),
            _ => {}
        }
        if self.take_down_if_burned(member) {
            return;
        }
        answers
            .into_iter()
            .for_each(|input| self.give(member, input));
        self.start_log(member);
    }

    fn sync_log(&mut self, member: usize, life: u64, newest: u64, appended: usize) {
        let Some(process) = self.running(member, life) else {
            return;
        };
        let synced = mutated!(SkipSync, Ok(()), process.log.sync());
        let log_bytes = process.log.log_bytes();
        let low = process.log.low_on_space();
        process.appended_unsynced += appended;
        process.log_fails = synced.is_err();
        if self.take_down_if_burned(member) {
            return;
        }
        match synced {
            Ok(()) => {
                let process = self.running(member, life).expect("it was not taken down");
                let count = std::mem::take(&mut process.appended_unsynced);
                self.consensus.on_durable(member, count);
                self.trace
                    .note(self.now, &self.members[member].lane, &[6, newest], || {
                        format!("has made {newest} durable")
                    });
                self.timeline
                    .note_busy(self.now, member, || What::Durable { sequence: newest });
                if !mutated!(AcknowledgeBeforeSync) {
                    self.give(member, Input::Persisted(newest));
                }
                self.give(member, Input::LogBytes(log_bytes));
                self.tell_full(member, low);
                self.start_log(member);
            }
            Err(error) => {
                self.trace
                    .note(self.now, &self.members[member].lane, &[7, newest], || {
                        format!("cannot make {newest} durable: {error:?}")
                    });
                self.tell_full(member, matches!(error, StoreError::Full));
                // What was appended is still queued inside the log; an empty round tries again.
                let process = self.running(member, life).expect("it was not taken down");
                process.log_busy = true;
                self.queue.plan(
                    self.now + 100_000,
                    Event::LogRetry {
                        member,
                        life,
                        newest,
                    },
                );
            }
        }
    }

    /// Tells the replica when its disk becomes full, or has room again.
    fn tell_full(&mut self, member: usize, full: bool) {
        let Some(process) = &mut self.members[member].process else {
            return;
        };
        if std::mem::replace(&mut process.told_full, full) != full {
            self.trace.note(
                self.now,
                &self.members[member].lane,
                &[9, u64::from(full)],
                || format!("is told that its disk is full: {full}"),
            );
            self.give(member, Input::DiskFull(full));
        }
    }

    /// Tries again to sync what is queued inside the log.
    pub(crate) fn log_retry(&mut self, member: usize, life: u64, newest: u64) {
        if let Some(process) = self.running(member, life) {
            process.log_busy = false;
            self.sync_log(member, life, newest, 0);
        }
    }

    /// A process whose fuse burned in the middle of its disk operations dies there.
    fn take_down_if_burned(&mut self, member: usize) -> bool {
        let burned = self.members[member].platter.burned();
        if burned {
            let survival = self.members[member].platter.fuse_survival();
            self.stop(member, survival);
        }
        burned
    }

    // The snapshots' thread.

    pub(super) fn give_snapshots(&mut self, member: usize, task: SnapshotTask) {
        if let Some(process) = &mut self.members[member].process {
            process.snapshot_tasks.push_back(task);
            self.start_snapshots(member);
        }
    }

    fn start_snapshots(&mut self, member: usize) {
        let takes = self.disk_latency(member);
        let machine = &mut self.members[member];
        let Some(process) = machine
            .process
            .as_mut()
            .filter(|process| !process.snapshot_busy && !process.snapshot_tasks.is_empty())
        else {
            return;
        };
        process.snapshot_busy = true;
        self.queue.plan(
            self.now + takes,
            Event::SnapshotDone {
                member,
                life: machine.life,
            },
        );
    }

    pub(crate) fn snapshot_done(&mut self, member: usize, life: u64) {
        if self.members[member].paused {
            return;
        }
        let Some(process) = self.running(member, life) else {
            return;
        };
        process.snapshot_busy = false;
        let snapshots = &mut process.snapshots;
        let mut finished = None;
        let answer = match process.snapshot_tasks.pop_front() {
            Some(SnapshotTask::Stage(id, offset, bytes)) => {
                let staged = snapshots
                    .stage(id, offset, &bytes)
                    .is_ok()
                    .then_some(offset + bytes.len() as u64);
                Some(Input::Staged { id, bytes: staged })
            }
            Some(SnapshotTask::Finish(id, mark, bytes, checksum)) => {
                let staged = snapshots
                    .stage_finish(id, &mark, bytes, checksum)
                    .is_ok()
                    .then_some(bytes);
                finished = staged.map(|_| mark.index);
                Some(Input::Staged { id, bytes: staged })
            }
            Some(SnapshotTask::Abort(id)) => {
                snapshots.stage_abort(id);
                None
            }
            Some(SnapshotTask::Read(index, offset, bytes_max)) => {
                let bytes = snapshots.snapshot_read(index, offset, bytes_max).ok();
                Some(Input::SnapshotRead {
                    index,
                    offset,
                    bytes,
                })
            }
            None => None,
        };
        if self.take_down_if_burned(member) {
            return;
        }
        if let Some(index) = finished {
            self.counts.snapshots += 1;
            self.trace
                .note(self.now, &self.members[member].lane, &[8, index.0], || {
                    format!("has a durable snapshot of index {index}")
                });
            self.timeline
                .note(self.now, Some(member), || What::Snapshot { index: index.0 });
        }
        if let Some(input) = answer {
            self.give(member, input);
        }
        self.start_snapshots(member);
    }

    /// A process goes on after a pause: everything that waited happens now.
    pub(crate) fn wake_threads(&mut self, member: usize) {
        let machine = &mut self.members[member];
        let Some(process) = &mut machine.process else {
            return;
        };
        let life = machine.life;
        if process.log_busy {
            self.queue.plan(self.now, Event::LogDone { member, life });
        }
        if process.snapshot_busy {
            self.queue
                .plan(self.now, Event::SnapshotDone { member, life });
        }
        self.plan_turn(member);
    }
}

fn entry_bytes(entry: &raft::Entry) -> usize {
    match &entry.payload {
        raft::Payload::Batch(bytes) => bytes.len() + 32,
        _ => 64,
    }
}
