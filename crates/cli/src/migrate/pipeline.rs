//! Transactions on their way to the destination, many at a time. Each is made only if the mark of the one before it is there, so they are made in their
//! order or not at all, however they arrive; after a failure the mark tells where to go on.

use super::pause;
use crate::output::Failed;
use bytes::Bytes;
use client::{Client, ClientError};
use proto::etcdserverpb as pb;
use std::collections::VecDeque;
use tokio::task::JoinHandle;

/// Transactions on their way at most, and bytes of them.
const SENT_MAX: usize = 64;
const BYTES_MAX: usize = 4 << 20;
/// Attempts to learn what became of a transaction.
const ATTEMPTS_MAX: usize = 50;

/// A transaction that may not have been made yet.
pub(super) struct Sent {
    mark: Bytes,
    done: i64,
    bytes: usize,
    request: pb::TxnRequest,
    answer: Option<JoinHandle<Result<bool, ClientError>>>,
}

impl Sent {
    /// A transaction that leaves this mark, by which all up to revision `done` of the source is there.
    pub fn new(mark: Bytes, done: i64, bytes: usize, request: pb::TxnRequest) -> Sent {
        Sent {
            mark,
            done,
            bytes,
            request,
            answer: None,
        }
    }

    /// Tasks of one thread begin in the order in which they were made; on their way some overtake others.
    fn send(&mut self, client: &Client) {
        let (client, request) = (client.clone(), self.request.clone());
        let asked = async move { Ok(client.txn(request).await?.message.succeeded) };
        self.answer = Some(tokio::spawn(asked));
    }

    /// Whether it was made; may be given up and asked for again until it has answered.
    async fn answer(&mut self) -> Result<bool, ClientError> {
        let Some(answer) = &mut self.answer else {
            return Ok(false);
        };
        let outcome = answer.await;
        self.answer = None;
        outcome.unwrap_or_else(|error| {
            Err(ClientError::Unknown {
                reason: error.to_string(),
            })
        })
    }
}

/// See the module.
pub(super) struct Pipeline {
    client: Client,
    progress_key: Bytes,
    /// The last mark that is certainly there.
    mark: Option<Bytes>,
    /// What it stands for.
    done: i64,
    sent: VecDeque<Sent>,
    /// Attempts to learn what became of them since the last one was made.
    failures: usize,
}

impl Pipeline {
    pub fn new(client: Client, progress_key: Bytes) -> Pipeline {
        Pipeline {
            client,
            progress_key,
            mark: None,
            done: 0,
            sent: VecDeque::new(),
            failures: 0,
        }
    }

    /// Goes on where another migration stopped.
    pub fn begin_after(&mut self, mark: Option<Bytes>, done: i64) {
        (self.mark, self.done) = (mark, done);
    }

    pub fn done(&self) -> i64 {
        self.done
    }

    pub fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// The mark as it stands at the destination.
    pub async fn read_mark(&self) -> Result<Option<Bytes>, ClientError> {
        let request = pb::RangeRequest {
            key: self.progress_key.clone(),
            ..pb::RangeRequest::default()
        };
        let answer = self.client.range(request).await?.message;
        Ok(answer.kvs.into_iter().next().map(|kv| kv.value))
    }

    /// Sends one more, as soon as there is room for it.
    pub async fn push(&mut self, mut next: Sent) -> Result<(), Failed> {
        while self.is_full(next.bytes) {
            let answer = self.answer().await;
            self.settle(answer).await?;
        }
        next.send(&self.client);
        self.sent.push_back(next);
        Ok(())
    }

    fn is_full(&self, more: usize) -> bool {
        let bytes: usize = self.sent.iter().map(|sent| sent.bytes).sum();
        !self.is_empty() && (self.sent.len() >= SENT_MAX || bytes + more > BYTES_MAX)
    }

    /// Waits until nothing is on its way.
    pub async fn flush(&mut self) -> Result<(), Failed> {
        while !self.is_empty() {
            let answer = self.answer().await;
            self.settle(answer).await?;
        }
        Ok(())
    }

    /// The answer to the oldest, which must be [settled](Pipeline::settle) then.
    ///
    /// # Panics
    /// Nothing is on its way.
    pub async fn answer(&mut self) -> Result<bool, ClientError> {
        let oldest = self.sent.front_mut().expect("something is on its way");
        oldest.answer().await
    }

    /// Takes the answer to the oldest.
    pub async fn settle(&mut self, answer: Result<bool, ClientError>) -> Result<(), Failed> {
        match answer {
            Ok(true) => {
                self.made(1);
                Ok(())
            }
            // Another was before it, or whether it was made shows in the mark.
            Ok(false) | Err(ClientError::Unknown { .. } | ClientError::Unreachable { .. }) => {
                self.send_again().await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The oldest ones are there.
    fn made(&mut self, count: usize) {
        self.failures = 0;
        for sent in self.sent.drain(..count) {
            self.done = self.done.max(sent.done);
            self.mark = Some(sent.mark);
        }
    }

    /// Waits for all answers, sees by the mark what was made, and sends the others once more: the same ones, so that it does no harm if the first
    /// attempt arrives after all.
    async fn send_again(&mut self) -> Result<(), Failed> {
        for sent in &mut self.sent {
            // The mark says more than the answer.
            let _ = sent.answer().await;
        }
        while self.failures < ATTEMPTS_MAX {
            self.failures += 1;
            // Later ones overtake earlier ones all the time: only what fails again waits.
            if self.failures > 1 {
                pause().await;
            }
            let mark = match self.read_mark().await {
                Err(ClientError::Unknown { .. } | ClientError::Unreachable { .. }) => continue,
                mark => mark?,
            };
            if mark != self.mark {
                let made = self
                    .sent
                    .iter()
                    .position(|sent| Some(&sent.mark) == mark.as_ref());
                self.made(1 + made.ok_or_else(|| {
                    Failed::Refused("to: another migration from this source writes there; let one of them finish".into())
                })?);
            }
            for sent in &mut self.sent {
                sent.send(&self.client);
            }
            return Ok(());
        }
        Err(Failed::Unreachable(
            "to: the destination does not answer; give the command again to go on".into(),
        ))
    }
}
