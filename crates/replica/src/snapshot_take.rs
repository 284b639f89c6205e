//! Taking a snapshot of the own state while it goes on changing: piece by piece, with few pieces under way, so that the disk of the log is not flooded.

use crate::effect::{Body, Effect, Failure};
use crate::input::Ticket;
use crate::replica::Replica;
use crate::snapshot::{PIECE_BYTES, SnapshotFile};
use raft::{Index, Instant, SnapshotMark};
use state::{SnapshotCursor, SnapshotHeader};
use std::time::Duration;

/// Pieces given to the shell and not yet written, at most.
const UNDER_WAY_MAX: u32 = 2;
/// After a failed attempt the next waits for so long.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// The same for one that a follower, or a damaged log, waits for.
const RETRY_WANTED_AFTER: Duration = Duration::from_secs(2);
/// On a full disk the log is cut when it has this part of what is usual.
const FULL_DISK_DIVISOR: u64 = 8;
/// Who may wait for a snapshot at the same time.
const ASKED_MAX: usize = 64;
/// Version of the snapshot header.
const HEADER_FORMAT: u32 = 1;

/// A snapshot being written.
pub(crate) struct Taking {
    id: u64,
    mark: SnapshotMark,
    /// `None` once all pieces are out.
    cursor: Option<SnapshotCursor>,
    offset: u64,
    checksum: u32,
    under_way: u32,
    finishing: bool,
}

impl Taking {
    /// It waits for its last step and can no longer be stopped.
    pub(crate) fn is_finishing(&self) -> bool {
        self.finishing
    }
}

impl Replica {
    /// Begins a snapshot when it is time, and brings one under way forward by a piece; `true` if there is more to do now.
    pub(crate) fn take_snapshot(&mut self, now: Instant) -> bool {
        if self.snapshots.taking.is_none() {
            if !self.snapshot_is_due(now) {
                return false;
            }
            self.begin_snapshot();
        }
        let Some(taking) = &mut self.snapshots.taking else {
            return false;
        };
        if taking.finishing || taking.under_way >= UNDER_WAY_MAX {
            return false;
        }
        if let Some(cursor) = &mut taking.cursor {
            if let Some(bytes) = self.state.snapshot_step(cursor, PIECE_BYTES) {
                let offset = taking.offset;
                taking.offset += bytes.len() as u64;
                taking.checksum = crc32c::crc32c_append(taking.checksum, &bytes);
                taking.under_way += 1;
                let id = taking.id;
                self.effects.push_back(Effect::Stage { id, offset, bytes });
                return taking.under_way < UNDER_WAY_MAX;
            }
            if let Some(cursor) = taking.cursor.take() {
                self.state.snapshot_cancel(cursor);
            }
        }
        if taking.under_way == 0 {
            taking.finishing = true;
            let effect = Effect::StageFinish {
                id: taking.id,
                mark: taking.mark.clone(),
                bytes: taking.offset,
                checksum: taking.checksum,
            };
            self.effects.push_back(effect);
        }
        false
    }

    /// Sees to it that there is a snapshot of all that is applied.
    pub(crate) fn ask_checkpoint(&mut self, ticket: Ticket) {
        if !self.serving {
            return self.reply(ticket, Err(Failure::NoLeader));
        }
        if self.snapshots.asked.len() >= ASKED_MAX {
            let refusal = Failure::Overloaded {
                queue: "checkpoints",
                limit: ASKED_MAX,
            };
            return self.reply(ticket, Err(refusal));
        }
        self.snapshots.asked.push((ticket, self.state.applied()));
        self.answer_checkpoints();
    }

    fn answer_checkpoints(&mut self) {
        let Some(newest) = &self.snapshots.newest else {
            return;
        };
        let index = newest.mark.index;
        let (answered, waiting) = std::mem::take(&mut self.snapshots.asked)
            .into_iter()
            .partition(|(_, asked)| *asked <= index.0);
        self.snapshots.asked = waiting;
        let answered: Vec<_> = answered;
        for (ticket, _) in answered {
            let response = self.response(Body::Checkpoint(index), self.state.revision(), index.0);
            self.reply(ticket, Ok(response));
        }
    }

    fn snapshot_is_due(&self, now: Instant) -> bool {
        let snapshots = &self.snapshots;
        let idle = self.serving
            && !snapshots.is_loading()
            && snapshots.receiving.is_none()
            && self.applying.is_between_batches();
        let allowed = self.snapshot_retry_at().is_none_or(|at| at <= now);
        let newest = snapshots
            .newest
            .as_ref()
            .map_or(Index(0), |file| file.mark.index);
        let applied = Index(self.state.applied());
        let large = snapshots.log_bytes > self.snapshot_after() || self.space_is_worth_a_snapshot();
        // One that somebody asked for is to hold every record, so that it can be told in other formats.
        let asked = !snapshots.asked.is_empty() && self.state.complete() == self.state.revision();
        let damaged = self.repair.snapshot_needed();
        let heals = damaged > newest && applied >= damaged;
        let useful = applied > newest && self.leads_past_damage(applied);
        idle && allowed && useful && (large || asked || snapshots.wanted || heals)
    }

