//! The dictionary between the two libraries. What it says and leaves out is told in `main.rs`.
//!
//! It stands at the members on raft-rs: what they send to one of ours is translated as it leaves, what comes from one of ours as it arrives,
//! because some words need the log of the one who speaks (the term at a commit index) or listens (whether it has that entry).

use crate::member::Slot;
use crate::ours::{entry, slot};
use raft::{Body, Boot, Index, Instant, Message, Rejection, Term};
use raft_rs::CAMPAIGN_TRANSFER;
use raft_rs::eraftpb::{self, MessageType};
use std::collections::BTreeMap;

/// Heartbeats on their way whose answers are still understood.
const ROUNDS_MAX: usize = 1000;

/// What a member on raft-rs is while something is translated for it.
pub struct Speaker<'a> {
    pub id: u64,
    pub term: u64,
    pub leads: bool,
    /// Its log, durable or not.
    pub log: &'a [Slot],
}

impl Speaker<'_> {
    fn term_at(&self, index: u64) -> Option<u64> {
        match index {
            0 => Some(0),
            _ => self.log.get(index as usize - 1).map(|slot| slot.term),
        }
    }
}

/// What a translation must remember between question and answer. Lost at a crash, like the connection it stands for.
pub struct Interpreter {
    boot: Boot,
    round: u64,
    /// What raft-rs wants back with the answer to a heartbeat.
    contexts: BTreeMap<u64, Vec<u8>>,
    /// The term each of our members last asked pre-votes for: a refusal of raft-rs does not name it.
    campaigns: BTreeMap<u64, Term>,
    /// Passes on every commit index: a bug planted to see that it is found.
    pub careless: bool,
}

impl Interpreter {
    pub fn new(boot: u64) -> Interpreter {
        Interpreter {
            boot: Boot(boot),
            round: 0,
            contexts: BTreeMap::new(),
            campaigns: BTreeMap::new(),
            careless: false,
        }
    }

    /// What `speaker` says to one of ours.
    pub fn for_ours(
        &mut self,
        now: u64,
        speaker: &Speaker,
        m: &eraftpb::Message,
    ) -> Option<Message> {
        let (term, body) = match m.get_msg_type() {
            MessageType::MsgRequestPreVote => (
                m.term - 1,
                Body::PreVote {
                    campaign: Term(m.term),
                    last_index: Index(m.index),
                    last_term: Term(m.log_term),
                },
            ),
            MessageType::MsgRequestPreVoteResponse if !m.reject => (
                speaker.term,
                Body::PreVoteReply {
                    campaign: Term(m.term),
                    granted: true,
                },
            ),
            MessageType::MsgRequestPreVoteResponse => (
                m.term,
                Body::PreVoteReply {
                    campaign: *self.campaigns.get(&m.to)?,
                    granted: false,
                },
            ),
            MessageType::MsgRequestVote => (
                m.term,
                Body::Vote {
                    last_index: Index(m.index),
                    last_term: Term(m.log_term),
                    transfer: m.context == CAMPAIGN_TRANSFER,
                },
            ),
            MessageType::MsgRequestVoteResponse => (m.term, Body::VoteReply { granted: !m.reject }),
            MessageType::MsgAppend => (
                m.term,
                Body::Append {
                    prev_index: Index(m.index),
                    prev_term: Term(m.log_term),
                    commit: Index(m.commit),
                    entries: m
                        .entries
                        .iter()
                        .map(|e| entry(e.index, &their_slot(e)))
                        .collect(),
                },
            ),
            MessageType::MsgAppendResponse => (m.term, self.append_answer(m)),
            MessageType::MsgHeartbeat => (m.term, self.heartbeat(now, speaker, m)),
            MessageType::MsgHeartbeatResponse => (m.term, self.round_answer(&m.context)?),
            MessageType::MsgTimeoutNow => (m.term, Body::TimeoutNow),
            // Passed on for another member, which ours would not know to answer: the connection says who asks.
            MessageType::MsgReadIndex if m.from != speaker.id => return None,
            MessageType::MsgReadIndex => {
                let (boot, request) = read_request(&m.entries[0].data);
                (speaker.term, Body::ReadIndex { boot, request })
            }
            MessageType::MsgReadIndexResp => {
                let (boot, request) = read_request(&m.entries[0].data);
                (
                    m.term,
                    Body::ReadIndexReply {
                        boot,
                        request,
                        index: Index(m.index),
                    },
                )
            }
            other => panic!("{other:?} is outside of the common subset: {m:?}"),
        };
        Some(Message {
            term: Term(term),
            to: crate::ours::peer(m.to).incarnation,
            body,
        })
    }

