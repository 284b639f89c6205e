//! The destination, and how far the migration has come: a key beside the data, changed with it.

use super::pause;
use super::range::{KeyRange, present};
use crate::output::{Failed, hex};
use bytes::Bytes;
use client::{Client, ClientError};
use proto::etcdserverpb as pb;
use proto::mvccpb::KeyValue;
use std::collections::BTreeMap;

/// Where progress stands; the source's cluster follows.
const PROGRESS_PREFIX: &str = "synod-migrate/";
/// Changes of one transaction, and bytes of them: what every server takes.
const CHANGES_MAX: usize = 100;
const BYTES_MAX: usize = 1 << 20;
/// Attempts to learn what became of a transaction.
const ATTEMPTS_MAX: usize = 50;

/// A change to make.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Put(KeyValue),
    Delete(Bytes),
}

impl Change {
    fn key(&self) -> &Bytes {
        match self {
            Change::Put(kv) => &kv.key,
            Change::Delete(key) => key,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Change::Put(kv) => kv.key.len() + kv.value.len(),
            Change::Delete(key) => key.len(),
        }
    }

    fn operation(&self) -> pb::RequestOp {
        let request = match self {
            Change::Put(kv) => pb::request_op::Request::RequestPut(pb::PutRequest {
                key: kv.key.clone(),
                value: kv.value.clone(),
                lease: kv.lease,
                ..pb::PutRequest::default()
            }),
            Change::Delete(key) => {
                pb::request_op::Request::RequestDeleteRange(pb::DeleteRangeRequest {
                    key: key.clone(),
                    ..pb::DeleteRangeRequest::default()
                })
            }
        };
        pb::RequestOp {
            request: Some(request),
        }
    }
}

/// See the module.
pub(super) struct Target {
    client: Client,
    range: KeyRange,
    progress_key: Bytes,
    /// As it stands at the destination; `None` before the first change.
    progress: Option<Bytes>,
    /// All revisions of the source up to here are in the destination.
    done: i64,
    /// Parts written, so that no two marks are equal.
    part: u64,
}

impl Target {
    /// Looks at the destination: it must be empty, or have been begun with the same range.
    pub async fn open(
        client: Client,
        source: u64,
        range: KeyRange,
        force: bool,
    ) -> Result<Target, Failed> {
        let mut target = Target {
            client,
            range,
            progress_key: Bytes::from(format!("{PROGRESS_PREFIX}{source:x}")),
            progress: None,
            done: 0,
            part: 0,
        };
        target.progress = target.read_progress().await?;
        if let Some(mark) = &target.progress {
            (target.done, target.part) = target.parse(mark).ok_or_else(|| {
                Failed::Refused(format!(
                    "to: a migration of other keys from this source has begun there ({}); finish it with the same --prefix, or remove its mark",
                    String::from_utf8_lossy(&target.progress_key)
                ))
            })?;
            eprintln!("going on after source revision {}", target.done);
            return Ok(target);
        }
        let keys = present(&target.client, &target.range).await?.keys;
        if keys > 0 && !force {
            return Err(Failed::Refused(format!(
                "to: the destination has {keys} keys there already; migrate into an empty one, or pass --force to make it like the source"
            )));
        }
        Ok(target)
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn range(&self) -> &KeyRange {
        &self.range
    }

    pub fn done(&self) -> i64 {
        self.done
    }

    /// The key that is not of the source.
    pub fn is_own(&self, key: &[u8]) -> bool {
        key == self.progress_key
    }

    fn mark(&self, done: i64, part: u64) -> Bytes {
        let (start, end) = (hex(&self.range.start), hex(&self.range.end));
        Bytes::from(format!("{done} {part} {start}-{end}"))
    }

    fn parse(&self, mark: &[u8]) -> Option<(i64, u64)> {
        let text = std::str::from_utf8(mark).ok()?;
        let mut words = text.split(' ');
        let (done, part) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        (self.mark(done, part) == mark).then_some((done, part))
    }

    async fn read_progress(&self) -> Result<Option<Bytes>, Failed> {
        let request = pb::RangeRequest {
            key: self.progress_key.clone(),
            ..pb::RangeRequest::default()
        };
        let answer = self.client.range(request).await?.message;
        Ok(answer.kvs.into_iter().next().map(|kv| kv.value))
    }

    /// Makes changes of one revision of the source, in one transaction if one takes them; after the last all up to `revision` is done.
    pub async fn write(&mut self, changes: Vec<Change>, revision: i64) -> Result<(), Failed> {
        // A key changes once in a transaction: its last change counts.
        let last: BTreeMap<Bytes, usize> = changes
            .iter()
            .enumerate()
            .map(|(at, change)| (change.key().clone(), at))
            .collect();
        let (mut operations, mut bytes) = (Vec::new(), 0);
        for (at, change) in changes.iter().enumerate() {
            if last[change.key()] != at {
                continue;
            }
            let full = operations.len() == CHANGES_MAX || bytes + change.bytes() > BYTES_MAX;
            if full && !operations.is_empty() {
                self.commit(std::mem::take(&mut operations), self.done)
                    .await?;
                bytes = 0;
            }
            bytes += change.bytes();
            operations.push(change.operation());
        }
        self.commit(operations, revision).await
    }

    /// Notes that all up to `revision` is done.
    pub async fn note(&mut self, revision: i64) -> Result<(), Failed> {
        if revision > self.done {
            self.commit(Vec::new(), revision).await?;
        }
        Ok(())
    }

    /// Makes operations, with the mark that says so, if the mark is still the last one.
    async fn commit(&mut self, operations: Vec<pb::RequestOp>, done: i64) -> Result<(), Failed> {
        let mark = self.mark(done, self.part + 1);
        let mut success = operations;
        success.push(
            Change::Put(KeyValue {
                key: self.progress_key.clone(),
                value: mark.clone(),
                ..KeyValue::default()
            })
            .operation(),
        );
        let request = pb::TxnRequest {
            compare: vec![self.unchanged()],
            success,
            failure: Vec::new(),
        };
        for _ in 0..ATTEMPTS_MAX {
            match self.client.txn(request.clone()).await {
                Ok(answer) if answer.message.succeeded => {}
                Ok(_) if self.read_progress().await?.as_ref() == Some(&mark) => {}
                Ok(_) => {
                    return Err(Failed::Refused(
                        "to: another migration from this source writes there; let one of them finish".into(),
                    ));
                }
                // Whether it was made shows in the mark.
                Err(ClientError::Unknown { .. } | ClientError::Unreachable { .. }) => {
                    pause().await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            self.progress = Some(mark);
            self.part += 1;
            self.done = self.done.max(done);
            return Ok(());
        }
        Err(Failed::Unreachable(
            "to: the destination does not answer; give the command again to go on".into(),
        ))
    }

    fn unchanged(&self) -> pb::Compare {
        use pb::compare::{CompareResult, CompareTarget, TargetUnion};
        let (target, union) = match &self.progress {
            Some(mark) => (CompareTarget::Value, TargetUnion::Value(mark.clone())),
            None => (CompareTarget::Create, TargetUnion::CreateRevision(0)),
        };
        pb::Compare {
            result: CompareResult::Equal.into(),
            target: target.into(),
            key: self.progress_key.clone(),
            range_end: Bytes::new(),
            target_union: Some(union),
        }
    }

    /// The migration is over: its mark goes.
    pub async fn close(&self) -> Result<(), Failed> {
        let request = pb::DeleteRangeRequest {
            key: self.progress_key.clone(),
            ..pb::DeleteRangeRequest::default()
        };
        self.client.delete_range(request).await?;
        Ok(())
    }
}
