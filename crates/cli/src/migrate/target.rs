//! The destination, and how far the migration has come: a key beside the data, changed with it.

use super::pipeline::{Pipeline, Sent};
use super::range::{KeyRange, present};
use crate::output::{Failed, hex};
use bytes::Bytes;
use client::{Client, ClientError};
use proto::etcdserverpb as pb;
use proto::mvccpb::KeyValue;
use std::collections::BTreeMap;
use std::time::SystemTime;

/// Where progress stands; the source's cluster follows.
const PROGRESS_PREFIX: &str = "synod-migrate/";
/// Changes of one transaction, and bytes of them: what every server takes.
const CHANGES_MAX: usize = 100;
const BYTES_MAX: usize = 1 << 20;

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
    /// What tells this migration's marks from those of another one from the same source.
    run: String,
    /// The transactions on their way.
    pipeline: Pipeline,
    /// The mark of the last transaction sent; `None` before the first change.
    last: Option<Bytes>,
    /// The last transaction sent brings the destination to this revision of the source.
    sent: i64,
    /// Parts sent, so that no two marks are equal.
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
        let progress_key = Bytes::from(format!("{PROGRESS_PREFIX}{source:x}"));
        let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let mut target = Target {
            run: format!("{:x}.{:x}", since.as_nanos(), std::process::id()),
            pipeline: Pipeline::new(client.clone(), progress_key.clone()),
            client,
            range,
            progress_key,
            last: None,
            sent: 0,
            part: 0,
        };
        target.last = target.pipeline.read_mark().await?;
        if let Some(mark) = &target.last {
            (target.sent, target.part) = target.parse(mark).ok_or_else(|| {
                Failed::Refused(format!(
                    "to: a migration of other keys from this source has begun there ({}); finish it with the same --prefix, or remove its mark",
                    String::from_utf8_lossy(&target.progress_key)
                ))
            })?;
            target
                .pipeline
                .begin_after(target.last.clone(), target.sent);
            eprintln!("going on after source revision {}", target.sent);
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

    /// All revisions of the source up to here are in the destination for good.
    pub fn done(&self) -> i64 {
        self.pipeline.done()
    }

    /// Some of what was written may not be there yet.
    pub fn is_busy(&self) -> bool {
        !self.pipeline.is_empty()
    }

    /// The key that is not of the source.
    pub fn is_own(&self, key: &[u8]) -> bool {
        key == self.progress_key
    }

    fn mark(&self, done: i64, part: u64) -> Bytes {
        let (start, end) = (hex(&self.range.start), hex(&self.range.end));
        Bytes::from(format!("{done} {part} {start}-{end} {}", self.run))
    }

    /// The source's revision and the part that a mark tells, if it is of the same range.
    fn parse(&self, mark: &[u8]) -> Option<(i64, u64)> {
        let text = std::str::from_utf8(mark).ok()?;
        let (start, end) = (hex(&self.range.start), hex(&self.range.end));
        let mut words = text.split(' ');
        let (done, part) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        (words.next()? == format!("{start}-{end}")).then_some((done, part))
    }

    /// Sends changes of one revision of the source, in one transaction if one takes them; after the last all up to `revision` is done.
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
                self.commit(std::mem::take(&mut operations), bytes, self.sent)
                    .await?;
                bytes = 0;
            }
            bytes += change.bytes();
            operations.push(change.operation());
        }
        self.commit(operations, bytes, revision).await
    }

    /// Notes that all up to `revision` is done.
    pub async fn note(&mut self, revision: i64) -> Result<(), Failed> {
        if revision > self.sent {
            self.commit(Vec::new(), 0, revision).await?;
        }
        Ok(())
    }

    /// Sends operations, with the mark that says so, to be made if the mark is still the one before.
    async fn commit(
        &mut self,
        operations: Vec<pb::RequestOp>,
        bytes: usize,
        done: i64,
    ) -> Result<(), Failed> {
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
        self.pipeline
            .push(Sent::new(mark.clone(), done, bytes, request))
            .await?;
        self.last = Some(mark);
        self.part += 1;
        self.sent = self.sent.max(done);
        Ok(())
    }

    fn unchanged(&self) -> pb::Compare {
        use pb::compare::{CompareResult, CompareTarget, TargetUnion};
        let (target, union) = match &self.last {
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

    /// The oldest answer that is still to come; only while something is [on its way](Target::is_busy).
    pub async fn answer(&mut self) -> Result<bool, ClientError> {
        self.pipeline.answer().await
    }

    /// Takes what [`Target::answer`] gave.
    pub async fn settle(&mut self, answer: Result<bool, ClientError>) -> Result<(), Failed> {
        self.pipeline.settle(answer).await
    }

    /// Waits until all that was written is there.
    pub async fn flush(&mut self) -> Result<(), Failed> {
        self.pipeline.flush().await
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
