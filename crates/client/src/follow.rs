//! Follows something over the loss of connections: the newest state comes again, whatever was missed.

use crate::links::Route;
use crate::retry::Backoff;
use crate::{Client, ClientError};
use proto::synod::v1 as api;
use proto::synod::v1::election_client::ElectionClient;
use proto::synod::v1::group_client::GroupClient;
use proto::synod::v1::lock_client::LockClient;
use std::pin::Pin;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

type Opening<A> =
    Pin<Box<dyn Future<Output = Result<Response<Streaming<A>>, Status>> + Send + 'static>>;

/// A stream of states, each of which replaces those before.
pub(crate) struct Follow<Q, A> {
    client: Client,
    request: Q,
    open: fn(Channel, Request<Q>) -> Opening<A>,
    /// The number of the endpoint it is at.
    endpoint: Option<usize>,
    stream: Option<Streaming<A>>,
}

impl Follow<api::ObserveRequest, api::ObserveResponse> {
    /// Who holds a name.
    pub(crate) fn lock(client: &Client, name: &str) -> Self {
        let request = api::ObserveRequest { name: name.into() };
        Follow::new(client, request, |channel, request| {
            Box::pin(async move { LockClient::new(channel).observe(request).await })
        })
    }
}

impl Follow<api::ObserveRequest, api::LeaderResponse> {
    /// Who leads.
    pub(crate) fn leader(client: &Client, name: &str) -> Self {
        let request = api::ObserveRequest { name: name.into() };
        Follow::new(client, request, |channel, request| {
            Box::pin(async move { ElectionClient::new(channel).observe(request).await })
        })
    }
}

impl Follow<api::ObserveGroupRequest, api::ObserveGroupResponse> {
    /// Who is in a group.
    pub(crate) fn group(client: &Client, name: &str) -> Self {
        let request = api::ObserveGroupRequest { name: name.into() };
        Follow::new(client, request, |channel, request| {
            Box::pin(async move { GroupClient::new(channel).observe(request).await })
        })
    }
}

impl<Q: Clone, A> Follow<Q, A> {
    fn new(
        client: &Client,
        request: Q,
        open: fn(Channel, Request<Q>) -> Opening<A>,
    ) -> Follow<Q, A> {
        Follow {
            client: client.clone(),
            request,
            open,
            endpoint: None,
            stream: None,
        }
    }

    /// The state as it is at first, then after each change. Whoever drops this future misses nothing.
    ///
    /// # Errors
    /// No endpoint could serve for as long as a request may take, or it was refused.
    pub(crate) async fn next(&mut self) -> Result<A, ClientError> {
        let mut backoff = Backoff::new();
        let mut deadline = None;
        loop {
            let error = match self.receive().await {
                Ok(state) => return Ok(state),
                Err(error) => error,
            };
            self.stream = None;
            if !error.is_transient() {
                return Err(error);
            }
            let give_up = *deadline.get_or_insert_with(|| Instant::now() + self.client.timeout);
            let pause = backoff.next();
            if Instant::now() + pause >= give_up {
                return Err(error.at_all(self.client.endpoints()));
            }
            if let Some(endpoint) = &mut self.endpoint {
                self.client.links.failed(*endpoint);
                *endpoint += 1;
            }
            sleep(pause).await;
        }
    }

    async fn receive(&mut self) -> Result<A, ClientError> {
        let client = &self.client;
        let choose = || client.links.choose(Route::Near, client.zone.as_deref());
        let link = client.links.at(*self.endpoint.get_or_insert_with(choose));
        if self.stream.is_none() {
            let open = async |channel, request| (self.open)(channel, request).await;
            let opening = client.attempt(&link.channel, &self.request, &open);
            self.stream = match timeout(client.timeout, opening).await {
                Ok(Ok(answers)) => Some(answers.into_inner()),
                Ok(Err(status)) => return Err(link.failed(&status)),
                Err(_) => return Err(ClientError::silent(&link.name, None, false, false)),
            };
        }
        let stream = self.stream.as_mut().expect("it was opened");
        let answer = stream.message().await;
        let answer = answer.map_err(|status| link.failed(&status))?;
        answer.ok_or_else(|| ClientError::Unreachable {
            reason: format!("{}: the member ended the stream", link.name),
        })
    }
}
