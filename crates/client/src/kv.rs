//! Keys: reads as fresh as wanted, and writes that are applied once, and only while their locks are held.

use crate::call::Kind;
use crate::retry::Backoff;
use crate::sequence::Ticket;
use crate::session::millis;
use crate::{Client, ClientError, Fence, Guard, Level, Session, Stamp};
use proto::mvccpb::KeyValue;
use proto::synod::v1 as api;
use proto::synod::v1::kv_client::KvClient;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use tokio::time::sleep;
use tonic::transport::Channel;

pub use txn::{Compare, Op, Txn, TxnAnswer};

mod txn;

/// Reads and writes keys. Cheap to clone; clones can differ in how fresh they read and in the locks that guard them.
///
/// A write that may have been lost is sent again under its number, to any member, and applied once; that takes a session, which a value made by
/// [`Kv::new`] opens with its first write.
#[derive(Clone)]
pub struct Kv {
    client: Client,
    writer: Arc<tokio::sync::Mutex<Option<Session>>>,
    level: Level,
    fences: Vec<Fence>,
}

impl Kv {
    /// The keys of a cell.
    pub fn new(client: &Client) -> Kv {
        Kv {
            client: client.clone(),
            writer: Arc::default(),
            level: Level::default(),
            fences: Vec::new(),
        }
    }

    /// The same, with writes in the name of a session that is there already.
    pub fn of(session: &Session) -> Kv {
        Kv {
            writer: Arc::new(tokio::sync::Mutex::new(Some(session.clone()))),
            ..Kv::new(session.client())
        }
    }

    /// The same keys, read as fresh as this.
    pub fn at(&self, level: Level) -> Kv {
        Kv {
            level,
            ..self.clone()
        }
    }

    /// The same keys, written only while this holds: from a holder whose time is over, no write is applied.
    pub fn guarded(&self, guard: &Guard) -> Kv {
        self.fenced(guard.fence())
    }

    /// The same with a fence that came from elsewhere.
    pub fn fenced(&self, fence: Fence) -> Kv {
        let mut guarded = self.clone();
        guarded.fences.push(fence);
        guarded
    }

    /// How much history this client has seen. Handed to another client, by any way, a read with [`Level::AtLeast`] sees no less.
    pub fn stamp(&self) -> Option<Stamp> {
        self.client.seen.newest()
    }

