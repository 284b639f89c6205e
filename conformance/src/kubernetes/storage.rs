//! What a kube-apiserver's etcd3 storage asks of its store, request by request (`k8s.io/apiserver/pkg/storage/etcd3` and `clientv3/kubernetes`).

use crate::connection::Connection;
use bytes::Bytes;
use proto::etcdserverpb as pb;
use proto::mvccpb::KeyValue;
use tonic::Status;

/// The key that apiservers agree on compactions by.
pub const COMPACT_KEY: &str = "compact_rev_key";

/// One apiserver's storage: its connection.
#[derive(Clone, Debug)]
pub struct Storage {
    /// To one member.
    pub connection: Connection,
}

/// How a conditional write ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Written {
    /// It was done, at this revision.
    Done(i64),
    /// Somebody was before it: what is there now, if anything.
    Conflict(Option<KeyValue>),
}

/// One page of a list.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The objects.
    pub kvs: Vec<KeyValue>,
    /// More follow.
    pub more: bool,
    /// Objects from where this page begins to the end of the range.
    pub count: i64,
    /// Of the store when it was answered.
    pub revision: i64,
}

impl Page {
    /// Where the next page begins: right behind the last key, as a continue token says.
    pub fn next(&self) -> Option<Bytes> {
        continue_from(&self.kvs, self.more)
    }
}

/// The first key behind all with this prefix.
pub fn prefix_end(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().expect("a prefix is not empty") += 1;
    end.into()
}

fn key_of(key: &str) -> Bytes {
    Bytes::copy_from_slice(key.as_bytes())
}

fn is_unchanged(key: &Bytes, revision: i64) -> pb::Compare {
    pb::Compare {
        result: pb::compare::CompareResult::Equal.into(),
        target: pb::compare::CompareTarget::Mod.into(),
        key: key.clone(),
        target_union: Some(pb::compare::TargetUnion::ModRevision(revision)),
        ..Default::default()
    }
}

fn step(request: pb::request_op::Request) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request),
    }
}

fn get_step(key: &Bytes) -> pb::RequestOp {
    step(pb::request_op::Request::RequestRange(pb::RangeRequest {
        key: key.clone(),
        ..Default::default()
    }))
}

impl Storage {
    /// One object, and the store's revision.
    pub async fn get(&mut self, key: &str) -> Result<(Option<KeyValue>, i64), Status> {
        let request = pb::RangeRequest {
            key: key_of(key),
            ..Default::default()
        };
        let mut response = self.connection.kv.range(request).await?.into_inner();
        let revision = response.header.unwrap_or_default().revision;
        Ok((response.kvs.pop(), revision))
    }

    /// How many objects there are.
    pub async fn count(&mut self, prefix: &str) -> Result<i64, Status> {
        let request = pb::RangeRequest {
            key: key_of(prefix),
            range_end: prefix_end(prefix),
            count_only: true,
            ..Default::default()
        };
        Ok(self.connection.kv.range(request).await?.into_inner().count)
    }

    /// One page: from `from` or the beginning, at `revision` or now (0), at most `limit` (0: all).
    pub async fn page(
        &mut self,
        prefix: &str,
        from: Option<Bytes>,
        limit: i64,
        revision: i64,
    ) -> Result<Page, Status> {
        let request = pb::RangeRequest {
            key: from.unwrap_or_else(|| key_of(prefix)),
            range_end: prefix_end(prefix),
            limit,
            revision,
            ..Default::default()
        };
        let response = self.connection.kv.range(request).await?.into_inner();
        Ok(Page {
            kvs: response.kvs,
            more: response.more,
            count: response.count,
            revision: response.header.unwrap_or_default().revision,
        })
    }

    /// All objects by pages, all at the revision of the first one; gives that revision.
    pub async fn list(&mut self, prefix: &str, limit: i64) -> Result<(Vec<KeyValue>, i64), Status> {
        let mut page = self.page(prefix, None, limit, 0).await?;
        let revision = page.revision;
        let mut all = std::mem::take(&mut page.kvs);
        let mut from = continue_from(&all, page.more);
        while from.is_some() {
            page = self.page(prefix, from, limit, revision).await?;
            all.append(&mut page.kvs);
            from = continue_from(&all, page.more);
        }
        Ok((all, revision))
    }

    /// Makes an object that must not exist.
    pub async fn create(&mut self, key: &str, value: Bytes, lease: i64) -> Result<Written, Status> {
        self.put_if(key, value, 0, lease, false).await
    }

