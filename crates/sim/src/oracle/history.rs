//! KV1 to KV4, KV6 to KV8, C3 and L5: every answer is compared with what the decided log says it must be, and with what was answered before it began.
//!
//! Two checks that know nothing of each other: the [`Model`] replays the decided batches and predicts each answer at its own index; and the
//! histories per key go to the search in [`crate::linearizability`], which trusts no index.

use super::actions::{known_actions, possible_actions};
use super::blame::{self, Blame};
use super::lease_views::LeaseViews;
use super::{Check, Locks, Once, Own, Rights, Upkeep, broken, locks, transactions};
use crate::clock::Micros;
use crate::linearizability::{self, Action, Verdict};
use crate::model::{Applied, Model, Users};
use bytes::Bytes;
use prost::Message as _;
use raft::Payload;
use replica::{Body, Consistency, Failure, Response, WatchCreate, WatchResponse};
use state::auth::{Caller, PermissionKind};
use state::lock::{LockAnswer, LockQuery, LockReply};
use state::{Answer, Batch, Command, Query, Rejection, Reply};
use std::collections::{BTreeMap, BTreeSet};

/// Steps the search may take per key.
const SEARCH_BUDGET: u64 = 200_000;

/// What a client asked for.
#[derive(Clone, Debug)]
pub enum Request {
    /// A change.
    Propose(Command),
    /// A renewal.
    KeepAlive(i64),
    /// A read.
    Read(Consistency, Query),
}

/// A request under way.
#[derive(Clone, Debug)]
struct Pending {
    request: Request,
    /// On whose behalf.
    caller: Caller,
    asked_at: Micros,
    /// The newest index and revision that any answer had shown before this request began.
    floor: u64,
    floor_revision: i64,
}

/// What the log says a command did.
#[derive(Clone, Debug)]
struct Effectuated {
    index: u64,
    reply: Reply,
    revision: i64,
    /// The promise that an answer of another kind would break.
    property: &'static str,
}

/// The oracle.
#[derive(Debug)]
pub struct History {
    model: Model,
    /// Revision and compacted revision after each index, from 0 on.
    after: Vec<(i64, i64)>,
    rights: Rights,
    leases: LeaseViews,
    blame: Blame,
    effects: BTreeMap<u64, Effectuated>,
    pending: BTreeMap<u64, Pending>,
    asked: BTreeSet<u64>,
    refused: BTreeSet<u64>,
    floor: u64,
    floor_revision: i64,
    /// When the floor rose, and to which index.
    floors: Vec<(Micros, u64)>,
    hashes: BTreeMap<(i64, i64), u32>,
    keys: BTreeMap<Bytes, Vec<linearizability::Operation>>,
    locks: Locks,
    once: Once,
    upkeep: Upkeep,
    answered: u64,
    failed: u64,
}

impl History {
    /// An empty history.
    pub fn new() -> History {
        History {
            model: Model::new(),
            after: vec![(1, 0)],
            rights: Rights::default(),
            leases: LeaseViews::default(),
            blame: Blame::default(),
            effects: BTreeMap::new(),
            pending: BTreeMap::new(),
            asked: BTreeSet::new(),
            refused: BTreeSet::new(),
            floor: 0,
            floor_revision: 0,
            floors: Vec::new(),
            hashes: BTreeMap::new(),
            keys: BTreeMap::new(),
            locks: Locks::default(),
            once: Once::default(),
            upkeep: Upkeep::new(Own::default()),
            answered: 0,
            failed: 0,
        }
    }

    /// The members are set to do these things of their own accord.
    pub fn expect_own(&mut self, own: Own) {
        self.upkeep = Upkeep::new(own);
    }

    /// History that is old enough has gone.
    pub fn check_gone(&self, at: Micros) -> Check {
        self.upkeep.check_gone(at, &self.model)
    }

    /// The decided state.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Requests answered, and requests that failed.
    pub fn counts(&self) -> (u64, u64) {
        (self.answered, self.failed)
    }

