//! The wire form of operators' requests to change members.

use super::{bounded_names, error};
use crate::member_change::{ChangeRequest, MemberChange, Refusal, RefusalReason};
use crate::member_request::ChangeBegun;
use crate::message::Message;
use raft::{DecodeError, Index, MemberId, Term};

/// Changes in one request at most.
const CHANGES_MAX: usize = 256;

/// Reasons by their number in the wire form, which is their place here.
const REASONS: [RefusalReason; 11] = [
    RefusalReason::Invalid,
    RefusalReason::NotLeader,
    RefusalReason::Busy,
    RefusalReason::UnknownMember,
    RefusalReason::MemberExists,
    RefusalReason::AddressTaken,
    RefusalReason::NotALearner,
    RefusalReason::NotCaughtUp,
    RefusalReason::TooManyLearners,
    RefusalReason::NotEnoughStarted,
    RefusalReason::LosesQuorum,
];

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WireAsked {
    #[prost(fixed64, tag = "1")]
    sequence: u64,
    #[prost(message, repeated, tag = "2")]
    changes: Vec<WireChange>,
    #[prost(bool, tag = "3")]
    as_etcd: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireChange {
    #[prost(enumeration = "Kind", tag = "1")]
    kind: i32,
    #[prost(fixed64, tag = "2")]
    member: u64,
    #[prost(string, repeated, tag = "3")]
    peer_addresses: Vec<String>,
    #[prost(bool, tag = "4")]
    stays_learner: bool,
    #[prost(fixed64, optional, tag = "5")]
    replaces: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
enum Kind {
    Unknown = 0,
    Add = 1,
    Promote = 2,
    Remove = 3,
    Move = 4,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WireAnswered {
    #[prost(fixed64, tag = "1")]
    sequence: u64,
    #[prost(uint64, tag = "2")]
    index: u64,
    #[prost(uint64, tag = "3")]
    term: u64,
    #[prost(message, optional, tag = "4")]
    refusal: Option<WireRefusal>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireRefusal {
    #[prost(uint32, tag = "1")]
    reason: u32,
    #[prost(string, tag = "2")]
    text: String,
}

pub(super) fn wire_asked(sequence: u64, request: &ChangeRequest) -> WireAsked {
    let changes = request.changes.iter().map(|change| match change {
        MemberChange::Add {
            member,
            peer_addresses,
            stays_learner,
            replaces,
        } => WireChange {
            kind: Kind::Add.into(),
            member: member.0,
            peer_addresses: peer_addresses.clone(),
            stays_learner: *stays_learner,
            replaces: replaces.map(|id| id.0),
        },
        MemberChange::Promote(member) => WireChange {
            kind: Kind::Promote.into(),
            member: member.0,
            ..WireChange::default()
        },
        MemberChange::Remove(member) => WireChange {
            kind: Kind::Remove.into(),
            member: member.0,
            ..WireChange::default()
        },
        MemberChange::Move {
            member,
            peer_addresses,
        } => WireChange {
            kind: Kind::Move.into(),
            member: member.0,
            peer_addresses: peer_addresses.clone(),
            ..WireChange::default()
        },
    });
    WireAsked {
        sequence,
        changes: changes.collect(),
        as_etcd: request.as_etcd,
    }
}

pub(super) fn asked(wire: WireAsked) -> Result<Message, DecodeError> {
    if wire.changes.len() > CHANGES_MAX {
        let count = wire.changes.len();
        return Err(error(format!(
            "{count} changes of members, at most {CHANGES_MAX} are allowed"
        )));
    }
    let change = |wire: WireChange| {
        bounded_names(&wire.peer_addresses)?;
        let (kind, member) = (wire.kind(), MemberId(wire.member));
        Ok(match kind {
            Kind::Add => MemberChange::Add {
                member,
                peer_addresses: wire.peer_addresses,
                stays_learner: wire.stays_learner,
                replaces: wire.replaces.map(MemberId),
            },
            Kind::Promote => MemberChange::Promote(member),
            Kind::Remove => MemberChange::Remove(member),
            Kind::Move => MemberChange::Move {
                member,
                peer_addresses: wire.peer_addresses,
            },
            Kind::Unknown => {
                return Err(error(format!("change of members {} is unknown", wire.kind)));
            }
        })
    };
    Ok(Message::ChangeAsked {
        sequence: wire.sequence,
        request: ChangeRequest {
            changes: wire
                .changes
                .into_iter()
                .map(change)
                .collect::<Result<_, _>>()?,
            as_etcd: wire.as_etcd,
        },
    })
}

pub(super) fn wire_answered(sequence: u64, outcome: &Result<ChangeBegun, Refusal>) -> WireAnswered {
    match outcome {
        Ok(begun) => WireAnswered {
            sequence,
            index: begun.index.0,
            term: begun.term.0,
            refusal: None,
        },
        Err(refusal) => {
            let reason = REASONS
                .iter()
                .position(|reason| *reason == refusal.reason)
                .expect("each reason has a number");
            WireAnswered {
                sequence,
                refusal: Some(WireRefusal {
                    reason: reason as u32,
                    text: refusal.text.clone(),
                }),
                ..WireAnswered::default()
            }
        }
    }
}

pub(super) fn answered(wire: WireAnswered) -> Result<Message, DecodeError> {
    let outcome = match wire.refusal {
        None => Ok(ChangeBegun {
            index: Index(wire.index),
            term: Term(wire.term),
        }),
        // A reason that a later version added is in the text.
        Some(refusal) => Err(Refusal {
            reason: REASONS
                .get(refusal.reason as usize)
                .copied()
                .unwrap_or(RefusalReason::Invalid),
            text: refusal.text,
        }),
    };
    Ok(Message::ChangeAnswered {
        sequence: wire.sequence,
        outcome,
    })
}
