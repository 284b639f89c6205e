//! What travels between members, as bytes: the greeting of a connection, then length-prefixed, checksummed frames.
//!
//! A connection carries messages in one direction only, from the member that dialled; the other side answers pings and nothing else.
//! The forms are derived prost messages; their tags are the format and are never re-used.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use raft::{Incarnation, MemberId, PeerId};
use std::fmt;

/// Begins every connection, in both directions. The odd bytes catch text protocols, TLS and translating proxies.
pub(crate) const MAGIC: [u8; 8] = *b"\x7fSYNOD\r\n";
/// The protocols this version speaks, lowest and highest.
pub(crate) const PROTOCOLS: std::ops::RangeInclusive<u32> = 1..=1;
/// The newest behaviour this version knows (PROPERTIES U1).
pub(crate) const FEATURE_LEVEL: u32 = 0;
/// Bytes of a greeting at most; nothing is known of the other side before it.
pub(crate) const GREETING_BYTES_MAX: usize = 64 << 10;
/// Bytes of a frame at most: the largest batch, with room to spare. A longer one ends the connection.
pub(crate) const FRAME_BYTES_MAX: usize = 32 << 20;

/// A frame up to this size is copied out of the read buffer, so that the buffer is free again at once; whoever keeps a small message would
/// otherwise keep all of it, and each read would begin with fresh pages from the system.
const COPIED_BYTES_MAX: usize = 32 << 10;

/// Length and checksum before each frame.
const FRAME_HEADER_BYTES: usize = 8;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    /// Messages of the cell, but for snapshots.
    Cell,
    /// Pieces of snapshots.
    Bulk,
    /// A question of a member that belongs to no cluster yet.
    Bootstrap,
}

/// The first words of the member that dialled.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Greeting {
    #[prost(uint32, tag = "1")]
    pub protocol_min: u32,
    #[prost(uint32, tag = "2")]
    pub protocol_max: u32,
    #[prost(uint32, tag = "3")]
    pub feature_level: u32,
    /// 1 cell, 2 bulk, 3 bootstrap.
    #[prost(uint32, tag = "4")]
    pub purpose: u32,
    #[prost(fixed64, tag = "5")]
    pub cluster: u64,
    #[prost(fixed64, tag = "6")]
    pub cell: u64,
    /// Who dials.
    #[prost(message, optional, tag = "7")]
    pub from: Option<Party>,
    /// Whom it means to reach; absent in bootstrap, when nobody knows ids yet.
    #[prost(message, optional, tag = "8")]
    pub to: Option<Party>,
}

/// The answer to a greeting.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Welcome {
    /// The protocol to speak: the highest that both know.
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
    /// Why the connection is refused, in words; empty if it is not.
    #[prost(string, tag = "2")]
    pub refusal: String,
    #[prost(uint32, tag = "3")]
    pub feature_level: u32,
    #[prost(fixed64, tag = "4")]
    pub cluster: u64,
    #[prost(fixed64, tag = "5")]
    pub cell: u64,
    /// Who answers.
    #[prost(message, optional, tag = "6")]
    pub from: Option<Party>,
    /// The refusal is only for now: the member still looks for its cluster.
    #[prost(bool, tag = "7")]
    pub not_yet: bool,
    /// The refusal is for good: the member that dialled was removed from the cluster.
    #[prost(bool, tag = "8")]
    pub departed: bool,
}

/// One end of a connection.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Party {
    #[prost(fixed64, tag = "1")]
    pub member: u64,
    #[prost(uint32, tag = "2")]
    pub incarnation: u32,
    /// Its process start; 0 when it is not known.
    #[prost(fixed64, tag = "3")]
    pub boot: u64,
    #[prost(string, tag = "4")]
    pub name: String,
    #[prost(string, repeated, tag = "5")]
    pub peer_addresses: Vec<String>,
    #[prost(string, repeated, tag = "6")]
    pub client_addresses: Vec<String>,
}

impl Party {
    pub(crate) fn peer(&self) -> PeerId {
        PeerId {
            member: MemberId(self.member),
            incarnation: Incarnation(self.incarnation),
        }
    }
}

impl Purpose {
    pub(crate) fn number(self) -> u32 {
        match self {
            Purpose::Cell => 1,
            Purpose::Bulk => 2,
            Purpose::Bootstrap => 3,
        }
    }

    pub(crate) fn of(number: u32) -> Option<Purpose> {
        [Purpose::Cell, Purpose::Bulk, Purpose::Bootstrap]
            .into_iter()
            .find(|purpose| purpose.number() == number)
    }
}