    /// S1: what a watch was told when it was asked for, at a revision.
    pub fn check_watch(&self, create: &WatchCreate, response: &WatchResponse) -> Check {
        let (caller, revision) = (&create.caller, response.revision);
        let judge = |users: &Users| {
            let asking = self.model.asking(users, caller, revision);
            asking.may(PermissionKind::Read, &create.key, &create.range_end)
        };
        self.rights.check_watch(&self.after, response, judge)
    }

    /// What is known of commands that were refused.
    pub fn blame(&self) -> &Blame {
        &self.blame
    }

    /// What was seen of users.
    pub fn rights(&self) -> &Rights {
        &self.rights
    }

    /// What was seen of locks.
    pub fn locks(&self) -> &Locks {
        &self.locks
    }

    /// What was seen of requests sent again, and of identifiers.
    pub fn once(&self) -> &Once {
        &self.once
    }

    /// The next entry was decided; gives what it did.
    pub fn on_decided(
        &mut self,
        payload: &Payload,
        formed_at: Micros,
    ) -> Result<Applied, (&'static str, String)> {
        let index = self.after.len() as u64;
        let (mut applied, mut commands) = (Applied::default(), Vec::new());
        if let Payload::Batch(bytes) = payload {
            let Ok(batch) = Batch::decode(bytes.clone()) else {
                broken!("C3", "index {index} is decided and no batch")
            };
            applied = self
                .model
                .apply_watched(&batch, formed_at, Locks::check)
                .map_err(|(promise, text)| (promise, format!("at index {index}, {text}")))?;
            self.rights.on_batch(index, &applied.users);
            self.locks.on_batch(index, &applied.woken, &self.model)?;
            commands = batch
                .groups
                .into_iter()
                .flat_map(|it| it.commands)
                .collect();
            self.leases
                .on_batch(index, &applied, &commands, &self.model);
        }
        self.after
            .push((self.model.revision(), self.model.compacted()));
        self.upkeep.on_batch(formed_at, &self.model);
        for (outcome, command) in applied.outcomes.iter().zip(&commands) {
            let nobodys = outcome.trace.is_empty();
            if nobodys
                && (self.locks.is_giving_up(command) || self.upkeep.on_own(command, formed_at)?)
            {
                continue;
            }
            let Some(id) = request_id(&outcome.trace) else {
                broken!("C3", "index {index} holds a command nobody asked for")
            };
            if !self.asked.contains(&id) {
                broken!(
                    "C3",
                    "index {index} holds request {id}, which nobody asked for"
                );
            }
            if self.refused.contains(&id) {
                broken!(
                    "E1",
                    "request {id} is decided at index {index} after its client was told that it never would"
                );
            }
            self.blame
                .on_decided(command, &outcome.reply, outcome.revision);
            let effect = Effectuated {
                index,
                reply: outcome.reply.clone(),
                revision: outcome.revision,
                property: promise(command, &outcome.reply, &self.model),
            };
            self.locks
                .on_decided((id, index), command, &outcome.reply, &self.model)?;
            if let Some(first) = self.effects.insert(id, effect) {
                broken!(
                    "E1",
                    "request {id} is decided twice, at index {} and {index}",
                    first.index
                );
            }
        }
        Ok(applied)
    }

    /// A member got a request.
    pub fn on_request(&mut self, id: u64, caller: Caller, request: Request, at: Micros) {
        self.asked.insert(id);
        if let Request::Propose(command) = &request {
            self.once.on_request(command);
        }
        self.pending.insert(
            id,
            Pending {
                request,
                caller,
                asked_at: at,
                floor: self.floor,
                floor_revision: self.floor_revision,
            },
        );
    }

    /// Nobody will ever hear how this request ended.
    pub fn on_lost(&mut self, id: u64, at: Micros) {
        if let Some(pending) = self.pending.remove(&id) {
            self.failed += 1;
            self.note_unknown(id, &pending, at);
            if let Request::Propose(command) = &pending.request {
                self.locks.on_lost(id, command);
            }
        }
    }

