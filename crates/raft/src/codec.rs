//! The wire form of messages and configurations: one version byte, then a protobuf message derived here.
//!
//! The structs of `wire.rs` own the bytes. Malformed bytes give an error, never a panic, and sizes are bounded before anything is built.

use crate::message::{Body, Recovery, Rejection};
use crate::wire::*;
use crate::{
    Boot, Configuration, Entry, Incarnation, Index, Instant, Member, MemberId, Message, Payload,
    PeerId, Term,
};
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::BTreeSet;
use std::fmt;

/// The version of the wire form written here, and the only one read.
const VERSION: u8 = 1;
/// Bytes of a message at most.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Terms at most: nobody gets there by elections, and there is room to count on.
const TERM_MAX: u64 = 1 << 62;
/// Peers or members in a configuration at most.
const PEERS_MAX: usize = 1024;

/// Why bytes could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError(pub String);

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DecodeError {}

impl From<prost::DecodeError> for DecodeError {
    fn from(error: prost::DecodeError) -> DecodeError {
        DecodeError(error.to_string())
    }
}

fn encode_versioned(wire: &impl prost::Message) -> Bytes {
    let mut bytes = BytesMut::with_capacity(1 + wire.encoded_len());
    bytes.put_u8(VERSION);
    wire.encode(&mut bytes).expect("the buffer grows as needed");
    bytes.freeze()
}

fn decode_versioned<T: prost::Message + Default>(mut bytes: Bytes) -> Result<T, DecodeError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(DecodeError(format!(
            "{} bytes are too many, at most {MESSAGE_BYTES_MAX}",
            bytes.len()
        )));
    }
    match bytes.first() {
        Some(&VERSION) => Ok(T::decode(bytes.split_off(1))?),
        Some(version) => Err(DecodeError(format!(
            "version {version} is unknown, only {VERSION} is known"
        ))),
        None => Err(DecodeError("no bytes".into())),
    }
}

impl Message {
    /// Writes the message in its wire form.
    pub fn encode(&self) -> Bytes {
        encode_versioned(&WireMessage {
            term: self.term.0,
            to: self.to.0,
            body: Some(body_to_wire(&self.body)),
        })
    }

    /// Reads a message from its wire form. Batches share the memory of `bytes`.
    ///
    /// # Errors
    /// The bytes are no message of a known version.
    pub fn decode(bytes: Bytes) -> Result<Message, DecodeError> {
        let wire: WireMessage = decode_versioned(bytes)?;
        let body = wire
            .body
            .ok_or_else(|| DecodeError("a message without a known body".into()))?;
        if wire.term > TERM_MAX {
            return Err(DecodeError(format!(
                "term {} is too large, at most {TERM_MAX}",
                wire.term
            )));
        }
        let term = Term(wire.term);
        Ok(Message {
            term,
            to: Incarnation(wire.to),
            body: body_from_wire(term, body)?,
        })
    }
}

impl Configuration {
    /// Writes the configuration in its durable form.
    pub fn encode(&self) -> Bytes {
        encode_versioned(&configuration_to_wire(self))
    }

    /// Reads a configuration from its durable form.
    ///
    /// # Errors
    /// The bytes are no configuration of a known version.
    pub fn decode(bytes: Bytes) -> Result<Configuration, DecodeError> {
        configuration_from_wire(decode_versioned(bytes)?)
    }
}