    /// Reads a key.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<KeyValue>, ClientError> {
        let request = api::GetRequest {
            consistency: self.consistency(),
            key: owned(key),
            revision: 0,
        };
        let call = async |channel, request| service(channel).get(request).await;
        let answer = self.client.unary(Kind::Read, request, call).await?;
        Ok(answer.message.kv)
    }

    /// Reads all keys that begin so, in their order, as of one revision.
    ///
    /// # Errors
    /// See [`ClientError`]; refused if that revision is compacted while this reads on, page by page.
    pub async fn list(&self, prefix: impl AsRef<[u8]>) -> Result<Vec<KeyValue>, ClientError> {
        let prefix = owned(prefix);
        let mut request = api::RangeRequest {
            consistency: self.consistency(),
            key: prefix.clone(),
            prefix: true,
            ..api::RangeRequest::default()
        };
        let mut all: Vec<KeyValue> = Vec::new();
        loop {
            let call = async |channel, request| service(channel).range(request).await;
            let answer = self.client.unary(Kind::Read, request.clone(), call).await?;
            let page = answer.message;
            all.extend(page.kvs);
            let (Some(last), true) = (all.last(), page.more) else {
                return Ok(all);
            };
            if request.revision == 0 {
                let header = page.header.unwrap_or_default();
                request.revision = header.revision;
                request.prefix = false;
                request.range_end = crate::feed::prefix_end(&prefix).into();
                // Another member serves the rest once it has come as far.
                request.consistency = Some(api::Consistency {
                    level: api::Level::AtLeast.into(),
                    stamp: header.stamp,
                    ..api::Consistency::default()
                });
            }
            request.key = [&last.key[..], &[0]].concat().into();
        }
    }

    /// Sets a key; gives the revision.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn put(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<i64, ClientError> {
        self.put_leased(key, value, 0).await
    }

    /// Sets a key that goes away with a session; gives the revision.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn put_while(
        &self,
        session: &Session,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<i64, ClientError> {
        self.put_leased(key, value, session.number()).await
    }

    async fn put_leased(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        lease: i64,
    ) -> Result<i64, ClientError> {
        let (change, _ticket) = self.change().await?;
        let request = api::PutRequest {
            change,
            key: owned(key),
            value: owned(value),
            lease,
            prev_kv: false,
        };
        let call = async |channel, request| service(channel).put(request).await;
        let answer = self.client.unary(Kind::Once, request, call).await?;
        Ok(answer.message.header.map_or(0, |header| header.revision))
    }

    /// Removes a key; says whether there was one.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool, ClientError> {
        Ok(self.remove(key, false).await? > 0)
    }

    /// Removes all keys that begin so; says how many.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete_all(&self, prefix: impl AsRef<[u8]>) -> Result<i64, ClientError> {
        self.remove(prefix, true).await
    }

    async fn remove(&self, key: impl AsRef<[u8]>, prefix: bool) -> Result<i64, ClientError> {
        let (change, _ticket) = self.change().await?;
        let request = api::DeleteRequest {
            change,
            key: owned(key),
            prefix,
            ..api::DeleteRequest::default()
        };
        let call = async |channel, request| service(channel).delete(request).await;
        let answer = self.client.unary(Kind::Once, request, call).await?;
        Ok(answer.message.deleted)
    }

    /// Compares, then does one of two lists of things, all or nothing.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn txn(&self, txn: Txn) -> Result<TxnAnswer, ClientError> {
        let reads = txn.only_reads();
        // A number is for what may not happen twice.
        let (change, _ticket) = match reads {
            true => (None, None),
            false => {
                let (change, ticket) = self.change().await?;
                (change, Some(ticket))
            }
        };
        let consistency = self.consistency().filter(|_| reads);
        let request = txn.request(change, consistency);
        let kind = if reads { Kind::Read } else { Kind::Once };
        let call = async |channel, request| service(channel).txn(request).await;
        let answer = self.client.unary(kind, request, call).await?;
        Ok(TxnAnswer::of(answer.message))
    }

    /// Changes a value by looking at it: `change` is called with what is there, again whenever somebody else was faster, until what it makes could be
    /// written. `None` leaves the key as it is. Gives the value that is there in the end.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn update(
        &self,
        key: impl AsRef<[u8]>,
        mut change: impl FnMut(Option<&[u8]>) -> Option<Vec<u8>>,
    ) -> Result<Option<Vec<u8>>, ClientError> {
        let key = key.as_ref();
        let fresh = self.at(Level::Linearizable);
        let mut backoff = Backoff::new();
        let mut present = fresh.get(key).await?;
        loop {
            let value = present.as_ref().map(|kv| &kv.value[..]);
            let Some(new) = change(value) else {
                return Ok(value.map(<[u8]>::to_vec));
            };
            let unchanged = present.as_ref().map_or(0, |kv| kv.mod_revision);
            let txn = Txn::new()
                .when(Compare::mod_revision(key, unchanged))
                .then(Op::put(key, &new))
                .otherwise(Op::get(key));
            let answer = self.txn(txn).await?;
            if answer.succeeded {
                return Ok(Some(new));
            }
            present = answer.read(0).first().cloned();
            sleep(backoff.next()).await;
        }
    }

    /// Reads a value that was written as JSON.
    ///
    /// # Errors
    /// See [`ClientError`]; the value may be of another type.
    pub async fn get_as<T: DeserializeOwned>(
        &self,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<T>, ClientError> {
        let found = self.get(key).await?;
        found.map(|kv| decode(&kv.key, &kv.value)).transpose()
    }

    /// Writes a value as JSON; gives the revision.
    ///
    /// # Errors
    /// See [`ClientError`]; the value may not be one that can be written.
    pub async fn put_as<T: Serialize>(
        &self,
        key: impl AsRef<[u8]>,
        value: &T,
    ) -> Result<i64, ClientError> {
        let value = encode(key.as_ref(), value)?;
        self.put(key, value).await
    }

    /// [`Kv::update`] for a value in JSON; gives what was written.
    ///
    /// # Errors
    /// See [`ClientError`]; what is there may be of another type.
    pub async fn update_as<T: Serialize + DeserializeOwned>(
        &self,
        key: impl AsRef<[u8]>,
        mut change: impl FnMut(Option<T>) -> T,
    ) -> Result<T, ClientError> {
        let key = key.as_ref();
        let mut outcome = Ok(());
        let written = self.update(key, |present| {
            let known = present.map(|value| decode(key, value)).transpose();
            match known.and_then(|known| encode(key, &change(known))) {
                Ok(new) => Some(new),
                Err(error) => {
                    outcome = Err(error);
                    None
                }
            }
        });
        let written = written.await?;
        outcome?;
        decode(key, &written.unwrap_or_default())
    }

    /// What a change carries. The session is opened with the first one, and anew when it was lost.
    async fn change(&self) -> Result<(Option<api::Change>, Ticket), ClientError> {
        let session = {
            let mut writer = self.writer.lock().await;
            match writer.as_ref().filter(|session| session.is_alive()) {
                Some(session) => session.clone(),
                None => writer.insert(Session::open(&self.client).await?).clone(),
            }
        };
        Ok(session.change(&self.fences).await)
    }

    fn consistency(&self) -> Option<api::Consistency> {
        let at_least = |stamp: &Stamp| api::Consistency {
            level: api::Level::AtLeast.into(),
            stamp: stamp.to_string(),
            age_ms: 0,
        };
        let local = || api::Consistency {
            level: api::Level::Local.into(),
            ..api::Consistency::default()
        };
        match &self.level {
            Level::Linearizable => None,
            Level::AtLeast(stamp) => Some(at_least(stamp)),
            // Who has seen nothing may see anything.
            Level::ReadYourWrites => Some(self.stamp().as_ref().map_or_else(local, at_least)),
            Level::Bounded(age) => Some(api::Consistency {
                level: api::Level::Bounded.into(),
                stamp: String::new(),
                age_ms: millis(*age),
            }),
            Level::Local => Some(local()),
        }
    }
}

fn service(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel)
        .max_decoding_message_size(usize::MAX)
        .max_encoding_message_size(usize::MAX)
}

fn owned(bytes: impl AsRef<[u8]>) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(bytes.as_ref())
}

pub(crate) fn encode<T: Serialize>(key: &[u8], value: &T) -> Result<Vec<u8>, ClientError> {
    serde_json::to_vec(value).map_err(|error| bad_value(key, &error))
}

pub(crate) fn decode<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(value).map_err(|error| bad_value(key, &error))
}

fn bad_value(key: &[u8], error: &serde_json::Error) -> ClientError {
    ClientError::BadValue {
        key: String::from_utf8_lossy(key).into_owned(),
        reason: error.to_string(),
    }
}
