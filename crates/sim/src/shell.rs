//! The shell of a member: one thin match over what its replica wants done, and the two threads that do the blocking part of it. The
//! simulated twin of the server's node loop.

use crate::director;
use crate::member::{LogTask, Process, SnapshotTask};
use crate::timeline::{self, What, words};
use crate::world::{Event, World};
use log::{ReadEntries, StoreError};
use replica::{Effect, Input};

/// Inputs taken in one turn at most, as in the server's loop.
const TURN_INPUTS_MAX: usize = 256;

/// Bytes of entries the log's thread writes before one sync.
const SYNC_BYTES_MAX: usize = 256 << 10;

impl World {
    /// Plans a turn of a member's loop, unless one is planned or the process is paused.
    pub(crate) fn plan_turn(&mut self, member: usize) {
        let machine = &mut self.members[member];
        let Some(process) = &mut machine.process else {
            return;
        };
        if machine.paused || process.turn_planned {
            return;
        }
        process.turn_planned = true;
        self.queue.plan(
            self.now.max(process.busy_until),
            Event::Turn {
                member,
                life: machine.life,
            },
        );
    }

    fn running(&mut self, member: usize, life: u64) -> Option<&mut Process> {
        let machine = &mut self.members[member];
        if machine.life == life {
            machine.process.as_mut()
        } else {
            None
        }
    }

    /// One turn: take what waits, work, do what is wanted.
    pub(crate) fn turn(&mut self, member: usize, life: u64) {
        let paused = self.members[member].paused;
        let now = self.members[member].clock.read(self.now);
        let Some(process) = self.running(member, life) else {
            return;
        };
        process.turn_planned = false;
        if paused {
            return;
        }
        for _ in 0..TURN_INPUTS_MAX.min(process.inbox.len()) {
            let input = process.inbox.pop_front().expect("its length was seen");
            process.replica.handle(now, input);
        }
        let more = process.replica.work(now) || !process.inbox.is_empty();
        let effects: Vec<Effect> = std::iter::from_fn(|| process.replica.poll()).collect();
        self.counts.turns += 1;
        self.observe(member, &effects);
        for effect in effects {
            if self.doomed(member) {
                return self.stop(member, None);
            }
            self.perform(member, effect);
            if self.running(member, life).is_none() {
                return;
            }
        }
        let spent = self.rng.between(10, 80);
        let end = self.now + spent;
        if let Some(process) = self.running(member, life) {
            process.busy_until = end;
            if more {
                self.plan_turn(member);
            }
        }
    }