fn body_to_wire(body: &Body) -> WireBody {
    match body {
        Body::PreVote {
            campaign,
            last_index,
            last_term,
        } => WireBody::PreVote(WireVote {
            campaign: campaign.0,
            last_index: last_index.0,
            last_term: last_term.0,
            transfer: false,
        }),
        Body::PreVoteReply { campaign, granted } => WireBody::PreVoteReply(WireVoteReply {
            campaign: campaign.0,
            granted: *granted,
        }),
        Body::Vote {
            last_index,
            last_term,
            transfer,
        } => WireBody::Vote(WireVote {
            campaign: 0,
            last_index: last_index.0,
            last_term: last_term.0,
            transfer: *transfer,
        }),
        Body::VoteReply { granted } => WireBody::VoteReply(WireVoteReply {
            campaign: 0,
            granted: *granted,
        }),
        Body::Append {
            prev_index,
            prev_term,
            commit,
            entries,
        } => WireBody::Append(WireAppend {
            prev_index: prev_index.0,
            prev_term: prev_term.0,
            commit: commit.0,
            entries: entries.iter().map(entry_to_wire).collect(),
        }),
        Body::AppendReply {
            matched,
            rejected,
            boot,
            amnesiac,
        } => WireBody::AppendReply(WireAppendReply {
            matched: matched.0,
            rejected: rejected.map(|r| WireRejection {
                prev_index: r.prev_index.0,
                hint_index: r.hint_index.0,
                hint_term: r.hint_term.0,
            }),
            boot: boot.0,
            amnesiac: *amnesiac,
        }),
        Body::Heartbeat {
            round,
            boot,
            sent,
            commit,
            commit_term,
            recovery,
        } => WireBody::Heartbeat(WireHeartbeat {
            round: *round,
            boot: boot.0,
            sent: sent.0,
            commit: commit.0,
            commit_term: commit_term.0,
            recovery: recovery.map(|r| WireRecovery {
                boot: r.boot.0,
                index: r.index.0,
                term: r.term.0,
            }),
        }),
        Body::HeartbeatReply {
            round,
            leader_boot,
            sent,
            boot,
            amnesiac,
        } => WireBody::HeartbeatReply(WireHeartbeatReply {
            round: *round,
            leader_boot: leader_boot.0,
            sent: sent.0,
            boot: boot.0,
            amnesiac: *amnesiac,
        }),
        Body::ReadIndex { boot, request } => WireBody::ReadIndex(WireRead {
            boot: boot.0,
            request: *request,
            index: 0,
        }),
        Body::ReadIndexReply {
            boot,
            request,
            index,
        } => WireBody::ReadIndexReply(WireRead {
            boot: boot.0,
            request: *request,
            index: index.0,
        }),
        Body::Forward {
            boot,
            epoch,
            position,
            sequence,
            body,
        } => WireBody::Forward(WireForward {
            boot: boot.0,
            epoch: *epoch,
            position: *position,
            sequence: *sequence,
            body: body.clone(),
        }),
        Body::ForwardRefused {
            boot,
            epoch,
            position,
        } => WireBody::ForwardRefused(WireForward {
            boot: boot.0,
            epoch: *epoch,
            position: *position,
            ..WireForward::default()
        }),
        Body::TimeoutNow => WireBody::TimeoutNow(WireNothing {}),
        Body::StaleTerm => WireBody::StaleTerm(WireNothing {}),
    }
}

fn body_from_wire(term: Term, body: WireBody) -> Result<Body, DecodeError> {
    Ok(match body {
        WireBody::PreVote(w) => Body::PreVote {
            campaign: Term(w.campaign),
            last_index: Index(w.last_index),
            last_term: Term(w.last_term),
        },
        WireBody::PreVoteReply(w) => Body::PreVoteReply {
            campaign: Term(w.campaign),
            granted: w.granted,
        },
        WireBody::Vote(w) => Body::Vote {
            last_index: Index(w.last_index),
            last_term: Term(w.last_term),
            transfer: w.transfer,
        },
        WireBody::VoteReply(w) => Body::VoteReply { granted: w.granted },
        WireBody::Append(w) => append_from_wire(term, w)?,
        WireBody::AppendReply(w) => Body::AppendReply {
            matched: Index(w.matched),
            rejected: w.rejected.map(|r| Rejection {
                prev_index: Index(r.prev_index),
                hint_index: Index(r.hint_index),
                hint_term: Term(r.hint_term),
            }),
            boot: Boot(w.boot),
            amnesiac: w.amnesiac,
        },
        WireBody::Heartbeat(w) => Body::Heartbeat {
            round: w.round,
            boot: Boot(w.boot),
            sent: Instant(w.sent),
            commit: Index(w.commit),
            commit_term: Term(w.commit_term),
            recovery: w.recovery.map(|r| Recovery {
                boot: Boot(r.boot),
                index: Index(r.index),
                term: Term(r.term),
            }),
        },
        WireBody::HeartbeatReply(w) => Body::HeartbeatReply {
            round: w.round,
            leader_boot: Boot(w.leader_boot),
            sent: Instant(w.sent),
            boot: Boot(w.boot),
            amnesiac: w.amnesiac,
        },
        WireBody::ReadIndex(w) => Body::ReadIndex {
            boot: Boot(w.boot),
            request: w.request,
        },
        WireBody::ReadIndexReply(w) => Body::ReadIndexReply {
            boot: Boot(w.boot),
            request: w.request,
            index: Index(w.index),
        },
        WireBody::Forward(w) => Body::Forward {
            boot: Boot(w.boot),
            epoch: w.epoch,
            position: w.position,
            sequence: w.sequence,
            body: w.body,
        },
        WireBody::ForwardRefused(w) => Body::ForwardRefused {
            boot: Boot(w.boot),
            epoch: w.epoch,
            position: w.position,
        },
        WireBody::TimeoutNow(_) => Body::TimeoutNow,
        WireBody::StaleTerm(_) => Body::StaleTerm,
    })
}

