//! A lock that many hold to read, or one to write.

use crate::call::Wait;
use crate::guard::certainly;
use crate::mutex::Wanted;
use crate::{ClientError, Guard, Session};
use proto::synod::v1::LockMode;
use std::time::Duration;

/// A lock that many sessions hold to read, or one to write. One queue serves both: a writer that waits is not overtaken by readers who come later. It has
/// the same names as [`crate::Mutex`]: its writer excludes a mutex of that name, and the other way round.
#[derive(Clone)]
pub struct RwLock {
    reader: Wanted,
    writer: Wanted,
}

impl RwLock {
    /// The lock of this name, for this session.
    pub fn new(session: &Session, name: &str) -> RwLock {
        let writer = Wanted::new(session, name);
        let mut reader = writer.clone();
        reader.mode = LockMode::Shared;
        RwLock { reader, writer }
    }

    /// The same lock, which stays closed for so long (a minute at most) if the session is lost while it holds it.
    pub fn with_lock_delay(mut self, delay: Duration) -> RwLock {
        self.reader.lock_delay = delay;
        self.writer.lock_delay = delay;
        self
    }

    /// The same lock, with a text for those who look who holds it.
    pub fn with_text(mut self, text: &str) -> RwLock {
        text.clone_into(&mut self.reader.text);
        text.clone_into(&mut self.writer.text);
        self
    }

    /// Waits to read.
    ///
    /// # Errors
    /// See [`ClientError`]; the session may be lost while this waits.
    pub async fn read(&self) -> Result<Guard, ClientError> {
        certainly(self.reader.acquire(Wait::Ever).await?)
    }

    /// Takes the lock to read if that is possible now.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn try_read(&self) -> Result<Option<Guard>, ClientError> {
        self.reader.acquire(Wait::No).await
    }

    /// Waits to read for so long at most.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn read_within(&self, time: Duration) -> Result<Option<Guard>, ClientError> {
        self.reader.acquire(Wait::within(time)).await
    }

    /// Waits to write.
    ///
    /// # Errors
    /// See [`ClientError`]; the session may be lost while this waits.
    pub async fn write(&self) -> Result<Guard, ClientError> {
        certainly(self.writer.acquire(Wait::Ever).await?)
    }

    /// Takes the lock to write if that is possible now.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn try_write(&self) -> Result<Option<Guard>, ClientError> {
        self.writer.acquire(Wait::No).await
    }

    /// Waits to write for so long at most.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn write_within(&self, time: Duration) -> Result<Option<Guard>, ClientError> {
        self.writer.acquire(Wait::within(time)).await
    }
}