    /// An acknowledgement of index 0 is none (no leader's log is empty): it is how raft-rs tells a leader of an older term of the newer one.
    fn append_answer(&self, m: &eraftpb::Message) -> Body {
        let rejection = Rejection {
            prev_index: Index(m.index),
            hint_index: Index(m.reject_hint),
            hint_term: Term(m.log_term),
        };
        match (m.reject, m.index) {
            (false, 0) => Body::StaleTerm,
            (false, index) => Body::AppendReply {
                matched: Index(index),
                rejected: None,
                boot: self.boot,
                amnesiac: false,
            },
            (true, _) => Body::AppendReply {
                matched: Index(0),
                rejected: Some(rejection),
                boot: self.boot,
                amnesiac: false,
            },
        }
    }

    fn heartbeat(&mut self, now: u64, speaker: &Speaker, m: &eraftpb::Message) -> Body {
        self.round += 1;
        self.contexts.insert(self.round, m.context.to_vec());
        while self.contexts.len() > ROUNDS_MAX {
            self.contexts.pop_first();
        }
        let commit_term = speaker
            .term_at(m.commit)
            .expect("a leader has what it says is committed");
        Body::Heartbeat {
            round: self.round,
            boot: self.boot,
            sent: Instant(now),
            commit: Index(m.commit),
            commit_term: Term(commit_term),
            recovery: None,
        }
    }

    fn round_answer(&self, context: &[u8]) -> Option<Body> {
        let [round, boot, sent] = numbers(context);
        (round > 0).then_some(Body::HeartbeatReply {
            round,
            leader_boot: Boot(boot),
            sent: Instant(sent),
            boot: self.boot,
            amnesiac: false,
        })
    }

