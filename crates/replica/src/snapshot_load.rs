//! Loading a durable snapshot into the state, in slices: at the start, and when the leader's snapshot replaces the state.
//!
//! Commands sent before may be in the snapshot, which does not tell their replies: they end as unknown when the load begins. Until the new state is whole,
//! the old one stays and serves what may be stale. Then it is swapped: queries under way end, and watches go on from their cursors in the history the
//! snapshot brought.

use crate::effect::{Effect, Failure};
use crate::replica::Replica;
use crate::snapshot::{PIECE_BYTES, SnapshotFile};
use bytes::Bytes;
use raft::{Index, Instant, SnapshotMark};
use state::{Loader, SnapshotError};
use std::collections::VecDeque;

/// Bytes loaded in one turn: under a millisecond of work.
const TURN_BYTES: usize = 64 << 10;

/// A snapshot on its way into the state.
pub(crate) struct Loading {
    mark: SnapshotMark,
    loader: Loader,
    /// Read from the disk so far.
    read: u64,
    checksum: u32,
    pieces: VecDeque<Bytes>,
    reading: bool,
    ended: bool,
}

impl Loading {
    pub(crate) fn mark(&self) -> &SnapshotMark {
        &self.mark
    }
}

impl Replica {
    /// Begins to load the durable snapshot at `mark`; a load under way is given up for it.
    pub(crate) fn begin_loading(&mut self, mark: SnapshotMark) {
        self.applying.reset();
        self.sent_proposals_unknown(mark.index);
        self.fail_changes(&Failure::Unknown);
        let index = mark.index;
        let loader = Loader::new(self.state_settings.clone());
        self.snapshots.loading = Some(Loading {
            mark,
            loader,
            read: 0,
            checksum: 0,
            pieces: VecDeque::new(),
            reading: true,
            ended: false,
        });
        self.effects.push_back(Effect::ReadSnapshot {
            index,
            offset: 0,
            bytes_max: PIECE_BYTES,
        });
    }

    /// A piece of a snapshot was read: the load takes it if it waits for it.
    pub(crate) fn on_load_read(
        &mut self,
        now: Instant,
        index: Index,
        offset: u64,
        bytes: Option<&Bytes>,
    ) {
        let waits = |loading: &&mut Loading| {
            loading.reading && loading.mark.index == index && loading.read == offset
        };
        let Some(loading) = self.snapshots.loading.as_mut().filter(waits) else {
            return;
        };
        loading.reading = false;
        let Some(bytes) = bytes else {
            return self.reopen(now, format!("the snapshot at index {index} cannot be read"));
        };
        loading.ended = bytes.is_empty();
        loading.read += bytes.len() as u64;
        loading.checksum = crc32c::crc32c_append(loading.checksum, bytes);
        loading.pieces.push_back(bytes.clone());
        self.read_ahead();
    }

    /// Has the next piece read while the present one is loaded.
    fn read_ahead(&mut self) {
        let Some(loading) = &mut self.snapshots.loading else {
            return;
        };
        if !loading.reading && !loading.ended && loading.pieces.len() < 2 {
            loading.reading = true;
            let effect = Effect::ReadSnapshot {
                index: loading.mark.index,
                offset: loading.read,
                bytes_max: PIECE_BYTES,
            };
            self.effects.push_back(effect);
        }
    }

    /// Loads a slice; `true` while more is at hand.
    pub(crate) fn load_slice(&mut self, now: Instant) -> bool {
        if self.repair.is_reopening() {
            return false;
        }
        let Some(loading) = &mut self.snapshots.loading else {
            return false;
        };
        if let Some(piece) = loading.pieces.front_mut() {
            let slice = piece.split_to(piece.len().min(TURN_BYTES));
            if piece.is_empty() {
                loading.pieces.pop_front();
            }
            if let Err(error) = loading.loader.feed(&slice) {
                let index = loading.mark.index;
                self.on_unloadable(now, index, &error);
                return false;
            }
            self.read_ahead();
        }
        let Some(loading) = &self.snapshots.loading else {
            return false;
        };
        if loading.pieces.is_empty() && loading.ended {
            self.finish_loading(now);
            return true;
        }
        !loading.pieces.is_empty()
    }

    fn finish_loading(&mut self, now: Instant) {
        let Some(Loading {
            mark,
            loader,
            read,
            checksum,
            ..
        }) = self.snapshots.loading.take()
        else {
            return;
        };
        let (state, header) = match loader.finish() {
            Ok(loaded) => loaded,
            Err(error) => return self.on_unloadable(now, mark.index, &error),
        };
        if (header.cluster, header.cell) != (self.cluster, self.cell)
            || header.index != mark.index.0
        {
            let text = format!(
                "it is of cluster {:x}, cell {}, index {}",
                header.cluster, header.cell, header.index
            );
            return self.on_unloadable(now, mark.index, &SnapshotError::Corrupt(text));
        }
        assert!(
            state.applied() == mark.index.0,
            "the snapshot at {} gave a state at {}",
            mark.index,
            state.applied()
        );
        self.abandon_snapshot(true);
        self.drop_running_queries();
        self.state = state;
        self.applying.reset();
        self.applying.term = mark.term;
        self.applying.configuration = mark.configuration.clone();
        self.note_departure();
        self.snapshots.newest = Some(SnapshotFile {
            mark,
            bytes: read,
            checksum,
        });
        self.repair.state_replaced();
        self.forget_hashes();
        self.hub.restored(&self.state);
        self.reads_restored();
        self.waits_restored();
        self.effects.push_back(Effect::StateReplaced);
        self.serving = true;
    }

    /// A snapshot that makes no state is set aside, and the member begins anew without it; a newer one than this binary knows is left alone.
    fn on_unloadable(&mut self, now: Instant, index: Index, error: &SnapshotError) {
        match error {
            SnapshotError::Corrupt(text) => {
                self.effects
                    .push_back(Effect::DiscardSnapshot(text.clone()));
                self.reopen(now, format!("the snapshot at index {index} is damaged: {text}"));
            }
            SnapshotError::NewerFormat { format, known } => self.halt(format!(
                "the snapshot at index {index} has format {format}, this binary knows {known}: update this member; it lost nothing"
            )),
        }
    }
}
