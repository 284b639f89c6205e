//! What requests did to single keys, for the search of [`crate::linearizability`].

use super::Request;
use crate::linearizability::{Action, Value};
use bytes::Bytes;
use replica::{Body, Consistency};
use state::{Answer, Operation, Query, Reply, StepReply, TxnStep};

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
                    let compare = &txn.compares[0];
                    let expected = number_of(&compare.value);
                    if reply.succeeded {
                        actions.push((
                            compare.key.clone(),
                            Action::Swap {
                                expected,
                                new: Some(id),
                            },
                        ));
                    } else if let Some(StepReply::Range(range)) = reply.steps.first() {
                        let found = range.kvs.first().and_then(|kv| number_of(&kv.value));
                        actions
                            .push((compare.key.clone(), Action::SwapRefused { expected, found }));
                    }
                }
                _ => {}
            }
        }
        (
            Request::Read(Consistency::Linearizable, Query::Range(range)),
            Body::Answer(Answer::Range(reply)),
        ) if range.revision == 0
            && range.range_end.is_empty()
            && !range.count_only
            && !range.keys_only =>
        {
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
        Some(Operation::Txn(txn))
            if txn
                .success
                .iter()
                .any(|operation| matches!(operation.step, Some(TxnStep::Put(_)))) =>
        {
            let compare = &txn.compares[0];
            (
                compare.key.clone(),
                Action::Swap {
                    expected: number_of(&compare.value),
                    new: Some(id),
                },
            )
        }
        _ => return Vec::new(),
    };
    if is_searched(&action.0) {
        vec![action]
    } else {
        Vec::new()
    }
}

/// The key is one whose history is searched: leased keys change by themselves and are left to the model.
fn is_searched(key: &[u8]) -> bool {
    key.starts_with(b"k")
}

fn number_of(value: &[u8]) -> Value {
    std::str::from_utf8(value).ok()?.parse().ok()
}