/// Reads an append and refuses what no leader could have sent: terms that fall or pass the sender's, indexes that overflow.
fn append_from_wire(term: Term, wire: WireAppend) -> Result<Body, DecodeError> {
    let prev_index = Index(wire.prev_index);
    let prev_term = Term(wire.prev_term);
    if wire
        .prev_index
        .checked_add(wire.entries.len() as u64 + 1)
        .is_none()
    {
        return Err(DecodeError(format!(
            "entries after index {prev_index} overflow"
        )));
    }
    let mut entries = Vec::with_capacity(wire.entries.len());
    let mut before = prev_term;
    let mut index = prev_index;
    for entry in wire.entries {
        index = index.next();
        let entry = entry_from_wire(index, entry)?;
        if entry.term < before || entry.term > term {
            return Err(DecodeError(format!(
                "entry {index} has term {}, after {before} from a leader of term {term}",
                entry.term
            )));
        }
        before = entry.term;
        entries.push(entry);
    }
    Ok(Body::Append {
        prev_index,
        prev_term,
        commit: Index(wire.commit),
        entries,
    })
}

fn entry_to_wire(entry: &Entry) -> WireEntry {
    let (batch, configuration) = match &entry.payload {
        Payload::Noop => (None, None),
        Payload::Batch(bytes) => (Some(bytes.clone()), None),
        Payload::Configuration(configuration) => (None, Some(configuration_to_wire(configuration))),
    };
    WireEntry {
        term: entry.term.0,
        batch,
        configuration,
    }
}

fn entry_from_wire(index: Index, wire: WireEntry) -> Result<Entry, DecodeError> {
    let payload = match (wire.batch, wire.configuration) {
        (None, None) => Payload::Noop,
        (Some(batch), None) => Payload::Batch(batch),
        (None, Some(configuration)) => {
            Payload::Configuration(configuration_from_wire(configuration)?)
        }
        (Some(_), Some(_)) => {
            return Err(DecodeError(format!(
                "entry {index} is both batch and configuration"
            )));
        }
    };
    Ok(Entry {
        term: Term(wire.term),
        index,
        payload,
    })
}

fn configuration_to_wire(configuration: &Configuration) -> WireConfiguration {
    let peers = |peers: &BTreeSet<PeerId>| {
        peers
            .iter()
            .map(|peer| WirePeer {
                member: peer.member.0,
                incarnation: peer.incarnation.0,
            })
            .collect()
    };
    WireConfiguration {
        voters: peers(&configuration.voters),
        outgoing: peers(&configuration.outgoing),
        learners: peers(&configuration.learners),
        learners_next: peers(&configuration.learners_next),
        members: configuration
            .members
            .iter()
            .map(|(id, member)| WireMember {
                id: id.0,
                incarnation: member.incarnation.0,
                name: member.name.clone(),
                peer_addresses: member.peer_addresses.clone(),
                client_addresses: member.client_addresses.clone(),
                feature_level: member.feature_level,
                priority: member.priority,
                taken_by: member.taken_by.map(|id| id.0),
                stays_learner: member.stays_learner,
                replaces: member.replaces.map(|id| id.0),
                overruled: member.overruled.clone(),
            })
            .collect(),
        departed: configuration.departed.iter().map(|id| id.0).collect(),
    }
}

fn configuration_from_wire(wire: WireConfiguration) -> Result<Configuration, DecodeError> {
    let longest = [
        wire.voters.len(),
        wire.outgoing.len(),
        wire.learners.len(),
        wire.learners_next.len(),
        wire.members.len(),
        wire.departed.len(),
    ];
    if longest.iter().any(|&len| len > PEERS_MAX) {
        return Err(DecodeError(format!(
            "a configuration of {} peers is too large, at most {PEERS_MAX}",
            longest.iter().max().unwrap()
        )));
    }
    let peers = |peers: Vec<WirePeer>| -> BTreeSet<PeerId> {
        peers
            .iter()
            .map(|peer| PeerId {
                member: MemberId(peer.member),
                incarnation: Incarnation(peer.incarnation),
            })
            .collect()
    };
    Ok(Configuration {
        voters: peers(wire.voters),
        outgoing: peers(wire.outgoing),
        learners: peers(wire.learners),
        learners_next: peers(wire.learners_next),
        members: wire
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
                    taken_by: member.taken_by.map(MemberId),
                    stays_learner: member.stays_learner,
                    replaces: member.replaces.map(MemberId),
                    overruled: member.overruled,
                };
                (MemberId(member.id), known)
            })
            .collect(),
        departed: wire.departed.into_iter().map(MemberId).collect(),
    })
}

#[cfg(test)]
mod tests;
