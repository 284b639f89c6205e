//! Keep-alive streams. Renewals are pipelined: many may wait for the log at once, and are answered in order.

use super::context::Context;
use super::door::{Door, StreamFate};
use super::stream::{Ended, Message, tonic_status};
use etcd::Status;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use futures_util::{Stream, StreamExt};
use proto::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse};
use std::sync::Arc;
use tokio::sync::watch;

/// Renewals of one stream under way at most; beyond that its requests wait unread.
const RENEWALS_MAX: usize = 256;

/// Renews what one request names.
pub(crate) type Renew<Q, A> = fn(Door, Arc<Context>, Q) -> BoxFuture<'static, Result<A, Status>>;

/// One client's stream of requests `Q`, answered with `A`.
pub(crate) struct KeepAliveSession<S, Q, A> {
    door: Door,
    requests: S,
    requests_open: bool,
    /// A request that could not be read, told behind the answers to those before it.
    fault: Option<tonic::Status>,
    renew: Renew<Q, A>,
    renewals: FuturesOrdered<BoxFuture<'static, Result<A, Status>>>,
    fate: watch::Receiver<StreamFate>,
    context: Arc<Context>,
    ended: Ended,
}

/// Renews a lease as etcd's clients ask for it.
pub(crate) fn renew_lease(
    door: Door,
    context: Arc<Context>,
    request: LeaseKeepAliveRequest,
) -> BoxFuture<'static, Result<LeaseKeepAliveResponse, Status>> {
    Box::pin(async move {
        let answered = door.lease_keep_alive(&context, request).await?;
        Ok(answered.message)
    })
}

impl<S, Q, A> KeepAliveSession<S, Q, A>
where
    S: Stream<Item = Result<Q, tonic::Status>> + Unpin + Send + 'static,
    Q: Send + 'static,
    A: prost::Message + 'static,
{
    /// Opens a stream.
    pub fn new(
        door: Door,
        requests: S,
        context: Context,
        ended: Ended,
        renew: Renew<Q, A>,
    ) -> KeepAliveSession<S, Q, A> {
        let fate = door.fate.clone();
        KeepAliveSession {
            door,
            requests,
            requests_open: true,
            fault: None,
            renew,
            renewals: FuturesOrdered::new(),
            fate,
            context: Arc::new(context),
            ended,
        }
    }

    /// Its responses, as JSON has them.
    pub fn responses(self) -> impl Stream<Item = Result<A, tonic::Status>> + Send {
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

    async fn next(&mut self) -> Result<Option<A>, tonic::Status> {
        loop {
            if !self.requests_open && self.renewals.is_empty() {
                return self.fault.take().map_or(Ok(None), Err);
            }
            tokio::select! {
                request = self.requests.next(), if self.requests_open && self.renewals.len() < RENEWALS_MAX => match request {
                    Some(Ok(request)) => {
                        let renewal = (self.renew)(self.door.clone(), self.context.clone(), request);
                        self.renewals.push_back(renewal);
                    }
                    Some(Err(fault)) => {
                        self.requests_open = false;
                        self.fault = Some(fault);
                    }
                    None => self.requests_open = false,
                },
                Some(outcome) = self.renewals.next(), if !self.renewals.is_empty() => {
                    return outcome.map(Some).map_err(|status| tonic_status(&status));
                }
                status = StreamFate::end(&mut self.fate, self.context.require_leader) => return Err(tonic_status(&status)),
            }
        }
    }
}
