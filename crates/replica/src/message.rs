//! What members say to each other.

use crate::codec;
use crate::member_change::{ChangeRequest, Refusal};
use crate::member_request::ChangeBegun;
use crate::settings::Advertised;
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
        /// Bytes staged at the receiver; the whole length only once the snapshot is complete, verified and durable there.
        offset: u64,
    },
    /// The state hash at an index, for comparison (PROPERTIES KV5).
    StateHash {
        /// Applied index.
        index: u64,
        /// Hash there.
        hash: u64,
    },
    /// To the leader: the sender's state is not to be believed; please send a snapshot that is not older than this.
    StateWanted {
        /// The least index of use.
        from: u64,
    },
    /// To the leader: the cell's configuration does not yet say this of the sender; please make it so.
    Publish(Advertised),
    /// To the leader: the sender's disk is short of space. Said again while it lasts.
    ShortOfSpace,
    /// To the leader: an operator asked the sender for this.
    ChangeAsked {
        /// Names the request at the sender; never used twice by it.
        sequence: u64,
        /// What is wanted.
        request: ChangeRequest,
    },
    /// The leader's answer to [`Message::ChangeAsked`].
    ChangeAnswered {
        /// Which.
        sequence: u64,
        /// Where the change begins, or why there is none.
        outcome: Result<ChangeBegun, Refusal>,
    },
}

impl Message {
    /// Writes the message in its wire form.
    pub fn encode(&self) -> Bytes {
        codec::encode_message(self)
    }

    /// Reads a message from its wire form.
    ///
    /// # Errors
    /// The bytes are no message of a known version.
    pub fn decode(bytes: Bytes) -> Result<Message, raft::DecodeError> {
        codec::decode_message(bytes)
    }

    /// It belongs on the bulk connection, not to delay heartbeats.
    pub fn is_bulk(&self) -> bool {
        matches!(self, Message::SnapshotChunk { .. })
    }
}
