//! What members say to each other about consensus.

use crate::Term;

/// A message between members. Opaque to the layers above: they carry its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The sender's term.
    pub term: Term,
}

impl Message {
    /// Writes the message in its wire form.
    pub fn encode(&self) -> bytes::Bytes {
        todo!()
    }

    /// Reads a message from its wire form.
    ///
    /// # Errors
    /// The bytes are no message of a known version.
    pub fn decode(_bytes: bytes::Bytes) -> Result<Message, DecodeError> {
        todo!()
    }
}

/// Why bytes could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError(pub String);
