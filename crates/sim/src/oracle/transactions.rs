//! KV4 and KV6 for transactions that write nothing: they see one revision, and what they name of the past.

use super::{Check, broken};
use crate::model::Model;
use state::{Answer, Rejection, Txn};

/// Holds the answer against the decided log: it was given at revision `current`, when everything from `compacted` on was readable.
pub fn check_read(
    model: &Model,
    txn: &Txn,
    answer: &Answer,
    (current, compacted): (i64, i64),
) -> Check {
    let named = model.named_revisions(txn, current);
    match answer {
        Answer::Txn(reply) => {
            if let Some(revision) = named.iter().find(|revision| **revision > current) {
                broken!("KV4", "revision {revision} is in the future of {current}");
            }
            if let Some(revision) = named.iter().find(|revision| **revision < compacted) {
                broken!("KV4", "revision {revision} was compacted, to {compacted}");
            }
            let expected = model.read_txn(txn, current);
            if *reply != expected {
                broken!("KV6", "the log says {expected:?}");
            }
            Ok(())
        }
        Answer::Rejected(Rejection::Compacted { compacted: told }) => {
            let gone = named.iter().any(|revision| revision < told);
            if !gone || !model.was_compacted_to(*told, current) {
                broken!("KV4", "it names {named:?}, and {compacted} is readable");
            }
            Ok(())
        }
        Answer::Rejected(Rejection::FutureRevision { .. }) => {
            if named.iter().all(|revision| *revision <= current) {
                broken!("KV4", "it names {named:?}, and {current} is reached");
            }
            Ok(())
        }
        answer => broken!("KV6", "the answer is of another kind: {answer:?}"),
    }
}
