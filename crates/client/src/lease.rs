//! Leases with names: one program has a name as long as it renews it, and whoever knows the name can renew it too.

use crate::call::Kind;
use crate::retry::random;
use crate::session::millis;
use crate::{Client, ClientError, Fence};
use proto::synod::v1 as api;
use proto::synod::v1::lease_client::LeaseClient;
use std::time::Duration;

/// The word by which a member says that the name has a lease.
const TAKEN: &str = "lease-name-taken";
/// The word by which a member says that there is no such lease.
const GONE: &str = "lease-not-found";

/// A lease that was registered by a name. It is not kept alive by itself, as a [`Session`](crate::Session) is, and outlives this value: a program may
/// register in one run and renew, by the name alone, in the next.
#[derive(Clone)]
pub struct NamedLease {
    client: Client,
    name: String,
    id: i64,
    token: u64,
}

impl NamedLease {
    /// Makes a lease that has this name for so long, a second at least, unless it is renewed; `None` if a live one has it already. The text is for those
    /// who look with `synod lock list NAME`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn register(
        client: &Client,
        name: &str,
        ttl: Duration,
        text: &str,
    ) -> Result<Option<NamedLease>, ClientError> {
        // The id is chosen here, so that this can be repeated.
        let request = api::RegisterRequest {
            name: name.to_owned(),
            id: ((random() >> 1) | 1) as i64,
            ttl_ms: millis(ttl),
            text: text.to_owned(),
        };
        let call = async |channel, request| LeaseClient::new(channel).register(request).await;
        match client.unary(Kind::Once, request, call).await {
            Ok(answer) => Ok(Some(NamedLease {
                client: client.clone(),
                name: name.to_owned(),
                id: answer.message.id,
                token: answer.message.token,
            })),
            Err(error) if error.reason() == TAKEN => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its id. A key put with it goes away with the lease.
    pub fn id(&self) -> i64 {
        self.id
    }

    /// Name and token, to go with requests: they are applied only while this lease has the name.
    pub fn fence(&self) -> Fence {
        Fence {
            name: self.name.clone(),
            token: self.token,
        }
    }

    /// Renews it; says how long it lives from now on.
    ///
    /// # Errors
    /// See [`ClientError`]; refused with the reason `lease-not-found` once it has ended, even if the name has another lease now.
    pub async fn refresh(&self) -> Result<Duration, ClientError> {
        let request = api::RefreshRequest {
            id: self.id,
            ..api::RefreshRequest::default()
        };
        refreshed(&self.client, request).await
    }

    /// Ends it: the name is free, and its keys are removed. One that has ended already is no error.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn end(self) -> Result<(), ClientError> {
        let request = api::RevokeRequest {
            change: None,
            id: self.id,
        };
        let call = async |channel, request| LeaseClient::new(channel).revoke(request).await;
        match self.client.unary(Kind::Once, request, call).await {
            Err(error) if error.reason() == GONE => Ok(()),
            ended => ended.map(drop),
        }
    }
}

/// Renews whatever lease has this name, whoever registered it; says how long it lives from now on.
///
/// # Errors
/// See [`ClientError`]; refused with the reason `lease-not-found` if none has it.
pub async fn refresh(client: &Client, name: &str) -> Result<Duration, ClientError> {
    let request = api::RefreshRequest {
        name: name.to_owned(),
        ..api::RefreshRequest::default()
    };
    refreshed(client, request).await
}

async fn refreshed(client: &Client, request: api::RefreshRequest) -> Result<Duration, ClientError> {
    let call = async |channel, request| LeaseClient::new(channel).refresh(request).await;
    let answer = client.unary(Kind::Once, request, call).await?;
    Ok(Duration::from_millis(answer.message.ttl_ms))
}
