//! A lock that one holds at a time.

use crate::call::Wait;
use crate::guard::{Acquisition, certainly};
use crate::retry::random;
use crate::session::millis;
use crate::{ClientError, Guard, Session};
use proto::synod::v1 as api;
use proto::synod::v1::lock_client::LockClient;
use std::time::Duration;

/// How a name is to be locked. What all kinds of locks have in common.
#[derive(Clone)]
pub(crate) struct Wanted {
    pub session: Session,
    pub name: String,
    pub mode: api::LockMode,
    pub owner: u64,
    pub priority: i32,
    pub lock_delay: Duration,
    pub text: String,
}

impl Wanted {
    pub(crate) fn new(session: &Session, name: &str) -> Wanted {
        Wanted {
            session: session.clone(),
            name: name.to_owned(),
            mode: api::LockMode::Exclusive,
            owner: 0,
            priority: 0,
            lock_delay: Duration::ZERO,
            text: String::new(),
        }
    }

    pub(crate) async fn acquire(&self, wait: Wait) -> Result<Option<Guard>, ClientError> {
        let make = |id, wait_ms| api::AcquireRequest {
            change: None,
            name: self.name.clone(),
            session: self.session.number(),
            id,
            mode: self.mode.into(),
            owner: self.owner,
            priority: self.priority,
            wait_ms,
            lock_delay_ms: millis(self.lock_delay),
            text: self.text.clone(),
            sign: false,
        };
        let call = async |channel, request| LockClient::new(channel).acquire(request).await;
        Acquisition::new(&self.session, &self.name)
            .wait(wait, make, call, |answer: &api::AcquireResponse| {
                answer.token
            })
            .await
    }
}

/// A lock that one session holds at a time, first come, first served. A clone is the same lock.
#[derive(Clone)]
pub struct Mutex(Wanted);

impl Mutex {
    /// The lock of this name, for this session.
    pub fn new(session: &Session, name: &str) -> Mutex {
        Mutex(Wanted::new(session, name))
    }

    /// The same lock, which stays closed for so long (a minute at most) if the session is lost while it holds it: time for what its holder had under way.
    pub fn with_lock_delay(mut self, delay: Duration) -> Mutex {
        self.0.lock_delay = delay;
        self
    }

    /// The same lock; among those who wait, a higher priority goes first. The default is 0.
    pub fn with_priority(mut self, priority: i32) -> Mutex {
        self.0.priority = priority;
        self
    }

    /// The same lock, with a text for those who look who holds it.
    pub fn with_text(mut self, text: &str) -> Mutex {
        self.0.text = text.to_owned();
        self
    }

    /// The same lock, which clones of this value may lock again while one of them holds it. It is free when all their guards are gone.
    pub fn reentrant(mut self) -> Mutex {
        self.0.owner = random() | 1;
        self
    }

    /// Waits for the lock. Dropping the future gives the place in the queue up.
    ///
    /// # Errors
    /// See [`ClientError`]; the session may be lost while this waits.
    pub async fn lock(&self) -> Result<Guard, ClientError> {
        certainly(self.0.acquire(Wait::Ever).await?)
    }

    /// Takes the lock if it is free now.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn try_lock(&self) -> Result<Option<Guard>, ClientError> {
        self.0.acquire(Wait::No).await
    }

    /// Waits for the lock for so long at most.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn lock_within(&self, time: Duration) -> Result<Option<Guard>, ClientError> {
        self.0.acquire(Wait::within(time)).await
    }
}