    /// Changes an object that must still be as it was at `revision`.
    pub async fn update(
        &mut self,
        key: &str,
        value: Bytes,
        revision: i64,
    ) -> Result<Written, Status> {
        self.put_if(key, value, revision, 0, true).await
    }

    async fn put_if(
        &mut self,
        key: &str,
        value: Bytes,
        revision: i64,
        lease: i64,
        get_on_failure: bool,
    ) -> Result<Written, Status> {
        let key = key_of(key);
        let put = pb::PutRequest {
            key: key.clone(),
            value,
            lease,
            ..Default::default()
        };
        self.write_if(
            &key,
            revision,
            pb::request_op::Request::RequestPut(put),
            get_on_failure,
        )
        .await
    }

    /// Removes an object that must still be as it was at `revision`.
    pub async fn delete(&mut self, key: &str, revision: i64) -> Result<Written, Status> {
        let key = key_of(key);
        let delete = pb::DeleteRangeRequest {
            key: key.clone(),
            ..Default::default()
        };
        let delete = pb::request_op::Request::RequestDeleteRange(delete);
        self.write_if(&key, revision, delete, true).await
    }

    async fn write_if(
        &mut self,
        key: &Bytes,
        revision: i64,
        write: pb::request_op::Request,
        get_on_failure: bool,
    ) -> Result<Written, Status> {
        let failure = get_on_failure.then(|| get_step(key));
        let request = pb::TxnRequest {
            compare: vec![is_unchanged(key, revision)],
            success: vec![step(write)],
            failure: failure.into_iter().collect(),
        };
        let response = self.connection.kv.txn(request).await?.into_inner();
        if response.succeeded {
            return Ok(Written::Done(response.header.unwrap_or_default().revision));
        }
        let found = response.responses.into_iter().next();
        let found = found.and_then(|response| match response.response {
            Some(pb::response_op::Response::ResponseRange(mut range)) => range.kvs.pop(),
            _ => None,
        });
        Ok(Written::Conflict(found))
    }

    /// Claims a compaction: the key must have the version this apiserver saw last. Gives whether it won, the version now, and the revision that the
    /// winner before it noted.
    pub async fn claim_compaction(
        &mut self,
        version: i64,
        revision: i64,
    ) -> Result<(bool, i64, i64), Status> {
        let key = key_of(COMPACT_KEY);
        let compare = pb::Compare {
            result: pb::compare::CompareResult::Equal.into(),
            target: pb::compare::CompareTarget::Version.into(),
            key: key.clone(),
            target_union: Some(pb::compare::TargetUnion::Version(version)),
            ..Default::default()
        };
        let put = pb::PutRequest {
            key: key.clone(),
            value: revision.to_string().into(),
            ..Default::default()
        };
        let request = pb::TxnRequest {
            compare: vec![compare],
            success: vec![step(pb::request_op::Request::RequestPut(put))],
            failure: vec![get_step(&key)],
        };
        let response = self.connection.kv.txn(request).await?.into_inner();
        let now = response.header.unwrap_or_default().revision;
        if response.succeeded {
            return Ok((true, version + 1, now));
        }
        let found = match response
            .responses
            .into_iter()
            .next()
            .and_then(|r| r.response)
        {
            Some(pb::response_op::Response::ResponseRange(mut range)) => range.kvs.pop(),
            _ => None,
        };
        let found = found.unwrap_or_default();
        let noted = String::from_utf8_lossy(&found.value).parse().unwrap_or(0);
        Ok((false, found.version, noted))
    }

    /// Forgets history.
    pub async fn compact(&mut self, revision: i64) -> Result<(), Status> {
        let request = pb::CompactionRequest {
            revision,
            physical: false,
        };
        self.connection.kv.compact(request).await.map(|_| ())
    }

    /// Makes a lease for objects that are to go by themselves.
    pub async fn grant(&mut self, seconds: i64) -> Result<i64, Status> {
        let request = pb::LeaseGrantRequest {
            ttl: seconds,
            id: 0,
        };
        Ok(self
            .connection
            .lease
            .lease_grant(request)
            .await?
            .into_inner()
            .id)
    }
}

fn continue_from(kvs: &[KeyValue], more: bool) -> Option<Bytes> {
    let last = kvs.last().filter(|_| more)?;
    Some([&last.key[..], b"\0"].concat().into())
}
