//! Things to do, each of which one of many takes.

use crate::log::unique_key;
use crate::{ClientError, Compare, Kv, Op, Session, Txn, TxnAnswer};
use proto::etcdserverpb as pb;
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::mvccpb::KeyValue;
use proto::mvccpb::event::EventType;
use std::collections::VecDeque;
use tokio::task::JoinHandle;

/// Values looked at together, so that those who take at the same time seldom want the same one.
const PAGE: i64 = 16;

/// A queue: each value that is pushed is taken by one, the oldest first. Whoever takes a value has it alone; if it dies before it has dealt with it, the
/// value is gone. It is for coordination, not for a stream of data.
pub struct Queue {
    session: Session,
    kv: Kv,
    prefix: String,
    /// What was looked at and not tried yet.
    seen: VecDeque<KeyValue>,
    /// A value that is being taken. A caller that drops its future finds it here the next time.
    taking: Option<Taking>,
}

struct Taking {
    value: Vec<u8>,
    taken: JoinHandle<Result<TxnAnswer, ClientError>>,
}

impl Queue {
    /// The queue of this name. Its values are the keys that begin with the name and a slash.
    pub fn new(session: &Session, name: &str) -> Queue {
        Queue {
            session: session.clone(),
            kv: Kv::of(session),
            prefix: format!("{name}/"),
            seen: VecDeque::new(),
            taking: None,
        }
    }

    /// Adds a value, once however often it has to be sent.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn push(&self, value: impl AsRef<[u8]>) -> Result<(), ClientError> {
        let key = unique_key(&self.session, &self.prefix);
        self.kv.put(key, value).await.map(drop)
    }

    /// Takes the oldest value, if there is one.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn try_pop(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        Ok(self.take().await?.ok())
    }

    /// Takes the oldest value; waits for one. Whoever drops this future loses none: the next call has it.
    ///
    /// # Errors
    /// See [`ClientError`]; the session may be lost while this waits.
    pub async fn pop(&mut self) -> Result<Vec<u8>, ClientError> {
        let session = self.session.clone();
        session.while_alive(self.pop_alive()).await
    }

    async fn pop_alive(&mut self) -> Result<Vec<u8>, ClientError> {
        loop {
            match self.take().await? {
                Ok(value) => return Ok(value),
                Err(empty_at) => self.wait(empty_at).await?,
            }
        }
    }

    /// Takes the oldest value, or says at which revision there was none.
    async fn take(&mut self) -> Result<Result<Vec<u8>, i64>, ClientError> {
        loop {
            if let Some(value) = self.try_seen().await? {
                return Ok(Ok(value));
            }
            let page = self.session.client().range(pb::RangeRequest {
                key: self.prefix.clone().into(),
                range_end: crate::feed::prefix_end(self.prefix.as_bytes()).into(),
                limit: PAGE,
                sort_order: SortOrder::Ascend.into(),
                sort_target: SortTarget::Create.into(),
                ..pb::RangeRequest::default()
            });
            let page = page.await?.message;
            if page.kvs.is_empty() {
                return Ok(Err(page.header.map_or(0, |header| header.revision)));
            }
            self.seen.extend(page.kvs);
        }
    }

    /// Takes the first of those looked at that is still there.
    async fn try_seen(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        loop {
            if let Some(taking) = &mut self.taking {
                let taken = (&mut taking.taken).await;
                let value = std::mem::take(&mut taking.value);
                self.taking = None;
                if taken.expect("it does not panic")?.succeeded {
                    return Ok(Some(value));
                }
            }
            let Some(kv) = self.seen.pop_front() else {
                return Ok(None);
            };
            let txn = Txn::new()
                .when(Compare::mod_revision(&kv.key, kv.mod_revision))
                .then(Op::delete(&kv.key));
            let keys = self.kv.clone();
            self.taking = Some(Taking {
                value: kv.value.to_vec(),
                taken: tokio::spawn(async move { keys.txn(txn).await }),
            });
        }
    }

    /// Waits until something is pushed after a revision.
    async fn wait(&self, after: i64) -> Result<(), ClientError> {
        let mut watch = self.session.client().watch(pb::WatchCreateRequest {
            key: self.prefix.clone().into(),
            range_end: crate::feed::prefix_end(self.prefix.as_bytes()).into(),
            start_revision: after + 1,
            filters: vec![pb::watch_create_request::FilterType::Nodelete.into()],
            ..pb::WatchCreateRequest::default()
        });
        while let Some(answer) = watch.next().await? {
            let pushed = |event: &proto::mvccpb::Event| event.r#type() == EventType::Put;
            // Ended, perhaps because history is gone: look again.
            if answer.canceled || answer.events.iter().any(pushed) {
                return Ok(());
            }
        }
        Ok(())
    }
}
