//! A watch that outlives its connection: after a failure it goes on at another endpoint with the first revision not yet seen.

use crate::connection::Connection;
use crate::links::Link;
use crate::login::{Token, wants_token};
use crate::tries::Tries;
use crate::{Client, ClientError};
use proto::etcdserverpb as pb;
use proto::etcdserverpb::watch_client::WatchClient;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// One watched key or range.
pub struct Watch {
    client: Client,
    /// What to ask for when the connection is made anew.
    request: pb::WatchCreateRequest,
    /// The number of the endpoint it is at.
    endpoint: Option<usize>,
    stream: Option<Stream>,
}

struct Stream {
    connection: Connection,
    /// Until when it may take for its first answer, which comes at once.
    first_by: Option<Instant>,
    answers: Streaming<pb::WatchResponse>,
    token: Option<Token>,
    /// Holding it keeps the stream open.
    _requests: mpsc::Sender<pb::WatchRequest>,
}

impl Watch {
    pub(crate) fn new(client: Client, request: pb::WatchCreateRequest) -> Watch {
        Watch {
            client,
            request,
            endpoint: None,
            stream: None,
        }
    }

    /// The next response: the first one says that the watch was created. `None` after the server has ended the watch, for the reason given in the
    /// response before.
    ///
    /// # Errors
    /// No endpoint could serve for as long as a request may take, or the watch was refused.
    pub async fn next(&mut self) -> Result<Option<pb::WatchResponse>, ClientError> {
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
                Ok(response) => return Ok(response),
                Err(error) => {
                    self.stream = None;
                    let tries = tries.get_or_insert_with(|| Tries::near(&client, self.endpoint));
                    tries.failed(error, Duration::ZERO).await?;
                }
            }
        }
    }

    async fn receive(
        &mut self,
        opening: Option<(Connection, Instant)>,
    ) -> Result<Option<pb::WatchResponse>, ClientError> {
        let endpoint = self.endpoint.expect("it was chosen");
        let link = self.client.links.at(endpoint);
        if let Some((connection, first_by)) = opening {
            let opened = open(
                &self.client,
                link,
                connection,
                self.request.clone(),
                first_by,
            );
            self.stream = Some(opened.await?);
        }
        let stream = self.stream.as_mut().expect("it was opened");
        let message = stream.answers.message();
        let answer = match stream.first_by {
            Some(first_by) => timeout_at(first_by, message).await,
            None => Ok(message.await),
        };
        let answer = answer
            .map_err(|_| link.silent(&stream.connection, false, false))?
            .map_err(|status| link.failed(&stream.connection, &status))?;
        stream.first_by = None;
        let Some(response) = answer else {
            return Err(ClientError::Unreachable {
                reason: format!("{}: the member ended the watch", link.name),
            });
        };
        if response.canceled
            && wants_token(&response.cancel_reason)
            && let Some(login) = &self.client.login
        {
            login.refused(stream.token.as_ref());
            return Err(ClientError::Unreachable {
                reason: format!("{}: {}", link.name, response.cancel_reason),
            });
        }
        if let Some(header) = &response.header
            && (response.created && self.request.start_revision == 0
                || response.events.is_empty() && !response.created && !response.canceled)
        {
            // Created from "now on", or a progress mark: nothing at or below this revision will follow.
            self.request.start_revision = self.request.start_revision.max(header.revision + 1);
        }
        if let Some(last) = response.events.last().and_then(|event| event.kv.as_ref()) {
            self.request.start_revision = last.mod_revision + 1;
        }
        Ok(Some(response))
    }
}

async fn open(
    client: &Client,
    link: &Link,
    connection: Connection,
    request: pb::WatchCreateRequest,
    first_by: Instant,
) -> Result<Stream, ClientError> {
    let (requests, outgoing) = mpsc::channel(1);
    let create = pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(request)),
    };
    requests.try_send(create).expect("the channel is new");
    let channel = &connection.channel;
    let mut watcher = WatchClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
    let opening = async {
        let token = client.token(channel).await?;
        let request = client.request(ReceiverStream::new(outgoing), token.as_ref());
        Ok((watcher.watch(request).await?, token))
    };
    match timeout_at(first_by, opening).await {
        Ok(Ok((answers, token))) => Ok(Stream {
            answers: answers.into_inner(),
            token,
            connection,
            first_by: Some(first_by),
            _requests: requests,
        }),
        Ok(Err(status)) => Err(link.failed(&connection, &status)),
        Err(_) => Err(link.silent(&connection, false, false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::tests::{silent, speaking, unused};

    /// The first endpoint took all the time there was, the last one was not asked, and all were said not to serve.
    #[tokio::test]
    async fn all_endpoints_have_their_turn_and_the_error_tells_of_each() {
        let endpoints = [speaking().await, silent().await, speaking().await, unused()];
        let client = Client::new(&endpoints).expect("endpoints");
        let mut watch = client
            .with_timeout(Duration::from_secs(2))
            .watch(pb::WatchCreateRequest::default());
        let error = watch.next().await.expect_err("nobody serves").to_string();
        for endpoint in &endpoints[..3] {
            assert!(
                error.contains(&format!("{endpoint}: no answer in time")),
                "{error}"
            );
        }
        let refused = format!("{}: Connection refused", endpoints[3]);
        assert!(error.contains(&refused), "{error}");
    }
}
