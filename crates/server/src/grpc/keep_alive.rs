//! Keep-alive streams. Renewals are pipelined: many may wait for the log at once, and are answered in order.

use super::context::Context;
use super::door::{Door, Outcome, StreamFate};
use super::stream::{Ended, Message, tonic_status};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use futures_util::{Stream, StreamExt};
use proto::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse};
use std::sync::Arc;
use tokio::sync::watch;

/// Renewals of one stream under way at most; beyond that its requests wait unread.
const RENEWALS_MAX: usize = 256;

/// One client's stream.
pub(crate) struct KeepAliveSession<S> {
    door: Door,
    requests: S,
    requests_open: bool,
    renewals: FuturesOrdered<BoxFuture<'static, Outcome<LeaseKeepAliveResponse>>>,
    fate: watch::Receiver<StreamFate>,
    context: Arc<Context>,
    ended: Ended,
}

impl<S> KeepAliveSession<S>
where
    S: Stream<Item = Result<LeaseKeepAliveRequest, tonic::Status>> + Unpin + Send + 'static,
{
    /// Opens a stream.
    pub fn new(door: Door, requests: S, context: Context, ended: Ended) -> KeepAliveSession<S> {
        let fate = door.fate.clone();
        KeepAliveSession {
            door,
            requests,
            requests_open: true,
            renewals: FuturesOrdered::new(),
            fate,
            context: Arc::new(context),
            ended,
        }
    }

    /// Its responses, as the JSON gateway writes them.
    pub fn responses(
        self,
    ) -> impl Stream<Item = Result<LeaseKeepAliveResponse, tonic::Status>> + Send {
        futures_util::stream::unfold(Some(self), async |session| {
            let mut session = session?;
            match session.next().await {
                Ok(Some(response)) => Some((Ok(response), Some(session))),
                Ok(None) => {
                    session.ended.well();
                    None
                }
                Err(status) => Some((Err(session.ended.with(status)), None)),
            }
        })
    }

    /// Its responses, as gRPC sends them.
    pub fn messages(self) -> impl Stream<Item = Result<Message, tonic::Status>> + Send {
        self.responses()
            .map(|response| response.map(|response| Message::whole(&response)))
    }

    async fn next(&mut self) -> Result<Option<LeaseKeepAliveResponse>, tonic::Status> {
        loop {
            if !self.requests_open && self.renewals.is_empty() {
                return Ok(None);
            }
            tokio::select! {
                request = self.requests.next(), if self.requests_open && self.renewals.len() < RENEWALS_MAX => match request {
                    Some(request) => {
                        let (door, context, request) = (self.door.clone(), self.context.clone(), request?);
                        self.renewals.push_back(Box::pin(async move { door.lease_keep_alive(&context, request).await }));
                    }
                    None => self.requests_open = false,
                },
                Some(outcome) = self.renewals.next(), if !self.renewals.is_empty() => {
                    return outcome.map(|answered| Some(answered.message)).map_err(|status| tonic_status(&status));
                }
                status = StreamFate::end(&mut self.fate, self.context.require_leader) => return Err(tonic_status(&status)),
            }
        }
    }
}
