//! The structs that own the bytes of the wire form. Numbers of fields are never reused; what they mean is said where the types of the
//! algorithm are, and `codec.rs` translates.

use bytes::Bytes;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WireMessage {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) to: u32,
    #[prost(
        oneof = "WireBody",
        tags = "3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16"
    )]
    pub(crate) body: Option<WireBody>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum WireBody {
    #[prost(message, tag = "3")]
    Append(WireAppend),
    #[prost(message, tag = "4")]
    AppendReply(WireAppendReply),
    #[prost(message, tag = "5")]
    Heartbeat(WireHeartbeat),
    #[prost(message, tag = "6")]
    HeartbeatReply(WireHeartbeatReply),
    #[prost(message, tag = "7")]
    ReadIndex(WireRead),
    #[prost(message, tag = "8")]
    ReadIndexReply(WireRead),
    #[prost(message, tag = "9")]
    Forward(WireForward),
    #[prost(message, tag = "10")]
    ForwardRefused(WireForward),
    #[prost(message, tag = "11")]
    PreVote(WireVote),
    #[prost(message, tag = "12")]
    PreVoteReply(WireVoteReply),
    #[prost(message, tag = "13")]
    Vote(WireVote),
    #[prost(message, tag = "14")]
    VoteReply(WireVoteReply),
    #[prost(message, tag = "15")]
    TimeoutNow(WireNothing),
    #[prost(message, tag = "16")]
    StaleTerm(WireNothing),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WireNothing {}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WireAppend {
    #[prost(uint64, tag = "1")]
    pub(crate) prev_index: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) prev_term: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) commit: u64,
    #[prost(message, repeated, tag = "4")]
    pub(crate) entries: Vec<WireEntry>,
}

/// An entry without its index, which follows from its place. Neither batch nor configuration: a no-op.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WireEntry {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(crate) batch: Option<Bytes>,
    #[prost(message, optional, tag = "3")]
    pub(crate) configuration: Option<WireConfiguration>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WireAppendReply {
    #[prost(uint64, tag = "1")]
    pub(crate) matched: u64,
    #[prost(message, optional, tag = "2")]
    pub(crate) rejected: Option<WireRejection>,
    #[prost(fixed64, tag = "3")]
    pub(crate) boot: u64,
    #[prost(bool, tag = "4")]
    pub(crate) amnesiac: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WireRejection {
    #[prost(uint64, tag = "1")]
    pub(crate) prev_index: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) hint_index: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) hint_term: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WireHeartbeat {
    #[prost(uint64, tag = "1")]
    pub(crate) round: u64,
    #[prost(fixed64, tag = "2")]
    pub(crate) boot: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) sent: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) commit: u64,
    #[prost(uint64, tag = "5")]
    pub(crate) commit_term: u64,
    #[prost(message, optional, tag = "6")]
    pub(crate) recovery: Option<WireRecovery>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WireRecovery {
    #[prost(fixed64, tag = "1")]
    pub(crate) boot: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) index: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) term: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WireHeartbeatReply {
    #[prost(uint64, tag = "1")]
    pub(crate) round: u64,
    #[prost(fixed64, tag = "2")]
    pub(crate) leader_boot: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) sent: u64,
    #[prost(fixed64, tag = "4")]
    pub(crate) boot: u64,
    #[prost(bool, tag = "5")]
    pub(crate) amnesiac: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WireRead {
    #[prost(fixed64, tag = "1")]
    pub(crate) boot: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) request: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) index: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WireForward {
    #[prost(fixed64, tag = "1")]
    pub(crate) boot: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) epoch: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) position: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) sequence: u64,
    #[prost(bytes = "bytes", tag = "5")]
    pub(crate) body: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WireVote {
    #[prost(uint64, tag = "1")]
    pub(crate) campaign: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) last_index: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) last_term: u64,
    #[prost(bool, tag = "4")]
    pub(crate) transfer: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WireVoteReply {
    #[prost(uint64, tag = "1")]
    pub(crate) campaign: u64,
    #[prost(bool, tag = "2")]
    pub(crate) granted: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WirePeer {
    #[prost(fixed64, tag = "1")]
    pub(crate) member: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) incarnation: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WireConfiguration {
    #[prost(message, repeated, tag = "1")]
    pub(crate) voters: Vec<WirePeer>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) outgoing: Vec<WirePeer>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) learners: Vec<WirePeer>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) learners_next: Vec<WirePeer>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) members: Vec<WireMember>,
    #[prost(fixed64, repeated, tag = "6")]
    pub(crate) departed: Vec<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WireMember {
    #[prost(fixed64, tag = "1")]
    pub(crate) id: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) incarnation: u32,
    #[prost(string, tag = "3")]
    pub(crate) name: String,
    #[prost(string, repeated, tag = "4")]
    pub(crate) peer_addresses: Vec<String>,
    #[prost(string, repeated, tag = "5")]
    pub(crate) client_addresses: Vec<String>,
    #[prost(uint32, tag = "6")]
    pub(crate) feature_level: u32,
    #[prost(uint32, tag = "7")]
    pub(crate) priority: u32,
    #[prost(fixed64, optional, tag = "8")]
    pub(crate) taken_by: Option<u64>,
    #[prost(bool, tag = "9")]
    pub(crate) stays_learner: bool,
    #[prost(fixed64, optional, tag = "10")]
    pub(crate) replaces: Option<u64>,
    #[prost(string, repeated, tag = "11")]
    pub(crate) overruled: Vec<String>,
}