/// A greeting or a welcome as it is sent: magic, length, body.
pub(crate) fn encode_greeting(greeting: &impl prost::Message) -> Bytes {
    let mut bytes = BytesMut::with_capacity(12 + greeting.encoded_len());
    bytes.put_slice(&MAGIC);
    bytes.put_u32_le(greeting.encoded_len() as u32);
    greeting.encode(&mut bytes).expect("the buffer grows");
    bytes.freeze()
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum FrameKind {
    /// A [`replica::Message`].
    Message = 1,
    /// "Are you there?", with bytes to be given back.
    Ping = 2,
    /// They come back.
    Pong = 3,
    /// A [`replica::BootstrapMessage`].
    Bootstrap = 4,
}

/// A received frame.
pub(crate) struct Frame {
    pub(crate) kind: FrameKind,
    pub(crate) body: Bytes,
}

/// Why bytes were not understood. The connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WireError(pub(crate) String);

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Appends a frame to a buffer about to be written.
pub(crate) fn put_frame(out: &mut BytesMut, kind: FrameKind, body: &[u8]) {
    assert!(
        body.len() < FRAME_BYTES_MAX,
        "a frame of {} bytes, at most {FRAME_BYTES_MAX} are allowed",
        body.len()
    );
    out.reserve(FRAME_HEADER_BYTES + 1 + body.len());
    out.put_u32_le(1 + body.len() as u32);
    out.put_u32_le(crc32c::crc32c_append(crc32c::crc32c(&[kind as u8]), body));
    out.put_u8(kind as u8);
    out.put_slice(body);
}

/// Takes the next whole frame, of at most `bytes_max`, off a read buffer; `None` if more bytes are needed.
///
/// # Errors
/// The bytes are no frame; nothing after them can be trusted.
pub(crate) fn take_frame(
    buffer: &mut BytesMut,
    bytes_max: usize,
) -> Result<Option<Frame>, WireError> {
    if buffer.len() < FRAME_HEADER_BYTES {
        return Ok(None);
    }
    let length = u32::from_le_bytes(buffer[0..4].try_into().expect("four bytes")) as usize;
    let checksum = u32::from_le_bytes(buffer[4..8].try_into().expect("four bytes"));
    if length == 0 || length > bytes_max {
        return Err(WireError(format!(
            "a frame of {length} bytes, at most {bytes_max} are allowed"
        )));
    }
    if buffer.len() < FRAME_HEADER_BYTES + length {
        buffer.reserve(FRAME_HEADER_BYTES + length - buffer.len());
        return Ok(None);
    }
    buffer.advance(FRAME_HEADER_BYTES);
    let mut body = if length <= COPIED_BYTES_MAX {
        let copy = Bytes::copy_from_slice(&buffer[..length]);
        buffer.advance(length);
        copy
    } else {
        buffer.split_to(length).freeze()
    };
    if crc32c::crc32c(&body) != checksum {
        return Err(WireError("a frame with a wrong checksum".into()));
    }
    let kind = match body.get_u8() {
        1 => FrameKind::Message,
        2 => FrameKind::Ping,
        3 => FrameKind::Pong,
        4 => FrameKind::Bootstrap,
        other => return Err(WireError(format!("a frame of unknown kind {other}"))),
    };
    Ok(Some(Frame { kind, body }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_split_and_refuse_any_flip() {
        let mut whole = BytesMut::new();
        put_frame(&mut whole, FrameKind::Message, b"append");
        put_frame(&mut whole, FrameKind::Ping, b"");
        let mut buffer = BytesMut::new();
        let mut bodies = Vec::new();
        for byte in &whole {
            buffer.put_u8(*byte);
            while let Some(frame) = take_frame(&mut buffer, FRAME_BYTES_MAX).expect("whole frames")
            {
                bodies.push((frame.kind, frame.body));
            }
        }
        assert_eq!(
            bodies,
            [
                (FrameKind::Message, Bytes::from("append")),
                (FrameKind::Ping, Bytes::new())
            ]
        );
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            let mut taken = 0;
            let outcome = loop {
                match take_frame(&mut flipped, FRAME_BYTES_MAX) {
                    Ok(Some(_)) => taken += 1,
                    other => break other.map(|_| ()),
                }
            };
            assert!(
                taken < 2,
                "a flipped bit at byte {at} went unseen ({outcome:?})"
            );
        }
    }
}
