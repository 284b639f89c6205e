//! A range of any size, page by page at one revision: neither side ever holds all of it.

use super::context::Context;
use super::door::Door;
use bytes::Bytes;
use etcd::{Code, Header, Status};
use futures_util::Stream;
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::{RangeRequest, RangeResponse, RangeStreamResponse};

/// Keys of the first page.
const FIRST_PAGE_KEYS: i64 = 256;

/// Keys of a page at most.
const PAGE_KEYS_MAX: i64 = 10_000;

/// What a page should have.
const PAGE_BYTES: usize = 512 << 10;

impl Door {
    /// Reads keys, in their order, page by page. Header, count and whether there is more come with the last page.
    pub fn range_stream(
        &self,
        context: &Context,
        request: RangeRequest,
    ) -> impl Stream<Item = Result<RangeStreamResponse, Status>> + Send + use<> {
        let pages = Pages {
            door: self.clone(),
            context: context.clone(),
            left: Some(request.limit).filter(|&limit| limit > 0),
            request,
            page_keys: FIRST_PAGE_KEYS,
            first: None,
            done: false,
        };
        futures_util::stream::try_unfold(pages, async |mut pages| {
            let page = pages.next().await?;
            Ok(page.map(|page| (page, pages)))
        })
    }
}

/// One client's range.
struct Pages {
    door: Door,
    context: Context,
    /// What is left to read: begins behind what was read, at the revision of the first page.
    request: RangeRequest,
    /// Keys wanted still, if there is a limit.
    left: Option<i64>,
    page_keys: i64,
    /// Of the first page: its header, and how many keys the range has.
    first: Option<(Header, i64)>,
    done: bool,
}

impl Pages {
    async fn next(&mut self) -> Result<Option<RangeStreamResponse>, Status> {
        if self.done {
            return Ok(None);
        }
        check(&self.request)?;
        let limit = self
            .left
            .map_or(self.page_keys, |left| left.min(self.page_keys));
        let request = RangeRequest {
            limit,
            ..self.request.clone()
        };
        let (header, reply) = self.door.range(&self.context, request).await?.message;
        let (header, count) = *self.first.get_or_insert((header, reply.count));
        if self.request.revision <= 0 {
            self.request.revision = header.revision;
        }
        // What the first page saw is here: the others need no confirmation.
        self.request.serializable = true;
        self.context.consistency = None;
        self.left = self.left.map(|left| left - reply.kvs.len() as i64);
        self.done = !reply.more || self.left == Some(0);
        if let Some(last) = reply.kvs.last() {
            self.request.key = Bytes::from([&last.key[..], &[0]].concat());
        }
        let bytes: usize = reply.kvs.iter().map(etcd::key_value_len).sum();
        let fitting = limit.saturating_mul(PAGE_BYTES as i64) / bytes.max(1) as i64;
        self.page_keys = fitting.clamp(1, PAGE_KEYS_MAX);
        let mut page = RangeResponse {
            kvs: reply.kvs.into_iter().map(etcd::key_value).collect(),
            ..RangeResponse::default()
        };
        if self.done {
            page.header = Some(header.into());
            page.more = reply.more;
            page.count = count;
        }
        Ok(Some(RangeStreamResponse {
            range_response: Some(page),
        }))
    }
}

/// Refuses what needs all keys before the first can be told, in etcd's words.
fn check(request: &RangeRequest) -> Result<(), Status> {
    let sort = (request.sort_order(), request.sort_target());
    let by_key = matches!(
        sort,
        (SortOrder::None, _) | (SortOrder::Ascend, SortTarget::Key)
    );
    let filters = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    let what = match (by_key, filters == [0; 4]) {
        (true, true) => return Ok(()),
        (false, _) => "custom sort orders",
        (true, false) => "revision filters",
    };
    Err(Status::new(
        Code::Unimplemented,
        format!("RangeStream does not support {what}"),
    ))
}
