//! Watch streams: one of the member's for each of the client's. What the client does not read stays in the member's history, not here.

use super::door::{Door, StreamFate};
use super::stream::{Ended, tonic_status};
use bytes::Bytes;
use etcd::{MESSAGE_BYTES_MAX, Status};
use futures_util::{Stream, StreamExt};
use prost::Message;
use proto::etcdserverpb::watch_create_request::FilterType;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{self, WatchCreateRequest};
use proto::mvccpb;
use replica::{Event, WatchBody, WatchCreate, WatchRequest, WatchResponse};
use std::collections::{BTreeSet, VecDeque};
use tokio::sync::watch;

/// The id in responses that belong to no watch, or to all of a stream.
const NO_WATCH: i64 = -1;

/// One client's stream.
pub(crate) struct WatchSession<S> {
    door: Door,
    requests: S,
    requests_open: bool,
    member: crate::WatchStream,
    /// Responses to send before the member is asked for more.
    ready: VecDeque<etcdserverpb::WatchResponse>,
    /// Whether the creations without an answer yet allow fragments; answers come in the same order.
    creating: VecDeque<bool>,
    /// Watches that allow fragments.
    fragmented: BTreeSet<i64>,
    fate: watch::Receiver<StreamFate>,
    require_leader: bool,
    ended: Ended,
}

impl<S> WatchSession<S>
where
    S: Stream<Item = Result<etcdserverpb::WatchRequest, tonic::Status>> + Unpin + Send + 'static,
{
    /// Opens a stream.
    pub fn new(door: Door, requests: S, require_leader: bool, ended: Ended) -> WatchSession<S> {
        let member = door.handle.watch();
        let fate = door.fate.clone();
        WatchSession {
            door,
            requests,
            requests_open: true,
            member,
            ready: VecDeque::new(),
            creating: VecDeque::new(),
            fragmented: BTreeSet::new(),
            fate,
            require_leader,
            ended,
        }
    }

    /// The stream of its responses.
    pub fn responses(
        self,
    ) -> impl Stream<Item = Result<etcdserverpb::WatchResponse, tonic::Status>> + Send {
        futures_util::stream::unfold(Some(self), async |session| {
            let mut session = session?;
            match session.next().await {
                Ok(response) => Some((Ok(response), Some(session))),
                Err(status) => Some((Err(session.ended.with(status)), None)),
            }
        })
    }

    async fn next(&mut self) -> Result<etcdserverpb::WatchResponse, tonic::Status> {
        loop {
            if let Some(response) = self.ready.pop_front() {
                return Ok(response);
            }
            tokio::select! {
                request = self.requests.next(), if self.requests_open => match request {
                    Some(request) => self.take(request?).await,
                    // The client has nothing more to ask; its watches go on.
                    None => self.requests_open = false,
                },
                response = self.member.next() => match response {
                    Some(response) => self.answer(response),
                    None => return Err(tonic_status(&Status::STOPPED)),
                },
                status = StreamFate::end(&mut self.fate, self.require_leader) => return Err(status),
            }
        }
    }

    async fn take(&mut self, request: etcdserverpb::WatchRequest) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) if create.start_revision < 0 => {
                let refused = self.response(NO_WATCH, self.door.handle.status().revision);
                let cancel_reason = Status::COMPACTED.text.into();
                self.ready.push_back(etcdserverpb::WatchResponse {
                    created: true,
                    canceled: true,
                    cancel_reason,
                    ..refused
                });
            }
            Some(RequestUnion::CreateRequest(create)) => {
                self.creating.push_back(create.fragment);
                self.member
                    .request(WatchRequest::Create(create_of(create)))
                    .await;
            }
            Some(RequestUnion::CancelRequest(cancel)) => {
                self.member
                    .request(WatchRequest::Cancel {
                        watch: cancel.watch_id,
                    })
                    .await
            }
            Some(RequestUnion::ProgressRequest(_)) => {
                self.member.request(WatchRequest::Progress).await
            }
            // A later kind of request is no reason to end a stream.
            None => {}
        }
    }

    /// Translates a response of the member to what is sent.
    fn answer(&mut self, response: WatchResponse) {
        let base = self.response(response.watch, response.revision);
        let response = match response.body {
            WatchBody::Created => {
                if self.creating.pop_front() == Some(true) {
                    self.fragmented.insert(response.watch);
                }
                etcdserverpb::WatchResponse {
                    created: true,
                    ..base
                }
            }
            WatchBody::Refused(cancel_reason) => {
                self.creating.pop_front();
                etcdserverpb::WatchResponse {
                    watch_id: NO_WATCH,
                    created: true,
                    canceled: true,
                    cancel_reason,
                    ..base
                }
            }
            WatchBody::Canceled => {
                self.fragmented.remove(&response.watch);
                etcdserverpb::WatchResponse {
                    canceled: true,
                    ..base
                }
            }
            WatchBody::Compacted { compacted } => {
                self.fragmented.remove(&response.watch);
                etcdserverpb::WatchResponse {
                    canceled: true,
                    compact_revision: compacted,
                    ..base
                }
            }
            WatchBody::Progress => base,
            WatchBody::Events { events, fragment } => {
                let events = events.iter().map(|event| event_of(event)).collect();
                let response = etcdserverpb::WatchResponse {
                    events,
                    fragment,
                    ..base
                };
                if self.fragmented.contains(&response.watch_id) {
                    self.ready.extend(fragments(response, MESSAGE_BYTES_MAX));
                    return;
                }
                response
            }
        };
        self.ready.push_back(response);
    }

    fn response(&self, watch_id: i64, revision: i64) -> etcdserverpb::WatchResponse {
        let header = self
            .door
            .header_at(revision, self.door.handle.status().raft.term.0);
        etcdserverpb::WatchResponse {
            header: Some(header.into()),
            watch_id,
            ..Default::default()
        }
    }
}