    /// When one that could not be written may be tried again.
    pub(crate) fn snapshot_retry_at(&self) -> Option<Instant> {
        let is_waited_for = self.snapshots.wanted || self.repair.snapshot_needed() > Index(0);
        let pause = if is_waited_for {
            RETRY_WANTED_AFTER
        } else {
            RETRY_AFTER
        };
        self.snapshots.failed_at.map(|at| at + pause)
    }

    /// On a full disk a snapshot is taken early: what deletes and compaction freed in the state is freed on the disk only when the log goes.
    fn space_is_worth_a_snapshot(&self) -> bool {
        let newest = self.snapshots.newest.as_ref().map_or(0, |file| file.bytes);
        let least = newest.max(self.limits.snapshot_log_bytes) / FULL_DISK_DIVISOR;
        self.space.is_short() && self.snapshots.log_bytes > least
    }

    /// Bytes of log after which the next snapshot is taken: as many as the state has, so that no more is written for snapshots than for the log. While the
    /// state grows, the log since the last snapshot never catches up with it; then twice the last snapshot is enough.
    fn snapshot_after(&self) -> u64 {
        let newest = self.snapshots.newest.as_ref().map_or(0, |file| file.bytes);
        self.state
            .bytes()
            .min(newest.saturating_mul(2))
            .max(self.limits.snapshot_log_bytes)
    }

    fn begin_snapshot(&mut self) {
        let applied = Index(self.state.applied());
        let mark = SnapshotMark {
            index: mutated!(SnapshotIndexBehind, applied.prev(), applied),
            term: mutated!(
                SnapshotNamesPresentTerm,
                self.raft.term(),
                self.applying.term
            ),
            configuration: mutated!(
                SnapshotNamesNewestMembers,
                self.configuration.clone(),
                self.applying.configuration.clone()
            ),
        };
        let header = SnapshotHeader {
            format: HEADER_FORMAT,
            cluster: self.cluster,
            cell: self.cell,
            index: applied.0,
            term: mark.term.0,
            configuration: mark.configuration.encode(),
            clock_ms: self.state.clock_ms(),
            ordinal: 0,
            hash: self.state.hash(),
            wall_ms: self.state.wall_ms(),
        };
        let id = self.snapshots.next_stage();
        let cursor = Some(self.state.snapshot_begin(header));
        self.snapshots.taking = Some(Taking {
            id,
            mark,
            cursor,
            offset: 0,
            checksum: 0,
            under_way: 0,
            finishing: false,
        });
    }

    /// The shell wrote a piece of the own snapshot, or finished it, or failed. `false` if the staging file is not the own one's.
    pub(crate) fn on_taking_staged(&mut self, now: Instant, id: u64, written: Option<u64>) -> bool {
        let Some(taking) = self
            .snapshots
            .taking
            .as_mut()
            .filter(|taking| taking.id == id)
        else {
            return false;
        };
        if written.is_none() {
            self.abandon_snapshot(false);
            self.snapshots.failed_at = Some(now);
            self.leave_feeding_to_others(now);
        } else if taking.finishing {
            let taking = self.snapshots.taking.take().expect("it is being taken");
            self.snapshots.wanted = false;
            self.snapshots.log_bytes = 0;
            self.snapshot_is_durable(SnapshotFile {
                mark: taking.mark,
                bytes: taking.offset,
                checksum: taking.checksum,
            });
        } else {
            taking.under_way -= 1;
        }
        true
    }

    /// A leader that cannot write the snapshot that others wait for cannot bring them up to date: whoever can is to lead. Without anybody it stays.
    fn leave_feeding_to_others(&mut self, now: Instant) {
        let newest = self.snapshots.newest.as_ref();
        let newest = newest.map_or(Index(0), |file| file.mark.index);
        if self.snapshots.wanted || self.repair.snapshot_needed() > newest {
            let _ = self.raft.transfer(now, None);
        }
    }

    /// Gives up the snapshot being taken.
    pub(crate) fn abandon_snapshot(&mut self, tell_shell: bool) {
        if let Some(taking) = self.snapshots.taking.take() {
            if let Some(cursor) = taking.cursor {
                self.state.snapshot_cancel(cursor);
            }
            if tell_shell {
                self.effects.push_back(Effect::StageAbort { id: taking.id });
            }
        }
    }

    /// The log up to a new durable snapshot may go, but for what followers a little behind may still ask for.
    pub(crate) fn snapshot_is_durable(&mut self, file: SnapshotFile) {
        let kept = if self.repair.snapshot_taken(file.mark.index) || self.space.is_short() {
            0
        } else {
            self.limits.snapshot_keep_entries
        };
        let keep_from = Index((file.mark.index.0 + 1).saturating_sub(kept));
        self.raft.compact(file.mark.clone(), keep_from);
        if keep_from.prev().0 > 0 {
            self.effects.push_back(Effect::Release(keep_from.prev()));
        }
        self.snapshots.newest = Some(file);
        self.answer_checkpoints();
    }
}
