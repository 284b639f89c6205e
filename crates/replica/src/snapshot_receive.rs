//! Receiving a snapshot from the leader: pieces are staged in order and acknowledged; the whole is acknowledged once it is complete, verified and durable.

use crate::effect::Effect;
use crate::message::Message;
use crate::replica::Replica;
use crate::snapshot::SnapshotFile;
use bytes::Bytes;
use raft::{Instant, PeerId};
use std::time::Duration;

/// A transfer of which nothing is heard for so long makes room for the own snapshots.
const STALE_AFTER: Duration = Duration::from_secs(60);
/// After so long it gives way to an older snapshot: its sender no longer leads, or it would have tried again twice.
const GIVES_WAY_AFTER: Duration = Duration::from_secs(2);

/// A snapshot on its way here.
pub(crate) struct Receiving {
    from: PeerId,
    id: u64,
    file: SnapshotFile,
    /// Given to the shell to write.
    staged: u64,
    /// Written by it.
    written: u64,
    finishing: bool,
    heard_at: Instant,
}

impl Receiving {
    /// When it is given up.
    pub(crate) fn due_at(&self) -> Instant {
        self.heard_at + STALE_AFTER
    }
}

impl Replica {
    /// Takes a piece.
    pub(crate) fn on_snapshot_chunk(
        &mut self,
        now: Instant,
        from: PeerId,
        file: SnapshotFile,
        offset: u64,
        bytes: Bytes,
    ) {
        let index = file.mark.index.0;
        let loading = self
            .snapshots
            .loading
            .as_ref()
            .is_some_and(|loading| loading.mark().index >= file.mark.index);
        let condemned = self.repair.wants_snapshot(file.mark.index);
        if condemned == Some(false) {
            return;
        }
        if (index <= self.state.applied() && condemned.is_none()) || loading {
            // It is here already.
            return self.send(
                from,
                Message::SnapshotAck {
                    index,
                    offset: file.bytes,
                },
            );
        }
        if self
            .snapshots
            .receiving
            .as_ref()
            .is_none_or(|receiving| receiving.file != file)
        {
            let has_room = self.snapshots.receiving.as_ref().is_none_or(|receiving| {
                let is_newer = receiving.file.mark.index <= file.mark.index;
                let is_silent = now.since(receiving.heard_at) >= GIVES_WAY_AFTER;
                !receiving.finishing && (is_newer || is_silent)
            });
            if !has_room {
                return;
            }
            if offset > 0 {
                // The beginning was sent to an earlier process, or lost.
                return self.send(from, Message::SnapshotAck { index, offset: 0 });
            }
            self.begin_receiving(now, from, file);
        }
        let Some(receiving) = &mut self.snapshots.receiving else {
            return;
        };
        if receiving.finishing {
            return;
        }
        receiving.from = from;
        receiving.heard_at = now;
        if offset != receiving.staged || bytes.is_empty() {
            let offset = receiving.staged;
            return self.send(from, Message::SnapshotAck { index, offset });
        }
        receiving.staged += bytes.len() as u64;
        let id = receiving.id;
        self.effects.push_back(Effect::Stage { id, offset, bytes });
    }

    fn begin_receiving(&mut self, now: Instant, from: PeerId, file: SnapshotFile) {
        self.abandon_receiving();
        // The own snapshot would only be older.
        if self
            .snapshots
            .taking
            .as_ref()
            .is_some_and(|taking| !taking.is_finishing())
        {
            self.abandon_snapshot(true);
        }
        let id = self.snapshots.next_stage();
        self.snapshots.receiving = Some(Receiving {
            from,
            id,
            file,
            staged: 0,
            written: 0,
            finishing: false,
            heard_at: now,
        });
    }

    fn abandon_receiving(&mut self) {
        if let Some(receiving) = self.snapshots.receiving.take() {
            self.effects
                .push_back(Effect::StageAbort { id: receiving.id });
        }
    }

    /// The shell wrote a piece, or finished the whole, or failed.
    pub(crate) fn on_receiving_staged(&mut self, now: Instant, id: u64, written: Option<u64>) {
        let Some(receiving) = self
            .snapshots
            .receiving
            .as_mut()
            .filter(|receiving| receiving.id == id)
        else {
            return;
        };
        let (from, index) = (receiving.from, receiving.file.mark.index.0);
        let Some(written) = written else {
            // The file is gone; the sender begins anew.
            self.snapshots.receiving = None;
            return self.send(from, Message::SnapshotAck { index, offset: 0 });
        };
        if receiving.finishing {
            let file = self
                .snapshots
                .receiving
                .take()
                .expect("it is being received")
                .file;
            self.send(
                from,
                Message::SnapshotAck {
                    index,
                    offset: file.bytes,
                },
            );
            let mark = file.mark.clone();
            self.snapshots.newest = Some(file);
            return self.raft.handle(now, raft::Input::SnapshotStaged(mark));
        }
        receiving.written = receiving.written.max(written);
        if receiving.written == receiving.file.bytes {
            receiving.finishing = true;
            let SnapshotFile {
                mark,
                bytes,
                checksum,
            } = receiving.file.clone();
            self.effects.push_back(Effect::StageFinish {
                id,
                mark,
                bytes,
                checksum,
            });
        } else {
            let offset = receiving.written;
            self.send(from, Message::SnapshotAck { index, offset });
        }
    }

    /// Gives up a transfer of which nothing is heard.
    pub(crate) fn tend_receiving(&mut self, now: Instant) {
        if self
            .snapshots
            .receiving
            .as_ref()
            .is_some_and(|receiving| !receiving.finishing && receiving.due_at() <= now)
        {
            self.abandon_receiving();
        }
    }
}
