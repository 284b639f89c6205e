//! Follows something over the loss of connections: the newest state comes again, whatever was missed.

use crate::connection::Connection;
use crate::tries::Tries;
use crate::{Client, ClientError};
use proto::synod::v1 as api;
use proto::synod::v1::election_client::ElectionClient;
use proto::synod::v1::group_client::GroupClient;
use proto::synod::v1::lock_client::LockClient;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
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
    stream: Option<Stream<A>>,
}

struct Stream<A> {
    states: Streaming<A>,
    connection: Connection,
    /// Until when it may take for its first state, which comes at once.
    first_by: Option<Instant>,
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
        let client = self.client.clone();
        let mut tries = None;
        loop {
            let mut opening = None;
            if self.stream.is_none() {
                let tries = tries.get_or_insert_with(|| Tries::near(&client, self.endpoint));
                let (endpoint, connection) = tries.reach().await?;
                self.endpoint = Some(endpoint);
                opening = Some((connection, tries.patience()));
            }
            match self.receive(opening).await {
                Ok(state) => return Ok(state),
                Err(error) => {
                    self.stream = None;
                    let tries = tries.get_or_insert_with(|| Tries::near(&client, self.endpoint));
                    tries.failed(error, Duration::ZERO).await?;
                }
            }
        }
    }

    async fn receive(&mut self, opening: Option<(Connection, Instant)>) -> Result<A, ClientError> {
        let client = &self.client;
        let link = client.links.at(self.endpoint.expect("it was chosen"));
        if let Some((connection, first_by)) = opening {
            let open = async |channel, request| (self.open)(channel, request).await;
            let opening = client.attempt(&connection.channel, &self.request, &open);
            let opened = timeout_at(first_by, opening).await;
            let states = opened
                .map_err(|_| link.silent(&connection, false, false))?
                .map_err(|status| link.failed(&connection, &status))?;
            self.stream = Some(Stream {
                states: states.into_inner(),
                connection,
                first_by: Some(first_by),
            });
        }
        let stream = self.stream.as_mut().expect("it was opened");
        let message = stream.states.message();
        let state = match stream.first_by {
            Some(first_by) => timeout_at(first_by, message).await,
            None => Ok(message.await),
        };
        let state = state
            .map_err(|_| link.silent(&stream.connection, false, false))?
            .map_err(|status| link.failed(&stream.connection, &status))?;
        stream.first_by = None;
        state.ok_or_else(|| ClientError::Unreachable {
            reason: format!("{}: the member ended the stream", link.name),
        })
    }
}
