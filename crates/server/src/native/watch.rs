//! Watches: one per call. What the client does not read stays in the member's history.

use super::{Native, stamped};
use crate::WatchStream;
use crate::grpc::context::Context;
use crate::grpc::door::{Door, REQUEST_TIMEOUT, StreamFate};
use crate::grpc::watch::event_of;
use bytes::Bytes;
use etcd::auth::auth_rejection;
use etcd::{Code, Read, Status};
use futures_util::Stream;
use native::{advised, refusal};
use proto::synod::v1;
use replica::{Consistency, WatchBody, WatchCreate, WatchRequest, WatchResponse};
use state::auth::AuthRejection;
use state::{Query, Rejection};
use tokio::sync::watch;

/// One client's watch.
struct Watching {
    door: Door,
    context: Context,
    request: v1::WatchRequest,
    /// `None` before it is opened.
    stream: Option<WatchStream>,
    fate: watch::Receiver<StreamFate>,
}

impl Native<'_> {
    /// Follows a range of keys.
    pub fn watch(
        &self,
        request: v1::WatchRequest,
    ) -> impl Stream<Item = Result<v1::WatchResponse, Status>> + Send + use<> {
        let watching = Watching {
            door: self.door.clone(),
            context: self.context.clone(),
            request,
            stream: None,
            fate: self.door.fate.clone(),
        };
        futures_util::stream::try_unfold(watching, async |mut watching| {
            let next = watching.next().await.map_err(advised)?;
            Ok(Some((next, watching)))
        })
    }
}

impl Watching {
    async fn next(&mut self) -> Result<v1::WatchResponse, Status> {
        loop {
            let stream = match &mut self.stream {
                Some(stream) => stream,
                None => {
                    let stream = self.open().await?;
                    self.stream.insert(stream)
                }
            };
            let response = tokio::select! {
                response = stream.next() => response.ok_or(Status::STOPPED)?,
                status = StreamFate::end(&mut self.fate, self.context.require_leader) => return Err(status),
            };
            // Rights changed while it was on its way.
            if let WatchBody::Denied(AuthRejection::OldRevision) = response.body {
                self.stream = None;
                continue;
            }
            return self.answer(response).await;
        }
    }

    async fn open(&self) -> Result<WatchStream, Status> {
        let caller = self.door.caller(&self.context)?;
        let request = self.request.clone();
        let stream = self.door.handle.watch();
        let create = WatchCreate {
            caller,
            watch: 0,
            range_end: native::range_end(&request.key, request.range_end, request.prefix)?,
            // No key is smaller than one zero byte, which so stands for "the first".
            key: if request.key.is_empty() {
                Bytes::from_static(b"\0")
            } else {
                request.key
            },
            start_revision: request.start_revision,
            progress_notify: request.progress,
            no_put: request.no_put,
            no_delete: request.no_delete,
            prev_kv: request.prev_kv,
            fragment: false,
        };
        stream.request(WatchRequest::Create(create)).await;
        Ok(stream)
    }

    async fn answer(&self, response: WatchResponse) -> Result<v1::WatchResponse, Status> {
        let mut answer = v1::WatchResponse::default();
        match response.body {
            WatchBody::Created => answer.created = true,
            WatchBody::Progress => answer.progress = true,
            WatchBody::Events { events, .. } => {
                answer.events = events.iter().map(|event| event_of(event)).collect();
            }
            WatchBody::Compacted { compacted } => {
                return Err(refusal(Rejection::Compacted { compacted }));
            }
            WatchBody::Denied(rejection) => return Err(auth_rejection(rejection)),
            WatchBody::Refused(reason) => return Err(Status::new(Code::InvalidArgument, reason)),
            WatchBody::Canceled => return Err(Status::CANCELED),
        }
        // A stamp that has seen what is told: that of a look at this member now.
        let mut context = self.context.clone();
        context.consistency = Some(Consistency::Local);
        let position = Read {
            query: Query::Position,
            serializable: true,
        };
        let read = self.door.read(&context, position, REQUEST_TIMEOUT).await?;
        let mut header = stamped(&read.0, read.2);
        header.revision = response.revision;
        Ok(header.on(answer))
    }
}
