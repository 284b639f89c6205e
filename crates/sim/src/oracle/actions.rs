//! What requests did to single keys, for the search of [`crate::linearizability`].

use super::Request;
use crate::linearizability::{Action, Value};
use bytes::Bytes;
use replica::{Body, Consistency};
use state::{Answer, Operation, Query, Range, Reply, StepReply, Txn, TxnStep};

/// etcd's number for a comparison that holds for what is equal.
const EQUAL: i32 = 0;

/// What an answered request did to keys whose histories are searched.
pub fn known_actions(id: u64, request: &Request, body: &Body) -> Vec<(Bytes, Action)> {
    let mut actions = Vec::new();
    match (request, body) {
        (Request::Propose(command), Body::Reply(reply)) => {
            match (command.operation.as_ref(), reply) {
                (Some(Operation::Put(put)), Reply::Put { .. }) => {
                    actions.push((put.key.clone(), Action::Write(Some(id))))
                }
                (Some(Operation::DeleteRange(delete)), Reply::DeleteRange { deleted, .. })
                    if delete.range_end.is_empty() =>
                {
                    actions.push((
                        delete.key.clone(),
                        Action::Delete {
                            existed: *deleted > 0,
                        },
                    ));
                }
                (Some(Operation::Txn(txn)), Reply::Txn(reply)) => {
                    let Some((key, expected)) = swap(txn) else {
                        return actions;
                    };
                    if reply.succeeded {
                        let new = Some(id);
                        actions.push((key, Action::Swap { expected, new }));
                    } else if let Some(StepReply::Range(range)) = reply.steps.first() {
                        let found = range.kvs.first().and_then(|kv| number_of(&kv.value));
                        actions.push((key, Action::SwapRefused { expected, found }));
                    }
                }
                _ => {}
            }
        }
        (
            Request::Read(Consistency::Linearizable, Query::Range(range)),
            Body::Answer(Answer::Range(reply)),
        ) if range.revision == 0 && range.range_end.is_empty() && is_whole(range) => {
            let value = reply.kvs.first().and_then(|kv| number_of(&kv.value));
            actions.push((range.key.clone(), Action::Read(value)));
        }
        _ => {}
    }
    actions.retain(|(key, _)| is_searched(key));
    actions
}

/// What a request may have done whose outcome nobody knows.
pub fn possible_actions(id: u64, request: &Request) -> Vec<(Bytes, Action)> {
    let Request::Propose(command) = request else {
        return Vec::new();
    };
    let action = match command.operation.as_ref() {
        Some(Operation::Put(put)) => (put.key.clone(), Action::Write(Some(id))),
        Some(Operation::DeleteRange(delete)) if delete.range_end.is_empty() => {
            (delete.key.clone(), Action::Write(None))
        }
        Some(Operation::Txn(txn)) => match swap(txn) {
            Some((key, expected)) => {
                let new = Some(id);
                (key, Action::Swap { expected, new })
            }
            None => return Vec::new(),
        },
        _ => return Vec::new(),
    };
    if is_searched(&action.0) {
        vec![action]
    } else {
        Vec::new()
    }
}

/// Nothing of the key, if it is there, is left out.
fn is_whole(range: &Range) -> bool {
    let Range {
        min_mod_revision,
        max_mod_revision,
        min_create_revision,
        max_create_revision,
        ..
    } = *range;
    let bounds = [
        min_mod_revision,
        max_mod_revision,
        min_create_revision,
        max_create_revision,
    ];
    !range.count_only && !range.keys_only && bounds == [0; 4]
}

/// The key that a transaction sets if it is as expected, and what that is.
fn swap(txn: &Txn) -> Option<(Bytes, Value)> {
    let ([compare], [operation]) = (&txn.compares[..], &txn.success[..]) else {
        return None;
    };
    let Some(TxnStep::Put(put)) = &operation.step else {
        return None;
    };
    let of_it = put.key == compare.key && compare.range_end.is_empty() && compare.result == EQUAL;
    of_it.then(|| (put.key.clone(), number_of(&compare.value)))
}

/// The key is one whose history is searched: leased keys change by themselves and are left to the model.
fn is_searched(key: &[u8]) -> bool {
    key.starts_with(b"k")
}

fn number_of(value: &[u8]) -> Value {
    std::str::from_utf8(value).ok()?.parse().ok()
}
