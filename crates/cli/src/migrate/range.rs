//! Ranges of keys read page by page, at one revision.

use crate::output::{Failed, prefix_end};
use bytes::Bytes;
use client::Client;
use proto::etcdserverpb as pb;
use proto::mvccpb::KeyValue;

/// Keys of a page without values, and with them.
const KEYS_PER_PAGE: i64 = 10_000;
const VALUES_PER_PAGE: i64 = 500;

/// Which keys are migrated.
#[derive(Clone, Debug)]
pub(super) struct KeyRange {
    pub start: Bytes,
    pub end: Bytes,
}

impl KeyRange {
    /// All keys that begin so.
    pub fn of_prefix(prefix: &[u8]) -> KeyRange {
        match prefix {
            [] => KeyRange {
                start: Bytes::from_static(&[0]),
                end: Bytes::from_static(&[0]),
            },
            prefix => KeyRange {
                start: Bytes::copy_from_slice(prefix),
                end: prefix_end(prefix).into(),
            },
        }
    }

    fn request(&self) -> pb::RangeRequest {
        pb::RangeRequest {
            key: self.start.clone(),
            range_end: self.end.clone(),
            ..pb::RangeRequest::default()
        }
    }
}

/// Where a store stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Present {
    pub cluster: u64,
    pub revision: i64,
    pub keys: i64,
}

/// Asks a store where it stands, and how many keys it has in the range.
pub(super) async fn present(client: &Client, range: &KeyRange) -> Result<Present, Failed> {
    let request = pb::RangeRequest {
        count_only: true,
        ..range.request()
    };
    let answer = client.range(request).await?.message;
    let header = answer.header.unwrap_or_default();
    Ok(Present {
        cluster: header.cluster_id,
        revision: header.revision,
        keys: answer.count,
    })
}

/// Pages of a range at one revision, in the order of keys.
pub(super) struct Pages<'a> {
    client: &'a Client,
    request: pb::RangeRequest,
    more: bool,
}

impl<'a> Pages<'a> {
    pub fn new(client: &'a Client, range: &KeyRange, revision: i64, values: bool) -> Pages<'a> {
        Pages {
            client,
            request: pb::RangeRequest {
                revision,
                keys_only: !values,
                limit: if values {
                    VALUES_PER_PAGE
                } else {
                    KEYS_PER_PAGE
                },
                ..range.request()
            },
            more: true,
        }
    }

    /// The next page; empty after the last.
    pub async fn next(&mut self) -> Result<Vec<KeyValue>, Failed> {
        if !self.more {
            return Ok(Vec::new());
        }
        let answer = self.client.range(self.request.clone()).await?.message;
        self.more = answer.more;
        if let Some(last) = answer.kvs.last() {
            let mut next = last.key.to_vec();
            next.push(0);
            self.request.key = next.into();
        }
        Ok(answer.kvs)
    }

    /// All that follows.
    pub async fn rest(mut self) -> Result<Vec<KeyValue>, Failed> {
        let mut all = Vec::new();
        loop {
            let page = self.next().await?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }
}
