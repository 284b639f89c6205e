//! Watch streams: one of the member's for each of the client's. What the client does not read stays in the member's history, not here.

use super::context::Context;
use super::door::{Door, StreamFate};
use super::events::EventsMessage;
use super::stream::{Ended, Message, tonic_status};
use bytes::Bytes;
use etcd::Status;
use etcd::auth::auth_rejection;
use futures_util::{Stream, StreamExt};
use proto::etcdserverpb::watch_create_request::FilterType;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{self, WatchCreateRequest};
use proto::mvccpb;
use replica::{Event, WatchBody, WatchCreate, WatchRequest, WatchResponse};
use state::auth::Caller;
use std::collections::VecDeque;
use tokio::sync::watch;

/// The id in responses that belong to no watch.
const NO_WATCH: i64 = -1;

/// Changes whose size is summed up in one go before others get their turn.
const MEASURE_EVENTS: usize = 4096;

/// One client's stream.
pub(crate) struct WatchSession<S> {
    door: Door,
    requests: S,
    requests_open: bool,
    /// A request that could not be read, told behind the answers to those before it.
    fault: Option<tonic::Status>,
    /// Watches asked for that are neither made nor refused yet.
    asked: usize,
    member: crate::WatchStream,
    fate: watch::Receiver<StreamFate>,
    context: Context,
    /// Refusals of requests that the member never saw.
    refused: VecDeque<WatchResponse>,
    ended: Ended,
}

impl<S> WatchSession<S>
where
    S: Stream<Item = Result<etcdserverpb::WatchRequest, tonic::Status>> + Unpin + Send + 'static,
{
    /// Opens a stream.
    pub fn new(door: Door, requests: S, context: Context, ended: Ended) -> WatchSession<S> {
        let member = door.handle.watch();
        let fate = door.fate.clone();
        WatchSession {
            door,
            requests,
            requests_open: true,
            fault: None,
            asked: 0,
            member,
            fate,
            context,
            refused: VecDeque::new(),
            ended,
        }
    }

    /// Its responses, as the JSON gateway writes them.
    pub fn responses(
        self,
    ) -> impl Stream<Item = Result<etcdserverpb::WatchResponse, tonic::Status>> + Send {
        futures_util::stream::unfold(Some(self), async |session| {
            let mut session = session?;
            match session.next().await {
                Ok(response) => Some((Ok(session.answer(response)), Some(session))),
                Err(status) => Some((Err(session.ended.with(status)), None)),
            }
        })
    }

    /// Its responses, as gRPC sends them.
    pub fn messages(self) -> impl Stream<Item = Result<Message, tonic::Status>> + Send {
        futures_util::stream::unfold(Some(self), async |session| {
            let mut session = session?;
            match session.next().await {
                Ok(response) => Some((Ok(session.message(response).await), Some(session))),
                Err(status) => Some((Err(session.ended.with(status)), None)),
            }
        })
    }

    async fn next(&mut self) -> Result<WatchResponse, tonic::Status> {
        loop {
            if let Some(refused) = self.refused.pop_front() {
                return Ok(refused);
            }
            if self.asked == 0
                && let Some(fault) = self.fault.take()
            {
                return Err(fault);
            }
            tokio::select! {
                request = self.requests.next(), if self.requests_open => match request {
                    Some(Ok(request)) => self.take(request).await,
                    Some(Err(fault)) => {
                        self.requests_open = false;
                        self.fault = Some(fault);
                    }
                    // The client has nothing more to ask; its watches go on.
                    None => self.requests_open = false,
                },
                response = self.member.next() => {
                    let response = response.ok_or_else(|| tonic_status(&Status::STOPPED))?;
                    use WatchBody::{Created, Denied, Refused};
                    if matches!(response.body, Created | Refused(_) | Denied(_)) {
                        self.asked = self.asked.saturating_sub(1);
                    }
                    return Ok(response);
                }
                status = StreamFate::end(&mut self.fate, self.context.require_leader) => return Err(tonic_status(&status)),
            }
        }
    }

    async fn message(&mut self, response: WatchResponse) -> Message {
        let WatchBody::Events { events, fragment } = response.body else {
            return Message::whole(&self.answer(response));
        };
        let head = etcdserverpb::WatchResponse {
            fragment,
            ..self.response(response.watch, response.revision)
        };
        let mut message = EventsMessage::new(&head, events);
        while message.measure(MEASURE_EVENTS) {
            tokio::task::yield_now().await;
        }
        Message::events(message)
    }

    async fn take(&mut self, request: etcdserverpb::WatchRequest) {
        let request = match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => match self.door.caller(&self.context) {
                Ok(caller) => {
                    self.asked += 1;
                    WatchRequest::Create(create_of(create, caller))
                }
                Err(status) => return self.refuse(&status),
            },
            Some(RequestUnion::CancelRequest(cancel)) => WatchRequest::Cancel {
                watch: cancel.watch_id,
            },
            Some(RequestUnion::ProgressRequest(_)) => WatchRequest::Progress,
            // A later kind of request is no reason to end a stream.
            None => return,
        };
        self.member.request(request).await;
    }

    /// The member need not hear of a watch whose client it would not know.
    fn refuse(&mut self, status: &Status) {
        self.refused.push_back(WatchResponse {
            watch: NO_WATCH,
            revision: self.door.handle.status().revision,
            body: WatchBody::Refused(error_text(status)),
        });
    }

    /// Translates a response of the member to what is sent.
    fn answer(&self, response: WatchResponse) -> etcdserverpb::WatchResponse {
        let base = self.response(response.watch, response.revision);
        match response.body {
            WatchBody::Created => etcdserverpb::WatchResponse {
                created: true,
                ..base
            },
            WatchBody::Refused(reason) => refused(base, reason),
            WatchBody::Denied(rejection) => refused(base, error_text(&auth_rejection(rejection))),
            WatchBody::Canceled => etcdserverpb::WatchResponse {
                canceled: true,
                ..base
            },
            WatchBody::Compacted { compacted } => etcdserverpb::WatchResponse {
                canceled: true,
                compact_revision: compacted,
                ..base
            },
            WatchBody::Progress => base,
            WatchBody::Events { events, fragment } => {
                let events = events.iter().map(|event| event_of(event)).collect();
                etcdserverpb::WatchResponse {
                    events,
                    fragment,
                    ..base
                }
            }
        }
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

fn refused(base: etcdserverpb::WatchResponse, reason: String) -> etcdserverpb::WatchResponse {
    etcdserverpb::WatchResponse {
        watch_id: NO_WATCH,
        created: true,
        canceled: true,
        cancel_reason: reason,
        ..base
    }
}

/// A refusal as Go prints it: clients compare the whole of it to see whether a new token would help.
fn error_text(status: &Status) -> String {
    let Status { code, text, .. } = status;
    format!("rpc error: code = {code:?} desc = {text}")
}

fn create_of(create: WatchCreateRequest, caller: Caller) -> WatchCreate {
    let filters = |filter: FilterType| create.filters.contains(&filter.into());
    WatchCreate {
        caller,
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

/// A change as a message.
pub(crate) fn event_of(event: &Event) -> mvccpb::Event {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_key_means_the_first() {
        assert_eq!(
            create_of(WatchCreateRequest::default(), Caller::default()).key,
            &b"\0"[..]
        );
    }
}
