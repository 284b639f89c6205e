//! Records in one order for everybody.

use crate::feed::{Feed, News};
use crate::{ClientError, Kv, Session};
use proto::mvccpb::KeyValue;
use proto::mvccpb::event::EventType;
use std::collections::VecDeque;

/// Records that many append, and that all read in the same order. They are kept until they are [trimmed](Log::trim): this is for decisions and
/// configuration, not for a stream of data.
#[derive(Clone)]
pub struct Log {
    session: Session,
    kv: Kv,
    prefix: String,
}

/// A record of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the order: greater than those of all records before it, not always by one.
    pub position: i64,
    /// What was appended.
    pub value: Vec<u8>,
}

impl Log {
    /// The log of this name. Its records are the keys that begin with the name and a slash.
    pub fn new(session: &Session, name: &str) -> Log {
        Log {
            session: session.clone(),
            kv: Kv::of(session),
            prefix: format!("{name}/"),
        }
    }

    /// Appends a record, once however often it has to be sent; gives its position.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn append(&self, value: impl AsRef<[u8]>) -> Result<i64, ClientError> {
        // The order is that of revisions; the key need only be new.
        self.kv
            .put(unique_key(&self.session, &self.prefix), value)
            .await
    }

    /// Reads on from a position; 0 is before all records.
    pub fn read(&self, from: i64) -> LogReader {
        LogReader {
            feed: Feed::new(self.session.client(), self.prefix.as_bytes(), from),
            next: from,
            waiting: VecDeque::new(),
        }
    }

    /// Removes the records before a position.
    ///
    /// # Errors
    /// See [`ClientError`]; some may be removed already.
    pub async fn trim(&self, before: i64) -> Result<(), ClientError> {
        for record in self.kv.list(&self.prefix).await? {
            if record.create_revision < before {
                self.kv.delete(&record.key).await?;
            }
        }
        Ok(())
    }
}

/// A key that nobody used before.
pub(crate) fn unique_key(session: &Session, prefix: &str) -> String {
    let (session, number) = (session.number(), session.next_acquisition());
    format!("{prefix}{session:016x}-{number:016x}")
}

/// Reads a log, first what is there, then what is appended.
pub struct LogReader {
    feed: Feed,
    /// Records from this position on are new.
    next: i64,
    waiting: VecDeque<Record>,
}

impl LogReader {
    /// The next record; waits for one. Whoever drops this future misses nothing.
    ///
    /// # Errors
    /// See [`ClientError`]. It can be asked again, and goes on where it was.
    pub async fn next(&mut self) -> Result<Record, ClientError> {
        loop {
            if let Some(record) = self.waiting.pop_front() {
                self.next = record.position + 1;
                return Ok(record);
            }
            let mut made: Vec<KeyValue> = match self.feed.next().await? {
                News::Whole(keys, _) => keys,
                News::Changes(events, _) => events
                    .into_iter()
                    .filter(|event| event.r#type() == EventType::Put)
                    .filter_map(|event| event.kv)
                    .collect(),
            };
            made.retain(|kv| kv.create_revision >= self.next);
            made.sort_by_key(|kv| kv.create_revision);
            self.waiting.extend(made.into_iter().map(|kv| Record {
                position: kv.create_revision,
                value: kv.value.to_vec(),
            }));
        }
    }
}
