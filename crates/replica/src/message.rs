//! What members say to each other.

use bytes::Bytes;
use raft::SnapshotMark;

/// A message between two members of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Of consensus.
    Raft(raft::Message),
    /// A piece of a snapshot. Travels on a connection of its own.
    SnapshotChunk {
        /// The snapshot.
        mark: SnapshotMark,
        /// Its whole length.
        bytes_total: u64,
        /// crc32c over all of it.
        checksum: u32,
        /// Where this piece belongs.
        offset: u64,
        /// The piece.
        bytes: Bytes,
    },
    /// How much of a snapshot the receiver has; the sender goes on from there.
    SnapshotAck {
        /// The snapshot's index.
        index: u64,
        /// Bytes durable or staged at the receiver.
        offset: u64,
    },
    /// The state hash at an index, for comparison (PROPERTIES KV5).
    StateHash {
        /// Applied index.
        index: u64,
        /// Hash there.
        hash: u64,
    },
}

impl Message {
    /// Writes the message in its wire form.
    pub fn encode(&self) -> Bytes {
        todo!()
    }

    /// Reads a message from its wire form.
    ///
    /// # Errors
    /// The bytes are no message of a known version.
    pub fn decode(_bytes: Bytes) -> Result<Message, raft::DecodeError> {
        todo!()
    }

    /// It belongs on the bulk connection, not to delay heartbeats.
    pub fn is_bulk(&self) -> bool {
        matches!(self, Message::SnapshotChunk { .. })
    }
}
