//! What travels between members, as bytes: the greeting of a connection, then length-prefixed, checksummed frames.
//!
//! A connection carries messages in one direction only, from the member that dialled; the other side answers pings and nothing else.
//! The forms are derived prost messages; their tags are the format and are never re-used.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message as _;
use raft::{Configuration, Incarnation, Member, MemberId, PeerId};
use replica::{BootstrapMessage, Introduction, KnownCluster};
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
    /// A [`BootstrapMessage`].
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
    let mut body = buffer.split_to(length).freeze();
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

#[derive(Clone, PartialEq, prost::Message)]
struct BootstrapForm {
    #[prost(message, optional, tag = "1")]
    from: Option<IntroductionForm>,
    /// Set in an answer.
    #[prost(bool, tag = "2")]
    answer: bool,
    #[prost(message, optional, tag = "3")]
    known: Option<KnownForm>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct IntroductionForm {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(fixed64, tag = "2")]
    member: u64,
    #[prost(message, repeated, tag = "3")]
    listed: Vec<ListedForm>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ListedForm {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    address: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KnownForm {
    #[prost(fixed64, tag = "1")]
    cluster: u64,
    #[prost(message, optional, tag = "2")]
    bootstrap: Option<ConfigurationForm>,
    #[prost(message, optional, tag = "3")]
    current: Option<ConfigurationForm>,
    #[prost(message, optional, tag = "4")]
    leader: Option<PeerForm>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct PeerForm {
    #[prost(fixed64, tag = "1")]
    member: u64,
    #[prost(uint32, tag = "2")]
    incarnation: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ConfigurationForm {
    #[prost(message, repeated, tag = "1")]
    voters: Vec<PeerForm>,
    #[prost(message, repeated, tag = "2")]
    outgoing: Vec<PeerForm>,
    #[prost(message, repeated, tag = "3")]
    learners: Vec<PeerForm>,
    #[prost(message, repeated, tag = "4")]
    learners_next: Vec<PeerForm>,
    #[prost(message, repeated, tag = "5")]
    members: Vec<MemberForm>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MemberForm {
    #[prost(fixed64, tag = "1")]
    member: u64,
    #[prost(uint32, tag = "2")]
    incarnation: u32,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, repeated, tag = "4")]
    peer_addresses: Vec<String>,
    #[prost(string, repeated, tag = "5")]
    client_addresses: Vec<String>,
    #[prost(uint32, tag = "6")]
    feature_level: u32,
    #[prost(uint32, tag = "7")]
    priority: u32,
}

/// The body of a bootstrap frame.
pub(crate) fn encode_bootstrap(message: &BootstrapMessage) -> Bytes {
    let form = match message {
        BootstrapMessage::Query(from) => BootstrapForm {
            from: Some(introduction_form(from)),
            answer: false,
            known: None,
        },
        BootstrapMessage::Answer { from, cluster } => BootstrapForm {
            from: Some(introduction_form(from)),
            answer: true,
            known: cluster.as_ref().map(known_form),
        },
    };
    form.encode_to_vec().into()
}

/// Reads the body of a bootstrap frame.
///
/// # Errors
/// The bytes are none.
pub(crate) fn decode_bootstrap(body: Bytes) -> Result<BootstrapMessage, WireError> {
    let form = BootstrapForm::decode(body)
        .map_err(|error| WireError(format!("a bootstrap message that cannot be read: {error}")))?;
    let from = form
        .from
        .ok_or_else(|| WireError("a bootstrap message without a sender".into()))?;
    let from = Introduction {
        name: from.name,
        member: MemberId(from.member),
        listed: from
            .listed
            .into_iter()
            .map(|listed| (listed.name, listed.address))
            .collect(),
    };
    if !form.answer {
        return Ok(BootstrapMessage::Query(from));
    }
    let cluster = form.known.map(|known| KnownCluster {
        cluster: known.cluster,
        bootstrap: configuration(known.bootstrap.unwrap_or_default()),
        current: configuration(known.current.unwrap_or_default()),
        leader: known.leader.map(peer),
    });
    Ok(BootstrapMessage::Answer { from, cluster })
}

fn introduction_form(from: &Introduction) -> IntroductionForm {
    let listed = from.listed.iter().map(|(name, address)| ListedForm {
        name: name.clone(),
        address: address.clone(),
    });
    IntroductionForm {
        name: from.name.clone(),
        member: from.member.0,
        listed: listed.collect(),
    }
}

fn known_form(known: &KnownCluster) -> KnownForm {
    KnownForm {
        cluster: known.cluster,
        bootstrap: Some(configuration_form(&known.bootstrap)),
        current: Some(configuration_form(&known.current)),
        leader: known.leader.map(peer_form),
    }
}

fn peer_form(peer: PeerId) -> PeerForm {
    PeerForm {
        member: peer.member.0,
        incarnation: peer.incarnation.0,
    }
}

fn peer(form: PeerForm) -> PeerId {
    PeerId {
        member: MemberId(form.member),
        incarnation: Incarnation(form.incarnation),
    }
}

fn configuration_form(configuration: &Configuration) -> ConfigurationForm {
    let peers =
        |peers: &std::collections::BTreeSet<PeerId>| peers.iter().copied().map(peer_form).collect();
    ConfigurationForm {
        voters: peers(&configuration.voters),
        outgoing: peers(&configuration.outgoing),
        learners: peers(&configuration.learners),
        learners_next: peers(&configuration.learners_next),
        members: configuration
            .members
            .iter()
            .map(|(id, member)| MemberForm {
                member: id.0,
                incarnation: member.incarnation.0,
                name: member.name.clone(),
                peer_addresses: member.peer_addresses.clone(),
                client_addresses: member.client_addresses.clone(),
                feature_level: member.feature_level,
                priority: member.priority,
            })
            .collect(),
    }
}

fn configuration(form: ConfigurationForm) -> Configuration {
    let peers = |peers: Vec<PeerForm>| peers.into_iter().map(peer).collect();
    Configuration {
        voters: peers(form.voters),
        outgoing: peers(form.outgoing),
        learners: peers(form.learners),
        learners_next: peers(form.learners_next),
        members: form
            .members
            .into_iter()
            .map(|member| {
                let known = Member {
                    incarnation: Incarnation(member.incarnation),
                    name: member.name,
                    peer_addresses: member.peer_addresses,
                    client_addresses: member.client_addresses,
                    feature_level: member.feature_level,
                    priority: member.priority,
                };
                (MemberId(member.member), known)
            })
            .collect(),
    }
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

    #[test]
    fn bootstrap_messages_come_back_as_they_were() {
        let id = |member| PeerId {
            member: MemberId(member),
            incarnation: Incarnation(1),
        };
        let me = Introduction {
            name: "n1".into(),
            member: MemberId(7),
            listed: vec![("n1".into(), "h:1".into()), ("n2".into(), "h:2".into())],
        };
        let member = Member {
            name: "n1".into(),
            peer_addresses: vec!["h:1".into()],
            priority: 3,
            ..Member::default()
        };
        let configuration = Configuration {
            voters: [id(7), id(8)].into(),
            outgoing: [id(9)].into(),
            learners: [id(10)].into(),
            learners_next: [id(9)].into(),
            members: [(MemberId(7), member)].into(),
        };
        let known = KnownCluster {
            cluster: 5,
            bootstrap: configuration.clone(),
            current: configuration,
            leader: Some(id(8)),
        };
        for message in [
            BootstrapMessage::Query(me.clone()),
            BootstrapMessage::Answer {
                from: me.clone(),
                cluster: None,
            },
            BootstrapMessage::Answer {
                from: me,
                cluster: Some(known),
            },
        ] {
            assert_eq!(decode_bootstrap(encode_bootstrap(&message)), Ok(message));
        }
    }
}