    /// A member ended a request.
    pub fn on_outcome(
        &mut self,
        id: u64,
        outcome: &Result<Response, Failure>,
        at: Micros,
    ) -> Check {
        let Some(pending) = self.pending.remove(&id) else {
            broken!(
                "V1",
                "request {id} is answered a second time, or was never asked: {outcome:?}"
            );
        };
        match outcome {
            Ok(response) => {
                self.answered += 1;
                self.rights.on_answer(&response.body);
                self.check_response(id, &pending, response)
                    .map_err(|(property, text)| {
                        (
                            property,
                            format!(
                                "request {id}, {:?}: {text}; answer {response:?}",
                                pending.request
                            ),
                        )
                    })?;
                if let Request::Propose(command) = &pending.request {
                    self.once.on_reply(id, command, response)?;
                }
                if response.stamp.index > self.floor {
                    self.floor = response.stamp.index;
                    self.floors.push((at, self.floor));
                }
                self.floor_revision = self.floor_revision.max(response.revision);
                if let Body::Reply(_) = response.body {
                    self.blame.agree(response.revision);
                }
                self.note_known(id, &pending, response, at);
            }
            Err(Failure::Unknown) => {
                self.failed += 1;
                self.note_unknown(id, &pending, at);
            }
            Err(failure) => {
                self.failed += 1;
                self.refused.insert(id);
                if let Some(effect) = self.effects.get(&id) {
                    broken!(
                        "E1",
                        "request {id} ends with {failure:?}, and is decided at index {}",
                        effect.index
                    );
                }
            }
        }
        self.locks.on_ended(id);
        Ok(())
    }

    fn check_response(&self, id: u64, pending: &Pending, response: &Response) -> Check {
        let index = response.stamp.index;
        let Some((revision, _)) = self.after.get(index as usize).copied() else {
            broken!(
                "KV8",
                "its stamp names index {index}, and {} is the last decided",
                self.after.len() - 1
            );
        };
        match (&pending.request, &response.body) {
            (Request::Propose(command), Body::Reply(reply)) => {
                let Some(effect) = self.effects.get(&id) else {
                    broken!("KV2", "it is acknowledged and not decided")
                };
                if effect.index <= pending.floor {
                    broken!(
                        "KV1",
                        "index {} had been seen before it was asked",
                        pending.floor
                    );
                }
                if let Reply::Lock(LockReply::Waiting { .. }) = effect.reply {
                    return self.locks.check_told(id, &self.model, response);
                }
                let same = same_reply(&effect.reply, reply);
                if same && effect.index != index {
                    broken!("KV7", "it is decided at index {}", effect.index);
                }
                if !same || effect.revision != response.revision {
                    let told_before = self.once.told(command);
                    let property = if same {
                        self.blame
                            .of_revision(response.revision, effect.revision, &self.model)
                    } else {
                        blame::of_reply(effect.property, &effect.reply, reply, told_before)
                    };
                    broken!(
                        property,
                        "the log says {:?} at revision {}",
                        effect.reply,
                        effect.revision
                    );
                }
                Ok(())
            }
            (Request::KeepAlive(lease), Body::KeepAlive(ttl_ms)) => {
                let at = (index, pending.floor);
                self.leases.check_renewal(*lease, *ttl_ms, at)
            }
            (Request::Read(consistency, query), Body::Answer(answer)) => {
                match consistency {
                    Consistency::Linearizable if index < pending.floor => {
                        broken!(
                            "KV1",
                            "index {} had been seen before it was asked",
                            pending.floor
                        )
                    }
                    Consistency::Bounded(age)
                        if index < self.floor_before(pending.asked_at, *age) =>
                    {
                        broken!(
                            "V2",
                            "index {} had been seen {age:?} before it was asked",
                            self.floor_before(pending.asked_at, *age)
                        )
                    }
                    Consistency::AtLeast(stamp) if index < stamp.index => {
                        broken!("KV7", "it is older than {stamp:?}")
                    }
                    _ => {}
                }
                let linearizable = *consistency == Consistency::Linearizable;
                if linearizable && response.revision < pending.floor_revision {
                    broken!(
                        "KV1",
                        "revision {} had been seen before it was asked",
                        pending.floor_revision
                    )
                }
                // A view in the midst of a batch is stamped with that batch.
                let before = self.after[(index as usize).saturating_sub(1)].0;
                if response.revision < before || response.revision > revision {
                    let unknown = response.revision > self.model.revision();
                    let property = if unknown {
                        self.blame
                            .of_revision(response.revision, revision, &self.model)
                    } else {
                        "KV8"
                    };
                    broken!(
                        property,
                        "index {index} stands at revision {revision}, not {}",
                        response.revision
                    );
                }
                let seen = linearizable && pending.floor >= index;
                let (caller, revision) = (&pending.caller, response.revision);
                let judge =
                    |users: &Users| self.model.asking(users, caller, revision).question(query);
                self.rights.check((index, seen), answer, judge)?;
                self.check_answer(query, answer, response)
            }
            (_, body) => broken!("KV6", "the answer is of another kind: {body:?}"),
        }
    }

