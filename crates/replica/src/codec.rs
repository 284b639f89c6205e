//! The wire form of what members say to each other: one byte for the kind, then a prost message (for consensus and configurations, `raft`'s own bytes). Tags and kinds are
//! the format: added to, never re-used. Whatever the bytes are, decoding ends in a value or an error.

use crate::bootstrap::{BootstrapMessage, Introduction, KnownCluster};
use crate::message::Message;
use crate::settings::Advertised;
use bytes::{BufMut, Bytes, BytesMut};
use raft::{Configuration, DecodeError, Incarnation, Index, MemberId, PeerId, SnapshotMark, Term};

mod members;

const KIND_RAFT: u8 = 1;
const KIND_SNAPSHOT_CHUNK: u8 = 2;
const KIND_SNAPSHOT_ACK: u8 = 3;
const KIND_STATE_HASH: u8 = 4;
const KIND_PUBLISH: u8 = 5;
const KIND_STATE_WANTED: u8 = 6;
const KIND_CHANGE_ASKED: u8 = 7;
const KIND_CHANGE_ANSWERED: u8 = 8;
const KIND_SHORT_OF_SPACE: u8 = 9;
const KIND_QUERY: u8 = 64;
const KIND_ANSWER: u8 = 65;

/// Addresses or listed names in one message at most.
const NAMES_MAX: usize = 1024;

