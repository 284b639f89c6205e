//! Copying: brings the destination from where it is to one revision of the source.
//!
//! Each live key is put when its creation's turn comes, and once more at its last change if that came later, so that the order of creations and the
//! order of changes are both the source's. What lies at or below the revision already done is in the destination. A key there which the source lacks,
//! or which has been made anew since, goes first.

use super::range::{KeyRange, Pages, present};
use super::target::{Change, Target};
use super::{Migration, range};
use crate::output::Failed;
use bytes::Bytes;
use client::Client;
use proto::etcdserverpb as pb;
use proto::mvccpb::KeyValue;
use std::collections::BTreeMap;

/// Steps whose values are read at once.
const STEPS_MAX: usize = 64;
/// How etcd says that a revision is gone.
const COMPACTED: &str = "required revision has been compacted";

/// A key that is to be put when the turn of `revision` comes.
struct Step {
    revision: i64,
    key: Bytes,
}

/// Copies as of `revision`; if the source forgets that meanwhile, as of a newer one.
pub(super) async fn copy(migration: &mut Migration, mut revision: i64) -> Result<(), Failed> {
    loop {
        match copy_at(migration, revision).await {
            Err(Failed::Refused(text)) if text.contains(COMPACTED) => {
                revision = present(&migration.source, migration.target.range())
                    .await?
                    .revision;
                eprintln!("the source has compacted; going on as of its revision {revision}");
            }
            copied => return copied,
        }
    }
}

async fn copy_at(migration: &mut Migration, revision: i64) -> Result<(), Failed> {
    migration.target.flush().await?;
    let range = migration.target.range().clone();
    let there = Pages::new(&migration.source, &range, revision, false)
        .rest()
        .await?;
    let stale = stale(&migration.target, &range, &there).await?;
    let done = migration.target.done();
    if !stale.is_empty() {
        let changes = stale.into_iter().map(Change::Delete).collect();
        migration.write(changes, done).await?;
    }
    let steps = steps(there, done);
    let mut steps = &steps[..];
    let mut group = Vec::new();
    while !steps.is_empty() {
        let (some, rest) = steps.split_at(steps.len().min(STEPS_MAX));
        let values = values(&migration.source, some, revision).await?;
        for (at, step) in some.iter().enumerate() {
            let value = values.get(&step.key).ok_or_else(|| vanished(&step.key))?;
            group.push(Change::Put(value.clone()));
            let next = some.get(at + 1).or(rest.first());
            if next.is_none_or(|next| next.revision != step.revision) {
                migration
                    .write(std::mem::take(&mut group), step.revision)
                    .await?;
            }
        }
        steps = rest;
        migration.look_after_leases(false).await?;
        migration.tell();
    }
    migration.target.note(revision).await?;
    migration.target.flush().await
}

/// Keys of the destination that must go before anything is put.
async fn stale(
    target: &Target,
    range: &KeyRange,
    there: &[KeyValue],
) -> Result<Vec<Bytes>, Failed> {
    let now = range::present(target.client(), range).await?.revision;
    let here = Pages::new(target.client(), range, now, false)
        .rest()
        .await?;
    let (mut there, mut stale) = (there.iter().peekable(), Vec::new());
    for kv in here {
        while there.next_if(|other| other.key < kv.key).is_some() {}
        let stays = there
            .peek()
            .is_some_and(|other| other.key == kv.key && other.create_revision <= target.done());
        if !stays && !target.is_own(&kv.key) {
            stale.push(kv.key);
        }
    }
    Ok(stale)
}

/// What is to be put, in the order of the source's revisions.
fn steps(there: Vec<KeyValue>, done: i64) -> Vec<Step> {
    let mut steps = Vec::new();
    for kv in there {
        let KeyValue {
            key,
            create_revision,
            mod_revision,
            ..
        } = kv;
        if create_revision > done && create_revision != mod_revision {
            steps.push(Step {
                revision: create_revision,
                key: key.clone(),
            });
        }
        if mod_revision > done {
            steps.push(Step {
                revision: mod_revision,
                key,
            });
        }
    }
    steps.sort_by(|a, b| (a.revision, &a.key).cmp(&(b.revision, &b.key)));
    steps
}

/// Reads the keys of some steps, as they are at a revision.
async fn values(
    source: &Client,
    steps: &[Step],
    revision: i64,
) -> Result<BTreeMap<Bytes, KeyValue>, Failed> {
    let read = |step: &Step| pb::RequestOp {
        request: Some(pb::request_op::Request::RequestRange(pb::RangeRequest {
            key: step.key.clone(),
            revision,
            ..pb::RangeRequest::default()
        })),
    };
    let request = pb::TxnRequest {
        success: steps.iter().map(read).collect(),
        ..pb::TxnRequest::default()
    };
    let answer = source.txn(request).await?.message;
    let mut values = BTreeMap::new();
    for response in answer.responses {
        if let Some(pb::response_op::Response::ResponseRange(found)) = response.response {
            values.extend(found.kvs.into_iter().map(|kv| (kv.key.clone(), kv)));
        }
    }
    Ok(values)
}

fn vanished(key: &[u8]) -> Failed {
    Failed::Refused(format!(
        "the source told key {:?} and then did not have it at the same revision",
        String::from_utf8_lossy(key)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(key: &'static str, create_revision: i64, mod_revision: i64) -> KeyValue {
        KeyValue {
            key: Bytes::from_static(key.as_bytes()),
            create_revision,
            mod_revision,
            ..KeyValue::default()
        }
    }

    fn told(done: i64) -> Vec<(i64, String)> {
        let there = vec![kv("a", 2, 9), kv("b", 5, 5), kv("c", 5, 7), kv("d", 3, 3)];
        let steps = steps(there, done);
        steps
            .into_iter()
            .map(|step| (step.revision, String::from_utf8_lossy(&step.key).into()))
            .collect()
    }

    #[test]
    fn creations_and_changes_keep_their_order() {
        let expected = [(2, "a"), (3, "d"), (5, "b"), (5, "c"), (7, "c"), (9, "a")];
        assert_eq!(told(0), expected.map(|(at, key)| (at, key.to_owned())));
    }

    #[test]
    fn what_is_done_is_not_done_again() {
        let expected = [(7, "c"), (9, "a")];
        assert_eq!(told(5), expected.map(|(at, key)| (at, key.to_owned())));
        assert_eq!(told(9), []);
    }
}