    /// The newest index any answer had shown so long before a time, by a clock that may drift.
    fn floor_before(&self, at: Micros, age: std::time::Duration) -> u64 {
        let before = at.saturating_sub(age.as_micros() as u64 * 102 / 100);
        let after = self.floors.partition_point(|(rose, _)| *rose < before);
        after.checked_sub(1).map_or(0, |last| self.floors[last].1)
    }

    fn check_answer(&self, query: &Query, answer: &Answer, response: &Response) -> Check {
        let index = response.stamp.index;
        let compacted = self.after[(index as usize).saturating_sub(1)].1;
        let current = response.revision;
        match (query, answer) {
            (Query::Range(range), Answer::Range(reply)) => {
                if range.revision > 0 && range.revision < compacted {
                    broken!(
                        "KV4",
                        "its revision was compacted, {compacted} is the oldest readable"
                    );
                }
                if range.revision > current {
                    broken!("KV4", "its revision is in the future of {current}");
                }
                let expected = self.model.range(range, current);
                if *reply != expected {
                    let present = range.revision == 0;
                    let property = self.blame.of_range(&expected, reply, present, &self.model);
                    broken!(property, "the log says {expected:?}");
                }
                Ok(())
            }
            (Query::Range(range), Answer::Rejected(Rejection::Compacted { compacted: told })) => {
                if range.revision == 0
                    || range.revision >= *told
                    || !self.model.was_compacted_to(*told, current)
                {
                    broken!(
                        "KV4",
                        "nothing was compacted up to there, {compacted} is the oldest readable"
                    );
                }
                Ok(())
            }
            (Query::Range(range), Answer::Rejected(Rejection::FutureRevision { .. })) => {
                if range.revision <= current {
                    broken!("KV4", "its revision is reached, it stands at {current}");
                }
                Ok(())
            }
            (_, Answer::Rejected(Rejection::Auth(_))) => Ok(()),
            (Query::Txn(txn), answer) => {
                transactions::check_read(&self.model, txn, answer, (current, compacted))
            }
            (Query::LeaseTimeToLive { id, keys }, Answer::Lease(view)) => {
                let at = (index, current);
                self.leases
                    .check_view((*id, *keys), view.as_ref(), at, &self.model)
            }
            (Query::Leases, Answer::Leases(ids)) => self.leases.check_list(ids, index),
            (
                Query::HashKv { .. },
                Answer::HashKv {
                    hash,
                    compact_revision,
                    hash_revision,
                },
            ) => match self.hashes.get(&(*compact_revision, *hash_revision)) {
                Some(seen) if seen != hash => broken!("KV5", "another member said {seen:x}"),
                _ => Ok(()),
            },
            (
                Query::Lock(LockQuery::Check { token, .. }),
                Answer::Lock(LockAnswer::Check { held, newest }),
            ) => {
                if *held && newest < token {
                    broken!("F2", "{token} is held, and {newest} the newest");
                }
                self.locks.check_held(*token, *held, index)
            }
            (Query::Position, Answer::Position) | (Query::HashKv { .. }, Answer::Rejected(_)) => {
                Ok(())
            }
            (_, answer) => broken!("KV6", "the answer is of another kind: {answer:?}"),
        }
    }