fn create_of(create: WatchCreateRequest) -> WatchCreate {
    let filters = |filter: FilterType| create.filters.contains(&filter.into());
    WatchCreate {
        watch: create.watch_id,
        no_put: filters(FilterType::Noput),
        no_delete: filters(FilterType::Nodelete),
        // No key is smaller than one zero byte, which so stands for "the first".
        key: if create.key.is_empty() {
            Bytes::from_static(b"\0")
        } else {
            create.key
        },
        range_end: create.range_end,
        start_revision: create.start_revision,
        progress_notify: create.progress_notify,
        prev_kv: create.prev_kv,
        fragment: create.fragment,
    }
}

fn event_of(event: &Event) -> mvccpb::Event {
    let kind = if event.deleted {
        mvccpb::event::EventType::Delete
    } else {
        mvccpb::event::EventType::Put
    };
    mvccpb::Event {
        r#type: kind.into(),
        kv: Some(etcd::key_value(event.kv.clone())),
        prev_kv: event.prev.clone().map(etcd::key_value),
    }
}

/// Splits a response into marked pieces below `bytes_max` each, though at least one event long.
fn fragments(
    response: etcdserverpb::WatchResponse,
    bytes_max: usize,
) -> Vec<etcdserverpb::WatchResponse> {
    let bytes = response.encoded_len();
    if bytes < bytes_max || response.events.len() < 2 {
        return vec![response];
    }
    let last_is_fragment = response.fragment;
    let events = response.events;
    let base = etcdserverpb::WatchResponse {
        events: Vec::new(),
        fragment: true,
        ..response
    };
    let base_bytes = base.encoded_len();
    let mut pieces = vec![base.clone()];
    let mut piece_bytes = base_bytes;
    for event in events {
        // An event's own length, its tag and a length prefix of at most five bytes.
        let event_bytes = event.encoded_len() + 6;
        if piece_bytes + event_bytes >= bytes_max && piece_bytes > base_bytes {
            pieces.push(base.clone());
            piece_bytes = base_bytes;
        }
        piece_bytes += event_bytes;
        pieces
            .last_mut()
            .expect("there is always one")
            .events
            .push(event);
    }
    pieces.last_mut().expect("there is always one").fragment = last_is_fragment;
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(count: u8, bytes: usize) -> Vec<mvccpb::Event> {
        let kv = |n| mvccpb::KeyValue {
            key: Bytes::from(vec![n]),
            value: Bytes::from(vec![0; bytes]),
            ..Default::default()
        };
        (0..count)
            .map(|n| mvccpb::Event {
                kv: Some(kv(n)),
                ..Default::default()
            })
            .collect()
    }

    #[test]
    fn fragments_hold_all_events_in_order_and_stay_below_the_limit() {
        let whole = etcdserverpb::WatchResponse {
            watch_id: 3,
            events: events(100, 90),
            ..Default::default()
        };
        let pieces = fragments(whole.clone(), 1000);
        assert!(pieces.len() >= 10);
        assert!(pieces.iter().all(|piece| piece.encoded_len() < 1000
            && piece.watch_id == 3
            && !piece.events.is_empty()));
        let (last, front) = pieces.split_last().unwrap();
        assert!(front.iter().all(|piece| piece.fragment) && !last.fragment);
        assert_eq!(
            pieces
                .into_iter()
                .flat_map(|piece| piece.events)
                .collect::<Vec<_>>(),
            whole.events
        );
    }

    #[test]
    fn one_event_is_never_split() {
        let whole = etcdserverpb::WatchResponse {
            events: events(1, 5000),
            ..Default::default()
        };
        assert_eq!(fragments(whole.clone(), 1000), [whole]);
        let large = etcdserverpb::WatchResponse {
            events: events(3, 5000),
            ..Default::default()
        };
        assert_eq!(
            fragments(large, 1000)
                .iter()
                .map(|piece| piece.events.len())
                .collect::<Vec<_>>(),
            [1, 1, 1]
        );
    }

    #[test]
    fn empty_key_means_the_first() {
        assert_eq!(create_of(WatchCreateRequest::default()).key, &b"\0"[..]);
    }
}
