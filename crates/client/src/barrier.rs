//! Points at which many wait for each other.

use crate::call::Wait;
use crate::guard::{Acquisition, certainly};
use crate::{ClientError, Guard, Session};
use proto::synod::v1 as api;
use proto::synod::v1::barrier_client::BarrierClient;
use std::time::Duration;

/// The reason of a refusal that says: there is no such place any more.
const NOT_HELD: &str = "not-held";

/// A barrier: in together, out together.
#[derive(Clone)]
pub struct Barrier {
    session: Session,
    name: String,
    parties: u64,
}

impl Barrier {
    /// The barrier of this name, which opens when so many have come (1000 at most). All name the same number.
    pub fn new(session: &Session, name: &str, parties: u64) -> Barrier {
        Barrier {
            session: session.clone(),
            name: name.to_owned(),
            parties,
        }
    }

    /// Waits until all have come.
    ///
    /// # Errors
    /// See [`ClientError`]; the session may be lost while this waits.
    pub async fn enter(&self) -> Result<Inside, ClientError> {
        let guard = certainly(self.come(Wait::Ever).await?)?;
        Ok(Inside { guard })
    }

    /// The same for so long at most.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn enter_within(&self, time: Duration) -> Result<Option<Inside>, ClientError> {
        let guard = self.come(Wait::within(time)).await?;
        Ok(guard.map(|guard| Inside { guard }))
    }

    async fn come(&self, wait: Wait) -> Result<Option<Guard>, ClientError> {
        let make = |id, wait_ms| api::EnterRequest {
            change: None,
            name: self.name.clone(),
            session: self.session.number(),
            id,
            parties: self.parties,
            wait_ms,
            text: String::new(),
        };
        let call = async |channel, request| BarrierClient::new(channel).enter(request).await;
        Acquisition::new(&self.session, &self.name)
            .wait(wait, make, call, |answer: &api::EnterResponse| answer.token)
            .await
    }
}

/// A place inside a barrier. Dropped, it is left without waiting for the others.
#[must_use = "it is left when it is dropped"]
pub struct Inside {
    guard: Guard,
}

impl Inside {
    /// What holds the place.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// What holds the place, alone.
    pub fn into_guard(self) -> Guard {
        self.guard
    }

    /// Waits until all are ready to leave.
    ///
    /// # Errors
    /// See [`ClientError`]; the session may be lost while this waits.
    pub async fn leave(self) -> Result<(), ClientError> {
        let session = self.guard.session().clone();
        let id = self.guard.id();
        let make = |wait_ms| api::LeaveRequest {
            change: None,
            session: session.number(),
            id,
            wait_ms,
        };
        let call = async |channel, request| BarrierClient::new(channel).leave(request).await;
        let leaving = session.client().waiting(Wait::Ever, make, call);
        match session.while_alive(leaving).await {
            // Asked again because its answer was lost, it is out already.
            Err(error) if error.reason() != NOT_HELD => Err(error),
            _ => {
                self.guard.forget();
                Ok(())
            }
        }
    }
}
