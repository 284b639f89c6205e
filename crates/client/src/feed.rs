//! Keys that begin so, and all that happens to them from then on: what is there first, then each change once. If history was compacted while nobody
//! could listen, what is there comes once more.

use crate::{Client, ClientError, Watch};
use proto::etcdserverpb as pb;
use proto::mvccpb::{Event, KeyValue};

/// Keys asked for at a time.
const PAGE: i64 = 1000;

/// What a feed tells.
pub(crate) enum News {
    /// All keys, as of this revision.
    Whole(Vec<KeyValue>, i64),
    /// What happened, and up to which revision that is all.
    Changes(Vec<Event>, i64),
}

/// See the head of this file.
pub(crate) struct Feed {
    client: Client,
    first: Vec<u8>,
    end: Vec<u8>,
    /// Keys that were made before this revision are left out.
    made_since: i64,
    watch: Option<Watch>,
}

impl Feed {
    pub(crate) fn new(client: &Client, prefix: &[u8], made_since: i64) -> Feed {
        Feed {
            client: client.clone(),
            // There is no empty key: all begin here.
            first: if prefix.is_empty() {
                vec![0]
            } else {
                prefix.to_vec()
            },
            end: prefix_end(prefix),
            made_since,
            watch: None,
        }
    }

    /// The next news. Whoever drops this future misses nothing.
    ///
    /// # Errors
    /// No endpoint could serve for as long as a request may take, or it was refused. It can be asked again.
    pub(crate) async fn next(&mut self) -> Result<News, ClientError> {
        loop {
            let Some(watch) = &mut self.watch else {
                let (keys, revision) = self.list().await?;
                self.watch = Some(self.client.watch(pb::WatchCreateRequest {
                    key: self.first.clone().into(),
                    range_end: self.end.clone().into(),
                    start_revision: revision + 1,
                    ..pb::WatchCreateRequest::default()
                }));
                return Ok(News::Whole(keys, revision));
            };
            let answer = watch.next().await?;
            match answer {
                Some(answer) if !answer.canceled && answer.events.is_empty() => {}
                Some(answer) if !answer.canceled => {
                    let last = answer.events.last().and_then(|event| event.kv.as_ref());
                    let revision = last.map_or(0, |kv| kv.mod_revision);
                    return Ok(News::Changes(answer.events, revision));
                }
                // Compacted, or ended for another reason: begin anew.
                _ => self.watch = None,
            }
        }
    }

    async fn list(&self) -> Result<(Vec<KeyValue>, i64), ClientError> {
        let mut keys: Vec<KeyValue> = Vec::new();
        let mut revision = 0;
        let mut from = self.first.clone();
        loop {
            let answer = self.client.range(pb::RangeRequest {
                key: from.clone().into(),
                range_end: self.end.clone().into(),
                limit: PAGE,
                revision,
                min_create_revision: self.made_since,
                ..pb::RangeRequest::default()
            });
            let page = answer.await?.message;
            if revision == 0 {
                revision = page.header.map_or(0, |header| header.revision);
            }
            let last = page.kvs.last().map(|kv| kv.key.to_vec());
            keys.extend(page.kvs);
            match last {
                Some(last) if page.more => {
                    from = last;
                    from.push(0);
                }
                _ => return Ok((keys, revision)),
            }
        }
    }
}

/// The end of the range of all keys that begin so; one zero byte, "to the end", if there is no upper bound.
pub(crate) fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}