    /// Adds an answered request to the histories of its keys.
    fn note_known(&mut self, id: u64, pending: &Pending, response: &Response, at: Micros) {
        if let (
            Request::Read(_, Query::HashKv { .. }),
            Body::Answer(Answer::HashKv {
                hash,
                compact_revision,
                hash_revision,
            }),
        ) = (&pending.request, &response.body)
        {
            self.hashes
                .insert((*compact_revision, *hash_revision), *hash);
        }
        for (key, action) in known_actions(id, &pending.request, &response.body) {
            self.note_action(key, pending.asked_at, Some(at), action);
        }
    }

    fn note_unknown(&mut self, id: u64, pending: &Pending, _at: Micros) {
        for (key, action) in possible_actions(id, &pending.request) {
            self.note_action(key, pending.asked_at, None, action);
        }
    }

    fn note_action(
        &mut self,
        key: Bytes,
        called: Micros,
        returned: Option<Micros>,
        action: Action,
    ) {
        self.keys
            .entry(key)
            .or_default()
            .push(linearizability::Operation {
                called,
                returned,
                action,
            });
    }

    /// Searches each key's history for a legal order. Gives how many keys were checked, and how many searches were given up.
    pub fn check_linearizability(&mut self) -> Result<(u64, u64), (&'static str, String)> {
        for (id, pending) in std::mem::take(&mut self.pending) {
            self.note_unknown(id, &pending, 0);
        }
        let (mut checked, mut given_up) = (0, 0);
        for (key, operations) in &self.keys {
            match linearizability::check(None, operations, SEARCH_BUDGET) {
                Verdict::Linearizable => checked += 1,
                Verdict::Undecided => given_up += 1,
                Verdict::Violation { stuck } => {
                    let stuck: Vec<_> =
                        stuck.iter().map(|position| operations[*position]).collect();
                    broken!(
                        "KV1",
                        "the history of key {key:?} is not linearizable; no order can go on with any of {stuck:?}"
                    );
                }
            }
        }
        Ok((checked, given_up))
    }
}

/// The request a command's trace id names.
pub fn request_id(trace: &[u8]) -> Option<u64> {
    let bytes: [u8; 16] = trace.try_into().ok()?;
    (bytes[..8] == [0; 8]).then(|| u64::from_be_bytes(bytes[8..].try_into().expect("eight bytes")))
}

/// The trace id of a request.
pub fn trace_id(request: u64) -> Bytes {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&request.to_be_bytes());
    Bytes::copy_from_slice(&bytes)
}

/// The unique value a put writes: its request's number in decimal.
pub fn value_of(request: u64) -> Bytes {
    Bytes::from(request.to_string())
}

/// The promise that a reply keeps, so that another one breaks it.
fn promise(command: &Command, reply: &Reply, model: &Model) -> &'static str {
    match reply {
        Reply::Auth | Reply::Rejected(Rejection::Auth(_)) => "S1",
        _ => locks::promise(command, reply, model),
    }
}

/// The replies agree. The texts of refusals are not compared.
fn same_reply(expected: &Reply, found: &Reply) -> bool {
    match (expected, found) {
        (Reply::Rejected(Rejection::Invalid(_)), Reply::Rejected(Rejection::Invalid(_))) => true,
        _ => expected == found,
    }
}