    /// The process was to die before this effect.
    fn doomed(&mut self, member: usize) -> bool {
        let Some(process) = &mut self.members[member].process else {
            return false;
        };
        match &mut process.doomed_after {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }

    /// Shows the oracles what a turn did, before any of it leaves the member.
    fn observe(&mut self, member: usize, effects: &[Effect]) {
        for effect in effects {
            let check = match effect {
                Effect::Persist(persist) => self.consensus.on_persist(member, persist, self.now),
                Effect::RoleChanged { role, term, .. } => {
                    if *role == raft::Role::Leader {
                        self.leases.on_leader(self.now);
                    }
                    self.consensus.on_role(member, *role, *term)
                }
                Effect::Send {
                    to,
                    message: replica::Message::Raft(message),
                } => self.consensus.on_send(member, *to, message),
                _ => continue,
            };
            self.judge(check);
        }
        let Some(process) = &mut self.members[member].process else {
            return;
        };
        let status = process.replica.status();
        let (term, progress) = (status.raft.term, &status.raft.progress);
        if let Err((property, text)) = self.consensus.check_progress(member, term, progress) {
            return self.fail(property, text);
        }
        let position = (status.raft.commit.0, status.applied);
        if position == process.told {
            return;
        }
        if position.0 > process.told.0 {
            let commit = position.0;
            self.timeline
                .note_busy(self.now, member, || What::Commits { commit });
        }
        process.told = position;
        let hash = (status.applied > 0 && status.serving).then_some(status.state_hash);
        match self
            .consensus
            .on_progress(member, position.0, position.1, hash)
        {
            Ok(0) => {}
            Ok(joined) => self.decided(joined),
            Err((property, text)) => self.fail(property, text),
        }
    }

    /// The newest `joined` entries of the chain are to be understood.
    fn decided(&mut self, joined: usize) {
        let chain = self.consensus.chain();
        for decided in &chain[chain.len() - joined..] {
            let applied = match self
                .history
                .on_decided(&decided.entry.payload, decided.formed_at)
            {
                Ok(applied) => applied,
                Err((property, text)) => return self.fail(property, text),
            };
            for expiry in &applied.expired {
                if let Err((property, text)) = self.leases.on_expiry(expiry, decided.formed_at) {
                    return self.fail(property, text);
                }
            }
        }
    }

    /// Does one thing that a member wants done.
    fn perform(&mut self, member: usize, effect: Effect) {
        match effect {
            Effect::Persist(persist) => {
                self.trace.note(
                    self.now,
                    &self.members[member].lane,
                    &[1, persist.sequence, persist.entries.len() as u64],
                    || {
                        let (first, last) = (
                            persist.entries.first().map(|e| e.index.0),
                            persist.entries.last().map(|e| e.index.0),
                        );
                        format!(
                            "persists {}: vote {:?}, reset {}, entries {first:?} to {last:?}",
                            persist.sequence,
                            persist.vote,
                            persist.reset.is_some()
                        )
                    },
                );
                if let Some(mark) = &persist.reset {
                    self.counts.installs += 1;
                    let index = mark.index.0;
                    self.timeline
                        .note(self.now, Some(member), || What::Installs { index });
                }
                if mutated!(AcknowledgeBeforeSync) {
                    self.give(member, Input::Persisted(persist.sequence));
                }
                self.give_log(member, LogTask::Persist(persist));
            }
            Effect::Send { to, message } => self.send(member, to, message),
            Effect::Reply { ticket, outcome } => {
                let stamp = outcome.as_ref().map_or(0, |response| response.stamp.index);
                self.trace.note(
                    self.now,
                    &self.members[member].lane,
                    &[2, ticket.0, stamp],
                    || format!("answers request {}: {outcome:?}", ticket.0),
                );
                self.reply(member, ticket, outcome);
            }
            Effect::WatchResponses { stream, responses } => {
                self.trace.note(
                    self.now,
                    &self.members[member].lane,
                    &[3, stream.0, responses.len() as u64],
                    || format!("responds on stream {}: {responses:?}", stream.0),
                );
                self.watch_responses(stream, responses);
            }
            Effect::Fetch { from, bytes_max } => {
                self.give_log(member, LogTask::Fetch(from, bytes_max))
            }
            Effect::Release(upto) => self.give_log(member, LogTask::Release(upto)),
            Effect::Stage { id, offset, bytes } => {
                self.give_snapshots(member, SnapshotTask::Stage(id, offset, bytes))
            }
            Effect::StageFinish {
                id,
                mark,
                bytes,
                checksum,
            } => {
                self.give_snapshots(member, SnapshotTask::Finish(id, mark, bytes, checksum));
            }
            Effect::StageAbort { id } => self.give_snapshots(member, SnapshotTask::Abort(id)),
            Effect::ReadSnapshot {
                index,
                offset,
                bytes_max,
            } => self.give_snapshots(member, SnapshotTask::Read(index, offset, bytes_max)),
            Effect::RoleChanged { role, term, leader } => {
                self.trace.note(
                    self.now,
                    &self.members[member].lane,
                    &[4, role as u64, term.0],
                    || {
                        let leader = leader.and_then(|leader| {
                            self.members.iter().find(|machine| machine.id == leader)
                        });
                        format!(
                            "is {role:?} in term {term}, the leader is {}",
                            leader.map_or("unknown", |machine| &machine.lane)
                        )
                    },
                );
                let leader = leader.and_then(|leader| self.member_of(leader));
                if self.silenced(member) && role == raft::Role::PreCandidate {
                    return;
                }
                self.timeline.note(self.now, Some(member), || What::Role {
                    role,
                    term: term.0,
                    leader,
                });
            }
            Effect::ConfigurationChanged(configuration) => {
                let machines = &self.members;
                self.timeline.note(self.now, Some(member), || {
                    let place = |peer| machines.iter().position(|machine| machine.id == peer);
                    let name = |peer| place(peer).map_or("a stranger".into(), timeline::name);
                    What::Configuration(words::configuration(&configuration, name))
                });
            }
            Effect::StateDiffers(text) => self.fail("KV5", format!("n{}: {text}", member + 1)),
            Effect::DiscardSnapshot(why) => {
                if let Some(process) = &mut self.members[member].process {
                    process.snapshots.discard(&why);
                }
            }
            Effect::Reopen(why) => self.reopen(member, why),
            Effect::Halted(text) => self.fail("U1", format!("n{} halts: {text}", member + 1)),
            Effect::SetTimer(at) => self.set_timer(member, at),
        }
    }

    /// The process ends as in a crash and begins anew from its directory.
    fn reopen(&mut self, member: usize, why: String) {
        self.trace
            .note(self.now, &self.members[member].lane, &[10], || {
                format!("begins anew: {why}")
            });
        self.stop(member, None);
        self.queue.plan(self.now + 10_000, Event::Start(member));
    }

    fn set_timer(&mut self, member: usize, at: raft::Instant) {
        let machine = &mut self.members[member];
        let Some(process) = &mut machine.process else {
            return;
        };
        process.timer = Some(at);
        process.timer_generation += 1;
        let event = Event::Timer {
            member,
            life: machine.life,
            generation: process.timer_generation,
        };
        self.queue.plan(machine.clock.when(at, self.now), event);
    }

    pub(crate) fn timer(&mut self, member: usize, life: u64, generation: u64) {
        let machine = &mut self.members[member];
        let Some(process) = machine
            .process
            .as_mut()
            .filter(|process| machine.life == life && process.timer_generation == generation)
        else {
            return;
        };
        let Some(at) = process.timer else { return };
        // The clock's drift may have changed since.
        if machine.clock.read(self.now).monotonic < at {
            return self.queue.plan(
                machine.clock.when(at, self.now),
                Event::Timer {
                    member,
                    life,
                    generation,
                },
            );
        }
        process.timer = None;
        self.give(member, Input::TimerFired);
    }

    // The log's thread.

    fn give_log(&mut self, member: usize, task: LogTask) {
        if let Some(process) = &mut self.members[member].process {
            process.log_tasks.push_back(task);
            self.start_log(member);
        }
    }

    fn start_log(&mut self, member: usize) {
        let takes = self.disk_latency();
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

    /// A director keeps this member from asking for votes.
    fn silenced(&self, member: usize) -> bool {
        self.director
            .as_ref()
            .is_some_and(|director| director.is_still(member))
    }

    /// How long a disk takes to write and sync: mostly as this world's disks do, sometimes much longer.
    fn disk_latency(&mut self) -> u64 {
        if self.director.is_some() {
            return director::SYNC;
        }
        if self.rng.chance(5) {
            self.rng.between(5_000, 40_000)
        } else {
            self.rng.between(self.disk_speed, self.disk_speed * 4)
        }
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

    fn give_snapshots(&mut self, member: usize, task: SnapshotTask) {
        if let Some(process) = &mut self.members[member].process {
            process.snapshot_tasks.push_back(task);
            self.start_snapshots(member);
        }
    }

    fn start_snapshots(&mut self, member: usize) {
        let takes = self.disk_latency();
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