    /// What one of ours says to `listener`; `None` where raft-rs has no word for it, or must not hear it now.
    pub fn for_theirs(
        &mut self,
        listener: &Speaker,
        from: u64,
        message: Message,
    ) -> Option<eraftpb::Message> {
        let mut m = eraftpb::Message {
            from,
            to: listener.id,
            term: message.term.0,
            ..eraftpb::Message::default()
        };
        match message.body {
            Body::PreVote {
                campaign,
                last_index,
                last_term,
            } => {
                self.campaigns.insert(from, campaign);
                m.set_msg_type(MessageType::MsgRequestPreVote);
                (m.term, m.index, m.log_term) = (campaign.0, last_index.0, last_term.0);
            }
            Body::PreVoteReply { campaign, granted } => {
                m.set_msg_type(MessageType::MsgRequestPreVoteResponse);
                m.reject = !granted;
                if granted {
                    m.term = campaign.0;
                }
            }
            Body::Vote {
                last_index,
                last_term,
                transfer,
            } => {
                m.set_msg_type(MessageType::MsgRequestVote);
                (m.index, m.log_term) = (last_index.0, last_term.0);
                if transfer {
                    m.context = CAMPAIGN_TRANSFER.into();
                }
            }
            Body::VoteReply { granted } => {
                m.set_msg_type(MessageType::MsgRequestVoteResponse);
                m.reject = !granted;
            }
            Body::Append {
                prev_index,
                prev_term,
                commit,
                entries,
            } => {
                m.set_msg_type(MessageType::MsgAppend);
                (m.index, m.log_term, m.commit) = (prev_index.0, prev_term.0, commit.0);
                let entries: Vec<_> = entries
                    .iter()
                    .map(|e| their_entry(e.index.0, &slot(e)))
                    .collect();
                m.set_entries(entries.into());
            }
            Body::AppendReply {
                matched,
                rejected,
                amnesiac,
                ..
            } => {
                assert!(!amnesiac, "no member loses entries in this run");
                m.set_msg_type(MessageType::MsgAppendResponse);
                m.index = matched.0;
                if let Some(rejection) = rejected {
                    m.reject = true;
                    (m.index, m.reject_hint, m.log_term) = (
                        rejection.prev_index.0,
                        rejection.hint_index.0,
                        rejection.hint_term.0,
                    );
                }
            }
            Body::Heartbeat {
                round,
                boot,
                sent,
                commit,
                commit_term,
                recovery,
            } => {
                assert!(recovery.is_none(), "no member loses entries in this run");
                m.set_msg_type(MessageType::MsgHeartbeat);
                m.context = bytes_of(&[round, boot.0, sent.0]).into();
                // raft-rs believes a commit index; a leader of its own sends none that the follower may lack.
                if self.careless || listener.term_at(commit.0) == Some(commit_term.0) {
                    m.commit = commit.0;
                }
            }
            Body::HeartbeatReply {
                round, leader_boot, ..
            } => {
                m.set_msg_type(MessageType::MsgHeartbeatResponse);
                let context = (leader_boot == self.boot)
                    .then(|| self.contexts.get(&round))
                    .flatten()?;
                m.context = context.clone().into();
            }
            Body::ReadIndex { boot, request } => {
                // Ours is meant for the leader of exactly this term; that of raft-rs carries no term and is passed on.
                if !listener.leads || listener.term != message.term.0 {
                    return None;
                }
                m.set_msg_type(MessageType::MsgReadIndex);
                m.term = 0;
                m.set_entries(vec![read_entry(boot.0, request)].into());
            }
            Body::ReadIndexReply {
                boot,
                request,
                index,
            } => {
                m.set_msg_type(MessageType::MsgReadIndexResp);
                m.index = index.0;
                m.set_entries(vec![read_entry(boot.0, request)].into());
            }
            Body::TimeoutNow => m.set_msg_type(MessageType::MsgTimeoutNow),
            Body::StaleTerm => m.set_msg_type(MessageType::MsgAppendResponse),
            Body::Forward { .. } | Body::ForwardRefused { .. } => {
                panic!(
                    "forwarding is outside of the common subset: {:?}",
                    message.body
                )
            }
        }
        Some(m)
    }
}

/// The context of a read of raft-rs: the asking process and its request, as ours names them.
pub fn read_context(boot: u64, request: u64) -> Vec<u8> {
    bytes_of(&[boot, request])
}

/// The asking process and its request.
pub fn read_request(context: &[u8]) -> (Boot, u64) {
    let [boot, request] = numbers(context);
    (Boot(boot), request)
}

fn read_entry(boot: u64, request: u64) -> eraftpb::Entry {
    eraftpb::Entry {
        data: read_context(boot, request).into(),
        ..eraftpb::Entry::default()
    }
}

pub fn their_entry(index: u64, slot: &Slot) -> eraftpb::Entry {
    eraftpb::Entry {
        index,
        term: slot.term,
        data: slot.payload.clone(),
        ..eraftpb::Entry::default()
    }
}

pub fn their_slot(entry: &eraftpb::Entry) -> Slot {
    Slot {
        term: entry.term,
        payload: entry.data.clone(),
    }
}

fn bytes_of(numbers: &[u64]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_be_bytes())
        .collect()
}

fn numbers<const N: usize>(bytes: &[u8]) -> [u64; N] {
    assert_eq!(bytes.len(), 8 * N, "not a context of this run: {bytes:?}");
    std::array::from_fn(|nth| {
        u64::from_be_bytes(bytes[8 * nth..8 * nth + 8].try_into().expect("eight bytes"))
    })
}
