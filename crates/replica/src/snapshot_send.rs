//! Sending the newest snapshot to a follower whose entries the log no longer has. The receiver's acknowledgements say where to go on, so a transfer
//! resumes after a lost connection or a restart of the receiver.

use crate::effect::Effect;
use crate::message::Message;
use crate::replica::Replica;
use crate::snapshot::{PIECE_BYTES, SnapshotFile};
use bytes::Bytes;
use raft::{Index, Instant, PeerId};
use std::time::Duration;

/// Pieces sent and not acknowledged at most. Few: a transfer must not crowd out the log's own traffic.
const UNDER_WAY_MAX: u64 = 2;
/// Without an acknowledgement for so long, goes on from the last acknowledged place.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Without one for so long, gives up; consensus may begin anew.
const GIVE_UP_AFTER: Duration = Duration::from_secs(30);

/// A transfer to one follower.
pub(crate) struct Sending {
    file: SnapshotFile,
    /// Everything before this is with the receiver.
    acknowledged: u64,
    /// Everything before this was sent.
    sent: u64,
    /// A piece is being read.
    reading: bool,
    /// Pieces that may be under way: one after a loss, until it arrives.
    window: u64,
    retry_at: Instant,
    give_up_at: Instant,
}

impl Sending {
    fn new(file: SnapshotFile, now: Instant) -> Sending {
        Sending {
            file,
            acknowledged: 0,
            sent: 0,
            reading: false,
            window: UNDER_WAY_MAX,
            retry_at: now + RETRY_AFTER,
            give_up_at: now + GIVE_UP_AFTER,
        }
    }

    /// When it must be looked at.
    pub(crate) fn due_at(&self) -> Instant {
        self.retry_at
    }
}

impl Replica {
    /// Consensus wants a follower to get the newest snapshot.
    pub(crate) fn on_send_snapshot(&mut self, now: Instant, to: PeerId) {
        if self.snapshots.sending.contains_key(&to) {
            return;
        }
        let useful = |file: &SnapshotFile| self.leads_past_damage(file.mark.index);
        match self.snapshots.newest.as_ref().filter(|file| useful(file)) {
            Some(_) => self.send_snapshot(now, to),
            None => {
                self.snapshots.wanted = true;
                self.raft
                    .handle(now, raft::Input::SnapshotSent { to, index: None });
            }
        }
    }

    /// Begins to send the newest snapshot, unless one is under way there.
    pub(crate) fn send_snapshot(&mut self, now: Instant, to: PeerId) {
        if let Some(file) = self.snapshots.newest.clone()
            && !self.snapshots.sending.contains_key(&to)
        {
            self.snapshots.sending.insert(to, Sending::new(file, now));
            self.read_piece(to);
        }
    }

    /// Reads the next piece for a follower, if it may have more under way.
    fn read_piece(&mut self, to: PeerId) {
        let Some(sending) = self.snapshots.sending.get_mut(&to) else {
            return;
        };
        let room = sending.sent < sending.acknowledged + sending.window * PIECE_BYTES as u64;
        if !sending.reading && room && sending.sent < sending.file.bytes {
            sending.reading = true;
            let effect = Effect::ReadSnapshot {
                index: sending.file.mark.index,
                offset: sending.sent,
                bytes_max: PIECE_BYTES,
            };
            self.effects.push_back(effect);
        }
    }

    /// A piece of a snapshot was read: sends it to those who wait for it.
    pub(crate) fn on_piece_read(
        &mut self,
        now: Instant,
        index: Index,
        offset: u64,
        bytes: Option<&Bytes>,
    ) {
        let waits = |sending: &Sending| {
            sending.reading && sending.file.mark.index == index && sending.sent == offset
        };
        let waiting: Vec<PeerId> = self
            .snapshots
            .sending
            .iter()
            .filter(|(_, sending)| waits(sending))
            .map(|(&to, _)| to)
            .collect();
        for to in waiting {
            match bytes {
                Some(bytes) if !bytes.is_empty() => self.send_piece(to, bytes.clone()),
                _ => self.restart_sending(now, to, index),
            }
        }
    }

    fn send_piece(&mut self, to: PeerId, bytes: Bytes) {
        let Some(sending) = self.snapshots.sending.get_mut(&to) else {
            return;
        };
        sending.reading = false;
        let offset = sending.sent;
        sending.sent += bytes.len() as u64;
        let SnapshotFile {
            mark,
            bytes: bytes_total,
            checksum,
        } = sending.file.clone();
        self.send(
            to,
            Message::SnapshotChunk {
                mark,
                bytes_total,
                checksum,
                offset,
                bytes,
            },
        );
        self.read_piece(to);
    }

    /// The snapshot being sent is gone: a newer one took its place, or it is damaged.
    fn restart_sending(&mut self, now: Instant, to: PeerId, index: Index) {
        self.snapshots.sending.remove(&to);
        match self.snapshots.newest.clone() {
            Some(newer) if newer.mark.index > index => {
                self.snapshots.sending.insert(to, Sending::new(newer, now));
                self.read_piece(to);
            }
            _ => {
                // Damaged: a new one is taken from the state, and consensus asks again.
                self.snapshots.newest = None;
                self.snapshots.wanted = true;
                self.raft
                    .handle(now, raft::Input::SnapshotSent { to, index: None });
            }
        }
    }

    /// The receiver says how much it has.
    pub(crate) fn on_snapshot_ack(&mut self, now: Instant, from: PeerId, index: u64, offset: u64) {
        let Some(sending) = self
            .snapshots
            .sending
            .get_mut(&from)
            .filter(|sending| sending.file.mark.index.0 == index)
        else {
            return;
        };
        if offset >= sending.file.bytes {
            let index = sending.file.mark.index;
            self.snapshots.sending.remove(&from);
            self.raft.handle(
                now,
                raft::Input::SnapshotSent {
                    to: from,
                    index: Some(index),
                },
            );
            return;
        }
        sending.retry_at = now + RETRY_AFTER;
        sending.give_up_at = now + GIVE_UP_AFTER;
        if offset < sending.acknowledged || offset > sending.sent {
            // The receiver began anew, or has more than this transfer sent: goes on from what it has.
            sending.sent = offset;
            sending.reading = false;
        }
        if offset > sending.acknowledged {
            sending.window = UNDER_WAY_MAX;
        }
        sending.acknowledged = offset;
        self.read_piece(from);
    }

    /// Goes on with transfers of which nothing was heard; gives up those that are over.
    pub(crate) fn tend_sending(&mut self, now: Instant) {
        let due: Vec<PeerId> = self
            .snapshots
            .sending
            .iter()
            .filter(|(_, sending)| sending.retry_at <= now)
            .map(|(&to, _)| to)
            .collect();
        for to in due {
            let Some(sending) = self.snapshots.sending.get_mut(&to) else {
                continue;
            };
            if sending.give_up_at <= now {
                self.snapshots.sending.remove(&to);
                self.raft
                    .handle(now, raft::Input::SnapshotSent { to, index: None });
                continue;
            }
            sending.retry_at = now + RETRY_AFTER;
            sending.sent = sending.acknowledged;
            sending.window = 1;
            sending.reading = false;
            self.read_piece(to);
        }
    }

    /// This member leads no longer: whoever does will send its own.
    pub(crate) fn stop_sending(&mut self) {
        self.snapshots.sending.clear();
    }
}
