//! A latch that opens when it was counted down.

use crate::call::{Kind, Wait};
use crate::guard::Acquisition;
use crate::{ClientError, Session};
use proto::synod::v1 as api;
use proto::synod::v1::latch_client::LatchClient;
use std::time::Duration;

/// A latch: many wait until it was counted down to 0. One that was never set is open.
#[derive(Clone)]
pub struct Latch {
    session: Session,
    name: String,
}

impl Latch {
    /// The latch of this name, for this session.
    pub fn new(session: &Session, name: &str) -> Latch {
        Latch {
            session: session.clone(),
            name: name.to_owned(),
        }
    }

    /// Sets how often it has to be counted down; 0 opens it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn set(&self, count: u64) -> Result<(), ClientError> {
        let (change, _ticket) = self.session.change(&[]).await;
        let request = api::SetLatchRequest {
            change,
            name: self.name.clone(),
            count,
        };
        let call = async |channel, request| LatchClient::new(channel).set(request).await;
        let client = self.session.client();
        client.unary(Kind::Once, request, call).await.map(drop)
    }

    /// Counts it down by one, and says what is left. Counted once, however often it has to be sent.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn count_down(&self) -> Result<u64, ClientError> {
        self.count_down_by(1).await
    }

    /// Counts it down by so much, to 0 at the lowest, and says what is left. Counted once, however often it has to be sent.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn count_down_by(&self, by: u64) -> Result<u64, ClientError> {
        let (change, _ticket) = self.session.change(&[]).await;
        let request = api::CountDownRequest {
            change,
            name: self.name.clone(),
            by,
        };
        let call = async |channel, request| LatchClient::new(channel).count_down(request).await;
        let answer = self.session.client().unary(Kind::Once, request, call).await;
        Ok(answer?.message.count)
    }

    /// What it has left.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn left(&self) -> Result<u64, ClientError> {
        let request = api::GetLatchRequest {
            consistency: None,
            name: self.name.clone(),
        };
        let call = async |channel, request| LatchClient::new(channel).get(request).await;
        let answer = self.session.client().unary(Kind::Read, request, call).await;
        Ok(answer?.message.count)
    }

    /// Waits until it is open.
    ///
    /// # Errors
    /// See [`ClientError`]; the session may be lost while this waits.
    pub async fn wait(&self) -> Result<(), ClientError> {
        self.pass(Wait::Ever).await.map(drop)
    }

    /// Waits until it is open for so long at most; says whether it is.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn wait_within(&self, time: Duration) -> Result<bool, ClientError> {
        self.pass(Wait::within(time)).await
    }

    async fn pass(&self, wait: Wait) -> Result<bool, ClientError> {
        let make = |id, wait_ms| api::WaitLatchRequest {
            change: None,
            name: self.name.clone(),
            session: self.session.number(),
            id,
            wait_ms,
        };
        let call = async |channel, request| LatchClient::new(channel).wait(request).await;
        let passed = Acquisition::new(&self.session, &self.name)
            .wait(wait, make, call, |_: &api::WaitLatchResponse| 0)
            .await?;
        // Who passed holds nothing.
        Ok(passed.map(crate::Guard::forget).is_some())
    }
}
