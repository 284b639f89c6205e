//! A number of permits that sessions share.

use crate::call::Wait;
use crate::guard::{Acquisition, certainly};
use crate::{ClientError, Guard, Session};
use proto::synod::v1 as api;
use proto::synod::v1::semaphore_client::SemaphoreClient;
use std::time::Duration;

/// A number of permits that sessions share, first come, first served: a large wish is not overtaken by small ones.
#[derive(Clone)]
pub struct Semaphore {
    session: Session,
    name: String,
    limit: u64,
    text: String,
}

impl Semaphore {
    /// The semaphore of this name with so many permits, for this session. All who use it at a time name the same number.
    pub fn new(session: &Session, name: &str, limit: u64) -> Semaphore {
        Semaphore {
            session: session.clone(),
            name: name.to_owned(),
            limit,
            text: String::new(),
        }
    }

    /// The same semaphore, with a text for those who look who has permits.
    pub fn with_text(mut self, text: &str) -> Semaphore {
        self.text = text.to_owned();
        self
    }

    /// Waits for so many permits.
    ///
    /// # Errors
    /// See [`ClientError`]; the session may be lost while this waits.
    pub async fn acquire(&self, permits: u64) -> Result<Guard, ClientError> {
        certainly(self.take(permits, Wait::Ever).await?)
    }

    /// Takes so many permits if they are free now, and nobody waits.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn try_acquire(&self, permits: u64) -> Result<Option<Guard>, ClientError> {
        self.take(permits, Wait::No).await
    }

    /// Waits for so many permits for so long at most.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn acquire_within(
        &self,
        permits: u64,
        time: Duration,
    ) -> Result<Option<Guard>, ClientError> {
        self.take(permits, Wait::within(time)).await
    }

    async fn take(&self, permits: u64, wait: Wait) -> Result<Option<Guard>, ClientError> {
        let make = |id, wait_ms| api::AcquirePermitsRequest {
            change: None,
            name: self.name.clone(),
            session: self.session.number(),
            id,
            permits,
            limit: self.limit,
            priority: 0,
            wait_ms,
            text: self.text.clone(),
        };
        let call = async |channel, request| SemaphoreClient::new(channel).acquire(request).await;
        Acquisition::new(&self.session, &self.name)
            .wait(wait, make, call, |answer: &api::AcquirePermitsResponse| {
                answer.token
            })
            .await
    }
}