#[derive(Clone, PartialEq, prost::Message)]
struct WirePeer {
    #[prost(fixed64, tag = "1")]
    member: u64,
    #[prost(uint32, tag = "2")]
    incarnation: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireSnapshotChunk {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(uint64, tag = "2")]
    term: u64,
    #[prost(bytes = "bytes", tag = "3")]
    configuration: Bytes,
    #[prost(uint64, tag = "4")]
    bytes_total: u64,
    #[prost(fixed32, tag = "5")]
    checksum: u32,
    #[prost(uint64, tag = "6")]
    offset: u64,
    #[prost(bytes = "bytes", tag = "7")]
    bytes: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireSnapshotAck {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(uint64, tag = "2")]
    offset: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireStateHash {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(fixed64, tag = "2")]
    hash: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WirePublish {
    #[prost(string, repeated, tag = "1")]
    peer_addresses: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    client_addresses: Vec<String>,
    #[prost(uint32, tag = "3")]
    feature_level: u32,
    #[prost(uint32, tag = "4")]
    priority: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireListed {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    address: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireStateWanted {
    #[prost(uint64, tag = "1")]
    from: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireIntroduction {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(fixed64, tag = "2")]
    member: u64,
    #[prost(message, repeated, tag = "3")]
    listed: Vec<WireListed>,
    #[prost(uint32, tag = "4")]
    incarnation: u32,
    #[prost(message, optional, tag = "5")]
    replaces: Option<WirePeer>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireKnownCluster {
    #[prost(fixed64, tag = "1")]
    cluster: u64,
    #[prost(bytes = "bytes", tag = "2")]
    bootstrap: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    current: Bytes,
    #[prost(message, optional, tag = "4")]
    leader: Option<WirePeer>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireAnswer {
    #[prost(message, optional, tag = "1")]
    from: Option<WireIntroduction>,
    #[prost(message, optional, tag = "2")]
    cluster: Option<WireKnownCluster>,
}

fn error(text: impl Into<String>) -> DecodeError {
    DecodeError(text.into())
}

fn wire_peer(peer: &PeerId) -> WirePeer {
    WirePeer {
        member: peer.member.0,
        incarnation: peer.incarnation.0,
    }
}

fn peer(wire: &WirePeer) -> PeerId {
    PeerId {
        member: MemberId(wire.member),
        incarnation: Incarnation(wire.incarnation),
    }
}

fn bounded_names(names: &[String]) -> Result<(), DecodeError> {
    if names.len() > NAMES_MAX {
        return Err(error(format!(
            "{} names, at most {NAMES_MAX} are allowed",
            names.len()
        )));
    }
    Ok(())
}

fn framed(kind: u8, body: &impl prost::Message) -> Bytes {
    let mut bytes = BytesMut::with_capacity(1 + body.encoded_len());
    bytes.put_u8(kind);
    body.encode(&mut bytes).expect("the buffer grows");
    bytes.freeze()
}

fn body<M: prost::Message + Default>(bytes: Bytes) -> Result<M, DecodeError> {
    M::decode(bytes).map_err(|failure| error(failure.to_string()))
}

fn split_kind(bytes: &Bytes) -> Result<(u8, Bytes), DecodeError> {
    let kind = *bytes.first().ok_or_else(|| error("the message is empty"))?;
    Ok((kind, bytes.slice(1..)))
}

pub(crate) fn encode_message(message: &Message) -> Bytes {
    match message {
        Message::Raft(message) => {
            let inner = message.encode();
            let mut bytes = BytesMut::with_capacity(1 + inner.len());
            bytes.put_u8(KIND_RAFT);
            bytes.put_slice(&inner);
            bytes.freeze()
        }
        Message::SnapshotChunk {
            mark,
            bytes_total,
            checksum,
            offset,
            bytes,
        } => framed(
            KIND_SNAPSHOT_CHUNK,
            &WireSnapshotChunk {
                index: mark.index.0,
                term: mark.term.0,
                configuration: mark.configuration.encode(),
                bytes_total: *bytes_total,
                checksum: *checksum,
                offset: *offset,
                bytes: bytes.clone(),
            },
        ),
        Message::SnapshotAck { index, offset } => framed(
            KIND_SNAPSHOT_ACK,
            &WireSnapshotAck {
                index: *index,
                offset: *offset,
            },
        ),
        Message::StateHash { index, hash } => framed(
            KIND_STATE_HASH,
            &WireStateHash {
                index: *index,
                hash: *hash,
            },
        ),
        Message::StateWanted { from } => {
            framed(KIND_STATE_WANTED, &WireStateWanted { from: *from })
        }
        Message::Publish(advertised) => framed(
            KIND_PUBLISH,
            &WirePublish {
                peer_addresses: advertised.peer_addresses.clone(),
                client_addresses: advertised.client_addresses.clone(),
                feature_level: advertised.feature_level,
                priority: advertised.priority,
            },
        ),
        Message::ShortOfSpace => framed(KIND_SHORT_OF_SPACE, &()),
        Message::ChangeAsked { sequence, request } => {
            framed(KIND_CHANGE_ASKED, &members::wire_asked(*sequence, request))
        }
        Message::ChangeAnswered { sequence, outcome } => framed(
            KIND_CHANGE_ANSWERED,
            &members::wire_answered(*sequence, outcome),
        ),
    }
}

pub(crate) fn decode_message(bytes: Bytes) -> Result<Message, DecodeError> {
    let (kind, bytes) = split_kind(&bytes)?;
    match kind {
        KIND_RAFT => Ok(Message::Raft(raft::Message::decode(bytes)?)),
        KIND_SNAPSHOT_CHUNK => {
            let wire: WireSnapshotChunk = body(bytes)?;
            let end = wire.offset.checked_add(wire.bytes.len() as u64);
            if end.is_none_or(|end| end > wire.bytes_total) {
                return Err(error(format!(
                    "{} bytes at {} in a snapshot of {}",
                    wire.bytes.len(),
                    wire.offset,
                    wire.bytes_total
                )));
            }
            Ok(Message::SnapshotChunk {
                mark: SnapshotMark {
                    index: Index(wire.index),
                    term: Term(wire.term),
                    configuration: Configuration::decode(wire.configuration)?,
                },
                bytes_total: wire.bytes_total,
                checksum: wire.checksum,
                offset: wire.offset,
                bytes: wire.bytes,
            })
        }
        KIND_SNAPSHOT_ACK => {
            let wire: WireSnapshotAck = body(bytes)?;
            Ok(Message::SnapshotAck {
                index: wire.index,
                offset: wire.offset,
            })
        }
        KIND_STATE_HASH => {
            let wire: WireStateHash = body(bytes)?;
            Ok(Message::StateHash {
                index: wire.index,
                hash: wire.hash,
            })
        }
        KIND_STATE_WANTED => {
            let wire: WireStateWanted = body(bytes)?;
            Ok(Message::StateWanted { from: wire.from })
        }
        KIND_PUBLISH => {
            let wire: WirePublish = body(bytes)?;
            bounded_names(&wire.peer_addresses)?;
            bounded_names(&wire.client_addresses)?;
            Ok(Message::Publish(Advertised {
                peer_addresses: wire.peer_addresses,
                client_addresses: wire.client_addresses,
                feature_level: wire.feature_level,
                priority: wire.priority,
            }))
        }
        KIND_SHORT_OF_SPACE => {
            let () = body(bytes)?;
            Ok(Message::ShortOfSpace)
        }
        KIND_CHANGE_ASKED => members::asked(body(bytes)?),
        KIND_CHANGE_ANSWERED => members::answered(body(bytes)?),
        _ => Err(error(format!("kind {kind} is unknown"))),
    }
}

fn wire_introduction(introduction: &Introduction) -> WireIntroduction {
    let listed = |(name, address): &(String, String)| WireListed {
        name: name.clone(),
        address: address.clone(),
    };
    WireIntroduction {
        name: introduction.name.clone(),
        member: introduction.member.0,
        listed: introduction.listed.iter().map(listed).collect(),
        incarnation: introduction.incarnation.0,
        replaces: introduction.replaces.as_ref().map(wire_peer),
    }
}

fn introduction(wire: WireIntroduction) -> Result<Introduction, DecodeError> {
    if wire.listed.len() > NAMES_MAX {
        return Err(error(format!(
            "{} members listed, at most {NAMES_MAX} are allowed",
            wire.listed.len()
        )));
    }
    Ok(Introduction {
        name: wire.name,
        member: MemberId(wire.member),
        incarnation: Incarnation(wire.incarnation),
        replaces: wire.replaces.as_ref().map(peer),
        listed: wire
            .listed
            .into_iter()
            .map(|listed| (listed.name, listed.address))
            .collect(),
    })
}

pub(crate) fn encode_bootstrap(message: &BootstrapMessage) -> Bytes {
    match message {
        BootstrapMessage::Query(from) => framed(KIND_QUERY, &wire_introduction(from)),
        BootstrapMessage::Answer { from, cluster } => framed(
            KIND_ANSWER,
            &WireAnswer {
                from: Some(wire_introduction(from)),
                cluster: cluster.as_ref().map(|known| WireKnownCluster {
                    cluster: known.cluster,
                    bootstrap: known.bootstrap.encode(),
                    current: known.current.encode(),
                    leader: known.leader.as_ref().map(wire_peer),
                }),
            },
        ),
    }
}

pub(crate) fn decode_bootstrap(bytes: Bytes) -> Result<BootstrapMessage, DecodeError> {
    let (kind, bytes) = split_kind(&bytes)?;
    match kind {
        KIND_QUERY => Ok(BootstrapMessage::Query(introduction(body(bytes)?)?)),
        KIND_ANSWER => {
            let wire: WireAnswer = body(bytes)?;
            let from = introduction(
                wire.from
                    .ok_or_else(|| error("the answer does not say who it is from"))?,
            )?;
            let known = |known: WireKnownCluster| {
                Ok::<_, DecodeError>(KnownCluster {
                    cluster: known.cluster,
                    bootstrap: Configuration::decode(known.bootstrap)?,
                    current: Configuration::decode(known.current)?,
                    leader: known.leader.as_ref().map(peer),
                })
            };
            Ok(BootstrapMessage::Answer {
                from,
                cluster: wire.cluster.map(known).transpose()?,
            })
        }
        _ => Err(error(format!("kind {kind} is unknown"))),
    }
}
