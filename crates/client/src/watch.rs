//! A watch that outlives its connection: after a failure it goes on at another endpoint with the first revision not yet seen.

use crate::links::{Link, Route};
use crate::login::{Token, wants_token};
use crate::retry::Backoff;
use crate::{Client, ClientError};
use proto::etcdserverpb as pb;
use proto::etcdserverpb::watch_client::WatchClient;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
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
        let mut backoff = Backoff::new();
        let mut deadline = None;
        loop {
            let error = match self.receive().await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            self.stream = None;
            if matches!(error, ClientError::Refused { .. }) {
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

    async fn receive(&mut self) -> Result<Option<pb::WatchResponse>, ClientError> {
        let choose = || {
            self.client
                .links
                .choose(Route::Near, self.client.zone.as_deref())
        };
        let link = self
            .client
            .links
            .at(*self.endpoint.get_or_insert_with(choose));
        if self.stream.is_none() {
            self.stream = Some(open(&self.client, link, self.request.clone()).await?);
        }
        let stream = self.stream.as_mut().expect("it was opened");
        let answer = stream
            .answers
            .message()
            .await
            .map_err(|status| link.failed(&status))?;
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
    request: pb::WatchCreateRequest,
) -> Result<Stream, ClientError> {
    let (requests, outgoing) = mpsc::channel(1);
    let create = pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(request)),
    };
    requests.try_send(create).expect("the channel is new");
    let mut watcher = WatchClient::new(link.channel.clone()).max_decoding_message_size(usize::MAX);
    let opening = async {
        let token = client.token(&link.channel).await?;
        let request = client.request(ReceiverStream::new(outgoing), token.as_ref());
        Ok((watcher.watch(request).await?, token))
    };
    match timeout(client.timeout, opening).await {
        Ok(Ok((answers, token))) => Ok(Stream {
            answers: answers.into_inner(),
            token,
            _requests: requests,
        }),
        Ok(Err(status)) => Err(link.failed(&status)),
        Err(_) => Err(ClientError::silent(&link.name, None, false, false)),
    }
}
